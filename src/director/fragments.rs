//! Datagrams that come in fragments: what was decided by the first, which have been seen, and those that came too early.
//!
//! Shared by all workers, since the fragments of one datagram may come by different queues. In shards, each
//! behind a lock that is held for the copy of one frame at most: fragments are off the fast path. All memory is there
//! from the start; what is too much pushes out the oldest, so that a flood shortens how long is waited for a fragment
//! and never refuses a datagram whose fragments follow each other.
//!
//! Must not know how a packet is forwarded.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use arrayvec::ArrayVec;

use super::drops::DropReason;
use super::forward::hops::{PASS, PortId};
use super::forward::recipe::Recipe;
use super::outbox::FRAME_MAX;
use super::server::ServerId;
use super::stats::Stats;
use super::time::Time;
use crate::packet::flow::FlowKey;
use crate::packet::fragment::{DatagramKey, Fragment};

/// Datagrams that are remembered, over all shards.
pub const MAX_DATAGRAMS: usize = 4096;
/// Fragments that may wait for their first one, over all shards: 4.6 MiB, touched as used.
pub const MAX_HELD: usize = 512;
/// How long a datagram is remembered that does not become whole: `ipfrag_time`.
pub const DATAGRAM_S: u32 = 30;
/// How long a fragment waits for the first one.
pub const HELD_S: u32 = 1;

const SHARDS: usize = 8;
/// Places that a datagram may be remembered at; the oldest of them makes room.
const WAYS: usize = 8;
const SETS: usize = MAX_DATAGRAMS / SHARDS / WAYS;
const HELD: usize = MAX_HELD / SHARDS;
/// Gaps in what was seen of a datagram, and one: a shuffled datagram of 64 KiB has some 11.
const MAX_RUNS: usize = 24;

/// What becomes of the fragments of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The first has not been decided on.
    Open,
    /// They go in the connection that packets with this key have.
    Connection(FlowKey),
    /// The datagram is a connection of its own.
    Alone {
        /// As the first one was addressed.
        client: FlowKey,
        /// What happens to them.
        recipe: Recipe,
        /// The key of the server's answers.
        reply_key: FlowKey,
        /// The server.
        id: ServerId,
    },
    /// They are a NAT server's, with this key, and nobody's connection.
    Routed(FlowKey),
    /// They are nobody's here: the kernel's.
    Passed,
    /// The first was dropped, or one of them was refused such that all are.
    Refused(DropReason),
}

impl Fate {
    /// Of a packet with this key that was routed on by `port`.
    pub(super) fn routed(port: PortId, key: FlowKey) -> Self {
        if port == PASS { Self::Passed } else { Self::Routed(key) }
    }
}

/// What a fragment is when it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The first: to be decided on, and settled.
    First,
    /// A later one whose first has been decided on.
    Follows(Fate),
    /// A later one whose first has not been; a copy of it waits.
    Held,
    /// To be dropped.
    Refused(DropReason),
}

/// All shards.
#[derive(Debug)]
pub(super) struct Fragments {
    shards: [Place; SHARDS],
}

#[derive(Debug)]
struct Place {
    /// Fragments that wait here, for those who pass by.
    waiting: AtomicU32,
    shard: Mutex<Shard>,
}

#[derive(Debug)]
struct Shard {
    datagrams: Box<[Option<Datagram>]>,
    held: [Option<Held>; HELD],
    /// The frames of those that are held.
    frames: Box<[u8]>,
    /// Numbers what comes, to tell the oldest.
    clock: u64,
}

#[derive(Debug)]
struct Datagram {
    key: DatagramKey,
    tick: u32,
    number: u64,
    fate: Fate,
    seen: Seen,
}

/// A fragment that waits.
#[derive(Clone, Copy, Debug)]
struct Held {
    fragment: Fragment,
    tick: u32,
    number: u64,
    port: PortId,
    len: usize,
}

/// Which bytes of a datagram have been seen: runs without gaps, in order.
#[derive(Debug, Default)]
struct Seen {
    runs: ArrayVec<(u32, u32), MAX_RUNS>,
    /// Where the last fragment ends.
    end: Option<u32>,
}

