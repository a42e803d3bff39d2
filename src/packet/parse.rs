//! From a frame to what the director needs of it: Ethernet, one 802.1Q tag, IPv4 or IPv6, and TCP, UDP, SCTP or IPsec.
//!
//! Total: any bytes give a [`Parsed`] or a [`Reject`]. All offsets in a `Parsed` lie inside the frame,
//! so later stages index without being able to fail.

use etherparse::{
    EtherType, Ethernet2HeaderSlice, IpNumber, Ipv4HeaderSlice, SingleVlanHeaderSlice, TcpHeaderSlice,
};

use super::flow::FlowKey;
use super::{checksum, ipv6, plain, room, sctp};

/// Why a frame is not a packet the director can look up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// Shorter than its headers say, or than an Ethernet header.
    Truncated,
    /// A header field that contradicts itself: version, IHL, total length, data offset, UDP length.
    BadHeader,
    /// The IPv4 header checksum is wrong (the kernel drops such a packet in `ip_rcv`).
    BadChecksum,
    /// Neither IPv4 nor IPv6.
    NotIp,
    /// IPv6 extension headers that are too many or too long, or a source route that goes on from here.
    Extension,
    /// None of TCP, UDP, SCTP, AH, ESP and ICMP.
    Protocol,
    /// A fragment, first or later.
    Fragment,
    /// ICMP.
    Icmp,
}

/// TCP flags that connection states depend on. What other protocols have in their place is their own: see [`Parsed`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// The sender has no more data.
    pub const FIN: u8 = 0x01;
    /// A connection begins.
    pub const SYN: u8 = 0x02;
    /// The connection is gone.
    pub const RST: u8 = 0x04;
    /// The urgent pointer is valid.
    pub const URG: u8 = 0x20;
    /// The acknowledgement number is valid.
    pub const ACK: u8 = 0x10;

    /// AH or ESP, in the place of UDP's flags, which has none.
    const IPSEC: u8 = 0x80;

    /// Those of AH and ESP.
    pub(super) const fn of_ipsec() -> Self {
        Self(Self::IPSEC)
    }

    /// True for a SYN that ends nothing.
    pub const fn only_opens(self) -> bool {
        self.0 & (Self::SYN | Self::FIN | Self::RST) == Self::SYN
    }

    /// True if `flag` is set.
    #[inline]
    pub const fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }
}

/// A packet understood as far as forwarding needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Protocol, addresses and ports as the packet carries them; for AH and ESP those of ISAKMP, which goes before.
    pub key: FlowKey,
    /// Offset of the IP header in the frame.
    pub l3: usize,
    /// Offset of the transport header in the frame.
    pub l4: usize,
    /// Length of the IP packet in bytes, its header included (IPv6's too), padding not.
    pub ip_len: u16,
    /// The VLAN id of its 802.1Q tag, if it has one.
    pub vlan: Option<u16>,
    /// The TTL, or IPv6's hop limit, that it arrived with.
    pub ttl: u8,
    /// TCP flags; for SCTP what [`sctp::flags`] says; none for UDP.
    pub flags: TcpFlags,
    /// Bytes of room in front of the Ethernet header: see [`room`].
    pub room: u16,
}

impl Parsed {
    /// True for AH and ESP, which have no ports: `key` is that of the ISAKMP packets between the same two, whose
    /// connection they belong to (`ah_esp_conn_fill_param_proto`).
    #[inline]
    pub const fn is_ipsec(&self) -> bool {
        self.key.protocol() == IpNumber::UDP.0 && self.flags.has(TcpFlags::IPSEC)
    }
}

/// Both ports of ISAKMP (RFC 2408, 2.5.1), as one number.
pub(super) const ISAKMP: u32 = 500 << 16 | 500;
pub(super) const UDP: u8 = IpNumber::UDP.0;

/// The IPv4 packet in a frame, whole.
pub(super) struct Ipv4<'f> {
    pub(super) header: Ipv4HeaderSlice<'f>,
    /// What is behind the header, padding not.
    pub(super) payload: &'f [u8],
    /// Offset of the header in the frame.
    pub(super) l3: usize,
    pub(super) vlan: Option<u16>,
}

