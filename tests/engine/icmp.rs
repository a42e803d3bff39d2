//! ICMP errors on their way through the director: to whom, in whose name, about which packet.

use proptest::prelude::*;
use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::forward::hops::Route;
use xvs::director::service::{Method, Pool, Protocol};
use xvs::director::stats::Traffic;
use xvs::packet::checksum;

use crate::table::*;

const C: &str = "192.0.2.7:40000";
const VIP: &str = "10.0.0.100:80";
const DNS: &str = "10.0.0.100:53";
const DR: &str = "10.0.0.101:80";
const S: &str = "10.1.0.11:8080";
const DNS_S: &str = "10.1.0.12:5353";
/// Routers on both sides.
const OUTER: &str = "198.51.100.1";
const INNER: &str = "10.1.0.99";
/// IP and ICMP header of an error.
const HEADERS: u16 = 28;

fn services() -> Vec<Pool> {
    vec![
        service(Protocol::Tcp, VIP, Method::Nat, &[(S, 1)]),
        service(Protocol::Udp, DNS, Method::Nat, &[(DNS_S, 1)]),
        service(Protocol::Tcp, DR, Method::Dr, &[("10.1.0.13:80", 1)]),
    ]
}

/// A director with a connection to each service.
fn opened() -> Table {
    let mut t = Table::new(&services());
    t.tcp(C, VIP, "S").unwrap();
    t.tcp(S, C, "SA").unwrap();
    t.one(0, udp(C, DNS, b"question"), OUTSIDE).unwrap();
    t.tcp(C, DR, "S").unwrap();
    t
}

/// An error of this type and code about what `quoted` holds behind its Ethernet header, up to `len` bytes of it.
fn error(from: &str, kind: (u8, u8), quoted: &[u8], len: usize) -> Vec<u8> {
    icmp_error(from, kind, if kind == (3, 4) { 1400 } else { 0 }, quoted, len)
}

/// One that quotes all of it.
fn frag_needed(from: &str, quoted: &[u8]) -> Vec<u8> {
    error(from, (3, 4), quoted, 548)
}

fn traffic(t: &Table, service: &str, server: &str) -> Traffic {
    t.director.traffic(xvs::director::server::ServerId(t.id(service, server)))
}

#[test]
fn what_clients_and_routers_say_of_a_reply_goes_to_the_nat_server_about_its_own_packet() {
    let mut t = opened();
    for (from, reply) in [("192.0.2.7", tcp(VIP, C, "A")), (OUTER, tcp(VIP, C, "A"))] {
        let expected = Told {
            who: format!("{from} tells 10.1.0.11"),
            about: format!("{S} -> {C}"),
            ttl: 59,
            by: (INSIDE, [2, 0, 0, 0, 0xa, 11]),
        };
        assert_eq!(relay(&mut t, frag_needed(from, &reply), OUTSIDE), Ok(expected));
    }
    let about_udp = relay(&mut t, error("192.0.2.7", (3, 3), &udp(DNS, C, b"answer"), 548), OUTSIDE).unwrap();
    assert_eq!(
        (about_udp.who.as_str(), about_udp.about.as_str()),
        ("192.0.2.7 tells 10.1.0.12", "10.1.0.12:5353 -> 192.0.2.7:40000",)
    );
}

#[test]
fn what_servers_and_routers_say_of_a_request_goes_to_the_client_in_the_vips_name() {
    let mut t = opened();
    for (from, kind) in [("10.1.0.12", (3, 3)), (INNER, (11, 0)), (INNER, (4, 0))] {
        let expected = Told {
            who: "10.0.0.100 tells 192.0.2.7".into(),
            about: format!("{C} -> {DNS}"),
            ttl: 59,
            by: (OUTSIDE, ROUTER_MAC),
        };
        assert_eq!(relay(&mut t, error(from, kind, &udp(C, DNS_S, b"question"), 548), INSIDE), Ok(expected));
    }
    let about_tcp = relay(&mut t, frag_needed(INNER, &tcp(C, S, "A")), INSIDE).unwrap();
    assert_eq!(
        (about_tcp.who.as_str(), about_tcp.about.as_str()),
        ("10.0.0.100 tells 192.0.2.7", "192.0.2.7:40000 -> 10.0.0.100:80",)
    );
}

#[test]
fn a_dr_server_gets_the_error_as_it_came() {
    let mut t = opened();
    let before = frag_needed(OUTER, &tcp(DR, C, "A"));
    let after = t.forwarded(&before);
    assert_eq!(&after[..12], &[[2, 0, 0, 0, 0xa, 13], INSIDE_MAC].concat());
    // TTL and header checksum.
    assert_eq!((after[22], &after[26..]), (59, &before[26..]));
    assert_eq!(checksum::of(&after[14..34]), 0);
}

