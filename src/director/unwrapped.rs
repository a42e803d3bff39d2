//! ICMP errors about packets in tunnels, which routers on the way send to the director: the client is told of its own
//! packet, and a smaller MTU is remembered (`ip_vs_in_icmp`).
//!
//! Believed is only who quotes enough of the packet to show its connection, which leads to that server by that tunnel.
//! Like the kernel's they count as nobody's traffic.

use std::net::IpAddr;

use super::conn::{Direction, Slot};
use super::drops::DropReason;
use super::engine::{Packet, Work};
use super::forward::hops::{NextHops, PortId};
use super::forward::recipe::Rewrite;
use super::server::ServerId;
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
        if let Some(mtu) = error.outer_mtu() {
            self.director.path_mtus.note(error.destination.into(), mtu, self.tick);
            // Each connection that is too long hears of it by an error of its own.
            self.director.offload.withdraw(slot);
        }
        if error.is_for_the_director(packet.frame()) {
            return Some(Err(DropReason::IcmpHeard));
        }
        Some(self.tell_client(packet, slot, &error))
    }

    /// True if the connection's packets go through that tunnel, from that address to that server.
    fn is_about(&self, slot: &Slot, error: &TunnelError) -> bool {
        slot.recipe(Direction::In).rewrite == Rewrite::Wrap
            && slot.server_ip() == IpAddr::from(error.destination)
            && slot.outer_source() == Some(error.source.into())
            && error.is_of(self.services.tunnel(ServerId(slot.server_id())))
    }

    fn tell_client(
        &self,
        packet: &mut Packet<'_>,
        slot: &Slot,
        error: &TunnelError,
    ) -> Result<PortId, DropReason> {
        let client = error.inner.key.source().ip();
        let hop = match self.hop_to(client, &error.inner) {
            // As a server's answers go, where the kernel knows no neighbour.
            Err(DropReason::Unresolved) => self.hops.back_to(slot.learned()).ok_or(DropReason::Unresolved)?,
            hop => hop?,
        };
        let l3 = edit::ethernet_len(hop.vlan);
        packet.len = error.write(packet.room, l3).ok_or(DropReason::IcmpQuote)?;
        edit::set_ethernet(packet.room, hop.dst_mac, hop.src_mac, hop.vlan, true);
        Ok(hop.port)
    }
}
