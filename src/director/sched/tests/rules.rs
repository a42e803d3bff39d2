//! The rules in slow and plain words: what the histories of `oracles` compare each scheduler with.

use std::collections::HashMap;
use std::net::IpAddr;

use super::*;

/// The rule, told the same history. Servers go by name everywhere.
pub(super) trait Rule {
    fn changed(&mut self, _change: Change, _before: &[Destination], _after: &[Destination]) {}
    fn pick(&mut self, pool: &Pool, flow: &FlowKey, tick: u32) -> Option<u32>;
}

fn usable(pool: &Pool, d: &Destination) -> bool {
    d.weight > 0 && !pool.counts.overloaded(d.id)
}

/// The first usable server than which no other usable one is better.
fn best(
    pool: &Pool,
    list: &[Destination],
    better: impl Fn(&Destination, &Destination) -> bool,
) -> Option<u32> {
    let usable: Vec<_> = list.iter().filter(|d| usable(pool, d)).collect();
    usable.iter().find(|d| !usable.iter().any(|other| better(other, d))).map(|d| d.id.0)
}

/// Less of one number for the weight.
fn lighter(number: impl Fn(&Destination) -> u32) -> impl Fn(&Destination, &Destination) -> bool {
    let share = move |d: &Destination, other: &Destination| u128::from(number(d)) * u128::from(other.weight);
    move |a, b| share(a, b) < share(b, a)
}

fn wlc(pool: &Pool, list: &[Destination]) -> Option<u32> {
    best(pool, list, lighter(|d| pool.counts.active(d.id) * 257 + pool.counts.inactive(d.id)))
}

/// A rule without a memory.
struct Plain(fn(&Pool, &FlowKey) -> Option<u32>);

impl Rule for Plain {
    fn pick(&mut self, pool: &Pool, flow: &FlowKey, _: u32) -> Option<u32> {
        (self.0)(pool, flow)
    }
}

fn lc(pool: &Pool, _: &FlowKey) -> Option<u32> {
    let overhead = |d: &Destination| pool.counts.active(d.id) * 257 + pool.counts.inactive(d.id);
    best(pool, &pool.list, |a, b| overhead(a) < overhead(b))
}

fn sed(pool: &Pool, _: &FlowKey) -> Option<u32> {
    best(pool, &pool.list, lighter(|d| pool.counts.active(d.id) + 1))
}

fn nq(pool: &Pool, flow: &FlowKey) -> Option<u32> {
    for server in &pool.list {
        if usable(pool, server) && pool.counts.active(server.id) == 0 {
            return Some(server.id.0);
        }
    }
    sed(pool, flow)
}

fn fo(pool: &Pool, _: &FlowKey) -> Option<u32> {
    best(pool, &pool.list, |a, b| a.weight > b.weight)
}

fn ovf(pool: &Pool, _: &FlowKey) -> Option<u32> {
    let room: Vec<_> = pool.list.iter().filter(|d| pool.counts.active(d.id) <= d.weight).copied().collect();
    best(pool, &room, |a, b| a.weight > b.weight)
}

/// The draws are the scheduler's own; each falls on a server that stands for its weight in numbers from 1, 0 on the first.
fn twos(pool: &Pool, _: &FlowKey) -> Option<u32> {
    let Scheduler::Twos(scheduler) = &pool.scheduler else { panic!("the rule of another scheduler") };
    let usable = pool.list.iter().filter(|d| usable(pool, d));
    let numbers: Vec<_> = usable.flat_map(|d| std::iter::repeat_n(d, d.weight as usize)).collect();
    let draws = scheduler.next_draws(numbers.len() as u64);
    let [one, other] = draws.map(|number| numbers.get(usize::try_from(number.saturating_sub(1)).unwrap()));
    let better = lighter(|d| pool.counts.active(d.id) * 257 + pool.counts.inactive(d.id));
    Some(if better(other?, one?) { other?.id.0 } else { one?.id.0 })
}

/// The walk goes server by server: `None` is before the first.
#[derive(Default)]
struct Rr {
    at: Option<u32>,
}

/// Indices from the one after `at` around to `at` itself.
fn around(list: &[Destination], at: Option<u32>) -> Vec<usize> {
    let start = at.and_then(|id| list.iter().position(|d| d.id.0 == id)).map_or(0, |i| i + 1);
    (start..list.len()).chain(0..start).collect()
}

impl Rule for Rr {
    fn changed(&mut self, change: Change, before: &[Destination], _: &[Destination]) {
        if let Change::Removed(index) = change
            && self.at == Some(before[index].id.0)
        {
            self.at = index.checked_sub(1).map(|i| before[i].id.0);
        }
    }

    fn pick(&mut self, pool: &Pool, _: &FlowKey, _: u32) -> Option<u32> {
        let order = around(&pool.list, self.at);
        let found = order.into_iter().map(|i| &pool.list[i]).find(|d| usable(pool, d))?;
        self.at = Some(found.id.0);
        self.at
    }
}

/// Level by level, server by server.
#[derive(Default)]
struct Wrr {
    at: usize,
    level: i64,
    top: i64,
    step: i64,
}

