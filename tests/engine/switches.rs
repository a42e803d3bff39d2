//! What services do otherwise than the kernel, switch by switch, and servers that are drained or down.

use std::fmt::Write as _;

use xvs::director::conn::state::State;
use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::sched::Kind;
use xvs::director::server::ServerId;
use xvs::director::service::{Method, Pool, Protocol, Server, ServerState};

use crate::table::*;

const C: &str = "192.0.2.7:40000";
const VIP: &str = "10.0.0.100:80";
const SERVICE: &str = "tcp:10.0.0.100:80";
const OTHER: &str = "10.1.0.11:80";
const OLD: &str = "10.1.0.12:80";
const DNS: &str = "10.0.0.100:53";
const DNS_SERVICE: &str = "udp:10.0.0.100:53";
const DNS_OTHER: &str = "10.1.0.11:53";
const DNS_OLD: &str = "10.1.0.12:53";

fn web() -> Pool {
    service(Protocol::Tcp, VIP, Method::Nat, &[(OTHER, 1), (OLD, 1)])
}

fn dns() -> Pool {
    service(Protocol::Udp, DNS, Method::Nat, &[(DNS_OTHER, 1), (DNS_OLD, 1)])
}

fn with(mut pool: Pool, switches: &[(&str, &str)]) -> Pool {
    switches.iter().for_each(|(name, value)| pool.service.switches.set(name, value).unwrap());
    pool
}

/// An established connection and a flow, both to the servers that were added last.
fn established(switches: &[(&str, &str)]) -> Table {
    let mut t = Table::new(&[with(web(), switches), with(dns(), switches)]);
    open(&mut t);
    t
}

fn open(t: &mut Table) {
    assert_eq!(t.tcp(C, VIP, "S").unwrap().to, OLD);
    t.tcp(C, VIP, "A").unwrap();
    assert_eq!(ask(t), Ok(DNS_OLD.to_owned()));
}

fn ask(t: &mut Table) -> Result<String, DropReason> {
    t.one(0, udp(C, DNS, b"?"), OUTSIDE).map(|sent| sent.to)
}

fn take_out(t: &mut Table) {
    t.take_out(SERVICE, OLD);
    t.take_out(DNS_SERVICE, DNS_OLD);
}

fn set(t: &mut Table, state: ServerState) {
    t.stand(SERVICE, OLD, state, 0);
    t.stand(DNS_SERVICE, DNS_OLD, state, 0);
}

