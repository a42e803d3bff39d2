//! Between IPv4 and IPv6 (RFC 7915): a packet of one version becomes one of the other, under other addresses and ports.
//!
//! The header is another one, so what is behind it moves: by 20 bytes, by what extension headers took, and by a fragment's
//! header. Options and extension headers are left out (4.1 and 5.1 there). Transport checksums are mended by a
//! difference, as everywhere. Errors of ICMP are `icmp`'s.

use super::answer::must_not_fragment;
use super::checksum::{self, Delta};
use super::flow::FlowKey;
use super::parse::Parsed;
use super::{edit, ipv6};

const IPV4_LEN: usize = 20;
const HEADERS_MAX: usize = ipv6::HEADER_LEN + ipv6::FRAGMENT_LEN;
const UDP: u8 = 17;
const UDP_CHECKSUM: usize = 6;
const ETHERTYPE_IPV4: [u8; 2] = [8, 0];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];

/// The longest packet that IPv4 may fragment on its way after it was IPv6, whose packets of this length and 20 bytes pass
/// every link (RFC 7915, 5.1): its sender would do nothing about a smaller MTU.
const FRAGMENTED_MAX: usize = 1260;

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
pub(super) struct Fields {
    /// Traffic class, or type of service.
    pub(super) class: u8,
    /// Hop limit, or TTL.
    pub(super) ttl: u8,
    pub(super) protocol: u8,
    /// Bytes behind the headers.
    pub(super) payload_len: usize,
    pub(super) piece: Option<Piece>,
}

impl Fields {
    /// An IPv4 header: of a packet that may be fragmented on its way, under this `identification`, unless it is long.
    pub(super) fn v4(&self, tuple: &FlowKey, identification: u16) -> Result<[u8; IPV4_LEN], Untranslatable> {
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
    pub(super) fn v6(&self, tuple: &FlowKey) -> Result<[u8; HEADERS_MAX], Untranslatable> {
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
pub(super) fn class(packet: &[u8]) -> Option<u8> {
    let [first, second] = *packet.first_chunk()?;
    Some(if first >> 4 == 4 { second } else { first << 4 | second >> 4 })
}

/// Whether a packet may be fragmented once it is one of the other version: an IPv4 packet if its sender allows it, an
/// IPv6 packet if that has begun already, or if a smaller MTU would tell its sender nothing.
pub fn may_be_fragmented(frame: &[u8], parsed: &Parsed, piece: Option<Piece>) -> bool {
    if parsed.key.is_v4() {
        return !must_not_fragment(frame, parsed);
    }
    piece.is_some() || IPV4_LEN + payload_len(parsed) <= FRAGMENTED_MAX
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::fragment;
    use crate::packet::parse::parse;
    use etherparse::{NetSlice, PacketBuilder, PacketBuilderStep, SlicedPacket, TransportSlice, VlanId};
    use proptest::prelude::*;

    const KEYS: [[&str; 2]; 2] =
        [["10.1.0.2:2000", "10.1.0.11:8080"], ["[2001:db8::100]:80", "[2001:db8:1::7]:4711"]];

    fn key(protocol: u8, is_v4: bool) -> FlowKey {
        let [source, destination] = KEYS[usize::from(!is_v4)];
        FlowKey::new(protocol, source.parse().unwrap(), destination.parse().unwrap())
    }

    /// A frame with its room, of a packet whose class is 0xb8 and that has 40 hops left.
    fn frame(protocol: u8, is_v4: bool, tagged: bool, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (from, to) = if is_v4 { ("10.9.0.1", "10.9.0.2") } else { ("2001:db8:9::1", "2001:db8:9::2") };
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6]);
        let ip = if is_v4 {
            let header = etherparse::Ipv4Header::new(
                0,
                40,
                etherparse::IpNumber(protocol),
                from.parse::<std::net::Ipv4Addr>().unwrap().octets(),
                to.parse::<std::net::Ipv4Addr>().unwrap().octets(),
            );
            let mut header = header.unwrap();
            header.dscp = etherparse::IpDscp::try_new(46).unwrap();
            etherparse::IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default())
        } else {
            let header = etherparse::Ipv6Header {
                traffic_class: 0xb8,
                hop_limit: 40,
                source: from.parse::<std::net::Ipv6Addr>().unwrap().octets(),
                destination: to.parse::<std::net::Ipv6Addr>().unwrap().octets(),
                ..Default::default()
            };
            etherparse::IpHeaders::Ipv6(header, etherparse::Ipv6Extensions::default())
        };
        let builder: PacketBuilderStep<etherparse::IpHeaders> =
            if tagged { builder.single_vlan(VlanId::try_new(9).unwrap()).ip(ip) } else { builder.ip(ip) };
        match protocol {
            6 => builder.tcp(1000, 2000, 7, 8).ack(9).write(&mut bytes, payload).unwrap(),
            _ => builder.udp(1000, 2000).write(&mut bytes, payload).unwrap(),
        }
        bytes.resize(bytes.len() + 64, 0xee);
        bytes
    }

