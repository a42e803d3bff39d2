//! Gathers what the doctor judges. Reads only: netlink, ethtool, `/proc`, `/sys`, and AF_XDP sockets that are
//! closed at once.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use socket2::{Domain, Socket, Type};

use crate::net::NetError;
use crate::net::links::{self, Link};
use crate::net::offloads::{self, Offloads};
use crate::net::queues::{self, Queues};
use crate::net::rss;
use crate::net::xdp_features::{self, XdpFeatures};
use crate::xdp::sockopt::kernel_has_long_frames;
use crate::xdp::tap::TUN_FILE;

/// Everything the doctor knows.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The host.
    pub host: HostFacts,
    /// The interfaces, in the order in which they were given.
    pub interfaces: Vec<InterfaceFacts>,
}

/// What is known of the host. `None` everywhere: could not be found out.
#[derive(Clone, Debug, Default)]
pub struct HostFacts {
    /// Whether an AF_XDP socket can be made; the error number otherwise.
    pub af_xdp: Option<Result<(), i32>>,
    /// Whether AF_XDP takes frames of several chunks.
    pub long_frames: Option<bool>,
    /// Effective capabilities of this process, as a bit for each.
    pub capabilities: Option<u64>,
    /// Soft limit of locked memory, in bytes; [`u64::MAX`] is no limit.
    pub memlock: Option<u64>,
    /// `net.ipv4.ip_forward`.
    pub ip_forward: Option<bool>,
    /// `net.ipv4.conf.all.rp_filter`, 0 to 2.
    pub rp_filter_all: Option<u8>,
    /// Whether the host has TAP devices, as far as `/dev/net/tun` tells.
    pub tun: Option<bool>,
    /// The deepest idle state that a processor of it may enter.
    pub deepest_idle: Option<IdleState>,
    /// The frequency governor of its processors, one that is not `performance` if there is one.
    pub governor: Option<String>,
    /// All addresses of the host.
    pub addresses: Vec<IpAddr>,
}

/// An idle state of a processor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdleState {
    /// Its name, as the processor's maker has it.
    pub name: String,
    /// What it takes to wake from it, in microseconds.
    pub exit_us: u32,
}

/// What is known of an interface.
#[derive(Clone, Debug, Default)]
pub struct InterfaceFacts {
    /// The name that was given.
    pub name: String,
    /// The interface; `None` if there is no such one.
    pub link: Option<Link>,
    /// Its driver, or what it is.
    pub driver: Option<String>,
    /// Its queues.
    pub queues: Option<Queues>,
    /// Its offloads.
    pub offloads: Option<Offloads>,
    /// Whether it tells how it distributes packets to its queues.
    pub tells_rss: bool,
    /// What its driver can do with XDP; `None` if the kernel does not tell.
    pub xdp: Option<XdpFeatures>,
    /// `net.ipv4.conf.INTERFACE.rp_filter`, 0 to 2.
    pub rp_filter: Option<u8>,
    /// After how many empty polls interrupts are on again; 0: always on.
    pub napi_defer_hard_irqs: Option<u32>,
    /// For a veth: the other end, if it is in this namespace.
    pub peer: Option<Peer>,
    /// VLAN and macvlan devices above it whose MAC is not its own.
    pub above: Vec<Link>,
}

/// The other end of a veth.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its offloads.
    pub offloads: Offloads,
}

/// Looks at the host and the interfaces. Needs a tokio runtime.
///
/// # Errors
/// When netlink does not work at all.
pub async fn gather(interfaces: &[String]) -> Result<Facts, NetError> {
    let links = links::all().await?;
    let addresses = links::addresses().await?.into_iter().map(|address| address.ip).collect();
    let mut facts = Facts { host: host(addresses), interfaces: Vec::new() };
    for name in interfaces {
        facts.interfaces.push(interface(name, &links).await);
    }
    Ok(facts)
}

