//! 802.1Q: frames leave with the tag of their way out, whatever tag they came with, and are otherwise as ever.

use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::forward::hops::{PortId, Route};
use xvs::director::service::{Method, Pool, Protocol, Tunnel};
use xvs::packet::checksum;

use crate::table::*;

const C: &str = "192.0.2.7:40000";
const NAT: &str = "10.0.0.100:80";
const DR: &str = "10.0.0.101:80";
const TUN: &str = "10.0.0.102:80";
const DNS: &str = "10.0.0.100:53";
const S: &str = "10.1.0.11:8080";
/// Bits of a tag that say its priority.
const PRIORITY: u16 = 0xa000;

fn services() -> Vec<Pool> {
    vec![
        service(Protocol::Tcp, NAT, Method::Nat, &[(S, 1)]),
        service(Protocol::Tcp, DR, Method::Dr, &[("10.1.0.12:80", 1)]),
        service(Protocol::Tcp, TUN, Method::Tun(Tunnel::Ipip), &[("10.1.0.13:80", 1)]),
        service(Protocol::Udp, DNS, Method::Nat, &[("10.1.0.11:5353", 1)]),
    ]
}

/// The frame under a tag with a priority, if there is to be one.
fn under(vlan: Option<u16>, frame: &[u8]) -> Vec<u8> {
    let tag = vlan.map(|id| [[0x81, 0], (PRIORITY | id).to_be_bytes()].concat());
    [&frame[..12], &tag.unwrap_or_default(), &frame[12..]].concat()
}

/// The VLAN of a frame, and the frame without its tag.
fn untagged(frame: &[u8]) -> (Option<u16>, Vec<u8>) {
    if frame[12..14] != [0x81, 0] {
        return (None, frame.to_vec());
    }
    let id = u16::from_be_bytes([frame[14], frame[15]]) & 0xfff;
    (Some(id), [&frame[..12], &frame[16..]].concat())
}

/// The packet with these bits in place of its flags and fragment offset, and its header's checksum right.
fn flagged(mut frame: Vec<u8>, flags: u16) -> Vec<u8> {
    frame[20..22].copy_from_slice(&flags.to_be_bytes());
    mend_ip(&mut frame);
    frame
}

/// Every pair of tags outside and inside.
fn pairs() -> impl Iterator<Item = [Option<u16>; 2]> {
    let all = [None, Some(10), Some(20)];
    all.into_iter().flat_map(move |outside| all.map(|inside| [outside, inside]))
}

fn with(vlans: [Option<u16>; 2]) -> Table {
    let mut t = Table::new(&services());
    t.hops.vlans = vlans;
    t
}

/// What leaves when this arrives at `port` under the tag of that side: by which interface, in which VLAN, and the frame
/// without its tag.
fn forwarded(t: &mut Table, frame: &[u8], port: PortId) -> (PortId, Option<u16>, Vec<u8>) {
    let frame = under(t.hops.vlans[usize::from(port)], frame);
    let (verdict, after) = t.batch(0, &[frame], port).remove(0);
    let Verdict::Transmit(port) = verdict else { panic!("{verdict:?}") };
    let (vlan, plain) = untagged(&after);
    (port, vlan, plain)
}

#[test]
fn every_pair_of_tags_in_both_directions_and_by_every_method() {
    for vlans @ [outside, inside] in pairs() {
        let (mut tagged, mut plain) = (with(vlans), with([None; 2]));
        for (vip, flags) in [NAT, DR, TUN].into_iter().flat_map(|vip| [(vip, "S"), (vip, "A"), (vip, "FA")]) {
            let frame = tcp(C, vip, flags);
            let (port, vlan, after) = forwarded(&mut tagged, &frame, OUTSIDE);
            assert_eq!((port, vlan), (INSIDE, inside), "{vip} {vlans:?}");
            assert_eq!(after, forwarded(&mut plain, &frame, OUTSIDE).2, "as without tags: {vip} {vlans:?}");
            let reply = tcp(S, C, "SA");
            let (port, vlan, after) = forwarded(&mut tagged, &reply, INSIDE);
            assert_eq!((port, vlan), (OUTSIDE, outside), "{vlans:?}");
            assert_eq!(after, forwarded(&mut plain, &reply, INSIDE).2, "as without tags: {vlans:?}");
        }
    }
}

