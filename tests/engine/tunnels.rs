//! TUN: what a server behind a tunnel gets, with and without room made by the steering program, and its limits.

use std::net::IpAddr;

use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::service::{Method, Pool, Protocol, Server, Tunnel, TunnelChecksum};

use crate::table::*;

const C: &str = "192.0.2.7:40000";
const VIP: &str = "10.0.0.100:80";
const SERVER: [u8; 6] = [2, 0, 0, 0, 0xa, 11];

const GUE: Tunnel = Tunnel::Gue { port: 6080, checksum: TunnelChecksum::Full };
const GRE: Tunnel = Tunnel::Gre { checksum: TunnelChecksum::Full };

fn tun(tunnel: Tunnel) -> Pool {
    service(Protocol::Tcp, VIP, Method::Tun(tunnel), &[("10.1.0.11:80", 1)])
}

fn table(tunnel: Tunnel) -> Table {
    Table::new(&[tun(tunnel)])
}

/// The outer addresses, and the inner packet behind the outer frame's MAC addresses, by another parser.
pub fn unwrap(frame: &[u8], tunnel: Tunnel) -> (String, String, Vec<u8>) {
    let sliced = etherparse::SlicedPacket::from_ethernet(frame).unwrap();
    let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else { panic!("{sliced:?}") };
    let outer = ip.header().to_header();
    assert_eq!(outer.calc_header_checksum(), outer.header_checksum);
    let at = 14 + tunnel.overhead(true);
    assert_eq!(usize::from(outer.total_len) + 14, frame.len());
    let inner = [&frame[..12], &[8, 0], &frame[at..]].concat();
    (IpAddr::from(outer.source).to_string(), IpAddr::from(outer.destination).to_string(), inner)
}

#[test]
fn every_tunnel_carries_the_packet_whatever_room_was_made() {
    for tunnel in TUNNELS {
        let exact = tunnel.overhead(true);
        for room in [0, 16, exact, 64] {
            let mut t = table(tunnel);
            for flags in ["S", "A", "FA"] {
                let packet = tcp(C, VIP, flags);
                let frame = with_room(&packet, room);
                let after = t.forwarded(&frame);
                let (from, to, inner) = unwrap(&after, tunnel);
                assert_eq!((from.as_str(), to.as_str()), ("10.1.0.1", "10.1.0.11"), "{tunnel:?} {room}");
                let (dst_mac, ttl) = (SERVER, 63);
                assert_eq!(
                    read(&inner, INSIDE),
                    Sent { port: INSIDE, dst_mac, from: C.into(), to: VIP.into(), ttl }
                );
                assert_eq!(after[22], 63, "the outer TTL is the inner one's");
                assert_eq!(inner[34..], packet[34..], "the payload is as it was");
            }
            assert_eq!(t.states().len(), 1);
        }
    }
}

/// The steering program has made room, and the service has other servers meanwhile.
#[test]
fn room_that_is_not_used_is_closed_again() {
    let mut t = Table::new(&[service(Protocol::Tcp, VIP, Method::Nat, &[("10.1.0.11:8080", 1)])]);
    for room in [16, 20, 64] {
        let from = format!("192.0.2.7:{}", 1000 + room);
        let sent = t.one(0, with_room(&tcp(&from, VIP, "S"), room), OUTSIDE).unwrap();
        assert_eq!((sent.to.as_str(), sent.dst_mac), ("10.1.0.11:8080", SERVER));
    }
    let refused = t.batch(0, &[with_room(&tcp(C, "10.0.0.100:81", "S"), 20)], OUTSIDE).remove(0);
    assert_eq!(refused.0, Verdict::Answer(OUTSIDE, DropReason::NoService));
    assert_eq!(read_answer(&refused.1), format!("10.0.0.100:81 resets {C}"));
}

#[test]
fn a_lie_about_the_room_is_refused() {
    let mut t = table(Tunnel::Ipip);
    let frame = with_room(&tcp(C, VIP, "S"), 20);
    for (room, reason) in [(65, DropReason::NotIp), (u16::MAX, DropReason::NotIp), (0, DropReason::NotIp)] {
        let mut lie = frame.clone();
        lie[14..16].copy_from_slice(&room.to_be_bytes());
        assert_eq!(t.batch(0, &[lie], OUTSIDE).remove(0).0, Verdict::Drop(reason), "{room}");
    }
    for len in 12..frame.len() {
        assert!(
            matches!(t.batch(0, &[frame[..len].to_vec()], OUTSIDE).remove(0).0, Verdict::Drop(_)),
            "{len}"
        );
    }
    assert!(t.states().is_empty());
}

