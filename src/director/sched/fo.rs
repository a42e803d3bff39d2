//! Weighted failover (`ip_vs_fo.c`): the heaviest server takes all until it may not; the earlier in the list
//! among equals.

use super::{Change, Request, Schedule, heaviest};
use crate::director::server::{Counts, Destination};

/// Has no state.
#[derive(Debug, Default)]
pub struct Fo;

impl Schedule for Fo {
    fn pick(&self, list: &[Destination], counts: &Counts, _: &Request<'_>) -> Option<usize> {
        heaviest(list.iter().enumerate().filter(|(_, d)| counts.usable(d)))
    }

    fn changed(&self, _: Change, _: &[Destination]) -> Self {
        Self
    }
}
