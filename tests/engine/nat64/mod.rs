//! FULLNAT between IP versions: clients of IPv6 and servers of IPv4, and the other way round.
//!
//! | file | owns |
//! | --- | --- |
//! | here | what both ends see of whole packets, and any damaged one |
//! | `fragments` | what comes in fragments, and what becomes fragments |
//! | `errors` | ICMP errors, which are told across |

mod errors;
mod fragments;

use std::net::IpAddr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;
use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::local::Locals;
use xvs::director::service::{Method, Protocol};
use xvs::packet::checksum;

use self::fragments::{text, together};
use crate::pieces::*;
use crate::table::*;

const C: &str = "[2001:db8:7::7]:40000";
const VIP: &str = "[2001:db8::100]:80";
const L: &str = "10.1.0.2:5000";
const S: &str = "10.1.0.11:8080";
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0xa, 11];
/// Of the Ethernet header, and of both IP headers.
const L3: usize = 14;
const V4: usize = 20;
const V6: usize = 40;

fn table_of(protocol: Protocol, vip: &str, server: &str, ports: &str) -> Table {
    let mut pool = service(protocol, vip, Method::FullNat, &[(server, 1)]);
    let locals: [IpAddr; 2] = ["10.1.0.2".parse().unwrap(), "fd00:1::2".parse().unwrap()];
    pool.service.locals = Locals::new(&locals, ports.parse().unwrap()).unwrap();
    Table::new(&[pool])
}

/// A client of IPv6 has a connection.
fn table(protocol: Protocol) -> Table {
    let mut t = table_of(protocol, VIP, S, "5000");
    let opening = match protocol {
        Protocol::Tcp => tcp(C, VIP, "S"),
        _ => udp(C, VIP, b"first"),
    };
    t.one(0, opening, OUTSIDE).unwrap();
    t
}

fn sent(port: u16, dst_mac: [u8; 6], from: &str, to: &str) -> Result<Sent, DropReason> {
    Ok(Sent { port, dst_mac, from: from.into(), to: to.into(), ttl: 63 })
}

/// What is behind the IP header, which has no options or extensions.
fn behind_ip(frame: &[u8]) -> &[u8] {
    &frame[L3 + if frame[L3] >> 4 == 4 { V4 } else { V6 }..]
}

fn out(t: &mut Table, frame: Vec<u8>, port: u16) -> Vec<u8> {
    let (verdict, frame) = t.batch(0, &[frame], port).remove(0);
    assert!(matches!(verdict, Verdict::Transmit(_)), "{verdict:?}");
    frame
}

/// The IPv4 packet may be fragmented.
fn without_df(mut frame: Vec<u8>) -> Vec<u8> {
    frame[L3 + 6] &= !0x40;
    mend_ip(&mut frame);
    frame
}

/// A packet in fragments of at most `step` bytes.
fn split(whole: &[u8], step: usize, id: u32) -> Vec<Vec<u8>> {
    if whole[L3] >> 4 == 6 {
        return cut6(whole, 0, id, step);
    }
    cut(&numbered(whole.to_vec(), u16::try_from(id).unwrap()), step)
}

/// What an error says once it has been relayed, every checksum right: from, to, type, code and the second word; the
/// packet in it.
fn relayed(frame: &[u8]) -> (String, Vec<u8>) {
    let IcmpError { from, to, kind, code, rest, ttl, quote } = IcmpError::read(frame).expect("an error");
    (format!("{from} tells {to}: {kind} {code} {rest}, ttl {ttl}"), quote)
}

/// An error of this type, code and second word about the packet of a frame, to who sent that.
fn error(from: &str, (kind, code, rest): (u8, u8, u32), about: &[u8]) -> Vec<u8> {
    icmp_error(from, (kind, code), rest, about, about.len())
}

