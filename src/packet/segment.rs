//! A TCP segment changed in its text or its numbers: what a helper of an application does to it.
//!
//! Offsets come from a [`Parsed`]; a segment whose header says otherwise is left as it is. Numbers are changed with the
//! checksum mended, so that a wrong one stays wrong; text is changed only in segments whose checksum was found right.

use std::ops::Range;

use super::checksum::{self, Delta};
use super::edit;
use super::parse::{Parsed, TcpFlags};

const SEQUENCE: usize = 4;
const ACKNOWLEDGED: usize = 8;
const DATA_OFFSET: usize = 12;
const CHECKSUM: usize = 16;
/// Bytes of a TCP header without options.
const HEADER_LEN: usize = 20;
/// The longest one.
const HEADER_MAX: usize = 60;
const FLAGS: usize = 13;
const WINDOW: usize = 14;
/// Kind of the option of the longest segment (RFC 9293, 3.7.1).
const MSS: u8 = 2;
/// Kind of the options that end the list, that fill it up, and that hold blocks received out of order (RFC 2018).
const END: u8 = 0;
const NOTHING: u8 = 1;
const BLOCKS: u8 = 5;

/// Where the segment's header ends in the frame and where its text does; the text is between them.
fn bounds(frame: &[u8], parsed: &Parsed) -> Option<(usize, usize)> {
    let header_len = usize::from(frame.get(parsed.l4 + DATA_OFFSET)? >> 4) * 4;
    let (text, end) = (parsed.l4 + header_len, parsed.l3 + usize::from(parsed.ip_len));
    (header_len >= HEADER_LEN && text <= end && end <= frame.len()).then_some((text, end))
}

/// True if the segment's header is whole, options included: a first fragment's need not be.
pub fn has_header(frame: &[u8], parsed: &Parsed) -> bool {
    bounds(frame, parsed).is_some()
}

/// Where the segment's text is in the frame; empty if there is none.
pub fn text(frame: &[u8], parsed: &Parsed) -> Range<usize> {
    bounds(frame, parsed).map_or(0..0, |(text, end)| text..end)
}

/// The sequence number of the segment's first byte.
pub fn sequence(frame: &[u8], parsed: &Parsed) -> u32 {
    number(frame, parsed.l4 + SEQUENCE).unwrap_or_default()
}

/// The sequence number that follows the segment's text and its FIN, if its header is sound.
pub fn after(frame: &[u8], parsed: &Parsed) -> Option<u32> {
    let (text, end) = bounds(frame, parsed)?;
    let len = end - text + usize::from(parsed.flags.has(TcpFlags::FIN));
    Some(sequence(frame, parsed).wrapping_add(u32::try_from(len).ok()?))
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
    let mut count = 0;
    for (_, option) in options(header).filter(|(kind, _)| *kind == BLOCKS) {
        let (at, end) = (option.start, option.end);
        for block in (at + 2..end).step_by(8).filter(|block| block + 8 <= end) {
            if let Some(place) = found.get_mut(count) {
                (*place, count) = (block, count + 1);
            }
        }
    }
    found.into_iter().take(count)
}

/// The options of a header that have a value, with their places, as stacks read them: up to the first that is broken.
fn options(header: &[u8]) -> impl Iterator<Item = (u8, Range<usize>)> {
    let mut at = HEADER_LEN;
    std::iter::from_fn(move || {
        loop {
            let kind = *header.get(at)?;
            match kind {
                END => return None,
                NOTHING => at += 1,
                _ => {
                    let len = usize::from(*header.get(at + 1)?);
                    let option = at..at + len;
                    at = option.end;
                    return (len > 1 && at <= header.len()).then_some((kind, option));
                }
            }
        }
    })
}

/// True if the segment says of any block that was received out of order what `is_such` looks for: first and last number.
pub fn has_block(frame: &[u8], parsed: &Parsed, is_such: impl Fn(u32, u32) -> bool) -> bool {
    let header = bounds(frame, parsed).and_then(|(text, _)| frame.get(parsed.l4..text));
    header.is_some_and(|header| {
        let word =
            |at: usize| header.get(at..).and_then(|h| h.first_chunk().copied()).map(u32::from_be_bytes);
        blocks(header).any(|at| word(at).zip(word(at + 4)).is_some_and(|(first, last)| is_such(first, last)))
    })
}

/// Takes from the segment what it says of blocks received out of order.
pub fn blank_blocks(frame: &mut [u8], parsed: &Parsed) {
    blank_options(frame, parsed, |kind| kind == BLOCKS);
}

/// Makes options of the kinds that `which` names ones that mean nothing.
pub fn blank_options(frame: &mut [u8], parsed: &Parsed, which: impl Fn(u8) -> bool) {
    edit_header(frame, parsed, |header| {
        // All there may be: the shortest has two bytes.
        let mut found = [const { 0..0 }; 20];
        let such = options(header).filter(|(kind, _)| which(*kind));
        found.iter_mut().zip(such).for_each(|(place, (_, option))| *place = option);
        for option in found {
            header[option].fill(NOTHING);
        }
    });
}

