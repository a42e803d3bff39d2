//! The stages of the packet path one by one, in memory. `cargo bench --bench stages`.

#![allow(missing_docs)]

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use xvs::director::conn::Direction;
use xvs::director::conn::state::{State, Status};
use xvs::director::forward::apply;
use xvs::director::forward::hops::{HopId, NextHops, Origin};
use xvs::director::sched::{Change, Kind, Options, Request, Schedule, Scheduler};
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

/// With connections to choose among, and at its worst: only the last server of the list may take one.
fn schedule(c: &mut Criterion) {
    type Weight = fn(u32) -> u32;
    let mut group = c.benchmark_group("schedule");
    for servers in [64, 1000] {
        let list = |weight: Weight| -> Vec<Destination> {
            let server = |n| {
                let address = (Ipv4Addr::from_bits(0x0a01_0000 + n), 80).into();
                let new = Server { weight: weight(n), ..Server::new(address, Method::Nat) };
                Destination { last_weight: n % 4 + 1, ..Destination::new(ServerId(n), &new) }
            };
            (0..servers).rev().map(server).collect()
        };
        let counts = Counts::new(servers);
        let status = Status { state: State::Established, inactive: false, no_output: false, removed: false };
        for n in 0..servers {
            // As many as weigh, and some more here and there.
            (0..n % 4 + 1 + n % 3).for_each(|_| counts.opened(ServerId(n), status));
        }
        let flow = FlowKey::v4(6, 0x0a00_0101, 0x0a00_0064, 4711 << 16 | 80);
        let options = Options { fallback: true, ..Options::default() };
        let weights: [(_, Weight); 2] = [("all", |n| n % 4 + 1), ("last", |n| u32::from(n == 0))];
        for (name, weight) in weights {
            let list = list(weight);
            for &kind in Kind::ALL {
                let scheduler = Scheduler::new(kind, options).changed(Change::Updated, &list);
                let id = BenchmarkId::new(format!("{}-{name}", kind.name()), servers);
                group.bench_function(id, |b| {
                    let request = Request { flow: &flow, tick: 1, ramp: None };
                    b.iter(|| scheduler.pick(black_box(&list), &counts, &request));
                });
            }
        }
    }
}

fn insert(c: &mut Criterion) {
    use xvs::director::conn::{NewConnection, Replies, Shard, Table, state};
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
            hashes: None,
            outer_source: None,
            replies: Replies::Newest,
            status: state::Status {
                state: state::State::SynRecv,
                inactive: false,
                no_output: false,
                removed: false,
            },
            server_id: 0,
            template: None,
            aside: 0,
            learned: Origin::default(),
            tick: 0,
            timeout_s: 300,
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