#[test]
fn both_ends_speak_their_own_version() {
    let (c4, vip4, l6, s6) = ("192.0.2.7:40000", "10.0.0.100:80", "[fd00:1::2]:5000", "[fd00:1::11]:8080");
    for (client, vip, local, server) in [(C, VIP, L, S), (c4, vip4, l6, s6)] {
        let mut t = table_of(Protocol::Tcp, vip, server, "5000");
        assert_eq!(t.tcp(client, vip, "S"), sent(INSIDE, SERVER_MAC, local, server));
        assert_eq!(t.tcp(server, local, "SA"), sent(OUTSIDE, ROUTER_MAC, vip, client));
        assert_eq!(t.tcp(client, vip, "A"), sent(INSIDE, SERVER_MAC, local, server));
        assert_eq!(t.one(1, tcp(server, local, "PA"), INSIDE), sent(OUTSIDE, ROUTER_MAC, vip, client));
        t.director.table.list(|slot| {
            let row = slot.row(t.now.tick());
            assert_eq!(row.local.map(|local| local.to_string()).as_deref(), Some(local));
            assert_eq!((row.client.to_string(), row.server.to_string()), (client.into(), server.into()));
            assert_eq!((row.virtual_address.to_string(), row.state), (vip.into(), "ESTABLISHED"));
        });

        let mut t = table_of(Protocol::Udp, vip, server, "5000");
        for size in [0, 1, 700, 1200] {
            let text = vec![0x5a; size];
            let there = out(&mut t, udp(client, vip, &text), OUTSIDE);
            assert_eq!(Ok(read(&there, INSIDE)), sent(INSIDE, SERVER_MAC, local, server));
            assert_eq!(behind_ip(&there)[8..], text);
            let back = out(&mut t, udp(server, local, &text), INSIDE);
            assert_eq!(Ok(read(&back, OUTSIDE)), sent(OUTSIDE, ROUTER_MAC, vip, client));
            assert_eq!(behind_ip(&back)[8..], text);
        }

        let mut t = table_of(Protocol::Sctp, vip, server, "5000");
        assert_eq!(t.sctp(client, vip, &[1]), sent(INSIDE, SERVER_MAC, local, server));
        assert_eq!(t.sctp(server, local, &[2]), sent(OUTSIDE, ROUTER_MAC, vip, client));
    }
}

#[test]
fn a_datagram_without_a_checksum_gets_one_for_ipv6() {
    let mut t = table(Protocol::Udp);
    let mut frame = udp(S, L, b"no checksum");
    frame[L3 + V4 + 6..][..2].fill(0);
    let back = out(&mut t, frame, INSIDE);
    assert_ne!(behind_ip(&back)[6..8], [0, 0]);
    assert_eq!(read(&back, OUTSIDE).to, C);
}

#[test]
fn what_is_too_long_translated_is_told_in_the_senders_terms() {
    let mut t = table(Protocol::Udp);
    t.hops.mtu = 1400;
    let of = |ip_len: usize, header: usize| vec![7; ip_len - header - 8];
    let fits = out(&mut t, udp(C, VIP, &of(1420, V6)), OUTSIDE);
    assert_eq!(fits.len(), L3 + 1400);
    let (verdict, told) = t.batch(0, &[udp(C, VIP, &of(1421, V6))], OUTSIDE).remove(0);
    assert_eq!(verdict, Verdict::Answer(OUTSIDE, DropReason::TooBig));
    assert_eq!(read_answer(&told), "2001:db8::100 tells 2001:db8:7::7: type 2 code 0 and 1420");

    let fits = out(&mut t, udp(S, L, &of(1380, V4)), INSIDE);
    assert_eq!(fits.len(), L3 + 1400);
    let (verdict, told) = t.batch(0, &[udp(S, L, &of(1381, V4))], INSIDE).remove(0);
    assert_eq!(verdict, Verdict::Answer(INSIDE, DropReason::TooBig));
    assert_eq!(read_answer(&told), "10.1.0.1 tells 10.1.0.11: type 3 code 4");
    assert_eq!(told[L3 + V4 + 6..][..2], 1380u16.to_be_bytes());
    assert!(t.made.is_empty());
}

#[test]
fn the_reset_that_makes_room_is_of_the_servers_version() {
    let mut t = table(Protocol::Tcp);
    t.tcp(S, L, "SA").unwrap();
    for (from, to, flags) in [(C, VIP, "A"), (S, L, "FA"), (C, VIP, "FA"), (S, L, "A")] {
        t.tcp(from, to, flags).unwrap();
    }
    let (verdict, reset) = t.batch(0, &[tcp("[2001:db8:7::8]:1", VIP, "S")], OUTSIDE).remove(0);
    assert_eq!((verdict, reset[L3 + V4 + 13]), (Verdict::Transmit(INSIDE), 4));
    let (port, syn) = t.made.pop().unwrap();
    for frame in [&reset, &syn] {
        assert_eq!(Ok(read(frame, port)), sent(INSIDE, SERVER_MAC, L, S));
    }
}

