//! Answers to a packet that goes no further, written over the packet itself: a TCP reset or an ICMP error.
//!
//! An answer goes back to the MAC address the packet came from. The room must hold it: an ICMP error puts 28
//! bytes before what it quotes, one of IPv6 48.

use std::net::IpAddr;

use super::checksum;
use super::flow::FlowKey;
use super::ipv6::{self, ICMPV6, Over};
use super::parse::{Parsed, TcpFlags};

/// Bytes of an IP header without options.
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = ipv6::HEADER_LEN;
/// Bytes of an ICMP header.
const ICMP_LEN: usize = 8;
/// Bytes of a TCP header without options.
const TCP_LEN: usize = 20;
/// Longest IP packet of an ICMP error: the least that every host takes (RFC 1812, 4.3.2.3), or every link (RFC 4443,
/// 2.4).
const ERROR_MAX_V4: usize = 576;
const ERROR_MAX_V6: usize = 1280;
/// TTL of what the director itself sends, Linux's default.
const TTL: u8 = 64;
const ICMP: u8 = 1;
const TCP: u8 = 6;

/// ICMP errors that the director sends (RFC 792, RFC 1191, RFC 4443).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    /// No server takes the connection, or nobody has the one that a packet is of.
    PortUnreachable,
    /// The host does not speak the packet's protocol. IPv6 has this as an unknown next header.
    ProtocolUnreachable,
    /// There is no way on. To IPv6 the address is unreachable (`ip6_link_failure`).
    HostUnreachable,
    /// The packet must not be fragmented, which IPv6's never are on their way, and is longer than `mtu` bytes.
    FragmentationNeeded {
        /// Longest packet that would go through.
        mtu: u16,
    },
    /// The TTL ended here.
    TimeExceeded,
}

impl IcmpError {
    /// Type, code, and the second word of the header.
    const fn head(self) -> (u8, u8, u32) {
        match self {
            IcmpError::PortUnreachable => (3, 3, 0),
            IcmpError::ProtocolUnreachable => (3, 2, 0),
            IcmpError::HostUnreachable => (3, 1, 0),
            IcmpError::FragmentationNeeded { mtu } => (3, 4, mtu as u32),
            IcmpError::TimeExceeded => (11, 0, 0),
        }
    }

    /// As [`head`](Self::head) for ICMPv6. `number_at` is where the packet says of which protocol it is.
    const fn head_v6(self, number_at: u32) -> (u8, u8, u32) {
        match self {
            IcmpError::PortUnreachable => (1, 4, 0),
            IcmpError::ProtocolUnreachable => (4, 1, number_at),
            IcmpError::HostUnreachable => (1, 3, 0),
            IcmpError::FragmentationNeeded { mtu } => (2, 0, mtu as u32),
            IcmpError::TimeExceeded => (3, 0, 0),
        }
    }
}

/// True if the sender asked for the packet not to be fragmented, as everybody does with IPv6.
pub fn must_not_fragment(frame: &[u8], parsed: &Parsed) -> bool {
    !parsed.key.is_v4() || frame.get(parsed.l3 + 6).is_some_and(|flags| flags & 0x40 != 0)
}

