//! ICMP errors about packets in tunnels: what a router between the director and a server behind a tunnel says of the outer
//! packet, and the error for who sent the inner one (`ip_vs_in_icmp` in ip_vs_core.c; RFC 2473, 8).
//!
//! How much of the inner packet is quoted is the router's choice: RFC 1812, 4.3.2.3 and RFC 4443, 2.4 want as much as fits,
//! and of one that keeps to RFC 792's eight bytes nothing can be learnt here. Both packets may be of either IP version.

use std::net::IpAddr;

use etherparse::{EtherType, IpNumber, Ipv4HeaderSlice};

use super::answer;
use super::checksum;
use super::encap::{GRE, IPIP, IPV6, Tunnel, UDP};
use super::flow::FlowKey;
use super::icmp;
use super::ipv6::{self, ICMPV6, Ipv6, Over};
use super::parse::{self, Parsed, TcpFlags};

const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = ipv6::HEADER_LEN;
const ICMP_LEN: usize = 8;
const UDP_LEN: usize = 8;
/// Longest IP packet of an ICMP error (RFC 1812, 4.3.2.3; RFC 4443, 2.4).
const ERROR_MAX_V4: usize = 576;
const ERROR_MAX_V6: usize = 1280;
/// Types and codes.
const UNREACHABLE_V4: u8 = 3;
const FRAGMENTATION_NEEDED: (u8, u8) = (UNREACHABLE_V4, 4);
const SOURCE_QUENCH: u8 = 4;
const TIME_EXCEEDED_V4: u8 = 11;
const UNREACHABLE_V6: u8 = 1;
const TOO_BIG: u8 = 2;
const TIME_EXCEEDED_V6: u8 = 3;
/// Code of time exceeded, in both versions: fragments of the outer packet are missing, whose sender is the director.
const REASSEMBLY: u8 = 1;
const PARAMETER_PROBLEM: u8 = 4;
const ADDRESS_UNREACHABLE: (u8, u8) = (UNREACHABLE_V6, 3);
const HOST_UNREACHABLE: (u8, u8) = (UNREACHABLE_V4, 1);

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// An error about a packet in a tunnel. All offsets lie inside the frame it was read from.
#[derive(Clone, Copy, Debug)]
pub struct TunnelError {
    /// The inner packet as its sender sent it, at its place in the quote; only its beginning may be there.
    pub inner: Parsed,
    /// Bytes of it that are quoted.
    quoted: usize,
    /// Where the outer packet was sent from: the director's own address.
    pub source: IpAddr,
    /// Where it was sent to: the server.
    pub destination: IpAddr,
    /// The outer packet's protocol, and for UDP the port it was sent to, else 0.
    carrier: (u8, u16),
    /// Bytes of outer headers in front of a whole packet.
    pub overhead: u16,
    /// Length of the outer packet in bytes.
    pub outer_len: u16,
    kind: u8,
    code: u8,
    rest: u32,
}

/// An ICMP error, whole and with a right checksum.
struct Message<'f> {
    /// Its header and what it quotes.
    bytes: &'f [u8],
    /// Where that begins in the frame.
    at: usize,
    vlan: Option<u16>,
    addressee: IpAddr,
}

/// What an error quotes of an outer packet's headers.
struct Outer {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    /// Bytes of the IP header, with all that is between it and the tunnel's, and without what only a fragment has.
    header_len: usize,
    whole_header_len: usize,
    len: u16,
}

