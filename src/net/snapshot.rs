//! What the workers see: routes, next hops and addresses of one moment, immutable.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::addresses::{self, Address};
use super::fib::{Decision, Fib, Target};
use super::hop_table::{HopIds, Lanes};
use super::mirror::Resolver;
use super::rss::Rss;

/// Names a next hop (an output interface and an address on it; by a bond also a lane, which leads to one of its members)
/// for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HopId(pub u32);

/// How a frame reaches the next station of its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The interface to send from: its index in the list the mirror was started with.
    pub port: u16,
    /// Destination MAC: the destination's own, or its gateway's.
    pub dst_mac: [u8; 6],
    /// Source MAC: the interface's own.
    pub src_mac: [u8; 6],
    /// 802.1Q VLAN id to send with: set when the route leaves by a VLAN interface above the port.
    pub vlan: Option<u16>,
    /// Largest IP packet, in bytes, without the Ethernet header. 65,535 stands for anything larger.
    pub mtu: u16,
}

/// What the kernel's tables say of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Reached by this next hop, which may not be resolved yet: see [`Snapshot::hop`].
    Via(HopId),
    /// On a link of ours, without a neighbour entry so far. Do not remember this answer: the
    /// generation does not change when the neighbour appears.
    Unknown,
    /// No route, one that refuses, or one by a link that is down or not ours.
    Unreachable,
    /// An address of this host.
    Local,
}

/// An interface of ours as frames leave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Largest IP packet, in bytes, as in [`Hop::mtu`].
    pub mtu: u16,
}

/// Routes, next hops and addresses of one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub(super) generation: u32,
    pub(super) fib: Arc<Fib>,
    pub(super) ids: Arc<HopIds>,
    pub(super) hops: Vec<Option<Hop>>,
    pub(super) ports: Vec<Option<Port>>,
    pub(super) resolver: Option<Resolver>,
    pub(super) addresses: Arc<[Address]>,
    pub(super) host_addresses: Arc<BTreeSet<IpAddr>>,
    pub(super) rss: Arc<[Option<Rss>]>,
}

impl Snapshot {
    /// Changes whenever an answer of [`route`](Self::route) that may be remembered has changed: routes,
    /// links, addresses. A new, moved or lost neighbour does not change it. Wraps around.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The way to `destination`; `flow_hash` chooses among equal routes by their weights, and among a bond's members.
    pub fn route(&self, destination: IpAddr, flow_hash: u32) -> Route {
        match self.fib.decide(destination, flow_hash) {
            Decision::Local => Route::Local,
            Decision::Unreachable => Route::Unreachable,
            Decision::Way(target) => self
                .lanes(target, destination)
                .map_or(Route::Unknown, |lanes| Route::Via(lanes.choose(flow_hash))),
        }
    }

    /// The next hop that [`route`](Self::route) answers for every flow to `destination`, as long as the generation stays;
    /// `None` if there are several, or none so far. [`source`](Self::source) is the same for every flow then, too.
    pub fn common_hop(&self, destination: IpAddr) -> Option<HopId> {
        let mut ways = self.fib.ways(destination);
        let only = ways.next().filter(|_| ways.next().is_none())?;
        self.lanes(only, destination)?.only()
    }

    /// The next hop to `destination` by this way, if it has a name.
    fn lanes(&self, target: &Target, destination: IpAddr) -> Option<Lanes> {
        match target {
            Target::Gateway { hop, .. } => *hop,
            Target::OnLink { ifindex } => self.ids.get(&(*ifindex, destination)).copied(),
        }
    }

    /// The address of this host that its own packets to `destination` are sent from, as the kernel chooses it: what
    /// the route says (`src`), else one of the interface's. `None` without a route or such an address.
    pub fn source(&self, destination: IpAddr, flow_hash: u32) -> Option<IpAddr> {
        let Decision::Way(target) = self.fib.decide(destination, flow_hash) else { return None };
        let (ifindex, next) = match target {
            Target::Gateway { key: (ifindex, gateway), .. } if gateway.is_ipv4() == destination.is_ipv4() => {
                (*ifindex, *gateway)
            }
            Target::Gateway { key: (ifindex, _), .. } | Target::OnLink { ifindex } => (*ifindex, destination),
        };
        self.fib.source(destination).or_else(|| addresses::source(&self.addresses, ifindex, next))
    }

    /// The next hop itself; `None` while the kernel does not know its MAC address.
    pub fn hop(&self, id: HopId) -> Option<&Hop> {
        self.hops.get(id.0 as usize)?.as_ref()
    }

    /// An interface by its index in the list the mirror was started with; `None` if it is gone or down.
    pub fn port(&self, index: u16) -> Option<&Port> {
        self.ports.get(usize::from(index))?.as_ref()
    }

    /// How the interface at this index distributes packets to its queues; `None` if that is not known.
    #[inline]
    pub fn rss(&self, index: u16) -> Option<&Rss> {
        self.rss.get(usize::from(index))?.as_ref()
    }

    /// Has an address for which [`route`](Self::route) answers [`Route::Unknown`] resolved, so that a later
    /// snapshot knows it. Never blocks; whether the question was taken comes back.
    pub fn ask(&self, address: IpAddr) -> bool {
        self.resolver.as_ref().is_some_and(|resolver| resolver.try_ask(address))
    }

    /// All next hops, each at the position of its id; `None` while unresolved.
    pub fn hops(&self) -> &[Option<Hop>] {
        &self.hops
    }

    /// All addresses configured on this host, of every interface.
    pub fn host_addresses(&self) -> &BTreeSet<IpAddr> {
        &self.host_addresses
    }
}
