//! Tests of `index` and `quiesce`, which stand apart because `tests/loom.rs` compiles those files again.

use proptest::prelude::*;
use std::collections::HashMap;

use super::index::{Bucket, Entry, Index, NotInserted, PLACES};
use super::quiesce::Quiesce;

#[test]
fn a_slot_waits_for_every_worker_that_was_in_a_batch() {
    let q = Quiesce::new(3);
    assert!(q.passed(q.stamp()), "all rest");
    q.enter(0);
    q.enter(1);
    let stamp = q.stamp();
    assert!(!q.passed(stamp));
    q.enter(0);
    assert!(!q.passed(stamp), "worker 1 is still in its batch");
    q.enter(2);
    assert!(!q.passed(stamp));
    q.rest(1);
    assert!(q.passed(stamp));
    q.enter(1);
    assert!(q.passed(stamp), "and stays passed");
}

fn index(buckets: usize) -> Index<Box<[Bucket]>> {
    Index::new((0..buckets).map(|_| Bucket::new()).collect())
}

#[test]
fn one_bucket_is_one_cache_line() {
    assert_eq!(size_of::<Bucket>(), 64);
}

#[test]
fn an_empty_place_is_nobodys_whatever_the_tag() {
    for hash in [0, 1, 1 << 32, 1 << 33, u64::MAX >> 31, u64::MAX] {
        let index = index(2);
        assert_eq!(index.find(hash, |_| true), None, "{hash:x}");
        for reply in [false, true] {
            index.insert(hash, 0, reply, |e| e.reply() == reply).unwrap();
            let found = index.find(hash, |e| e.reply() == reply);
            assert_eq!(found.map(|e| (e.slot(), e.reply())), Some((0, reply)), "{hash:x}");
            assert_eq!(index.find(hash ^ 1 << 33, |_| true), None, "another tag");
        }
    }
}

#[test]
fn colliding_keys_end_in_a_refusal_after_two_buckets() {
    let index = index(8);
    let inserted = (0..100).take_while(|&slot| index.insert(5, slot, false, |_| false).is_ok()).count();
    assert_eq!(inserted, 2 * PLACES);
    assert_eq!(index.insert(5, 100, false, |_| false), Err(NotInserted::Full));
    for slot in 0..14 {
        assert!(index.find(5, |e| e.slot() == slot).is_some());
        assert!(index.remove(5, slot, false));
    }
    assert!(index.find(5, |_| true).is_none());
    // Nothing overflows any more: the first bucket alone takes what it took at first.
    let again = (0..100).take_while(|&slot| index.insert(5, slot, false, |_| false).is_ok()).count();
    assert_eq!(again, 2 * PLACES);
}

proptest! {
    /// The oracle is a hash map from key to slot; hashes are chosen to collide.
    #[test]
    fn any_history_equals_a_map(steps in proptest::collection::vec((0u32..60, any::<bool>()), 1..400)) {
        let index = index(4);
        let hash = |key: u32| u64::from(key % 23).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut oracle: HashMap<u32, ()> = HashMap::new();
        for (key, insert) in steps {
            let is = |e: Entry| e.slot() == key && !e.reply();
            if insert {
                match index.insert(hash(key), key, false, is) {
                    Ok(()) => prop_assert!(oracle.insert(key, ()).is_none()),
                    Err(NotInserted::Exists(e)) => prop_assert!(e.slot() == key && oracle.contains_key(&key)),
                    Err(NotInserted::Full) => prop_assert!(!oracle.contains_key(&key)),
                }
            } else {
                prop_assert_eq!(index.remove(hash(key), key, false), oracle.remove(&key).is_some());
            }
            for key in 0..60 {
                let found = index.find(hash(key), |e| e.slot() == key).is_some();
                prop_assert_eq!(found, oracle.contains_key(&key));
            }
        }
    }
}
