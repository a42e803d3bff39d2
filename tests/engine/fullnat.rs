//! FULLNAT: clients' packets from local addresses, a port of their own for each connection.

use std::collections::HashSet;
use std::net::IpAddr;

use proptest::prelude::*;
use xvs::director::conn::state::State;
use xvs::director::draft::Refused;
use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::local::{LOCAL_PORTS, Locals, Ports};
use xvs::director::server::ServerId;
use xvs::director::service::{Method, Pool, Protocol, Server};
use xvs::net::rss::{Hashed, Rss};

use crate::pieces::{cut, numbered};
use crate::table::*;

const C: &str = "192.0.2.7:40000";
const VIP: &str = "10.0.0.100:80";
const S: &str = "10.1.0.11:8080";
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0xa, 11];

fn locals(addresses: &[&str], ports: &str) -> Locals {
    let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    Locals::new(&addresses, ports.parse().unwrap()).unwrap()
}

fn pool(protocol: Protocol, servers: &[(&str, u32)], locals: Locals) -> Pool {
    let mut pool = service(protocol, VIP, Method::FullNat, servers);
    pool.service.locals = locals;
    pool
}

fn table(ports: &str) -> Table {
    Table::new(&[pool(Protocol::Tcp, &[(S, 1)], locals(&["10.1.0.2"], ports))])
}

fn sent(port: u16, dst_mac: [u8; 6], from: &str, to: &str) -> Result<Sent, DropReason> {
    Ok(Sent { port, dst_mac, from: from.into(), to: to.into(), ttl: 63 })
}

/// The port of an address as text.
fn port(address: &str) -> u16 {
    address.rsplit(':').next().unwrap().parse().unwrap()
}

/// Closes a connection, server first; what is left of it is TIME_WAIT.
fn close(t: &mut Table, client: &str, local: &str) {
    t.tcp(S, local, "SA").unwrap();
    t.tcp(client, VIP, "A").unwrap();
    t.tcp(S, local, "FA").unwrap();
    t.tcp(client, VIP, "FA").unwrap();
    t.tcp(S, local, "A").unwrap();
}

#[test]
fn both_ends_are_rewritten_in_both_directions() {
    let mut t = table("5000");
    assert_eq!(t.tcp(C, VIP, "S"), sent(INSIDE, SERVER_MAC, "10.1.0.2:5000", S));
    assert_eq!(t.tcp(S, "10.1.0.2:5000", "SA"), sent(OUTSIDE, ROUTER_MAC, VIP, C));
    assert_eq!(t.tcp(C, VIP, "A"), sent(INSIDE, SERVER_MAC, "10.1.0.2:5000", S));
    assert_eq!(t.one(1, tcp(S, "10.1.0.2:5000", "PA"), INSIDE), sent(OUTSIDE, ROUTER_MAC, VIP, C));
    assert_eq!(t.director.traffic(ServerId(0)).out_packets, 2);
    t.director.table.list(|slot| {
        let row = slot.row(t.now.tick());
        assert_eq!(row.local.map(|local| local.to_string()).as_deref(), Some("10.1.0.2:5000"));
        assert_eq!((row.client.to_string(), row.server.to_string()), (C.into(), S.into()));
    });
    // Nobody's: the server is told, as by a host without the connection.
    assert_eq!(t.tcp(S, "10.1.0.2:5001", "A"), Err(DropReason::NoService));
}

#[test]
fn udp_and_sctp_too() {
    for protocol in [Protocol::Udp, Protocol::Sctp] {
        let mut t = Table::new(&[pool(protocol, &[(S, 1)], locals(&["10.1.0.2"], "5000"))]);
        let (there, back) = if protocol == Protocol::Udp {
            (
                t.one(0, udp(C, VIP, b"question"), OUTSIDE),
                t.one(1, udp(S, "10.1.0.2:5000", b"answer"), INSIDE),
            )
        } else {
            (t.sctp(C, VIP, &[1]), t.sctp(S, "10.1.0.2:5000", &[2]))
        };
        assert_eq!(there, sent(INSIDE, SERVER_MAC, "10.1.0.2:5000", S));
        assert_eq!(back, sent(OUTSIDE, ROUTER_MAC, VIP, C));
    }
}

