//! The loop of one queue index: receive, engine, transmit, recycle, expire, idle.
//!
//! Joins [`xdp`](crate::xdp), the snapshots of [`net`](crate::net) and the
//! [`director`](crate::director); the only place that knows all three.

pub mod clock;
pub mod cores;
pub mod counters;
mod hops;
pub mod idle;
pub mod memory;
pub mod offload;
pub mod processor;
pub mod report;
mod run;
pub mod spawn;

pub use clock::Clock;
pub use processor::Processor;
pub use report::WorkerReport;
pub use spawn::{Worker, WorkerOptions, WorkerSetup, spawn};
