//! What lblc and lblcr share: the cache of destination addresses, when it is cleaned, and when a server is busy.
//!
//! Everything is bounded and reserved beforehand; untouched memory costs nothing. Nothing is ever rehashed, so a
//! choice never pays for the choices before it. Cleaning goes over the entries in short runs, for [`Schedule::tend`]
//! to lock and unlock around each.
//!
//! [`Schedule::tend`]: super::Schedule::tend

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::director::server::{Counts, Destination, ServerId};
use crate::director::time::Time;

/// Entries above which the idle ones are collected.
const MAX_SIZE: usize = 16_384;

/// Entries above which no new ones are made.
pub(super) const HARD_STOP: usize = MAX_SIZE * 3 / 2;

/// A power of two, so that a bucket has less than one entry.
const BUCKETS: usize = 32_768;

/// Between two checks.
const CHECK_INTERVAL_S: u32 = 60;

/// What is unused this long may be collected when there are too many entries.
const ENTRY_TIMEOUT_S: u32 = 360;

/// After so many checks in which there were not, everything that expired is dropped.
const QUIET_CHECKS: u32 = 30;

/// Entries looked at under one lock: some microseconds.
const RUN: usize = 256;

/// `seconds` in coarse ticks.
pub(super) const fn ticks(seconds: u32) -> u32 {
    seconds.saturating_mul(Time::TICKS_PER_S)
}

/// Takes the lock; what a panicking thread left behind is whole between any two steps.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// True if a server has more active connections than its weight while another has less than half of its own. Full
/// servers are not left out.
pub(super) fn busy(server: &Destination, list: &[Destination], counts: &Counts) -> bool {
    let idle = |d: &Destination| counts.active(d.id).saturating_mul(2) < d.weight;
    counts.active(server.id) > server.weight && list.iter().any(idle)
}

/// Where each server is in the list, to be found by name.
#[derive(Debug, Default)]
pub(super) struct Places(Box<[(ServerId, usize)]>);

impl Places {
    pub(super) fn new(list: &[Destination]) -> Self {
        let mut places: Vec<_> = list.iter().enumerate().map(|(index, d)| (d.id, index)).collect();
        places.sort_unstable();
        Self(places.into())
    }

    /// The index of a server, if it is still one.
    pub(super) fn find(&self, id: ServerId) -> Option<usize> {
        let at = self.0.binary_search_by_key(&id, |place| place.0).ok()?;
        self.0.get(at).map(|place| place.1)
    }
}

#[derive(Debug)]
struct Entry<V> {
    address: IpAddr,
    /// Number of the next entry in the bucket; numbers are indices plus one, 0 is none.
    next: u32,
    last_use: u32,
    value: V,
}

/// Values by destination address.
#[derive(Debug)]
pub(super) struct Cache<V> {
    /// Number of the first entry of each.
    buckets: Box<[u32]>,
    entries: Vec<Entry<V>>,
    random: RandomState,
    last_check: Option<u32>,
    quiet_checks: u32,
}

/// A cleaning that is under way.
#[derive(Debug)]
pub(super) struct Sweep {
    /// Entries used before this go.
    before: u32,
    /// No more than so many.
    goal: usize,
    /// Entries still to be looked at.
    left: usize,
}

fn number(index: usize) -> u32 {
    u32::try_from(index + 1).unwrap_or(0)
}

impl<V> Default for Cache<V> {
    fn default() -> Self {
        Self {
            buckets: vec![0; BUCKETS].into(),
            entries: Vec::with_capacity(HARD_STOP),
            random: RandomState::new(),
            last_check: None,
            quiet_checks: 1,
        }
    }
}

impl<V> Cache<V> {
    #[allow(clippy::cast_possible_truncation, reason = "the lower bits of a hash")]
    fn bucket(&self, address: IpAddr) -> usize {
        self.random.hash_one(address) as usize % BUCKETS
    }

