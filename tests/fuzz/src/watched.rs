//! The director under test, with what must be true after every step.

use std::collections::{HashMap, HashSet};

use xvs::director::conn::state::Timeouts;
use xvs::director::conn::{Direction, Found};
use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::forward::hops::{HopId, Route};
use xvs::director::forward::recipe::Rewrite;
use xvs::director::server::ServerId;
use xvs::director::service::Pool;
use xvs::director::stats::Traffic;
use xvs::director::time::Time;
use xvs::packet::checksum;
use xvs::packet::flow::FlowKey;
use xvs::packet::parse::{Reject, parse};

use super::drive::Driven;
use super::table::{Table, read_answer};
use super::wire::{check_relayed, check_sent};

/// Connections there is room for: few, so that scripts fill the table.
pub const CAPACITY: u32 = 64;
const WORKERS: usize = 2;

/// Empty ticks that a worker passes in one call, at least.
const TICKS_A_CALL: u64 = 4096;

/// Reasons found when the packet has been counted for its server already.
const LATE: [DropReason; 6] = [
    DropReason::OutboxFull,
    DropReason::TtlExpired,
    DropReason::TooBig,
    DropReason::Vlan,
    DropReason::NoRoute,
    DropReason::Unresolved,
];

pub struct Watched {
    table: Table,
    services: Vec<Pool>,
    drops: HashMap<DropReason, u64>,
    /// Packets that were counted for a server.
    counted: u64,
    /// When each worker looked at its timers last.
    looked: [Time; WORKERS],
    seen: HashSet<FlowKey>,
    /// Reply keys that more than one connection had at a time.
    shared: HashSet<FlowKey>,
    /// There have been fragments; those that wait are dropped, and counted, later.
    fragments: bool,
}

/// Where its bytes are in its datagram and whether others follow, for a fragment whose IP header is right.
fn part(frame: &[u8]) -> Option<(usize, bool)> {
    let l3 = if matches!(frame[12..14], [0x81, 0] | [0x88, 0xa8]) { 18 } else { 14 };
    if frame[l3] >> 4 == 6 {
        let (mut next, mut at) = (frame[l3 + 6], l3 + 40);
        for _ in 0..8 {
            let len = match next {
                0 | 43 | 60 => 8 + 8 * usize::from(frame[at + 1]),
                51 => 8 + 4 * usize::from(frame[at + 1]),
                44 if (frame[at + 2], frame[at + 3] & 0xf9) == (0, 0) => 8,
                44 => {
                    let field = u16::from_be_bytes([frame[at + 2], frame[at + 3]]);
                    return Some((usize::from(field & 0xfff8), field & 1 != 0));
                }
                _ => return None,
            };
            (next, at) = (frame[at], at + len);
        }
        return None;
    }
    let header = &frame[l3..l3 + usize::from(frame[l3] & 15) * 4];
    let field = u16::from_be_bytes([header[6], header[7]]);
    (checksum::of(header) == 0 && field & 0x3fff != 0)
        .then_some((usize::from(field & 0x1fff) * 8, field & 0x2000 != 0))
}

fn is_fragment(frame: &[u8]) -> bool {
    part(frame).is_some()
}

impl Watched {
    pub fn new(services: Vec<Pool>) -> Self {
        let table = Table::sized(&services, CAPACITY, WORKERS);
        let mut watched = Self {
            table,
            services,
            drops: HashMap::new(),
            counted: 0,
            looked: [Time(0); WORKERS],
            seen: HashSet::new(),
            shared: HashSet::new(),
            fragments: false,
        };
        (0..WORKERS).for_each(|worker| watched.look(worker));
        watched
    }

    /// A fragment: forwarded, kept or dropped, and its header right.
    fn fragment(&mut self, before: &[u8], verdict: &Verdict, after: &[u8], port: u16) {
        // The packet is counted with its first fragment.
        let is_first = part(before).is_some_and(|(at, _)| at == 0);
        match verdict {
            Verdict::Transmit(port) => {
                assert!(*port < 2 && is_fragment(after));
                assert!(before.len() + 4 >= after.len(), "not longer than by a tag");
                self.counted += u64::from(is_first);
            }
            Verdict::Keep => assert_eq!(before, after, "left alone"),
            Verdict::Drop(reason) | Verdict::Answer(_, reason) => {
                if let Verdict::Answer(back, _) = verdict {
                    assert!(*back == port && is_first);
                    read_answer(after);
                } else {
                    assert_eq!(before, after, "a dropped frame is unchanged");
                }
                *self.drops.entry(*reason).or_default() += 1;
                self.counted += u64::from(is_first && LATE.contains(reason));
            }
        }
        self.fragments = true;
    }

