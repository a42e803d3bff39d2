//! Fragments of IPv6: every order, both directions, every method, behind extension headers; what is refused; and the
//! tunnels' own packets, which are the only ones that are split.
//!
//! The oracle puts what is sent together again by itself, byte by byte, and an independent parser checks the whole
//! packet, its transport checksum included.

use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::server::ServerId;
use xvs::director::service::{Method, Pool, Protocol, Tunnel, TunnelChecksum};

use crate::pieces::*;
use crate::table::*;

const C: &str = "[2001:db8::7]:40000";
const VIP: &str = "[2001:db8:1::100]:53";
const SERVER: &str = "[fd00:1::11]:5353";
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0xa, 11];
/// Ethernet and IPv6 header.
const HEAD: usize = 54;
/// Hop-by-hop, destination options and routing header, with their numbers, and without that of the next.
const HOP_BY_HOP: (u8, [u8; 7]) = (0, [0, 1, 4, 0, 0, 0, 0]);
const OPTIONS: (u8, [u8; 7]) = (60, [0, 1, 4, 0, 0, 0, 0]);
const ROUTING: (u8, [u8; 7]) = (43, [0, 4, 0, 0, 0, 0, 0]);

type Headers<'h> = &'h [(u8, [u8; 7])];

fn pool(method: Method) -> Pool {
    let server = if method == Method::Nat { SERVER } else { "[fd00:1::11]:53" };
    service(Protocol::Udp, VIP, method, &[(server, 1)])
}

/// Puts extension headers in front of what is at `at`.
fn extended(mut frame: Vec<u8>, headers: Headers<'_>) -> Vec<u8> {
    for (number, rest) in headers.iter().rev() {
        let next = std::mem::replace(&mut frame[20], *number);
        frame.splice(HEAD..HEAD, [&[next][..], rest].concat());
    }
    sized(frame)
}

/// From where to where a whole packet goes, with what hop limit, and the last `len` bytes of it; its checksums are right.
fn seen(packet: &[u8], len: usize) -> (String, String, u8, Vec<u8>) {
    let Sent { from, to, ttl, .. } = read(packet, 9);
    (from, to, ttl, packet[packet.len() - len..].to_vec())
}

#[test]
fn a_datagram_goes_through_nat66_both_ways_in_every_order_behind_whatever_headers() {
    let mut t = Table::new(&[pool(Method::Nat)]);
    let mut id = 0;
    // Headers that every fragment has, and such as only the first has.
    let chains: [(Headers<'_>, Headers<'_>); 3] =
        [(&[], &[]), (&[HOP_BY_HOP, ROUTING], &[]), (&[HOP_BY_HOP], &[OPTIONS])];
    for ((each, first), count) in chains.into_iter().flat_map(|chain| [2, 3, 4].map(|count| (chain, count))) {
        for order in permutations(count) {
            id += 1;
            let data = payload(count * 64 - 8 - 3 - 8 * first.len());
            let client = format!("[2001:db8::7]:{}", 1000 + id);
            for (from, to, new_from, new_to, port) in [
                (client.as_str(), VIP, client.as_str(), SERVER, OUTSIDE),
                (SERVER, client.as_str(), VIP, client.as_str(), INSIDE),
            ] {
                let whole = extended(udp(from, to, &data), &[each, first].concat());
                let pieces = cut6(&whole, 8 * each.len(), id << 16, 64);
                assert_eq!(pieces.len(), count);
                let sent = through(&mut t, &shuffled(&pieces, &order), port);
                assert_eq!(sent.len(), count, "{order:?}");
                let packets = reassembled6(&sent);
                let [packet] = &packets[..] else { panic!("{order:?}: {} packets", packets.len()) };
                assert_eq!(
                    seen(packet, data.len()),
                    (new_from.into(), new_to.into(), 63, data.clone()),
                    "{order:?}"
                );
                assert_eq!(packet.len(), whole.len(), "its extension headers are still there");
            }
        }
    }
    assert_eq!((t.director.table.len(), t.director.drops()), (u64::from(id), vec![]));
    let traffic = t.director.traffic(ServerId(0));
    assert_eq!((traffic.connections, traffic.in_packets, traffic.out_packets), (96, 96, 96));
    assert_eq!(traffic.in_bytes, traffic.out_bytes);
}

