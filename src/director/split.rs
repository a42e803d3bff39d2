//! Packets that do not fit the way out as they are: those that need another VLAN tag get it, and those that are too long
//! and may be fragmented are sent in pieces, as the kernel's own output does behind `ip_vs_xmit.c` (`ip_fragment`). The
//! first piece stays in the packet's frame, the others go by the outbox.

use super::conn::Direction;
use super::drops::DropReason;
use super::engine::{Packet, Work};
use super::forward::hops::{Hop, NextHops, PASS, PortId};
use super::refusal::Refusal;
use crate::packet::answer::must_not_fragment;
use crate::packet::edit;
use crate::packet::parse::Parsed;
use crate::packet::pieces::Pieces;
use crate::packet::room;

/// Gives a packet the tag of its way out, and takes room for a tunnel away that is not used: pieces have none.
pub(super) fn tag(packet: &mut Packet<'_>, parsed: &Parsed, hop: &Hop) -> Result<(), DropReason> {
    packet.len = room::close(packet.room, packet.len);
    if parsed.vlan != hop.vlan {
        packet.len = edit::set_vlan(packet.room, packet.len, hop.vlan).ok_or(DropReason::Vlan)?;
    }
    Ok(())
}

impl<H: NextHops> Work<'_, H> {
    /// Sends a packet that cannot go on as it is, since `reason` says so of its `way_out`: with another VLAN tag; in pieces,
    /// if it is but too long; or up to the kernel, if it is for the director itself. `rewrite` readdresses it. Otherwise
    /// says what its sender is told.
    #[cold]
    #[inline(never)]
    pub(super) fn send_split(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        direction: Direction,
        (way_out, reason): (Result<Hop, DropReason>, DropReason),
        rewrite: impl FnOnce(&mut [u8], &Hop),
    ) -> Result<PortId, Refusal> {
        if let Ok(Hop { port: PASS, .. }) = way_out {
            rewrite(packet.frame(), &Hop::UP);
            // It is there: nothing was routed (`__ip_vs_get_out_rt`).
            edit::restore_ttl(packet.frame(), parsed);
            return Ok(PASS);
        }
        let must_not_fragment = must_not_fragment(packet.frame(), parsed);
        match (way_out, reason) {
            (Ok(hop), DropReason::Vlan) => {
                rewrite(packet.frame(), &hop);
                tag(packet, parsed, &hop)?;
                Ok(hop.port)
            }
            (Ok(hop), DropReason::TooBig) if !must_not_fragment => {
                let header_len = parsed.l4 - parsed.l3;
                let payload_len = usize::from(parsed.ip_len) - header_len;
                let l3 = if parsed.vlan == hop.vlan {
                    parsed.l3 - usize::from(parsed.room)
                } else {
                    edit::ethernet_len(hop.vlan)
                };
                let pieces = self.has_room(Pieces::v4(l3, header_len, payload_len, hop.mtu))?;
                rewrite(packet.frame(), &hop);
                tag(packet, parsed, &hop)?;
                self.send_pieces(packet, pieces, hop.port)
            }
            _ => {
                let mtu = way_out.map_or(0, |hop| hop.mtu);
                Err(self.told(reason, direction, packet, parsed, mtu))
            }
        }
    }

    /// How a packet that fits no longer is split, if there is room for all of its pieces.
    pub(super) fn has_room(&self, pieces: Option<Pieces>) -> Result<Pieces, DropReason> {
        let pieces = pieces.ok_or(DropReason::TooBig)?;
        if pieces.later() > self.outbox.free() { Err(DropReason::OutboxFull) } else { Ok(pieces) }
    }

    /// Leaves of a packet the first of its pieces, and puts the others into the outbox.
    pub(super) fn send_pieces(
        &mut self,
        packet: &mut Packet<'_>,
        pieces: Pieces,
        port: PortId,
    ) -> Result<PortId, Refusal> {
        for n in 1..=pieces.later() {
            let frame = &*packet.frame();
            if !self.outbox.write(port, |to| pieces.write(frame, n, to)) {
                return Err(DropReason::OutboxFull.into());
            }
        }
        packet.len = pieces.shorten(packet.frame()).ok_or(DropReason::TooBig)?;
        Ok(port)
    }
}
