//! Where the search for a local port goes on: a place on the round of all local addresses and ports, for each server.
//!
//! Servers share cursors by chance, which costs nothing but a shorter rest of their ports: the round of a cursor is
//! that of all of its servers together.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Cursors there are: 256 KiB, touched as used.
const CURSORS: usize = 65_536;

/// The cursors.
#[derive(Debug)]
pub struct Cursors(Box<[AtomicU32]>);

impl Default for Cursors {
    fn default() -> Self {
        Self((0..CURSORS).map(|_| AtomicU32::new(0)).collect())
    }
}

impl Cursors {
    /// The cursor of the server that `hash` stands for, and how far from it the server's own round begins: nobody can
    /// tell one server's ports by another's.
    #[allow(clippy::cast_possible_truncation, reason = "halves of the hash")]
    pub(super) fn of(&self, hash: u64) -> (&AtomicU32, u32) {
        let place = (hash >> 32) as usize % CURSORS;
        (&self.0[place], hash as u32)
    }
}

/// Takes the cursor's place, a number below `count`, and moves it on.
pub(super) fn take((cursor, offset): (&AtomicU32, u32), count: u32) -> u32 {
    cursor.fetch_add(1, Relaxed).wrapping_add(offset) % count
}

/// Moves the cursor past places that were no use.
pub(super) fn skip((cursor, _): (&AtomicU32, u32), places: u32) {
    if places > 0 {
        cursor.fetch_add(places, Relaxed);
    }
}
