//! One connection, or one template of persistence (see `template`): three cache lines of atomics.
//!
//! ```text
//! line 0   key of the client's packets, their recipe and way, last-seen tick, state and flags
//! line 1   key of the server's packets, their recipe and way (TUN: the director's address), server, template
//! line 2   cold: the way back as learned, who carries its packets, the timer's links, the free list's stamp, owner, what a template needs
//! ```
//!
//! Keys and recipes are written before the slot is in the index and never while a reader may hold it
//! (see `quiesce`); everything else may be written by any worker at any time. All are atomics, read and
//! written relaxed: the index's Acquire and Release order them for packets, those of the status for
//! listings, which do not come by the index.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use crate::director::forward::hops::Origin;
use crate::director::forward::recipe::{Recipe, Way};
use crate::director::offload::Carried;
use crate::packet::flow::FlowKey;

use super::state::Status;

/// Number of a slot.
pub type SlotId = u32;

/// Which way a packet of a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    In,
    /// From the server to the client.
    Out,
}

impl Direction {
    /// The other way.
    #[inline]
    pub const fn opposite(self) -> Self {
        match self {
            Direction::In => Direction::Out,
            Direction::Out => Direction::In,
        }
    }
}

/// One direction's part of a connection.
#[derive(Debug)]
#[repr(C)]
struct Side {
    key: [AtomicU64; FlowKey::WORDS],
    recipe: AtomicU64,
    way: AtomicU64,
}

/// Bits of the last-seen word that count the client's first packets; the tick has the others. `drop_entry` asks
/// how few there were (`in_pkts`), and only of up to eight.
const COUNT_BITS: u32 = 4;
/// More packets than are counted.
const MANY: u32 = (1 << COUNT_BITS) - 1;
/// As many as are counted.
pub const FEW: u32 = 8;

/// What a packet is among those of its connection: see [`Slot::seen`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// One of many in its tick.
    Again,
    /// In the tick of another, and one of the client's first eight.
    Early,
    /// The first of its tick.
    NewTick,
}

/// A connection.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Slot {
    client: Side,
    /// The tick of the last packet, without its highest bits, and the count of the client's first packets.
    last_seen: AtomicU32,
    status: AtomicU32,

    server: Side,
    server_id: AtomicU32,
    /// Number of the connection's template and one; zero is none.
    template: AtomicU32,

    /// Where the client's packets come from.
    learned: AtomicU64,
    pub(super) stamp: AtomicU64,
    pub(in crate::director) carried: Carried,
    /// What its server has been told of the client: see [`client_address`](crate::director::client_address).
    told: AtomicU64,
    pub(super) next: AtomicU32,
    pub(super) previous: AtomicU32,
    pub(super) armed: AtomicU32,
    pub(super) owner: AtomicU32,
    linked: AtomicU32,
    pub(super) held: AtomicU32,
    pub(super) timeout_s: AtomicU32,
    /// The sequence number that follows the client's FIN; zero is none.
    closing: AtomicU32,
}

