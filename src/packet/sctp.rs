//! SCTP (RFC 9260) as far as a director looks into it: what a packet's chunks say of its association, and the
//! checksum of a packet whose ports change.
//!
//! A chunk's length is a claim of its sender: it leads to the place of the next chunk and to nothing else.

use super::parse::TcpFlags;

/// Bytes of the common header: ports, verification tag, checksum.
pub const HEADER_LEN: usize = 12;
/// Where the common header has the checksum.
pub const CHECKSUM: usize = 8;

const INIT: u8 = 1;
const ABORT: u8 = 6;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;

/// What a packet says of its association, as IPVS sees it (`sctp_events` in ip_vs_proto_sctp.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Event {
    /// Data, and every chunk that is none of the others.
    Data = 0,
    /// The association begins.
    Init = 1,
    /// The answer to it, with a cookie.
    InitAck = 2,
    /// The cookie comes back.
    CookieEcho = 3,
    /// The cookie was good.
    CookieAck = 4,
    /// The sender has no more data.
    Shutdown = 5,
    /// Neither has the other end.
    ShutdownAck = 6,
    /// Both know it.
    ShutdownComplete = 7,
    /// An error was found.
    Error = 8,
    /// The association is gone.
    Abort = 9,
    /// There is no chunk.
    Nothing = 10,
}

impl Event {
    /// Every event, at its number.
    pub const ALL: [Event; 11] = [
        Event::Data,
        Event::Init,
        Event::InitAck,
        Event::CookieEcho,
        Event::CookieAck,
        Event::Shutdown,
        Event::ShutdownAck,
        Event::ShutdownComplete,
        Event::Error,
        Event::Abort,
        Event::Nothing,
    ];

    /// The event that [`flags`] put beside the flags.
    #[inline]
    pub const fn of(flags: TcpFlags) -> Self {
        let number = (flags.0 >> 4) as usize;
        if number < Self::ALL.len() { Self::ALL[number] } else { Event::Nothing }
    }

    const fn of_chunk(kind: u8) -> Self {
        match kind {
            INIT => Event::Init,
            2 => Event::InitAck,
            ABORT => Event::Abort,
            7 => Event::Shutdown,
            8 => Event::ShutdownAck,
            9 => Event::Error,
            COOKIE_ECHO => Event::CookieEcho,
            COOKIE_ACK => Event::CookieAck,
            14 => Event::ShutdownComplete,
            _ => Event::Data,
        }
    }
}

/// What an SCTP packet has in the place of TCP's flags: its event in the upper half, SYN's bit if it begins with an
/// INIT, RST's if it begins with an ABORT.
///
/// The first chunk decides. Of two things at once only one is seen: an ABORT right behind a cookie, since control
/// chunks may be bundled with an ABORT behind them (RFC 9260, 3.3.7).
pub fn flags(packet: &[u8]) -> TcpFlags {
    let Some((kind, len)) = chunk(packet, HEADER_LEN) else { return TcpFlags((Event::Nothing as u8) << 4) };
    let next = HEADER_LEN + len.next_multiple_of(4);
    let is_cookie = matches!(kind, COOKIE_ECHO | COOKIE_ACK);
    let is_aborted = is_cookie && len >= 4 && chunk(packet, next).is_some_and(|(kind, _)| kind == ABORT);
    let event = if is_aborted { Event::Abort } else { Event::of_chunk(kind) };
    let bit = match kind {
        INIT => TcpFlags::SYN,
        ABORT => TcpFlags::RST,
        _ => 0,
    };
    TcpFlags((event as u8) << 4 | bit)
}

/// Type and claimed length of the chunk at `at`, if its header is there.
fn chunk(packet: &[u8], at: usize) -> Option<(u8, usize)> {
    let &[kind, _, high, low] = packet.get(at..)?.first_chunk()?;
    Some((kind, usize::from(u16::from_be_bytes([high, low]))))
}

/// Bytes of zero that one step of [`port_difference`] goes over: most packets are no longer.
const ZEROS: [u8; 2048] = [0; 2048];

