//! Fragments: every order, both directions, every method; what is refused; floods; and packets that the director splits.
//!
//! The oracle puts what is sent together again by itself, byte by byte, and an independent parser checks the whole
//! packet, its transport checksum included.

use std::collections::HashMap;

use proptest::prelude::*;
use xvs::director::drops::DropReason;
use xvs::director::engine::{Batch, Engine, Packet, Verdict, Verdicts};
use xvs::director::forward::hops::{PortId, Route};
use xvs::director::server::ServerId;
use xvs::director::service::{Method, Pool, Protocol, Tunnel, TunnelChecksum};
use xvs::packet::checksum;

use crate::table::*;

const C: &str = "192.0.2.7:40000";
const VIP: &str = "10.0.0.100:53";
const SERVER: &str = "10.1.0.11:5353";
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0xa, 11];

fn pool(method: Method) -> Pool {
    let server = if method == Method::Nat { SERVER } else { "10.1.0.11:53" };
    service(Protocol::Udp, VIP, method, &[(server, 1)])
}

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 256).to_le_bytes()[0]).collect()
}

/// A whole packet with this identification that may be fragmented.
fn numbered(mut frame: Vec<u8>, id: u16) -> Vec<u8> {
    frame[18..20].copy_from_slice(&id.to_be_bytes());
    frame[20..22].fill(0);
    mend_ip(&mut frame);
    frame
}

/// The bytes from `from` to `to` behind the IP header, as a fragment.
fn piece(frame: &[u8], from: usize, to: usize) -> Vec<u8> {
    let head = 14 + usize::from(frame[14] & 15) * 4;
    let to = to.min(frame.len() - head);
    let mut piece = [&frame[..head], &frame[head + from..head + to]].concat();
    let more = if head + to < frame.len() { 0x2000 } else { 0 };
    let len = u16::try_from(piece.len() - 14).unwrap();
    piece[16..18].copy_from_slice(&len.to_be_bytes());
    piece[20..22].copy_from_slice(&(u16::try_from(from / 8).unwrap() | more).to_be_bytes());
    mend_ip(&mut piece);
    piece
}

/// Fragments of at most `step` bytes.
fn cut(frame: &[u8], step: usize) -> Vec<Vec<u8>> {
    (0..frame.len() - 34).step_by(step).map(|from| piece(frame, from, from + step)).collect()
}

/// Puts the packets together that these frames are fragments of.
fn reassembled(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    type Parts = (Vec<u8>, Vec<Option<u8>>, Option<usize>);
    let mut all: HashMap<Vec<u8>, Parts> = HashMap::new();
    for frame in frames {
        let head = 14 + usize::from(frame[14] & 15) * 4;
        assert_eq!(checksum::of(&frame[14..head]), 0, "IP header checksum");
        let field = u16::from_be_bytes([frame[20], frame[21]]);
        let (at, more) = (usize::from(field & 0x1fff) * 8, field & 0x2000 != 0);
        let end = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        let key = [&frame[18..20], &frame[23..24], &frame[26..34]].concat();
        let (header, bytes, len) = all.entry(key).or_insert_with(|| (Vec::new(), Vec::new(), None));
        if at == 0 {
            *header = frame[..head].to_vec();
        }
        let last = at + end - head;
        bytes.resize(bytes.len().max(last), None);
        for (to, &from) in bytes[at..].iter_mut().zip(&frame[head..end]) {
            assert_eq!(to.replace(from), None, "no byte twice");
        }
        if !more {
            assert_eq!(len.replace(last), None, "one end");
        }
    }
    let mut packets: Vec<Vec<u8>> = all
        .into_values()
        .map(|(header, bytes, len)| {
            assert_eq!(len, Some(bytes.len()), "the end, and nothing behind it");
            let bytes = bytes.into_iter().map(|b| b.expect("no gap"));
            let mut packet: Vec<u8> = header.into_iter().chain(bytes).collect();
            let len = u16::try_from(packet.len() - 14).unwrap();
            packet[16..18].copy_from_slice(&len.to_be_bytes());
            packet[20..22].fill(0);
            mend_ip(&mut packet);
            packet
        })
        .collect();
    packets.sort();
    packets
}

