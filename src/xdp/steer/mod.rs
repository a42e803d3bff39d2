//! The steering program: loading it, telling it what is ours, attaching it, reading its counters.
//!
//! The program itself is `src/xdp/steer.bpf.c`; its head says what is ours. This side owns the maps and the
//! attachments: dropping [`Steering`], or the death of the process, detaches from every interface.
//! Must not know why an endpoint is a service or who its servers are: it is told keys.

mod any_port;
mod attach;
mod error;
mod key_set;
mod leave;
pub mod offload;
mod outcome;
mod ports;
mod ranges;
mod rules;
mod trial;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use aya::maps::{Map, MapData, MapError, PerCpuArray, XskMap};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfError, EbpfLoader, VerifierLogLevel};

use any_port::{AnyPort, There};
use attach::Attachment;
pub use attach::{Require, XdpMode};
pub use error::SteerError;
use key_set::KeySet;
use offload::Offload;
pub use outcome::Outcome;
use ports::Ports;
use ranges::RangeMap;
pub use ranges::{MAX_RANGES, Range};
use rules::{BY_NAT, Keyed};
pub use rules::{
    Endpoint, MAX_HOST_ADDRESSES, MAX_LOCAL_ADDRESSES, MAX_NAT_SERVERS, MAX_PORTS, MAX_QUEUES, MAX_SERVICES,
    MAX_TUNNELS, MAX_VIPS, ROOM_MAX, Rules,
};
pub use trial::{Arrival, Trial, Verdict, bare_socket};

/// The program as `build.rs` compiled it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/steer.bpf.o"));

/// The same for frames of several buffers, of which it sees the first.
static OBJECT_LONG: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/steer_long.bpf.o"));

/// How often loading is tried while the kernel's answer may pass: as often as libbpf does.
const LOAD_ATTEMPTS: u32 = 5;

/// The loaded steering program with its maps and attachments.
pub struct Steering {
    ebpf: Ebpf,
    services: KeySet<Endpoint>,
    nat_servers: KeySet<Endpoint>,
    nat_addresses: KeySet<IpAddr>,
    vips: KeySet<IpAddr>,
    host_addresses: KeySet<IpAddr>,
    local_addresses: KeySet<IpAddr>,
    tunnels: KeySet<Endpoint>,
    any_port: AnyPort,
    ranges: RangeMap,
    ports: Ports,
    sockets: XskMap<MapData>,
    counters: PerCpuArray<MapData, u64>,
    /// By port index.
    attachments: BTreeMap<u16, Attachment>,
    /// Until somebody takes it.
    offload: Option<Offload>,
}

impl std::fmt::Debug for Steering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Steering").field("attachments", &self.attachments).finish_non_exhaustive()
    }
}

impl Steering {
    /// Loads the program into the kernel, with nothing ours and nothing attached.
    ///
    /// # Errors
    /// Missing privileges, or a kernel without BPF, without AF_XDP or older than 5.11.
    pub fn load() -> Result<Self, SteerError> {
        Self::load_with(None)
    }

