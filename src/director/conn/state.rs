//! The states of a connection and the time each may last. What leads from one to the other is each protocol's own:
//! see `tcp` and `sctp`. UDP has one state.

use crate::director::service::Protocol;
use crate::packet::parse::TcpFlags;

use super::tcp::Tables;
use super::{Direction, sctp};

/// A connection's state. The numbers are those of the IPVS sync protocol, SCTP's with 16 added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Nothing seen yet; for UDP, its one state.
    None = 0,
    /// Data may flow.
    Established = 1,
    /// The server opened.
    SynSent = 2,
    /// The client opened.
    SynRecv = 3,
    /// The server closed first; with DR, the client did.
    FinWait = 4,
    /// Both closed.
    TimeWait = 5,
    /// Reset.
    Close = 6,
    /// The client closed first.
    CloseWait = 7,
    /// Waiting for the last acknowledgement.
    LastAck = 8,
    /// Unused by the default table.
    Listen = 9,
    /// Used under `secure_tcp`.
    SynAck = 10,
    /// SCTP: the client opened.
    SctpInit1 = 17,
    /// SCTP: the client opened again.
    SctpInit = 18,
    /// SCTP: the server sent its cookie.
    SctpCookieSent = 19,
    /// SCTP: the client sent it back.
    SctpCookieReplied = 20,
    /// SCTP: the server opened.
    SctpCookieWait = 21,
    /// SCTP: the client sent its cookie.
    SctpCookie = 22,
    /// SCTP: the server sent it back.
    SctpCookieEchoed = 23,
    /// SCTP: data may flow.
    SctpEstablished = 24,
    /// SCTP: the server closes.
    SctpShutdownSent = 25,
    /// SCTP: the client closes.
    SctpShutdownReceived = 26,
    /// SCTP: the server has agreed to that.
    SctpShutdownAckSent = 27,
    /// SCTP: the server did not want it.
    SctpRejected = 28,
    /// SCTP: over.
    SctpClosed = 29,
}

impl State {
    /// Every state of TCP, at its number. SCTP's are in `sctp`.
    pub const ALL: [State; 11] = [
        State::None,
        State::Established,
        State::SynSent,
        State::SynRecv,
        State::FinWait,
        State::TimeWait,
        State::Close,
        State::CloseWait,
        State::LastAck,
        State::Listen,
        State::SynAck,
    ];

    /// The name `ipvsadm -Lnc` shows.
    pub const fn name(self) -> &'static str {
        match self {
            State::None => "NONE",
            State::Established => "ESTABLISHED",
            State::SynSent => "SYN_SENT",
            State::SynRecv => "SYN_RECV",
            State::FinWait => "FIN_WAIT",
            State::TimeWait => "TIME_WAIT",
            State::Close => "CLOSE",
            State::CloseWait => "CLOSE_WAIT",
            State::LastAck => "LAST_ACK",
            State::Listen => "LISTEN",
            State::SynAck => "SYNACK",
            State::SctpInit1 => "INIT1",
            State::SctpInit => "INIT",
            State::SctpCookieSent => "C-SENT",
            State::SctpCookieReplied => "C-REPLIED",
            State::SctpCookieWait => "C-WAIT",
            State::SctpCookie => "COOKIE",
            State::SctpCookieEchoed => "C-ECHOED",
            State::SctpEstablished => "ESTABLISHED",
            State::SctpShutdownSent => "S-SENT",
            State::SctpShutdownReceived => "S-RECEIVED",
            State::SctpShutdownAckSent => "S-ACK-SENT",
            State::SctpRejected => "REJECTED",
            State::SctpClosed => "CLOSED",
        }
    }

    /// True for states that count as active connections (`tcp_state_active_table`, `set_sctp_state`).
    pub const fn is_active(self) -> bool {
        matches!(
            self,
            State::Established | State::SynSent | State::SynRecv | State::SynAck | State::SctpEstablished
        )
    }

    /// True once both ends have agreed to talk.
    pub const fn is_established(self) -> bool {
        matches!(self, State::Established | State::SctpEstablished)
    }

    /// Its place among TCP's states; no other protocol's state asks.
    #[inline]
    pub(super) const fn of_tcp(self) -> usize {
        let number = self as usize;
        if number < Self::ALL.len() { number } else { 0 }
    }

    /// Every state of every protocol, at its number.
    const BY_NUMBER: [State; 32] = {
        let mut all = [State::None; 32];
        let mut number = 0;
        while number < Self::ALL.len() {
            all[number] = Self::ALL[number];
            number += 1;
        }
        number = 1;
        while number < sctp::STATES.len() {
            all[16 + number] = sctp::STATES[number];
            number += 1;
        }
        all
    };

    #[inline]
    const fn from_number(number: u8) -> Self {
        Self::BY_NUMBER[(number & 31) as usize]
    }
}

