//! The mirror against a real kernel: two namespaces, two veth pairs, changes made with `ip`.
//!
//! Needs root. The director's side has d0 (10.0.0.1/24) and d1 (10.1.0.1/24), the peer's p0 and p1
//! with servers, clients and gateways on them.

mod lab;
mod neighbours;
#[allow(dead_code, reason = "shared: no test binary uses all of it")]
#[path = "../common/netns.rs"]
mod netns;
mod routes;
