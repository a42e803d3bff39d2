//! What goes up to the director's own kernel: what is nobody's, as it came; what is for a server that is the director
//! itself, as that server gets it.

use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::forward::hops::PASS;
use xvs::director::service::{Method, Pool, Protocol};
use xvs::packet::encap::Tunnel;

use crate::pieces::{cut, numbered};
use crate::table::*;

const C: &str = "192.0.2.7:40000";
const VIP: &str = "10.0.0.100:80";
const OWN: &str = "10.1.0.1:8080";

/// A director that is at 10.1.0.1 and the VIP, and may pass so much.
fn table(services: &[Pool], packets_per_s: u32) -> Table {
    let mut t = Table::new(services);
    t.hops.local = ["10.1.0.1", "10.0.0.100"].map(|ip| ip.parse().unwrap()).into();
    t.director.pass.open(packets_per_s);
    t
}

fn web(method: Method, server: &str) -> Pool {
    service(Protocol::Tcp, VIP, method, &[(server, 1)])
}

fn passed(t: &Table) -> u64 {
    t.director.stats.iter().map(|stats| stats.passed()).sum()
}

/// The packet goes up as it came.
fn goes_up(t: &mut Table, frame: Vec<u8>) {
    let (verdict, after) = t.batch(0, std::slice::from_ref(&frame), OUTSIDE).remove(0);
    assert_eq!(verdict, Verdict::Transmit(PASS));
    assert!(after == frame, "changed");
}

/// The packet of a local server's client, as it goes up to the server.
fn to_server(t: &mut Table, frame: Vec<u8>) -> Sent {
    let (verdict, after) = t.batch(0, &[frame], OUTSIDE).remove(0);
    assert_eq!(verdict, Verdict::Transmit(PASS));
    read(&after, PASS)
}

#[test]
fn what_is_no_services_goes_up_as_it_came() {
    let mut t = table(&[web(Method::Nat, "10.1.0.11:80")], 1000);
    goes_up(&mut t, tcp(C, "10.0.0.100:81", "S"));
    goes_up(&mut t, tcp(C, "10.0.0.100:81", "A"));
    goes_up(&mut t, udp(C, "10.0.0.100:80", b"?"));
    goes_up(&mut t, sctp(C, "10.0.0.100:80", &[(1, b"initiated")]));
    goes_up(&mut t, ip([192, 0, 2, 7].into(), [10, 0, 0, 100].into(), 50, &[7; 24]));
    assert_eq!((passed(&t), t.director.drops()), (5, vec![]));
    // What the service itself refuses it refuses as ever.
    assert_eq!(
        t.batch(0, &[tcp(C, VIP, "A")], OUTSIDE)[0].0,
        Verdict::Answer(OUTSIDE, DropReason::NoConnection)
    );
}

/// Its ports from 1024 on are the service's only as far as it uses them.
#[test]
fn a_service_of_ftp_leaves_the_host_its_ports() {
    let vip = "10.0.0.100:21";
    let ftp = service(Protocol::Tcp, vip, Method::Nat, &[("10.1.0.11:21", 1)]);
    for (pool, opens) in [(ftp.clone(), false), (persistent(ftp, 300), true)] {
        let mut t = table(&[pool], 1000);
        goes_up(&mut t, tcp(C, "10.0.0.100:2222", "A"));
        goes_up(&mut t, tcp("192.0.2.7:20", "10.0.0.100:2222", "S"));
        let syn = t.batch(0, &[tcp(C, "10.0.0.100:2222", "S")], OUTSIDE).remove(0).0;
        assert_eq!(syn, if opens { Verdict::Transmit(INSIDE) } else { Verdict::Transmit(PASS) });
        assert_eq!(
            t.batch(0, &[tcp(C, vip, "A")], OUTSIDE)[0].0,
            Verdict::Answer(OUTSIDE, DropReason::NoConnection)
        );
    }
}

