//! Fragments of IPv4 (RFC 791, 3.2) and IPv6 packets (RFC 8200, 4.5), read.
//!
//! Where a datagram goes, and which of its fragments there have been, is not known here.

use etherparse::{EtherType, Ipv4HeaderSlice};

use super::flow::FlowKey;
use super::ipv6::{self, Ipv6, Over};
use super::parse::{self, Parsed, Reject, TcpFlags, link};
use super::sctp;

/// Longest datagram in bytes, its header included; IPv6's is not.
const DATAGRAM_MAX: usize = 65_535;
/// What offsets count in, in bytes.
const UNIT: usize = 8;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// What all fragments of a datagram have in common: source, destination and identification; in IPv4 the protocol too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatagramKey(FlowKey);

impl DatagramKey {
    /// As a key with the identification in place of the ports; for hashing.
    pub const fn as_key(&self) -> &FlowKey {
        &self.0
    }
}

/// A fragment of a packet that may have a connection.
#[derive(Clone, Copy, Debug)]
pub struct Fragment {
    /// Its datagram.
    pub datagram: DatagramKey,
    /// Where its bytes are in the datagram's, behind the headers that every fragment has. A multiple of eight.
    pub offset: u16,
    /// How many there are, at least one.
    pub len: u16,
    /// Whether others follow behind; if so, `len` is a multiple of eight.
    pub more: bool,
    /// As of a whole packet, of the length of this fragment. Only the first has ports and flags.
    pub parsed: Parsed,
}

/// Why a fragment is none that can be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// As for whole packets.
    Packet(Reject),
    /// A first one that does not hold all headers up to the whole transport header (RFC 1858, RFC 3128, RFC 7112):
    /// nothing could be told by it.
    Tiny,
    /// Empty, ending beyond the longest datagram, or not the last one and its length no multiple of eight.
    Bounds,
}

impl From<Reject> for Malformed {
    fn from(reject: Reject) -> Self {
        Malformed::Packet(reject)
    }
}

/// Where a fragment's bytes are in its datagram.
#[derive(Clone, Copy, Debug)]
struct Place {
    offset: u16,
    len: u16,
    more: bool,
}

impl Place {
    /// Of `bytes` bytes at `offset` in a datagram, whose other headers take `header_len` of the longest datagram.
    fn new(header_len: usize, offset: usize, bytes: usize, more: bool) -> Result<Self, Malformed> {
        let is_whole_units = bytes.is_multiple_of(UNIT) || !more;
        if bytes == 0 || header_len + offset + bytes > DATAGRAM_MAX || !is_whole_units {
            return Err(Malformed::Bounds);
        }
        let short = |n: usize| u16::try_from(n).map_err(|_| Malformed::Bounds);
        Ok(Self { offset: short(offset)?, len: short(bytes)?, more })
    }

    fn fragment(self, datagram: FlowKey, parsed: Parsed) -> Fragment {
        let Self { offset, len, more } = self;
        Fragment { datagram: DatagramKey(datagram), offset, len, more, parsed }
    }
}

/// Bytes of a transport header that the first fragment must hold.
const fn header_len_min(protocol: u8) -> Option<usize> {
    match protocol {
        TCP => Some(20),
        UDP => Some(8),
        SCTP => Some(sctp::HEADER_LEN),
        _ => None,
    }
}

/// Why a protocol's fragments cannot be forwarded.
const fn unknown(protocol: u8) -> Malformed {
    // ICMP is relayed whole only.
    let reject = if matches!(protocol, ICMP | ipv6::ICMPV6) { Reject::Fragment } else { Reject::Protocol };
    Malformed::Packet(reject)
}

/// Ports and flags of the transport header that a first fragment begins with.
fn transport(protocol: u8, payload: &[u8]) -> Result<(u32, TcpFlags), Malformed> {
    let least = header_len_min(protocol).ok_or_else(|| unknown(protocol))?;
    if payload.len() < least {
        return Err(Malformed::Tiny);
    }
    let flags = match (protocol, payload) {
        (TCP, [_, _, _, _, _, _, _, _, _, _, _, _, data_offset, bits, ..]) if data_offset >> 4 >= 5 => {
            TcpFlags(*bits)
        }
        // The length is that of the whole datagram.
        (UDP, [_, _, _, _, high, low, ..]) if u16::from_be_bytes([*high, *low]) >= 8 => TcpFlags::default(),
        (SCTP, _) => sctp::flags(payload),
        _ => return Err(Reject::BadHeader.into()),
    };
    let ports = payload.first_chunk().ok_or(Malformed::Tiny)?;
    Ok((u32::from_be_bytes(*ports), flags))
}

