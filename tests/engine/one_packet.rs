//! One-packet scheduling: every datagram is a connection of its own.

use xvs::director::drops::DropReason;
use xvs::director::service::{Method, Pool, Protocol};

use crate::table::*;

const C: &str = "192.0.2.7:40000";
const VIP: &str = "10.0.0.100:53";

fn one_packet(method: Method) -> Pool {
    let servers = [("10.1.0.11:53", 1), ("10.1.0.12:53", 1)];
    let mut pool = service(Protocol::Udp, VIP, method, &servers);
    pool.service.one_packet = true;
    pool
}

fn ask(t: &mut Table) -> Result<Sent, DropReason> {
    t.one(0, udp(C, VIP, b"question"), OUTSIDE)
}

#[test]
fn each_datagram_is_scheduled_and_counted_and_none_is_remembered() {
    let mut t = Table::sized(&[one_packet(Method::Nat)], 1, 1);
    let to: Vec<_> = (0..4).map(|_| ask(&mut t).unwrap().to).collect();
    assert_eq!(to, ["10.1.0.12:53", "10.1.0.11:53", "10.1.0.12:53", "10.1.0.11:53"]);
    assert_eq!((t.director.table.len(), t.counts(0), t.counts(1)), (0, (0, 0), (0, 0)));
    let traffic = t.director.traffic(xvs::director::server::ServerId(0));
    assert_eq!((traffic.connections, traffic.in_packets, traffic.in_bytes), (2, 2, 2 * 36));
    let reply = t.one(0, udp("10.1.0.11:53", C, b"answer"), INSIDE).unwrap();
    assert_eq!(reply.from, "10.1.0.11:53", "replies are nobody's: routed on as they are");

    let mut t = Table::new(&[one_packet(Method::Dr)]);
    let sent = ask(&mut t).unwrap();
    assert_eq!((sent.to.as_str(), sent.dst_mac, sent.ttl), (VIP, [2, 0, 0, 0, 0xa, 12], 63));
}

#[test]
fn what_cannot_go_on_is_told_as_ever() {
    let mut t = Table::new(&[one_packet(Method::Nat)]);
    t.hops.mtu = 30;
    assert_eq!(ask(&mut t), Err(DropReason::TooBig));
    t.hops.mtu = 1500;
    t.hops.macs.clear();
    assert_eq!(ask(&mut t), Err(DropReason::Unresolved));
}

#[test]
fn with_persistence_the_client_has_a_template_and_nothing_follows_it() {
    let mut t = Table::new(&[persistent(one_packet(Method::Nat), 100)]);
    let to: Vec<_> = (0..3).map(|_| ask(&mut t).unwrap().to).collect();
    assert_eq!(to, ["10.1.0.12:53"; 3]);
    assert_eq!(t.rows(false), ["UDP 01:40 NONE 192.0.2.7:0 10.0.0.100:53 10.1.0.12:53"]);
    t.pass(60);
    ask(&mut t).unwrap();
    t.pass(99);
    assert_eq!(t.director.table.len(), 1, "renewed by each");
    t.pass(2);
    assert_eq!(t.director.table.len(), 0);
}

#[test]
fn a_mark_schedules_datagrams_alone_and_tcp_as_connections() {
    let mut pool = one_packet(Method::Nat);
    pool.service.key = "fwm:3".parse().unwrap();
    let mut t = Table::new(&[pool]);
    t.change(|draft| {
        let rules = ["tcp", "udp"].map(|protocol| xvs::director::marks::MarkRule {
            mark: 3.try_into().unwrap(),
            protocol: protocol.parse().unwrap(),
            destination: "10.0.0.100/32".parse().unwrap(),
            port_first: 0,
            port_last: 65_535,
            source: None,
        });
        draft.settings().marks = rules.into();
        Ok(())
    });
    ask(&mut t).unwrap();
    assert_eq!(t.director.table.len(), 0);
    t.tcp(C, "10.0.0.100:80", "S").unwrap();
    assert_eq!(t.director.table.len(), 1);
}
