//! Schedulers: which server takes a new connection.
//!
//! One trait, one closed list, one file for each scheduler, named as `ipvsadm -s` names it. Every choice,
//! tie and sequence is the kernel's. A scheduler's state belongs to its service and is shared by the
//! workers: what a choice changes is atomic, what a change of servers changes is computed into a new
//! scheduler off the packet path.
//!
//! Lists of destinations are in the kernel's order: the newest server first.

mod lc;
mod rr;
mod sh;
mod wlc;
mod wrr;

use std::str::FromStr;

use super::server::{Counts, Destination};
use super::service::{UnknownName, by_name};
use crate::packet::flow::FlowKey;

/// What happened to a service's list of destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A server was put at the head.
    Added,
    /// The server that was at this index was taken out.
    Removed(usize),
    /// A server's weight changed; the order did not.
    Updated,
}

/// What every scheduler does.
pub trait Schedule {
    /// The index of the server that takes a new connection whose first packet has this key, or none if no server
    /// may take it. `list` is the one the scheduler was made or last changed with.
    fn pick(&self, list: &[Destination], counts: &Counts, flow: &FlowKey) -> Option<usize>;

    /// The scheduler after one change; `list` is the list after it.
    #[must_use]
    fn changed(&self, change: Change, list: &[Destination]) -> Self;
}

/// Names and builds each scheduler: the closed list.
macro_rules! schedulers {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal, $state:path, $new:expr;)*) => {
        /// The schedulers there are, by the names `ipvsadm -s` uses.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind { $($(#[doc = $doc])* $variant,)* }

        impl Kind {
            /// Every scheduler.
            pub const ALL: &[Kind] = &[$(Kind::$variant,)*];

            /// The name in configuration and listings.
            pub const fn name(self) -> &'static str {
                match self { $(Kind::$variant => $name,)* }
            }
        }

        /// A scheduler with its state.
        #[derive(Debug)]
        pub enum Scheduler { $($(#[doc = $doc])* $variant($state),)* }

        impl Scheduler {
            /// The scheduler of a service that is created without servers.
            pub fn new(kind: Kind, options: Options) -> Self {
                match kind { $(Kind::$variant => {
                    let new: fn(Options) -> $state = $new;
                    Self::$variant(new(options))
                },)* }
            }
        }

        impl Schedule for Scheduler {
            fn pick(&self, list: &[Destination], counts: &Counts, flow: &FlowKey) -> Option<usize> {
                match self { $(Self::$variant(s) => s.pick(list, counts, flow),)* }
            }

            fn changed(&self, change: Change, list: &[Destination]) -> Self {
                match self { $(Self::$variant(s) => Self::$variant(s.changed(change, list)),)* }
            }
        }
    };
}

schedulers! {
    /// Round robin.
    Rr = "rr", rr::Rr, |_| rr::Rr::default();
    /// Weighted round robin.
    Wrr = "wrr", wrr::Wrr, |_| wrr::Wrr::default();
    /// Least connections.
    Lc = "lc", lc::Lc, |_| lc::Lc;
    /// Weighted least connections.
    Wlc = "wlc", wlc::Wlc, |_| wlc::Wlc;
    /// Source hashing.
    Sh = "sh", sh::Sh, sh::Sh::new;
}

impl Default for Kind {
    /// As `ipvsadm -A` without `-s`.
    fn default() -> Self {
        Kind::Wlc
    }
}

impl FromStr for Kind {
    type Err = UnknownName;
    fn from_str(value: &str) -> Result<Self, Self::Err> {
        by_name("scheduler", value, Self::ALL, Self::name)
    }
}

/// Flags of a scheduler (`ipvsadm -b`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `sh-fallback`: a client of an unusable server is hashed again instead of refused.
    pub fallback: bool,
    /// `sh-port`: the client's port is hashed too.
    pub port: bool,
    /// SCHED3. Kept and listed; no scheduler looks at it.
    pub third: bool,
}

#[cfg(test)]
pub(crate) mod tests;
