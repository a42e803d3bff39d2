//! Connections of servers that were taken out of their services.

use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::server::ServerId;
use xvs::director::service::{Method, Protocol, Server};

use crate::table::*;

const C: &str = "192.0.2.7:40000";
const VIP: &str = "10.0.0.100:80";
const SERVICE: &str = "tcp:10.0.0.100:80";
const DNS: &str = "10.0.0.100:53";
const OLD: &str = "10.1.0.12:80";
const OTHER: &str = "10.1.0.11:80";

/// Two servers, and an established connection to the one that was added last.
fn established(expire_nodest_conn: u32) -> Table {
    let mut t = Table::new(&[
        service(Protocol::Tcp, VIP, Method::Nat, &[(OTHER, 1), (OLD, 1)]),
        service(Protocol::Udp, DNS, Method::Nat, &[("10.1.0.11:53", 1), ("10.1.0.12:53", 1)]),
    ]);
    t.tune("expire_nodest_conn", expire_nodest_conn);
    assert_eq!(t.tcp(C, VIP, "S").unwrap().to, OLD);
    t.tcp(C, VIP, "A").unwrap();
    assert_eq!(t.one(0, udp(C, DNS, b"?"), OUTSIDE).unwrap().to, "10.1.0.12:53");
    t
}

fn take_out(t: &mut Table) {
    t.take_out(SERVICE, OLD);
    t.take_out("udp:10.0.0.100:53", "10.1.0.12:53");
}

#[test]
fn a_connection_waits_for_its_server_and_goes_on_when_it_comes_back() {
    let mut t = established(0);
    let before = t.director.traffic(ServerId(1));
    take_out(&mut t);
    t.pass(100);
    let (verdict, _) = t.batch(0, &[tcp(C, VIP, "A")], OUTSIDE).remove(0);
    assert_eq!(verdict, Verdict::Drop(DropReason::ServerGone), "silently");
    assert_eq!(t.tcp(C, VIP, "FA"), Err(DropReason::ServerGone));
    assert_eq!(t.tcp(C, VIP, "S"), Err(DropReason::ServerGone));
    assert_eq!(t.one(0, udp(C, DNS, b"?"), OUTSIDE), Err(DropReason::ServerGone));
    assert_eq!(t.director.traffic(ServerId(1)), before, "not counted at the server");
    let rows = t.rows(false);
    assert_eq!(rows[0], "TCP 13:20 ESTABLISHED 192.0.2.7:40000 10.0.0.100:80 10.1.0.12:80", "not refreshed");
    // The server's own packets go through, are not counted, and do refresh it.
    assert_eq!(t.tcp(OLD, C, "A").unwrap().from, VIP);
    assert_eq!(t.director.traffic(ServerId(1)), before);
    assert_eq!(t.rows(false)[0], "TCP 15:00 ESTABLISHED 192.0.2.7:40000 10.0.0.100:80 10.1.0.12:80");

    let method = Method::Nat;
    t.change(|draft| draft.add_server(SERVICE.parse().unwrap(), Server::new(OLD.parse().unwrap(), method)));
    assert_eq!(t.tcp(C, VIP, "A").unwrap().to, OLD);
    assert_eq!(t.counts(1), (1, 0));
    assert_eq!(t.director.traffic(ServerId(1)).in_packets, before.in_packets + 1);
}

#[test]
fn without_a_server_a_connection_still_ends_in_its_time() {
    let mut t = established(0);
    take_out(&mut t);
    for _ in 0..9 {
        t.pass(100);
        let _refused = t.tcp(C, VIP, "A");
    }
    t.pass(2);
    assert_eq!((t.director.table.len(), t.counts(1)), (0, (0, 0)));
}

#[test]
fn given_up_a_connection_ends_and_its_packet_is_one_of_none() {
    let mut t = established(1);
    take_out(&mut t);
    let (verdict, frame) = t.batch(0, &[tcp(C, VIP, "A")], OUTSIDE).remove(0);
    assert_eq!(verdict, Verdict::Answer(OUTSIDE, DropReason::NoConnection));
    assert_eq!(read_answer(&frame), "10.0.0.100:80 resets 192.0.2.7:40000");
    assert_eq!((t.director.table.len(), t.counts(1)), (1, (0, 0)), "gone at once; the datagrams' is there");
    assert_eq!(t.one(1, udp(C, DNS, b"?"), OUTSIDE).unwrap().to, "10.1.0.11:53", "scheduled anew");
    assert_eq!(t.director.table.len(), 1);

    let mut t = established(1);
    take_out(&mut t);
    assert_eq!(t.tcp(C, VIP, "S").unwrap().to, OTHER, "a SYN too");
    assert_eq!((t.counts(0), t.counts(1)), ((1, 0), (0, 0)));

    let mut t = established(1);
    t.change(|draft| draft.remove_service(SERVICE.parse().unwrap()));
    assert_eq!(t.tcp(C, VIP, "A"), Err(DropReason::NoService));
    assert_eq!((t.director.table.len(), t.counts(1)), (1, (0, 0)), "without a service likewise");
}

