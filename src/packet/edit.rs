//! Header edits in place: MAC addresses, TTL or hop limit, addresses and ports with their checksums.
//!
//! Every function takes the offsets of a [`Parsed`]; where the bytes are too few it does nothing, which
//! a parsed frame cannot bring about.

use super::checksum::Delta;
use super::flow::FlowKey;
use super::parse::Parsed;
use super::{ipv6, sctp};

/// Ethernet header, without and with a VLAN tag.
const ETHERNET_LEN: usize = 14;
const TAG_LEN: usize = 4;
const MACS_LEN: usize = 12;
/// The bits of a tag that say which VLAN it is (IEEE 802.1Q, 9.6); the others are its priority.
const VLAN_ID: u16 = 0xfff;
const ETHERTYPE_VLAN: [u8; 2] = [0x81, 0];
const ETHERTYPE_IPV4: [u8; 2] = [8, 0];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const TOTAL_LENGTH: usize = 2;
const TTL: usize = 8;
const IP_CHECKSUM: usize = 10;
const ADDRESSES: usize = 12;
/// An IPv6 header without extensions, which its length does not count.
const IPV6_LEN: u16 = 40;
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

/// Sets the Ethernet addresses.
#[inline]
pub fn set_macs(frame: &mut [u8], destination: [u8; 6], source: [u8; 6]) {
    if let Some(head) = frame.first_chunk_mut::<12>() {
        head[..6].copy_from_slice(&destination);
        head[6..].copy_from_slice(&source);
    }
}

/// Length of an Ethernet header in bytes, its VLAN tag included.
pub const fn ethernet_len(vlan: Option<u16>) -> usize {
    if vlan.is_some() { ETHERNET_LEN + TAG_LEN } else { ETHERNET_LEN }
}

/// Writes a whole Ethernet header of [`ethernet_len`] bytes in front of an IP packet.
pub fn set_ethernet(frame: &mut [u8], destination: [u8; 6], source: [u8; 6], vlan: Option<u16>, is_v4: bool) {
    set_macs(frame, destination, source);
    let kind = if is_v4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
    let Some(rest) = frame.get_mut(12..ethernet_len(vlan)) else { return };
    match (vlan, rest) {
        (Some(id), [tag @ .., a, b, c, d]) => {
            tag.copy_from_slice(&ETHERTYPE_VLAN);
            [*a, *b] = id.to_be_bytes();
            [*c, *d] = kind;
        }
        (_, rest) => rest.copy_from_slice(&kind),
    }
}

/// Gives the frame of `len` bytes at the start of `room` the 802.1Q tag of this VLAN, or none: a tag that is there is
/// written over, and its priority kept; otherwise what is behind the MAC addresses moves. Returns the frame's new length;
/// `None`, with nothing written, if there is no room for a tag.
#[cold]
#[inline(never)]
pub fn set_vlan(room: &mut [u8], len: usize, vlan: Option<u16>) -> Option<usize> {
    let behind = MACS_LEN + TAG_LEN;
    let is_tagged = room.get(MACS_LEN..len)?.starts_with(&ETHERTYPE_VLAN);
    match (is_tagged, vlan) {
        (false, None) => Some(len),
        (true, None) => {
            room.get(behind..len)?;
            room.copy_within(behind..len, MACS_LEN);
            Some(len - TAG_LEN)
        }
        (true, Some(id)) => {
            let control = room.get_mut(MACS_LEN + 2..behind)?.first_chunk_mut::<2>()?;
            let priority = u16::from_be_bytes(*control) & !VLAN_ID;
            *control = (priority | id & VLAN_ID).to_be_bytes();
            Some(len)
        }
        (false, Some(id)) => {
            room.get(..len + TAG_LEN)?;
            room.copy_within(MACS_LEN..len, behind);
            let tag = room.get_mut(MACS_LEN..)?.first_chunk_mut::<TAG_LEN>()?;
            tag[..2].copy_from_slice(&ETHERTYPE_VLAN);
            tag[2..].copy_from_slice(&id.to_be_bytes());
            Some(len + TAG_LEN)
        }
    }
}

