//! PROXY headers in TCP streams, segment by segment. Whole streams under loss and disorder are in `streams`.

use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::forward::hops::PASS;

use crate::segments::*;
use crate::table::*;

const SACK_KIND: u8 = 5;

#[test]
fn the_segment_that_ends_the_handshake_brings_the_header_and_all_numbers_follow() {
    let mut t = opened("proxy", 1460);
    let expected = Segment { text: HEADER.to_vec(), ..says(b"") };
    assert_eq!(from_client(&mut t, &says(b"")).unwrap()[..], std::slice::from_ref(&expected)[..]);
    // Again, as if the server had asked by another SYN-ACK.
    from_server(&mut t, &Segment::new("SA", S_ISN, FIRST, b"")).unwrap();
    assert_eq!(from_client(&mut t, &says(b"")).unwrap(), [expected]);
    // The request follows bare.
    let request = Segment { seq: after(FIRST, 28), ..says(b"GET / HTTP/1.1") };
    assert_eq!(from_client(&mut t, &says(b"GET / HTTP/1.1")).unwrap(), [request]);
    // The header alone is acknowledged, then the request.
    assert_eq!(from_server(&mut t, &acks(after(FIRST, 28))).unwrap().ack, FIRST);
    assert_eq!(from_server(&mut t, &acks(after(FIRST, 42))).unwrap().ack, after(FIRST, 14));
    let reply = Segment::new("A", S_FIRST, after(FIRST, 42), b"200 OK");
    assert_eq!(from_server(&mut t, &reply).unwrap(), Segment { ack: after(FIRST, 14), ..reply });
    let end = Segment::new("FA", after(FIRST, 14), after(S_FIRST, 6), b"");
    assert_eq!(from_client(&mut t, &end).unwrap(), [Segment { seq: after(FIRST, 42), ..end }]);
    let last = Segment::new("FA", after(S_FIRST, 6), after(FIRST, 43), b"");
    assert_eq!(from_server(&mut t, &last).unwrap().ack, after(FIRST, 15));
}

#[test]
fn a_server_that_speaks_first_has_the_header_and_a_silent_client_hears_it() {
    let mut t = opened("proxy", 1460);
    from_client(&mut t, &says(b"")).unwrap();
    let banner = Segment::new("A", S_FIRST, after(FIRST, 28), b"220 ready");
    assert_eq!(from_server(&mut t, &banner).unwrap(), Segment { ack: FIRST, ..banner });
    let ack = Segment::new("A", FIRST, after(S_FIRST, 9), b"");
    assert_eq!(from_client(&mut t, &ack).unwrap(), [Segment { seq: after(FIRST, 28), ..ack }]);
    // Keep-alives and window probes ask about the byte before, which is the SYN's here.
    let probe = Segment::new("A", ISN, after(S_FIRST, 9), b"");
    assert_eq!(from_client(&mut t, &probe).unwrap(), [probe]);
    assert_eq!(from_server(&mut t, &acks(after(FIRST, 28))).unwrap().ack, FIRST);
}

#[test]
fn text_that_comes_without_a_segment_before_it_has_the_header_in_front() {
    for (options, mss, text_len, is_shared) in [
        (&[][..], 1460, 1432, true),
        (&[], 1460, 1433, false),
        (&[], 1400, 1372, true),
        (&[], 1400, 1373, false),
        (&[1; 12], 1460, 1420, true),
        (&[1; 12], 1460, 1421, false),
    ] {
        let mut t = opened("proxy", mss);
        let text = vec![b'x'; text_len];
        let sent = from_client(&mut t, &says(&text).with(options)).unwrap();
        if is_shared {
            assert_eq!(sent, [Segment { text: [&HEADER[..], &text].concat(), ..says(b"").with(options) }]);
        } else {
            let bare = Segment { seq: after(FIRST, 28), ..says(&text).with(options) };
            assert_eq!(sent, [bare, Segment { text: HEADER.to_vec(), ..says(b"").with(options) }]);
        }
    }
}

