//! AH and ESP: they go where the ISAKMP packets went that agreed on them, and open nothing.

use std::net::IpAddr;

use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::service::{Method, Protocol};

use crate::table::*;

const C: &str = "192.0.2.7";
const VIP: &str = "10.0.0.100";
const S: &str = "10.1.0.12";
const AH: u8 = 51;
const ESP: u8 = 50;

fn table(method: Method, server_port: u16) -> Table {
    let servers = [11, 12].map(|n| format!("10.1.0.{n}:{server_port}"));
    let servers = [(servers[0].as_str(), 1), (servers[1].as_str(), 1)];
    Table::new(&[service(Protocol::Udp, "10.0.0.100:500", method, &servers)])
}

fn isakmp(t: &mut Table, from: &str, to: &str) -> Result<Sent, DropReason> {
    let port = if from.starts_with("10.1.0.") { INSIDE } else { OUTSIDE };
    t.one(0, udp(&format!("{from}:500"), &format!("{to}:500"), b"IKE"), port)
}

fn frame(protocol: u8, from: &str, to: &str) -> Vec<u8> {
    let [from, to] = [from, to].map(|text| text.parse::<IpAddr>().unwrap());
    // An AH of 24 bytes and nothing after it, as etherparse sees it; for ESP it is not to be read at all.
    ip(from, to, protocol, b"\x3b\x04\0\0SPI and all the rest, whatever it may be")
}

fn sealed(t: &mut Table, protocol: u8, from: &str, to: &str) -> Result<Sent, DropReason> {
    let port = if from.starts_with("10.1.0.") { INSIDE } else { OUTSIDE };
    t.one(0, frame(protocol, from, to), port)
}

#[test]
fn with_nat_addresses_change_and_nothing_behind_them() {
    for protocol in [AH, ESP] {
        let mut t = table(Method::Nat, 500);
        isakmp(&mut t, C, VIP).unwrap();
        for (from, to, there, port) in [(C, VIP, [C, S], OUTSIDE), (S, C, [VIP, C], INSIDE)] {
            let before = frame(protocol, from, to);
            let (verdict, after) = t.batch(0, std::slice::from_ref(&before), port).remove(0);
            assert_eq!(verdict, Verdict::Transmit(1 - port));
            let sent = read(&after, port);
            assert_eq!([sent.from, sent.to], there.map(|a| format!("{a}:0")));
            assert_eq!((sent.ttl, &after[34..]), (63, &before[34..]), "payload");
        }
        let traffic = t.director.traffic(xvs::director::server::ServerId(1));
        assert_eq!((traffic.connections, traffic.in_packets, traffic.out_packets), (1, 2, 1));
        assert_eq!(t.director.table.len(), 1);
    }
}

#[test]
fn with_dr_they_follow_unchanged() {
    let mut t = table(Method::Dr, 500);
    isakmp(&mut t, C, VIP).unwrap();
    let before = frame(ESP, C, VIP);
    let (verdict, after) = t.batch(0, std::slice::from_ref(&before), OUTSIDE).remove(0);
    assert_eq!((verdict, &after[..6]), (Verdict::Transmit(INSIDE), &[2, 0, 0, 0, 0xa, 12][..]));
    assert_eq!(after[26..], before[26..]);
}

#[test]
fn they_keep_the_connection_alive() {
    let mut t = table(Method::Nat, 500);
    isakmp(&mut t, C, VIP).unwrap();
    for _ in 0..3 {
        t.pass(200);
        sealed(&mut t, ESP, C, VIP).unwrap();
    }
    assert_eq!(t.rows(false), ["UDP 05:00 UDP 192.0.2.7:500 10.0.0.100:500 10.1.0.12:500"]);
}

#[test]
fn fragments_need_no_ports() {
    let mut t = table(Method::Nat, 500);
    isakmp(&mut t, C, VIP).unwrap();
    for flags in [[0x20, 0], [0x20, 9], [0, 18]] {
        let mut fragment = frame(ESP, C, VIP);
        fragment[20..22].copy_from_slice(&flags);
        mend_ip(&mut fragment);
        let (verdict, after) = t.batch(0, std::slice::from_ref(&fragment), OUTSIDE).remove(0);
        assert_eq!((verdict, &after[34..]), (Verdict::Transmit(INSIDE), &fragment[34..]));
        assert_eq!((&after[20..22], &after[30..34]), (&flags[..], &[10, 1, 0, 12][..]));
    }
}

#[test]
fn without_isakmp_they_open_nothing_and_the_sender_hears_of_it() {
    let mut t = table(Method::Nat, 500);
    let (verdict, after) = t.batch(0, &[frame(ESP, C, VIP)], OUTSIDE).remove(0);
    assert_eq!(verdict, Verdict::Answer(OUTSIDE, DropReason::NoService));
    assert_eq!(read_answer(&after), "10.0.0.100 tells 192.0.2.7: type 3 code 2");
    assert_eq!(t.director.table.len(), 0);
    // A server that talks to somebody else is on its way, as ever.
    assert_eq!(sealed(&mut t, ESP, S, "192.0.2.9").unwrap().from, "10.1.0.12:0");
}

#[test]
fn ports_of_another_client_or_server_are_not_isakmps() {
    let mut t = table(Method::Nat, 500);
    t.one(0, udp("192.0.2.7:4500", "10.0.0.100:500", b"IKE"), OUTSIDE).unwrap();
    assert_eq!(sealed(&mut t, ESP, C, VIP), Err(DropReason::NoService));
    let mut t = table(Method::Nat, 501);
    isakmp(&mut t, C, VIP).unwrap();
    assert_eq!(sealed(&mut t, ESP, C, VIP).unwrap().to, "10.1.0.12:0");
    assert_eq!(
        sealed(&mut t, ESP, S, C),
        Err(DropReason::NoService),
        "the server's port would have to be 500"
    );
}

#[test]
fn when_the_server_is_gone_they_wait_or_end_with_the_connection() {
    for (expire, reason, left) in [(0, DropReason::ServerGone, 1), (1, DropReason::NoService, 0)] {
        let mut t = table(Method::Nat, 500);
        t.tune("expire_nodest_conn", expire);
        isakmp(&mut t, C, VIP).unwrap();
        t.take_out("udp:10.0.0.100:500", "10.1.0.12:500");
        assert_eq!(sealed(&mut t, AH, C, VIP), Err(reason));
        assert_eq!(t.director.table.len(), left);
    }
}
