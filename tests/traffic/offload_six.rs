//! Offload over IPv6, and the thread that sees to it.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::client::{self, connect};
use crate::file::File;
use crate::lab::alone;
use crate::offload::{ask_until_offloaded, frames};
use crate::six::{CLIENTS, NAT_VIP, SHARED_VIP, lab, rip, services};
use crate::xvs::{Xvs, say, stats, until};

const LEN: usize = 1 << 20;

/// Asks for a while, and for a file then, on one connection; what was counted in and out, and the frames that came up and
/// that did not.
fn a_file(vip: Ipv6Addr, forward: &str, port: u16) -> ([u64; 2], [u64; 2]) {
    let _alone = alone();
    let (lab, _servers) = lab();
    lab.take_redirected();
    let file = File::new(&lab, LEN, Duration::from_secs(60));
    let config = services(vip, forward, port, |place| rip(place).into());
    let config = config.replace("offload = \"auto\"", "offload = \"on\"");
    let xvs = Xvs::start(&lab, &config);
    client::run(&lab, async || {
        let mut wire = connect(CLIENTS[0], SocketAddr::from((vip, 80))).await.expect("connected");
        ask_until_offloaded(&lab, &mut wire).await;
        file.down(&mut wire).await;
    });
    until("it is closed", || !say(&lab, &["show", "connections"]).contains("ESTABLISHED"));
    let counters = say(&lab, &["show", "counters"]);
    assert!(counters.contains("FIN, RST"), "its FINs came up, and that is told: {counters}");
    let report = xvs.stop();
    let [_, counted_in, counted_out, ..] = stats(&report, "TCP", SocketAddr::from((vip, 80)));
    let up = frames(&report, "service") + frames(&report, "nat_return");
    ([counted_in, counted_out], [up, frames(&report, "offloaded")])
}

#[test]
fn nat_of_ipv6_is_offloaded_both_ways_and_counted_to_the_last_packet() {
    let ([counted_in, counted_out], [up, carried]) = a_file(NAT_VIP, "nat", 8080);
    assert_eq!(counted_in + counted_out, up + carried);
    assert!(carried > 2 * up, "{carried} and {up}");
}

#[test]
fn dr_of_ipv6_is_offloaded_and_counted_to_the_last_packet() {
    let ([counted_in, counted_out], [up, carried]) = a_file(SHARED_VIP, "dr", 80);
    assert_eq!([counted_in, counted_out], [up + carried, 0]);
    assert!(carried > 2 * up, "{carried} and {up}");
}

#[test]
fn its_thread_has_precedence_over_workers() {
    let _alone = alone();
    let (lab, _servers) = lab();
    lab.take_redirected();
    let xvs = Xvs::start(&lab, &services(NAT_VIP, "nat", 8080, |place| rip(place).into()));
    let niceness = |thread: &str| -> i32 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", xvs.pid())).expect("threads");
        let stat = tasks
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok())
            .find(|stat| stat.contains(&format!("({thread})")))
            .unwrap_or_else(|| panic!("no thread {thread}"));
        // The 19th field of proc(5); the first two are the number and the name.
        stat.rsplit_once(") ").expect("a name").1.split(' ').nth(16).expect("nice").parse().expect("a number")
    };
    until("the thread has begun", || niceness("xvs-offload") == -20);
    assert!(niceness("xvs-0") > -20, "as the process is");
    xvs.stop();
}