/// Reads the fragment in a frame for which [`parse`](super::parse::parse) says [`Reject::Fragment`]. Frames with room in
/// front are none: who makes room knows ports.
///
/// # Errors
/// Why it cannot be forwarded.
#[cold]
#[inline(never)]
pub fn read(frame: &[u8]) -> Result<Fragment, Malformed> {
    let (kind, l3, vlan) = link(frame, 0)?;
    match kind {
        EtherType::IPV4 => read_v4(frame, l3, vlan),
        EtherType::IPV6 => read_v6(&Ipv6::of(frame, l3, vlan)?),
        _ => Err(Reject::NotIp.into()),
    }
}

fn read_v4(frame: &[u8], l3: usize, vlan: Option<u16>) -> Result<Fragment, Malformed> {
    let packet = frame.get(l3..).unwrap_or_default();
    let ip = Ipv4HeaderSlice::from_slice(packet).map_err(|_| Reject::BadHeader)?;
    let (ip_len, header_len) = (ip.total_len(), ip.slice().len());
    let payload = packet.get(header_len..usize::from(ip_len)).ok_or(Reject::Truncated)?;
    let protocol = ip.protocol().0;
    if header_len_min(protocol).is_none() {
        return Err(unknown(protocol));
    }
    let offset = usize::from(ip.fragments_offset().value()) * UNIT;
    let place = Place::new(header_len, offset, payload.len(), ip.more_fragments())?;
    let (source, destination) = (u32::from_be_bytes(ip.source()), u32::from_be_bytes(ip.destination()));
    let (ports, flags) = if offset == 0 { transport(protocol, payload)? } else { <_>::default() };
    let key = FlowKey::v4(protocol, source, destination, ports);
    let datagram = FlowKey::v4(protocol, source, destination, ip.identification().into());
    let parsed = Parsed { key, l3, l4: l3 + header_len, ip_len, vlan, ttl: ip.ttl(), flags, room: 0 };
    Ok(place.fragment(datagram, parsed))
}

