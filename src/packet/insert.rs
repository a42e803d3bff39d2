//! Bytes put into a packet, or taken off its end: what is behind them moves, lengths follow, and checksums are mended
//! by the difference, so that a wrong one stays wrong.
//!
//! For IPv4 and IPv6, whole packets only: offsets of fragments would change.

use super::checksum::{self, Delta};
use super::edit::set_ip_len;
use super::parse::Parsed;

/// Places in a TCP header, and its length without options.
const TCP_DATA_OFFSET: usize = 12;
const TCP_CHECKSUM: usize = 16;
const TCP_LEN: usize = 20;
/// The longest TCP header.
const TCP_LEN_MAX: usize = 60;
/// Places in a UDP header, and its length.
const UDP_LENGTH: usize = 4;
const UDP_CHECKSUM: usize = 6;
const UDP_LEN: usize = 8;
const UDP: u8 = 17;

/// Puts `bytes`, of an even number, into the packet at the start of `room`: at `at`, an even number of bytes behind the
/// beginning of the transport header. What the packet is now, and the frame's length, padding not included; none if it
/// cannot be, and nothing has changed then.
pub fn insert(room: &mut [u8], parsed: &Parsed, at: usize, bytes: &[u8]) -> Option<(Parsed, usize)> {
    let end = parsed.l3 + usize::from(parsed.ip_len);
    let new_end = end + bytes.len();
    let is_even = at.checked_sub(parsed.l4)?.is_multiple_of(2) && bytes.len().is_multiple_of(2);
    if !is_even || at > end || new_end > room.len() {
        return None;
    }
    let ip_len = u16::try_from(new_end - parsed.l3).ok()?;
    room.copy_within(at..end, at + bytes.len());
    room.get_mut(at..)?.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some((resize(room, parsed, ip_len, sum(bytes)), new_end))
}

/// Takes everything from `at` on off the packet in `frame`; `at` as for [`insert`]. As there.
pub fn cut(frame: &mut [u8], parsed: &Parsed, at: usize) -> Option<(Parsed, usize)> {
    let end = parsed.l3 + usize::from(parsed.ip_len);
    let removed = frame.get(at..end)?;
    if !at.checked_sub(parsed.l4)?.is_multiple_of(2) {
        return None;
    }
    let sum = Delta(!sum(removed).0);
    let ip_len = u16::try_from(at - parsed.l3).ok()?;
    Some((resize(frame, parsed, ip_len, sum), at))
}

/// Puts an option, of a multiple of four bytes, in front of a TCP packet's others. As [`insert`]; none also if the header
/// has no room for it.
pub fn insert_option(room: &mut [u8], parsed: &Parsed, option: &[u8]) -> Option<(Parsed, usize)> {
    let header_len = usize::from(*room.get(parsed.l4 + TCP_DATA_OFFSET)? >> 4) * 4;
    let words = u8::try_from(option.len() / 4).ok().filter(|_| option.len().is_multiple_of(4))?;
    if header_len < TCP_LEN || header_len + option.len() > TCP_LEN_MAX {
        return None;
    }
    let (parsed, len) = insert(room, parsed, parsed.l4 + TCP_LEN, option)?;
    let header = room.get_mut(parsed.l4..)?.first_chunk_mut::<TCP_LEN>()?;
    let delta = edit(header, TCP_DATA_OFFSET, |[offset, flags]| [offset + (words << 4), flags]);
    edit(header, TCP_CHECKSUM, |sum| delta.apply(u16::from_be_bytes(sum)).to_be_bytes());
    Some((parsed, len))
}

/// What `bytes` add to a checksum.
fn sum(bytes: &[u8]) -> Delta {
    Delta(!checksum::of(bytes))
}

