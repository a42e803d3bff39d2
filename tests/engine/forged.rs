//! Whatever a client sends, and whatever a server answers: no byte but the director's is where a server looks for its
//! client's address, checksums stay as right or as wrong as they were, and what is dropped is unchanged.

use proptest::prelude::*;
use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;

use crate::segments::{C, HEADER, R, Segment, VIP, error, mend, told};
use crate::table::*;
use crate::told_across::FOUR_TO_SIX;

const FIRST: u32 = 100;
const S_FIRST: u32 = 5000;
const OPTION: [u8; 8] = [254, 8, 0x9c, 0x40, 192, 0, 2, 7];
const MTU: usize = 1500;

const FLAGS: [&str; 10] = ["A", "A", "FA", "S", "SA", "R", "UA", "SFRUPA", "", "PA"];

#[derive(Clone, Debug)]
struct Hostile {
    is_client: bool,
    segment: Segment,
    /// Bytes changed afterwards, by place; the transport checksum is made right then, or not.
    edits: Vec<(usize, u8)>,
    mended: bool,
    padding: usize,
    fragment: bool,
}

impl Hostile {
    fn frame(&self) -> Vec<u8> {
        let (from, to) = if self.is_client { (C, VIP) } else { (R, C) };
        let mut frame = self.segment.frame(from, to);
        for &(place, value) in &self.edits {
            // The ports stay: it is to be a packet of this connection.
            let place = 38 + place % (frame.len() - 38);
            frame[place] = value;
        }
        if self.mended {
            mend(&mut frame);
        }
        if self.fragment {
            frame[20] = 0x20;
            frame.truncate(34 + (frame.len() - 34) / 8 * 8);
            let len = u16::try_from(frame.len() - 14).unwrap();
            frame[16..18].copy_from_slice(&len.to_be_bytes());
            mend_ip(&mut frame);
        }
        frame.resize(frame.len() + self.padding, 0xa5);
        frame
    }
}

/// Numbers around the header's place, and any.
fn near(first: u32) -> impl Strategy<Value = u32> {
    prop_oneof![
        6 => Just(first),
        6 => (0..120u32).prop_map(move |n| first.wrapping_add(n).wrapping_sub(40)),
        1 => any::<u32>(),
    ]
}

fn options() -> impl Strategy<Value = Vec<u8>> {
    let toa = Just(vec![254, 8, 0, 80, 8, 8, 8, 8]);
    let sack = (near(FIRST), near(FIRST))
        .prop_map(|(from, to)| [&[1, 1, 5, 10][..], &from.to_be_bytes(), &to.to_be_bytes()].concat());
    let any = proptest::collection::vec(prop_oneof![any::<u8>(), Just(254), 0..10u8], 0..40);
    prop_oneof![3 => Just(vec![]), 1 => toa, 1 => sack, 2 => any]
}

fn hostile() -> impl Strategy<Value = Hostile> {
    let text = prop_oneof![
        3 => Just(vec![]),
        4 => proptest::collection::vec(any::<u8>(), 0..80),
        1 => (1380..1460usize).prop_map(|len| vec![7; len]),
    ];
    let segment = (0..FLAGS.len(), near(FIRST), near(FIRST), options(), text, any::<u16>());
    let wire = (
        proptest::collection::vec(any::<(usize, u8)>(), 0..3),
        any::<bool>(),
        0..9usize,
        proptest::bool::weighted(0.1),
    );
    (proptest::bool::weighted(0.7), segment, wire).prop_map(
        |(
            is_client,
            (flags, near, other, mut options, text, urgent),
            (mut edits, mended, padding, fragment),
        )| {
            let (seq, ack) = if is_client { (near, S_FIRST) } else { (S_FIRST, other) };
            options.truncate(if text.len() > 1000 { 0 } else { 40 });
            edits.truncate(if mended { 3 } else { 1 });
            let segment = Segment { urgent, ..Segment::new(FLAGS[flags], seq, ack, &text).with(&options) };
            Hostile { is_client, segment, edits, mended, padding, fragment }
        },
    )
}

/// The first option of this kind, as the servers' module finds it.
fn find_option(header: &[u8]) -> Option<&[u8]> {
    let mut options = header.get(20..)?;
    loop {
        match options {
            [] | [0, ..] => return None,
            [1, rest @ ..] => options = rest,
            [kind, len, ..] if usize::from(*len) >= 2 && usize::from(*len) <= options.len() => {
                let (option, rest) = options.split_at(usize::from(*len));
                if *kind == 254 {
                    return Some(option);
                }
                options = rest;
            }
            _ => return None,
        }
    }
}

