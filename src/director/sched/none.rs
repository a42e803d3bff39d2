//! A service without a scheduler (`ipvsadm -s none`): only persistence and the sync daemon give it connections.

use super::{Change, Request, Schedule};
use crate::director::server::{Counts, Destination};

/// Chooses nobody.
#[derive(Debug, Default)]
pub struct Nobody;

impl Schedule for Nobody {
    fn pick(&self, _: &[Destination], _: &Counts, _: &Request<'_>) -> Option<usize> {
        None
    }

    fn changed(&self, _: Change, _: &[Destination]) -> Self {
        Self
    }
}
