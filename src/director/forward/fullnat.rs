//! FULLNAT: the client's packets go to the server from a local address and port of the director's, so that the server's
//! come back by themselves, whatever its routes. What the two ends are told is NAT's; only the key that the server's
//! packets carry is another one: `RIP:rport -> LIP:lport`. Which local port that is, [`local`](crate::director::local)
//! decides.

use std::net::SocketAddr;

use super::recipe::{Recipe, Rewrite};
use super::{Plan, nat};
use crate::packet::flow::FlowKey;

/// `CIP:cport -> VIP:vport` becomes `LIP:lport -> RIP:rport`; the server's packets the reverse. `server` and `local` are of
/// one family; if the client's is the other one, packets are translated.
pub(super) fn plan(client: &FlowKey, server: SocketAddr, local: SocketAddr) -> Plan {
    let plan = nat::plan(client, FlowKey::new(client.protocol(), server, local));
    let plan = Plan { is_unique: true, ..plan };
    if server.is_ipv4() == client.is_v4() {
        return plan;
    }
    let translating = |recipe| Recipe { rewrite: Rewrite::Translate, ..recipe };
    Plan { client: translating(plan.client), server: plan.server.map(translating), ..plan }
}