#[test]
fn an_error_counts_as_a_packet_and_keeps_nothing_alive() {
    let mut t = opened();
    let before = traffic(&t, "udp:10.0.0.100:53", DNS_S);
    t.pass(100);
    let states = t.states();
    // The shortest quotes there are.
    for (from, quoted, to) in
        [("10.1.0.12", udp(C, DNS_S, b"?"), OUTSIDE), (OUTER, udp(DNS, C, b"!"), INSIDE)]
    {
        let frame = error(from, (3, 1), &quoted, 28);
        assert_eq!(t.batch(1, &[frame], OUTSIDE).remove(0).0, Verdict::Transmit(to));
    }
    let after = traffic(&t, "udp:10.0.0.100:53", DNS_S);
    let bytes = u64::from(HEADERS) + 28;
    let expected =
        Traffic { in_packets: 1, in_bytes: bytes, out_packets: 1, out_bytes: bytes, connections: 0 };
    assert_eq!(after - before, expected);
    assert_eq!(t.states(), states);
    let row = t.rows(false).into_iter().find(|row| row.starts_with("UDP")).unwrap();
    assert!(row.starts_with("UDP 03:2") || row.starts_with("UDP 03:1"), "not renewed: {row}");
}

#[test]
fn a_removed_servers_connection_still_has_its_errors_and_they_do_not_count() {
    let mut t = opened();
    let before = traffic(&t, "udp:10.0.0.100:53", DNS_S);
    let id = t.id("udp:10.0.0.100:53", DNS_S);
    t.take_out("udp:10.0.0.100:53", DNS_S);
    relay(&mut t, frag_needed("10.1.0.12", &udp(C, DNS_S, b"question")), INSIDE).unwrap();
    relay(&mut t, frag_needed(OUTER, &udp(DNS, C, b"answer")), OUTSIDE).unwrap();
    assert_eq!(t.director.traffic(xvs::director::server::ServerId(id)), before);
}

#[test]
fn what_is_not_relayed_has_its_reason() {
    let mut t = opened();
    let reply = tcp(VIP, C, "A");
    let mut relay = |frame| relay(&mut t, frame, OUTSIDE).unwrap_err();
    for kind in [(0, 0), (5, 1), (8, 0), (12, 0)] {
        assert_eq!(relay(error(OUTER, kind, &reply, 548)), DropReason::Icmp, "{kind:?}");
    }
    assert_eq!(relay(frag_needed(OUTER, &tcp(VIP, "192.0.2.7:1", "A"))), DropReason::IcmpUnrelated);
    assert_eq!(relay(frag_needed(OUTER, &tcp("10.0.0.101:53", C, "A"))), DropReason::IcmpUnrelated);
    assert_eq!(relay(frag_needed(OUTER, &tcp("10.0.0.100:81", C, "A"))), DropReason::IcmpUnrelated);
    assert_eq!(relay(error(OUTER, (3, 4), &reply, 23)), DropReason::IcmpQuote);
    let mut wrong = frag_needed(OUTER, &reply);
    wrong[70] ^= 1;
    assert_eq!(relay(wrong), DropReason::IcmpChecksum);
    let mut fragment = frag_needed(OUTER, &reply);
    fragment[20] = 0x20;
    mend_ip(&mut fragment);
    assert_eq!(relay(fragment), DropReason::Fragment);
}

#[test]
fn an_error_about_a_packet_to_a_nat_server_itself_is_routed_on_as_it_is() {
    let mut t = opened();
    t.tune("nat_icmp_send", 1);
    let before = frag_needed(INNER, &tcp("192.0.2.8:1", S, "A"));
    let (verdict, after) = t.batch(0, std::slice::from_ref(&before), INSIDE).remove(0);
    assert_eq!((verdict, &after[..6]), (Verdict::Transmit(OUTSIDE), &ROUTER_MAC[..]));
    assert_eq!((after[22], &after[26..]), (59, &before[26..]));
    assert_eq!(t.director.stats[0].strays(), 1);
}

#[test]
fn nobody_is_told_that_an_error_goes_no_further() {
    let mut t = opened();
    let with_ttl_1 = |mut frame: Vec<u8>| {
        frame[22] = 1;
        mend_ip(&mut frame);
        frame
    };
    let reply = tcp(VIP, C, "A");
    let last = with_ttl_1(frag_needed(OUTER, &reply));
    assert_eq!(relay(&mut t, last, OUTSIDE), Err(DropReason::TtlExpired));
    t.hops.mtu = 60;
    assert_eq!(relay(&mut t, frag_needed(OUTER, &reply), OUTSIDE), Err(DropReason::TooBig));
    t.hops.mtu = 1500;
    t.hops.client_route = Route::Unreachable;
    t.hops.generation += 1;
    assert_eq!(relay(&mut t, frag_needed(INNER, &tcp(C, S, "A")), INSIDE), Err(DropReason::NoRoute));
}