async fn interface(name: &str, links: &[Link]) -> InterfaceFacts {
    let Some(link) = links.iter().find(|link| link.name == name).cloned() else {
        return InterfaceFacts { name: name.to_owned(), ..InterfaceFacts::default() };
    };
    let mut peer = None;
    if link.kind.as_deref() == Some("veth")
        && !link.parent_is_elsewhere
        && let Some(other) = links.iter().find(|other| Some(other.ifindex) == link.parent)
        && let Ok(Some(offloads)) = offloads::of(&other.name).await
    {
        peer = Some(Peer { name: other.name.clone(), offloads });
    }
    let is_above = |other: &&Link| {
        matches!(other.kind.as_deref(), Some("vlan" | "macvlan"))
            && other.parent == Some(link.ifindex)
            && !other.parent_is_elsewhere
            && other.mac != link.mac
    };
    InterfaceFacts {
        name: name.to_owned(),
        above: links.iter().filter(is_above).cloned().collect(),
        driver: queues::driver(&link),
        queues: queues::of(&link).await.ok(),
        offloads: offloads::of(name).await.ok().flatten(),
        tells_rss: rss::of(name).await.ok().flatten().is_some(),
        xdp: xdp_features::of(link.ifindex).await.ok().flatten(),
        rp_filter: sysctl(&format!("net/ipv4/conf/{name}/rp_filter")),
        napi_defer_hard_irqs: number(format!("/sys/class/net/{name}/napi_defer_hard_irqs")),
        link: Some(link),
        peer,
    }
}

fn host(addresses: Vec<IpAddr>) -> HostFacts {
    let memlock = getrlimit(Resource::RLIMIT_MEMLOCK).ok();
    HostFacts {
        af_xdp: try_af_xdp(),
        long_frames: kernel_has_long_frames().ok(),
        capabilities: effective_capabilities(),
        memlock: memlock.map(|(soft, _)| if soft == RLIM_INFINITY { u64::MAX } else { soft }),
        ip_forward: sysctl::<u8>("net/ipv4/ip_forward").map(|value| value != 0),
        rp_filter_all: sysctl("net/ipv4/conf/all/rp_filter"),
        tun: fs::exists(TUN_FILE).ok(),
        deepest_idle: deepest_idle(),
        governor: governor(),
        addresses,
    }
}

fn try_af_xdp() -> Option<Result<(), i32>> {
    match Socket::new(Domain::from(libc::AF_XDP), Type::from(libc::SOCK_RAW), None) {
        Ok(_) => Some(Ok(())),
        Err(error) => error.raw_os_error().map(Err),
    }
}

fn effective_capabilities() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// The directories of all processors.
fn processors() -> impl Iterator<Item = PathBuf> {
    let is_one = |name: &str| name.strip_prefix("cpu").is_some_and(|number| number.parse::<u32>().is_ok());
    let entries = fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    entries.filter(move |entry| entry.file_name().to_str().is_some_and(is_one)).map(|entry| entry.path())
}

/// Of the idle states that are not disabled, and not ruled out by a limit of the processor's, the slowest to wake from.
fn deepest_idle() -> Option<IdleState> {
    let of = |cpu: PathBuf| {
        // 0 is no limit; a processor that tolerates none says `n/a`, and a kernel without limits has no file.
        let limit = fs::read_to_string(cpu.join("power/pm_qos_resume_latency_us")).unwrap_or_default();
        let limit = match limit.trim() {
            "" | "0" => u32::MAX,
            said => said.parse().unwrap_or(0),
        };
        let states = fs::read_dir(cpu.join("cpuidle")).into_iter().flatten().flatten();
        states.filter_map(move |state| {
            let path = state.path();
            let exit_us = number(path.join("latency")).filter(|exit_us| *exit_us <= limit)?;
            let name = fs::read_to_string(path.join("name")).ok()?.trim().to_owned();
            (number(path.join("disable")) == Some(0)).then_some(IdleState { name, exit_us })
        })
    };
    processors().flat_map(of).max_by_key(|state| state.exit_us)
}

fn governor() -> Option<String> {
    let of = |cpu: PathBuf| fs::read_to_string(cpu.join("cpufreq/scaling_governor")).ok();
    let names: Vec<String> = processors().filter_map(of).map(|name| name.trim().to_owned()).collect();
    names.iter().find(|name| *name != "performance").or_else(|| names.first()).cloned()
}

/// A sysctl's number. `/proc/sys/net` is that of the reading thread's network namespace.
fn sysctl<T: FromStr>(path: &str) -> Option<T> {
    number(format!("/proc/sys/{path}"))
}

/// The number in a file of one line.
fn number<T: FromStr>(path: impl AsRef<Path>) -> Option<T> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
