//! Never queue (`ip_vs_nq.c`): the first server in the list without an active connection, whatever its weight;
//! if there is none, as sed. UDP has no active connections, so there the first server gets all.

use super::ramp::{WHOLE, least_of_shares};
use super::{Change, Request, Schedule, least};
use crate::director::server::{Counts, Destination};

/// Has no state: the counts are the servers'.
#[derive(Debug, Default)]
pub struct Nq;

impl Schedule for Nq {
    fn pick(&self, list: &[Destination], counts: &Counts, request: &Request<'_>) -> Option<usize> {
        // Nothing for whatever weight is less than anything, and not less than another's nothing.
        let delay = |active: u32| if active == 0 { 0 } else { active.saturating_add(1) };
        let Some(ramp) = request.ramp else {
            return least(list.iter().enumerate(), counts, |d| (delay(counts.active(d.id)), d.weight));
        };
        // Who starts slowly is idle most of the time, and would get all there is for that.
        least_of_shares(list.iter().enumerate(), counts, ramp, |d| {
            let active = counts.active(d.id);
            (if ramp.share(d) < WHOLE { active.saturating_add(1) } else { delay(active) }, d.weight)
        })
    }

    fn changed(&self, _: Change, _: &[Destination]) -> Self {
        Self
    }
}
