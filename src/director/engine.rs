//! One batch of frames to verdicts: the whole packet path on one screen.
//!
//! A batch runs in stages so that memory latency overlaps: all packets are parsed and their buckets asked for,
//! then all connections are found and asked for, then, in order of arrival, each packet is forwarded. No
//! lock, no allocation, no clock; a new connection takes what the file `open` says.

use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use arrayvec::ArrayVec;
use crossbeam_channel::Receiver;

use super::conn::tcp::Tables;
use super::conn::{Direction, Found, Seen, Shard, Slot, SlotId, Table};
use super::defence::Level;
use super::drop_entry::Shedder;
use super::drops::DropReason;
use super::forward::hops::{Hop, NextHops, Origin, PortId, Route};
use super::forward::recipe::{Recipe, Rewrite, Way};
use super::forward::{self};
use super::identifications::Identifications;
use super::open::Begun;
use super::outbox::Outbox;
use super::refusal::{Allowance, Refusal};
use super::server::ServerId;
use super::service::Protocol;
use super::services::{Available, Services};
use super::stats::Stats;
use super::time::Time;
use super::ways::Ways;
use super::{Director, Seat};
use crate::packet::flow::FlowKey;
use crate::packet::parse::{Parsed, Reject, TcpFlags, parse_other, parse_plain};
use crate::packet::room;

/// Frames processed at once: enough to overlap memory latency, few enough for the first-level cache.
pub const BATCH: usize = 64;

/// A frame lent to the engine for one batch.
#[derive(Debug)]
pub struct Packet<'f> {
    /// The room from the frame's first byte to the end of its chunk; the frame is the first `len` bytes.
    pub room: &'f mut [u8],
    /// Length of the frame in bytes, Ethernet header included, without FCS. At most `room.len()`.
    pub len: usize,
    /// The interface it arrived at.
    pub port: PortId,
}

impl Packet<'_> {
    /// The frame.
    #[inline]
    pub fn frame(&mut self) -> &mut [u8] {
        self.room.get_mut(..self.len).unwrap_or_default()
    }

    /// Where the frame comes from.
    pub(super) fn origin(&self, parsed: &Parsed) -> Origin {
        let mac = self.room.get(6..12).and_then(|m| m.try_into().ok()).unwrap_or_default();
        Origin { mac, port: self.port, vlan: parsed.vlan }
    }
}

/// A batch in order of arrival.
pub type Batch<'f> = ArrayVec<Packet<'f>, BATCH>;

/// What to do with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it, as it now is, from this interface; [`PASS`](super::forward::hops::PASS): give it to the kernel.
    Transmit(PortId),
    /// Recycle it; the reason has been counted.
    Drop(DropReason),
    /// Recycle it: a copy of it waits for what it belongs to, and may come out of the outbox.
    Keep,
    /// Send it from this interface: the packet was dropped for this counted reason, and the frame has become
    /// the answer to its sender.
    Answer(PortId, DropReason),
}

/// Verdicts in the order of their batch.
pub type Verdicts = ArrayVec<Verdict, BATCH>;

/// The packet path of one worker.
#[derive(Debug)]
pub struct Engine {
    pub(super) director: Arc<Director>,
    pub(super) services: Cache<Arc<ArcSwap<Services>>, Arc<Services>>,
    pub(super) mail: Receiver<SlotId>,
    pub(super) shard: Shard,
    pub(super) shedder: Shedder,
    allowance: Allowance,
    pub(super) outbox: Outbox,
    identifications: Identifications,
    ways: Ways,
    pub(super) swept: u32,
    pub(super) worker: usize,
    looked: ArrayVec<Looked, BATCH>,
}

/// What a batch is worked on with: the worker's own things and this moment's view of the world.
#[derive(Debug)]
pub(super) struct Work<'a, H> {
    pub(super) director: &'a Director,
    pub(super) stats: &'a Stats,
    pub(super) shard: &'a mut Shard,
    pub(super) services: &'a Services,
    /// Of the services; at hand, since every packet asks.
    available: &'a Available,
    /// The timeouts have just been changed.
    renews: bool,
    pub(super) outbox: &'a mut Outbox,
    pub(super) identifications: &'a mut Identifications,
    pub(super) hops: &'a H,
    pub(super) ways: &'a mut Ways,
    pub(super) tick: u32,
    /// What is done against a flood.
    pub(super) level: Level,
    /// What TCP packets make of states.
    pub(super) tables: &'static Tables,
}

