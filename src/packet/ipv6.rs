//! IPv6 (RFC 8200): the fixed header, the extension headers behind it walked within bounds, and what is behind those.
//!
//! The walk is the kernel's (`ipv6_find_hdr` in net/ipv6/exthdrs_core.c, as `ip_vs_fill_iph_skb_off` calls it): it goes
//! over AH too, so that a packet with one is of the protocol behind it, and ESP ends it. Other than there it is bounded,
//! and a packet that is source-routed further is none of ours: its destination is a stop on the way. A Fragment header
//! on a whole packet is but another extension header (RFC 6946).

use super::flow::FlowKey;
use super::parse::{self, Parsed, Reject, TcpFlags};

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 40;
/// Extension headers walked over; real traffic has one or two. The steering program looks through as many.
pub const MAX_EXTENSIONS: usize = 6;
/// Bytes of extension headers walked over: the steering program leaves packets with more to the kernel.
pub const MAX_EXTENSIONS_LEN: usize = 1024;

/// Where the fixed header has the number of the next one.
pub(super) const NEXT_HEADER: usize = 6;
pub(super) const HOP_LIMIT: usize = 7;
pub(super) const ADDRESSES: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
/// The number of the Fragment header.
pub const FRAGMENT: u8 = 44;
pub(super) const ESP: u8 = 50;
pub(super) const AH: u8 = 51;
pub(super) const DESTINATION_OPTIONS: u8 = 60;
/// The number of ICMPv6.
pub const ICMPV6: u8 = 58;

/// Bytes of a Fragment header.
pub(super) const FRAGMENT_LEN: usize = 8;
/// What of a Fragment header's second two bytes is an offset, in bytes, and the bit that says that others follow.
pub(super) const OFFSET_MASK: u16 = 0xfff8;
pub(super) const MORE: u16 = 1;

/// Which Fragment headers are walked over like any other header; a walk ends at others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Those of whole packets: what RFC 6946 calls atomic fragments.
    Whole,
    /// Those of first fragments too: there is more behind them, to be told which packet it was.
    First,
}

impl Over {
    const fn is_over(self, field: u16) -> bool {
        match self {
            Over::Whole => field & (OFFSET_MASK | MORE) == 0,
            Over::First => field & OFFSET_MASK == 0,
        }
    }
}

/// What a chain of extension headers leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// The number of the header that is none of those walked over: [`FRAGMENT`], or that of a protocol.
    pub(super) protocol: u8,
    /// Where that header begins, in bytes behind the fixed one.
    pub(super) len: usize,
    /// Where its number is, in bytes from the beginning of the fixed one.
    pub(super) number_at: usize,
}

/// Walks the extension headers in `bytes`, which are those behind a fixed header that calls the next one `next`.
pub(super) fn walk(bytes: &[u8], next: u8, over: Over) -> Result<Chain, Reject> {
    let mut chain = Chain { protocol: next, len: 0, number_at: NEXT_HEADER };
    for _ in 0..=MAX_EXTENSIONS {
        if !matches!(chain.protocol, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | FRAGMENT | AH) {
            return Ok(chain);
        }
        let rest = bytes.get(chain.len..).unwrap_or_default();
        let &[next, len, third, fourth, ..] = rest.first_chunk::<8>().ok_or(Reject::Truncated)?;
        let len = match chain.protocol {
            FRAGMENT if !over.is_over(u16::from_be_bytes([third, fourth])) => return Ok(chain),
            FRAGMENT => FRAGMENT_LEN,
            // Segments are left.
            ROUTING if fourth > 0 => return Err(Reject::Extension),
            // In units of 4 bytes without the first two, all others in units of 8 without the first (RFC 4302, 2.2).
            AH => (usize::from(len) + 2) * 4,
            _ => (usize::from(len) + 1) * 8,
        };
        if len > rest.len() {
            return Err(Reject::Truncated);
        }
        chain = Chain { protocol: next, len: chain.len + len, number_at: HEADER_LEN + chain.len };
        if chain.len > MAX_EXTENSIONS_LEN {
            break;
        }
    }
    Err(Reject::Extension)
}

