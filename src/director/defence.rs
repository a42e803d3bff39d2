//! What is done against floods: decided once a second by the control plane, read by the workers once a batch
//! (`update_defense_level` in ip_vs_ctl.c, `ip_vs_todrop` in ip_vs.h).
//!
//! The kernel's sign of a flood is that free memory gets short. A director of its own has all the memory of its
//! connections from the start, so here the room in the table is what gets short: `amemthresh` counts free room in
//! the kernel's unit, pages, each as large as sixteen connections with their index. Its default of 1024 pages is
//! room for 16,384 connections. A table so small that this would be most of it is short of room with less than a
//! quarter free.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::conn::Table;
use super::conn::tcp::{SECURE, Tables, USUAL};
use super::tunables::Tunables;

/// Connections in a page of 4 KiB: 256 bytes each are their budget, and no more than 229 are used.
pub const CONNECTIONS_PER_PAGE: u32 = 16;

/// The least part of the table that is not short of room, if `amemthresh` is more than that: one in so many.
const LEAST_PART: u32 = 4;

/// The room in the connection table, in pages of [`CONNECTIONS_PER_PAGE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Free pages.
    pub free: u32,
    /// All pages.
    pub all: u32,
}

impl Room {
    /// The room in this table now.
    pub fn of(table: &Table) -> Self {
        let pages = |slots: u64| u32::try_from(slots / u64::from(CONNECTIONS_PER_PAGE)).unwrap_or(u32::MAX);
        let capacity = table.capacity() as u64;
        Self { free: pages(capacity.saturating_sub(table.len())), all: pages(capacity) }
    }
}

/// What is done against floods at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// TCP steps by the tables of `secure_tcp`.
    pub secure_tcp: bool,
    /// Connections that were opened and not used are ended.
    pub drop_entry: bool,
    /// One of so many packets that would open a connection is dropped; 0: none.
    pub drop_rate: u32,
}

impl Level {
    const SECURE_TCP: u64 = 1;
    const DROP_ENTRY: u64 = 2;

    /// What these settings mean with this room.
    pub fn of(tunables: &Tunables, room: Room) -> Self {
        let threshold = tunables.amemthresh.min(room.all / LEAST_PART);
        let missing = threshold.saturating_sub(room.free);
        let is_active = |mode| mode == 3 || (mode > 0 && missing > 0);
        let drop_rate = match tunables.drop_packet {
            3 => tunables.am_droprate,
            mode if is_active(mode) => threshold / missing,
            _ => 0,
        };
        Self {
            secure_tcp: is_active(tunables.secure_tcp),
            drop_entry: is_active(tunables.drop_entry),
            drop_rate,
        }
    }

    /// True if some packets that would open a connection are dropped.
    #[inline]
    pub const fn drops_packets(self) -> bool {
        self.drop_rate > 0
    }

    /// What TCP packets make of states.
    #[inline]
    pub fn tcp_tables(self) -> &'static Tables {
        if self.secure_tcp { &SECURE } else { &USUAL }
    }

    const fn to_word(self) -> u64 {
        (self.drop_rate as u64) << 32
            | (if self.secure_tcp { Self::SECURE_TCP } else { 0 })
            | (if self.drop_entry { Self::DROP_ENTRY } else { 0 })
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the upper half")]
    const fn from_word(word: u64) -> Self {
        Self {
            secure_tcp: word & Self::SECURE_TCP != 0,
            drop_entry: word & Self::DROP_ENTRY != 0,
            drop_rate: (word >> 32) as u32,
        }
    }
}

/// The level as the workers see it, and the count of the packets that it drops some of.
#[derive(Debug, Default)]
pub struct Defence {
    level: AtomicU64,
    countdown: Countdown,
}

/// On a cache line of its own, since the level is read with every batch.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Countdown(AtomicU32);

impl Defence {
    /// The level of this moment.
    #[inline]
    pub fn level(&self) -> Level {
        Level::from_word(self.level.load(Relaxed))
    }

    /// Publishes the level, with the count to begin anew or to go on.
    pub(super) fn set(&self, level: Level, anew: bool) {
        if level != self.level() {
            self.level.store(level.to_word(), Relaxed);
        }
        if anew {
            self.countdown.0.store(level.drop_rate, Relaxed);
        }
    }

    /// Counts a packet that would open a connection, over all workers as the kernel does. True if it is the one that
    /// is dropped. Only for who opens connections: it writes what all workers share.
    #[cold]
    pub fn drops(&self, level: Level) -> bool {
        // As `--drop_counter > 0` has it: the first one of all is dropped.
        let step = |left: u32| Some(if left > 1 { left - 1 } else { level.drop_rate });
        self.countdown.0.try_update(Relaxed, Relaxed, step).is_ok_and(|left| left <= 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of 4,000 pages with `free` of them free.
    fn level(tunables: &[(&str, u32)], free: u32) -> Level {
        let mut all = Tunables::default();
        tunables.iter().for_each(|(name, value)| all.set(name, *value).unwrap());
        Level::of(&all, Room { free, all: 4000 })
    }

    #[test]
    fn each_mode_is_active_when_the_kernel_says() {
        let names = ["secure_tcp", "drop_entry", "drop_packet"];
        // 1,000 pages, a quarter of the table, are less than amemthresh.
        for (mode, free, active) in [
            (0, 0, false),
            (1, 1000, false),
            (1, 999, true),
            (2, 1000, false),
            (2, 999, true),
            (3, 4000, true),
            (3, 0, true),
        ] {
            let level = level(&names.map(|name| (name, mode)), free);
            let all = [level.secure_tcp, level.drop_entry, level.drops_packets()];
            assert_eq!(all, [active; 3], "mode {mode}, {free} pages free");
            assert_eq!(Level::from_word(level.to_word()), level);
        }
    }

    #[test]
    fn the_shorter_the_room_the_more_packets_are_dropped() {
        let rate = |free| level(&[("drop_packet", 1), ("amemthresh", 100)], free).drop_rate;
        assert_eq!([200, 100, 99, 90, 60, 50, 49, 0].map(rate), [0, 0, 100, 10, 2, 2, 1, 1]);
        let always = |rate, free| level(&[("drop_packet", 3), ("am_droprate", rate)], free).drop_rate;
        assert_eq!([always(10, 4000), always(10, 0), always(0, 0)], [10, 10, 0]);
    }

    #[test]
    fn no_threshold_means_never_short() {
        assert_eq!(level(&[("drop_packet", 1), ("drop_entry", 1), ("amemthresh", 0)], 0), Level::default());
    }

    #[test]
    fn the_first_packet_is_dropped_and_then_one_of_every_rate() {
        let defence = Defence::default();
        let drops = |rate, count: usize| -> String {
            let level = Level { drop_rate: rate, ..Level::default() };
            (0..count).map(|_| if defence.drops(level) { 'x' } else { '.' }).collect()
        };
        assert_eq!(drops(3, 8), "x..x..x.");
        assert_eq!(drops(10, 3), ".x.", "what was counted stays counted");
        assert_eq!(drops(2, 13), "........x.x.x");
        assert_eq!(drops(1, 3), ".xx");
    }
}
