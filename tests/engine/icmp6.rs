//! ICMPv6 errors on their way through the director, as `icmp` has it for IPv4; and what is none.

use std::net::Ipv6Addr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;
use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::forward::hops::Route;
use xvs::director::server::ServerId;
use xvs::director::service::{Method, Pool, Protocol, Tunnel};
use xvs::packet::checksum;

use crate::table::*;

const C: &str = "[2001:db8:7::7]:40000";
const VIP: &str = "[2001:db8::100]:80";
const DNS: &str = "[2001:db8::100]:53";
const DR: &str = "[2001:db8::101]:80";
const TUN: &str = "[2001:db8::102]:80";
const S: &str = "[fd00:1::11]:8080";
const DNS_S: &str = "[fd00:1::12]:5353";
/// Routers on both sides.
const OUTER: &str = "2001:db8:5::1";
const INNER: &str = "fd00:1::99";
const MTU: u32 = 1400;
/// IPv6 and ICMPv6 header of an error, and the Ethernet header in front.
const HEADERS: usize = 48;
const HEAD: usize = 54;

fn services() -> Vec<Pool> {
    vec![
        service(Protocol::Tcp, VIP, Method::Nat, &[(S, 1)]),
        service(Protocol::Udp, DNS, Method::Nat, &[(DNS_S, 1)]),
        service(Protocol::Tcp, DR, Method::Dr, &[("[fd00:1::13]:80", 1)]),
        service(Protocol::Tcp, TUN, Method::Tun(Tunnel::Ipip), &[("[fd00:1::14]:80", 1)]),
    ]
}

/// A director with a connection to each service.
fn opened() -> Table {
    let mut t = Table::new(&services());
    t.tcp(C, VIP, "S").unwrap();
    t.tcp(S, C, "SA").unwrap();
    t.one(0, udp(C, DNS, b"question"), OUTSIDE).unwrap();
    t.tcp(C, DR, "S").unwrap();
    assert_eq!(t.batch(0, &[tcp(C, TUN, "S")], OUTSIDE)[0].0, Verdict::Transmit(INSIDE));
    t
}

/// An error of this type and code about what `quoted` holds behind its Ethernet header, up to `len` bytes of it.
fn error(from: &str, kind: (u8, u8), quoted: &[u8], len: usize) -> Vec<u8> {
    icmp_error(from, kind, if kind.0 == 2 { MTU } else { 0 }, quoted, len)
}

/// One that quotes all of it.
fn too_big(from: &str, quoted: &[u8]) -> Vec<u8> {
    error(from, (2, 0), quoted, 1232)
}

/// Puts eight bytes of extension header in front of what is behind the IPv6 header.
fn behind(mut frame: Vec<u8>, number: u8, rest: [u8; 7]) -> Vec<u8> {
    let next = std::mem::replace(&mut frame[20], number);
    frame.splice(HEAD..HEAD, [&[next][..], &rest].concat());
    let len = u16::try_from(frame.len() - HEAD).unwrap();
    frame[18..20].copy_from_slice(&len.to_be_bytes());
    frame
}

#[test]
fn what_clients_and_routers_say_of_a_reply_goes_to_the_nat_server_about_its_own_packet() {
    let mut t = opened();
    let options = |frame| behind(frame, 60, [0, 1, 4, 0, 0, 0, 0]);
    for (from, reply) in
        [("2001:db8:7::7", tcp(VIP, C, "A")), (OUTER, tcp(VIP, C, "A")), (OUTER, options(tcp(VIP, C, "A")))]
    {
        let expected = || Told {
            who: format!("{from} tells fd00:1::11"),
            about: format!("{S} -> {C}"),
            ttl: 59,
            by: (INSIDE, [2, 0, 0, 0, 0xa, 11]),
        };
        assert_eq!(relay(&mut t, too_big(from, &reply), OUTSIDE), Ok(expected()));
        assert_eq!(relay(&mut t, options(too_big(from, &reply)), OUTSIDE), Ok(expected()), "behind options");
    }
    let about_udp =
        relay(&mut t, error("2001:db8:7::7", (1, 4), &udp(DNS, C, b"answer"), 548), OUTSIDE).unwrap();
    assert_eq!(about_udp.who, "2001:db8:7::7 tells fd00:1::12");
    assert_eq!(about_udp.about, format!("{DNS_S} -> {C}"));
}

