//! Weighted least connections (`ip_vs_wlc.c`): the lowest overhead for its weight; the earlier in the list
//! among equals.

use super::{Change, Schedule};
use crate::director::server::{Counts, Destination};
use crate::packet::flow::FlowKey;

/// Has no state: the counts are the servers'.
#[derive(Debug, Default)]
pub struct Wlc;

impl Schedule for Wlc {
    fn pick(&self, list: &[Destination], counts: &Counts, _: &FlowKey) -> Option<usize> {
        let usable = list.iter().enumerate().filter(|(_, d)| d.takes_new());
        let loaded = usable.map(|(index, d)| (index, u64::from(counts.overhead(d.id)), u64::from(d.weight)));
        // a / wa > b / wb is a * wb > b * wa: no division, and exact.
        let least = loaded.reduce(|a, b| if a.1 * b.2 > b.1 * a.2 { b } else { a });
        least.map(|(index, ..)| index)
    }

    fn changed(&self, _: Change, _: &[Destination]) -> Self {
        Self
    }
}
