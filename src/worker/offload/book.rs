//! What is carried, place by place: which connection, what of it was counted already, and when it can be forgotten.
//!
//! A place is free again [`REST_NS`] after its flow has ended, so that no packet that was in the program at that moment is
//! missed or counted for another connection. Nobody waits for that: the flow itself ends at once.

use super::{paces, tally};
use crate::director::Director;
use crate::director::conn::{Direction, SlotId};
use crate::director::offload::{Flow, Leaves, Offer};
use crate::director::server::ServerId;
use crate::net::Snapshot;
use crate::packet::encap::{Outer, Tunnel};
use crate::packet::flow::FlowKey;
use crate::xdp::steer::offload::{
    Edit, FlowKey as ProgramKey, Flows, Leaves as Edited, Place, Tallies, Tunnel as Kind, Tuple, Wrap,
};

/// How long a place rests after its flow has ended.
const REST_NS: u64 = 100_000_000;
/// A connection without packets for so long makes room for others; its next packet comes up.
const IDLE_NS: u64 = 10_000_000_000;

/// A connection that is carried, or was until a moment ago.
#[derive(Debug)]
struct Entry {
    slot: SlotId,
    serial: u32,
    server: ServerId,
    begun_ns: u64,
    ended_ns: Option<u64>,
    keys: [Option<ProgramKey>; 2],
    /// The interfaces by which its packets leave, by their port ids. A change of routes ends the flow.
    ports: [Option<u16>; 2],
    /// Packets and bytes that are the server's already.
    counted: [(u64, u64); 2],
    /// Packets at the last look at how busy it is, if there was one.
    looked_at: Option<u64>,
}

/// What there is to carry, and what was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Connections that there are places for.
    pub places: u64,
    /// Connections that have one.
    pub carried: u64,
    /// Offers that there was no place for. A connection is offered again at its next tick with a packet.
    pub refused: u64,
    /// Connections that gave way to others.
    pub gave_way: u64,
    /// Packets and bytes that left, by the port id of the interface.
    pub left: Vec<(u64, u64)>,
}

/// See the file.
#[derive(Debug)]
pub(super) struct Book {
    flows: Flows,
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    most: usize,
    /// Offers since room was made last that there was no place for.
    refused: usize,
    figures: Figures,
    has_complained: bool,
}

/// When the last packet was carried at `place`, if any was.
pub(super) fn seen_ns(tallies: &Tallies, place: u32) -> Option<u64> {
    let seen = |direction| tallies.get(tally(place, direction)).and_then(|tally| tally.seen_ns());
    seen(Direction::In).max(seen(Direction::Out))
}

impl Book {
    /// Empty, with half as many places as there are tallies, for flows that leave by so many interfaces.
    pub(super) fn new(flows: Flows, tallies: usize, exits: usize) -> Self {
        let most = tallies / 2;
        let places = u64::try_from(most).unwrap_or(u64::MAX);
        let figures = Figures { places, left: vec![(0, 0); exits], ..Figures::default() };
        Self {
            flows,
            entries: Vec::new(),
            free: Vec::new(),
            most,
            refused: 0,
            figures,
            has_complained: false,
        }
    }

    /// See [`Figures`].
    pub(super) fn figures(&self) -> Figures {
        let is_carried = |entry: &&Option<Entry>| entry.as_ref().is_some_and(|e| e.ended_ns.is_none());
        let carried = self.entries.iter().filter(is_carried).count();
        Figures { carried: u64::try_from(carried).unwrap_or(u64::MAX), ..self.figures.clone() }
    }

