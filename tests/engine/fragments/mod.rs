//! Fragments of IPv4: every order, both directions, every method.
//!
//! | file | owns |
//! | --- | --- |
//! | here | datagrams, and segments, that come in fragments and go on in fragments |
//! | `refused` | what is not believed: overlaps, contradictions, floods, fragments without their first |
//! | `split` | packets that the director itself makes fragments of |
//!
//! The oracle puts what is sent together again by itself, byte by byte, and an independent parser checks the whole
//! packet, its transport checksum included.

mod refused;
mod split;

use proptest::prelude::*;
use xvs::director::drops::DropReason;
use xvs::director::engine::{Engine, Verdict};
use xvs::director::server::ServerId;
use xvs::director::service::{Method, Pool, Protocol, Tunnel, TunnelChecksum};

use crate::pieces::*;
use crate::table::*;

const C: &str = "192.0.2.7:40000";
const VIP: &str = "10.0.0.100:53";
const SERVER: &str = "10.1.0.11:5353";
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0xa, 11];

/// A service of datagrams with one server.
pub fn pool(method: Method) -> Pool {
    let server = if method == Method::Nat { SERVER } else { "10.1.0.11:53" };
    service(Protocol::Udp, VIP, method, &[(server, 1)])
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
            both.wait();
            let verdicts = turn(engine, &mut frames, hops, now);
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