#[test]
fn given_up_connections_without_packets_end_within_a_minute() {
    let mut t = established(1);
    take_out(&mut t);
    t.pass(61);
    assert_eq!((t.director.table.len(), t.counts(1), t.counts(3)), (0, (0, 0), (0, 0)));
}

#[test]
fn the_control_plane_ends_given_up_connections_at_once_and_no_others() {
    for expire in [0, 1] {
        let mut t = established(expire);
        let clients: Vec<String> = (0..200).map(|n| format!("198.18.0.{n}:9")).collect();
        for client in &clients {
            t.one(1, tcp(client, VIP, "S"), OUTSIDE).unwrap();
        }
        t.take_out(SERVICE, OLD);
        let (mut from, mut pieces) = (Some(0), 0);
        while let Some(place) = from {
            from = t.director.end_orphans(place, 50);
            pieces += 1;
        }
        let left = t.director.table.len();
        if expire == 0 {
            assert_eq!((left, pieces), (202, 1), "they wait");
            continue;
        }
        assert_eq!((left, t.counts(1), t.counts(0)), (101, (0, 0), (100, 0)));
        assert!(pieces > 2);
        // The slots are free again once their owners have read their mail.
        t.pass(1);
        assert_eq!(t.counts(0), (100, 0));
        t.pass(1000);
        assert_eq!(t.director.table.len(), 0);
    }
}

#[test]
fn slots_of_ended_orphans_are_used_again() {
    let mut t = Table::sized(&[service(Protocol::Tcp, VIP, Method::Nat, &[(OTHER, 1), (OLD, 1)])], 64, 2);
    t.tune("expire_nodest_conn", 1);
    for round in 0..10 {
        let mut n = 0;
        while t.one(n % 2, tcp(&format!("198.18.{round}.{n}:9"), VIP, "S"), OUTSIDE).is_ok() {
            n += 1;
        }
        assert!((56..=64).contains(&n), "{n} in round {round}");
        t.change(|draft| draft.remove_service(SERVICE.parse().unwrap()));
        assert_eq!(t.director.end_orphans(0, usize::MAX), None);
        assert_eq!(t.director.table.len(), 0);
        t.pass(1);
        let pool = service(Protocol::Tcp, VIP, Method::Nat, &[(OTHER, 1), (OLD, 1)]);
        t.change(|draft| draft.replace(&[pool]));
        t.engines.iter_mut().for_each(|engine| engine.rest());
    }
}

/// The control plane ends connections that workers are just entering: nothing is lost, left behind or counted twice.
#[test]
fn counts_do_not_drift_when_orphans_are_ended_under_workers() {
    let pool = || persistent(service(Protocol::Tcp, VIP, Method::Nat, &[(OTHER, 1), (OLD, 1)]), 10);
    let mut t = Table::sized(&[pool()], 2048, 2);
    t.tune("expire_nodest_conn", 1);
    let (hops, now, director) = (&t.hops, t.now, t.director.clone());
    let (mut roster, done) = (t.roster.clone(), std::sync::atomic::AtomicBool::new(false));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..)
            .zip(&mut t.engines)
            .map(|(worker, engine): (u32, _)| {
                scope.spawn(move || {
                    for round in 0..6000u32 {
                        let client = format!("198.18.0.{}:{}", round % 40, 9 + worker % 2 * (round % 3));
                        let mut frames: Vec<_> = ["S", "A", "A"].map(|flags| tcp(&client, VIP, flags)).into();
                        turn(engine, &mut frames, hops, now);
                    }
                    engine.rest();
                })
            })
            .collect();
        let control = scope.spawn(|| {
            let mut flips = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let mut draft = xvs::director::draft::Draft::new(&director.services.load(), &roster);
                if flips % 2 == 0 {
                    draft.remove_server(SERVICE.parse().unwrap(), OLD.parse().unwrap()).unwrap();
                } else {
                    let server = Server::new(OLD.parse().unwrap(), Method::Nat);
                    draft.add_server(SERVICE.parse().unwrap(), server).unwrap();
                }
                roster = director.publish(draft).0;
                director.end_orphans(0, usize::MAX);
                flips += 1;
            }
            flips
        });
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(control.join().unwrap() > 10);
    });
    t.pass(2000);
    let persistent = [0, 1].map(|id| t.director.counts.persistent(ServerId(id)));
    assert_eq!((t.director.table.len(), t.counts(0), t.counts(1)), (0, (0, 0), (0, 0)));
    assert_eq!(persistent, [0, 0]);
    assert!(t.tcp(C, VIP, "S").is_ok());
}
