//! Building the director, step by step. What fails on the way takes down what was built.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail};

use super::api::{self, Serving};
use super::machine::{Machine, Shared};
use super::offload::Carries;
use super::report::Interface;
use super::running::Running;
use super::{holder, host, offload, pass};
use crate::control::plane::ControlPlane;
use crate::control::{config, config::Config};
use crate::director::engine::Engine;
use crate::director::service::Pool;
use crate::director::services::Services;
use crate::director::{Director, Size};
use crate::net::mirror::MirrorOptions;
use crate::net::{Mirror, Route};
use crate::worker::memory::Preparing;
use crate::worker::{Clock, Worker, WorkerOptions, WorkerSetup, cores, spawn};
use crate::xdp::options::{SocketOptions, ZeroCopy};
use crate::xdp::socket::PortSocket;
use crate::xdp::steer::{Require, Steering, XdpMode};
use crate::xdp::umem::Umem;

/// How long to wait for the servers' MAC addresses before the start: two ARP requests.
const RESOLVE_MAX: Duration = Duration::from_millis(1500);

impl Running {
    /// Builds the director that `config` describes and lets it forward.
    pub(super) async fn start(path: &Path, config: &Config) -> anyhow::Result<Self> {
        let wanted = &config.director;
        // First of all: who holds it already is told by name.
        let listener = api::bind(&config.api)?;
        let queues = host::queue_count(&wanted.interfaces).await?;
        host::warn_of_members_left_out(&wanted.interfaces).await?;
        let mirror = follow_network(config).await?;
        let long_frames = host::has_long_frames(wanted, &mirror.snapshots().load())?;

        let (taps, up) = pass::open(wanted, queues, &mirror.snapshots().load()).await?;

        let secret = (RandomState::new().hash_one(0), RandomState::new().hash_one(1));
        let size =
            Size { connections: wanted.connections, workers: queues as usize, huge_pages: wanted.huge_pages };
        let (director, seats) = Director::new(size, secret, Services::default()).with_context(|| {
            format!("no memory for a table of {} connections: lower `connections`", wanted.connections)
        })?;

        if up.is_some() {
            director.pass.open(wanted.pass_limit);
        }

        let allowed = cores::allowed();
        let configured = wanted.cores.as_deref().unwrap_or_default();
        let cores: Vec<_> =
            (0..queues).map(|queue| cores::choose(queue, configured, &allowed)).collect::<Result<_, _>>()?;

        let flows = offload::flows(wanted);
        let mut steering =
            if long_frames { Steering::load_for_long_frames(flows) } else { Steering::load_with(flows) }?;
        let mut interfaces = attach(&mut steering, config)?;
        // A driver may change its queues when a program is attached.
        let after = host::queue_count(&wanted.interfaces).await?;
        if after != queues {
            bail!(
                "attaching the steering program changed the receive queues from {queues} to {after}: set them to \
                 {after} before the start (`ethtool -L INTERFACE combined {after}`)"
            );
        }

        let stop = Arc::new(AtomicBool::new(false));
        let clock = Clock::new();
        let offloads =
            offload::prepare(wanted, &mut interfaces, &mut steering, &director, &mirror, clock).await?;
        let sockets = open_sockets(queues, config, long_frames, &mut steering)?;
        for (_, ports) in &sockets {
            for (interface, socket) in interfaces.iter_mut().zip(ports) {
                interface.zero_copy.push(socket.zero_copy());
            }
        }
        let mut workers = Vec::with_capacity(sockets.len());
        for ((((queue, (umem, ports)), seat), &core), pass) in
            (0..).zip(sockets).zip(seats).zip(&cores).zip(taps)
        {
            workers.push(
                spawn(WorkerSetup {
                    queue,
                    core,
                    umem,
                    ports,
                    pass,
                    processor: Engine::new(seat),
                    hops: mirror.snapshots(),
                    clock,
                    options: WorkerOptions {
                        spin: Duration::from_micros(u64::from(wanted.idle_spin_us)),
                        busy_poll: wanted.busy_poll,
                    },
                    stop: stop.clone(),
                })
                .with_context(|| format!("cannot start the worker of queue {queue}"))?,
            );
        }

        if let Err(error) = cores::leave(&cores, &allowed) {
            tracing::debug!("the control thread may take the workers' cores: {error}");
        }

        let carrying = offloads.map(|(offload, offered)| offload.start(offered)).transpose();
        let carrying = carrying.context("cannot start the thread that offloads connections")?;

        let preparing = Preparing::start(director.clone());
        let preparing = preparing.context("cannot start the thread that makes memory ready")?;

        await_servers(&config.wanted.pools, &mirror).await;
        let counters = workers.iter().map(Worker::counters).collect();
        let offload = carrying.as_ref().map(|carrying| carrying.offload().clone());
        let machine = Machine::new(steering, mirror, up, offload, interfaces, counters, clock);
        let machine = Shared::new(machine);
        let mut plane = ControlPlane::new(director.clone(), Box::new(machine.clone()));
        plane.begin(path, config)?;
        let plane = Arc::new(Mutex::new(plane));
        let api = Serving::start(listener, plane.clone());
        let offload = wanted.offload;
        Ok(Self {
            director,
            plane,
            api,
            machine,
            changed_queues: None,
            workers,
            preparing,
            carrying,
            offload,
            stop,
        })
    }
}

