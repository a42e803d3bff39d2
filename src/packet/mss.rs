//! The maximum segment size that a SYN names (RFC 9293, 3.7.1), lowered: for ways on which path MTU discovery fails.

use etherparse::{TcpOptionElement, TcpOptionsIterator};

use super::checksum::Delta;
use super::parse::Parsed;

/// Bytes of a TCP header without options.
const HEADER_LEN: usize = 20;
const DATA_OFFSET: usize = 12;
const CHECKSUM: usize = 16;

/// Lowers the maximum segment size in the options of a segment to `most` bytes, with the checksum mended. One that is
/// not larger, and a segment that names none, stay as they are: without one it is 536 bytes.
pub fn lower(frame: &mut [u8], parsed: &Parsed, most: u16) {
    let end = parsed.l3 + usize::from(parsed.ip_len);
    let Some(segment) = frame.get_mut(parsed.l4..end) else { return };
    let header_len = usize::from(segment.get(DATA_OFFSET).copied().unwrap_or(0) >> 4) * 4;
    let Some(options) = segment.get(HEADER_LEN..header_len) else { return };
    let mut all = TcpOptionsIterator::from_slice(options);
    let mut delta = Delta::default();
    loop {
        let at = header_len - all.rest().len();
        match all.next() {
            Some(Ok(TcpOptionElement::MaximumSegmentSize(size))) if size > most => {
                // Kind and length are in front of it. Padding may have put it at an odd place.
                let place = at + 2;
                let change = Delta::between(&size.to_be_bytes(), &most.to_be_bytes());
                let change = if place.is_multiple_of(2) { change } else { Delta(change.0.swap_bytes()) };
                delta = delta.and(change);
                let Some(field) = segment.get_mut(place..).and_then(|s| s.first_chunk_mut::<2>()) else {
                    return;
                };
                *field = most.to_be_bytes();
                let Some(options) = segment.get(at + 4..header_len) else { break };
                all = TcpOptionsIterator::from_slice(options);
            }
            Some(Ok(_)) => {}
            // What follows an option that cannot be read is not read by its receiver either.
            Some(Err(_)) | None => break,
        }
    }
    if let Some(field) = segment.get_mut(CHECKSUM..).and_then(|s| s.first_chunk_mut::<2>()) {
        *field = delta.apply(u16::from_be_bytes(*field)).to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::super::checksum;
    use super::super::parse::parse;
    use super::*;
    use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
    use proptest::prelude::*;

    /// A SYN with these options.
    fn syn(options: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
            .ipv4([10, 0, 1, 1], [10, 0, 0, 100], 64)
            .tcp(4711, 80, 1, 1000)
            .syn()
            .options_raw(options)
            .unwrap()
            .write(&mut frame, b"odd")
            .unwrap();
        frame
    }

    fn lowered(frame: &[u8], most: u16) -> Vec<u8> {
        let mut after = frame.to_vec();
        lower(&mut after, &parse(frame).unwrap(), most);
        after
    }

    /// The options by another parser, which finds the checksum right.
    fn options(frame: &[u8]) -> Vec<u8> {
        let sliced = SlicedPacket::from_ethernet(frame).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { panic!("{sliced:?}") };
        let sum = tcp.calc_checksum_ipv4([10, 0, 1, 1], [10, 0, 0, 100]).unwrap();
        assert_eq!(sum, tcp.checksum(), "TCP checksum");
        tcp.options().to_vec()
    }

    #[test]
    fn a_larger_one_is_lowered_wherever_it_is_and_no_other_option_is_touched() {
        // MSS 1460, SACK permitted, timestamps, window scale: what Linux sends. Then at an odd place, and twice.
        let linux = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
        let odd = [1, 2, 4, 5, 180, 4, 2, 0];
        let twice = [2, 4, 5, 180, 1, 2, 4, 255, 255, 1, 1, 0];
        for (before, after) in [
            (&linux[..], &[&[2, 4, 4, 0], &linux[4..]].concat()[..]),
            (&odd, &[1, 2, 4, 4, 0, 4, 2, 0]),
            (&twice, &[2, 4, 4, 0, 1, 2, 4, 4, 0, 1, 1, 0]),
        ] {
            assert_eq!(options(&lowered(&syn(before), 1024)), after);
        }
    }

    #[test]
    fn one_that_is_not_larger_is_never_raised_and_none_is_added() {
        for options in [&[2, 4, 4, 0][..], &[2, 4, 2, 24], &[], &[1, 1, 1, 0], &[4, 2, 1, 1]] {
            let frame = syn(options);
            assert_eq!(lowered(&frame, 1024), frame, "{options:?}");
        }
    }

    #[test]
    fn what_is_behind_the_end_or_cannot_be_read_is_left() {
        for options in
            [&[0, 2, 4, 5, 180, 0, 0, 0][..], &[8, 1, 2, 4, 5, 180, 0, 0], &[1, 1, 2, 4], &[2, 3, 5, 180]]
        {
            let frame = syn(options);
            assert_eq!(lowered(&frame, 536), frame, "{options:?}");
        }
    }

    #[test]
    fn a_wrong_checksum_stays_wrong() {
        let mut frame = syn(&[2, 4, 5, 180]);
        frame[50] ^= 1;
        let after = lowered(&frame, 1024);
        let pseudo = [&after[26..34], &[0, 6, 0, 27], &after[34..]].concat();
        assert_ne!(checksum::of(&pseudo), 0);
    }

    proptest! {
        #[test]
        fn any_options_keep_the_length_and_a_right_checksum(
            options_of in proptest::collection::vec(any::<u8>(), 0..=10), most in 536u16..,
        ) {
            let bytes: Vec<u8> = options_of.repeat(4);
            let frame = syn(&bytes);
            let after = lowered(&frame, most);
            prop_assert_eq!(after.len(), frame.len());
            options(&after);
        }

        #[test]
        fn any_segment_is_an_answer(mut frame in proptest::collection::vec(any::<u8>(), 60..120), most: u16) {
            let parsed = parse(&syn(&[2, 4, 5, 180])).unwrap();
            lower(&mut frame, &parsed, most);
        }
    }
}
