//! When a removed slot may be used again: once every worker has passed a batch boundary.
//!
//! Quiescent-state reclamation. A worker holds references into the table only within a batch. Whoever
//! removes a slot unlinks it from the index first and takes a [`stamp`](Quiesce::stamp) then; a worker
//! whose later [`enter`](Quiesce::enter) saw a newer epoch started its batch after the unlinking, so it can't
//! have found the slot. A resting (sleeping) worker holds nothing and stops nobody.
//!
//! `tests/loom.rs` runs this file under loom.

use super::atomic::{AtomicU64, Ordering, fence};

/// The epoch of a worker that holds no references.
const RESTING: u64 = u64::MAX;

/// One worker's epoch, alone in its cache lines: it is written once a batch.
#[derive(Debug)]
#[repr(align(128))]
struct Seen(AtomicU64);

/// Epochs of all workers.
#[derive(Debug)]
pub struct Quiesce {
    epoch: Seen,
    seen: Box<[Seen]>,
}

impl Quiesce {
    /// For `workers` workers, all of them resting.
    pub fn new(workers: usize) -> Self {
        let seen = (0..workers).map(|_| Seen(AtomicU64::new(RESTING))).collect();
        // From one on: a stamp of zero is one that everybody has passed.
        Self { epoch: Seen(AtomicU64::new(1)), seen }
    }

    /// `worker` begins a batch and has forgotten every reference of the batch before.
    #[inline]
    pub fn enter(&self, worker: usize) {
        let epoch = self.epoch.0.load(Ordering::Acquire);
        // Release: what the last batch read was read before anybody sees this.
        self.seen[worker].0.store(epoch, Ordering::Release);
        // With the fence in `passed`: either the remover sees that this worker is awake, or this worker sees
        // that the slot is unlinked.
        fence(Ordering::SeqCst);
    }

    /// `worker` holds no references until its next [`enter`](Self::enter).
    pub fn rest(&self, worker: usize) {
        self.seen[worker].0.store(RESTING, Ordering::Release);
    }

    /// The moment of a removal. Call after the slot was unlinked.
    #[inline]
    pub fn stamp(&self) -> u64 {
        self.epoch.0.fetch_add(1, Ordering::AcqRel)
    }

    /// True once nobody can hold a reference to what was removed at `stamp`.
    #[inline]
    pub fn passed(&self, stamp: u64) -> bool {
        fence(Ordering::SeqCst);
        self.seen.iter().all(|s| s.0.load(Ordering::Acquire) > stamp)
    }
}
