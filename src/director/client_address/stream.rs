//! Where a header is in a TCP stream, and what it makes of the stream's numbers, in one word that all workers share.
//!
//! The header is in front of the client's first byte, so every byte of the client's has a number that is larger by the
//! header's length to the server. The place is taken from the server's SYN-ACK: what a client says of its own numbers
//! before could be false, and would let it write a header of its own into the place of ours.

/// See the module. Numbers are the client's unless they are said to be the server's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// Of the client's first byte.
    edge: u32,
    /// The longest segment that the server takes, in bytes of text and options.
    mss: u16,
    flags: u16,
}

/// The server has answered the SYN.
const KNOWN: u16 = 1;
/// The header was sent.
const SENT: u16 = 2;
/// Text of the client's from its first byte on was sent, with the header or without.
const FOLLOWED: u16 = 4;
/// The server has the whole header.
const ACKED: u16 = 8;
/// The server has a byte of the client's: no packet of before the edge means anything to it any more, and the edge will
/// itself be half of all numbers away in time.
const PAST: u16 = 16;

impl Stream {
    /// The stream whose first byte the server waits for under this number.
    pub const fn new(edge: u32, mss: u16) -> Self {
        Self { edge, mss, flags: KNOWN }
    }

    /// As it is stored.
    pub const fn to_word(self) -> u64 {
        self.edge as u64 | (self.mss as u64) << 32 | (self.flags as u64) << 48
    }

    /// As it was stored.
    #[allow(clippy::cast_possible_truncation, reason = "fields of the word")]
    pub const fn from_word(word: u64) -> Self {
        Self { edge: word as u32, mss: (word >> 32) as u16, flags: (word >> 48) as u16 }
    }

    const fn has(self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// True once the server has answered the SYN.
    pub const fn is_known(self) -> bool {
        self.has(KNOWN)
    }

    /// True if this is the stream whose first byte the server waits for under this number.
    pub const fn begins_at(self, number: u32) -> bool {
        self.is_known() && self.edge == number
    }

    /// True if the server has text of the client's when it acknowledges all before this number.
    pub fn is_beyond(self, number: u32) -> bool {
        self.is_known() && is_before(self.edge, number)
    }

    /// True once the header has been sent.
    pub const fn is_sent(self) -> bool {
        self.has(SENT)
    }

    /// True once text from the client's first byte on has been sent.
    pub const fn is_followed(self) -> bool {
        self.has(FOLLOWED)
    }

    /// True once the server has the header.
    pub const fn is_acked(self) -> bool {
        self.has(ACKED)
    }

    /// The longest segment that the server takes, in bytes of text and options.
    pub const fn mss(self) -> u16 {
        self.mss
    }

    /// True if a segment from this number on is to have the header before it.
    pub const fn wants_header(self, number: u32) -> bool {
        self.is_known() && !self.is_acked() && number == self.edge
    }

    /// True if a segment of `len` numbers from this one on would write into the header's place.
    pub fn collides(self, number: u32, len: u32) -> bool {
        !self.has(PAST) && is_before(number, self.edge) && is_before(self.edge, number.wrapping_add(len))
    }

    /// True if the segment begins where the header does, or before.
    pub fn is_early(self, number: u32) -> bool {
        !self.has(PAST) && is_before(number, self.edge)
    }

    /// The stream after the header was sent, followed by text or not.
    #[must_use]
    pub const fn sent(self, followed: bool) -> Self {
        Self { flags: self.flags | SENT | if followed { FOLLOWED } else { 0 }, ..self }
    }

    /// The stream after the server has acknowledged all before its `number`; the header has `len` bytes.
    #[must_use]
    pub fn acknowledged(self, number: u32, len: u32) -> Self {
        let first = self.edge.wrapping_add(len);
        let flags = if self.has(PAST) || is_before(number, first) {
            0
        } else if number == first {
            ACKED
        } else {
            ACKED | PAST
        };
        Self { flags: self.flags | flags, ..self }
    }

    /// True if the server's `number` is of a byte of the header.
    pub const fn is_in_header(self, number: u32, len: u32) -> bool {
        number.wrapping_sub(self.edge) < len
    }

    /// Where the client's `number` is to the server.
    pub fn to_server(self, number: u32, len: u32) -> u32 {
        if self.is_early(number) { number } else { number.wrapping_add(len) }
    }

    /// Where the server's `number`, which it acknowledges, is to the client: what is inside of the header is its
    /// beginning.
    pub fn to_client(self, number: u32, len: u32) -> u32 {
        if self.has(PAST) || !is_before(number, self.edge.wrapping_add(len)) {
            number.wrapping_sub(len)
        } else if is_before(number, self.edge) {
            number
        } else {
            self.edge
        }
    }
}

/// True if `a` comes before `b`, by less than half of all numbers (RFC 9293, 3.4).
fn is_before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() < 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEN: u32 = 28;

