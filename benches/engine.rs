//! Whole batches through the engine, in memory: ns per packet by method, direction and number of flows.
//!
//! `cargo bench --bench engine`. Times are of one packet in a full batch: the median batch of a sample, since
//! other work on the machine now and then interrupts one. Before anything is timed the memory of a connection is
//! measured and printed.

#![allow(missing_docs)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use xvs::director::engine::BATCH;
use xvs::director::service::{Method, Tunnel, TunnelChecksum};
use xvs::director::time::Time;

#[path = "common/flows.rs"]
mod flows;
use flows::{Flows, Way, shuffled};

const COUNTS: [u32; 3] = [1_000, 100_000, 1_000_000];

/// The time for `packets` at the pace of the median batch; `batch` times one.
fn at_median_pace(packets: u64, mut batch: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<Duration> = (0..packets.div_ceil(BATCH as u64)).map(|_| batch()).collect();
    let middle = times.len() / 2;
    let (_, median, _) = times.select_nth_unstable(middle);
    median.mul_f64(packets as f64 / BATCH as f64)
}

/// One batch, all of it forwarded.
fn timed(all: &mut Flows) -> Duration {
    let start = Instant::now();
    let sent = all.process(BATCH);
    let spent = start.elapsed();
    assert_eq!(sent, BATCH);
    spent
}

/// Packets of established connections, in an order without locality.
fn established(c: &mut Criterion) {
    let gue = Tunnel::Gue { port: 6080, checksum: TunnelChecksum::None };
    for (name, method, ways) in [
        ("nat", Method::Nat, &[Way::In, Way::Out][..]),
        ("dr", Method::Dr, &[Way::In]),
        ("fullnat", Method::FullNat, &[Way::In, Way::Out]),
        ("tun_ipip", Method::Tun(Tunnel::Ipip), &[Way::In]),
        ("tun_gue", Method::Tun(gue), &[Way::In]),
    ] {
        let mut group = c.benchmark_group(format!("established_{name}"));
        group.throughput(Throughput::Elements(1));
        for count in COUNTS {
            let mut all = Flows::established(method, count);
            let order = shuffled(count);
            for &way in ways {
                let mut at = 0;
                group.bench_function(BenchmarkId::new(format!("{way:?}"), count), |b| {
                    b.iter_custom(|packets| {
                        at_median_pace(packets, || {
                            at = if at + BATCH > order.len() { 0 } else { at };
                            all.fill(&order[at..at + BATCH], way);
                            at += BATCH;
                            timed(&mut all)
                        })
                    });
                });
            }
        }
    }
}

/// A new connection: a SYN or a datagram that misses, is scheduled, and enters the keys that its method needs.
fn opening(c: &mut Criterion) {
    let mut group = c.benchmark_group("new_connection");
    group.throughput(Throughput::Elements(1));
    const CAPACITY: u32 = 1 << 20;
    let batch_len = u32::try_from(BATCH).expect("a batch is small");
    for (name, method, way) in [
        ("nat", Method::Nat, Way::Syn),
        ("dr", Method::Dr, Way::Syn),
        ("fullnat", Method::FullNat, Way::Syn),
        ("nat_udp", Method::Nat, Way::Datagram),
    ] {
        let mut all = Flows::new(method, CAPACITY);
        let mut next = 0;
        group.bench_function(name, |b| {
            b.iter_custom(|packets| {
                at_median_pace(packets, || {
                    if next + batch_len > CAPACITY {
                        all = Flows::new(method, CAPACITY);
                        next = 0;
                    }
                    let batch: Vec<u32> = (next..next + batch_len).collect();
                    next += batch_len;
                    all.fill(&batch, way);
                    timed(&mut all)
                })
            });
        });
    }
}

/// The end of a connection: its timer comes up, it leaves the index, its slot is freed.
fn expiring(c: &mut Criterion) {
    let mut group = c.benchmark_group("expire");
    group.throughput(Throughput::Elements(1));
    const COUNT: u32 = 100_000;
    group.sample_size(10).bench_function("connection", |b| {
        b.iter_custom(|wanted| {
            let (mut spent, mut done) = (Duration::ZERO, 0);
            while done < wanted {
                let mut all = Flows::established(Method::Nat, COUNT);
                let later = Time(all.now.0 + 902_000);
                let start = Instant::now();
                while !all.director.table.is_empty() {
                    all.engine.expire(black_box(later));
                }
                spent += start.elapsed();
                done += u64::from(COUNT);
            }
            spent.mul_f64(wanted as f64 / done as f64)
        });
    });
}

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = statm.split_whitespace().nth(1).expect("a second field").parse().expect("a number");
    pages * 4096
}

fn memory(_: &mut Criterion) {
    const COUNT: u32 = 1_000_000;
    let before = resident();
    let all = Flows::established(Method::Nat, COUNT);
    let bytes = resident() - before;
    println!(
        "memory: {COUNT} NAT connections take {bytes} bytes more, index and counters included: {} a connection",
        bytes / u64::from(COUNT)
    );
    drop(all);
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_millis(500));
    targets = memory, established, opening, expiring
}
criterion_main!(benches);