/// What the first two stages found out about a packet.
#[derive(Debug)]
struct Looked {
    parsed: Result<Parsed, Reject>,
    hash: u64,
    likely: Option<Found>,
}

impl Looked {
    /// A packet whose bucket is asked for.
    #[inline(always)]
    fn new(table: &Table, parsed: Result<Parsed, Reject>) -> Self {
        let hash = parsed.as_ref().map_or(0, |p| table.hash(&p.key));
        table.prefetch_bucket(hash);
        Self { parsed, hash, likely: None }
    }

    /// As [`new`](Self::new), for what is not like nearly all packets.
    #[inline(never)]
    fn other(table: &Table, frame: &[u8]) -> Self {
        Self::new(table, parse_other(frame))
    }
}

impl Engine {
    /// The packet path of the worker with this seat.
    pub fn new(seat: Seat) -> Self {
        let Seat { director, worker, mail } = seat;
        Self {
            services: Cache::new(director.services.clone()),
            shard: Shard::new(&director.table, worker),
            mail,
            shedder: Shedder::new(&director.table, worker),
            allowance: Allowance::default(),
            outbox: Outbox::default(),
            identifications: Identifications::new(worker, &director),
            ways: Ways::default(),
            swept: 0,
            worker: worker as usize,
            looked: ArrayVec::new(),
            director,
        }
    }

    /// Processes `batch` in place; `verdicts` is cleared and gets one entry per packet.
    pub fn process<H: NextHops>(
        &mut self,
        batch: &mut Batch<'_>,
        hops: &H,
        now: Time,
        verdicts: &mut Verdicts,
    ) {
        let director = &*self.director;
        let (table, stats) = (&director.table, &director.stats[self.worker]);
        self.shard.enter(table);

        self.looked.clear();
        for packet in batch.iter_mut() {
            match parse_plain(packet.frame()) {
                Some(parsed) => self.looked.push(Looked::new(table, Ok(parsed))),
                None => self.looked.push(Looked::other(table, packet.frame())),
            }
        }

        for looked in self.looked.iter_mut().filter(|l| l.parsed.is_ok()) {
            looked.likely = table.likely(looked.hash).inspect(|f| table.prefetch_slot(f.slot));
        }

        let (services, shard, tick) = (self.services.load(), &mut self.shard, now.tick());
        let available = &*services.available;
        // Right after `ipvsadm --set` every packet counts, not only the first of a tick.
        let renews = tick.wrapping_sub(services.timeouts_since) <= 1;
        let (outbox, identifications) = (&mut self.outbox, &mut self.identifications);
        let level = director.defence.level();
        let tables = level.tcp_tables();
        let mut work = Work {
            director,
            stats,
            shard,
            services,
            available,
            renews,
            outbox,
            identifications,
            hops,
            ways: &mut self.ways,
            tick,
            level,
            tables,
        };
        verdicts.clear();
        for (packet, looked) in batch.iter_mut().zip(&self.looked) {
            let outcome = match &looked.parsed {
                Ok(parsed) => work.forward(packet, parsed, looked.hash, looked.likely),
                Err(Reject::Icmp) => work.relay(packet).map_err(Refusal::from),
                Err(Reject::Fragment) => {
                    verdicts.push(work.fragment(packet, &mut self.allowance));
                    continue;
                }
                Err(reject) => Err(DropReason::from(*reject).into()),
            };
            verdicts.push(match outcome {
                Ok(port) => Verdict::Transmit(port),
                Err(Refusal { reason, answer }) => {
                    stats.drop(reason);
                    match (answer, &looked.parsed) {
                        (Some(answer), Ok(parsed)) if self.allowance.write(answer, packet, parsed, tick) => {
                            stats.answer();
                            Verdict::Answer(packet.port, reason)
                        }
                        _ => Verdict::Drop(reason),
                    }
                }
            });
            if let Ok(Parsed { room: 1.., .. }) = looked.parsed {
                packet.len = room::close(packet.room, packet.len);
            }
        }
    }