impl Seen {
    /// Notes a fragment, or says why it is none of this datagram. What Linux does (`inet_frag_queue_insert`,
    /// `ip_frag_queue`): one of which every byte is known is a duplicate; one that overlaps ends the datagram
    /// (RFC 5722), and so does one that contradicts where the datagram ends.
    fn add(&mut self, fragment: &Fragment) -> Result<(), DropReason> {
        let from = u32::from(fragment.offset);
        let end = from + u32::from(fragment.len);
        if self.runs.iter().any(|&(a, b)| a <= from && end <= b) {
            return Err(DropReason::FragmentDuplicate);
        }
        if self.runs.iter().any(|&(a, b)| from < b && a < end) {
            return Err(DropReason::FragmentOverlap);
        }
        let furthest = self.runs.last().map_or(0, |&(_, b)| b);
        let contradicts = match self.end {
            Some(known) => end > known || !fragment.more,
            None => !fragment.more && end < furthest,
        };
        if contradicts {
            return Err(DropReason::Fragment);
        }
        let at = self.runs.partition_point(|&(a, _)| a < from);
        let joins_left = at.checked_sub(1).filter(|&left| self.runs[left].1 == from);
        let joins_right = self.runs.get(at).is_some_and(|&(a, _)| a == end);
        match (joins_left, joins_right) {
            (Some(left), true) => self.runs[left].1 = self.runs.remove(at).1,
            (Some(left), false) => self.runs[left].1 = end,
            (None, true) => self.runs[at].0 = from,
            (None, false) => {
                self.runs.try_insert(at, (from, end)).map_err(|_| DropReason::FragmentsFull)?;
            }
        }
        if !fragment.more {
            self.end = Some(end);
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        matches!((self.runs.as_slice(), self.end), (&[(0, b)], Some(end)) if b == end)
    }
}

impl Default for Fragments {
    fn default() -> Self {
        let shard = || Shard {
            datagrams: (0..SETS * WAYS).map(|_| None).collect(),
            held: [None; HELD],
            frames: vec![0; HELD * FRAME_MAX].into(),
            clock: 0,
        };
        Self {
            shards: std::array::from_fn(|_| Place { waiting: AtomicU32::new(0), shard: Mutex::new(shard()) }),
        }
    }
}

impl Fragments {
    /// Notes a fragment, whose datagram's key has this hash, and says what it is. If it has to wait, `frame` is copied.
    pub(super) fn arrive(
        &self,
        hash: u64,
        fragment: &Fragment,
        (port, frame): (PortId, &[u8]),
        tick: u32,
        stats: &Stats,
    ) -> Arrival {
        let place = self.place(hash);
        let mut shard = place.lock();
        let at = shard.remember(hash, fragment.datagram, tick);
        let Some(datagram) = &mut shard.datagrams[at] else { return Arrival::Refused(DropReason::Fragment) };
        if let Fate::Refused(reason @ (DropReason::FragmentOverlap | DropReason::Fragment)) = datagram.fate {
            return Arrival::Refused(reason);
        }
        if let Err(reason) = datagram.seen.add(fragment) {
            if matches!(reason, DropReason::FragmentOverlap | DropReason::Fragment) {
                datagram.fate = Fate::Refused(reason);
            }
            return Arrival::Refused(reason);
        }
        match datagram.fate {
            Fate::Open if fragment.offset == 0 => Arrival::First,
            Fate::Open if frame.len() > FRAME_MAX => Arrival::Refused(DropReason::FragmentsFull),
            Fate::Open => {
                if shard.hold(fragment, (port, frame), tick) {
                    place.waiting.fetch_add(1, Relaxed);
                } else {
                    stats.drop(DropReason::FragmentsFull);
                }
                Arrival::Held
            }
            fate => {
                if datagram.seen.is_whole() {
                    shard.datagrams[at] = None;
                }
                if let Fate::Refused(reason) = fate {
                    Arrival::Refused(reason)
                } else {
                    Arrival::Follows(fate)
                }
            }
        }
    }

