//! FULLNAT: the client's packets go to the server from a local address and port of the director's, so that the server's
//! come back by themselves, whatever its routes. What the two ends are told is NAT's; only the key that the server's
//! packets carry is another one: `RIP:rport -> LIP:lport`. Which local port that is, [`local`](crate::director::local)
//! decides.

use std::net::SocketAddr;

use super::{Plan, nat};
use crate::packet::flow::FlowKey;

/// `CIP:cport -> VIP:vport` becomes `LIP:lport -> RIP:rport`; the server's packets the reverse. `server` and `local` are of
/// the client's family.
pub(super) fn plan(client: &FlowKey, server: SocketAddr, local: SocketAddr) -> Plan {
    nat::plan(client, FlowKey::new(client.protocol(), server, local))
}