    fn look(&mut self, worker: usize) {
        let now = self.table.now;
        let ticks = (now.0 - self.looked[worker].0) / Time::TICK_MS;
        for _ in 0..=ticks / TICKS_A_CALL {
            while self.table.engines[worker].expire(now) {}
        }
        self.looked[worker] = now;
    }

    /// When each connection ends if nothing comes, and in whose hands that is, by the client's key.
    fn deadlines(&self) -> HashMap<FlowKey, (usize, u32)> {
        let timeouts = Timeouts::default();
        let mut all = HashMap::new();
        self.table.director.table.list(|slot| {
            let key = slot.key(Direction::In);
            // A packet may come at the end of its tick: the time-out after it begins with the next one.
            let timeout = Time::from_secs(timeouts.of(key.protocol(), slot.status().state).into());
            let deadline = slot.last_seen(self.table.now.tick()) + timeout.tick() + 1;
            let twice = all.insert(key, (slot.owner() as usize, deadline));
            assert!(twice.is_none(), "two connections of {key:?}");
        });
        all
    }

    /// What must be true at any time.
    fn check(&mut self) {
        let director = &self.table.director;
        let drops: HashMap<_, _> = director.drops().into_iter().collect();
        let at_least = self.drops.iter().all(|(reason, n)| drops.get(reason) >= Some(n));
        assert!(at_least, "every drop is counted, by its reason: {drops:?}, not {:?}", self.drops);
        assert!(self.fragments || drops == self.drops, "and nothing else: {drops:?}, not {:?}", self.drops);

        let servers = self.services.iter().map(|s| s.servers.len()).sum();
        let mut counts = vec![(0, 0); servers];
        let mut live = 0;
        let mut with_reply_key: HashMap<FlowKey, Vec<bool>> = HashMap::new();
        director.table.list(|slot| {
            let (active, inactive) = &mut counts[slot.server_id() as usize];
            *(if slot.status().inactive { inactive } else { active }) += 1;
            live += 1;
            let replies = slot.recipe(Direction::In).rewrite == Rewrite::Tuple;
            let found_here = |direction| {
                let key = slot.key(direction);
                let found = director.table.find(director.table.hash(&key), &key);
                let is_this = |f: Found| std::ptr::eq(director.table.slot(f.slot), slot);
                found.is_some_and(|f| f.direction == direction && is_this(f))
            };
            assert!(found_here(Direction::In), "{:?}", slot.key(Direction::In));
            let key = slot.key(Direction::Out);
            if replies {
                with_reply_key.entry(key).or_default().push(found_here(Direction::Out));
            } else {
                assert!(!found_here(Direction::Out), "{key:?}");
            }
        });
        assert_eq!(director.table.len(), live);
        // Of connections that share a reply key the newest has it; if that one is gone, none.
        for (key, found) in with_reply_key {
            if found.len() > 1 {
                self.shared.insert(key);
            }
            let having = found.iter().filter(|here| **here).count();
            assert!(having == 1 || (having == 0 && self.shared.contains(&key)), "{having} have {key:?}");
        }
        assert!(live <= u64::from(CAPACITY));
        let mut traffic = Traffic::default();
        for (id, counts) in (0..).zip(counts) {
            assert_eq!(self.table.counts(id), counts, "active and inactive connections of server {id}");
            traffic = traffic + director.traffic(ServerId(id));
        }
        let Traffic { connections, in_packets, out_packets, .. } = traffic;
        let strays = director.stats.iter().map(|s| s.strays()).sum::<u64>();
        let all = in_packets + out_packets + strays;
        assert_eq!(all, self.counted, "every packet of a connection, or routed on, is counted");
        assert!(connections >= live);
    }
}

