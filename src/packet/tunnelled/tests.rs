use super::*;
use crate::packet::checksum;
use crate::packet::encap::{self, TunnelChecksum, encapsulate};
use crate::packet::ipv6::ICMPV6;
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
