//! SCTP: what opens an association, its states, its checksum, and what those are told who have none.

use proptest::prelude::*;
use xvs::director::conn::state::State;
use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::service::{Method, Protocol};

use crate::table::*;

const C: &str = "192.0.2.7:40000";
const VIP: &str = "10.0.0.100:5000";
const SERVICE: &str = "sctp:10.0.0.100:5000";
const S: &str = "10.1.0.12:5012";
const FIRST: [u8; 6] = [2, 0, 0, 0, 0xa, 12];
const SECOND: [u8; 6] = [2, 0, 0, 0, 0xa, 11];

const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const HEARTBEAT: u8 = 4;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

fn nat() -> Table {
    let servers = [("10.1.0.11:5011", 1), (S, 1)];
    Table::new(&[service(Protocol::Sctp, VIP, Method::Nat, &servers)])
}

fn dr() -> Table {
    Table::new(&[service(Protocol::Sctp, VIP, Method::Dr, &[("10.1.0.11:5000", 1), ("10.1.0.12:5000", 1)])])
}

fn state(t: &Table) -> State {
    t.states()[0].1
}

#[test]
fn an_association_through_nat_from_its_first_packet_to_its_last() {
    let mut t = nat();
    let steps = [
        (true, INIT, State::SctpInit1, (0, 1)),
        (false, INIT_ACK, State::SctpCookieSent, (0, 1)),
        (true, COOKIE_ECHO, State::SctpCookieReplied, (0, 1)),
        (false, COOKIE_ACK, State::SctpEstablished, (1, 0)),
        (true, DATA, State::SctpEstablished, (1, 0)),
        (false, HEARTBEAT, State::SctpEstablished, (1, 0)),
        (true, SHUTDOWN, State::SctpShutdownReceived, (0, 1)),
        (false, SHUTDOWN_ACK, State::SctpShutdownAckSent, (0, 1)),
        (true, SHUTDOWN_COMPLETE, State::SctpClosed, (0, 1)),
    ];
    for (is_clients, chunk, expected, counts) in steps {
        if is_clients {
            let sent = t.sctp(C, VIP, &[chunk]).unwrap();
            assert_eq!((sent.from.as_str(), sent.to.as_str(), sent.port, sent.ttl), (C, S, INSIDE, 63));
        } else {
            let sent = t.sctp(S, C, &[chunk]).unwrap();
            assert_eq!((sent.from.as_str(), sent.to.as_str(), sent.port, sent.ttl), (VIP, C, OUTSIDE, 63));
        }
        assert_eq!((state(&t), t.counts(1)), (expected, counts), "after chunk {chunk}");
    }
    let row = "SCTP 01:01 CLOSED 192.0.2.7:40000 10.0.0.100:5000 10.1.0.12:5012";
    assert_eq!(t.rows(false), [row]);
    t.pass(62);
    assert_eq!((t.director.table.len(), t.counts(1)), (0, (0, 0)));
}

#[test]
fn seen_from_one_side_with_dr() {
    let mut t = dr();
    let before = sctp(C, VIP, &[(INIT, b"tag and window")]);
    let (verdict, after) = t.batch(0, std::slice::from_ref(&before), OUTSIDE).remove(0);
    assert_eq!((verdict, &after[..6]), (Verdict::Transmit(INSIDE), &FIRST[..]));
    let same = |f: &[u8]| [&f[12..22], &f[23..24], &f[26..]].concat();
    assert_eq!(same(&after), same(&before), "nothing but TTL and header checksum");
    assert_eq!(state(&t), State::SctpInit1);
    for (chunk, expected) in [
        (INIT, State::SctpInit),
        (COOKIE_ECHO, State::SctpEstablished),
        (DATA, State::SctpEstablished),
        (SHUTDOWN, State::SctpShutdownReceived),
        (SHUTDOWN_COMPLETE, State::SctpClosed),
    ] {
        t.sctp(C, VIP, &[chunk]).unwrap();
        assert_eq!(state(&t), expected);
    }
}

#[test]
fn an_abort_behind_a_cookie_ends_the_association() {
    let mut t = nat();
    t.sctp(C, VIP, &[INIT]).unwrap();
    t.sctp(S, C, &[INIT_ACK]).unwrap();
    t.sctp(C, VIP, &[COOKIE_ECHO, ABORT]).unwrap();
    assert_eq!(state(&t), State::SctpClosed);
    let mut t = nat();
    t.sctp(C, VIP, &[INIT]).unwrap();
    t.sctp(S, C, &[ABORT]).unwrap();
    assert_eq!((state(&t), &t.rows(false)[0][..19]), (State::SctpRejected, "SCTP 00:04 REJECTED"));
}

