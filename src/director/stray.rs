//! A packet that belongs to no connection and no service of ours.
//!
//! If it is a NAT server's, somebody talks to the server itself, and the director is on the way. IPVS lets the host
//! route it on (`ip_vs_out_hook` in ip_vs_core.c finds no connection: NF_ACCEPT); so it is routed on here, by the
//! same routes; or the server is told that nobody has its connection, if `nat_icmp_send` says so. Any other is a client's whose service is just gone: IPVS leaves it to the host, where nobody
//! listens.

use super::conn::Direction;
use super::drops::DropReason;
use super::engine::{Packet, Work};
use super::forward::hops::{Hop, NextHops, PASS, PortId};
use super::forward::recipe::{Recipe, Rewrite};
use super::refusal::Refusal;
use crate::packet::answer::IcmpError;
use crate::packet::checksum::Delta;
use crate::packet::parse::{Parsed, TcpFlags};

/// What a router does: count the TTL down, readdress the frame.
pub(super) const ROUTE: Recipe = Recipe { rewrite: Rewrite::None, l3: Delta::TTL_MINUS_ONE, l4: Delta(0) };

impl<H: NextHops> Work<'_, H> {
    /// Routes the packet on if it is a NAT server's; everybody else is told that nobody listens.
    #[cold]
    pub(super) fn route_on(&mut self, packet: &mut Packet<'_>, parsed: &Parsed) -> Result<PortId, Refusal> {
        let key = &parsed.key;
        // What the host itself has sent it is not to get back.
        if packet.port != PASS && !self.services.is_nat_server(key.protocol(), key.source()) {
            return Err(DropReason::NoService.as_by_the_host(parsed));
        }
        self.route(packet, parsed)
    }

    /// Routes the packet on.
    #[cold]
    pub(super) fn route(&mut self, packet: &mut Packet<'_>, parsed: &Parsed) -> Result<PortId, Refusal> {
        let key = &parsed.key;
        self.stats.stray();
        let tells = self.services.tunables.nat_icmp_send > 0 && !parsed.flags.has(TcpFlags::RST);
        if tells && self.services.is_nat_server_at(key.protocol(), key.source()) {
            return Err(self.tell_server(DropReason::NoConnection, IcmpError::PortUnreachable, parsed));
        }
        self.pass_on(packet, parsed)
    }

    /// Routes the packet to where it goes by itself.
    pub(super) fn pass_on(&mut self, packet: &mut Packet<'_>, parsed: &Parsed) -> Result<PortId, Refusal> {
        let key = &parsed.key;
        let hop = self.hop_to(key.destination().ip(), parsed);
        if hop == Ok(Hop::UP) {
            return Ok(self.pass()?);
        }
        self.send(packet, parsed, Direction::Out, hop, ROUTE, || *key)
    }
}
