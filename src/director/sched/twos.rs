//! The better of two random choices (`ip_vs_twos.c`): two draws by weight, and of the two the one with less
//! overhead for its weight; the first draw's among equals.
//!
//! The kernel's products overflow 32 bits when servers are heavy and busy at once, and the worse one wins. Here
//! they do not.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Change, Request, Schedule};
use crate::director::server::{Counts, Destination};

/// The state of `SplitMix64`: each draw moves it on by the same amount, whichever worker draws.
#[derive(Debug)]
pub struct Twos {
    state: AtomicU64,
}

impl Default for Twos {
    fn default() -> Self {
        Self { state: AtomicU64::new(RandomState::new().hash_one(0)) }
    }
}

#[cfg(test)]
impl Twos {
    /// What the next choice will draw of 0..=`most`.
    pub(super) fn next_draws(&self, most: u64) -> [u64; 2] {
        let state = AtomicU64::new(self.state.load(Relaxed));
        [draw(&state, most), draw(&state, most)]
    }
}

/// A random number of 0..=`most`.
#[allow(clippy::cast_possible_truncation, reason = "the upper half of a product of 64 bits each")]
fn draw(state: &AtomicU64, most: u64) -> u64 {
    let mut z = state.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    ((u128::from(z) * (u128::from(most) + 1)) >> 64) as u64
}

impl Schedule for Twos {
    fn pick(&self, list: &[Destination], counts: &Counts, _: &Request<'_>) -> Option<usize> {
        let usable = || list.iter().enumerate().filter(|(_, d)| counts.usable(d));
        let total = usable().map(|(_, d)| u64::from(d.weight)).sum();
        // A draw falls on the server whose weight brings the sum up to it; 0 falls on the first.
        let (one, other) = (draw(&self.state, total), draw(&self.state, total));
        let (mut sum, mut chosen, mut second) = (0, None, None);
        for (index, server) in usable() {
            sum += u64::from(server.weight);
            if chosen.is_none() && one <= sum {
                chosen = Some((index, server));
            }
            if second.is_none() && other <= sum {
                second = Some((index, server));
            }
            if chosen.is_some() && second.is_some() {
                break;
            }
        }
        let load = |d: &Destination| (u64::from(counts.overhead(d.id)), u64::from(d.weight));
        let Some((index, server)) = chosen else {
            // Another worker's connection filled up the server that was drawn.
            return usable().next().map(|(index, _)| index);
        };
        let (over, under) = load(server);
        let better = second.filter(|(_, d)| {
            let (second_over, second_under) = load(d);
            over * second_under > second_over * under
        });
        Some(better.map_or(index, |(index, _)| index))
    }

    fn changed(&self, _: Change, _: &[Destination]) -> Self {
        Self { state: AtomicU64::new(self.state.load(Relaxed)) }
    }
}
