//! What each TCP packet makes of a connection's state (`tcp_states` in ip_vs_proto_tcp.c): tables of event by state
//! for three views of a connection: the client's packets, the server's, and the client's when the server's are
//! never seen (DR).

use crate::packet::parse::TcpFlags;

use super::slot::Direction;
use super::state::State::{
    self, Close as CL, CloseWait as CW, Established as ES, FinWait as FW, LastAck as LA, Listen as LI,
    SynAck as SA, SynRecv as SR, SynSent as SS, TimeWait as TW,
};
use super::state::Status;

/// Next states by event (rows: SYN, FIN, ACK, RST) and state (columns, in the order of [`State::ALL`]).
type Transitions = [[State; 11]; 4];

/// The three views' tables.
#[derive(Debug)]
pub struct Tables {
    input: Transitions,
    output: Transitions,
    input_only: Transitions,
}

#[rustfmt::skip]
/// The usual ones (`tcp_states`).
pub static USUAL: Tables = Tables {
    input: [
        //       NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
        /*syn*/ [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
        /*fin*/ [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW],
        /*ack*/ [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
        /*rst*/ [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR],
    ],
    output: [
        //       NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
        /*syn*/ [SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR],
        /*fin*/ [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
        /*ack*/ [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
        /*rst*/ [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
    ],
    input_only: [
        //       NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
        /*syn*/ [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
        /*fin*/ [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
        /*ack*/ [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
        /*rst*/ [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
    ],
};

#[rustfmt::skip]
/// Those of `secure_tcp` (`tcp_states_dos`): a client is believed once its server acknowledges data, where the
/// server is seen.
pub static SECURE: Tables = Tables {
    input: [
        //       NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
        /*syn*/ [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SA],
        /*fin*/ [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, SA],
        /*ack*/ [ES, ES, SS, SR, FW, TW, CL, CW, CL, LI, SA],
        /*rst*/ [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
    ],
    output: [
        //       NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
        /*syn*/ [SS, ES, SS, SA, SS, SS, SS, SS, SS, LI, SA],
        /*fin*/ [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
        /*ack*/ [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
        /*rst*/ [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
    ],
    input_only: [
        //       NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
        /*syn*/ [SA, ES, ES, SR, SA, SA, SA, SA, SA, SA, SA],
        /*fin*/ [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
        /*ack*/ [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
        /*rst*/ [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
    ],
};

impl Status {
    /// True if the connection is established and the packet only acknowledges, which changes nothing by any table. Almost
    /// every packet: asked first, it saves the tables.
    #[inline(always)]
    pub const fn stays_established(self, direction: Direction, flags: TcpFlags) -> bool {
        const DECIDING: u8 = TcpFlags::RST | TcpFlags::SYN | TcpFlags::FIN | TcpFlags::ACK;
        matches!(self.state, ES)
            && flags.0 & DECIDING == TcpFlags::ACK
            && (matches!(direction, Direction::In) || !self.no_output)
            && !self.inactive
    }

    /// The status after a TCP packet (`set_tcp_state`). Of several flags RST counts first, then SYN, FIN and
    /// ACK; a segment without any closes.
    #[inline]
    pub const fn after_tcp(self, tables: &Tables, direction: Direction, flags: TcpFlags) -> Self {
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
            (Direction::Out, _) => (&tables.output, false),
            (Direction::In, true) => (&tables.input_only, true),
            (Direction::In, false) => (&tables.input, false),
        };
        let next = table[event][self.state.of_tcp()];
        Self { no_output, ..self.in_state(next) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::State::None as NO;
    use super::*;

    const NEW: Status = Status { state: NO, inactive: true, no_output: false, removed: false };

    fn walk(start: Status, packets: &[(Direction, u8)]) -> Vec<State> {
        walk_by(&USUAL, start, packets)
    }

    fn walk_by(tables: &Tables, start: Status, packets: &[(Direction, u8)]) -> Vec<State> {
        let steps = packets.iter().scan(start, |status, &(direction, flags)| {
            *status = status.after_tcp(tables, direction, TcpFlags(flags));
            Some(status.state)
        });
        steps.collect()
    }

    const SYN: u8 = TcpFlags::SYN;
    const ACK: u8 = TcpFlags::ACK;
    const FIN: u8 = TcpFlags::FIN | TcpFlags::ACK;
    const RST: u8 = TcpFlags::RST | TcpFlags::ACK;
    use Direction::{In, Out};

    /// What a connection is entered as: see `Work::connection`.
    #[test]
    fn a_syn_changes_nothing_a_second_time_and_establishes_nothing() {
        for (tables, no_output) in [(&USUAL, false), (&USUAL, true), (&SECURE, false), (&SECURE, true)] {
            let once = Status { no_output, ..NEW }.after_tcp(tables, In, TcpFlags(SYN));
            assert_eq!(once.after_tcp(tables, In, TcpFlags(SYN)), once);
            assert!(!once.state.is_established() && once.state.is_active());
        }
    }

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
        let other = start.after_tcp(&USUAL, In, TcpFlags(SYN)).after_tcp(&USUAL, Out, TcpFlags(SYN | ACK));
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
    fn what_stays_established_stays_as_it_is_by_every_table() {
        let mut stay = 0;
        for word in 0..1 << 11 {
            let status = Status::from_word(word);
            for (direction, flags) in
                [In, Out].into_iter().flat_map(|d| (0..=255).map(move |f| (d, TcpFlags(f))))
            {
                if status.stays_established(direction, flags) {
                    stay += 1;
                    assert_eq!(status.after_tcp(&USUAL, direction, flags), status);
                    assert_eq!(status.after_tcp(&SECURE, direction, flags), status);
                }
            }
        }
        assert!(stay > 0);
    }

    #[test]
    fn a_syn_makes_a_connection_active() {
        assert!(!NEW.after_tcp(&USUAL, In, TcpFlags(SYN)).inactive);
    }
    #[test]
    fn under_secure_tcp_a_client_is_believed_once_its_server_acknowledges() {
        let opening = [(In, SYN), (Out, SYN | ACK), (In, ACK), (In, FIN), (In, SYN), (Out, ACK), (In, FIN)];
        assert_eq!(walk_by(&SECURE, NEW, &opening), [SR, SA, SA, SA, SA, ES, CW]);
        assert_eq!(walk_by(&SECURE, NEW, &[(In, SYN), (In, ACK), (In, RST)]), [SR, SR, SR]);
        assert_eq!(walk_by(&SECURE, NEW, &[(In, SYN), (Out, SYN | ACK), (In, RST)]), [SR, SA, CL]);
        // What was SYNACK when secure_tcp ended.
        let left = Status { state: SA, inactive: false, ..NEW };
        assert_eq!(walk(left, &[(In, RST)]), [SR]);
        assert_eq!(walk(left, &[(In, ACK)]), [ES]);
    }

    #[test]
    fn under_secure_tcp_a_client_alone_is_believed_by_its_acknowledgement() {
        let start = Status { no_output: true, ..NEW };
        assert_eq!(walk_by(&SECURE, start, &[(In, SYN), (In, SYN), (In, ACK), (In, FIN)]), [SA, SA, ES, FW]);
        assert_eq!(walk_by(&SECURE, start, &[(In, SYN), (In, RST), (In, SYN), (In, FIN)]), [SA, CL, SA, TW]);
    }
}