#[test]
fn of_ipv6_too_and_its_reset_goes_ahead() {
    let (client, vip, server, local) =
        ("[2001:db8:7::7]:40000", "[2001:db8::100]:80", "[fd00:1::11]:8080", "[fd00:1::2]:5000");
    let mut pool = service(Protocol::Tcp, vip, Method::FullNat, &[(server, 1)]);
    pool.service.locals = locals(&["10.1.0.2", "fd00:1::2"], "5000");
    let mut t = Table::new(&[pool]);
    assert_eq!(t.tcp(client, vip, "S"), sent(INSIDE, SERVER_MAC, local, server));
    assert_eq!(t.tcp(server, local, "SA"), sent(OUTSIDE, ROUTER_MAC, vip, client));
    t.tcp(client, vip, "A").unwrap();
    t.tcp(server, local, "FA").unwrap();
    t.tcp(client, vip, "FA").unwrap();
    let (verdict, reset) = t.batch(0, &[tcp("[2001:db8:7::8]:1", vip, "S")], OUTSIDE).remove(0);
    assert_eq!((verdict, reset[14 + 40 + 13]), (Verdict::Transmit(INSIDE), 4));
    let (port, syn) = t.made.pop().unwrap();
    for frame in [&reset, &syn] {
        let sent = read(frame, port);
        assert_eq!((sent.from.as_str(), sent.to.as_str()), (local, server));
    }
}

#[test]
fn one_address_carries_all_its_ports_to_each_server_and_not_one_more() {
    let servers = [(S, 1), ("10.1.0.12:8080", 1), ("10.1.0.12:8081", 1)];
    let mut t = Table::new(&[pool(Protocol::Tcp, &servers, locals(&["10.1.0.2"], "5000-5099"))]);
    let mut seen = HashSet::new();
    for n in 0..300 {
        let out = t.tcp(&format!("192.0.2.{}:{}", n % 5 + 1, 1000 + n), VIP, "S").unwrap();
        assert!((5000..5100).contains(&port(&out.from)) && seen.insert((out.from, out.to)));
    }
    assert_eq!(t.tcp(C, VIP, "S"), Err(DropReason::LocalPorts));
    assert_eq!(t.director.table.len(), 300);
}

#[test]
fn without_a_port_the_client_is_told_that_no_server_is_there() {
    let mut t = table("5000");
    t.tcp("192.0.2.8:1", VIP, "S").unwrap();
    let (verdict, frame) = t.batch(0, &[tcp(C, VIP, "S")], OUTSIDE).remove(0);
    assert_eq!(verdict, Verdict::Answer(OUTSIDE, DropReason::LocalPorts));
    assert_eq!(read_answer(&frame), "10.0.0.100 tells 192.0.2.7: type 3 code 3");
    assert_eq!((t.counts(t.id("tcp:10.0.0.100:80", S)), t.director.table.len()), ((1, 0), 1));
}

#[test]
fn a_port_is_free_again_when_its_connection_has_ended() {
    let mut t = table("5000-5001");
    t.tcp("192.0.2.8:1", VIP, "S").unwrap();
    t.tcp("192.0.2.8:2", VIP, "S").unwrap();
    assert_eq!(t.tcp(C, VIP, "S"), Err(DropReason::LocalPorts));
    t.pass(61);
    assert!(t.director.table.is_empty());
    t.tcp(C, VIP, "S").unwrap();
    t.tcp("192.0.2.8:2", VIP, "S").unwrap();
    assert_eq!(t.tcp("192.0.2.8:3", VIP, "S"), Err(DropReason::LocalPorts));
}

#[test]
fn a_port_rests_as_long_as_there_are_others_and_addresses_take_turns() {
    let locals = locals(&["10.1.0.2", "10.1.0.3"], "5000-5049");
    let mut t = Table::new(&[pool(Protocol::Tcp, &[(S, 1)], locals)]);
    let mut used = Vec::new();
    for n in 0..300 {
        let client = format!("192.0.2.9:{}", 1000 + n);
        let local = t.tcp(&client, VIP, "S").unwrap().from;
        t.tcp(S, &local, "R").unwrap();
        used.push(local);
        t.pass(11);
    }
    assert!(t.director.table.is_empty());
    for (n, local) in used.iter().enumerate() {
        let before = used[..n].iter().rposition(|other| other == local);
        assert!(before.is_none_or(|before| n - before == 100), "{local} after {:?}", before.map(|b| n - b));
        assert!(n == 0 || used[n - 1].split(':').next() != local.split(':').next(), "the other address");
    }
}