/// In IPv6 there may be extension headers in front of the Fragment header, and behind it in the first one.
fn read_v6(ip: &Ipv6<'_>) -> Result<Fragment, Malformed> {
    if ip.chain.protocol != ipv6::FRAGMENT {
        return Err(Reject::Fragment.into());
    }
    let (header, payload) =
        ip.payload.split_first_chunk::<{ ipv6::FRAGMENT_LEN }>().ok_or(Reject::Truncated)?;
    let [next, _, high, low, identification @ ..] = *header;
    let field = u16::from_be_bytes([high, low]);
    let offset = usize::from(field & ipv6::OFFSET_MASK);
    let place = Place::new(ip.chain.len, offset, payload.len(), field & ipv6::MORE != 0)?;
    let datagram = ipv6::key(ip.header, ipv6::FRAGMENT, u32::from_be_bytes(identification));
    let later = ip.parsed(ipv6::key(ip.header, next, 0), TcpFlags::default());
    let l4 = later.l4 + ipv6::FRAGMENT_LEN;
    if offset > 0 {
        // What is behind others than these only the first tells.
        let may_be_ours = matches!(next, ipv6::DESTINATION_OPTIONS | ipv6::AH | ipv6::ESP);
        if !may_be_ours && header_len_min(next).is_none() {
            return Err(unknown(next));
        }
        return Ok(place.fragment(datagram, Parsed { l4, ..later }));
    }
    let chain = ipv6::walk(payload, next, Over::Whole).map_err(|reject| match reject {
        Reject::Truncated => Malformed::Tiny,
        other => Malformed::Packet(other),
    })?;
    let behind = payload.get(chain.len..).ok_or(Malformed::Tiny)?;
    let (protocol, ports, flags) = match chain.protocol {
        // A fragment of a fragment.
        ipv6::FRAGMENT => return Err(Reject::Fragment.into()),
        ipv6::ESP => (UDP, parse::ISAKMP, TcpFlags::of_ipsec()),
        protocol => {
            let (ports, flags) = transport(protocol, behind)?;
            (protocol, ports, flags)
        }
    };
    let key = ipv6::key(ip.header, protocol, ports);
    Ok(place.fragment(datagram, Parsed { key, flags, l4: l4 + chain.len, ..later }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::parse::parse;
    use crate::packet::samples::fragment as frame;
    use proptest::prelude::*;

    fn udp_head(len: u16) -> [u8; 8] {
        let [high, low] = len.to_be_bytes();
        [0x12, 0x67, 0, 53, high, low, 0, 0]
    }

    #[test]
    fn a_first_one_has_ports_and_a_later_one_has_none() {
        let first = read(&frame(UDP, 0, true, &[&udp_head(4000)[..], &[0; 8]].concat())).unwrap();
        assert_eq!(format!("{:?}", first.parsed.key), "protocol 17 10.0.1.1:4711 -> 10.0.0.100:53");
        assert_eq!((first.offset, first.len, first.more), (0, 16, true));
        let later = read(&frame(UDP, 2, false, &[7; 5])).unwrap();
        assert_eq!(format!("{:?}", later.parsed.key), "protocol 17 10.0.1.1:0 -> 10.0.0.100:0");
        assert_eq!((later.offset, later.len, later.more), (16, 5, false));
        assert_eq!((later.datagram, later.parsed.l4), (first.datagram, 34));
        let mut other = frame(UDP, 2, false, &[7; 5]);
        other[19] ^= 1;
        assert_ne!(read(&other).unwrap().datagram, first.datagram);
    }

    #[test]
    fn each_lie_has_its_reason() {
        let refused = |protocol, offset, more, payload: &[u8]| {
            let frame = frame(protocol, offset, more, payload);
            assert_eq!(parse(&frame).err(), Some(Reject::Fragment));
            read(&frame).err()
        };
        let mut segment = [0; 24];
        segment[12] = 0x50;
        assert_eq!(refused(TCP, 0, true, &segment), None);
        assert_eq!(refused(TCP, 0, true, &segment[..16]), Some(Malformed::Tiny));
        segment[12] = 0x40;
        assert_eq!(refused(TCP, 0, true, &segment), Some(Reject::BadHeader.into()));
        assert_eq!(refused(UDP, 0, true, &udp_head(7)), Some(Reject::BadHeader.into()));
        assert_eq!(refused(UDP, 0, true, &udp_head(9)), None);
        assert_eq!(refused(UDP, 1, true, &[0; 9]), Some(Malformed::Bounds), "no multiple of eight");
        assert_eq!(refused(UDP, 1, true, &[]), Some(Malformed::Bounds), "empty");
        assert_eq!(refused(UDP, 8189, false, &[0; 3]), None);
        assert_eq!(refused(UDP, 8189, false, &[0; 4]), Some(Malformed::Bounds), "65,536 bytes");
        assert_eq!(refused(47, 0, true, &[0; 64]), Some(Reject::Protocol.into()));
        assert_eq!(refused(ICMP, 0, true, &[0; 64]), Some(Reject::Fragment.into()));
    }

    const HOP_BY_HOP: u8 = 0;

    /// A fragment of IPv6 behind eight bytes of options, `next` being what follows its header.
    fn frame6(next: u8, field: u16, payload: &[u8]) -> Vec<u8> {
        let len = u16::try_from(16 + payload.len()).unwrap();
        let (source, destination) = ([0x20; 16], [0x21; 16]);
        let header = [&[0x60, 0, 0, 0][..], &len.to_be_bytes(), &[HOP_BY_HOP, 64]].concat();
        let options = [ipv6::FRAGMENT, 0, 1, 4, 0, 0, 0, 0];
        let fragment = [&[next, 0xff][..], &field.to_be_bytes(), &[0xde, 0xad, 0xbe, 0xef]].concat();
        let (macs, kind) = ([&[1; 6][..], &[2; 6]].concat(), [0x86, 0xdd]);
        [&macs[..], &kind, &header, &source, &destination, &options, &fragment, payload].concat()
    }

    #[test]
    fn in_ipv6_a_first_one_has_ports_behind_whatever_headers_and_a_later_one_none() {
        let options = [UDP, 0, 1, 4, 0, 0, 0, 0];
        let udp = [&udp_head(4000)[..], &[0; 8]].concat();
        for (next, chain) in [(UDP, &[][..]), (ipv6::DESTINATION_OPTIONS, &options)] {
            let first = read(&frame6(next, 1, &[chain, &udp].concat())).unwrap();
            let key = format!(
                "protocol 17 [{0}]:4711 -> [{1}]:53",
                first.parsed.key.source().ip(),
                first.parsed.key.destination().ip()
            );
            assert_eq!(format!("{:?}", first.parsed.key), key);
            assert_eq!((first.offset, usize::from(first.len), first.more), (0, 16 + chain.len(), true));
            assert_eq!((first.parsed.l3, first.parsed.l4), (14, 14 + 40 + 16 + chain.len()));
            // Reserved bits are set.
            let later = read(&frame6(next, 16 | 6, &[7; 5])).unwrap();
            assert_eq!((later.offset, later.len, later.more), (16, 5, false));
            assert_eq!((later.datagram, later.parsed.l4, later.parsed.ip_len), (first.datagram, 70, 61));
            assert_eq!(later.parsed.key.ports(), 0);
            for byte in [66, 67, 68, 69, 37, 53] {
                let mut other = frame6(next, 16, &[7; 5]);
                other[byte] ^= 1;
                assert_ne!(read(&other).unwrap().datagram, first.datagram, "byte {byte}");
            }
        }
        let esp = read(&frame6(ipv6::ESP, 1, &[7; 16])).unwrap();
        assert!(
            esp.parsed.is_ipsec() && esp.datagram == read(&frame6(ipv6::ESP, 8, &[7; 3])).unwrap().datagram
        );
    }

    #[test]
    fn in_ipv6_each_lie_has_its_reason() {
        let refused = |next, field, payload: &[u8]| {
            let frame = frame6(next, field, payload);
            assert_eq!(parse(&frame).err(), Some(Reject::Fragment));
            read(&frame).err()
        };
        let mut segment = [0; 24];
        segment[12] = 0x50;
        let options =
            |next: u8, eights: u8| [&[next, eights - 1], &vec![1; 8 * usize::from(eights) - 2][..]].concat();
        assert_eq!(refused(TCP, 1, &segment), None);
        assert_eq!(refused(TCP, 1, &segment[..16]), Some(Malformed::Tiny));
        let chained = |len: usize| refused(60, 1, &[&options(TCP, 2)[..], &segment].concat()[..len]);
        assert_eq!(
            (chained(40), chained(32), chained(16), chained(8)),
            (None, Some(Malformed::Tiny), Some(Malformed::Tiny), Some(Malformed::Tiny))
        );
        segment[12] = 0x40;
        assert_eq!(refused(TCP, 1, &segment), Some(Reject::BadHeader.into()));
        assert_eq!(refused(UDP, 1, &udp_head(7)), Some(Reject::BadHeader.into()));
        assert_eq!(refused(UDP, 8 | 1, &[0; 9]), Some(Malformed::Bounds), "no multiple of eight");
        assert_eq!(refused(UDP, 8, &[]), Some(Malformed::Bounds), "empty");
        // The longest payload of a packet, of which 8 bytes of options are.
        assert_eq!(refused(UDP, 0xfff0, &[0; 7]), None);
        assert_eq!(refused(UDP, 0xfff0, &[0; 8]), Some(Malformed::Bounds), "65,536 bytes");
        for protocol in [47, 43, 59, 112] {
            assert_eq!(refused(protocol, 8, &[0; 64]), Some(Reject::Protocol.into()), "{protocol}");
        }
        for field in [1, 8] {
            assert_eq!(refused(ipv6::ICMPV6, field, &[0; 64]), Some(Reject::Fragment.into()));
            assert_eq!(refused(47, field, &[0; 64]), Some(Reject::Protocol.into()));
        }
        let nested = [&[UDP, 0, 0, 1, 0, 0, 0, 1], &udp_head(4000)[..]].concat();
        assert_eq!(refused(ipv6::FRAGMENT, 1, &nested), Some(Reject::Fragment.into()), "of a fragment");
        let many: Vec<u8> = (0..7).flat_map(|_| options(60, 1)).collect();
        assert_eq!(refused(60, 1, &many), Some(Reject::Extension.into()));
        let whole = frame6(UDP, 1, &[&udp_head(4000)[..], &[0; 8]].concat());
        for len in 0..whole.len() {
            assert_eq!(read(&whole[..len]).err(), Some(Reject::Truncated.into()), "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_whose_offsets_lie_inside(frame in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut headed = frame;
            if headed.len() > 24 {
                headed[12..15].copy_from_slice(&[8, 0, 0x45]);
                headed[16] = 0;
                headed[23] = if headed[0] & 1 == 0 { 6 } else { 17 };
            }
            if let Ok(f) = read(&headed) {
                prop_assert!(f.parsed.l3 + usize::from(f.parsed.ip_len) <= headed.len());
                prop_assert_eq!(f.parsed.l4 + usize::from(f.len), f.parsed.l3 + usize::from(f.parsed.ip_len));
            }
        }

        #[test]
        fn any_bytes_of_ipv6_are_an_answer_whose_offsets_lie_inside(
            payload in proptest::collection::vec(any::<u8>(), 0..100),
            next in prop::sample::select(vec![0u8, 6, 17, 43, 44, 50, 51, 58, 60, 132]),
            field: u16,
        ) {
            let mut frame = frame6(next, if field & 2 == 0 { field | 8 } else { 1 }, &payload);
            if let Some(len) = frame.get_mut(71) {
                *len %= 8;
            }
            if let Ok(f) = read(&frame) {
                let end = f.parsed.l3 + usize::from(f.parsed.ip_len);
                prop_assert_eq!(end, frame.len());
                prop_assert_eq!(usize::from(f.len), payload.len());
                prop_assert!(f.parsed.l4 >= 70 && f.parsed.l4 <= end && (f.offset == 0 || f.parsed.l4 == 70));
                prop_assert!(f.offset > 0 || f.parsed.is_ipsec() || f.parsed.l4 + 8 <= end);
            }
        }
    }
}
