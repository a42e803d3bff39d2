//! Round robin (`ip_vs_rr.c`): the next usable server after the one chosen last.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::{Change, Request, Schedule};
use crate::director::server::{Counts, Destination};

/// The place in the list: 0 before its first server, `n + 1` at the server with index `n`.
#[derive(Debug, Default)]
pub struct Rr {
    place: AtomicU32,
}

impl Schedule for Rr {
    fn pick(&self, list: &[Destination], counts: &Counts, _: &Request<'_>) -> Option<usize> {
        let mut place = self.place.load(Relaxed);
        loop {
            // From the place to the end, then from the start to the place itself.
            let (before, after) = list.split_at((place as usize).min(list.len()));
            let usable = |part: &[Destination]| part.iter().position(|d| counts.usable(d));
            let index = usable(after).map(|i| before.len() + i).or_else(|| usable(before))?;
            let next = u32::try_from(index + 1).unwrap_or(0);
            match self.place.compare_exchange_weak(place, next, Relaxed, Relaxed) {
                Ok(_) => return Some(index),
                Err(other) => place = other,
            }
        }
    }

    fn changed(&self, change: Change, _: &[Destination]) -> Self {
        let place = self.place.load(Relaxed);
        let place = match change {
            // A new head gets its turn at the next wrap.
            Change::Added if place > 0 => place + 1,
            // The place moves to the predecessor of a removed server, so its successor comes next.
            Change::Removed(index) if place as usize > index => place - 1,
            _ => place,
        };
        Self { place: AtomicU32::new(place) }
    }
}