fn permutations(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(count - 1);
    (0..count)
        .flat_map(|at| {
            shorter.iter().map(move |p| {
                let mut p = p.clone();
                p.insert(at, count - 1);
                p
            })
        })
        .collect()
}

/// Sends these frames one by one, to the workers in turn; what was sent comes back.
fn through(t: &mut Table, frames: &[Vec<u8>], port: PortId) -> Vec<Vec<u8>> {
    let mut sent = Vec::new();
    for (worker, frame) in [0, 1].into_iter().cycle().zip(frames) {
        let (verdict, after) = t.batch(worker, std::slice::from_ref(frame), port).remove(0);
        match verdict {
            Verdict::Transmit(_) => sent.push(after),
            Verdict::Keep => assert_eq!(&after, frame, "left alone"),
            other => panic!("{other:?}"),
        }
        sent.extend(t.made.drain(..).map(|(_, frame)| frame));
    }
    sent
}

#[test]
fn a_datagram_goes_through_nat_both_ways_in_every_order() {
    let mut t = Table::new(&[pool(Method::Nat)]);
    let mut id = 0;
    for count in 2..=5 {
        for order in permutations(count) {
            id += 1;
            let data = payload(count * 64 - 8 - 3);
            let client = format!("192.0.2.7:{}", 1000 + id);
            for (from, to, new_from, new_to, port) in [
                (client.as_str(), VIP, client.as_str(), SERVER, OUTSIDE),
                (SERVER, client.as_str(), VIP, client.as_str(), INSIDE),
            ] {
                let whole = numbered(udp(from, to, &data), id);
                let pieces = cut(&whole, 64);
                assert_eq!(pieces.len(), count);
                let shuffled: Vec<_> = order.iter().map(|&n| pieces[n].clone()).collect();
                let sent = through(&mut t, &shuffled, port);
                assert_eq!(sent.len(), count, "{order:?}");
                let packets = reassembled(&sent);
                let [packet] = &packets[..] else { panic!("{order:?}: {} packets", packets.len()) };
                let seen = read(packet, 9);
                assert_eq!((seen.from.as_str(), seen.to.as_str(), seen.ttl), (new_from, new_to, 63));
                assert_eq!(packet[42..], data[..], "{order:?}");
            }
        }
    }
    assert_eq!((t.director.table.len(), t.director.drops()), (u64::from(id), vec![]));
    // As if the datagrams had come whole: one packet, one header.
    let traffic = t.director.traffic(ServerId(0));
    let bytes: usize = [2, 6, 24, 120].iter().zip(2..=5).map(|(n, count)| n * (20 + count * 64 - 3)).sum();
    assert_eq!((traffic.connections, traffic.in_packets, traffic.out_packets), (152, 152, 152));
    assert_eq!((traffic.in_bytes, traffic.out_bytes), (bytes as u64, bytes as u64));
}

#[test]
fn by_dr_and_by_every_tunnel_in_every_order() {
    let gue = Tunnel::Gue { port: 6080, checksum: TunnelChecksum::Full };
    let gre = Tunnel::Gre { checksum: TunnelChecksum::Full };
    for method in [Method::Dr, Method::Tun(Tunnel::Ipip), Method::Tun(gue), Method::Tun(gre)] {
        let mut t = Table::new(&[pool(method)]);
        for (id, order) in (1..).zip(permutations(4)) {
            let data = payload(250);
            let whole = numbered(udp(C, VIP, &data), id);
            let pieces = cut(&whole, 72);
            let shuffled: Vec<_> = order.iter().map(|&n| pieces[n].clone()).collect();
            let mut sent = through(&mut t, &shuffled, OUTSIDE);
            assert!(sent.iter().all(|frame| frame[..6] == SERVER_MAC));
            if let Method::Tun(tunnel) = method {
                for frame in &mut sent {
                    let [outer] = &reassembled(std::slice::from_ref(frame))[..] else { panic!() };
                    assert_eq!(outer[30..34], [10, 1, 0, 11]);
                    *frame = [&frame[..14], &outer[14 + tunnel.overhead(true)..]].concat();
                }
            }
            let packet = reassembled(&sent).remove(0);
            let seen = read(&packet, 9);
            assert_eq!((seen.from.as_str(), seen.to.as_str(), seen.ttl), (C, VIP, 63), "{method:?}");
            assert_eq!(packet[42..], data[..], "{method:?} {order:?}");
        }
    }
}

