//! Why a packet goes no further, and what its sender is told.
//!
//! What IPVS leaves to the host's own stack (a reset for a segment without a connection) or sends itself
//! (`ip_vs_leave`, `ip_vs_xmit.c`). A client is told in the name of the VIP it sent to; a server by the director as
//! the router that it is, from its own address, if the routes name one (`icmp_send` in the kernel's icmp.c).

use std::net::IpAddr;

use super::conn::Direction;
use super::drops::DropReason;
use super::engine::{Packet, Work, flow_hash};
use super::forward::hops::NextHops;
use super::service::Protocol;
use super::time::Time;
use crate::packet::answer::{self, IcmpError, must_not_fragment};
use crate::packet::parse::Parsed;

/// ICMP errors one worker sends in a second at most: the kernel's `icmp_msgs_per_sec`.
const ERRORS_PER_S: u32 = 1000;

/// What the sender of a dropped packet is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A TCP reset.
    Reset,
    /// An ICMP error in the name of who the packet was sent to.
    Error(IcmpError),
    /// An ICMP error from an address of the director's own.
    ErrorFrom(IpAddr, IcmpError),
}

/// A packet that goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: DropReason,
    pub(super) answer: Option<Answer>,
}

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Self {
        Self { reason, answer: None }
    }
}

impl DropReason {
    /// Dropped, and the sender is told.
    pub(super) fn answered(self, answer: Answer) -> Refusal {
        Refusal { reason: self, answer: Some(answer) }
    }

    /// Dropped, and the sender is told what the host's own stack says where nobody listens: IPVS lets it have the
    /// packet.
    pub(super) fn as_by_the_host(self, parsed: &Parsed) -> Refusal {
        self.answered(match Protocol::from_number(parsed.key.protocol()) {
            Some(Protocol::Tcp) => Answer::Reset,
            Some(Protocol::Udp) if !parsed.is_ipsec() => Answer::Error(IcmpError::PortUnreachable),
            // As far as the host is one that has no SCTP and no IPsec, like most directors.
            _ => Answer::Error(IcmpError::ProtocolUnreachable),
        })
    }
}

impl<H: NextHops> Work<'_, H> {
    /// What is told of a packet that goes no further on its way out, whose MTU is `mtu` bytes.
    #[cold]
    #[inline(never)]
    pub(super) fn told(
        &self,
        reason: DropReason,
        direction: Direction,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        mtu: u16,
    ) -> Refusal {
        let error = match reason {
            DropReason::TtlExpired => IcmpError::TimeExceeded,
            DropReason::NoRoute => IcmpError::HostUnreachable,
            DropReason::TooBig if must_not_fragment(packet.frame(), parsed) => {
                IcmpError::FragmentationNeeded { mtu }
            }
            _ => return reason.into(),
        };
        match direction {
            Direction::In => reason.answered(Answer::Error(error)),
            Direction::Out => self.tell_server(reason, error, parsed),
        }
    }

    /// Dropped, and the server that sent the packet is told.
    pub(super) fn tell_server(&self, reason: DropReason, error: IcmpError, parsed: &Parsed) -> Refusal {
        match self.hops.source(parsed.key.source().ip(), flow_hash(parsed)) {
            Some(own) => reason.answered(Answer::ErrorFrom(own, error)),
            None => reason.into(),
        }
    }
}

/// What is left of a worker's allowance of ICMP errors.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    tick: u32,
    sent: u32,
}

impl Allowance {
    /// Writes the answer over the packet. False if none is sent: over the allowance, never answered, no room.
    #[cold]
    pub(super) fn write(
        &mut self,
        answer: Answer,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        tick: u32,
    ) -> bool {
        if !may_be_told(parsed) {
            return false;
        }
        let len = match answer {
            Answer::Reset => answer::tcp_reset(packet.room, parsed),
            Answer::Error(error) if self.spend(tick) => answer::icmp_error(packet.room, parsed, error, None),
            Answer::ErrorFrom(own, error) if self.spend(tick) => {
                answer::icmp_error(packet.room, parsed, error, Some(own))
            }
            Answer::Error(_) | Answer::ErrorFrom(..) => None,
        };
        packet.len = len.unwrap_or(packet.len);
        len.is_some()
    }

    /// One error less, if there is one left.
    fn spend(&mut self, tick: u32) -> bool {
        if self.tick != tick {
            *self = Self { tick, sent: 0 };
        }
        self.sent += 1;
        self.sent <= ERRORS_PER_S / Time::TICKS_PER_S
    }
}

/// True if the source is one host's address (RFC 1122, 3.2.2: others are never sent an error).
fn may_be_told(parsed: &Parsed) -> bool {
    match parsed.key.source().ip() {
        IpAddr::V4(ip) => !matches!(ip.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(ip) => !ip.is_multicast() && !ip.is_unspecified() && !ip.is_loopback(),
    }
}
