//! Counters of one worker: traffic by server, drops by reason.
//!
//! One worker writes, anybody reads: plain stores, no read-modify-write, nothing shared between workers.
//! Readers add up the workers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use zerocopy::FromZeros;

use super::drops::DropReason;
use super::server::ServerId;

/// A counter with one writer.
#[derive(Debug, Default, FromZeros)]
#[repr(transparent)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`; for its one writer.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The count.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Traffic of one server, as `ipvsadm --stats` shows it. Bytes are those of IP packets, before any rewrite.
#[derive(Debug, FromZeros)]
#[repr(C)]
struct Cell {
    connections: Counter,
    in_packets: Counter,
    in_bytes: Counter,
    out_packets: Counter,
    out_bytes: Counter,
}

/// A sum of traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Their bytes.
    pub in_bytes: u64,
    /// Packets from servers.
    pub out_packets: u64,
    /// Their bytes.
    pub out_bytes: u64,
}

impl std::ops::Add for Traffic {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            connections: self.connections + other.connections,
            in_packets: self.in_packets + other.in_packets,
            in_bytes: self.in_bytes + other.in_bytes,
            out_packets: self.out_packets + other.out_packets,
            out_bytes: self.out_bytes + other.out_bytes,
        }
    }
}

impl std::ops::Sub for Traffic {
    type Output = Self;

    /// What came since `earlier`.
    fn sub(self, earlier: Self) -> Self {
        Self {
            connections: self.connections.saturating_sub(earlier.connections),
            in_packets: self.in_packets.saturating_sub(earlier.in_packets),
            in_bytes: self.in_bytes.saturating_sub(earlier.in_bytes),
            out_packets: self.out_packets.saturating_sub(earlier.out_packets),
            out_bytes: self.out_bytes.saturating_sub(earlier.out_bytes),
        }
    }
}

impl std::iter::Sum for Traffic {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |a, b| a + b)
    }
}

/// The counters of one worker.
#[derive(Debug)]
pub struct Stats {
    servers: Box<[Cell]>,
    drops: [Counter; DropReason::ALL.len()],
    answers: Counter,
    strays: Counter,
    passes: Counter,
    shed: Counter,
}

impl Stats {
    /// All zero, for server ids below `servers`.
    ///
    /// # Panics
    /// When there is no memory for them: 40 bytes a server.
    pub fn new(servers: u32) -> Self {
        let cells = FromZeros::new_vec_zeroed(servers as usize).expect("40 bytes for each server");
        Self {
            servers: Vec::into_boxed_slice(cells),
            drops: std::array::from_fn(|_| Counter::default()),
            answers: Counter::default(),
            strays: Counter::default(),
            passes: Counter::default(),
            shed: Counter::default(),
        }
    }

    /// Counts a scheduled connection.
    pub fn connection(&self, id: ServerId) {
        if let Some(cell) = self.servers.get(id.0 as usize) {
            cell.connections.add(1);
        }
    }

    /// Counts a packet of `bytes` from a client.
    #[inline]
    pub fn packet_in(&self, id: ServerId, bytes: u16) {
        if let Some(cell) = self.servers.get(id.0 as usize) {
            cell.in_packets.add(1);
            cell.in_bytes.add(u64::from(bytes));
        }
    }

    /// Counts a packet of `bytes` from a server.
    #[inline]
    pub fn packet_out(&self, id: ServerId, bytes: u16) {
        if let Some(cell) = self.servers.get(id.0 as usize) {
            cell.out_packets.add(1);
            cell.out_bytes.add(u64::from(bytes));
        }
    }

    /// Counts packets of a client, of `bytes` together.
    pub fn packets_in(&self, id: ServerId, packets: u64, bytes: u64) {
        if let Some(cell) = self.servers.get(id.0 as usize) {
            cell.in_packets.add(packets);
            cell.in_bytes.add(bytes);
        }
    }

    /// Counts packets of a server, of `bytes` together.
    pub fn packets_out(&self, id: ServerId, packets: u64, bytes: u64) {
        if let Some(cell) = self.servers.get(id.0 as usize) {
            cell.out_packets.add(packets);
            cell.out_bytes.add(bytes);
        }
    }

    /// Counts bytes from a client that belong to a packet that is counted: those of its later fragments.
    pub fn more_in(&self, id: ServerId, bytes: u16) {
        if let Some(cell) = self.servers.get(id.0 as usize) {
            cell.in_bytes.add(u64::from(bytes));
        }
    }

    /// As [`more_in`](Self::more_in), from a server.
    pub fn more_out(&self, id: ServerId, bytes: u16) {
        if let Some(cell) = self.servers.get(id.0 as usize) {
            cell.out_bytes.add(u64::from(bytes));
        }
    }

    /// Counts a dropped frame.
    pub fn drop(&self, reason: DropReason) {
        self.drops[reason as usize].add(1);
    }

    /// Traffic of a server.
    pub fn traffic(&self, id: ServerId) -> Traffic {
        self.servers.get(id.0 as usize).map_or_else(Traffic::default, |c| Traffic {
            connections: c.connections.get(),
            in_packets: c.in_packets.get(),
            in_bytes: c.in_bytes.get(),
            out_packets: c.out_packets.get(),
            out_bytes: c.out_bytes.get(),
        })
    }

    /// Counts a dropped packet whose sender was told.
    pub fn answer(&self) {
        self.answers.add(1);
    }

    /// Counts a NAT server's packet that belongs to no connection.
    pub fn stray(&self) {
        self.strays.add(1);
    }

    /// Packets of NAT servers that belong to no connection: routed on, or dropped for a reason of their own.
    pub fn strays(&self) -> u64 {
        self.strays.get()
    }

    /// Counts a packet that is nobody's here and goes to the kernel.
    pub fn pass(&self) {
        self.passes.add(1);
    }

    /// Packets that were nobody's here and went to the kernel.
    pub fn passed(&self) -> u64 {
        self.passes.get()
    }

    /// Dropped packets whose senders were told.
    pub fn answered(&self) -> u64 {
        self.answers.get()
    }

    /// Counts a connection or template that drop_entry ended.
    pub fn shed(&self) {
        self.shed.add(1);
    }

    /// Connections and templates that drop_entry ended.
    pub fn entries_shed(&self) -> u64 {
        self.shed.get()
    }

    /// Frames dropped for `reason`.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize].get()
    }
}
