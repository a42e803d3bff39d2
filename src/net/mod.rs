//! The host's network as the kernel sees it: links, addresses, routes and neighbours over netlink,
//! queues and offloads over ethtool.
//!
//! The kernel's tables are the truth (routing daemons write there); this room mirrors them into an
//! immutable [`Snapshot`] for the workers and keeps the neighbours that matter
//! resolved.
//! Must not know: the director, services, sockets of ours.
//!
//! ```text
//!  kernel ──notifications, dumps──> mirror ──> tables ──publish──> Snapshot <──load── workers
//!     ^                               │  (fib, hop table, neighbours)                     │
//!     └── neighbour requests ── keep ─┴──────────── Resolver::try_ask <───────────────────┘
//! ```

mod addresses;
pub mod error;
mod fib;
mod follow;
mod genl;
mod hop_table;
mod keep;
pub mod links;
pub mod mirror;
mod netlink;
pub mod offloads;
pub mod queues;
mod routes;
pub mod rss;
pub mod snapshot;
mod tables;
pub mod xdp_features;

pub use addresses::Address;
pub use error::NetError;
pub use mirror::{Mirror, Resolver};
pub use snapshot::{Hop, HopId, Port, Route, Snapshot};
