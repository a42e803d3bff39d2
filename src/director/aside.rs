//! Numbers of places in a table of its own for what few connections have, since slots are small.
//!
//! A place given back is used again once every worker has passed a batch boundary, like slots, so that no worker writes
//! into another connection's. No lock, and no allocation after the start.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crossbeam_channel::{Receiver, Sender, bounded};

/// The free places.
#[derive(Debug)]
pub(super) struct Free {
    /// Places from here on were never taken.
    fresh: AtomicU32,
    count: u32,
    /// Those given back, oldest first, with the moment.
    give: Sender<(u32, u64)>,
    given: Receiver<(u32, u64)>,
}

impl Free {
    /// `count` places, all free.
    pub(super) fn new(count: u32) -> Self {
        let (give, given) = bounded(count as usize);
        Self { fresh: AtomicU32::new(0), count, give, given }
    }

    /// A free place; none if there is none, or none yet. `passed` as of the table.
    pub(super) fn take(&self, passed: impl Fn(u64) -> bool) -> Option<u32> {
        if let Ok((number, stamp)) = self.given.try_recv() {
            if passed(stamp) {
                return Some(number);
            }
            // There is none that waited longer.
            let _has_room = self.give.try_send((number, stamp));
        }
        self.fresh.try_update(Relaxed, Relaxed, |fresh| (fresh < self.count).then_some(fresh + 1)).ok()
    }

    /// Gives a place back; `stamp` is of the moment, after which nobody new finds whose it was.
    pub(super) fn put(&self, number: u32, stamp: u64) {
        let _has_room = self.give.try_send((number, stamp));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_used_again_when_nobody_can_look_at_it_any_more() {
        let free = Free::new(2);
        let (first, second) = (free.take(|_| true).unwrap(), free.take(|_| true).unwrap());
        assert_ne!(first, second);
        assert_eq!(free.take(|_| true), None);
        free.put(first, 5);
        assert_eq!(free.take(|stamp| stamp < 5), None, "a worker is still in its batch");
        assert_eq!(free.take(|stamp| stamp <= 5), Some(first));
        assert_eq!(free.take(|_| true), None);
    }
}