/// Reads an error about a packet in a tunnel; none if it is anything else.
pub fn read(frame: &[u8]) -> Option<TunnelError> {
    let message = message(frame)?;
    let (head, quote) = message.bytes.split_first_chunk::<ICMP_LEN>()?;
    let &[kind, code, _, _, rest @ ..] = head;
    let says = icmp::across::quoted_len(head, message.addressee.is_ipv6());
    let quote = quote.get(..says.min(quote.len()))?;
    let outer = if message.addressee.is_ipv4() { outer_v4(quote) } else { outer_v6(quote) }?;
    if outer.source != message.addressee {
        return None;
    }
    let (port, shim, inner_is_v4) = shim(outer.protocol, quote.get(outer.header_len..)?)?;
    let packet = quote.get(outer.header_len + shim..)?;
    let (key, l4) = if inner_is_v4 { icmp::quoted_v4(packet) } else { icmp::quoted_v6(packet) }?;
    let &[_, _, high, low, six_high, six_low, _, six_ttl, ttl, ..] = packet.first_chunk::<IPV4_LEN>()?;
    let (ip_len, ttl) = if inner_is_v4 {
        (u16::from_be_bytes([high, low]), ttl)
    } else {
        (u16::try_from(IPV6_LEN).ok()?.checked_add(u16::from_be_bytes([six_high, six_low]))?, six_ttl)
    };
    let l3 = message.at + ICMP_LEN + outer.header_len + shim;
    let flags = TcpFlags::default();
    Some(TunnelError {
        inner: Parsed { key, l3, l4: l3 + l4, ip_len, vlan: message.vlan, ttl, flags, room: 0 },
        quoted: packet.len().min(usize::from(ip_len)),
        source: outer.source,
        destination: outer.destination,
        carrier: (outer.protocol, port),
        overhead: u16::try_from(outer.whole_header_len + shim).ok()?,
        outer_len: outer.len,
        kind,
        code,
        rest: u32::from_be_bytes(rest),
    })
}

fn message(frame: &[u8]) -> Option<Message<'_>> {
    let (kind, l3, vlan) = parse::link(frame, 0).ok()?;
    if kind == EtherType::IPV6 {
        let ip = Ipv6::of(frame, l3, vlan).ok().filter(|ip| ip.chain.protocol == ICMPV6)?;
        let outer = ipv6::key(ip.header, ICMPV6, 0);
        let (source, addressee) = (outer.source().ip(), outer.destination().ip());
        let is_right = checksum::of_transport(source, addressee, ICMPV6, ip.payload) == 0;
        let at = l3 + IPV6_LEN + ip.chain.len;
        (icmp::is_relayed_v6(ip.payload) && is_right).then_some(Message {
            bytes: ip.payload,
            at,
            vlan,
            addressee,
        })
    } else {
        let ip = parse::ipv4(frame, 0).ok().filter(|ip| ip.header.protocol() == IpNumber::ICMP)?;
        let (at, addressee) = (ip.l3 + ip.header.slice().len(), ip.header.destination_addr().into());
        (icmp::is_relayed_v4(ip.payload) && checksum::of(ip.payload) == 0).then_some(Message {
            bytes: ip.payload,
            at,
            vlan,
            addressee,
        })
    }
}

fn outer_v4(quote: &[u8]) -> Option<Outer> {
    let header = Ipv4HeaderSlice::from_slice(quote).ok().filter(|it| it.fragments_offset().value() == 0)?;
    let header_len = header.slice().len();
    Some(Outer {
        source: header.source_addr().into(),
        destination: header.destination_addr().into(),
        protocol: header.protocol().0,
        header_len,
        whole_header_len: header_len,
        len: header.total_len(),
    })
}

fn outer_v6(quote: &[u8]) -> Option<Outer> {
    let (header, behind) = quote.split_first_chunk::<IPV6_LEN>()?;
    let chain = ipv6::walk(behind, header[ipv6::NEXT_HEADER], Over::First).ok()?;
    let key = ipv6::key(header, chain.protocol, 0);
    let len = u16::from_be_bytes([header[4], header[5]]).saturating_add(u16::try_from(IPV6_LEN).ok()?);
    (header[0] >> 4 == 6 && chain.protocol != ipv6::FRAGMENT).then_some(Outer {
        source: key.source().ip(),
        destination: key.destination().ip(),
        protocol: chain.protocol,
        header_len: IPV6_LEN + chain.len,
        // The director's outer packets have no extension header but that of a fragment.
        whole_header_len: IPV6_LEN,
        len,
    })
}

/// The UDP port that a packet of a tunnel goes to, else 0; the length of the tunnel's own header (RFC 2784; GUE's), which
/// `behind` begins with; and whether what it carries is IPv4.
fn shim(protocol: u8, behind: &[u8]) -> Option<(u16, usize, bool)> {
    const GUE_LEN: usize = 4;
    let of_gre = |ethertype: [u8; 2]| match u16::from_be_bytes(ethertype) {
        ETHERTYPE_IPV4 => Some(true),
        ETHERTYPE_IPV6 => Some(false),
        _ => None,
    };
    match (protocol, behind) {
        (IPIP, _) => Some((0, 0, true)),
        (IPV6, _) => Some((0, 0, false)),
        (GRE, &[0, 0, high, low, ..]) => Some((0, 4, of_gre([high, low])?)),
        (GRE, &[0x80, 0, high, low, ..]) => Some((0, 8, of_gre([high, low])?)),
        (UDP, &[_, _, high, low, _, _, _, _, 0, inner @ (IPIP | IPV6), 0, 0, ..]) => {
            Some((u16::from_be_bytes([high, low]), UDP_LEN + GUE_LEN, inner == IPIP))
        }
        _ => None,
    }
}

