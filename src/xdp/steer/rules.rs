//! What is ours, as the program is told it: sets of keys, their limits and their bytes in the maps.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{MAX_RANGES, Range, SteerError};

/// The most services (protocol, address, port) that can be steered.
pub const MAX_SERVICES: usize = 65_536;
/// The most NAT servers (protocol, address, port) whose replies can be steered.
pub const MAX_NAT_SERVERS: usize = 65_536;
/// The most virtual addresses.
pub const MAX_VIPS: usize = 16_384;
/// The most addresses of this host.
pub const MAX_HOST_ADDRESSES: usize = 16_384;
/// The most local addresses.
pub const MAX_LOCAL_ADDRESSES: usize = 16_384;
/// The most ends of tunnels.
pub const MAX_TUNNELS: usize = 65_536;
/// The most interfaces.
pub const MAX_PORTS: u16 = 64;
/// The least room in front of a frame, in bytes: that of its mark.
const ROOM_MIN: u16 = 16;
/// The most room in front of a frame, in bytes.
pub const ROOM_MAX: u16 = 64;
/// The most receive queues of an interface.
pub const MAX_QUEUES: u32 = 64;

/// How packets reach a server, as the program is told.
pub(super) const BY_NAT: u32 = 1;
const BY_FULL_NAT: u32 = 2;

/// The protocols of services and servers: TCP, UDP and SCTP have their ports at the same place.
const BALANCED_PROTOCOLS: [u8; 3] = [6, 17, 132];

/// One end of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// IP protocol number: 6 (TCP), 17 (UDP) or 132 (SCTP).
    pub protocol: u8,
    /// The address, of a VIP or of a real server.
    pub address: IpAddr,
    /// The port in host order; 0 means every port.
    pub port: u16,
}

/// Everything the program needs to tell ours from not ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// What is balanced: frames to these are ours. At most [`MAX_SERVICES`].
    pub services: BTreeSet<Endpoint>,
    /// Bytes of room that frames to a service get in front, 16 to [`ROOM_MAX`]; none for a service that is not here. The
    /// frame begins with its MAC addresses again, the mark 0x88b5 and this number then.
    pub rooms: BTreeMap<Endpoint, u16>,
    /// Where NAT sends to: frames from these, unless to this host, are ours, and fragments from their addresses. At most [`MAX_NAT_SERVERS`].
    pub nat_servers: BTreeSet<Endpoint>,
    /// Where FULLNAT sends to: frames from these to a local address are ours, and fragments from their addresses. Together
    /// with `nat_servers` at most [`MAX_NAT_SERVERS`].
    pub full_nat_servers: BTreeSet<Endpoint>,
    /// What FULLNAT sends from, with the first and the last of its ports. At most [`MAX_LOCAL_ADDRESSES`].
    pub local_addresses: BTreeMap<IpAddr, (u16, u16)>,
    /// Addresses with any service: fragments to these are ours. At most [`MAX_VIPS`].
    pub vips: BTreeSet<IpAddr>,
    /// Addresses on this host's interfaces, VIPs or not. At most [`MAX_HOST_ADDRESSES`].
    pub host_addresses: BTreeSet<IpAddr>,
    /// Ends of tunnels that this host sends packets into, with the protocol of the outer packets and for UDP their port, else
    /// 0: ICMP errors about these are ours. At most [`MAX_TUNNELS`].
    pub tunnels: BTreeSet<Endpoint>,
    /// What cannot be counted up as services: frames in any of these are ours, to this host too. Not fragments,
    /// which are by `vips`. At most [`MAX_RANGES`].
    pub ranges: BTreeSet<Range>,
}

impl Rules {
    /// Errors when a set is larger than its limit, a protocol cannot be steered, or a range is empty.
    pub(super) fn check(&self) -> Result<(), SteerError> {
        for (what, count, limit) in [
            ("services", self.services.len(), MAX_SERVICES),
            ("NAT and FULLNAT servers", self.senders().len(), MAX_NAT_SERVERS),
            ("local addresses", self.local_addresses.len(), MAX_LOCAL_ADDRESSES),
            ("virtual addresses", self.vips.len(), MAX_VIPS),
            ("addresses of this host", self.host_addresses.len(), MAX_HOST_ADDRESSES),
            ("ends of tunnels", self.tunnels.len(), MAX_TUNNELS),
            ("ranges (each rule of a mark, each address with FTP)", self.ranges.len(), MAX_RANGES),
        ] {
            if count > limit {
                return Err(SteerError::TooMany { what, count, limit });
            }
        }
        if let Some((&service, &room)) =
            self.rooms.iter().find(|(_, room)| !(ROOM_MIN..=ROOM_MAX).contains(*room))
        {
            return Err(SteerError::Room { service, room });
        }
        let servers = self.nat_servers.iter().chain(&self.full_nat_servers);
        let ends = self.services.iter().chain(servers).map(|end| (end.protocol, end.address));
        let ranges = self.ranges.iter().map(|range| (range.protocol, range.destination.addr()));
        if let Some((protocol, address)) =
            ends.chain(ranges).find(|(protocol, _)| !BALANCED_PROTOCOLS.contains(protocol))
        {
            return Err(SteerError::Protocol { protocol, address });
        }
        self.ranges.iter().try_for_each(Range::check)
    }

