//! The desired state: configuration, what is published to the workers, and reports.
//!
//! Never reaches into a worker: it publishes snapshots and reads counters.

pub mod api;
pub mod client;
pub mod command;
pub mod config;
pub mod connections;
pub mod difference;
pub mod plane;
pub mod report;
pub mod statistics;
pub mod view;
pub mod wanted;
