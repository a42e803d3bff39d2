//! Next hops as the director needs them; who provides them is not its business.

use std::net::IpAddr;

use crate::packet::flow::FlowKey;

/// Index of an interface in the order the director was given them.
pub type PortId = u16;

/// No interface: up to the kernel of the director itself.
pub const PASS: PortId = PortId::MAX;

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

impl Hop {
    /// The way to an address of the director itself. Nothing fits its MTU, so that packets on the fast path find out
    /// where they look for what cannot simply be sent anyway.
    pub const UP: Hop = Hop { port: PASS, dst_mac: [0; 6], src_mac: [0; 6], vlan: None, mtu: 0 };
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
    /// An address of the director itself.
    Local,
}

/// A consistent view of routes and neighbours, unchanging while a batch is processed.
pub trait NextHops {
    /// Changes whenever an answer of [`route`](Self::route) for some destination may have changed.
    /// A new or moved neighbour alone does not change it.
    fn generation(&self) -> u32;

    /// The way to `destination`. `flow_hash` chooses among equal routes.
    fn route(&self, destination: IpAddr, flow_hash: u32) -> Route;

    /// The next hop of all flows to `destination`, for as long as the generation stays, and where
    /// [`source`](Self::source) is the same for all; `None` if flows differ, if that is not known, or if there is none.
    fn common_hop(&self, _destination: IpAddr) -> Option<HopId> {
        None
    }

    /// The next hop itself; `None` while its MAC address is not known.
    fn hop(&self, id: HopId) -> Option<Hop>;

    /// The address of the director that its own packets to `destination` are sent from; `None` if there is none.
    fn source(&self, destination: IpAddr, flow_hash: u32) -> Option<IpAddr>;

    /// The receive queue that packets with this key get at interface `port`; `None` if that is not known.
    fn queue(&self, _port: PortId, _key: &FlowKey) -> Option<u32> {
        None
    }

    /// A way back to where a frame came from: what is left where the kernel knows no neighbour for a client. `None`
    /// if there is no such interface.
    fn back_to(&self, origin: Origin) -> Option<Hop>;
}

/// Where a frame came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The MAC address of who sent it.
    pub mac: [u8; 6],
    /// The interface it arrived at, below [`PORTS`].
    pub port: PortId,
    /// The VLAN id of its 802.1Q tag, if it had one.
    pub vlan: Option<u16>,
}

/// Interfaces that a connection can tell apart.
pub const PORTS: PortId = 1 << (16 - VLAN_BITS);
/// Bits of a VLAN id (IEEE 802.1Q, 9.6). Id 0 is none.
const VLAN_BITS: u32 = 12;

impl Origin {
    /// As it is stored in a connection.
    pub const fn to_word(self) -> u64 {
        let [a, b, c, d, e, f] = self.mac;
        let vlan = match self.vlan {
            Some(id) => id,
            None => 0,
        };
        let [high, low] = (self.port << VLAN_BITS | vlan).to_be_bytes();
        u64::from_be_bytes([a, b, c, d, e, f, high, low])
    }

    /// As it was stored.
    pub const fn from_word(word: u64) -> Self {
        let [a, b, c, d, e, f, high, low] = word.to_be_bytes();
        let place = u16::from_be_bytes([high, low]);
        let vlan = match place & ((1 << VLAN_BITS) - 1) {
            0 => None,
            id => Some(id),
        };
        Self { mac: [a, b, c, d, e, f], port: place >> VLAN_BITS, vlan }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_gives_back_the_origin() {
        for port in [0, 1, PORTS - 1] {
            for vlan in [None, Some(1), Some(4094)] {
                let origin = Origin { mac: [1, 2, 3, 4, 5, 6], port, vlan };
                assert_eq!(Origin::from_word(origin.to_word()), origin);
            }
        }
    }
}