#[test]
fn by_dr_and_by_every_tunnel_in_every_order() {
    let gue = Tunnel::Gue { port: 6080, checksum: TunnelChecksum::Full };
    let gre = Tunnel::Gre { checksum: TunnelChecksum::Full };
    let tunnels = [Tunnel::Ipip, gue, gre].map(Method::Tun);
    for (method, server) in [(Method::Dr, "[fd00:1::11]:53")]
        .into_iter()
        .chain(tunnels.into_iter().flat_map(|tunnel| [(tunnel, "[fd00:1::11]:53"), (tunnel, "10.1.0.11:53")]))
    {
        let mut t = Table::new(&[service(Protocol::Udp, VIP, method, &[(server, 1)])]);
        for (id, order) in (1..).zip(permutations(4)) {
            let data = payload(250);
            let pieces = cut6(&udp(C, VIP, &data), 0, id, 72);
            let mut sent = through(&mut t, &shuffled(&pieces, &order), OUTSIDE);
            assert!(sent.iter().all(|frame| frame[..6] == SERVER_MAC), "{method:?} {server}");
            if let Method::Tun(tunnel) = method {
                let overhead = tunnel.overhead(!server.starts_with('['));
                for frame in &mut sent {
                    let kind: &[u8] = if server.starts_with('[') { &[0x86, 0xdd] } else { &[8, 0] };
                    assert_eq!(&frame[12..14], kind);
                    *frame = [&frame[..12], &[0x86, 0xdd], &frame[14 + overhead..]].concat();
                }
            }
            let packet = reassembled6(&sent).remove(0);
            assert_eq!(seen(&packet, data.len()), (C.into(), VIP.into(), 63, data), "{method:?} {order:?}");
        }
    }
}

#[test]
fn each_datagram_of_a_one_packet_service_goes_whole_to_one_server_and_nobodys_is_routed_on() {
    let mut one = service(Protocol::Udp, VIP, Method::Nat, &[("[fd00:1::11]:53", 1), ("[fd00:1::12]:53", 1)]);
    one.service.one_packet = true;
    let mut t = Table::new(&[one]);
    let mut servers = Vec::new();
    for id in 0..4 {
        let mut pieces = cut6(&udp(C, VIP, &payload(200)), 0, id, 80);
        let count = pieces.len();
        pieces.rotate_left(id as usize % count);
        let sent = through(&mut t, &pieces, OUTSIDE);
        assert!(sent.iter().all(|frame| frame[..6] == sent[0][..6]));
        servers.push(read(&reassembled6(&sent)[0], 9).to);
    }
    let [a, b] = ["[fd00:1::12]:53", "[fd00:1::11]:53"];
    assert_eq!(servers, [a, b, a, b]);

    let whole = udp("[fd00:1::11]:2049", "[2001:db8::9]:99", &payload(300));
    for (id, order) in (10..).zip(permutations(3)) {
        let pieces = cut6(&whole, 0, id, 128);
        let packet = reassembled6(&through(&mut t, &shuffled(&pieces, &order), INSIDE)).remove(0);
        assert_eq!(read(&packet, 9).to, "[2001:db8::9]:99");
        assert_eq!(packet[HEAD..], whole[HEAD..]);
    }
}

#[test]
fn a_segment_of_a_connection_may_be_fragmented_and_a_whole_one_may_look_like_a_fragment() {
    let (vip, server) = ("[2001:db8:1::100]:80", "[fd00:1::11]:8080");
    let mut t = Table::new(&[service(Protocol::Tcp, vip, Method::Nat, &[(server, 1)])]);
    // An atomic fragment (RFC 6946): a packet like any other, whatever else has its identification.
    let whole = |frame: &[u8]| piece6(frame, 0, 7, 0, usize::MAX);
    for (frame, port) in [(tcp(C, vip, "S"), OUTSIDE), (tcp(server, C, "SA"), INSIDE)] {
        let sent = through(&mut t, &[whole(&frame), whole(&frame)], port);
        let to = if port == OUTSIDE { server } else { C };
        assert!(sent.len() == 2 && sent.iter().all(|f| fragment_at(f).is_some() && read(f, 9).to == to));
    }
    for (id, (from, to, new, port)) in (1..).zip([(C, vip, server, OUTSIDE), (server, C, C, INSIDE)]) {
        let segment = tcp(from, to, "A");
        for order in permutations(2) {
            let pieces = cut6(&segment, 0, id, 24);
            let packet = reassembled6(&through(&mut t, &shuffled(&pieces, &order), port)).remove(0);
            assert_eq!((read(&packet, 9).to.as_str(), &packet[HEAD + 20..]), (new, &segment[HEAD + 20..]));
        }
    }
    let pieces = cut6(&tcp("[2001:db8::9]:1", vip, "A"), 0, 9, 24);
    let verdicts = t.batch(0, &[pieces[1].clone(), pieces[0].clone()], OUTSIDE);
    assert_eq!(verdicts[1].0, Verdict::Answer(OUTSIDE, DropReason::NoConnection), "a reset");
    assert_eq!(t.director.drops(), [(DropReason::NoConnection, 2)], "and what had waited is dropped with it");
}

