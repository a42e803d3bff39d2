//! Where new connections go while routes change: what a worker remembers of ways to servers must never be seen.

use std::collections::HashMap;
use std::net::IpAddr;

use xvs::director::drops::DropReason;
use xvs::director::service::{Method, Pool, Protocol, Tunnel};

use crate::table::*;

const VIP: &str = "10.0.0.100:53";
/// Remembered at the same place, if both are.
const SERVERS: [&str; 2] = ["10.1.0.11", "10.1.4.11"];

fn pool(method: Method, servers: &[&str]) -> Pool {
    let servers: Vec<String> = servers.iter().map(|ip| format!("{ip}:53")).collect();
    let servers: Vec<(&str, u32)> = servers.iter().map(|address| (address.as_str(), 1)).collect();
    service(Protocol::Udp, VIP, method, &servers)
}

fn methods() -> [Method; 3] {
    [Method::Nat, Method::Dr, Method::Tun(Tunnel::Ipip)]
}

/// By which hop the datagram of a client goes that has this port: the last byte of its MAC address.
fn hop(t: &mut Table, port: u16) -> Result<u8, DropReason> {
    let frame = udp(&format!("192.0.2.7:{port}"), VIP, b"?");
    match t.batch(0, &[frame], OUTSIDE).remove(0) {
        (xvs::director::engine::Verdict::Transmit(INSIDE), frame) => Ok(frame[5]),
        (xvs::director::engine::Verdict::Drop(reason), _) => Err(reason),
        other => panic!("{other:?}"),
    }
}

fn detour(t: &mut Table, server: &str, ids: &[u32]) {
    t.hops.detours.insert(server.parse().unwrap(), ids.to_vec());
}

#[test]
fn a_new_way_is_taken_at_once_by_new_connections_and_old_ones() {
    for method in methods() {
        let mut t = Table::new(&[pool(method, &SERVERS[..1])]);
        assert_eq!([1000, 1001].map(|port| hop(&mut t, port)), [Ok(11); 2]);
        for (way, next) in [(12, 2000), (13, 3000), (11, 4000)] {
            detour(&mut t, SERVERS[0], &[way]);
            t.hops.generation += 1;
            let expected = [Ok(u8::try_from(way).unwrap()); 3];
            assert_eq!([next, 1000, next + 1].map(|port| hop(&mut t, port)), expected, "{method:?}");
        }
    }
}

#[test]
fn a_tunnel_begins_at_the_address_of_its_generation() {
    let mut t = Table::new(&[pool(Method::Tun(Tunnel::Ipip), &SERVERS[..1])]);
    let mut begins = |source: &str, port| {
        if t.hops.sources != [source.parse::<IpAddr>().unwrap()] {
            t.hops.sources = vec![source.parse().unwrap()];
            t.hops.generation += 1;
        }
        let frame = udp(&format!("192.0.2.7:{port}"), VIP, b"?");
        let (_, frame) = t.batch(0, &[frame], OUTSIDE).remove(0);
        std::net::Ipv4Addr::from(<[u8; 4]>::try_from(&frame[26..30]).unwrap()).to_string()
    };
    for (source, port) in
        [("10.1.0.1", 1), ("10.1.0.1", 2), ("10.1.0.77", 3), ("10.1.0.77", 1), ("10.1.0.1", 4)]
    {
        assert_eq!(begins(source, port), source, "from port {port}");
    }
}

#[test]
fn servers_behind_different_gateways_keep_to_their_own() {
    for method in methods() {
        let mut t = Table::new(&[pool(method, &SERVERS)]);
        detour(&mut t, SERVERS[0], &[12]);
        detour(&mut t, SERVERS[1], &[13]);
        let ways: Vec<_> = (1000..1006).map(|port| hop(&mut t, port)).collect();
        // Round robin, the newest first.
        assert_eq!(ways, [13, 12, 13, 12, 13, 12].map(Ok), "{method:?}");
    }
}

#[test]
fn each_flow_has_its_own_of_several_ways() {
    for method in methods() {
        let mut t = Table::new(&[pool(method, &SERVERS[..1])]);
        detour(&mut t, SERVERS[0], &[12, 13, 14]);
        let first: HashMap<u16, _> = (1000..1030).map(|port| (port, hop(&mut t, port))).collect();
        for way in [12, 13, 14] {
            assert!(first.values().any(|taken| *taken == Ok(way)), "{method:?}: nobody goes by {way}");
        }
        // A connection that is over and begins again goes where it went.
        t.pass(400);
        assert!(t.states().is_empty());
        assert!(first.iter().all(|(port, taken)| hop(&mut t, *port) == *taken), "{method:?}");
    }
}

#[test]
fn a_way_that_becomes_known_is_taken_though_no_route_has_changed() {
    for method in methods() {
        let mut t = Table::new(&[pool(method, &SERVERS[..1])]);
        detour(&mut t, SERVERS[0], &[]);
        assert_eq!(hop(&mut t, 1000), Err(DropReason::Unresolved));
        detour(&mut t, SERVERS[0], &[12]);
        assert_eq!(hop(&mut t, 1001), Ok(12), "{method:?}");
        t.pass(1);
        assert_eq!(hop(&mut t, 1000), Ok(12), "{method:?}: the one that began without");
    }
}
