//! How a connection begins: a packet without one finds its service, the scheduler a server, and both
//! directions their recipes.
//!
//! `tcp_conn_schedule` and `ip_vs_schedule`: TCP opens with a SYN (that is no RST), UDP with any packet.

use super::conn::state::{State, Status};
use super::conn::{Direction, Found, NewConnection, Refused, Slot, SlotId};
use super::drops::DropReason;
use super::engine::{Packet, Work};
use super::forward::Plan;
use super::forward::hops::{NextHops, Route};
use super::forward::recipe::Way;
use super::sched::Schedule;
use super::server::ServerId;
use crate::packet::flow::FlowKey;
use crate::packet::parse::{Parsed, TcpFlags};

impl<'a, H: NextHops> Work<'a, H> {
    /// Opens the connection that `parsed` is the first packet of, or says why not. `stale` is a connection
    /// with the same key that is over.
    #[cold]
    pub(super) fn open(
        &mut self,
        packet: &Packet<'_>,
        parsed: &Parsed,
        stale: Option<Found>,
    ) -> Result<(&'a Slot, Found), DropReason> {
        let key = &parsed.key;
        let service = self.services.find(key.protocol(), key.destination()).ok_or(DropReason::NoService)?;
        let opens = parsed.flags.has(TcpFlags::SYN) && !parsed.flags.has(TcpFlags::RST);
        if key.protocol() == 6 && !opens {
            return Err(DropReason::NoConnection);
        }
        if let Some(found) = stale {
            self.remove(found.slot);
        }
        let list = &service.destinations;
        let counts = &self.director.counts;
        let index = service.scheduler.pick(list, counts, key).ok_or(DropReason::NoServer)?;
        let destination = list.get(index).ok_or(DropReason::NoServer)?;
        let new = self.connection(packet, parsed, Plan::new(key, destination), destination.id);
        let found = self.enter(&new, parsed.flags)?;
        Ok((self.director.table.slot(found.slot), found))
    }

    fn connection(&self, packet: &Packet<'_>, parsed: &Parsed, plan: Plan, id: ServerId) -> NewConnection {
        let to_server = self.way(plan.reply_key.source().ip(), parsed);
        let replies = plan.server.is_some();
        // Of another generation: looked up by the first reply. Many floods never get one.
        let to_client = Way { route: Route::Unknown, generation: to_server.generation.wrapping_sub(1) };
        NewConnection {
            client: (parsed.key, plan.client, to_server),
            server: (plan.reply_key, plan.server.unwrap_or(plan.client), to_client),
            replies,
            // Inactive until its first packet has been counted, like the kernel's.
            status: Status { state: State::None, inactive: true, no_output: !replies, removed: false },
            server_id: id.0,
            learned: (packet.source_mac(), packet.port),
            tick: self.tick,
        }
    }

    /// Enters a connection into the table.
    fn enter(&mut self, new: &NewConnection, flags: TcpFlags) -> Result<Found, DropReason> {
        // Armed for the state that the packet will bring about in a moment.
        let state = new.status.after_tcp(Direction::In, flags).state;
        let timeout_s = self.services.timeouts.of(new.client.0.protocol(), state);
        let deadline = self.tick + Self::ticks(timeout_s);
        let table = &self.director.table;
        let slot = match self.timer.insert(table, new, deadline) {
            Err(Refused::TupleTaken(other)) if self.is_over(other, &new.server.0) => {
                // The server's side of a finished connection that another VIP led here.
                self.remove(other);
                self.timer.insert(table, new, deadline)
            }
            outcome => outcome,
        };
        match slot {
            Ok(slot) => {
                let id = ServerId(new.server_id);
                self.director.counts.opened(id, new.status);
                self.stats.connection(id);
                Ok(Found { slot, direction: Direction::In })
            }
            // Another worker had a packet of the same flow at the same moment.
            Err(Refused::Exists(found)) => Ok(found),
            Err(Refused::TableFull) => Err(DropReason::TableFull),
            Err(Refused::BucketFull) => Err(DropReason::BucketFull),
            Err(Refused::TupleTaken(_)) => Err(DropReason::TupleTaken),
        }
    }

    /// True if the connection whose replies have `key` counts as inactive.
    fn is_over(&self, id: SlotId, key: &FlowKey) -> bool {
        let slot = self.director.table.slot(id);
        slot.matches(Direction::Out, key) && slot.status().inactive
    }
}
