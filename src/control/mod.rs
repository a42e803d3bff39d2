//! The desired state: configuration, what is published to the workers, and reports.
//!
//! Never reaches into a worker: it publishes snapshots and reads counters.

pub mod config;
pub mod report;
