//! The names that engines found, for listings: templates are led to by digests of them, so that one that finds no room
//! here does its work all the same.

use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use zerocopy::FromZeros;

use super::{Engine, MAX_NAME};
use crate::director::aside::Free;

/// Names there may be at once: 264 bytes each, taken as they are used.
pub const MAX_NAMES: u32 = 65_536;

/// Words of eight bytes that a name takes.
const WORDS: usize = (MAX_NAME + 1) / 8;

#[derive(Debug, FromZeros)]
#[repr(C)]
struct Cell {
    /// The engine's number and the name's length.
    head: AtomicU64,
    words: [AtomicU64; WORDS],
}

/// See the module.
#[derive(Debug)]
pub struct Names {
    cells: Box<[Cell]>,
    free: Free,
}

impl Names {
    /// No names.
    ///
    /// # Panics
    /// When there is no memory for them: 264 bytes each.
    pub(in crate::director) fn new() -> Self {
        let cells = FromZeros::new_vec_zeroed(MAX_NAMES as usize).expect("264 bytes for each name");
        Self { cells: Vec::into_boxed_slice(cells), free: Free::new(MAX_NAMES) }
    }

    /// Keeps a name of at most [`MAX_NAME`] bytes. By what comes back it is found; 0: there was no room. `passed` as of
    /// the table.
    pub(in crate::director) fn keep(&self, engine: Engine, name: &[u8], passed: impl Fn(u64) -> bool) -> u32 {
        let Some(number) = self.free.take(passed) else { return 0 };
        let Some(cell) = self.cells.get(number as usize) else { return 0 };
        for (word, bytes) in cell.words.iter().zip(name.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            word.store(u64::from_le_bytes(whole), Relaxed);
        }
        cell.head.store((engine as u64) << 16 | name.len().min(MAX_NAME) as u64, Release);
        number + 1
    }

    /// A name is not needed any more; `stamp` is of the moment.
    pub(in crate::director) fn forget(&self, mark: u32, stamp: impl Fn() -> u64) {
        if let Some(number) = mark.checked_sub(1) {
            self.free.put(number, stamp());
        }
    }

    /// The engine and the name it found. For who looks at the template itself, which has the name as long as it is there.
    pub fn find(&self, mark: u32) -> Option<(Engine, String)> {
        let cell = self.cells.get(mark.checked_sub(1)? as usize)?;
        let head = cell.head.load(Acquire);
        let engine = Engine::ALL.iter().find(|engine| **engine as u64 == head >> 16)?;
        let bytes = cell.words.iter().flat_map(|word| word.load(Relaxed).to_le_bytes());
        let name = bytes.take(usize::try_from(head & 0xffff).ok()?).map(char::from).collect();
        Some((*engine, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_as_long_as_it_is_kept() {
        let names = Names::new();
        let longest = "x".repeat(MAX_NAME);
        let marks =
            ["a", "12345678", &longest].map(|name| names.keep(Engine::Sip, name.as_bytes(), |_| true));
        for (mark, name) in marks.into_iter().zip(["a", "12345678", &longest]) {
            assert_eq!(names.find(mark), Some((Engine::Sip, name.to_owned())));
        }
        names.forget(marks[2], || 1);
        names.forget(0, || panic!("nothing was kept"));
        assert_eq!(names.keep(Engine::Sip, b"b", |_| true), marks[2]);
        assert_eq!(names.find(marks[2]), Some((Engine::Sip, "b".to_owned())));
        assert_eq!((names.find(0), names.find(MAX_NAMES + 1)), (None, None));
    }
}
