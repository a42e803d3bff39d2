//! Weighted round robin (`ip_vs_wrr.c`): walks of the list, each at a level of weight; a server is chosen
//! on every level up to its weight.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::ramp::by_share;
use super::{Change, Request, Schedule};
use crate::director::server::{Counts, Destination};

/// The walk and the shape of the weights.
#[derive(Debug, Default)]
pub struct Wrr {
    /// Where the walk is: the place in the list (low half) and the level (high half).
    walk: AtomicU64,
    /// The highest level; 0 when no server has a weight.
    top: u32,
    /// From level to level: the greatest common divisor of the weights.
    step: u32,
    /// Choices made while some server's share grew.
    by_share: AtomicU64,
}

#[allow(clippy::cast_possible_truncation, reason = "halves of the word")]
const fn unpack(walk: u64) -> (u32, u32) {
    (walk as u32, (walk >> 32) as u32)
}

const fn pack(place: u32, level: u32) -> u64 {
    place as u64 | (level as u64) << 32
}

pub(super) const fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Wrr {
    /// Where a walk that stands at `place` on `level` stops next, or where it gives up.
    ///
    /// The kernel goes down level by level and through the list on each. Weights are multiples of the step and
    /// levels one more than that, so the first level that finds anybody is known at once: the next one, or the
    /// highest that the heaviest usable server reaches.
    fn next(&self, list: &[Destination], counts: &Counts, place: u32, level: u32) -> Result<Stop, Stop> {
        let rest = list.get(place as usize..).unwrap_or_default();
        if let Some(index) = rest.iter().position(|d| d.weight >= level && counts.usable(d)) {
            return Ok(Stop { place: place + ordinal(index), level });
        }
        let next = if level > self.step { level - self.step } else { self.top };
        let reached = |d: &Destination| next.min((d.weight + 1).saturating_sub(self.step));
        let usable = list.iter().enumerate().filter(|(_, d)| counts.usable(d));
        let stops = usable.map(|(index, d)| Stop { place: ordinal(index), level: reached(d) });
        // The first of those that reach highest.
        stops.reduce(|best, stop| if stop.level > best.level { stop } else { best }).ok_or({
            // A walk that saw the whole list on the lowest level starts over. One that was on the lowest level
            // already comes back to where it stood.
            if place == 0 || level > self.step {
                Stop { place: 0, level: self.top }
            } else {
                Stop { place, level }
            }
        })
    }
}

/// A place in the list and a level.
#[derive(Clone, Copy, Debug)]
struct Stop {
    /// 0 before the first server, `n + 1` at the server with index `n`.
    place: u32,
    level: u32,
}

/// The place of a server by its index.
fn ordinal(index: usize) -> u32 {
    u32::try_from(index + 1).unwrap_or(0)
}

impl Schedule for Wrr {
    fn pick(&self, list: &[Destination], counts: &Counts, request: &Request<'_>) -> Option<usize> {
        if self.top == 0 {
            return None;
        }
        if let Some(ramp) = request.ramp {
            // A walk would need a level for each part of a share. It waits where it is.
            return by_share(list, counts, ramp, self.by_share.fetch_add(1, Relaxed));
        }
        let mut walk = self.walk.load(Relaxed);
        loop {
            let (place, level) = unpack(walk);
            let found = self.next(list, counts, place, level);
            let (Ok(stop) | Err(stop)) = found;
            match self.walk.compare_exchange_weak(walk, pack(stop.place, stop.level), Relaxed, Relaxed) {
                Ok(_) => return found.ok().and_then(|stop| (stop.place as usize).checked_sub(1)),
                Err(other) => walk = other,
            }
        }
    }

    /// Any change of servers sends the walk back to the head, at roughly the level it had (`ip_vs_wrr_dest_changed`).
    fn changed(&self, change: Change, list: &[Destination]) -> Self {
        let walk = self.walk.load(Relaxed);
        let by_share = AtomicU64::new(self.by_share.load(Relaxed));
        if let Change::Flags(_) = change {
            return Self { walk: AtomicU64::new(walk), by_share, ..*self };
        }
        let weights = || list.iter().map(|d| d.weight).filter(|&w| w > 0);
        let step = weights().reduce(gcd).unwrap_or(1);
        // With no weights at all the kernel's maximum is 0 and its step 1: nothing is ever chosen.
        let top = weights().max().map_or(0, |max| max - (step - 1));
        let (_, level) = unpack(walk);
        let level = if level > top || level == 0 {
            top
        } else if step > 1 {
            level / step * step + 1
        } else {
            level
        };
        Self { walk: AtomicU64::new(pack(0, level)), top, step, by_share }
    }
}
