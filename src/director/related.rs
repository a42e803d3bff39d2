//! ICMP errors about packets of connections: relayed to who sent the packet, as who sent it knows it.
//!
//! `ip_vs_in_icmp`, `ip_vs_out_icmp` and `ip_vs_nat_icmp` in ip_vs_core.c, and those of IPv6 with `_v6`. What a client or a router has to say of a
//! server's packet goes to the server; what a server or a router has to say of a client's goes to the client, in the
//! VIP's name whoever says it. An error counts as a packet of its direction, and that is all: it changes no
//! state and keeps no connection alive.

use super::client_address::renumber;
use super::conn::{Direction, NewConnection};
use super::drops::DropReason;
use super::engine::{Packet, Work};
use super::forward;
use super::forward::hops::{Hop, NextHops, PASS, PortId};
use super::forward::recipe::{Recipe, Rewrite};
use super::refusal::Refusal;
use super::server::ServerId;
use super::service::Protocol;
use super::split::tag;
use crate::packet::checksum::Delta;
use crate::packet::edit;
use crate::packet::flow::FlowKey;
use crate::packet::icmp::{self, Related};
use crate::packet::parse::{Parsed, TcpFlags};

/// How long a connection lives that an ICMP error began, in seconds, unless a packet of its own comes: what every
/// connection of the kernel begins with, until a state says otherwise (`ip_vs_conn_new`).
const BEGUN_S: u32 = 3;

