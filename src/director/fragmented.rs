//! The way of a fragment.
//!
//! The kernel puts datagrams together before IPVS sees them (`ip_vs_gather_frags`); here the first fragment is
//! forwarded like a whole packet and the others after it, as they come: addresses, TTL and MACs change in each, ports and
//! the transport checksum in the first alone, where they are. Traffic is counted as if the datagram had come whole:
//! one packet, one header.

use std::mem;

use super::conn::{Direction, Slot};
use super::drops::DropReason;
use super::engine::{Packet, Verdict, Work};
use super::forward;
use super::forward::hops::{Hop, NextHops, PortId};
use super::forward::recipe::{Recipe, Rewrite};
use super::fragments::{Arrival, Fate};
use super::open::Begun;
use super::refusal::{Allowance, Refusal};
use super::server::ServerId;
use super::service::Protocol;
use super::stray::ROUTE;
use crate::packet::edit;
use crate::packet::flow::FlowKey;
use crate::packet::fragment::{self, Fragment};
use crate::packet::parse::Parsed;

impl<H: NextHops> Work<'_, H> {
    /// Forwards a fragment, keeps it for a while, or drops it.
    #[cold]
    #[inline(never)]
    pub(super) fn fragment(&mut self, packet: &mut Packet<'_>, allowance: &mut Allowance) -> Verdict {
        let fragment = match fragment::read(packet.frame()) {
            Ok(fragment) => fragment,
            Err(malformed) => return self.refused(malformed.into()),
        };
        let (hash, port) = (self.director.table.hash(fragment.datagram.as_key()), packet.port);
        let fragments = &self.director.fragments;
        match fragments.arrive(hash, &fragment, (port, packet.frame()), self.tick, self.stats) {
            Arrival::Held => Verdict::Keep,
            Arrival::Refused(reason) => self.refused(reason),
            // Nobody is told of a later fragment (RFC 1122, 3.2.2).
            Arrival::Follows(fate) => match self.send_further(packet, &fragment, fate) {
                Ok(port) => Verdict::Transmit(port),
                Err(refusal) => self.refused(refusal.reason),
            },
            Arrival::First => {
                let (outcome, fate) = match self.first(packet, &fragment.parsed) {
                    Ok((port, fate)) => (Ok(port), fate),
                    Err(refusal) => (Err(refusal), Fate::Refused(refusal.reason)),
                };
                fragments.settle(hash, fragment.datagram, fate, self.tick);
                let verdict = match outcome {
                    Ok(port) => Verdict::Transmit(port),
                    Err(Refusal { reason, answer }) => match (self.refused(reason), answer) {
                        (_, Some(answer)) if allowance.write(answer, packet, &fragment.parsed, self.tick) => {
                            self.stats.answer();
                            Verdict::Answer(port, reason)
                        }
                        (refused, _) => refused,
                    },
                };
                self.release(hash, &fragment, fate);
                verdict
            }
        }
    }

    fn refused(&self, reason: DropReason) -> Verdict {
        self.stats.drop(reason);
        Verdict::Drop(reason)
    }

    /// The first fragment, which decides for all of its datagram: as any packet.
    fn first(&mut self, packet: &mut Packet<'_>, parsed: &Parsed) -> Result<(PortId, Fate), Refusal> {
        let hash = self.director.table.hash(&parsed.key);
        let (slot, found, is_counted) = match self.find(parsed, hash, None) {
            Some((slot, found)) if self.goes_on(slot, parsed) => (slot, found, true),
            known => match self.begin_or_pass(packet, parsed, hash, known) {
                Ok(Begun::Connection(slot, found)) => (slot, found, self.is_counted(slot)),
                // Fragments come up by the server's address alone, so this may be any traffic of its.
                Ok(Begun::Sent(_, Fate::Passed))
                | Err(Refusal { reason: DropReason::NoService | DropReason::PassLimit, .. })
                    if self.services.is_nat_address(parsed.key.source().ip())
                        && !self.is_up(parsed.key.destination().ip(), parsed) =>
                {
                    return self.route(packet, parsed).map(|port| (port, Fate::routed(port, parsed.key)));
                }
                Ok(Begun::Sent(port, fate)) => return Ok((port, fate)),
                Err(refusal) => return Err(refusal),
            },
        };
        if is_summed_whole(slot, found.direction, parsed) {
            return Err(DropReason::Fragment.into());
        }
        let port = self.go_on(packet, parsed, (slot, found), is_counted)?;
        Ok((port, Fate::Connection(parsed.key)))
    }

    /// Sends the fragments on that have waited for the first.
    fn release(&mut self, hash: u64, first: &Fragment, fate: Fate) {
        let director = self.director;
        let mut desk = mem::take(&mut self.outbox.desk);
        while let Some((fragment, port, len)) = director.fragments.release(hash, first.datagram, &mut desk) {
            let mut packet = Packet { room: &mut desk, len, port };
            let sent = self.send_further(&mut packet, &fragment, fate).map_err(|refusal| refusal.reason);
            let frame = &*packet.frame();
            let sent = sent.and_then(|port| {
                let copy = |to: &mut [u8]| {
                    to.get_mut(..frame.len())?.copy_from_slice(frame);
                    Some(frame.len())
                };
                if self.outbox.write(port, copy) { Ok(()) } else { Err(DropReason::OutboxFull) }
            });
            if let Err(reason) = sent {
                self.stats.drop(reason);
            }
        }
        self.outbox.desk = desk;
    }

    /// A later fragment, as its datagram's first one has decided.
    fn send_further(
        &mut self,
        packet: &mut Packet<'_>,
        fragment: &Fragment,
        fate: Fate,
    ) -> Result<PortId, Refusal> {
        let of = |key: FlowKey| Parsed { key, ..fragment.parsed };
        match fate {
            Fate::Connection(key) => {
                let (parsed, table) = (&of(key), &self.director.table);
                let (slot, found) =
                    self.find(parsed, table.hash(&key), None).ok_or(DropReason::NoConnection)?;
                let (direction, id) = (found.direction, ServerId(slot.server_id()));
                match direction {
                    Direction::In => self.stats.more_in(id, fragment.len),
                    Direction::Out if self.is_counted(slot) => {
                        self.stats.more_out(id, fragment.len);
                    }
                    Direction::Out => {}
                }
                let hop = self.next_hop(slot, direction, parsed, packet, false);
                let recipe = slot.recipe(direction);
                if recipe.rewrite.changes_headers() {
                    return self.send_otherwise(packet, parsed, direction, hop, slot);
                }
                self.send_later(packet, parsed, direction, hop, recipe, slot.key(direction.opposite()))
            }
            Fate::Alone { client, recipe, reply_key, id } => {
                self.stats.more_in(id, fragment.len);
                let parsed = &of(client);
                let server = reply_key.source().ip().to_canonical();
                let hop = self.hop_to_server(server, parsed);
                if recipe.rewrite == Rewrite::Wrap {
                    let source = self.source_to(server, parsed);
                    return self.wrap(packet, parsed, hop, id, source.map(|source| (source, server)));
                }
                self.send_later(packet, parsed, Direction::In, hop, recipe, reply_key)
            }
            Fate::Routed(key) => {
                let parsed = &of(key);
                let hop = self.hop_to(key.destination().ip(), parsed);
                self.send_later(packet, parsed, Direction::Out, hop, ROUTE, key)
            }
            Fate::Passed => Ok(self.pass()?),
            Fate::Refused(reason) => Err(reason.into()),
            Fate::Open => Err(DropReason::Fragment.into()),
        }
    }

    /// As [`send`](Self::send), for a packet without a transport header.
    fn send_later(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        direction: Direction,
        way_out: Result<Hop, DropReason>,
        recipe: Recipe,
        opposite: FlowKey,
    ) -> Result<PortId, Refusal> {
        let rewrite = |frame: &mut [u8], hop: &Hop| {
            if recipe.rewrite == Rewrite::Tuple {
                edit::set_addresses(frame, parsed, &opposite.reversed());
            }
            edit::decrement_ttl(frame, parsed, recipe.l3);
            edit::set_macs(frame, hop.dst_mac, hop.src_mac);
        };
        match way_out.and_then(|hop| forward::check(parsed, &hop).map(|()| hop)) {
            Ok(hop) => {
                rewrite(packet.frame(), &hop);
                Ok(hop.port)
            }
            Err(reason) => self.send_split(packet, parsed, direction, (way_out, reason), rewrite),
        }
    }
}

/// True for SCTP whose ports change: how its CRC32c changes depends on how long the whole packet is.
fn is_summed_whole(slot: &Slot, direction: Direction, parsed: &Parsed) -> bool {
    parsed.key.protocol() == Protocol::Sctp as u8
        && matches!(slot.recipe(direction).rewrite, Rewrite::Tuple | Rewrite::Translate)
        && slot.key(direction.opposite()).ports().rotate_left(16) != parsed.key.ports()
}
