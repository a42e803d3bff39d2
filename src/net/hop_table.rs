//! Names for next hops: (interface, address) to a number that never changes meaning.
//!
//! Append-only, so that a number kept in a connection stays valid for the life of the process.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::snapshot::HopId;

/// Most next hops a process can name. Far above what a kernel keeps neighbours for at one time
/// (`gc_thresh3`, 1,024 by default); the room is for clients that come and go on a connected network.
pub const MAX_HOPS: usize = 65_536;

/// A next hop: interface index and the address on that link, a gateway's or the destination's own.
pub(crate) type HopKey = (u32, IpAddr);

/// The append-only table.
#[derive(Debug, Default)]
pub(crate) struct HopTable {
    ids: Arc<HashMap<HopKey, HopId>>,
    keys: Vec<HopKey>,
    refused: u64,
}

impl HopTable {
    /// The id of `key`, given on first ask. `None`, counted, when the table is full.
    pub(crate) fn id(&mut self, key: HopKey) -> Option<HopId> {
        if let Some(id) = self.ids.get(&key) {
            return Some(*id);
        }
        if self.keys.len() >= MAX_HOPS {
            self.refused += 1;
            return None;
        }
        let id = HopId(u32::try_from(self.keys.len()).expect("bounded by MAX_HOPS"));
        Arc::make_mut(&mut self.ids).insert(key, id);
        self.keys.push(key);
        Some(id)
    }

    /// All keys, at the position of their id.
    pub(crate) fn keys(&self) -> &[HopKey] {
        &self.keys
    }

    /// The ids as they are now, shared without copying until the next new one.
    pub(crate) fn ids(&self) -> Arc<HashMap<HopKey, HopId>> {
        Arc::clone(&self.ids)
    }

    /// How often an id was refused because the table is full.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> HopKey {
        (1, IpAddr::from(u32::try_from(n).unwrap().to_be_bytes()))
    }

    #[test]
    fn an_id_stays_and_the_table_is_bounded() {
        let mut table = HopTable::default();
        let first = table.id(key(0)).unwrap();
        for n in 1..MAX_HOPS {
            assert!(table.id(key(n)).is_some());
        }
        assert_eq!(table.id(key(MAX_HOPS)), None);
        assert_eq!(table.refused(), 1);
        assert_eq!(table.id(key(0)), Some(first));
        assert_eq!(table.keys()[first.0 as usize], key(0));
    }

    #[test]
    fn a_view_taken_earlier_does_not_change() {
        let mut table = HopTable::default();
        table.id(key(0));
        let view = table.ids();
        table.id(key(1));
        assert_eq!(view.len(), 1);
        assert_eq!(table.ids().len(), 2);
    }
}