    /// Has a connection carried, if there is room and it is still offered.
    pub(super) fn take(
        &mut self,
        offer: &Offer,
        director: &Director,
        tallies: &Tallies,
        network: Option<&Snapshot>,
        now_ns: u64,
    ) {
        let carried = director.table.slot(offer.slot).carried();
        let Some(place) = self.place() else {
            self.count_refused(1);
            carried.give_back(offer.serial, None);
            return;
        };
        let flows = [Some(offer.inward), offer.outward];
        for (direction, flow) in [Direction::In, Direction::Out].into_iter().zip(flows) {
            if let Some(tally) = tallies.get(tally(place, direction)) {
                // No flow has the number 0.
                tally.begin(flow.map_or(0, |_| offer.serial), offer.services, offer.routes);
            }
        }
        let mut entry = Entry {
            slot: offer.slot,
            serial: offer.serial,
            server: offer.server,
            begun_ns: now_ns,
            ended_ns: None,
            keys: [None; 2],
            ports: flows.map(|flow| network?.hops().get(flow?.hop.0 as usize)?.as_ref().map(|hop| hop.port)),
            counted: [(0, 0); 2],
            looked_at: None,
        };
        // From here on whoever withdraws it ends the tallies.
        if !carried.take(offer.serial, place) {
            end(tallies, place);
            self.free.push(place);
            return;
        }
        for (number, flow) in flows.into_iter().enumerate() {
            let Some(flow) = flow else { continue };
            let (key, edit) = flow_of(&flow);
            let tally = 2 * place + u32::try_from(number).unwrap_or_default();
            entry.keys[number] = Some(key);
            if let Err(error) = self.flows.set(&key, &edit, Place { tally, serial: offer.serial }) {
                self.complain(&error);
                if carried.give_back(offer.serial, Some(place)) {
                    end(tallies, place);
                }
                break;
            }
        }
        self.entries[place as usize] = Some(entry);
    }

    /// Offers that there was no place for.
    pub(super) fn count_refused(&mut self, offers: usize) {
        self.refused += offers;
        self.figures.refused += offers as u64;
    }

    /// True while there is no place for another connection.
    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty() && self.entries.len() >= self.most
    }

    fn place(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| {
            let place = u32::try_from(self.entries.len()).ok().filter(|_| self.entries.len() < self.most)?;
            self.entries.push(None);
            Some(place)
        })
    }

    /// Once is enough: the connections merely come up.
    fn complain(&mut self, error: &dyn std::error::Error) {
        if !std::mem::replace(&mut self.has_complained, true) {
            tracing::warn!("some connections are not offloaded: {error}");
        }
    }

    /// Counts what was carried since the last time, notes when it was, ends what is idle, and forgets what has ended.
    pub(super) fn settle(&mut self, director: &Director, tallies: &Tallies, now_ns: u64) {
        for place in 0..u32::try_from(self.entries.len()).unwrap_or(u32::MAX) {
            let Some(entry) = &mut self.entries[place as usize] else { continue };
            for (port, (packets, bytes)) in entry.ports.into_iter().zip(entry.count(director, tallies, place))
            {
                if let Some(left) = port.and_then(|port| self.figures.left.get_mut(usize::from(port))) {
                    *left = (left.0 + packets, left.1 + bytes);
                }
            }
            let slot = director.table.slot(entry.slot);
            let seen_ns = seen_ns(tallies, place);
            if slot.carried().is(entry.serial, place) {
                director.offload().catch_up(slot);
            }
            let is_idle = now_ns.saturating_sub(seen_ns.unwrap_or(entry.begun_ns)) > IDLE_NS;
            if is_idle && slot.carried().give_back(entry.serial, Some(place)) {
                end(tallies, place);
                director.offload().came_back(slot, place);
            }
            let serial = tallies.get(tally(place, Direction::In)).map_or(0, |tally| tally.serial());
            if serial == entry.serial {
                continue;
            }
            let ended_ns = *entry.ended_ns.get_or_insert(now_ns);
            if now_ns.saturating_sub(ended_ns) >= REST_NS {
                self.forget(place);
            }
        }
    }

    /// Has slow connections give way if there was no place for others; they merely come up. After settling, once a second.
    pub(super) fn make_room(&mut self, director: &Director, tallies: &Tallies) {
        let refused = std::mem::take(&mut self.refused);
        let mut paces = Vec::new();
        for (place, entry) in (0..).zip(&mut self.entries) {
            let Some(entry) = entry.as_mut().filter(|entry| entry.ended_ns.is_none()) else { continue };
            let packets = entry.counted[0].0.wrapping_add(entry.counted[1].0);
            if let Some(before) = entry.looked_at.replace(packets)
                && refused > 0
            {
                paces.push((packets.wrapping_sub(before), place));
            }
        }
        for place in paces::slowest(paces, refused.min(paces::tried(self.most))) {
            if let Some(entry) = &self.entries[place as usize]
                && director.table.slot(entry.slot).carried().give_back(entry.serial, Some(place))
            {
                end(tallies, place);
                director.offload().came_back(director.table.slot(entry.slot), place);
                self.figures.gave_way += 1;
            }
        }
    }

    /// Forgets what has ended and was counted to the last packet.
    fn forget(&mut self, place: u32) {
        let Some(entry) = self.entries[place as usize].take() else { return };
        for (number, key) in (0..).zip(entry.keys) {
            let Some(key) = key else { continue };
            if let Err(error) =
                self.flows.remove(&key, Place { tally: 2 * place + number, serial: entry.serial })
            {
                self.complain(&error);
            }
        }
        self.free.push(place);
    }
}

