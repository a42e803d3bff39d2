//! How a connection changes and ends: state changes, timers, removal, and the counts that follow them.

use super::Director;
use super::app::Apps;
use super::client_address;
use super::conn::state::{State, Status};
use super::conn::{Direction, Found, NewConnection, Shard, Slot, SlotId};
use super::engine::{Engine, Packet, Work};
use super::server::ServerId;
use super::services::Services;
use super::time::Time;
use crate::packet::parse::{Parsed, TcpFlags};
use crate::packet::segment;

/// Timers looked at in one call of [`Engine::expire`]: about 20 us of work, so that packets do not wait.
const MAX_DUE: usize = 256;

/// Letters read in one call of [`Engine::expire`].
const MAX_LETTERS: usize = 256;

/// Empty ticks of the wheel passed in one call: a sleep of 16 minutes is caught up with in one.
const MAX_STEPS: u32 = 4096;

/// Longest time until a connection's timer is looked at again, in seconds: what a lost letter costs at most.
const MAX_NAP_S: u32 = 60;

/// How much longer one lives whose time is over while connections follow it, in seconds.
const FOLLOWED_S: u32 = 60;

/// Ticks after which a connection has been silent for `timeout_s` seconds, and at most one tick longer.
pub(super) const fn ticks(timeout_s: u32) -> u32 {
    timeout_s.saturating_mul(Time::TICKS_PER_S).saturating_add(1)
}

/// When a timer that has just been armed for `timeout_s` seconds is looked at first: a lost letter costs no more.
pub(super) fn first_look(tick: u32, timeout_s: u32) -> u32 {
    tick + ticks(timeout_s).min(ticks(MAX_NAP_S))
}

impl<H> Work<'_, H> {
    /// Steps a connection's state, counts it anew at its server, and sees to its timer when that has to come
    /// up earlier than it is armed for.
    #[cold]
    pub(super) fn step(&mut self, slot: &Slot, found: Found, parsed: &Parsed, packet: &Packet<'_>) {
        let flags = parsed.flags;
        let (protocol, mut old) = (slot.key(Direction::In).protocol(), slot.status());
        let new = loop {
            let new = old.after(self.tables, protocol, found.direction, flags);
            if old.removed || new == old || is_of_the_port_before(slot, old, found.direction, flags) {
                return;
            }
            match slot.change_status(old, new) {
                Ok(()) => break new,
                Err(other) => old = other,
            }
        };
        self.director.offload.withdraw(slot);
        self.director.counts.changed(ServerId(slot.server_id()), old, new);
        if found.direction == Direction::In && flags.has(TcpFlags::FIN) && slot.local().is_some() {
            let number = packet.room.get(..packet.len).and_then(|frame| segment::after(frame, parsed));
            slot.set_closing(number.map(|number| client_address::at_server(slot, number)));
        }
        if new.state.is_established()
            && let Some(template) = slot.template()
        {
            self.director.table.slot(template).assure();
        }
        self.renew(slot, found.slot);
    }

    /// The connection lives from this packet on for as long as the timeouts say now (`ip_vs_conn_put`); its timer is seen
    /// to when that is shorter than it was. An idle connection keeps what its last packet was given.
    #[cold]
    #[inline(never)]
    pub(super) fn renew(&mut self, slot: &Slot, id: SlotId) {
        let (id_of_server, protocol) = (ServerId(slot.server_id()), slot.key(Direction::In).protocol());
        let timeout_s = self.services.timeout_s(id_of_server, protocol, slot.status().state);
        let before_s = slot.timeout_s();
        if timeout_s == before_s {
            return;
        }
        slot.set_timeout_s(timeout_s);
        if timeout_s < before_s {
            if self.shard.owns(&self.director.table, id) {
                self.shard.rearm(&self.director.table, id, first_look(self.tick, timeout_s));
            } else {
                self.director.tell_owner(slot, id);
            }
        }
    }

    /// Takes a connection out of the table, whoever owns it.
    pub(super) fn remove(&mut self, id: SlotId) {
        let table = &self.director.table;
        if self.director.end(id) {
            if self.shard.owns(table, id) {
                self.shard.retire(table, id);
            } else {
                self.director.tell_owner(table.slot(id), id);
            }
        }
    }
}