/// What to XOR to the checksum of a packet of `len` bytes, common header included, when its ports, read as one
/// big-endian number, change from `old` to `new`.
///
/// CRC32c is linear: the checksums of two texts of one length differ by the CRC, without its usual inversions, of
/// how the texts differ, which is in the first four bytes alone. So the payload is not read, and a checksum that
/// was wrong stays wrong. (The kernel computes it anew over whatever has come, which makes a damaged packet a good
/// one: `sctp_nat_csum`.)
pub fn port_difference(old: u32, new: u32, len: usize) -> [u8; 4] {
    let inverted = |crc: u32, bytes: &[u8]| !crc32c::crc32c_append(!crc, bytes);
    let mut crc = inverted(0, &(old ^ new).to_be_bytes());
    let mut left = len.saturating_sub(4);
    while left > 0 {
        let step = left.min(ZEROS.len());
        crc = inverted(crc, &ZEROS[..step]);
        left -= step;
    }
    // The checksum's bytes go the other way round than any other number's (RFC 9260, appendix A).
    crc.to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A packet of these chunks: type, claimed length, bytes of the value.
    fn packet(chunks: &[(u8, u16, usize)]) -> Vec<u8> {
        let mut packet = vec![0; HEADER_LEN];
        for &(kind, len, value) in chunks {
            packet.extend([&[kind, 0][..], &len.to_be_bytes(), &vec![7; value]].concat());
        }
        packet
    }

    fn event(chunks: &[(u8, u16, usize)]) -> Event {
        Event::of(flags(&packet(chunks)))
    }

    #[test]
    fn the_first_chunk_decides() {
        use Event::*;
        let by_type = [
            (0, Data),
            (1, Init),
            (2, InitAck),
            (3, Data),
            (4, Data),
            (5, Data),
            (6, Abort),
            (7, Shutdown),
            (8, ShutdownAck),
            (9, Error),
            (10, CookieEcho),
            (11, CookieAck),
            (12, Data),
            (13, Data),
            (14, ShutdownComplete),
            (15, Data),
            (63, Data),
            (192, Data),
            (255, Data),
        ];
        for (kind, expected) in by_type {
            assert_eq!(event(&[(kind, 4, 0)]), expected, "{kind}");
            assert_eq!(event(&[(kind, 8, 4), (0, 16, 12)]), expected, "{kind} before data");
            let flags = flags(&packet(&[(kind, 4, 0)]));
            assert_eq!(
                (flags.has(TcpFlags::SYN), flags.has(TcpFlags::RST)),
                (kind == 1, kind == 6),
                "{kind}"
            );
        }
        assert_eq!(event(&[]), Nothing);
    }

    #[test]
    fn an_abort_counts_behind_a_cookie_and_nowhere_else() {
        for cookie in [10, 11] {
            assert_eq!(event(&[(cookie, 8, 4), (6, 4, 0)]), Event::Abort);
            assert_eq!(event(&[(cookie, 6, 4), (6, 4, 0)]), Event::Abort, "padded");
            assert_ne!(event(&[(cookie, 3, 0), (6, 4, 0)]), Event::Abort, "shorter than its own header");
            assert_ne!(event(&[(cookie, 0, 0), (6, 4, 0)]), Event::Abort, "no length at all");
            assert_ne!(event(&[(cookie, 65_535, 4), (6, 4, 0)]), Event::Abort, "longer than the packet");
            assert_ne!(
                event(&[(cookie, 8, 4), (0, 4, 0), (6, 4, 0)]),
                Event::Abort,
                "the second is looked at"
            );
            assert!(!flags(&packet(&[(cookie, 8, 4), (6, 4, 0)])).has(TcpFlags::RST), "the first opens");
        }
        assert_eq!(event(&[(9, 4, 0), (6, 4, 0)]), Event::Error);
        assert_eq!(event(&[(0, 4, 0), (6, 4, 0)]), Event::Data);
    }

    #[test]
    fn a_chunk_header_that_is_cut_is_no_chunk() {
        for len in 0..HEADER_LEN + 4 {
            assert_eq!(Event::of(flags(&packet(&[(1, 4, 0)])[..len])), Event::Nothing, "{len} bytes");
        }
        let two = packet(&[(10, 4, 0), (6, 4, 0)]);
        assert_eq!(Event::of(flags(&two[..two.len() - 1])), Event::CookieEcho);
    }

    #[test]
    fn every_event_finds_its_place_beside_the_flags() {
        for (number, event) in (0u8..).zip(Event::ALL) {
            assert_eq!((event as u8, Event::of(TcpFlags(number << 4 | TcpFlags::SYN))), (number, event));
        }
    }

    /// CRC32c bit by bit, from its polynomial (RFC 3720, B.4).
    fn slow(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
            })
        })
    }

    #[test]
    fn the_slow_checksum_is_the_one_of_the_standard() {
        assert_eq!(slow(b"123456789"), 0xe306_9283);
        assert_eq!(slow(&[0; 32]), 0x8a91_36aa, "RFC 3720, B.4");
    }

    proptest! {
        /// The oracle computes the checksum anew; what was wrong before is wrong by the same bits after.
        #[test]
        fn the_difference_makes_a_right_checksum_right_and_a_wrong_one_as_wrong(
            text in prop_oneof![
                9 => proptest::collection::vec(any::<u8>(), 12..200),
                1 => proptest::collection::vec(any::<u8>(), 2040..4200),
            ],
            new: u32,
            error: [u8; 4],
        ) {
            let mut packet = text;
            packet[8..12].fill(0);
            let old = u32::from_be_bytes(*packet.first_chunk().unwrap());
            let before = slow(&packet).to_le_bytes();
            packet[..4].copy_from_slice(&new.to_be_bytes());
            let after = slow(&packet).to_le_bytes();
            let difference = port_difference(old, new, packet.len());
            let apply = |sum: [u8; 4]| std::array::from_fn::<u8, 4, _>(|i| sum[i] ^ difference[i]);
            prop_assert_eq!(apply(before), after);
            let wrong = std::array::from_fn(|i| before[i] ^ error[i]);
            prop_assert_eq!(apply(wrong), std::array::from_fn(|i| after[i] ^ error[i]));
        }

        #[test]
        fn any_bytes_have_an_event(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let flags = flags(&bytes);
            prop_assert_eq!(Event::of(flags) as u8, flags.0 >> 4);
        }
    }
}