    /// As [`load`](Self::load), with room for so many offloaded flows,
    /// [`FLOWS_MIN`](offload::FLOWS_MIN) to [`FLOWS_MAX`](offload::FLOWS_MAX), if for any: some 100 bytes each, and up
    /// to 200 more while it is there.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn load_with(flows: Option<u32>) -> Result<Self, SteerError> {
        Self::load_object(OBJECT, flows)
    }

    /// As [`load_with`](Self::load_with), for interfaces and sockets with frames of several buffers
    /// ([`long_frames`](super::options::SocketOptions::long_frames)). Those that are in several are never offloaded.
    ///
    /// # Errors
    /// As for [`load`](Self::load), and a kernel older than 5.18.
    pub fn load_for_long_frames(flows: Option<u32>) -> Result<Self, SteerError> {
        Self::load_object(OBJECT_LONG, flows)
    }

    fn load_object(object: &[u8], flows: Option<u32>) -> Result<Self, SteerError> {
        let mut attempt = 1;
        loop {
            match Self::try_load(object, flows) {
                Err(error) if error.may_pass() && attempt < LOAD_ATTEMPTS => attempt += 1,
                result => return result,
            }
        }
    }

    fn try_load(object: &[u8], flows: Option<u32>) -> Result<Self, SteerError> {
        let mut loader = EbpfLoader::new();
        // Errors without the trace of every instruction, which can outgrow any buffer and hide the error.
        loader.verifier_log_level(VerifierLogLevel::STATS);
        let flows = flows.map(|flows| flows.clamp(offload::FLOWS_MIN, offload::FLOWS_MAX));
        if let Some(flows) = flows {
            loader.override_global("offloads", &1_u32, true);
            for (map, entries) in [
                ("flows", flows),
                ("flows6", flows),
                ("tallies", flows),
                ("hops", offload::MAX_HOPS),
                ("stations", offload::MAX_STATIONS),
            ] {
                loader.map_max_entries(map, entries);
            }
        }
        let mut ebpf = loader.load(object).map_err(SteerError::from_load)?;
        let offload = flows.map(|flows| Offload::of(&mut ebpf, flows)).transpose()?;
        let mut steering = Self {
            services: key_set(&mut ebpf, "services")?,
            nat_servers: key_set(&mut ebpf, "nat_servers")?,
            nat_addresses: key_set(&mut ebpf, "nat_addresses")?,
            vips: key_set(&mut ebpf, "vips")?,
            host_addresses: key_set(&mut ebpf, "host_addresses")?,
            local_addresses: key_set(&mut ebpf, "local_addresses")?,
            tunnels: key_set(&mut ebpf, "tunnels")?,
            any_port: AnyPort::new(take(&mut ebpf, "any_port")?),
            ranges: RangeMap::new(take(&mut ebpf, "ranges")?, take(&mut ebpf, "ranges_in_use")?),
            ports: Ports::new(take(&mut ebpf, "ports")?),
            sockets: take(&mut ebpf, "sockets")?,
            counters: take(&mut ebpf, "counters")?,
            attachments: BTreeMap::new(),
            offload,
            ebpf,
        };
        for program in [Self::program, Self::quiet] {
            let loaded = program(&mut steering)?.load();
            loaded.map_err(|error| SteerError::from_load(EbpfError::ProgramError(error)))?;
        }
        Ok(steering)
    }

    /// Makes `rules` what is ours. What stays is not touched; the new is added before the old is removed.
    ///
    /// # Errors
    /// A set over its limit, a protocol without ports, or a range that no packet is in: nothing has changed then.
    /// If the kernel refuses a write (out of memory), what was ours before still is, and applying again completes
    /// it.
    pub fn apply(&mut self, rules: &Rules) -> Result<(), SteerError> {
        rules.check()?;
        let any_port = There::of(rules);
        self.any_port.add(any_port)?;
        // Host addresses first and last: they keep replies to this host out of `nat_servers`' reach. Replies
        // before requests: no service may be answered by a server whose replies are not yet, or no longer, ours.
        let old_host_addresses = self.host_addresses.add(&rules.host_addresses, |_| 0)?;
        let locals = rules.local_addresses.keys().copied().collect();
        let ports = |local: &IpAddr| {
            rules
                .local_addresses
                .get(local)
                .map_or(0, |(first, last)| u32::from(*first) << 16 | u32::from(*last))
        };
        let old_locals = self.local_addresses.add(&locals, ports)?;
        let senders = rules.senders();
        let old_nat_servers = self.nat_servers.add(&senders, |server| rules.ways_to(server))?;
        let addresses = rules.sender_addresses();
        let ways = |address: &IpAddr| addresses.get(address).copied().unwrap_or(BY_NAT);
        let nat_addresses = senders.iter().map(|server| server.address).collect();
        let old_nat_addresses = self.nat_addresses.add(&nat_addresses, ways)?;
        let old_tunnels = self.tunnels.add(&rules.tunnels, |_| 0)?;
        let old_vips = self.vips.add(&rules.vips, |_| 0)?;
        let old_services = self
            .services
            .add(&rules.services, |end| rules.rooms.get(end).map_or(0, |room| u32::from(*room)))?;
        self.ranges.replace(&rules.ranges)?;
        self.services.remove(old_services)?;
        self.vips.remove(old_vips)?;
        self.tunnels.remove(old_tunnels)?;
        self.nat_addresses.remove(old_nat_addresses)?;
        self.nat_servers.remove(old_nat_servers)?;
        self.local_addresses.remove(old_locals)?;
        self.host_addresses.remove(old_host_addresses)?;
        self.any_port.set(any_port)
    }

    /// Gives frames that are ours and arrive at `queue` of the interface attached as `port_index` to the
    /// AF_XDP `socket`, which must be bound to just that interface and queue: the kernel drops them otherwise.
    /// The place is empty again when the socket is closed.
    ///
    /// # Errors
    /// A port index or queue over its limit, or a descriptor that is no AF_XDP socket.
    pub fn set_socket(&mut self, port_index: u16, queue: u32, socket: impl AsFd) -> Result<(), SteerError> {
        if port_index >= MAX_PORTS {
            return Err(SteerError::PortIndex { port_index });
        }
        if queue >= MAX_QUEUES {
            return Err(SteerError::Queue { queue });
        }
        let place = u32::from(port_index) * MAX_QUEUES + queue;
        self.sockets
            .set(place, socket.as_fd().as_raw_fd(), 0)
            .map_err(|source| write_error("sockets", source))
    }

    /// What offloading needs, for the one who does it: once, and only if there is room for flows.
    pub fn offload(&mut self) -> Option<Offload> {
        self.offload.take()
    }

    /// Frames by outcome since loading, on all interfaces and CPUs.
    ///
    /// # Errors
    /// If the kernel refuses to be asked, which it has no reason to.
    pub fn counters(&self) -> Result<[(Outcome, u64); Outcome::COUNT], SteerError> {
        let mut counters = Outcome::ALL.map(|outcome| (outcome, 0));
        for (outcome, frames) in &mut counters {
            let per_cpu = self.counters.get(&(*outcome as u32), 0).map_err(|source| SteerError::Map {
                map: "counters",
                act: "read",
                source,
            })?;
            *frames = per_cpu.iter().sum();
        }
        Ok(counters)
    }

    fn program(&mut self) -> Result<&mut Xdp, SteerError> {
        self.part("steer")
    }

    fn quiet(&mut self) -> Result<&mut Xdp, SteerError> {
        self.part("quiet")
    }

    fn part(&mut self, part: &'static str) -> Result<&mut Xdp, SteerError> {
        let program = self.ebpf.program_mut(part).and_then(|program| program.try_into().ok());
        program.ok_or(SteerError::Incomplete { part })
    }
}

/// Takes the map `name` out of the loaded object as the type its user expects.
fn take<M: TryFrom<Map>>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, SteerError> {
    ebpf.take_map(name).and_then(|map| M::try_from(map).ok()).ok_or(SteerError::Incomplete { part: name })
}

/// Takes the set of keys `name` out of the loaded object.
fn key_set<T: Keyed>(ebpf: &mut Ebpf, name: &'static str) -> Result<KeySet<T>, SteerError> {
    Ok(KeySet::new(name, take(ebpf, name)?))
}

fn write_error(map: &'static str, source: MapError) -> SteerError {
    SteerError::Map { map, act: "written", source }
}