    /// Notes what the first fragment's way has decided. Those that wait are to be [`released`](Self::release) then.
    pub(super) fn settle(&self, hash: u64, key: DatagramKey, fate: Fate, tick: u32) {
        let mut shard = self.place(hash).lock();
        let at = shard.remember(hash, key, tick);
        if let Some(datagram) = &mut shard.datagrams[at] {
            // Refused by another of its fragments meanwhile: it stays so.
            if datagram.fate == Fate::Open {
                datagram.fate = fate;
            }
            if datagram.seen.is_whole() {
                shard.datagrams[at] = None;
            }
        }
    }

    /// Takes the oldest fragment of a datagram out that waits, copied to `frame`; its interface and the frame's length.
    pub(super) fn release(
        &self,
        hash: u64,
        key: DatagramKey,
        frame: &mut [u8],
    ) -> Option<(Fragment, PortId, usize)> {
        let place = self.place(hash);
        if place.waiting.load(Relaxed) == 0 {
            return None;
        }
        let mut shard = place.lock();
        let of_it = |held: &Held| held.fragment.datagram == key;
        let waiting = shard.held.iter().enumerate();
        let (at, _) =
            waiting.filter_map(|(at, h)| h.filter(of_it).map(|h| (at, h.number))).min_by_key(|h| h.1)?;
        let held = shard.held[at].take()?;
        place.waiting.fetch_sub(1, Relaxed);
        let start = at * FRAME_MAX;
        frame.get_mut(..held.len)?.copy_from_slice(shard.frames.get(start..start + held.len)?);
        Some((held.fragment, held.port, held.len))
    }

    /// Drops what has waited too long.
    pub(super) fn sweep(&self, tick: u32, stats: &Stats) {
        for place in self.shards.iter().filter(|place| place.waiting.load(Relaxed) > 0) {
            let mut shard = place.lock();
            for held in &mut shard.held {
                if held.is_some_and(|h| tick.saturating_sub(h.tick) > HELD_S * Time::TICKS_PER_S) {
                    *held = None;
                    place.waiting.fetch_sub(1, Relaxed);
                    stats.drop(DropReason::FragmentAlone);
                }
            }
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
    fn place(&self, hash: u64) -> &Place {
        &self.shards[hash as usize % SHARDS]
    }
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, Shard> {
        self.shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    /// Where the datagram is remembered, from now on if it was not.
    #[allow(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
    fn remember(&mut self, hash: u64, key: DatagramKey, tick: u32) -> usize {
        let first = hash as usize / SHARDS % SETS * WAYS;
        self.clock += 1;
        let set = &mut self.datagrams[first..first + WAYS];
        for datagram in set.iter_mut() {
            // The clocks of the workers are a batch apart.
            datagram.take_if(|d| tick.saturating_sub(d.tick) > DATAGRAM_S * Time::TICKS_PER_S);
        }
        if let Some(at) = set.iter().position(|d| d.as_ref().is_some_and(|d| d.key == key)) {
            return first + at;
        }
        let oldest = set.iter().enumerate().min_by_key(|(_, d)| d.as_ref().map(|d| d.number));
        let at = oldest.map_or(0, |(at, _)| at);
        set[at] = Some(Datagram { key, tick, number: self.clock, fate: Fate::Open, seen: Seen::default() });
        first + at
    }

    /// Keeps a copy of a fragment. False if an older one had to go for it.
    fn hold(&mut self, fragment: &Fragment, (port, frame): (PortId, &[u8]), tick: u32) -> bool {
        self.clock += 1;
        let oldest = self.held.iter().enumerate().min_by_key(|(_, held)| held.map(|h| h.number));
        let at = oldest.map_or(0, |(at, _)| at);
        self.frames[at * FRAME_MAX..][..frame.len()].copy_from_slice(frame);
        let held = Held { fragment: *fragment, tick, number: self.clock, port, len: frame.len() };
        self.held[at].replace(held).is_none()
    }
}
