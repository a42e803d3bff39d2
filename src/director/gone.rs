//! What becomes of a connection whose server is gone: removed from its service, or down.
//!
//! The kernel knows removed servers only: what their clients send is dropped and the connection waits for the server
//! to come back, or with `expire_nodest_conn` it ends. The rest is what services switch on. A server that is down never
//! gets a new connection, not even one that looks like an old one's repetition.

use super::conn::state::{State, Status};
use super::conn::{Direction, Slot, SlotId};
use super::drops::DropReason;
use super::engine::Work;
use super::open::Fate;
use super::refusal::{Answer, Refusal};
use super::server::ServerId;
use super::service::Protocol;
use super::services::Services;
use super::switches::TcpWhenDown;
use super::terms::Terms;
use crate::packet::parse::{Parsed, TcpFlags};

impl<H> Work<'_, H> {
    /// What becomes of the connection of a packet, whose server is not available.
    pub(super) fn fate_when_gone(&self, id: ServerId, direction: Direction, parsed: &Parsed) -> Fate {
        let terms = self.services.terms.of(id);
        let protocol = Protocol::from_number(parsed.key.protocol());
        let is_new = direction == Direction::In && parsed.flags.has(TcpFlags::SYN);
        match (protocol, direction) {
            (Some(Protocol::Tcp), _) if terms.resets() && !is_new => Fate::Resets,
            (_, Direction::Out) => Fate::Stays,
            (Some(Protocol::Tcp), _) if is_new && (terms.is_down || terms.resets()) => Fate::Ends,
            (Some(Protocol::Udp), _) if terms.rehomes() => Fate::Ends,
            _ if terms.keeps() => Fate::Stays,
            _ if self.services.tunables.expire_nodest_conn > 0 => Fate::Ends,
            _ => Fate::Waits,
        }
    }

    /// True if packets from the connection's server count as its traffic: the kernel does not count those of a
    /// removed one.
    #[cold]
    pub(super) fn is_counted(&self, slot: &Slot) -> bool {
        let id = ServerId(slot.server_id());
        self.services.is_available(id) || self.services.is_down(id)
    }

    /// Closes the connection of a packet whose sender is to be told so. It is known for as long as a connection that was
    /// reset, so that the other end is told too.
    pub(super) fn reset(&mut self, slot: &Slot, id: SlotId) -> Refusal {
        let mut old = slot.status();
        while !old.removed && old.state != State::Close {
            let new = Status { state: State::Close, inactive: true, ..old };
            match slot.change_status(old, new) {
                Ok(()) => {
                    self.director.offload.withdraw(slot);
                    self.director.counts.changed(ServerId(slot.server_id()), old, new);
                    slot.touch(self.tick);
                    self.renew(slot, id);
                    break;
                }
                Err(other) => old = other,
            }
        }
        DropReason::ServerGone.answered(Answer::Reset)
    }
}

impl Terms {
    /// True if both ends of a TCP connection are told that its server is gone.
    fn resets(&self) -> bool {
        if self.is_down { self.tcp_when_down == TcpWhenDown::Reset } else { self.reset_on_removal }
    }

    /// True if a UDP flow goes to another server.
    const fn rehomes(&self) -> bool {
        self.is_down || self.udp_rehome
    }

    /// True if connections go on without their server's being available.
    fn keeps(&self) -> bool {
        self.is_down && self.tcp_when_down == TcpWhenDown::Keep
    }
}

impl Services {
    /// True if this server is in its service, and down.
    pub fn is_down(&self, id: ServerId) -> bool {
        self.terms.of(id).is_down
    }

    /// True if anything may end because its server is gone.
    pub(super) fn may_have_orphans(&self) -> bool {
        self.tunables.expire_nodest_conn > 0 || !self.terms.are_plain()
    }

    /// True for a connection or template that ends, without any packet, because its server is gone.
    pub(super) fn is_orphan(&self, slot: &Slot) -> bool {
        let id = ServerId(slot.server_id());
        if self.is_available(id) {
            return false;
        }
        let (terms, gives_up) = (self.terms.of(id), self.tunables.expire_nodest_conn > 0);
        if slot.is_template() {
            return terms.is_down || gives_up;
        }
        match Protocol::from_number(slot.key(Direction::In).protocol()) {
            Some(Protocol::Udp) => terms.rehomes() || gives_up,
            // It is kept until both ends have been told.
            Some(Protocol::Tcp) if terms.resets() => false,
            _ => gives_up && !terms.keeps(),
        }
    }
}
