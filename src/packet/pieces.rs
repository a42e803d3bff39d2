//! Packets that are too long, in pieces: any of IPv4 (RFC 791, 3.2), and IPv6 packets of the director's own (RFC 8200,
//! 4.5), since nobody else may fragment those.
//!
//! Where the pieces go is not known here.

use super::checksum;
use super::ipv6;

/// What offsets count in, in bytes.
const UNIT: usize = 8;
const MORE: u8 = 0x20;
const OFFSET_MASK: u16 = 0x1fff;
/// Bytes of IPv6's Fragment header.
const FRAGMENT_LEN: usize = 8;
const MORE_V6: u16 = 1;

/// How a packet, or a fragment, is split so that its pieces fit an MTU. The first piece stays in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pieces {
    l3: usize,
    header_len: usize,
    payload_len: usize,
    /// Payload of every piece but the last.
    step: usize,
    kind: Kind,
}

/// Whose headers the pieces get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// An IPv4 packet's.
    V4,
    /// A whole IPv6 packet's, and behind them a Fragment header with this identification.
    V6(u32),
    /// A fragment's of IPv6, its Fragment header among them.
    V6Fragment,
}

impl Pieces {
    /// Of the IPv4 packet at `l3` of its frame. `None` if not even eight bytes of payload fit the MTU.
    pub const fn v4(l3: usize, header_len: usize, payload_len: usize, mtu: u16) -> Option<Self> {
        let step = (mtu as usize).saturating_sub(header_len) / UNIT * UNIT;
        if step == 0 { None } else { Some(Self { l3, header_len, payload_len, step, kind: Kind::V4 }) }
    }

    /// Of a whole IPv6 packet without extension headers, which have to be told apart (RFC 8200, 4.5).
    pub const fn v6(l3: usize, payload_len: usize, mtu: u16, identification: u32) -> Option<Self> {
        let header_len = ipv6::HEADER_LEN;
        let step = (mtu as usize).saturating_sub(header_len + FRAGMENT_LEN) / UNIT * UNIT;
        if step == 0 {
            None
        } else {
            Some(Self { l3, header_len, payload_len, step, kind: Kind::V6(identification) })
        }
    }

    /// Of a fragment of IPv6 whose Fragment header is the one extension header in front of its payload.
    pub const fn v6_fragment(l3: usize, payload_len: usize, mtu: u16) -> Option<Self> {
        let header_len = ipv6::HEADER_LEN + FRAGMENT_LEN;
        let step = (mtu as usize).saturating_sub(header_len) / UNIT * UNIT;
        if step == 0 {
            None
        } else {
            Some(Self { l3, header_len, payload_len, step, kind: Kind::V6Fragment })
        }
    }

    /// How many there are besides the first.
    pub const fn later(&self) -> usize {
        self.payload_len.div_ceil(self.step).saturating_sub(1)
    }

    /// Bytes in front of each piece's payload: Ethernet and IP header, and IPv6's Fragment header.
    const fn head_len(&self) -> usize {
        let fragment = if matches!(self.kind, Kind::V6(_)) { FRAGMENT_LEN } else { 0 };
        self.l3 + self.header_len + fragment
    }

    /// Writes the nth piece of `frame`, counted from the first as 0, with its Ethernet header to `to`. Its length
    /// comes back; `None` if it does not fit.
    ///
    /// Before [`shorten`](Self::shorten).
    pub fn write(&self, frame: &[u8], n: usize, to: &mut [u8]) -> Option<usize> {
        let (whole_head, head) = (self.l3 + self.header_len, self.head_len());
        let (from, end) = (n * self.step, self.payload_len.min((n + 1) * self.step));
        let len = head + end.checked_sub(from)?;
        let to = to.get_mut(..len)?;
        to[..whole_head].copy_from_slice(frame.get(..whole_head)?);
        to[head..].copy_from_slice(frame.get(whole_head + from..whole_head + end)?);
        if n > 0 && self.kind == Kind::V4 {
            only_copied_options(to.get_mut(self.l3 + 20..head)?);
        }
        self.head(to.get_mut(self.l3..head)?, from, end)?;
        Some(len)
    }

    /// Makes `frame` its own first piece. Its length comes back.
    pub fn shorten(&self, frame: &mut [u8]) -> Option<usize> {
        let len = self.payload_len.min(self.step);
        let (whole_head, head) = (self.l3 + self.header_len, self.head_len());
        if frame.len() < head + len {
            return None;
        }
        frame.copy_within(whole_head..whole_head + len, head);
        self.head(frame.get_mut(self.l3..head)?, 0, len)?;
        Some(head + len)
    }

