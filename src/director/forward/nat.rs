//! NAT: the client's packets get the server's address and port, the server's get the VIP's (`ip_vs_nat_xmit`).

use super::Plan;
use super::recipe::{Recipe, Rewrite};
use crate::packet::checksum::Delta;
use crate::packet::flow::FlowKey;

/// Client to VIP becomes client to server; server to client becomes VIP to client.
pub(super) fn plan(client: &FlowKey, reply_key: FlowKey) -> Plan {
    Plan { client: recipe(client, &reply_key), server: Some(recipe(&reply_key, client)), reply_key }
}

/// From packets with the key `arriving` to ones that leave with the reverse of `other`.
fn recipe(arriving: &FlowKey, other: &FlowKey) -> Recipe {
    // The pseudo header holds the addresses (RFC 9293, 3.1; RFC 768; RFC 8200, 8.1).
    let (l4, addresses) = arriving.difference(&other.reversed());
    Recipe { rewrite: Rewrite::Tuple, l3: addresses.and(Delta::TTL_MINUS_ONE), l4 }
}