#[test]
fn the_tunnel_is_the_servers_of_this_moment() {
    let mut t = table(Tunnel::Ipip);
    t.forwarded(&tcp(C, VIP, "S"));
    t.change(|draft| {
        let server = Server::new("10.1.0.11:80".parse().unwrap(), Method::Tun(GUE));
        draft.edit_server(VIP_KEY.parse().unwrap(), server)
    });
    let after = t.forwarded(&tcp(C, VIP, "A"));
    assert_eq!((after[23], &after[36..38]), (17, &6080u16.to_be_bytes()[..]));
    t.change(|draft| {
        let server = Server::new("10.1.0.11:80".parse().unwrap(), Method::Tun(Tunnel::Ipip));
        draft.edit_server(VIP_KEY.parse().unwrap(), server)
    });
    assert_eq!(t.forwarded(&tcp(C, VIP, "A"))[23], 4);
}

const VIP_KEY: &str = "tcp:10.0.0.100:80";

#[test]
fn the_mtu_is_the_tunnels_and_the_client_is_told_it() {
    for tunnel in TUNNELS {
        let overhead = u16::try_from(tunnel.overhead(true)).unwrap();
        let mut t = table(tunnel);
        let mut frame = tcp(C, VIP, "S");
        set_df(&mut frame);
        t.hops.mtu = 65 + overhead - 1;
        let (verdict, answer) = t.batch(0, &[with_room(&frame, overhead.into())], OUTSIDE).remove(0);
        // 65 bytes do not fit 64, and so little is no tunnel.
        assert_eq!(verdict, Verdict::Drop(DropReason::NoTunnel), "{answer:?}");
        t.hops.mtu = 68 + overhead;
        t.forwarded(&with_room(&frame, overhead.into()));

        let mut long = udp_of(C, "10.0.0.100:53", 100);
        set_df(&mut long);
        let mut t = Table::new(&[service(
            Protocol::Udp,
            "10.0.0.100:53",
            Method::Tun(tunnel),
            &[("10.1.0.11:53", 1)],
        )]);
        t.hops.mtu = 127 + overhead;
        for room in [0, overhead.into()] {
            let frame = with_room(&long, room);
            let (verdict, answer) = t.batch(0, &[frame], OUTSIDE).remove(0);
            assert_eq!(verdict, Verdict::Answer(OUTSIDE, DropReason::TooBig));
            assert_eq!(read_answer(&answer), "10.0.0.100 tells 192.0.2.7: type 3 code 4");
            assert_eq!(answer[40..42], 127u16.to_be_bytes());
        }
        t.hops.mtu += 1;
        t.forwarded(&with_room(&long, overhead.into()));
    }
}

fn udp_of(from: &str, to: &str, len: usize) -> Vec<u8> {
    udp(from, to, &vec![7; len])
}

fn set_df(frame: &mut [u8]) {
    frame[20] |= 0x40;
    mend_ip(frame);
}

#[test]
fn an_expiring_ttl_and_a_missing_way_are_told_and_no_address_is_counted() {
    let mut t = table(Tunnel::Ipip);
    let mut frame = tcp(C, VIP, "S");
    frame[22] = 1;
    set_df(&mut frame);
    let (verdict, answer) = t.batch(0, &[with_room(&frame, 20)], OUTSIDE).remove(0);
    assert_eq!(verdict, Verdict::Answer(OUTSIDE, DropReason::TtlExpired));
    assert_eq!(read_answer(&answer), "10.0.0.100 tells 192.0.2.7: type 11 code 0");
    t.hops.sources.clear();
    t.hops.generation += 1;
    assert_eq!(t.batch(0, &[tcp(C, VIP, "A")], OUTSIDE).remove(0).0, Verdict::Drop(DropReason::NoTunnel));
    t.hops.sources.push("10.1.0.77".parse().unwrap());
    t.hops.generation += 1;
    let after = t.forwarded(&tcp(C, VIP, "A"));
    assert_eq!(unwrap(&after, Tunnel::Ipip).0, "10.1.0.77", "a new address is used at once");
}

#[test]
fn a_way_with_a_vlan_gets_its_tag() {
    let mut t = table(Tunnel::Ipip);
    t.hops.vlans = [Some(7); 2];
    for room in [16, 20, 24] {
        let after = t.forwarded(&with_room(&tcp(C, VIP, "S"), room));
        assert_eq!(after[12..18], [0x81, 0, 0, 7, 8, 0]);
        let plain = [&after[..12], &after[16..]].concat();
        assert_eq!(read(&unwrap(&plain, Tunnel::Ipip).2, INSIDE).to, VIP);
    }
}