#[test]
fn each_datagram_of_a_one_packet_service_goes_whole_to_one_server() {
    for method in [Method::Nat, Method::Tun(Tunnel::Ipip)] {
        let servers = [("10.1.0.11:53", 1), ("10.1.0.12:53", 1)];
        let mut pool = service(Protocol::Udp, VIP, method, &servers);
        pool.service.one_packet = true;
        let mut t = Table::new(&[pool]);
        let mut servers = Vec::new();
        for id in 0..4 {
            let mut pieces = cut(&numbered(udp(C, VIP, &payload(200)), id), 80);
            pieces.rotate_left(usize::from(id) % 3);
            let sent = through(&mut t, &pieces, OUTSIDE);
            assert!(sent.iter().all(|frame| frame[..6] == sent[0][..6]));
            servers.push(sent[0][5]);
            if method == Method::Nat {
                let [packet] = &reassembled(&sent)[..] else { panic!() };
                assert_eq!(read(packet, 9).to, format!("10.1.0.{}:53", sent[0][5]));
            }
        }
        assert_eq!(servers, [12, 11, 12, 11]);
        assert_eq!(t.director.table.len(), 0);
        let traffic = t.director.traffic(ServerId(0));
        assert_eq!((traffic.in_packets, traffic.in_bytes), (2, 2 * 228));
    }
}

#[test]
fn what_nobody_asked_a_nat_server_for_is_routed_on_whole() {
    let mut t = Table::new(&[pool(Method::Nat)]);
    let data = payload(300);
    let whole = numbered(udp(SERVER, "198.51.100.9:99", &data), 5);
    for order in permutations(3) {
        let pieces = cut(&whole, 128);
        let sent = through(&mut t, &order.iter().map(|&n| pieces[n].clone()).collect::<Vec<_>>(), INSIDE);
        let packet = reassembled(&sent).remove(0);
        let seen = read(&packet, 9);
        assert_eq!((seen.from.as_str(), seen.to.as_str(), seen.ttl), (SERVER, "198.51.100.9:99", 63));
        assert_eq!(packet[42..], data[..]);
    }
}

/// Fragments come up by a server's address: what it sends from any other port, or by TCP, is nobody's, not refused.
#[test]
fn other_traffic_of_a_nat_server_is_routed_on_too() {
    let mut t = Table::new(&[pool(Method::Nat)]);
    let whole = numbered(udp("10.1.0.11:2049", "198.51.100.9:99", &payload(300)), 5);
    let segment = numbered(tcp("10.1.0.11:873", "198.51.100.9:99", "A"), 6);
    for (whole, step) in [(whole, 128), (segment, 24)] {
        let mut pieces = cut(&whole, step);
        pieces.reverse();
        let packet = reassembled(&through(&mut t, &pieces, INSIDE)).remove(0);
        assert_eq!((read(&packet, 9).to.as_str(), &packet[34..]), ("198.51.100.9:99", &whole[34..]));
    }
    assert_eq!(t.director.stats.iter().map(|s| s.strays()).sum::<u64>(), 2, "packets, not fragments");
    t.take_out("udp:10.0.0.100:53", SERVER);
    let first = piece(&numbered(udp("10.1.0.11:2049", "198.51.100.9:99", &payload(300)), 7), 0, 64);
    let verdict = t.batch(0, &[first], INSIDE).remove(0).0;
    assert_eq!(verdict, Verdict::Answer(INSIDE, DropReason::NoService), "no server any more");
}

/// The steering program has made room for a tunnel, and the packet goes to a server without one, in pieces.
#[test]
fn pieces_have_no_room_in_front() {
    let mut t = Table::new(&[pool(Method::Nat)]);
    t.hops.mtu = 576;
    let whole = numbered(udp(C, VIP, &payload(1400)), 7);
    let mut grown = [&whole[..12], &0x88b5u16.to_be_bytes()[..], &20u16.to_be_bytes()].concat();
    grown.resize(20, 0xdd);
    grown.extend(&whole);
    let first = t.forwarded(&grown);
    let mut sent = vec![first];
    sent.extend(t.made.drain(..).map(|(_, frame)| frame));
    let packet = reassembled(&sent).remove(0);
    assert_eq!((read(&packet, 9).to.as_str(), &packet[42..]), (SERVER, &whole[42..]));
    assert!(sent.iter().all(|frame| frame[..6] == SERVER_MAC));
}

