//! PROXY headers in front of UDP flows.

use std::sync::Barrier;
use std::thread;

use xvs::director::drops::DropReason;
use xvs::director::engine::{Batch, Engine, Packet, Verdict, Verdicts};
use xvs::director::service::{Method, Pool, Protocol};

use crate::segments::*;
use crate::table::*;

pub const DNS: &str = "10.0.0.100:53";
pub const DNS_R: &str = "10.1.0.11:5353";

pub fn dns() -> Pool {
    let mut pool = service(Protocol::Udp, DNS, Method::Nat, &[(DNS_R, 1)]);
    pool.service.switches.set("client_address", "proxy").unwrap();
    pool
}

pub fn datagram(t: &mut Table, frame: Vec<u8>) -> Vec<u8> {
    let after = t.forwarded(&frame);
    assert_eq!(read(&after, INSIDE).to, DNS_R);
    after[42..].to_vec()
}

pub fn dns_header() -> Vec<u8> {
    let mut header = HEADER;
    (header[13], header[27]) = (0x12, 53);
    header.to_vec()
}

#[test]
fn the_first_datagram_of_a_flow_has_the_header() {
    let mut t = Table::new(&[dns()]);
    assert_eq!(datagram(&mut t, udp(C, DNS, b"odd")), [&dns_header()[..], b"odd"].concat());
    assert_eq!(datagram(&mut t, udp(C, DNS, b"odd")), b"odd");
    let mut reply = udp(DNS_R, C, b"answer");
    (reply[40], reply[41]) = (0, 0);
    assert_eq!(t.batch(0, &[reply], INSIDE)[0].1[40..], *b"\0\0answer");
    // Without a checksum there is none afterwards; a wrong one stays wrong.
    let other = "192.0.2.7:40001";
    let mut frame = udp(other, DNS, b"question");
    frame[40..42].fill(0);
    let sent = t.batch(0, &[frame], OUTSIDE).remove(0).1;
    assert_eq!((sent.len(), &sent[40..42]), (42 + 28 + 8, &[0, 0][..]));
    let mut frame = udp("192.0.2.7:40002", DNS, b"question");
    frame[40] ^= 0x55;
    let sent = t.batch(0, std::slice::from_ref(&frame), OUTSIDE).remove(0).1;
    assert_eq!((sent.len(), error(&sent)), (42 + 28 + 8, error(&frame)));
}

#[test]
fn each_datagram_that_is_scheduled_by_itself_has_the_header() {
    let mut pool = dns();
    pool.service.one_packet = true;
    let mut t = Table::new(&[pool]);
    for _ in 0..2 {
        assert_eq!(datagram(&mut t, udp(C, DNS, b"?")), [&dns_header()[..], b"?"].concat());
    }
}

#[test]
fn a_datagram_that_is_too_long_with_the_header_is_split_or_its_client_told() {
    let mut t = Table::new(&[dns()]);
    t.hops.mtu = 600;
    let mut frame = udp(C, DNS, &[7; 560]);
    let (verdict, answer) = t.batch(0, std::slice::from_ref(&frame), OUTSIDE).remove(0);
    assert_eq!(verdict, Verdict::Answer(OUTSIDE, DropReason::TooBig));
    assert_eq!(answer[34..42][4..], [0, 0, 2, 0x3c], "572 bytes are left of 600");
    // It may be split: the header is in the first piece.
    frame[20] = 0;
    mend_ip(&mut frame);
    let first = t.forwarded(&frame);
    let pieces = [first[34..].to_vec(), t.made[0].1[34..].to_vec()].concat();
    assert_eq!((pieces.len(), &pieces[8..36]), (8 + 28 + 560, &dns_header()[..]));
    t.made.clear();
    assert_eq!(datagram(&mut t, udp(C, DNS, b"?")), b"?");
}

/// What becomes of the frames of two workers that work at once.
fn at_once(t: &mut Table, frames: [&[Vec<u8>]; 2]) -> [Vec<(Verdict, Vec<u8>)>; 2] {
    let (hops, now, start) = (&t.hops, t.now, Barrier::new(2));
    let [first, second, ..] = &mut t.engines[..] else { panic!("two workers") };
    let work = |engine: &mut Engine, frames: &[Vec<u8>]| {
        let mut rooms: Vec<Vec<u8>> = frames.iter().map(|frame| [&frame[..], &[0; 128]].concat()).collect();
        let lens = frames.iter().map(Vec::len);
        let packets = rooms.iter_mut().zip(lens).map(|(room, len)| Packet { room, len, port: OUTSIDE });
        let (mut batch, mut verdicts): (Batch<'_>, _) = (packets.collect(), Verdicts::new());
        start.wait();
        engine.process(&mut batch, hops, now, &mut verdicts);
        engine.rest();
        let left: Vec<Vec<u8>> = batch.iter_mut().map(|packet| packet.frame().to_vec()).collect();
        verdicts.into_iter().zip(left).collect()
    };
    thread::scope(|s| {
        let other = s.spawn(|| work(second, frames[1]));
        [work(first, frames[0]), other.join().unwrap()]
    })
}

/// Whichever worker is first: one datagram of each flow has the header, and none goes without before it.
#[test]
fn of_two_workers_one_sends_the_header() {
    let mut t = Table::sized(&[dns()], 16_384, 2);
    let has_header = |(verdict, frame): &(Verdict, Vec<u8>)| {
        *verdict == Verdict::Transmit(INSIDE) && frame[42..].starts_with(&HEADER[..12])
    };
    for round in 0..100 {
        let of_flows = |text: &[u8]| -> Vec<_> {
            (0..64).map(|port| udp(&format!("192.0.2.7:{}", 1024 + round * 64 + port), DNS, text)).collect()
        };
        let (long, short) = (of_flows(&[7; 1460]), of_flows(b"short"));
        // One that is refused, since it is too long with the header, takes it from nobody.
        let is_long = round % 2 == 0;
        let [first, second] = at_once(&mut t, [if is_long { &long } else { &short }, &short]);
        for (first, second) in first.iter().zip(&second) {
            let (by_first, by_second) = (has_header(first), has_header(second));
            assert!(by_first != by_second && (by_second || !is_long), "{round}: {by_first} {by_second}");
            if is_long && first.0 == Verdict::Transmit(INSIDE) {
                assert_eq!(first.1.len(), long[0].len(), "behind the one with the header, whole");
            }
        }
    }
}
