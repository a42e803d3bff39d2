//! FULLNAT between IP versions: clients of IPv6 and servers of IPv4, and the other way round.

use std::net::{IpAddr, SocketAddr};

use etherparse::{IpFragOffset, Ipv4HeaderSlice, NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;
use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::local::Locals;
use xvs::director::service::{Method, Protocol};
use xvs::packet::checksum;

use crate::table::*;

const C: &str = "[2001:db8:7::7]:40000";
const VIP: &str = "[2001:db8::100]:80";
const L: &str = "10.1.0.2:5000";
const S: &str = "10.1.0.11:8080";
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0xa, 11];
/// Of the Ethernet header, and of both IP headers.
const L3: usize = 14;
const V4: usize = 20;
const V6: usize = 40;

fn table_of(protocol: Protocol, vip: &str, server: &str, ports: &str) -> Table {
    let mut pool = service(protocol, vip, Method::FullNat, &[(server, 1)]);
    let locals: [IpAddr; 2] = ["10.1.0.2".parse().unwrap(), "fd00:1::2".parse().unwrap()];
    pool.service.locals = Locals::new(&locals, ports.parse().unwrap()).unwrap();
    Table::new(&[pool])
}

/// A client of IPv6 has a connection.
fn table(protocol: Protocol) -> Table {
    let mut t = table_of(protocol, VIP, S, "5000");
    let opening = match protocol {
        Protocol::Tcp => tcp(C, VIP, "S"),
        _ => udp(C, VIP, b"first"),
    };
    t.one(0, opening, OUTSIDE).unwrap();
    t
}

fn sent(port: u16, dst_mac: [u8; 6], from: &str, to: &str) -> Result<Sent, DropReason> {
    Ok(Sent { port, dst_mac, from: from.into(), to: to.into(), ttl: 63 })
}

/// What is behind the IP header, which has no options or extensions.
fn payload(frame: &[u8]) -> &[u8] {
    &frame[L3 + if frame[L3] >> 4 == 4 { V4 } else { V6 }..]
}

fn out(t: &mut Table, frame: Vec<u8>, port: u16) -> Vec<u8> {
    let (verdict, frame) = t.batch(0, &[frame], port).remove(0);
    assert!(matches!(verdict, Verdict::Transmit(_)), "{verdict:?}");
    frame
}

/// The IPv4 packet may be fragmented.
fn without_df(mut frame: Vec<u8>) -> Vec<u8> {
    frame[L3 + 6] &= !0x40;
    mend_ip(&mut frame);
    frame
}

#[test]
fn both_ends_speak_their_own_version() {
    let (c4, vip4, l6, s6) = ("192.0.2.7:40000", "10.0.0.100:80", "[fd00:1::2]:5000", "[fd00:1::11]:8080");
    for (client, vip, local, server) in [(C, VIP, L, S), (c4, vip4, l6, s6)] {
        let mut t = table_of(Protocol::Tcp, vip, server, "5000");
        assert_eq!(t.tcp(client, vip, "S"), sent(INSIDE, SERVER_MAC, local, server));
        assert_eq!(t.tcp(server, local, "SA"), sent(OUTSIDE, ROUTER_MAC, vip, client));
        assert_eq!(t.tcp(client, vip, "A"), sent(INSIDE, SERVER_MAC, local, server));
        assert_eq!(t.one(1, tcp(server, local, "PA"), INSIDE), sent(OUTSIDE, ROUTER_MAC, vip, client));
        t.director.table.list(|slot| {
            let row = slot.row(t.now.tick());
            assert_eq!(row.local.map(|local| local.to_string()).as_deref(), Some(local));
            assert_eq!((row.client.to_string(), row.server.to_string()), (client.into(), server.into()));
            assert_eq!((row.virtual_address.to_string(), row.state), (vip.into(), "ESTABLISHED"));
        });

        let mut t = table_of(Protocol::Udp, vip, server, "5000");
        for size in [0, 1, 700, 1200] {
            let text = vec![0x5a; size];
            let there = out(&mut t, udp(client, vip, &text), OUTSIDE);
            assert_eq!(Ok(read(&there, INSIDE)), sent(INSIDE, SERVER_MAC, local, server));
            assert_eq!(payload(&there)[8..], text);
            let back = out(&mut t, udp(server, local, &text), INSIDE);
            assert_eq!(Ok(read(&back, OUTSIDE)), sent(OUTSIDE, ROUTER_MAC, vip, client));
            assert_eq!(payload(&back)[8..], text);
        }

        let mut t = table_of(Protocol::Sctp, vip, server, "5000");
        assert_eq!(t.sctp(client, vip, &[1]), sent(INSIDE, SERVER_MAC, local, server));
        assert_eq!(t.sctp(server, local, &[2]), sent(OUTSIDE, ROUTER_MAC, vip, client));
    }
}

