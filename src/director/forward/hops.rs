//! Next hops as the director needs them; who provides them is not its business.

use std::net::IpAddr;

use crate::packet::flow::FlowKey;

/// Index of an interface in the order the director was given them.
pub type PortId = u16;

/// Names a next hop for as long as the process lives; what it stands for may change at any time.
///
/// Connections store this, never a MAC address: when a server's MAC changes, every connection
/// follows without being touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HopId(pub u32);

/// How a frame reaches the next station of its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The interface to send from.
    pub port: PortId,
    /// Destination MAC: the server's, or its gateway's.
    pub dst_mac: [u8; 6],
    /// Source MAC: the interface's own.
    pub src_mac: [u8; 6],
    /// 802.1Q VLAN id to send with, if any.
    pub vlan: Option<u16>,
    /// Largest IP packet that fits the interface, in bytes, without the Ethernet header.
    pub mtu: u16,
}

/// What the routing table says of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Reached by this next hop (which may not be resolved yet: see [`NextHops::hop`]).
    Via(HopId),
    /// On a link of ours, but the kernel has no neighbour entry for it yet; it was asked for one.
    Unknown,
    /// No route, or one that refuses.
    Unreachable,
}

/// A consistent view of routes and neighbours, unchanging while a batch is processed.
pub trait NextHops {
    /// Changes whenever an answer of [`route`](Self::route) for some destination may have changed.
    /// A new or moved neighbour alone does not change it.
    fn generation(&self) -> u32;

    /// The way to `destination`. `flow_hash` chooses among equal routes.
    fn route(&self, destination: IpAddr, flow_hash: u32) -> Route;

    /// The next hop itself; `None` while its MAC address is not known.
    fn hop(&self, id: HopId) -> Option<Hop>;

    /// The address of the director that its own packets to `destination` are sent from; `None` if there is none.
    fn source(&self, destination: IpAddr, flow_hash: u32) -> Option<IpAddr>;

    /// The receive queue that packets with this key get at interface `port`; `None` if that is not known.
    fn queue(&self, _port: PortId, _key: &FlowKey) -> Option<u32> {
        None
    }

    /// A way back to a MAC address that a frame came from at `port`: what is left where the kernel knows no
    /// neighbour for a client. `None` if there is no such interface.
    fn back_to(&self, port: PortId, mac: [u8; 6]) -> Option<Hop>;
}
