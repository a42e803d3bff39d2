//! The packet path allocates nothing: not for an established packet, not for a new connection, not for its end.

#![allow(missing_docs)]

use allocation_counter::measure;
use xvs::director::engine::BATCH;
use xvs::director::sched::{Change, Kind, Options, Request, Schedule, Scheduler};
use xvs::director::server::{Counts, Destination, ServerId};
use xvs::director::service::{Method, Server};
use xvs::director::time::Time;
use xvs::packet::flow::FlowKey;

#[path = "../benches/common/flows.rs"]
#[allow(dead_code, reason = "shared with the benches")]
mod flows;
use flows::{Flows, Way, shuffled};

fn allocations(what: impl FnOnce()) -> u64 {
    measure(what).count_total
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1u8; 100]))), 1);
}

#[test]
fn established_packets_allocate_nothing() {
    for (method, way) in [
        (Method::Nat, Way::In),
        (Method::Nat, Way::Out),
        (Method::Dr, Way::In),
        (Method::FullNat, Way::In),
        (Method::FullNat, Way::Out),
    ] {
        let mut all = Flows::established(method, 10_000);
        for flows in shuffled(10_000).chunks_exact(BATCH) {
            all.fill(flows, way);
            assert_eq!(allocations(|| assert_eq!(all.process(BATCH), BATCH)), 0, "{method:?} {way:?}");
        }
    }
}

/// First ones, later ones, some too early, pieces of what is too long, and what is forgotten.
#[test]
fn fragments_allocate_nothing() {
    for method in [Method::Nat, Method::Dr, Method::FullNat] {
        let mut all = Flows::established(method, 1024);
        for round in 0..4 {
            let flows: Vec<u32> = (0..64).map(|n| n % 32).collect();
            all.fill(&flows, Way::In);
            // A first fragment of 24 bytes and a last one of 26, of each of 32 flows; the last comes first in odd rounds.
            all.edit(|n, frame| {
                let is_last = (n < 32) == (round % 2 == 1);
                frame[18..20].copy_from_slice(&u16::to_be_bytes(round));
                let (len, field): (u16, u16) = if is_last { (50, 3) } else { (44, 0x2000) };
                frame[16..18].copy_from_slice(&len.to_be_bytes());
                frame[20..22].copy_from_slice(&field.to_be_bytes());
            });
            let mut sent = 0;
            let made = allocations(|| sent = all.process(BATCH));
            assert_eq!((made, sent), (0, if round % 2 == 1 { 32 } else { 64 }), "{method:?}");
            let waited = all.engine.outbox().frames().count();
            assert_eq!(waited, if round % 2 == 1 { 32 } else { 0 });
            all.engine.outbox().clear();
        }
        assert_eq!(allocations(|| while all.engine.expire(all.now) {}), 0);
    }
}

#[test]
fn new_connections_and_their_end_allocate_nothing() {
    for method in [Method::Nat, Method::Dr, Method::FullNat] {
        let mut all = Flows::new(method, 4096);
        // Twice, so that slots are used again too.
        for _ in 0..2 {
            for first in (0..4096).step_by(BATCH) {
                let flows: Vec<u32> = (first..first + 64).collect();
                all.fill(&flows, Way::Syn);
                assert_eq!(allocations(|| assert_eq!(all.process(BATCH), BATCH)), 0, "{method:?}");
            }
            all.now = Time(all.now.0 + 100_000);
            let end = allocations(|| while all.engine.expire(all.now) {});
            assert_eq!((end, all.director.table.len()), (0, 0), "{method:?}");
            all.engine.rest();
        }
    }
}

#[test]
fn choosing_a_server_allocates_nothing() {
    let server = |n: u32| {
        let new = Server { weight: n + 1, ..Server::new(([10, 1, 0, 1], 80).into(), Method::Nat) };
        Destination::new(ServerId(n), &new)
    };
    let (list, counts) = ([0, 1, 2, 3].map(server), Counts::new(4));
    for &kind in Kind::ALL {
        let scheduler = Scheduler::new(kind, Options::default()).changed(Change::Updated, &list);
        // More destinations than lblc and lblcr remember.
        let choices = allocations(|| {
            for destination in 0..30_000 {
                let flow = FlowKey::v4(6, 0x0a00_0101, destination, 4711 << 16 | 80);
                scheduler.pick(&list, &counts, &Request { flow: &flow, tick: 0, ramp: None });
            }
        });
        assert_eq!(choices, 0, "{kind:?}");
    }
}
