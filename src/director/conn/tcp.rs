//! What each TCP packet makes of a connection's state (`tcp_states` in ip_vs_proto_tcp.c): tables of event by state
//! for three views of a connection: the client's packets, the server's, and the client's when the server's are
//! never seen (DR).

use crate::packet::parse::TcpFlags;

use super::slot::Direction;
use super::state::State::{
    self, Close as CL, CloseWait as CW, Established as ES, FinWait as FW, LastAck as LA, Listen as LI,
    None as NO, SynAck as SA, SynRecv as SR, SynSent as SS, TimeWait as TW,
};
use super::state::Status;

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

impl Status {
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
        let next = table[event][self.state.of_tcp()];
        Self { no_output, ..self.in_state(next) }
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
    fn a_syn_makes_a_connection_active() {
        assert!(!NEW.after_tcp(In, TcpFlags(SYN)).inactive);
    }
}
