//! The virtual server itself, without I/O: frames, time and next hops come in as arguments.
//!
//! Must not know: sockets, rings, netlink, files, clocks, configuration formats.

pub mod conn;
pub mod drops;
pub mod engine;
pub mod forward;
pub mod sched;
pub mod server;
pub mod service;
pub mod time;