/// Counts the TTL of an IPv4 packet down by one and mends the header checksum by `delta`, which must
/// hold [`Delta::TTL_MINUS_ONE`] and every other edit of the IP header. IPv6 has a hop limit and no checksum.
#[inline]
pub fn decrement_ttl(frame: &mut [u8], parsed: &Parsed, delta: Delta) {
    if !parsed.key.is_v4() {
        return decrement_hop_limit(frame, parsed);
    }
    if let Some(ip) = frame.get_mut(parsed.l3..).and_then(|p| p.first_chunk_mut::<20>()) {
        ip[TTL] = ip[TTL].wrapping_sub(1);
        update(ip, IP_CHECKSUM, |c| delta.apply(c));
    }
}

/// Counts the TTL or hop limit up again, after [`decrement_ttl`] or [`decrement_hop_limit`]: for a packet that is not
/// routed after all.
pub fn restore_ttl(frame: &mut [u8], parsed: &Parsed) {
    if !parsed.key.is_v4() {
        if let Some(hop_limit) = frame.get_mut(parsed.l3 + ipv6::HOP_LIMIT) {
            *hop_limit = hop_limit.wrapping_add(1);
        }
    } else if let Some(ip) = frame.get_mut(parsed.l3..).and_then(|p| p.first_chunk_mut::<20>()) {
        ip[TTL] = ip[TTL].wrapping_add(1);
        update(ip, IP_CHECKSUM, |c| Delta::TTL_PLUS_ONE.apply(c));
    }
}

/// Gives the packet this length, its IP header included, and mends IPv4's header checksum.
pub(super) fn set_ip_len(frame: &mut [u8], parsed: &Parsed, ip_len: u16) {
    let Some(ip) = frame.get_mut(parsed.l3..) else { return };
    let (at, len) = if parsed.key.is_v4() {
        (TOTAL_LENGTH, ip_len)
    } else {
        (ipv6::PAYLOAD_LENGTH, ip_len.saturating_sub(IPV6_LEN))
    };
    let Some(field) = ip.get_mut(at..).and_then(|p| p.first_chunk_mut::<2>()) else { return };
    let delta = Delta::between(field, &len.to_be_bytes());
    *field = len.to_be_bytes();
    if parsed.key.is_v4() {
        update(ip, IP_CHECKSUM, |c| delta.apply(c));
    }
}

/// Counts the hop limit of an IPv6 packet down by one.
pub fn decrement_hop_limit(frame: &mut [u8], parsed: &Parsed) {
    if let Some(hop_limit) = frame.get_mut(parsed.l3 + ipv6::HOP_LIMIT) {
        *hop_limit = hop_limit.wrapping_sub(1);
    }
}

/// Writes the addresses and ports of `tuple` over an IPv4 packet's own and mends the transport checksum: by `delta`
/// where it is an Internet checksum. AH and ESP get the addresses only. The IP header checksum is left to
/// [`decrement_ttl`], which follows in every path.
#[inline]
pub fn set_tuple_v4(frame: &mut [u8], parsed: &Parsed, tuple: &FlowKey, delta: Delta) {
    set_addresses_v4(frame, parsed, tuple);
    set_ports(frame, parsed, tuple, delta);
}

/// As [`set_tuple_v4`] for IPv6. A UDP checksum of zero stays zero, as IPVS leaves it: whether it may be one (RFC 6936)
/// is for the ends to say.
pub fn set_tuple_v6(frame: &mut [u8], parsed: &Parsed, tuple: &FlowKey, delta: Delta) {
    set_addresses_v6(frame, parsed, tuple);
    set_ports(frame, parsed, tuple, delta);
}

