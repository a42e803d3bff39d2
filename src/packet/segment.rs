//! A TCP segment changed in its text or its numbers: what a helper of an application does to it.
//!
//! Offsets come from a [`Parsed`]; a segment whose header says otherwise is left as it is. Numbers are changed with the
//! checksum mended, so that a wrong one stays wrong; text is changed only in segments whose checksum was found right.

use std::ops::Range;

use super::checksum::{self, Delta};
use super::parse::{Parsed, TcpFlags};

const SEQUENCE: usize = 4;
const ACKNOWLEDGED: usize = 8;
const DATA_OFFSET: usize = 12;
const CHECKSUM: usize = 16;
/// Bytes of a TCP header without options.
const HEADER_LEN: usize = 20;
/// Kind of the options that end the list, that fill it up, and that hold blocks received out of order (RFC 2018).
const END: u8 = 0;
const NOTHING: u8 = 1;
const BLOCKS: u8 = 5;
/// The place of the total length in an IPv4 header, and of its checksum.
const IP_LENGTH: usize = 2;
const IP_CHECKSUM: usize = 10;
/// The place in an IPv6 header of the length of what is behind it, and the header's own, in bytes.
const PAYLOAD_LENGTH: usize = 4;
const IPV6_LEN: u16 = 40;

/// Where the segment's header ends in the frame and where its text does; the text is between them.
fn bounds(frame: &[u8], parsed: &Parsed) -> Option<(usize, usize)> {
    let header_len = usize::from(frame.get(parsed.l4 + DATA_OFFSET)? >> 4) * 4;
    let (text, end) = (parsed.l4 + header_len, parsed.l3 + usize::from(parsed.ip_len));
    (header_len >= HEADER_LEN && text <= end && end <= frame.len()).then_some((text, end))
}

/// Where the segment's text is in the frame; empty if there is none.
pub fn text(frame: &[u8], parsed: &Parsed) -> Range<usize> {
    bounds(frame, parsed).map_or(0..0, |(text, end)| text..end)
}

/// The sequence number of the segment's first byte.
pub fn sequence(frame: &[u8], parsed: &Parsed) -> u32 {
    number(frame, parsed.l4 + SEQUENCE).unwrap_or_default()
}

/// What the segment acknowledges, if it acknowledges anything.
pub fn acknowledged(frame: &[u8], parsed: &Parsed) -> Option<u32> {
    number(frame, parsed.l4 + ACKNOWLEDGED).filter(|_| parsed.flags.has(TcpFlags::ACK))
}

fn number(frame: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*frame.get(at..)?.first_chunk()?))
}

/// True if the segment's checksum is right.
pub fn is_sound(frame: &[u8], parsed: &Parsed) -> bool {
    let end = parsed.l3 + usize::from(parsed.ip_len);
    frame.get(parsed.l4..end).is_some_and(|segment| sum(parsed, segment) == 0)
}

/// The checksum over the pseudo header (RFC 9293, 3.1) and the segment.
fn sum(parsed: &Parsed, segment: &[u8]) -> u16 {
    let key = &parsed.key;
    checksum::of_transport(key.source().ip(), key.destination().ip(), key.protocol(), segment)
}

/// Gives the segment another sequence number and another acknowledgement, and so the blocks of a selective one.
pub fn renumber(
    frame: &mut [u8],
    parsed: &Parsed,
    sequence: impl Fn(u32) -> u32,
    acknowledged: impl Fn(u32) -> u32,
) {
    let Some((text, _)) = bounds(frame, parsed) else { return };
    let Some(header) = frame.get_mut(parsed.l4..text) else { return };
    let mut delta = change(header, SEQUENCE, sequence);
    if parsed.flags.has(TcpFlags::ACK) {
        delta = delta.and(change(header, ACKNOWLEDGED, &acknowledged));
        for at in blocks(header) {
            delta = delta.and(change(header, at, &acknowledged)).and(change(header, at + 4, &acknowledged));
        }
    }
    if let Some(field) = header.get_mut(CHECKSUM..).and_then(|h| h.first_chunk_mut::<2>()) {
        *field = delta.apply(u16::from_be_bytes(*field)).to_be_bytes();
    }
}

