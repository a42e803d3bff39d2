//! The states of a connection and the time each may last.
//!
//! TCP: `tcp_states` in ip_vs_proto_tcp.c, as tables of event by state for three views of a connection: the
//! client's packets, the server's, and the client's when the server's are never seen (DR). UDP has one state.

use crate::director::service::Protocol;
use crate::packet::parse::TcpFlags;

use super::slot::Direction;

/// A connection's state. The numbers are those of the IPVS sync protocol.
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
}

use State::{
    Close as CL, CloseWait as CW, Established as ES, FinWait as FW, LastAck as LA, Listen as LI, None as NO,
    SynAck as SA, SynRecv as SR, SynSent as SS, TimeWait as TW,
};

impl State {
    /// Every state, at its number.
    pub const ALL: [State; 11] = [NO, ES, SS, SR, FW, TW, CL, CW, LA, LI, SA];

    /// The name `ipvsadm -Lnc` shows for a TCP connection.
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
        }
    }

    /// True for states that count as active connections (`tcp_state_active_table`).
    pub const fn is_active(self) -> bool {
        matches!(self, State::Established | State::SynSent | State::SynRecv | State::SynAck)
    }

    const fn from_number(number: u8) -> Self {
        let index = number as usize;
        if index < Self::ALL.len() { Self::ALL[index] } else { State::None }
    }
}

/// Next states by event (rows: SYN, FIN, ACK, RST) and state (columns, in the order of [`State::ALL`]).
type Transitions = [[State; 11]; 4];

#[rustfmt::skip]
const INPUT: Transitions = [
    //       NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
    /*syn*/ [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
    /*fin*/ [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW],
    /*ack*/ [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
    /*rst*/ [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR],
];

#[rustfmt::skip]
const OUTPUT: Transitions = [
    //       NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
    /*syn*/ [SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR],
    /*fin*/ [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
    /*ack*/ [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
    /*rst*/ [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
];

#[rustfmt::skip]
const INPUT_ONLY: Transitions = [
    //       NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
    /*syn*/ [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
    /*fin*/ [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
    /*ack*/ [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
    /*rst*/ [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
];

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

    /// The status after a TCP packet (`set_tcp_state`). Of several flags RST counts first, then SYN, FIN and
    /// ACK; a segment without any closes.
    #[inline]
    pub const fn after_tcp(self, direction: Direction, flags: TcpFlags) -> Self {
        let event = if flags.has(TcpFlags::RST) {
            3
        } else if flags.has(TcpFlags::SYN) {
            0
        } else if flags.has(TcpFlags::FIN) {
            1
        } else if flags.has(TcpFlags::ACK) {
            2
        } else {
            return self.in_state(State::Close);
        };
        let (table, no_output) = match (direction, self.no_output) {
            (Direction::Out, _) => (&OUTPUT, false),
            (Direction::In, true) => (&INPUT_ONLY, true),
            (Direction::In, false) => (&INPUT, false),
        };
        let next = table[event][self.state as usize];
        Self { no_output, ..self.in_state(next) }
    }

    const fn in_state(self, state: State) -> Self {
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
        if protocol == Protocol::Tcp as u8 { self.tcp_s[state as usize] } else { self.udp_s }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Status = Status { state: NO, inactive: true, no_output: false, removed: false };

    fn walk(start: Status, packets: &[(Direction, u8)]) -> Vec<State> {
        let steps = packets.iter().scan(start, |status, &(direction, flags)| {
            *status = status.after_tcp(direction, TcpFlags(flags));
            Some(status.state)
        });
        steps.collect()
    }

    const SYN: u8 = TcpFlags::SYN;
    const ACK: u8 = TcpFlags::ACK;
    const FIN: u8 = TcpFlags::FIN | TcpFlags::ACK;
    const RST: u8 = TcpFlags::RST | TcpFlags::ACK;
    use Direction::{In, Out};

    #[test]
    fn a_whole_connection_seen_both_ways() {
        let packets = [
            (In, SYN),
            (Out, SYN | ACK),
            (In, ACK),
            (In, ACK),
            (Out, ACK),
            (In, FIN),
            (Out, ACK),
            (Out, FIN),
            (In, ACK),
        ];
        assert_eq!(walk(NEW, &packets), [SR, SR, ES, ES, ES, CW, CW, TW, TW]);
    }

    #[test]
    fn the_server_closes_first() {
        let start = Status { state: ES, inactive: false, ..NEW };
        assert_eq!(walk(start, &[(Out, FIN), (In, ACK), (In, FIN), (Out, ACK)]), [FW, FW, TW, TW]);
    }

    #[test]
    fn seen_from_one_side_only() {
        let start = Status { no_output: true, ..NEW };
        assert_eq!(walk(start, &[(In, SYN), (In, ACK), (In, FIN), (In, ACK)]), [SR, ES, FW, FW]);
        let other = start.after_tcp(In, TcpFlags(SYN)).after_tcp(Out, TcpFlags(SYN | ACK));
        assert!(!other.no_output, "the first packet of the server's clears it");
    }

    #[test]
    fn the_rows_that_surprise() {
        let at = |state: State| Status { state, inactive: !state.is_active(), ..NEW };
        assert_eq!(walk(at(SR), &[(In, RST)]), [SR], "a client's RST leaves SYN_RECV");
        assert_eq!(walk(at(ES), &[(In, SYN)]), [ES], "a SYN leaves ESTABLISHED");
        assert_eq!(walk(at(ES), &[(In, RST)]), [CL]);
        assert_eq!(walk(at(ES), &[(In, 0)]), [CL], "no flags at all close");
        assert_eq!(walk(at(ES), &[(In, SYN | FIN | RST)]), [CL], "RST comes first");
        assert_eq!(walk(at(TW), &[(In, SYN)]), [SR]);
        assert_eq!(walk(at(TW), &[(Out, RST)]), [TW]);
    }

    #[test]
    fn active_is_what_the_kernel_counts_as_active() {
        let active: Vec<_> = State::ALL.into_iter().filter(|s| s.is_active()).collect();
        assert_eq!(active, [ES, SS, SR, SA]);
        assert!(!NEW.after_tcp(In, TcpFlags(SYN)).inactive);
    }

    #[test]
    fn words_give_back_what_was_stored() {
        for state in State::ALL {
            for bits in 0..8u8 {
                let status =
                    Status { state, inactive: bits & 1 > 0, no_output: bits & 2 > 0, removed: bits & 4 > 0 };
                assert_eq!(Status::from_word(status.to_word()), status);
            }
        }
    }

    #[test]
    fn timeouts_are_the_kernels_and_three_can_be_set() {
        let t = Timeouts::default();
        assert_eq!((t.of(6, ES), t.of(6, FW), t.of(6, SR), t.of(17, NO)), (900, 120, 60, 300));
        let t = Timeouts::with(1000, 20, 30);
        assert_eq!((t.of(6, ES), t.of(6, FW), t.of(6, CL), t.of(17, NO)), (1000, 20, 10, 30));
    }
}