    #[test]
    fn a_word_gives_back_what_was_stored() {
        for flags in [0, KNOWN, KNOWN | SENT | FOLLOWED | ACKED | PAST] {
            let stream = Stream { edge: 0xdead_beef, mss: 1460, flags };
            assert_eq!(Stream::from_word(stream.to_word()), stream);
        }
        assert!(!Stream::from_word(0).is_known());
    }

    #[test]
    fn the_header_is_wanted_until_the_server_has_all_of_it() {
        let new = Stream::new(100, 1460);
        assert!(new.wants_header(100) && !new.wants_header(101) && !new.wants_header(99));
        for part in 0..LEN {
            assert_eq!(new.acknowledged(100 + part, LEN), new, "{part} bytes");
        }
        let acked = new.sent(false).acknowledged(100 + LEN, LEN);
        assert!(!acked.wants_header(100) && acked.is_acked() && acked.is_early(99));
        assert!(!acked.acknowledged(101 + LEN, LEN).is_early(99));
        assert!(!new.acknowledged(99, LEN).is_acked(), "a probe of before");
    }

    #[test]
    fn nothing_of_the_clients_is_ever_put_into_the_headers_place() {
        let new = Stream::new(5, 1460);
        for (number, len) in [(4, 1), (4, 0), (5, 9), (6, 9), (u32::MAX, 6), (1 << 31, 9)] {
            assert!(!new.collides(number, len), "{number} {len}");
        }
        for (number, len) in [(4, 2), (u32::MAX, 7), (u32::MAX - 99, 200)] {
            assert!(new.collides(number, len), "{number} {len}");
        }
    }

    #[test]
    fn gigabytes_later_numbers_are_shifted_as_before() {
        let mut stream = Stream::new(7, 1460).acknowledged(7 + LEN + 1, LEN);
        for gigabytes in 0..9u32 {
            let number = 8u32.wrapping_add(gigabytes << 30);
            assert_eq!(stream.to_server(number, LEN), number.wrapping_add(LEN));
            assert_eq!(stream.to_client(number.wrapping_add(LEN), LEN), number);
            stream = stream.acknowledged(number.wrapping_add(LEN), LEN);
            assert!(!stream.collides(number, 1000));
        }
    }

    proptest! {
        /// The oracle is the stream as the server sees it, written out.
        #[test]
        fn both_ends_agree_on_every_byte(edge: u32, len in prop_oneof![Just(28u32), Just(52)], acked in 0u32..90) {
            // None of the header, part of it, all, and text of the client's.
            let stream = Stream::new(edge, 1460).acknowledged(edge.wrapping_add(acked), len);
            let theirs: Vec<Option<u32>> =
                (0..len).map(|_| None).chain((0..100).map(|n| Some(edge.wrapping_add(n)))).collect();
            for (place, number) in (0u32..).zip(theirs) {
                let far = edge.wrapping_add(place);
                match number {
                    Some(number) => {
                        prop_assert_eq!(stream.to_server(number, len), far);
                        prop_assert_eq!(stream.to_client(far, len), number);
                    }
                    None if acked <= len => prop_assert_eq!(stream.to_client(far, len), edge),
                    None => {}
                }
            }
            // A probe of the byte before, which the server has.
            let probe = edge.wrapping_sub(1);
            let far = stream.to_server(probe, len);
            prop_assert!(far == probe || (acked > len && far == probe.wrapping_add(len)));
        }
    }
}
