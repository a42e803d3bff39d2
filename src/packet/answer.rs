//! Answers to a packet that goes no further, written over the packet itself: a TCP reset or an ICMP error.
//!
//! An answer goes back to the MAC address the packet came from. The room must hold it: an ICMP error puts 28
//! bytes before what it quotes.

use std::net::Ipv4Addr;

use super::checksum;
use super::parse::{Parsed, TcpFlags};

/// Bytes of an IPv4 header without options.
const IP_LEN: usize = 20;
/// Bytes of an ICMP header.
const ICMP_LEN: usize = 8;
/// Bytes of a TCP header without options.
const TCP_LEN: usize = 20;
/// Longest IP packet of an ICMP error: the least that every host takes (RFC 1812, 4.3.2.3).
const ERROR_MAX: usize = 576;
/// TTL of what the director itself sends, Linux's default.
const TTL: u8 = 64;
const ICMP: u8 = 1;
const TCP: u8 = 6;

/// ICMP errors that the director sends (RFC 792, RFC 1191).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    /// No server takes the connection, or nobody has the one that a packet is of.
    PortUnreachable,
    /// The host does not speak the packet's protocol.
    ProtocolUnreachable,
    /// There is no way on.
    HostUnreachable,
    /// The packet must not be fragmented and is longer than `mtu` bytes.
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
}

/// True if the sender asked for the packet not to be fragmented.
pub fn must_not_fragment(frame: &[u8], parsed: &Parsed) -> bool {
    frame.get(parsed.l3 + 6).is_some_and(|flags| flags & 0x40 != 0)
}

/// Turns the frame at the start of `room` into an ICMP error about itself, to its source: from `sender` or, without
/// one, from its destination. The new length of the frame comes back, or none if the room is too small.
pub fn icmp_error(
    room: &mut [u8],
    parsed: &Parsed,
    error: IcmpError,
    sender: Option<Ipv4Addr>,
) -> Option<usize> {
    let quoted = usize::from(parsed.ip_len).min(ERROR_MAX - IP_LEN - ICMP_LEN);
    let (ip, icmp) = (parsed.l3, parsed.l3 + IP_LEN);
    let end = icmp + ICMP_LEN + quoted;
    if room.len() < end {
        return None;
    }
    room.copy_within(ip..ip + quoted, icmp + ICMP_LEN);
    let (kind, code, rest) = error.head();
    room[icmp..icmp + 2].copy_from_slice(&[kind, code]);
    room[icmp + 2..icmp + 4].fill(0);
    room[icmp + 4..icmp + ICMP_LEN].copy_from_slice(&rest.to_be_bytes());
    let sum = checksum::of(&room[icmp..end]);
    room[icmp + 2..icmp + 4].copy_from_slice(&sum.to_be_bytes());
    let back = parsed.key.v4_addresses().rotate_left(32);
    let addresses = sender.map_or(back, |ip| u64::from(ip.to_bits()) << 32 | back & u64::from(u32::MAX));
    turn_round(room, parsed, ICMP, addresses, end - ip)
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

    let tcp = parsed.l3 + IP_LEN;
    let ports = parsed.key.ports().rotate_left(16);
    let addresses = parsed.key.v4_addresses().rotate_left(32);
    let header = room.get_mut(tcp..tcp + TCP_LEN)?;
    header[..4].copy_from_slice(&ports.to_be_bytes());
    header[4..8].copy_from_slice(&seq.to_be_bytes());
    header[8..12].copy_from_slice(&ack.to_be_bytes());
    header[12..].copy_from_slice(&[0x50, flags, 0, 0, 0, 0, 0, 0]);
    let mut pseudo = [0; 12 + TCP_LEN];
    pseudo[..8].copy_from_slice(&addresses.to_be_bytes());
    pseudo[9] = TCP;
    pseudo[11] = TCP_LEN.to_le_bytes()[0];
    pseudo[12..].copy_from_slice(header);
    header[16..18].copy_from_slice(&checksum::of(&pseudo).to_be_bytes());
    turn_round(room, parsed, TCP, addresses, IP_LEN + TCP_LEN)
}

/// Writes an IPv4 header of `ip_len` bytes in all with these addresses, swaps the MAC addresses, and returns the
/// frame's length.
fn turn_round(
    room: &mut [u8],
    parsed: &Parsed,
    protocol: u8,
    addresses: u64,
    ip_len: usize,
) -> Option<usize> {
    let macs = room.first_chunk_mut::<12>()?;
    macs.rotate_left(6);
    let header = room.get_mut(parsed.l3..)?.first_chunk_mut::<IP_LEN>()?;
    let [high, low] = u16::try_from(ip_len).ok()?.to_be_bytes();
    // Not to be fragmented, so its identification may be anything (RFC 6864, 4.1).
    header[..12].copy_from_slice(&[0x45, 0, high, low, 0, 0, 0x40, 0, TTL, protocol, 0, 0]);
    header[12..].copy_from_slice(&addresses.to_be_bytes());
    let sum = checksum::of_header(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    Some(parsed.l3 + ip_len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::parse::parse;
    use etherparse::{Icmpv4Type, NetSlice, PacketBuilder, SlicedPacket, TransportSlice, icmpv4};

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
        let sender = Some(Ipv4Addr::new(10, 9, 9, 9));
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
}
