//! The index: from a key's hash to the slots that may hold it.
//!
//! An array of buckets, one cache line each:
//!
//! ```text
//!  word 0    lock (bit 0) and the number of entries that overflowed from here (bits 32..)
//!  word 1-7  entries: tag of 31 bits | direction, 1 bit | slot + 1, 32 bits; zero is empty
//! ```
//!
//! A key lives in its first bucket, or in its second when the first is well filled and the second less so.
//! There is no third: a flood of colliding keys ends in a counted refusal, never in a long walk. Lookups
//! take no lock and write nothing; one whose first bucket overflowed nothing reads one cache line. Entries never move, so a
//! lookup beside an insertion or removal of other keys cannot miss. Insertion and removal lock the first bucket:
//! that makes a key unique. Places are claimed by compare-and-swap, since a bucket is the second of some keys
//! while it is the first of others.
//!
//! `tests/loom.rs` runs this file under loom.

use super::atomic::{AtomicU64, Ordering, spin_loop};

/// Entries of a bucket.
pub const PLACES: usize = 7;

/// Entries up to which a key's first bucket takes it without a look at the second. Of keys entered at
/// [`FILL_PERCENT`], about 6 % are in their second bucket, and in 10^6 simulated none found both full.
pub const COMFORTABLE: usize = 5;