/// Turns the frame at the start of `room` into an ICMP error about itself, to its source: from `sender` or, without
/// one, from its destination. The new length of the frame comes back, or none if the room is too small or `sender` is
/// of the other IP version.
pub fn icmp_error(
    room: &mut [u8],
    parsed: &Parsed,
    error: IcmpError,
    sender: Option<IpAddr>,
) -> Option<usize> {
    let is_v4 = parsed.key.is_v4();
    let to = parsed.key.source();
    let from = sender.unwrap_or_else(|| parsed.key.destination().ip());
    if from.is_ipv4() != is_v4 {
        return None;
    }
    let (protocol, ip_len, longest) =
        if is_v4 { (ICMP, IPV4_LEN, ERROR_MAX_V4) } else { (ICMPV6, IPV6_LEN, ERROR_MAX_V6) };
    let (kind, code, rest) = if is_v4 { error.head() } else { error.head_v6(number_at(room, parsed)) };
    let quoted = usize::from(parsed.ip_len).min(longest - ip_len - ICMP_LEN);
    let (ip, icmp) = (parsed.l3, parsed.l3 + ip_len);
    let end = icmp + ICMP_LEN + quoted;
    if room.len() < end {
        return None;
    }
    room.copy_within(ip..ip + quoted, icmp + ICMP_LEN);
    room[icmp..icmp + 2].copy_from_slice(&[kind, code]);
    room[icmp + 2..icmp + 4].fill(0);
    room[icmp + 4..icmp + ICMP_LEN].copy_from_slice(&rest.to_be_bytes());
    let message = &room[icmp..end];
    let sum =
        if is_v4 { checksum::of(message) } else { checksum::of_transport(from, to.ip(), ICMPV6, message) };
    room[icmp + 2..icmp + 4].copy_from_slice(&sum.to_be_bytes());
    let back = FlowKey::new(protocol, (from, 0).into(), to);
    turn_round(room, parsed, &back, end - icmp)
}

/// Where an IPv6 packet has the number of its protocol, in bytes from its beginning.
fn number_at(frame: &[u8], parsed: &Parsed) -> u32 {
    let behind = frame.get(parsed.l3 + IPV6_LEN..parsed.l4).unwrap_or_default();
    let next = frame.get(parsed.l3 + ipv6::NEXT_HEADER).copied().unwrap_or_default();
    let chain = ipv6::walk(behind, next, Over::Whole).map_or(ipv6::NEXT_HEADER, |chain| chain.number_at);
    u32::try_from(chain).unwrap_or_default()
}

/// Turns the frame at the start of `room` into the reset that answers it (RFC 9293, 3.10.7.1). `None` if it is
/// a reset itself, which is never answered, or no TCP segment.
pub fn tcp_reset(room: &mut [u8], parsed: &Parsed) -> Option<usize> {
    let segment = room.get(parsed.l4..parsed.l3 + usize::from(parsed.ip_len))?;
    if parsed.key.protocol() != TCP || parsed.flags.has(TcpFlags::RST) {
        return None;
    }
    let word = |at: usize| Some(u32::from_be_bytes(*segment.get(at..)?.first_chunk()?));
    let (seq, ack, data_offset) = (word(4)?, word(8)?, usize::from(*segment.get(12)? >> 4) * 4);
    // What the segment occupies of the sequence space: its data, and one each for SYN and FIN.
    let data = segment.len().saturating_sub(data_offset);
    let flags = usize::from(parsed.flags.has(TcpFlags::SYN)) + usize::from(parsed.flags.has(TcpFlags::FIN));
    let (seq, ack, flags) = if parsed.flags.has(TcpFlags::ACK) {
        (ack, 0, TcpFlags::RST)
    } else {
        (0, seq.wrapping_add(u32::try_from(data + flags).ok()?), TcpFlags::RST | TcpFlags::ACK)
    };

    let back = parsed.key.reversed();
    let tcp = parsed.l3 + if back.is_v4() { IPV4_LEN } else { IPV6_LEN };
    let header = room.get_mut(tcp..tcp + TCP_LEN)?;
    header[..4].copy_from_slice(&back.ports().to_be_bytes());
    header[4..8].copy_from_slice(&seq.to_be_bytes());
    header[8..12].copy_from_slice(&ack.to_be_bytes());
    header[12..].copy_from_slice(&[0x50, flags, 0, 0, 0, 0, 0, 0]);
    let sum = checksum::of_transport(back.source().ip(), back.destination().ip(), TCP, header);
    header[16..18].copy_from_slice(&sum.to_be_bytes());
    turn_round(room, parsed, &back, TCP_LEN)
}

/// Writes an IP header in front of `len` bytes, with protocol and addresses of `back`, swaps the MAC addresses, and
/// returns the frame's length.
fn turn_round(room: &mut [u8], parsed: &Parsed, back: &FlowKey, len: usize) -> Option<usize> {
    let macs = room.first_chunk_mut::<12>()?;
    macs.rotate_left(6);
    let ip_len = head(room.get_mut(parsed.l3..)?, back, len)?;
    Some(parsed.l3 + ip_len + len)
}