impl TunnelError {
    /// True if the outer packet is one of this tunnel's.
    pub fn is_of(&self, tunnel: Tunnel) -> bool {
        tunnel.carrier(self.inner.key.is_v4()) == self.carrier
    }

    /// The MTU in bytes that the outer packet was too long for, if that is what the error says.
    pub fn too_big(&self) -> Option<u16> {
        match (self.source.is_ipv4(), (self.kind, self.code)) {
            // The first half is unused (RFC 1191, 4).
            (true, FRAGMENTATION_NEEDED) => u16::try_from(self.rest & 0xffff).ok(),
            (false, (TOO_BIG, _)) => Some(u16::try_from(self.rest).unwrap_or(u16::MAX)),
            _ => None,
        }
    }

    /// True if the inner packet's IP version has such an error.
    pub fn is_told(&self) -> bool {
        self.head().is_some()
    }

    /// Type and code of the error about the inner packet; none if its IP version has no such error. Where the versions
    /// differ, and for what only the outer packet's headers can be to blame for, it is the tunnel's end that is not reached
    /// (RFC 2473, 8.2 and 8.3), but nobody who listens there, who forbids it and a TTL that ends, which is the client's
    /// own, are told as they are.
    fn head(&self) -> Option<(u8, u8)> {
        let is_v4 = self.inner.key.is_v4();
        if self.too_big().is_some() {
            return Some(if is_v4 { FRAGMENTATION_NEEDED } else { (TOO_BIG, 0) });
        }
        Some(match (self.source.is_ipv4(), is_v4, self.kind, self.code) {
            (false, false, PARAMETER_PROBLEM, _) => ADDRESS_UNREACHABLE,
            (false, false, TIME_EXCEEDED_V6, REASSEMBLY) | (true, false, TIME_EXCEEDED_V4, REASSEMBLY) => {
                ADDRESS_UNREACHABLE
            }
            (false, true, TIME_EXCEEDED_V6, REASSEMBLY) => HOST_UNREACHABLE,
            (true, true, kind, code) | (false, false, kind, code) => (kind, code),
            (true, false, UNREACHABLE_V4, 3) => (UNREACHABLE_V6, 4),
            (true, false, UNREACHABLE_V4, 9 | 10 | 13) => (UNREACHABLE_V6, 1),
            (true, false, TIME_EXCEEDED_V4, code) => (TIME_EXCEEDED_V6, code),
            (true, false, SOURCE_QUENCH, _) => return None,
            (true, false, ..) => ADDRESS_UNREACHABLE,
            (false, true, UNREACHABLE_V6, 1) => (UNREACHABLE_V4, 13),
            (false, true, UNREACHABLE_V6, 4) => (UNREACHABLE_V4, 3),
            (false, true, TIME_EXCEEDED_V6, code) => (TIME_EXCEEDED_V4, code),
            (false, true, ..) => HOST_UNREACHABLE,
        })
    }