/// What the sender of a TCP segment is told.
fn told(t: &mut Table, from: &str, to: &str, flags: &str) -> String {
    let port = if from.starts_with("10.1.0.") { INSIDE } else { OUTSIDE };
    let (verdict, frame) = t.batch(0, &[tcp(from, to, flags)], port).remove(0);
    match verdict {
        Verdict::Answer(out, reason) => {
            assert_eq!((out, reason), (port, DropReason::ServerGone));
            read_answer(&frame)
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn drained_a_server_keeps_what_it_has_and_gets_nothing_new() {
    let mut t = Table::new(&[persistent(web(), 300), dns()]);
    open(&mut t);
    set(&mut t, ServerState::Drain);
    assert_eq!(t.tcp(C, VIP, "A").unwrap().to, OLD, "its connection goes on");
    assert_eq!(ask(&mut t), Ok(DNS_OLD.to_owned()), "its flow too");
    assert_eq!(t.tcp("192.0.2.7:40001", VIP, "S").unwrap().to, OLD, "persistence leads to it");
    for client in 1..6 {
        assert_eq!(t.tcp(&format!("192.0.2.{client}:4"), VIP, "S").unwrap().to, OTHER);
    }
    set(&mut t, ServerState::Up);
    let new: Vec<_> = (10..14).map(|n| t.tcp(&format!("192.0.2.{n}:4"), VIP, "S").unwrap().to).collect();
    assert!(new.contains(&OLD.to_owned()), "{new:?}");
}

#[test]
fn when_its_time_of_draining_is_over_a_server_is_down_until_it_is_up() {
    let mut t = Table::new(&[persistent(web(), 300), dns()]);
    open(&mut t);
    t.stand(SERVICE, OLD, ServerState::Drain, 30);
    let later = |t: &mut Table, seconds| {
        t.pass(seconds);
        let mut over = 0;
        t.change(|draft| {
            over = draft.end_drains();
            Ok(())
        });
        over
    };
    assert_eq!(later(&mut t, 29), 0);
    assert_eq!(t.tcp("192.0.2.7:40001", VIP, "S").unwrap().to, OLD, "persistence leads to it");
    // Another weight is no reason to begin again.
    t.weigh(SERVICE, OLD, 7);
    assert_eq!(later(&mut t, 1), 1);
    assert_eq!(later(&mut t, 1), 0, "once");
    assert_eq!(t.tcp(C, VIP, "A"), Err(DropReason::ServerGone));
    assert_eq!(
        t.tcp("192.0.2.7:40002", VIP, "S").unwrap().to,
        OTHER,
        "persistence does not lead to it any more"
    );
    t.stand(SERVICE, OLD, ServerState::Up, 30);
    assert_eq!(t.tcp(C, VIP, "A").unwrap().to, OLD, "the connection has waited");
    assert_eq!(t.director.services.load().pools()[0].servers[1].weight, 7);
}

#[test]
fn a_down_servers_clients_go_elsewhere_at_once() {
    let mut t = Table::new(&[persistent(web(), 300), persistent(dns(), 300)]);
    open(&mut t);
    set(&mut t, ServerState::Down);
    assert_eq!(ask(&mut t), Ok(DNS_OTHER.to_owned()), "the flow's next datagram");
    assert_eq!(ask(&mut t), Ok(DNS_OTHER.to_owned()));
    assert_eq!(
        t.tcp("192.0.2.7:40001", VIP, "S").unwrap().to,
        OTHER,
        "a new connection, despite persistence"
    );
    assert_eq!(t.tcp("192.0.2.7:40002", VIP, "S").unwrap().to, OTHER, "and the next one by its own template");
    // A SYN that is repeated, because the server that failed never answered it.
    assert_eq!(t.tcp(C, VIP, "S").unwrap().to, OTHER);
    assert_eq!((t.counts(1), t.counts(3)), ((0, 0), (0, 0)));
}

#[test]
fn templates_and_flows_of_a_down_server_end_without_a_packet() {
    let mut t = Table::new(&[persistent(web(), 300), dns()]);
    open(&mut t);
    set(&mut t, ServerState::Down);
    assert_eq!(t.director.end_orphans(0, usize::MAX), None);
    assert_eq!(t.counts(3), (0, 0), "the flow");
    assert_eq!(t.counts(1), (1, 0), "the connection waits");
    assert!(t.rows(true)[0].contains(":65535"), "the template leads nobody: {:?}", t.rows(true));
    set(&mut t, ServerState::Up);
    // By its template the client would go back.
    assert_eq!(t.tcp("192.0.2.1:1", VIP, "S").unwrap().to, OTHER);
    assert_eq!(t.tcp("192.0.2.1:2", VIP, "S").unwrap().to, OTHER);
    t.pass(61);
    assert_eq!(t.counts(1), (1, 0));
}

#[test]
fn a_down_servers_connections_wait_go_on_or_are_reset() {
    // By default as the kernel does with a removed server's.
    let mut t = established(&[]);
    set(&mut t, ServerState::Down);
    assert_eq!(told(&mut t, C, VIP, "A"), "Drop(ServerGone)");
    assert_eq!(t.tcp(OLD, C, "A").unwrap().from, VIP, "what the server sends goes through");
    set(&mut t, ServerState::Up);
    assert_eq!(t.tcp(C, VIP, "A").unwrap().to, OLD);

    let mut t = established(&[("tcp_when_down", "keep")]);
    t.tune("expire_nodest_conn", 1);
    set(&mut t, ServerState::Down);
    let before = t.director.traffic(ServerId(1));
    t.director.end_orphans(0, usize::MAX);
    t.pass(61);
    assert_eq!(t.tcp(C, VIP, "A").unwrap().to, OLD);
    assert_eq!(t.tcp(OLD, C, "A").unwrap().from, VIP);
    let after = t.director.traffic(ServerId(1));
    assert_eq!((after.in_packets, after.out_packets), (before.in_packets + 1, before.out_packets + 1));
    assert_eq!(t.tcp("192.0.2.7:40001", VIP, "S").unwrap().to, OTHER);

    let mut t = established(&[("tcp_when_down", "reset")]);
    set(&mut t, ServerState::Down);
    assert_eq!(told(&mut t, C, VIP, "A"), "10.0.0.100:80 resets 192.0.2.7:40000");
    assert_eq!(told(&mut t, OLD, C, "A"), "192.0.2.7:40000 resets 10.1.0.12:80");
}

#[test]
fn both_ends_of_a_removed_servers_connection_are_reset_if_asked() {
    for client_first in [true, false] {
        let mut t = established(&[("reset_on_removal", "true")]);
        take_out(&mut t);
        t.director.end_orphans(0, usize::MAX);
        let client = |t: &mut Table| told(t, C, VIP, "PA");
        let server = |t: &mut Table| told(t, OLD, C, "PA");
        let (to_client, to_server) =
            ("10.0.0.100:80 resets 192.0.2.7:40000", "192.0.2.7:40000 resets 10.1.0.12:80");
        if client_first {
            assert_eq!((client(&mut t), server(&mut t)), (to_client.into(), to_server.into()));
        } else {
            assert_eq!((server(&mut t), client(&mut t)), (to_server.into(), to_client.into()));
        }
        assert!(t.states().contains(&(C.to_owned(), State::Close)), "{:?}", t.states());
        assert_eq!(t.counts(1), (0, 1), "not active any more");
        assert_eq!(told(&mut t, C, VIP, "R"), "Drop(ServerGone)", "a reset is not answered");
        t.pass(11);
        assert_eq!(t.counts(1), (0, 0), "it lives as long as any that was reset");
    }
    let mut t = established(&[("reset_on_removal", "true")]);
    take_out(&mut t);
    assert_eq!(t.tcp(C, VIP, "S").unwrap().to, OTHER, "a client that begins anew is not reset");

    let mut t = established(&[("reset_on_removal", "true")]);
    t.change(|draft| draft.remove_service(SERVICE.parse().unwrap()));
    assert_eq!(told(&mut t, C, VIP, "A"), "10.0.0.100:80 resets 192.0.2.7:40000", "with its service too");

    let mut t = established(&[]);
    take_out(&mut t);
    t.switch(SERVICE, "reset_on_removal", "true");
    assert_eq!(told(&mut t, C, VIP, "A"), "10.0.0.100:80 resets 192.0.2.7:40000", "switched on after it");
}

#[test]
fn the_reset_is_where_the_other_end_expects_the_next_byte() {
    let mut t = established(&[("reset_on_removal", "true")]);
    take_out(&mut t);
    let (_, frame) = t.batch(0, &[tcp(C, VIP, "A")], OUTSIDE).remove(0);
    let sliced = etherparse::SlicedPacket::from_ethernet(&frame).unwrap();
    let Some(etherparse::TransportSlice::Tcp(reset)) = &sliced.transport else { panic!() };
    // The segment acknowledged 9.
    assert_eq!((reset.sequence_number(), reset.rst(), reset.ack()), (9, true, false));
}

#[test]
fn a_removed_servers_flow_goes_to_another_at_once_if_asked() {
    let mut t = established(&[]);
    take_out(&mut t);
    assert_eq!(ask(&mut t), Err(DropReason::ServerGone), "the kernel's");

    let mut t = established(&[("udp_rehome", "true")]);
    take_out(&mut t);
    assert_eq!(ask(&mut t), Ok(DNS_OTHER.to_owned()));
    assert_eq!(told(&mut t, C, VIP, "A"), "Drop(ServerGone)", "TCP is another switch's");
    assert_eq!(t.counts(3), (0, 0));

    let mut t = established(&[("udp_rehome", "true")]);
    take_out(&mut t);
    t.director.end_orphans(0, usize::MAX);
    assert_eq!((t.counts(3), t.counts(1)), ((0, 0), (1, 0)), "a flow without packets ends too");
    t.pass(61);
    assert_eq!(t.director.table.len(), 1);

    let mut t = established(&[("udp_rehome", "true")]);
    t.change(|draft| draft.remove_service(DNS_SERVICE.parse().unwrap()));
    let (verdict, frame) = t.batch(0, &[udp(C, DNS, b"?")], OUTSIDE).remove(0);
    assert!(matches!(verdict, Verdict::Answer(..)), "{verdict:?}");
    assert_eq!(
        read_answer(&frame),
        "10.0.0.100 tells 192.0.2.7: type 3 code 3",
        "without a service there is nobody"
    );

    let mut t = Table::new(&[with(persistent(dns(), 300), &[("udp_rehome", "true")])]);
    assert_eq!(ask(&mut t), Ok(DNS_OLD.to_owned()));
    t.take_out(DNS_SERVICE, DNS_OLD);
    assert_eq!(ask(&mut t), Ok(DNS_OTHER.to_owned()), "persistence holds nobody back");
}

#[test]
fn a_service_has_timeouts_of_its_own() {
    let switches = [("timeout_tcp_s", "20"), ("timeout_tcp_fin_s", "5"), ("timeout_udp_s", "7")];
    let mut t = established(&switches);
    let plain = service(Protocol::Tcp, "10.0.0.100:81", Method::Nat, &[("10.1.0.11:81", 1)]);
    t.change(|draft| {
        draft.add_service(plain.service)?;
        draft.add_server(plain.service.key, plain.servers[0])
    });
    t.tcp("192.0.2.9:1", "10.0.0.100:81", "S").unwrap();
    t.tcp("192.0.2.9:1", "10.0.0.100:81", "A").unwrap();
    let rows = |t: &Table| {
        t.rows(false).iter().fold(String::new(), |mut text, row| {
            let words: Vec<_> = row.split(' ').take(3).collect();
            write!(text, "{} {}, ", words[1], words[2]).unwrap();
            text
        })
    };
    assert_eq!(rows(&t), "00:20 ESTABLISHED, 15:00 ESTABLISHED, 00:07 UDP, ");
    t.tcp(OLD, C, "FA").unwrap();
    assert_eq!(rows(&t), "00:05 FIN_WAIT, 15:00 ESTABLISHED, 00:07 UDP, ");
    t.pass(6);
    assert_eq!(rows(&t), "14:54 ESTABLISHED, 00:01 UDP, ");
    t.pass(2);
    assert_eq!(rows(&t), "14:52 ESTABLISHED, ");

    // Changed, they hold from each connection's next tick with a packet on; 0 gives them back.
    let mut t = established(&[]);
    t.switch(SERVICE, "timeout_tcp_s", "30");
    t.pass(1);
    t.tcp(C, VIP, "A").unwrap();
    assert_eq!(rows(&t), "00:30 ESTABLISHED, 04:59 UDP, ");
    t.switch(SERVICE, "timeout_tcp_s", "0");
    t.pass(1);
    t.tcp(C, VIP, "A").unwrap();
    assert_eq!(rows(&t), "15:00 ESTABLISHED, 04:58 UDP, ");
    // They are the server's while it is removed, and another service's are another's.
    t.switch(SERVICE, "timeout_tcp_s", "30");
    t.take_out(SERVICE, OLD);
    t.pass(1);
    t.tcp(OLD, C, "A").unwrap();
    assert_eq!(rows(&t), "00:30 ESTABLISHED, 04:57 UDP, ");
}

#[test]
fn a_segment_without_a_connection_opens_one_where_its_service_is_sloppy() {
    let pool = |sloppy: &str| {
        let mut pool = with(web(), &[("sloppy_tcp", sloppy)]);
        pool.service.scheduler = Kind::Mh;
        pool
    };
    for (own, of_all, opens) in
        [("unset", 0, false), ("unset", 1, true), ("true", 0, true), ("false", 1, false)]
    {
        let mut t = Table::new(&[pool(own)]);
        t.tune("sloppy_tcp", of_all);
        let before: Vec<_> =
            (0..20).map(|n| t.tcp(&format!("192.0.2.{n}:4"), VIP, "S").unwrap().to).collect();
        // Another director, which has never seen these connections.
        let mut t = Table::new(&[pool(own)]);
        t.tune("sloppy_tcp", of_all);
        for (n, to) in before.into_iter().enumerate() {
            let expected = if opens { Ok(to) } else { Err(DropReason::NoConnection) };
            let client = format!("192.0.2.{n}:4");
            assert_eq!(t.tcp(&client, VIP, "A").map(|sent| sent.to), expected, "{own} {of_all}");
            assert!(opens || t.tcp(&client, VIP, "R").is_err());
        }
    }
}

#[test]
fn a_server_that_begins_gets_its_share_little_by_little() {
    for (slow_start, expected) in [("0", 40..=40), ("40", 1..=2)] {
        let mut pool = with(web(), &[("slow_start_s", slow_start)]);
        pool.service.scheduler = Kind::Wlc;
        pool.servers.truncate(1);
        let mut t = Table::new(&[pool]);
        t.pass(100);
        for n in 0..40 {
            t.tcp(&format!("192.0.2.{n}:1"), VIP, "S").unwrap();
        }
        let method = Method::Nat;
        t.change(|draft| {
            draft.add_server(SERVICE.parse().unwrap(), Server::new(OLD.parse().unwrap(), method))
        });
        t.pass(1);
        let mut port = 1000;
        let mut open = |t: &mut Table, count: u32| {
            for _ in 0..count {
                port += 1;
                t.tcp(&format!("192.0.3.1:{port}"), VIP, "S").unwrap();
            }
            let (active, inactive) = t.counts(1);
            active + inactive
        };
        let got = open(&mut t, 40);
        assert!(expected.contains(&got), "{got} of 40 with {slow_start} s");
        if slow_start == "40" {
            t.pass(19);
            let half = open(&mut t, 40);
            assert!((35..=41).contains(&half), "half of what the other has, {half}");
            t.pass(20);
            let all = open(&mut t, 60);
            assert!((85..=91).contains(&all), "{all}");
        }
    }
}

#[test]
fn a_server_starts_slowly_whenever_it_takes_connections_again() {
    let mut pool = with(web(), &[("slow_start_s", "40")]);
    pool.service.scheduler = Kind::Wrr;
    let mut t = Table::new(&[pool]);
    t.pass(41);
    let mut port = 1000;
    let mut share = |t: &mut Table| {
        let to: Vec<_> = (0..40)
            .map(|_| {
                port += 1;
                t.tcp(&format!("192.0.2.1:{port}"), VIP, "S").unwrap().to
            })
            .collect();
        to.iter().filter(|to| *to == OLD).count()
    };
    assert_eq!(share(&mut t), 20);
    // Of another weight it goes on: 4/5.
    t.weigh(SERVICE, OLD, 4);
    assert_eq!(share(&mut t), 32);
    t.weigh(SERVICE, OLD, 1);
    for how in ["weight", "drain", "down", "removal"] {
        match how {
            "weight" => t.weigh(SERVICE, OLD, 0),
            "drain" => t.stand(SERVICE, OLD, ServerState::Drain, 0),
            "down" => t.stand(SERVICE, OLD, ServerState::Down, 0),
            _ => t.take_out(SERVICE, OLD),
        }
        assert_eq!(share(&mut t), 0, "{how}");
        match how {
            "weight" => t.weigh(SERVICE, OLD, 1),
            "removal" => t.change(|draft| {
                draft.add_server(SERVICE.parse().unwrap(), Server::new(OLD.parse().unwrap(), Method::Nat))
            }),
            _ => t.stand(SERVICE, OLD, ServerState::Up, 0),
        }
        t.pass(10);
        let quarter = share(&mut t);
        assert!(
            (6..=10).contains(&quarter),
            "a fifth of all, a quarter of the other's: {quarter} after {how}"
        );
        t.pass(31);
        assert_eq!(share(&mut t), 20, "{how}");
    }
}