#[test]
fn one_packet_services_and_persistence_go_through_tunnels_too() {
    let vip = "10.0.0.100:53";
    let pool = service(Protocol::Udp, vip, Method::Tun(GRE), &[("10.1.0.11:53", 1), ("10.1.0.12:53", 1)]);
    let mut one_packet = pool.clone();
    one_packet.service.one_packet = true;
    let mut t = Table::new(&[one_packet]);
    let servers: Vec<String> = (0..4).map(|_| unwrap(&t.forwarded(&udp(C, vip, b"?")), GRE).1).collect();
    assert_eq!(servers, ["10.1.0.12", "10.1.0.11", "10.1.0.12", "10.1.0.11"]);
    assert!(t.states().is_empty());

    let mut t = Table::new(&[persistent(pool, 360)]);
    let to = |t: &mut Table, from: &str| unwrap(&t.forwarded(&udp(from, vip, b"?")), GRE).1;
    assert_eq!(to(&mut t, "192.0.2.7:1"), to(&mut t, "192.0.2.7:2"));
    assert_ne!(to(&mut t, "192.0.2.7:1"), to(&mut t, "192.0.2.8:2"));
}

/// The one method whose servers may be of the other IP version.
#[test]
fn an_ipv6_server_gets_ipv4_packets() {
    let pool = service(Protocol::Tcp, VIP, Method::Tun(Tunnel::Ipip), &[("[fd00::b]:80", 1)]);
    for pool in [pool.clone(), persistent(pool, 360)] {
        let mut t = Table::new(&[pool]);
        t.hops.sources = vec!["10.1.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        t.hops.client_route =
            xvs::director::forward::hops::Route::Via(xvs::director::forward::hops::HopId(11));
        let after = t.forwarded(&with_room(&tcp(C, VIP, "S"), 40));
        let sliced = etherparse::SlicedPacket::from_ethernet(&after).unwrap();
        let Some(etherparse::NetSlice::Ipv6(outer)) = &sliced.net else { panic!("{sliced:?}") };
        assert_eq!(outer.header().source_addr().to_string(), "fd00::1");
        assert_eq!(outer.header().destination_addr().to_string(), "fd00::b");
        assert_eq!((outer.header().next_header().0, outer.header().hop_limit()), (4, 63));
        let inner = [&after[..12], &[8, 0], &after[54..]].concat();
        assert_eq!(read(&inner, INSIDE).to, VIP);
        assert!(
            t.rows(false).iter().any(|row| row.ends_with("192.0.2.7:40000 10.0.0.100:80 [fd00::b]:80")),
            "{:?}",
            t.rows(false)
        );
    }
}

#[test]
fn without_pmtu_disc_what_is_too_long_is_split_though_its_sender_forbids_it() {
    let vip = "10.0.0.100:53";
    let mut t = Table::new(&[service(Protocol::Udp, vip, Method::Tun(Tunnel::Ipip), &[("10.1.0.11:53", 1)])]);
    let (mut short, mut long) = (udp_of(C, vip, 30), udp_of(C, vip, 600));
    set_df(&mut short);
    set_df(&mut long);
    t.hops.mtu = 400;
    assert_eq!(t.forwarded(&short)[20] & 0x40, 0x40);
    let refused = t.batch(0, std::slice::from_ref(&long), OUTSIDE).remove(0).0;
    assert_eq!(refused, Verdict::Answer(OUTSIDE, DropReason::TooBig));

    t.tune("pmtu_disc", 0);
    assert_eq!(t.forwarded(&short)[20] & 0x40, 0, "DF is not copied");
    for room in [0, 20] {
        let frame = with_room(&long, room);
        let mut pieces = vec![t.forwarded(&frame)];
        pieces.extend(t.made.drain(..).map(|(port, frame)| {
            assert_eq!(port, INSIDE);
            frame
        }));
        let id = pieces[0][18..20].to_vec();
        let mut inner = vec![0; long.len() - 14];
        for piece in &pieces {
            assert!(piece.len() <= 414 && piece[18..20] == id, "one datagram, and it fits");
            assert_eq!(xvs::packet::checksum::of(&piece[14..34]), 0);
            let at = usize::from(u16::from_be_bytes([piece[20], piece[21]]) & 0x1fff) * 8;
            assert_eq!(piece[20] & 0x40, 0);
            inner[at..at + piece.len() - 34].copy_from_slice(&piece[34..]);
        }
        assert!(pieces.len() > 1);
        assert_eq!(inner[20..], long[34..], "the inner packet is whole, its DF with it");
        assert_eq!((inner[6] & 0x40, inner[8]), (0x40, 63));
    }
}
