//! Schedulers: which server takes a new connection.
//!
//! One trait, one closed list, one file for each scheduler, named as `ipvsadm -s` names it. Every choice,
//! tie and sequence is the kernel's. A scheduler's state belongs to its service and is shared by the
//! workers: what a choice changes is atomic, what a change of servers changes is computed into a new
//! scheduler off the packet path, while workers still ask the old one. Only lblc and lblcr lock: the cache that
//! both the old and the new scheduler go on using.
//!
//! Lists of destinations are in the kernel's order: the newest server first.

mod dh;
mod fo;
mod hash;
mod lblc;
mod lblcr;
mod lc;
mod locality;
mod mh;
mod none;
mod nq;
mod ovf;
mod ramp;
mod rr;
mod sed;
mod sh;
mod twos;
mod wlc;
mod wrr;

use std::str::FromStr;

pub use ramp::Ramp;

use super::server::{Counts, Destination, ServerId};
use super::service::{UnknownName, by_name};
use crate::packet::flow::FlowKey;

/// Servers that mh has room for: from then on one that is added to a service gets nothing, as in the kernel.
pub const MAGLEV_SLOTS: usize = mh::SIZE;

/// What happened to a service and its list of destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A server was put at the head.
    Added,
    /// The server that was at this index was taken out.
    Removed(usize),
    /// A server was edited, whether its weight is another or not; the order did not change.
    Updated,
    /// The service's flags became these; the list did not change.
    Flags(Options),
}

/// The packet that a server is wanted for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Where it comes from and goes to.
    pub flow: &'a FlowKey,
    /// When it came, in coarse ticks ([`Time::tick`](super::time::Time::tick)).
    pub tick: u32,
    /// How shares grow, while that of some server does: see [`Kind::starts_slowly`].
    pub ramp: Option<Ramp>,
}

/// How long lblc and lblcr remember, in seconds: the sysctls of these names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiration {
    /// `lblc_expiration`: a destination nobody asked for that long is forgotten.
    pub lblc_s: u32,
    /// `lblcr_expiration`: the same, and a set of servers that did not change that long loses one.
    pub lblcr_s: u32,
}

impl Default for Expiration {
    /// A day each.
    fn default() -> Self {
        Self { lblc_s: 86_400, lblcr_s: 86_400 }
    }
}

/// What every scheduler does.
pub trait Schedule {
    /// The index of the server that takes a new connection whose first packet is this, or none if no server
    /// may take it. `list` is the one the scheduler was made or last changed with.
    fn pick(&self, list: &[Destination], counts: &Counts, request: &Request<'_>) -> Option<usize>;

    /// The scheduler after one change; `list` is the list after it.
    #[must_use]
    fn changed(&self, change: Change, list: &[Destination]) -> Self;

    /// Forgets what is too old. To be called every second off the packet path; locks, if at all, for microseconds.
    fn tend(&self, _tick: u32, _expiration: &Expiration) {}

    /// Forgets a server that was taken out and will not come back, before its name is given to another. Off the
    /// packet path, like `tend`.
    fn forget(&self, _id: ServerId) {}
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

            /// Which scheduler this is.
            pub const fn kind(&self) -> Kind {
                match self { $(Self::$variant(_) => Kind::$variant,)* }
            }
        }

        impl Schedule for Scheduler {
            fn pick(&self, list: &[Destination], counts: &Counts, request: &Request<'_>) -> Option<usize> {
                match self { $(Self::$variant(s) => s.pick(list, counts, request),)* }
            }

            fn changed(&self, change: Change, list: &[Destination]) -> Self {
                match self { $(Self::$variant(s) => Self::$variant(s.changed(change, list)),)* }
            }

            fn tend(&self, tick: u32, expiration: &Expiration) {
                match self { $(Self::$variant(s) => s.tend(tick, expiration),)* }
            }