#[test]
fn errors_about_the_hosts_own_packets_go_up() {
    let mut t = table(&[web(Method::Nat, "10.1.0.11:80")], 1000);
    let quoted = &udp("10.0.0.100:9999", "192.0.2.7:53", b"question")[14..];
    let mut error = [&[3, 3, 0, 0, 0, 0, 0, 0][..], quoted].concat();
    let sum = xvs::packet::checksum::of(&error);
    error[2..4].copy_from_slice(&sum.to_be_bytes());
    goes_up(&mut t, ip([192, 0, 2, 7].into(), [10, 0, 0, 100].into(), 1, &error));
}

/// A datagram of 24 bytes in three pieces, of which the first has the ports.
fn pieces(to: &str) -> Vec<Vec<u8>> {
    cut(&numbered(udp(C, to, &[5; 16]), 7), 8)
}

#[test]
fn fragments_go_up_with_their_first_whatever_their_order() {
    for order in [[0, 1, 2], [1, 2, 0], [2, 0, 1]] {
        let mut t = table(&[web(Method::Nat, "10.1.0.11:80")], 1000);
        let pieces = pieces("10.0.0.100:9999");
        let mut up: Vec<Vec<u8>> = Vec::new();
        for n in order {
            let (verdict, after) = t.batch(0, &[pieces[n].clone()], OUTSIDE).remove(0);
            match verdict {
                Verdict::Transmit(PASS) => up.push(after),
                other => assert_eq!(other, Verdict::Keep),
            }
            up.extend(t.made.drain(..).inspect(|(port, _)| assert_eq!(*port, PASS)).map(|(_, frame)| frame));
        }
        up.sort();
        let mut sorted = pieces;
        sorted.sort();
        assert!(up == sorted, "{order:?}");
        assert_eq!(passed(&t), 3);
    }
}

#[test]
fn what_is_over_the_limit_is_dropped_in_silence() {
    let mut t = table(&[web(Method::Nat, "10.1.0.11:80")], 20);
    let frames = vec![tcp(C, "10.0.0.100:81", "S"); 8];
    let count = |t: &mut Table| {
        let verdicts = t.batch(0, &frames, OUTSIDE);
        let over = verdicts.iter().filter(|v| v.0 == Verdict::Drop(DropReason::PassLimit)).count();
        (verdicts.iter().filter(|v| v.0 == Verdict::Transmit(PASS)).count(), over)
    };
    assert_eq!((count(&mut t), count(&mut t)), ((5, 3), (0, 8)), "a quarter of 20");
    t.pass(1);
    assert_eq!(count(&mut t), (5, 3));
    assert_eq!((passed(&t), t.director.drops()), (10, vec![(DropReason::PassLimit, 14)]));
}

#[test]
fn a_nat_servers_packet_to_the_host_goes_up_and_to_others_it_does_not() {
    let mut t = table(&[web(Method::Nat, "10.1.0.11:80")], 4);
    let frames = [tcp("10.1.0.11:80", "10.1.0.1:5000", "A"), tcp("10.1.0.11:80", "192.0.2.9:5000", "A")];
    let verdicts: Vec<_> = t.batch(0, &frames, INSIDE).into_iter().map(|v| v.0).collect();
    assert_eq!(verdicts, [Verdict::Transmit(PASS), Verdict::Transmit(OUTSIDE)]);
    assert_eq!(t.batch(0, &frames[..1], INSIDE)[0].0, Verdict::Drop(DropReason::PassLimit));
}

