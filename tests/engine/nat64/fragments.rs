//! FULLNAT between IP versions: what comes in fragments, and what is too long for its way and becomes fragments.

use std::net::SocketAddr;

use etherparse::{Ipv4HeaderSlice, NetSlice, SlicedPacket};
use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::service::Protocol;
use xvs::packet::checksum;

use super::{C, L, L3, S, V4, V6, VIP, out, sent, split, table, table_of, without_df};
use crate::table::*;

/// The payload of fragments, put together by what their headers say, which are checked; and their identification.
pub(super) fn together(frames: &[Vec<u8>], mtu: usize) -> (Vec<u8>, u32) {
    let (mut whole, mut end, mut ids) = (vec![0xee; 65_535], None, Vec::new());
    for frame in frames {
        assert!(frame.len() <= L3 + mtu, "{} bytes", frame.len());
        let packet = &frame[L3..];
        let (id, offset, more, bytes) = if packet[0] >> 4 == 4 {
            let ip = Ipv4HeaderSlice::from_slice(packet).unwrap();
            assert_eq!(checksum::of(ip.slice()), 0);
            assert_eq!((usize::from(ip.total_len()), ip.ttl()), (packet.len(), 63));
            assert!(!ip.dont_fragment());
            assert_eq!(
                (ip.source_addr().to_string(), ip.destination_addr().to_string()),
                ("10.1.0.2".into(), "10.1.0.11".into())
            );
            (
                ip.identification().into(),
                ip.fragments_offset().byte_offset(),
                ip.more_fragments(),
                &packet[V4..],
            )
        } else {
            let sliced = SlicedPacket::from_ethernet(frame).unwrap();
            let Some(NetSlice::Ipv6(ip)) = &sliced.net else { panic!("{sliced:?}") };
            let header = ip.header();
            assert_eq!((usize::from(header.payload_length()), header.hop_limit()), (packet.len() - V6, 63));
            assert_eq!(
                (header.source_addr().to_string(), header.destination_addr().to_string()),
                ("2001:db8::100".into(), "2001:db8:7::7".into())
            );
            let fragment = etherparse::Ipv6FragmentHeader::from_slice(&packet[V6..]).unwrap().0;
            assert_eq!(fragment.next_header.0, 17);
            let offset = fragment.fragment_offset.byte_offset();
            (fragment.identification, offset, fragment.more_fragments, &packet[V6 + 8..])
        };
        let from = usize::from(offset);
        assert!(whole[from..from + bytes.len()].iter().all(|byte| *byte == 0xee), "no overlap");
        whole[from..from + bytes.len()].copy_from_slice(bytes);
        ids.push(id);
        if !more {
            assert_eq!(end.replace(from + bytes.len()), None, "one last fragment");
        }
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "one datagram");
    whole.truncate(end.expect("a last fragment"));
    assert!(!whole.contains(&0xee), "no gap");
    (whole, ids[0])
}

/// Checks a whole datagram between these two, and gives back its text.
pub(super) fn text(datagram: &[u8], from: &str, to: &str) -> Vec<u8> {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
    assert_eq!(datagram[..4], [from.port().to_be_bytes(), to.port().to_be_bytes()].concat());
    assert_eq!(checksum::of_transport(from.ip(), to.ip(), 17, datagram), 0, "UDP checksum");
    datagram[8..].to_vec()
}

#[test]
fn what_may_be_fragmented_is() {
    let mut t = table(Protocol::Udp);
    // A server's that does not care, as short as every link of IPv6 takes.
    for (size, count) in [(1232, 1), (1233, 2), (1472, 2)] {
        let frame = out(&mut t, without_df(udp(S, L, &vec![7; size])), INSIDE);
        let all: Vec<Vec<u8>> = [frame]
            .into_iter()
            .chain(t.made.drain(..).map(|(port, frame)| {
                assert_eq!(port, OUTSIDE);
                frame
            }))
            .collect();
        assert_eq!(all.len(), count, "{size}");
        if count == 1 {
            assert_eq!(Ok(read(&all[0], OUTSIDE)), sent(OUTSIDE, ROUTER_MAC, VIP, C));
        } else {
            assert_eq!(text(&together(&all, 1280).0, VIP, C), vec![7; size]);
        }
    }
    // A client's that is as short as it can be told: the links of IPv4 behind are shorter.
    t.hops.mtu = 600;
    let frame = out(&mut t, udp(C, VIP, &[7; 1232]), OUTSIDE);
    let all: Vec<Vec<u8>> = [frame].into_iter().chain(t.made.drain(..).map(|(_, frame)| frame)).collect();
    assert_eq!((all.len(), text(&together(&all, 600).0, L, S)), (3, vec![7; 1232]));
    let (verdict, told) = t.batch(0, &[udp(C, VIP, &[7; 1233])], OUTSIDE).remove(0);
    assert_eq!(verdict, Verdict::Answer(OUTSIDE, DropReason::TooBig));
    assert_eq!(read_answer(&told), "2001:db8::100 tells 2001:db8:7::7: type 2 code 0 and 1280");
}

#[test]
fn fragments_go_both_ways_in_whatever_order() {
    let long: Vec<u8> = (0..3000u32).map(|n| n.to_le_bytes()[0] % 200).collect();
    let mut t = table(Protocol::Udp);
    for in_order in [true, false] {
        for (from, to, side, other, id) in [
            (C, VIP, OUTSIDE, (L, S), 0x1_0000 + u32::from(in_order)),
            (S, L, INSIDE, (VIP, C), 9 + u32::from(in_order)),
        ] {
            // Those of IPv4 are longer than IPv6 would take without another cut.
            let mut pieces = split(&udp(from, to, &long), 1400, id);
            if !in_order {
                pieces.reverse();
            }
            let (mut all, mut held) = (Vec::new(), 0);
            for (verdict, frame) in t.batch(0, &pieces, side) {
                match verdict {
                    Verdict::Transmit(port) => {
                        assert_ne!(port, side);
                        all.push(frame);
                    }
                    Verdict::Keep => held += 1,
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(held, if in_order { 0 } else { 2 });
            all.extend(t.made.drain(..).map(|(_, frame)| frame));
            let (datagram, got) = together(&all, if side == INSIDE { 1280 } else { 1500 });
            assert_eq!(got, id & 0xffff, "IPv4 has the lower half only");
            assert!(text(&datagram, other.0, other.1) == long, "from {from}");
        }
    }
}

#[test]
fn fragments_without_a_checksum_have_no_way_to_ipv6() {
    let mut t = table(Protocol::Udp);
    let mut whole = udp(S, L, &[7; 2000]);
    whole[L3 + V4 + 6..][..2].fill(0);
    for (verdict, _) in t.batch(0, &split(&whole, 1000, 5), INSIDE) {
        assert_eq!(verdict, Verdict::Drop(DropReason::Untranslatable));
    }
}

#[test]
fn sctp_in_fragments_is_refused_as_its_ports_change() {
    let mut t = table_of(Protocol::Sctp, VIP, S, "5000");
    t.sctp(C, VIP, &[1]).unwrap();
    let whole = sctp(C, VIP, &[(0, &[7; 1000])]);
    for (verdict, _) in t.batch(0, &split(&whole, 600, 3), OUTSIDE) {
        assert_eq!(verdict, Verdict::Drop(DropReason::Fragment));
    }
}
