//! Templates of persistence: the server that the next connections of a client go to (`IP_VS_CONN_F_TEMPLATE`).
//!
//! A template is a slot like a connection's, in the same table, index and timers, but its key is that of a group
//! of flows, which no packet has. What workers may do to it at the same time is decided by one word:
//!
//! ```text
//! bits 0-29   connections that follow the template
//! bit 30      invalid: it leads nobody any more and only waits for its time to end
//! bit 31      closed: it is being taken out of the table
//! ```
//!
//! The rules:
//! - A connection joins by counting itself before it can be found, which fails once either bit is set. It is counted
//!   out once: by whoever unlinked it, or never managed to enter it.
//! - Closed is set only where the count is zero, and who set it unlinks the template. Neither bit is ever cleared.
//!
//! A connection that others follow, such as one of FTP its data connections, has the same word: it is invalid once it is
//! ended, and its slot is not used again before the last of them has left (`Shard::retire`).
//!
//! So a template outlives the connections that follow it, and the slot number that a connection has of its template
//! is good for as long as the connection is linked; a worker that found the connection in its batch may use it to
//! the batch's end, since until then the slot is not used again (see `quiesce`).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::director::forward::hops::Route;
use crate::director::forward::recipe::{Recipe, Rewrite, Way};
use crate::packet::checksum::Delta;
use crate::packet::flow::FlowKey;

use super::slot::{Direction, Slot, SlotId};
use super::state::{State, Status};
use super::table::Table;

const INVALID: u32 = 1 << 30;
const CLOSED: u32 = 1 << 31;
const COUNT: u32 = INVALID - 1;

/// The status of a new template. Its states are those of the sync protocol: 0 and, once assured, 1.
pub(super) const STATUS: Status =
    Status { state: State::None, inactive: true, no_output: true, removed: false };

/// Everything a template begins with.
#[derive(Clone, Copy, Debug)]
pub struct NewTemplate {
    /// The group of flows it is for, from the client's network to where they go.
    pub key: FlowKey,
    /// From its server to the client's network.
    pub reply_key: FlowKey,
    /// The number of its server.
    pub server_id: u32,
    /// By what the name of a [`named`] group is found; 0 is none.
    pub name: u32,
    /// How long it lives after the last connection that joined it, in seconds.
    pub timeout_s: u32,
    /// The tick of the first packet.
    pub tick: u32,
}

/// The source port of a named group's key: that of another group is 0.
const NAMED: u16 = 1;

/// The key of the flows of `group` that have a name, of which `digest` is the digest: as of IPv6 whatever the group is
/// of, with the digest for the client.
pub fn named(group: &FlowKey, digest: u128) -> FlowKey {
    let to = group.destination();
    let ip = match to.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let client = SocketAddr::new(Ipv6Addr::from_bits(digest).into(), NAMED);
    FlowKey::group(group.protocol(), client, SocketAddr::new(ip.into(), to.port()))
}

impl NewTemplate {
    pub(super) fn write(&self, slot: &Slot) {
        let recipe = Recipe { rewrite: Rewrite::None, l3: Delta::default(), l4: Delta::default() };
        let way = Way { route: Route::Unknown, generation: 0 };
        slot.set_side(Direction::In, &self.key, recipe, way);
        slot.set_side(Direction::Out, &self.reply_key, recipe, way);
        slot.set_aside(self.name);
        slot.set_server_id(self.server_id);
        slot.set_template(None);
        slot.set_timeout_s(self.timeout_s);
        slot.held.store(1, Relaxed);
        slot.begin(self.tick);
    }
}

impl Slot {
    /// True for a template of persistence, false for a connection.
    pub fn is_template(&self) -> bool {
        self.key(Direction::In).is_group()
    }

    /// Where a template's group comes from and goes to.
    pub fn group(&self) -> (SocketAddr, SocketAddr) {
        let key = self.key(Direction::In);
        match key.source().port() {
            NAMED => {
                let to = key.destination();
                (self.key(Direction::Out).destination(), SocketAddr::new(to.ip().to_canonical(), to.port()))
            }
            _ => (key.source(), key.destination()),
        }
    }

    /// Connections that follow this template, or connection.
    pub fn followers(&self) -> u32 {
        self.held.load(Acquire) & COUNT
    }

    /// True for a template that leads nobody any more.
    pub fn is_invalid(&self) -> bool {
        self.held.load(Acquire) & INVALID != 0
    }

    /// One connection more follows this template, or connection. False if it leads nobody any more.
    pub fn join(&self) -> bool {
        self.held.try_update(AcqRel, Acquire, |held| (held & !COUNT == 0).then_some(held + 1)).is_ok()
    }

    /// A connection that joined this template does not follow it any more.
    pub fn leave(&self) {
        let before = self.held.fetch_sub(1, Release);
        debug_assert!(before & COUNT > 0, "nobody followed this template");
    }

    /// Nobody may follow this connection any more: it is being ended.
    pub fn refuse_followers(&self) {
        self.held.fetch_or(INVALID, AcqRel);
    }

    /// Closes a template that nobody follows, so that nobody can join. True for who did it, and has to unlink it.
    pub fn close(&self) -> bool {
        self.held
            .try_update(AcqRel, Acquire, |held| (held & (COUNT | CLOSED) == 0).then_some(held | CLOSED))
            .is_ok()
    }

    /// A connection that follows this template was answered by its server (`ip_vs_control_assure_ct`).
    pub fn assure(&self) {
        let mut status = self.status();
        while !status.removed && status.state == State::None && self.is_template() {
            match self.change_status(status, Status { state: State::Established, ..status }) {
                Ok(()) => return,
                Err(other) => status = other,
            }
        }
    }
}

