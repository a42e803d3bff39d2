//! Packets between ends of different IP versions (FULLNAT): translated as a router of RFC 7915 does it.
//!
//! A packet's new headers are longer or shorter than the old ones, so all that is said of its length is said of the new
//! one; its sender is told an MTU that makes the new one fit.

use super::conn::{Direction, Slot};
use super::drops::DropReason;
use super::engine::{Packet, Work};
use super::forward::hops::{Hop, NextHops, PASS, PortId};
use super::forward::recipe::Rewrite;
use super::refusal::Refusal;
use super::split::tag;
use super::tunnel::LEAST_MTU_V6;
use crate::packet::checksum::Delta;
use crate::packet::edit;
use crate::packet::flow::FlowKey;
use crate::packet::icmp::{self, Related};
use crate::packet::parse::Parsed;
use crate::packet::pieces::Pieces;
use crate::packet::translate::{self, Leaving, Piece};

/// By how much an IPv6 header is longer than an IPv4 one, and with a Fragment header.
const LONGER: u16 = 20;
const LONGER_FRAGMENT: u16 = 28;

impl<H: NextHops> Work<'_, H> {
    /// Sends a packet of a connection whose packets leave with other headers than they came with.
    #[cold]
    #[inline(never)]
    pub(super) fn send_otherwise(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        direction: Direction,
        way_out: Result<Hop, DropReason>,
        slot: &Slot,
    ) -> Result<PortId, Refusal> {
        let recipe = slot.recipe(direction);
        if recipe.rewrite == Rewrite::Wrap {
            return self.send_wrapped(packet, parsed, way_out, slot);
        }
        let tuple = slot.key(direction.opposite()).reversed();
        self.translate(packet, parsed, direction, way_out, (&tuple, recipe.l4))
    }

    /// Sends a packet under addresses of the other IP version; these and the ports make the difference `l4` to its
    /// transport checksum.
    fn translate(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        direction: Direction,
        way_out: Result<Hop, DropReason>,
        (tuple, l4): (&FlowKey, Delta),
    ) -> Result<PortId, Refusal> {
        let frame = packet.frame();
        let bytes = frame.get(parsed.l3..).unwrap_or_default();
        let piece = Piece::of(bytes, parsed.l4 - parsed.l3).map_err(DropReason::from)?;
        let may_split = translate::may_be_fragmented(frame, parsed, piece);
        let mut mtu = 0;
        let fits = way_out.and_then(|hop| {
            mtu = mtu_before(hop.mtu, tuple.is_v4(), piece.is_some());
            self.pieces(parsed, &hop, tuple.is_v4(), piece, may_split).map(|pieces| (hop, pieces))
        });
        let (hop, pieces) = fits.map_err(|reason| self.told(reason, direction, packet, parsed, mtu))?;

        let leaving = Leaving { tuple, l4 };
        let len = if tuple.is_v4() {
            translate::to_v4(packet.room, parsed, piece, leaving, self.identifications.next_v4())
        } else {
            translate::to_v6(packet.room, parsed, piece, leaving)
        };
        packet.len = len.map_err(DropReason::from)?;
        edit::set_macs(packet.frame(), hop.dst_mac, hop.src_mac);
        if hop.port == PASS {
            // It is there: nothing was routed.
            edit::restore_ttl(packet.frame(), &Parsed { key: *tuple, ..*parsed });
            return Ok(PASS);
        }
        tag(packet, parsed, &hop)?;
        match pieces {
            Some(pieces) => self.send_pieces(packet, pieces, hop.port),
            None => Ok(hop.port),
        }
    }

    /// How the translated packet is split so that it may go on to `hop`; not at all if it fits.
    pub(super) fn pieces(
        &mut self,
        parsed: &Parsed,
        hop: &Hop,
        to_v4: bool,
        piece: Option<Piece>,
        may_split: bool,
    ) -> Result<Option<Pieces>, DropReason> {
        if hop.port == PASS {
            // Nothing is routed, but no packet comes that way with nothing left.
            return if parsed.ttl == 0 { Err(DropReason::TtlExpired) } else { Ok(None) };
        }
        let payload_len = translate::payload_len(parsed);
        let header_len = translate::header_len(to_v4, piece.is_some());
        // What every link of IPv6 carries: nobody may split it on the way (RFC 7915, 4: its `lowest-ipv6-mtu`).
        let mtu = if may_split && !to_v4 { hop.mtu.min(LEAST_MTU_V6) } else { hop.mtu };
        if parsed.ttl <= 1 {
            return Err(DropReason::TtlExpired);
        }
        if header_len + payload_len <= usize::from(mtu) {
            return Ok(None);
        }
        if !may_split {
            return Err(DropReason::TooBig);
        }
        // As it is tagged then.
        let start = match parsed.vlan == hop.vlan {
            true => parsed.l3 - usize::from(parsed.room),
            false => edit::ethernet_len(hop.vlan),
        };
        let pieces = match (to_v4, piece) {
            (true, _) => Pieces::v4(start, header_len, payload_len, mtu),
            (false, None) => Pieces::v6(start, payload_len, mtu, self.identifications.next()),
            (false, Some(_)) => Pieces::v6_fragment(start, payload_len, mtu),
        };
        self.has_room(pieces).map(Some)
    }

    /// Sends an ICMP error on as one of the other IP version, about `quoted`: the packet as it was sent. It is told by who
    /// that was sent to.
    pub(super) fn relay_translated(
        &mut self,
        packet: &mut Packet<'_>,
        error: &Related,
        quoted: &FlowKey,
        hop: &Hop,
    ) -> Result<PortId, DropReason> {
        let (parsed, is_up) = (&error.parsed, hop.port == PASS);
        if !is_up && parsed.ttl <= 1 {
            return Err(DropReason::TtlExpired);
        }
        let mtu = if is_up { u16::MAX } else { hop.mtu };
        let identification = self.identifications.next_v4();
        packet.len = icmp::across::translate(packet.room, error, quoted, mtu, identification)?;
        edit::set_macs(packet.frame(), hop.dst_mac, hop.src_mac);
        if is_up {
            edit::restore_ttl(packet.frame(), &Parsed { key: *quoted, ..*parsed });
            return Ok(PASS);
        }
        tag(packet, parsed, hop)?;
        Ok(hop.port)
    }
}

/// The longest packet that fits `mtu` once it is one of the other version. To IPv6 nobody says less than all its links
/// carry: what is shorter may be fragmented behind the translation (RFC 7915, 5.1).
pub(super) fn mtu_before(mtu: u16, to_v4: bool, is_fragment: bool) -> u16 {
    if to_v4 {
        mtu.saturating_add(LONGER).max(LEAST_MTU_V6)
    } else {
        mtu.saturating_sub(if is_fragment { LONGER_FRAGMENT } else { LONGER })
    }
}
