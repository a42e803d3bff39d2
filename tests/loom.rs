//! The table's two delicate files under loom: every interleaving and reordering of small cases.
//!
//! The files are compiled here a second time, with loom's atomics in place of the real ones.

#![allow(dead_code, missing_docs)]

mod atomic {
    pub use loom::hint::spin_loop;
    pub use loom::sync::atomic::{AtomicU64, Ordering, fence};
}

#[path = "../src/director/conn/index.rs"]
mod index;
#[path = "../src/director/conn/quiesce.rs"]
mod quiesce;

use index::{Bucket, Index, NotInserted};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use quiesce::Quiesce;

fn small_index() -> Index<Vec<Bucket>> {
    Index::new((0..2).map(|_| Bucket::new()).collect())
}

/// A removed slot is written again only when no worker reads it any more.
#[test]
fn a_slot_is_never_reused_under_a_reader() {
    loom::model(|| {
        // The link is the index in small; the cell is the slot's content, 1 while it is the connection's.
        let link = Arc::new(AtomicU64::new(1));
        let cell = Arc::new(AtomicU64::new(1));
        let quiesce = Arc::new(Quiesce::new(1));
        let reader = {
            let (link, cell, quiesce) = (link.clone(), cell.clone(), quiesce.clone());
            thread::spawn(move || {
                for _ in 0..2 {
                    quiesce.enter(0);
                    if link.load(Ordering::Acquire) == 1 {
                        assert_eq!(cell.load(Ordering::Relaxed), 1, "a reader saw the slot's next life");
                    }
                }
                quiesce.rest(0);
            })
        };
        link.store(0, Ordering::Release);
        let stamp = quiesce.stamp();
        if quiesce.passed(stamp) {
            cell.store(2, Ordering::Relaxed);
        }
        reader.join().unwrap();
    });
}

/// Of two workers that enter the same key at once, one is told of the other's.
#[test]
fn a_key_is_entered_once() {
    loom::model(|| {
        let index = Arc::new(small_index());
        let other = {
            let index = index.clone();
            thread::spawn(move || index.insert(0, 1, false, |_| true))
        };
        let mine = index.insert(0, 0, false, |_| true);
        let theirs = other.join().unwrap();
        assert!(mine.is_ok() != theirs.is_ok(), "{mine:?} {theirs:?}");
        let winner = u32::from(mine.is_err());
        assert_eq!(index.find(0, |_| true).map(|e| e.slot()), Some(winner));
        match mine.and(theirs) {
            Err(NotInserted::Exists(entry)) => assert_eq!(entry.slot(), winner),
            other => panic!("{other:?}"),
        }
    });
}

/// A lookup finds a key that is there, whatever happens to others beside it, and sees what was written before
/// the key was entered.
#[test]
fn a_lookup_never_misses_what_is_there() {
    loom::model(|| {
        let index = Arc::new(small_index());
        let content = Arc::new(AtomicU64::new(0));
        index.insert(0, 7, false, |e| e.slot() == 7).unwrap();
        let writer = {
            let (index, content) = (index.clone(), content.clone());
            thread::spawn(move || {
                content.store(1, Ordering::Relaxed);
                index.insert(0, 8, false, |e| e.slot() == 8).unwrap();
                assert!(index.remove(0, 8, false));
            })
        };
        assert!(index.find(0, |e| e.slot() == 7).is_some());
        if index.find(0, |e| e.slot() == 8).is_some() {
            assert_eq!(content.load(Ordering::Relaxed), 1);
        }
        writer.join().unwrap();
        assert!(index.find(0, |e| e.slot() == 8).is_none());
    });
}

/// A bucket's count of what is in its overflow is in the word that locks it: none is lost while others wait for the lock.
#[test]
fn what_is_in_the_overflow_is_counted() {
    let mut bounded = loom::model::Builder::new();
    bounded.preemption_bound = Some(3);
    bounded.check(|| {
        let index = Arc::new(small_index());
        // As many as a bucket takes while the other is empty.
        (0..).take(index::COMFORTABLE).for_each(|slot| index.insert(0, slot, false, |_| false).unwrap());
        let other = {
            let index = index.clone();
            thread::spawn(move || {
                index.insert(0, 20, false, |_| false).unwrap();
                assert!(index.remove(0, 20, false));
            })
        };
        index.insert(0, 21, false, |_| false).unwrap();
        other.join().unwrap();
        assert!(index.find(0, |e| e.slot() == 21).is_some(), "looked for in the first bucket alone");
    });
}