#[test]
fn timeouts_are_each_states_and_no_command_changes_them() {
    let mut t = nat();
    t.change(|draft| {
        draft.settings().timeouts = xvs::director::conn::state::Timeouts::with(1000, 1000, 1000);
        Ok(())
    });
    let time = |t: &Table| t.rows(false)[0].split(' ').nth(1).unwrap().to_owned();
    t.sctp(C, VIP, &[INIT]).unwrap();
    assert_eq!(time(&t), "00:04");
    t.sctp(C, VIP, &[INIT]).unwrap();
    assert_eq!(time(&t), "01:01");
    t.sctp(S, C, &[COOKIE_ACK]).unwrap();
    assert_eq!(time(&t), "15:00");
    t.pass(890);
    t.sctp(S, C, &[DATA]).unwrap();
    assert_eq!(time(&t), "15:00");
    t.pass(902);
    assert_eq!(t.director.table.len(), 0);
}

#[test]
fn an_init_opens_and_with_sloppy_sctp_whatever_is_no_abort() {
    let mut t = nat();
    for chunk in [DATA, INIT_ACK, COOKIE_ECHO, SHUTDOWN, ABORT, 200] {
        assert_eq!(t.sctp(C, VIP, &[chunk]), Err(DropReason::NoConnection), "{chunk}");
    }
    assert_eq!(t.director.table.len(), 0);
    t.tune("sloppy_sctp", 1);
    assert_eq!(t.sctp(C, VIP, &[ABORT]), Err(DropReason::NoConnection));
    assert_eq!(t.sctp(C, VIP, &[ABORT, INIT]), Err(DropReason::NoConnection));
    assert_eq!(t.sctp(C, VIP, &[]), Err(DropReason::NoConnection), "without a chunk");
    assert_eq!(t.sctp(C, VIP, &[DATA]).unwrap().to, S);
    assert_eq!((state(&t), t.counts(1)), (State::SctpEstablished, (1, 0)));
    t.sctp("192.0.2.8:1", VIP, &[COOKIE_ECHO, ABORT]).unwrap();
    assert_eq!(t.states()[1].1, State::SctpClosed, "the first chunk opens, both together close");
}

#[test]
fn tcps_tunable_is_not_sctps() {
    let mut t = nat();
    t.tune("sloppy_tcp", 1);
    assert_eq!(t.sctp(C, VIP, &[DATA]), Err(DropReason::NoConnection));
}

#[test]
fn an_init_with_the_ports_of_a_closed_association_is_scheduled_anew() {
    for (mode, last, anew) in
        [(0, ABORT, false), (1, ABORT, true), (2, ABORT, true), (1, DATA, false), (3, SHUTDOWN, false)]
    {
        let mut t = dr();
        t.tune("conn_reuse_mode", mode);
        for chunk in [INIT, COOKIE_ECHO, last] {
            assert_eq!(t.sctp(C, VIP, &[chunk]).unwrap().dst_mac, FIRST);
        }
        let server = t.sctp(C, VIP, &[INIT]).unwrap().dst_mac;
        assert_eq!(server, if anew { SECOND } else { FIRST }, "mode {mode}, after chunk {last}");
        assert_eq!(t.director.table.len(), 1);
    }
}

#[test]
fn a_packet_without_a_chunk_goes_on_in_its_association_and_changes_nothing() {
    let mut t = dr();
    t.sctp(C, VIP, &[INIT]).unwrap();
    assert_eq!(t.sctp(C, VIP, &[]).unwrap().dst_mac, FIRST);
    assert_eq!(state(&t), State::SctpInit1);
}

fn answer(t: &mut Table, frame: Vec<u8>) -> Result<String, Verdict> {
    let (verdict, after) = t.batch(0, &[frame], OUTSIDE).remove(0);
    match verdict {
        Verdict::Answer(OUTSIDE, _) => Ok(read_answer(&after)),
        other => Err(other),
    }
}

