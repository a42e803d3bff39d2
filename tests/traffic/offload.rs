//! Connections that the steering program forwards: nothing is different but who does it.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{self, connect, patiently, within};
use crate::file::File;
use crate::lab::{self, DR_VIP, Lab, NAT_VIP, alone};
use crate::netns::succeed;
use crate::wire::Wire;
use crate::xvs::{Xvs, abc, command, ends, ipvsadm, offloading, say, service, stats, until};

/// 16 MiB each way.
const LEN: usize = 16 << 20;
const LIMIT: Duration = Duration::from_secs(60);

fn lab_that_takes_redirected() -> Lab {
    let lab = Lab::new();
    lab.take_redirected();
    lab
}

fn one_service(forward: &str, vip: Ipv4Addr, port: u16) -> String {
    offloading("on", &[service(("tcp", SocketAddrV4::new(vip, 80)), ("rr", forward), &abc(port, [1; 3]))])
}

/// Frames of this outcome in a report.
pub fn frames(report: &str, outcome: &str) -> u64 {
    let line = report.lines().find_map(|line| line.trim().strip_suffix(&format!(" {outcome}")));
    line.map_or(0, |count| count.trim().parse().unwrap_or_else(|_| panic!("{outcome} in:\n{report}")))
}

/// Frames of this outcome at present.
pub fn frames_now(lab: &Lab, outcome: &str) -> u64 {
    let counters: Value = serde_json::from_str(&say(lab, &["show", "counters", "--json"])).expect("JSON");
    let outcomes = counters["steering"].as_array().expect("outcomes");
    let of = |pair: &Value| (pair[0] == outcome).then(|| pair[1].as_u64().expect("a count"));
    outcomes.iter().find_map(of).unwrap_or_else(|| panic!("no {outcome} in {counters}"))
}

fn is_offloaded(lab: &Lab) -> bool {
    say(lab, &["show", "connections"]).contains("ESTABLISHED")
        && say(lab, &["show", "connections"]).contains("offloaded")
}

