//! The TCP option that tells servers who a connection is from, segment by segment.

use crate::segments::*;
use crate::table::*;

#[test]
fn the_option_is_on_the_clients_segments_until_the_server_speaks() {
    let mut t = opened("toa", 1460);
    let timestamps = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    for (flags, text) in [("A", &b""[..]), ("A", b""), ("A", b"text"), ("A", b"text"), ("FA", b"")] {
        let segment = Segment { flags, ..says(text) }.with(&timestamps);
        let expected = segment.clone().with(&[&OPTION[..], &timestamps].concat());
        assert_eq!(from_client(&mut t, &segment).unwrap(), [expected]);
    }
    let reset = Segment { flags: "R", ..says(b"") };
    assert_eq!(from_client(&mut t, &reset).unwrap(), [reset]);
    let mut t = opened("toa", 1460);
    assert_eq!(from_server(&mut t, &Segment::new("SA", S_ISN, FIRST, b"")).unwrap().options, [0u8; 0]);
    assert_eq!(from_client(&mut t, &says(b"")).unwrap()[0].options, OPTION);
    // It says so without a connection too, to what does not fit one that is being made.
    assert_eq!(from_server(&mut t, &acks(FIRST)).unwrap(), acks(FIRST));
    assert_eq!(from_client(&mut t, &says(b"text")).unwrap()[0].options, OPTION);
    assert_eq!(from_server(&mut t, &acks(after(FIRST, 4))).unwrap(), acks(after(FIRST, 4)));
    assert_eq!(from_client(&mut t, &says(b"text")).unwrap(), [says(b"text")], "it knows");
    t.director.table.list(|slot| assert_eq!(slot.aside(), 0, "the plain way from now on"));
    // The same ports again, in the same entry, are another connection.
    t.tune("conn_reuse_mode", 0);
    from_client(&mut t, &Segment { flags: "FA", seq: after(FIRST, 4), ..says(b"") }).unwrap();
    from_server(&mut t, &Segment { flags: "FA", ..acks(after(FIRST, 5)) }).unwrap();
    from_client(&mut t, &Segment::new("S", ISN, 0, b"")).unwrap();
    from_server(&mut t, &Segment::new("SA", S_ISN, FIRST, b"")).unwrap();
    assert_eq!(from_client(&mut t, &says(b"")).unwrap()[0].options, OPTION);
    // Who speaks first knows.
    from_server(&mut t, &Segment { text: b"220".to_vec(), ..acks(FIRST) }).unwrap();
    assert_eq!(from_client(&mut t, &says(b"")).unwrap(), [says(b"")]);
}

#[test]
fn the_option_has_the_kind_that_the_service_wants_and_nobody_elses_is_believed() {
    let mut t = Table::new(&[told("toa")]);
    t.switch(SERVICE, "toa_kind", "200");
    let forged = [200, 8, 0, 80, 8, 8, 8, 8];
    let syn = Segment::new("S", ISN, 0, b"").with(&forged);
    assert_eq!(from_client(&mut t, &syn).unwrap(), [syn.with(&[1; 8])]);
    from_server(&mut t, &Segment::new("SA", S_ISN, FIRST, b"")).unwrap();
    let sent = from_client(&mut t, &says(b"").with(&forged)).unwrap();
    assert_eq!(sent[0].options, [&[200][..], &OPTION[1..], &[1; 8]].concat());
    // No room: the server is not told, and not lied to.
    let full = [&forged[..], &[1; 32]].concat();
    assert_eq!(from_client(&mut t, &says(b"").with(&full)).unwrap()[0].options, [1; 40]);
}

#[test]
fn an_option_never_makes_a_segment_too_long() {
    let mut t = opened("toa", 1460);
    let long = [7; 1460];
    // Without an acknowledgement before it: one is made.
    let ahead = says(b"").with(&OPTION);
    assert_eq!(from_client(&mut t, &says(&long)).unwrap(), [ahead, says(&long)]);
    assert_eq!(from_client(&mut t, &says(&long)).unwrap(), [says(&long)]);
    // The first time it may share the segment, if that fits the MTU; a router may have found that too long.
    let mut t = opened("toa", 1460);
    let fitting = [7; 1452];
    assert_eq!(from_client(&mut t, &says(&fitting)).unwrap(), [says(&fitting).with(&OPTION)]);
    assert_eq!(from_client(&mut t, &says(&fitting)).unwrap(), [says(&fitting)]);
    let small = [7; 1232];
    assert_eq!(from_client(&mut t, &says(&small)).unwrap(), [says(&small).with(&OPTION)]);
}

#[test]
fn a_wrong_checksum_stays_wrong_with_the_option() {
    let mut t = opened("toa", 1460);
    for text in [&b""[..], b"odd", &[7; 1460]] {
        let mut frame = says(text).frame(C, VIP);
        frame[50] ^= 0x55;
        let (_, sent) = t.batch(0, std::slice::from_ref(&frame), OUTSIDE).remove(0);
        assert_eq!(error(&sent), error(&frame));
        t.made.drain(..).for_each(|(_, made)| assert_eq!(error(&made), error(&frame)));
    }
}