#[test]
fn a_tag_that_is_written_over_keeps_its_priority() {
    let mut t = with([Some(10), Some(20)]);
    let after = t.forwarded(&under(Some(10), &tcp(C, NAT, "S")));
    assert_eq!(after[12..16], [0x81, 0, 0xa0, 20]);
    // A tag that says only a priority is one to write over too, or to take away.
    let only_priority = [&tcp(C, NAT, "A")[..12], &[0x81, 0, 0xa0, 0], &tcp(C, NAT, "A")[12..]].concat();
    let (_, after) = t.batch(0, &[only_priority], OUTSIDE).remove(0);
    assert_eq!(after[12..18], [0x81, 0, 0xa0, 20, 8, 0]);
}

#[test]
fn room_in_front_that_is_not_used_is_closed_and_the_tag_is_right() {
    for vlans @ [outside, inside] in pairs() {
        let mut t = with(vlans);
        let frame = under(outside, &tcp(C, NAT, "S"));
        let mark = [&0x88b5u16.to_be_bytes()[..], &20u16.to_be_bytes(), &[0; 4]].concat();
        let roomy = [&frame[..12], &mark, &frame[..]].concat();
        let (verdict, after) = t.batch(0, &[roomy], OUTSIDE).remove(0);
        assert_eq!(verdict, Verdict::Transmit(INSIDE), "{vlans:?}");
        let (vlan, plain) = untagged(&after);
        assert_eq!((vlan, read(&plain, INSIDE).to.as_str()), (inside, S), "{vlans:?}");
        assert_eq!(plain.len(), tcp(C, NAT, "S").len());
    }
}

#[test]
fn what_is_too_long_leaves_in_pieces_of_its_way_outs_vlan() {
    for vlans @ [_, inside] in pairs() {
        let mut t = with(vlans);
        t.hops.mtu = 300;
        let payload: Vec<u8> = (0..=255).cycle().take(700).collect();
        let (_, vlan, first) = forwarded(&mut t, &flagged(udp(C, DNS, &payload), 0), OUTSIDE);
        let mut all = first[42..].to_vec();
        assert_eq!((vlan, t.made.len()), (inside, 2), "{vlans:?}");
        for (port, piece) in &t.made {
            let (vlan, plain) = untagged(piece);
            assert_eq!((*port, vlan), (INSIDE, inside), "{vlans:?}");
            assert_eq!(checksum::of(&plain[14..34]), 0, "IP header checksum");
            all.extend(&plain[34..]);
        }
        assert_eq!(all, payload, "{vlans:?}");
    }
}

#[test]
fn fragments_get_the_tag_in_any_order() {
    for vlans @ [outside, inside] in pairs() {
        let mut t = with(vlans);
        let whole = udp(C, DNS, &[7; 64]);
        let fragment = |from: usize, to: usize, offset_and_more: u16| {
            let mut frame = [&whole[..34], &whole[34 + from..34 + to]].concat();
            frame[16..18].copy_from_slice(&u16::try_from(20 + to - from).unwrap().to_be_bytes());
            under(outside, &flagged(frame, offset_and_more))
        };
        let (first, second) = (fragment(0, 40, 0x2000), fragment(40, 72, 5));
        for order in [[&first, &second], [&second, &first]] {
            let mut out: Vec<Vec<u8>> = Vec::new();
            for frame in order {
                let (verdict, after) = t.batch(0, std::slice::from_ref(frame), OUTSIDE).remove(0);
                if verdict != Verdict::Keep {
                    assert_eq!(verdict, Verdict::Transmit(INSIDE));
                    out.push(after);
                }
            }
            out.extend(t.made.drain(..).map(|(_, frame)| frame));
            assert_eq!(out.len(), 2, "{vlans:?}");
            for frame in out {
                let (vlan, plain) = untagged(&frame);
                assert_eq!((vlan, &plain[30..34]), (inside, &[10, 1, 0, 11][..]), "{vlans:?}");
            }
        }
    }
}

