//! Least connections (`ip_vs_lc.c`): the lowest overhead; the earlier in the list among equals.

use super::ramp::least_of_shares;
use super::{Change, Request, Schedule, least};
use crate::director::server::{Counts, Destination};

/// Has no state: the counts are the servers'.
#[derive(Debug, Default)]
pub struct Lc;

impl Schedule for Lc {
    fn pick(&self, list: &[Destination], counts: &Counts, request: &Request<'_>) -> Option<usize> {
        let load = |d: &Destination| (counts.overhead(d.id), 1);
        match request.ramp {
            None => least(list.iter().enumerate(), counts, load),
            Some(ramp) => least_of_shares(list.iter().enumerate(), counts, ramp, load),
        }
    }

    fn changed(&self, _: Change, _: &[Destination]) -> Self {
        Self
    }
}
