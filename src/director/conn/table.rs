//! The connection table: slots, index and free list put together.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use std::hash::Hasher;

use crate::director::forward::hops::Origin;
use crate::director::forward::recipe::{Recipe, Rewrite, Way};
use crate::packet::flow::FlowKey;

use super::ahead::Ready;
use super::free::Shared;
use super::hash::FlowHasher;
use super::index::{Bucket, Entry, FILL_PERCENT, Index, NotInserted, PLACES};
use super::memory::{Pages, prefetch};
use super::quiesce::Quiesce;
use super::slot::{Direction, Slot, SlotId};
use super::state::Status;

/// Places that a whole listing looks at before it lets removed slots be used again.
const LISTED_AT_ONCE: usize = 16_384;

/// All connections of the director.
#[derive(Debug)]
pub struct Table {
    pub(super) slots: Pages<Slot>,
    pub(super) index: Index<Pages<Bucket>>,
    pub(super) shared: Shared,
    pub(super) quiesce: Quiesce,
    hasher: FlowHasher,
    pub(super) workers: usize,
    pub(super) live: AtomicU64,
    pub(super) ready: Ready,
    /// The listing thread's number in `quiesce`, held while it looks.
    reader: Mutex<usize>,
}

/// Everything a connection begins with.
#[derive(Clone, Copy, Debug)]
pub struct NewConnection {
    /// The client's packets: their key, what happens to them, and where they go.
    pub client: (FlowKey, Recipe, Way),
    /// The server's packets, likewise.
    pub server: (FlowKey, Recipe, Way),
    /// The [hashes](Table::hash) of both keys, if they are at hand; that of the server's counts only if there are `replies`.
    pub hashes: Option<[u64; 2]>,
    /// Where packets to a server behind a tunnel are sent from: see [`Slot::set_outer_source`].
    pub outer_source: Option<IpAddr>,
    /// Whether the server's packets come through the director and are looked up by their key.
    pub replies: Replies,
    /// The state after the first packet.
    pub status: Status,
    /// The server it was given to.
    pub server_id: u32,
    /// The template of persistence that it follows and has joined, or the connection that announced it.
    pub template: Option<SlotId>,
    /// What is kept aside of the table: see [`app`](crate::director::app); 0 is nothing.
    pub aside: u32,
    /// Where the client's packets come from.
    pub learned: Origin,
    /// The tick of the first packet.
    pub tick: u32,
    /// How long it lives after the first packet, in seconds.
    pub timeout_s: u32,
}

/// What becomes of the packets of a connection's server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replies {
    /// They do not come through the director.
    None,
    /// They are this connection's, even if they were another one's before: the newest has them, as in the kernel.
    Newest,
    /// They are this connection's alone: it is not entered if they are another one's.
    Unique,
    /// They were those of this connection, and of no other by now, and are taken from it.
    InsteadOf(SlotId),
}

/// Where a packet belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The connection.
    pub slot: SlotId,
    /// Which way the packet goes.
    pub direction: Direction,
}

impl From<Entry> for Found {
    #[inline]
    fn from(entry: Entry) -> Self {
        let direction = if entry.reply() { Direction::Out } else { Direction::In };
        Self { slot: entry.slot(), direction }
    }
}

/// Why a connection was not entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No slot is free.
    TableFull,
    /// Both buckets of a key are full.
    BucketFull,
    /// Another worker has just entered it; of direction [`Out`](Direction::Out) if the server's packets are another
    /// connection's and have to be this one's alone.
    Exists(Found),
}

impl From<NotInserted> for Refused {
    fn from(why: NotInserted) -> Self {
        match why {
            NotInserted::Full => Refused::BucketFull,
            NotInserted::Exists(other) => Refused::Exists(other.into()),
        }
    }
}

impl Table {
    /// A table for `capacity` connections and `workers` workers, keyed with a random `secret`.
    ///
    /// Reserves about 229 bytes of address space a connection; memory is taken as it fills, or shortly
    /// before: see [`make_ready`](Self::make_ready). `huge_pages` trades that for speed.
    ///
    /// # Errors
    /// The kernel's, when it cannot reserve the address space.
    pub fn new(capacity: u32, workers: usize, secret: (u64, u64), huge_pages: bool) -> io::Result<Self> {
        // Two keys a connection.
        let buckets = (capacity as usize * 2 * 100).div_ceil(PLACES * FILL_PERCENT).max(2);
        Ok(Self {
            // Slots are used from the first one on, so huge pages fill up; the index is touched at random.
            slots: Pages::zeroed(capacity as usize, true)?,
            index: Index::new(Pages::zeroed(buckets, huge_pages)?),
            shared: Shared::new(),
            quiesce: Quiesce::new(workers + 1),
            hasher: FlowHasher::new(secret),
            workers,
            live: AtomicU64::new(0),
            ready: Ready::default(),
            reader: Mutex::new(workers),
        })
    }