/// Gives the packet its new length; `payload` is what has been put in or taken out.
fn resize(frame: &mut [u8], parsed: &Parsed, ip_len: u16, payload: Delta) -> Parsed {
    let shorter = |len: u16, by: usize| len.saturating_sub(u16::try_from(by).unwrap_or(len)).to_be_bytes();
    let headers = parsed.l4 - parsed.l3;
    let (old, new) = (shorter(parsed.ip_len, headers), shorter(ip_len, headers));
    let longer = Delta::between(&old, &new);
    let add = |field: [u8; 2]| {
        let grown = u16::from_be_bytes(new).wrapping_sub(u16::from_be_bytes(old));
        u16::from_be_bytes(field).wrapping_add(grown).to_be_bytes()
    };
    set_ip_len(frame, parsed, ip_len);
    if let Some(transport) = frame.get_mut(parsed.l4..) {
        if parsed.key.protocol() == UDP {
            // Its own length is the pseudo header's (RFC 768), and may be shorter than the packet.
            let length = edit(transport, UDP_LENGTH, add);
            let delta = payload.and(length).and(length);
            edit(transport, UDP_CHECKSUM, |sum| delta.apply_udp(u16::from_be_bytes(sum)).to_be_bytes());
        } else {
            let delta = payload.and(longer);
            edit(transport, TCP_CHECKSUM, |sum| delta.apply(u16::from_be_bytes(sum)).to_be_bytes());
        }
    }
    Parsed { ip_len, ..*parsed }
}

/// Changes two bytes. The difference to a checksum comes back.
fn edit(bytes: &mut [u8], at: usize, how: impl FnOnce([u8; 2]) -> [u8; 2]) -> Delta {
    let Some(field) = bytes.get_mut(at..).and_then(|b| b.first_chunk_mut::<2>()) else {
        return Delta::default();
    };
    let old = *field;
    *field = how(old);
    Delta::between(&old, field)
}

