//! Connections that were announced: entered before their first packet, with the connection that announced them as
//! their controller (`ip_vs_control_add`), which lives as long as they do.
//!
//! Where the server connects to, all of the connection is known. Of one that the client opens its port is not: it is
//! entered with port 0, and becomes the real one with the client's SYN.

use std::net::SocketAddr;

use super::data_port;
use super::memory::EXPECTED;
use crate::director::close::first_look;
use crate::director::conn::state::{State, Status};
use crate::director::conn::{Direction, Found, NewConnection, Refused, Replies, Slot, SlotId};
use crate::director::drops::DropReason;
use crate::director::engine::{Packet, Work};
use crate::director::forward::Plan;
use crate::director::forward::hops::{NextHops, Route};
use crate::director::forward::recipe::Way;
use crate::director::open::Begun;
use crate::director::refusal::Refusal;
use crate::director::server::ServerId;
use crate::director::service::Protocol;
use crate::packet::flow::FlowKey;
use crate::packet::parse::{Parsed, TcpFlags};

/// Connections that one connection may have announced at once: those of two minutes of small files, and far from what
/// the table holds.
const MAX_FOLLOWERS: u32 = 16_384;

/// How a connection that was announced begins (`ip_vs_tcp_conn_listen`).
const LISTENING: Status = Status { state: State::Listen, inactive: true, no_output: false, removed: false };

impl<'a, H: NextHops> Work<'a, H> {
    /// The server will connect to `client`, from the port below that of the control connection.
    pub(super) fn expect_server(
        &mut self,
        control: (&'a Slot, Found),
        client: SocketAddr,
    ) -> Result<(), DropReason> {
        let vip = control.0.key(Direction::In).destination();
        let server = control.0.key(Direction::Out).source();
        let key = FlowKey::new(Protocol::Tcp as u8, client, SocketAddr::new(vip.ip(), data_port(vip)));
        self.expect(control, key, SocketAddr::new(server.ip(), data_port(server)), 0)
    }

    /// The client will connect to the VIP, at the port where `server` waits.
    pub(super) fn expect_client(
        &mut self,
        control: (&'a Slot, Found),
        server: SocketAddr,
    ) -> Result<(), DropReason> {
        let own = control.0.key(Direction::In);
        let client = SocketAddr::new(own.source().ip(), 0);
        let vip = SocketAddr::new(own.destination().ip(), server.port());
        self.expect(control, FlowKey::new(Protocol::Tcp as u8, client, vip), server, EXPECTED)
    }

    fn expect(
        &mut self,
        (control, found): (&'a Slot, Found),
        key: FlowKey,
        server: SocketAddr,
        aside: u32,
    ) -> Result<(), DropReason> {
        let (director, table) = (self.director, &self.director.table);
        if let Some(there) = table.find(table.hash(&key), &key) {
            let slot = table.slot(there.slot);
            if slot.template() == Some(found.slot) && slot.key(Direction::Out).source() == server {
                self.listen(slot, there.slot);
                return Ok(());
            }
            if slot.aside() != EXPECTED {
                // Another's, and in use.
                return Ok(());
            }
            // The client asked two servers: it goes where it was told last.
            self.remove(there.slot);
        }
        if control.followers() >= MAX_FOLLOWERS {
            return Err(DropReason::HelperFull);
        }
        if !control.join() {
            // Just ended.
            return Ok(());
        }
        let plan = Plan::nat(&key, server);
        // Looked up by the first packet.
        let way = Way { route: Route::Unknown, generation: self.hops.generation().wrapping_sub(1) };
        let new = NewConnection {
            client: (key, plan.client, way),
            server: (plan.reply_key, plan.server.unwrap_or(plan.client), way),
            hashes: None,
            outer_source: None,
            replies: if aside == 0 { Replies::Newest } else { Replies::None },
            status: LISTENING,
            server_id: control.server_id(),
            template: Some(found.slot),
            aside,
            learned: control.learned(),
            tick: self.tick,
            timeout_s: self.services.timeouts.of(Protocol::Tcp as u8, State::Listen),
        };
        if aside == EXPECTED {
            director.apps.expect();
        }
        let id = ServerId(new.server_id);
        director.counts.opened(id, new.status);
        let Err((refused, status)) = self.shard.insert(table, &new, first_look(self.tick, new.timeout_s))
        else {
            if let Some(older) = self.shard.displaced() {
                director.offload.withdraw(table.slot(older));
            }
            return Ok(());
        };
        if let Some(status) = status {
            director.counts.closed(id, status);
            director.leave(new.template);
            director.apps.forget(aside, || table.stamp());
        }
        match refused {
            Refused::TableFull => Err(DropReason::TableFull),
            Refused::BucketFull => Err(DropReason::BucketFull),
            // Another worker had the same announcement at the same moment.
            Refused::Exists(_) => Ok(()),
        }
    }

    /// A connection that was announced before is announced again.
    fn listen(&mut self, slot: &Slot, id: SlotId) {
        let mut old = slot.status();
        while !old.removed {
            let new = Status { state: State::Listen, inactive: true, ..old };
            match slot.change_status(old, new) {
                Ok(()) => {
                    self.director.offload.withdraw(slot);
                    self.director.counts.changed(ServerId(slot.server_id()), old, new);
                    slot.touch(self.tick);
                    return self.renew(slot, id);
                }
                Err(other) => old = other,
            }
        }
    }

    /// The connection of a client's SYN, if it was announced.
    pub(in crate::director) fn claim(
        &mut self,
        packet: &Packet<'_>,
        parsed: &Parsed,
        hash: u64,
    ) -> Option<Result<Begun<'a>, Refusal>> {
        let flags = parsed.flags;
        let opens = flags.has(TcpFlags::SYN) && !flags.has(TcpFlags::RST);
        if !opens || !self.director.apps.expects() || parsed.key.protocol() != Protocol::Tcp as u8 {
            return None;
        }
        let (director, table) = (self.director, &self.director.table);
        let (client, vip) = (parsed.key.source(), parsed.key.destination());
        let announced = FlowKey::new(parsed.key.protocol(), SocketAddr::new(client.ip(), 0), vip);
        let found = table.find(table.hash(&announced), &announced)?;
        let slot = table.slot(found.slot);
        if found.direction != Direction::In || slot.aside() != EXPECTED || slot.status().removed {
            return None;
        }
        let (id, control) = (ServerId(slot.server_id()), slot.template());
        if !self.services.is_available(id) {
            if self.services.tunables.expire_nodest_conn == 0 {
                return Some(Err(DropReason::ServerGone.into()));
            }
            self.remove(found.slot);
            return None;
        }
        // Its controller is there as long as it is; if that has just ended, the new one has none.
        let control = control.filter(|&control| table.slot(control).join());
        let plan = Plan::nat(&parsed.key, slot.key(Direction::Out).source());
        // Before the new one begins, so that its server never has one more than there are.
        self.remove(found.slot);
        let mut new = self.connection(packet, (parsed, hash), plan, id, control);
        new.status = LISTENING;
        let protocol = parsed.key.protocol();
        let state = LISTENING.after(self.tables, protocol, Direction::In, flags).state;
        new.timeout_s = self.services.timeout_s(id, protocol, state);
        let entered = self.enter(&new, false);
        Some(
            entered
                .map_err(Refusal::from)
                .map(|found| Begun::Connection(director.table.slot(found.slot), found)),
        )
    }
}
