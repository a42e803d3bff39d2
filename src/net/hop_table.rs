//! Names for next hops: (interface, address) to a number that never changes meaning.
//!
//! Append-only, so that a number kept in a connection stays valid for the life of the process.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::snapshot::HopId;

/// Most next hops a process can name. Far above what a kernel keeps neighbours for at one time
/// (`gc_thresh3`, 1,024 by default); the room is for clients that come and go on a connected network.
pub const MAX_HOPS: usize = 65_536;

/// Ids of a next hop behind a bond: flows are spread over them, and they over the members that send at the moment. Even
/// over up to four members, and six.
const BOND_LANES: u16 = 12;

/// The ids of a next hop, one after the other: one for each lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lanes {
    first: u32,
    count: u16,
}

impl Lanes {
    /// The id for every flow, if there is one.
    pub(crate) fn only(self) -> Option<HopId> {
        (self.count == 1).then_some(HopId(self.first))
    }

    /// The id for a flow.
    pub(crate) fn choose(self, flow_hash: u32) -> HopId {
        // Scaled from other bits than those that have chosen among equal routes (Knuth's multiplicative hashing).
        let scaled = (u64::from(flow_hash.wrapping_mul(0x9e37_79b1)) * u64::from(self.count)) >> 32;
        HopId(self.first + u32::try_from(scaled).unwrap_or(0))
    }
}

/// A next hop: interface index and the address on that link, a gateway's or the destination's own.
pub(crate) type HopKey = (u32, IpAddr);

/// The ids of next hops, by what they stand for.
pub(crate) type HopIds = HashMap<HopKey, Lanes, RandomState>;

/// The append-only table.
#[derive(Debug, Default)]
pub(crate) struct HopTable {
    ids: Arc<HopIds>,
    keys: Vec<(HopKey, u16)>,
    /// Interfaces whose next hops have several lanes.
    bonds: BTreeSet<u32>,
    refused: u64,
}

impl HopTable {
    /// The interfaces that are bonds, or VLANs on one.
    pub(crate) fn set_bonds(&mut self, bonds: BTreeSet<u32>) {
        self.bonds = bonds;
    }

    /// The ids of `key`, given on first ask. `None`, counted, when the table is full.
    pub(crate) fn id(&mut self, key: HopKey) -> Option<Lanes> {
        if let Some(lanes) = self.ids.get(&key) {
            return Some(*lanes);
        }
        let count = if self.bonds.contains(&key.0) { BOND_LANES } else { 1 };
        if self.keys.len() + usize::from(count) > MAX_HOPS {
            self.refused += 1;
            return None;
        }
        let lanes = Lanes { first: u32::try_from(self.keys.len()).expect("bounded by MAX_HOPS"), count };
        Arc::make_mut(&mut self.ids).insert(key, lanes);
        self.keys.extend((0..count).map(|lane| (key, lane)));
        Some(lanes)
    }

    /// All keys with their lanes, at the position of their id.
    pub(crate) fn keys(&self) -> &[(HopKey, u16)] {
        &self.keys
    }

    /// The ids as they are now, shared without copying until the next new one.
    pub(crate) fn ids(&self) -> Arc<HopIds> {
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
        assert_eq!(table.keys()[first.choose(0).0 as usize], (key(0), 0));
    }

    #[test]
    fn a_next_hop_behind_a_bond_has_an_id_for_each_lane_and_flows_are_even_over_them() {
        let mut table = HopTable::default();
        table.set_bonds([1].into());
        let other = table.id((2, key(0).1)).unwrap();
        let lanes = table.id(key(1)).unwrap();
        assert_eq!(other.choose(u32::MAX), other.choose(7));
        let mut counts = HashMap::<(HopKey, u16), u32>::new();
        for port in 1024..=u16::MAX {
            // As of a flow to port 80.
            let hash = u32::from(port ^ 80) << 16 | u32::from(port ^ 80);
            let id = lanes.choose(hash);
            assert_eq!(lanes.choose(hash), id, "a flow stays where it is");
            *counts.entry(table.keys()[id.0 as usize]).or_default() += 1;
        }
        assert_eq!(counts.len(), usize::from(BOND_LANES));
        let mean = 64_512 / u32::from(BOND_LANES);
        for ((at, _), count) in counts {
            assert!(at == key(1) && count.abs_diff(mean) < mean / 10, "{count} instead of {mean}");
        }
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