/// True for what a server with FULLNAT says of the connection that had the local port before: its last acknowledgement or
/// its FIN once more, which were on their way still, or an acknowledgement in answer to a SYN that it does not take from
/// TIME_WAIT (RFC 9293, 3.10.7.4). The client resets that, and none of both has opened or closed anything: a server that
/// takes a SYN says so by one of its own.
fn is_of_the_port_before(slot: &Slot, status: Status, direction: Direction, flags: TcpFlags) -> bool {
    status.state == State::SynRecv
        && direction == Direction::Out
        && !flags.has(TcpFlags::SYN | TcpFlags::RST)
        && slot.local().is_some()
}

impl Director {
    /// Ends connections and templates whose servers were removed, or are down, among the next `limit` places of the
    /// table from `from` on, and says where to go on: what `expire_nodest_conn` asks for after a server was taken out of
    /// its service (`ip_vs_expire_nodest_conn_flush`), and what services have switched on; without them nothing
    /// happens. A worker that has not seen the new services yet may still open one: those end within a minute.
    ///
    /// For the control plane; packets are forwarded meanwhile.
    pub fn end_orphans(&self, from: u32, limit: usize) -> Option<u32> {
        let services = self.services.load();
        if !services.may_have_orphans() {
            return None;
        }
        self.table.list_from(from, limit, |id, slot| {
            if services.is_orphan(slot) {
                let template = slot.template();
                if slot.is_template() && services.is_down(ServerId(slot.server_id())) {
                    self.table.invalidate(id);
                }
                for ended in [Some(id), template].into_iter().flatten().filter(|&id| self.end(id)) {
                    self.tell_owner(self.table.slot(ended), ended);
                }
            }
        })
    }

    /// Takes a connection out of the table, or a template that nobody follows, and out of its server's counts. True
    /// for who did it and has to see to it that the slot's owner retires it.
    pub(super) fn end(&self, id: SlotId) -> bool {
        let slot = self.table.slot(id);
        let server = ServerId(slot.server_id());
        if slot.is_template() {
            let ended = slot.close() && self.table.unlink(id).is_some();
            if ended {
                self.names.forget(slot.aside(), || self.table.stamp());
                self.counts.template_closed(server);
            }
            return ended;
        }
        let aside = slot.aside();
        if Apps::is_followed(aside) {
            slot.refuse_followers();
        }
        let Some(status) = self.table.unlink(id) else { return false };
        self.offload.withdraw(slot);
        self.counts.closed(server, status);
        self.apps.forget(aside, || self.table.stamp());
        self.leave(slot.template());
        true
    }

    /// A connection does not follow its template any more.
    pub(super) fn leave(&self, template: Option<SlotId>) {
        if let Some(id) = template {
            self.table.slot(id).leave();
        }
    }

    /// A connection was not entered: what it had taken before is free again.
    pub(super) fn give_up(&self, new: &NewConnection) {
        self.leave(new.template);
        self.apps.forget(new.aside, || self.table.stamp());
    }

    /// Tells the owner of a connection to look at its timer. Into a full mailbox nothing goes: the timer is
    /// then looked at within [`MAX_NAP_S`].
    pub(super) fn tell_owner(&self, slot: &Slot, id: SlotId) {
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
        if self.swept != tick {
            self.swept = tick;
            director.fragments.sweep(tick, &director.stats[self.worker]);
        }
        let sheds = self.shed(now);
        letters == MAX_LETTERS || due == MAX_DUE || steps == 0 || sheds
    }
}

/// Looks at a connection or template whose timer may be up: frees it if it was removed, removes it if it was silent
/// for too long, and arms it for the right time otherwise.
fn look_at(director: &Director, shard: &mut Shard, services: &Services, id: SlotId, tick: u32) {
    let table = &director.table;
    let slot = table.slot(id);
    let orphan = services.is_orphan(slot);
    director.offload.catch_up(slot);
    let deadline = slot.last_seen(tick).saturating_add(ticks(slot.timeout_s()));
    let is_over = deadline <= tick;
    let stays = is_over && !orphan && slot.followers() > 0;
    if slot.status().removed || ((is_over || orphan) && !stays && director.end(id)) {
        return shard.retire(table, id);
    }
    // Connections follow it, then: as in the kernel (`ip_vs_conn_expire`) it has another minute, and, if it is a
    // template, never more again.
    if is_over && (stays || slot.is_template()) {
        slot.set_timeout_s(FOLLOWED_S);
        slot.touch(tick);
    }
    let deadline = slot.last_seen(tick).saturating_add(ticks(slot.timeout_s()));
    shard.rearm(table, id, deadline.clamp(tick + 1, tick + ticks(MAX_NAP_S)));
}
