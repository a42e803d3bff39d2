//! Slow start against the slow words of its rule.

use proptest::prelude::*;

use super::super::ramp::WHOLE;
use super::*;

/// One server: weight, the tick since which it takes connections, active and inactive ones.
type Given = (u32, u32, u32, u32);

fn pool(kind: Kind, servers: &[Given], ramp: Ramp) -> Pool {
    let mut pool = Pool::new(kind, PLAIN);
    for (name, &(weight, ..)) in (1u32..).zip(servers) {
        pool.add(name, weight);
    }
    for (name, &(_, since, active, inactive)) in (1u32..).zip(servers) {
        let index = pool.index(name);
        pool.list[index].since = since;
        (0..active).for_each(|_| pool.counts.opened(ServerId(name), ACTIVE));
        (0..inactive).for_each(|_| pool.counts.opened(ServerId(name), INACTIVE));
    }
    pool.ramp = Some(ramp);
    pool
}

/// The parts of its share that a server has, counted one by one.
fn parts(server: &Destination, ramp: Ramp) -> u64 {
    let grown = u64::from(ramp.tick - server.since.min(ramp.tick));
    let has = |part: &u64| part * u64::from(ramp.ticks) <= grown * WHOLE;
    (1..=WHOLE).take_while(has).last().unwrap_or(1)
}

/// Who has the least of `load` for its weight and share; none is better, and none of those before it is as good.
fn rule(pool: &Pool, ramp: Ramp, load: impl Fn(&Destination) -> (u64, u64)) -> Option<u32> {
    let usable: Vec<_> = pool.list.iter().filter(|d| d.weight > 0).collect();
    let better = |a: &Destination, b: &Destination| {
        let ((a_over, a_under), (b_over, b_under)) = (load(a), load(b));
        let (a_share, b_share) = (parts(a, ramp), parts(b, ramp));
        u128::from(a_over) * u128::from(b_under) * u128::from(b_share)
            < u128::from(b_over) * u128::from(a_under) * u128::from(a_share)
    };
    usable.iter().find(|d| usable.iter().all(|other| !better(other, d))).map(|d| d.id.0)
}

fn expected(kind: Kind, pool: &Pool, ramp: Ramp) -> Option<u32> {
    let active = |d: &Destination| u64::from(pool.counts.active(d.id));
    let overhead = |d: &Destination| active(d) * 257 + u64::from(pool.counts.inactive(d.id));
    let weight = |d: &Destination| u64::from(d.weight);
    match kind {
        Kind::Lc => rule(pool, ramp, |d| (overhead(d), 1)),
        Kind::Wlc => rule(pool, ramp, |d| (overhead(d), weight(d))),
        Kind::Sed => rule(pool, ramp, |d| (active(d) + 1, weight(d))),
        Kind::Nq => {
            // Idle, and past its start.
            let free = |d: &&Destination| d.weight > 0 && active(d) == 0 && parts(d, ramp) == WHOLE;
            let first = pool.list.iter().find(free).map(|d| d.id.0);
            first.or_else(|| rule(pool, ramp, |d| (active(d) + 1, weight(d))))
        }
        other => panic!("{other:?}"),
    }
}

fn given() -> impl Strategy<Value = Given> {
    let weight = prop_oneof![8 => 0u32..6, 1 => Just(i32::MAX.unsigned_abs())];
    (weight, 0u32..130, 0u32..6, 0u32..300)
}

proptest! {
    #[test]
    fn the_least_loaded_for_its_share_is_chosen(
        servers in proptest::collection::vec(given(), 1..6),
        ticks in 1u32..120,
    ) {
        let ramp = Ramp { tick: 120, ticks };
        for kind in [Kind::Lc, Kind::Wlc, Kind::Sed, Kind::Nq] {
            let pool = pool(kind, &servers, ramp);
            prop_assert_eq!(pool.pick(), expected(kind, &pool, ramp), "{:?}", kind);
        }
    }

    /// Any run of choices gives every server its part, but for a few.
    #[test]
    fn wrr_gives_every_server_its_weight_cut_to_its_share(
        servers in proptest::collection::vec(given(), 1..6),
        ticks in 1u32..120,
        skipped in 0usize..100,
        n in 1usize..2000,
    ) {
        let ramp = Ramp { tick: 120, ticks };
        let pool = pool(Kind::Wrr, &servers, ramp);
        let part = |d: &Destination| f64::from(d.weight) * parts(d, ramp) as f64;
        let sum: f64 = pool.list.iter().map(part).sum();
        if sum == 0.0 {
            prop_assert_eq!(pool.pick(), None);
            return Ok(());
        }
        pool.next(skipped);
        let names = pool.next(n);
        for d in &pool.list {
            let given = names.matches(&d.id.0.to_string()).count() as f64;
            let wanted = n as f64 * part(d) / sum;
            prop_assert!((given - wanted).abs() < 8.0, "{} of {}, not {}", given, n, wanted);
        }
    }
}

/// A server joins two that have long-lived connections: at every moment of its start it has its share of what they
/// have, no more.
#[test]
fn connections_follow_the_share() {
    for kind in [Kind::Lc, Kind::Wlc, Kind::Sed, Kind::Nq] {
        let mut pool =
            pool(kind, &[(1, 0, 1000, 0), (1, 0, 1000, 0), (1, 1000, 0, 0)], Ramp { tick: 0, ticks: 400 });
        for tick in 1000..1400 {
            pool.ramp = Some(Ramp { tick, ticks: 400 });
            pool.open(20);
            let of = |server| f64::from(pool.counts.active(ServerId(server)));
            let (share, others) = (f64::from(tick - 1000) / 400.0, of(1).min(of(2)));
            assert!(
                of(3) <= share * others + others / 1000.0 + 3.0,
                "{kind:?} at {tick}: {} to {others}",
                of(3)
            );
        }
        let of = |server| f64::from(pool.counts.active(ServerId(server)));
        assert!(of(3) > 0.95 * of(1), "{kind:?}: it has all of its share in the end, {} to {}", of(3), of(1));
        // Without a start it would have had every one of the first thousand.
        pool.ramp = None;
    }
}