/// Its server is the director itself now and its frames have room, since the service has got a server behind a tunnel.
#[test]
fn a_header_beside_text_goes_up_whole_where_frames_have_room() {
    let mut t = Table::new(&[told("proxy")]);
    t.hops.local = [R.parse::<std::net::SocketAddr>().unwrap().ip()].into();
    t.director.pass.open(1000);
    open(&mut t, 1460);
    let text = says(&[b'x'; 1433]);
    let (verdict, after) = t.batch(0, &[with_room(&text.frame(C, VIP), 20)], OUTSIDE).remove(0);
    assert_eq!(verdict, Verdict::Transmit(PASS));
    assert_eq!(Segment::read(&after).text, text.text);
    let (port, header) = t.made.remove(0);
    assert_eq!((port, Segment::read(&header).text), (PASS, HEADER.to_vec()));
    // As the client sent it: nothing was routed.
    assert_eq!([header[22], after[22]], [64; 2]);
}

#[test]
fn text_that_comes_again_has_the_header_beside_it_until_the_server_has_it() {
    let mut t = opened("proxy", 1460);
    from_client(&mut t, &says(b"one two")).unwrap();
    let header = Segment { text: HEADER.to_vec(), ..says(b"") };
    let bare = |text: &[u8]| Segment { seq: after(FIRST, 28), ..says(text) };
    // In other pieces too, and with the end of the stream.
    for text in [&b"one two"[..], b"one", b"one two three"] {
        assert_eq!(from_client(&mut t, &says(text)).unwrap(), [bare(text), header.clone()]);
    }
    let end = Segment { flags: "FA", ..says(b"one") };
    let expected = Segment { flags: "FA", ..bare(b"one") };
    assert_eq!(from_client(&mut t, &end).unwrap(), [expected.clone(), header.clone()]);
    // A part of the header is none.
    assert_eq!(from_server(&mut t, &acks(after(FIRST, 27))).unwrap().ack, FIRST);
    assert_eq!(from_client(&mut t, &end).unwrap().len(), 2);
    assert_eq!(from_server(&mut t, &acks(after(FIRST, 30))).unwrap().ack, after(FIRST, 2));
    assert_eq!(from_client(&mut t, &end).unwrap(), [expected]);
}

#[test]
fn an_end_without_text_comes_behind_the_header() {
    let mut t = opened("proxy", 1460);
    let end = Segment { flags: "FA", ..says(b"") };
    assert_eq!(from_client(&mut t, &end).unwrap(), [Segment { text: HEADER.to_vec(), ..end }]);
    assert_eq!(from_server(&mut t, &acks(after(FIRST, 29))).unwrap().ack, after(FIRST, 1));
}

#[test]
fn resets_have_the_number_that_the_server_waits_for() {
    let reset = Segment { flags: "R", ack: 0, ..says(b"") };
    let mut t = opened("proxy", 1460);
    assert_eq!(from_client(&mut t, &reset).unwrap()[0], reset, "before the header");
    let mut t = opened("proxy", 1460);
    from_client(&mut t, &says(b"")).unwrap();
    let behind = Segment { seq: after(FIRST, 28), ..reset.clone() };
    assert_eq!(from_client(&mut t, &reset).unwrap(), [behind], "behind it");
    let mut t = Table::new(&[told("proxy")]);
    from_client(&mut t, &Segment::new("S", ISN, 0, b"")).unwrap();
    assert_eq!(from_client(&mut t, &reset).unwrap(), [reset], "before the server's answer");
    // The server's refusal.
    let mut t = Table::new(&[told("proxy")]);
    from_client(&mut t, &Segment::new("S", ISN, 0, b"")).unwrap();
    let refusal = Segment { flags: "RA", ..Segment::new("RA", 0, FIRST, b"") };
    assert_eq!(from_server(&mut t, &refusal).unwrap(), refusal);
}

