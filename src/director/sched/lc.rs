//! Least connections (`ip_vs_lc.c`): the lowest overhead; the earlier in the list among equals.

use super::{Change, Schedule};
use crate::director::server::{Counts, Destination};
use crate::packet::flow::FlowKey;

/// Has no state: the counts are the servers'.
#[derive(Debug, Default)]
pub struct Lc;

impl Schedule for Lc {
    fn pick(&self, list: &[Destination], counts: &Counts, _: &FlowKey) -> Option<usize> {
        let usable = list.iter().enumerate().filter(|(_, d)| d.takes_new());
        usable.min_by_key(|(_, d)| counts.overhead(d.id)).map(|(index, _)| index)
    }

    fn changed(&self, _: Change, _: &[Destination]) -> Self {
        Self
    }
}