    fn translated(mut room: Vec<u8>, is_v4: bool) -> Result<Vec<u8>, Untranslatable> {
        let parsed = parse(&room).unwrap();
        let tuple = key(parsed.key.protocol(), !is_v4);
        let leaving = Leaving { tuple: &tuple, l4: parsed.key.difference(&tuple).0 };
        let len = if is_v4 {
            to_v6(&mut room, &parsed, None, leaving)
        } else {
            to_v4(&mut room, &parsed, None, leaving, 0x1234)
        };
        room.truncate(len?);
        Ok(room)
    }

    /// What an independent parser finds, its checksums right: class, hops, whether it may be fragmented, and the payload.
    fn found(frame: &[u8], protocol: u8) -> (u8, u8, bool, Vec<u8>) {
        let sliced = SlicedPacket::from_ethernet(frame).unwrap();
        let tuple = parse(frame).unwrap().key;
        let (class, hops, fragments) = match &sliced.net {
            Some(NetSlice::Ipv4(ip)) => {
                let header = ip.header();
                assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
                assert_eq!(tuple, key(protocol, true));
                (header.dcp().value() << 2, header.ttl(), !header.dont_fragment())
            }
            Some(NetSlice::Ipv6(ip)) => {
                assert_eq!(tuple, key(protocol, false));
                (ip.header().traffic_class(), ip.header().hop_limit(), false)
            }
            other => panic!("{other:?}"),
        };
        let payload = match (&sliced.transport, &sliced.net) {
            (Some(TransportSlice::Tcp(tcp)), Some(NetSlice::Ipv4(ip))) => {
                let header = ip.header();
                let sum = tcp.calc_checksum_ipv4(header.source(), header.destination()).unwrap();
                assert_eq!(tcp.checksum(), sum);
                tcp.payload().to_vec()
            }
            (Some(TransportSlice::Tcp(tcp)), Some(NetSlice::Ipv6(ip))) => {
                let header = ip.header();
                let sum = tcp.calc_checksum_ipv6(header.source(), header.destination()).unwrap();
                assert_eq!(tcp.checksum(), sum);
                tcp.payload().to_vec()
            }
            (Some(TransportSlice::Udp(udp)), _) => {
                let bytes = [&udp.to_header().to_bytes()[..], udp.payload()].concat();
                let (from, to) = (tuple.source().ip(), tuple.destination().ip());
                assert_eq!(checksum::of_transport(from, to, 17, &bytes), 0);
                assert_ne!(udp.checksum(), 0);
                udp.payload().to_vec()
            }
            other => panic!("{other:?}"),
        };
        (class, hops, fragments, payload)
    }

    proptest! {
        #[test]
        fn a_packet_of_one_version_is_one_of_the_other(
            payload in proptest::collection::vec(any::<u8>(), 0..1400),
            is_v4: bool,
            tagged: bool,
            tcp: bool,
        ) {
            let protocol = if tcp { 6 } else { 17 };
            let got = translated(frame(protocol, is_v4, tagged, &payload), is_v4).unwrap();
            let headers = 20 + if tcp { 20 } else { 8 };
            let fragments = !is_v4 && headers + payload.len() <= 1260;
            prop_assert_eq!(found(&got, protocol), (0xb8, 39, fragments, payload));
        }
    }

