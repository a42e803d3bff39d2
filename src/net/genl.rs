//! A generic netlink socket and one request over it: what [`queues`](super::queues),
//! [`offloads`](super::offloads) and [`xdp_features`](super::xdp_features) have in common.
//!
//! Netlink is right in every network namespace; sysfs is not in a thread that only changed its
//! namespace, because `/sys` stays mounted for the old one.

use std::fmt::Debug;
use std::time::Duration;

use ethtool::EthtoolHandle;
use futures_util::StreamExt;
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};
use rtnetlink::packet_core::{
    Emitable, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload, ParseableParametrized,
};
use tokio::time::timeout;

use super::error::NetError;

/// How long the kernel may take for one answer, in milliseconds; some drivers ask their card.
const ANSWER_LIMIT_MS: u64 = 5_000;

/// Sends one request that has one answer. `None`: the kernel, or the driver, does not know it.
pub(super) async fn ask<M>(what: &'static str, message: M) -> Result<Option<M>, NetError>
where
    M: GenlFamily + Emitable + ParseableParametrized<[u8], GenlHeader> + Debug,
{
    let (connection, mut handle, _) = ethtool::new_connection()?;
    let reader = tokio::spawn(connection);
    let limit = Duration::from_millis(ANSWER_LIMIT_MS);
    let answer = timeout(limit, exchange(what, &mut handle, message)).await;
    reader.abort();
    answer.unwrap_or(Err(NetError::Timeout { what, limit_ms: ANSWER_LIMIT_MS }))
}

async fn exchange<M>(
    what: &'static str,
    handle: &mut EthtoolHandle,
    message: M,
) -> Result<Option<M>, NetError>
where
    M: GenlFamily + Emitable + ParseableParametrized<[u8], GenlHeader> + Debug,
{
    let mut request = NetlinkMessage::from(GenlMessage::from_payload(message));
    request.header.flags = NLM_F_REQUEST;
    // Without an answer to the question for the family's number, the kernel does not have the family.
    let Ok(mut answers) = handle.handle.request(request).await else { return Ok(None) };
    while let Some(answer) = answers.next().await {
        let refused = |reason: String, errno| NetError::Refused { what, reason, errno };
        let answer = answer.map_err(|error| refused(error.to_string(), 0))?;
        match answer.payload {
            NetlinkPayload::InnerMessage(message) => return Ok(Some(message.payload)),
            NetlinkPayload::Error(error) => match error.raw_code().abs() {
                libc::EOPNOTSUPP | libc::ENOENT => return Ok(None),
                errno => return Err(refused(error.to_string(), errno)),
            },
            _ => {}
        }
    }
    Ok(None)
}