#[test]
fn a_connection_that_is_over_makes_room_behind_a_reset_of_it() {
    let mut t = table("5000");
    t.tcp("192.0.2.8:1", VIP, "S").unwrap();
    close(&mut t, "192.0.2.8:1", "10.1.0.2:5000");
    let reset = t.forwarded(&tcp(C, VIP, "S"));
    // The FIN had number 7 and 25 bytes of text.
    let sliced = etherparse::SlicedPacket::from_ethernet(&reset).unwrap();
    let Some(etherparse::TransportSlice::Tcp(tcp_header)) = &sliced.transport else { panic!("{sliced:?}") };
    assert!(tcp_header.rst() && !tcp_header.syn());
    assert_eq!(tcp_header.sequence_number(), 7 + 25 + 1);
    let way = ("10.1.0.2:5000".to_owned(), S.to_owned());
    let first = read(&reset, INSIDE);
    assert_eq!((first.from, first.to, first.dst_mac), (way.0.clone(), way.1.clone(), SERVER_MAC));
    let (port, syn) = t.made.pop().unwrap();
    let second = read(&syn, port);
    assert_eq!((second.from, second.to, second.port, second.ttl), (way.0, way.1, INSIDE, 63));
    assert_eq!(t.states(), [(C.to_owned(), State::SynRecv)]);
    assert_eq!(t.tcp(S, "10.1.0.2:5000", "SA").unwrap().to, C);
    assert!(t.made.is_empty());
    // One that was reset is over for its server too: nothing goes ahead.
    t.tcp(C, VIP, "R").unwrap();
    t.tcp(S, "10.1.0.2:5000", "R").unwrap();
    assert_eq!(t.tcp("192.0.2.8:2", VIP, "S").unwrap().from, "10.1.0.2:5000");
    assert!(t.made.is_empty());
}

#[test]
fn what_a_server_says_of_the_connection_before_opens_nothing() {
    let mut t = table("5000");
    let client = |n| format!("192.0.2.8:{n}");
    t.tcp(&client(1), VIP, "S").unwrap();
    let local = "10.1.0.2:5000";
    t.tcp(S, local, "SA").unwrap();
    t.tcp(&client(1), VIP, "A").unwrap();
    t.tcp(S, local, "FA").unwrap();
    t.tcp(&client(1), VIP, "FA").unwrap();
    // Its FIN comes once more, and its last acknowledgement late: the port is another one's, who resets what it does
    // not know.
    t.tcp(&client(2), VIP, "S").unwrap();
    for (from, to, flags) in [(S, local, "FA"), (S, local, "A"), (&client(2), VIP, "R"), (S, local, "SA")] {
        t.tcp(from, to, flags).unwrap();
        assert_eq!(t.states(), [(client(2), State::SynRecv)], "after {flags}");
    }
    t.tcp(&client(2), VIP, "A").unwrap();
    assert_eq!(t.states(), [(client(2), State::Established)]);
    // And what the server says then counts: it closes.
    t.tcp(S, local, "FA").unwrap();
    assert_eq!(t.states(), [(client(2), State::FinWait)]);
    assert_eq!(t.director.table.len(), 1);
}

#[test]
fn a_client_that_uses_its_port_again_gets_another_local_port() {
    let mut t = table("5000-5009");
    let first = t.tcp(C, VIP, "S").unwrap().from;
    close(&mut t, C, &first);
    let second = t.tcp(C, VIP, "S").unwrap().from;
    assert_ne!(first, second);
    assert_eq!((t.director.table.len(), t.tcp(S, &first, "A")), (1, Err(DropReason::NoService)));
}

/// A card with this key, whose table leads to four queues, and what it hashes.
fn card(hashed: Hashed) -> Rss {
    let key: Vec<u8> = (0..40u8).map(|n| n.wrapping_mul(151) ^ 0x6d).collect();
    let queues: Vec<u32> = (0..128).map(|n| (n * 7 + n / 5) % 4).collect();
    Rss::new(&key, &queues, [[hashed; 3]; 2]).unwrap()
}

