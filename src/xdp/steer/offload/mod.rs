//! Offloaded flows as the steering program knows them: `src/xdp/flows.bpf.h` says what each map is for.
//!
//! | file | owns |
//! | --- | --- |
//! | here | flows: what is done to the packets of which key |
//! | `came_up` | why packets of flows came up all the same |
//! | `tallies` | what was counted, and whether a flow still holds: memory shared with the program |
//! | `ways` | next hops, interfaces to leave by, and the numbers that all flows depend on |
//!
//! Must not know whose flows they are, nor when one may be offloaded: it is told keys, edits and places.

mod came_up;
mod tallies;
mod ways;

use std::net::IpAddr;

use aya::maps::{HashMap, Map, MapData, MapError};
use aya::{Ebpf, Pod};

pub use came_up::{CameUp, Why};
pub use tallies::{Tallies, Tally, monotonic_ns};
pub(super) use ways::MAX_STATIONS;
pub use ways::{MAX_HOPS, NextHop, Ways};

use super::{SteerError, take, write_error};

/// The least number of flows that room can be made for.
pub const FLOWS_MIN: u32 = 1;
/// The most: 16 million flows, whose tallies take a gibibyte.
pub const FLOWS_MAX: u32 = 1 << 24;

/// What the packets of a flow carry, or are to carry: addresses of one IP version, and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Source port, in host order.
    pub source_port: u16,
    /// Destination port, in host order.
    pub destination_port: u16,
}

/// What a packet has to have to be of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// IP protocol number: 6 (TCP), 17 (UDP) or 132 (SCTP).
    pub protocol: u8,
    /// Addresses and ports.
    pub tuple: Tuple,
}

/// What becomes of a packet besides TTL and MAC addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// Nothing.
    AsItCame,
    /// It carries this, of its own IP version; and an SCTP packet the ports that it came with.
    With(Tuple),
    /// It is wrapped into a packet that carries this.
    In(Wrap, Tuple),
}

/// What is between the two IP headers of a wrapped packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrap {
    /// Of which kind.
    pub tunnel: Tunnel,
    /// Whether the outer packet has the inner one's DF, both being IPv4; it has none otherwise.
    pub copies_df: bool,
}

/// The kinds of tunnels, in the order of `enum wrap` in the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// Nothing.
    Ipip,
    /// GRE's header without options.
    Gre,
    /// Headers of UDP, whose ports are those of the outer tuple, and GUE.
    Gue,
}

/// What is done to the packets of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edit {
    /// What becomes of them besides TTL and MAC addresses.
    pub leaves: Leaves,
    /// The difference that all edits make to the IP header checksum, the TTL's included (RFC 1624).
    pub l3: u16,
    /// The difference that the edits make to the transport checksum, which no wrapped packet needs.
    pub l4: u16,
    /// Where they go: a number below [`MAX_HOPS`].
    pub hop: u32,
}

/// Which tally a flow is counted in, and what that has to say for the flow to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number of the tally.
    pub tally: u32,
    /// Its serial number.
    pub serial: u32,
}

/// Beside the kind of a tunnel: DF is copied, the outer packet is IPv6.
const COPIES_DF: u16 = 0x100;
const OUTER_V6: u16 = 0x200;

type KeyBytes = [u8; 16];
type KeyBytes6 = [u8; 40];
type ValueBytes = [u8; 56];

impl Tuple {
    const fn is_v4(&self) -> bool {
        self.source.is_ipv4()
    }

    /// Both addresses as they follow each other in a packet; those of IPv4 with zeroes behind.
    fn addresses(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                bytes[..4].copy_from_slice(&source.octets());
                bytes[4..8].copy_from_slice(&destination.octets());
            }
            (source, destination) => {
                let octets = |address| match address {
                    IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                    IpAddr::V6(address) => address.octets(),
                };
                bytes[..16].copy_from_slice(&octets(source));
                bytes[16..].copy_from_slice(&octets(destination));
            }
        }
        bytes
    }

    fn ports(&self) -> [u8; 4] {
        (u32::from(self.source_port) << 16 | u32::from(self.destination_port)).to_be_bytes()
    }
}

impl FlowKey {
    /// `struct flow_key` of the program.
    fn bytes(&self) -> KeyBytes {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.tuple.addresses()[..8]);
        bytes[8..12].copy_from_slice(&self.tuple.ports());
        bytes[12] = self.protocol;
        bytes
    }

    /// `struct flow_key6` of the program.
    fn bytes6(&self) -> KeyBytes6 {
        let mut bytes = [0; 40];
        bytes[..32].copy_from_slice(&self.tuple.addresses());
        bytes[32..36].copy_from_slice(&self.tuple.ports());
        bytes[36] = self.protocol;
        bytes
    }
}

