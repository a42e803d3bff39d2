//! Between IPv4 and IPv6 (RFC 7915): a packet of one version becomes one of the other, under other addresses and ports.
//!
//! The header is another one, so what is behind it moves: by 20 bytes, by what extension headers took, and by a fragment's
//! header. Options and extension headers are left out (4.1 and 5.1 there). Transport checksums are mended by a
//! difference, as everywhere. Errors of ICMP are `icmp`'s.
//!
//! | file | owns |
//! | --- | --- |
//! | here | whole frames and fragments: the headers in their places, what is behind them moved and readdressed |
//! | `header` | the headers: what one of either version says, and how the other version says it |

mod header;
#[cfg(test)]
mod tests;

use self::header::{FRAGMENTED_MAX, IPV4_LEN};
pub(super) use self::header::{Fields, class};
pub use self::header::{Piece, header_len};
use super::answer::must_not_fragment;
use super::checksum::{self, Delta};
use super::flow::FlowKey;
use super::parse::Parsed;
use super::{edit, ipv6};

const UDP: u8 = 17;
const UDP_CHECKSUM: usize = 6;
const ETHERTYPE_IPV4: [u8; 2] = [8, 0];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];

/// What a packet becomes.
#[derive(Clone, Copy, Debug)]
pub struct Leaving<'k> {
    /// Its addresses and ports, of the other version.
    pub tuple: &'k FlowKey,
    /// The difference they make to its transport checksum: see [`FlowKey::difference`].
    pub l4: Delta,
}

/// Why a packet cannot become one of the other version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untranslatable {
    /// It would be longer than the room it is in, or than a packet can be.
    Room,
    /// Its UDP checksum, which IPv6 has to have, is in no one place: it is a fragment without one.
    Checksum,
    /// AH and ESP, whose ends would notice.
    Protocol,
    /// An ICMP error that the other version does not have.
    Kind,
    /// A fragment of what begins with extension headers: left out, they would leave a gap.
    Extension,
}

/// Whether a packet may be fragmented once it is one of the other version: an IPv4 packet if its sender allows it, an
/// IPv6 packet if that has begun already, or if a smaller MTU would tell its sender nothing.
pub fn may_be_fragmented(frame: &[u8], parsed: &Parsed, piece: Option<Piece>) -> bool {
    if parsed.key.is_v4() {
        return !must_not_fragment(frame, parsed);
    }
    piece.is_some() || IPV4_LEN + payload_len(parsed) <= FRAGMENTED_MAX
}

/// Makes the IPv6 packet of the frame at the start of `room` one of IPv4, its hop limit counted down by one. A short one
/// may be fragmented on its way, under this `identification`. The frame's new length comes back.
///
/// # Errors
/// Why it cannot be done; nothing has changed then.
pub fn to_v4(
    room: &mut [u8],
    parsed: &Parsed,
    piece: Option<Piece>,
    leaving: Leaving<'_>,
    identification: u16,
) -> Result<usize, Untranslatable> {
    let header = fields(room, parsed, piece)?.v4(leaving.tuple, identification)?;
    reshape(room, parsed, piece, (ETHERTYPE_IPV4, &header), leaving)
}

/// Makes the IPv4 packet of the frame at the start of `room` one of IPv6, its TTL counted down by one. The frame's new
/// length comes back.
///
/// # Errors
/// Why it cannot be done; nothing has changed then.
pub fn to_v6(
    room: &mut [u8],
    parsed: &Parsed,
    piece: Option<Piece>,
    leaving: Leaving<'_>,
) -> Result<usize, Untranslatable> {
    let header = fields(room, parsed, piece)?.v6(leaving.tuple)?;
    let len = header_len(false, piece.is_some());
    reshape(room, parsed, piece, (ETHERTYPE_IPV6, &header[..len]), leaving)
}