#[test]
fn replies_come_to_the_queue_of_the_worker_that_opened_the_connection() {
    let servers = [(S, 1), ("10.1.0.12:8080", 1)];
    let pool = pool(Protocol::Tcp, &servers, locals(&["10.1.0.2", "10.1.0.3"], "1024-65535"));
    let mut t = Table::sized(&[pool], 4096, 4);
    t.hops.rss = Some(card(Hashed::Ports));
    for n in 0..1000 {
        let worker = n % 4;
        let syn = tcp(&format!("192.0.2.{}:{}", n % 200 + 1, 1000 + n), VIP, "S");
        let sent = t.one(worker, syn, OUTSIDE).unwrap();
        let queue =
            t.hops.rss.as_ref().unwrap().queue(6, sent.to.parse().unwrap(), sent.from.parse().unwrap());
        assert_eq!(queue, u32::try_from(worker).ok(), "{} -> {}", sent.to, sent.from);
    }
}

#[test]
fn where_the_card_leaves_no_choice_replies_come_across_queues_and_no_port_is_lost() {
    for hashed in [Hashed::Ports, Hashed::Addresses, Hashed::Unknown] {
        let mut t =
            Table::sized(&[pool(Protocol::Tcp, &[(S, 1)], locals(&["10.1.0.2"], "5000-5039"))], 64, 4);
        t.hops.rss = Some(card(hashed));
        for n in 0..40 {
            let sent = t.one(3, tcp(&format!("192.0.2.1:{}", 1000 + n), VIP, "S"), OUTSIDE).unwrap();
            let answer = t.one(n % 4, tcp(S, &sent.from, "SA"), INSIDE).unwrap();
            assert_eq!((answer.from.as_str(), answer.to), (VIP, format!("192.0.2.1:{}", 1000 + n)));
        }
        assert_eq!(t.one(3, tcp(C, VIP, "S"), OUTSIDE), Err(DropReason::LocalPorts));
    }
}

#[test]
fn errors_are_told_from_and_to_addresses_that_both_ends_know() {
    let mut t = table("5000");
    t.tcp(C, VIP, "S").unwrap();
    let mut relayed = |router: &str, about: &[u8], side| {
        let Told { who, about, by, .. } =
            relay(&mut t, icmp_error(router, (3, 4), 1400, about, 548), side).unwrap();
        assert_ne!(by.0, side);
        format!("{who} of {about}")
    };
    // A router on the way to the server.
    let said = relayed("10.1.0.9", &tcp("10.1.0.2:5000", S, "A"), INSIDE);
    assert_eq!(said, format!("10.0.0.100 tells 192.0.2.7 of {C} -> {VIP}"));
    // One on the way to the client, which the server need not know.
    let said = relayed("198.51.100.1", &tcp(VIP, C, "A"), OUTSIDE);
    assert_eq!(said, format!("10.1.0.2 tells 10.1.0.11 of {S} -> 10.1.0.2:5000"));
}

#[test]
fn datagrams_in_fragments_go_both_ways() {
    let mut t = Table::new(&[pool(Protocol::Udp, &[(S, 1)], locals(&["10.1.0.2"], "5000"))]);
    let split = |whole: Vec<u8>, id: u16| cut(&numbered(whole, id), 1000);
    let addresses = |frame: &[u8]| {
        let header = etherparse::Ipv4HeaderSlice::from_slice(&frame[14..]).unwrap();
        assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
        (header.source_addr().to_string(), header.destination_addr().to_string())
    };
    let text = [0x5a; 1500];
    for (from, to, side, other, way) in [
        (C, VIP, OUTSIDE, INSIDE, ("10.1.0.2", "10.1.0.11")),
        (S, "10.1.0.2:5000", INSIDE, OUTSIDE, ("10.0.0.100", "192.0.2.7")),
    ] {
        for (verdict, frame) in t.batch(0, &split(udp(from, to, &text), 9), side) {
            assert_eq!(verdict, Verdict::Transmit(other));
            assert_eq!(addresses(&frame), (way.0.to_owned(), way.1.to_owned()));
        }
    }
}

