//! Shortest expected delay (`ip_vs_sed.c`): the fewest active connections for its weight, the new one counted;
//! the earlier in the list among equals. UDP has no active connections, so there the heaviest server gets all.

use super::ramp::least_of_shares;
use super::{Change, Request, Schedule, least};
use crate::director::server::{Counts, Destination};

/// Has no state: the counts are the servers'.
#[derive(Debug, Default)]
pub struct Sed;

impl Schedule for Sed {
    fn pick(&self, list: &[Destination], counts: &Counts, request: &Request<'_>) -> Option<usize> {
        let load = |d: &Destination| (counts.active(d.id).saturating_add(1), d.weight);
        match request.ramp {
            None => least(list.iter().enumerate(), counts, load),
            Some(ramp) => least_of_shares(list.iter().enumerate(), counts, ramp, load),
        }
    }

    fn changed(&self, _: Change, _: &[Destination]) -> Self {
        Self
    }
}
