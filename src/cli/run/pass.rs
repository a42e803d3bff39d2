//! The device by which packets go back up to the kernel: made at the start, gone with the process. Which servers are
//! the director itself, so that their answers come back by it.

use std::collections::BTreeSet;
use std::io;
use std::iter::repeat_with;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::bail;

use crate::control::config;
use crate::director::services::Endpoint;
use crate::net::pass::{LocalServer, PassDevice, can_answer, hindrance, keep_open};
use crate::net::{Route, Snapshot};
use crate::xdp::tap::{MAX_QUEUES, TUN_FILE, Tap};

/// The name of the device.
const NAME: &str = "xvs-pass";

/// The device, as the control thread has it.
#[derive(Debug)]
pub(super) struct Up {
    device: PassDevice,
    heard: Arc<AtomicBool>,
    /// Servers on the director itself whose answers cannot be brought back.
    mute: BTreeSet<Endpoint>,
}

/// The device as `director` wants it, a queue for each of so many workers.
///
/// # Errors
/// It is wanted and cannot be had.
pub(super) async fn open(
    director: &config::Director,
    queues: u32,
    snapshot: &Snapshot,
) -> anyhow::Result<(Vec<Option<Tap>>, Option<Up>)> {
    let queues = queues as usize;
    let none = || repeat_with(|| None).take(queues).collect();
    if director.pass == config::Pass::Off {
        return Ok((none(), None));
    }
    match make(queues, snapshot).await {
        Ok((taps, up)) => {
            if let Some(why) = hindrance(NAME) {
                tracing::warn!("{why}");
            }
            Ok((taps.into_iter().map(Some).collect(), Some(up)))
        }
        Err(error) if director.pass == config::Pass::On => Err(error),
        Err(error) => {
            tracing::warn!(
                "packets that are nobody's here are refused, and no server can be this host: {error:#}"
            );
            Ok((none(), None))
        }
    }
}

async fn make(queues: usize, snapshot: &Snapshot) -> anyhow::Result<(Vec<Tap>, Up)> {
    if queues > MAX_QUEUES {
        bail!(
            "device {NAME} has {MAX_QUEUES} queues at most, and there are {queues} workers: set pass = \"off\""
        );
    }
    let mut taps = match Tap::make(NAME, queues) {
        Ok(taps) => taps,
        Err(error) => bail!("device {NAME} cannot be made: {error}; {}, or set pass = \"off\"", cure(&error)),
    };
    // What servers here answer leaves by any of them.
    let mtu = (0..).map_while(|port| snapshot.port(port)).map(|port| u32::from(port.mtu)).min();
    let device = PassDevice::set_up(NAME, mtu.unwrap_or(1500)).await?;
    taps.iter_mut().for_each(|tap| tap.set_mac(device.mac));
    let heard = taps.first().map(Tap::heard).unwrap_or_default();
    Ok((taps, Up { device, heard, mute: BTreeSet::new() }))
}

fn cure(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EBUSY) => "another xvs has it in this network namespace, or `ip link del` it".to_owned(),
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => format!("run `modprobe tun` for {TUN_FILE}"),
        _ => format!("xvs needs CAP_NET_ADMIN, and to open {TUN_FILE}"),
    }
}

impl Up {
    /// What has to be done every second: others may set the device, too.
    pub(super) fn keep(&self) {
        keep_open(NAME);
    }

    /// Sees to it that the answers of those of these NAT servers come back that are the director itself.
    pub(super) fn answer(&mut self, nat_servers: &BTreeSet<Endpoint>, snapshot: &Snapshot) {
        let is_here = |&&(_, address): &&Endpoint| snapshot.route(address.ip(), 0) == Route::Local;
        let (able, mute): (BTreeSet<Endpoint>, BTreeSet<Endpoint>) =
            nat_servers.iter().filter(is_here).copied().partition(|&(_, address)| can_answer(address));
        for (protocol, address) in mute.difference(&self.mute) {
            tracing::warn!(
                "{} server {address}, which is this host, cannot serve by NAT: a server here needs a port of its own, by \
                 which its answers are led back, and another address than ::1, to which the kernel lets nothing; give it \
                 those, or let it listen at the VIP and forward by DR",
                protocol.name()
            );
        }
        self.mute = mute;
        let number = |(protocol, address): Endpoint| -> LocalServer { (protocol as u8, address) };
        self.heard.store(!able.is_empty(), Ordering::Relaxed);
        self.device.answer(able.into_iter().map(number).collect());
    }

    /// Leaves nothing behind in the host's rules.
    pub(super) async fn stop(self) {
        self.device.stop().await;
    }
}