#[test]
fn a_datagram_without_a_checksum_gets_one_for_ipv6() {
    let mut t = table(Protocol::Udp);
    let mut frame = udp(S, L, b"no checksum");
    frame[L3 + V4 + 6..][..2].fill(0);
    let back = out(&mut t, frame, INSIDE);
    assert_ne!(payload(&back)[6..8], [0, 0]);
    assert_eq!(read(&back, OUTSIDE).to, C);
}

#[test]
fn what_is_too_long_translated_is_told_in_the_senders_terms() {
    let mut t = table(Protocol::Udp);
    t.hops.mtu = 1400;
    let of = |ip_len: usize, header: usize| vec![7; ip_len - header - 8];
    let fits = out(&mut t, udp(C, VIP, &of(1420, V6)), OUTSIDE);
    assert_eq!(fits.len(), L3 + 1400);
    let (verdict, told) = t.batch(0, &[udp(C, VIP, &of(1421, V6))], OUTSIDE).remove(0);
    assert_eq!(verdict, Verdict::Answer(OUTSIDE, DropReason::TooBig));
    assert_eq!(read_answer(&told), "2001:db8::100 tells 2001:db8:7::7: type 2 code 0 and 1420");

    let fits = out(&mut t, udp(S, L, &of(1380, V4)), INSIDE);
    assert_eq!(fits.len(), L3 + 1400);
    let (verdict, told) = t.batch(0, &[udp(S, L, &of(1381, V4))], INSIDE).remove(0);
    assert_eq!(verdict, Verdict::Answer(INSIDE, DropReason::TooBig));
    assert_eq!(read_answer(&told), "10.1.0.1 tells 10.1.0.11: type 3 code 4");
    assert_eq!(told[L3 + V4 + 6..][..2], 1380u16.to_be_bytes());
    assert!(t.made.is_empty());
}

/// The payload of fragments, put together by what their headers say, which are checked; and their identification.
fn together(frames: &[Vec<u8>], mtu: usize) -> (Vec<u8>, u32) {
    let (mut whole, mut end, mut ids) = (vec![0xee; 65_535], None, Vec::new());
    for frame in frames {
        assert!(frame.len() <= L3 + mtu, "{} bytes", frame.len());
        let packet = &frame[L3..];
        let (id, offset, more, bytes) = if packet[0] >> 4 == 4 {
            let ip = Ipv4HeaderSlice::from_slice(packet).unwrap();
            assert_eq!(checksum::of(ip.slice()), 0);
            assert_eq!((usize::from(ip.total_len()), ip.ttl()), (packet.len(), 63));
            assert!(!ip.dont_fragment());
            assert_eq!(
                (ip.source_addr().to_string(), ip.destination_addr().to_string()),
                ("10.1.0.2".into(), "10.1.0.11".into())
            );
            (
                ip.identification().into(),
                ip.fragments_offset().byte_offset(),
                ip.more_fragments(),
                &packet[V4..],
            )
        } else {
            let sliced = SlicedPacket::from_ethernet(frame).unwrap();
            let Some(NetSlice::Ipv6(ip)) = &sliced.net else { panic!("{sliced:?}") };
            let header = ip.header();
            assert_eq!((usize::from(header.payload_length()), header.hop_limit()), (packet.len() - V6, 63));
            assert_eq!(
                (header.source_addr().to_string(), header.destination_addr().to_string()),
                ("2001:db8::100".into(), "2001:db8:7::7".into())
            );
            let fragment = etherparse::Ipv6FragmentHeader::from_slice(&packet[V6..]).unwrap().0;
            assert_eq!(fragment.next_header.0, 17);
            let offset = fragment.fragment_offset.byte_offset();
            (fragment.identification, offset, fragment.more_fragments, &packet[V6 + 8..])
        };
        let from = usize::from(offset);
        assert!(whole[from..from + bytes.len()].iter().all(|byte| *byte == 0xee), "no overlap");
        whole[from..from + bytes.len()].copy_from_slice(bytes);
        ids.push(id);
        if !more {
            assert_eq!(end.replace(from + bytes.len()), None, "one last fragment");
        }
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "one datagram");
    whole.truncate(end.expect("a last fragment"));
    assert!(!whole.contains(&0xee), "no gap");
    (whole, ids[0])
}

