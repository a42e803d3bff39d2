//! Memory made ready ahead of its use, so that no packet waits while the kernel clears a page.
//!
//! The index is touched at random, so all of it is made ready at once; slots are used from the first one on, so some
//! beyond those ever used are enough. Whoever has time calls [`Table::make_ready`] again and again.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::table::Table;

/// Slots that are made ready beyond those ever used; half of them at least always are: 12 MiB.
const AHEAD: usize = 128 * 1024;

/// How much of the table's memory is ready: so many buckets, and slots, from the first one on.
#[derive(Debug, Default)]
pub(super) struct Ready {
    buckets: AtomicUsize,
    slots: AtomicUsize,
}

impl Table {
    /// Makes the index ready, and slots beyond those that were ever used. Costs a few loads if they are.
    ///
    /// # Errors
    /// The kernel's: it is older than 5.14, or short of memory. Pages are cleared when they are first touched, then.
    pub fn make_ready(&self) -> io::Result<()> {
        let buckets = self.index.buckets();
        if self.ready.buckets.load(Relaxed) < buckets.len() {
            buckets.touch(0..buckets.len())?;
            self.ready.buckets.store(buckets.len(), Relaxed);
        }
        let (ready, used) = (self.ready.slots.load(Relaxed), self.shared.touched() as usize);
        if ready < (used + AHEAD / 2).min(self.slots.len()) {
            let wanted = (used + AHEAD).min(self.slots.len());
            self.slots.touch(ready..wanted)?;
            self.ready.slots.store(wanted, Relaxed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(capacity: u32) -> Table {
        Table::new(capacity, 1, (1, 2), false).unwrap()
    }

    fn ready(table: &Table) -> (usize, usize) {
        (table.index.buckets().resident_bytes(), table.slots.resident_bytes())
    }

    #[test]
    fn the_whole_index_and_some_slots_are_there_before_they_are_used() {
        let table = table(1 << 20);
        assert_eq!(ready(&table), (0, 0), "nothing is taken unasked");
        table.make_ready().unwrap();
        let (index, slots) = ready(&table);
        let bytes = |slots: usize| slots * size_of::<super::super::Slot>();
        assert_eq!(index, size_of_val(&table.index.buckets()[..]).next_multiple_of(4096));
        // Huge pages round up.
        assert!((bytes(AHEAD)..bytes(AHEAD) + (4 << 20)).contains(&slots), "{slots}");
    }

    #[test]
    fn more_follows_as_it_is_used_and_no_more_than_there_is() {
        let table = table(1 << 18);
        table.make_ready().unwrap();
        for (used, expected) in
            [(AHEAD / 2, AHEAD), (AHEAD / 2 + 1, AHEAD / 2 + 1 + AHEAD), (1 << 18, 1 << 18)]
        {
            table.shared.assume_touched(u32::try_from(used).unwrap());
            table.make_ready().unwrap();
            assert_eq!(table.ready.slots.load(Relaxed), expected);
        }
    }
}