    fn index(&self, address: IpAddr) -> Option<usize> {
        let mut number = self.buckets[self.bucket(address)];
        loop {
            let index = number.checked_sub(1)? as usize;
            let entry = self.entries.get(index)?;
            if entry.address == address {
                return Some(index);
            }
            number = entry.next;
        }
    }

    /// The value of an address, which is hereby used.
    pub(super) fn touch(&mut self, address: IpAddr, tick: u32) -> Option<&mut V> {
        let index = self.index(address)?;
        let entry = self.entries.get_mut(index)?;
        entry.last_use = tick;
        Some(&mut entry.value)
    }

    /// Enters an address that is not there yet. False if there is no more room.
    pub(super) fn insert(&mut self, address: IpAddr, value: V, tick: u32) -> bool {
        let room = self.entries.len() < HARD_STOP;
        if room {
            let bucket = self.bucket(address);
            let next = self.buckets[bucket];
            self.buckets[bucket] = number(self.entries.len());
            self.entries.push(Entry { address, next, last_use: tick, value });
        }
        room
    }

    /// Makes whatever leads to entry `from` lead to `to` instead.
    fn redirect(&mut self, address: IpAddr, from: u32, to: u32) {
        let bucket = self.bucket(address);
        let mut link = &mut self.buckets[bucket];
        while *link != from {
            let Some(entry) = (*link as usize).checked_sub(1).and_then(|i| self.entries.get_mut(i)) else {
                return;
            };
            link = &mut entry.next;
        }
        *link = to;
    }

    /// Removes an entry; the last one takes its place.
    fn remove(&mut self, index: usize) {
        let (address, next) = (self.entries[index].address, self.entries[index].next);
        self.redirect(address, number(index), next);
        let last = self.entries.len() - 1;
        if index != last {
            self.redirect(self.entries[last].address, number(last), number(index));
        }
        self.entries.swap_remove(index);
    }

    /// What is to be cleaned now, if anything: as `ip_vs_lblc_check_expire`, every 60 s.
    pub(super) fn due(&mut self, tick: u32, expiration_s: u32) -> Option<Sweep> {
        let since = tick.saturating_sub(*self.last_check.get_or_insert(tick));
        if since < ticks(CHECK_INTERVAL_S) {
            return None;
        }
        self.last_check = Some(tick);
        let left = self.entries.len();
        let sweep =
            |idle_s, goal| Sweep { before: tick.saturating_add(1).saturating_sub(ticks(idle_s)), goal, left };
        if self.quiet_checks >= QUIET_CHECKS {
            self.quiet_checks = 1;
            return Some(sweep(expiration_s, left));
        }
        if left <= MAX_SIZE {
            self.quiet_checks += 1;
            return None;
        }
        Some(sweep(ENTRY_TIMEOUT_S, ((left - MAX_SIZE) * 4 / 3).min(MAX_SIZE / 2)))
    }

    /// Cleans on for a run of entries and shows what goes. False when all is done.
    pub(super) fn sweep(&mut self, sweep: &mut Sweep, mut gone: impl FnMut(&V)) -> bool {
        let Sweep { before, goal, left } = sweep;
        self.run(left, |entry| {
            let goes = *goal > 0 && entry.last_use < *before;
            if goes {
                *goal -= 1;
                gone(&entry.value);
            }
            !goes
        })
    }

    /// Goes on through all values for a run of them, `left` still to be looked at, and keeps those it is told to.
    /// False when all is done.
    pub(super) fn retain(&mut self, left: &mut usize, mut keep: impl FnMut(&mut V) -> bool) -> bool {
        self.run(left, |entry| keep(&mut entry.value))
    }

    fn run(&mut self, left: &mut usize, mut keep: impl FnMut(&mut Entry<V>) -> bool) -> bool {
        for _ in 0..RUN {
            if *left == 0 {
                return false;
            }
            // From the end: what takes the place of a removed entry has been looked at, or is new.
            *left -= 1;
            if self.entries.get_mut(*left).is_some_and(|entry| !keep(entry)) {
                self.remove(*left);
            }
        }
        true
    }

