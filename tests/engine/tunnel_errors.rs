//! ICMP errors about packets in tunnels: the client hears of its own packet, and the next one is answered here.

use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::forward::hops::Route;
use xvs::director::service::{Method, Protocol, Tunnel, TunnelChecksum};

use crate::table::*;

const C: &str = "192.0.2.7:40000";
const DNS: &str = "10.0.0.100:53";
const ROUTER: &str = "10.1.0.99";

fn table(tunnel: Tunnel) -> Table {
    Table::new(&[service(Protocol::Udp, DNS, Method::Tun(tunnel), &[("10.1.0.11:53", 1)])])
}

/// A datagram of so many bytes that must, or may, be fragmented.
fn datagram(len: usize, must_not_fragment: bool) -> Vec<u8> {
    let mut frame = udp(C, DNS, &vec![7; len - 28]);
    frame[20] = if must_not_fragment { 0x40 } else { 0 };
    mend_ip(&mut frame);
    frame
}

/// What a router on the way says of this outer packet, of which it quotes so much.
fn says(outer: &[u8], kind: (u8, u8), mtu: u16, quoted: usize) -> Vec<u8> {
    icmp_error(ROUTER, kind, mtu.into(), outer, quoted)
}

fn hears(t: &mut Table, frame: Vec<u8>) -> (Verdict, Vec<u8>) {
    t.batch(1, &[frame], INSIDE).remove(0)
}

fn mtu_of(answer: &[u8]) -> u16 {
    u16::from_be_bytes([answer[40], answer[41]])
}

#[test]
fn the_client_is_told_and_from_then_on_by_the_director_itself() {
    for tunnel in TUNNELS {
        let overhead = u16::try_from(tunnel.overhead(true)).unwrap();
        let mut t = table(tunnel);
        let long = datagram(1400, true);
        let outer = t.forwarded(&long);
        let before = t.director.traffic(xvs::director::server::ServerId(0));
        let (verdict, told) = hears(&mut t, says(&outer, (3, 4), 1300, 548));
        assert_eq!(verdict, Verdict::Transmit(OUTSIDE), "{tunnel:?}");
        assert_eq!(read_answer(&told), "10.0.0.100 tells 192.0.2.7: type 3 code 4");
        assert_eq!(
            (mtu_of(&told), &told[..6], &told[6..12]),
            (1300 - overhead, &ROUTER_MAC[..], &OUTSIDE_MAC[..])
        );
        assert_eq!(
            told[46..62],
            long[18..34]
                .iter()
                .copied()
                .enumerate()
                .map(|(i, b)| match i {
                    // The TTL was counted down, and the checksum with it.
                    4 => b - 1,
                    6 => told[52],
                    7 => told[53],
                    _ => b,
                })
                .collect::<Vec<_>>(),
            "about its own packet"
        );
        assert_eq!(t.director.traffic(xvs::director::server::ServerId(0)), before, "nobody's traffic");

        // The next one does not get as far as that router.
        let (verdict, answer) = t.batch(0, std::slice::from_ref(&long), OUTSIDE).remove(0);
        assert_eq!(verdict, Verdict::Answer(OUTSIDE, DropReason::TooBig), "{tunnel:?}");
        assert_eq!(mtu_of(&answer), 1300 - overhead);
        t.forwarded(&datagram(usize::from(1300 - overhead), true));
        t.pass(599);
        assert_eq!(
            t.batch(0, std::slice::from_ref(&long), OUTSIDE)[0].0,
            Verdict::Answer(OUTSIDE, DropReason::TooBig)
        );
        t.pass(2);
        t.forwarded(&long);
    }
}

#[test]
fn what_may_be_fragmented_is_cut_up_for_the_narrower_way_and_its_sender_is_not_told() {
    for tunnel in TUNNELS {
        let mut t = table(tunnel);
        let long = datagram(1400, false);
        let outer = t.forwarded(&long);
        let heard = hears(&mut t, says(&outer, (3, 4), 1300, 548)).0;
        assert_eq!(heard, Verdict::Drop(DropReason::IcmpHeard));
        let first = t.forwarded(&long);
        let made: Vec<usize> = t.made.drain(..).map(|(_, frame)| frame.len() - 14).collect();
        assert!(first.len() - 14 <= 1300 && made.len() == 1 && made[0] <= 1300, "{} {made:?}", first.len());
        assert_ne!(first[20] & 0x20, 0, "more follow");
    }
}