/// Where the payload of a UDP packet begins.
pub const fn datagram(parsed: &Parsed) -> usize {
    parsed.l4 + UDP_LEN
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TcpOptionElement, TransportSlice};
    use proptest::prelude::*;

    use super::*;
    use crate::packet::parse::parse;
    use crate::packet::{samples, segment};

    fn udp(payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv4([10, 1, 0, 11], [10, 0, 1, 1], 64)
            .udp(53, 5001)
            .write(&mut frame, payload)
            .unwrap();
        frame
    }

    /// The independent parser's view: options, text, and how wrong the transport checksum is.
    fn read(frame: &[u8]) -> (Vec<u8>, Vec<u8>, u32) {
        let sliced = SlicedPacket::from_ethernet(frame).unwrap();
        let Some(NetSlice::Ipv4(ip)) = &sliced.net else { panic!("not IPv4") };
        let header = ip.header().to_header();
        assert_eq!(header.calc_header_checksum(), header.header_checksum, "IP header checksum");
        assert_eq!(usize::from(header.total_len) + 14, frame.len());
        let error = |right: u16, is: u16| (u32::from(right) + 0xffff - u32::from(is)) % 0xffff;
        match &sliced.transport {
            Some(TransportSlice::Tcp(tcp)) => {
                let right = tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination()).unwrap();
                (tcp.options().to_vec(), tcp.payload().to_vec(), error(right, tcp.checksum()))
            }
            Some(TransportSlice::Udp(udp)) => {
                assert_eq!(usize::from(udp.length()), ip.payload().payload.len());
                if udp.checksum() == 0 {
                    return (vec![], udp.payload().to_vec(), 0);
                }
                let right = udp.to_header().calc_checksum_ipv4(&header, udp.payload()).unwrap();
                (vec![], udp.payload().to_vec(), error(right, udp.checksum()))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_cannot_be_changes_nothing() {
        let frame = samples::segment(b"text", &[]);
        let parsed = parse(&frame).unwrap();
        let start = segment::text(&frame, &parsed).start;
        let mut room = frame.clone();
        assert!(insert(&mut room, &parsed, start, b"four").is_none(), "no room");
        room.extend([0xee; 8]);
        for (at, bytes) in [(start + 1, &b"four"[..]), (start, b"odd"), (start + 6, b"four"), (0, b"four")] {
            assert!(insert(&mut room, &parsed, at, bytes).is_none());
        }
        assert!(cut(&mut room, &parsed, start + 1).is_none() && cut(&mut room, &parsed, start + 6).is_none());
        assert!(insert_option(&mut room, &parsed, b"odd").is_none());
        assert_eq!(room[..frame.len()], frame);
        let mut full = samples::segment(b"text", &[const { TcpOptionElement::Noop }; 36]);
        let parsed = parse(&full).unwrap();
        full.extend([0; 8]);
        assert!(insert_option(&mut full, &parsed, &[254; 8]).is_none(), "40 bytes of options at most");
        assert!(insert_option(&mut full, &parsed, &[254; 4]).is_some());
    }

    #[test]
    fn a_datagram_without_a_checksum_keeps_none() {
        let mut frame = udp(b"question");
        frame[40..42].fill(0);
        let parsed = parse(&frame).unwrap();
        frame.extend([0; 4]);
        let (_, len) = insert(&mut frame, &parsed, datagram(&parsed), b"four").unwrap();
        assert_eq!((len, &frame[40..42]), (frame.len(), &[0, 0][..]));
        assert_eq!(read(&frame).1, b"fourquestion");
    }

    proptest! {
        /// The oracle puts the parts together; a checksum is as wrong afterwards as it was.
        #[test]
        fn anything_goes_in_and_what_was_wrong_stays_so(
            text in proptest::collection::vec(any::<u8>(), 0..60),
            bytes in proptest::collection::vec(any::<[u8; 4]>(), 1..9),
            (is_udp, at) in any::<(bool, usize)>(),
            error in prop_oneof![Just(0u8), any::<u8>()],
        ) {
            let bytes = bytes.concat();
            let mut frame = if is_udp { udp(&text) } else { samples::segment(&text, &[]) };
            let parsed = parse(&frame).unwrap();
            let (start, sum) = if is_udp { (datagram(&parsed), 40) } else { (54, 50) };
            frame[sum] ^= error;
            prop_assume!(!is_udp || frame[sum..sum + 2] != [0, 0]);
            let before = read(&frame).2;
            let at = at % (text.len() / 2 + 1) * 2;
            let expected = [&text[..at], &bytes, &text[at..]].concat();
            frame.resize(frame.len() + 100, 0xee);
            let (longer, len) = insert(&mut frame, &parsed, start + at, &bytes).unwrap();
            let (_, now, after) = read(&frame[..len]);
            prop_assert_eq!((now, after), (expected, before));
            prop_assert!(frame[len..].ends_with(&[0xee; 60]));
            let (shorter, len) = cut(&mut frame, &longer, start + at).unwrap();
            prop_assert_eq!(usize::from(shorter.ip_len) + 14, len);
            let (_, now, after) = read(&frame[..len]);
            prop_assert_eq!((&now[..], after), (&text[..at], before));
        }

        #[test]
        fn an_option_comes_first(count in 0usize..40, text in proptest::collection::vec(any::<u8>(), 0..60), error in prop_oneof![Just(0u8), any::<u8>()]) {
            let option = [254, 8, 1, 2, 3, 4, 5, 6];
            let mut frame = samples::segment(&text, &vec![TcpOptionElement::Noop; count]);
            frame[50] ^= error;
            let (others, _, before) = read(&frame);
            let parsed = parse(&frame).unwrap();
            frame.resize(frame.len() + 8, 0);
            match insert_option(&mut frame, &parsed, &option) {
                None => prop_assert!(count > 32),
                Some((_, len)) => {
                    let expected = ([&option[..], &others].concat(), text, before);
                    prop_assert_eq!(read(&frame[..len]), expected);
                }
            }
        }
    }
}
