//! What one command line asks for.

use crate::control::command::Command;
use crate::director::name::ServiceKey;

/// What one command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// To change something.
    Change(Command),
    /// To list.
    List(Listing, Format),
    /// To write what restores all services.
    Save(Format),
    /// To do what standard input says.
    Restore,
    /// To start a synchronisation daemon.
    StartDaemon,
    /// To stop one.
    StopDaemon,
    /// The line cannot be read, for this reason; the next one may be.
    Unreadable(String),
}

/// What is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listing {
    /// All services.
    All,
    /// One service.
    Service(ServiceKey),
    /// Connections.
    Connections,
    /// The three timeouts.
    Timeouts,
    /// The synchronisation daemons.
    Daemons,
}

/// How it is listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Format {
    /// Addresses and ports as numbers.
    pub numeric: bool,
    /// Numbers with all digits.
    pub exact: bool,
    /// In the director's order.
    pub unsorted: bool,
    /// What is said of each service and server.
    pub columns: Columns,
}

impl Format {
    /// True if totals or rates are shown.
    pub const fn shows_traffic(self) -> bool {
        matches!(self.columns, Columns::Stats | Columns::Rate)
    }
}

/// What is said of each service and server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Columns {
    /// Method, weight, connections.
    #[default]
    Plain,
    /// Totals (`--stats`).
    Stats,
    /// What there was in a second lately (`--rate`).
    Rate,
    /// Limits of connections (`--thresholds`).
    Thresholds,
    /// Templates of persistence (`--persistent-conn`).
    Persistent,
    /// Tunnels (`--tun-info`).
    Tunnels,
}