#[test]
fn persistence_leads_there_and_a_server_that_goes_is_drained_or_reset() {
    let servers = [("10.1.0.12:8080", 1), (S, 1)];
    let with = |switch: bool| {
        let mut pool = persistent(pool(Protocol::Tcp, &servers, locals(&["10.1.0.2"], "5000-5099")), 300);
        pool.service.switches.reset_on_removal = switch;
        Table::new(&[pool])
    };
    let mut t = with(true);
    let first = t.tcp(C, VIP, "S").unwrap();
    let again = t.tcp("192.0.2.7:40001", VIP, "S").unwrap();
    assert_eq!(first.to, again.to);
    assert_ne!(first.from, again.from);
    t.tcp(&first.to, &first.from, "SA").unwrap();
    t.weigh("tcp:10.0.0.100:80", &first.to, 0);
    assert_eq!(t.tcp(C, VIP, "A").unwrap().from, first.from, "drained: what it has goes on");
    t.take_out("tcp:10.0.0.100:80", &first.to);
    assert_eq!(t.tcp(C, VIP, "A"), Err(DropReason::ServerGone));
    let (verdict, frame) = t.batch(0, &[tcp(&first.to, &first.from, "A")], INSIDE).remove(0);
    assert_eq!(verdict, Verdict::Answer(INSIDE, DropReason::ServerGone));
    assert_eq!(read_answer(&frame), format!("{} resets {}", first.from, first.to));
}

#[test]
fn what_it_needs_is_asked_for() {
    let mut t = table("5000");
    let key = "tcp:10.0.0.100:80".parse().unwrap();
    let mut wanted = t.director.services.load().get(&key).unwrap().service;
    t.change(|draft| {
        wanted.locals = Locals::default();
        let refused = draft.edit_service(wanted);
        assert!(matches!(refused, Err(Refused::NoLocalAddress { .. })), "{refused:?}");
        wanted.locals = locals(&["2001:db8::1"], "5000");
        let refused = draft.edit_service(wanted);
        assert!(matches!(refused, Err(Refused::NoLocalAddress { .. })), "of the servers' family");
        // All at once it can be had, in either direction.
        let nat = service(Protocol::Tcp, VIP, Method::Nat, &[(S, 1)]);
        draft.replace(std::slice::from_ref(&nat)).unwrap();
        let refused = draft.add_server(key, Server::new("10.1.0.12:80".parse().unwrap(), Method::FullNat));
        assert!(matches!(refused, Err(Refused::NoLocalAddress { .. })), "{refused:?}");
        draft.replace(&[pool(Protocol::Tcp, &[(S, 1)], locals(&["10.1.0.2"], "5000"))]).unwrap();
        let mut one = pool(Protocol::Udp, &[(S, 1)], locals(&["10.1.0.2"], "5000"));
        one.service.one_packet = true;
        assert!(matches!(draft.replace(&[one]), Err(Refused::OnePacketFullNat(_))));
        draft.replace(&[nat])
    });
    assert_eq!(LOCAL_PORTS, Ports { first: 1024, last: 65_535 });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever comes and goes, on whichever worker: no two connections have the same local address and port to the same
    /// server, and none is refused while one is free.
    #[test]
    fn ports_are_unique_and_exhausted_exactly(
        steps in proptest::collection::vec((0u8..40, 0u8..4, 0usize..2), 1..200),
        lips in 1usize..3,
    ) {
        let lips = &["10.1.0.2", "10.1.0.3"][..lips];
        let servers = [(S, 1), ("10.1.0.12:8080", 1)];
        let mut t = Table::new(&[pool(Protocol::Tcp, &servers, locals(lips, "5000-5004"))]);
        let room = 5 * lips.len();
        for (client, what, worker) in steps {
            let client = format!("192.0.2.1:{}", 1000 + u16::from(client));
            if what == 3 {
                t.pass(20);
                continue;
            }
            let mut held: Vec<(String, String)> = Vec::new();
            let mut known = false;
            t.director.table.list(|slot| {
                let row = slot.row(t.now.tick());
                known |= row.client.to_string() == client;
                held.push((row.local.unwrap().to_string(), row.server.to_string()));
            });
            let distinct: HashSet<_> = held.iter().collect();
            prop_assert_eq!(distinct.len(), held.len());
            let outcome = t.one(worker, tcp(&client, VIP, "S"), OUTSIDE);
            if known {
                prop_assert!(outcome.is_ok());
                continue;
            }
            let full = |server: &str| held.iter().filter(|(_, to)| to == server).count() == room;
            match outcome {
                Ok(sent) => prop_assert!(!held.contains(&(sent.from, sent.to))),
                Err(reason) => {
                    prop_assert_eq!(reason, DropReason::LocalPorts);
                    prop_assert!(full(S) || full("10.1.0.12:8080"), "{:?}", held);
                }
            }
        }
    }
}
