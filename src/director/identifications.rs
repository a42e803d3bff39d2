//! Identifications of packets of the director's own that are, or may be, fragmented: those of tunnels, and those that get
//! another IP version.
//!
//! No two workers give the same one, so that nobody mixes up their pieces; each comes again as late as can be. (What the
//! steering program sends on has others, which are the same no more often than by chance: `src/xdp/cpu.bpf.h` says why that
//! does.) Who knows some of IPv6 knows nothing of the next (RFC 7739): they are a counter's numbers, put in another order by
//! a permutation that a secret chooses. IPv4 packets are many, and their field is too short to be a secret: those are counted, from a
//! random number on.

use super::Director;
use super::conn::FlowHasher;

/// What the table is asked for a hasher for.
const PURPOSE: u64 = 1;
/// Rounds of the permutation: four make it one that cannot be told from any (Luby and Rackoff, 1988).
const ROUNDS: u64 = 4;

/// Of one worker.
#[derive(Debug)]
pub(super) struct Identifications {
    last: u32,
    last_v4: u32,
    stride: u32,
    secret: FlowHasher,
}

impl Identifications {
    /// Those of a worker.
    pub(super) fn new(worker: u32, director: &Director) -> Self {
        Self::under(director.table.hasher_for(PURPOSE), worker, director.workers())
    }

    /// Of this of so many workers, who share the secret.
    fn under(secret: FlowHasher, worker: u32, workers: usize) -> Self {
        // A power of two, so that each keeps to its own when they begin anew.
        let stride = u32::try_from(workers.max(1).next_power_of_two()).unwrap_or(1);
        let start = half(secret.of_words([ROUNDS, u64::from(worker)])) & !(stride - 1);
        Self { last: worker, last_v4: start | worker, stride, secret }
    }

    /// One for IPv6.
    pub(super) fn next(&mut self) -> u32 {
        self.last = self.last.wrapping_add(self.stride);
        permuted(self.last, |round, half| self.secret.of_words([round, half]))
    }

    /// One for IPv4, where they are half as long.
    #[allow(clippy::cast_possible_truncation, reason = "the lower half, which is a worker's own as well")]
    pub(super) fn next_v4(&mut self) -> u16 {
        self.last_v4 = self.last_v4.wrapping_add(self.stride);
        self.last_v4 as u16
    }
}

/// The number's place in an order that `hash` chooses: a Feistel network, so that each number has one of its own.
fn permuted(number: u32, hash: impl Fn(u64, u64) -> u64) -> u32 {
    let (mut left, mut right) = (number >> 16, number & 0xffff);
    for round in 0..ROUNDS {
        (left, right) = (right, left ^ half(hash(round, u64::from(right))));
    }
    left << 16 | right
}

/// As many bits of a hash as half a number has.
#[allow(clippy::cast_possible_truncation, reason = "sixteen bits")]
const fn half(hash: u64) -> u32 {
    hash as u32 & 0xffff
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn of(worker: u32, workers: usize, key: u64) -> Identifications {
        Identifications::under(FlowHasher::new((key, 2)), worker, workers)
    }

    #[test]
    fn no_two_workers_give_the_same_and_none_comes_again() {
        let mut workers: Vec<_> = (0..3).map(|worker| of(worker, 3, 1)).collect();
        let mut seen = HashSet::new();
        for _ in 0..100_000 {
            for worker in &mut workers {
                assert!(seen.insert(worker.next()));
            }
        }
        let mut of_v4: Vec<HashSet<u16>> = vec![HashSet::new(); 3];
        for _ in 0..16_384 {
            for (worker, seen) in workers.iter_mut().zip(&mut of_v4) {
                assert!(seen.insert(worker.next_v4()), "all that are its own, once");
            }
        }
        assert!(of_v4[0].is_disjoint(&of_v4[1]) && of_v4[1].is_disjoint(&of_v4[2]));
    }

    /// Every bit of the next one is as likely to be another as not, whatever the last one was.
    #[test]
    fn one_does_not_tell_the_next() {
        let mut ids = of(0, 2, 1);
        let numbers: Vec<u32> = (0..20_000).map(|_| ids.next()).collect();
        for bit in 0..32 {
            let changes = numbers.windows(2).filter(|pair| (pair[0] ^ pair[1]) >> bit & 1 == 1).count();
            assert!((9_500..10_500).contains(&changes), "bit {bit} changes {changes} times");
        }
        let steps: HashSet<u32> = numbers.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
        assert!(steps.len() > 19_900, "{} steps", steps.len());
        let (mut one, mut other) = (of(0, 2, 1), of(0, 2, 3));
        assert!((0..100).all(|_| one.next() != other.next()), "another secret, another order");
        assert_ne!(of(0, 2, 1).next_v4(), of(0, 2, 3).next_v4());
    }

    #[test]
    fn the_order_has_every_number_once() {
        // So there is a way back.
        let hash = |round: u64, half: u64| FlowHasher::new((7, 9)).of_words([round, half]);
        for number in (0..=u32::MAX).step_by(65_537) {
            let there = permuted(number, hash);
            let (mut left, mut right) = (there >> 16, there & 0xffff);
            for round in (0..ROUNDS).rev() {
                (left, right) = (right ^ half(hash(round, u64::from(left))), left);
            }
            assert_eq!(left << 16 | right, number);
        }
    }
}
