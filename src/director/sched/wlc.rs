//! Weighted least connections (`ip_vs_wlc.c`): the lowest overhead for its weight; the earlier in the list
//! among equals.

use super::ramp::least_of_shares;
use super::{Change, Request, Schedule, least};
use crate::director::server::{Counts, Destination};

/// Has no state: the counts are the servers'.
#[derive(Debug, Default)]
pub struct Wlc;

/// The rule itself, which lblc and lblcr fall back to.
pub(super) fn least_loaded(list: &[Destination], counts: &Counts) -> Option<usize> {
    least(list.iter().enumerate(), counts, |d| (counts.overhead(d.id), d.weight))
}

impl Schedule for Wlc {
    fn pick(&self, list: &[Destination], counts: &Counts, request: &Request<'_>) -> Option<usize> {
        let load = |d: &Destination| (counts.overhead(d.id), d.weight);
        match request.ramp {
            None => least_loaded(list, counts),
            Some(ramp) => least_of_shares(list.iter().enumerate(), counts, ramp, load),
        }
    }

    fn changed(&self, _: Change, _: &[Destination]) -> Self {
        Self
    }
}
