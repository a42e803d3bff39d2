//! Every scheduler against the slow words of its rule, through random histories of changes, connections and
//! thresholds.

use proptest::prelude::*;

use super::rules::{EXPIRATION, rule};
use super::*;

/// One step of a history: what to do and two numbers to do it with.
type Step = (u8, u32, u32);

fn play(kind: Kind, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut words = rule(kind);
    let mut pool = Pool::new(kind, PLAIN);
    let mut tick = 0;
    let expiration = Expiration { lblc_s: EXPIRATION / 4, lblcr_s: EXPIRATION / 4 };
    pool.scheduler.tend(tick, &expiration);
    for (n, &(what, a, b)) in steps.iter().enumerate() {
        let before = pool.list.clone();
        let there = before.get(a as usize % before.len().max(1)).map(|d| d.id.0);
        let change = match (what, there) {
            (0 | 1, _) if before.iter().all(|d| d.id.0 != a % 8 + 1) => {
                pool.add(a % 8 + 1, b % 8);
                Some(Change::Added)
            }
            (2, Some(server)) => {
                // Common divisors and large weights now and then.
                pool.edit(server, if b % 3 == 0 { b % 5 * 60 } else { b % 7 });
                Some(Change::Updated)
            }
            (3, Some(server)) => {
                let index = pool.index(server);
                pool.delete(server);
                Some(Change::Removed(index))
            }
            (4, Some(server)) => {
                pool.thresholds(server, b % 5, b % 5 / 2);
                None
            }
            (5, Some(server)) if pool.counts.active(ServerId(server)) > 0 => {
                pool.close(server);
                None
            }
            (6, Some(server)) if pool.counts.inactive(ServerId(server)) > 0 => {
                pool.counts.closed(ServerId(server), INACTIVE);
                None
            }
            (7, _) => {
                let options = Options { fallback: a % 2 == 0, port: b % 2 == 0, third: false };
                pool.switch(kind, options);
                Some(Change::Flags(options))
            }
            // Another scheduler for a moment: this one starts afresh, with the servers there are.
            (11, _) => {
                pool.switch(if kind == Kind::Rr { Kind::Wrr } else { Kind::Rr }, BOTH);
                pool.switch(kind, PLAIN);
                pool.scheduler.tend(tick, &expiration);
                words = rule(kind);
                Some(Change::Updated)
            }
            // Everybody is full, or nobody.
            (9, _) => {
                for d in &before {
                    pool.counts.opened(d.id, INACTIVE);
                    pool.counts.set_thresholds(d.id, 1, 1);
                }
                None
            }
            (10, _) => {
                before.iter().for_each(|d| pool.counts.set_thresholds(d.id, 0, 0));
                None
            }
            (8, _) => {
                tick += a % (EXPIRATION * 3 / 2);
                None
            }
            _ => None,
        };
        if let Some(change) = change {
            words.changed(change, &before, &pool.list);
        }
        for round in 0..3 {
            let (client, vip) = (a.wrapping_mul(7).wrapping_add(round), b % 3);
            let flow = if client % 4 == 3 {
                let v6 = |net: u128, host: u32| ((net << 96) | (u128::from(host) * 0x1_0001_0003)).into();
                FlowKey::v6(6, v6(0x2001_0db8, client), v6(0x2001_0db9, vip), client << 16 | 80)
            } else {
                FlowKey::v4(6, 0xc000_0200 ^ client, 0x0a00_0064 + vip, client << 16 | 80)
            };
            let request = Request { flow: &flow, tick, ramp: None };
            let expected = words.pick(&pool, &flow, tick);
            let index = pool.scheduler.pick(&pool.list, &pool.counts, &request);
            let chosen = index.map(|i| pool.list[i].id.0);
            prop_assert_eq!(chosen, expected, "{:?}, step {}, round {}", kind, n, round);
            if let (Some(server), true) = (chosen, what % 2 == 0) {
                pool.counts.opened(ServerId(server), if b % 4 == 0 { INACTIVE } else { ACTIVE });
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn every_scheduler_follows_its_rule(steps in proptest::collection::vec((0u8..14, any::<u32>(), any::<u32>()), 1..60)) {
        for &kind in Kind::ALL.iter().filter(|&&kind| kind != Kind::Mh) {
            play(kind, &steps)?;
        }
    }

    /// Over one whole period every server gets exactly its weight.
    #[test]
    fn wrr_gives_every_server_its_weight(weights in proptest::collection::vec(0u32..12, 1..6)) {
        let servers: Vec<_> = (1u32..).zip(weights.iter().copied()).collect();
        let pool = Pool::with(Kind::Wrr, PLAIN, &servers);
        let step = weights.iter().copied().filter(|&w| w > 0).reduce(super::super::wrr::gcd).unwrap_or(1);
        let period = weights.iter().sum::<u32>() / step;
        let mut given = vec![0; weights.len()];
        for _ in 0..period * 3 {
            given[pool.pick().unwrap() as usize - 1] += 1;
        }
        let expected: Vec<_> = weights.iter().map(|w| w / step * 3).collect();
        prop_assert_eq!(given, expected);
    }
}

proptest! {
    // Its oracle fills 4093 slots at every change.
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn mh_follows_its_rule(steps in proptest::collection::vec((0u8..14, any::<u32>(), any::<u32>()), 1..30)) {
        play(Kind::Mh, &steps)?;
    }
}

/// Shares of `n` choices of twos, in list order, within five standard deviations of `expected`.
fn assert_shares(pool: &Pool, expected: &[f64]) {
    const N: u32 = 60_000;
    let mut given = vec![0; expected.len()];
    for _ in 0..N {
        let server = pool.pick().unwrap();
        given[pool.index(server)] += 1;
    }
    for (&given, &p) in given.iter().zip(expected) {
        let n = f64::from(N);
        let deviation = (n * p * (1.0 - p)).sqrt();
        assert!((f64::from(given) - n * p).abs() <= 5.0 * deviation, "{given} of {N}, expected {p}");
    }
}

#[test]
fn twos_draws_by_weight_and_takes_the_less_loaded() {
    // Draws of 0..=6: the first in the list gets 0 as well. Without load the first draw wins.
    let mut pool = Pool::with(Kind::Twos, PLAIN, &[(1, 1), (2, 2), (3, 3)]);
    assert_shares(&pool, &[4.0 / 7.0, 2.0 / 7.0, 1.0 / 7.0]);
    // The loaded one is taken only when both draws are its own.
    pool.counts.opened(ServerId(3), ACTIVE);
    let (three, two, one) = (4.0 / 7.0, 2.0 / 7.0, 1.0 / 7.0);
    let (other_two, other_one) = (two * (two + one + three), one * (two + one + three));
    assert_shares(&pool, &[three * three, other_two + three * two, other_one + three * one]);
    // Full and quiesced servers are not drawn at all.
    pool.edit(2, 0);
    pool.thresholds(3, 1, 0);
    assert_shares(&pool, &[0.0, 0.0, 1.0]);
}
