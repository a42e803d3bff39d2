//! Why packets of offloaded flows came up all the same, in the order of `enum why` in the program, and how many did.
//!
//! Only packets that are known to be of a flow are counted: no fragment but the first, nothing behind more than one extension
//! header, and no SYN, which opens a connection and of which nobody asks whose it is.

use std::fmt;

use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray};

use super::super::{SteerError, take};

/// Why a packet of a flow came up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Why {
    /// The flow had been taken back.
    Ended,
    /// Services or routes were not those any more that the flow was made by.
    Changed,
    /// It may change the connection's state.
    State,
    /// It was the first fragment of a datagram.
    Fragment,
    /// It had IP options, or an extension header.
    Options,
    /// Its TTL or hop limit ended here.
    Ttl,
    /// It was longer than the MTU of its way.
    TooLong,
    /// It came with another VLAN tag than its way has, or for a tunnel with a tag of priority alone.
    Vlan,
    /// Its headers contradicted each other, or the checksum of its IP header was wrong.
    Header,
    /// It was not sent to the MAC address of the interface.
    OtherMac,
    /// The MAC address of its next hop was not known, or the interface it would leave by takes no redirected frames.
    NoHop,
    /// The interface it would leave by was gone.
    NoExit,
    /// There was no room in front of the frame for a tunnel's headers.
    NoRoom,
}

impl Why {
    /// How many there are.
    pub const COUNT: usize = 13;

    /// All, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Ended,
        Self::Changed,
        Self::State,
        Self::Fragment,
        Self::Options,
        Self::Ttl,
        Self::TooLong,
        Self::Vlan,
        Self::Header,
        Self::OtherMac,
        Self::NoHop,
        Self::NoExit,
        Self::NoRoom,
    ];

    /// The name in counters and listings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Changed => "changed",
            Self::State => "state",
            Self::Fragment => "fragment",
            Self::Options => "options",
            Self::Ttl => "ttl",
            Self::TooLong => "too_long",
            Self::Vlan => "vlan",
            Self::Header => "header",
            Self::OtherMac => "other_mac",
            Self::NoHop => "no_hop",
            Self::NoExit => "no_exit",
            Self::NoRoom => "no_room",
        }
    }

    /// What it means.
    pub const fn help(self) -> &'static str {
        match self {
            Self::Ended => {
                "the flow had just been taken back: closed, idle, or its place was given to another"
            }
            Self::Changed => "services or routes had just changed: the connection is offloaded anew",
            Self::State => "FIN, RST, no ACK, or an SCTP chunk other than data, SACK and heartbeats",
            Self::Fragment => "the first fragment of a datagram",
            Self::Options => "IP options, or an IPv6 extension header",
            Self::Ttl => "the TTL or hop limit ends here",
            Self::TooLong => "longer than the MTU",
            Self::Vlan => "another VLAN tag than the way out has",
            Self::Header => "headers that contradict each other, or a wrong checksum of the IP header",
            Self::OtherMac => "not sent to the interface's MAC address",
            Self::NoHop => {
                "the next hop's MAC address is unknown, or its interface takes no redirected frames"
            }
            Self::NoExit => "the interface to leave by is gone",
            Self::NoRoom => "no room in front of the frame for a tunnel's headers",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The counters.
pub struct CameUp(PerCpuArray<MapData, u64>);

impl fmt::Debug for CameUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CameUp").finish_non_exhaustive()
    }
}

impl CameUp {
    pub(super) fn of(ebpf: &mut Ebpf) -> Result<Self, SteerError> {
        Ok(Self(take(ebpf, "came_up")?))
    }

    /// Packets by reason since loading, on all interfaces and CPUs.
    ///
    /// # Errors
    /// If the kernel refuses to be asked, which it has no reason to.
    pub fn counts(&self) -> Result<[(Why, u64); Why::COUNT], SteerError> {
        let mut counts = Why::ALL.map(|why| (why, 0));
        for (why, packets) in &mut counts {
            let per_cpu = self.0.get(&(*why as u32), 0).map_err(|source| SteerError::Map {
                map: "came_up",
                act: "read",
                source,
            })?;
            *packets = per_cpu.iter().sum();
        }
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_has_the_same_reasons_in_the_same_order() {
        let source = include_str!("../../counters.bpf.h");
        let (_, body) = source.split_once("enum why {").expect("the enum is in the program");
        let (body, _) = body.split_once("WHYS,").expect("the enum ends");
        let in_c: Vec<String> = body
            .lines()
            .filter_map(|line| line.trim().strip_prefix("WHY_")?.split(',').next())
            .map(str::to_lowercase)
            .collect();
        let in_rust: Vec<&str> = Why::ALL.iter().map(|why| why.name()).collect();
        assert_eq!(in_c, in_rust);
        for (place, why) in Why::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, place, "{why}");
        }
    }
}