/// What a server makes of a segment that arrives.
fn check_at_server(tcp: &[u8], how: &str, is_fragment: bool) {
    let flags = tcp[13];
    assert!(usize::from(tcp[12] >> 4) * 4 <= tcp.len(), "all options are here, in fragments too");
    let (header, text) = tcp.split_at(usize::from(tcp[12] >> 4) * 4);
    if how == "toa" {
        if let Some(option) = find_option(header)
            && flags & 4 == 0
        {
            assert!(option == OPTION || flags & 2 != 0, "{option:?}");
            assert!(flags & 2 == 0, "never on a SYN");
        }
        return;
    }
    let seq = u32::from_be_bytes(tcp[4..8].try_into().unwrap());
    if flags & 2 != 0 {
        assert!(text.is_empty() && !is_fragment, "a SYN has no text");
        return;
    }
    if flags & 4 != 0 {
        return;
    }
    for (byte, place) in text.iter().zip(i64::from(seq.wrapping_sub(FIRST).cast_signed())..) {
        if let Some(own) = usize::try_from(place).ok().and_then(|place| HEADER.get(place)) {
            assert_eq!(byte, own, "at {place} of the header");
        }
    }
    let end = i64::from(seq.wrapping_sub(FIRST).cast_signed()) + i64::try_from(text.len()).unwrap();
    assert!(flags & 1 == 0 || !(0..28).contains(&end), "the end is not in the header");
    if is_fragment {
        assert!(!(0..28).contains(&end), "nor does it begin in another fragment");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]
    #[test]
    fn only_the_director_says_who_a_client_is(
        how in prop_oneof![Just("proxy"), Just("toa")],
        all in proptest::collection::vec(hostile(), 1..24),
    ) {
        let mut t = Table::new(&[told(how)]);
        let syn = Segment::new("S", FIRST - 1, 0, b"").frame(C, VIP);
        let answer = Segment::new("SA", S_FIRST - 1, FIRST, b"").with(&[2, 4, 5, 0xb4]).frame(R, C);
        t.batch(0, &[syn], OUTSIDE);
        t.batch(0, &[answer], INSIDE);
        let mut has_header = false;
        for hostile in all {
            let mut frame = hostile.frame();
            // What a server says is true: it answers no SYN but the one there was, and has no connection yet.
            let is_early = |segment: &Segment| {
                !segment.text.is_empty() || segment.flags.contains('F') || segment.ack.wrapping_sub(FIRST) < 1 << 31 && segment.ack != FIRST
            };
            let is_edited = !hostile.edits.is_empty();
            if !hostile.is_client
                && (frame.get(47).is_some_and(|flags| flags & 2 != 0)
                    || how == "toa" && (is_edited || is_early(&hostile.segment)))
            {
                continue;
            }
            frame.truncate(frame.len().min(1514));
            let port = if hostile.is_client { OUTSIDE } else { INSIDE };
            let (verdict, after) = t.batch(frame.len() % 2, &[frame.clone()], port).remove(0);
            let made = std::mem::take(&mut t.made);
            match verdict {
                Verdict::Transmit(to) => {
                    if !hostile.is_client && frame[47] & 16 != 0 {
                        // What a server acknowledges it has, and nobody writes there any more.
                        let acknowledged = u32::from_be_bytes(frame[42..46].try_into().unwrap());
                        has_header |= (28..1 << 31).contains(&acknowledged.wrapping_sub(FIRST));
                    }
                    let is_fragment = hostile.fragment && after[20] & 0x20 != 0;
                    let is_right = error(&frame[..14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]))]);
                    for sent in [&after].into_iter().chain(made.iter().map(|(_, frame)| frame)) {
                        let len = usize::from(u16::from_be_bytes([sent[16], sent[17]]));
                        prop_assert!(len <= MTU && sent.len() >= 14 + len);
                        prop_assert_eq!(xvs::packet::checksum::of(&sent[14..34]), 0, "IP header checksum");
                        if !is_fragment {
                            prop_assert_eq!(error(&sent[..14 + len]), is_right, "as right or wrong as it was");
                        }
                        if to == INSIDE && !has_header {
                            check_at_server(&sent[34..14 + len], how, is_fragment);
                        }
                    }
                }
                Verdict::Drop(DropReason::FragmentDuplicate | DropReason::FragmentOverlap) | Verdict::Keep => {}
                Verdict::Drop(_) => prop_assert!(after == frame && made.is_empty(), "dropped is unchanged"),
                Verdict::Answer(..) => prop_assert!(made.is_empty()),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Nor to a server of the other IP version, whose packets are other ones.
    #[test]
    fn nor_does_a_client_say_so_across(
        how in prop_oneof![Just("proxy"), Just("toa")],
        all in proptest::collection::vec(hostile(), 1..24),
    ) {
        let way = FOUR_TO_SIX;
        let mut t = way.table(how);
        let syn = Segment::new("S", FIRST - 1, 0, b"").frame(C, VIP);
        let answer = Segment::new("SA", S_FIRST - 1, FIRST, b"").with(&[2, 4, 5, 0xa0]).frame(way.server, way.local);
        t.batch(0, &[syn], OUTSIDE);
        t.batch(0, &[answer], INSIDE);
        for hostile in all {
            let mut frame = Hostile { is_client: true, ..hostile }.frame();
            frame.truncate(frame.len().min(1514));
            let (verdict, after) = t.batch(frame.len() % 2, std::slice::from_ref(&frame), OUTSIDE).remove(0);
            let made = std::mem::take(&mut t.made);
            let Verdict::Transmit(INSIDE) = verdict else { continue };
            let is_right = error(&frame[..14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]))]);
            for sent in [&after].into_iter().chain(made.iter().map(|(_, frame)| frame)) {
                let end = 54 + usize::from(u16::from_be_bytes([sent[18], sent[19]]));
                prop_assert!(end <= 14 + MTU && sent.len() >= end && sent[14] >> 4 == 6);
                let is_fragment = sent[20] == 44;
                if is_fragment && u16::from_be_bytes([sent[56], sent[57]]) >= 8 {
                    // It was split again: no link of IPv6 need carry more than 1280 bytes.
                    continue;
                }
                let tcp = &sent[if is_fragment { 62 } else { 54 }..end];
                if !is_fragment {
                    let len = u16::try_from(tcp.len()).unwrap().to_be_bytes();
                    let pseudo = [&sent[22..54], &[0, 6], &len, tcp].concat();
                    let wrong = u32::from(xvs::packet::checksum::of(&pseudo)) % 0xffff;
                    prop_assert_eq!(wrong, is_right, "as right or wrong as it was");
                }
                check_at_server(tcp, how, is_fragment);
            }
        }
    }
}
