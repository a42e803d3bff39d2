//! Which service a new packet belongs to: of its mark, its destination, FTP's, or that of all ports.

use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::marks::MarkRule;
use xvs::director::service::{Method, Pool, Protocol};

use crate::table::*;

const C: &str = "192.0.2.7:40000";
const TCP: Protocol = Protocol::Tcp;

fn marked(mark: u32, pool: Pool) -> Pool {
    let mut pool = pool;
    pool.service.key = format!("fwm:{mark}").parse().unwrap();
    pool
}

fn rule(mark: u32, protocol: Protocol, destination: &str, ports: [u16; 2]) -> MarkRule {
    MarkRule {
        mark: mark.try_into().unwrap(),
        protocol,
        destination: destination.parse().unwrap(),
        port_first: ports[0],
        port_last: ports[1],
        source: None,
    }
}

fn set_marks(t: &mut Table, rules: &[MarkRule]) {
    t.change(|draft| {
        draft.settings().marks = rules.into();
        Ok(())
    });
}

fn to(t: &mut Table, vip: &str) -> Result<String, DropReason> {
    t.tcp(C, vip, "S").map(|sent| sent.to)
}

#[test]
fn the_mark_comes_first_then_the_port_then_ftp_then_all_ports() {
    let vip = |port: u16| format!("10.0.0.100:{port}");
    let mut t = Table::new(&[
        marked(1, service(TCP, &vip(1), Method::Nat, &[("10.1.0.11:0", 1)])),
        service(TCP, &vip(80), Method::Nat, &[("10.1.0.12:8080", 1)]),
        service(TCP, &vip(443), Method::Nat, &[("10.1.0.12:8443", 1)]),
        persistent(service(TCP, &vip(21), Method::Nat, &[("10.1.0.13:21", 1)]), 60),
        persistent(service(TCP, &vip(0), Method::Nat, &[("10.1.0.14:0", 1)]), 60),
    ]);
    set_marks(&mut t, &[rule(1, TCP, "10.0.0.100/32", [443, 443]), rule(9, TCP, "10.0.0.100/32", [80, 80])]);
    // A client each, since one's template would lead it past the services of FTP and all ports.
    let mut goes = |port: u16| {
        let client = format!("198.18.{}.{}:4000", port >> 8, port & 255);
        t.tcp(&client, &vip(port), "S").unwrap().to
    };
    assert_eq!(goes(443), "10.1.0.11:443", "the mark's, at the port that the packet has");
    assert_eq!(goes(80), "10.1.0.12:8080", "its mark has no service");
    assert_eq!(goes(21), "10.1.0.13:21");
    assert_eq!(goes(1024), "10.1.0.13:1024", "passive FTP");
    assert_eq!(goes(20), "10.1.0.13:20");
    assert_eq!(goes(1023), "10.1.0.14:1023", "privileged: not FTP's");
    assert_eq!(goes(22), "10.1.0.14:22");
    assert_eq!(to(&mut t, "10.0.0.101:22"), Err(DropReason::NoService));
    let udp = udp(C, &vip(5000), b"?");
    assert_eq!(t.one(0, udp, OUTSIDE), Err(DropReason::NoService), "UDP has no FTP and no service here");
}

#[test]
fn a_mark_stands_for_many_addresses_ports_and_protocols() {
    let mut t = Table::new(&[marked(7, service(TCP, "10.0.0.1:1", Method::Nat, &[("10.1.0.11:8080", 1)]))]);
    let both = [TCP, Protocol::Udp].map(|protocol| rule(7, protocol, "10.0.0.0/24", [0, 65_535]));
    set_marks(&mut t, &both);
    assert_eq!(to(&mut t, "10.0.0.1:80"), Ok("10.1.0.11:8080".into()));
    assert_eq!(to(&mut t, "10.0.0.200:443"), Ok("10.1.0.11:8080".into()));
    assert_eq!(t.one(0, udp(C, "10.0.0.9:53", b"?"), OUTSIDE).unwrap().to, "10.1.0.11:8080");
    assert_eq!(t.tcp("10.1.0.11:8080", C, "SA").unwrap().to, C);
    assert_eq!(t.counts(0), (2, 1));
    // Established packets do not ask for it any more.
    set_marks(&mut t, &[]);
    assert!(t.tcp(C, "10.0.0.1:80", "A").is_ok());
    assert_eq!(to(&mut t, "10.0.0.3:80"), Err(DropReason::NoService));
}

#[test]
fn ftp_without_persistence_leaves_other_ports_to_the_host() {
    let mut t = Table::new(&[service(TCP, "10.0.0.100:21", Method::Nat, &[("10.1.0.13:21", 1)])]);
    let (verdict, frame) = t.batch(0, &[tcp(C, "10.0.0.100:5000", "S")], OUTSIDE).remove(0);
    assert_eq!(verdict, Verdict::Answer(OUTSIDE, DropReason::NoService));
    assert_eq!(read_answer(&frame), "10.0.0.100:5000 resets 192.0.2.7:40000");
    // Nor does a service of FTP without a server speak for what is not FTP.
    let mut t = Table::new(&[persistent(service(TCP, "10.0.0.100:21", Method::Nat, &[]), 60)]);
    let mut told = |vip| {
        let (verdict, frame) = t.batch(0, &[tcp(C, vip, "S")], OUTSIDE).remove(0);
        assert_eq!(verdict, Verdict::Answer(OUTSIDE, DropReason::NoServer));
        read_answer(&frame)
    };
    assert_eq!(told("10.0.0.100:21"), "10.0.0.100 tells 192.0.2.7: type 3 code 3");
    assert_eq!(told("10.0.0.100:5000"), "10.0.0.100:5000 resets 192.0.2.7:40000");
}

#[test]
fn where_no_service_is_any_more_the_client_is_told_that_nobody_listens() {
    let mut t = Table::new(&[
        service(TCP, "10.0.0.100:80", Method::Nat, &[("10.1.0.11:80", 1)]),
        service(TCP, "10.0.0.101:80", Method::Nat, &[("10.1.0.12:80", 1)]),
    ]);
    t.change(|draft| draft.remove_service("tcp:10.0.0.100:80".parse().unwrap()));
    let mut told = |frame: Vec<u8>, port| {
        let (verdict, frame) = t.batch(0, &[frame], port).remove(0);
        match verdict {
            Verdict::Answer(_, reason) => (reason, read_answer(&frame)),
            other => panic!("{other:?}"),
        }
    };
    let reset = "10.0.0.100:80 resets 192.0.2.7:40000".to_owned();
    for flags in ["S", "A", "FA"] {
        assert_eq!(told(tcp(C, "10.0.0.100:80", flags), OUTSIDE), (DropReason::NoService, reset.clone()));
    }
    let unreachable = "10.0.0.100 tells 192.0.2.7: type 3 code 3".to_owned();
    assert_eq!(told(udp(C, "10.0.0.100:53", b"?"), OUTSIDE), (DropReason::NoService, unreachable));
    let (verdict, _) = t.batch(0, &[tcp(C, "10.0.0.100:80", "R")], OUTSIDE).remove(0);
    assert_eq!(verdict, Verdict::Drop(DropReason::NoService));
    // A NAT server's packet is not the host's business either: it is routed on.
    assert_eq!(t.tcp("10.1.0.12:80", C, "A").unwrap().from, "10.1.0.12:80");
}