/// Checks a whole datagram between these two, and gives back its text.
fn text(datagram: &[u8], from: &str, to: &str) -> Vec<u8> {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
    assert_eq!(datagram[..4], [from.port().to_be_bytes(), to.port().to_be_bytes()].concat());
    assert_eq!(checksum::of_transport(from.ip(), to.ip(), 17, datagram), 0, "UDP checksum");
    datagram[8..].to_vec()
}

#[test]
fn what_may_be_fragmented_is() {
    let mut t = table(Protocol::Udp);
    // A server's that does not care, as short as every link of IPv6 takes.
    for (size, count) in [(1232, 1), (1233, 2), (1472, 2)] {
        let frame = out(&mut t, without_df(udp(S, L, &vec![7; size])), INSIDE);
        let all: Vec<Vec<u8>> = [frame]
            .into_iter()
            .chain(t.made.drain(..).map(|(port, frame)| {
                assert_eq!(port, OUTSIDE);
                frame
            }))
            .collect();
        assert_eq!(all.len(), count, "{size}");
        if count == 1 {
            assert_eq!(Ok(read(&all[0], OUTSIDE)), sent(OUTSIDE, ROUTER_MAC, VIP, C));
        } else {
            assert_eq!(text(&together(&all, 1280).0, VIP, C), vec![7; size]);
        }
    }
    // A client's that is as short as it can be told: the links of IPv4 behind are shorter.
    t.hops.mtu = 600;
    let frame = out(&mut t, udp(C, VIP, &[7; 1232]), OUTSIDE);
    let all: Vec<Vec<u8>> = [frame].into_iter().chain(t.made.drain(..).map(|(_, frame)| frame)).collect();
    assert_eq!((all.len(), text(&together(&all, 600).0, L, S)), (3, vec![7; 1232]));
    let (verdict, told) = t.batch(0, &[udp(C, VIP, &[7; 1233])], OUTSIDE).remove(0);
    assert_eq!(verdict, Verdict::Answer(OUTSIDE, DropReason::TooBig));
    assert_eq!(read_answer(&told), "2001:db8::100 tells 2001:db8:7::7: type 2 code 0 and 1280");
}

/// A packet in fragments of at most `step` bytes.
fn split(whole: &[u8], step: usize, id: u32) -> Vec<Vec<u8>> {
    let (is_v4, bytes) = (whole[L3] >> 4 == 4, payload(whole));
    let chunks = bytes.chunks(step).enumerate();
    let piece = |(n, chunk): (usize, &[u8])| {
        let (offset, more) = (u16::try_from(n * step).unwrap(), (n + 1) * step < bytes.len());
        let offset = IpFragOffset::try_new(offset / 8).unwrap();
        if is_v4 {
            let mut ip = etherparse::Ipv4Header::from_slice(&whole[L3..]).unwrap().0;
            ip.set_payload_len(chunk.len()).unwrap();
            ip.identification = u16::try_from(id).unwrap();
            (ip.dont_fragment, ip.more_fragments, ip.fragment_offset) = (false, more, offset);
            ip.header_checksum = ip.calc_header_checksum();
            [&whole[..L3], &ip.to_bytes(), chunk].concat()
        } else {
            let mut ip = etherparse::Ipv6Header::from_slice(&whole[L3..]).unwrap().0;
            ip.set_payload_length(chunk.len() + 8).unwrap();
            let next = std::mem::replace(&mut ip.next_header, etherparse::IpNumber(44));
            let fragment = etherparse::Ipv6FragmentHeader::new(next, offset, more, id);
            [&whole[..L3], &ip.to_bytes(), &fragment.to_bytes(), chunk].concat()
        }
    };
    chunks.map(piece).collect()
}

