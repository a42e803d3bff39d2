//! Many connections: open at the same time, and one after another.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use crate::client::{self, connect, patiently};
use crate::lab::{self, DR_VIP, Lab, NAT_VIP, alone};
use crate::netns::succeed;
use crate::xvs::{Xvs, abc, config, service, stats};

/// Connections that are all open before the first is closed.
const OPEN: usize = 2_000;
/// Connections that are opened, used once and closed.
const SHORT: usize = 20_000;
/// How many short connections are under way at any time.
const AT_ONCE: usize = 64;

#[test]
fn two_thousand_connections_are_open_at_once_by_nat() {
    open_at_once("nat", SocketAddrV4::new(NAT_VIP, 80), 8080);
}

#[test]
fn two_thousand_connections_are_open_at_once_by_dr() {
    open_at_once("dr", SocketAddrV4::new(DR_VIP, 80), 80);
}

fn open_at_once(forward: &str, vip: SocketAddrV4, port: u16) {
    let _alone = alone();
    let lab = Lab::new();
    let xvs = Xvs::start(&lab, &config(&[service(("tcp", vip), ("rr", forward), &abc(port, [1; 3]))]));
    let names = client::run(&lab, async || {
        let opened = client::many(OPEN, AT_ONCE, move |i| connect(lab::client(i), vip)).await;
        let mut open: Vec<_> = opened.into_iter().map(|wire| wire.expect("connected")).collect();
        let mut names = Vec::new();
        for wire in &mut open {
            names.push(patiently(wire.ask("name")).await);
        }
        // All are still open; asked again, each is still with the server it had.
        for (wire, name) in open.iter_mut().zip(&names) {
            assert_eq!(
                &patiently(wire.ask("name")).await.expect("second answer"),
                name.as_ref().expect("first answer")
            );
        }
        client::tally(names)
    });
    spread_evenly(&names, OPEN);
    both_queues_received(&lab, "lb0");
    if forward == "nat" {
        both_queues_received(&lab, "lb1");
    }
    assert_eq!(stats(&xvs.stop(), "TCP", vip)[0], u64::try_from(OPEN).unwrap());
}

#[test]
fn twenty_thousand_short_connections_without_one_failed_by_nat() {
    short_connections("nat", SocketAddrV4::new(NAT_VIP, 80), 8080);
}

#[test]
fn twenty_thousand_short_connections_without_one_failed_by_dr() {
    short_connections("dr", SocketAddrV4::new(DR_VIP, 80), 80);
}

fn short_connections(forward: &str, vip: SocketAddrV4, port: u16) {
    let _alone = alone();
    let lab = Lab::new();
    let xvs = Xvs::start(&lab, &config(&[service(("tcp", vip), ("rr", forward), &abc(port, [1; 3]))]));
    let names = client::run(&lab, async || {
        client::tally(
            client::many(SHORT, AT_ONCE, move |i| client::name_of_server(lab::client(i), vip)).await,
        )
    });
    spread_evenly(&names, SHORT);
    let report = xvs.stop();
    assert_eq!(stats(&report, "TCP", vip)[0], u64::try_from(SHORT).unwrap());
    for (server, _) in abc(port, [1; 3]) {
        let conns = stats(&report, "->", server)[0];
        assert!(conns.abs_diff(u64::try_from(SHORT / 3).unwrap()) <= 1, "{server} had {conns} of {SHORT}");
    }
}

/// Round robin leaves no server more than one connection ahead, whichever workers scheduled them.
fn spread_evenly(names: &BTreeMap<String, usize>, total: usize) {
    assert_eq!(names.len(), 3, "{names:?}");
    assert_eq!(names.values().sum::<usize>(), total);
    assert!(names.values().all(|count| (total / 3..=total / 3 + 1).contains(count)), "{names:?}");
}

/// The kernel's own counters of the veth: packets that the XDP program saw on each receive queue.
pub fn both_queues_received(lab: &Lab, device: &str) {
    let output = succeed(lab.command("director", "ethtool").args(["-S", device]));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let packets: Vec<u64> = (0..2)
        .filter_map(|queue| {
            text.split_once(&format!("rx_queue_{queue}_xdp_packets: "))?.1.lines().next()?.parse().ok()
        })
        .collect();
    assert!(packets.len() == 2 && packets.iter().all(|&count| count > 0), "{device}: {packets:?} of\n{text}");
}