/// Starts to follow the kernel's network and to keep the servers' neighbours resolved.
async fn follow_network(config: &Config) -> anyhow::Result<Mirror> {
    let options = MirrorOptions { interfaces: config.director.interfaces.clone(), managed_neighbours: true };
    let mirror = Mirror::start(&options).await?;
    let servers: BTreeSet<IpAddr> =
        config.wanted.pools.iter().flat_map(|s| &s.servers).map(|s| s.address.ip()).collect();
    mirror.watch(servers.into_iter().collect());
    Ok(mirror)
}

/// Attaches the steering program, with nothing ours yet, to every interface.
fn attach(steering: &mut Steering, config: &Config) -> anyhow::Result<Vec<Interface>> {
    let require = match config.director.xdp_mode {
        config::XdpMode::Auto => Require::Any,
        config::XdpMode::Native => Require::Native,
        config::XdpMode::Generic => Require::Generic,
    };
    let mut interfaces = Vec::new();
    for (index, name) in (0..).zip(&config.director.interfaces) {
        let attached = steering.attach(name, index, require).map_err(holder::named);
        let xdp = match attached? {
            XdpMode::Native => "native",
            XdpMode::Generic { native_refused } => {
                tracing::warn!(
                    interface = name,
                    "generic XDP mode, which is slower; native mode: {native_refused}"
                );
                "generic"
            }
        };
        interfaces.push(Interface {
            name: name.clone(),
            xdp: xdp.to_owned(),
            offload: Carries::Off,
            zero_copy: Vec::new(),
        });
    }
    Ok(interfaces)
}

/// Opens a socket on every queue of every interface, and tells the steering program of it.
fn open_sockets(
    queues: u32,
    config: &Config,
    long_frames: bool,
    steering: &mut Steering,
) -> anyhow::Result<Vec<(Umem, Vec<PortSocket>)>> {
    let wanted = &config.director;
    let mut options = SocketOptions {
        chunk_len: wanted.frame_bytes,
        ring_len: wanted.ring_frames,
        long_frames,
        hugepages: wanted.huge_pages,
        zero_copy: match wanted.zero_copy {
            config::ZeroCopy::Auto => ZeroCopy::Prefer,
            config::ZeroCopy::Require => ZeroCopy::Require,
            config::ZeroCopy::Off => ZeroCopy::Never,
        },
        busy_poll: wanted.busy_poll,
    };
    let mut all = Vec::new();
    for queue in 0..queues {
        let (umem, ports) = crate::xdp::open::open(&wanted.interfaces, queue, &options)?;
        for (index, socket) in (0..).zip(&ports) {
            steering.set_socket(index, queue, socket)?;
        }
        // What one queue cannot do the next ones cannot either.
        if !ports.iter().all(PortSocket::zero_copy) {
            options.zero_copy = ZeroCopy::Never;
        }
        all.push((umem, ports));
    }
    Ok(all)
}

/// Waits until the MAC address of every server, or of its gateway, is known, so that no first packet is dropped
/// for the lack of it; for a bounded time, since a server may be down.
async fn await_servers(services: &[Pool], mirror: &Mirror) {
    let servers: BTreeSet<IpAddr> =
        services.iter().flat_map(|s| &s.servers).map(|s| s.address.ip()).collect();
    let unresolved = || -> Vec<(IpAddr, Route)> {
        let snapshot = mirror.snapshots().load_full();
        let ways = servers.iter().map(|server| (*server, snapshot.route(*server, 0)));
        let known = |route| match route {
            Route::Via(hop) => snapshot.hop(hop).is_some(),
            Route::Local => true,
            Route::Unknown | Route::Unreachable => false,
        };
        ways.filter(|(_, route)| !known(*route)).collect()
    };
    let resolved = async {
        while !unresolved().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(RESOLVE_MAX, resolved).await.is_err() {
        for (server, route) in unresolved() {
            let why = match route {
                Route::Via(_) | Route::Unknown | Route::Local => {
                    "nobody answers ARP (IPv6: neighbour discovery) for it or its gateway"
                }
                Route::Unreachable => {
                    "no route by one of the configured `interfaces` (is the one that `ip route get` names among them?)"
                }
            };
            tracing::warn!("no way to server {server} yet: {why}");
        }
    }
}
