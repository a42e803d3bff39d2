//! Internet checksums: whole (RFC 1071) and incremental (RFC 1624).

use std::net::IpAddr;

/// A difference between two texts under the same checksum, in one's complement.
///
/// Computed once for a connection and applied to each of its packets: `HC' = ~(~HC + ~m + m')`, equation 3
/// of RFC 1624. Adding differences adds the edits. An incremental update keeps a wrong checksum wrong,
/// which is what a director owes the ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta(pub u16);

impl Delta {
    /// The difference a TTL makes when it is counted down by one: the TTL is the high byte of its word,
    /// so `~m + m'` is `0xffff - 0x0100` whatever the TTL was.
    pub const TTL_MINUS_ONE: Delta = Delta(0xfeff);
    /// Takes [`TTL_MINUS_ONE`](Self::TTL_MINUS_ONE) back.
    pub const TTL_PLUS_ONE: Delta = Self::TTL_MINUS_ONE.taken_back();

    /// The difference between `old` and `new`, of equal and even length.
    pub fn between(old: &[u8], new: &[u8]) -> Self {
        debug_assert!(old.len() == new.len() && old.len().is_multiple_of(2));
        let sum: u64 = words(new).sum::<u64>() + words(old).map(|w| 0xffff - w).sum::<u64>();
        Delta(fold(sum))
    }

    /// The difference between two texts of eight bytes, read as big-endian numbers.
    pub fn between_numbers(old: u64, new: u64) -> Self {
        let halves = |number: u64| (number >> 32) + (number & 0xffff_ffff);
        Delta(short(halves(new) + halves(!old)))
    }

    /// Both edits.
    pub fn and(self, other: Delta) -> Self {
        Delta(fold(u64::from(self.0) + u64::from(other.0)))
    }

    /// The edit that takes this one back.
    pub const fn taken_back(self) -> Self {
        Delta(!self.0)
    }

    /// The checksum after the edit.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the sum has its carry added back")]
    pub const fn apply(self, checksum: u16) -> u16 {
        let sum = !checksum as u32 + self.0 as u32;
        !((sum & 0xffff) + (sum >> 16)) as u16
    }

    /// As [`apply`](Self::apply) for UDP over IPv4: zero means "no checksum" and stays zero, and a
    /// checksum that comes out as zero is sent as its other form, all ones (RFC 768).
    #[inline]
    pub const fn apply_udp(self, checksum: u16) -> u16 {
        if checksum == 0 {
            return 0;
        }
        match self.apply(checksum) {
            0 => 0xffff,
            other => other,
        }
    }
}

/// The checksum of `bytes` (an odd last byte counts as the high one), to be stored big-endian. A header
/// whose own checksum is right sums to zero.
pub fn of(bytes: &[u8]) -> u16 {
    !fold(words(bytes).sum())
}

/// As [`of`] for a transport packet, with the pseudo header of its addresses and `protocol` (RFC 768, RFC 8200 8.1).
pub fn of_transport(source: IpAddr, destination: IpAddr, protocol: u8, bytes: &[u8]) -> u16 {
    let address = |address: IpAddr| match address {
        IpAddr::V4(ip) => words(&ip.octets()).sum::<u64>(),
        IpAddr::V6(ip) => words(&ip.octets()).sum(),
    };
    let pseudo = address(source) + address(destination) + u64::from(protocol) + bytes.len() as u64;
    !fold(pseudo + words(bytes).sum::<u64>())
}

/// As [`of`] for an IP header, whose length is a multiple of four bytes: half as many additions.
#[inline]
pub fn of_header(header: &[u8]) -> u16 {
    // One's complement sums do not depend on the width they are added in (RFC 1071, 2.C).
    let (words, _none) = header.as_chunks::<4>();
    !fold(words.iter().map(|&w| u64::from(u32::from_be_bytes(w))).sum())
}

