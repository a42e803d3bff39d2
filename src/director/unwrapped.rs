//! ICMP errors about packets in tunnels, which routers on the way send to the director: the client is told of its own
//! packet, and a smaller MTU is remembered (`ip_vs_in_icmp`, which knows IPv4 in IPv4 alone).
//!
//! Believed is only who quotes enough of the packet to show its connection, which leads to that server by that tunnel.
//! Like the kernel's they count as nobody's traffic.

use super::conn::{Direction, Slot};
use super::drops::DropReason;
use super::engine::{Packet, Work};
use super::forward::hops::{NextHops, PortId};
use super::forward::recipe::Rewrite;
use super::path_mtu;
use super::server::ServerId;
use super::tunnel::LEAST_MTU_V6;
use crate::packet::answer::must_not_fragment;
use crate::packet::edit;
use crate::packet::tunnelled::{self, TunnelError};

impl<H: NextHops> Work<'_, H> {
    /// Deals with an error about a packet in a tunnel of ours; none if it is about anything else.
    pub(super) fn relay_unwrapped(&mut self, packet: &mut Packet<'_>) -> Option<Result<PortId, DropReason>> {
        let error = tunnelled::read(packet.frame())?;
        let hash = self.director.table.hash(&error.inner.key);
        let (slot, found) = self.find(&error.inner, hash, None)?;
        if found.direction != Direction::In || !self.is_about(slot, &error) {
            return None;
        }
        let mtu = error.too_big().map(|mtu| self.learn(mtu, slot, &error));
        if !error.is_told() || mtu.is_some_and(|_| is_for_the_director(packet.frame(), &error)) {
            return Some(Err(DropReason::IcmpHeard));
        }
        Some(self.tell_client(packet, slot, &error, mtu.unwrap_or_default()))
    }

    /// Notes the MTU that a router says the way to a server has; what the tunnel leaves of it comes back.
    fn learn(&self, mtu: u16, slot: &Slot, error: &TunnelError) -> u16 {
        let mtu = path_mtu::believed(error.destination, mtu);
        // Who says that the packet would fit has not seen it.
        if mtu < error.outer_len {
            self.director.path_mtus.note(error.destination, mtu, self.tick);
            // Each connection that is too long hears of it by an error of its own.
            self.director.offload.withdraw(slot);
        }
        let inside = mtu.saturating_sub(error.overhead);
        if error.inner.key.is_v4() { inside } else { inside.max(LEAST_MTU_V6) }
    }

    /// True if the connection's packets go through that tunnel, from that address to that server.
    fn is_about(&self, slot: &Slot, error: &TunnelError) -> bool {
        slot.recipe(Direction::In).rewrite == Rewrite::Wrap
            && slot.server_ip() == error.destination
            && slot.outer_source() == Some(error.source)
            && error.is_of(self.services.tunnel(ServerId(slot.server_id())))
    }

    fn tell_client(
        &self,
        packet: &mut Packet<'_>,
        slot: &Slot,
        error: &TunnelError,
        mtu: u16,
    ) -> Result<PortId, DropReason> {
        let client = error.inner.key.source().ip();
        let hop = match self.hop_to(client, &error.inner) {
            // As a server's answers go, where the kernel knows no neighbour.
            Err(DropReason::Unresolved) => self.hops.back_to(slot.learned()).ok_or(DropReason::Unresolved)?,
            hop => hop?,
        };
        let l3 = edit::ethernet_len(hop.vlan);
        packet.len = error.write(packet.room, l3, mtu).ok_or(DropReason::IcmpQuote)?;
        edit::set_ethernet(packet.room, hop.dst_mac, hop.src_mac, hop.vlan, client.is_ipv4());
        Ok(hop.port)
    }
}

/// True if who sent the inner packet has no use for an error that it was too long: it let the packet be fragmented, or
/// it may not send a shorter one, so that the outer packet is to be fragmented (RFC 2473, 7.1).
fn is_for_the_director(frame: &[u8], error: &TunnelError) -> bool {
    let may_be = !must_not_fragment(frame, &error.inner);
    may_be || (!error.inner.key.is_v4() && error.inner.ip_len <= LEAST_MTU_V6)
}
