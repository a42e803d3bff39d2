//! The host's network as the kernel sees it: links, addresses, routes and neighbours over netlink,
//! queues and offloads over ethtool.
//!
//! The kernel's tables are the truth (routing daemons write there); this room mirrors them into an
//! immutable [`Snapshot`](snapshot) for the workers and keeps the neighbours that matter resolved.
//! Must not know: the director, services, sockets of ours.