/// Changes the number at a place of a header. The difference to its checksum comes back.
fn change(header: &mut [u8], at: usize, how: impl FnOnce(u32) -> u32) -> Delta {
    let Some(field) = header.get_mut(at..).and_then(|h| h.first_chunk_mut::<4>()) else {
        return Delta::default();
    };
    let old = *field;
    *field = how(u32::from_be_bytes(old)).to_be_bytes();
    // Bytes at an odd place count the other way round (RFC 1071, 2.B).
    let delta = Delta::between(&old, field);
    if at.is_multiple_of(2) { delta } else { Delta(delta.0.swap_bytes()) }
}

/// The most blocks that fit into the options (RFC 2018, 3).
const MAX_BLOCKS: usize = 4;

/// The places of the blocks that a header says were received out of order.
fn blocks(header: &[u8]) -> impl Iterator<Item = usize> + use<> {
    let mut found = [0; MAX_BLOCKS];
    let (mut at, mut count) = (HEADER_LEN, 0);
    while let Some(&kind) = header.get(at) {
        let len = match kind {
            END => break,
            NOTHING => 1,
            _ => usize::from(header.get(at + 1).copied().unwrap_or(0)),
        };
        let is_whole = len > 0 && (len > 1 || kind == NOTHING) && at + len <= header.len();
        if !is_whole {
            break;
        }
        if kind == BLOCKS {
            for block in (at + 2..at + len).step_by(8).filter(|block| block + 8 <= at + len) {
                if let Some(place) = found.get_mut(count) {
                    (*place, count) = (block, count + 1);
                }
            }
        }
        at += len;
    }
    found.into_iter().take(count)
}

