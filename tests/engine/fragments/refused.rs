//! Fragments that are not believed: overlaps, contradictions about the end, floods, and those whose first does not come.

use std::collections::HashMap;

use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::forward::hops::Route;
use xvs::director::service::Method;

use super::{C, VIP, pool};
use crate::pieces::*;
use crate::table::*;

#[test]
fn what_is_refused_with_the_first_is_refused_with_the_others() {
    let mut t = Table::new(&[pool(Method::Nat)]);
    t.hops.client_route = Route::Unreachable;
    let pieces = cut(&numbered(udp(C, "10.0.0.100:54", &payload(200)), 1), 80);
    let verdicts: Vec<Verdict> = t.batch(0, &pieces, OUTSIDE).into_iter().map(|v| v.0).collect();
    let reason = DropReason::NoService;
    assert_eq!(verdicts, [Verdict::Answer(OUTSIDE, reason), Verdict::Drop(reason), Verdict::Drop(reason)]);
}

#[test]
fn overlaps_end_a_datagram_and_duplicates_do_not() {
    let whole = numbered(udp(C, VIP, &payload(392)), 1); // 400 bytes of payload
    for (parts, reasons) in [
        // Exact duplicates, and one within what is known: dropped, and the datagram goes on.
        (vec![(0, 80), (0, 80), (80, 160), (80, 120), (160, 400)], vec![(1, "dup"), (3, "dup")]),
        (vec![(80, 160), (80, 160), (0, 80), (160, 400)], vec![(1, "dup")]),
        // Overlaps: at the front, at the back, around; nothing goes on after.
        (vec![(0, 80), (72, 160), (160, 400)], vec![(1, "overlap"), (2, "overlap")]),
        (vec![(0, 80), (160, 240), (80, 168), (240, 400)], vec![(2, "overlap"), (3, "overlap")]),
        (vec![(0, 80), (160, 240), (152, 248), (80, 160)], vec![(2, "overlap"), (3, "overlap")]),
    ] {
        let mut t = Table::new(&[pool(Method::Nat)]);
        let pieces: Vec<_> = parts.iter().map(|&(from, to)| piece(&whole, from, to)).collect();
        let verdicts = t.batch(0, &pieces, OUTSIDE);
        for (n, (verdict, _)) in verdicts.iter().enumerate() {
            let expected = match reasons.iter().find(|(at, _)| *at == n) {
                Some((_, "dup")) => Verdict::Drop(DropReason::FragmentDuplicate),
                Some(_) => Verdict::Drop(DropReason::FragmentOverlap),
                None if n == 0 && parts[0].0 > 0 => Verdict::Keep,
                None => Verdict::Transmit(INSIDE),
            };
            assert_eq!(*verdict, expected, "{parts:?}, fragment {n}");
        }
        let mut sent: Vec<_> = verdicts
            .into_iter()
            .filter_map(|(v, f)| matches!(v, Verdict::Transmit(_)).then_some(f))
            .collect();
        sent.extend(t.made.drain(..).map(|(_, frame)| frame));
        if reasons.iter().all(|(_, what)| *what == "dup") {
            assert_eq!(reassembled(&sent)[0][42..], whole[42..]);
        }
        // Whole, or forgotten: the same identification begins another one.
        t.pass(31);
        assert_eq!(reassembled(&through(&mut t, &cut(&whole, 160), OUTSIDE))[0][42..], whole[42..]);
    }
}

