//! Golden packets without a hole: every method, IP version of clients and servers, protocol, direction and pair of VLANs.
//! Each frame that leaves is what a slow oracle makes of the one that arrived, byte for byte.
//!
//! Free is only what [`Departure::like`](crate::golden::oracle::Departure::like) names.

use std::collections::BTreeSet;

use xvs::director::draft::{Draft, Refused};
use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::local::Locals;
use xvs::director::roster::Roster;
use xvs::director::service::{Method, Tunnel, TunnelChecksum};
use xvs::director::services::Services;

use crate::golden::seen::see;
use crate::golden::steps::{Outcome, Step};
use crate::golden::{Case, Kind, cases, kinds};
use crate::table::*;

/// What is done with a frame of a case, as it has to be.
fn play(t: &mut Table, case: &Case, step: &Step, room: usize) -> Option<Vec<u8>> {
    let arrival = step.arrival.bytes();
    let frame = with_room(&arrival, room);
    let (verdict, sent) = t.batch(0, &[frame], step.port).remove(0);
    let shown = || format!("{case:?}, {}, room {room}: {arrival:02x?}", step.name);
    match (&step.outcome, verdict) {
        (Outcome::Sent(departure), Verdict::Transmit(port)) => {
            assert_eq!(port, departure.port, "{}", shown());
            let expected = departure.like(&sent);
            assert!(sent == expected, "{}\nis not {expected:02x?}\nbut    {sent:02x?}", shown());
            Some(sent)
        }
        (Outcome::Refused(reason), Verdict::Drop(is) | Verdict::Answer(_, is)) => {
            assert_eq!(is, *reason, "{}", shown());
            None
        }
        (outcome, verdict) => panic!("{}: {verdict:?}, not {outcome:?}", shown()),
    }
}

/// The room that the steering program makes for a case, and none.
fn rooms(case: &Case) -> Vec<usize> {
    match case.method {
        Method::Tun(tunnel) => vec![0, tunnel.overhead(case.server().is_ipv4())],
        _ => vec![0],
    }
}

/// By another parser: what no method may touch is as it was, a right checksum is right and a wrong one wrong.
fn check_kept(case: &Case, step: &Step, sent: &[u8]) {
    let (before, after) = (see(&step.arrival.bytes()), see(sent));
    let shown = || format!("{case:?}, {}: {sent:02x?}", step.name);
    let side = usize::from(step.port);
    assert_eq!((before.vlan, after.vlan), (case.vlans[side], case.vlans[1 - side]), "{}", shown());
    assert_eq!(after.depth, if matches!(case.method, Method::Tun(_)) { 2 } else { 1 }, "{}", shown());
    assert_eq!((after.class, after.ttl), (before.class, before.ttl - 1), "{}", shown());
    if let (Some(before), Some(after)) = (before.flow_label, after.flow_label) {
        assert_eq!(before, after, "{}", shown());
    }
    assert_eq!(after.tcp_options, before.tcp_options, "{}", shown());
    assert_eq!((&after.transport, &after.payload), (&before.transport, &before.payload), "{}", shown());
    // UDP may not be without a checksum once it is of IPv6.
    let is_new = before.is_right.is_none() && after.flow_label.is_some() && before.flow_label.is_none();
    let expected = if is_new && case.kind == Kind::UdpUnsummed { Some(true) } else { before.is_right };
    assert_eq!(after.is_right, expected, "{}", shown());
    assert!(before.is_right != Some(step.arrival.packet.damaged), "{}", shown());
}

#[test]
fn what_leaves_is_what_the_oracle_says_byte_for_byte() {
    for kind in kinds().filter(|case| !case.is_refused()) {
        for room in rooms(&kind) {
            let mut t = kind.table();
            let mut gue_ports = BTreeSet::new();
            for case in kind.variants() {
                t.hops.vlans = case.vlans;
                let often = [case.packets(), case.long(), case.damaged(), case.edges()];
                for step in [case.opening(), often.concat()].concat() {
                    let Some(sent) = play(&mut t, &case, &step, room) else { continue };
                    check_kept(&case, &step, &sent);
                    gue_ports.extend(gue_port(&case, &sent));
                }
            }
            assert!(t.made.is_empty() && t.director.table.len() <= 1, "{kind:?}");
            assert!(gue_ports.len() <= 1, "a flow is not spread: {kind:?}");
        }
    }
}