#[test]
fn a_server_on_the_director_itself_gets_nothing_that_it_could_not_answer() {
    let mut t = table_of(Protocol::Tcp, VIP, S, "5000");
    t.director.pass.open(1000);
    t.hops.local = vec!["10.1.0.11".parse().unwrap()];
    assert_eq!(t.tcp(C, VIP, "S"), Err(DropReason::NoRoute));
    assert!(t.director.table.is_empty());
}

#[test]
fn ttl_ends_and_extension_headers_before_fragments_do_not_get_through() {
    let mut t = table(Protocol::Udp);
    let mut last = udp(C, VIP, b"old");
    last[L3 + 7] = 1;
    let (verdict, told) = t.batch(0, &[last], OUTSIDE).remove(0);
    assert_eq!(verdict, Verdict::Answer(OUTSIDE, DropReason::TtlExpired));
    assert_eq!(read_answer(&told), "2001:db8::100 tells 2001:db8:7::7: type 3 code 0 and 0");
    // Destination options inside of what is fragmented.
    let whole = udp(C, VIP, &[7; 1000]);
    let mut with = whole.clone();
    with.splice(L3 + V6..L3 + V6, [17, 0, 1, 4, 0, 0, 0, 0]);
    with[L3 + 6] = 60;
    let len = u16::try_from(with.len() - L3 - V6).unwrap().to_be_bytes();
    with[L3 + 4..L3 + 6].copy_from_slice(&len);
    assert_eq!(t.one(0, with.clone(), OUTSIDE), sent(INSIDE, SERVER_MAC, L, S), "whole, they are left out");
    for (verdict, _) in t.batch(0, &split(&with, 600, 3), OUTSIDE) {
        assert_eq!(verdict, Verdict::Drop(DropReason::Untranslatable));
    }
}

/// Packets of all kinds, with the side they come from.
fn samples() -> Vec<(Vec<u8>, u16)> {
    let mut all = Vec::new();
    for (from, to, side) in [(C, VIP, OUTSIDE), (S, L, INSIDE)] {
        let long = udp(from, to, &[7; 1440]);
        all.extend([udp(from, to, b"short"), udp(from, to, b""), long.clone()].map(|frame| (frame, side)));
        all.extend(split(&udp(from, to, &[7; 3000]), 1400, 1).into_iter().map(|frame| (frame, side)));
        let router = if side == INSIDE { "10.1.0.9" } else { "2001:db8:9::1" };
        // About what was sent the other way.
        let (sent_from, sent_to) = if side == INSIDE { (L, S) } else { (VIP, C) };
        let (sent, kind) = (udp(sent_from, sent_to, &[7; 600]), if side == INSIDE { (3, 4) } else { (2, 0) });
        let head = (kind.0, kind.1, 1400);
        all.push((error(router, head, &sent), side));
        all.push((error(router, head, &split(&sent, 400, 2)[0]), side));
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever lies a packet tells: what leaves is whole, fits, and has a right IP header, and ICMP's checksum is right.
    #[test]
    fn no_packet_makes_a_wrong_one(
        which in 0..samples().len(),
        edits in prop::collection::vec((12usize..130, any::<u8>()), 0..4),
        cut in prop::option::of(0usize..200),
        is_mended: bool,
        mtu in prop::sample::select(vec![68u16, 600, 1280, 1400, 1500]),
    ) {
        let (mut frame, side) = samples().swap_remove(which);
        for (at, value) in edits {
            let at = at % frame.len();
            frame[at] = value;
        }
        if is_mended && frame[L3] == 0x45 {
            mend_ip(&mut frame);
        }
        if is_mended && frame[L3] == 0x45 && frame[L3 + 9] == 1 {
            frame[L3 + V4 + 2..][..2].fill(0);
            let sum = checksum::of(&frame[L3 + V4..]);
            frame[L3 + V4 + 2..][..2].copy_from_slice(&sum.to_be_bytes());
        }
        if let Some(cut) = cut {
            frame.truncate(cut);
        }
        let mut t = table(Protocol::Udp);
        t.hops.mtu = mtu;
        let (verdict, frame) = t.batch(0, &[frame], side).remove(0);
        let first = matches!(verdict, Verdict::Transmit(_)).then_some(frame);
        for frame in first.into_iter().chain(t.made.drain(..).map(|(_, frame)| frame)) {
            let sliced = SlicedPacket::from_ethernet(&frame).unwrap();
            let l3 = if sliced.link_exts.is_empty() { L3 } else { L3 + 4 };
            match sliced.net.as_ref().unwrap() {
                NetSlice::Ipv4(ip) => {
                    prop_assert_eq!(checksum::of(ip.header().slice()), 0);
                    prop_assert!(ip.header().total_len() <= mtu);
                }
                NetSlice::Ipv6(ip) => prop_assert!(ip.header().payload_length() + 40 <= mtu),
                NetSlice::Arp(_) => prop_assert!(false),
            }
            if let Some(TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_)) = sliced.transport {
                let _said = relayed(&frame);
            }
            prop_assert!(frame.len() > l3);
        }
    }
}

