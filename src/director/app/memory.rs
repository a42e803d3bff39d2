//! What is remembered of connections with a helper, aside of the table: few have one, and slots are small.
//!
//! A connection's mark is 0 for nothing, the number of its cell and one, or [`EXPECTED`].

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use super::Shift;
use crate::director::aside::Free;

/// Connections with a helper there may be at once: 40 bytes each with their place in the list of free ones.
pub const MAX_HELPED: u32 = 32_768;

/// The mark of a connection that was announced and whose client's port is not known yet (`IP_VS_CONN_F_NO_CPORT`).
pub(super) const EXPECTED: u32 = (1 << 30) - 1;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Cell {
    /// What the client asked for last: the helper's.
    asked: AtomicU32,
    /// What the server sends.
    shift: AtomicU64,
}

impl Cell {
    pub(super) fn asked(&self) -> u32 {
        self.asked.load(Acquire)
    }

    pub(super) fn ask(&self, what: u32) {
        self.asked.store(what, Release);
    }

    pub(super) fn shift(&self) -> Shift {
        Shift::from_word(self.shift.load(Acquire))
    }

    pub(super) fn set_shift(&self, shift: Shift) {
        self.shift.store(shift.to_word(), Release);
    }

    /// The client has acknowledged all before `number`.
    pub(super) fn settle(&self, number: u32) {
        let before = self.shift();
        let after = before.settled_by(number);
        if after != before {
            // If the server's text has just been changed again, this was about the change before, and says nothing.
            let _other = self.shift.compare_exchange(before.to_word(), after.to_word(), Release, Relaxed);
        }
    }
}

/// What all workers remember together.
#[derive(Debug)]
pub struct Apps {
    cells: Box<[Cell]>,
    free: Free,
    expected: AtomicU64,
}

impl Apps {
    /// Nothing remembered.
    pub(in crate::director) fn new() -> Self {
        let cells = (0..MAX_HELPED).map(|_| Cell::default()).collect();
        Self { cells, free: Free::new(MAX_HELPED), expected: AtomicU64::new(0) }
    }

    /// The mark of a new connection with a helper; none if there is no room. `passed` as of the table.
    pub(super) fn take(&self, passed: impl Fn(u64) -> bool) -> Option<u32> {
        let number = self.free.take(passed)?;
        let cell = self.cells.get(number as usize)?;
        cell.ask(0);
        cell.set_shift(Shift::default());
        Some(number + 1)
    }

    /// What is remembered of the connection with this mark.
    pub(super) fn cell(&self, mark: u32) -> Option<&Cell> {
        self.cells.get(mark.checked_sub(1)? as usize)
    }

    /// The connection with this mark has ended, or never began; `stamp` is of the moment.
    pub(in crate::director) fn forget(&self, mark: u32, stamp: impl Fn() -> u64) {
        match mark {
            0 => {}
            EXPECTED => drop(self.expected.fetch_sub(1, Relaxed)),
            mark if Self::is_followed(mark) => self.free.put(mark - 1, stamp()),
            // Of others, which keep nothing here.
            _ => {}
        }
    }

    /// True for the mark of a connection that others may follow.
    pub(in crate::director) const fn is_followed(mark: u32) -> bool {
        mark != 0 && mark <= MAX_HELPED
    }

    /// One more connection is expected.
    pub(super) fn expect(&self) {
        self.expected.fetch_add(1, Relaxed);
    }

    /// True if any connection is expected.
    pub(super) fn expects(&self) -> bool {
        self.expected.load(Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_as_new_when_it_is_taken_again() {
        let apps = Apps::new();
        let marks: Vec<_> = (0..MAX_HELPED).map(|_| apps.take(|_| true).unwrap()).collect();
        assert_eq!(apps.take(|_| true), None, "the bound");
        apps.cell(marks[7]).unwrap().ask(7);
        apps.forget(marks[7], || 5);
        for mark in [0, MAX_HELPED + 1, EXPECTED - 1] {
            apps.forget(mark, || panic!("nothing was kept"));
        }
        assert_eq!(apps.take(|_| true), Some(marks[7]));
        assert_eq!(apps.cell(marks[7]).unwrap().asked(), 0);
        assert!([0, MAX_HELPED + 1, EXPECTED].iter().all(|&mark| apps.cell(mark).is_none()));
    }
}
