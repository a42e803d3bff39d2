//! Connections: one table for all workers, read without locks.
//!
//! Replies, ICMP errors and re-hashed flows arrive at other queues than the flow's first packet, so every
//! worker sees every connection. The parts, bottom up:
//!
//! | file | owns |
//! | --- | --- |
//! | `memory` | zeroed pages touched only as used, prefetch; the one file here with `unsafe` |
//! | `ahead` | what of them is to be used soon, so that no packet waits for it |
//! | `quiesce` | when a removed slot may be used again: after every worker passed a batch boundary |
//! | `hash` | the hash of a key, under a secret |
//! | `index` | cache-line buckets of tags and slot numbers |
//! | `slot` | one connection: keys, recipes, state, last-seen; 192 bytes |
//! | `template` | where persistence keeps a client's server: slots too, found by keys that no packet has |
//! | `row` | a slot as listings show it |
//! | `free` | which slots are free |
//! | `wheel` | when to look at a connection next; one per worker |
//! | `state` | states and their timeouts |
//! | `tcp`, `sctp` | what each packet of the protocol makes of the state |
//! | `table` | all connections: slots, index, free slots |
//! | `shard` | one worker's part of it: its free slots and its timers |

mod ahead;
mod free;
mod hash;
mod index;
mod memory;
mod quiesce;
mod row;
mod sctp;
mod shard;
mod slot;
pub mod state;
mod table;
pub mod tcp;
mod template;
#[cfg(test)]
mod tests;
mod wheel;

/// The atomics that `index` and `quiesce` use; `tests/loom.rs` puts loom's in their place.
mod atomic {
    pub use std::hint::spin_loop;
    pub use std::sync::atomic::{AtomicU64, Ordering, fence};
}

pub(super) use hash::FlowHasher;
pub use row::Row;
pub use shard::Shard;
pub use slot::{Direction, FEW, Seen, Slot, SlotId};
pub use table::{Found, NewConnection, Refused, Replies, Table};
pub use template::{NewTemplate, named};
pub use wheel::Wheel;