/// Writes an IP header at the start of `packet`, in front of `len` bytes, with protocol and addresses of `back`; its
/// length.
pub(super) fn head(packet: &mut [u8], back: &FlowKey, len: usize) -> Option<usize> {
    if back.is_v4() {
        let header = packet.first_chunk_mut::<IPV4_LEN>()?;
        let [high, low] = u16::try_from(IPV4_LEN + len).ok()?.to_be_bytes();
        // Not to be fragmented, so its identification may be anything (RFC 6864, 4.1).
        header[..12].copy_from_slice(&[0x45, 0, high, low, 0, 0, 0x40, 0, TTL, back.protocol(), 0, 0]);
        header[12..].copy_from_slice(&back.v4_addresses().to_be_bytes());
        let sum = checksum::of_header(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        Some(IPV4_LEN)
    } else {
        let header = packet.first_chunk_mut::<IPV6_LEN>()?;
        let [high, low] = u16::try_from(len).ok()?.to_be_bytes();
        header[..8].copy_from_slice(&[0x60, 0, 0, 0, high, low, back.protocol(), TTL]);
        header[8..].copy_from_slice(&back.v6_addresses());
        Some(IPV6_LEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::parse::parse;
    use etherparse::{
        Icmpv4Type, Icmpv6Type, NetSlice, PacketBuilder, SlicedPacket, TransportSlice, icmpv4, icmpv6,
    };
    use std::net::Ipv4Addr;

    fn segment(
        build: impl Fn(
            etherparse::PacketBuilderStep<etherparse::TcpHeader>,
        ) -> etherparse::PacketBuilderStep<etherparse::TcpHeader>,
    ) -> (Vec<u8>, Parsed) {
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4([10, 0, 1, 1], [10, 0, 0, 100], 33);
        let mut frame = Vec::new();
        build(builder.tcp(4711, 80, 1000, 512)).write(&mut frame, b"hello").unwrap();
        let parsed = parse(&frame).unwrap();
        frame.resize(2048, 0);
        (frame, parsed)
    }

    /// What a TCP stack would make of the answer: (seq, ack, flags as letters).
    fn reset(frame: &[u8]) -> (u32, u32, &'static str) {
        let sliced = SlicedPacket::from_ethernet(frame).unwrap();
        let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Tcp(tcp))) = (&sliced.net, &sliced.transport)
        else {
            panic!("{sliced:?}")
        };
        let header = ip.header();
        assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
        assert_eq!((header.source(), header.destination()), ([10, 0, 0, 100], [10, 0, 1, 1]));
        assert_eq!((tcp.source_port(), tcp.destination_port()), (80, 4711));
        assert_eq!(tcp.calc_checksum_ipv4(header.source(), header.destination()).unwrap(), tcp.checksum());
        assert_eq!((&frame[..6], &frame[6..12]), (&[1u8; 6][..], &[2u8; 6][..]));
        assert!(tcp.rst() && tcp.payload().is_empty());
        (tcp.sequence_number(), tcp.acknowledgment_number(), if tcp.ack() { "RA" } else { "R" })
    }

    #[test]
    fn a_segment_with_ack_is_reset_at_what_it_acknowledges() {
        let (mut room, parsed) = segment(|b| b.ack(77));
        let len = tcp_reset(&mut room, &parsed).unwrap();
        assert_eq!(reset(&room[..len]), (77, 0, "R"));
    }

    #[test]
    fn a_segment_without_ack_is_acknowledged_with_all_it_occupies() {
        let (mut room, parsed) = segment(|b| b.syn());
        let len = tcp_reset(&mut room, &parsed).unwrap();
        assert_eq!(reset(&room[..len]), (0, 1000 + 5 + 1, "RA"));
    }

    #[test]
    fn a_reset_is_not_answered() {
        let (mut room, parsed) = segment(|b| b.rst());
        let before = room.clone();
        assert_eq!(tcp_reset(&mut room, &parsed), None);
        assert_eq!(room, before);
    }

    #[test]
    fn an_error_quotes_the_packet_as_it_came() {
        let (mut room, parsed) = segment(|b| b.syn());
        let quoted = room[14..14 + usize::from(parsed.ip_len)].to_vec();
        let len = icmp_error(&mut room, &parsed, IcmpError::FragmentationNeeded { mtu: 1400 }, None).unwrap();
        let sliced = SlicedPacket::from_ethernet(&room[..len]).unwrap();
        let Some(TransportSlice::Icmpv4(icmp)) = &sliced.transport else { panic!("{sliced:?}") };
        let expected = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1400 };
        assert_eq!(icmp.icmp_type(), Icmpv4Type::DestinationUnreachable(expected));
        assert_eq!(checksum::of(icmp.slice()), 0);
        assert_eq!(icmp.payload(), quoted);
    }

    #[test]
    fn an_error_may_come_from_somebody_else() {
        let (mut room, parsed) = segment(|b| b.syn());
        let sender = Some(Ipv4Addr::new(10, 9, 9, 9).into());
        let len = icmp_error(&mut room, &parsed, IcmpError::TimeExceeded, sender).unwrap();
        let sliced = SlicedPacket::from_ethernet(&room[..len]).unwrap();
        let Some(NetSlice::Ipv4(ip)) = &sliced.net else { panic!("{sliced:?}") };
        let header = ip.header();
        assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
        assert_eq!((header.source(), header.destination()), ([10, 9, 9, 9], [10, 0, 1, 1]));
    }

    #[test]
    fn a_long_packet_is_quoted_up_to_576_bytes_in_all() {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv4([10, 0, 1, 1], [10, 0, 0, 100], 33)
            .udp(4711, 53)
            .write(&mut frame, &[7; 1400])
            .unwrap();
        let parsed = parse(&frame).unwrap();
        let len = icmp_error(&mut frame, &parsed, IcmpError::PortUnreachable, None).unwrap();
        assert_eq!(len, 14 + 576);
        assert_eq!(checksum::of(&frame[34..len]), 0);
    }

    #[test]
    fn no_room_is_no_answer_and_changes_nothing() {
        let (mut room, parsed) = segment(|b| b.syn());
        let len = 14 + usize::from(parsed.ip_len);
        let before = room.clone();
        assert_eq!(icmp_error(&mut room[..len + 27], &parsed, IcmpError::TimeExceeded, None), None);
        assert_eq!(room, before);
        assert!(icmp_error(&mut room[..len + 28], &parsed, IcmpError::TimeExceeded, None).is_some());
    }

    const CLIENT6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    const VIP6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6];

    /// A UDP packet of IPv6 with so much text, behind a header of destination options if `extended`.
    fn datagram6(extended: bool, len: usize) -> (Vec<u8>, Parsed) {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv6(CLIENT6, VIP6, 33);
        builder.udp(4711, 53).write(&mut frame, &vec![7; len]).unwrap();
        if extended {
            frame.splice(54..54, [17, 0, 1, 4, 0, 0, 0, 0]);
            frame[20] = 60;
            let len = u16::try_from(frame.len() - 54).unwrap();
            frame[18..20].copy_from_slice(&len.to_be_bytes());
        }
        let parsed = parse(&frame).unwrap();
        frame.resize(2048, 0);
        (frame, parsed)
    }

    /// What a stack would make of the ICMPv6 error: who it comes from, what it says, what it quotes.
    fn error6(frame: &[u8]) -> ([u8; 16], Icmpv6Type, Vec<u8>) {
        let sliced = SlicedPacket::from_ethernet(frame).unwrap();
        let (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(icmp))) = (&sliced.net, &sliced.transport)
        else {
            panic!("{sliced:?}")
        };
        let header = ip.header();
        assert_eq!((header.destination(), header.hop_limit()), (CLIENT6, 64));
        assert_eq!(usize::from(header.payload_length()), frame.len() - 54);
        assert!(icmp.is_checksum_valid(header.source(), header.destination()));
        assert_eq!((&frame[..6], &frame[6..12]), (&[1u8; 6][..], &[2u8; 6][..]));
        (header.source(), icmp.icmp_type(), icmp.payload().to_vec())
    }

    #[test]
    fn an_error_of_ipv6_quotes_the_packet_as_it_came() {
        use icmpv6::{DestUnreachableCode::*, ParameterProblemHeader, TimeExceededCode};
        let unknown = |pointer| {
            let code = icmpv6::ParameterProblemCode::UnrecognizedNextHeader;
            Icmpv6Type::ParameterProblem(ParameterProblemHeader { code, pointer })
        };
        for (error, extended, expected) in [
            (IcmpError::PortUnreachable, true, Icmpv6Type::DestinationUnreachable(Port)),
            (IcmpError::HostUnreachable, false, Icmpv6Type::DestinationUnreachable(Address)),
            (IcmpError::FragmentationNeeded { mtu: 1400 }, true, Icmpv6Type::PacketTooBig { mtu: 1400 }),
            (IcmpError::TimeExceeded, false, Icmpv6Type::TimeExceeded(TimeExceededCode::HopLimitExceeded)),
            (IcmpError::ProtocolUnreachable, false, unknown(6)),
            (IcmpError::ProtocolUnreachable, true, unknown(40)),
        ] {
            let (mut room, parsed) = datagram6(extended, 33);
            let quoted = room[14..14 + usize::from(parsed.ip_len)].to_vec();
            let len = icmp_error(&mut room, &parsed, error, None).unwrap();
            assert_eq!(error6(&room[..len]), (VIP6, expected, quoted));
        }
    }

    #[test]
    fn an_error_of_ipv6_is_1280_bytes_at_most_and_may_come_from_somebody_else_of_its_version() {
        let (mut room, parsed) = datagram6(true, 1400);
        let whole = room[14..].to_vec();
        assert_eq!(icmp_error(&mut room, &parsed, IcmpError::TimeExceeded, Some([10, 9, 9, 9].into())), None);
        assert_eq!(room[14..], whole, "and nothing has changed");
        let len = icmp_error(&mut room, &parsed, IcmpError::TimeExceeded, Some([9; 16].into())).unwrap();
        let (source, _, quoted) = error6(&room[..len]);
        assert_eq!((source, len, &quoted[..]), ([9; 16], 14 + 1280, &whole[..1280 - 48]));
    }

    #[test]
    fn a_segment_of_ipv6_is_reset() {
        for (extended, with_ack) in [(false, true), (true, true), (true, false)] {
            let mut frame = Vec::new();
            let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv6(CLIENT6, VIP6, 33);
            let builder = builder.tcp(4711, 80, 1000, 512);
            let builder = if with_ack { builder.ack(77) } else { builder.syn() };
            builder.write(&mut frame, b"hello").unwrap();
            if extended {
                frame.splice(54..54, [6, 0, 1, 4, 0, 0, 0, 0]);
                frame[20] = 60;
                frame[19] += 8;
            }
            let parsed = parse(&frame).unwrap();
            let len = tcp_reset(&mut frame, &parsed).unwrap();
            assert_eq!(len, 14 + 40 + 20);
            let sliced = SlicedPacket::from_ethernet(&frame[..len]).unwrap();
            let (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Tcp(tcp))) = (&sliced.net, &sliced.transport)
            else {
                panic!("{sliced:?}")
            };
            assert_eq!((ip.header().source(), ip.header().destination()), (VIP6, CLIENT6));
            assert_eq!(tcp.calc_checksum_ipv6(VIP6, CLIENT6).unwrap(), tcp.checksum());
            assert_eq!((tcp.source_port(), tcp.destination_port(), tcp.rst()), (80, 4711, true));
            let numbers = (tcp.sequence_number(), tcp.acknowledgment_number(), tcp.ack());
            assert_eq!(numbers, if with_ack { (77, 0, false) } else { (0, 1006, true) });
        }
    }
}
