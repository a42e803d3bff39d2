//! NAT: the client's packets get the server's address and port, the server's get the VIP's (`ip_vs_nat_xmit`).

use super::Plan;
use super::recipe::{Recipe, Rewrite};
use crate::packet::checksum::Delta;
use crate::packet::flow::FlowKey;

/// Client to VIP becomes client to server; server to client becomes VIP to client.
pub(super) fn plan(client: &FlowKey, reply_key: FlowKey) -> Plan {
    // The pseudo header holds the addresses (RFC 9293, 3.1; RFC 768; RFC 8200, 8.1).
    let (l4, addresses) = client.difference(&reply_key.reversed());
    let recipe = |addresses: Delta, l4| Recipe {
        rewrite: Rewrite::Tuple,
        l3: addresses.and(Delta::TTL_MINUS_ONE),
        l4,
    };
    // A server's packets get back what the client's have lost.
    let back = recipe(addresses.taken_back(), l4.taken_back());
    Plan { client: recipe(addresses, l4), server: Some(back), reply_key, is_unique: false }
}