impl Ipv4<'_> {
    /// As it is understood once the key is known.
    #[inline(always)]
    pub(super) fn parsed(&self, key: FlowKey, flags: TcpFlags) -> Parsed {
        let Self { header, l3, vlan, .. } = self;
        let (l4, ip_len) = (l3 + header.slice().len(), header.total_len());
        Parsed { key, l3: *l3, l4, ip_len, vlan: *vlan, ttl: header.ttl(), flags, room: 0 }
    }
}

/// Reads the headers of `frame`.
///
/// # Errors
/// The reason why the director cannot look the packet up; the frame may still be a good one.
#[inline]
pub fn parse(frame: &[u8]) -> Result<Parsed, Reject> {
    parse_plain(frame).map_or_else(|| parse_other(frame), Ok)
}

/// Reads the headers of `frame` if its packet is like nearly all of them: see `plain`. `None` says nothing about it.
#[inline(always)]
pub fn parse_plain(frame: &[u8]) -> Option<Parsed> {
    plain::parse(frame, 0)
}

/// Reads the headers of any frame; by itself, so that what nearly all packets run through stays short.
///
/// # Errors
/// As those of [`parse`].
#[inline(never)]
pub fn parse_other(frame: &[u8]) -> Result<Parsed, Reject> {
    let Some(room) = room::of(frame) else { return parse_from(frame, 0) };
    let start = usize::from(room);
    plain::parse(frame, start)
        .map_or_else(|| parse_from(frame, start), Ok)
        .map(|parsed| Parsed { room, ..parsed })
}

/// Reads the headers of the frame that begins at `start`.
pub(super) fn parse_from(frame: &[u8], start: usize) -> Result<Parsed, Reject> {
    let (kind, l3, vlan) = link(frame, start)?;
    if kind == EtherType::IPV6 {
        return ipv6::parse(frame, l3, vlan);
    }
    let ip = ipv4_behind(frame, kind, l3, vlan)?;
    let (payload, protocol) = (ip.payload, ip.header.protocol());
    if protocol == IpNumber::ICMP {
        return Err(Reject::Icmp);
    }
    // Whole or in fragments: all of them have what is looked at (`dont_defrag`).
    if is_ipsec(protocol) {
        let key = FlowKey::v4(UDP, source(&ip.header), destination(&ip.header), ISAKMP);
        return Ok(ip.parsed(key, TcpFlags::of_ipsec()));
    }
    let flags = transport(protocol.0, payload)?;
    let ports = u32::from_be_bytes(*payload.first_chunk().ok_or(Reject::Truncated)?);
    Ok(ip.parsed(key(&ip.header, ports), flags))
}

/// Checks the transport header that `payload` begins with, and reads what of it stands for TCP's flags.
#[inline(always)]
pub(super) fn transport(protocol: u8, payload: &[u8]) -> Result<TcpFlags, Reject> {
    match IpNumber(protocol) {
        IpNumber::TCP => {
            let tcp = TcpHeaderSlice::from_slice(payload).map_err(|e| match e {
                etherparse::err::tcp::HeaderSliceError::Len(_) => Reject::Truncated,
                etherparse::err::tcp::HeaderSliceError::Content(_) => Reject::BadHeader,
            })?;
            Ok(TcpFlags(tcp.slice()[13]))
        }
        IpNumber::UDP => {
            let &[_, _, _, _, high, low, _, _] = payload.first_chunk().ok_or(Reject::Truncated)?;
            let length = usize::from(u16::from_be_bytes([high, low]));
            if length < 8 || length > payload.len() {
                Err(Reject::BadHeader)
            } else {
                Ok(TcpFlags::default())
            }
        }
        IpNumber::SCTP if payload.len() < sctp::HEADER_LEN => Err(Reject::Truncated),
        IpNumber::SCTP => Ok(sctp::flags(payload)),
        _ => Err(Reject::Protocol),
    }
}

/// The key of a packet with this header and, in front of what it carries, these ports.
#[inline(always)]
pub(super) fn key(ip: &Ipv4HeaderSlice<'_>, ports: u32) -> FlowKey {
    FlowKey::v4(ip.protocol().0, source(ip), destination(ip), ports)
}

