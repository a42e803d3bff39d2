//! `mss_max`: what segment size either end hears of.

use etherparse::{PacketBuilder, SlicedPacket, TcpOptionElement, TransportSlice};
use xvs::director::service::{Method, Pool, Protocol, Tunnel};
use xvs::director::stats::Traffic;

use crate::table::*;

const C: &str = "192.0.2.7:40000";
const VIP: &str = "10.0.0.100:80";
const KEY: &str = "tcp:10.0.0.100:80";
const S: &str = "10.1.0.11:8080";

fn pool(method: Method, server: &str) -> Pool {
    service(Protocol::Tcp, VIP, method, &[(server, 1)])
}

/// A SYN, or a SYN with an acknowledgement, that names a segment size behind other options.
fn syn(from: &str, to: &str, is_answer: bool, size: u16) -> Vec<u8> {
    use TcpOptionElement::{MaximumSegmentSize, SelectiveAcknowledgementPermitted, Timestamp};
    let ends = [from, to].map(|end| end.parse::<std::net::SocketAddrV4>().unwrap());
    let builder = PacketBuilder::ethernet2(CLIENT_MAC, OUTSIDE_MAC)
        .ipv4(ends[0].ip().octets(), ends[1].ip().octets(), 64)
        .tcp(ends[0].port(), ends[1].port(), 7, 8192)
        .syn();
    let builder = if is_answer { builder.ack(8) } else { builder };
    let options = [Timestamp(1, 2), SelectiveAcknowledgementPermitted, MaximumSegmentSize(size)];
    let mut frame = Vec::new();
    builder.options(&options).unwrap().write(&mut frame, &[]).unwrap();
    frame
}

/// The segment size that this frame becomes to name; its checksums are right.
fn size(t: &mut Table, frame: Vec<u8>, port: u16) -> u16 {
    let (verdict, after) = t.batch(0, &[frame], port).remove(0);
    let xvs::director::engine::Verdict::Transmit(port) = verdict else { panic!("{verdict:?}") };
    let after = if after[23] == 4 { [&after[..14], &after[34..]].concat() } else { after };
    read(&after, port);
    named(&after)
}

fn named(frame: &[u8]) -> u16 {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { panic!("{sliced:?}") };
    let sizes = tcp.options_iterator().filter_map(|option| match option {
        Ok(TcpOptionElement::MaximumSegmentSize(size)) => Some(size),
        _ => None,
    });
    let sizes: Vec<u16> = sizes.collect();
    let [size] = sizes[..] else { panic!("{sizes:?}") };
    size
}

#[test]
fn both_ends_of_nat_hear_of_no_larger_one() {
    let mut t = Table::new(&[pool(Method::Nat, S)]);
    for (most, said, heard) in [
        ("0", 1460, 1460),
        ("1300", 1460, 1300),
        ("1300", 1300, 1300),
        ("1300", 800, 800),
        ("536", 65_495, 536),
    ] {
        t.switch(KEY, "mss_max", most);
        for port in [1, 2].map(|n| 1000 * n + said % 1000) {
            let client = format!("192.0.2.8:{port}");
            assert_eq!(size(&mut t, syn(&client, VIP, false, said), OUTSIDE), heard, "the server, {most}");
            assert_eq!(size(&mut t, syn(S, &client, true, said), INSIDE), heard, "the client, {most}");
            // Sent again, as when it was lost.
            assert_eq!(size(&mut t, syn(&client, VIP, false, said), OUTSIDE), heard, "again, {most}");
            assert_eq!(size(&mut t, syn(S, &client, true, said), INSIDE), heard, "again, {most}");
        }
    }
}

#[test]
fn the_servers_of_dr_and_tun_hear_of_no_larger_one() {
    for method in [Method::Dr, Method::Tun(Tunnel::Ipip)] {
        let mut t = Table::new(&[pool(method, "10.1.0.11:80")]);
        t.switch(KEY, "mss_max", "1300");
        assert_eq!(size(&mut t, syn(C, VIP, false, 1460), OUTSIDE), 1300, "{method:?}");
        assert_eq!(size(&mut t, syn(C, VIP, false, 900), OUTSIDE), 900, "{method:?}");
    }
}

/// By the cold path, and yet nothing else about a server's SYN is different from what it was.
#[test]
fn a_servers_syn_is_counted_and_steps_the_state_as_ever() {
    let mut t = Table::new(&[pool(Method::Nat, S)]);
    t.tcp(C, VIP, "S").unwrap();
    t.tcp(S, C, "SA").unwrap();
    t.tcp(C, VIP, "A").unwrap();
    assert_eq!(t.states(), [(C.to_owned(), xvs::director::conn::state::State::Established)]);
    let Traffic { connections, in_packets, out_packets, .. } =
        t.director.traffic(xvs::director::server::ServerId(0));
    assert_eq!((connections, in_packets, out_packets), (1, 2, 1));
    // Of a removed server it goes on, uncounted.
    t.take_out(KEY, S);
    t.tcp(S, C, "SA").unwrap();
    assert_eq!(t.director.traffic(xvs::director::server::ServerId(0)).out_packets, 1);
}

#[test]
fn a_segment_that_is_no_syn_is_never_touched() {
    let mut t = Table::new(&[pool(Method::Nat, S)]);
    t.switch(KEY, "mss_max", "536");
    t.tcp(C, VIP, "S").unwrap();
    // The option in a segment where it means nothing.
    let mut frame = syn(C, VIP, false, 1460);
    frame[47] = 0x10;
    let sum = etherparse::TcpHeaderSlice::from_slice(&frame[34..]).unwrap().to_header();
    let sum = sum.calc_checksum_ipv4_raw([192, 0, 2, 7], [10, 0, 0, 100], &[]).unwrap();
    frame[50..52].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(size(&mut t, frame, OUTSIDE), 1460);
}
