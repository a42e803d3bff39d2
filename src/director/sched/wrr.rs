//! Weighted round robin (`ip_vs_wrr.c`): walks of the list, each at a level of weight; a server is chosen
//! on every level up to its weight.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Change, Schedule};
use crate::director::server::{Counts, Destination};
use crate::packet::flow::FlowKey;

/// The walk and the shape of the weights.
#[derive(Debug, Default)]
pub struct Wrr {
    /// Where the walk is: the place in the list (low half: 0 before its first server, `n + 1` at the server with
    /// index `n`) and the level (high half).
    walk: AtomicU64,
    /// The highest level; 0 when no server has a weight.
    top: u32,
    /// From level to level: the greatest common divisor of the weights.
    step: u32,
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
    /// The next stop of a walk that stands at `place` on `level`.
    fn next(&self, list: &[Destination], place: u32, level: u32) -> Option<(u32, u32)> {
        let (mut place, mut level) = (place as usize, level);
        // Every level once, and the rest of the one the walk stands on: the lowest is served by any weight.
        for _ in 0..=self.top / self.step.max(1) + 1 {
            let rest = list.get(place..).unwrap_or_default();
            if let Some(i) = rest.iter().position(|d| d.takes_new() && d.weight >= level) {
                return Some((u32::try_from(place + i + 1).ok()?, level));
            }
            place = 0;
            level = match level.checked_sub(self.step) {
                None | Some(0) => self.top,
                Some(lower) => lower,
            };
        }
        None
    }
}

impl Schedule for Wrr {
    fn pick(&self, list: &[Destination], _: &Counts, _: &FlowKey) -> Option<usize> {
        if self.top == 0 {
            return None;
        }
        let mut walk = self.walk.load(Relaxed);
        loop {
            let (place, level) = unpack(walk);
            let (place, level) = self.next(list, place, level)?;
            match self.walk.compare_exchange_weak(walk, pack(place, level), Relaxed, Relaxed) {
                Ok(_) => return Some(place as usize - 1),
                Err(other) => walk = other,
            }
        }
    }

    /// Any change sends the walk back to the head, at roughly the level it had (`ip_vs_wrr_dest_changed`).
    fn changed(&self, _: Change, list: &[Destination]) -> Self {
        let weights = || list.iter().map(|d| d.weight).filter(|&w| w > 0);
        let step = weights().reduce(gcd).unwrap_or(1);
        // With no weights at all the kernel's maximum is 0 and its step 1: nothing is ever chosen.
        let top = weights().max().map_or(0, |max| max - (step - 1));
        let (_, level) = unpack(self.walk.load(Relaxed));
        let level = if level > top || level == 0 {
            top
        } else if step > 1 {
            level / step * step + 1
        } else {
            level
        };
        Self { walk: AtomicU64::new(pack(0, level)), top, step }
    }
}
