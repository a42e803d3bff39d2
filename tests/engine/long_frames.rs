//! Packets of 9,000 bytes: each byte and each checksum as with short ones, by whichever way; split where the way is narrower.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::service::{Method, Protocol, Tunnel};
use xvs::xdp::options::LONG_LEN;

use super::fragments;
use super::segments::Segment;
use super::tunnels::unwrap;
use crate::pieces::*;
use crate::table::*;

const C: &str = "192.0.2.7:40000";
const VIP: &str = "10.0.0.100:80";
const SERVER: &str = "10.1.0.11:8080";
const C6: &str = "[2001:db8::7]:40000";
const VIP6: &str = "[fd00::100]:80";
const SERVER6: &str = "[fd00:1::11]:8080";
const MTU: u16 = 9000;

/// A table of long links with one server.
fn table(protocol: Protocol, vip: &str, method: Method, server: &str) -> Table {
    let mut t = Table::new(&[service(protocol, vip, method, &[(server, 1)])]);
    t.hops.mtu = MTU;
    t
}

/// What is behind the transport header.
fn text(frame: &[u8]) -> Vec<u8> {
    match SlicedPacket::from_ethernet(frame).unwrap().transport.unwrap() {
        TransportSlice::Tcp(tcp) => tcp.payload().to_vec(),
        TransportSlice::Udp(udp) => udp.payload().to_vec(),
        other => panic!("{other:?}"),
    }
}

/// The longest packet of the links that is TCP, or UDP.
fn longest(protocol: Protocol, from: &str, to: &str) -> Vec<u8> {
    let headers = if from.starts_with('[') { 40 } else { 20 };
    let frame = match protocol {
        Protocol::Tcp => Segment::new("A", 8, 9, &payload(usize::from(MTU) - headers - 20)).frame(from, to),
        _ => udp(from, to, &payload(usize::from(MTU) - headers - 8)),
    };
    assert_eq!(frame.len(), usize::from(MTU) + 14);
    frame
}

#[test]
fn nat_readdresses_long_packets_of_both_versions_both_ways() {
    for (client, vip, server) in [(C, VIP, SERVER), (C6, VIP6, SERVER6)] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let mut t = table(protocol, vip, Method::Nat, server);
            if protocol == Protocol::Tcp {
                t.tcp(client, vip, "S").unwrap();
                t.tcp(server, client, "SA").unwrap();
            }
            for (from, to, new_from, new_to, port) in
                [(client, vip, client, server, OUTSIDE), (server, client, vip, client, INSIDE)]
            {
                let frame = longest(protocol, from, to);
                let (verdict, after) = t.batch(0, std::slice::from_ref(&frame), port).remove(0);
                assert!(matches!(verdict, Verdict::Transmit(_)), "{protocol:?} {from} {verdict:?}");
                // Every checksum is verified there.
                let seen = read(&after, 9);
                assert_eq!((seen.from.as_str(), seen.to.as_str()), (new_from, new_to), "{protocol:?}");
                assert!(text(&after) == text(&frame), "{protocol:?}: another text");
            }
        }
    }
}

#[test]
fn dr_and_every_tunnel_carry_long_packets_and_say_what_is_too_long() {
    let mut t = table(Protocol::Tcp, VIP, Method::Dr, "10.1.0.11:80");
    t.tcp(C, VIP, "S").unwrap();
    let frame = longest(Protocol::Tcp, C, VIP);
    assert!(t.forwarded(&frame)[34..] == frame[34..]);

    for tunnel in TUNNELS {
        for room in [0, 64] {
            let mut t = table(Protocol::Tcp, VIP, Method::Tun(tunnel), "10.1.0.11:80");
            t.forwarded(&tcp(C, VIP, "S"));
            let fits = usize::from(MTU) - 40 - tunnel.overhead(true);
            let of = |len| {
                let mut frame = Segment::new("A", 8, 9, &payload(len)).frame(C, VIP);
                frame[20] |= 0x40; // It must not be fragmented.
                mend_ip(&mut frame);
                with_room(&frame, room)
            };
            let after = t.forwarded(&of(fits));
            assert_eq!(after.len(), usize::from(MTU) + 14, "{tunnel:?} {room}");
            let (_, _, inner) = unwrap(&after, tunnel);
            assert_eq!(read(&inner, 9).to, VIP);
            assert!(text(&inner) == payload(fits), "{tunnel:?} {room}: another text");
            let (verdict, _) = t.batch(0, &[of(fits + 1)], OUTSIDE).remove(0);
            assert_eq!(verdict, Verdict::Answer(OUTSIDE, DropReason::TooBig), "{tunnel:?} {room}");
        }
    }
}

/// Pieces and fragments that wait are as long as anything that is sent.
#[test]
fn long_packets_are_split_into_long_pieces_and_long_fragments_wait() {
    for mtu in [1500, 4200, 8000] {
        let mut t = Table::new(&[fragments::pool(Method::Nat)]);
        t.hops.mtu = mtu;
        let whole = numbered(udp(C, "10.0.0.100:53", &payload(8900)), 3);
        let sent = through(&mut t, &[whole], OUTSIDE);
        assert_eq!(sent.len(), 8908_usize.div_ceil(usize::from(mtu - 20) / 8 * 8));
        assert!(sent.iter().all(|frame| frame.len() <= usize::from(mtu) + 14));
        let [packet] = &reassembled(&sent)[..] else { panic!("not one packet") };
        assert_eq!(read(packet, 9).to, "10.1.0.11:5353");
        assert!(packet[42..] == payload(8900), "{mtu}: another text");
    }

    let mut t = Table::new(&[fragments::pool(Method::Tun(Tunnel::Ipip))]);
    t.hops.mtu = MTU;
    let mut pieces = cut(&numbered(udp(C, "10.0.0.100:53", &payload(30_000)), 4), 8952);
    pieces.reverse();
    let sent = through(&mut t, &pieces, OUTSIDE);
    assert_eq!(sent.len(), 4);
    let inner: Vec<_> = sent.iter().map(|frame| [&frame[..14], &frame[34..]].concat()).collect();
    assert!(reassembled(&inner)[0][42..] == payload(30_000), "another text");
}

/// A frame is never longer than this, so that a cut one says so of itself.
#[test]
fn what_was_cut_at_the_longest_frame_is_refused() {
    let mut t = table(Protocol::Udp, VIP, Method::Nat, SERVER);
    let mut frame = udp(C, VIP, &payload(LONG_LEN));
    frame.truncate(LONG_LEN);
    let is_ip = matches!(SlicedPacket::from_ethernet(&frame).map(|p| p.net), Ok(Some(NetSlice::Ipv4(_))));
    assert!(!is_ip, "the parser that judges agrees");
    assert_eq!(t.one(0, frame, OUTSIDE), Err(DropReason::Truncated));
}