/// Writes the ports of `tuple` over a packet's own and mends the transport checksum, by `delta` where it is an Internet
/// checksum.
#[inline(always)]
pub(super) fn set_ports(frame: &mut [u8], parsed: &Parsed, tuple: &FlowKey, delta: Delta) {
    if parsed.is_ipsec() {
        return;
    }
    let Some(transport) = frame.get_mut(parsed.l4..) else { return };
    if let Some(field) = transport.first_chunk_mut::<4>() {
        *field = tuple.ports().to_be_bytes();
    }
    match parsed.key.protocol() {
        6 => update(transport, TCP_CHECKSUM, |c| delta.apply(c)),
        132 => update_sctp(transport, parsed, tuple.ports()),
        _ => update(transport, UDP_CHECKSUM, |c| delta.apply_udp(c)),
    }
}

/// Mends the checksum of an SCTP packet whose ports are now `new`: CRC32c, and no addresses in it.
#[cold]
#[inline(never)]
fn update_sctp(transport: &mut [u8], parsed: &Parsed, new: u32) {
    let old = parsed.key.ports();
    if old == new {
        return;
    }
    let len = usize::from(parsed.ip_len).saturating_sub(parsed.l4 - parsed.l3);
    if let Some(sum) = transport.get_mut(sctp::CHECKSUM..).and_then(|p| p.first_chunk_mut::<4>()) {
        for (byte, difference) in sum.iter_mut().zip(sctp::port_difference(old, new, len)) {
            *byte ^= difference;
        }
    }
}

/// Writes the addresses of `tuple` alone over a packet's own: what a fragment gets that has no transport header.
pub fn set_addresses(frame: &mut [u8], parsed: &Parsed, tuple: &FlowKey) {
    if parsed.key.is_v4() {
        set_addresses_v4(frame, parsed, tuple);
    } else {
        set_addresses_v6(frame, parsed, tuple);
    }
}

#[inline]
fn set_addresses_v4(frame: &mut [u8], parsed: &Parsed, tuple: &FlowKey) {
    if let Some(field) = frame.get_mut(parsed.l3 + ADDRESSES..).and_then(|p| p.first_chunk_mut::<8>()) {
        *field = tuple.v4_addresses().to_be_bytes();
    }
}

fn set_addresses_v6(frame: &mut [u8], parsed: &Parsed, tuple: &FlowKey) {
    if let Some(field) = frame.get_mut(parsed.l3 + ipv6::ADDRESSES..).and_then(|p| p.first_chunk_mut::<32>())
    {
        *field = tuple.v6_addresses();
    }
}

#[inline]
fn update(bytes: &mut [u8], at: usize, edit: impl FnOnce(u16) -> u16) {
    if let Some(field) = bytes.get_mut(at..).and_then(|p| p.first_chunk_mut::<2>()) {
        *field = edit(u16::from_be_bytes(*field)).to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

    /// A frame with these bytes behind its MAC addresses, and its tag.
    fn frame(tag: Option<u16>, rest: &[u8]) -> Vec<u8> {
        let tag = tag.map(|control| [[0x81, 0], control.to_be_bytes()].concat());
        [&MACS[..], &tag.unwrap_or_default(), &[8, 0], rest].concat()
    }

    proptest! {
        #[test]
        fn a_tag_comes_goes_or_changes_and_all_else_stays(
            before in proptest::option::of(any::<u16>()), after in proptest::option::of(1u16..4095),
            rest in proptest::collection::vec(any::<u8>(), 0..80), spare in 0usize..8,
        ) {
            let was = frame(before, &rest);
            let control = after.map(|id| before.unwrap_or(0) & 0xf000 | id);
            let wanted = frame(control, &rest);
            let mut room = [&was[..], &vec![0xee; spare]].concat();
            let fits = wanted.len() <= room.len();
            prop_assert_eq!(set_vlan(&mut room, was.len(), after), fits.then_some(wanted.len()));
            if fits {
                prop_assert_eq!(&room[..wanted.len()], &wanted[..]);
            } else {
                prop_assert_eq!(&room[..was.len()], &was[..]);
            }
        }

        #[test]
        fn any_bytes_are_an_answer(mut room in proptest::collection::vec(any::<u8>(), 0..40), len in 0usize..48) {
            for vlan in [None, Some(7)] {
                if let Some(len) = set_vlan(&mut room, len, vlan) {
                    prop_assert!(len <= room.len());
                }
            }
        }
    }
}
