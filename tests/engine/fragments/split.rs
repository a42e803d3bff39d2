//! Packets that are too long for their way and may be fragmented: the director splits them, whole ones, fragments, and those
//! that a tunnel makes longer.

use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::service::{Method, Tunnel, TunnelChecksum};

use super::{C, SERVER, SERVER_MAC, VIP, pool};
use crate::pieces::*;
use crate::table::*;

/// A packet, or a fragment, that is too long for the way out and may be fragmented.
#[test]
fn what_is_too_long_is_split_unless_it_must_not_be() {
    for method in [Method::Nat, Method::Dr] {
        for mtu in [68, 100, 576, 1000] {
            let mut t = Table::new(&[pool(method)]);
            t.hops.mtu = mtu;
            let data = payload(1400);
            let whole = numbered(udp(C, VIP, &data), 7);
            let sent = through(&mut t, std::slice::from_ref(&whole), OUTSIDE);
            assert!(sent.len() > 1 && sent.iter().all(|frame| frame.len() <= 14 + usize::from(mtu)));
            let packet = reassembled(&sent).remove(0);
            let to = if method == Method::Nat { SERVER } else { VIP };
            assert_eq!((read(&packet, 9).to.as_str(), &packet[42..]), (to, &data[..]));
            // Fragments of fragments, the first of them last.
            let mut pieces = cut(&numbered(whole.clone(), 8), 1000);
            pieces.reverse();
            let packet = reassembled(&through(&mut t, &pieces, OUTSIDE)).remove(0);
            assert_eq!((read(&packet, 9).to.as_str(), &packet[42..]), (to, &data[..]));
            if method == Method::Nat {
                let whole = numbered(udp(SERVER, C, &data), 9);
                let packet = reassembled(&through(&mut t, &[whole], INSIDE)).remove(0);
                assert_eq!((read(&packet, 9).from.as_str(), &packet[42..]), (VIP, &data[..]));
            }
            assert_eq!(t.director.drops(), []);
            let mut fixed = whole.clone();
            fixed[20] = 0x40;
            mend_ip(&mut fixed);
            let (verdict, answer) = t.batch(0, &[fixed], OUTSIDE).remove(0);
            assert_eq!(verdict, Verdict::Answer(OUTSIDE, DropReason::TooBig));
            assert_eq!(answer[40..42], mtu.to_be_bytes());
        }
    }
}

/// The steering program has made room for a tunnel, and the packet goes to a server without one, in pieces.
#[test]
fn pieces_have_no_room_in_front() {
    let mut t = Table::new(&[pool(Method::Nat)]);
    t.hops.mtu = 576;
    let whole = numbered(udp(C, VIP, &payload(1400)), 7);
    let mut grown = [&whole[..12], &0x88b5u16.to_be_bytes()[..], &20u16.to_be_bytes()].concat();
    grown.resize(20, 0xdd);
    grown.extend(&whole);
    let first = t.forwarded(&grown);
    let mut sent = vec![first];
    sent.extend(t.made.drain(..).map(|(_, frame)| frame));
    let packet = reassembled(&sent).remove(0);
    assert_eq!((read(&packet, 9).to.as_str(), &packet[42..]), (SERVER, &whole[42..]));
    assert!(sent.iter().all(|frame| frame[..6] == SERVER_MAC));
}

#[test]
fn the_outer_packet_is_split_and_two_workers_number_theirs_differently() {
    for tunnel in [Tunnel::Ipip, Tunnel::Gue { port: 6080, checksum: TunnelChecksum::Full }] {
        let mut t = Table::new(&[pool(Method::Tun(tunnel))]);
        let data = payload(1472);
        let mut sent = Vec::new();
        for (worker, id) in [(0, 1), (1, 2), (0, 3), (1, 4)] {
            let (verdict, after) = t.batch(worker, &[numbered(udp(C, VIP, &data), id)], OUTSIDE).remove(0);
            assert_eq!(verdict, Verdict::Transmit(INSIDE));
            sent.push(after);
        }
        sent.extend(t.made.drain(..).map(|(_, frame)| frame));
        assert!(sent.len() == 8 && sent.iter().all(|frame| frame.len() <= 1514));
        let outer = reassembled(&sent);
        assert_eq!(outer.len(), 4);
        for packet in outer {
            let inner = [&packet[..14], &packet[14 + tunnel.overhead(true)..]].concat();
            assert_eq!((read(&inner, 9).to.as_str(), &inner[42..]), (VIP, &data[..]));
        }
    }
}

#[test]
fn options_go_into_later_pieces_only_if_they_are_to_be_copied() {
    let mut t = Table::new(&[pool(Method::Nat)]);
    t.hops.mtu = 500;
    let mut frame = numbered(udp(C, VIP, &payload(900)), 1);
    // Record route, which is not copied, and a security option, which is.
    frame.splice(34..34, [7, 3, 4, 0x82, 4, 9, 9, 0]);
    frame[14] += 2;
    let len = u16::try_from(frame.len() - 14).unwrap();
    frame[16..18].copy_from_slice(&len.to_be_bytes());
    mend_ip(&mut frame);
    let sent = through(&mut t, &[frame], OUTSIDE);
    assert_eq!(sent[0][34..42], [7, 3, 4, 0x82, 4, 9, 9, 0]);
    assert!(sent.len() == 2 && sent[1][34..42] == [1, 1, 1, 0x82, 4, 9, 9, 0]);
    read(&reassembled(&sent)[0], 9);
}

#[test]
fn a_batch_that_makes_too_many_frames_loses_whole_packets_and_counts_them() {
    let mut t = Table::new(&[pool(Method::Nat)]);
    t.hops.mtu = 68;
    let frames: Vec<_> = (0..20).map(|id| numbered(udp(C, VIP, &payload(472)), id)).collect(); // ten pieces each
    let verdicts = t.batch(0, &frames, OUTSIDE);
    let gone = verdicts.iter().filter(|(v, _)| *v == Verdict::Drop(DropReason::OutboxFull)).count();
    assert_eq!((gone, t.made.len()), (20 - 14, 14 * 9));
    let mut sent: Vec<_> =
        verdicts.into_iter().filter(|(v, _)| matches!(v, Verdict::Transmit(_))).map(|v| v.1).collect();
    sent.extend(t.made.drain(..).map(|(_, frame)| frame));
    assert_eq!(reassembled(&sent).len(), 14);
    assert_eq!(t.director.drops(), [(DropReason::OutboxFull, 6)]);
}

/// Held fragments that are split on their way out: the outbox takes all pieces of each, or none.
#[test]
fn a_held_fragment_that_is_split_goes_whole_or_not_at_all() {
    let mut t = Table::new(&[pool(Method::Nat)]);
    t.hops.mtu = 68;
    // Ten pieces of 48 bytes each; when there are nine places left, one is missing.
    let (count, units) = (30, 10);
    let whole = numbered(udp(C, VIP, &payload(count * units * 48 - 8)), 1);
    let mut pieces = cut(&whole, units * 48);
    pieces.rotate_left(1);
    let verdicts = t.batch(0, &pieces, OUTSIDE);
    assert!(verdicts[..count - 1].iter().all(|(verdict, _)| *verdict == Verdict::Keep));
    // All but one of the first, which goes by itself, and all of the others.
    let made = t.made.len();
    assert_eq!(made, (units - 1) + (128 - (units - 1)) / units * units);
    let lost = t.director.drops();
    assert_eq!(lost, [(DropReason::OutboxFull, (count - 1 - (made - (units - 1)) / units) as u64)]);
}