#[test]
fn with_schedule_icmp_an_error_begins_a_connection() {
    let mut t = Table::new(&services());
    let reply = udp(DNS, C, b"answer");
    assert_eq!(relay(&mut t, frag_needed(OUTER, &reply), OUTSIDE), Err(DropReason::IcmpUnrelated));
    t.tune("schedule_icmp", 1);
    let told = relay(&mut t, frag_needed(OUTER, &reply), OUTSIDE).unwrap();
    assert_eq!(
        (told.who, told.about),
        ("198.51.100.1 tells 10.1.0.12".into(), "10.1.0.12:5353 -> 192.0.2.7:40000".into(),)
    );
    assert_eq!(t.rows(false), ["UDP 00:02 UDP 192.0.2.7:40000 10.0.0.100:53 10.1.0.12:5353"]);
    assert_eq!(traffic(&t, "udp:10.0.0.100:53", DNS_S).connections, 1);
    // A packet of its own makes it one like any other, within the same tick too.
    t.one(0, udp(C, DNS, b"question"), OUTSIDE).unwrap();
    assert_eq!(t.rows(false), ["UDP 05:00 UDP 192.0.2.7:40000 10.0.0.100:53 10.1.0.12:5353"]);

    relay(&mut t, frag_needed(OUTER, &tcp(DR, C, "A")), OUTSIDE).unwrap();
    let id = t.id("tcp:10.0.0.101:80", "10.1.0.13:80");
    assert_eq!(t.counts(id), (0, 1), "inactive as every one before its first packet");
    t.pass(4);
    assert_eq!((t.rows(false).len(), t.counts(id)), (1, (0, 0)), "without a packet it is gone");
}

#[test]
fn with_schedule_icmp_and_no_server_nobody_is_told() {
    let mut t = Table::new(&[service(Protocol::Tcp, VIP, Method::Nat, &[(S, 0)])]);
    t.tune("schedule_icmp", 1);
    assert_eq!(relay(&mut t, frag_needed(OUTER, &tcp(VIP, C, "A")), OUTSIDE), Err(DropReason::NoServer));
    let other = frag_needed(OUTER, &tcp("10.0.0.100:81", C, "A"));
    assert_eq!(relay(&mut t, other, OUTSIDE), Err(DropReason::IcmpUnrelated));
    assert!(t.rows(false).is_empty());
}

#[test]
fn with_one_packet_scheduling_an_error_leaves_no_connection() {
    let mut pool = service(Protocol::Udp, DNS, Method::Nat, &[(DNS_S, 1)]);
    pool.service.one_packet = true;
    let mut t = Table::new(&[pool]);
    t.tune("schedule_icmp", 1);
    let told = relay(&mut t, frag_needed(OUTER, &udp(DNS, C, b"answer")), OUTSIDE).unwrap();
    assert_eq!(told.about, "10.1.0.12:5353 -> 192.0.2.7:40000");
    assert!(t.rows(false).is_empty());
    let traffic = traffic(&t, "udp:10.0.0.100:53", DNS_S);
    assert_eq!((traffic.connections, traffic.in_packets), (1, 1));
}

/// An error, damaged: cut, some bytes changed, and its checksums mended or not.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let frames = vec![
        frag_needed(OUTER, &tcp(VIP, C, "A")),
        error(OUTER, (3, 3), &udp(DNS, C, b"answer"), 28),
        error(INNER, (11, 0), &udp(C, DNS_S, b"question"), 548),
        frag_needed(OUTER, &tcp(DR, C, "A")),
    ];
    let damage = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (prop::sample::select(frames), damage, any::<prop::sample::Index>(), 0u8..4).prop_map(
        |(mut frame, damage, cut, how)| {
            for (at, byte) in damage {
                let at = at.index(frame.len());
                frame[at] = byte;
            }
            if how & 1 != 0 {
                frame.truncate(cut.index(frame.len()) + 1);
            }
            if how & 2 != 0 && frame.len() > 42 {
                let len = u16::try_from(frame.len() - 14).unwrap();
                frame[16..18].copy_from_slice(&len.to_be_bytes());
                for (at, of) in [(36, 34..frame.len()), (24, 14..34)] {
                    frame[at..at + 2].fill(0);
                    let sum = checksum::of(&frame[of]);
                    frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
                }
            }
            frame
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever is left of an error: it is relayed with right checksums of its own, or has a reason and is left alone.
    #[test]
    fn any_error_has_a_verdict(frame in damaged(), schedules: bool) {
        let mut t = opened();
        t.tune("schedule_icmp", u32::from(schedules));
        let dropped = |t: &Table| t.director.drops().iter().map(|(_, n)| n).sum::<u64>();
        let before = dropped(&t);
        let (verdict, after) = t.batch(0, std::slice::from_ref(&frame), OUTSIDE).remove(0);
        // What is no ICMP any more may be answered.
        prop_assert!(after.len() == frame.len() || matches!(verdict, Verdict::Answer(..)));
        match verdict {
            Verdict::Transmit(_) if after[23] == 1 => {
                let header = usize::from(after[14] & 0xf) * 4;
                let end = 14 + usize::from(u16::from_be_bytes([after[16], after[17]]));
                prop_assert_eq!(checksum::of(&after[14..14 + header]), 0);
                prop_assert_eq!(checksum::of(&after[14 + header..end]), 0);
            }
            Verdict::Transmit(_) => {}
            Verdict::Drop(_) => {
                prop_assert_eq!(after, frame);
                prop_assert_eq!(dropped(&t), before + 1);
            }
            Verdict::Answer(..) => prop_assert_ne!(frame[23], 1, "an error about an error"),
            Verdict::Keep => prop_assert!(false, "no fragment"),
        }
    }
}
