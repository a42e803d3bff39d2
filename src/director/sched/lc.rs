//! Least connections (`ip_vs_lc.c`): the lowest overhead; the earlier in the list among equals.

use super::{Change, Request, Schedule, least};
use crate::director::server::{Counts, Destination};

/// Has no state: the counts are the servers'.
#[derive(Debug, Default)]
pub struct Lc;

impl Schedule for Lc {
    fn pick(&self, list: &[Destination], counts: &Counts, _: &Request<'_>) -> Option<usize> {
        least(list.iter().enumerate(), counts, |d| (counts.overhead(d.id), 1))
    }

    fn changed(&self, _: Change, _: &[Destination]) -> Self {
        Self
    }
}
