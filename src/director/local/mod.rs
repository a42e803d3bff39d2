//! Local addresses: what FULLNAT sends clients' packets to servers from, and which of their ports a connection gets.
//!
//! ```text
//!  client ── CIP:cport -> VIP:vport ──> director ── LIP:lport -> RIP:rport ──> server
//!  client <── VIP:vport -> CIP:cport ── director <── RIP:rport -> LIP:lport ── server
//! ```
//!
//! | file | owns |
//! | --- | --- |
//! | `locals` | local addresses and ports of a service, as the operator wants them |
//! | `cursors` | where the search for a port goes on |
//! | `choose` | the port of a new connection, and the connections that have made room for it |
//! | `ahead` | the reset that ends a server's TIME_WAIT before a port is used again |
//!
//! A port is one connection's as seen from one server: what has to be unique is local address, local port, server and
//! server's port together, so that one local address carries 64,000 connections to *each* server. Nobody keeps a list
//! of ports: that key is the one by which the connection table finds a server's packets, so the table is the truth of
//! what is free, and a port is free again as soon as its connection has left the table.
//!
//! **Which port.** The one whose turn it is: a cursor for each server goes round all local addresses and ports (RFC 6056,
//! 3.3.4), so that a port rests for as long as possible. Of the ports whose turn comes up soon the first one whose replies
//! the network card will put into this worker's own queue, if the card says how it chooses queues
//! ([`NextHops::queue`](super::forward::hops::NextHops::queue)); else the first that is free: its replies are forwarded
//! by another worker then.
//!
//! **When all are taken.** A connection that is over (TIME_WAIT, CLOSE) and still in the table gives its port, the
//! one that has rested for the longest first. Its server may have it in TIME_WAIT too, and would answer the new SYN,
//! which comes from another client with other sequence numbers and timestamps, by an acknowledgement of the old
//! connection. So the SYN goes behind a reset of the old connection, which is exactly in sequence: a server forgets
//! its TIME_WAIT then (Linux unless `tcp_rfc1337` is set). Where it does not, what RFC 9293, 3.10.7.4 describes
//! mends it: the client resets what it does not know, and its next SYN, a second later, opens a connection.
//! Nothing of that is needed for a port that was free: the director remembers a TIME_WAIT for twice as long as
//! servers do. Without any such connection the client is told that no server is there, and the reason is counted.

mod ahead;
mod choose;
mod cursors;
mod locals;

pub use self::cursors::Cursors;
pub use self::locals::{LOCAL_PORTS, Locals, LocalsError, MAX_LOCAL_ADDRESSES, Ports};
