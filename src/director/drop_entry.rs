//! `drop_entry`: ends connections that were opened and not used, so that others find room
//! (`ip_vs_random_dropentry` in ip_vs_conn.c).
//!
//! Each second every worker looks at as many places of the table as 1/32 of it has, taken at random, and ends those of
//! its own connections there that the kernel would end. The kernel's table has no end; this one has, and a flood
//! fills up what a second frees within moments. So there is one thing more: for each packet that found the table
//! full, a few places more are looked at, and who tries again finds room. All of it is spread over the
//! turns of the worker's loop.

use super::Director;
use super::conn::state::State;
use super::conn::{Direction, Shard, Slot, SlotId, Table};
use super::drops::DropReason;
use super::engine::Engine;
use super::offload::Offload;
use super::persistence::service_of;
use super::service::Protocol;
use super::services::Services;
use super::time::Time;
use crate::packet::flow::FlowKey;

/// The part of the table that is looked at each second: one place of so many.
const PART: u32 = 32;

/// Places looked at in one call of [`Engine::expire`]: up to 100 us of work, if all of them are ended.
const MAX_LOOKS: u32 = 256;

/// Places looked at for each packet that found the table full, if half of what is there is the flood's.
const LOOKS_FOR_ROOM: u32 = 2;

/// Ticks that a connection in use may be silent before it may be ended.
const SILENT_TICKS: u32 = 60 * Time::TICKS_PER_S;

/// Most packets of the client's that a connection in use may have had, to be ended.
const FEW: usize = 8;

/// One worker's part of `drop_entry`.
#[derive(Debug)]
pub(super) struct Shedder {
    /// The state of `SplitMix64`.
    random: u64,
    /// The tick of the next second's looks.
    next: u32,
    /// Looks left.
    left: u32,
    /// Packets that had found the table full when it was last looked.
    refused: u64,
    /// Connections of 1 to 8 packets, until one more of them is ended (`todrop_counter`).
    countdown: [u32; FEW + 1],
}

impl Shedder {
    pub(super) fn new(table: &Table, worker: u32) -> Self {
        // What nobody can foretell, from the table's secret.
        let random = table.hash(&FlowKey::v4(0, worker, 0, 0));
        Self { random, next: 0, left: 0, refused: 0, countdown: [0; FEW + 1] }
    }

    /// The looks of this call.
    fn looks(&mut self, table: &Table, refused: u64, tick: u32) -> u32 {
        let part = table.used() / PART;
        if tick >= self.next {
            self.next = tick + Time::TICKS_PER_S;
            self.left += part;
        }
        let workers = u32::try_from(table.workers()).unwrap_or(1);
        let more = u32::try_from(refused.wrapping_sub(self.refused)).unwrap_or(u32::MAX);
        self.refused = refused;
        self.left = self.left.saturating_add(more.saturating_mul(LOOKS_FOR_ROOM * workers));
        // What cannot be done within a second is not done.
        self.left = self.left.min(part.saturating_mul(2).max(MAX_LOOKS));
        let looks = self.left.min(MAX_LOOKS);
        self.left -= looks;
        looks
    }

    /// A place among the first `used`.
    #[allow(clippy::cast_possible_truncation, reason = "the upper half of a product with 32 bits")]
    fn place(&mut self, used: u32) -> SlotId {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (((z >> 32) * u64::from(used)) >> 32) as u32
    }

    /// True if the kernel would end it.
    fn drops(&mut self, slot: &Slot, services: &Services, tick: u32, offload: &Offload) -> bool {
        let (key, status) = (slot.key(Direction::In), slot.status());
        // One that others follow is kept (`n_control`).
        if status.removed || slot.followers() > 0 {
            return false;
        }
        if slot.is_template() {
            // Those of services that schedule packets one by one are kept, as in the kernel.
            let one_packet =
                || service_of(services, key.protocol(), slot.group().1).is_some_and(|s| s.service.one_packet);
            return status.state == State::None && !one_packet();
        }
        match (Protocol::from_number(key.protocol()), status.state) {
            (Some(Protocol::Tcp), State::SynRecv | State::SynAck) => true,
            (Some(Protocol::Tcp), State::Established) => self.drops_used(slot, tick, offload),
            (Some(Protocol::Sctp), State::SctpInit1 | State::SctpInit) => true,
            (Some(Protocol::Sctp), State::SctpEstablished) => self.drops_used(slot, tick, offload),
            (Some(Protocol::Tcp | Protocol::Sctp), _) => false,
            _ => self.drops_used(slot, tick, offload),
        }
    }

    /// Of those in use only who are silent for long, and had few packets: one of as many as it had
    /// (`todrop_entry`).
    fn drops_used(&mut self, slot: &Slot, tick: u32, offload: &Offload) -> bool {
        if tick.saturating_sub(slot.last_seen(tick)) < SILENT_TICKS {
            return false;
        }
        let Some(packets @ 1..) = offload.few_packets(slot) else { return false };
        let Some(countdown) = self.countdown.get_mut(packets as usize) else { return false };
        let is_next = *countdown <= 1;
        *countdown = if is_next { packets } else { *countdown - 1 };
        is_next
    }
}

impl Engine {
    /// Ends what `drop_entry` asks for: a bounded part of it. True if there is more to do.
    pub(super) fn shed(&mut self, now: Time) -> bool {
        self.director.defence.level().drop_entry && self.shed_some(now.tick())
    }

    #[cold]
    fn shed_some(&mut self, tick: u32) -> bool {
        let (director, shedder, shard) = (&*self.director, &mut self.shedder, &mut self.shard);
        let (table, stats) = (&director.table, &director.stats[self.worker]);
        let used = table.used();
        for _ in 0..shedder.looks(table, stats.dropped(DropReason::TableFull), tick) {
            let id = shedder.place(used);
            let slot = table.slot(id);
            if !shard.owns(table, id) || !shedder.drops(slot, self.services.load(), tick, &director.offload) {
                continue;
            }
            let template = slot.template().filter(|&id| table.slot(id).status().state == State::None);
            for ended in [Some(id), template].into_iter().flatten() {
                if director.end(ended) {
                    stats.shed();
                    retire(director, shard, ended);
                }
            }
        }
        shedder.left > 0
    }
}

/// Frees a slot that was just ended, whoever owns it.
fn retire(director: &Director, shard: &mut Shard, id: SlotId) {
    if shard.owns(&director.table, id) {
        shard.retire(&director.table, id);
    } else {
        director.tell_owner(director.table.slot(id), id);
    }
}
