//! Ranges: what is ours by protocol, networks and ports, and its bytes in the maps.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use aya::maps::{Array, MapData};
use ipnet::IpNet;

use super::{SteerError, write_error};

/// The most ranges: the program looks through them one by one.
pub const MAX_RANGES: usize = 64;

/// Packets of a protocol to some ports of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// IP protocol number: 6 (TCP), 17 (UDP) or 132 (SCTP).
    pub protocol: u8,
    /// Where they go. Host bits do not matter, here and in the source.
    pub destination: IpNet,
    /// The first port they go to, in host order.
    pub port_first: u16,
    /// The last port they go to.
    pub port_last: u16,
    /// Where they come from, if not from anywhere; of the destination's family.
    pub source: Option<IpNet>,
}

impl Range {
    /// An error if no packet can be in the range.
    pub(super) fn check(&self) -> Result<(), SteerError> {
        let is_v6 = |net: IpNet| matches!(net, IpNet::V6(_));
        let is_mixed = self.source.is_some_and(|source| is_v6(source) != is_v6(self.destination));
        if is_mixed || self.port_first > self.port_last {
            return Err(SteerError::Range { range: *self });
        }
        Ok(())
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, destination, port_first, port_last, source } = self;
        write!(f, "IP protocol {protocol} to {destination} ports {port_first}-{port_last}")?;
        source.map_or(Ok(()), |source| write!(f, " from {source}"))
    }
}

/// The size of `struct range` in the program.
const RANGE_LEN: usize = 72;
/// Where its list ends in `struct ranges`, and the count is.
const COUNT_AT: usize = MAX_RANGES * RANGE_LEN;

/// The bytes of `struct ranges`: all ranges, their count, four unused.
type Bank = [u8; COUNT_AT + 8];

/// The bytes of `struct network`: address and mask.
fn network_value(net: IpNet) -> [u8; 32] {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let (address, mask) = (octets(net.network()), octets(net.netmask()));
    let mut value = [0; 32];
    value[..address.len()].copy_from_slice(&address);
    value[16..16 + mask.len()].copy_from_slice(&mask);
    value
}

/// The bytes of `struct range`: destination, source, first and last port, protocol, family, two unused.
fn range_value(range: &Range) -> [u8; RANGE_LEN] {
    let mut value = [0; RANGE_LEN];
    value[..32].copy_from_slice(&network_value(range.destination));
    // From anywhere is a mask of zeros.
    value[32..64].copy_from_slice(&range.source.map_or([0; 32], network_value));
    value[64..66].copy_from_slice(&range.port_first.to_ne_bytes());
    value[66..68].copy_from_slice(&range.port_last.to_ne_bytes());
    value[68] = range.protocol;
    value[69] = if matches!(range.destination, IpNet::V4(_)) { 4 } else { 6 };
    value
}

/// The ranges in their places.
type Places = [Option<Range>; MAX_RANGES];

/// What is wanted in place of what is there; what stays keeps its place.
fn replaced(present: &Places, wanted: &BTreeSet<Range>) -> Places {
    let mut places = present.map(|place| place.filter(|range| wanted.contains(range)));
    let new = wanted.iter().filter(|range| !present.contains(&Some(**range)));
    for (place, range) in places.iter_mut().filter(|place| place.is_none()).zip(new) {
        *place = Some(*range);
    }
    places
}

/// What the program is told.
fn bank(places: &Places) -> Bank {
    let mut bank = [0; COUNT_AT + 8];
    let mut count = 0_u32;
    for ((bytes, place), number) in bank.chunks_exact_mut(RANGE_LEN).zip(places).zip(1..) {
        if let Some(range) = place {
            bytes.copy_from_slice(&range_value(range));
            count = number;
        }
    }
    bank[COUNT_AT..COUNT_AT + 4].copy_from_slice(&count.to_ne_bytes());
    bank
}

/// The ranges in the kernel, of which there are two lists; the program says why.
pub(super) struct RangeMap {
    banks: Array<MapData, Bank>,
    /// Number of the list that counts.
    in_use: Array<MapData, u32>,
    number: u32,
    /// What is in that.
    places: Places,
}

impl RangeMap {
    /// Of maps in which nothing is yet.
    pub(super) const fn new(banks: Array<MapData, Bank>, in_use: Array<MapData, u32>) -> Self {
        Self { banks, in_use, number: 0, places: [None; MAX_RANGES] }
    }

    /// Puts all of `wanted`, at most [`MAX_RANGES`], in the place of all there is, at once. What stays keeps its
    /// place.
    ///
    /// # Errors
    /// If the kernel refuses a write; the ranges are those from before then.
    pub(super) fn replace(&mut self, wanted: &BTreeSet<Range>) -> Result<(), SteerError> {
        let places = replaced(&self.places, wanted);
        if places == self.places {
            return Ok(());
        }
        let other = 1 - self.number;
        self.banks.set(other, bank(&places), 0).map_err(|source| write_error("ranges", source))?;
        self.in_use.set(0, other, 0).map_err(|source| write_error("ranges_in_use", source))?;
        self.number = other;
        self.places = places;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(destination: &str, ports: (u16, u16), source: Option<&str>) -> Range {
        Range {
            protocol: 6,
            destination: destination.parse().unwrap(),
            port_first: ports.0,
            port_last: ports.1,
            source: source.map(|net| net.parse().unwrap()),
        }
    }

    #[test]
    fn what_stays_keeps_its_place_and_all_find_one() {
        let numbered = |numbers: std::ops::Range<u16>| -> BTreeSet<Range> {
            numbers.map(|number| range("10.0.0.0/8", (number, number), None)).collect()
        };
        let mut places = [None; MAX_RANGES];
        for numbers in [100..164, 130..194, 190..200, 10..30, 20..84, 0..0, 70..90] {
            let wanted = numbered(numbers);
            let after = replaced(&places, &wanted);
            assert_eq!(after.iter().flatten().count(), wanted.len());
            assert_eq!(after.iter().flatten().copied().collect::<BTreeSet<_>>(), wanted);
            for (before, after) in places.iter().zip(after) {
                let stays = before.is_some_and(|range| wanted.contains(&range));
                assert!(!stays || after == *before, "{before:?} became {after:?}");
            }
            places = after;
        }
    }

    #[test]
    fn a_range_that_no_packet_is_in_is_an_error_that_says_why() {
        for (wrong, named) in [
            (range("10.0.0.0/8", (81, 80), None), "10.0.0.0/8 ports 81-80"),
            (range("10.0.0.0/8", (0, 0), Some("fd00::/8")), "from fd00::/8"),
            (range("fd00::/8", (0, 0), Some("0.0.0.0/0")), "from 0.0.0.0/0"),
        ] {
            let error = wrong.check().unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        range("10.0.0.0/8", (80, 80), Some("0.0.0.0/0")).check().unwrap();
        range("::/0", (0, u16::MAX), Some("fd00::/8")).check().unwrap();
    }
}
