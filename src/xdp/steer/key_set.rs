//! One set of keys in the kernel, each with a number, and what this side knows to be in it.
//!
//! Reading a map back takes a system call for each key, so what was written is remembered: nobody else has the map.
//! Only after a failed write is the kernel asked what there is.

use std::collections::{BTreeMap, BTreeSet};

use aya::maps::{HashMap, MapData, MapError};

use super::SteerError;
use super::rules::{Key, Keyed};

/// A set of keys as the kernel keeps it.
pub(super) trait Store {
    fn insert(&mut self, key: &Key, value: u32) -> Result<(), MapError>;
    fn remove(&mut self, key: &Key) -> Result<(), MapError>;
    fn entries(&self) -> Result<Vec<(Key, u32)>, MapError>;
}

pub(super) type KeyMap = HashMap<MapData, Key, u32>;

impl Store for KeyMap {
    fn insert(&mut self, key: &Key, value: u32) -> Result<(), MapError> {
        Self::insert(self, key, value, 0)
    }

    fn remove(&mut self, key: &Key) -> Result<(), MapError> {
        Self::remove(self, key)
    }

    fn entries(&self) -> Result<Vec<(Key, u32)>, MapError> {
        self.iter().collect()
    }
}

/// The map called `name` in the program.
#[derive(Debug)]
pub(super) struct KeySet<T, S = KeyMap> {
    name: &'static str,
    store: S,
    /// What is in the map, unless a write has failed since.
    present: BTreeMap<T, u32>,
    has_failed: bool,
}

impl<T: Keyed, S: Store> KeySet<T, S> {
    /// Of a map in which nothing is yet.
    pub(super) const fn new(name: &'static str, store: S) -> Self {
        Self { name, store, present: BTreeMap::new(), has_failed: false }
    }

    /// Adds what of `wanted` is not there, or there with another value, and returns what is there and not wanted.
    pub(super) fn add(
        &mut self,
        wanted: &BTreeSet<T>,
        value: impl Fn(&T) -> u32,
    ) -> Result<Vec<T>, SteerError> {
        self.recall()?;
        // Both in one pass: that is most of the time for large sets.
        let (mut new, mut old) = (Vec::new(), Vec::new());
        let mut present = self.present.iter().peekable();
        for item in wanted {
            while let Some((other, _)) = present.next_if(|(other, _)| *other < item) {
                old.push(*other);
            }
            let (there, value) = (present.next_if(|(other, _)| *other == item), value(item));
            if there.is_none_or(|(_, there)| *there != value) {
                new.push((*item, value));
            }
        }
        old.extend(present.map(|(other, _)| *other));
        for (item, value) in new {
            let written = self.store.insert(&item.key(), value);
            self.check(written)?;
            self.present.insert(item, value);
        }
        Ok(old)
    }

    /// Removes these, which are there.
    pub(super) fn remove(&mut self, old: Vec<T>) -> Result<(), SteerError> {
        for item in old {
            let written = self.store.remove(&item.key());
            self.check(written)?;
            self.present.remove(&item);
        }
        Ok(())
    }

    fn check(&mut self, written: Result<(), MapError>) -> Result<(), SteerError> {
        self.has_failed |= written.is_err();
        written.map_err(|source| SteerError::Map { map: self.name, act: "written", source })
    }