/// Whether there is an AH among the extension headers of a packet, which have been walked over as far as `end`.
pub(super) fn has_authentication(packet: &[u8], end: usize) -> bool {
    let (mut number, mut at) = (packet.get(NEXT_HEADER).copied(), HEADER_LEN);
    while at < end && number != Some(AH) {
        let Some(&[next, len]) = packet.get(at..at + 2) else { return false };
        at += if number == Some(FRAGMENT) { FRAGMENT_LEN } else { (usize::from(len) + 1) * 8 };
        number = Some(next);
    }
    at < end
}

/// The IPv6 packet in a frame, whole.
pub(super) struct Ipv6<'f> {
    pub(super) header: &'f [u8; HEADER_LEN],
    /// What the extension headers lead to.
    pub(super) chain: Chain,
    /// What is behind the extension headers, padding not.
    pub(super) payload: &'f [u8],
    /// Offset of the header in the frame.
    pub(super) l3: usize,
    pub(super) vlan: Option<u16>,
}

impl Ipv6<'_> {
    /// As it is understood once the key is known.
    pub(super) fn parsed(&self, key: FlowKey, flags: TcpFlags) -> Parsed {
        let l4 = self.l3 + HEADER_LEN + self.chain.len;
        // `of` has seen that it fits.
        let ip_len = u16::try_from(l4 - self.l3 + self.payload.len()).unwrap_or(u16::MAX);
        Parsed { key, l3: self.l3, l4, ip_len, vlan: self.vlan, ttl: self.header[HOP_LIMIT], flags, room: 0 }
    }

    /// The packet at `l3` of its frame, if it is whole. It may be a fragment: `chain` says so then.
    pub(super) fn of(frame: &[u8], l3: usize, vlan: Option<u16>) -> Result<Ipv6<'_>, Reject> {
        let packet = frame.get(l3..).unwrap_or_default();
        let header = packet.first_chunk::<HEADER_LEN>().ok_or(Reject::Truncated)?;
        if header[0] >> 4 != 6 {
            return Err(Reject::BadHeader);
        }
        // None for a jumbogram (RFC 2675), which no link of ours carries.
        let ip_len = HEADER_LEN + usize::from(u16::from_be_bytes([header[4], header[5]]));
        let behind = packet.get(HEADER_LEN..ip_len).ok_or(Reject::Truncated)?;
        if ip_len > usize::from(u16::MAX) {
            return Err(Reject::BadHeader);
        }
        let chain = walk(behind, header[NEXT_HEADER], Over::Whole)?;
        let payload = behind.get(chain.len..).ok_or(Reject::Truncated)?;
        Ok(Ipv6 { header, chain, payload, l3, vlan })
    }
}

/// The key of a packet of `protocol` with this header and, in front of what it carries, these ports.
#[inline]
pub(super) fn key(header: &[u8; HEADER_LEN], protocol: u8, ports: u32) -> FlowKey {
    let [.., source, destination] = *split(header);
    FlowKey::v6(protocol, source.into(), destination.into(), ports)
}

/// Both addresses of a header.
fn split(header: &[u8; HEADER_LEN]) -> &[[u8; 16]; 2] {
    let (pair, _none) = header[ADDRESSES..].as_chunks::<16>();
    pair.first_chunk().unwrap_or(&[[0; 16]; 2])
}