    /// Makes the headers those of the piece with the bytes of the payload from `from` to `end`.
    fn head(&self, headers: &mut [u8], from: usize, end: usize) -> Option<()> {
        let (more, units) = (end < self.payload_len, from / UNIT);
        match self.kind {
            Kind::V4 => head_v4(headers, end - from, units, more),
            Kind::V6(identification) => head_v6(headers, end - from, units, more, identification),
            Kind::V6Fragment => head_v6_fragment(headers, end - from, units, more),
        }
    }
}

/// Makes an IP header that of a piece of `len` bytes, `further` units behind where its payload was.
fn head_v4(header: &mut [u8], len: usize, further: usize, more: bool) -> Option<()> {
    let total = u16::try_from(header.len() + len).ok()?;
    header.get_mut(2..4)?.copy_from_slice(&total.to_be_bytes());
    let field = header.get_mut(6..8)?;
    let old = u16::from_be_bytes([field[0], field[1]]);
    let offset = u16::try_from(usize::from(old & OFFSET_MASK) + further).ok()? & OFFSET_MASK;
    field.copy_from_slice(&(old & !OFFSET_MASK | offset).to_be_bytes());
    if more {
        field[0] |= MORE;
    }
    header.get_mut(10..12)?.fill(0);
    let sum = checksum::of_header(header);
    header.get_mut(10..12)?.copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// As [`head_v4`] for an IPv6 header and the room for a Fragment header behind it.
fn head_v6(headers: &mut [u8], len: usize, units: usize, more: bool, identification: u32) -> Option<()> {
    let (header, fragment) = headers.split_first_chunk_mut::<{ ipv6::HEADER_LEN }>()?;
    let fragment = fragment.first_chunk_mut::<FRAGMENT_LEN>()?;
    header[4..6].copy_from_slice(&u16::try_from(FRAGMENT_LEN + len).ok()?.to_be_bytes());
    let next = std::mem::replace(&mut header[ipv6::NEXT_HEADER], ipv6::FRAGMENT);
    let offset = u16::try_from(units * UNIT).ok()? | if more { MORE_V6 } else { 0 };
    fragment[..2].copy_from_slice(&[next, 0]);
    fragment[2..4].copy_from_slice(&offset.to_be_bytes());
    fragment[4..].copy_from_slice(&identification.to_be_bytes());
    Some(())
}

/// As [`head_v4`] for the headers of an IPv6 fragment.
fn head_v6_fragment(headers: &mut [u8], len: usize, further: usize, more: bool) -> Option<()> {
    let (header, fragment) = headers.split_first_chunk_mut::<{ ipv6::HEADER_LEN }>()?;
    let fragment = fragment.first_chunk_mut::<FRAGMENT_LEN>()?;
    header[4..6].copy_from_slice(&u16::try_from(FRAGMENT_LEN + len).ok()?.to_be_bytes());
    let old = u16::from_be_bytes([fragment[2], fragment[3]]);
    let field = old.checked_add(u16::try_from(further * UNIT).ok()?)? | if more { MORE_V6 } else { 0 };
    fragment[2..4].copy_from_slice(&field.to_be_bytes());
    Some(())
}

/// Leaves of IP options those that every fragment has (RFC 791, 3.1: the copied flag); others become "no operation", as
/// Linux does (`ip_options_fragment`).
fn only_copied_options(mut options: &mut [u8]) {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const COPIED: u8 = 0x80;
    while let Some(&kind) = options.first() {
        let len = match (kind, options.get(1)) {
            (END, _) => return,
            (NO_OPERATION, _) => 1,
            (_, Some(&len)) if len >= 2 => usize::from(len),
            _ => return,
        };
        let Some((option, rest)) = options.split_at_mut_checked(len) else { return };
        if kind & COPIED == 0 {
            option.fill(NO_OPERATION);
        }
        options = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::samples::fragment;
    use etherparse::{Ipv4HeaderSlice, PacketBuilder, SlicedPacket};
    use proptest::prelude::*;

    const UDP: u8 = 17;

    /// All pieces, as they leave; the packet itself becomes the first of them.
    fn all(pieces: &Pieces, whole: &[u8]) -> Vec<Vec<u8>> {
        let written = |n| {
            let mut room = vec![0; 2000];
            let len = pieces.write(whole, n, &mut room).unwrap();
            room.truncate(len);
            room
        };
        let all: Vec<Vec<u8>> = (0..=pieces.later()).map(written).collect();
        let mut shortened = [whole, &[0; 8]].concat();
        let first = pieces.shorten(&mut shortened).unwrap();
        assert_eq!(shortened[..first], all[0]);
        all
    }

    #[test]
    fn options_that_are_not_copied_become_no_operations() {
        // Record route (not copied), loose source route (copied), the end and what is behind it.
        let mut options = [7, 4, 4, 9, 1, 131, 3, 4, 0, 7, 3, 0];
        only_copied_options(&mut options);
        assert_eq!(options, [1, 1, 1, 1, 1, 131, 3, 4, 0, 7, 3, 0]);
        for lie in [[7, 1, 0, 0], [7, 0, 0, 0], [7, 9, 0, 0], [1, 1, 1, 7]] {
            let mut options = lie;
            only_copied_options(&mut options);
            assert_eq!(options, lie, "left as it is");
        }
    }

    proptest! {
        /// The oracle puts the bytes of all pieces where they say that they belong.
        #[test]
        fn pieces_are_the_packet_and_fit_the_mtu(
            len in 1usize..3000,
            mtu in 68u16..1500,
            at in 0u16..1000,
            more: bool,
        ) {
            let payload: Vec<u8> = (0..len).map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1]).collect();
            let whole = fragment(UDP, at, more, &payload);
            let pieces = Pieces::v4(14, 20, len, mtu).unwrap();
            let mut all = all(&pieces, &whole);
            let mut got = vec![0xee; len];
            let last = all.pop().unwrap();
            for (piece, is_last) in all.iter().map(|p| (p, false)).chain([(&last, true)]) {
                prop_assert!(piece.len() <= 14 + usize::from(mtu));
                let ip = Ipv4HeaderSlice::from_slice(&piece[14..]).unwrap();
                prop_assert_eq!(checksum::of(ip.slice()), 0);
                prop_assert_eq!((ip.identification(), ip.more_fragments()), (0x1234, more || !is_last));
                let from = 8 * usize::from(ip.fragments_offset().value() - at);
                let bytes = &piece[34..14 + usize::from(ip.total_len())];
                got[from..from + bytes.len()].copy_from_slice(bytes);
            }
            prop_assert_eq!(got, payload);
        }

        #[test]
        fn pieces_of_ipv6_are_the_packet_and_fit_the_mtu(len in 1usize..5000, mtu in 1280u16..1500) {
            let payload: Vec<u8> = (0..len).map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1]).collect();
            let mut whole = Vec::new();
            PacketBuilder::ethernet2([1; 6], [2; 6])
                .ipv6([3; 16], [4; 16], 33)
                .write(&mut whole, 41.into(), &payload)
                .unwrap();
            let pieces = Pieces::v6(14, len, mtu, 0x1234_5678).unwrap();
            let mut all = all(&pieces, &whole);
            let mut got = vec![0xee; len];
            let count = all.len();
            for (n, piece) in all.drain(..).enumerate() {
                prop_assert!(piece.len() <= 14 + usize::from(mtu));
                let sliced = SlicedPacket::from_ethernet(&piece).unwrap();
                let Some(etherparse::NetSlice::Ipv6(ip)) = &sliced.net else { panic!("{sliced:?}") };
                prop_assert_eq!(ip.header().hop_limit(), 33);
                let header = ip.extensions().clone().into_iter().find_map(|it| match it {
                    etherparse::Ipv6ExtensionSlice::Fragment(fragment) => Some(fragment.to_header()),
                    _ => None,
                });
                let header = header.unwrap();
                prop_assert_eq!((header.identification, header.more_fragments), (0x1234_5678, n + 1 < count));
                prop_assert_eq!(header.next_header.0, 41);
                let from = 8 * usize::from(header.fragment_offset.value());
                let bytes = &piece[62..];
                got[from..from + bytes.len()].copy_from_slice(bytes);
            }
            prop_assert_eq!(got, payload);
        }
    }

    #[test]
    fn a_whole_packet_that_fits_is_one_piece() {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv4([10, 0, 1, 1], [10, 0, 0, 100], 33)
            .udp(4711, 53)
            .write(&mut frame, &[7; 100])
            .unwrap();
        assert_eq!(Pieces::v4(14, 20, 108, 128).unwrap().later(), 1, "104 bytes are whole units");
        assert_eq!(Pieces::v4(14, 20, 104, 128).unwrap().later(), 0);
        assert_eq!(Pieces::v4(14, 20, 108, 27), None);
    }
}