/// Clears flags of the segment.
pub fn clear_flags(frame: &mut [u8], parsed: &Parsed, flags: u8) {
    edit_header(frame, parsed, |header| header[FLAGS] &= !flags);
}

/// Announces a window that is smaller by so many bytes; of a SYN's, where it is not scaled.
pub fn shrink_window(frame: &mut [u8], parsed: &Parsed, by: u16) {
    edit_header(frame, parsed, |header| {
        if let Some(window) = header.get_mut(WINDOW..).and_then(|h| h.first_chunk_mut::<2>()) {
            *window = u16::from_be_bytes(*window).saturating_sub(by).to_be_bytes();
        }
    });
}

/// Edits the header, and mends the checksum.
fn edit_header(frame: &mut [u8], parsed: &Parsed, edit: impl FnOnce(&mut [u8])) {
    let Some((text, _)) = bounds(frame, parsed) else { return };
    let Some(header) = frame.get_mut(parsed.l4..text) else { return };
    let mut before = [0; HEADER_MAX];
    let Some(before) = before.get_mut(..header.len()) else { return };
    before.copy_from_slice(header);
    edit(header);
    let delta = Delta::between(before, header);
    if let Some(field) = header.get_mut(CHECKSUM..).and_then(|h| h.first_chunk_mut::<2>()) {
        *field = delta.apply(u16::from_be_bytes(*field)).to_be_bytes();
    }
}

/// The longest segment that the sender of a SYN takes, in bytes of text and options (RFC 6691).
pub fn mss(frame: &[u8], parsed: &Parsed) -> Option<u16> {
    let (text, _) = bounds(frame, parsed)?;
    let header = frame.get(parsed.l4..text)?;
    let (_, option) = options(header).find(|(kind, option)| *kind == MSS && option.len() == 4)?;
    header.get(option.start + 2..)?.first_chunk().copied().map(u16::from_be_bytes)
}

/// Bytes of options that the segment has.
pub fn options_len(frame: &[u8], parsed: &Parsed) -> usize {
    bounds(frame, parsed).map_or(0, |(text, _)| text - parsed.l4 - HEADER_LEN)
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

    edit::set_ip_len(room, parsed, ip_len);
    let parsed = Parsed { ip_len, ..*parsed };
    let segment = room.get_mut(parsed.l4..new_end)?;
    segment.get_mut(CHECKSUM..)?.first_chunk_mut::<2>()?.fill(0);
    let sum = sum(&parsed, segment);
    *segment.get_mut(CHECKSUM..)?.first_chunk_mut::<2>()? = sum.to_be_bytes();
    Some((parsed, new_end))
}

#[cfg(test)]
mod tests {
    use etherparse::{SlicedPacket, TcpOptionElement, TransportSlice};
    use proptest::prelude::*;

    use super::*;
    use crate::packet::parse::parse;
    use crate::packet::samples;

    fn segment(text: &[u8], options: &[TcpOptionElement]) -> (Vec<u8>, Parsed) {
        let frame = samples::segment(text, options);
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
    fn flags_window_and_blocks_change_with_the_checksum() {
        use TcpOptionElement::{MaximumSegmentSize, Noop, SelectiveAcknowledgement};
        let (mut frame, parsed) = segment(b"text", &[Noop, MaximumSegmentSize(1400)]);
        assert_eq!((mss(&frame, &parsed), options_len(&frame, &parsed)), (Some(1400), 8));
        shrink_window(&mut frame, &parsed, 28);
        clear_flags(&mut frame, &parsed, TcpFlags::ACK);
        assert_eq!(frame[47..50], [0, 0x1f, 0xe4], "8192 bytes, less 28");
        read(&frame);
        shrink_window(&mut frame, &parsed, 9000);
        assert_eq!(frame[48..50], [0, 0]);
        read(&frame);

        let sack = SelectiveAcknowledgement((3000, 3010), [Some((4000, 4001)), None, None]);
        let (mut frame, parsed) = segment(b"text", &[Noop, sack]);
        assert!(has_block(&frame, &parsed, |first, last| (first, last) == (4000, 4001)));
        assert!(!has_block(&frame, &parsed, |first, _| first == 4001));
        blank_blocks(&mut frame, &parsed);
        assert!(read(&frame).2.iter().all(|option| *option == Noop));
        assert_eq!(mss(&frame, &parsed), None);
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
            blank_options(&mut frame, &parsed, |kind| kind % 3 == 0);
            prop_assert!(super::options(&frame[parsed.l4..parsed.l4 + 60]).all(|(kind, _)| kind % 3 != 0));
            let _any = (mss(&frame, &parsed), has_block(&frame, &parsed, |_, _| true));
            prop_assert_eq!(is_sound(&frame, &parsed), was_sound);
        }
    }
}