#[test]
fn a_segment_of_a_connection_may_be_fragmented_too() {
    let vip = "10.0.0.100:80";
    let mut t = Table::new(&[service(Protocol::Tcp, vip, Method::Nat, &[("10.1.0.11:8080", 1)])]);
    t.tcp(C, vip, "S").unwrap();
    t.tcp("10.1.0.11:8080", C, "SA").unwrap();
    for (id, (from, to, new, port)) in
        [(C, vip, "10.1.0.11:8080", OUTSIDE), ("10.1.0.11:8080", C, C, INSIDE)].into_iter().enumerate()
    {
        let whole = numbered(tcp(from, to, "AP"), u16::try_from(id).unwrap());
        for order in permutations(2) {
            let pieces = cut(&whole, 24);
            let sent = through(&mut t, &order.iter().map(|&n| pieces[n].clone()).collect::<Vec<_>>(), port);
            let packet = reassembled(&sent).remove(0);
            assert_eq!((read(&packet, 9).to.as_str(), &packet[54..]), (new, &whole[54..]));
        }
    }
    assert_eq!(t.states()[0].1, xvs::director::conn::state::State::Established);
    let stranger = numbered(tcp("192.0.2.9:1", vip, "A"), 9);
    let pieces = cut(&stranger, 24);
    let (verdict, answer) = t.batch(0, &[pieces[1].clone(), pieces[0].clone()], OUTSIDE).remove(1);
    assert_eq!(verdict, Verdict::Answer(OUTSIDE, DropReason::NoConnection));
    assert_eq!(read_answer(&answer), format!("{vip} resets 192.0.2.9:1"));
    assert_eq!(t.director.drops(), [(DropReason::NoConnection, 2)], "and what had waited is dropped with it");
}

#[test]
fn what_is_refused_with_the_first_is_refused_with_the_others() {
    let mut t = Table::new(&[pool(Method::Nat)]);
    t.hops.client_route = Route::Unreachable;
    let pieces = cut(&numbered(udp(C, "10.0.0.100:54", &payload(200)), 1), 80);
    let verdicts: Vec<Verdict> = t.batch(0, &pieces, OUTSIDE).into_iter().map(|v| v.0).collect();
    let reason = DropReason::NoService;
    assert_eq!(verdicts, [Verdict::Answer(OUTSIDE, reason), Verdict::Drop(reason), Verdict::Drop(reason)]);
}

#[test]
fn overlaps_end_a_datagram_and_duplicates_do_not() {
    let whole = numbered(udp(C, VIP, &payload(392)), 1); // 400 bytes of payload
    for (parts, reasons) in [
        // Exact duplicates, and one within what is known: dropped, and the datagram goes on.
        (vec![(0, 80), (0, 80), (80, 160), (80, 120), (160, 400)], vec![(1, "dup"), (3, "dup")]),
        (vec![(80, 160), (80, 160), (0, 80), (160, 400)], vec![(1, "dup")]),
        // Overlaps: at the front, at the back, around; nothing goes on after.
        (vec![(0, 80), (72, 160), (160, 400)], vec![(1, "overlap"), (2, "overlap")]),
        (vec![(0, 80), (160, 240), (80, 168), (240, 400)], vec![(2, "overlap"), (3, "overlap")]),
        (vec![(0, 80), (160, 240), (152, 248), (80, 160)], vec![(2, "overlap"), (3, "overlap")]),
    ] {
        let mut t = Table::new(&[pool(Method::Nat)]);
        let pieces: Vec<_> = parts.iter().map(|&(from, to)| piece(&whole, from, to)).collect();
        let verdicts = t.batch(0, &pieces, OUTSIDE);
        for (n, (verdict, _)) in verdicts.iter().enumerate() {
            let expected = match reasons.iter().find(|(at, _)| *at == n) {
                Some((_, "dup")) => Verdict::Drop(DropReason::FragmentDuplicate),
                Some(_) => Verdict::Drop(DropReason::FragmentOverlap),
                None if n == 0 && parts[0].0 > 0 => Verdict::Keep,
                None => Verdict::Transmit(INSIDE),
            };
            assert_eq!(*verdict, expected, "{parts:?}, fragment {n}");
        }
        let mut sent: Vec<_> = verdicts
            .into_iter()
            .filter_map(|(v, f)| matches!(v, Verdict::Transmit(_)).then_some(f))
            .collect();
        sent.extend(t.made.drain(..).map(|(_, frame)| frame));
        if reasons.iter().all(|(_, what)| *what == "dup") {
            assert_eq!(reassembled(&sent)[0][42..], whole[42..]);
        }
        // Whole, or forgotten: the same identification begins another one.
        t.pass(31);
        assert_eq!(reassembled(&through(&mut t, &cut(&whole, 160), OUTSIDE))[0][42..], whole[42..]);
    }
}