    /// Entries there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(n: usize) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(n).unwrap()).into()
    }

    /// With that many entries, each the number of its address, last used at the tick that `used` says.
    fn cache(entries: usize, used: impl Fn(usize) -> u32) -> Cache<usize> {
        let mut cache = Cache::default();
        assert!(cache.due(0, 100).is_none());
        (0..entries).for_each(|n| assert!(cache.insert(address(n), n, used(n))));
        cache
    }

    /// Entries a sweep takes, run by run.
    fn swept(cache: &mut Cache<usize>, mut sweep: Sweep) -> Vec<usize> {
        let mut gone = Vec::new();
        loop {
            let before = gone.len();
            let more = cache.sweep(&mut sweep, |&value| gone.push(value));
            assert!(gone.len() - before <= RUN, "{} in one run", gone.len() - before);
            if !more {
                return gone;
            }
        }
    }

    #[test]
    fn a_full_cache_finds_everything_and_refuses_more_until_idle_entries_are_gone() {
        let used = |n: usize| if n % 3 == 1 { 2000 } else { 10 };
        let mut cache = cache(HARD_STOP, used);
        assert!(!cache.insert(address(HARD_STOP), 0, 10));
        let buckets = &cache.buckets;
        assert!(buckets.iter().filter(|&&b| b != 0).count() < HARD_STOP, "some buckets have several entries");
        for n in 0..HARD_STOP {
            assert_eq!(cache.index(address(n)), Some(n));
        }
        // 8192 too many: 4/3 of them are more than half the table, which is the most of one sweep.
        let tick = ticks(ENTRY_TIMEOUT_S) + 10;
        assert!(cache.due(tick - 1, 0).is_some_and(|s| s.goal == MAX_SIZE / 2));
        let sweep = cache.due(tick - 1 + ticks(CHECK_INTERVAL_S), 0).unwrap();
        let gone = swept(&mut cache, sweep);
        assert_eq!(gone.len(), MAX_SIZE / 2);
        assert!(gone.iter().all(|&n| used(n) == 10));
        for n in 0..HARD_STOP {
            let found = cache.touch(address(n), 5000).copied();
            assert_eq!(found, (!gone.contains(&n)).then_some(n));
        }
        assert!(cache.insert(address(HARD_STOP), HARD_STOP, 5000));
        assert_eq!(cache.touch(address(HARD_STOP), 5000).copied(), Some(HARD_STOP));
    }

    #[test]
    fn entries_stay_for_six_minutes_and_then_only_the_excess_goes() {
        let tick = ticks(ENTRY_TIMEOUT_S);
        let mut cache = cache(MAX_SIZE + 300, |n| u32::from(n % 2 == 0));
        let sweep = cache.due(tick, 0).unwrap();
        let gone = swept(&mut cache, sweep);
        assert_eq!(gone.len(), 400);
        assert!(gone.iter().all(|n| n % 2 == 1), "the others are a tick younger");
    }

    #[test]
    fn every_thirtieth_check_that_finds_room_drops_what_expired() {
        const EXPIRATION_S: u32 = 1700;
        let minute = ticks(CHECK_INTERVAL_S);
        let young = 30 * minute - ticks(EXPIRATION_S) + 1;
        let mut cache = cache(10, |n| if n < 4 { young - 1 } else { young });
        for check in 1..30 {
            assert!(cache.due(check * minute, EXPIRATION_S).is_none(), "check {check}");
            assert!(cache.due((check + 1) * minute - 1, EXPIRATION_S).is_none(), "too early");
        }
        let sweep = cache.due(30 * minute, EXPIRATION_S).unwrap();
        assert_eq!(swept(&mut cache, sweep), [3, 2, 1, 0]);
        assert!(cache.due(31 * minute, EXPIRATION_S).is_none());
    }
}
