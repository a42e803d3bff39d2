//! Offloaded flows as the steering program knows them: `src/xdp/offload.bpf.h` says what each map is for.
//!
//! | file | owns |
//! | --- | --- |
//! | here | flows: what is done to the packets of which key |
//! | `tallies` | what was counted, and whether a flow still holds: memory shared with the program |
//! | `ways` | next hops, interfaces to leave by, and the numbers that all flows depend on |
//!
//! Must not know whose flows they are, nor when one may be offloaded: it is told keys, edits and places.

mod tallies;
mod ways;

use std::net::Ipv4Addr;

use aya::Ebpf;
use aya::maps::{HashMap, Map, MapData, MapError};

pub use tallies::{Tallies, Tally, monotonic_ns};
pub(super) use ways::MAX_STATIONS;
pub use ways::{MAX_HOPS, NextHop, Ways};

use super::{SteerError, take, write_error};

/// The least number of flows that room can be made for.
pub const FLOWS_MIN: u32 = 1;
/// The most: 16 million flows, whose tallies take a gibibyte.
pub const FLOWS_MAX: u32 = 1 << 24;

/// What the packets of a flow carry, or are to carry: addresses and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Source port, in host order.
    pub source_port: u16,
    /// Destination port, in host order.
    pub destination_port: u16,
}

/// What a packet has to have to be of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// IP protocol number: 6 (TCP) or 17 (UDP).
    pub protocol: u8,
    /// Addresses and ports.
    pub tuple: Tuple,
}

/// What becomes of a packet besides TTL and MAC addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// Nothing.
    AsItCame,
    /// It carries this.
    With(Tuple),
    /// It is wrapped into a packet that carries this.
    In(Wrap, Tuple),
}

/// What is between the two IPv4 headers of a wrapped packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrap {
    /// Of which kind.
    pub tunnel: Tunnel,
    /// Whether the outer packet has the inner one's DF; it has none otherwise.
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

/// Beside the kind of a tunnel.
const COPIES_DF: u16 = 0x100;

type KeyBytes = [u8; 16];
type ValueBytes = [u8; 32];

impl Tuple {
    fn bytes(&self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.source.octets());
        bytes[4..8].copy_from_slice(&self.destination.octets());
        bytes[8..10].copy_from_slice(&self.source_port.to_be_bytes());
        bytes[10..].copy_from_slice(&self.destination_port.to_be_bytes());
        bytes
    }
}

impl FlowKey {
    /// `struct flow_key` of the program.
    fn bytes(&self) -> KeyBytes {
        let mut bytes = [0; 16];
        bytes[..12].copy_from_slice(&self.tuple.bytes());
        bytes[12] = self.protocol;
        bytes
    }
}

/// `struct flow` of the program.
fn value(edit: &Edit, place: Place) -> ValueBytes {
    let mut bytes = [0; 32];
    let (kind, tuple, l4) = match edit.leaves {
        Leaves::AsItCame => (0, None, edit.l4),
        Leaves::With(tuple) => (1, Some(tuple), edit.l4),
        Leaves::In(wrap, tuple) => {
            (2, Some(tuple), wrap.tunnel as u16 | if wrap.copies_df { COPIES_DF } else { 0 })
        }
    };
    let numbers = [place.tally, place.serial, edit.hop, kind];
    for (to, number) in bytes.chunks_exact_mut(4).zip(numbers) {
        to.copy_from_slice(&number.to_ne_bytes());
    }
    bytes[16..28].copy_from_slice(&tuple.map_or([0; 12], |tuple| tuple.bytes()));
    bytes[28..30].copy_from_slice(&edit.l3.to_ne_bytes());
    bytes[30..].copy_from_slice(&l4.to_ne_bytes());
    bytes
}

fn place_of(value: &ValueBytes) -> Place {
    let &[a, b, c, d, e, f, g, h, ..] = value;
    Place { tally: u32::from_ne_bytes([a, b, c, d]), serial: u32::from_ne_bytes([e, f, g, h]) }
}

/// The map of flows. Whoever has it is the only one that writes it.
#[derive(Debug)]
pub struct Flows(HashMap<MapData, KeyBytes, ValueBytes>);

impl Flows {
    pub(super) fn of(ebpf: &mut Ebpf) -> Result<Self, SteerError> {
        Ok(Self(take(ebpf, "flows")?))
    }

    /// Has packets with `key` edited from now on, as long as the tally at `place` agrees. What was done to them before
    /// is not any more. One system call.
    ///
    /// # Errors
    /// When the map is full, or the kernel is out of memory.
    pub fn set(&mut self, key: &FlowKey, edit: &Edit, place: Place) -> Result<(), SteerError> {
        self.0.insert(key.bytes(), value(edit, place), 0).map_err(|source| write_error("flows", source))
    }

    /// Removes what is there for `key` if it is of `place`: another one may have taken its place. Two system calls.
    ///
    /// # Errors
    /// If the kernel refuses to be asked, which it has no reason to.
    pub fn remove(&mut self, key: &FlowKey, place: Place) -> Result<(), SteerError> {
        let key = key.bytes();
        let removed = match self.0.get(&key, 0) {
            Ok(value) if place_of(&value) == place => self.0.remove(&key),
            Ok(_) | Err(MapError::KeyNotFound) => Ok(()),
            Err(error) => Err(error),
        };
        removed.map_err(|source| write_error("flows", source))
    }

    /// How many there are: for tests, since it asks for each of them.
    pub fn count(&self) -> usize {
        self.0.keys().count()
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
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_has_the_same_limits() {
        let source = include_str!("../../offload.bpf.h");
        assert!(source.contains(&format!("#define MAX_HOPS {MAX_HOPS}\n")));
        assert_eq!(MAX_STATIONS, 2 * MAX_HOPS);
        assert!(source.contains(&format!("#define COPIES_DF {COPIES_DF:#x}\n")));
        assert!(source.contains("#define MAX_STATIONS (2 * MAX_HOPS)\n"));
    }

    #[test]
    fn a_value_tells_its_place() {
        let place = Place { tally: 0x0102_0304, serial: 0x0506_0708 };
        assert_eq!(place_of(&value(&Edit { leaves: Leaves::AsItCame, l3: 1, l4: 2, hop: 3 }, place)), place);
    }
}