#[inline(always)]
fn source(ip: &Ipv4HeaderSlice<'_>) -> u32 {
    u32::from_be_bytes(ip.source())
}

#[inline(always)]
fn destination(ip: &Ipv4HeaderSlice<'_>) -> u32 {
    u32::from_be_bytes(ip.destination())
}

/// The IPv4 packet in the frame that begins at `start`, if it is whole and no fragment.
#[inline(always)]
pub(super) fn ipv4(frame: &[u8], start: usize) -> Result<Ipv4<'_>, Reject> {
    let (kind, l3, vlan) = link(frame, start)?;
    ipv4_behind(frame, kind, l3, vlan)
}

/// The IPv4 packet at `l3`, behind a link header that says what it is and has this VLAN tag.
#[inline(always)]
fn ipv4_behind(frame: &[u8], kind: EtherType, l3: usize, vlan: Option<u16>) -> Result<Ipv4<'_>, Reject> {
    if kind != EtherType::IPV4 {
        return Err(Reject::NotIp);
    }
    let packet = rest(frame, l3);
    let ip = Ipv4HeaderSlice::from_slice(packet).map_err(|e| match e {
        etherparse::err::ipv4::HeaderSliceError::Len(_) => Reject::Truncated,
        etherparse::err::ipv4::HeaderSliceError::Content(_) => Reject::BadHeader,
    })?;
    let header_len = ip.slice().len();
    let ip_len = ip.total_len();
    if usize::from(ip_len) > packet.len() {
        return Err(Reject::Truncated);
    }
    let payload = packet.get(header_len..usize::from(ip_len)).ok_or(Reject::BadHeader)?;
    if checksum::of_header(ip.slice()) != 0 {
        return Err(Reject::BadChecksum);
    }
    if ip.is_fragmenting_payload() && !is_ipsec(ip.protocol()) {
        return Err(Reject::Fragment);
    }
    Ok(Ipv4 { header: ip, payload, l3, vlan })
}

/// AH (RFC 4302) or ESP (RFC 4303).
#[inline]
fn is_ipsec(protocol: IpNumber) -> bool {
    matches!(protocol, IpNumber::AUTHENTICATION_HEADER | IpNumber::ENCAPSULATING_SECURITY_PAYLOAD)
}

/// What follows the Ethernet header at `start` and its VLAN tag, where that begins, and the tag's id. Tags of providers
/// (802.1ad) and second ones are not read: such frames are the kernel's.
#[inline(always)]
pub(super) fn link(frame: &[u8], start: usize) -> Result<(EtherType, usize, Option<u16>), Reject> {
    let ethernet = Ethernet2HeaderSlice::from_slice(rest(frame, start)).map_err(|_| Reject::Truncated)?;
    let (mut kind, mut l3, mut vlan) = (ethernet.ether_type(), start + ethernet.slice().len(), None);
    if kind == EtherType::VLAN_TAGGED_FRAME {
        let tag = SingleVlanHeaderSlice::from_slice(rest(frame, l3)).map_err(|_| Reject::Truncated)?;
        // Id 0 is a priority and no VLAN (IEEE 802.1Q, 9.6).
        (kind, vlan) = (tag.ether_type(), Some(tag.vlan_identifier().value()).filter(|&id| id != 0));
        l3 += tag.slice().len();
    }
    Ok((kind, l3, vlan))
}