/// How full of keys an index may be planned to get.
pub const FILL_PERCENT: usize = 50;

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

    /// The entry of replies that belong to `slot`.
    pub fn of_reply(hash: u64, slot: u32) -> Self {
        Self::new(hash, slot, true)
    }

    /// True for an entry of a key that may have this hash: equal tags leave nothing of each other, and of an entry what is
    /// below the tag, which is more than 0. One comparison, since every packet makes several.
    #[inline]
    const fn has_tag_of(self, hash: u64) -> bool {
        (self.0 ^ tag(hash)).wrapping_sub(1) < u64::MAX >> 31
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

/// The tag of a hash, in place: its highest bits, which do not choose the first bucket.
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
            let entry = Entry(place.load(Ordering::Acquire));
            (entry.has_tag_of(hash) && is(entry)).then_some(entry)
        })
    }

    /// How many places are taken, or the entry with this hash for which `is` holds: in one walk.
    fn filled_without(&self, hash: u64, mut is: impl FnMut(Entry) -> bool) -> Result<usize, Entry> {
        let mut filled = 0;
        for place in &self.places {
            let entry = Entry(place.load(Ordering::Acquire));
            if entry.has_tag_of(hash) && is(entry) {
                return Err(entry);
            }
            filled += usize::from(entry.0 != Entry::EMPTY);
        }
        Ok(filled)
    }

    fn claim(&self, entry: Entry) -> bool {
        self.places.iter().any(|place| {
            place.load(Ordering::Relaxed) == Entry::EMPTY
                && place.compare_exchange(Entry::EMPTY, entry.0, Ordering::Release, Ordering::Relaxed).is_ok()
        })
    }

    fn len(&self) -> usize {
        self.places.iter().filter(|p| p.load(Ordering::Relaxed) != Entry::EMPTY).count()
    }

    fn replace(&self, old: Entry, new: Entry) -> bool {
        let swap = |p: &AtomicU64| p.compare_exchange(old.0, new.0, Ordering::Release, Ordering::Relaxed);
        self.places.iter().any(|place| swap(place).is_ok())
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
        loop {
            let head = self.head.load(Ordering::Relaxed);
            let locked = head | LOCK;
            if head != locked
                && self.head.compare_exchange(head, locked, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return;
            }
            spin_loop();
        }
    }

    fn unlock(&self) {
        // A plain store: who waits writes nothing.
        self.head.store(self.head.load(Ordering::Relaxed) & !LOCK, Ordering::Release);
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

/// The index over an array of buckets `B`.
#[derive(Debug)]
pub struct Index<B> {
    buckets: B,
}

impl<B: std::ops::Deref<Target = [Bucket]>> Index<B> {
    /// An index over empty buckets.
    ///
    /// # Panics
    /// When there are fewer than two, or more than 2^32.
    pub fn new(buckets: B) -> Self {
        assert!((2..=1 << 32).contains(&buckets.len()), "{} buckets", buckets.len());
        Self { buckets }
    }

    /// All of them.
    pub const fn buckets(&self) -> &B {
        &self.buckets
    }

    /// The bucket that the low 32 bits of `hash` choose: their share of the whole range, times the buckets.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "below the number of buckets")]
    fn number(&self, hash: u64) -> usize {
        (((hash & 0xffff_ffff) * self.buckets.len() as u64) >> 32) as usize
    }

    /// The first bucket of a key.
    #[inline]
    pub fn first(&self, hash: u64) -> &Bucket {
        &self.buckets[self.number(hash)]
    }

    /// The second bucket of a key, never its first.
    #[inline]
    fn second(&self, hash: u64) -> &Bucket {
        let (first, second) = (self.number(hash), self.number(hash.rotate_right(16)));
        let next = if first + 1 == self.buckets.len() { 0 } else { first + 1 };
        &self.buckets[if second == first { next } else { second }]
    }

    /// The entry with this hash for which `is` holds: different keys may share a hash's tag.
    #[inline]
    pub fn find(&self, hash: u64, mut is: impl FnMut(Entry) -> bool) -> Option<Entry> {
        let first = self.first(hash);
        first.find(hash, &mut is).or_else(|| self.overflow(first, hash, is))
    }

    /// The same in the second bucket of a key with this `first` one.
    #[inline]
    fn overflow(&self, first: &Bucket, hash: u64, is: impl FnMut(Entry) -> bool) -> Option<Entry> {
        if first.overflowed() { self.second(hash).find(hash, is) } else { None }
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
        mut is: impl FnMut(Entry) -> bool,
    ) -> Result<(), NotInserted> {
        let first = self.first(hash);
        first.lock();
        let there =
            first.filled_without(hash, &mut is).and_then(|filled| match self.overflow(first, hash, is) {
                Some(other) => Err(other),
                None => Ok(filled),
            });
        let outcome = match there {
            Err(other) => Err(NotInserted::Exists(other)),
            Ok(filled) => self.enter(first, hash, Entry::new(hash, slot, reply), filled),
        };
        first.unlock();
        outcome
    }

    /// Enters a key that is not there, whose `first` bucket is locked and has so many places taken.
    fn enter(&self, first: &Bucket, hash: u64, entry: Entry, filled: usize) -> Result<(), NotInserted> {
        if filled < COMFORTABLE && first.claim(entry) {
            return Ok(());
        }
        let second = self.second(hash);
        if filled <= second.len() && first.claim(entry) {
            return Ok(());
        }
        // Counted before the entry is there, so that no lookup can be told too early to stop.
        first.head.fetch_add(ONE_OVERFLOW, Ordering::Release);
        if second.claim(entry) {
            return Ok(());
        }
        first.head.fetch_sub(ONE_OVERFLOW, Ordering::Release);
        if first.claim(entry) { Ok(()) } else { Err(NotInserted::Full) }
    }

    /// As [`insert`](Self::insert), but a key that is there is given to `slot` from now on: the newest wins.
    ///
    /// # Errors
    /// When no place is free.
    pub fn insert_or_replace(
        &self,
        hash: u64,
        slot: u32,
        reply: bool,
        mut is: impl FnMut(Entry) -> bool,
    ) -> Result<Option<Entry>, NotInserted> {
        loop {
            match self.insert(hash, slot, reply, &mut is) {
                Err(NotInserted::Exists(old)) if !self.replace(hash, old, Entry::new(hash, slot, reply)) => {}
                Err(NotInserted::Exists(old)) => return Ok(Some(old)),
                Ok(()) => return Ok(None),
                Err(NotInserted::Full) => return Err(NotInserted::Full),
            }
        }
    }

    /// Gives the key of replies that is `from`'s to `slot`; false if it is not `from`'s any more.
    pub fn pass_on(&self, hash: u64, from: u32, slot: u32) -> bool {
        self.replace(hash, Entry::of_reply(hash, from), Entry::of_reply(hash, slot))
    }

    /// Puts `new` where `old` is; false if it is there no more.
    fn replace(&self, hash: u64, old: Entry, new: Entry) -> bool {
        let first = self.first(hash);
        first.lock();
        let done = first.replace(old, new) || self.second(hash).replace(old, new);
        first.unlock();
        done
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