/// Makes the packet of the frame at the start of `room`, which is no fragment, one of the other version: [`to_v4`] or
/// [`to_v6`], as it leaves.
///
/// # Errors
/// As theirs.
pub fn whole(
    room: &mut [u8],
    parsed: &Parsed,
    leaving: Leaving<'_>,
    identification: u16,
) -> Result<usize, Untranslatable> {
    if leaving.tuple.is_v4() {
        to_v4(room, parsed, None, leaving, identification)
    } else {
        to_v6(room, parsed, None, leaving)
    }
}

/// Bytes of the packet, which is no fragment, once it is one of the other version.
pub fn len(parsed: &Parsed) -> usize {
    header_len(!parsed.key.is_v4(), false) + payload_len(parsed)
}

fn fields(room: &[u8], parsed: &Parsed, piece: Option<Piece>) -> Result<Fields, Untranslatable> {
    let class = room.get(parsed.l3..).and_then(class).ok_or(Untranslatable::Room)?;
    let (ttl, protocol) = (parsed.ttl.wrapping_sub(1), parsed.key.protocol());
    Ok(Fields { class, ttl, protocol, payload_len: payload_len(parsed), piece })
}

/// Bytes from the transport header on.
pub fn payload_len(parsed: &Parsed) -> usize {
    (parsed.l3 + usize::from(parsed.ip_len)).saturating_sub(parsed.l4)
}

/// Puts `header` in the place of all IP headers, and readdresses what is behind.
fn reshape(
    room: &mut [u8],
    parsed: &Parsed,
    piece: Option<Piece>,
    (ethertype, header): ([u8; 2], &[u8]),
    leaving: Leaving<'_>,
) -> Result<usize, Untranslatable> {
    // What an AH says is not true of another packet, and without it nobody would know that it had said so.
    let packet = room.get(parsed.l3..).unwrap_or_default();
    let has_ah = !parsed.key.is_v4() && ipv6::has_authentication(packet, parsed.l4 - parsed.l3);
    if parsed.is_ipsec() || has_ah {
        return Err(Untranslatable::Protocol);
    }
    let (old, len) = (parsed.l4..parsed.l4 + payload_len(parsed), payload_len(parsed));
    let (l4, end) = (parsed.l3 + header.len(), parsed.l3 + header.len() + len);
    if end > room.len() || old.end > room.len() || parsed.l3 < 2 {
        return Err(Untranslatable::Room);
    }
    let has_ports = piece.is_none_or(|piece| piece.offset == 0);
    let sums_anew = has_ports && !leaving.tuple.is_v4() && has_no_checksum(room, parsed);
    if sums_anew && piece.is_some() {
        return Err(Untranslatable::Checksum);
    }
    room.copy_within(old, l4);
    room[parsed.l3 - 2..parsed.l3].copy_from_slice(&ethertype);
    room[parsed.l3..l4].copy_from_slice(header);
    if has_ports {
        let ip_len = u16::try_from(end - parsed.l3).map_err(|_| Untranslatable::Room)?;
        edit::set_ports(&mut room[..end], &Parsed { l4, ip_len, ..*parsed }, leaving.tuple, leaving.l4);
    }
    if sums_anew {
        sum_anew(&mut room[l4..end], leaving.tuple);
    }
    Ok(end)
}

/// True for UDP that goes without a checksum.
fn has_no_checksum(room: &[u8], parsed: &Parsed) -> bool {
    let sum = parsed.l4 + UDP_CHECKSUM;
    parsed.key.protocol() == UDP && room.get(sum..sum + 2) == Some(&[0, 0])
}

/// Gives UDP without a checksum one (RFC 7915, 4.5).
fn sum_anew(datagram: &mut [u8], tuple: &FlowKey) {
    let sum = checksum::of_transport(tuple.source().ip(), tuple.destination().ip(), UDP, datagram);
    if let Some(field) = datagram.get_mut(UDP_CHECKSUM..UDP_CHECKSUM + 2) {
        field.copy_from_slice(&if sum == 0 { [0xff; 2] } else { sum.to_be_bytes() });
    }
}
