//! ICMP errors between IPv4 and IPv6 (RFC 7915, 4.2 and 5.2): the error, and the packet that it quotes, become those of the
//! other version.

use super::{HEADER_LEN, ICMP_CHECKSUM, ICMPV6, Related, TCP_CHECKSUM, UDP_CHECKSUM, replace, update};
use crate::packet::checksum;
use crate::packet::flow::FlowKey;
use crate::packet::parse::Parsed;
use crate::packet::translate::{self, Fields, Piece, Untranslatable};

const ICMP: u8 = 1;
const ETHERTYPE_IPV4: [u8; 2] = [8, 0];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
/// Longest packet of an error, as for those of the director's own.
const ERROR_MAX_V4: usize = 576;
const ERROR_MAX_V6: usize = 1280;
/// Bytes at the front of a transport header that have the ports.
const PORTS_LEN: usize = 4;
/// Least MTU that IPv6 is told.
const LEAST_MTU_V6: u32 = 1280;
/// By how much an IPv6 header is longer than an IPv4 one, and with a Fragment header.
const LONGER: u32 = 20;
const LONGER_FRAGMENT: u32 = 28;
/// MTUs that links have (RFC 1191, 7.1), for routers of before that do not tell theirs.
const PLATEAUS: [u16; 11] = [65_535, 32_000, 17_914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68];

/// Type, code and second word of a message.
type Head = (u8, u8, u32);

/// What of a quoted packet is told by its headers.
struct Quote {
    fields: Fields,
    /// Length that its IP header tells, in bytes.
    ip_len: u16,
}

