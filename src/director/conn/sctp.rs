//! What each SCTP packet makes of an association's state, and how long each state may last (`sctp_states` and
//! `sctp_timeouts` in ip_vs_proto_sctp.c): tables of event by state for three views, as for TCP.
//!
//! The states are the server's. A client opens by way of INIT1 (its first INIT), INIT (another one), C-SENT (the
//! server's INIT-ACK, with the cookie), C-REPLIED (the cookie comes back) and ESTABLISHED; a server by way of C-WAIT,
//! COOKIE and C-ECHOED.

use crate::packet::parse::TcpFlags;
use crate::packet::sctp::Event;

use super::slot::Direction;
use super::state::State::{
    self, None as NO, SctpClosed as CL, SctpCookie as CO, SctpCookieEchoed as CE, SctpCookieReplied as CR,
    SctpCookieSent as CS, SctpCookieWait as CW, SctpEstablished as ES, SctpInit as IN, SctpInit1 as I1,
    SctpRejected as RJ, SctpShutdownAckSent as SA, SctpShutdownReceived as SR, SctpShutdownSent as SS,
};
use super::state::Status;

/// Every state of an association, in the order of the sync protocol's numbers.
pub const STATES: [State; 14] = [NO, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL];

/// Seconds that each of [`STATES`] lasts: nobody but the kernel's authors has ever set them. 61 s is a
/// retransmission at its slowest.
const TIMEOUTS_S: [u32; 14] = [2, 4, 61, 61, 61, 61, 61, 61, 900, 61, 61, 61, 4, 61];

/// Next states by event (rows, in the order of [`Event::ALL`] without the last) and state (columns, in the order of
/// [`STATES`]).
type Transitions = [[State; 14]; 10];