    /// Tells the other workers that this one holds no references into the table until the next
    /// [`process`](Self::process) or [`expire`](Self::expire). Call before sleeping.
    pub fn rest(&mut self) {
        self.shard.rest(&self.director.table);
    }

    /// Frames that the last batch brought about besides its own: to be sent behind it.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Counts a frame that was to be sent and could not be.
    pub fn count_unsent(&self, reason: DropReason) {
        self.director.stats[self.worker].drop(reason);
    }
}

// The steps of an established packet are inlined, always: left to itself the compiler takes them apart once one of
// them has a second caller, which costs an established packet a nanosecond (`benches/engine.rs`).
impl<'a, H: NextHops> Work<'a, H> {
    /// One packet: its connection, found or opened; its state; its way; its recipe.
    #[inline(always)]
    fn forward(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        hash: u64,
        likely: Option<Found>,
    ) -> Result<PortId, Refusal> {
        let (slot, found, is_counted) = match self.find(parsed, hash, likely) {
            Some((slot, found)) if self.goes_on(slot, parsed) => (slot, found, true),
            known => match self.begin_or_pass(packet, parsed, hash, known)? {
                Begun::Connection(slot, found) => (slot, found, self.is_counted(slot)),
                Begun::Sent(port, _) => return Ok(port),
            },
        };
        self.go_on(packet, parsed, (slot, found), is_counted)
    }