/// Reads the headers of the IPv6 packet at `l3` of its frame: as [`parse`](parse::parse).
#[inline(never)]
pub(super) fn parse(frame: &[u8], l3: usize, vlan: Option<u16>) -> Result<Parsed, Reject> {
    let ip = Ipv6::of(frame, l3, vlan)?;
    let protocol = ip.chain.protocol;
    match protocol {
        FRAGMENT => Err(Reject::Fragment),
        ICMPV6 => Err(Reject::Icmp),
        ESP => Ok(ip.parsed(key(ip.header, parse::UDP, parse::ISAKMP), TcpFlags::of_ipsec())),
        _ => {
            let flags = parse::transport(protocol, ip.payload)?;
            let ports = u32::from_be_bytes(*ip.payload.first_chunk().ok_or(Reject::Truncated)?);
            Ok(ip.parsed(key(ip.header, protocol, ports), flags))
        }
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketBuilder, VlanId};
    use proptest::prelude::*;

    use super::*;
    use crate::packet::parse::parse;

    const CLIENT: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    const VIP: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6];

    fn tcp() -> Vec<u8> {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6(CLIENT, VIP, 61);
        builder.tcp(4711, 80, 1, 1000).syn().write(&mut frame, b"hello").unwrap();
        frame
    }

    fn udp_tagged() -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .single_vlan(VlanId::try_new(7).unwrap())
            .ipv6(CLIENT, VIP, 61)
            .udp(5353, 53)
            .write(&mut frame, b"query")
            .unwrap();
        frame
    }

    /// Puts extension headers, each with its number and its bytes but the number of the next, in front of what there is.
    fn extended(mut frame: Vec<u8>, headers: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut at = 14 + HEADER_LEN;
        let last = frame[20];
        frame[20] = headers.first().map_or(last, |h| h.0);
        for (n, (_, bytes)) in headers.iter().enumerate() {
            let next = headers.get(n + 1).map_or(last, |h| h.0);
            let header: Vec<u8> = [&[next][..], bytes].concat();
            frame.splice(at..at, header.iter().copied());
            at += header.len();
        }
        let len = u16::try_from(frame.len() - 14 - HEADER_LEN).unwrap();
        frame[18..20].copy_from_slice(&len.to_be_bytes());
        frame
    }

    /// A header of options of eight times this many bytes.
    fn options(number: u8, eights: u8) -> (u8, Vec<u8>) {
        let mut bytes = vec![1; 8 * usize::from(eights) - 1];
        bytes[0] = eights - 1;
        (number, bytes)
    }

    fn routing(segments_left: u8) -> (u8, Vec<u8>) {
        (ROUTING, [&[2, 0, segments_left][..], &[0; 20]].concat())
    }

    #[test]
    fn a_segment_is_understood_with_its_flags_and_offsets() {
        let frame = tcp();
        let p = parse(&frame).unwrap();
        assert_eq!((p.l3, p.l4, usize::from(p.ip_len)), (14, 54, frame.len() - 14));
        assert!(p.flags.has(TcpFlags::SYN) && !p.flags.has(TcpFlags::ACK));
        assert_eq!(format!("{:?}", p.key), "protocol 6 [2001:db8::1]:4711 -> [2001:db8:1:2:3:4:5:6]:80");
        assert_eq!((p.ttl, p.vlan), (61, None));
    }

    #[test]
    fn a_vlan_tag_moves_the_offsets_and_padding_is_no_part_of_the_packet() {
        let mut frame = udp_tagged();
        let p = parse(&frame).unwrap();
        assert_eq!((p.l3, p.l4, p.vlan, p.key.protocol()), (18, 58, Some(7), 17));
        frame.resize(200, 0xaa);
        assert_eq!(parse(&frame).unwrap().ip_len, p.ip_len);
    }

    #[test]
    fn extension_headers_are_walked_over_and_ah_with_them() {
        let ah = (AH, [&[4, 0, 0][..], &[7; 20]].concat());
        let all = [options(HOP_BY_HOP, 1), options(DESTINATION_OPTIONS, 3), routing(0), ah];
        for count in 0..=all.len() {
            let frame = extended(tcp(), &all[..count]);
            let p = parse(&frame).unwrap();
            assert_eq!(p.key, parse(&tcp()).unwrap().key, "{count} headers");
            let len: usize = all[..count].iter().map(|h| h.1.len() + 1).sum();
            assert_eq!((p.l4, usize::from(p.ip_len)), (54 + len, frame.len() - 14));
            assert_eq!(frame[p.l4..p.l4 + 4], [0x12, 0x67, 0, 80]);
        }
    }

    #[test]
    fn the_walk_is_bounded_in_headers_and_in_bytes() {
        let many = |n| parse(&extended(tcp(), &vec![options(DESTINATION_OPTIONS, 1); n])).err();
        assert_eq!((many(MAX_EXTENSIONS), many(MAX_EXTENSIONS + 1)), (None, Some(Reject::Extension)));
        let long = |eights: &[u8]| {
            let headers: Vec<_> = eights.iter().map(|&n| options(DESTINATION_OPTIONS, n)).collect();
            parse(&extended(tcp(), &headers)).err()
        };
        assert_eq!((long(&[64, 64]), long(&[64, 65])), (None, Some(Reject::Extension)), "1,024 bytes");
    }

    #[test]
    fn every_truncation_is_a_reject() {
        let headers = [options(HOP_BY_HOP, 1), routing(0), options(DESTINATION_OPTIONS, 2)];
        for frame in [tcp(), udp_tagged(), extended(tcp(), &headers)] {
            for len in 0..frame.len() {
                assert_eq!(parse(&frame[..len]).err(), Some(Reject::Truncated), "{len} bytes");
            }
        }
        // What the header says is left is less than the headers behind it take.
        let whole = extended(tcp(), &headers);
        for left in 0..48 + 20u16 {
            let mut frame = whole.clone();
            frame[18..20].copy_from_slice(&left.to_be_bytes());
            assert_eq!(parse(&frame).err(), Some(Reject::Truncated), "a payload of {left} bytes");
        }
    }

    #[test]
    fn each_lie_has_its_reason() {
        let edit = |at: usize, value: u8| {
            let mut frame = tcp();
            frame[at] = value;
            parse(&frame).err()
        };
        assert_eq!(edit(14, 0x45), Some(Reject::BadHeader), "version 4");
        assert_eq!(edit(66, 0x40), Some(Reject::BadHeader), "data offset of 16 bytes");
        assert_eq!(edit(20, ICMPV6), Some(Reject::Icmp));
        for unknown in [1, 4, 41, 47, 59, 135, 253] {
            assert_eq!(edit(20, unknown), Some(Reject::Protocol), "next header {unknown}");
        }
        assert_eq!(
            parse(&extended(tcp(), &[routing(1)])).err(),
            Some(Reject::Extension),
            "a stop on the way"
        );
        let mut frame = udp_tagged();
        frame[63] = 7;
        assert_eq!(parse(&frame).err(), Some(Reject::BadHeader), "UDP length below its header's");
        frame[63] = 99;
        assert_eq!(parse(&frame).err(), Some(Reject::BadHeader), "UDP length beyond the packet's");
        let mut long = tcp();
        long[18..20].copy_from_slice(&[0xff, 0xf0]);
        long.resize(70_000, 0);
        assert_eq!(parse(&long).err(), Some(Reject::BadHeader), "longer than 65,535 bytes");
    }

    #[test]
    fn a_fragment_header_is_left_to_who_knows_fragments() {
        let behind = |bytes: [u8; 7]| {
            let headers =
                [options(HOP_BY_HOP, 1), (FRAGMENT, bytes.to_vec()), options(DESTINATION_OPTIONS, 1)];
            parse(&extended(tcp(), &headers))
        };
        for bytes in [[0, 0, 1, 0, 0, 0, 9], [0, 0x10, 0, 0, 0, 0, 9], [0, 0, 8, 0, 0, 0, 9]] {
            assert_eq!(behind(bytes).err(), Some(Reject::Fragment));
        }
        // Its length and the two bits in front of the last are reserved.
        for bytes in [[0; 7], [0xff, 0, 6, 0, 0, 0, 9]] {
            let p = behind(bytes).unwrap();
            assert_eq!((p.key, p.l4), (parse(&tcp()).unwrap().key, 54 + 24), "a whole packet");
        }
    }

    #[test]
    fn esp_has_the_key_of_isakmp_and_a_datagram_without_checksum_is_one() {
        let mut esp = tcp();
        esp[20] = ESP;
        let p = parse(&esp).unwrap();
        assert!(p.is_ipsec());
        assert_eq!(format!("{:?}", p.key), "protocol 17 [2001:db8::1]:500 -> [2001:db8:1:2:3:4:5:6]:500");
        let mut udp = udp_tagged();
        udp[64..66].fill(0);
        assert!(parse(&udp).is_ok(), "RFC 6935; IPVS forwards it");
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_whose_offsets_lie_inside(
            mut frame in proptest::collection::vec(any::<u8>(), 0..300),
            first in prop::sample::select(vec![0u8, 6, 17, 43, 44, 50, 51, 58, 60, 132]),
        ) {
            if frame.len() > 60 {
                let len = u16::try_from(frame.len() - 54).unwrap() - u16::from(frame[0] % 4);
                frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
                frame[18..20].copy_from_slice(&len.to_be_bytes());
                frame[20] = first;
                frame[55] %= 8;
            }
            if let Ok(p) = parse(&frame) {
                prop_assert!(p.l3 + usize::from(p.ip_len) <= frame.len());
                prop_assert!(p.l4 + 8 <= p.l3 + usize::from(p.ip_len) || p.is_ipsec());
                prop_assert!(p.l4 <= p.l3 + usize::from(p.ip_len));
            }
        }
    }
}
