//! Start, end, sudden end and idleness of the process.

use std::io;
use std::net::SocketAddrV4;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::client::{self, connect, patiently};
use crate::lab::{self, DR, Lab, NAT, alone};
use crate::netns::{signal, succeed};
use crate::xvs::{PATIENCE, Xvs, command, config, dr, nat, wait};

fn nat_and_dr() -> String {
    config(&[nat(), dr()])
}

#[test]
fn sigterm_ends_it_in_order_with_a_report() {
    let lab = Lab::new();
    let xvs = Xvs::start(&lab, &nat_and_dr());
    assert!(lab.xdp_attached());
    client::run(&lab, async || {
        for vip in [NAT, DR] {
            // One that is closed and one that is open when the end comes.
            assert_eq!(client::name_of_server(lab::client(0), vip).await.expect("answered"), "c");
            let mut open = connect(lab::client(1), vip).await.expect("connected");
            assert_eq!(patiently(open.ask("name")).await.expect("answered"), "b");
            std::mem::forget(open);
        }
    });
    let report = xvs.stop();
    assert!(!lab.xdp_attached(), "a program is still attached");
    for expected in
        ["TCP  10.0.0.100:80 rr", "TCP  10.0.0.101:80 rr", "10.1.0.13:8080", "Masq", "Route", "ESTABLISHED"]
    {
        assert!(report.contains(expected), "no {expected:?} in the report:\n{report}");
    }
    let conserved = report.lines().find(|line| line.contains("conserved"));
    assert!(
        conserved.is_some_and(|line| line.contains("frames")),
        "frames are not said to be conserved:\n{report}"
    );
}

/// `xvs run | head`, `xvs run 2>&1 | grep -m1 ready`: nobody reads any more.
#[test]
fn closed_outputs_and_sighup_do_not_stop_it() {
    let lab = Lab::new();
    let mut child = command(&lab, &[], &nat_and_dr())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("spawn xvs");
    drop((child.stdout.take(), child.stderr.take()));
    let answered = || {
        client::run(&lab, async || {
            client::within(PATIENCE, client::name_of_server(lab::client(0), NAT)).await.is_ok()
        })
    };
    let start = Instant::now();
    while !lab.xdp_attached() || !answered() {
        assert!(start.elapsed() < PATIENCE, "never served: {:?}", child.try_wait());
    }
    for name in ["USR1", "HUP", "USR1"] {
        signal(&child.id().to_string(), name);
        std::thread::sleep(Duration::from_millis(300));
        assert!(answered(), "not after SIG{name}: {:?}", child.try_wait());
    }
    signal(&child.id().to_string(), "TERM");
    let status = wait(&mut child).expect("ends");
    assert!(status.success(), "xvs ended with {status}");
    assert!(!lab.xdp_attached(), "a program is still attached");
}

/// Connects again and again until told to stop, and notes when it succeeded and when it failed.
async fn knock(vip: SocketAddrV4, stop: &AtomicBool) -> Vec<(Instant, io::Result<String>)> {
    let mut knocks = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let limit = Duration::from_millis(500);
        let answer = client::within(limit, client::name_of_server(lab::client(knocks.len()), vip)).await;
        knocks.push((Instant::now(), answer));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    knocks
}

#[test]
fn killed_under_load_it_leaves_nothing_attached_and_serves_again_when_restarted() {
    let _alone = alone();
    let lab = Lab::new();
    let first = Xvs::start(&lab, &nat_and_dr());
    let stop = AtomicBool::new(false);
    let (knocks, back, settled, _second) = std::thread::scope(|scope| {
        let clients = scope.spawn(|| {
            client::run(&lab, async || {
                let (by_nat, by_dr) = tokio::join!(knock(NAT, &stop), knock(DR, &stop));
                [by_nat, by_dr]
            })
        });
        let restart = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            std::thread::sleep(Duration::from_secs(1));
            first.kill();
            assert!(!lab.xdp_attached(), "SIGKILL left the program attached");
            std::thread::sleep(Duration::from_millis(500));
            let back = Instant::now();
            let second = Xvs::start(&lab, &nat_and_dr());
            std::thread::sleep(Duration::from_secs(3));
            (back, second)
        }));
        let settled = Instant::now();
        stop.store(true, Ordering::Relaxed);
        let knocks = clients.join().expect("clients");
        let (back, second) = restart.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (knocks, back, settled, second)
    });
    for (vip, knocks) in [NAT, DR].into_iter().zip(knocks) {
        let served = |from: Instant, to: Instant| {
            knocks.iter().filter(move |(at, answer)| answer.is_ok() && *at >= from && *at <= to)
        };
        assert!(served(knocks[0].0, back).count() > 20, "{vip}: hardly served before the kill");
        assert!(
            knocks.iter().any(|(at, answer)| answer.is_err() && *at < back),
            "{vip}: nobody noticed the kill"
        );
        let again = served(back, settled).next().expect("served again").0;
        assert!(again - back < Duration::from_secs(2), "{vip}: served again only after {:?}", again - back);
        let late: Vec<_> = knocks
            .iter()
            .filter(|(at, answer)| answer.is_err() && *at > back + Duration::from_secs(2))
            .collect();
        assert!(
            late.is_empty(),
            "{vip}: {} failures later than 2 s after its return, the first {:?} after it: {:?}",
            late.len(),
            late[0].0 - back,
            late[0].1
        );
    }
}

#[test]
fn idle_it_uses_under_two_percent_of_a_core() {
    let _alone = alone();
    let lab = Lab::new();
    let xvs = Xvs::start(&lab, &nat_and_dr());
    client::run(&lab, async || client::name_of_server(lab::client(0), NAT).await.expect("answered"));
    std::thread::sleep(Duration::from_secs(1));
    let (before, start) = (cpu_time_ms(xvs.pid()), Instant::now());
    std::thread::sleep(Duration::from_secs(5));
    let used_ms = cpu_time_ms(xvs.pid()) - before;
    let percent = 100.0 * f64::from(used_ms) / (start.elapsed().as_secs_f64() * 1000.0);
    assert!(percent < 2.0, "idle, it used {percent:.1} % of a core");
}

/// The processor time a process has used, user and system, from /proc (whose ticks are 10 ms).
fn cpu_time_ms(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit_once(") ").expect("comm").1.split(' ').collect();
    let ticks = |field: usize| fields[field].parse::<u32>().expect("a number");
    (ticks(11) + ticks(12)) * 10
}

/// Frames of a new queue would reach no worker, and the kernel, which has the VIP, would reset their connections.
#[test]
fn queues_that_change_at_run_time_end_it_with_a_message() {
    let lab = Lab::new();
    let set = |device, count| {
        succeed(lab.command("director", "ethtool").args(["-L", device, "rx", count, "tx", count]));
    };
    set("lb0", "1");
    set("lb1", "1");
    let xvs = Xvs::start(&lab, &nat_and_dr());
    set("lb0", "2");
    let (status, log) = xvs.ended();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("lb0 has 2 receive queues now and had 1 at the start"), "{log}");
    assert!(!lab.xdp_attached(), "a program is still attached");
}
