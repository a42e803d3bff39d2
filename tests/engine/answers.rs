//! What the sender of a dropped packet is told: as IPVS and the host's own stack would.

use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::forward::hops::Route;
use xvs::director::service::{Method, Protocol};

use crate::table::*;

const C: &str = "192.0.2.7:40000";
const VIP: &str = "10.0.0.100:80";
const S: &str = "10.1.0.11:80";

fn nat(weight: u32) -> Table {
    Table::new(&[
        service(Protocol::Tcp, VIP, Method::Nat, &[(S, weight)]),
        service(Protocol::Udp, "10.0.0.100:53", Method::Nat, &[("10.1.0.11:53", weight)]),
    ])
}

/// The answer to a frame, or why there is none.
fn answer(t: &mut Table, frame: Vec<u8>, port: u16) -> Result<(DropReason, String), Verdict> {
    let (verdict, after) = t.batch(0, &[frame], port).remove(0);
    match verdict {
        Verdict::Answer(back, reason) => {
            assert_eq!((back, &after[..6]), (port, &CLIENT_MAC[..]), "back where it came from");
            Ok((reason, read_answer(&after)))
        }
        other => Err(other),
    }
}

#[test]
fn a_segment_without_a_connection_is_reset() {
    let reset = Ok((DropReason::NoConnection, "10.0.0.100:80 resets 192.0.2.7:40000".to_owned()));
    assert_eq!(answer(&mut nat(1), tcp(C, VIP, "A"), OUTSIDE), reset);
    assert_eq!(answer(&mut nat(1), tcp(C, VIP, "FA"), OUTSIDE), reset);
    let silent = Err(Verdict::Drop(DropReason::NoConnection));
    assert_eq!(answer(&mut nat(1), tcp(C, VIP, "R"), OUTSIDE), silent, "a reset is never answered");
}

#[test]
fn without_a_server_the_port_is_unreachable_for_tcp_too() {
    let error = "10.0.0.100 tells 192.0.2.7: type 3 code 3".to_owned();
    assert_eq!(answer(&mut nat(0), tcp(C, VIP, "S"), OUTSIDE), Ok((DropReason::NoServer, error.clone())));
    assert_eq!(
        answer(&mut nat(0), udp(C, "10.0.0.100:53", b"?"), OUTSIDE),
        Ok((DropReason::NoServer, error))
    );
}

#[test]
fn a_clients_packet_that_cannot_go_on_is_answered_by_the_vip_and_a_servers_by_the_director() {
    let mut t = nat(1);
    t.tcp(C, VIP, "S").unwrap();
    let tells = |what: &str| format!("10.0.0.100 tells 192.0.2.7: {what}");
    let tells_server = |what: &str| format!("10.1.0.1 tells 10.1.0.11: {what}");

    let with_ttl_1 = |mut frame: Vec<u8>| {
        frame[22] = 1;
        mend_ip(&mut frame);
        frame
    };
    let expired = Ok((DropReason::TtlExpired, tells("type 11 code 0")));
    assert_eq!(answer(&mut t, with_ttl_1(tcp(C, VIP, "A")), OUTSIDE), expired);
    let expired = Ok((DropReason::TtlExpired, tells_server("type 11 code 0")));
    assert_eq!(answer(&mut t, with_ttl_1(tcp(S, C, "A")), INSIDE), expired);
    let stray = with_ttl_1(tcp(S, "192.0.2.8:9", "A"));
    assert_eq!(answer(&mut t, stray, INSIDE), expired, "one that is only routed on, too");

    t.hops.mtu = 60;
    let too_big = Ok((DropReason::TooBig, tells("type 3 code 4")));
    assert_eq!(answer(&mut t, tcp(C, VIP, "A"), OUTSIDE), too_big);
    let too_big = Ok((DropReason::TooBig, tells_server("type 3 code 4")));
    assert_eq!(answer(&mut t, tcp(S, C, "A"), INSIDE), too_big);
    t.hops.mtu = 1500;

    t.hops.client_route = Route::Unreachable;
    t.hops.generation += 1;
    let unreachable = Ok((DropReason::NoRoute, tells_server("type 3 code 1")));
    assert_eq!(answer(&mut t, tcp(S, C, "A"), INSIDE), unreachable);

    t.hops.sources.clear();
    let silent = Err(Verdict::Drop(DropReason::NoRoute));
    assert_eq!(answer(&mut t, tcp(S, C, "A"), INSIDE), silent, "by nobody, if the routes name no address");
}

#[test]
fn with_nat_icmp_send_a_server_is_told_that_nobody_has_its_connection() {
    let mut t = nat(1);
    let stray = |flags| tcp(S, C, flags);
    let routed = Err(Verdict::Transmit(OUTSIDE));
    assert_eq!(answer(&mut t, stray("A"), INSIDE), routed);
    t.tune("nat_icmp_send", 1);
    let told = |error: &str| Ok((DropReason::NoConnection, error.to_owned()));
    let unreachable = told("10.1.0.1 tells 10.1.0.11: type 3 code 3");
    assert_eq!(answer(&mut t, stray("A"), INSIDE), unreachable);
    assert_eq!(answer(&mut t, stray("SA"), INSIDE), unreachable);
    assert_eq!(answer(&mut t, udp("10.1.0.11:53", C, b"!"), INSIDE), unreachable);
    assert_eq!(answer(&mut t, stray("R"), INSIDE), routed, "a reset is routed on");
    t.tcp(C, VIP, "S").unwrap();
    assert_eq!(answer(&mut t, stray("SA"), INSIDE), routed, "what has a connection goes its way");
}

#[test]
fn errors_are_rate_limited_and_resets_are_not() {
    let mut t = nat(0);
    let told = |t: &mut Table, frame: &Vec<u8>| {
        (0..600).filter(|_| answer(t, frame.clone(), OUTSIDE).is_ok()).count()
    };
    assert_eq!(told(&mut t, &tcp(C, VIP, "S")), 250);
    assert_eq!(told(&mut t, &tcp(C, VIP, "A")), 600);
    t.pass(1);
    assert_eq!(told(&mut t, &tcp(C, VIP, "S")), 250, "again in the next quarter of a second");
    assert_eq!(t.director.stats.iter().map(|s| s.answered()).sum::<u64>(), 1100);
}

#[test]
fn a_source_that_is_no_host_is_told_nothing() {
    for source in ["127.0.0.1:9", "0.0.0.0:9", "224.0.0.1:9", "255.255.255.255:9"] {
        let silent = Err(Verdict::Drop(DropReason::NoConnection));
        assert_eq!(answer(&mut nat(1), tcp(source, VIP, "A"), OUTSIDE), silent, "{source}");
    }
}