impl Rule for Wrr {
    fn changed(&mut self, change: Change, _: &[Destination], after: &[Destination]) {
        if let Change::Flags(_) = change {
            return;
        }
        let weights: Vec<i64> = after.iter().map(|d| d.weight.into()).filter(|&w| w > 0).collect();
        let most = weights.iter().copied().max().unwrap_or(0);
        self.step = (1..=most).rev().find(|step| weights.iter().all(|w| w % step == 0)).unwrap_or(1);
        self.top = most - (self.step - 1);
        self.at = 0;
        if self.level > self.top || self.level == 0 {
            self.level = self.top;
        } else if self.step > 1 {
            self.level = self.level / self.step * self.step + 1;
        }
    }

    fn pick(&mut self, pool: &Pool, _: &FlowKey, _: u32) -> Option<u32> {
        if self.top == 0 {
            return None;
        }
        let (start, mut whole, mut wrapped) = (self.at, self.at == 0, false);
        loop {
            self.at += 1;
            let Some(server) = pool.list.get(self.at - 1) else {
                // The end of the list: a level lower, from the head.
                self.at = 0;
                let lowest = self.level <= self.step;
                self.level -= self.step;
                if lowest {
                    self.level = self.top;
                    wrapped = true;
                    if whole {
                        return None;
                    }
                }
                whole = !wrapped;
                continue;
            };
            if usable(pool, server) && i64::from(server.weight) >= self.level {
                return Some(server.id.0);
            }
            if wrapped && self.level <= self.step && self.at == start {
                return None;
            }
        }
    }
}

/// An address by the words of its header, all of them added without carry.
fn folded(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(v4) => u64::from(u32::from(v4)),
        IpAddr::V6(v6) => {
            let s = v6.segments().map(u64::from);
            (s[0] ^ s[2] ^ s[4] ^ s[6]) << 16 | (s[1] ^ s[3] ^ s[5] ^ s[7])
        }
    }
}

fn golden(value: u64, bits: u32) -> usize {
    usize::try_from((value & 0xffff_ffff) * 0x61c8_8647 % (1 << 32) / (1 << (32 - bits))).unwrap()
}

fn dh(pool: &Pool, flow: &FlowKey) -> Option<u32> {
    let table: Vec<_> = pool.list.iter().cycle().take(256).collect();
    let server = table.get(golden(folded(flow.destination().ip()), 8))?;
    usable(pool, server).then_some(server.id.0)
}

/// A table of servers and how clients are looked up in it, with the same loop for sh and mh.
struct Hashed {
    options: Options,
    /// By name; a server that is gone is found no more.
    table: Vec<u32>,
    fill: fn(&[Destination]) -> Vec<u32>,
    /// Which slot for a client as one number, with an offset.
    slot: fn(u64, usize) -> usize,
}

impl Rule for Hashed {
    fn changed(&mut self, change: Change, _: &[Destination], after: &[Destination]) {
        match change {
            Change::Flags(options) => self.options = options,
            _ => self.table = (self.fill)(after),
        }
    }

    fn pick(&mut self, pool: &Pool, flow: &FlowKey, _: u32) -> Option<u32> {
        let port = if self.options.port { u64::from(flow.source().port()) } else { 0 };
        let client = folded(flow.source().ip()) + port;
        let first = (self.slot)(client, 0);
        let mut slots = vec![first];
        if self.options.fallback {
            let n = self.table.len();
            slots.extend((0..n).map(|k| (self.slot)(client, (k + first) % n)));
        }
        let servers = slots.into_iter().map_while(|slot| self.table.get(slot));
        let known = |id: &u32| pool.list.iter().find(|d| d.id.0 == *id);
        servers.filter_map(known).find(|d| usable(pool, d)).map(|d| d.id.0)
    }
}

fn sh_table(list: &[Destination]) -> Vec<u32> {
    let mut table = Vec::new();
    while !list.is_empty() && table.len() < 256 {
        for server in list {
            for _ in 0..server.weight.max(1) {
                table.push(server.id.0);
            }
        }
    }
    table.truncate(256);
    table
}

/// SipHash-1-3 of four bytes, step by step; the lower half.
fn hsiphash(key: u64, value: u32) -> u64 {
    let mut v = [0x736f_6d65_7073_6575, 0x646f_7261_6e64_6f6d, 0x6c79_6765_6e65_7261, 0x7465_6462_7974_6573];
    v.iter_mut().for_each(|v: &mut u64| *v ^= key);
    let round = |v: &mut [u64; 4]| {
        for (a, b, turn, swap) in [(0, 1, 13, true), (2, 3, 16, false), (0, 3, 21, false), (2, 1, 17, true)] {
            v[a] = v[a].wrapping_add(v[b]);
            v[b] = v[b].rotate_left(turn) ^ v[a];
            v[a] = if swap { v[a].rotate_left(32) } else { v[a] };
        }
    };
    let last = 4 << 56 | u64::from(value);
    v[3] ^= last;
    round(&mut v);
    v[0] ^= last;
    v[2] ^= 0xff;
    (0..3).for_each(|_| round(&mut v));
    (v[0] ^ v[1] ^ v[2] ^ v[3]) & 0xffff_ffff
}

