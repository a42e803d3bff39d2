//! TUN: the client's packets are wrapped into packets to the server (`ip_vs_tunnel_xmit`). The server has the VIP
//! itself and answers the client directly, so its packets are not expected here. Its servers may be of the
//! other IP version.

use super::Plan;
use super::recipe::{Recipe, Rewrite};
use crate::packet::checksum::Delta;
use crate::packet::flow::FlowKey;

pub(super) fn plan(reply_key: FlowKey) -> Plan {
    Plan {
        client: Recipe { rewrite: Rewrite::Wrap, l3: Delta::TTL_MINUS_ONE, l4: Delta::default() },
        reply_key,
        server: None,
        is_unique: false,
    }
}
