//! Schedulers: which server takes a new connection.

use std::str::FromStr;

use super::service::{UnknownName, by_name};

/// The schedulers there are, by the names `ipvsadm -s` uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Round robin.
    Rr,
    /// Weighted round robin.
    Wrr,
    /// Least connections.
    Lc,
    /// Weighted least connections, the default of ipvsadm.
    #[default]
    Wlc,
    /// Source hashing.
    Sh,
}

impl Kind {
    /// Every scheduler.
    pub const ALL: &[Kind] = &[Kind::Rr, Kind::Wrr, Kind::Lc, Kind::Wlc, Kind::Sh];

    /// The name in configuration and listings.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Rr => "rr",
            Kind::Wrr => "wrr",
            Kind::Lc => "lc",
            Kind::Wlc => "wlc",
            Kind::Sh => "sh",
        }
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
}