#[test]
fn no_client_can_write_into_the_headers_place() {
    let mut t = opened("proxy", 1460);
    for (seq, text) in [(ISN, &b"ab"[..]), (ISN - 9, &[7; 40])] {
        let forged = Segment { seq, ..says(text) };
        assert_eq!(from_client(&mut t, &forged), Err(DropReason::ClientAddress));
    }
    let forged = Segment { seq: ISN, flags: "FA", ..says(b"a") };
    assert_eq!(from_client(&mut t, &forged), Err(DropReason::ClientAddress), "the end would be in it");
    // A SYN with other numbers moves nothing: the server's answer counts.
    from_client(&mut t, &Segment::new("S", ISN - 28, 0, b"")).unwrap();
    let sent = from_client(&mut t, &says(b"")).unwrap();
    assert_eq!(sent[0].text, HEADER);
    // Urgent data would take a byte out of it.
    let urgent = Segment { flags: "UA", urgent: 20, ..says(b"") };
    assert_eq!(from_client(&mut t, &urgent).unwrap()[0].flags, "A");
    let probe = Segment { seq: ISN, ..urgent.clone() };
    assert_eq!(from_client(&mut t, &probe).unwrap()[0].flags, "A");
    from_server(&mut t, &acks(after(FIRST, 29))).unwrap();
    let later = Segment { seq: after(FIRST, 1), ..urgent };
    assert_eq!(from_client(&mut t, &later).unwrap()[0].flags, "UA", "its own business");
}

#[test]
fn before_the_servers_answer_a_client_says_nothing() {
    let mut t = Table::new(&[told("proxy")]);
    from_client(&mut t, &Segment::new("S", ISN, 0, b"")).unwrap();
    assert_eq!(from_client(&mut t, &says(b"text")), Err(DropReason::ClientAddress));
    // Nor does a segment open a connection, whatever others may.
    let mut t = Table::new(&[told("proxy")]);
    t.tune("sloppy_tcp", 1);
    assert_eq!(from_client(&mut t, &says(b"text")), Err(DropReason::NoConnection));
}

#[test]
fn text_in_a_syn_is_taken_off_and_the_window_has_room_for_the_header() {
    let mut t = Table::new(&[told("proxy")]);
    let syn = Segment::new("S", ISN, 0, b"odd text!").with(&[34, 6, 1, 2, 3, 4]);
    assert_eq!(from_client(&mut t, &syn).unwrap(), [Segment { text: vec![], ..syn }]);
    let answer = Segment::new("SA", S_ISN, FIRST, b"").with(&[2, 4, 5, 0xb4]);
    assert_eq!(from_server(&mut t, &answer).unwrap(), Segment { window: 8192 - 28, ..answer });
    assert_eq!(
        from_client(&mut t, &says(b"odd text!")).unwrap()[0].text,
        [&HEADER[..], b"odd text!"].concat()
    );
}

#[test]
fn blocks_received_out_of_order_are_the_clients() {
    let sack =
        |from: u32, to: u32| [&[1, 1, SACK_KIND, 10][..], &from.to_be_bytes(), &to.to_be_bytes()].concat();
    let mut t = opened("proxy", 1460);
    from_client(&mut t, &says(b"")).unwrap();
    from_client(&mut t, &says(b"text")).unwrap();
    // To the client nothing would be missing.
    let text = acks(FIRST).with(&sack(after(FIRST, 28), after(FIRST, 32)));
    assert_eq!(from_server(&mut t, &text).unwrap(), acks(FIRST).with(&[1; 12]));
    // The header came twice (RFC 2883).
    let twice = acks(after(FIRST, 28)).with(&sack(FIRST, after(FIRST, 28)));
    assert_eq!(from_server(&mut t, &twice).unwrap(), acks(FIRST).with(&[1; 12]));
    let hole = acks(after(FIRST, 32)).with(&sack(after(FIRST, 40), after(FIRST, 50)));
    let expected = acks(after(FIRST, 4)).with(&sack(after(FIRST, 12), after(FIRST, 22)));
    assert_eq!(from_server(&mut t, &hole).unwrap(), expected);
}