/// `struct flow` of the program.
fn value(edit: &Edit, place: Place) -> ValueBytes {
    let mut bytes = [0; 56];
    let (kind, tuple, l4) = match edit.leaves {
        Leaves::AsItCame => (0, None, edit.l4),
        Leaves::With(tuple) => (1, Some(tuple), edit.l4),
        Leaves::In(wrap, tuple) => {
            let df = if wrap.copies_df { COPIES_DF } else { 0 };
            let version = if tuple.is_v4() { 0 } else { OUTER_V6 };
            (2, Some(tuple), wrap.tunnel as u16 | df | version)
        }
    };
    let numbers = [place.tally, place.serial, edit.hop, kind];
    for (to, number) in bytes.chunks_exact_mut(4).zip(numbers) {
        to.copy_from_slice(&number.to_ne_bytes());
    }
    bytes[16..20].copy_from_slice(&tuple.map_or([0; 4], |tuple| tuple.ports()));
    bytes[20..22].copy_from_slice(&edit.l3.to_ne_bytes());
    bytes[22..24].copy_from_slice(&l4.to_ne_bytes());
    bytes[24..].copy_from_slice(&tuple.map_or([0; 32], |tuple| tuple.addresses()));
    bytes
}

fn place_of(value: &ValueBytes) -> Place {
    let &[a, b, c, d, e, f, g, h, ..] = value;
    Place { tally: u32::from_ne_bytes([a, b, c, d]), serial: u32::from_ne_bytes([e, f, g, h]) }
}

/// The maps of flows. Whoever has them is the only one that writes them.
#[derive(Debug)]
pub struct Flows {
    v4: HashMap<MapData, KeyBytes, ValueBytes>,
    v6: HashMap<MapData, KeyBytes6, ValueBytes>,
}

impl Flows {
    pub(super) fn of(ebpf: &mut Ebpf) -> Result<Self, SteerError> {
        Ok(Self { v4: take(ebpf, "flows")?, v6: take(ebpf, "flows6")? })
    }

    /// Has packets with `key` edited from now on, as long as the tally at `place` agrees. What was done to them before
    /// is not any more. One system call.
    ///
    /// # Errors
    /// When the map is full, or the kernel is out of memory.
    pub fn set(&mut self, key: &FlowKey, edit: &Edit, place: Place) -> Result<(), SteerError> {
        let value = value(edit, place);
        if key.tuple.is_v4() {
            self.v4.insert(key.bytes(), value, 0).map_err(|source| write_error("flows", source))
        } else {
            self.v6.insert(key.bytes6(), value, 0).map_err(|source| write_error("flows6", source))
        }
    }

    /// Removes what is there for `key` if it is of `place`: another one may have taken its place. Two system calls.
    ///
    /// # Errors
    /// If the kernel refuses to be asked, which it has no reason to.
    pub fn remove(&mut self, key: &FlowKey, place: Place) -> Result<(), SteerError> {
        if key.tuple.is_v4() {
            remove(&mut self.v4, &key.bytes(), place).map_err(|source| write_error("flows", source))
        } else {
            remove(&mut self.v6, &key.bytes6(), place).map_err(|source| write_error("flows6", source))
        }
    }

    /// How many there are: for tests, since it asks for each of them.
    pub fn count(&self) -> usize {
        self.v4.keys().count() + self.v6.keys().count()
    }
}

fn remove<K: Pod>(map: &mut HashMap<MapData, K, ValueBytes>, key: &K, place: Place) -> Result<(), MapError> {
    match map.get(key, 0) {
        Ok(value) if place_of(&value) == place => map.remove(key),
        Ok(_) | Err(MapError::KeyNotFound) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Everything of the program that offloading needs: see [`Steering::offload`](super::Steering::offload).
#[derive(Debug)]
pub struct Offload {
    /// What is done to which packets.
    pub flows: Flows,
    /// What was counted of them.
    pub tallies: Tallies,
    /// Where they go.
    pub ways: Ways,
    /// Why packets came up all the same.
    pub came_up: CameUp,
}

impl Offload {
    pub(super) fn of(ebpf: &mut Ebpf, flows: u32) -> Result<Self, SteerError> {
        let Some(Map::Array(tallies)) = ebpf.take_map("tallies") else {
            return Err(SteerError::Incomplete { part: "tallies" });
        };
        Ok(Self {
            flows: Flows::of(ebpf)?,
            tallies: Tallies::new(tallies, flows).map_err(SteerError::Tallies)?,
            ways: Ways::of(ebpf)?,
            came_up: CameUp::of(ebpf)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_has_the_same_limits() {
        let source = include_str!("../../flows.bpf.h");
        assert!(source.contains(&format!("#define MAX_HOPS {MAX_HOPS}\n")));
        assert_eq!(MAX_STATIONS, 2 * MAX_HOPS);
        assert!(source.contains(&format!("#define COPIES_DF {COPIES_DF:#x}\n")));
        assert!(source.contains(&format!("#define OUTER_V6 {OUTER_V6:#x}\n")));
        assert!(source.contains("#define MAX_STATIONS (2 * MAX_HOPS)\n"));
    }

    #[test]
    fn a_value_tells_its_place() {
        let place = Place { tally: 0x0102_0304, serial: 0x0506_0708 };
        assert_eq!(place_of(&value(&Edit { leaves: Leaves::AsItCame, l3: 1, l4: 2, hop: 3 }, place)), place);
    }
}