#[rustfmt::skip]
const INPUT: Transitions = [
    //          NO  I1  IN  CS  CR  CW  CO  CE  ES  SS  SR  SA  RJ  CL
    /*data  */ [ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    /*init  */ [I1, IN, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, IN, IN],
    /*inack */ [CW, CW, CW, CS, CR, CO, CO, CE, ES, SS, SR, SA, RJ, CL],
    /*cecho */ [CR, IN, IN, CR, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    /*cack  */ [ES, I1, IN, CS, CR, CW, CO, ES, ES, SS, SR, SA, RJ, CL],
    /*shut  */ [SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL],
    /*shack */ [CL, IN, IN, CS, CR, CW, CO, CE, ES, CL, SR, CL, RJ, CL],
    /*shcomp*/ [CL, CL, CL, CS, CR, CW, CO, CE, ES, SS, SR, CL, RJ, CL],
    /*error */ [CL, I1, IN, CS, CR, CW, CO, CL, ES, SS, SR, SA, RJ, CL],
    /*abort */ [CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL],
];

#[rustfmt::skip]
const OUTPUT: Transitions = [
    //          NO  I1  IN  CS  CR  CW  CO  CE  ES  SS  SR  SA  RJ  CL
    /*data  */ [ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    /*init  */ [CW, CW, CW, CW, CW, CW, CW, CW, ES, CW, CW, CW, CW, CW],
    /*inack */ [CS, CS, CS, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    /*cecho */ [CE, CE, CE, CE, CE, CE, CE, CE, ES, SS, SR, SA, RJ, CL],
    /*cack  */ [ES, ES, ES, ES, ES, ES, ES, ES, ES, SS, SR, SA, RJ, CL],
    /*shut  */ [SS, SS, SS, SS, SS, SS, SS, SS, SS, SS, SR, SA, RJ, CL],
    /*shack */ [SA, SA, SA, SA, SA, CW, CO, CE, ES, SA, SA, SA, RJ, CL],
    /*shcomp*/ [CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    /*error */ [CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    /*abort */ [CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL],
];

#[rustfmt::skip]
const INPUT_ONLY: Transitions = [
    //          NO  I1  IN  CS  CR  CW  CO  CE  ES  SS  SR  SA  RJ  CL
    /*data  */ [ES, I1, IN, CS, CR, ES, CO, CE, ES, SS, SR, SA, RJ, CL],
    /*init  */ [I1, IN, IN, IN, IN, IN, CO, CE, ES, SS, SR, SA, IN, IN],
    /*inack */ [CE, CE, CE, CE, CE, CE, CO, CE, ES, SS, SR, SA, RJ, CL],
    /*cecho */ [ES, ES, ES, ES, ES, ES, CO, CE, ES, SS, SR, SA, RJ, CL],
    /*cack  */ [ES, I1, IN, ES, ES, CW, ES, ES, ES, SS, SR, SA, RJ, CL],
    /*shut  */ [SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL],
    /*shack */ [CL, IN, IN, CS, CR, CW, CO, CE, CL, CL, SR, CL, RJ, CL],
    /*shcomp*/ [CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, CL, CL, RJ, CL],
    /*error */ [CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    /*abort */ [CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL],
];

/// The seconds an association lives in this state without packets.
pub(super) const fn timeout_s(state: State) -> u32 {
    TIMEOUTS_S[column(state)]
}

/// The place of a state in [`STATES`]: its number in the sync protocol.
const fn column(state: State) -> usize {
    let column = (state as u8 & 15) as usize;
    if column < STATES.len() { column } else { 0 }
}

impl Status {
    /// The status after an SCTP packet with these [`flags`](crate::packet::sctp::flags) (`set_sctp_state`). One without
    /// a chunk changes nothing.
    #[inline]
    pub const fn after_sctp(self, direction: Direction, flags: TcpFlags) -> Self {
        let event = Event::of(flags) as usize;
        let (table, no_output) = match (direction, self.no_output) {
            (Direction::Out, _) => (&OUTPUT, false),
            (Direction::In, true) => (&INPUT_ONLY, true),
            (Direction::In, false) => (&INPUT, false),
        };
        if event >= table.len() {
            return self;
        }
        Self { no_output, ..self.in_state(table[event][column(self.state)]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{In, Out};

    /// The tables as they are written down elsewhere: for each view and event, what leads where; all else stays.
    const RULES: &str = "
        INPUT
          data NO->ES
          init NO->I1; I1/RJ/CL->IN
          inack NO/I1/IN->CW; CW->CO
          cecho NO/CS->CR; I1->IN
          cack NO/CE->ES
          shut NO/ES->SR
          sack NO/SS/SA->CL; I1->IN
          scomp NO/I1/IN/SA->CL
          err NO/CE->CL
          abort NO/I1/IN/CS/CR/CO/CE/ES/SS/SR/SA/RJ->CL; CW->RJ
        OUTPUT
          data NO->ES
          init NO/I1/IN/CS/CR/CO/CE/SS/SR/SA/RJ/CL->CW
          inack NO/I1/IN->CS
          cecho NO/I1/IN/CS/CR/CW/CO->CE
          cack NO/I1/IN/CS/CR/CW/CO/CE->ES
          shut NO/I1/IN/CS/CR/CW/CO/CE/ES->SS
          sack NO/I1/IN/CS/CR/SS/SR->SA
          scomp NO->CL
          err NO/I1/IN/CS/CR->CL
          abort NO/IN/CS/CR/CW/CO/CE/ES/SS/SR/SA/RJ->CL; I1->RJ
        INPUT_ONLY
          data NO/CW->ES
          init NO->I1; I1/CS/CR/CW/RJ/CL->IN
          inack NO/I1/IN/CS/CR/CW->CE
          cecho NO/I1/IN/CS/CR/CW->ES
          cack NO/CS/CR/CO/CE->ES
          shut NO/ES->SR
          sack NO/ES/SS/SA->CL; I1->IN
          scomp NO/I1/IN/CS/CR/SR/SA->CL
          err NO->CL
          abort NO/I1/IN/CS/CR/CO/CE/ES/SS/SR/SA/RJ->CL; CW->RJ";

    const SHORT: [&str; 14] =
        ["NO", "I1", "IN", "CS", "CR", "CW", "CO", "CE", "ES", "SS", "SR", "SA", "RJ", "CL"];

    const NEW: Status = Status { state: NO, inactive: true, no_output: false, removed: false };

    fn flags(event: Event) -> TcpFlags {
        TcpFlags((event as u8) << 4)
    }

    fn expected(rule: &str, from: &str) -> String {
        let leads = rule.split("; ").filter_map(|part| part.split_once("->"));
        let to = leads.filter(|(all, _)| all.split('/').any(|one| one == from)).map(|(_, to)| to);
        to.last().unwrap_or(from).to_owned()
    }

    #[test]
    fn every_cell_is_what_the_rules_say() {
        let views = RULES.trim().lines().collect::<Vec<_>>();
        assert_eq!(views.len(), 33);
        for (view, lines) in views.chunks(11).enumerate() {
            let (direction, no_output) = [(In, false), (Out, false), (In, true)][view];
            for (line, event) in lines[1..].iter().zip(Event::ALL) {
                let rule = line.trim().split_once(' ').unwrap().1;
                for (state, from) in STATES.into_iter().zip(SHORT) {
                    let before = Status { state, no_output, ..NEW };
                    let after = before.after_sctp(direction, flags(event));
                    let to = SHORT[STATES.iter().position(|s| *s == after.state).unwrap()];
                    assert_eq!(to, expected(rule, from), "{} {from} {event:?}", lines[0].trim());
                    assert_eq!((after.inactive, after.no_output), (to != "ES", no_output));
                }
            }
        }
    }

    #[test]
    fn a_whole_association_seen_both_ways() {
        use Event::*;
        let packets = [
            (In, Init, I1),
            (In, Init, IN),
            (Out, InitAck, CS),
            (In, CookieEcho, CR),
            (Out, CookieAck, ES),
            (In, Data, ES),
            (In, Nothing, ES),
            (In, Shutdown, SR),
            (Out, ShutdownAck, SA),
            (In, ShutdownComplete, CL),
        ];
        let mut status = NEW;
        for (direction, event, state) in packets {
            status = status.after_sctp(direction, flags(event));
            assert_eq!((status.state, status.inactive), (state, state != ES));
        }
    }

    #[test]
    fn a_servers_packet_is_output_from_then_on() {
        let dr = Status { no_output: true, ..NEW };
        let opened = dr.after_sctp(In, flags(Event::Init));
        assert!(opened.no_output);
        assert_eq!(opened.after_sctp(Out, flags(Event::InitAck)), Status { state: CS, ..NEW });
        let nothing = opened.after_sctp(Out, flags(Event::Nothing));
        assert_eq!(nothing, opened, "without a chunk even that is not noted");
    }

    #[test]
    fn names_and_timeouts_are_the_kernels() {
        let shown: Vec<_> = STATES.into_iter().map(|s| format!("{} {}", s.name(), timeout_s(s))).collect();
        let kernel = "NONE 2, INIT1 4, INIT 61, C-SENT 61, C-REPLIED 61, C-WAIT 61, COOKIE 61, C-ECHOED 61, \
            ESTABLISHED 900, S-SENT 61, S-RECEIVED 61, S-ACK-SENT 61, REJECTED 4, CLOSED 61";
        assert_eq!(shown.join(", "), kernel);
    }
}