#[test]
fn the_same_ports_again_are_another_stream() {
    let mut t = opened("proxy", 1460);
    t.tune("conn_reuse_mode", 0);
    from_client(&mut t, &says(b"one")).unwrap();
    from_server(&mut t, &acks(after(FIRST, 31))).unwrap();
    from_client(&mut t, &Segment { flags: "FA", seq: after(FIRST, 3), ..says(b"") }).unwrap();
    from_server(&mut t, &Segment { flags: "FA", ..acks(after(FIRST, 32)) }).unwrap();
    from_client(&mut t, &Segment { seq: after(FIRST, 4), ack: S_FIRST + 1, ..says(b"") }).unwrap();
    // The connection is in TIME_WAIT, and the same entry goes on.
    from_client(&mut t, &Segment::new("S", 900_000, 0, b"")).unwrap();
    from_server(&mut t, &Segment::new("SA", 800_000, 900_001, b"").with(&[2, 4, 5, 0xb4])).unwrap();
    let sent = from_client(&mut t, &Segment::new("A", 900_001, 800_001, b"new")).unwrap();
    assert_eq!(sent, [Segment::new("A", 900_001, 800_001, &[&HEADER[..], b"new"].concat())]);
}

#[test]
fn a_wrong_checksum_stays_wrong_and_changes_nothing() {
    let mut t = opened("proxy", 1460);
    let wrong = |t: &mut Table, segment: &Segment, (from, to, port): (&str, &str, u16)| {
        let mut frame = segment.frame(from, to);
        frame[50] ^= 0x55;
        let (verdict, after) = t.batch(0, std::slice::from_ref(&frame), port).remove(0);
        assert!(matches!(verdict, Verdict::Transmit(_)));
        let all = [after].into_iter().chain(std::mem::take(&mut t.made).into_iter().map(|(_, frame)| frame));
        all.for_each(|after| assert_eq!(error(&after), error(&frame)));
    };
    let (client, server) = ((C, VIP, OUTSIDE), (R, C, INSIDE));
    wrong(&mut t, &Segment::new("SA", S_ISN, 77, b""), server);
    for text in [&b""[..], b"a", b"a", b"odd"] {
        wrong(&mut t, &says(text), client);
    }
    wrong(&mut t, &acks(after(FIRST, 40)), server);
    assert_eq!(from_client(&mut t, &says(b"a")).unwrap().len(), 2, "the header is still due");
}

#[test]
fn what_goes_no_further_is_told_as_it_came() {
    let mut t = opened("proxy", 1460);
    from_client(&mut t, &says(b"")).unwrap();
    let mut last = says(b"text").frame(C, VIP);
    last[22] = 1;
    mend(&mut last);
    let (verdict, answer) = t.batch(0, &[last.clone()], OUTSIDE).remove(0);
    assert_eq!(verdict, Verdict::Answer(OUTSIDE, DropReason::TtlExpired));
    assert_eq!(answer[42..][..28], last[14..][..28], "the segment as the client knows it");
    t.hops.macs.remove(&11);
    assert_eq!(from_client(&mut t, &says(b"text")), Err(DropReason::Unresolved));
    assert_eq!(
        from_client(&mut t, &Segment { seq: after(FIRST, 4), ..says(b"x") }),
        Err(DropReason::Unresolved)
    );
    assert_eq!(from_client(&mut t, &says(b"")), Err(DropReason::Unresolved));
}

#[test]
fn an_error_about_a_shifted_segment_quotes_the_clients_number() {
    let mut t = opened("proxy", 1460);
    from_client(&mut t, &says(b"")).unwrap();
    for quoted_len in [28, 40, 60] {
        let frame = says(b"a longer text to be quoted").frame(C, VIP);
        let (_, sent) = t.batch(0, std::slice::from_ref(&frame), OUTSIDE).remove(0);
        t.made.clear();
        let mut icmp = vec![3, 4, 0, 0, 0, 0, 5, 0x78];
        icmp.extend(&sent[14..14 + quoted_len]);
        let sum = xvs::packet::checksum::of(&icmp);
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        let error = ip([10, 1, 0, 99].into(), [192, 0, 2, 7].into(), 1, &icmp);
        let (verdict, relayed) = t.batch(0, &[error], INSIDE).remove(0);
        assert_eq!(verdict, Verdict::Transmit(OUTSIDE));
        assert_eq!(xvs::packet::checksum::of(&relayed[34..]), 0, "ICMP checksum");
        let mut expected = frame[14..14 + quoted_len].to_vec();
        // The TTL it had when it was too long.
        (expected[8], expected[10], expected[11]) = (relayed[50], relayed[52], relayed[53]);
        assert_eq!(relayed[42..], expected, "its own packet, {quoted_len} bytes of it");
    }
}