impl Table {
    /// Lets a template lead nobody any more (`ip_vs_check_template`): another one may take its key at once. It stays
    /// until its time ends and nobody follows it.
    pub fn invalidate(&self, id: SlotId) {
        let slot = self.slot(id);
        slot.held.fetch_or(INVALID, AcqRel);
        self.index.remove(self.hash(&slot.key(Direction::In)), id, false);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicU32, AtomicU64};

    use super::super::shard::Shard;
    use super::super::table::Refused;
    use super::*;

    fn new(client: u32) -> NewTemplate {
        let (client, vip, rip) = ([10, 0, 1, u8::try_from(client).unwrap()], [10, 0, 0, 100], [10, 1, 0, 11]);
        let key = FlowKey::group(6, (client, 0).into(), (vip, 80).into());
        let reply_key = FlowKey::new(6, (rip, 80).into(), (client, 0).into());
        NewTemplate { key, reply_key, server_id: 0, name: 0, timeout_s: 300, tick: 0 }
    }

    fn find(table: &Table, client: u32) -> Option<SlotId> {
        let key = new(client).key;
        table.find(table.hash(&key), &key).map(|found| found.slot)
    }

    proptest! {
        /// The oracle is a map from the client to the template that leads it, and one from templates to followers.
        #[test]
        fn any_history_equals_maps(
            steps in proptest::collection::vec((0u32..12, 0u32..4, 0usize..2), 1..300),
        ) {
            let table = Table::new(64, 2, (3, 4), false).unwrap();
            let mut shards = [Shard::new(&table, 0), Shard::new(&table, 1)];
            let mut leads: HashMap<u32, SlotId> = HashMap::new();
            let mut there: HashMap<SlotId, (u32, usize)> = HashMap::new();
            for (client, what, worker) in steps {
                shards.iter().for_each(|t| t.enter(&table));
                let any = there.keys().copied().min_by_key(|id| id.abs_diff(client * 5));
                match (what, any) {
                    (0, _) => match shards[worker].insert_template(&table, &new(client), 10) {
                        Ok(id) => {
                            prop_assert_eq!(leads.insert(client, id), None);
                            there.insert(id, (1, worker));
                        }
                        Err(Refused::Exists(found)) => {
                            prop_assert_eq!(found.slot, leads[&client]);
                            prop_assert!(table.slot(found.slot).join());
                            there.get_mut(&found.slot).unwrap().0 += 1;
                        }
                        Err(other) => prop_assert!(there.len() > 50, "{:?}", other),
                    },
                    (1, Some(id)) if there[&id].0 > 0 => {
                        table.slot(id).leave();
                        there.get_mut(&id).unwrap().0 -= 1;
                    }
                    (2, Some(id)) => {
                        let closed = table.slot(id).close();
                        prop_assert_eq!(closed, there[&id].0 == 0);
                        if closed {
                            prop_assert!(!table.slot(id).join() && !table.slot(id).close());
                            prop_assert!(table.unlink(id).is_some());
                            shards[there[&id].1].retire(&table, id);
                            there.remove(&id);
                            leads.retain(|_, led| *led != id);
                        }
                    }
                    (3, _) => if let Some(id) = leads.remove(&client) {
                        table.invalidate(id);
                        prop_assert!(!table.slot(id).join(), "nobody joins it any more");
                    },
                    _ => {}
                }
                for client in 0..12 {
                    prop_assert_eq!(find(&table, client), leads.get(&client).copied());
                }
                for (id, (followers, _)) in &there {
                    prop_assert_eq!(table.slot(*id).followers(), *followers);
                }
                prop_assert_eq!(table.len(), there.len() as u64);
            }
        }
    }

    #[test]
    fn a_named_group_is_led_by_its_digest_and_shown_as_its_group() {
        let table = Table::new(16, 1, (1, 2), false).unwrap();
        let mut shard = Shard::new(&table, 0);
        let plain = new(1);
        let key = |name: &[u8]| named(&plain.key, table.digest(&plain.key, name));
        let id =
            shard.insert_template(&table, &NewTemplate { key: key(b"one"), name: 7, ..plain }, 10).unwrap();
        assert_eq!((find(&table, 1), key(b"one").is_group()), (None, true));
        assert_eq!(table.find(table.hash(&key(b"one")), &key(b"one")).map(|f| f.slot), Some(id));
        let other = key(b"two");
        assert!(table.find(table.hash(&other), &other).is_none());
        let (slot, from_group) = (table.slot(id), (plain.key.source(), plain.key.destination()));
        assert_eq!((slot.group(), slot.aside(), slot.is_template()), (from_group, 7, true));
    }

    #[test]
    fn nobody_follows_a_template_that_was_closed() {
        let table = Table::new(16, 1, (1, 2), false).unwrap();
        let id = Shard::new(&table, 0).insert_template(&table, &new(1), 10).unwrap();
        let slot = table.slot(id);
        slot.leave();
        let (inside, rounds) = (AtomicU32::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while slot.join() {
                        inside.fetch_add(1, AcqRel);
                        rounds.fetch_add(1, Relaxed);
                        inside.fetch_sub(1, AcqRel);
                        slot.leave();
                    }
                });
            }
            while rounds.load(Relaxed) < 10_000 {
                std::hint::spin_loop();
            }
            while !slot.close() {
                std::hint::spin_loop();
            }
            assert_eq!(inside.load(Acquire), 0);
        });
        assert_eq!(slot.followers(), 0);
    }
}