#[test]
fn an_icmp_error_gets_the_tag_of_its_own_way() {
    for vlans @ [outside, inside] in pairs() {
        let mut t = with(vlans);
        forwarded(&mut t, &tcp(C, NAT, "S"), OUTSIDE);
        forwarded(&mut t, &tcp(C, DR, "S"), OUTSIDE);
        // What the server says of the client's packet, and the client of the server's.
        let of = |from: &str, to: &str, quoted: &[u8]| {
            let message = [&[3, 3, 0, 0, 0, 0, 0, 0], &quoted[14..]].concat();
            let mut message = message;
            let sum = checksum::of(&message);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            ip(from.parse().unwrap(), to.parse().unwrap(), 1, &message)
        };
        let of_server = of("10.1.0.11", "192.0.2.7", &tcp(C, S, "S"));
        let (port, vlan, plain) = forwarded(&mut t, &of_server, INSIDE);
        assert_eq!((port, vlan, checksum::of(&plain[34..])), (OUTSIDE, outside, 0), "{vlans:?}");
        for vip in [NAT, DR] {
            let of_client = of("192.0.2.7", &vip[..10], &tcp(vip, C, "A"));
            let (port, vlan, plain) = forwarded(&mut t, &of_client, OUTSIDE);
            assert_eq!((port, vlan, checksum::of(&plain[34..])), (INSIDE, inside, 0), "{vlans:?}");
        }
    }
}

#[test]
fn who_is_refused_is_told_in_the_vlan_it_is_in() {
    for vlans @ [outside, _] in pairs() {
        let mut t = with(vlans);
        for (to, reason, says) in [
            ("10.0.0.100:81", DropReason::NoService, "10.0.0.100:81 resets 192.0.2.7:40000"),
            (NAT, DropReason::NoConnection, "10.0.0.100:80 resets 192.0.2.7:40000"),
        ] {
            let (verdict, answer) = t.batch(0, &[under(outside, &tcp(C, to, "A"))], OUTSIDE).remove(0);
            assert_eq!(verdict, Verdict::Answer(OUTSIDE, reason));
            let (vlan, plain) = untagged(&answer);
            assert_eq!((vlan, read_answer(&plain).as_str()), (outside, says), "{vlans:?}");
        }
        t.hops.mtu = 100;
        let long = flagged(udp(C, DNS, &[0; 200]), 0x4000);
        let (verdict, answer) = t.batch(0, &[under(outside, &long)], OUTSIDE).remove(0);
        assert_eq!(verdict, Verdict::Answer(OUTSIDE, DropReason::TooBig));
        let (vlan, plain) = untagged(&answer);
        assert_eq!(
            (vlan, read_answer(&plain).as_str()),
            (outside, "10.0.0.100 tells 192.0.2.7: type 3 code 4")
        );
    }
}

/// The kernel has no neighbour for it: the way back is what its own packets show, and that includes the VLAN.
#[test]
fn a_client_without_a_neighbour_is_answered_in_the_vlan_it_came_from() {
    for vlan in [None, Some(10), Some(4094)] {
        let mut t = with([vlan, Some(20)]);
        t.hops.client_route = Route::Unknown;
        forwarded(&mut t, &tcp(C, NAT, "S"), OUTSIDE);
        let (port, got, after) = forwarded(&mut t, &tcp(S, C, "SA"), INSIDE);
        assert_eq!((port, got, read(&after, port).dst_mac), (OUTSIDE, vlan, CLIENT_MAC));
    }
}

#[test]
fn a_frame_without_room_for_a_tag_is_dropped_by_its_own_reason() {
    let mut t = with([None, Some(20)]);
    let mut frame = tcp(C, NAT, "S");
    let len = frame.len();
    frame.extend([0; 3]);
    let packet = xvs::director::engine::Packet { room: &mut frame, len, port: OUTSIDE };
    let mut verdicts = xvs::director::engine::Verdicts::new();
    t.engines[0].process(&mut [packet].into_iter().collect(), &t.hops, t.now, &mut verdicts);
    assert_eq!(verdicts[0], Verdict::Drop(DropReason::Vlan));
}

/// Another network, whose addresses may be the same: the kernel's.
#[test]
fn providers_tags_and_second_tags_are_not_forwarded() {
    let mut t = with([Some(10), Some(10)]);
    let frame = tcp(C, NAT, "S");
    let provider = [&frame[..12], &[0x88, 0xa8, 0, 10], &frame[12..]].concat();
    for refused in [provider.clone(), under(Some(10), &under(Some(10), &frame)), under(Some(10), &provider)] {
        assert_eq!(t.batch(0, &[refused], OUTSIDE).remove(0).0, Verdict::Drop(DropReason::NotIp));
    }
}