impl Slot {
    #[inline]
    fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::In => &self.client,
            Direction::Out => &self.server,
        }
    }

    /// The key that packets of this direction carry when they arrive.
    #[inline]
    pub fn key(&self, direction: Direction) -> FlowKey {
        let key = &self.side(direction).key;
        let meta = key[1].load(Relaxed);
        // The others are zero for IPv4: every packet asks.
        let last = if FlowKey::is_of_v4(meta) { [0; 3] } else { [2, 3, 4].map(|i| key[i].load(Relaxed)) };
        let [c, d, e] = last;
        FlowKey::from_words([key[0].load(Relaxed), meta, c, d, e])
    }

    /// True if packets with `key` arrive in this direction of this connection.
    #[inline]
    pub fn matches(&self, direction: Direction, key: &FlowKey) -> bool {
        let (mine, words) = (&self.side(direction).key, key.words());
        let same = |i: usize| mine[i].load(Relaxed) == words[i];
        same(0) && same(1) && (key.is_v4() || (same(2) && same(3) && same(4)))
    }

    /// What happens to packets of this direction.
    #[inline]
    pub fn recipe(&self, direction: Direction) -> Recipe {
        Recipe::from_word(self.side(direction).recipe.load(Relaxed))
    }

    /// Where packets of this direction go.
    #[inline]
    pub fn way(&self, direction: Direction) -> Way {
        Way::from_word(self.side(direction).way.load(Relaxed))
    }

    /// Stores where packets of this direction go from now on.
    pub fn set_way(&self, direction: Direction, way: Way) {
        self.side(direction).way.store(way.to_word(), Relaxed);
    }

    /// The server's address.
    #[inline]
    pub fn server_ip(&self) -> IpAddr {
        self.key(Direction::Out).source().ip().to_canonical()
    }

    /// Notes the address that packets to a server behind a tunnel are sent from. It is kept where the recipe and the way
    /// of the server's packets would be, which do not come through the director.
    #[allow(clippy::cast_possible_truncation, reason = "halves of the number")]
    pub fn set_outer_source(&self, source: Option<IpAddr>) {
        let bits = match source {
            Some(IpAddr::V4(ip)) => ip.to_ipv6_mapped().to_bits(),
            Some(IpAddr::V6(ip)) => ip.to_bits(),
            None => 0,
        };
        let [high, low] = [bits >> 64, bits & u128::from(u64::MAX)].map(|half| half as u64);
        self.server.recipe.store(high, Relaxed);
        self.server.way.store(low, Relaxed);
    }

    /// The address that packets to a server behind a tunnel are sent from, if there is one.
    #[inline]
    pub fn outer_source(&self) -> Option<IpAddr> {
        let bits =
            u128::from(self.server.recipe.load(Relaxed)) << 64 | u128::from(self.server.way.load(Relaxed));
        (bits != 0).then(|| IpAddr::V6(bits.into()).to_canonical())
    }

    /// The source and destination of IPv4 packets that an IPv4 client's are wrapped into, as they follow each other in the
    /// header, read as one big-endian number.
    #[inline]
    pub fn outer_v4(&self) -> Option<u64> {
        const MAPPED: u64 = 0xffff;
        let [high, low] = [&self.server.recipe, &self.server.way].map(|half| half.load(Relaxed));
        let [addresses, meta, ..] = &self.server.key;
        let is_v4 = FlowKey::is_of_v4(meta.load(Relaxed)) && high == 0 && low >> 32 == MAPPED;
        is_v4.then(|| low << 32 | addresses.load(Relaxed) >> 32)
    }

    /// What happens to packets of this direction, and what is kept [`aside`](Self::aside): one word.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "30 bits")]
    pub fn recipe_and_aside(&self, direction: Direction) -> (Recipe, u32) {
        let word = self.side(direction).recipe.load(Relaxed);
        (Recipe::from_word(word), (word >> Recipe::BITS) as u32)
    }

    /// What is kept of this connection aside of the table: see [`app`](crate::director::app); 0 is nothing.
    pub fn aside(&self) -> u32 {
        self.recipe_and_aside(Direction::In).1
    }

    /// Notes what is kept aside, below 2^30: in the recipes' words, so that who asks for a recipe need not ask again.
    pub(in crate::director) fn set_aside(&self, aside: u32) {
        if aside == 0 {
            return;
        }
        for side in [&self.client, &self.server] {
            side.recipe.fetch_or(u64::from(aside) << Recipe::BITS, Relaxed);
        }
    }

    /// Nothing is kept aside any more. True for whoever did that.
    pub fn clear_aside(&self) -> bool {
        const RECIPE: u64 = (1 << Recipe::BITS) - 1;
        self.server.recipe.fetch_and(RECIPE, Relaxed);
        self.client.recipe.fetch_and(RECIPE, Relaxed) > RECIPE
    }

    /// What its server has been told of the client, as a word; 0 at the beginning.
    pub fn told(&self) -> u64 {
        self.told.load(Relaxed)
    }

    /// Notes what the server has been told.
    pub fn set_told(&self, word: u64) {
        self.told.store(word, Relaxed);
    }

    /// Notes what the server has been told, unless another worker was quicker: then what that one noted stays.
    pub fn change_told(&self, old: u64, new: u64) {
        if old != new {
            let _other = self.told.compare_exchange(old, new, Relaxed, Relaxed);
        }
    }

    pub(super) fn set_side(&self, direction: Direction, key: &FlowKey, recipe: Recipe, way: Way) {
        let side = self.side(direction);
        for (cell, word) in side.key.iter().zip(key.words()) {
            cell.store(*word, Relaxed);
        }
        side.recipe.store(recipe.to_word(), Relaxed);
        side.way.store(way.to_word(), Relaxed);
    }

    /// The tick of the last packet, for who lives at tick `now` or near to it.
    #[inline]
    pub fn last_seen(&self, now: u32) -> u32 {
        // What is left of the tick in the word tells it within a year.
        let word = self.last_seen.load(Relaxed);
        let ago = (now << COUNT_BITS).wrapping_sub(word & !MANY).cast_signed() >> COUNT_BITS;
        now.wrapping_sub(ago.cast_unsigned())
    }

    /// Packets of the client's, as long as they are few: none if there were more than eight.
    pub fn few_packets(&self) -> Option<u32> {
        let count = self.last_seen.load(Relaxed) & MANY;
        (count != MANY).then_some(count)
    }

    /// Notes packets of the client's that somebody else has counted.
    pub(in crate::director) fn add_packets(&self, packets: u32) {
        let word = self.last_seen.load(Relaxed);
        let count = match word & MANY {
            MANY => return,
            count => count.saturating_add(packets),
        };
        let new = word & !MANY | if count > FEW { MANY } else { count };
        // Of two at once one may not be counted.
        let _other = self.last_seen.compare_exchange(word, new, Relaxed, Relaxed);
    }

    /// Notes a packet at `tick`, and says what it is among others. Nothing is written within a tick, once a connection
    /// has had its first packets.
    #[inline]
    pub fn seen(&self, direction: Direction, tick: u32) -> Seen {
        let word = self.last_seen.load(Relaxed);
        let uncounted = match direction {
            Direction::In => 0,
            Direction::Out => MANY,
        };
        // One comparison for both: another tick, and a packet that is still counted.
        if word | uncounted != tick << COUNT_BITS | MANY {
            self.write_seen(direction, tick, word)
        } else {
            Seen::Again
        }
    }

    /// A packet more of the client's if it is one of the first, and the tick. Of two at once one may not be counted.
    fn write_seen(&self, direction: Direction, tick: u32, word: u32) -> Seen {
        let count = match (direction, word & MANY) {
            (Direction::In, count) if count < FEW => count + 1,
            (Direction::In, _) => MANY,
            (Direction::Out, count) => count,
        };
        self.last_seen.store(tick << COUNT_BITS | count, Relaxed);
        match (word & !MANY != tick << COUNT_BITS, direction) {
            (true, _) => Seen::NewTick,
            (false, Direction::In) if count != MANY => Seen::Early,
            (false, _) => Seen::Again,
        }
    }

    /// Notes a packet at `tick` that somebody else has seen, if none came since.
    pub(in crate::director) fn catch_up(&self, tick: u32) {
        let word = self.last_seen.load(Relaxed);
        if (tick << COUNT_BITS).wrapping_sub(word & !MANY).cast_signed() > 0 {
            let new = tick << COUNT_BITS | word & MANY;
            // Whoever was quicker knows of a later one.
            let _later = self.last_seen.compare_exchange(word, new, Relaxed, Relaxed);
        }
    }

    /// What becomes of its packets without coming up: see [`offload`](crate::director::offload).
    pub const fn carried(&self) -> &Carried {
        &self.carried
    }

    /// Notes that it is still wanted at `tick`, without a packet.
    pub fn touch(&self, tick: u32) {
        self.seen(Direction::Out, tick);
    }

    /// Begins at `tick`, before its first packet.
    pub(super) fn begin(&self, tick: u32) {
        self.last_seen.store(tick << COUNT_BITS, Relaxed);
    }

    /// State and flags.
    #[inline]
    pub fn status(&self) -> Status {
        Status::from_word(self.status.load(Relaxed))
    }

    /// Replaces `old` by `new` unless another worker was quicker; its status comes back then.
    ///
    /// # Errors
    /// The status that is there instead of `old`.
    #[inline]
    pub fn change_status(&self, old: Status, new: Status) -> Result<(), Status> {
        self.status
            .compare_exchange(old.to_word(), new.to_word(), Relaxed, Relaxed)
            .map(drop)
            .map_err(Status::from_word)
    }

    /// Publishes the slot to listings, if `status` is not removed.
    pub(super) fn set_status(&self, status: Status) {
        self.status.store(status.to_word(), Release);
    }

    /// State and flags, for who has not found the slot by the index.
    pub(super) fn published_status(&self) -> Status {
        Status::from_word(self.status.load(Acquire))
    }

    /// Notes whether the index may still lead to this slot.
    pub(super) fn set_linked(&self, linked: bool) {
        self.linked.store(u32::from(linked), Release);
    }

    /// False once no new lookup can find this slot.
    pub(super) fn is_linked(&self) -> bool {
        self.linked.load(Acquire) != 0
    }

    /// The id of its server.
    #[inline]
    pub fn server_id(&self) -> u32 {
        self.server_id.load(Relaxed)
    }

    pub(super) fn set_server_id(&self, id: u32) {
        self.server_id.store(id, Relaxed);
    }

    /// What controls the connection: the template that led it to its server, or the connection that announced it.
    #[inline]
    pub fn template(&self) -> Option<SlotId> {
        self.template.load(Relaxed).checked_sub(1)
    }

    pub(super) fn set_template(&self, template: Option<SlotId>) {
        self.template.store(template.map_or(0, |id| id + 1), Relaxed);
    }

    /// Where the client's packets come from.
    pub fn learned(&self) -> Origin {
        Origin::from_word(self.learned.load(Relaxed))
    }

    /// Notes where the client's packets come from.
    pub fn learn(&self, origin: Origin) {
        let word = origin.to_word();
        if self.learned.load(Relaxed) != word {
            self.learned.store(word, Relaxed);
        }
    }

    /// How long it lives after its last packet, or, a template, after the last connection that joined it, in seconds:
    /// what the timeouts said when that packet came.
    #[inline]
    pub fn timeout_s(&self) -> u32 {
        self.timeout_s.load(Relaxed)
    }

    /// Notes how long it lives from its last packet on.
    pub fn set_timeout_s(&self, timeout_s: u32) {
        self.timeout_s.store(timeout_s, Relaxed);
    }

    /// The sequence number that the server awaits of the client after its FIN, if that has been noted.
    pub fn closing(&self) -> Option<u32> {
        Some(self.closing.load(Relaxed)).filter(|number| *number != 0)
    }

    /// Notes the sequence number that follows the client's FIN.
    pub fn set_closing(&self, number: Option<u32>) {
        self.closing.store(number.unwrap_or(0), Relaxed);
    }

    /// The local address and port that the server sends to (FULLNAT), if that is not the client itself.
    pub fn local(&self) -> Option<SocketAddr> {
        let client = self.key(Direction::In);
        if client.is_group() { None } else { self.key(Direction::Out).local(&client) }
    }

    /// The worker whose wheel holds this connection's timer.
    #[inline]
    pub fn owner(&self) -> u32 {
        self.owner.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::Pages;
    use super::*;

    #[test]
    fn a_slot_is_three_cache_lines_with_the_hot_parts_first() {
        assert_eq!(size_of::<Slot>(), 192);
        assert_eq!(std::mem::offset_of!(Slot, server), 64);
        assert_eq!(std::mem::offset_of!(Slot, learned), 128);
    }
    #[test]
    fn the_last_tick_and_the_first_packets_share_a_word() {
        use Direction::{In, Out};
        let slots = Pages::<Slot>::zeroed(1, false).unwrap();
        let slot = &slots[0];
        for start in [0, 7, (1 << 28) - 2, 1 << 28, 3 << 28, u32::MAX - 20] {
            slot.begin(start);
            assert_eq!((slot.last_seen(start), slot.few_packets()), (start, Some(0)));
            assert_eq!(slot.seen(In, start), Seen::Early, "the tick of its beginning");
            assert_eq!(slot.seen(In, start + 1), Seen::NewTick);
            assert_eq!([Out, In].map(|side| slot.seen(side, start + 1)), [Seen::Again, Seen::Early]);
            assert_eq!((slot.last_seen(start + 9), slot.few_packets()), (start + 1, Some(3)));
            slot.touch(start + 2);
            assert_eq!(
                (slot.last_seen(start + 1), slot.few_packets()),
                (start + 2, Some(3)),
                "by who is late"
            );
            (4..=8).for_each(|_| assert_eq!(slot.seen(In, start + 2), Seen::Early));
            assert_eq!(slot.few_packets(), Some(8));
            assert_eq!((slot.seen(In, start + 2), slot.few_packets()), (Seen::Again, None));
            assert_eq!([slot.seen(Out, start + 3), slot.seen(In, start + 4)], [Seen::NewTick; 2]);
            assert_eq!(slot.few_packets(), None);
            slot.catch_up(start + 3);
            assert_eq!(slot.last_seen(start + 9), start + 4, "no later one");
            slot.catch_up(start + 6);
            assert_eq!((slot.last_seen(start + 9), slot.few_packets()), (start + 6, None));
            assert_eq!(slot.last_seen(start.wrapping_add(1 << 26)), start + 6, "after half a year");
        }
    }

    #[test]
    fn packets_that_others_have_counted_are_added_up_to_many() {
        let slots = Pages::<Slot>::zeroed(1, false).unwrap();
        let slot = &slots[0];
        slot.begin(7);
        for (packets, few) in [(3, Some(3)), (0, Some(3)), (5, Some(8)), (1, None), (1, None)] {
            slot.add_packets(packets);
            assert_eq!((slot.few_packets(), slot.last_seen(7)), (few, 7));
        }
        slot.begin(7);
        slot.add_packets(u32::MAX);
        assert_eq!(slot.few_packets(), None);
    }
}
