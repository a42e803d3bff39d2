//! The loop of one queue index: receive, engine, transmit, recycle, expire, idle.
//!
//! Joins [`xdp`](crate::xdp), the snapshots of [`net`](crate::net) and the
//! [`director`](crate::director); the only place that knows all three.
