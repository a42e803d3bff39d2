//! A PROXY header in front of the first datagram of a UDP flow; of each, if each is scheduled by itself.
//!
//! Exactly one datagram of a flow has it: the first that can take it. The client of one that is too long with the header,
//! and must not be split, is told the MTU that is left, and the next datagram has the header. One in fragments cannot: it is
//! dropped and counted. Nothing goes without the header before that: what cannot be done is refused before the header is
//! taken for done, so of two workers with a datagram each one takes it, and what the other one has is not the first.

use super::{Introduction, Outcome, Way, is_fragment};
use crate::director::conn::Direction;
use crate::director::drops::DropReason;
use crate::director::engine::{Packet, Work};
use crate::director::forward::hops::{Hop, NextHops, PASS};
use crate::director::forward::recipe::Rewrite;
use crate::director::refusal::Refusal;
use crate::director::server::ServerId;
use crate::director::translated::mtu_before;
use crate::director::tunnel::LEAST_MTU_V6;
use crate::packet::answer::must_not_fragment;
use crate::packet::edit;
use crate::packet::parse::Parsed;
use crate::packet::pieces::Pieces;
use crate::packet::proxy::{self, Header};
use crate::packet::{insert, translate};

impl<'a, H: NextHops> Work<'a, H> {
    /// Forwards a datagram of a flow whose server has not got a header yet.
    pub(super) fn send_datagram(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        way: Way<'a>,
    ) -> Outcome {
        let Way { slot, direction, hop } = way;
        if direction == Direction::Out {
            return self.send_on(packet, parsed, way);
        }
        let is_translated = slot.recipe(direction).rewrite == Rewrite::Translate;
        let Some(header) = self.header_that_fits(packet, parsed, hop, is_translated)? else {
            return self.send_on(packet, parsed, way);
        };
        if !slot.clear_aside() {
            return self.send_on(packet, parsed, way);
        }
        let sent = put_in(packet, parsed, &header).and_then(|parsed| self.send_on(packet, &parsed, way));
        if sent.is_err() {
            // All of it has been seen to; if not, the next one has it.
            slot.set_aside(Introduction::Datagram.mark());
            self.director.offload.withdraw(slot);
        }
        sent
    }

    /// The packet of a connection that is but this packet, to be sent to this server next: with a header if that wants one.
    pub(in crate::director) fn introduced(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        id: ServerId,
        hop: Result<Hop, DropReason>,
    ) -> Result<Parsed, Refusal> {
        if self.introduction(&parsed.key, id).is_none() {
            return Ok(*parsed);
        }
        match self.header_that_fits(packet, parsed, hop, false)? {
            Some(header) => put_in(packet, parsed, &header),
            None => Ok(*parsed),
        }
    }

    /// The header for a datagram that gets on with it, if need be in pieces; none for one that goes no further as it is.
    fn header_that_fits(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        way_out: Result<Hop, DropReason>,
        is_translated: bool,
    ) -> Result<Option<Header>, Refusal> {
        // Without a way there is no answer to how long it may be: it is refused as it is.
        let Ok(hop) = way_out else { return Ok(None) };
        let is_up = hop.port == PASS;
        if parsed.ttl <= 1 && !is_up {
            return Ok(None);
        }
        let header = proxy::header(&parsed.key).ok_or(DropReason::ClientAddress)?;
        let more = u16::try_from(header.len()).unwrap_or(0);
        let ip_len = parsed.ip_len.checked_add(more).ok_or(DropReason::ClientAddress)?;
        let with_header = Parsed { ip_len, ..*parsed };
        let headers_len = parsed.l4 - parsed.l3;
        let leaves_with = if is_translated { translate::len(&with_header) } else { usize::from(ip_len) };
        let is_whole = !is_fragment(packet.frame());
        if !is_up {
            let frame = packet.frame();
            let split = if is_translated {
                let may_split = translate::may_be_fragmented(frame, &with_header, None);
                self.pieces(&with_header, &hop, !parsed.key.is_v4(), None, may_split)
            } else if leaves_with <= usize::from(hop.mtu) {
                Ok(None)
            } else if must_not_fragment(frame, parsed) || !parsed.key.is_v4() {
                Err(DropReason::TooBig)
            } else {
                let payload_len = leaves_with - headers_len;
                self.has_room(Pieces::v4(parsed.l3, headers_len, payload_len, hop.mtu)).map(Some)
            };
            if let Err(reason) = split {
                let before =
                    if is_translated { mtu_before(hop.mtu, !parsed.key.is_v4(), false) } else { hop.mtu };
                let mtu = before.saturating_sub(more);
                // Less than all links of IPv6 carry is believed by nobody there (RFC 8200, 5).
                if reason == DropReason::TooBig && !parsed.key.is_v4() && mtu < LEAST_MTU_V6 {
                    return Err(DropReason::ClientAddress.into());
                }
                return Err(self.told(reason, Direction::In, packet, parsed, mtu));
            }
        }
        let tag_len = edit::ethernet_len(hop.vlan).saturating_sub(edit::ethernet_len(parsed.vlan));
        let longest = leaves_with.max(usize::from(ip_len));
        let has_room = parsed.l3 + longest + tag_len <= packet.room.len();
        if is_whole && has_room { Ok(Some(header)) } else { Err(DropReason::ClientAddress.into()) }
    }
}

/// Puts the header in front of the datagram.
fn put_in(packet: &mut Packet<'_>, parsed: &Parsed, header: &Header) -> Result<Parsed, Refusal> {
    let at = insert::datagram(parsed);
    let (parsed, len) = insert::insert(packet.room, parsed, at, header).ok_or(DropReason::ClientAddress)?;
    packet.len = len;
    Ok(parsed)
}
