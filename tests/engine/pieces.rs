//! Packets in pieces: fragments of both versions of IP made of a whole packet, sent in any order, and put together again by
//! an oracle, byte by byte.

use std::collections::HashMap;

use xvs::director::engine::Verdict;
use xvs::director::forward::hops::PortId;
use xvs::packet::checksum;

use crate::table::{Table, mend_ip};

/// Ethernet and IPv6 header.
const HEAD6: usize = 54;
/// The number of IPv6's Fragment header.
const FRAGMENT: u8 = 44;

/// Bytes of which none is like its neighbours.
pub fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 256).to_le_bytes()[0]).collect()
}

/// A whole packet of IPv4 with this identification that may be fragmented.
pub fn numbered(mut frame: Vec<u8>, id: u16) -> Vec<u8> {
    frame[18..20].copy_from_slice(&id.to_be_bytes());
    frame[20..22].fill(0);
    mend_ip(&mut frame);
    frame
}

/// The bytes from `from` to `to` behind the IPv4 header, as a fragment.
pub fn piece(frame: &[u8], from: usize, to: usize) -> Vec<u8> {
    let head = 14 + usize::from(frame[14] & 15) * 4;
    let to = to.min(frame.len() - head);
    let mut piece = [&frame[..head], &frame[head + from..head + to]].concat();
    let more = if head + to < frame.len() { 0x2000 } else { 0 };
    let len = u16::try_from(piece.len() - 14).unwrap();
    piece[16..18].copy_from_slice(&len.to_be_bytes());
    piece[20..22].copy_from_slice(&(u16::try_from(from / 8).unwrap() | more).to_be_bytes());
    mend_ip(&mut piece);
    piece
}

/// Fragments of at most `step` bytes of a packet of IPv4.
pub fn cut(frame: &[u8], step: usize) -> Vec<Vec<u8>> {
    (0..frame.len() - 34).step_by(step).map(|from| piece(frame, from, from + step)).collect()
}

/// The packet of IPv6 with the length that it has.
pub fn sized(mut frame: Vec<u8>) -> Vec<u8> {
    let len = u16::try_from(frame.len() - HEAD6).unwrap();
    frame[18..20].copy_from_slice(&len.to_be_bytes());
    frame
}

/// The bytes from `from` to `to` behind `each` bytes of extension headers of IPv6, which every fragment has.
pub fn piece6(frame: &[u8], each: usize, id: u32, from: usize, to: usize) -> Vec<u8> {
    let (head, rest) = frame.split_at(HEAD6 + each);
    let to = to.min(rest.len());
    let mut head = head.to_vec();
    // The number of the last of those headers' next one.
    let at = if each == 0 { 20 } else { HEAD6 + each - 8 };
    let next = std::mem::replace(&mut head[at], FRAGMENT);
    let field = u16::try_from(from).unwrap() | u16::from(to < rest.len());
    sized([&head[..], &[next, 0], &field.to_be_bytes(), &id.to_be_bytes(), &rest[from..to]].concat())
}

/// Fragments of at most `step` bytes of a packet of IPv6.
pub fn cut6(frame: &[u8], each: usize, id: u32, step: usize) -> Vec<Vec<u8>> {
    (0..frame.len() - HEAD6 - each)
        .step_by(step)
        .map(|from| piece6(frame, each, id, from, from + step))
        .collect()
}

/// Where the Fragment header of a frame is, and where the number that says so.
pub fn fragment_at(frame: &[u8]) -> Option<(usize, usize)> {
    let (mut number, mut at) = (20, HEAD6);
    while [0, 43, 60].contains(&frame[number]) {
        (number, at) = (at, at + 8 + 8 * usize::from(frame[at + 1]));
    }
    (frame[number] == FRAGMENT).then_some((number, at))
}

/// All orders of so many pieces.
pub fn permutations(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let insert = |p: &Vec<usize>, at: usize| [&p[..at], &[count - 1], &p[at..]].concat();
    permutations(count - 1).iter().flat_map(|p| (0..count).map(move |at| insert(p, at))).collect()
}