#[test]
fn fragments_go_both_ways_in_whatever_order() {
    let long: Vec<u8> = (0..3000u32).map(|n| n.to_le_bytes()[0] % 200).collect();
    let mut t = table(Protocol::Udp);
    for in_order in [true, false] {
        for (from, to, side, other, id) in [
            (C, VIP, OUTSIDE, (L, S), 0x1_0000 + u32::from(in_order)),
            (S, L, INSIDE, (VIP, C), 9 + u32::from(in_order)),
        ] {
            // Those of IPv4 are longer than IPv6 would take without another cut.
            let mut pieces = split(&udp(from, to, &long), 1400, id);
            if !in_order {
                pieces.reverse();
            }
            let (mut all, mut held) = (Vec::new(), 0);
            for (verdict, frame) in t.batch(0, &pieces, side) {
                match verdict {
                    Verdict::Transmit(port) => {
                        assert_ne!(port, side);
                        all.push(frame);
                    }
                    Verdict::Keep => held += 1,
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(held, if in_order { 0 } else { 2 });
            all.extend(t.made.drain(..).map(|(_, frame)| frame));
            let (datagram, got) = together(&all, if side == INSIDE { 1280 } else { 1500 });
            assert_eq!(got, id & 0xffff, "IPv4 has the lower half only");
            assert!(text(&datagram, other.0, other.1) == long, "from {from}");
        }
    }
}

#[test]
fn fragments_without_a_checksum_have_no_way_to_ipv6() {
    let mut t = table(Protocol::Udp);
    let mut whole = udp(S, L, &[7; 2000]);
    whole[L3 + V4 + 6..][..2].fill(0);
    for (verdict, _) in t.batch(0, &split(&whole, 1000, 5), INSIDE) {
        assert_eq!(verdict, Verdict::Drop(DropReason::Untranslatable));
    }
}

/// What an error says once it has been relayed, every checksum right: from, to, type, code and the second word; the
/// packet in it.
fn relayed(frame: &[u8]) -> (String, Vec<u8>) {
    let IcmpError { from, to, kind, code, rest, ttl, quote } = IcmpError::read(frame).expect("an error");
    (format!("{from} tells {to}: {kind} {code} {rest}, ttl {ttl}"), quote)
}

/// An error of this type, code and second word about the packet of a frame, to who sent that.
fn error(from: &str, (kind, code, rest): (u8, u8, u32), about: &[u8]) -> Vec<u8> {
    icmp_error(from, (kind, code), rest, about, about.len())
}

#[test]
fn the_client_hears_of_its_own_packet_in_its_own_version() {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let mut t = table(protocol);
        let (about, own) = match protocol {
            Protocol::Tcp => (tcp(L, S, "A"), tcp(C, VIP, "A")),
            _ => (udp(L, S, b"a question"), udp(C, VIP, b"a question")),
        };
        let told = |t: &mut Table, head| relayed(&out(t, error("10.1.0.9", head, &about), INSIDE));
        let (text, quoted) = told(&mut t, (3, 4, 1400));
        assert_eq!(text, "2001:db8::100 tells 2001:db8:7::7: 2 0 1420, ttl 59");
        assert_eq!(quoted, own[L3..], "byte for byte");
        for (head, said) in [
            ((3, 4, 576), "2 0 1280"),
            // By a router that tells no MTU: less than the packet has.
            ((3, 4, 0), "2 0 1280"),
            ((3, 4, 9000), "2 0 1500"),
            ((3, 0, 0), "1 0 0"),
            ((3, 1, 0), "1 0 0"),
            ((3, 2, 0), "4 1 6"),
            ((3, 3, 0), "1 4 0"),
            ((3, 10, 0), "1 1 0"),
            ((3, 13, 0), "1 1 0"),
            ((11, 0, 0), "3 0 0"),
            ((11, 1, 0), "3 1 0"),
        ] {
            let (text, quoted) = told(&mut t, head);
            assert_eq!(text, format!("2001:db8::100 tells 2001:db8:7::7: {said}, ttl 59"), "{head:?}");
            assert_eq!(quoted, own[L3..]);
        }
        for head in [(4, 0, 0), (3, 14, 0)] {
            let verdict = t.batch(0, &[error("10.1.0.9", head, &about)], INSIDE).remove(0).0;
            assert_eq!(verdict, Verdict::Drop(DropReason::Untranslatable), "{head:?}");
        }
        // Eight bytes are all that some quote.
        let short = out(&mut t, error("10.1.0.9", (3, 3, 0), &about[..L3 + V4 + 8]), INSIDE);
        assert_eq!(relayed(&short).1[V6..][..4], own[L3 + V6..][..4]);
    }
}

#[test]
fn the_server_hears_of_its_own_packet_in_its_own_version() {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let mut t = table(protocol);
        let (about, mut own) = match protocol {
            Protocol::Tcp => (tcp(VIP, C, "A"), without_df(tcp(S, L, "A"))),
            _ => (udp(VIP, C, b"an answer"), without_df(udp(S, L, b"an answer"))),
        };
        own[L3 + 4..L3 + 6].fill(0);
        mend_ip(&mut own);
        for (head, said) in [
            ((2, 0, 1400), "3 4 1380"),
            ((2, 0, 9000), "3 4 1500"),
            ((1, 0, 0), "3 1 0"),
            ((1, 1, 0), "3 10 0"),
            ((1, 3, 0), "3 1 0"),
            ((1, 4, 0), "3 3 0"),
            ((3, 0, 0), "11 0 0"),
            ((4, 1, 6), "3 2 0"),
            ((4, 0, 7), "12 0 134217728"),
        ] {
            let (text, quoted) = relayed(&out(&mut t, error("2001:db8:9::1", head, &about), OUTSIDE));
            assert_eq!(text, format!("10.1.0.2 tells 10.1.0.11: {said}, ttl 59"), "{head:?}");
            assert_eq!(quoted, own[L3..]);
        }
        for head in [(4, 2, 0), (4, 0, 3), (1, 6, 0)] {
            let verdict = t.batch(0, &[error("2001:db8:9::1", head, &about)], OUTSIDE).remove(0).0;
            assert_eq!(verdict, Verdict::Drop(DropReason::Untranslatable), "{head:?}");
        }
    }
    // Long quotes are cut to what hosts take.
    let mut t = table(Protocol::Udp);
    let frame = error("2001:db8:9::1", (2, 0, 1400), &udp(VIP, C, &[7; 1150]));
    assert_eq!(out(&mut t, frame, OUTSIDE).len(), L3 + 576);
    // Of a fragment there is more in the way.
    let first = split(&udp(VIP, C, &[7; 2000]), 1200, 0x77).remove(0);
    let (text, quoted) = relayed(&out(&mut t, error("2001:db8:9::1", (2, 0, 1400), &first), OUTSIDE));
    assert_eq!(text, "10.1.0.2 tells 10.1.0.11: 3 4 1372, ttl 59");
    let header = Ipv4HeaderSlice::from_slice(&quoted).unwrap();
    assert_eq!((header.identification(), header.more_fragments(), header.total_len()), (0x77, true, 1220));
}