/// State and flags of a connection: one word, so that both change at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The state.
    pub state: State,
    /// Counted as inactive at its server.
    pub inactive: bool,
    /// No packet of the server's has been seen, as is usual with DR (`IP_VS_CONN_F_NOOUTPUT`).
    pub no_output: bool,
    /// Taken out of the index; whoever still holds it may forward a last packet, and counts nothing.
    pub removed: bool,
}

impl Status {
    const INACTIVE: u32 = 1 << 8;
    const NO_OUTPUT: u32 = 1 << 9;
    /// Set while the connection is not removed, so that a slot of zeroes is no connection.
    const LIVE: u32 = 1 << 10;

    /// As it is stored.
    #[inline]
    pub const fn to_word(self) -> u32 {
        (self.state as u32)
            | (if self.inactive { Self::INACTIVE } else { 0 })
            | (if self.no_output { Self::NO_OUTPUT } else { 0 })
            | (if self.removed { 0 } else { Self::LIVE })
    }

    /// As it was stored.
    #[inline]
    pub const fn from_word(word: u32) -> Self {
        Self {
            state: State::from_number((word & 0xff) as u8),
            inactive: word & Self::INACTIVE != 0,
            no_output: word & Self::NO_OUTPUT != 0,
            removed: word & Self::LIVE == 0,
        }
    }

    /// The status after a packet of this protocol and these flags; of other protocols than TCP and SCTP it stays.
    pub const fn after(self, tables: &Tables, protocol: u8, direction: Direction, flags: TcpFlags) -> Self {
        if protocol == Protocol::Tcp as u8 {
            self.after_tcp(tables, direction, flags)
        } else if protocol == Protocol::Sctp as u8 {
            self.after_sctp(direction, flags)
        } else {
            self
        }
    }

    /// The same in another state, counted as that state is.
    #[inline]
    pub(super) const fn in_state(self, state: State) -> Self {
        Self { state, inactive: !state.is_active(), ..self }
    }
}

/// How long a connection lives after its last packet, in seconds, by state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// By TCP state, in the order of [`State::ALL`].
    pub tcp_s: [u32; 11],
    /// UDP.
    pub udp_s: u32,
}

impl Default for Timeouts {
    /// The kernel's (`tcp_timeouts` and `udp_timeouts`).
    fn default() -> Self {
        Self { tcp_s: [2, 900, 120, 60, 120, 120, 10, 60, 30, 120, 120], udp_s: 300 }
    }
}

impl Timeouts {
    /// The kernel's, with the three that `ipvsadm --set` writes.
    pub fn with(tcp_s: u32, tcp_fin_s: u32, udp_s: u32) -> Self {
        Self::default().changed(tcp_s, tcp_fin_s, udp_s)
    }

    /// The three that `ipvsadm --set` writes, in its order.
    pub const fn set_by_ipvsadm(&self) -> [u32; 3] {
        [self.tcp_s[State::Established as usize], self.tcp_s[State::FinWait as usize], self.udp_s]
    }

    /// The same with the three that `ipvsadm --set` writes.
    #[must_use]
    pub const fn changed(mut self, tcp_s: u32, tcp_fin_s: u32, udp_s: u32) -> Self {
        self.tcp_s[State::Established as usize] = tcp_s;
        self.tcp_s[State::FinWait as usize] = tcp_fin_s;
        self.udp_s = udp_s;
        self
    }

    /// The seconds a connection of this protocol and state lives without packets.
    #[inline]
    pub const fn of(&self, protocol: u8, state: State) -> u32 {
        if protocol == Protocol::Tcp as u8 {
            self.tcp_s[state.of_tcp()]
        } else if protocol == Protocol::Sctp as u8 {
            sctp::timeout_s(state)
        } else {
            self.udp_s
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn active_is_what_the_kernel_counts_as_active() {
        let active: Vec<_> = State::ALL.into_iter().filter(|s| s.is_active()).collect();
        assert_eq!(active, [State::Established, State::SynSent, State::SynRecv, State::SynAck]);
    }

    #[test]
    fn words_give_back_what_was_stored() {
        for state in State::ALL.into_iter().chain(sctp::STATES) {
            for bits in 0..8u8 {
                let status =
                    Status { state, inactive: bits & 1 > 0, no_output: bits & 2 > 0, removed: bits & 4 > 0 };
                assert_eq!(Status::from_word(status.to_word()), status);
            }
        }
    }

    #[test]
    fn timeouts_are_the_kernels_and_three_can_be_set() {
        use State::{Close, Established, FinWait, None, SynRecv};
        let four =
            |t: Timeouts, third| [t.of(6, Established), t.of(6, FinWait), t.of(6, third), t.of(17, None)];
        assert_eq!(four(Timeouts::default(), SynRecv), [900, 120, 60, 300]);
        assert_eq!(four(Timeouts::with(1000, 20, 30), Close), [1000, 20, 10, 30]);
    }
}