#[test]
fn contradictions_about_the_end_and_tiny_fragments_are_refused() {
    let mut t = Table::new(&[pool(Method::Nat)]);
    let whole = numbered(udp(C, VIP, &payload(392)), 1);
    let drop = |t: &mut Table, frame: Vec<u8>| match t.batch(0, &[frame], OUTSIDE).remove(0).0 {
        Verdict::Drop(reason) => Some(reason),
        _ => None,
    };
    // Behind the last one, and a last one before what there was.
    assert_eq!(drop(&mut t, piece(&whole[..190], 80, 160)), None);
    assert_eq!(drop(&mut t, piece(&whole, 240, 320)), Some(DropReason::Fragment));
    assert_eq!(drop(&mut t, piece(&whole, 0, 80)), Some(DropReason::Fragment), "nothing of it goes on");
    let whole = numbered(whole, 2);
    assert_eq!(drop(&mut t, piece(&whole, 240, 320)), None);
    assert_eq!(drop(&mut t, piece(&whole[..200], 80, 166)), Some(DropReason::Fragment));

    let whole = numbered(whole, 3);
    let mut uneven = piece(&whole, 0, 84);
    assert_eq!(drop(&mut t, uneven.clone()), Some(DropReason::Fragment));
    uneven[21] = 0xff;
    uneven[20] = 0x3f;
    mend_ip(&mut uneven);
    assert_eq!(drop(&mut t, uneven), Some(DropReason::Fragment), "beyond 65,535 bytes");
    let segment = numbered(tcp(C, "10.0.0.100:80", "S"), 4);
    for len in [8, 16] {
        assert_eq!(drop(&mut t, piece(&segment, 0, len)), Some(DropReason::FragmentTiny));
    }
    assert_eq!(t.director.table.len(), 0);
}

#[test]
fn a_fragment_whose_first_does_not_come_waits_a_second_and_no_longer() {
    let mut t = Table::new(&[pool(Method::Nat)]);
    let pieces = cut(&numbered(udp(C, VIP, &payload(200)), 1), 80);
    assert_eq!(t.batch(1, &[pieces[1].clone()], OUTSIDE)[0].0, Verdict::Keep);
    t.pass(1);
    assert_eq!(t.director.drops(), []);
    assert_eq!(through(&mut t, &pieces[..1], OUTSIDE).len(), 2, "in time");
    let pieces = cut(&numbered(udp(C, VIP, &payload(200)), 2), 80);
    t.batch(1, &[pieces[1].clone(), pieces[2].clone()], OUTSIDE);
    t.pass(2);
    assert_eq!(t.director.drops(), [(DropReason::FragmentAlone, 2)]);
    assert_eq!(through(&mut t, &pieces[..1], OUTSIDE).len(), 1);
}