#[test]
fn a_local_server_gets_its_packets_by_every_method_and_no_ttl_is_counted() {
    let tun = Method::Tun(Tunnel::Ipip);
    for (method, server, to) in
        [(Method::Nat, OWN, OWN), (Method::Dr, "10.1.0.1:80", VIP), (tun, "10.1.0.1:80", VIP)]
    {
        let mut t = table(&[web(method, server)], 4);
        for flags in ["S", "A", "PA", "A", "A", "A", "FA"] {
            let sent = to_server(&mut t, tcp(C, VIP, flags));
            assert_eq!((sent.from.as_str(), sent.to.as_str(), sent.ttl), (C, to, 64), "{method:?} {flags}");
        }
        assert_eq!(passed(&t), 0, "no strays, no limit");
        assert_eq!(t.director.traffic(xvs::director::server::ServerId(0)).in_packets, 7);
        if method == Method::Nat {
            // What the kernel sends comes by the same way, and leaves as any server's.
            let (verdict, after) = t.batch(0, &[tcp(OWN, C, "SA")], PASS).remove(0);
            assert_eq!(verdict, Verdict::Transmit(OUTSIDE));
            assert_eq!(read(&after, OUTSIDE).from, VIP);
        }
    }
}

#[test]
fn a_ttl_of_any_value_is_left_as_it_was() {
    let mut t = table(&[web(Method::Nat, OWN)], 4);
    for ttl in 0..=255 {
        let mut frame = tcp(C, VIP, "S");
        frame[22] = ttl;
        mend_ip(&mut frame);
        assert_eq!(to_server(&mut t, frame).ttl, ttl);
    }
}

#[test]
fn an_error_about_a_local_servers_packet_goes_up_to_it() {
    let mut t = table(&[web(Method::Nat, OWN)], 4);
    to_server(&mut t, tcp(C, VIP, "S"));
    let mut error = [&[3, 4, 0, 0, 0, 0, 5, 120][..], &tcp(VIP, C, "A")[14..42]].concat();
    let sum = xvs::packet::checksum::of(&error);
    error[2..4].copy_from_slice(&sum.to_be_bytes());
    let frame = ip([198, 51, 100, 1].into(), [10, 0, 0, 100].into(), 1, &error);
    let (verdict, after) = t.batch(0, &[frame], OUTSIDE).remove(0);
    assert_eq!(verdict, Verdict::Transmit(PASS));
    assert_eq!((&after[30..34], &after[42 + 12..42 + 16]), (&[10, 1, 0, 1][..], &[10, 1, 0, 1][..]));
    assert_eq!((after[22], xvs::packet::checksum::of(&after[14..34])), (64, 0));
}

/// It has come by the way of local servers' answers; up again it would go round in a circle.
#[test]
fn what_the_host_has_sent_and_is_nobodys_is_routed_on() {
    let mut t = table(&[web(Method::Nat, "10.1.0.11:80")], 4);
    let mut error = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &udp(C, "10.1.0.1:9", b"?")[14..]].concat();
    let sum = xvs::packet::checksum::of(&error);
    error[2..4].copy_from_slice(&sum.to_be_bytes());
    let error = ip([10, 1, 0, 1].into(), [192, 0, 2, 7].into(), 1, &error);
    for frame in [error, tcp(OWN, C, "SA"), udp(OWN, C, b"!")] {
        let (verdict, after) = t.batch(0, std::slice::from_ref(&frame), PASS).remove(0);
        assert_eq!(verdict, Verdict::Transmit(OUTSIDE));
        assert_eq!((&after[26..], after[22]), (&frame[26..], 63));
    }
    assert_eq!(passed(&t), 0);
}

#[test]
fn without_a_way_up_it_is_refused() {
    let mut t = table(&[web(Method::Nat, OWN)], 0);
    let verdicts = t.batch(0, &[tcp(C, VIP, "S"), tcp(C, "10.0.0.100:81", "S")], OUTSIDE);
    assert_eq!(verdicts[0].0, Verdict::Answer(OUTSIDE, DropReason::NoRoute));
    assert_eq!(verdicts[1].0, Verdict::Answer(OUTSIDE, DropReason::NoService));
    // It is looked at again, since nothing is lost by that.
    t.director.pass.open(4);
    t.pass(1);
    assert_eq!(to_server(&mut t, tcp(C, VIP, "S")).to, OWN);
}
