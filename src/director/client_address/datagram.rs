//! A PROXY header in front of the first datagram of a UDP flow; of each, if each is scheduled by itself.
//!
//! The first one that can take it: the client of one that is too long with the header, and must not be split, is told the
//! MTU that is left, and the next datagram has the header. One in fragments cannot: it is dropped and counted.

use super::{Introduction, is_fragment};
use crate::director::conn::{Direction, Slot};
use crate::director::drops::DropReason;
use crate::director::engine::{Packet, Work};
use crate::director::forward::hops::{Hop, NextHops, PASS, PortId};
use crate::director::refusal::Refusal;
use crate::director::server::ServerId;
use crate::packet::answer::must_not_fragment;
use crate::packet::parse::Parsed;
use crate::packet::{insert, proxy};

impl<'a, H: NextHops> Work<'a, H> {
    /// Forwards a datagram of a flow whose server has not got a header yet.
    pub(super) fn send_datagram(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        (slot, direction): (&'a Slot, Direction),
        hop: Result<Hop, DropReason>,
    ) -> Result<PortId, Refusal> {
        let opposite = || slot.key(direction.opposite());
        let recipe = slot.recipe(direction);
        // Of two workers with a datagram each the second may send its own without.
        if direction == Direction::Out || !slot.clear_aside() {
            return self.send(packet, parsed, direction, hop, recipe, opposite);
        }
        let sent = self
            .add_header(packet, parsed, hop)
            .and_then(|parsed| self.send(packet, &parsed, direction, hop, recipe, opposite));
        if sent.is_err() {
            slot.set_aside(Introduction::Datagram.mark());
            self.director.offload.withdraw(slot);
        }
        sent
    }

    /// The packet of a connection that is but this packet, to be sent to this server next: with a header if that wants one.
    pub(in crate::director) fn introduced(
        &self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        id: ServerId,
        hop: Result<Hop, DropReason>,
    ) -> Result<Parsed, Refusal> {
        match self.introduction(&parsed.key, id) {
            Some(_) => self.add_header(packet, parsed, hop),
            None => Ok(*parsed),
        }
    }

    /// Puts the header in front of the datagram.
    fn add_header(
        &self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        way_out: Result<Hop, DropReason>,
    ) -> Result<Parsed, Refusal> {
        // Without a way there is no answer to how long it may be: it is refused as it is.
        let Ok(hop) = way_out else { return Ok(*parsed) };
        let header = proxy::header(&parsed.key).ok_or(DropReason::ClientAddress)?;
        let more = u16::try_from(header.len()).unwrap_or(0);
        let is_up = hop.port == PASS;
        if parsed.ttl <= 1 && !is_up {
            return Ok(*parsed);
        }
        let is_too_long = !is_up && parsed.ip_len.saturating_add(more) > hop.mtu;
        if is_too_long && (must_not_fragment(packet.frame(), parsed) || !parsed.key.is_v4()) {
            let mtu = hop.mtu.saturating_sub(more);
            return Err(self.told(DropReason::TooBig, Direction::In, packet, parsed, mtu));
        }
        if is_fragment(packet.frame()) {
            return Err(DropReason::ClientAddress.into());
        }
        let at = insert::datagram(parsed);
        let (parsed, len) =
            insert::insert(packet.room, parsed, at, &header).ok_or(DropReason::ClientAddress)?;
        packet.len = len;
        Ok(parsed)
    }
}