fn end(tallies: &Tallies, place: u32) {
    for direction in [Direction::In, Direction::Out] {
        if let Some(tally) = tallies.get(tally(place, direction)) {
            tally.end();
        }
    }
}

impl Entry {
    /// Counts for the server what is new, and gives it back: in and out.
    fn count(&mut self, director: &Director, tallies: &Tallies, place: u32) -> [(u64, u64); 2] {
        let stats = director.carried_stats();
        let mut new = [(0, 0); 2];
        for ((direction, counted), new) in
            [Direction::In, Direction::Out].into_iter().zip(&mut self.counted).zip(&mut new)
        {
            let Some(tally) = tallies.get(tally(place, direction)) else { continue };
            let now = tally.counted();
            let (packets, bytes) = (now.0.wrapping_sub(counted.0), now.1.wrapping_sub(counted.1));
            *counted = now;
            *new = (packets, bytes);
            if packets == 0 && bytes == 0 {
                continue;
            }
            match direction {
                Direction::In => stats.packets_in(self.server, packets, bytes),
                Direction::Out => stats.packets_out(self.server, packets, bytes),
            }
        }
        new
    }
}

/// A flow as the program is told it.
pub fn flow_of(flow: &Flow) -> (ProgramKey, Edit) {
    let key = ProgramKey { protocol: flow.key.protocol(), tuple: tuple(&flow.key) };
    let leaves = match &flow.leaves {
        Leaves::AsItCame => Edited::AsItCame,
        Leaves::With(key) => Edited::With(tuple(key)),
        Leaves::In(outer) => wrapped(outer),
    };
    let edit = Edit { leaves, l3: flow.recipe.l3.0, l4: flow.recipe.l4.0, hop: flow.hop.0 };
    (key, edit)
}

fn wrapped(outer: &Outer) -> Edited {
    let (tunnel, destination_port) = match outer.tunnel {
        Tunnel::Ipip => (Kind::Ipip, 0),
        Tunnel::Gre { .. } => (Kind::Gre, 0),
        Tunnel::Gue { port, .. } => (Kind::Gue, port),
    };
    let Outer { source, destination, .. } = *outer;
    let tuple = Tuple { source, destination, source_port: outer.source_port(), destination_port };
    Edited::In(Wrap { tunnel, copies_df: outer.copies_df }, tuple)
}

fn tuple(key: &FlowKey) -> Tuple {
    let (from, to) = (key.source(), key.destination());
    Tuple { source: from.ip(), destination: to.ip(), source_port: from.port(), destination_port: to.port() }
}