#[test]
fn contradictions_about_the_end_and_tiny_fragments_are_refused() {
    let mut t = Table::new(&[pool(Method::Nat)]);
    let whole = numbered(udp(C, VIP, &payload(392)), 1);
    let drop = |t: &mut Table, frame: Vec<u8>| match t.batch(0, &[frame], OUTSIDE).remove(0).0 {
        Verdict::Drop(reason) => Some(reason),
        _ => None,
    };
    // Behind the last one, and a last one before what there was.
    assert_eq!(drop(&mut t, piece(&whole[..190], 80, 160)), None);
    assert_eq!(drop(&mut t, piece(&whole, 240, 320)), Some(DropReason::Fragment));
    assert_eq!(drop(&mut t, piece(&whole, 0, 80)), Some(DropReason::Fragment), "nothing of it goes on");
    let whole = numbered(whole, 2);
    assert_eq!(drop(&mut t, piece(&whole, 240, 320)), None);
    assert_eq!(drop(&mut t, piece(&whole[..200], 80, 166)), Some(DropReason::Fragment));

    let whole = numbered(whole, 3);
    let mut uneven = piece(&whole, 0, 84);
    assert_eq!(drop(&mut t, uneven.clone()), Some(DropReason::Fragment));
    uneven[21] = 0xff;
    uneven[20] = 0x3f;
    mend_ip(&mut uneven);
    assert_eq!(drop(&mut t, uneven), Some(DropReason::Fragment), "beyond 65,535 bytes");
    let segment = numbered(tcp(C, "10.0.0.100:80", "S"), 4);
    for len in [8, 16] {
        assert_eq!(drop(&mut t, piece(&segment, 0, len)), Some(DropReason::FragmentTiny));
    }
    assert_eq!(t.director.table.len(), 0);
}

#[test]
fn a_fragment_whose_first_does_not_come_waits_a_second_and_no_longer() {
    let mut t = Table::new(&[pool(Method::Nat)]);
    let pieces = cut(&numbered(udp(C, VIP, &payload(200)), 1), 80);
    assert_eq!(t.batch(1, &[pieces[1].clone()], OUTSIDE)[0].0, Verdict::Keep);
    t.pass(1);
    assert_eq!(t.director.drops(), []);
    assert_eq!(through(&mut t, &pieces[..1], OUTSIDE).len(), 2, "in time");
    let pieces = cut(&numbered(udp(C, VIP, &payload(200)), 2), 80);
    t.batch(1, &[pieces[1].clone(), pieces[2].clone()], OUTSIDE);
    t.pass(2);
    assert_eq!(t.director.drops(), [(DropReason::FragmentAlone, 2)]);
    assert_eq!(through(&mut t, &pieces[..1], OUTSIDE).len(), 1);
}

#[test]
fn floods_are_bounded_and_datagrams_in_order_go_on_through_them() {
    let mut t = Table::sized(&[pool(Method::Nat)], 8192, 2);
    t.one(0, udp(C, VIP, b"?"), OUTSIDE).unwrap();
    let junk = payload(1400);
    for first in [false, true] {
        let mut id = 0u32;
        for round in 0..100u16 {
            let mut frames: Vec<Vec<u8>> = (0..60)
                .map(|n| {
                    id += 1;
                    let from = format!("198.18.{}.{}:9", id / 250, id % 250);
                    let whole = numbered(udp(&from, VIP, &junk), round);
                    if first { piece(&whole, 0, 64 + n / 60) } else { piece(&whole, 64, 1400) }
                })
                .collect();
            let whole = numbered(udp(C, VIP, &payload(3000)), 1000 + round + 100 * u16::from(first));
            let mine = cut(&whole, 1400);
            frames.extend(mine);
            let verdicts = t.batch(usize::from(round % 2), &frames, OUTSIDE);
            let sent: Vec<_> = verdicts[60..].iter().map(|(_, frame)| frame.clone()).collect();
            assert!(verdicts[60..].iter().all(|(v, _)| *v == Verdict::Transmit(INSIDE)), "{verdicts:?}");
            assert_eq!(reassembled(&sent)[0][42..], whole[42..]);
        }
        let drops: HashMap<_, _> = t.director.drops().into_iter().collect();
        if !first {
            assert_eq!(drops[&DropReason::FragmentsFull], 6000 - 512, "no more than those are kept");
        }
        t.pass(2);
    }
    let drops: HashMap<_, _> = t.director.drops().into_iter().collect();
    assert_eq!(drops[&DropReason::FragmentAlone], 512);
    assert_eq!(drops.len(), 2, "{drops:?}");
}
