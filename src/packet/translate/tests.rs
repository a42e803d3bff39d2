use super::*;
use crate::packet::fragment;
use crate::packet::parse::parse;
use etherparse::{NetSlice, PacketBuilder, PacketBuilderStep, SlicedPacket, TransportSlice, VlanId};
use proptest::prelude::*;

const KEYS: [[&str; 2]; 2] =
    [["10.1.0.2:2000", "10.1.0.11:8080"], ["[2001:db8::100]:80", "[2001:db8:1::7]:4711"]];

fn key(protocol: u8, is_v4: bool) -> FlowKey {
    let [source, destination] = KEYS[usize::from(!is_v4)];
    FlowKey::new(protocol, source.parse().unwrap(), destination.parse().unwrap())
}

/// A frame with its room, of a packet whose class is 0xb8 and that has 40 hops left.
fn frame(protocol: u8, is_v4: bool, tagged: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (from, to) = if is_v4 { ("10.9.0.1", "10.9.0.2") } else { ("2001:db8:9::1", "2001:db8:9::2") };
    let builder = PacketBuilder::ethernet2([1; 6], [2; 6]);
    let ip = if is_v4 {
        let header = etherparse::Ipv4Header::new(
            0,
            40,
            etherparse::IpNumber(protocol),
            from.parse::<std::net::Ipv4Addr>().unwrap().octets(),
            to.parse::<std::net::Ipv4Addr>().unwrap().octets(),
        );
        let mut header = header.unwrap();
        header.dscp = etherparse::IpDscp::try_new(46).unwrap();
        etherparse::IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default())
    } else {
        let header = etherparse::Ipv6Header {
            traffic_class: 0xb8,
            hop_limit: 40,
            source: from.parse::<std::net::Ipv6Addr>().unwrap().octets(),
            destination: to.parse::<std::net::Ipv6Addr>().unwrap().octets(),
            ..Default::default()
        };
        etherparse::IpHeaders::Ipv6(header, etherparse::Ipv6Extensions::default())
    };
    let builder: PacketBuilderStep<etherparse::IpHeaders> =
        if tagged { builder.single_vlan(VlanId::try_new(9).unwrap()).ip(ip) } else { builder.ip(ip) };
    match protocol {
        6 => builder.tcp(1000, 2000, 7, 8).ack(9).write(&mut bytes, payload).unwrap(),
        _ => builder.udp(1000, 2000).write(&mut bytes, payload).unwrap(),
    }
    bytes.resize(bytes.len() + 64, 0xee);
    bytes
}

fn translated(mut room: Vec<u8>, is_v4: bool) -> Result<Vec<u8>, Untranslatable> {
    let parsed = parse(&room).unwrap();
    let tuple = key(parsed.key.protocol(), !is_v4);
    let leaving = Leaving { tuple: &tuple, l4: parsed.key.difference(&tuple).0 };
    let len = if is_v4 {
        to_v6(&mut room, &parsed, None, leaving)
    } else {
        to_v4(&mut room, &parsed, None, leaving, 0x1234)
    };
    room.truncate(len?);
    Ok(room)
}

/// What an independent parser finds, its checksums right: class, hops, whether it may be fragmented, and the payload.
fn found(frame: &[u8], protocol: u8) -> (u8, u8, bool, Vec<u8>) {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let tuple = parse(frame).unwrap().key;
    let (class, hops, fragments) = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
            assert_eq!(tuple, key(protocol, true));
            (header.dcp().value() << 2, header.ttl(), !header.dont_fragment())
        }
        Some(NetSlice::Ipv6(ip)) => {
            assert_eq!(tuple, key(protocol, false));
            (ip.header().traffic_class(), ip.header().hop_limit(), false)
        }
        other => panic!("{other:?}"),
    };
    let payload = match (&sliced.transport, &sliced.net) {
        (Some(TransportSlice::Tcp(tcp)), Some(NetSlice::Ipv4(ip))) => {
            let header = ip.header();
            let sum = tcp.calc_checksum_ipv4(header.source(), header.destination()).unwrap();
            assert_eq!(tcp.checksum(), sum);
            tcp.payload().to_vec()
        }
        (Some(TransportSlice::Tcp(tcp)), Some(NetSlice::Ipv6(ip))) => {
            let header = ip.header();
            let sum = tcp.calc_checksum_ipv6(header.source(), header.destination()).unwrap();
            assert_eq!(tcp.checksum(), sum);
            tcp.payload().to_vec()
        }
        (Some(TransportSlice::Udp(udp)), _) => {
            let bytes = [&udp.to_header().to_bytes()[..], udp.payload()].concat();
            let (from, to) = (tuple.source().ip(), tuple.destination().ip());
            assert_eq!(checksum::of_transport(from, to, 17, &bytes), 0);
            assert_ne!(udp.checksum(), 0);
            udp.payload().to_vec()
        }
        other => panic!("{other:?}"),
    };
    (class, hops, fragments, payload)
}

