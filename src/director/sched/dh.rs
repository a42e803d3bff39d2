//! Destination hashing (`ip_vs_dh.c`): an address always gets the same server, as long as the list stays. All
//! packets of a service with one address have one destination; this is for services that have many.

use super::hash::{fold, hash_32};
use super::{Change, Request, Schedule};
use crate::director::server::{Counts, Destination};

/// The kernel keeps 256 buckets and deals the list out to them. Which server a bucket has follows from the list:
/// there is nothing to keep.
#[derive(Debug, Default)]
pub struct Dh;

impl Schedule for Dh {
    fn pick(&self, list: &[Destination], counts: &Counts, request: &Request<'_>) -> Option<usize> {
        let bucket = hash_32(fold(request.flow.destination().ip()), 8) as usize;
        let index = bucket.checked_rem(list.len())?;
        counts.usable(list.get(index)?).then_some(index)
    }

    fn changed(&self, _: Change, _: &[Destination]) -> Self {
        Self
    }
}
