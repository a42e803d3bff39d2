//! DR, direct routing: only MACs and TTL change (`ip_vs_dr_xmit`). The server has the VIP itself and
//! answers the client directly, so its packets are not expected here.

use super::Plan;
use super::recipe::{Recipe, Rewrite};
use crate::packet::checksum::Delta;
use crate::packet::flow::FlowKey;

pub(super) fn plan(reply_key: FlowKey) -> Plan {
    Plan {
        client: Recipe { rewrite: Rewrite::None, l3: Delta::TTL_MINUS_ONE, l4: Delta::default() },
        reply_key,
        server: None,
        is_unique: false,
    }
}