    /// Makes the frame at the start of `room` an error about the inner packet, to who sent that, in the name of who that
    /// was sent to; one that says that it is too long says `mtu`, in bytes. The IP packet begins at `l3`, behind what the
    /// caller writes. Returns the frame's length; `None`, with nothing written, if it would not fit, or if the inner
    /// packet's IP version has no such error.
    pub fn write(&self, room: &mut [u8], l3: usize, mtu: u16) -> Option<usize> {
        let (kind, code) = self.head()?;
        let rest = if self.too_big().is_some() { u32::from(mtu) } else { 0 };
        let sent = self.inner.key;
        let (protocol, ip_len, longest) = if sent.is_v4() {
            (IpNumber::ICMP.0, IPV4_LEN, ERROR_MAX_V4)
        } else {
            (ICMPV6, IPV6_LEN, ERROR_MAX_V6)
        };
        let back = FlowKey::new(protocol, sent.destination(), sent.source());
        let icmp = l3 + ip_len;
        let quoted = self.quoted.min(longest - ip_len - ICMP_LEN);
        let end = icmp + ICMP_LEN + quoted;
        if room.len() < end {
            return None;
        }
        room.copy_within(self.inner.l3..self.inner.l3 + quoted, icmp + ICMP_LEN);
        room[icmp..icmp + 4].copy_from_slice(&[kind, code, 0, 0]);
        room[icmp + 4..icmp + ICMP_LEN].copy_from_slice(&rest.to_be_bytes());
        let message = &room[icmp..end];
        let sum = if sent.is_v4() {
            checksum::of(message)
        } else {
            checksum::of_transport(back.source().ip(), back.destination().ip(), ICMPV6, message)
        };
        room[icmp + 2..icmp + 4].copy_from_slice(&sum.to_be_bytes());
        answer::head(room.get_mut(l3..)?, &back, end - icmp)?;
        Some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::super::encap::{self, TunnelChecksum, encapsulate};
    use super::*;
    use etherparse::{Icmpv4Type, Icmpv6Type, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
    use proptest::prelude::*;

    const CLIENT: [u8; 4] = [192, 0, 2, 7];
    const VIP: [u8; 4] = [10, 0, 0, 100];
    const DIRECTOR: [u8; 4] = [10, 1, 0, 1];
    const SERVER: [u8; 4] = [10, 2, 0, 11];
    const ROUTER: [u8; 4] = [10, 1, 0, 99];
    const TUNNELS: [Tunnel; 5] = [
        Tunnel::Ipip,
        Tunnel::Gue { port: 6080, checksum: TunnelChecksum::None },
        Tunnel::Gue { port: 6081, checksum: TunnelChecksum::Full },
        Tunnel::Gre { checksum: TunnelChecksum::None },
        Tunnel::Gre { checksum: TunnelChecksum::Full },
    ];

    /// Which IP version the inner and the outer packet have.
    #[derive(Clone, Copy, Debug)]
    struct Versions {
        inner_is_v4: bool,
        outer_is_v4: bool,
    }

    const BOTH: [bool; 2] = [true, false];

    fn all() -> impl Iterator<Item = (Tunnel, Versions)> {
        let versions = BOTH.map(|inner_is_v4| BOTH.map(|outer_is_v4| Versions { inner_is_v4, outer_is_v4 }));
        versions.into_iter().flatten().flat_map(|both| TUNNELS.map(|tunnel| (tunnel, both)))
    }

    /// An address, or one of IPv6 that has it at its end.
    fn of(is_v4: bool, ip: [u8; 4]) -> IpAddr {
        let v4 = std::net::Ipv4Addr::from(ip);
        if is_v4 { v4.into() } else { v4.to_ipv6_compatible().into() }
    }

    fn six(ip: IpAddr) -> [u8; 16] {
        let IpAddr::V6(ip) = ip else { panic!("{ip}") };
        ip.octets()
    }

    /// The client's packet, without a frame around it.
    fn inner(is_v4: bool, len: usize) -> Vec<u8> {
        let mut packet = Vec::new();
        let builder = if is_v4 {
            PacketBuilder::ipv4(CLIENT, VIP, 63)
        } else {
            PacketBuilder::ipv6(six(of(false, CLIENT)), six(of(false, VIP)), 63)
        };
        builder.tcp(4711, 80, 7, 99).ack(5).write(&mut packet, &vec![0xab; len]).unwrap();
        packet
    }

    /// An error about that packet in a tunnel, which quotes so much of the outer one.
    fn error(
        tunnel: Tunnel,
        is_v4: bool,
        packet: &[u8],
        (kind, code): (u8, u8),
        mtu: u16,
        quoted: usize,
    ) -> Vec<u8> {
        let mut outer = [&[0; 60][..], packet].concat();
        let how = encap::Outer {
            tunnel,
            source: of(is_v4, DIRECTOR),
            destination: of(is_v4, SERVER),
            copies_df: true,
            identification: 7,
            flow_hash: 1,
        };
        let (start, len) = encapsulate(&mut outer, 60, packet.len(), &how).unwrap();
        says(is_v4, (kind, code), mtu, &outer[start..start + len.min(quoted)])
    }

    fn says(is_v4: bool, (kind, code): (u8, u8), mtu: u16, quote: &[u8]) -> Vec<u8> {
        let [high, low] = mtu.to_be_bytes();
        let rest = [0, 0, high, low];
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6]);
        if is_v4 {
            let kind = Icmpv4Type::Unknown { type_u8: kind, code_u8: code, bytes5to8: rest };
            builder.ipv4(ROUTER, DIRECTOR, 60).icmpv4(kind).write(&mut frame, quote).unwrap();
        } else {
            let kind = Icmpv6Type::Unknown { type_u8: kind, code_u8: code, bytes5to8: rest };
            let builder = builder.ipv6(six(of(false, ROUTER)), six(of(false, DIRECTOR)), 60);
            builder.icmpv6(kind).write(&mut frame, quote).unwrap();
        }
        frame
    }