#[test]
fn tags_are_those_of_the_way_out_and_room_for_a_tunnel_is_closed() {
    let mut t = table(Protocol::Udp);
    t.hops.vlans = [Some(7); 2];
    for (from, to, side, way) in [(C, VIP, OUTSIDE, (L, S)), (S, L, INSIDE, (VIP, C))] {
        let mut tagged = udp(from, to, b"tagged");
        let untagged = tagged.clone();
        tagged.splice(12..12, [0x81, 0, 0, 8]);
        for frame in [untagged, tagged] {
            let got = out(&mut t, frame, side);
            assert_eq!(got[12..16], [0x81, 0, 0, 7], "that of the way out");
            let got = read(&got, 1 - side);
            assert_eq!((got.from.as_str(), got.to.as_str(), got.ttl), (way.0, way.1, 63));
        }
    }
    let about = udp(L, S, b"question");
    let told = out(&mut t, error("10.1.0.9", (3, 3, 0), &about), INSIDE);
    assert_eq!(told[12..18], [0x81, 0, 0, 7, 0x86, 0xdd]);
    assert_eq!(relayed(&told).0, "2001:db8::100 tells 2001:db8:7::7: 1 4 0, ttl 59");
    // Pieces as well.
    t.hops.mtu = 600;
    let got = out(&mut t, udp(C, VIP, &[7; 1232]), OUTSIDE);
    let untag = |frame: Vec<u8>| {
        assert_eq!(frame[12..16], [0x81, 0, 0, 7]);
        [&frame[..12], &frame[16..]].concat()
    };
    let all = [got].into_iter().chain(t.made.drain(..).map(|(_, frame)| frame)).map(untag);
    assert_eq!(text(&together(&all.collect::<Vec<_>>(), 600).0, L, S), [7; 1232]);
    t.hops.vlans = [None; 2];
    // As the steering program makes it, of a service whose servers have just been behind tunnels.
    for (size, count) in [(10, 1), (1200, 1), (1232, 3)] {
        t.hops.mtu = if count == 1 { 1500 } else { 600 };
        let frame = udp(C, VIP, &vec![7; size]);
        let roomy = [&frame[..12], &[0x88, 0xb5, 0, 40], &[0xaa; 24], &frame].concat();
        let got = out(&mut t, roomy, OUTSIDE);
        let all: Vec<Vec<u8>> = [got].into_iter().chain(t.made.drain(..).map(|(_, frame)| frame)).collect();
        assert_eq!(all.len(), count);
        if count == 1 {
            assert_eq!(Ok(read(&all[0], INSIDE)), sent(INSIDE, SERVER_MAC, L, S));
        } else {
            assert_eq!(text(&together(&all, 600).0, L, S), vec![7; size]);
        }
    }
}

#[test]
fn persistence_leads_to_servers_of_the_other_version() {
    let mut pool = service(Protocol::Tcp, VIP, Method::FullNat, &[(S, 1), ("10.1.0.12:8080", 1)]);
    pool.service.locals = Locals::new(&["10.1.0.2".parse().unwrap()], "5000-5099".parse().unwrap()).unwrap();
    let mut t = Table::new(&[persistent(pool, 300)]);
    let first = t.tcp(C, VIP, "S").unwrap();
    let other = t.tcp("[2001:db8:7::8]:40000", VIP, "S").unwrap();
    assert_eq!(t.tcp("[2001:db8:7::7]:40001", VIP, "S").unwrap().to, first.to);
    assert_ne!(first.to, other.to);
    let templates = t.rows(true);
    assert!(templates[0].ends_with(&format!("[2001:db8:7::7]:0 {VIP} {}", first.to)), "{templates:?}");
}