    #[test]
    fn what_was_wrong_stays_wrong_and_no_checksum_becomes_one() {
        for is_v4 in [true, false] {
            let mut room = frame(6, is_v4, false, b"damaged");
            let last = room.len() - 65;
            room[last] ^= 1;
            let got = translated(room, is_v4).unwrap();
            let tuple = key(6, !is_v4);
            let l4 = parse(&got).unwrap().l4;
            let (from, to) = (tuple.source().ip(), tuple.destination().ip());
            assert_ne!(checksum::of_transport(from, to, 6, &got[l4..]), 0);
        }
        let mut room = frame(17, true, false, b"no checksum");
        room[40..42].fill(0);
        assert_eq!(found(&translated(room, true).unwrap(), 17).3, b"no checksum");
    }

    #[test]
    fn extension_headers_are_left_out() {
        let mut room = frame(17, false, false, b"behind options");
        room.splice(54..54, [17, 0, 1, 4, 0, 0, 0, 0]);
        (room[20], room[19]) = (60, room[19] + 8);
        let got = translated(room, false).unwrap();
        assert_eq!((found(&got, 17).3, got.len()), (b"behind options".to_vec(), 14 + 20 + 8 + 14));
    }

    #[test]
    fn an_authentication_header_is_not_left_out_wherever_it_is() {
        let (options, ah) = ([0, 0, 1, 4, 0, 0, 0, 0], [&[0, 4][..], &[7; 22]].concat());
        let [behind, before] = [[(60, &options[..]), (51, &ah[..])], [(51, &ah[..]), (60, &options[..])]];
        for chain in [&behind[1..], &behind[..], &before[..]] {
            let mut room = frame(17, false, false, b"authentic");
            let mut next = 17;
            for (number, header) in chain.iter().rev() {
                room.splice(54..54, header.iter().copied());
                (room[54], room[19]) = (next, room[19] + u8::try_from(header.len()).unwrap());
                next = *number;
            }
            room[20] = next;
            assert_eq!(translated(room, false), Err(Untranslatable::Protocol), "{chain:?}");
        }
    }

    #[test]
    fn fragments_stay_the_fragments_that_they_were() {
        let whole: Vec<u8> = (0..100).collect();
        for is_v4 in [true, false] {
            for (offset, more) in [(0, true), (104, false)] {
                let piece = Piece { identification: 0x1_2345, offset, more };
                let mut room = frame(17, is_v4, false, &whole[..96]);
                // As far as its own headers say, it is whole: those of a fragment are what is asked for.
                let parsed = parse(&room).unwrap();
                let tuple = key(17, !is_v4);
                let leaving = Leaving { tuple: &tuple, l4: Delta::default() };
                let len = if is_v4 {
                    to_v6(&mut room, &parsed, Some(piece), leaving).unwrap()
                } else {
                    to_v4(&mut room, &parsed, Some(piece), leaving, 7).unwrap()
                };
                let got = fragment::read(&room[..len]).unwrap();
                assert_eq!((got.offset, got.len, got.more), (offset, 104, more));
                let identification = if is_v4 { 0x1_2345 } else { 0x2345 };
                assert_eq!(got.datagram.as_key().ports(), identification);
                let ports = if offset == 0 { tuple.ports() } else { 0 };
                assert_eq!(got.parsed.key.ports(), ports);
                let l4 = got.parsed.l4;
                let old = 1000 << 16 | 2000u32;
                let expected = if offset == 0 { tuple.ports() } else { old };
                assert_eq!(room[l4..l4 + 4], expected.to_be_bytes());
                assert_eq!(room[l4 + 8..len], whole[..96]);
            }
        }
    }

    #[test]
    fn without_room_or_checksum_nothing_changes() {
        let mut room = frame(17, true, false, b"tight");
        let parsed = parse(&room).unwrap();
        room.truncate(14 + usize::from(parsed.ip_len) + 19);
        let before = room.clone();
        let tuple = key(17, false);
        let leaving = Leaving { tuple: &tuple, l4: Delta::default() };
        assert_eq!(to_v6(&mut room, &parsed, None, leaving), Err(Untranslatable::Room));
        assert_eq!(room, before);
        let mut room = frame(17, true, false, b"first");
        room[40..42].fill(0);
        let before = room.clone();
        let piece = Piece { identification: 1, offset: 0, more: true };
        assert_eq!(to_v6(&mut room, &parsed, Some(piece), leaving), Err(Untranslatable::Checksum));
        assert_eq!(room, before);
    }
}