impl Driven for Watched {
    /// One batch, and all that must be true of its frames.
    fn send(&mut self, worker: usize, port: u16, frames: &[Vec<u8>]) {
        let verdicts = self.table.batch(worker, frames, port);
        assert_eq!(verdicts.len(), frames.len(), "a verdict for each frame, and each frame back");
        for (before, (verdict, after)) in frames.iter().zip(&verdicts) {
            let parsed = parse(before);
            if let Err(Reject::Fragment) = parsed {
                self.fragment(before, verdict, after, port);
                continue;
            }
            if let Ok(parsed) = &parsed {
                self.seen.insert(parsed.key);
            }
            match verdict {
                Verdict::Keep => panic!("only fragments are kept"),
                // In pieces: the engine's own tests put them together.
                Verdict::Transmit(_) if after.len() < before.len() && is_fragment(after) => {
                    assert!(parsed.is_ok_and(|parsed| parsed.key.is_v4()), "nobody splits IPv6");
                    assert!(before.len() > usize::from(self.table.hops.mtu));
                    self.counted += 1;
                }
                Verdict::Transmit(port) => {
                    assert!(*port < 2);
                    let tag = |frame: &[u8]| if frame[12..14] == [0x81, 0] { 4 } else { 0 };
                    assert_eq!(before.len() - tag(before), after.len() - tag(after), "length");
                    match parsed {
                        Err(reject) => {
                            assert_eq!(reject, Reject::Icmp, "of what is no packet only errors are relayed");
                            check_relayed(after);
                        }
                        Ok(_) => check_sent((before, after), *port, &self.services, &self.table.hops),
                    }
                    self.counted += 1;
                }
                Verdict::Drop(reason) | Verdict::Answer(_, reason) => {
                    if let Verdict::Answer(back, _) = verdict {
                        assert!(*back == port && parsed.is_ok());
                        read_answer(after);
                    } else {
                        assert_eq!(before, after, "a dropped frame is unchanged");
                    }
                    if let Err(reject) = parsed
                        && reject != Reject::Icmp
                    {
                        assert_eq!(*reason, reject.into(), "the parser's reason");
                    }
                    *self.drops.entry(*reason).or_default() += 1;
                    self.counted += u64::from(LATE.contains(reason));
                }
            }
        }
        for (port, frame) in std::mem::take(&mut self.table.made) {
            assert!(port < 2 && is_fragment(&frame), "only fragments are made");
        }
        self.check();
    }

    /// Lets `ticks` pass at once and the workers look at their timers, the second one unless it is `asleep`.
    fn wait(&mut self, ticks: u64, asleep: bool) {
        self.table.now.0 += ticks * Time::TICK_MS;
        let tick = self.table.now.tick();
        let awake = if asleep { 0..1 } else { 0..WORKERS };
        if asleep {
            self.table.engines[1].rest();
        }
        let mut stay = self.deadlines();
        stay.retain(|_, (owner, deadline)| *deadline > tick || !awake.contains(owner));
        awake.for_each(|worker| self.look(worker));
        assert_eq!(self.deadlines(), stay, "gone are those whose time was up, and no others");
        self.check();
    }

    fn rest(&mut self, worker: usize) {
        self.table.engines[worker].rest();
    }

    /// Routes and neighbours change.
    fn change(&mut self, how: u8) {
        let hops = &mut self.table.hops;
        match how & 7 {
            0..=2 => {
                hops.client_route =
                    [Route::Via(HopId(0)), Route::Unknown, Route::Unreachable][usize::from(how & 7)];
                hops.generation = hops.generation.wrapping_add(1);
            }
            3 => drop(hops.macs.remove(&11)),
            4 => drop(hops.macs.insert(11, [2, 9, 9, 9, 9, 9])),
            5 => hops.mtu = if hops.mtu == 1500 { 60 } else { 1500 },
            6 => {
                hops.vlans = match hops.vlans {
                    [None, None] => [Some(7); 2],
                    [Some(7), Some(7)] => [Some(7), Some(8)],
                    [Some(_), Some(_)] => [Some(7), None],
                    [Some(_), None] => [None, Some(8)],
                    [None, Some(_)] => [None; 2],
                }
            }
            _ => hops.client_route = Route::Via(HopId(0)), // unannounced
        }
    }

    /// Lets 1000 s pass, after which nothing is left.
    fn end(mut self) {
        for _ in 0..40 {
            self.wait(25 * 1000 / Time::TICK_MS, false);
        }
        let table = &self.table.director.table;
        assert!(table.is_empty(), "{} connections never end", table.len());
        for key in &self.seen {
            assert_eq!(table.find(table.hash(key), key), None, "still indexed: {key:?}");
        }
    }
}