#[test]
fn what_servers_and_routers_say_of_a_request_goes_to_the_client_in_the_vips_name() {
    let mut t = opened();
    for (from, kind) in [("fd00:1::12", (1, 4)), (INNER, (3, 0)), (INNER, (4, 1)), (INNER, (1, 0))] {
        let expected = Told {
            who: "2001:db8::100 tells 2001:db8:7::7".into(),
            about: format!("{C} -> {DNS}"),
            ttl: 59,
            by: (OUTSIDE, ROUTER_MAC),
        };
        assert_eq!(relay(&mut t, error(from, kind, &udp(C, DNS_S, b"question"), 548), INSIDE), Ok(expected));
    }
    let about_tcp = relay(&mut t, too_big(INNER, &tcp(C, S, "A")), INSIDE).unwrap();
    assert_eq!(about_tcp.about, format!("{C} -> {VIP}"));
}

#[test]
fn servers_by_dr_and_tun_get_the_error_as_it_came() {
    let mut t = opened();
    for (vip, mac, overhead) in [(DR, 13, 0), (TUN, 14, 40)] {
        let before = too_big(OUTER, &tcp(vip, C, "A"));
        let after = t.forwarded(&before);
        assert_eq!(&after[..12], &[[2, 0, 0, 0, 0xa, mac], INSIDE_MAC].concat());
        let inner = &after[14 + overhead..];
        // The hop limit.
        assert_eq!((inner[7], &inner[..7], &inner[8..]), (59, &before[14..21], &before[22..]));
    }
}

#[test]
fn an_error_counts_as_a_packet_and_keeps_nothing_alive() {
    let mut t = opened();
    let id = ServerId(t.id("udp:[2001:db8::100]:53", DNS_S));
    let before = t.director.traffic(id);
    t.pass(100);
    let states = t.states();
    // The shortest quotes there are.
    for (from, quoted, to) in
        [("fd00:1::12", udp(C, DNS_S, b"?"), OUTSIDE), (OUTER, udp(DNS, C, b"!"), INSIDE)]
    {
        let frame = error(from, (1, 3), &quoted, 48);
        assert_eq!(t.batch(1, &[frame], OUTSIDE).remove(0).0, Verdict::Transmit(to));
    }
    let counted = t.director.traffic(id) - before;
    assert_eq!((counted.in_packets, counted.out_packets, counted.connections), (1, 1, 0));
    assert_eq!((counted.in_bytes, counted.out_bytes), (HEADERS as u64 + 48, HEADERS as u64 + 48));
    assert_eq!(t.states(), states);
}

#[test]
fn what_is_not_relayed_has_its_reason() {
    let mut t = opened();
    let reply = tcp(VIP, C, "A");
    let mut relay = |frame| relay(&mut t, frame, OUTSIDE).unwrap_err();
    // Echo both ways, neighbour discovery, listeners; nothing before and behind the errors.
    for kind in [0, 5, 127, 128, 129, 130, 133, 134, 135, 136, 137, 143] {
        assert_eq!(relay(error(OUTER, (kind, 0), &reply, 548)), DropReason::Icmp, "{kind:?}");
    }
    for unrelated in [tcp(VIP, "[2001:db8:7::7]:1", "A"), tcp("[2001:db8::100]:81", C, "A")] {
        assert_eq!(relay(too_big(OUTER, &unrelated)), DropReason::IcmpUnrelated);
    }
    assert_eq!(relay(error(OUTER, (2, 0), &reply, 43)), DropReason::IcmpQuote);
    let later = behind(reply.clone(), 44, [0, 0, 8, 0, 0, 0, 9]);
    assert_eq!(relay(too_big(OUTER, &later)), DropReason::IcmpQuote, "a later fragment");
    let mut wrong = too_big(OUTER, &reply);
    wrong[120] ^= 1;
    assert_eq!(relay(wrong), DropReason::IcmpChecksum);
    let fragment = behind(too_big(OUTER, &reply), 44, [0, 0, 1, 0, 0, 0, 9]);
    assert_eq!(relay(fragment), DropReason::Fragment);
}