#[test]
fn other_errors_are_told_as_they_are() {
    for tunnel in TUNNELS {
        for kind in [(3, 1), (3, 2), (3, 3), (11, 0), (4, 0)] {
            let mut t = table(tunnel);
            let outer = t.forwarded(&datagram(600, false));
            let (verdict, told) = hears(&mut t, says(&outer, kind, 0, 548));
            assert_eq!(verdict, Verdict::Transmit(OUTSIDE));
            let (kind, code) = kind;
            assert_eq!(read_answer(&told), format!("10.0.0.100 tells 192.0.2.7: type {kind} code {code}"));
            t.forwarded(&datagram(1400, true));
        }
    }
}

#[test]
fn only_who_shows_the_connection_is_believed() {
    for tunnel in TUNNELS {
        let mut t = table(tunnel);
        let long = datagram(1400, true);
        let outer = t.forwarded(&long);
        // Eight bytes; another client's packet; from another address of the director; to another server; another tunnel.
        let short = says(&outer, (3, 4), 1300, 28);
        let at = 14 + tunnel.overhead(true);
        let edited = |at: usize, value: u8| {
            let mut outer = outer.clone();
            outer[at] = value;
            says(&outer, (3, 4), 1300, 548)
        };
        let (client, source, server) = (edited(at + 15, 8), edited(29, 7), edited(33, 12));
        let other = if tunnel == Tunnel::Ipip {
            Tunnel::Gre { checksum: TunnelChecksum::None }
        } else {
            Tunnel::Ipip
        };
        let by_other = table(other).forwarded(&long);
        let by_other = says(&by_other, (3, 4), 1300, 548);
        for (n, lie) in [short, client, source, server, by_other].into_iter().enumerate() {
            let verdict = hears(&mut t, lie).0;
            assert!(matches!(verdict, Verdict::Drop(_)), "{tunnel:?} {n}: {verdict:?}");
            t.forwarded(&long);
        }
        // A router that says that more would fit than was sent has not seen it.
        let (verdict, _) = hears(&mut t, says(&outer, (3, 4), 1500, 548));
        assert_eq!(verdict, Verdict::Transmit(OUTSIDE));
        t.forwarded(&long);
    }
}

#[test]
fn the_error_leaves_in_the_clients_vlan_by_its_way_or_where_it_came_from() {
    for vlans in [[None, Some(20)], [Some(10), None], [Some(10), Some(20)]] {
        for route in [Route::Via(xvs::director::forward::hops::HopId(0)), Route::Unknown] {
            let mut t = table(Tunnel::Ipip);
            (t.hops.vlans, t.hops.client_route) = (vlans, route);
            let tag = |vlan: Option<u16>, frame: &[u8]| {
                let tag = vlan.map(|id| [[0x81, 0], id.to_be_bytes()].concat()).unwrap_or_default();
                [&frame[..12], &tag, &frame[12..]].concat()
            };
            let untag = |vlan: Option<u16>, frame: &[u8]| match vlan {
                Some(id) => {
                    assert_eq!(frame[12..16], [[0x81, 0], id.to_be_bytes()].concat());
                    [&frame[..12], &frame[16..]].concat()
                }
                None => frame.to_vec(),
            };
            let outer = t.forwarded(&tag(vlans[0], &datagram(1400, true)));
            let error = says(&untag(vlans[1], &outer), (3, 4), 1300, 548);
            let (verdict, told) = hears(&mut t, tag(vlans[1], &error));
            assert_eq!(verdict, Verdict::Transmit(OUTSIDE), "{vlans:?} {route:?}");
            let told = untag(vlans[0], &told);
            assert_eq!(read_answer(&told), "10.0.0.100 tells 192.0.2.7: type 3 code 4");
            let to = if route == Route::Unknown { CLIENT_MAC } else { ROUTER_MAC };
            assert_eq!(told[..6], to);
        }
    }
}
