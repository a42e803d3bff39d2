//! Connections that begin and end, in memory, for who counts instructions: `benches/README.md` says how.
//!
//! Prints nothing but what was done: time says little here. By default the routes are two that nobody has to look up; with
//! `--interfaces` they are those of the network namespace that this runs in.

use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use xvs::director::engine::BATCH;
use xvs::director::forward::hops::{NextHops, Route};
use xvs::director::service::{Method, Tunnel};
use xvs::director::time::Time;
use xvs::net::mirror::MirrorOptions;
use xvs::net::{Mirror, Snapshot};

#[path = "common/flows.rs"]
#[allow(dead_code, reason = "shared with other benches")]
mod flows;
use flows::{Flows, Hops, Way, servers};

/// Longer than any connection lives, in milliseconds.
const LATER_MS: u64 = 1_000_000;

/// Packets after which a connection is treated as one that goes on.
const FIRST_FEW: u32 = 10;

/// Opens connections, and lets them expire.
#[derive(Debug, Parser)]
struct Arguments {
    /// How packets reach servers.
    method: Forward,
    /// What clients send first.
    first: First,
    /// How many connections.
    #[arg(long, default_value_t = 65_536)]
    count: u32,
    /// Take the routes of this network namespace, by these interfaces: to 10.1.0.1-64, whose neighbours have to be there.
    #[arg(long, value_delimiter = ',')]
    interfaces: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Forward {
    Nat,
    Dr,
    Tun,
    Fullnat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum First {
    Syn,
    Udp,
}

fn main() -> Result<ExitCode> {
    let Arguments { method, first, count, interfaces } = Arguments::parse();
    let method = match method {
        Forward::Nat => Method::Nat,
        Forward::Dr => Method::Dr,
        Forward::Tun => Method::Tun(Tunnel::Ipip),
        Forward::Fullnat => Method::FullNat,
    };
    let way = match first {
        First::Syn => Way::Syn,
        First::Udp => Way::Datagram,
    };
    if interfaces.is_empty() {
        run(method, way, count, &Hops)?;
    } else {
        run(method, way, count, &*routes(interfaces)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn run(method: Method, way: Way, count: u32, hops: &impl NextHops) -> Result<()> {
    let mut all = Flows::new(method, count);
    let flows: Vec<u32> = (0..count).collect();
    for batch in flows.chunks(BATCH) {
        all.fill(batch, way);
        let sent = begin(&mut all, hops, batch.len());
        ensure!(sent == batch.len(), "{sent} of {} were sent: {:?}", batch.len(), all.director.drops());
    }
    ensure!(all.director.table.len() == u64::from(count), "{} opened", all.director.table.len());
    let next = if way == Way::Datagram { way } else { Way::In };
    // After the first few packets a connection is like any.
    for turn in 0..=FIRST_FEW {
        for batch in flows.chunks(BATCH) {
            all.fill(batch, next);
            match turn {
                FIRST_FEW => go_on(&mut all, hops, batch.len()),
                _ => all.process_by(hops, batch.len()),
            };
        }
    }
    let later = Time(all.now.0 + LATER_MS);
    while !all.director.table.is_empty() {
        end(&mut all, later);
    }
    println!("{count} connections began and ended");
    Ok(())
}

/// What is counted of connections that begin: the whole packet path, and 2 % of that for making up the batch.
#[inline(never)]
fn begin(all: &mut Flows, hops: &impl NextHops, count: usize) -> usize {
    all.process_by(hops, count)
}

/// What is counted of connections that go on, likewise.
#[inline(never)]
fn go_on(all: &mut Flows, hops: &impl NextHops, count: usize) -> usize {
    all.process_by(hops, count)
}

/// What is counted of connections that end.
#[inline(never)]
fn end(all: &mut Flows, later: Time) {
    all.engine.expire(later);
}

/// The routes of this network namespace, once the servers' neighbours are known.
fn routes(interfaces: Vec<String>) -> Result<Arc<Snapshot>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mirror = Mirror::start(&MirrorOptions { interfaces, managed_neighbours: false }).await?;
        let servers: Vec<IpAddr> = servers().map(IpAddr::from).collect();
        mirror.watch(servers.clone());
        for _ in 0..100 {
            let snapshot = mirror.snapshots().load_full();
            let is_known = |server: &IpAddr| match NextHops::route(&*snapshot, *server, 0) {
                Route::Via(hop) => NextHops::hop(&*snapshot, hop).is_some(),
                _ => false,
            };
            if servers.iter().all(is_known) {
                mirror.stop().await;
                return Ok(snapshot);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("10.1.0.1-64 have no next hops: add their neighbours")
    })
}
