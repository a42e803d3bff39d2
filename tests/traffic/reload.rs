//! Reloads under load: what does not change does not notice.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddrV4;
use std::rc::Rc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::client::{self, Resolver, connect, patiently, within};
use crate::lab::{self, Lab, NAT_VIP, SERVERS, UDP_PORT, alone};
use crate::netns::succeed;
use crate::xvs::{Xvs, abc, client_command, config, config_path, service};

/// Services that come, go and change, beside the two that stay.
const SERVICES: u16 = 1_000;
/// Servers of each of them.
const EACH: u16 = 10;
/// Reloads.
const RELOADS: usize = 100;
/// Reloads after which the memory is taken as that of a director at work.
const WARM: usize = 10;
/// How much more memory it may have in the end.
const GROWTH_MAX_KB: u64 = 8 << 10;
/// Sockets that ask at the same time.
const ASKING: usize = 48;
/// Connections that stay open throughout.
const OPEN: usize = 64;
/// How long an answer may take before its datagram counts as lost. Nothing here repeats a lost one.
const LOST: Duration = Duration::from_secs(3);

const STEADY_TCP: SocketAddrV4 = SocketAddrV4::new(NAT_VIP, 80);
const STEADY_UDP: SocketAddrV4 = SocketAddrV4::new(NAT_VIP, UDP_PORT);

/// A service as it happens to be.
#[derive(Clone)]
struct Changing {
    there: bool,
    scheduler: &'static str,
    /// Weight by server, if it is there.
    servers: Vec<Option<u16>>,
}

fn text(services: &[Changing]) -> String {
    let steady = [
        service(("tcp", STEADY_TCP), ("rr", "nat"), &abc(8080, [1; 3])),
        service(("udp", STEADY_UDP), ("rr", "nat"), &abc(UDP_PORT, [1; 3])),
    ];
    let mut text = config(&steady);
    for (port, s) in (20_000..).zip(services).filter(|(_, s)| s.there) {
        let servers: Vec<_> = (0..)
            .zip(&s.servers)
            .filter_map(|(n, weight)| {
                let rip = SERVERS[usize::from(n) % SERVERS.len()].1;
                Some((SocketAddrV4::new(rip, 10_000 + n), (*weight)?))
            })
            .collect();
        let vip = SocketAddrV4::new(NAT_VIP, port);
        writeln!(text, "{}", service(("tcp", vip), (s.scheduler, "nat"), &servers)).expect("a String");
    }
    text
}

/// Some of everything that a reload can change.
fn change(services: &mut [Changing], dice: &mut Rng) {
    for s in services {
        match dice.u32(..40) {
            0 => s.there = !s.there,
            1 => s.scheduler = ["rr", "wrr", "wlc", "sh"][dice.usize(..4)],
            2 | 3 => {
                let n = dice.usize(..usize::from(EACH));
                s.servers[n] = match s.servers[n] {
                    Some(_) => None,
                    None => Some(1),
                };
            }
            4 => {
                let n = dice.usize(..usize::from(EACH));
                let weight = dice.u16(..5);
                s.servers[n] = s.servers[n].map(|_| weight);
            }
            _ => {}
        }
    }
}

fn resident_kb(xvs: &Xvs) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", xvs.pid())).expect("status");
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("kB")
}

#[test]
fn a_hundred_reloads_of_a_thousand_services_lose_no_packet_and_move_no_connection() {
    let _alone = alone();
    let lab = Lab::new();
    let mut dice = Rng::with_seed(7);
    let fresh = Changing { there: true, scheduler: "rr", servers: vec![Some(1); usize::from(EACH)] };
    let mut services = vec![fresh; usize::from(SERVICES)];
    let xvs = Xvs::start(&lab, &text(&services));
    let path = config_path(&lab);

    let (asked, kept, slowest) = std::thread::scope(|scope| {
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (lab, over) = (&lab, stop.clone());
        let clients = scope.spawn(move || client::run(lab, async || load(over).await));
        let mut slowest = Duration::ZERO;
        let mut warm_kb = 0;
        let reloads = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..RELOADS {
                change(&mut services, &mut dice);
                crate::xvs::write_config(lab, &text(&services));
                let start = Instant::now();
                succeed(&mut client_command(lab, &["reload"]));
                slowest = slowest.max(start.elapsed());
                if round + 1 == WARM {
                    warm_kb = resident_kb(&xvs);
                }
            }
        }));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let (asked, kept) = clients.join().expect("the clients");
        reloads.expect("the reloads");
        let end_kb = resident_kb(&xvs);
        assert!(
            end_kb < warm_kb + GROWTH_MAX_KB,
            "{warm_kb} kB after {WARM} reloads, {end_kb} kB after {RELOADS}"
        );
        (asked, kept, slowest)
    });
    println!("{asked} datagrams answered, {kept} questions on open connections; slowest reload {slowest:?}");
    assert!(path.exists() && asked > 10_000, "only {asked} datagrams in all the reloads");
    drop(xvs);
}

/// Asks without a pause until it is over. How many datagrams were answered, all of them at the first try, and how
/// many questions on connections that stayed where they were.
async fn load(over: std::sync::Arc<std::sync::atomic::AtomicBool>) -> (u64, u64) {
    let is_over = move || over.load(std::sync::atomic::Ordering::Relaxed);
    let (asked, kept) = (Rc::new(Cell::new(0u64)), Rc::new(Cell::new(0u64)));
    let mut hands = Vec::new();
    for n in 0..ASKING {
        let (is_over, asked) = (is_over.clone(), asked.clone());
        hands.push(tokio::task::spawn_local(async move {
            let port = 30_000 + u16::try_from(n).expect("few");
            let resolver = Resolver::new(SocketAddrV4::new(lab::client(n), port), STEADY_UDP).await?;
            let mut name = None;
            for id in (0..=u16::MAX).cycle() {
                if is_over() {
                    break;
                }
                let answer = within(LOST, resolver.ask(id)).await?;
                moved(&mut name, answer)?;
                asked.set(asked.get() + 1);
            }
            Ok::<(), io::Error>(())
        }));
    }
    for n in 0..OPEN {
        let (is_over, kept) = (is_over.clone(), kept.clone());
        hands.push(tokio::task::spawn_local(async move {
            let mut wire = connect(lab::client(n), STEADY_TCP).await?;
            let mut name = None;
            while !is_over() {
                let answer = patiently(wire.ask("name")).await?;
                moved(&mut name, answer)?;
                kept.set(kept.get() + 1);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        }));
    }
    for hand in hands {
        hand.await.expect("a client panicked").expect("every packet through, every connection where it was");
    }
    (asked.get(), kept.get())
}

fn moved(before: &mut Option<String>, now: String) -> io::Result<()> {
    match before {
        Some(before) if *before != now => Err(io::Error::other(format!("moved from {before} to {now}"))),
        _ => {
            *before = Some(now);
            Ok(())
        }
    }
}