#[test]
fn an_error_about_a_packet_to_a_nat_server_itself_is_routed_on_as_it_is() {
    let mut t = opened();
    let before = too_big(INNER, &tcp("[2001:db8:7::8]:1", S, "A"));
    let (verdict, after) = t.batch(0, std::slice::from_ref(&before), INSIDE).remove(0);
    assert_eq!((verdict, &after[..6]), (Verdict::Transmit(OUTSIDE), &ROUTER_MAC[..]));
    assert_eq!((after[21], &after[22..]), (59, &before[22..]));
    assert_eq!(t.director.stats[0].strays(), 1);
}

#[test]
fn nobody_is_told_that_an_error_goes_no_further() {
    let mut t = opened();
    let mut last = too_big(OUTER, &tcp(VIP, C, "A"));
    last[21] = 1;
    assert_eq!(relay(&mut t, last, OUTSIDE), Err(DropReason::TtlExpired));
    t.hops.client_route = Route::Unreachable;
    t.hops.generation += 1;
    assert_eq!(relay(&mut t, too_big(INNER, &tcp(C, S, "A")), INSIDE), Err(DropReason::NoRoute));
}

#[test]
fn with_schedule_icmp_an_error_begins_a_connection() {
    let mut t = Table::new(&services());
    let reply = udp(DNS, C, b"answer");
    assert_eq!(relay(&mut t, too_big(OUTER, &reply), OUTSIDE), Err(DropReason::IcmpUnrelated));
    t.tune("schedule_icmp", 1);
    let told = relay(&mut t, too_big(OUTER, &reply), OUTSIDE).unwrap();
    assert_eq!(told.about, format!("{DNS_S} -> {C}"));
    assert_eq!(t.director.table.len(), 1);
    for vip in [DR, TUN] {
        let verdict = t.batch(0, &[too_big(OUTER, &tcp(vip, C, "A"))], OUTSIDE).remove(0).0;
        assert_eq!(verdict, Verdict::Transmit(INSIDE));
    }
    assert_eq!(t.director.table.len(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// A good error with some bytes changed, its checksum made right or not: what leaves is right, what does not is as
    /// it was.
    #[test]
    fn a_damaged_error_is_relayed_right_or_dropped_as_it_came(
        about in 0usize..4,
        chain in 0usize..3,
        edits in proptest::collection::vec((54usize..150, any::<u8>()), 0..4),
        len in 0usize..120,
        mend: bool,
    ) {
        let mut t = opened();
        let (quoted, from, port) = [
            (tcp(VIP, C, "A"), OUTER, OUTSIDE),
            (udp(DNS, C, b"answer"), OUTER, OUTSIDE),
            (tcp(C, S, "A"), INNER, INSIDE),
            (udp(C, DNS_S, b"question"), INNER, INSIDE),
        ][about].clone();
        let quoted = match chain {
            0 => quoted,
            1 => behind(quoted, 60, [0, 1, 4, 0, 0, 0, 0]),
            _ => behind(quoted, 44, [0, 0, 1, 0, 0, 0, 9]),
        };
        let mut frame = error(from, (2, 0), &quoted, 40 + len);
        for &(at, value) in &edits {
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        if mend {
            frame[56..58].fill(0);
            let address = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap()).into();
            let sum = checksum::of_transport(address(22), address(38), 58, &frame[54..]);
            frame[56..58].copy_from_slice(&sum.to_be_bytes());
        }
        let (verdict, after) = t.batch(1, std::slice::from_ref(&frame), port).remove(0);
        prop_assert_eq!(after.len(), frame.len());
        match verdict {
            Verdict::Transmit(_) => {
                let sliced = SlicedPacket::from_ethernet(&after).unwrap();
                let Some(NetSlice::Ipv6(ip)) = &sliced.net else { panic!("{sliced:?}") };
                let Some(TransportSlice::Icmpv6(icmp)) = &sliced.transport else { panic!("{sliced:?}") };
                prop_assert!(icmp.is_checksum_valid(ip.header().source(), ip.header().destination()));
            }
            Verdict::Drop(_) => prop_assert_eq!(after, frame),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
