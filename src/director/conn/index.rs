//! The index: from a key's hash to the slots that may hold it.
//!
//! An array of buckets, one cache line each:
//!
//! ```text
//!  word 0    lock (bit 0) and the number of entries that overflowed from here (bits 32..)
//!  word 1-7  entries: tag of 31 bits | direction, 1 bit | slot + 1, 32 bits; zero is empty
//! ```
//!
//! A key lives in its first bucket, or, when that is full, in its second. There is no third: a flood of
//! colliding keys ends in a counted refusal, never in a long walk. Lookups take no lock and write
//! nothing; one whose first bucket never overflowed reads one cache line. Entries never move, so a
//! lookup beside an insertion or removal of other keys cannot miss. Insertion and removal lock the first bucket:
//! that makes a key unique. Places are claimed by compare-and-swap, since a bucket is the second of some keys
//! while it is the first of others.
//!
//! `tests/loom.rs` runs this file under loom.

use super::atomic::{AtomicU64, Ordering, spin_loop};

/// Entries of a bucket.
pub const PLACES: usize = 7;

const LOCK: u64 = 1;
const ONE_OVERFLOW: u64 = 1 << 32;

/// One cache line of the index.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Bucket {
    head: AtomicU64,
    places: [AtomicU64; PLACES],
}

/// What the index says of a key: the slot that may hold it, and as which of its two keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(u64);

impl Entry {
    const EMPTY: u64 = 0;

    #[inline]
    fn new(hash: u64, slot: u32, reply: bool) -> Self {
        Self(tag(hash) | u64::from(reply) << 32 | (u64::from(slot) + 1))
    }

    /// The slot number.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the low half of the word")]
    pub const fn slot(self) -> u32 {
        (self.0 as u32).wrapping_sub(1)
    }

    /// True if the key is the one of replies.
    #[inline]
    pub const fn reply(self) -> bool {
        self.0 & 1 << 32 != 0
    }
}

/// Why an entry was not inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotInserted {
    /// The key is there already.
    Exists(Entry),
    /// Both buckets of the key are full.
    Full,
}

/// The tag of a hash, in place: its highest bits, which choose no bucket in tables below 2^33 buckets.
const fn tag(hash: u64) -> u64 {
    hash & !(u64::MAX >> 31)
}

impl Bucket {
    /// An empty bucket; all zero.
    #[cfg_attr(not(test), allow(dead_code, reason = "the table's buckets come from zeroed pages"))]
    pub fn new() -> Self {
        Self { head: AtomicU64::new(0), places: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    #[inline]
    fn find(&self, hash: u64, mut is: impl FnMut(Entry) -> bool) -> Option<Entry> {
        self.places.iter().find_map(|place| {
            let word = place.load(Ordering::Acquire);
            (word & !(u64::MAX >> 31) == tag(hash) && word != Entry::EMPTY && is(Entry(word)))
                .then_some(Entry(word))
        })
    }

    fn claim(&self, entry: Entry) -> bool {
        self.places.iter().any(|place| {
            place.load(Ordering::Relaxed) == Entry::EMPTY
                && place.compare_exchange(Entry::EMPTY, entry.0, Ordering::Release, Ordering::Relaxed).is_ok()
        })
    }

    fn clear(&self, entry: Entry) -> bool {
        self.places.iter().any(|place| {
            place.load(Ordering::Relaxed) == entry.0 && {
                place.store(Entry::EMPTY, Ordering::Release);
                true
            }
        })
    }

    fn lock(&self) {
        while self.head.fetch_or(LOCK, Ordering::Acquire) & LOCK != 0 {
            while self.head.load(Ordering::Relaxed) & LOCK != 0 {
                spin_loop();
            }
        }
    }

    fn unlock(&self) {
        self.head.fetch_and(!LOCK, Ordering::Release);
    }

    #[inline]
    fn overflowed(&self) -> bool {
        self.head.load(Ordering::Acquire) >= ONE_OVERFLOW
    }
}

impl Default for Bucket {
    fn default() -> Self {
        Self::new()
    }
}

/// The index over an array of buckets `B`, a power of two of them.
#[derive(Debug)]
pub struct Index<B> {
    buckets: B,
    mask: u64,
}

impl<B: std::ops::Deref<Target = [Bucket]>> Index<B> {
    /// An index over empty buckets.
    ///
    /// # Panics
    /// When their number is not a power of two, or below two.
    pub fn new(buckets: B) -> Self {
        assert!(buckets.len().is_power_of_two() && buckets.len() > 1, "{} buckets", buckets.len());
        let mask = buckets.len() as u64 - 1;
        Self { buckets, mask }
    }

    /// The first bucket of a key.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "below the number of buckets")]
    pub fn first(&self, hash: u64) -> &Bucket {
        &self.buckets[(hash & self.mask) as usize]
    }

    /// The second bucket of a key, never its first.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "below the number of buckets")]
    fn second(&self, hash: u64) -> &Bucket {
        let first = hash & self.mask;
        let second = hash.rotate_left(27) & self.mask;
        &self.buckets[(if second == first { first ^ 1 } else { second }) as usize]
    }

    /// The entry with this hash for which `is` holds: different keys may share a hash's tag.
    #[inline]
    pub fn find(&self, hash: u64, mut is: impl FnMut(Entry) -> bool) -> Option<Entry> {
        let first = self.first(hash);
        first
            .find(hash, &mut is)
            .or_else(|| if first.overflowed() { self.second(hash).find(hash, &mut is) } else { None })
    }

    /// Inserts a key's entry; `is` tells whether an entry found is of the same key.
    ///
    /// # Errors
    /// When the key is there, or no place is free.
    pub fn insert(
        &self,
        hash: u64,
        slot: u32,
        reply: bool,
        is: impl FnMut(Entry) -> bool,
    ) -> Result<(), NotInserted> {
        let (first, entry) = (self.first(hash), Entry::new(hash, slot, reply));
        first.lock();
        let outcome = if let Some(other) = self.find(hash, is) {
            Err(NotInserted::Exists(other))
        } else if first.claim(entry) {
            Ok(())
        } else {
            // Counted before the entry is there, so that no lookup can be told too early to stop.
            first.head.fetch_add(ONE_OVERFLOW, Ordering::Release);
            if self.second(hash).claim(entry) {
                Ok(())
            } else {
                first.head.fetch_sub(ONE_OVERFLOW, Ordering::Release);
                Err(NotInserted::Full)
            }
        };
        first.unlock();
        outcome
    }

    /// Removes the entry of a key, if it is there. Once it returns no new lookup finds the entry.
    pub fn remove(&self, hash: u64, slot: u32, reply: bool) -> bool {
        let (first, entry) = (self.first(hash), Entry::new(hash, slot, reply));
        first.lock();
        let removed = first.clear(entry) || {
            let overflow = self.second(hash).clear(entry);
            if overflow {
                first.head.fetch_sub(ONE_OVERFLOW, Ordering::Release);
            }
            overflow
        };
        first.unlock();
        removed
    }
}
