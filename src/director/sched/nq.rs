//! Never queue (`ip_vs_nq.c`): the first server in the list without an active connection, whatever its weight;
//! if there is none, as sed. UDP has no active connections, so there the first server gets all.

use super::{Change, Request, Schedule, sed};
use crate::director::server::{Counts, Destination};

/// Has no state: the counts are the servers'.
#[derive(Debug, Default)]
pub struct Nq;

impl Schedule for Nq {
    fn pick(&self, list: &[Destination], counts: &Counts, _: &Request<'_>) -> Option<usize> {
        let idle = list.iter().position(|d| counts.usable(d) && counts.active(d.id) == 0);
        idle.or_else(|| sed::least_delay(list, counts))
    }

    fn changed(&self, _: Change, _: &[Destination]) -> Self {
        Self
    }
}