            fn forget(&self, id: ServerId) {
                match self { $(Self::$variant(s) => s.forget(id),)* }
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
    /// Locality-based least connections.
    Lblc = "lblc", lblc::Lblc, |_| lblc::Lblc::default();
    /// Locality-based least connections with replication.
    Lblcr = "lblcr", lblcr::Lblcr, |_| lblcr::Lblcr::default();
    /// Destination hashing.
    Dh = "dh", dh::Dh, |_| dh::Dh;
    /// Source hashing.
    Sh = "sh", sh::Sh, sh::Sh::new;
    /// Shortest expected delay.
    Sed = "sed", sed::Sed, |_| sed::Sed;
    /// Never queue.
    Nq = "nq", nq::Nq, |_| nq::Nq;
    /// Weighted failover.
    Fo = "fo", fo::Fo, |_| fo::Fo;
    /// Weighted overflow.
    Ovf = "ovf", ovf::Ovf, |_| ovf::Ovf;
    /// Maglev hashing.
    Mh = "mh", mh::Mh, mh::Mh::new;
    /// The better of two random choices.
    Twos = "twos", twos::Twos, |_| twos::Twos::default();
    /// No scheduler: nobody is ever chosen.
    None = "none", none::Nobody, |_| none::Nobody;
}

impl Kind {
    /// What `ipvsadm -b` and listings call the three flags of a service with this scheduler.
    pub const fn flag_names(self) -> [&'static str; 3] {
        match self {
            Kind::Sh => ["sh-fallback", "sh-port", "flag-3"],
            Kind::Mh => ["mh-fallback", "mh-port", "flag-3"],
            _ => ["flag-1", "flag-2", "flag-3"],
        }
    }

    /// True if the scheduler gives a server that begins to take connections its share little by little. Those that
    /// do not have no share to cut: rr takes turns, fo and ovf fill one server after the other, and the others go by
    /// an address.
    pub const fn starts_slowly(self) -> bool {
        matches!(self, Kind::Lc | Kind::Wlc | Kind::Sed | Kind::Nq | Kind::Wrr)
    }
}

impl Scheduler {
    /// The scheduler after the service was edited (`ipvsadm -E`): the same goes on where it is, another starts
    /// afresh over the servers of `list`.
    #[must_use]
    pub fn edited(&self, kind: Kind, options: Options, list: &[Destination]) -> Self {
        if kind == self.kind() {
            self.changed(Change::Flags(options), list)
        } else {
            Self::new(kind, options).changed(Change::Updated, list)
        }
    }
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

/// Flags of a service for its scheduler (`ipvsadm -b`); [`Kind::flag_names`] are their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// SCHED1. sh and mh: a client of an unusable server is hashed again instead of refused.
    pub fallback: bool,
    /// SCHED2. sh and mh: the client's port is hashed too.
    pub port: bool,
    /// SCHED3. Kept and listed; no scheduler looks at it.
    pub third: bool,
}

/// The usable server of `servers` with the least load, the first of equals; `load` gives it as numerator and denominator, and
/// the denominator of a usable server is not 0.
fn least<'a>(
    servers: impl Iterator<Item = (usize, &'a Destination)>,
    counts: &Counts,
    load: impl Fn(&Destination) -> (u32, u32),
) -> Option<usize> {
    least_by(servers, counts, |d| {
        let (over, under) = load(d);
        (u64::from(over), u64::from(under))
    })
}

/// The same in numbers whose products fit.
fn least_by<'a, N: Copy + Ord + std::ops::Mul<Output = N>>(
    servers: impl Iterator<Item = (usize, &'a Destination)>,
    counts: &Counts,
    load: impl Fn(&Destination) -> (N, N),
) -> Option<usize> {
    let mut best: Option<(usize, N, N)> = None;
    for (index, server) in servers.filter(|(_, d)| counts.usable(d)) {
        let (over, under) = load(server);
        // a / b > c / d is a * d > c * b: no division, and exact.
        if best.is_none_or(|(_, best_over, best_under)| best_over * under > over * best_under) {
            best = Some((index, over, under));
        }
    }
    best.map(|(index, ..)| index)
}

/// The candidate with the greatest weight, the first of equals.
fn heaviest<'a>(candidates: impl Iterator<Item = (usize, &'a Destination)>) -> Option<usize> {
    candidates.reduce(|best, other| if other.1.weight > best.1.weight { other } else { best }).map(|(i, _)| i)
}

impl Options {
    /// The flag of this name, by the scheduler's own name for it or by its number.
    pub fn by_name(&mut self, scheduler: Kind, name: &str) -> Option<&mut bool> {
        let numbers = ["flag-1", "flag-2", "flag-3"];
        let is_it = |(number, own): (&str, &str)| number == name || own == name;
        let place = numbers.into_iter().zip(scheduler.flag_names()).position(is_it)?;
        [&mut self.fallback, &mut self.port, &mut self.third].into_iter().nth(place)
    }

    /// The scheduler's own names of the flags that are set.
    pub fn names(self, scheduler: Kind) -> Vec<String> {
        let set = [self.fallback, self.port, self.third];
        let names = scheduler.flag_names().into_iter().zip(set).filter(|(_, set)| *set);
        names.map(|(name, _)| name.to_owned()).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests;