/// Asks on a connection until it is offloaded, and until it goes by the program.
pub async fn ask_until_offloaded(lab: &Lab, wire: &mut Wire) {
    let (start, before) = (Instant::now(), frames_now(lab, "offloaded"));
    while !is_offloaded(lab) || frames_now(lab, "offloaded") == before {
        assert!(start.elapsed() < LIMIT, "never offloaded:\n{}", say(lab, &["show", "connections"]));
        patiently(wire.ask("name")).await.expect("name");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

#[test]
fn nat_is_offloaded_both_ways_and_counted_to_the_last_packet() {
    let report = a_file_both_ways("nat", NAT_VIP, 8080);
    let [conns, in_packets, out_packets, in_bytes, out_bytes] =
        stats(&report, "TCP", SocketAddrV4::new(NAT_VIP, 80));
    let [up_in, up_out, carried] = ["service", "nat_return", "offloaded"].map(|name| frames(&report, name));
    assert_eq!((conns, in_packets + out_packets), (1, up_in + up_out + carried), "{report}");
    let len = u64::try_from(LEN).unwrap();
    assert!(in_bytes > len && out_bytes > len, "{report}");
    assert!(carried > 9 * (up_in + up_out), "{report}");
}

#[test]
fn dr_is_offloaded_and_counted_to_the_last_packet() {
    let report = a_file_both_ways("dr", DR_VIP, 80);
    let [conns, in_packets, out_packets, in_bytes, _] = stats(&report, "TCP", SocketAddrV4::new(DR_VIP, 80));
    let [up, carried] = ["service", "offloaded"].map(|name| frames(&report, name));
    assert_eq!((conns, in_packets, out_packets), (1, up + carried, 0), "{report}");
    assert!(in_bytes > u64::try_from(LEN).unwrap() && carried > 9 * up, "{report}");
}

/// Down and up on one connection, after a while that makes it worth while; the report.
fn a_file_both_ways(forward: &str, vip: Ipv4Addr, port: u16) -> String {
    let _alone = alone();
    let lab = lab_that_takes_redirected();
    let file = File::new(&lab, LEN, LIMIT);
    let xvs = Xvs::start(&lab, &one_service(forward, vip, port));
    client::run(&lab, async || {
        let mut wire = connect(lab::client(0), SocketAddrV4::new(vip, 80)).await.expect("connected");
        ask_until_offloaded(&lab, &mut wire).await;
        file.down(&mut wire).await;
        file.up(&mut wire).await;
    });
    // Closed by FIN, which the workers see.
    until("it is closed", || !say(&lab, &["show", "connections"]).contains("ESTABLISHED"));
    xvs.stop()
}

#[test]
fn it_lives_as_long_as_its_last_packet_says_and_is_listed_so() {
    let _alone = alone();
    let lab = lab_that_takes_redirected();
    let xvs = Xvs::start(&lab, &one_service("nat", NAT_VIP, 8080));
    ipvsadm(&lab, "--set 3 0 0");
    let seconds = |listing: &str| -> u64 {
        let line = listing
            .lines()
            .find(|line| line.contains("ESTABLISHED"))
            .unwrap_or_else(|| panic!("gone: {listing}"));
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .strip_prefix("00:")
            .expect("minutes")
            .parse()
            .expect("seconds")
    };
    let (wire, last) = client::run(&lab, async || {
        let mut wire = connect(lab::client(0), SocketAddrV4::new(NAT_VIP, 80)).await.expect("connected");
        // Twice as long as it would live without being seen.
        let (start, mut last) = (Instant::now(), Instant::now());
        while start.elapsed() < Duration::from_secs(6) {
            patiently(wire.ask("name")).await.expect("name");
            last = Instant::now();
            if start.elapsed() > Duration::from_secs(2) {
                assert!(is_offloaded(&lab), "{}", say(&lab, &["show", "connections"]));
                assert!(seconds(&ipvsadm(&lab, "-Lnc")) >= 2);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        (wire, last)
    });
    until("its time is over", || !ipvsadm(&lab, "-Lnc").contains("ESTABLISHED"));
    let lived = last.elapsed();
    assert!((Duration::from_millis(2900)..Duration::from_millis(4500)).contains(&lived), "{lived:?}");
    drop(wire);
    xvs.stop();
}

#[test]
fn a_server_that_is_deleted_gets_no_packet_more() {
    let _alone = alone();
    let lab = lab_that_takes_redirected();
    let xvs = Xvs::start(&lab, &one_service("nat", NAT_VIP, 8080));
    client::run(&lab, async || {
        let mut wire = connect(lab::client(0), SocketAddrV4::new(NAT_VIP, 80)).await.expect("connected");
        ask_until_offloaded(&lab, &mut wire).await;
        for (_, rip) in lab::SERVERS {
            ipvsadm(&lab, &format!("-d -t {NAT_VIP}:80 -r {rip}:8080"));
        }
        let carried = frames_now(&lab, "offloaded");
        let answered = within(Duration::from_secs(2), wire.ask("name")).await;
        assert!(answered.is_err(), "its packets are dropped until the server is back: {answered:?}");
        assert_eq!(frames_now(&lab, "offloaded"), carried);
        for (_, rip) in lab::SERVERS {
            ipvsadm(&lab, &format!("-a -t {NAT_VIP}:80 -r {rip}:8080 -m"));
        }
        assert!(patiently(wire.line()).await.expect("the answer").is_some(), "it goes on");
    });
    xvs.stop();
}

#[test]
fn where_redirected_frames_are_not_taken_on_is_refused_and_auto_does_without() {
    let lab = Lab::new();
    let services = [service(("tcp", SocketAddrV4::new(NAT_VIP, 80)), ("rr", "nat"), &abc(8080, [1; 3]))];
    let off = |device| {
        succeed(lab.command("clients", "ethtool").args(["-K", device, "gro", "off"]));
    };
    off("cl0");
    off("to-lb");
    let (status, _, errors) = ends(&mut command(&lab, &[], &offloading("on", &services)));
    assert!(!status.success() && errors.contains("offload = \"on\" is not possible to lb0 lb1"), "{errors}");

    let xvs = Xvs::start(&lab, &offloading("auto", &services));
    assert!(xvs.log().contains("offload: not to lb0 lb1"), "{}", xvs.log());
    let talk = async || {
        let mut wire = connect(lab::client(0), SocketAddrV4::new(NAT_VIP, 80)).await.expect("connected");
        for _ in 0..40 {
            patiently(wire.ask("name")).await.expect("name");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        wire
    };
    client::run(&lab, talk);
    assert_eq!(frames_now(&lab, "offloaded"), 0);

    // And once they are taken, and no more.
    lab.take_redirected();
    until("it is noticed", || xvs.log().contains("offload: lb1 takes redirected frames now"));
    client::run(&lab, async || {
        let mut wire = talk().await;
        ask_until_offloaded(&lab, &mut wire).await;
        assert!(frames_now(&lab, "offloaded") > 0);
        off("to-lb");
        until("that is noticed", || xvs.log().contains("offload: lb1 takes redirected frames no more"));
        patiently(wire.ask("name")).await.expect("it goes on by the workers");
    });
    xvs.stop();
}