    /// Asks the kernel what there is if a write has failed.
    fn recall(&mut self) -> Result<(), SteerError> {
        if self.has_failed {
            let entries = self.store.entries();
            let entries =
                entries.map_err(|source| SteerError::Map { map: self.name, act: "read", source })?;
            self.present = entries.iter().map(|(key, value)| (T::from_key(key), *value)).collect();
            self.has_failed = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    /// A map that counts what is asked of it and refuses when told to.
    #[derive(Debug, Default)]
    struct Fake {
        keys: BTreeMap<Key, u32>,
        /// Writes until one is refused.
        writes_left: Option<usize>,
        writes: usize,
        reads: Cell<usize>,
    }

    impl Fake {
        fn write(&mut self) -> Result<(), MapError> {
            self.writes += 1;
            match self.writes_left.take() {
                Some(0) => Err(MapError::OutOfBounds { index: 0, max_entries: 0 }),
                left => {
                    self.writes_left = left.map(|left| left - 1);
                    Ok(())
                }
            }
        }
    }

    impl Store for Fake {
        fn insert(&mut self, key: &Key, value: u32) -> Result<(), MapError> {
            self.write()?;
            assert_ne!(self.keys.insert(*key, value), Some(value), "what is there is not written again");
            Ok(())
        }

        fn remove(&mut self, key: &Key) -> Result<(), MapError> {
            self.write()?;
            assert!(self.keys.remove(key).is_some(), "what is not there is not removed");
            Ok(())
        }

        fn entries(&self) -> Result<Vec<(Key, u32)>, MapError> {
            self.reads.set(self.reads.get() + 1);
            Ok(self.keys.iter().map(|(key, value)| (*key, *value)).collect())
        }
    }

    fn addresses(last_bytes: impl IntoIterator<Item = u8>) -> BTreeSet<IpAddr> {
        last_bytes.into_iter().map(|last| Ipv4Addr::new(10, 0, 0, last).into()).collect()
    }

    fn set_of(last_bytes: impl IntoIterator<Item = u8>) -> KeySet<IpAddr, Fake> {
        let mut set = KeySet::new("vips", Fake::default());
        set.add(&addresses(last_bytes), |_| 0).unwrap();
        set
    }

    fn replace(set: &mut KeySet<IpAddr, Fake>, wanted: &BTreeSet<IpAddr>) -> Result<(), SteerError> {
        let old = set.add(wanted, |_| 0)?;
        set.remove(old)
    }

    fn holds(set: &KeySet<IpAddr, Fake>, wanted: &BTreeSet<IpAddr>) -> bool {
        set.store.keys.keys().copied().eq(wanted.iter().map(Keyed::key).collect::<BTreeSet<_>>())
    }

    #[test]
    fn only_differences_are_written_and_nothing_is_read() {
        let mut set = set_of(0..100);
        set.store.writes = 0;
        let wanted = addresses(1..102);
        let old = set.add(&wanted, |_| 0).unwrap();
        assert_eq!(set.store.writes, 2, "two are new");
        set.remove(old).unwrap();
        assert_eq!(set.store.writes, 3, "and one is old");
        assert!(holds(&set, &wanted));
        replace(&mut set, &wanted).unwrap();
        assert_eq!((set.store.writes, set.store.reads.get()), (3, 0));
    }

    #[test]
    fn another_value_is_written_and_its_key_stays() {
        let mut set = set_of(0..4);
        let (wanted, first) = (addresses(0..4), "10.0.0.0".parse::<IpAddr>().unwrap());
        set.store.writes = 0;
        let old = set.add(&wanted, |address| if *address == first { 20 } else { 0 }).unwrap();
        assert_eq!((old.len(), set.store.writes), (0, 1));
        assert_eq!(set.store.keys[&first.key()], 20);
        assert!(holds(&set, &wanted));
        replace(&mut set, &wanted).unwrap();
        assert_eq!((set.store.writes, set.store.keys[&first.key()]), (2, 0));
    }

    #[test]
    fn after_a_failed_write_the_map_is_read_once_and_believed() {
        for writes_left in 0..6 {
            let mut set = set_of(0..4);
            let wanted = addresses(3..7);
            set.store.writes_left = Some(writes_left);
            replace(&mut set, &wanted).unwrap_err();
            // What the failure left behind is not what this side would think.
            set.store.writes_left = None;
            set.store.keys.remove(&wanted.first().unwrap().key());
            set.store.keys.extend(addresses([99]).iter().map(|address| (address.key(), 0)));

            replace(&mut set, &wanted).unwrap();
            assert!(holds(&set, &wanted), "failed after {writes_left} writes");
            assert_eq!(set.store.reads.get(), 1);
        }
    }
}
