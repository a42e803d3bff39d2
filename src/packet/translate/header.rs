//! IP headers of both versions: what one says besides addresses, and the header of either version that says it.

use super::Untranslatable;
use crate::packet::flow::FlowKey;
use crate::packet::{checksum, ipv6};

pub(super) const IPV4_LEN: usize = 20;
const HEADERS_MAX: usize = ipv6::HEADER_LEN + ipv6::FRAGMENT_LEN;

/// The longest packet that IPv4 may fragment on its way after it was IPv6, whose packets of this length and 20 bytes pass
/// every link (RFC 7915, 5.1): its sender would do nothing about a smaller MTU.
pub(super) const FRAGMENTED_MAX: usize = 1260;

/// Which fragment of its datagram a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What all fragments of the datagram have in common. IPv4 has the lower half only.
    pub identification: u32,
    /// Where its bytes are in the datagram's; a multiple of eight.
    pub offset: u16,
    /// Whether others follow behind.
    pub more: bool,
}

impl Piece {
    /// Which fragment this packet is, if it is one: `packet` begins with its IP header.
    ///
    /// # Errors
    /// It is one of IPv6 whose transport header, at `l4`, is not what the fragments are of.
    pub fn of(packet: &[u8], l4: usize) -> Result<Option<Self>, Untranslatable> {
        if packet.first().is_some_and(|version| version >> 4 == 4) {
            return Ok(Self::of_v4(packet));
        }
        match Self::of_v6(packet) {
            Some((_, end)) if end != l4 => Err(Untranslatable::Extension),
            found => Ok(found.map(|(piece, _)| piece)),
        }
    }

    fn of_v4(packet: &[u8]) -> Option<Self> {
        let [_, _, _, _, id_high, id_low, high, low] = *packet.first_chunk()?;
        let field = u16::from_be_bytes([high, low]);
        let (offset, more) = ((field & 0x1fff) << 3, field & 0x2000 != 0);
        let identification = u32::from_be_bytes([0, 0, id_high, id_low]);
        (offset > 0 || more).then_some(Self { identification, offset, more })
    }

    /// With where its Fragment header ends.
    fn of_v6(packet: &[u8]) -> Option<(Self, usize)> {
        let behind = packet.get(ipv6::HEADER_LEN..)?;
        let chain = ipv6::walk(behind, packet[ipv6::NEXT_HEADER], ipv6::Over::Whole).ok()?;
        let &[_, _, high, low, ref identification @ ..] = behind.get(chain.len..)?.first_chunk::<8>()?;
        let field = u16::from_be_bytes([high, low]);
        let piece = Self {
            identification: u32::from_be_bytes(*identification),
            offset: field & ipv6::OFFSET_MASK,
            more: field & ipv6::MORE != 0,
        };
        let end = ipv6::HEADER_LEN + chain.len + ipv6::FRAGMENT_LEN;
        (chain.protocol == ipv6::FRAGMENT).then_some((piece, end))
    }
}

/// What an IP header says besides addresses.
pub(in crate::packet) struct Fields {
    /// Traffic class, or type of service.
    pub(in crate::packet) class: u8,
    /// Hop limit, or TTL.
    pub(in crate::packet) ttl: u8,
    pub(in crate::packet) protocol: u8,
    /// Bytes behind the headers.
    pub(in crate::packet) payload_len: usize,
    pub(in crate::packet) piece: Option<Piece>,
}

impl Fields {
    /// An IPv4 header: of a packet that may be fragmented on its way, under this `identification`, unless it is long.
    pub(in crate::packet) fn v4(
        &self,
        tuple: &FlowKey,
        identification: u16,
    ) -> Result<[u8; IPV4_LEN], Untranslatable> {
        let ip_len = IPV4_LEN + self.payload_len;
        let [length_high, length_low] =
            u16::try_from(ip_len).map_err(|_| Untranslatable::Room)?.to_be_bytes();
        let (identification, field) = match self.piece {
            Some(piece) => {
                (piece.identification.to_be_bytes(), piece.offset >> 3 | u16::from(piece.more) << 13)
            }
            None if ip_len <= FRAGMENTED_MAX => (u32::from(identification).to_be_bytes(), 0),
            None => ([0; 4], 0x4000),
        };
        let [_, _, id_high, id_low] = identification;
        let [field_high, field_low] = field.to_be_bytes();
        let mut header = [0; IPV4_LEN];
        header[..4].copy_from_slice(&[0x45, self.class, length_high, length_low]);
        header[4..8].copy_from_slice(&[id_high, id_low, field_high, field_low]);
        header[8..10].copy_from_slice(&[self.ttl, self.protocol]);
        header[12..].copy_from_slice(&tuple.v4_addresses().to_be_bytes());
        let sum = checksum::of_header(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        Ok(header)
    }

    /// An IPv6 header, and a Fragment header behind it if it is a fragment's: the array is longer than what counts,
    /// [`header_len`].
    pub(in crate::packet) fn v6(&self, tuple: &FlowKey) -> Result<[u8; HEADERS_MAX], Untranslatable> {
        let behind = header_len(false, self.piece.is_some()) - ipv6::HEADER_LEN + self.payload_len;
        let [length_high, length_low] =
            u16::try_from(behind).map_err(|_| Untranslatable::Room)?.to_be_bytes();
        let next = if self.piece.is_some() { ipv6::FRAGMENT } else { self.protocol };
        let mut header = [0; HEADERS_MAX];
        let (fixed, fragment) = header.split_at_mut(ipv6::HEADER_LEN);
        fixed[..4].copy_from_slice(&[0x60 | self.class >> 4, self.class << 4, 0, 0]);
        fixed[4..8].copy_from_slice(&[length_high, length_low, next, self.ttl]);
        fixed[8..].copy_from_slice(&tuple.v6_addresses());
        if let Some(piece) = self.piece {
            let [high, low] = (piece.offset | u16::from(piece.more)).to_be_bytes();
            fragment[..4].copy_from_slice(&[self.protocol, 0, high, low]);
            fragment[4..].copy_from_slice(&piece.identification.to_be_bytes());
        }
        Ok(header)
    }
}

/// The traffic class of an IP packet, or its type of service.
pub(in crate::packet) fn class(packet: &[u8]) -> Option<u8> {
    let [first, second] = *packet.first_chunk()?;
    Some(if first >> 4 == 4 { second } else { first << 4 | second >> 4 })
}

/// Bytes that an IPv6 packet behind its headers has in front of it as IPv4, and the other way round: with the Fragment
/// header if it is a fragment.
pub const fn header_len(is_v4: bool, is_fragment: bool) -> usize {
    match (is_v4, is_fragment) {
        (true, _) => IPV4_LEN,
        (false, false) => ipv6::HEADER_LEN,
        (false, true) => ipv6::HEADER_LEN + ipv6::FRAGMENT_LEN,
    }
}
