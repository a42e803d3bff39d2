//! How a connection begins: a packet without one finds its service, the scheduler a server, and both
//! directions their recipes.
//!
//! `tcp_conn_schedule` and `ip_vs_schedule`: TCP opens with a SYN (that is no RST), UDP with any packet.

use std::hint::spin_loop;

use super::close::ticks;
use super::conn::state::{State, Status};
use super::conn::{Direction, Found, NewConnection, Refused, Slot};
use super::drops::DropReason;
use super::engine::{Packet, Work};
use super::forward::Plan;
use super::forward::hops::{NextHops, Route};
use super::forward::recipe::Way;
use super::refusal::{Answer, Refusal};
use super::sched::{Request, Schedule};
use super::server::ServerId;
use super::service::Protocol;
use super::services::VirtualService;
use crate::packet::answer::IcmpError;
use crate::packet::parse::{Parsed, TcpFlags};

/// Active FTP's data port: a connection from it is the server's answer to a client and never scheduled
/// (`ip_vs_schedule` in ip_vs_core.c).
const FTP_DATA: u16 = 20;

/// Attempts to enter a connection that another worker is just removing, which takes it some 100 ns.
const REMOVAL_SPINS: u32 = 1000;

impl<'a, H: NextHops> Work<'a, H> {
    /// Opens the connection of `service` that `parsed` is the first packet of, or says why not. `stale` is a connection
    /// with the same key that is over.
    #[cold]
    pub(super) fn open(
        &mut self,
        service: &VirtualService,
        packet: &Packet<'_>,
        parsed: &Parsed,
        stale: Option<Found>,
    ) -> Result<(&'a Slot, Found), Refusal> {
        let key = &parsed.key;
        let opens = parsed.flags.has(TcpFlags::SYN) && !parsed.flags.has(TcpFlags::RST);
        let tcp = key.protocol() == Protocol::Tcp as u8;
        if (tcp && !opens) || key.source().port() == FTP_DATA {
            return Err(DropReason::NoConnection.answered(Answer::Reset));
        }
        let (list, counts) = (&service.destinations, &self.director.counts);
        let picked = service
            .scheduler
            .pick(list, counts, &Request { flow: key, tick: self.tick })
            .and_then(|index| list.get(index));
        // After the choice: the kernel too still counts the old connection while it chooses.
        if let Some(found) = stale {
            self.remove(found.slot);
        }
        let unavailable = DropReason::NoServer.answered(Answer::Error(IcmpError::PortUnreachable));
        let destination = picked.ok_or(unavailable)?;
        let plan = Plan::new(key, destination).ok_or(DropReason::NoTunnel)?;
        let new = self.connection(packet, parsed, plan, destination.id);
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

    /// Enters a connection into the table, counted before anybody can find it.
    fn enter(&mut self, new: &NewConnection, flags: TcpFlags) -> Result<Found, DropReason> {
        // Armed for the state that the packet will bring about in a moment.
        let state = new.status.after_tcp(Direction::In, flags).state;
        let timeout_s = self.services.timeouts.of(new.client.0.protocol(), state);
        let deadline = self.tick + ticks(timeout_s);
        let (table, counts) = (&self.director.table, &self.director.counts);
        let id = ServerId(new.server_id);
        for _ in 0..REMOVAL_SPINS {
            counts.opened(id, new.status);
            let (refused, status) = match self.shard.insert(table, new, deadline) {
                Ok(slot) => {
                    self.stats.connection(id);
                    return Ok(Found { slot, direction: Direction::In });
                }
                Err(refusal) => refusal,
            };
            if let Some(status) = status {
                counts.closed(id, status);
            }
            match refused {
                Refused::TableFull => return Err(DropReason::TableFull),
                Refused::BucketFull => return Err(DropReason::BucketFull),
                // Another worker had a packet of the same flow at the same moment: or is just removing it.
                Refused::Exists(found) if !table.slot(found.slot).status().removed => return Ok(found),
                Refused::Exists(_) => spin_loop(),
            }
        }
        Err(DropReason::Removing)
    }
}