#[test]
fn the_reset_that_makes_room_is_of_the_servers_version() {
    let mut t = table(Protocol::Tcp);
    t.tcp(S, L, "SA").unwrap();
    for (from, to, flags) in [(C, VIP, "A"), (S, L, "FA"), (C, VIP, "FA"), (S, L, "A")] {
        t.tcp(from, to, flags).unwrap();
    }
    let (verdict, reset) = t.batch(0, &[tcp("[2001:db8:7::8]:1", VIP, "S")], OUTSIDE).remove(0);
    assert_eq!((verdict, reset[L3 + V4 + 13]), (Verdict::Transmit(INSIDE), 4));
    let (port, syn) = t.made.pop().unwrap();
    for frame in [&reset, &syn] {
        assert_eq!(Ok(read(frame, port)), sent(INSIDE, SERVER_MAC, L, S));
    }
}

#[test]
fn a_server_on_the_director_itself_gets_nothing_that_it_could_not_answer() {
    let mut t = table_of(Protocol::Tcp, VIP, S, "5000");
    t.director.pass.open(1000);
    t.hops.local = vec!["10.1.0.11".parse().unwrap()];
    assert_eq!(t.tcp(C, VIP, "S"), Err(DropReason::NoRoute));
    assert!(t.director.table.is_empty());
}

#[test]
fn ttl_ends_and_extension_headers_before_fragments_do_not_get_through() {
    let mut t = table(Protocol::Udp);
    let mut last = udp(C, VIP, b"old");
    last[L3 + 7] = 1;
    let (verdict, told) = t.batch(0, &[last], OUTSIDE).remove(0);
    assert_eq!(verdict, Verdict::Answer(OUTSIDE, DropReason::TtlExpired));
    assert_eq!(read_answer(&told), "2001:db8::100 tells 2001:db8:7::7: type 3 code 0 and 0");
    // Destination options inside of what is fragmented.
    let whole = udp(C, VIP, &[7; 1000]);
    let mut with = whole.clone();
    with.splice(L3 + V6..L3 + V6, [17, 0, 1, 4, 0, 0, 0, 0]);
    with[L3 + 6] = 60;
    let len = u16::try_from(with.len() - L3 - V6).unwrap().to_be_bytes();
    with[L3 + 4..L3 + 6].copy_from_slice(&len);
    assert_eq!(t.one(0, with.clone(), OUTSIDE), sent(INSIDE, SERVER_MAC, L, S), "whole, they are left out");
    for (verdict, _) in t.batch(0, &split(&with, 600, 3), OUTSIDE) {
        assert_eq!(verdict, Verdict::Drop(DropReason::Untranslatable));
    }
}

