//! What grows: ten million connections in one table, and two workers on one table.
//!
//! `cargo bench --bench scale`. Not a bench of criterion's: each figure is one long run, printed with its spread and beside
//! what it may be. Needs some 3 GiB of memory and two cores that nobody else uses: the load of the machine is printed first,
//! since what others do shows in the longest turn and in the ratio most of all.

#![allow(missing_docs)]

use std::sync::Barrier;
use std::time::{Duration, Instant};

use xvs::director::engine::BATCH;
use xvs::director::service::Method;
use xvs::director::time::Time;

#[path = "common/flows.rs"]
mod flows;
use flows::{Flows, Way, shuffled};

/// Connections in the large table.
const MANY: u32 = 10_000_000;
/// Connections that two workers share.
const SHARED: u32 = 100_000;
/// How often what two workers do is compared with what one does.
const ROUNDS: usize = 9;
/// How long each of them is measured.
const ROUND: Duration = Duration::from_millis(500);

fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let load = std::fs::read_to_string("/proc/loadavg").expect("Linux");
    println!("load of the machine before: {}", load.trim());
    ten_million();
    two_workers();
}

/// Prints a figure beside its bound, and whether it keeps to it.
fn say(what: &str, figure: f64, bound: Bound, unit: &str) {
    let (is_kept, word, bound) = match bound {
        Bound::AtMost(most) => (figure <= most, "at most", most),
        Bound::AtLeast(least) => (figure >= least, "at least", least),
    };
    let outcome = if is_kept { "kept" } else { "MISSED" };
    println!("{what:<58} {figure:>8.2} {unit:<6} {word} {bound}: {outcome}");
}

/// What a figure may be.
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = statm.split_whitespace().nth(1).expect("a second field").parse().expect("a number");
    pages * 4096
}

fn ten_million() {
    let before = resident();
    let mut all = Flows::established(Method::Nat, MANY);
    let bytes = (resident() - before) as f64 / f64::from(MANY);
    say("memory of each of 10 million NAT connections", bytes, Bound::AtMost(256.0), "bytes");

    let order = shuffled(MANY);
    for way in [Way::In, Way::Out] {
        let mut batches: Vec<f64> = order
            .chunks_exact(BATCH)
            .take(40_000)
            .map(|chosen| {
                all.fill(chosen, way);
                let start = Instant::now();
                assert_eq!(all.process(BATCH), BATCH);
                start.elapsed().as_nanos() as f64 / BATCH as f64
            })
            .collect();
        batches.sort_by(f64::total_cmp);
        let at = |percent: usize| batches[batches.len() * percent / 100];
        let what = format!("a packet of one at random, {way:?}, lookup and all (median)");
        say(&what, at(50), Bound::AtMost(120.0), "ns");
        println!("    from {:.1} ns in the first tenth of batches to {:.1} in 99 of 100", at(10), at(99));
    }
    drop(order);

    steady_expiry(&mut all);
}

/// Connections end as steadily as they came: each turn a millisecond later than the one before.
fn steady_expiry(all: &mut Flows) {
    /// What an established connection lives for without packets.
    const LIFE_MS: u64 = 900_000;
    /// All of them are heard once more, over so long.
    const OVER_MS: u64 = 300_000;
    let start_ms = all.now.0 + 1_000;
    let everybody: Vec<u32> = (0..MANY).collect();
    for flows in everybody.chunks(BATCH) {
        all.now = Time(start_ms + OVER_MS * u64::from(flows[0]) / u64::from(MANY));
        all.fill(flows, Way::In);
        all.process(flows.len());
        all.engine.expire(all.now);
    }
    let (mut turns, mut longest, mut spent) = (0u64, Duration::ZERO, Duration::ZERO);
    let mut over_1_ms = 0u64;
    let held = all.director.table.len();
    let mut now = Time(start_ms + OVER_MS);
    while now.0 < start_ms + LIFE_MS + OVER_MS + 10_000 {
        now = Time(now.0 + 1);
        let start = Instant::now();
        all.engine.expire(now);
        let took = start.elapsed();
        turns += 1;
        spent += took;
        longest = longest.max(took);
        over_1_ms += u64::from(took > Duration::from_millis(1));
    }
    let left = all.director.table.len();
    let ms = longest.as_secs_f64() * 1e3;
    say("the longest of the turns in which they expire", ms, Bound::AtMost(1.0), "ms");
    println!(
        "    {held} connections over {} s, {left} left; {turns} turns, {over_1_ms} over 1 ms, {:.0} ns a connection",
        OVER_MS / 1000,
        spent.as_nanos() as f64 / held as f64,
    );
}

/// Packets of established connections, of one worker by itself and of two at a time.
fn two_workers() {
    let [mut first, mut second] = Flows::of_two_workers(Method::Nat, SHARED);
    let order = shuffled(SHARED);
    let (front, back) = order.split_at(order.len() / 2);
    let run = |all: &mut Flows, flows: &[u32], gate: &Barrier| {
        let mut batches = flows.chunks_exact(BATCH).cycle();
        gate.wait();
        let (start, mut spent, mut packets) = (Instant::now(), Duration::ZERO, 0u64);
        while start.elapsed() < ROUND {
            all.fill(batches.next().expect("a cycle"), Way::In);
            let batch = Instant::now();
            packets += all.process(BATCH) as u64;
            spent += batch.elapsed();
        }
        packets as f64 / spent.as_secs_f64()
    };
    let mut ratios: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let alone = Barrier::new(1);
            let one = (run(&mut first, front, &alone) + run(&mut second, back, &alone)) / 2.0;
            let gate = Barrier::new(2);
            let both = std::thread::scope(|scope| {
                let other = scope.spawn(|| run(&mut second, back, &gate));
                run(&mut first, front, &gate) + other.join().expect("it ends")
            });
            both / one
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    let what = "two workers on one table, of what one does (median)";
    say(what, ratios[ROUNDS / 2], Bound::AtLeast(1.9), "times");
    println!("    from {:.2} to {:.2} in {ROUNDS} rounds", ratios[0], ratios[ROUNDS - 1]);
}
