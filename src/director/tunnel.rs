//! Packets to a server behind a tunnel (`ip_vs_tunnel_xmit`): wrapped, and where possible into room that is already in
//! front of them.
//!
//! The steering program makes the room when all servers of a service need the same; a packet whose room does not
//! fit is moved. The kind of tunnel is the server's of this moment, as in the kernel: an edit counts for connections
//! there are.

use std::net::IpAddr;

use super::conn::{Direction, Slot};
use super::drops::DropReason;
use super::engine::{Packet, Work};
use super::forward::hops::{Hop, NextHops, PASS, PortId};
use super::refusal::Refusal;
use super::server::ServerId;
use crate::packet::answer::must_not_fragment;
use crate::packet::checksum::Delta;
use crate::packet::edit;
use crate::packet::encap::{Outer, encapsulate};
use crate::packet::parse::Parsed;
use crate::packet::pieces::Pieces;

/// Bytes of an outer header.
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
/// Least MTU that a tunnel may leave, by the family of the outer packet (`__ip_vs_get_out_rt`).
pub(super) const LEAST_MTU_V4: u16 = 68;
/// It is what every link of IPv6 carries, too, and no sender of IPv6 is told less (RFC 8200, 5).
pub(super) const LEAST_MTU_V6: u16 = 1280;

impl<H: NextHops> Work<'_, H> {
    /// Sends a client's packet of a connection through the tunnel to its server.
    #[inline(never)]
    pub(super) fn send_wrapped(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        way_out: Result<Hop, DropReason>,
        slot: &Slot,
    ) -> Result<PortId, Refusal> {
        let ends = slot.outer_source().map(|source| (source, slot.server_ip()));
        self.wrap(packet, parsed, way_out, ServerId(slot.server_id()), ends)
    }

    /// As [`send_wrapped`](Self::send_wrapped), with the addresses of the director and the server as `ends`.
    pub(super) fn wrap(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        way_out: Result<Hop, DropReason>,
        id: ServerId,
        ends: Option<(IpAddr, IpAddr)>,
    ) -> Result<PortId, Refusal> {
        if way_out == Ok(Hop::UP) {
            return Ok(PASS);
        }
        let tunnel = self.services.tunnel(id);
        let may_split = self.services.tunables.pmtu_disc == 0;
        let mut mtu = 0;
        let fits = way_out.and_then(|mut hop| {
            let (source, destination) = ends.ok_or(DropReason::NoTunnel)?;
            let is_v4 = destination.is_ipv4();
            let overhead = tunnel.overhead(is_v4);
            let len = overhead + usize::from(parsed.ip_len);
            let left = |mtu: u16| mtu.saturating_sub(u16::try_from(overhead).unwrap_or(u16::MAX));
            let is_narrow = left(hop.mtu) < if is_v4 { LEAST_MTU_V4 } else { LEAST_MTU_V6 };
            if let Some(smaller) = self.director.path_mtus.of(destination, self.tick) {
                hop.mtu = hop.mtu.min(smaller);
            }
            mtu = left(hop.mtu);
            let mut is_least = false;
            if !parsed.key.is_v4() {
                mtu = mtu.max(LEAST_MTU_V6);
                is_least = parsed.ip_len <= LEAST_MTU_V6;
            }
            if parsed.ttl <= 1 {
                Err(DropReason::TtlExpired)
            } else if is_narrow {
                Err(DropReason::NoTunnel)
            } else if len <= usize::from(hop.mtu) {
                Ok((hop, overhead, source, destination, None))
            } else if is_least
                || !must_not_fragment(packet.frame(), parsed)
                || (may_split && parsed.key.is_v4())
            {
                // The outer packet is split then, which is the director's own (RFC 2473, 7.2). One that holds IPv6 never
                // is, whatever `pmtu_disc` says (`ensure_mtu_is_adequate`), unless its sender may send no shorter one
                // (RFC 2473, 7.1), which the kernel drops.
                let start = edit::ethernet_len(hop.vlan);
                let pieces = if is_v4 {
                    Pieces::v4(start, IPV4_LEN, len - IPV4_LEN, hop.mtu)
                } else {
                    Pieces::v6(start, len - IPV6_LEN, hop.mtu, self.identifications.next())
                };
                Ok((hop, overhead, source, destination, Some(self.has_room(pieces)?)))
            } else {
                Err(DropReason::TooBig)
            }
        });
        let (hop, overhead, source, destination, pieces) =
            fits.map_err(|reason| self.told(reason, Direction::In, packet, parsed, mtu))?;

        // Around IPv6 there is none: the outer packet may be split on its way.
        let has_df = !may_split && parsed.key.is_v4() && must_not_fragment(packet.frame(), parsed);
        let inner = edit::ethernet_len(hop.vlan) + overhead;
        let len = usize::from(parsed.ip_len);
        if parsed.l3 != inner {
            if inner + len > packet.room.len() {
                return Err(DropReason::NoTunnel.into());
            }
            packet.room.copy_within(parsed.l3..parsed.l3 + len, inner);
        }
        let moved = Parsed { l3: inner, ..*parsed };
        edit::decrement_ttl(packet.room, &moved, Delta::TTL_MINUS_ONE);
        let outer = Outer {
            tunnel,
            source,
            destination,
            copies_df: !may_split,
            // There are few: none for what is never split.
            identification: if has_df { 0 } else { self.identifications.next_v4() },
            flow_hash: parsed.key.ports() ^ parsed.key.source_bits(),
        };
        encapsulate(packet.room, inner, len, &outer).ok_or(DropReason::NoTunnel)?;
        edit::set_ethernet(packet.room, hop.dst_mac, hop.src_mac, hop.vlan, destination.is_ipv4());
        packet.len = inner + len;
        match pieces {
            Some(pieces) => self.send_pieces(packet, pieces, hop.port),
            None => Ok(hop.port),
        }
    }
}