    /// Everybody whose packets may be replies.
    pub(super) fn senders(&self) -> Cow<'_, BTreeSet<Endpoint>> {
        if self.full_nat_servers.is_empty() {
            return Cow::Borrowed(&self.nat_servers);
        }
        Cow::Owned(self.nat_servers.union(&self.full_nat_servers).copied().collect())
    }

    /// How packets reach one of those.
    pub(super) fn ways_to(&self, server: &Endpoint) -> u32 {
        if self.full_nat_servers.is_empty() {
            return BY_NAT;
        }
        let of = |set: &BTreeSet<Endpoint>, way| if set.contains(server) { way } else { 0 };
        of(&self.nat_servers, BY_NAT) | of(&self.full_nat_servers, BY_FULL_NAT)
    }

    /// How packets reach the addresses of those, unless that is by NAT alone.
    pub(super) fn sender_addresses(&self) -> BTreeMap<IpAddr, u32> {
        let mut addresses: BTreeMap<_, _> =
            self.full_nat_servers.iter().map(|server| (server.address, BY_FULL_NAT)).collect();
        for server in self.nat_servers.iter().filter(|_| !self.full_nat_servers.is_empty()) {
            addresses.entry(server.address).and_modify(|ways| *ways |= BY_NAT);
        }
        addresses
    }
}

/// The bytes of `struct key` in the program: address (IPv4 in the first four), port, protocol, family.
pub(super) type Key = [u8; 20];

/// What a key of the program says.
pub(super) trait Keyed: Copy + Ord {
    fn key(&self) -> Key;

    /// What has this key.
    fn from_key(key: &Key) -> Self;
}

/// An address alone: no protocol, no port.
impl Keyed for IpAddr {
    fn key(&self) -> Key {
        let mut key = [0; 20];
        match self {
            Self::V4(address) => {
                key[..4].copy_from_slice(&address.octets());
                key[19] = 4;
            }
            Self::V6(address) => {
                key[..16].copy_from_slice(&address.octets());
                key[19] = 6;
            }
        }
        key
    }

    fn from_key(key: &Key) -> Self {
        match key[19] {
            4 => [key[0], key[1], key[2], key[3]].into(),
            _ => std::array::from_fn::<u8, 16, _>(|byte| key[byte]).into(),
        }
    }
}

impl Keyed for Endpoint {
    fn key(&self) -> Key {
        let mut key = self.address.key();
        key[16..18].copy_from_slice(&self.port.to_be_bytes());
        key[18] = self.protocol;
        key
    }

    fn from_key(key: &Key) -> Self {
        let port = u16::from_be_bytes([key[16], key[17]]);
        Self { protocol: key[18], address: IpAddr::from_key(key), port }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_has_the_same_limits() {
        let source = concat!(
            include_str!("../rules.bpf.h"),
            include_str!("../ports.bpf.h"),
            include_str!("../sockets.bpf.h")
        );
        for (name, limit) in [
            ("MAX_SERVICES", MAX_SERVICES),
            ("MAX_NAT_SERVERS", MAX_NAT_SERVERS),
            ("MAX_VIPS", MAX_VIPS),
            ("MAX_HOST_ADDRESSES", MAX_HOST_ADDRESSES),
            ("MAX_LOCAL_ADDRESSES", MAX_LOCAL_ADDRESSES),
            ("BY_NAT", BY_NAT as usize),
            ("BY_FULL_NAT", BY_FULL_NAT as usize),
            ("MAX_TUNNELS", MAX_TUNNELS),
            ("MAX_RANGES", MAX_RANGES),
            ("MAX_PORTS", usize::from(MAX_PORTS)),
            ("MAX_QUEUES", MAX_QUEUES as usize),
            ("ROOM_MIN", usize::from(ROOM_MIN)),
            ("ROOM_MAX", usize::from(ROOM_MAX)),
        ] {
            let line = format!("#define {name} {limit}\n");
            assert!(source.contains(&line), "the program lacks: {line}");
        }
    }

    #[test]
    fn equal_bytes_of_two_families_are_two_keys() {
        let [ipv4, ipv6] = ["10.0.0.1", "a00:1::"].map(|text| text.parse::<IpAddr>().unwrap());
        assert_eq!(ipv4.key()[..16], ipv6.key()[..16]);
        assert_ne!(ipv4.key(), ipv6.key());
    }

    #[test]
    fn a_key_says_what_it_was_made_of() {
        for text in ["10.1.2.3", "fd00:1:2:3:4:5:6:7"] {
            let address: IpAddr = text.parse().unwrap();
            let end = Endpoint { protocol: 132, address, port: 0x1234 };
            assert_eq!((IpAddr::from_key(&address.key()), Endpoint::from_key(&end.key())), (address, end));
        }
    }

    #[test]
    fn a_set_over_its_limit_is_an_error_that_names_the_limit() {
        let mut rules = Rules::default();
        for number in 0..=u32::try_from(MAX_VIPS).unwrap() {
            rules.vips.insert(IpAddr::from(number.to_be_bytes()));
        }
        let error = rules.check().unwrap_err().to_string();
        assert!(error.contains("16385 virtual addresses") && error.contains("16384"), "{error}");
    }

    #[test]
    fn a_protocol_without_ports_is_an_error() {
        let icmp = Endpoint { protocol: 1, address: "10.0.0.1".parse().unwrap(), port: 0 };
        let rules = Rules { services: [icmp].into(), ..Rules::default() };
        let error = rules.check().unwrap_err().to_string();
        assert!(error.contains("protocol 1") && error.contains("10.0.0.1"), "{error}");

        let icmp = Range {
            protocol: 1,
            destination: "10.0.0.0/8".parse().unwrap(),
            port_first: 0,
            port_last: 0,
            source: None,
        };
        let rules = Rules { ranges: [icmp].into(), ..Rules::default() };
        let error = rules.check().unwrap_err().to_string();
        assert!(error.contains("protocol 1") && error.contains("10.0.0.0"), "{error}");
    }
}