    /// One packet in its connection, counted as its server's or not.
    #[inline(always)]
    pub(super) fn go_on(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        (slot, found): (&'a Slot, Found),
        is_counted: bool,
    ) -> Result<PortId, Refusal> {
        let direction = found.direction;
        let seen = self.note(slot, found, parsed, packet, is_counted);
        let hop = self.next_hop(slot, direction, parsed, packet, seen == Seen::NewTick);
        if seen != Seen::Again {
            self.offer(slot, found.slot);
        }
        let (recipe, aside) = slot.recipe_and_aside(direction);
        if aside != 0 {
            return self.assist(packet, parsed, (slot, found), hop);
        }
        if recipe.rewrite.changes_headers() {
            if recipe.rewrite == Rewrite::Wrap
                && let Some(port) = self.send_wrapped_plain(packet, parsed, &hop, slot)
            {
                return Ok(port);
            }
            return self.send_otherwise(packet, parsed, direction, hop, slot);
        }
        let opposite = || slot.key(direction.opposite());
        self.send(packet, parsed, direction, hop, recipe, opposite)
    }

    /// True for a packet that just goes on in its connection: one that is no SYN (nor SCTP's INIT), while the server is
    /// there and not down.
    #[inline(always)]
    pub(super) fn goes_on(&self, slot: &Slot, parsed: &Parsed) -> bool {
        !parsed.flags.has(TcpFlags::SYN) && self.available.has(ServerId(slot.server_id()))
    }

    /// Readdresses a packet to its next hop, or says what its sender is told.
    #[inline(always)]
    pub(super) fn send(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        direction: Direction,
        way_out: Result<Hop, DropReason>,
        recipe: Recipe,
        opposite: impl FnOnce() -> FlowKey,
    ) -> Result<PortId, Refusal> {
        match way_out.and_then(|hop| forward::check(parsed, &hop).map(|()| hop)) {
            Ok(hop) => {
                forward::apply(packet.frame(), parsed, recipe, opposite, &hop);
                Ok(hop.port)
            }
            // By value: what is borrowed here would have to be in memory on every packet's way.
            Err(reason) => {
                self.send_split(packet, parsed, direction, (way_out, reason), move |frame, hop| {
                    forward::apply(frame, parsed, recipe, opposite, hop);
                })
            }
        }
    }

    /// The packet's connection, if it has one.
    #[inline(always)]
    pub(super) fn find(
        &self,
        parsed: &Parsed,
        hash: u64,
        likely: Option<Found>,
    ) -> Option<(&'a Slot, Found)> {
        let table = &self.director.table;
        if let Some(found) = likely {
            let slot = table.slot(found.slot);
            if slot.matches(found.direction, &parsed.key) && !slot.status().removed {
                return Some((slot, found));
            }
        }
        // Nothing, another flow, or one that is gone: an earlier packet of this batch may have changed that.
        let found = table.find(hash, &parsed.key)?;
        let slot = table.slot(found.slot);
        (!slot.status().removed).then_some((slot, found))
    }

    /// Counts the packet and steps the connection's state.
    #[inline(always)]
    fn note(
        &mut self,
        slot: &Slot,
        found: Found,
        parsed: &Parsed,
        packet: &Packet<'_>,
        is_counted: bool,
    ) -> Seen {
        let id = ServerId(slot.server_id());
        match found.direction {
            Direction::In => self.stats.packet_in(id, parsed.ip_len),
            Direction::Out if is_counted => self.stats.packet_out(id, parsed.ip_len),
            // A removed server's replies are forwarded; the kernel does not count them.
            Direction::Out => {}
        }
        let seen = slot.seen(found.direction, self.tick);
        let new_tick = seen == Seen::NewTick;
        if parsed.key.protocol() == Protocol::Tcp as u8 {
            let old = slot.status();
            if !old.stays_established(found.direction, parsed.flags)
                && old.after_tcp(self.tables, found.direction, parsed.flags) != old
            {
                self.step(slot, found, parsed, packet);
            }
        } else if parsed.key.protocol() == Protocol::Sctp as u8 {
            self.step(slot, found, parsed, packet);
        } else if found.direction == Direction::Out
            && let Some(template) = slot.template()
        {
            self.director.table.slot(template).assure();
        }
        // Right after `ipvsadm --set` what only acknowledges is still about what was before.
        let only_acknowledges = parsed.flags.0 == TcpFlags::ACK;
        if (new_tick && !self.renews) || (self.renews && !only_acknowledges) {
            self.renew(slot, found.slot);
        }
        seen
    }

    /// Where the packet goes, looked up again if the routes have changed since it was last.
    #[inline(always)]
    pub(super) fn next_hop(
        &mut self,
        slot: &Slot,
        direction: Direction,
        parsed: &Parsed,
        packet: &Packet<'_>,
        new_tick: bool,
    ) -> Result<Hop, DropReason> {
        let mut way = slot.way(direction);
        if way.generation != self.hops.generation() || (new_tick && !matches!(way.route, Route::Via(_))) {
            way = self.find_way(slot, direction, parsed);
        }
        if new_tick && direction == Direction::In {
            slot.learn(packet.origin(parsed));
        }
        let hop = match way.route {
            Route::Via(id) => self.hops.hop(id),
            Route::Unknown => None,
            Route::Unreachable => return Err(DropReason::NoRoute),
            Route::Local => return self.way_up(),
        };
        match (hop, direction) {
            (Some(hop), _) => Ok(hop),
            (None, Direction::In) => Err(DropReason::Unresolved),
            // A client the kernel knows no neighbour for: back where its own packets come from.
            (None, Direction::Out) => {
                // The client's packets have to tell it.
                self.director.offload.withdraw(slot);
                self.hops.back_to(slot.learned()).ok_or(DropReason::Unresolved)
            }
        }
    }

    /// Looks up where a connection's packets go by the routes of this moment, and notes it.
    #[cold]
    #[inline(never)]
    fn find_way(&mut self, slot: &Slot, direction: Direction, parsed: &Parsed) -> Way {
        let way = match direction {
            // The key of the server's packets starts at the server, whether they come through here or not.
            Direction::In => self.way_to(slot.server_ip(), parsed),
            Direction::Out => self.way(slot.key(Direction::In).source().ip(), parsed),
        };
        if slot.recipe(direction).rewrite == Rewrite::Wrap {
            // Before the way, by which others see that it need not be asked for.
            slot.set_outer_source(self.source_to(slot.server_ip(), parsed));
        }
        slot.set_way(direction, way);
        way
    }

    /// The way to `destination` by the routes of this moment.
    #[cold]
    pub(super) fn way(&self, destination: std::net::IpAddr, parsed: &Parsed) -> Way {
        Way { route: self.hops.route(destination, flow_hash(parsed)), generation: self.hops.generation() }
    }
}

/// Chooses among equal routes: the same for all packets of a flow.
pub(super) fn flow_hash(parsed: &Parsed) -> u32 {
    hash_of_ports(parsed.key.ports())
}

/// As [`flow_hash`], by the ports that a key has.
pub(super) const fn hash_of_ports(ports: u32) -> u32 {
    ports ^ ports.rotate_left(16)
}