#[test]
fn who_has_no_association_is_told_what_a_host_without_sctp_tells() {
    let told = |code: u8| Ok(format!("10.0.0.100 tells 192.0.2.7: type 3 code {code}"));
    assert_eq!(answer(&mut nat(), sctp(C, VIP, &[(DATA, b"x")])), told(2));
    assert_eq!(answer(&mut nat(), sctp(C, VIP, &[(ABORT, b"")])), told(2));
    assert_eq!(answer(&mut nat(), sctp(C, "10.0.0.100:5001", &[(INIT, b"x")])), told(2));
    let silent = Err(Verdict::Drop(DropReason::NoConnection));
    assert_eq!(answer(&mut nat(), sctp(C, VIP, &[])), silent, "no chunk: the kernel drops it");
    let mut t = nat();
    for server in ["10.1.0.11:5011", S] {
        t.weigh(SERVICE, server, 0);
    }
    assert_eq!(answer(&mut t, sctp(C, VIP, &[(INIT, b"x")])), told(3));
}

#[test]
fn a_common_header_that_is_cut_is_truncated_whatever_follows() {
    let mut t = nat();
    let address = |text: &str| text.parse::<std::net::SocketAddr>().unwrap().ip();
    for len in 0..12 {
        let frame = ip(address(C), address(VIP), 132, &[0x13; 12][..len]);
        assert_eq!(t.one(0, frame, OUTSIDE), Err(DropReason::Truncated), "{len} bytes");
    }
}

#[test]
fn templates_and_marks_and_all_ports_take_sctp_too() {
    let vip = "10.0.0.100:0";
    let servers = [("10.1.0.11:0", 1), ("10.1.0.12:0", 1)];
    let mut t = Table::new(&[persistent(service(Protocol::Sctp, vip, Method::Nat, &servers), 300)]);
    assert_eq!(t.sctp(C, VIP, &[INIT]).unwrap().to, "10.1.0.12:5000");
    assert_eq!(t.sctp(C, "10.0.0.100:7", &[INIT]).unwrap().to, "10.1.0.12:7", "the same server");
    assert_eq!(t.rows(true), ["SCTP 05:00 NONE 192.0.2.7:0 10.0.0.100:0 10.1.0.12:0"]);
    t.sctp(C, VIP, &[COOKIE_ECHO]).unwrap();
    t.sctp("10.1.0.12:5000", C, &[COOKIE_ACK]).unwrap();
    assert_eq!(t.rows(true), ["SCTP 05:00 ASSURED 192.0.2.7:0 10.0.0.100:0 10.1.0.12:0"]);
    assert_eq!(t.tcp(C, VIP, "S"), Err(DropReason::NoService), "of another protocol");
}

proptest! {
    /// The oracle computes the checksum anew: what was right is right, what was wrong is wrong by the same bits.
    #[test]
    fn checksums_leave_as_right_or_as_wrong_as_they_came(
        value in proptest::collection::vec(any::<u8>(), 0..1400),
        error: [u8; 4],
    ) {
        let mut t = nat();
        let frame = |from, to, kind| {
            let mut frame = sctp(from, to, &[(kind, &value)]);
            frame.iter_mut().skip(42).zip(error).for_each(|(byte, wrong)| *byte ^= wrong);
            frame
        };
        for (frame, port) in [(frame(C, VIP, INIT), OUTSIDE), (frame(S, C, DATA), INSIDE)] {
            let (_, mut after) = t.batch(0, &[frame], port).remove(0);
            after.iter_mut().skip(42).zip(error).for_each(|(byte, wrong)| *byte ^= wrong);
            read(&after, port);
        }
    }

    /// Chunks that lie about their lengths: a verdict, and an association in one of its states.
    #[test]
    fn any_chunks_have_a_verdict(packets in proptest::collection::vec(
        (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..40)), 1..20,
    )) {
        let mut t = nat();
        t.tune("sloppy_sctp", 1);
        for (is_clients, bytes) in packets {
            let (from, to) = if is_clients { (C, VIP) } else { (S, C) };
            let (from, to): (std::net::SocketAddr, std::net::SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
            let frame = ip(from.ip(), to.ip(), 132, &[&ports, &bytes[..]].concat());
            let (verdict, after) = t.batch(0, std::slice::from_ref(&frame), OUTSIDE).remove(0);
            if matches!(verdict, Verdict::Transmit(_)) {
                prop_assert_eq!(after.len(), frame.len());
                prop_assert_eq!(&after[46..], &frame[46..], "behind the common header nothing changes");
            }
            prop_assert!(t.states().iter().all(|(_, s)| *s == State::None || *s as u8 > 16));
        }
    }
}
