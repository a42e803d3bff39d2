//! Who is who: the numbers of servers, and the removed servers that may come back.
//!
//! Connections, counters and schedulers know a server by a number. A server that is taken out of its service
//! keeps its number, and with it its counters and connections, for as long as it has connections and at least
//! two minutes longer, so that one that is put back goes on where it was: the kernel's trash of destinations
//! (`ip_vs_trash_get_dest`), which is there for monitors that take servers out and put them back.
//!
//! Belongs to the control plane; workers only ever see numbers.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::name::ServiceKey;
use super::server::{Counts, MAX_IDS, ServerId};
use super::service::Server;
use super::time::Time;

/// How long a removed server without connections is remembered, in ticks (`IP_VS_DEST_TRASH_PERIOD`).
const REMEMBERED: u32 = 120 * Time::TICKS_PER_S;

/// A server that was taken out of its service.
#[derive(Clone, Copy, Debug)]
pub struct Removed {
    /// Its number.
    pub id: ServerId,
    /// What it was.
    pub server: Server,
    /// The table's stamp of when workers were told, if they have been.
    stamp: Option<u64>,
    /// The tick since which it has had no connections, if it has none.
    idle_since: Option<u32>,
}

/// All numbers, and who has them.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    next: u32,
    free: Vec<ServerId>,
    removed: HashMap<(ServiceKey, SocketAddr), Removed>,
}

impl Roster {
    /// The number for a server that is put into a service: its old one if it has been there before. None when
    /// all numbers are taken.
    pub(super) fn enter(&mut self, service: ServiceKey, address: SocketAddr) -> Option<ServerId> {
        if let Some(known) = self.removed.remove(&(service, address)) {
            return Some(known.id);
        }
        self.free.pop().or_else(|| {
            let fresh = (self.next < MAX_IDS).then_some(ServerId(self.next))?;
            self.next += 1;
            Some(fresh)
        })
    }

    /// Remembers a server that is taken out of its service.
    pub(super) fn leave(&mut self, service: ServiceKey, id: ServerId, server: Server) {
        let removed = Removed { id, server, stamp: None, idle_since: None };
        self.removed.insert((service, server.address), removed);
    }

    /// All workers can know by `stamp` of the servers that have left so far.
    pub(super) fn published(&mut self, stamp: u64) {
        for removed in self.removed.values_mut() {
            removed.stamp.get_or_insert(stamp);
        }
    }

    /// Forgets the removed servers that have had no connections for two minutes; all those without connections
    /// when fewer than `wanted` numbers are left. `passed` tells of a stamp whether every worker knows. The
    /// numbers that are free again come back.
    pub fn forget(
        &mut self,
        tick: u32,
        wanted: u32,
        counts: &Counts,
        passed: impl Fn(u64) -> bool,
    ) -> Vec<ServerId> {
        let mut freed = Vec::new();
        let short = self.left() < wanted;
        self.removed.retain(|_, removed| {
            // Asked before the connections are counted: a worker that does not know yet may open one.
            let nobody_chooses_it = removed.stamp.is_some_and(&passed);
            if counts.any(removed.id) {
                removed.idle_since = None;
                return true;
            }
            let since = *removed.idle_since.get_or_insert(tick);
            let is_over = short || tick.saturating_sub(since) >= REMEMBERED;
            let forget = is_over && nobody_chooses_it;
            if forget {
                freed.push(removed.id);
            }
            !forget
        });
        self.free.extend(&freed);
        freed
    }

    /// Every number that was ever given.
    pub fn ids(&self) -> impl Iterator<Item = ServerId> + use<> {
        (0..self.next).map(ServerId)
    }

    /// How many numbers are left.
    pub fn left(&self) -> u32 {
        MAX_IDS - self.next + u32::try_from(self.free.len()).unwrap_or(u32::MAX)
    }

    /// The removed servers and their services.
    pub fn removed(&self) -> impl Iterator<Item = (ServiceKey, &Removed)> {
        self.removed.iter().map(|((service, _), removed)| (*service, removed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::director::conn::state::{State, Status};
    use crate::director::service::Method;

    const NEW: Status = Status { state: State::None, inactive: true, no_output: false, removed: false };

    fn key() -> ServiceKey {
        "tcp:192.0.2.10:80".parse().unwrap()
    }

    fn server(host: u8) -> Server {
        Server::new(([10, 0, 0, host], 80).into(), Method::Nat)
    }

    #[test]
    fn a_server_that_comes_back_has_its_old_number() {
        let mut roster = Roster::default();
        let [a, b] = [1, 2].map(|host| roster.enter(key(), server(host).address).unwrap());
        assert_ne!(a, b);
        roster.leave(key(), a, server(1));
        assert_eq!(roster.enter(key(), server(3).address), Some(ServerId(2)), "another one gets another");
        assert_eq!(roster.enter(key(), server(1).address), Some(a));
        roster.leave(key(), b, server(2));
        let other = "udp:192.0.2.10:80".parse().unwrap();
        assert_eq!(
            roster.enter(other, server(2).address),
            Some(ServerId(3)),
            "in another service it is another"
        );
    }

    #[test]
    fn a_number_is_free_two_minutes_after_the_last_connection() {
        let counts = Counts::new(4);
        let mut roster = Roster::default();
        let id = roster.enter(key(), server(1).address).unwrap();
        counts.opened(id, NEW);
        roster.leave(key(), id, server(1));
        roster.published(1);
        let forget = |roster: &mut Roster, tick| roster.forget(tick, 0, &counts, |_| true);
        assert_eq!(forget(&mut roster, 10_000), [], "it has a connection");
        counts.closed(id, NEW);
        assert_eq!(forget(&mut roster, 10_000), []);
        assert_eq!(forget(&mut roster, 10_000 + REMEMBERED - 1), []);
        assert_eq!(forget(&mut roster, 10_000 + REMEMBERED), [id]);
        assert_eq!(roster.enter(key(), server(9).address), Some(id));
    }

    #[test]
    fn when_numbers_are_short_only_workers_and_connections_hold_them() {
        let counts = Counts::new(4);
        let mut roster = Roster::default();
        let ids: Vec<_> = (0..3).map(|host| roster.enter(key(), server(host).address).unwrap()).collect();
        counts.opened(ids[1], NEW);
        for (host, &id) in (0..).zip(&ids[..2]) {
            roster.leave(key(), id, server(host));
        }
        roster.published(7);
        roster.leave(key(), ids[2], server(2));
        let wanted = roster.left() + 1;
        assert_eq!(roster.forget(0, wanted, &counts, |_| false), [], "a worker may still choose it");
        assert_eq!(roster.forget(0, wanted, &counts, |stamp| stamp == 7), [ids[0]]);
    }
}
