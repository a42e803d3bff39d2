//! The local port of a new connection, and the connections that have made room for it.

use std::net::{IpAddr, SocketAddr};

use arrayvec::ArrayVec;

use super::{MAX_LOCAL_ADDRESSES, cursors};
use crate::director::conn::state::State;
use crate::director::conn::{Replies, Slot, SlotId};
use crate::director::drops::DropReason;
use crate::director::engine::Work;
use crate::director::forward::Plan;
use crate::director::forward::hops::NextHops;
use crate::director::refusal::{Answer, Refusal};
use crate::director::server::Destination;
use crate::director::service::Method;
use crate::director::services::VirtualService;
use crate::packet::answer::IcmpError;
use crate::packet::flow::FlowKey;
use crate::packet::parse::Parsed;

/// Ports that are looked at for one connection: all of a small range, and some 10 us of work where none is free.
const LOOKS: u32 = 256;

/// A connection that is over, whose port another one gets.
#[derive(Clone, Copy, Debug)]
pub(in crate::director) struct Over {
    /// The connection, to be removed once the other one is there: its port is never free in between, so that it is one
    /// worker's who gets it.
    pub slot: SlotId,
    /// The sequence number of the reset that has to go ahead of the other one's SYN, if any.
    pub ahead: Option<u32>,
}

impl Over {
    /// Whose the packets of a connection's server have been.
    pub const fn replies(self) -> Replies {
        Replies::InsteadOf(self.slot)
    }
}

impl<H: NextHops> Work<'_, H> {
    /// What the connection of a packet to this server will do to its packets; with FULLNAT from a local port of its
    /// own. Besides, the connection that gives it its port, if one has to.
    pub(in crate::director) fn plan(
        &mut self,
        service: &VirtualService,
        parsed: &Parsed,
        destination: &Destination,
    ) -> Result<(Plan, Option<Over>), Refusal> {
        if destination.method != Method::FullNat {
            return Ok((Plan::new(&parsed.key, destination).ok_or(DropReason::NoTunnel)?, None));
        }
        let server = destination.address_for(&parsed.key);
        let (local, over) = self.local(service, parsed, server).ok_or_else(|| {
            // As without a server.
            DropReason::LocalPorts.answered(Answer::Error(IcmpError::PortUnreachable))
        })?;
        Ok((Plan::full_nat(&parsed.key, server, local), over))
    }

    /// A local address and port from which nothing is sent to this server, or only by a connection that is over.
    fn local(
        &mut self,
        service: &VirtualService,
        parsed: &Parsed,
        server: SocketAddr,
    ) -> Option<(SocketAddr, Option<Over>)> {
        let (director, hops, worker) = (self.director, self.hops, self.shard.worker());
        let (table, protocol) = (&director.table, parsed.key.protocol());
        let locals = &service.service.locals;
        let addresses: ArrayVec<IpAddr, MAX_LOCAL_ADDRESSES> = locals.of_family(server.is_ipv4()).collect();
        let address_count = u32::try_from(addresses.len()).ok().filter(|count| *count > 0)?;
        // At most 2^20.
        let count = address_count * locals.ports.count();

        let whose = FlowKey::new(protocol, server, SocketAddr::new(addresses[0], 0));
        let cursor = director.cursors.of(table.hash(&whose));
        let start = cursors::take(cursor, count);
        let port = self.hop_to_server(server.ip(), parsed).ok().map(|hop| hop.port);
        let comes_here =
            |key: &FlowKey| port.and_then(|port| hops.queue(port, key)).is_none_or(|queue| queue == worker);

        let (mut elsewhere, mut over) = (None, None);
        for step in 0..count.min(LOOKS) {
            let place = (start + step) % count;
            let address = addresses[(place % address_count) as usize];
            // Below the count of ports.
            let number = u16::try_from(place / address_count).unwrap_or(0);
            let local = SocketAddr::new(address, locals.ports.first + number);
            let key = FlowKey::new(protocol, server, local);
            let is_here = comes_here(&key);
            if !is_here && elsewhere.is_some() {
                continue;
            }
            match table.find(table.hash(&key), &key) {
                None if is_here => {
                    cursors::skip(cursor, step);
                    return Some((local, None));
                }
                None => elsewhere = Some((step, local)),
                Some(found) if over.is_none() && is_over(table.slot(found.slot)) => {
                    over = Some((step, local, found.slot));
                }
                Some(_) => {}
            }
        }
        if let Some((step, local)) = elsewhere {
            cursors::skip(cursor, step);
            return Some((local, None));
        }
        let Some((step, local, slot)) = over else {
            // The next one looks at others.
            cursors::skip(cursor, count.min(LOOKS) - 1);
            return None;
        };
        cursors::skip(cursor, step);
        let ended = table.slot(slot);
        let ahead = (ended.status().state == State::TimeWait).then(|| ended.closing()).flatten();
        Some((local, Some(Over { slot, ahead })))
    }
}

/// True for a connection that only waits for its end.
fn is_over(slot: &Slot) -> bool {
    let status = slot.status();
    let is_over = matches!(status.state, State::TimeWait | State::Close | State::SctpClosed);
    is_over && !status.removed && slot.followers() == 0
}
