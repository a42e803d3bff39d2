//! Slow start: the share of a server that begins to take connections grows evenly from next to nothing to its weight.
//! The kernel has nothing like it: under `lc` and `wlc` a new server, which has no connections, gets every new one.
//!
//! What schedulers compare is then the load for the weight and the share. All of it is exact, in integers.

use super::least_by;
use crate::director::server::{Counts, Destination};

/// The whole share; what one part is depends on it. A share is at least one part.
pub(super) const WHOLE: u64 = 1 << 10;

/// How shares grow at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ramp {
    /// The moment, in coarse ticks.
    pub tick: u32,
    /// Ticks from a server's first part to the whole share.
    pub ticks: u32,
}

impl Ramp {
    /// The share of a server, 1..=[`WHOLE`] parts.
    pub(super) fn share(&self, server: &Destination) -> u64 {
        let grown = u64::from(self.tick.saturating_sub(server.since));
        match u64::from(self.ticks) {
            ticks if grown < ticks => (WHOLE * grown / ticks).max(1),
            _ => WHOLE,
        }
    }

    /// The share in percent, rounded down.
    pub fn percent(&self, server: &Destination) -> u32 {
        u32::try_from(self.share(server) * 100 / WHOLE).unwrap_or(100)
    }
}

/// As [`least`](super::least), with the denominator of each server's load cut to its share.
#[cold]
pub(super) fn least_of_shares<'a>(
    servers: impl Iterator<Item = (usize, &'a Destination)>,
    counts: &Counts,
    ramp: Ramp,
    load: impl Fn(&Destination) -> (u32, u32),
) -> Option<usize> {
    least_by(servers, counts, |d| {
        let (over, under) = load(d);
        (u128::from(over), u128::from(under) * u128::from(ramp.share(d)))
    })
}

/// The usable server that the `n`th choice falls on when each gets its weight cut to its share: of the line from 0 to
/// the sum of all every server has its part, and each point is a golden section further on than the one before. Points of
/// that sequence are spread as evenly as can be, so nobody waits long, and nothing but `n` has to be remembered.
#[cold]
pub(super) fn by_share(list: &[Destination], counts: &Counts, ramp: Ramp, n: u64) -> Option<usize> {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let usable = || list.iter().enumerate().filter(|(_, d)| counts.usable(d));
    let part = |d: &Destination| u128::from(u64::from(d.weight) * ramp.share(d));
    let sum: u128 = usable().map(|(_, d)| part(d)).sum();
    // At most 2^16 servers of 2^41 each: the product fits.
    let point = (u128::from(n.wrapping_mul(GOLDEN)) * sum) >> u64::BITS;
    let mut end = 0;
    let mut chosen = None;
    for (index, server) in usable() {
        end += part(server);
        chosen = Some(index);
        if point < end {
            break;
        }
    }
    chosen
}
