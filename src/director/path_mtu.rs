//! What routers have said of the ways to servers behind tunnels: an MTU smaller than that of the director's own interface.
//! Remembered by address and for a while, as the kernel remembers it of its routes, so that the next packet that is too long
//! is answered here.
//!
//! A table of few places that old entries leave to new ones: what is forgotten is heard of again. No lock: one word holds
//! all of an entry.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use foldhash::fast::RandomState;

use super::time::Time;
use super::tunnel::LEAST_MTU_V6;

/// Entries; a director has servers in the hundreds. 8 KiB.
const PLACES: usize = 1024;
/// How long an entry counts, in ticks: the kernel's `mtu_expires`, ten minutes.
const LIFE: u32 = 600 * Time::TICKS_PER_S;
/// What smaller ones are taken for, in bytes: the kernel's `min_pmtu`, so that nobody makes every packet be cut up. For IPv6 it
/// is what every link carries (RFC 8201, 4).
const LEAST_V4: u16 = 552;

/// What is believed of an MTU in bytes that a router says the way to somebody has.
pub(super) fn believed(to: IpAddr, mtu: u16) -> u16 {
    mtu.max(if to.is_ipv4() { LEAST_V4 } else { LEAST_MTU_V6 })
}

/// The smaller MTUs.
#[derive(Debug)]
pub(super) struct PathMtus {
    /// Tag (16 bits), MTU (16 bits), tick (32 bits); an MTU of 0 is no entry.
    places: Box<[AtomicU64]>,
    /// The tick of the last entry, and one; 0 before any. Most directors never have one.
    newest: AtomicU32,
    hash: RandomState,
}

impl Default for PathMtus {
    fn default() -> Self {
        let places = (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        Self { places, newest: AtomicU32::new(0), hash: RandomState::default() }
    }
}

impl PathMtus {
    #[allow(clippy::cast_possible_truncation, reason = "its low bits choose the place")]
    fn place(&self, to: IpAddr) -> (&AtomicU64, u64) {
        let hash = self.hash.hash_one(to);
        (&self.places[hash as usize % PLACES], hash >> 48)
    }

    /// The MTU of the way to a server in bytes, if a smaller one is known of.
    #[inline]
    pub(super) fn of(&self, to: IpAddr, tick: u32) -> Option<u16> {
        if self.any(tick) { self.look_up(to, tick) } else { None }
    }

    /// False if no smaller MTU is known of.
    #[inline]
    pub(super) fn any(&self, tick: u32) -> bool {
        self.newest.load(Relaxed).checked_sub(1).is_some_and(|newest| tick.wrapping_sub(newest) < LIFE)
    }

    #[cold]
    #[allow(clippy::cast_possible_truncation, reason = "fields of the word")]
    fn look_up(&self, to: IpAddr, tick: u32) -> Option<u16> {
        let (place, tag) = self.place(to);
        let word = place.load(Relaxed);
        let (mtu, noted) = ((word >> 32) as u16, word as u32);
        (word >> 48 == tag && mtu > 0 && tick.wrapping_sub(noted) < LIFE).then_some(mtu)
    }

    /// Notes what a router said. A larger MTU than is known of is not believed before that is forgotten.
    pub(super) fn note(&self, to: IpAddr, mtu: u16, tick: u32) {
        let mtu = believed(to, mtu);
        if self.look_up(to, tick).is_none_or(|known| mtu <= known) {
            let (place, tag) = self.place(to);
            place.store(tag << 48 | u64::from(mtu) << 32 | u64::from(tick), Relaxed);
            self.newest.store(tick.wrapping_add(1).max(1), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(last: u16) -> IpAddr {
        let [high, low] = last.to_be_bytes();
        [10, 2, high, low].into()
    }

    #[test]
    fn what_was_said_counts_for_ten_minutes_and_for_that_server_alone() {
        let paths = PathMtus::default();
        assert_eq!(paths.of(server(1), 0), None);
        paths.note(server(1), 1400, 100);
        for (tick, known) in [(100, Some(1400)), (100 + LIFE - 1, Some(1400)), (100 + LIFE, None)] {
            assert_eq!(paths.of(server(1), tick), known, "tick {tick}");
        }
        assert_eq!(paths.of(server(2), 100), None);
    }

    #[test]
    fn the_smallest_counts_and_none_is_smaller_than_the_least() {
        let paths = PathMtus::default();
        for (said, known) in [(1400, 1400), (1450, 1400), (1300, 1300), (68, LEAST_V4), (1400, LEAST_V4)] {
            paths.note(server(1), said, 100);
            assert_eq!(paths.of(server(1), 100), Some(known), "after {said}");
        }
        let six = IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1]);
        paths.note(six, 68, 100);
        assert_eq!(paths.of(six, 100), Some(LEAST_MTU_V6));
        paths.note(server(1), 1450, 100 + LIFE);
        assert_eq!(paths.of(server(1), 100 + LIFE), Some(1450), "the old one is forgotten");
    }

    #[test]
    fn many_servers_take_the_place_of_older_ones_and_never_their_mtu() {
        let paths = PathMtus::default();
        for n in 0..5000 {
            paths.note(server(n), 1000 + n % 400, 7);
        }
        let known: Vec<_> = (0..5000).filter_map(|n| Some((n, paths.of(server(n), 7)?))).collect();
        assert!((900..=PLACES).contains(&known.len()), "{}", known.len());
        // One in 65,536 of those that share a place shares the tag too.
        let wrong = known.iter().filter(|(n, mtu)| *mtu != 1000 + n % 400).count();
        assert!(wrong <= 2, "{wrong}");
    }
}