/// UDP has another way to say zero. Only a datagram without a checksum of its own brings it about, since one with a right
/// checksum adds nothing to the sum around it.
#[test]
fn a_checksum_of_gue_that_comes_out_as_zero_is_sent_as_ones() {
    let is_summed = |case: &Case| matches!(case.method, Method::Tun(Tunnel::Gue { checksum, .. }) if checksum != TunnelChecksum::None);
    for case in kinds().filter(|case| is_summed(case) && case.kind == Kind::UdpUnsummed) {
        let mut t = case.table();
        let udp = 14 + if case.server().is_ipv4() { 20 } else { 40 };
        let mut checksum = [0; 2];
        for _ in 0..2 {
            let payload = [b"sums up to nothing..", &checksum[..]].concat();
            let step = case.with_payload(case.packets().remove(0), &payload);
            let sent = play(&mut t, &case, &step, 0).unwrap();
            checksum.copy_from_slice(&sent[udp + 6..udp + 8]);
        }
        assert_eq!(checksum, [0xff; 2], "{case:?}");
    }
}

/// The source port of GUE.
fn gue_port(case: &Case, sent: &[u8]) -> Option<u16> {
    let Method::Tun(Tunnel::Gue { .. }) = case.method else { return None };
    let ip = if case.vlans[usize::from(INSIDE)].is_some() { 18 } else { 14 };
    let udp = ip + if case.server().is_ipv4() { 20 } else { 40 };
    Some(u16::from_be_bytes([sent[udp], sent[udp + 1]]))
}

/// Whatever comes from a server is for DR and TUN: no packet of theirs comes by here.
const REFUSED: [&str; 14] = [
    "dr V4 to V6: no such server",
    "dr V6 to V4: no such server",
    "dr, packets of the server: no_service",
    "fullnat V4 to V6 Ah from the client: untranslatable",
    "fullnat V4 to V6 Ah from the server: protocol",
    "fullnat V4 to V6 Esp from the client: untranslatable",
    "fullnat V4 to V6 Esp from the server: untranslatable",
    "fullnat V6 to V4 Ah SYN: untranslatable",
    "fullnat V6 to V4 Ah from the client: untranslatable",
    "fullnat V6 to V4 Esp from the client: untranslatable",
    "fullnat V6 to V4 Esp from the server: untranslatable",
    "nat V4 to V6: no such server",
    "nat V6 to V4: no such server",
    "tun, packets of the server: no_service",
];

/// Without a hole: what is not forwarded is named here.
#[test]
fn what_is_refused_is_refused_by_design() {
    let mut refused = BTreeSet::new();
    for case in cases() {
        let method = case.method.name();
        let mut draft = Draft::new(&Services::default(), &Roster::default());
        let outcome = draft.replace(&[case.pool()]);
        if case.is_refused() {
            assert!(matches!(outcome, Err(Refused::Family { .. })), "{case:?}: {outcome:?}");
            refused.insert(format!("{} {:?} to {:?}: no such server", method, case.client, case.server));
            continue;
        }
        assert!(outcome.is_ok(), "{case:?}: {outcome:?}");
        for step in [case.opening(), case.packets()].concat() {
            if let Outcome::Refused(reason) = step.outcome {
                let Case { client, server, kind, .. } = case;
                let what = match step.port {
                    INSIDE if !case.has_replies() => ", packets of the server".into(),
                    _ => format!(" {client:?} to {server:?} {kind:?} {}", step.name),
                };
                refused.insert(format!("{method}{what}: {}", reason.name()));
            }
        }
    }
    let refused: Vec<_> = refused.iter().map(String::as_str).collect();
    assert_eq!(refused, REFUSED);
}

/// The packets of the server find the connection by its local port, which is that of ISAKMP only by chance.
#[test]
fn ipsec_comes_back_by_fullnat_only_where_the_local_port_is_isakmps() {
    let is_it = |case: &Case| case.method == Method::FullNat && case.is_sealed() && !case.is_across();
    for case in kinds().filter(is_it) {
        let mut pool = case.pool();
        pool.service.locals = Locals::new(&[case.local().ip()], "5000".parse().unwrap()).unwrap();
        let mut t = Table::new(&[pool]);
        let mut opening = case.opening().remove(0);
        let Outcome::Sent(departure) = &mut opening.outcome else { panic!() };
        departure.frame.packet.source.set_port(5000);
        play(&mut t, &case, &opening, 0);
        let [there, mut back] = <[Step; 2]>::try_from(case.packets()).unwrap();
        play(&mut t, &case, &there, 0);
        back.outcome = Outcome::Refused(DropReason::NoService);
        play(&mut t, &case, &back, 0);
    }
}

#[test]
fn a_wrong_ipv4_header_checksum_goes_no_further() {
    for case in kinds().filter(|case| !case.is_refused()) {
        let mut t = case.table();
        for step in [case.opening(), case.packets()].concat() {
            if step.arrival.packet.source.is_ipv4() {
                let mut frame = step.arrival.bytes();
                frame[24] ^= 1;
                let verdict = t.batch(0, &[frame], step.port).remove(0).0;
                assert_eq!(verdict, Verdict::Drop(DropReason::BadChecksum), "{case:?}, {}", step.name);
            }
        }
        assert!(t.director.table.is_empty());
    }
}