proptest! {
    #[test]
    fn a_packet_of_one_version_is_one_of_the_other(
        payload in proptest::collection::vec(any::<u8>(), 0..1400),
        is_v4: bool,
        tagged: bool,
        tcp: bool,
    ) {
        let protocol = if tcp { 6 } else { 17 };
        let got = translated(frame(protocol, is_v4, tagged, &payload), is_v4).unwrap();
        let headers = 20 + if tcp { 20 } else { 8 };
        let fragments = !is_v4 && headers + payload.len() <= 1260;
        prop_assert_eq!(found(&got, protocol), (0xb8, 39, fragments, payload));
    }
}

#[test]
fn what_was_wrong_stays_wrong_and_no_checksum_becomes_one() {
    for is_v4 in [true, false] {
        let mut room = frame(6, is_v4, false, b"damaged");
        let last = room.len() - 65;
        room[last] ^= 1;
        let got = translated(room, is_v4).unwrap();
        let tuple = key(6, !is_v4);
        let l4 = parse(&got).unwrap().l4;
        let (from, to) = (tuple.source().ip(), tuple.destination().ip());
        assert_ne!(checksum::of_transport(from, to, 6, &got[l4..]), 0);
    }
    let mut room = frame(17, true, false, b"no checksum");
    room[40..42].fill(0);
    assert_eq!(found(&translated(room, true).unwrap(), 17).3, b"no checksum");
}

#[test]
fn extension_headers_are_left_out() {
    let mut room = frame(17, false, false, b"behind options");
    room.splice(54..54, [17, 0, 1, 4, 0, 0, 0, 0]);
    (room[20], room[19]) = (60, room[19] + 8);
    let got = translated(room, false).unwrap();
    assert_eq!((found(&got, 17).3, got.len()), (b"behind options".to_vec(), 14 + 20 + 8 + 14));
}

#[test]
fn an_authentication_header_is_not_left_out_wherever_it_is() {
    let (options, ah) = ([0, 0, 1, 4, 0, 0, 0, 0], [&[0, 4][..], &[7; 22]].concat());
    let [behind, before] = [[(60, &options[..]), (51, &ah[..])], [(51, &ah[..]), (60, &options[..])]];
    for chain in [&behind[1..], &behind[..], &before[..]] {
        let mut room = frame(17, false, false, b"authentic");
        let mut next = 17;
        for (number, header) in chain.iter().rev() {
            room.splice(54..54, header.iter().copied());
            (room[54], room[19]) = (next, room[19] + u8::try_from(header.len()).unwrap());
            next = *number;
        }
        room[20] = next;
        assert_eq!(translated(room, false), Err(Untranslatable::Protocol), "{chain:?}");
    }
}

#[test]
fn fragments_stay_the_fragments_that_they_were() {
    let whole: Vec<u8> = (0..100).collect();
    for is_v4 in [true, false] {
        for (offset, more) in [(0, true), (104, false)] {
            let piece = Piece { identification: 0x1_2345, offset, more };
            let mut room = frame(17, is_v4, false, &whole[..96]);
            // As far as its own headers say, it is whole: those of a fragment are what is asked for.
            let parsed = parse(&room).unwrap();
            let tuple = key(17, !is_v4);
            let leaving = Leaving { tuple: &tuple, l4: Delta::default() };
            let len = if is_v4 {
                to_v6(&mut room, &parsed, Some(piece), leaving).unwrap()
            } else {
                to_v4(&mut room, &parsed, Some(piece), leaving, 7).unwrap()
            };
            let got = fragment::read(&room[..len]).unwrap();
            assert_eq!((got.offset, got.len, got.more), (offset, 104, more));
            let identification = if is_v4 { 0x1_2345 } else { 0x2345 };
            assert_eq!(got.datagram.as_key().ports(), identification);
            let ports = if offset == 0 { tuple.ports() } else { 0 };
            assert_eq!(got.parsed.key.ports(), ports);
            let l4 = got.parsed.l4;
            let old = 1000 << 16 | 2000u32;
            let expected = if offset == 0 { tuple.ports() } else { old };
            assert_eq!(room[l4..l4 + 4], expected.to_be_bytes());
            assert_eq!(room[l4 + 8..len], whole[..96]);
        }
    }
}

#[test]
fn without_room_or_checksum_nothing_changes() {
    let mut room = frame(17, true, false, b"tight");
    let parsed = parse(&room).unwrap();
    room.truncate(14 + usize::from(parsed.ip_len) + 19);
    let before = room.clone();
    let tuple = key(17, false);
    let leaving = Leaving { tuple: &tuple, l4: Delta::default() };
    assert_eq!(to_v6(&mut room, &parsed, None, leaving), Err(Untranslatable::Room));
    assert_eq!(room, before);
    let mut room = frame(17, true, false, b"first");
    room[40..42].fill(0);
    let before = room.clone();
    let piece = Piece { identification: 1, offset: 0, more: true };
    assert_eq!(to_v6(&mut room, &parsed, Some(piece), leaving), Err(Untranslatable::Checksum));
    assert_eq!(room, before);
}