    const fn too_big(is_v4: bool) -> (u8, u8) {
        if is_v4 { (3, 4) } else { (2, 0) }
    }

    /// From whom the error is to whom, its kind, what it says of an MTU, and the quote. The checksums are right.
    fn told(frame: &[u8]) -> (IpAddr, IpAddr, (u8, u8), u32, Vec<u8>) {
        let sliced = SlicedPacket::from_ethernet(frame).unwrap();
        match (&sliced.net, &sliced.transport) {
            (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Icmpv4(icmp))) => {
                let header = ip.header().to_header();
                assert_eq!(header.calc_header_checksum(), header.header_checksum, "IP header checksum");
                assert_eq!(checksum::of(icmp.slice()), 0, "ICMP checksum");
                let (from, to) = (header.source.into(), header.destination.into());
                let mtu = u32::from_be_bytes(icmp.bytes5to8());
                (from, to, (icmp.type_u8(), icmp.code_u8()), mtu, icmp.payload().to_vec())
            }
            (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(icmp))) => {
                let (from, to) = (ip.header().source(), ip.header().destination());
                assert!(icmp.is_checksum_valid(from, to), "ICMPv6 checksum");
                let mtu = u32::from_be_bytes(icmp.bytes5to8());
                (from.into(), to.into(), (icmp.type_u8(), icmp.code_u8()), mtu, icmp.payload().to_vec())
            }
            other => panic!("{other:?}"),
        }
    }

    fn rewritten(frame: &[u8], mtu: u16) -> Vec<u8> {
        let (mut room, about) = (frame.to_vec(), read(frame).unwrap());
        room.resize(frame.len() + 40, 0);
        let ethertype = if about.inner.key.is_v4() { [8, 0] } else { [0x86, 0xdd] };
        room[12..14].copy_from_slice(&ethertype);
        let len = about.write(&mut room, 14, mtu).unwrap();
        room.truncate(len);
        room
    }

    #[test]
    fn the_client_hears_of_its_own_packet_from_the_vip() {
        for (tunnel, both) in all() {
            let Versions { inner_is_v4, outer_is_v4 } = both;
            let packet = inner(inner_is_v4, 1300);
            let quotable = if outer_is_v4 { 528 } else { 1232 };
            let frame = error(tunnel, outer_is_v4, &packet, too_big(outer_is_v4), 1320, quotable);
            let about = read(&frame).unwrap();
            let ends = (of(outer_is_v4, DIRECTOR), of(outer_is_v4, SERVER));
            assert_eq!((about.source, about.destination), ends);
            assert_eq!(about.too_big(), Some(1320));
            for other in TUNNELS {
                let same_carrier = tunnel.carrier(inner_is_v4) == other.carrier(inner_is_v4);
                assert_eq!(about.is_of(other), same_carrier, "{tunnel:?} and {other:?}");
            }
            let overhead = tunnel.overhead(outer_is_v4);
            assert_eq!(usize::from(about.overhead), overhead);
            assert_eq!(usize::from(about.outer_len), packet.len() + overhead);
            let quoted = (quotable - overhead).min(if inner_is_v4 { 548 } else { 1232 });
            let expected = (
                of(inner_is_v4, VIP),
                of(inner_is_v4, CLIENT),
                too_big(inner_is_v4),
                1277,
                packet[..quoted].to_vec(),
            );
            assert_eq!(told(&rewritten(&frame, 1277)), expected, "{tunnel:?} {both:?}");
        }
    }

    #[test]
    fn what_an_error_says_is_said_in_the_clients_version() {
        let four = Versions { inner_is_v4: true, outer_is_v4: true };
        for kind in [(3, 0), (3, 1), (3, 2), (3, 3), (3, 13), (4, 0), (11, 0), (11, 1)] {
            says_as(four, kind, Some(kind));
        }
        let six = Versions { inner_is_v4: false, outer_is_v4: false };
        for kind in [(1, 0), (1, 1), (1, 3), (1, 4), (3, 0)] {
            says_as(six, kind, Some(kind));
        }
        // Of fragments the director is the sender.
        says_as(six, (3, 1), Some((1, 3)));
        for code in 0..3 {
            says_as(six, (4, code), Some((1, 3)));
        }
        let six_in_four = Versions { inner_is_v4: false, outer_is_v4: true };
        for (kind, expected) in [
            ((3, 0), Some((1, 3))),
            ((3, 1), Some((1, 3))),
            ((3, 2), Some((1, 3))),
            ((3, 3), Some((1, 4))),
            ((3, 10), Some((1, 1))),
            ((3, 13), Some((1, 1))),
            ((11, 0), Some((3, 0))),
            ((11, 1), Some((1, 3))),
            ((4, 0), None),
        ] {
            says_as(six_in_four, kind, expected);
        }
        let four_in_six = Versions { inner_is_v4: true, outer_is_v4: false };
        for (kind, expected) in [
            ((1, 0), (3, 1)),
            ((1, 1), (3, 13)),
            ((1, 3), (3, 1)),
            ((1, 4), (3, 3)),
            ((3, 0), (11, 0)),
            ((3, 1), (3, 1)),
            ((4, 0), (3, 1)),
            ((4, 1), (3, 1)),
        ] {
            says_as(four_in_six, kind, Some(expected));
        }
    }

    /// RFC 4884: the length says how much is quoted, in words of four bytes; MPLS labels may follow (RFC 4950).
    #[test]
    fn extensions_are_nobodys_packet() {
        const WORDS: u8 = 32;
        let mut frame = error(Tunnel::Ipip, true, &inner(true, 400), (11, 0), 0, 528);
        let icmp = 14 + 20;
        frame[icmp + 5] = WORDS;
        frame[icmp + 2..icmp + 4].fill(0);
        let sum = checksum::of(&frame[icmp..]);
        frame[icmp + 2..icmp + 4].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(read(&frame).unwrap().quoted, usize::from(WORDS) * 4 - 20);
    }

    fn says_as(both: Versions, kind: (u8, u8), expected: Option<(u8, u8)>) {
        let packet = inner(both.inner_is_v4, 200);
        let frame = error(Tunnel::Ipip, both.outer_is_v4, &packet, kind, 0, 528);
        let about = read(&frame).unwrap();
        assert_eq!((about.too_big(), about.is_told()), (None, expected.is_some()), "{both:?} {kind:?}");
        match expected {
            Some(expected) => assert_eq!(told(&rewritten(&frame, 1300)).2, expected, "{both:?} {kind:?}"),
            None => assert_eq!(about.write(&mut [0; 2000], 14, 0), None),
        }
    }

    #[test]
    fn too_little_of_a_quote_is_none_and_as_much_as_the_ports_is_one() {
        for (tunnel, Versions { inner_is_v4, outer_is_v4 }) in all() {
            let packet = inner(inner_is_v4, 100);
            let ports = if inner_is_v4 { 24 } else { 44 };
            let least = tunnel.overhead(outer_is_v4) + ports;
            let error = |quoted| error(tunnel, outer_is_v4, &packet, too_big(outer_is_v4), 90, quoted);
            for quoted in 0..least {
                assert!(read(&error(quoted)).is_none(), "{tunnel:?}, {quoted} bytes");
            }
            assert_eq!(told(&rewritten(&error(least), 90)).4, packet[..ports], "{tunnel:?}");
        }
    }

    #[test]
    fn each_lie_is_no_error_about_a_tunnel() {
        let good = error(Tunnel::Ipip, true, &inner(true, 100), (3, 4), 90, 528);
        let edit = |at: usize, value: u8| {
            let mut frame = good.clone();
            frame[at] = value;
            frame[36..38].fill(0);
            let sum = checksum::of(&frame[34..]);
            frame[36..38].copy_from_slice(&sum.to_be_bytes());
            read(&frame).is_some()
        };
        assert!(edit(34, 3));
        assert!(!edit(34, 0) && !edit(34, 5), "no error");
        assert!(!edit(42, 0x44) && !edit(42, 0x65), "an outer header that contradicts itself");
        assert!(!edit(49, 1), "a later fragment of the outer packet");
        assert!(!edit(51, 6) && !edit(51, 41), "no tunnel, or one that holds another IP version");
        assert!(!edit(54, 11), "not sent by who the error goes to");
        assert!(!edit(62, 0x65), "an inner packet that is none");
        assert!(!edit(69, 1), "a later fragment inside");
        let mut wrong = good.clone();
        wrong[80] ^= 1;
        assert!(read(&wrong).is_none(), "ICMP checksum");
    }

    /// Sums an ICMPv6 error anew.
    fn sum_six(frame: &mut [u8]) {
        let end = |at: usize| <[u8; 16]>::try_from(&frame[at..at + 16]).unwrap();
        let (from, to) = (end(22), end(38));
        frame[56..58].fill(0);
        let sum = checksum::of_transport(from.into(), to.into(), ICMPV6, &frame[54..]);
        frame[56..58].copy_from_slice(&sum.to_be_bytes());
    }

    #[test]
    fn each_lie_in_ipv6_is_no_error_about_a_tunnel() {
        let good = error(Tunnel::Ipip, false, &inner(false, 100), (2, 0), 1280, 528);
        let edit = |at: usize, value: u8| {
            let mut frame = good.clone();
            frame[at] = value;
            sum_six(&mut frame);
            read(&frame).is_some()
        };
        assert!(edit(54, 1));
        assert!(!edit(54, 0) && !edit(54, 128), "no error");
        assert!(!edit(62, 0x45), "an outer header of version 4");
        assert!(!edit(68, 6) && !edit(68, 4), "no tunnel, or one that holds another IP version");
        assert!(!edit(68, 43), "an extension header longer than the quote");
        assert!(!edit(85, 9), "not sent by who the error goes to");
        assert!(!edit(102, 0x45), "an inner packet that is none");
        let mut wrong = good.clone();
        wrong[120] ^= 1;
        assert!(read(&wrong).is_none(), "ICMPv6 checksum");
    }

    /// What the director itself has split: the first part shows the inner packet, and no later one does.
    #[test]
    fn the_first_fragment_of_an_outer_packet_tells_of_all_of_it() {
        for (tunnel, both) in all().filter(|(_, both)| !both.outer_is_v4) {
            let packet = inner(both.inner_is_v4, 1000);
            let whole = error(tunnel, false, &packet, (3, 0), 0, 1200);
            let quote = &whole[62..];
            let fragment = |offset: u8| {
                let header = [quote[6], 0, offset, 1, 0, 0, 0, 9];
                let quote = [&quote[..6], &[44], &quote[7..40], &header, &quote[40..]].concat();
                says(false, (3, 0), 0, &quote)
            };
            let (first, about) = (fragment(0), read(&whole).unwrap());
            let split = read(&first).unwrap();
            assert_eq!((split.overhead, split.inner.key), (about.overhead, about.inner.key), "{tunnel:?}");
            assert_eq!(told(&rewritten(&first, 0)), told(&rewritten(&whole, 0)), "{tunnel:?}");
            assert!(read(&fragment(8)).is_none());
        }
    }

    proptest! {
        #[test]
        fn any_quote_is_an_answer(
            which in 0..TUNNELS.len(), inner_is_v4: bool, outer_is_v4: bool, mut at in 42usize..160, byte: u8,
            quoted in 20usize..240, tag: bool,
        ) {
            let packet = inner(inner_is_v4, 100);
            let mut frame = error(TUNNELS[which], outer_is_v4, &packet, too_big(outer_is_v4), 90, quoted);
            at = at.max(if outer_is_v4 { 42 } else { 62 }).min(frame.len() - 1);
            frame[at] = byte;
            if outer_is_v4 {
                frame[36..38].fill(0);
                let sum = checksum::of(&frame[34..]);
                frame[36..38].copy_from_slice(&sum.to_be_bytes());
            } else {
                sum_six(&mut frame);
            }
            if let Some(about) = read(&frame) {
                let l3 = if tag { 18 } else { 14 };
                let all = frame.len();
                frame.resize(all + 40, 0);
                let len = about.write(&mut frame, l3, 1280).unwrap();
                let ip_len = if about.inner.key.is_v4() { 20 } else { 40 };
                let message = &frame[l3 + ip_len..len];
                let sum = if ip_len == 20 {
                    checksum::of(message)
                } else {
                    let (from, to) = (about.inner.key.destination().ip(), about.inner.key.source().ip());
                    checksum::of_transport(from, to, ICMPV6, message)
                };
                prop_assert_eq!(sum, 0);
            }
        }
    }
}