/// The pieces in this order.
pub fn shuffled(pieces: &[Vec<u8>], order: &[usize]) -> Vec<Vec<u8>> {
    order.iter().map(|&n| pieces[n].clone()).collect()
}

/// Sends these frames one by one, to the workers in turn; what was sent comes back.
pub fn through(t: &mut Table, frames: &[Vec<u8>], port: PortId) -> Vec<Vec<u8>> {
    let mut sent = Vec::new();
    for (worker, frame) in [0, 1].into_iter().cycle().zip(frames) {
        let (verdict, after) = t.batch(worker, std::slice::from_ref(frame), port).remove(0);
        match verdict {
            Verdict::Transmit(_) => sent.push(after),
            Verdict::Keep => assert_eq!(&after, frame, "left alone"),
            other => panic!("{other:?}"),
        }
        sent.extend(t.made.drain(..).map(|(_, frame)| frame));
    }
    sent
}

/// What is known of one packet.
#[derive(Default)]
struct Parts {
    header: Vec<u8>,
    bytes: Vec<Option<u8>>,
    len: Option<usize>,
}

/// The packets that pieces are put together to, by what the pieces of one have in common.
#[derive(Default)]
struct Packets(HashMap<Vec<u8>, Parts>);

impl Packets {
    /// Puts a piece in its place, behind this header if it is the first.
    fn put(&mut self, key: Vec<u8>, header: Vec<u8>, (at, more): (usize, bool), piece: &[u8]) {
        let Parts { header: first, bytes, len } = self.0.entry(key).or_default();
        if at == 0 {
            *first = header;
        }
        let last = at + piece.len();
        bytes.resize(bytes.len().max(last), None);
        for (to, &from) in bytes[at..].iter_mut().zip(piece) {
            assert_eq!(to.replace(from), None, "no byte twice");
        }
        if !more {
            assert_eq!(len.replace(last), None, "one end");
        }
    }

    /// All of them, which must be whole.
    fn whole(self, finished: impl Fn(Vec<u8>) -> Vec<u8>) -> Vec<Vec<u8>> {
        let packet = |Parts { header, bytes, len }: Parts| {
            assert_eq!(len, Some(bytes.len()), "the end, and nothing behind it");
            let bytes = bytes.into_iter().map(|b| b.expect("no gap"));
            finished(header.into_iter().chain(bytes).collect())
        };
        let mut packets: Vec<Vec<u8>> = self.0.into_values().map(packet).collect();
        packets.sort();
        packets
    }
}

/// Puts the packets of IPv4 together that these frames are fragments of.
pub fn reassembled(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut packets = Packets::default();
    for frame in frames {
        let head = 14 + usize::from(frame[14] & 15) * 4;
        assert_eq!(checksum::of(&frame[14..head]), 0, "IP header checksum");
        let field = u16::from_be_bytes([frame[20], frame[21]]);
        let place = (usize::from(field & 0x1fff) * 8, field & 0x2000 != 0);
        let end = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        let key = [&frame[18..20], &frame[23..24], &frame[26..34]].concat();
        packets.put(key, frame[..head].to_vec(), place, &frame[head..end]);
    }
    packets.whole(|mut packet| {
        let len = u16::try_from(packet.len() - 14).unwrap();
        packet[16..18].copy_from_slice(&len.to_be_bytes());
        packet[20..22].fill(0);
        mend_ip(&mut packet);
        packet
    })
}

/// Puts the packets of IPv6 together that these frames are fragments of.
pub fn reassembled6(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut packets = Packets::default();
    for frame in frames {
        let (number, at) = fragment_at(frame).expect("a fragment");
        assert_eq!(frame.len() - HEAD6, usize::from(u16::from_be_bytes([frame[18], frame[19]])));
        let field = u16::from_be_bytes([frame[at + 2], frame[at + 3]]);
        let mut header = frame[..at].to_vec();
        header[number] = frame[at];
        let key = [&frame[at + 4..at + 8], &frame[22..54]].concat();
        packets.put(key, header, (usize::from(field & 0xfff8), field & 1 != 0), &frame[at + 8..]);
    }
    packets.whole(sized)
}