    /// The hash of a key: SipHash-1-3 under this table's secret.
    #[inline]
    pub fn hash(&self, key: &FlowKey) -> u64 {
        let &[a, b, ..] = key.words();
        if key.is_v4() { self.hasher.of_words([a, b]) } else { self.hasher.of_words(*key.words()) }
    }

    /// A hasher of anything but keys, for this purpose: under a secret that comes of this table's and is not it.
    pub(in crate::director) fn hasher_for(&self, purpose: u64) -> FlowHasher {
        // Of three words: no key has as many.
        let secret = |half| self.hasher.of_words([purpose, half, 0]);
        FlowHasher::new((secret(0), secret(1)))
    }

    /// What stands for a group of flows and a name: of 2^128 numbers, under this table's secret.
    pub fn digest(&self, group: &FlowKey, name: &[u8]) -> u128 {
        let half = |number: u8| {
            let mut hasher = self.hasher.streaming();
            hasher.write_u8(number);
            group.words().iter().for_each(|&word| hasher.write_u64(word));
            hasher.write(name);
            u128::from(hasher.finish())
        };
        half(1) << 64 | half(2)
    }

    /// Asks for the memory that [`likely`](Self::likely) reads.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        prefetch::<1, _>(self.index.first(hash));
    }

    /// The connection that probably has the key with this hash: its slot was not looked at.
    #[inline]
    pub fn likely(&self, hash: u64) -> Option<Found> {
        self.index.find(hash, |_| true).map(Found::from)
    }

    /// Asks for the memory that forwarding a packet reads.
    #[inline]
    pub fn prefetch_slot(&self, id: SlotId) {
        prefetch::<2, _>(self.slot(id));
    }

    /// The hashes of both keys of a connection that is to be entered.
    pub fn hashes(&self, new: &NewConnection) -> [u64; 2] {
        new.hashes.unwrap_or_else(|| [&new.client, &new.server].map(|(key, ..)| self.hash(key)))
    }

    /// Asks for all of a slot's memory.
    #[inline]
    pub(super) fn prefetch_whole(&self, id: SlotId) {
        prefetch::<3, _>(self.slot(id));
    }

    /// The connection that has this key.
    #[inline]
    pub fn find(&self, hash: u64, key: &FlowKey) -> Option<Found> {
        self.index.find(hash, |e| self.is(e, key)).map(Found::from)
    }

    #[inline]
    pub(super) fn is(&self, entry: Entry, key: &FlowKey) -> bool {
        let found = Found::from(entry);
        self.slot(found.slot).matches(found.direction, key)
    }

    /// The slot with this number.
    #[inline]
    pub fn slot(&self, id: SlotId) -> &Slot {
        &self.slots[id as usize]
    }

    /// The moment of a change that workers see from their next batch on. Call after the change.
    pub fn stamp(&self) -> u64 {
        self.quiesce.stamp()
    }

    /// True once every worker has begun a batch after the change at `stamp`, or rests.
    pub fn passed(&self, stamp: u64) -> bool {
        self.quiesce.passed(stamp)
    }

    /// Connections in the table.
    pub fn len(&self) -> u64 {
        self.live.load(Ordering::Relaxed)
    }

    /// Places of the table that were ever used: those from here on never were.
    pub fn used(&self) -> u32 {
        self.shared.touched()
    }

    /// Workers that the table is made for.
    pub const fn workers(&self) -> usize {
        self.workers
    }

    /// True if there is no connection.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Connections there is room for.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Shows `look` every connection and template of this moment: for listings, not for packets.
    pub fn list(&self, mut look: impl FnMut(&Slot)) {
        let mut from = Some(0);
        while let Some(place) = from {
            from = self.list_from(place, LISTED_AT_ONCE, |_, slot| look(slot));
        }
    }

    /// Shows `look` the connections and templates among the next `limit` places of the table, and says where to go
    /// on: nowhere when that were the last ones. Forwarding goes on meanwhile; only the reuse of removed slots waits
    /// until this returns. What is there from a listing's first piece to its last is shown once.
    pub fn list_from(&self, from: u32, limit: usize, mut look: impl FnMut(SlotId, &Slot)) -> Option<u32> {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        self.quiesce.enter(*reader);
        let used = self.shared.touched();
        let end = u32::try_from(limit).map_or(used, |limit| used.min(from.saturating_add(limit.max(1))));
        for id in from..end {
            let slot = self.slot(id);
            if !slot.published_status().removed {
                look(id, slot);
            }
        }
        self.quiesce.rest(*reader);
        (end < used).then_some(end)
    }

    /// Takes a connection out of the index. The status it had comes back, or none if it was out already.
    /// Its owner still has to [`retire`](super::Shard::retire) it.
    pub fn unlink(&self, id: SlotId) -> Option<Status> {
        let slot = self.slot(id);
        let mut status = slot.status();
        loop {
            if status.removed {
                return None;
            }
            match slot.change_status(status, Status { removed: true, ..status }) {
                Ok(()) => break,
                Err(other) => status = other,
            }
        }
        self.remove_keys(id);
        slot.set_linked(false);
        self.live.fetch_sub(1, Ordering::Relaxed);
        Some(status)
    }

    /// Takes whatever keys of a slot are in the index out of it.
    pub(super) fn remove_keys(&self, id: SlotId) {
        let hash = |direction| {
            let hash = self.hash(&self.slot(id).key(direction));
            self.prefetch_bucket(hash);
            hash
        };
        let client = hash(Direction::In);
        // The others' servers are not heard of.
        let rewrite = self.slot(id).recipe(Direction::In).rewrite;
        let server = matches!(rewrite, Rewrite::Tuple | Rewrite::Translate).then(|| hash(Direction::Out));
        self.index.remove(client, id, false);
        if let Some(server) = server {
            self.index.remove(server, id, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::director::conn::shard::Shard;
    use crate::director::conn::state::State;
    use crate::director::forward::recipe::Rewrite;
    use crate::packet::checksum::Delta;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const STATUS: Status =
        Status { state: State::SynRecv, inactive: false, no_output: false, removed: false };

    fn new(client: u32, server: u32) -> NewConnection {
        let recipe = Recipe { rewrite: Rewrite::Tuple, l3: Delta(0), l4: Delta(0) };
        let way = Way { route: crate::director::forward::hops::Route::Unknown, generation: 0 };
        NewConnection {
            client: (FlowKey::v4(6, client, 1, 4711 << 16 | 80), recipe, way),
            server: (FlowKey::v4(6, server, client, 80 << 16 | 4711), recipe, way),
            hashes: None,
            outer_source: None,
            replies: Replies::Newest,
            status: STATUS,
            server_id: 0,
            template: None,
            aside: 0,
            learned: Origin::default(),
            tick: 0,
            timeout_s: 10,
        }
    }

    fn find(table: &Table, key: &FlowKey) -> Option<Found> {
        table.find(table.hash(key), key)
    }

    #[test]
    fn a_connection_is_found_from_both_sides_until_it_is_unlinked() {
        let table = Table::new(16, 1, (1, 2), false).unwrap();
        let mut shard = Shard::new(&table, 0);
        let conn = new(7, 9);
        let id = shard.insert(&table, &conn, 10).unwrap();
        let (client, server) = (conn.client.0, conn.server.0);
        assert_eq!(find(&table, &client), Some(Found { slot: id, direction: Direction::In }));
        assert_eq!(find(&table, &server), Some(Found { slot: id, direction: Direction::Out }));
        assert!(matches!(shard.insert(&table, &conn, 10), Err((Refused::Exists(_), Some(_)))));
        assert_eq!(table.unlink(id), Some(STATUS));
        assert_eq!(table.unlink(id), None);
        assert_eq!((find(&table, &client), find(&table, &server), table.len()), (None, None, 0));
    }

    #[test]
    fn the_newest_connection_has_the_replies_and_the_older_one_stays() {
        let table = Table::new(16, 1, (1, 2), false).unwrap();
        let mut shard = Shard::new(&table, 0);
        let first = new(7, 9);
        let older = shard.insert(&table, &first, 10).unwrap();
        let mut second = first;
        second.client.0 = FlowKey::v4(6, 7, 2, 4711 << 16 | 80);
        let newer = shard.insert(&table, &second, 10).unwrap();
        assert_eq!(find(&table, &first.client.0).map(|f| f.slot), Some(older));
        assert_eq!(find(&table, &second.client.0).map(|f| f.slot), Some(newer));
        assert_eq!(find(&table, &first.server.0).map(|f| f.slot), Some(newer));
        table.unlink(older).unwrap();
        assert_eq!(find(&table, &first.server.0).map(|f| f.slot), Some(newer), "not the older one's to take");
        table.unlink(newer).unwrap();
        assert_eq!((find(&table, &first.server.0), table.len()), (None, 0));
    }

    #[test]
    fn replies_that_are_one_connections_alone_are_passed_on_once() {
        let table = Table::new(16, 1, (1, 2), false).unwrap();
        let mut shard = Shard::new(&table, 0);
        let first = NewConnection { replies: Replies::Unique, ..new(7, 9) };
        let with = |client: u32, replies| NewConnection {
            client: (new(client, 9).client.0, first.client.1, first.client.2),
            replies,
            ..first
        };
        let older = shard.insert(&table, &first, 10).unwrap();
        let refused = shard.insert(&table, &with(8, Replies::Unique), 10);
        let taken = Found { slot: older, direction: Direction::Out };
        assert_eq!(refused, Err((Refused::Exists(taken), Some(STATUS))));
        assert_eq!(find(&table, &with(8, Replies::Unique).client.0), None, "nothing is left behind");
        let newer = shard.insert(&table, &with(8, Replies::InsteadOf(older)), 10).unwrap();
        assert_eq!(find(&table, &first.server.0), Some(Found { slot: newer, direction: Direction::Out }));
        let late = shard.insert(&table, &with(10, Replies::InsteadOf(older)), 10);
        assert!(matches!(late, Err((Refused::Exists(Found { direction: Direction::Out, .. }), Some(_)))));
        table.unlink(older).unwrap();
        assert_eq!(find(&table, &first.server.0).map(|f| f.slot), Some(newer));
        table.unlink(newer).unwrap();
        assert_eq!((find(&table, &first.server.0), table.len()), (None, 0));
    }

    #[test]
    fn a_full_table_refuses_and_works_again_after_a_batch_boundary() {
        let table = Table::new(64, 2, (1, 2), false).unwrap();
        let (mut a, mut b) = (Shard::new(&table, 0), Shard::new(&table, 1));
        a.enter(&table);
        b.enter(&table);
        let ids: Vec<_> = (0..64).map(|n| a.insert(&table, &new(n, 1 << 20), 10).unwrap()).collect();
        assert_eq!(a.insert(&table, &new(99, 1), 10), Err((Refused::TableFull, Some(STATUS))));
        table.unlink(ids[5]).unwrap();
        a.retire(&table, ids[5]);
        a.enter(&table);
        assert_eq!(
            a.insert(&table, &new(99, 1), 10),
            Err((Refused::TableFull, Some(STATUS))),
            "b may still hold the slot"
        );
        b.enter(&table);
        assert_eq!(a.insert(&table, &new(99, 1), 10), Ok(ids[5]));
        // What one worker freed another can use.
        for &id in &ids[10..40] {
            table.unlink(id).unwrap();
            a.retire(&table, id);
        }
        b.enter(&table);
        a.rest(&table);
        for n in 100..130 {
            b.insert(&table, &new(n, 1), 10).unwrap();
        }
    }

    #[test]
    fn every_connection_of_a_table_filled_to_the_last_slot_finds_its_places() {
        let table = Table::new(100_000, 1, (5, 6), false).unwrap();
        let mut shard = Shard::new(&table, 0);
        for n in 0..100_000 {
            shard.insert(&table, &new(n, 1 << 20), 10).unwrap();
        }
        assert!((0..100_000).all(|n| find(&table, &new(n, 1 << 20).server.0).is_some()));
        assert_eq!(shard.insert(&table, &new(100_000, 1), 10), Err((Refused::TableFull, Some(STATUS))));
    }

    proptest! {
        /// The oracle is a map from the client's key to the slot.
        #[test]
        fn any_history_equals_a_map(
            steps in proptest::collection::vec((0u32..80, any::<bool>(), 0usize..2), 1..300),
        ) {
            let table = Table::new(48, 2, (3, 4), false).unwrap();
            let mut shards = [Shard::new(&table, 0), Shard::new(&table, 1)];
            let mut oracle: HashMap<u32, (SlotId, usize)> = HashMap::new();
            for (client, insert, worker) in steps {
                shards.iter().for_each(|t| t.enter(&table));
                if insert {
                    match shards[worker].insert(&table, &new(client, 1 << 20), 10) {
                        Ok(id) => prop_assert!(oracle.insert(client, (id, worker)).is_none()),
                        Err((Refused::Exists(found), _)) => prop_assert_eq!(found.slot, oracle[&client].0),
                        Err((Refused::TableFull, _)) => prop_assert!(oracle.len() >= 40, "{}", oracle.len()),
                        Err(other) => prop_assert!(false, "{:?}", other),
                    }
                } else if let Some((id, owner)) = oracle.remove(&client) {
                    prop_assert!(table.unlink(id).is_some());
                    shards[owner].retire(&table, id);
                }
                for client in 0..80 {
                    let found = find(&table, &new(client, 0).client.0).map(|f| f.slot);
                    prop_assert_eq!(found, oracle.get(&client).map(|o| o.0));
                }
                prop_assert_eq!(table.len(), oracle.len() as u64);
                let mut listed = 0;
                table.list(|_| listed += 1);
                prop_assert_eq!(listed, oracle.len());
            }
        }
    }
}