/// Packets of all kinds, with the side they come from.
fn samples() -> Vec<(Vec<u8>, u16)> {
    let mut all = Vec::new();
    for (from, to, side) in [(C, VIP, OUTSIDE), (S, L, INSIDE)] {
        let long = udp(from, to, &[7; 1440]);
        all.extend([udp(from, to, b"short"), udp(from, to, b""), long.clone()].map(|frame| (frame, side)));
        all.extend(split(&udp(from, to, &[7; 3000]), 1400, 1).into_iter().map(|frame| (frame, side)));
        let router = if side == INSIDE { "10.1.0.9" } else { "2001:db8:9::1" };
        // About what was sent the other way.
        let (sent_from, sent_to) = if side == INSIDE { (L, S) } else { (VIP, C) };
        let (sent, kind) = (udp(sent_from, sent_to, &[7; 600]), if side == INSIDE { (3, 4) } else { (2, 0) });
        let head = (kind.0, kind.1, 1400);
        all.push((error(router, head, &sent), side));
        all.push((error(router, head, &split(&sent, 400, 2)[0]), side));
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever lies a packet tells: what leaves is whole, fits, and has a right IP header, and ICMP's checksum is right.
    #[test]
    fn no_packet_makes_a_wrong_one(
        which in 0..samples().len(),
        edits in prop::collection::vec((12usize..130, any::<u8>()), 0..4),
        cut in prop::option::of(0usize..200),
        is_mended: bool,
        mtu in prop::sample::select(vec![68u16, 600, 1280, 1400, 1500]),
    ) {
        let (mut frame, side) = samples().swap_remove(which);
        for (at, value) in edits {
            let at = at % frame.len();
            frame[at] = value;
        }
        if is_mended && frame[L3] == 0x45 {
            mend_ip(&mut frame);
        }
        if is_mended && frame[L3] == 0x45 && frame[L3 + 9] == 1 {
            frame[L3 + V4 + 2..][..2].fill(0);
            let sum = checksum::of(&frame[L3 + V4..]);
            frame[L3 + V4 + 2..][..2].copy_from_slice(&sum.to_be_bytes());
        }
        if let Some(cut) = cut {
            frame.truncate(cut);
        }
        let mut t = table(Protocol::Udp);
        t.hops.mtu = mtu;
        let (verdict, frame) = t.batch(0, &[frame], side).remove(0);
        let first = matches!(verdict, Verdict::Transmit(_)).then_some(frame);
        for frame in first.into_iter().chain(t.made.drain(..).map(|(_, frame)| frame)) {
            let sliced = SlicedPacket::from_ethernet(&frame).unwrap();
            let l3 = if sliced.link_exts.is_empty() { L3 } else { L3 + 4 };
            match sliced.net.as_ref().unwrap() {
                NetSlice::Ipv4(ip) => {
                    prop_assert_eq!(checksum::of(ip.header().slice()), 0);
                    prop_assert!(ip.header().total_len() <= mtu);
                }
                NetSlice::Ipv6(ip) => prop_assert!(ip.header().payload_length() + 40 <= mtu),
                NetSlice::Arp(_) => prop_assert!(false),
            }
            if let Some(TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_)) = sliced.transport {
                let _said = relayed(&frame);
            }
            prop_assert!(frame.len() > l3);
        }
    }
}

#[test]
fn sctp_in_fragments_is_refused_as_its_ports_change() {
    let mut t = table_of(Protocol::Sctp, VIP, S, "5000");
    t.sctp(C, VIP, &[1]).unwrap();
    let whole = sctp(C, VIP, &[(0, &[7; 1000])]);
    for (verdict, _) in t.batch(0, &split(&whole, 600, 3), OUTSIDE) {
        assert_eq!(verdict, Verdict::Drop(DropReason::Fragment));
    }
}