/// Makes the error in the frame at the start of `room` one of the other version about `quoted`: the quoted packet under the
/// key it was sent with. The error goes to who sent it, from who it was sent to, over a next hop with this `mtu`. The frame's new
/// length comes back.
///
/// # Errors
/// The other version has no such error, or there is no room; nothing has changed then.
pub fn translate(
    room: &mut [u8],
    error: &Related,
    quoted: &FlowKey,
    mtu: u16,
    identification: u16,
) -> Result<usize, Untranslatable> {
    let Parsed { l3, l4, ip_len, ttl, .. } = error.parsed;
    let to_v4 = quoted.is_v4();
    let packet = room.get(l3..l3 + usize::from(ip_len)).ok_or(Untranslatable::Room)?;
    let message = packet.get(l4 - l3..).ok_or(Untranslatable::Room)?;
    let (head, quote) = message.split_first_chunk::<HEADER_LEN>().ok_or(Untranslatable::Room)?;
    let told = read(quote, error.quoted_l4 - l4 - HEADER_LEN, quoted.protocol())?;
    let head_of_old = (head[0], head[1], u32::from_be_bytes([head[4], head[5], head[6], head[7]]));
    let (kind, code, rest) =
        if to_v4 { to_v4_head(head_of_old, &told, mtu) } else { to_v6_head(head_of_old, &told, mtu) }
            .ok_or(Untranslatable::Kind)?;
    // The rest of the headers is followed by what is only quoted, and perhaps by what is not (RFC 4884).
    let from = error.quoted_l4;
    let end = l4 + HEADER_LEN + quote.len().min(quoted_len(head, to_v4));

    let ip_header_len = translate::header_len(to_v4, false);
    let inner = l3 + ip_header_len + HEADER_LEN;
    let to = inner + translate::header_len(to_v4, told.fields.piece.is_some());
    let longest = if to_v4 { ERROR_MAX_V4 } else { ERROR_MAX_V6 }.min(usize::from(mtu));
    // Without the ports nobody would know what it is about.
    let left =
        (l3 + longest).checked_sub(to).filter(|left| *left >= PORTS_LEN).ok_or(Untranslatable::Room)?;
    let len = end.checked_sub(from).filter(|len| *len >= PORTS_LEN).ok_or(Untranslatable::Room)?.min(left);
    if to + len > room.len() || l3 < 2 {
        return Err(Untranslatable::Room);
    }
    let class = translate::class(packet).ok_or(Untranslatable::Room)?;
    let protocol = if to_v4 { ICMP } else { ICMPV6 };
    let payload_len = to + len - l3 - ip_header_len;
    let fields = Fields { class, ttl: ttl.wrapping_sub(1), protocol, payload_len, piece: None };
    let back = FlowKey::new(protocol, quoted.destination(), quoted.source());

    // Nothing is written before all of it is known.
    if to_v4 {
        let headers = (fields.v4(&back, identification)?, told.fields.v4(quoted, 0)?);
        room.copy_within(from..from + len, to);
        room[l3 - 2..l3].copy_from_slice(&ETHERTYPE_IPV4);
        room[l3..l3 + ip_header_len].copy_from_slice(&headers.0);
        room[inner..to].copy_from_slice(&headers.1);
    } else {
        let headers = (fields.v6(&back)?, told.fields.v6(quoted)?);
        room.copy_within(from..from + len, to);
        room[l3 - 2..l3].copy_from_slice(&ETHERTYPE_IPV6);
        room[l3..l3 + ip_header_len].copy_from_slice(&headers.0[..ip_header_len]);
        room[inner..to].copy_from_slice(&headers.1[..to - inner]);
    }
    readdress(&mut room[to..to + len], &error.parsed.key.reversed(), quoted);
    let message = &mut room[l3 + ip_header_len..to + len];
    message[..HEADER_LEN].fill(0);
    message[..2].copy_from_slice(&[kind, code]);
    message[4..HEADER_LEN].copy_from_slice(&rest.to_be_bytes());
    let sum = if to_v4 {
        checksum::of(message)
    } else {
        checksum::of_transport(back.source().ip(), back.destination().ip(), ICMPV6, message)
    };
    message[ICMP_CHECKSUM..ICMP_CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
    Ok(to + len)
}

/// Reads the headers of a quoted packet, whose transport header begins at `l4`.
fn read(quote: &[u8], l4: usize, protocol: u8) -> Result<Quote, Untranslatable> {
    let piece = Piece::of(quote, l4)?;
    let class = translate::class(quote).ok_or(Untranslatable::Room)?;
    let header = quote.first_chunk::<20>().ok_or(Untranslatable::Room)?;
    let (ttl, ip_len) = if header[0] >> 4 == 4 {
        (header[8], u16::from_be_bytes([header[2], header[3]]))
    } else {
        (header[7], u16::from_be_bytes([header[4], header[5]]).saturating_add(40))
    };
    let payload_len = usize::from(ip_len).saturating_sub(l4);
    Ok(Quote { fields: Fields { class, ttl, protocol, payload_len, piece }, ip_len })
}

/// Bytes that a message with this header says it quotes, if it says so: what is behind them is an extension (RFC 4884).
pub(in crate::packet) fn quoted_len(head: &[u8; HEADER_LEN], is_v6: bool) -> usize {
    let (says, words, word) =
        if is_v6 { (matches!(head[0], 1 | 3), head[4], 8) } else { (matches!(head[0], 3 | 11), head[5], 4) };
    if says && words > 0 { usize::from(words) * word } else { usize::MAX }
}

/// Writes the ports of `new` into the transport header of a quoted packet, which had the key `old`, and mends its checksum, as
/// far as that is quoted.
fn readdress(transport: &mut [u8], old: &FlowKey, new: &FlowKey) {
    let (delta, _) = old.difference(new);
    let _ports = replace(transport, 0, &new.ports().to_be_bytes());
    match new.protocol() {
        6 => drop(update(transport, TCP_CHECKSUM, |c| delta.apply(c))),
        17 => drop(update(transport, UDP_CHECKSUM, |c| delta.apply_udp(c))),
        _ => {}
    }
}

/// The head of the ICMPv6 message that says what one of ICMP does.
fn to_v6_head((kind, code, rest): Head, told: &Quote, hop_mtu: u16) -> Option<Head> {
    Some(match (kind, code) {
        (3, 0 | 1 | 5 | 6 | 7 | 8 | 11 | 12) => (1, 0, 0),
        // Where an IPv6 header has the number of the protocol.
        (3, 2) => (4, 1, 6),
        (3, 3) => (1, 4, 0),
        (3, 4) => {
            let plateau = || PLATEAUS.into_iter().find(|plateau| *plateau < told.ip_len).unwrap_or(68);
            let mtu = match rest & 0xffff {
                0 => u32::from(plateau()),
                mtu => mtu,
            };
            (2, 0, (mtu + LONGER).min(hop_mtu.into()).max(LEAST_MTU_V6))
        }
        (3, 9 | 10 | 13 | 15) => (1, 1, 0),
        (11, code) => (3, code, 0),
        _ => return None,
    })
}

/// The head of the ICMP message that says what one of ICMPv6 does.
fn to_v4_head((kind, code, rest): Head, told: &Quote, hop_mtu: u16) -> Option<Head> {
    Some(match (kind, code) {
        (1, 0 | 2 | 3) => (3, 1, 0),
        (1, 1) => (3, 10, 0),
        (1, 4) => (3, 3, 0),
        (2, _) => {
            let longer = if told.fields.piece.is_some() { LONGER_FRAGMENT } else { LONGER };
            (3, 4, rest.saturating_sub(longer).min(hop_mtu.into()))
        }
        (3, code) => (11, code, 0),
        (4, 0) => (12, 0, u32::from(pointer_v4(rest)?) << 24),
        (4, 1) => (3, 2, 0),
        _ => return None,
    })
}

/// Where an IPv4 header has what an IPv6 header has there (RFC 7915, figure 6).
const fn pointer_v4(pointer: u32) -> Option<u8> {
    Some(match pointer {
        0 => 0,
        1 => 1,
        4 | 5 => 2,
        6 => 9,
        7 => 8,
        8..=23 => 12,
        24..=39 => 16,
        _ => return None,
    })
}
