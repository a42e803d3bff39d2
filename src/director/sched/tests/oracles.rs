//! Every scheduler against a slow transcription of its rule, through random histories of changes, connections and
//! thresholds.

use std::collections::HashMap;
use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::director::sched::Expiration;

/// The rule, told the same history. Servers go by name everywhere.
trait Rule {
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
const EXPIRATION: u32 = 400;

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

fn rule(kind: Kind) -> Option<Box<dyn Rule>> {
    let hashed = |fill, slot| -> Option<Box<dyn Rule>> {
        Some(Box::new(Hashed { options: PLAIN, table: Vec::new(), fill, slot }))
    };
    let plain = |pick| -> Option<Box<dyn Rule>> { Some(Box::new(Plain(pick))) };
    match kind {
        Kind::Rr => Some(Box::new(Rr::default())),
        Kind::Wrr => Some(Box::new(Wrr::default())),
        Kind::Lc => plain(lc),
        Kind::Wlc => plain(|pool, _| wlc(pool, &pool.list)),
        Kind::Lblc => Some(Box::new(Local::new(false))),
        Kind::Lblcr => Some(Box::new(Local::new(true))),
        Kind::Dh => plain(dh),
        Kind::Sh => hashed(sh_table, |client, offset| (offset + golden(client, 8)) % 256),
        Kind::Sed => plain(sed),
        Kind::Nq => plain(nq),
        Kind::Fo => plain(fo),
        Kind::Ovf => plain(ovf),
        Kind::Mh => hashed(mh_table, |client, offset| {
            mh_hash(2_654_435_761, client + u64::try_from(offset).unwrap(), 4093)
        }),
        // By chance; tested below.
        Kind::Twos => None,
        Kind::None => plain(|_, _| None),
    }
}

/// One step of a history: what to do and two numbers to do it with.
type Step = (u8, u32, u32);

fn play(kind: Kind, steps: &[Step]) -> Result<(), TestCaseError> {
    let Some(mut rule) = rule(kind) else { return Ok(()) };
    let mut pool = Pool::new(kind, PLAIN);
    let mut tick = 0;
    pool.scheduler.tend(tick, &Expiration { lblc_s: EXPIRATION / 4, lblcr_s: EXPIRATION / 4 });
    for (n, &(what, a, b)) in steps.iter().enumerate() {
        let before = pool.list.clone();
        let there = before.get(a as usize % before.len().max(1)).map(|d| d.id.0);
        let change = match (what, there) {
            (0 | 1, _) if before.iter().all(|d| d.id.0 != a % 8 + 1) => {
                pool.add(a % 8 + 1, b % 8);
                Some(Change::Added)
            }
            (2, Some(server)) => {
                // Common divisors and large weights now and then.
                pool.edit(server, if b % 3 == 0 { b % 5 * 60 } else { b % 7 });
                Some(Change::Updated)
            }
            (3, Some(server)) => {
                let index = pool.index(server);
                pool.delete(server);
                Some(Change::Removed(index))
            }
            (4, Some(server)) => {
                pool.thresholds(server, b % 5, b % 5 / 2);
                None
            }
            (5, Some(server)) if pool.counts.active(ServerId(server)) > 0 => {
                pool.close(server);
                None
            }
            (6, Some(server)) if pool.counts.inactive(ServerId(server)) > 0 => {
                pool.counts.closed(ServerId(server), INACTIVE);
                None
            }
            (7, _) => {
                let options = Options { fallback: a % 2 == 0, port: b % 2 == 0, third: false };
                pool.switch(kind, options);
                Some(Change::Flags(options))
            }
            (8, _) => {
                tick += a % (EXPIRATION * 3 / 2);
                None
            }
            _ => None,
        };
        if let Some(change) = change {
            rule.changed(change, &before, &pool.list);
        }
        for round in 0..3 {
            let (client, vip) = (a.wrapping_mul(7).wrapping_add(round), b % 3);
            let flow = if client % 4 == 3 {
                let v6 = |net: u128, host: u32| ((net << 96) | (u128::from(host) * 0x1_0001_0003)).into();
                FlowKey::v6(6, v6(0x2001_0db8, client), v6(0x2001_0db9, vip), client << 16 | 80)
            } else {
                FlowKey::v4(6, 0xc000_0200 ^ client, 0x0a00_0064 + vip, client << 16 | 80)
            };
            let request = Request { flow: &flow, tick };
            let expected = rule.pick(&pool, &flow, tick);
            let index = pool.scheduler.pick(&pool.list, &pool.counts, &request);
            prop_assert_eq!(
                index.map(|i| pool.list[i].id.0),
                expected,
                "{:?}, step {}, round {}",
                kind,
                n,
                round
            );
            if let (Some(server), true) = (expected, what % 2 == 0) {
                pool.counts.opened(ServerId(server), if b % 4 == 0 { INACTIVE } else { ACTIVE });
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn every_scheduler_follows_its_rule(steps in proptest::collection::vec((0u8..12, any::<u32>(), any::<u32>()), 1..60)) {
        for &kind in Kind::ALL.iter().filter(|&&kind| kind != Kind::Mh) {
            play(kind, &steps)?;
        }
    }

    /// Over one whole period every server gets exactly its weight.
    #[test]
    fn wrr_gives_every_server_its_weight(weights in proptest::collection::vec(0u32..12, 1..6)) {
        let servers: Vec<_> = (1u32..).zip(weights.iter().copied()).collect();
        let pool = Pool::with(Kind::Wrr, PLAIN, &servers);
        let step = weights.iter().copied().filter(|&w| w > 0).reduce(super::super::wrr::gcd).unwrap_or(1);
        let period = weights.iter().sum::<u32>() / step;
        let mut given = vec![0; weights.len()];
        for _ in 0..period * 3 {
            given[pool.pick().unwrap() as usize - 1] += 1;
        }
        let expected: Vec<_> = weights.iter().map(|w| w / step * 3).collect();
        prop_assert_eq!(given, expected);
    }
}

proptest! {
    // Its oracle fills 4093 slots at every change.
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn mh_follows_its_rule(steps in proptest::collection::vec((0u8..12, any::<u32>(), any::<u32>()), 1..30)) {
        play(Kind::Mh, &steps)?;
    }
}

/// Shares of `n` choices of twos, in list order, within five standard deviations of `expected`.
fn assert_shares(pool: &Pool, expected: &[f64]) {
    const N: u32 = 60_000;
    let mut given = vec![0; expected.len()];
    for _ in 0..N {
        let server = pool.pick().unwrap();
        given[pool.index(server)] += 1;
    }
    for (&given, &p) in given.iter().zip(expected) {
        let n = f64::from(N);
        let deviation = (n * p * (1.0 - p)).sqrt();
        assert!((f64::from(given) - n * p).abs() <= 5.0 * deviation, "{given} of {N}, expected {p}");
    }
}

#[test]
fn twos_draws_by_weight_and_takes_the_less_loaded() {
    // Draws of 0..=6: the first in the list gets 0 as well. Without load the first draw wins.
    let mut pool = Pool::with(Kind::Twos, PLAIN, &[(1, 1), (2, 2), (3, 3)]);
    assert_shares(&pool, &[4.0 / 7.0, 2.0 / 7.0, 1.0 / 7.0]);
    // The loaded one is taken only when both draws are its own.
    pool.counts.opened(ServerId(3), ACTIVE);
    let (three, two, one) = (4.0 / 7.0, 2.0 / 7.0, 1.0 / 7.0);
    let (other_two, other_one) = (two * (two + one + three), one * (two + one + three));
    assert_shares(&pool, &[three * three, other_two + three * two, other_one + three * one]);
    // Full and quiesced servers are not drawn at all.
    pool.edit(2, 0);
    pool.thresholds(3, 1, 0);
    assert_shares(&pool, &[0.0, 0.0, 1.0]);
}