#[test]
fn overlaps_end_a_datagram_and_duplicates_do_not() {
    let whole = udp(C, VIP, &payload(392)); // 400 bytes
    for (parts, reasons) in [
        (vec![(0, 80), (0, 80), (80, 160), (80, 120), (160, 400)], vec![(1, "dup"), (3, "dup")]),
        (vec![(0, 80), (72, 160), (160, 400)], vec![(1, "overlap"), (2, "overlap")]),
        (vec![(0, 80), (160, 240), (80, 168), (240, 400)], vec![(2, "overlap"), (3, "overlap")]),
        // Before the first too: RFC 5722 lets nothing of it go on.
        (
            vec![(80, 160), (152, 240), (0, 80), (240, 400)],
            vec![(1, "overlap"), (2, "overlap"), (3, "overlap")],
        ),
    ] {
        let mut t = Table::new(&[pool(Method::Nat)]);
        let pieces: Vec<_> = parts.iter().map(|&(from, to)| piece6(&whole, 0, 1, from, to)).collect();
        for (n, (verdict, _)) in t.batch(0, &pieces, OUTSIDE).iter().enumerate() {
            let expected = match reasons.iter().find(|(at, _)| *at == n) {
                Some((_, "dup")) => Verdict::Drop(DropReason::FragmentDuplicate),
                Some(_) => Verdict::Drop(DropReason::FragmentOverlap),
                None if n == 0 && parts[0].0 > 0 => Verdict::Keep,
                None => Verdict::Transmit(INSIDE),
            };
            assert_eq!(*verdict, expected, "{parts:?}, fragment {n}");
        }
    }
}

#[test]
fn what_no_datagram_can_have_is_refused_by_reason() {
    let mut t = Table::new(&[pool(Method::Nat)]);
    let mut dropped = |frame: Vec<u8>| match t.batch(0, &[frame], OUTSIDE).remove(0).0 {
        Verdict::Drop(reason) => Some(reason),
        _ => None,
    };
    let whole = udp(C, VIP, &payload(392));
    assert_eq!(dropped(piece6(&whole, 0, 1, 0, 84)), Some(DropReason::Fragment), "no multiple of eight");
    let segment = tcp(C, "[2001:db8:1::100]:80", "A");
    assert_eq!(dropped(piece6(&segment, 0, 2, 0, 16)), Some(DropReason::FragmentTiny));
    let behind = extended(whole.clone(), &[OPTIONS]);
    assert_eq!(dropped(piece6(&behind, 0, 3, 0, 8)), Some(DropReason::FragmentTiny), "no transport header");
    let mut echo = piece6(&whole, 0, 4, 0, 80);
    echo[HEAD] = 58;
    assert_eq!(dropped(echo.clone()), Some(DropReason::Fragment), "ICMPv6 is relayed whole");
    echo[HEAD] = 47;
    assert_eq!(dropped(echo), Some(DropReason::Protocol));
    let mut far = piece6(&whole, 0, 5, 80, 160);
    far[HEAD + 2..HEAD + 4].copy_from_slice(&[0xff, 0xf8]);
    assert_eq!(dropped(far), Some(DropReason::Fragment), "beyond 65,535 bytes");
    let many = extended(whole, &[OPTIONS; 7]);
    assert_eq!(dropped(piece6(&many, 0, 6, 0, 80)), Some(DropReason::Extension));
    assert_eq!(t.director.table.len(), 0);
}

