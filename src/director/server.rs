//! Real servers as the packet path sees them: destinations of a service, and how many connections each has.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use zerocopy::FromZeros;

use super::conn::state::Status;
use super::service::{Method, Server};

/// Names a server of one service for as long as it is there or has connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u32);

/// Servers there may be at once in all services.
pub const MAX_SERVERS: u32 = 65_536;

/// Numbers for servers: of those there are, and of removed ones with connections.
pub const MAX_IDS: u32 = 2 * MAX_SERVERS;

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
    /// Connections from which on it takes no new ones; 0: as many as come.
    pub upper: u32,
    /// Connections below which it takes new ones again; 0: three quarters of `upper`.
    pub lower: u32,
}

impl Destination {
    /// A server that is known by `id` from now on.
    pub const fn new(id: ServerId, server: &Server) -> Self {
        let Server { address, weight, method, upper, lower } = *server;
        Self { id, address, weight, method, upper, lower }
    }

    /// The server as the operator wants it.
    pub const fn server(&self) -> Server {
        let Self { address, weight, method, upper, lower, .. } = *self;
        Server { address, weight, method, upper, lower }
    }

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
    persistent: AtomicU32,
    padding: [u32; 13],
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

    /// True while a server has any connection or persistence template.
    pub fn any(&self, id: ServerId) -> bool {
        self.active(id) != 0 || self.inactive(id) != 0 || self.persistent(id) != 0
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

    /// Persistence templates bound to a server.
    pub fn persistent(&self, id: ServerId) -> u32 {
        self.cell(id).map_or(0, |c| c.persistent.load(Relaxed))
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

    /// Counts a new persistence template. No threshold counts it.
    pub fn template_opened(&self, id: ServerId) {
        if let Some(cell) = self.cell(id) {
            cell.persistent.fetch_add(1, Relaxed);
        }
    }

    /// Counts a persistence template that is gone.
    pub fn template_closed(&self, id: ServerId) {
        if let Some(cell) = self.cell(id) {
            cell.persistent.fetch_sub(1, Relaxed);
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