#[test]
fn floods_are_bounded_and_datagrams_in_order_go_on_through_them() {
    let mut t = Table::sized(&[pool(Method::Nat)], 8192, 2);
    t.one(0, udp(C, VIP, b"?"), OUTSIDE).unwrap();
    let junk = payload(1400);
    for first in [false, true] {
        let mut id = 0u32;
        for round in 0..100u16 {
            let mut frames: Vec<Vec<u8>> = (0..60)
                .map(|n| {
                    id += 1;
                    let from = format!("198.18.{}.{}:9", id / 250, id % 250);
                    let whole = numbered(udp(&from, VIP, &junk), round);
                    if first { piece(&whole, 0, 64 + n / 60) } else { piece(&whole, 64, 1400) }
                })
                .collect();
            let whole = numbered(udp(C, VIP, &payload(3000)), 1000 + round + 100 * u16::from(first));
            let mine = cut(&whole, 1400);
            frames.extend(mine);
            let verdicts = t.batch(usize::from(round % 2), &frames, OUTSIDE);
            let sent: Vec<_> = verdicts[60..].iter().map(|(_, frame)| frame.clone()).collect();
            assert!(verdicts[60..].iter().all(|(v, _)| *v == Verdict::Transmit(INSIDE)), "{verdicts:?}");
            assert_eq!(reassembled(&sent)[0][42..], whole[42..]);
        }
        let drops: HashMap<_, _> = t.director.drops().into_iter().collect();
        if !first {
            assert_eq!(drops[&DropReason::FragmentsFull], 6000 - 512, "no more than those are kept");
        }
        t.pass(2);
    }
    let drops: HashMap<_, _> = t.director.drops().into_iter().collect();
    assert_eq!(drops[&DropReason::FragmentAlone], 512);
    assert_eq!(drops.len(), 2, "{drops:?}");
}

/// A packet, or a fragment, that is too long for the way out and may be fragmented.
#[test]
fn what_is_too_long_is_split_unless_it_must_not_be() {
    for method in [Method::Nat, Method::Dr] {
        for mtu in [68, 100, 576, 1000] {
            let mut t = Table::new(&[pool(method)]);
            t.hops.mtu = mtu;
            let data = payload(1400);
            let whole = numbered(udp(C, VIP, &data), 7);
            let sent = through(&mut t, std::slice::from_ref(&whole), OUTSIDE);
            assert!(sent.len() > 1 && sent.iter().all(|frame| frame.len() <= 14 + usize::from(mtu)));
            let packet = reassembled(&sent).remove(0);
            let to = if method == Method::Nat { SERVER } else { VIP };
            assert_eq!((read(&packet, 9).to.as_str(), &packet[42..]), (to, &data[..]));
            // Fragments of fragments, the first of them last.
            let mut pieces = cut(&numbered(whole.clone(), 8), 1000);
            pieces.reverse();
            let packet = reassembled(&through(&mut t, &pieces, OUTSIDE)).remove(0);
            assert_eq!((read(&packet, 9).to.as_str(), &packet[42..]), (to, &data[..]));
            if method == Method::Nat {
                let whole = numbered(udp(SERVER, C, &data), 9);
                let packet = reassembled(&through(&mut t, &[whole], INSIDE)).remove(0);
                assert_eq!((read(&packet, 9).from.as_str(), &packet[42..]), (VIP, &data[..]));
            }
            assert_eq!(t.director.drops(), []);
            let mut fixed = whole.clone();
            fixed[20] = 0x40;
            mend_ip(&mut fixed);
            let (verdict, answer) = t.batch(0, &[fixed], OUTSIDE).remove(0);
            assert_eq!(verdict, Verdict::Answer(OUTSIDE, DropReason::TooBig));
            assert_eq!(answer[40..42], mtu.to_be_bytes());
        }
    }
}

#[test]
fn the_outer_packet_is_split_and_two_workers_number_theirs_differently() {
    for tunnel in [Tunnel::Ipip, Tunnel::Gue { port: 6080, checksum: TunnelChecksum::Full }] {
        let mut t = Table::new(&[pool(Method::Tun(tunnel))]);
        let data = payload(1472);
        let mut sent = Vec::new();
        for (worker, id) in [(0, 1), (1, 2), (0, 3), (1, 4)] {
            let (verdict, after) = t.batch(worker, &[numbered(udp(C, VIP, &data), id)], OUTSIDE).remove(0);
            assert_eq!(verdict, Verdict::Transmit(INSIDE));
            sent.push(after);
        }
        sent.extend(t.made.drain(..).map(|(_, frame)| frame));
        assert!(sent.len() == 8 && sent.iter().all(|frame| frame.len() <= 1514));
        let outer = reassembled(&sent);
        assert_eq!(outer.len(), 4);
        for packet in outer {
            let inner = [&packet[..14], &packet[14 + tunnel.overhead(true)..]].concat();
            assert_eq!((read(&inner, 9).to.as_str(), &inner[42..]), (VIP, &data[..]));
        }
    }
}