impl<H: NextHops> Work<'_, H> {
    /// Relays an ICMP error. Nobody is ever told that an error went no further (RFC 1122, 3.2.2).
    #[cold]
    #[inline(never)]
    pub(super) fn relay(&mut self, packet: &mut Packet<'_>) -> Result<PortId, DropReason> {
        if let Some(outcome) = self.relay_unwrapped(packet) {
            return outcome;
        }
        let error = icmp::read(packet.frame())?;
        let parsed = &error.parsed;
        let hash = self.director.table.hash(&parsed.key);
        let Some((slot, found)) = self.find(parsed, hash, None) else {
            return self.relay_anew(packet, &error, hash);
        };
        let direction = found.direction;
        self.count(ServerId(slot.server_id()), direction, parsed);
        let hop = self.next_hop(slot, direction, parsed, packet, false)?;
        let recipe = slot.recipe(direction);
        if recipe.rewrite == Rewrite::Wrap {
            return self.send_wrapped(packet, parsed, Ok(hop), slot).map_err(|refusal| refusal.reason);
        }
        if direction == Direction::Out {
            renumber(packet.frame(), &error, slot);
        }
        let quoted = slot.key(direction.opposite());
        if recipe.rewrite == Rewrite::Translate {
            return self.relay_translated(packet, &error, &quoted, &hop);
        }
        send(packet, &error, direction, recipe, &quoted, &hop)
    }

    /// Relays an error about a packet of no connection, if `schedule_icmp` says so, to the server that is chosen for
    /// the connection, which begins with it: of several directors it may be this one that the router of the error
    /// comes to, and with a scheduler that hashes all of them choose the same server.
    fn relay_anew(
        &mut self,
        packet: &mut Packet<'_>,
        error: &Related,
        hash: u64,
    ) -> Result<PortId, DropReason> {
        let parsed = &error.parsed;
        let schedules = self.services.tunables.schedule_icmp > 0;
        let Some(service) = self.services.of_packet(&parsed.key).filter(|_| schedules) else {
            return self.relay_no_further(packet, error);
        };
        // Eight bytes do not tell what a segment was: any counts as one that opens (`tcp_conn_schedule`).
        let opening = Parsed { flags: TcpFlags(TcpFlags::SYN), ..*parsed };
        let (destination, template) =
            self.choose(service, packet, &opening).map_err(|refusal| refusal.reason)?;
        let leave = |refusal: Refusal| {
            self.director.leave(template);
            refusal.reason
        };
        let (plan, over) = self.plan(service, parsed, &destination).map_err(leave)?;
        if service.service.one_packet && parsed.key.protocol() == Protocol::Udp as u8 {
            self.director.leave(template);
            self.stats.connection(destination.id);
        } else {
            // Seen a tick ago: the next packet, if it comes within this tick, is to count as the first of one.
            let aside =
                self.helper(&parsed.key, &destination).inspect_err(|_| self.director.leave(template))?;
            let mut new = NewConnection {
                aside,
                timeout_s: BEGUN_S,
                tick: self.tick.wrapping_sub(1),
                ..self.connection(packet, (parsed, hash), plan, destination.id, template)
            };
            if let Some(over) = over {
                new.replies = over.replies();
            }
            self.enter(&new, true).inspect_err(|reason| {
                if *reason == DropReason::LocalPorts {
                    self.director.give_up(&new);
                }
            })?;
            if let Some(over) = over {
                self.remove(over.slot);
            }
        }
        self.count(destination.id, Direction::In, parsed);
        let server = plan.reply_key.source().ip().to_canonical();
        let hop = self.hop_to_server(server, parsed)?;
        if plan.client.rewrite == Rewrite::Wrap {
            let source = self.source_to(server, parsed);
            let ends = source.map(|source| (source, server));
            return self
                .wrap(packet, parsed, Ok(hop), destination.id, ends)
                .map_err(|refusal| refusal.reason);
        }
        if plan.client.rewrite == Rewrite::Translate {
            return self.relay_translated(packet, error, &plan.reply_key, &hop);
        }
        send(packet, error, Direction::In, plan.client, &plan.reply_key, &hop)
    }

    /// An error about what somebody sent to a NAT server itself is routed on, as that was; any other is the director's
    /// own kernel's.
    fn relay_no_further(&mut self, packet: &mut Packet<'_>, error: &Related) -> Result<PortId, DropReason> {
        let key = &error.parsed.key;
        if packet.port != PASS && !self.services.is_nat_server(key.protocol(), key.source()) {
            return if self.director.pass.is_open() { self.pass() } else { Err(DropReason::IcmpUnrelated) };
        }
        self.stats.stray();
        // It goes to who sent the packet, as the answer to that would.
        self.pass_on(packet, &error.parsed).map_err(|refusal| refusal.reason)
    }

    fn count(&self, id: ServerId, direction: Direction, parsed: &Parsed) {
        // Where packets of a removed server's connections wait, errors are relayed, not counted.
        if !self.services.is_available(id) {
            return;
        }
        match direction {
            Direction::In => self.stats.packet_in(id, parsed.ip_len),
            Direction::Out => self.stats.packet_out(id, parsed.ip_len),
        }
    }
}

/// Sends the error on. To who has its packets rewritten it is about `quoted`, the packet as it was sent.
fn send(
    packet: &mut Packet<'_>,
    error: &Related,
    direction: Direction,
    recipe: Recipe,
    quoted: &FlowKey,
    hop: &Hop,
) -> Result<PortId, DropReason> {
    forward::may_go(&error.parsed, hop)?;
    let frame = packet.frame();
    let addresses = match (recipe.rewrite, direction) {
        (Rewrite::None | Rewrite::Wrap | Rewrite::Translate, _) => Delta::default(),
        (Rewrite::Tuple, Direction::In) => {
            // With FULLNAT the server need not know a way to who says it, nor believe one: the local address does.
            let local = quoted.local(&error.parsed.key).map(|local| local.ip());
            icmp::translate(frame, error, local, quoted)
        }
        (Rewrite::Tuple, Direction::Out) => {
            icmp::translate(frame, error, Some(quoted.destination().ip()), quoted)
        }
    };
    edit::decrement_ttl(frame, &error.parsed, addresses.and(Delta::TTL_MINUS_ONE));
    if hop.port == PASS {
        edit::restore_ttl(frame, &error.parsed);
    }
    edit::set_macs(frame, hop.dst_mac, hop.src_mac);
    if hop.port != PASS {
        tag(packet, &error.parsed, hop)?;
    }
    Ok(hop.port)
}