fn rest(frame: &[u8], from: usize) -> &[u8] {
    frame.get(from..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{PacketBuilder, VlanId};
    use proptest::prelude::*;

    fn tcp(options: bool) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let builder = builder.ipv4([10, 0, 1, 1], [10, 0, 0, 100], 64).tcp(4711, 80, 1, 1000).syn();
        let builder = if options {
            builder.options(&[etherparse::TcpOptionElement::MaximumSegmentSize(1460)]).unwrap()
        } else {
            builder
        };
        let mut frame = Vec::new();
        builder.write(&mut frame, b"hello").unwrap();
        frame
    }

    fn udp_tagged() -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
            .single_vlan(VlanId::try_new(7).unwrap())
            .ipv4([10, 0, 1, 1], [10, 0, 0, 100], 64)
            .udp(5353, 53);
        let mut frame = Vec::new();
        builder.write(&mut frame, b"query").unwrap();
        frame
    }

    #[test]
    fn tcp_is_understood_with_its_flags_and_offsets() {
        let frame = tcp(true);
        let p = parse(&frame).unwrap();
        assert_eq!((p.l3, p.l4, usize::from(p.ip_len)), (14, 34, frame.len() - 14));
        assert!(p.flags.has(TcpFlags::SYN) && !p.flags.has(TcpFlags::ACK));
        assert_eq!(format!("{:?}", p.key), "protocol 6 10.0.1.1:4711 -> 10.0.0.100:80");
        assert_eq!((p.ttl, p.vlan), (64, None));
    }

    #[test]
    fn a_vlan_tag_moves_the_offsets() {
        let p = parse(&udp_tagged()).unwrap();
        assert_eq!((p.l3, p.l4, p.vlan), (18, 38, Some(7)));
        assert_eq!(p.key.protocol(), 17);
    }

    #[test]
    fn ethernet_padding_is_no_part_of_the_packet() {
        let mut frame = udp_tagged();
        let len = parse(&frame).unwrap().ip_len;
        frame.resize(128, 0xaa);
        assert_eq!(parse(&frame).unwrap().ip_len, len);
    }

    #[test]
    fn every_truncation_is_a_reject() {
        for frame in [tcp(false), tcp(true), udp_tagged()] {
            for len in 0..frame.len() {
                assert_eq!(parse(&frame[..len]).err(), Some(Reject::Truncated), "{len} bytes");
            }
        }
    }

    #[test]
    fn each_lie_has_its_reason() {
        let edit = |at: usize, value: u8| {
            let mut frame = tcp(true);
            frame[at] = value;
            let sum = {
                frame[24..26].fill(0);
                checksum::of(&frame[14..34])
            };
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
            parse(&frame).err()
        };
        assert_eq!(edit(12, 0x86), Some(Reject::NotIp));
        assert_eq!(edit(23, 58), Some(Reject::Protocol), "ICMPv6 over IPv4");
        assert_eq!(edit(14, 0x44), Some(Reject::BadHeader), "IHL of 16 bytes");
        assert_eq!(edit(14, 0x65), Some(Reject::BadHeader), "version 6");
        assert_eq!(edit(17, 19), Some(Reject::BadHeader), "total length below the header's");
        assert_eq!(edit(20, 0x20), Some(Reject::Fragment), "more fragments");
        assert_eq!(edit(21, 1), Some(Reject::Fragment), "an offset");
        assert_eq!(edit(23, 1), Some(Reject::Icmp));
        assert_eq!(edit(23, 47), Some(Reject::Protocol));
        assert_eq!(edit(46, 0x40), Some(Reject::BadHeader), "data offset of 16 bytes");
        let mut frame = tcp(false);
        frame[24] ^= 1;
        assert_eq!(parse(&frame).err(), Some(Reject::BadChecksum));
        let mut frame = udp_tagged();
        frame[43] = 7;
        assert_eq!(parse(&frame).err(), Some(Reject::BadHeader), "UDP length below its header's");
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_whose_offsets_lie_inside(
            mut frame in proptest::collection::vec(any::<u8>(), 0..200),
            headed: bool,
        ) {
            if headed && frame.len() > 24 {
                frame[12..15].copy_from_slice(&[8, 0, 0x45]);
                frame[23] = if frame[0] & 1 == 0 { 6 } else { 17 };
                frame[16] = 0;
                frame[20..22].fill(0);
                if frame.len() >= 34 {
                    frame[24..26].fill(0);
                    let sum = checksum::of(&frame[14..34]);
                    frame[24..26].copy_from_slice(&sum.to_be_bytes());
                }
            }
            if let Ok(p) = parse(&frame) {
                prop_assert!(p.l3 + usize::from(p.ip_len) <= frame.len());
                prop_assert!(p.l4 + 8 <= p.l3 + usize::from(p.ip_len));
            }
        }
    }
}
