//! The directors a scenario can be played against: what stands in lb, and how it is spoken to.

use std::path::Path;
use std::time::Duration;

use crate::ipvs::Ipvs;
use crate::lab::Lab;
use crate::xvs::Director as Xvs;

/// A director that runs in a lab. It ends when dropped.
pub trait Director {
    /// What to put into a shell's command line in place of `ipvsadm`.
    fn ipvsadm(&self) -> String;

    /// The shell's command line that sets `NAME=VALUE`.
    fn tune(&self, setting: &str) -> String;

    /// How far its counters may be behind its traffic.
    fn counters_lag(&self) -> Duration;
}

/// Which one, and what is needed to start it.
#[derive(Clone, Copy, Debug)]
pub enum Kind<'a> {
    /// The kernel's.
    #[allow(dead_code, reason = "the program's director, not the tests'")]
    Ipvs,
    /// The binary at this path.
    Xvs(&'a Path),
}

impl Kind<'_> {
    /// Starts it; it answers when this returns.
    pub fn start(self, lab: &Lab) -> Box<dyn Director> {
        match self {
            Self::Ipvs => Box::new(Ipvs::start(lab)),
            Self::Xvs(binary) => Box::new(Xvs::start(lab, binary)),
        }
    }
}