/// Nobody but its sender fragments an IPv6 packet: the first fragment is answered, later ones go with it.
#[test]
fn a_fragment_that_is_too_long_is_never_split() {
    for method in [Method::Nat, Method::Dr, Method::Tun(Tunnel::Ipip)] {
        let mut t = Table::new(&[pool(method)]);
        t.hops.mtu = 1400;
        for (id, reversed) in [(1, false), (2, true)] {
            let mut pieces = cut6(&udp(C, VIP, &payload(4000)), 0, id, 1448);
            if reversed {
                pieces.reverse();
            }
            let verdicts: Vec<_> = t.batch(0, &pieces, OUTSIDE);
            let (verdict, answer) = &verdicts[if reversed { 2 } else { 0 }];
            assert_eq!(*verdict, Verdict::Answer(OUTSIDE, DropReason::TooBig), "{method:?}");
            let mtu: u32 = if matches!(method, Method::Tun(_)) { 1360 } else { 1400 };
            assert_eq!((answer[HEAD], &answer[HEAD + 4..HEAD + 8]), (2, &mtu.to_be_bytes()[..]));
            let rest =
                verdicts.iter().map(|(verdict, _)| *verdict).filter(|v| !matches!(v, Verdict::Answer(..)));
            let other = if reversed { Verdict::Keep } else { Verdict::Drop(DropReason::TooBig) };
            assert_eq!(rest.collect::<Vec<_>>(), [other; 2]);
            assert!(t.made.is_empty());
        }
        assert_eq!(t.director.drops(), [(DropReason::TooBig, 6)]);
        // One that does fit goes on, whatever another of its datagram does.
        let pieces = cut6(&udp(C, VIP, &payload(2600)), 0, 3, 1280);
        assert_eq!(through(&mut t, &pieces, OUTSIDE).len(), 3);
    }
}

/// IPv4 that may be fragmented, in tunnels over IPv6: the outer packets are the director's own.
#[test]
fn the_outer_packet_is_split_and_two_workers_number_theirs_differently() {
    let (client, vip) = ("192.0.2.7:40000", "10.0.0.100:53");
    for tunnel in [Tunnel::Ipip, Tunnel::Gue { port: 6080, checksum: TunnelChecksum::Full }] {
        let mut t =
            Table::new(&[service(Protocol::Udp, vip, Method::Tun(tunnel), &[("[fd00:1::11]:53", 1)])]);
        let data = payload(1472);
        let may_be_split = |mut frame: Vec<u8>| {
            frame[20..26].fill(0);
            frame[22..24].copy_from_slice(&[64, 17]);
            let sum = xvs::packet::checksum::of(&frame[14..34]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
            frame
        };
        let datagram = udp(client, vip, &data);
        let mut sent = Vec::new();
        for worker in [0, 1, 0, 1] {
            let (verdict, after) = t.batch(worker, &[may_be_split(datagram.clone())], OUTSIDE).remove(0);
            assert_eq!(verdict, Verdict::Transmit(INSIDE));
            sent.push(after);
        }
        sent.extend(t.made.drain(..).map(|(_, frame)| frame));
        assert!(sent.len() == 8 && sent.iter().all(|frame| frame.len() <= 1514 && frame[..6] == SERVER_MAC));
        let outer = reassembled6(&sent);
        assert_eq!(outer.len(), 4);
        for packet in outer {
            let inner = [&packet[..12], &[8, 0], &packet[14 + tunnel.overhead(false)..]].concat();
            assert_eq!((read(&inner, 9).to.as_str(), &inner[42..]), (vip, &data[..]));
        }
        // With DF the client is told, unless pmtu_disc is off; IPv6 always is.
        let mut fixed = datagram.clone();
        fixed[20] = 0x40;
        mend_ip(&mut fixed);
        let told = Verdict::Answer(OUTSIDE, DropReason::TooBig);
        assert_eq!(t.batch(0, &[fixed.clone()], OUTSIDE)[0].0, told);
        t.tune("pmtu_disc", 0);
        assert_eq!(t.batch(0, &[fixed], OUTSIDE)[0].0, Verdict::Transmit(INSIDE));
        assert_eq!(t.made.drain(..).count(), 1);
        let mut t = Table::new(&[pool(Method::Tun(tunnel))]);
        t.tune("pmtu_disc", 0);
        assert_eq!(t.batch(0, &[udp(C, VIP, &payload(1440))], OUTSIDE)[0].0, told);
    }
}
