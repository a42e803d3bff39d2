//! The timer wheel of one worker: when to look at a connection next.
//!
//! A ring of doubly linked lists, one per coarse tick. Entries are slot numbers; their links live in the
//! slots, and only the worker that owns a connection's timer touches them. Packets never come here: an
//! entry that comes up is looked at, and armed again if packets came meanwhile. A time beyond the ring is
//! put at its end and armed again from there.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed, Ordering::Release};

use super::slot::{Slot, SlotId};

/// Ticks the ring spans: 1,024 s, more than the 900 s of an established connection.
const SPAN: u32 = 4096;

const NONE: u32 = u32::MAX;

/// Where the links of entry `id` live: successor, predecessor and the tick it is armed for.
pub trait Links {
    /// The successor in its list.
    fn next(&self, id: SlotId) -> &AtomicU32;
    /// The predecessor, or none for the first.
    fn previous(&self, id: SlotId) -> &AtomicU32;
    /// The tick whose list it is in, or `u32::MAX` if in none.
    fn armed(&self, id: SlotId) -> &AtomicU32;
}

impl Links for [Slot] {
    #[inline]
    fn next(&self, id: SlotId) -> &AtomicU32 {
        &self[id as usize].next
    }
    #[inline]
    fn previous(&self, id: SlotId) -> &AtomicU32 {
        &self[id as usize].previous
    }
    #[inline]
    fn armed(&self, id: SlotId) -> &AtomicU32 {
        &self[id as usize].armed
    }
}

/// The ring and where it stands.
#[derive(Debug)]
pub struct Wheel {
    heads: Box<[SlotId]>,
    /// The first tick not wholly handled.
    now: u32,
}

impl Wheel {
    /// An empty wheel that starts at `tick`.
    pub fn new(tick: u32) -> Self {
        Self { heads: vec![NONE; SPAN as usize].into(), now: tick }
    }

    /// The tick not armed for.
    pub const UNARMED: u32 = NONE;

    /// The first tick not wholly handled.
    pub const fn now(&self) -> u32 {
        self.now
    }

    /// Arms `id`, which must not be armed, for `tick`: at once if that is past, at the ring's end if it is
    /// beyond it.
    pub fn arm(&mut self, links: &(impl Links + ?Sized), id: SlotId, tick: u32) {
        debug_assert_eq!(links.armed(id).load(Relaxed), NONE, "slot {id} is armed already");
        let tick = tick.clamp(self.now, self.now + SPAN - 1);
        let head = &mut self.heads[(tick % SPAN) as usize];
        links.next(id).store(*head, Relaxed);
        links.previous(id).store(NONE, Relaxed);
        // Release: whoever sees a slot armed sees its owner too.
        links.armed(id).store(tick, Release);
        if *head != NONE {
            links.previous(*head).store(id, Relaxed);
        }
        *head = id;
    }

    /// Takes `id` out of its list, if it is in one.
    pub fn disarm(&mut self, links: &(impl Links + ?Sized), id: SlotId) {
        let tick = links.armed(id).load(Relaxed);
        if tick == NONE {
            return;
        }
        let (next, previous) = (links.next(id).load(Relaxed), links.previous(id).load(Relaxed));
        match previous {
            NONE => self.heads[(tick % SPAN) as usize] = next,
            _ => links.next(previous).store(next, Relaxed),
        }
        if next != NONE {
            links.previous(next).store(previous, Relaxed);
        }
        links.armed(id).store(NONE, Relaxed);
    }

    /// An entry of the first tick not wholly handled, if there is one.
    pub fn first(&self) -> Option<SlotId> {
        Some(self.heads[(self.now % SPAN) as usize]).filter(|&id| id != NONE)
    }

    /// The next entry that is due at `tick`, disarmed; `None` when there is no more. Looks at no more than
    /// `steps` empty ticks, so that a worker that slept long does not stall: call again.
    pub fn due(&mut self, links: &(impl Links + ?Sized), tick: u32, steps: &mut u32) -> Option<SlotId> {
        while self.now <= tick {
            let head = self.heads[(self.now % SPAN) as usize];
            if head != NONE {
                self.disarm(links, head);
                return Some(head);
            }
            // The current tick stays open: something may yet be armed for it.
            if self.now == tick || *steps == 0 {
                return None;
            }
            *steps -= 1;
            self.now += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[derive(Default)]
    struct Cell {
        next: AtomicU32,
        previous: AtomicU32,
        armed: AtomicU32,
    }

    impl Links for Vec<Cell> {
        fn next(&self, id: SlotId) -> &AtomicU32 {
            &self[id as usize].next
        }
        fn previous(&self, id: SlotId) -> &AtomicU32 {
            &self[id as usize].previous
        }
        fn armed(&self, id: SlotId) -> &AtomicU32 {
            &self[id as usize].armed
        }
    }

    fn cells(n: usize) -> Vec<Cell> {
        (0..n).map(|_| Cell { armed: AtomicU32::new(NONE), ..Cell::default() }).collect()
    }

    fn drain(wheel: &mut Wheel, links: &Vec<Cell>, tick: u32) -> BTreeSet<SlotId> {
        std::iter::from_fn(|| wheel.due(links, tick, &mut u32::MAX.clone())).collect()
    }

    #[test]
    fn a_time_beyond_the_ring_comes_up_at_its_end() {
        let (mut wheel, links) = (Wheel::new(10), cells(1));
        wheel.arm(&links, 0, 10 + 3 * SPAN);
        assert!(drain(&mut wheel, &links, 10 + SPAN - 2).is_empty());
        assert_eq!(drain(&mut wheel, &links, 10 + SPAN - 1), BTreeSet::from([0]));
    }

    #[test]
    fn a_long_sleep_is_worked_off_in_steps() {
        let (mut wheel, links) = (Wheel::new(0), cells(1));
        wheel.arm(&links, 0, 1000);
        let mut calls = 0;
        while wheel.due(&links, 2000, &mut 64).is_none() {
            calls += 1;
        }
        assert_eq!(calls, 1000 / 64);
    }

    proptest! {
        /// The oracle is a set of (tick, entry), searched from its start.
        #[test]
        fn any_history_equals_a_sorted_set(
            steps in proptest::collection::vec((0u32..40, 0u32..3, 0u32..2 * SPAN), 1..300),
        ) {
            let (mut wheel, links) = (Wheel::new(0), cells(40));
            let mut oracle: BTreeSet<(u32, SlotId)> = BTreeSet::new();
            let mut now = 0;
            for (id, what, ticks) in steps {
                match what {
                    0 => {
                        wheel.disarm(&links, id);
                        oracle.retain(|&(_, other)| other != id);
                        wheel.arm(&links, id, now + ticks);
                        oracle.insert(((now + ticks).min(now + SPAN - 1), id));
                    }
                    1 => {
                        wheel.disarm(&links, id);
                        oracle.retain(|&(_, other)| other != id);
                    }
                    _ => {
                        now += ticks / 4;
                        let due: BTreeSet<_> =
                            oracle.iter().filter(|&&(t, _)| t <= now).map(|&(_, id)| id).collect();
                        oracle.retain(|&(t, _)| t > now);
                        prop_assert_eq!(drain(&mut wheel, &links, now), due);
                    }
                }
            }
        }
    }
}