#[test]
fn options_go_into_later_pieces_only_if_they_are_to_be_copied() {
    let mut t = Table::new(&[pool(Method::Nat)]);
    t.hops.mtu = 500;
    let mut frame = numbered(udp(C, VIP, &payload(900)), 1);
    // Record route, which is not copied, and a security option, which is.
    frame.splice(34..34, [7, 3, 4, 0x82, 4, 9, 9, 0]);
    frame[14] += 2;
    let len = u16::try_from(frame.len() - 14).unwrap();
    frame[16..18].copy_from_slice(&len.to_be_bytes());
    mend_ip(&mut frame);
    let sent = through(&mut t, &[frame], OUTSIDE);
    assert_eq!(sent[0][34..42], [7, 3, 4, 0x82, 4, 9, 9, 0]);
    assert!(sent.len() == 2 && sent[1][34..42] == [1, 1, 1, 0x82, 4, 9, 9, 0]);
    read(&reassembled(&sent)[0], 9);
}

#[test]
fn a_batch_that_makes_too_many_frames_loses_whole_packets_and_counts_them() {
    let mut t = Table::new(&[pool(Method::Nat)]);
    t.hops.mtu = 68;
    let frames: Vec<_> = (0..20).map(|id| numbered(udp(C, VIP, &payload(472)), id)).collect(); // ten pieces each
    let verdicts = t.batch(0, &frames, OUTSIDE);
    let gone = verdicts.iter().filter(|(v, _)| *v == Verdict::Drop(DropReason::OutboxFull)).count();
    assert_eq!((gone, t.made.len()), (20 - 14, 14 * 9));
    let mut sent: Vec<_> =
        verdicts.into_iter().filter(|(v, _)| matches!(v, Verdict::Transmit(_))).map(|v| v.1).collect();
    sent.extend(t.made.drain(..).map(|(_, frame)| frame));
    assert_eq!(reassembled(&sent).len(), 14);
    assert_eq!(t.director.drops(), [(DropReason::OutboxFull, 6)]);
}

/// Held fragments that are split on their way out: the outbox takes all pieces of each, or none.
#[test]
fn a_held_fragment_that_is_split_goes_whole_or_not_at_all() {
    let mut t = Table::new(&[pool(Method::Nat)]);
    t.hops.mtu = 68;
    // Ten pieces of 48 bytes each; when there are nine places left, one is missing.
    let (count, units) = (30, 10);
    let whole = numbered(udp(C, VIP, &payload(count * units * 48 - 8)), 1);
    let mut pieces = cut(&whole, units * 48);
    pieces.rotate_left(1);
    let verdicts = t.batch(0, &pieces, OUTSIDE);
    assert!(verdicts[..count - 1].iter().all(|(verdict, _)| *verdict == Verdict::Keep));
    // All but one of the first, which goes by itself, and all of the others.
    let made = t.made.len();
    assert_eq!(made, (units - 1) + (128 - (units - 1)) / units * units);
    let lost = t.director.drops();
    assert_eq!(lost, [(DropReason::OutboxFull, (count - 1 - (made - (units - 1)) / units) as u64)]);
}