/// Puts `by` in the place of a part of the text of a sound segment, at the start of `room`: the rest moves, lengths and
/// checksums follow. What the packet is now, and the frame's length; none if the room is too small, and nothing has
/// changed then.
pub fn replace(room: &mut [u8], parsed: &Parsed, part: Range<usize>, by: &[u8]) -> Option<(Parsed, usize)> {
    let (text, end) = bounds(room, parsed)?;
    if part.start < text || part.start > part.end || part.end > end {
        return None;
    }
    let new_end = end - part.len() + by.len();
    let ip_len = u16::try_from(new_end - parsed.l3).ok().filter(|_| new_end <= room.len())?;
    room.copy_within(part.end..end, part.start + by.len());
    room.get_mut(part.start..)?.get_mut(..by.len())?.copy_from_slice(by);

    if parsed.key.is_v4() {
        let length = room.get_mut(parsed.l3 + IP_LENGTH..)?.first_chunk_mut::<2>()?;
        let delta = Delta::between(length, &ip_len.to_be_bytes());
        *length = ip_len.to_be_bytes();
        let field = room.get_mut(parsed.l3 + IP_CHECKSUM..)?.first_chunk_mut::<2>()?;
        *field = delta.apply(u16::from_be_bytes(*field)).to_be_bytes();
    } else {
        let length = room.get_mut(parsed.l3 + PAYLOAD_LENGTH..)?.first_chunk_mut::<2>()?;
        *length = ip_len.checked_sub(IPV6_LEN)?.to_be_bytes();
    }

    let parsed = Parsed { ip_len, ..*parsed };
    let segment = room.get_mut(parsed.l4..new_end)?;
    segment.get_mut(CHECKSUM..)?.first_chunk_mut::<2>()?.fill(0);
    let sum = sum(&parsed, segment);
    *segment.get_mut(CHECKSUM..)?.first_chunk_mut::<2>()? = sum.to_be_bytes();
    Some((parsed, new_end))
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketBuilder, SlicedPacket, TcpOptionElement, TransportSlice};
    use proptest::prelude::*;

    use super::*;
    use crate::packet::parse::parse;

    fn segment(text: &[u8], options: &[TcpOptionElement]) -> (Vec<u8>, Parsed) {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv4([10, 1, 0, 11], [10, 0, 1, 1], 64)
            .tcp(21, 5001, 1000, 8192)
            .ack(2000)
            .options(options)
            .unwrap()
            .write(&mut frame, text)
            .unwrap();
        let parsed = parse(&frame).unwrap();
        (frame, parsed)
    }

    /// The independent parser's view: sequence number, acknowledgement, text. Checksums are verified.
    fn read(frame: &[u8]) -> (u32, u32, Vec<TcpOptionElement>, Vec<u8>) {
        let sliced = SlicedPacket::from_ethernet(frame).unwrap();
        let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else { panic!("not IPv4") };
        let header = ip.header().to_header();
        assert_eq!(header.calc_header_checksum(), header.header_checksum, "IP header checksum");
        let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { panic!("not TCP") };
        let sum = tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination()).unwrap();
        assert_eq!(sum, tcp.checksum(), "TCP checksum");
        let options = tcp.options_iterator().map(Result::unwrap).collect();
        (tcp.sequence_number(), tcp.acknowledgment_number(), options, tcp.payload().to_vec())
    }

    #[test]
    fn numbers_change_and_blocks_with_them_wherever_the_option_stands() {
        use TcpOptionElement::{Noop, SelectiveAcknowledgement, Timestamp};
        let sack = |a, b, c, d| SelectiveAcknowledgement((a, b), [Some((c, d)), None, None]);
        for fill in [vec![Noop, Noop], vec![Noop], vec![], vec![Noop, Noop, Timestamp(1, 2)]] {
            let with = |sack| [&fill[..], &[sack]].concat();
            let (mut frame, parsed) = segment(b"text", &with(sack(3000, 3010, 4000, 4001)));
            renumber(&mut frame, &parsed, |n| n + 5, |n| n.wrapping_sub(70_000_000));
            let (seq, ack, options, text) = read(&frame);
            assert_eq!((seq, ack, &text[..]), (1005, 2000u32.wrapping_sub(70_000_000), &b"text"[..]));
            let less = |n: u32| n.wrapping_sub(70_000_000);
            assert!(options.contains(&sack(less(3000), less(3010), less(4000), less(4001))), "{options:?}");
        }
    }

    #[test]
    fn a_wrong_checksum_is_seen_and_stays_wrong() {
        let (mut frame, parsed) = segment(b"text", &[]);
        assert!(is_sound(&frame, &parsed));
        let last = frame.len() - 1;
        frame[last] ^= 1;
        assert!(!is_sound(&frame, &parsed));
        renumber(&mut frame, &parsed, |n| n + 77, |n| n + 77);
        assert!(!is_sound(&frame, &parsed));
        frame[last] ^= 1;
        assert!(is_sound(&frame, &parsed));
    }

    #[test]
    fn without_room_nothing_changes() {
        let (frame, parsed) = segment(b"one two three", &[]);
        let at = text(&frame, &parsed).start;
        let mut room = frame.clone();
        assert!(replace(&mut room, &parsed, at + 4..at + 7, b"four").is_none());
        assert_eq!(room, frame);
        room.push(0xee);
        let (changed, len) = replace(&mut room, &parsed, at + 4..at + 7, b"four").unwrap();
        assert_eq!((changed.ip_len, len), (parsed.ip_len + 1, frame.len() + 1));
        assert_eq!(read(&room[..len]).3, b"one four three");
        // A place that is not in the text is none.
        assert!(replace(&mut room, &changed, at - 1..at + 1, b"").is_none());
        assert!(replace(&mut room, &changed, at..len + 1, b"").is_none());
    }

    proptest! {
        /// The oracle cuts the text apart and puts it together again.
        #[test]
        fn any_part_is_replaced_by_anything(
            text in proptest::collection::vec(any::<u8>(), 0..60),
            by in proptest::collection::vec(any::<u8>(), 0..40),
            (from, len) in (0usize..60, 0usize..60),
        ) {
            let (mut frame, parsed) = segment(&text, &[]);
            let start = super::text(&frame, &parsed).start;
            let from = from.min(text.len());
            let to = (from + len).min(text.len());
            let expected = [&text[..from], &by, &text[to..]].concat();
            frame.resize(frame.len() + 100, 0xee);
            let (parsed, len) = replace(&mut frame, &parsed, start + from..start + to, &by).unwrap();
            prop_assert_eq!(read(&frame[..len]).3, expected);
            prop_assert!(is_sound(&frame, &parsed));
            prop_assert!(frame[len..].ends_with(&[0xee; 40]));
        }

        /// Whatever the options are, nothing fails, and the checksum follows.
        #[test]
        fn any_options_are_walked(options in proptest::collection::vec(any::<u8>(), 40)) {
            let (mut frame, parsed) = segment(b"abc", &[const { TcpOptionElement::Noop }; 40]);
            frame[parsed.l4 + HEADER_LEN..parsed.l4 + 60].copy_from_slice(&options);
            let was_sound = is_sound(&frame, &parsed);
            renumber(&mut frame, &parsed, |n| n ^ 0x1234_5678, |n| n ^ 0xfedc_ba98);
            prop_assert_eq!(is_sound(&frame, &parsed), was_sound);
        }
    }
}
