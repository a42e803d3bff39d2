//! Weighted overflow (`ip_vs_ovf.c`): the heaviest server until its active connections are more than its weight,
//! then the next. So a server takes one more than its weight, and with UDP, which has no active connections,
//! the first never overflows.

use super::{Change, Request, Schedule, heaviest};
use crate::director::server::{Counts, Destination};

/// Has no state: the counts are the servers'.
#[derive(Debug, Default)]
pub struct Ovf;

impl Schedule for Ovf {
    fn pick(&self, list: &[Destination], counts: &Counts, _: &Request<'_>) -> Option<usize> {
        let room = |d: &Destination| counts.usable(d) && counts.active(d.id) <= d.weight;
        heaviest(list.iter().enumerate().filter(|(_, d)| room(d)))
    }

    fn changed(&self, _: Change, _: &[Destination]) -> Self {
        Self
    }
}