/// First fragments by one worker, later ones by the other, at the same time.
#[test]
fn workers_share_datagrams_while_both_are_at_work() {
    const ROUNDS: u16 = 400;
    let mut t = Table::sized(&[pool(Method::Nat)], 8192, 2);
    let Table { engines, hops, now, .. } = &mut t;
    let (hops, now, both) = (&*hops, *now, std::sync::Barrier::new(2));
    let data = payload(230);
    let run = |engine: &mut Engine, first: bool| {
        let mut sent = Vec::new();
        for round in 0..ROUNDS {
            let mut frames: Vec<Vec<u8>> = Vec::new();
            for n in 0..16 {
                let from = format!("192.0.2.{}:{}", n + 1, 1024 + round);
                let pieces = cut(&numbered(udp(&from, VIP, &data), round), 120);
                frames.push(pieces[usize::from(!first)].clone());
            }
            let mut batch: Batch<'_> =
                frames.iter_mut().map(|f| Packet { len: f.len(), room: f, port: OUTSIDE }).collect();
            let mut verdicts = Verdicts::new();
            both.wait();
            engine.process(&mut batch, hops, now, &mut verdicts);
            drop(batch);
            for (frame, verdict) in frames.into_iter().zip(&verdicts) {
                match verdict {
                    Verdict::Transmit(_) => sent.push(frame),
                    Verdict::Keep => assert!(!first),
                    other => panic!("{other:?}"),
                }
            }
            sent.extend(engine.outbox().frames().map(|(_, frame)| frame.to_vec()));
            engine.outbox().clear();
        }
        engine.rest();
        sent
    };
    let [one, two] = &mut engines[..] else { panic!("two workers") };
    let sent = std::thread::scope(|scope| {
        let other = scope.spawn(|| run(two, false));
        [run(one, true), other.join().unwrap()].concat()
    });
    assert_eq!(t.director.drops(), []);
    let packets = reassembled(&sent);
    assert_eq!(packets.len(), 16 * usize::from(ROUNDS));
    assert!(packets.iter().all(|packet| read(packet, 9).to == SERVER && packet[42..] == data[..]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Several datagrams whose fragments come mixed, by both workers, in batches of any size.
    #[test]
    fn datagrams_mixed_come_out_whole(
        lens in proptest::collection::vec(100usize..6000, 1..6),
        step in 1usize..180,
        seed: u64,
        batch in 1usize..40,
    ) {
        let mut t = Table::new(&[pool(Method::Nat)]);
        let mut frames: Vec<Vec<u8>> = Vec::new();
        for (id, &len) in (0..).zip(&lens) {
            let from = format!("192.0.2.{}:{}", 1 + id % 3, 1000 + id);
            // Few enough pieces to be kept for their first.
            let step = (step * 8).max(len / 8 / 8 * 8 + 8);
            frames.extend(cut(&numbered(udp(&from, VIP, &payload(len)), id), step));
        }
        let mut state = seed | 1;
        for n in (1..frames.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            frames.swap(n, usize::try_from(state >> 33).unwrap() % (n + 1));
        }
        let mut sent = Vec::new();
        for (worker, frames) in [0, 1].into_iter().cycle().zip(frames.chunks(batch)) {
            for (verdict, after) in t.batch(worker, frames, OUTSIDE) {
                if verdict == Verdict::Transmit(INSIDE) {
                    sent.push(after);
                } else {
                    prop_assert_eq!(verdict, Verdict::Keep);
                }
            }
            sent.extend(t.made.drain(..).map(|(_, frame)| frame));
        }
        let packets = reassembled(&sent);
        prop_assert_eq!(packets.len(), lens.len());
        let mut got: Vec<usize> = packets
            .iter()
            .map(|packet| {
                assert_eq!(read(packet, 9).to, SERVER);
                assert_eq!(packet[42..], payload(packet.len() - 42)[..]);
                packet.len() - 42
            })
            .collect();
        let mut lens = lens;
        lens.sort_unstable();
        got.sort_unstable();
        prop_assert_eq!(got, lens);
    }
}

/// How CRC32c changes with a port depends on how long the whole packet is, which its first fragment does not say.
#[test]
fn sctp_goes_on_in_fragments_unless_its_port_changes() {
    let (vip, whole) = ("10.0.0.100:5000", sctp(C, "10.0.0.100:5000", &[(1, &[7; 100])]));
    for (method, server, refused) in [
        (Method::Nat, "10.1.0.11:5001", true),
        (Method::Nat, "10.1.0.11:5000", false),
        (Method::Dr, "10.1.0.11:5000", false),
    ] {
        let mut t = Table::new(&[service(Protocol::Sctp, vip, method, &[(server, 1)])]);
        let pieces = [piece(&whole, 0, 64), piece(&whole, 64, 200)];
        let verdicts: Vec<_> = t.batch(0, &pieces, OUTSIDE).into_iter().map(|(verdict, _)| verdict).collect();
        let one = if refused { Verdict::Drop(DropReason::Fragment) } else { Verdict::Transmit(INSIDE) };
        assert_eq!(verdicts, [one, one], "{method:?} to {server}");
    }
}
