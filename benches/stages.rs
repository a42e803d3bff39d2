//! The stages of the packet path one by one, in memory. `cargo bench --bench stages`.

#![allow(missing_docs)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use xvs::director::conn::Direction;
use xvs::director::forward::apply;
use xvs::director::forward::hops::{HopId, NextHops};
use xvs::director::sched::{Change, Kind, Options, Schedule, Scheduler};
use xvs::director::server::{Counts, Destination, ServerId};
use xvs::director::service::{Method, Server};
use xvs::packet::flow::FlowKey;
use xvs::packet::parse::parse;

#[path = "common/flows.rs"]
#[allow(dead_code, reason = "shared with the bench of whole batches")]
mod flows;
use flows::{Flows, Hops, Way, shuffled};

fn packets(c: &mut Criterion) {
    let all = Flows::established(Method::Nat, 1000);
    let frame = all.frame(1, Way::In);
    c.bench_function("parse", |b| b.iter(|| parse(black_box(&frame))));
    let parsed = parse(&frame).expect("a good frame");
    c.bench_function("hash", |b| b.iter(|| all.director.table.hash(black_box(&parsed.key))));
    let table = &all.director.table;
    let found = table.find(table.hash(&parsed.key), &parsed.key).expect("established");
    let (slot, hop) = (table.slot(found.slot), Hops.hop(HopId(1)).expect("resolved"));
    let mut room = frame;
    c.bench_function("rewrite", |b| {
        b.iter(|| {
            apply(
                black_box(&mut room),
                &parsed,
                slot.recipe(Direction::In),
                || slot.key(Direction::Out),
                &hop,
            )
        });
    });
}

fn lookup(c: &mut Criterion) {
    let mut group = c.benchmark_group("lookup");
    for count in [1_000, 100_000, 1_000_000] {
        let all = Flows::established(Method::Nat, count);
        let table = &all.director.table;
        let keys = |from: u32| -> Vec<FlowKey> {
            let order = shuffled(count.min(1 << 16));
            let spread = count / count.min(1 << 16);
            order
                .iter()
                .map(|n| parse(&all.frame(from + n * spread, Way::In)).expect("a good frame").key)
                .collect()
        };
        for (name, keys) in [("hit", keys(0)), ("miss", keys(1 << 23))] {
            let mut at = 0;
            group.bench_function(BenchmarkId::new(name, count), |b| {
                b.iter(|| {
                    at = if at + 1 == keys.len() { 0 } else { at + 1 };
                    table.find(table.hash(&keys[at]), &keys[at])
                });
            });
        }
    }
}

fn schedule(c: &mut Criterion) {
    let mut group = c.benchmark_group("schedule");
    for servers in [8u8, 64] {
        let list: Vec<Destination> = (0..servers)
            .map(|n| {
                let server = Server::new(([10, 1, 0, n], 80).into(), Method::Nat);
                Destination::new(ServerId(u32::from(n)), &Server { weight: u32::from(n % 4 + 1), ..server })
            })
            .collect();
        let counts = Counts::new(256);
        let flow = FlowKey::v4(6, 0x0a00_0101, 0x0a00_0064, 4711 << 16 | 80);
        for &kind in Kind::ALL {
            let scheduler = Scheduler::new(kind, Options::default()).changed(Change::Updated, &list);
            group.bench_function(BenchmarkId::new(kind.name(), servers), |b| {
                b.iter(|| scheduler.pick(black_box(&list), &counts, &flow));
            });
        }
    }
}

fn insert(c: &mut Criterion) {
    use xvs::director::conn::{NewConnection, Shard, Table, state};
    use xvs::director::forward::hops::Route;
    use xvs::director::forward::recipe;
    const COUNT: u32 = 10_000;
    let way = recipe::Way { route: Route::Unknown, generation: 0 };
    let rewrite =
        recipe::Recipe { rewrite: recipe::Rewrite::Tuple, l3: Default::default(), l4: Default::default() };
    let new: Vec<NewConnection> = (0..COUNT)
        .map(|n| NewConnection {
            client: (FlowKey::v4(6, n, 1, 4711 << 16 | 80), rewrite, way),
            server: (FlowKey::v4(6, 2, n, 80 << 16 | 4711), rewrite, way),
            replies: true,
            status: state::Status {
                state: state::State::SynRecv,
                inactive: false,
                no_output: false,
                removed: false,
            },
            server_id: 0,
            template: None,
            learned: ([0; 6], 0),
            tick: 0,
        })
        .collect();
    c.bench_function("insert_10000_connections_of_two_keys", |b| {
        b.iter_batched(
            || {
                let table = Table::new(2 * COUNT, 1, (1, 2), true).expect("address space");
                let shard = Shard::new(&table, 0);
                (table, shard)
            },
            |(table, mut shard)| {
                for one in &new {
                    shard.insert(&table, one, 240).expect("room");
                }
                (table, shard)
            },
            BatchSize::PerIteration,
        );
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(300));
    targets = packets, lookup, schedule, insert
}
criterion_main!(benches);