fn mh_hash(key: u64, value: u64, size: u64) -> usize {
    usize::try_from(hsiphash(key, u32::try_from(value & 0xffff_ffff).unwrap()) % size).unwrap()
}

fn mh_table(list: &[Destination]) -> Vec<u32> {
    let weights: Vec<u32> = list.iter().map(|d| d.last_weight).filter(|&w| w > 0).collect();
    let Some(&most) = weights.iter().max() else { return Vec::new() };
    let unit = (1..=most).rev().find(|unit| weights.iter().all(|w| w % unit == 0)).unwrap();
    let mut shift = 0;
    while (most / unit) >> shift >= 64 {
        shift += 1;
    }
    let mut table = vec![None; 4093];
    while table.contains(&None) {
        for server in list.iter().filter(|d| d.last_weight > 0) {
            let number = folded(server.address.ip()) + u64::from(server.address.port());
            let (offset, skip) =
                (mh_hash(2_654_435_761, number, 4093), mh_hash(2_654_446_892, number, 4092) + 1);
            for _ in 0..((server.last_weight / unit) >> shift).max(1) {
                // The first free one of its whole preference, every time.
                let free = (0..4093).map(|j| (offset + j * skip) % 4093).find(|&slot| table[slot].is_none());
                if let Some(slot) = free {
                    table[slot] = Some(server.id.0);
                }
            }
        }
    }
    table.into_iter().flatten().collect()
}

/// The sets of destinations; lblc is the case of one server.
struct Local {
    replicated: bool,
    sets: HashMap<IpAddr, (Vec<u32>, u32)>,
}

/// Ticks after which a set loses a server in these histories.
pub(super) const EXPIRATION: u32 = 400;

impl Local {
    fn new(replicated: bool) -> Self {
        Self { replicated, sets: HashMap::new() }
    }
}

fn busy(pool: &Pool, server: &Destination) -> bool {
    let active = |d: &Destination| pool.counts.active(d.id);
    active(server) > server.weight && pool.list.iter().any(|d| active(d) * 2 < d.weight)
}

impl Rule for Local {
    fn pick(&mut self, pool: &Pool, flow: &FlowKey, tick: u32) -> Option<u32> {
        let address = flow.destination().ip();
        let server = |id: u32| pool.list.iter().find(|d| d.id.0 == id);
        if let Some((set, changed)) = self.sets.get_mut(&address) {
            let here: Vec<_> = set.iter().filter_map(|&id| server(id).copied()).collect();
            let chosen = if self.replicated { wlc(pool, &here) } else { here.first().map(|d| d.id.0) };
            if set.len() > 1 && tick - *changed > EXPIRATION {
                let load = |d: &Destination| pool.counts.overhead(d.id);
                let gone = set.iter().copied().find(|&id| server(id).is_none());
                let heavy: Vec<_> = here.iter().filter(|d| d.weight > 0).collect();
                let most = heavy.iter().find(|d| {
                    !heavy.iter().any(|o| {
                        u64::from(load(o)) * u64::from(d.weight) > u64::from(load(d)) * u64::from(o.weight)
                    })
                });
                if let Some(leaving) = gone.or_else(|| most.map(|d| d.id.0)) {
                    set.retain(|&id| id != leaving);
                    *changed = tick;
                }
            }
            if let Some(chosen) = chosen.and_then(server)
                && chosen.weight > 0
                && !busy(pool, chosen)
            {
                return Some(chosen.id.0);
            }
        }
        let chosen = wlc(pool, &pool.list)?;
        let (set, changed) = self.sets.entry(address).or_insert((Vec::new(), tick));
        if !self.replicated {
            set.clear();
        }
        if !set.contains(&chosen) {
            set.insert(0, chosen);
            *changed = tick;
        }
        Some(chosen)
    }
}

/// The rule of a scheduler.
pub(super) fn rule(kind: Kind) -> Box<dyn Rule> {
    let hashed =
        |fill, slot| -> Box<dyn Rule> { Box::new(Hashed { options: PLAIN, table: Vec::new(), fill, slot }) };
    let plain = |pick| -> Box<dyn Rule> { Box::new(Plain(pick)) };
    match kind {
        Kind::Rr => Box::new(Rr::default()),
        Kind::Wrr => Box::new(Wrr::default()),
        Kind::Lc => plain(lc),
        Kind::Wlc => plain(|pool, _| wlc(pool, &pool.list)),
        Kind::Lblc => Box::new(Local::new(false)),
        Kind::Lblcr => Box::new(Local::new(true)),
        Kind::Dh => plain(dh),
        Kind::Sh => hashed(sh_table, |client, offset| (offset + golden(client, 8)) % 256),
        Kind::Sed => plain(sed),
        Kind::Nq => plain(nq),
        Kind::Fo => plain(fo),
        Kind::Ovf => plain(ovf),
        Kind::Mh => hashed(mh_table, |client, offset| {
            mh_hash(2_654_435_761, client + u64::try_from(offset).unwrap(), 4093)
        }),
        Kind::Twos => plain(twos),
        Kind::None => plain(|_, _| None),
    }
}