#[test]
fn tags_are_those_of_the_way_out_and_room_for_a_tunnel_is_closed() {
    let mut t = table(Protocol::Udp);
    t.hops.vlans = [Some(7); 2];
    for (from, to, side, way) in [(C, VIP, OUTSIDE, (L, S)), (S, L, INSIDE, (VIP, C))] {
        let mut tagged = udp(from, to, b"tagged");
        let untagged = tagged.clone();
        tagged.splice(12..12, [0x81, 0, 0, 8]);
        for frame in [untagged, tagged] {
            let got = out(&mut t, frame, side);
            assert_eq!(got[12..16], [0x81, 0, 0, 7], "that of the way out");
            let got = read(&got, 1 - side);
            assert_eq!((got.from.as_str(), got.to.as_str(), got.ttl), (way.0, way.1, 63));
        }
    }
    let about = udp(L, S, b"question");
    let told = out(&mut t, error("10.1.0.9", (3, 3, 0), &about), INSIDE);
    assert_eq!(told[12..18], [0x81, 0, 0, 7, 0x86, 0xdd]);
    assert_eq!(relayed(&told).0, "2001:db8::100 tells 2001:db8:7::7: 1 4 0, ttl 59");
    // Pieces as well.
    t.hops.mtu = 600;
    let got = out(&mut t, udp(C, VIP, &[7; 1232]), OUTSIDE);
    let untag = |frame: Vec<u8>| {
        assert_eq!(frame[12..16], [0x81, 0, 0, 7]);
        [&frame[..12], &frame[16..]].concat()
    };
    let all = [got].into_iter().chain(t.made.drain(..).map(|(_, frame)| frame)).map(untag);
    assert_eq!(text(&together(&all.collect::<Vec<_>>(), 600).0, L, S), [7; 1232]);
    t.hops.vlans = [None; 2];
    // As the steering program makes it, of a service whose servers have just been behind tunnels.
    for (size, count) in [(10, 1), (1200, 1), (1232, 3)] {
        t.hops.mtu = if count == 1 { 1500 } else { 600 };
        let frame = udp(C, VIP, &vec![7; size]);
        let roomy = [&frame[..12], &[0x88, 0xb5, 0, 40], &[0xaa; 24], &frame].concat();
        let got = out(&mut t, roomy, OUTSIDE);
        let all: Vec<Vec<u8>> = [got].into_iter().chain(t.made.drain(..).map(|(_, frame)| frame)).collect();
        assert_eq!(all.len(), count);
        if count == 1 {
            assert_eq!(Ok(read(&all[0], INSIDE)), sent(INSIDE, SERVER_MAC, L, S));
        } else {
            assert_eq!(text(&together(&all, 600).0, L, S), vec![7; size]);
        }
    }
}

#[test]
fn extensions_behind_a_quote_are_left_out() {
    let mut t = table(Protocol::Udp);
    // 128 bytes are quoted (RFC 4884, 5.1), and what follows is MPLS' affair.
    let mut about = udp(L, S, &[7; 100]);
    about.extend([0x20, 0, 0, 0, 0, 8, 1, 1, 1, 2, 3, 4]);
    let (text, quoted) = relayed(&out(&mut t, error("10.1.0.9", (11, 0, 0x0020_0000), &about), INSIDE));
    assert_eq!(text, "2001:db8::100 tells 2001:db8:7::7: 3 0 0, ttl 59");
    assert_eq!(quoted, udp(C, VIP, &[7; 100])[L3..]);
}

#[test]
fn persistence_leads_to_servers_of_the_other_version() {
    let mut pool = service(Protocol::Tcp, VIP, Method::FullNat, &[(S, 1), ("10.1.0.12:8080", 1)]);
    pool.service.locals = Locals::new(&["10.1.0.2".parse().unwrap()], "5000-5099".parse().unwrap()).unwrap();
    let mut t = Table::new(&[persistent(pool, 300)]);
    let first = t.tcp(C, VIP, "S").unwrap();
    let other = t.tcp("[2001:db8:7::8]:40000", VIP, "S").unwrap();
    assert_eq!(t.tcp("[2001:db8:7::7]:40001", VIP, "S").unwrap().to, first.to);
    assert_ne!(first.to, other.to);
    let templates = t.rows(true);
    assert!(templates[0].ends_with(&format!("[2001:db8:7::7]:0 {VIP} {}", first.to)), "{templates:?}");
}
