//! How a connection changes and ends: state changes, timers, removal, and the counts that follow them.

use super::Director;
use super::conn::state::Status;
use super::conn::{Direction, Found, Shard, Slot, SlotId};
use super::engine::{Engine, Work};
use super::server::ServerId;
use super::service::Protocol;
use super::services::Services;
use super::time::Time;
use crate::packet::parse::TcpFlags;

/// Timers looked at in one call of [`Engine::expire`]: about 20 us of work, so that packets do not wait.
const MAX_DUE: usize = 256;

/// Letters read in one call of [`Engine::expire`].
const MAX_LETTERS: usize = 256;

/// Empty ticks of the wheel passed in one call: a sleep of 16 minutes is caught up with in one.
const MAX_STEPS: u32 = 4096;

/// Longest time until a connection's timer is looked at again, in seconds: what a lost letter costs at most.
const MAX_NAP_S: u32 = 60;

/// Ticks after which a connection has been silent for `timeout_s` seconds, and at most one tick longer.
pub(super) const fn ticks(timeout_s: u32) -> u32 {
    timeout_s.saturating_mul(Time::TICKS_PER_S).saturating_add(1)
}

impl<H> Work<'_, H> {
    /// Steps a TCP connection's state, counts it anew at its server, and sees to its timer when that has to come
    /// up earlier than it is armed for.
    #[cold]
    pub(super) fn step(&mut self, slot: &Slot, found: Found, flags: TcpFlags) {
        let mut old = slot.status();
        let new = loop {
            let new = old.after_tcp(found.direction, flags);
            if old.removed || new == old {
                return;
            }
            match slot.change_status(old, new) {
                Ok(()) => break new,
                Err(other) => old = other,
            }
        };
        self.director.counts.changed(ServerId(slot.server_id()), old, new);
        let timeout_s = |status: Status| self.services.timeouts.of(Protocol::Tcp as u8, status.state);
        if timeout_s(new) < timeout_s(old) {
            if self.shard.owns(&self.director.table, found.slot) {
                self.shard.rearm(&self.director.table, found.slot, self.tick + ticks(timeout_s(new)));
            } else {
                self.director.tell_owner(slot, found.slot);
            }
        }
    }

    /// Takes a connection out of the table, whoever owns it.
    pub(super) fn remove(&mut self, id: SlotId) {
        let table = &self.director.table;
        let slot = table.slot(id);
        if let Some(status) = table.unlink(id) {
            self.director.counts.closed(ServerId(slot.server_id()), status);
            if self.shard.owns(table, id) {
                self.shard.retire(table, id);
            } else {
                self.director.tell_owner(slot, id);
            }
        }
    }
}

impl Director {
    /// Tells the owner of a connection to look at its timer. Into a full mailbox nothing goes: the timer is
    /// then looked at within [`MAX_NAP_S`].
    fn tell_owner(&self, slot: &Slot, id: SlotId) {
        if let Some(mail) = self.mail.get(slot.owner() as usize) {
            let _full = mail.try_send(id);
        }
    }
}

impl Engine {
    /// Removes connections whose time has come and reads the mail of other workers: a bounded amount of work
    /// a call. Call once per loop; true means that there is more to do, so do not sleep.
    pub fn expire(&mut self, now: Time) -> bool {
        let (director, shard, tick) = (&*self.director, &mut self.shard, now.tick());
        shard.enter(&director.table);
        let mut letters = 0;
        for id in self.mail.try_iter().take(MAX_LETTERS) {
            letters += 1;
            // What a letter says may be past; the slot itself knows.
            if shard.owns(&director.table, id) {
                look_at(director, shard, self.services.load(), id, tick);
            }
        }
        let (mut steps, mut due) = (MAX_STEPS, 0);
        while due < MAX_DUE
            && let Some(id) = shard.due(&director.table, tick, &mut steps)
        {
            due += 1;
            look_at(director, shard, self.services.load(), id, tick);
        }
        letters == MAX_LETTERS || due == MAX_DUE || steps == 0
    }
}

/// Looks at a connection whose timer may be up: frees it if it was removed, removes it if it was silent for
/// too long, and arms it for the right time otherwise.
fn look_at(director: &Director, shard: &mut Shard, services: &Services, id: SlotId, tick: u32) {
    let table = &director.table;
    let slot = table.slot(id);
    let status = slot.status();
    let timeout_s = services.timeouts.of(slot.key(Direction::In).protocol(), status.state);
    let deadline = slot.last_seen().saturating_add(ticks(timeout_s));
    if !status.removed && deadline > tick {
        return shard.rearm(table, id, deadline.min(tick + ticks(MAX_NAP_S)));
    }
    if let Some(status) = table.unlink(id) {
        director.counts.closed(ServerId(slot.server_id()), status);
    }
    shard.retire(table, id);
}
