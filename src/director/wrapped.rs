//! Nearly all packets to servers behind tunnels: of IPv4, to an IPv4 server, whole, no longer than its way allows, and
//! with room in front of them that is just what their headers need. All others are `tunnel`'s.

use super::conn::Slot;
use super::drops::DropReason;
use super::engine::{Packet, Work};
use super::forward::hops::{Hop, NextHops, PortId};
use super::server::ServerId;
use super::tunnel::LEAST_MTU_V4;
use crate::packet::edit;
use crate::packet::parse::Parsed;
use crate::packet::wrap::{self, Plain};

impl<H: NextHops> Work<'_, H> {
    /// Sends a client's packet of a connection through the tunnel to its server. `None`, with nothing changed, if it is
    /// not like nearly all.
    #[inline(never)]
    pub(super) fn send_wrapped_plain(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        way_out: &Result<Hop, DropReason>,
        slot: &Slot,
    ) -> Option<PortId> {
        let hop = way_out.as_ref().ok()?;
        let addresses = slot.outer_v4()?;
        let tunnel = self.services.tunnel(ServerId(slot.server_id()));
        let head = wrap::head_len(tunnel)?;
        let len = head + usize::from(parsed.ip_len);
        // With the Ethernet header. The way up to the director's own kernel has none.
        let most = usize::from(hop.mtu) + edit::ethernet_len(None);
        let fits = parsed.l3 == head && len <= most && head + usize::from(LEAST_MTU_V4) <= most;
        let goes_on = parsed.key.is_v4() && parsed.ttl > 1 && hop.vlan.is_none();
        if !fits || !goes_on || self.director.path_mtus.any(self.tick) {
            return None;
        }
        let plain = Plain {
            dst_mac: hop.dst_mac,
            src_mac: hop.src_mac,
            addresses,
            copies_df: self.services.tunables.pmtu_disc != 0,
            flow_hash: parsed.key.ports() ^ parsed.key.source_bits(),
        };
        wrap::wrap(packet.room, parsed.ip_len, tunnel, &plain, || self.identifications.next_v4())?;
        packet.len = len;
        Some(hop.port)
    }
}
