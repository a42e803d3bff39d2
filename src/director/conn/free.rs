//! Which slots are free.
//!
//! A slot is fresh (never used), or removed and waiting in its worker's list until nobody can hold a reference
//! to it, or in the shared stack. A worker takes from its own list first, since that memory is warm,
//! then fresh ones, then from the stack; what it hoards beyond a bound it gives to the stack. Nothing
//! here allocates: the lists are linked through the slots.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::quiesce::Quiesce;
use super::slot::{Slot, SlotId};

const NONE: u32 = u32::MAX;

/// The free slots that all workers share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Slots below this number have been used.
    fresh: AtomicU32,
    /// First of the stack (low half) and a change count (high half) against ABA.
    stack: AtomicU64,
}

impl Shared {
    pub(super) const fn new() -> Self {
        Self { fresh: AtomicU32::new(0), stack: AtomicU64::new(NONE as u64) }
    }

    /// Slots that were ever used: what the table's memory grew to.
    pub(super) fn touched(&self) -> u32 {
        self.fresh.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn assume_touched(&self, slots: u32) {
        self.fresh.store(slots, Ordering::Relaxed);
    }

    fn take_fresh(&self, slots: &[Slot]) -> Option<SlotId> {
        let capacity = u32::try_from(slots.len()).unwrap_or(NONE);
        self.fresh.try_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < capacity).then_some(n + 1)).ok()
    }

    #[allow(clippy::cast_possible_truncation, reason = "the low half")]
    fn push(&self, slots: &[Slot], id: SlotId) {
        let mut head = self.stack.load(Ordering::Relaxed);
        loop {
            slots[id as usize].next.store(head as u32, Ordering::Relaxed);
            let new = (head >> 32).wrapping_add(1) << 32 | u64::from(id);
            match self.stack.compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => head = other,
            }
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "the low half")]
    fn pop(&self, slots: &[Slot]) -> Option<SlotId> {
        let mut head = self.stack.load(Ordering::Acquire);
        while head as u32 != NONE {
            let next = slots[head as u32 as usize].next.load(Ordering::Relaxed);
            let new = (head >> 32).wrapping_add(1) << 32 | u64::from(next);
            match self.stack.compare_exchange_weak(head, new, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(head as u32),
                Err(other) => head = other,
            }
        }
        None
    }
}

/// The removed slots of one worker, oldest first.
#[derive(Debug)]
pub struct Reserve {
    first: SlotId,
    last: SlotId,
    len: u32,
    hoard: u32,
}

impl Reserve {
    /// An empty one that keeps up to `hoard` slots for itself.
    pub(super) const fn new(hoard: u32) -> Self {
        Self { first: NONE, last: NONE, len: 0, hoard }
    }

    /// Takes a free slot; `None` when there is none.
    pub(super) fn take(&mut self, slots: &[Slot], shared: &Shared, quiesce: &Quiesce) -> Option<SlotId> {
        self.pop(slots, quiesce).or_else(|| shared.take_fresh(slots)).or_else(|| shared.pop(slots))
    }

    /// Puts away a slot that was just unlinked.
    pub(super) fn put(&mut self, slots: &[Slot], shared: &Shared, quiesce: &Quiesce, id: SlotId) {
        let slot = &slots[id as usize];
        slot.stamp.store(quiesce.stamp(), Ordering::Relaxed);
        slot.next.store(NONE, Ordering::Relaxed);
        match self.last {
            NONE => self.first = id,
            last => slots[last as usize].next.store(id, Ordering::Relaxed),
        }
        self.last = id;
        self.len += 1;
        if self.len > self.hoard
            && let Some(id) = self.pop(slots, quiesce)
        {
            shared.push(slots, id);
        }
    }

    /// Gives everything that nobody can hold any more to the other workers.
    pub(super) fn share(&mut self, slots: &[Slot], shared: &Shared, quiesce: &Quiesce) {
        while let Some(id) = self.pop(slots, quiesce) {
            shared.push(slots, id);
        }
    }

    fn pop(&mut self, slots: &[Slot], quiesce: &Quiesce) -> Option<SlotId> {
        let id = self.first;
        let slot = slots.get(id as usize)?;
        if !quiesce.passed(slot.stamp.load(Ordering::Relaxed)) {
            return None;
        }
        self.first = slot.next.load(Ordering::Relaxed);
        if self.first == NONE {
            self.last = NONE;
        }
        self.len -= 1;
        Some(id)
    }
}
