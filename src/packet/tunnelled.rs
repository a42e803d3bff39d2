//! ICMP errors about packets in tunnels: what a router between the director and a server behind a tunnel says of the outer
//! packet, and the error for who sent the inner one (`ip_vs_in_icmp` in ip_vs_core.c; RFC 2473, 8).
//!
//! How much of the inner packet is quoted is the router's choice: RFC 1812, 4.3.2.3 and RFC 4443, 2.4 want as much as fits,
//! and of one that keeps to RFC 792's eight bytes nothing can be learnt here. Both packets may be of either IP version.
//!
//! | file | owns |
//! | --- | --- |
//! | here | what is known of such an error |
//! | `read` | how it is read: a message, the outer packet's headers, the tunnel's, the inner packet |
//! | `told` | what who sent the inner packet is told |

mod read;
#[cfg(test)]
mod tests;
mod told;

use std::net::IpAddr;

pub use self::read::read;
use super::encap::Tunnel;
use super::parse::Parsed;

const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = super::ipv6::HEADER_LEN;
const ICMP_LEN: usize = 8;
/// Types and codes that say that a packet is too long.
const FRAGMENTATION_NEEDED: (u8, u8) = (3, 4);
const TOO_BIG: u8 = 2;

/// An error about a packet in a tunnel. All offsets lie inside the frame it was read from.
#[derive(Clone, Copy, Debug)]
pub struct TunnelError {
    /// The inner packet as its sender sent it, at its place in the quote; only its beginning may be there.
    pub inner: Parsed,
    /// Bytes of it that are quoted.
    quoted: usize,
    /// Where the outer packet was sent from: the director's own address.
    pub source: IpAddr,
    /// Where it was sent to: the server.
    pub destination: IpAddr,
    /// The outer packet's protocol, and for UDP the port it was sent to, else 0.
    carrier: (u8, u16),
    /// Bytes of outer headers in front of a whole packet.
    pub overhead: u16,
    /// Length of the outer packet in bytes.
    pub outer_len: u16,
    kind: u8,
    code: u8,
    rest: u32,
}

impl TunnelError {
    /// True if the outer packet is one of this tunnel's.
    pub fn is_of(&self, tunnel: Tunnel) -> bool {
        tunnel.carrier(self.inner.key.is_v4()) == self.carrier
    }

    /// The MTU in bytes that the outer packet was too long for, if that is what the error says.
    pub fn too_big(&self) -> Option<u16> {
        match (self.source.is_ipv4(), (self.kind, self.code)) {
            // The first half is unused (RFC 1191, 4).
            (true, FRAGMENTATION_NEEDED) => u16::try_from(self.rest & 0xffff).ok(),
            (false, (TOO_BIG, _)) => Some(u16::try_from(self.rest).unwrap_or(u16::MAX)),
            _ => None,
        }
    }
}
