//! Real servers as the packet path sees them: destinations of a service, and how many connections each has.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use zerocopy::FromZeros;

use super::conn::state::Status;
use super::service::Method;

/// Names a server of one service for as long as the process lives, connections left behind included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u32);

/// Servers there may be over the life of the process, removed ones with connections included.
pub const MAX_SERVERS: u32 = 65_536;

/// A server as a service sees it (IPVS: destination).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Its name in connections and counters.
    pub id: ServerId,
    /// Real address and port.
    pub address: SocketAddr,
    /// Share of new connections; 0 takes none.
    pub weight: u32,
    /// How packets reach it.
    pub method: Method,
}

impl Destination {
    /// True if schedulers may give it a new connection.
    #[inline]
    pub const fn takes_new(&self) -> bool {
        self.weight > 0
    }
}

/// Connections of one server. A whole cache line of its own: every new connection writes it.
#[derive(Debug, FromZeros)]
#[repr(C)]
struct Cell {
    active: AtomicU32,
    inactive: AtomicU32,
    padding: [u64; 7],
}

/// Connections of every server, active and inactive, as `ipvsadm -Ln` shows them.
#[derive(Debug)]
pub struct Counts(Box<[Cell]>);

impl Counts {
    /// All zero, for ids below `servers`.
    ///
    /// # Panics
    /// When there is no memory for them: 64 bytes each.
    pub fn new(servers: u32) -> Self {
        let cells = FromZeros::new_vec_zeroed(servers as usize).expect("64 bytes for each server");
        Self(Vec::into_boxed_slice(cells))
    }

    fn cell(&self, id: ServerId) -> Option<&Cell> {
        self.0.get(id.0 as usize)
    }

    /// Active connections of a server.
    #[inline]
    pub fn active(&self, id: ServerId) -> u32 {
        self.cell(id).map_or(0, |c| c.active.load(Relaxed))
    }

    /// Inactive connections of a server.
    #[inline]
    pub fn inactive(&self, id: ServerId) -> u32 {
        self.cell(id).map_or(0, |c| c.inactive.load(Relaxed))
    }

    /// What `lc` and `wlc` compare (`ip_vs_dest_conn_overhead`): a connection counts one, an active one 256 more.
    #[inline]
    pub fn overhead(&self, id: ServerId) -> u32 {
        let (active, inactive) = (self.active(id), self.inactive(id));
        (active << 8).wrapping_add(active).wrapping_add(inactive)
    }

    /// Counts a new connection.
    pub fn opened(&self, id: ServerId, status: Status) {
        if let Some(cell) = self.cell(id) {
            let counter = if status.inactive { &cell.inactive } else { &cell.active };
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Counts a connection that is gone, whose last status was `status`.
    pub fn closed(&self, id: ServerId, status: Status) {
        if let Some(cell) = self.cell(id) {
            let counter = if status.inactive { &cell.inactive } else { &cell.active };
            counter.fetch_sub(1, Relaxed);
        }
    }

    /// Counts a connection's change of state.
    #[inline]
    pub fn changed(&self, id: ServerId, old: Status, new: Status) {
        if old.inactive != new.inactive {
            self.closed(id, old);
            self.opened(id, new);
        }
    }
}