/// True if an IPv4 header without options carries the right checksum. In whatever order its bytes are added: the sum's
/// are in that order too (RFC 1071, 2.B), and one of all ones is the same in any.
#[inline(always)]
pub(super) fn is_right(header: &[u8; 20]) -> bool {
    let (words, _none) = header.as_chunks::<4>();
    let sum: u64 = words.iter().map(|&w| u64::from(u32::from_ne_bytes(w))).sum();
    short(sum) == 0xffff
}

/// As [`of`] for an IPv4 header without options of these words and, behind them, these two.
#[inline(always)]
pub(super) fn of_words(words: [u32; 3], addresses: u64) -> u16 {
    let sum: u64 =
        words.iter().map(|&w| u64::from(w)).sum::<u64>() + (addresses >> 32) + (addresses & 0xffff_ffff);
    !short(sum)
}

/// The sum of up to five words of 32 bits, folded without a branch.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "it fits in the end")]
const fn short(sum: u64) -> u16 {
    // Below 5 * 2^32; then below 2^32 + 5; then below 2^17; then it fits.
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.chunks(2).map(|w| match *w {
        [high, low] => u64::from(u16::from_be_bytes([high, low])),
        [high] => u64::from(high) << 8,
        _ => 0,
    })
}

#[allow(clippy::cast_possible_truncation, reason = "folded to 16 bits")]
const fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_rfc_1071() {
        assert_eq!(of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn udp_zero_stays_zero_and_a_computed_zero_is_all_ones() {
        assert_eq!(Delta(0x1234).apply_udp(0), 0);
        assert_eq!(Delta(0xffff).apply(0xffff), 0);
        assert_eq!(Delta(0xffff).apply_udp(0xffff), 0xffff);
    }

    proptest! {
        #[test]
        fn a_header_sums_up_the_same_in_wider_words(words in proptest::collection::vec(any::<u32>(), 5..16)) {
            let header: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
            prop_assert_eq!(of_header(&header), of(&header));
        }

        #[test]
        fn a_difference_of_numbers_is_one_of_bytes(old: u64, new: u64) {
            for (old, new) in [(old, new), (old, old), (0, new), (old, 0), (u64::MAX, new), (u64::MAX, 0), (0, 0)] {
                let bytes = Delta::between(&old.to_be_bytes(), &new.to_be_bytes());
                prop_assert_eq!(Delta::between_numbers(old, new), bytes);
            }
        }

        #[test]
        fn a_header_is_right_if_it_sums_up_to_nothing(mut header: [u8; 20], flipped in 0usize..20, bit in 0u8..9) {
            header[10..12].fill(0);
            let sum = of(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            prop_assert!(is_right(&header));
            header[flipped] ^= 1u8.checked_shl(bit.into()).unwrap_or(0);
            prop_assert_eq!(is_right(&header), of(&header) == 0);
        }

        /// The oracle is the checksum computed anew over the whole text.
        #[test]
        fn an_incremental_update_equals_a_new_computation(
            mut text in proptest::collection::vec(any::<u8>(), 20..60),
            edit in proptest::collection::vec(any::<u8>(), 8),
            ttl in 1u8..,
        ) {
            text[8] = ttl;
            text.truncate(text.len() & !1);
            text[0] = 0x45; // as in any IPv4 header: a text of zeros alone has two right checksums
            let before = of(&text);
            let delta = Delta::between(&text[12..20], &edit).and(Delta::TTL_MINUS_ONE);
            text[12..20].copy_from_slice(&edit);
            text[8] -= 1;
            prop_assert_eq!(delta.apply(before), of(&text));
        }

        /// Bytes damaged on the way stay damaged: the checksum after the edit is off by what it was off before.
        #[test]
        fn a_wrong_checksum_stays_wrong(checksum: u16, error in 1u16..0xffff, delta: u16) {
            let wrong = Delta(error).apply(checksum);
            prop_assert_eq!(
                Delta(delta).apply(wrong) % 0xffff,
                Delta(error).apply(Delta(delta).apply(checksum)) % 0xffff
            );
        }
    }
}
