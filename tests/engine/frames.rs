//! Frames as clients, servers and the steering program make them, and as an independent parser reads what left.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    IpHeaders, IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice, NetSlice, PacketBuilder, PacketBuilderStep,
    SlicedPacket, TransportSlice,
};
use xvs::director::forward::hops::PortId;
use xvs::packet::checksum;

use super::{CLIENT_MAC, INSIDE_ADDRESS, INSIDE_ADDRESS_V6, IcmpError, OUTSIDE, OUTSIDE_MAC};

/// A client's Ethernet and IP header, with a TTL of 64.
fn headed(from: IpAddr, to: IpAddr) -> PacketBuilderStep<IpHeaders> {
    let builder = PacketBuilder::ethernet2(CLIENT_MAC, OUTSIDE_MAC);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => builder.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => builder.ipv6(from.octets(), to.octets(), 64),
        _ => panic!("{from} and {to} are of two families"),
    }
}

/// TCP flags as letters.
pub fn tcp(from: &str, to: &str, flags: &str) -> Vec<u8> {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let mut b = headed(from.ip(), to.ip()).tcp(from.port(), to.port(), 7, 8192);
    for flag in flags.chars() {
        b = match flag {
            'S' => b.syn(),
            'A' => b.ack(9),
            'F' => b.fin(),
            'P' => b.psh(),
            'R' => b.rst(),
            '.' => b,
            other => panic!("{other}"),
        };
    }
    let mut frame = Vec::new();
    b.write(&mut frame, b"some payload of odd size!").unwrap();
    frame
}

pub fn udp(from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let mut frame = Vec::new();
    headed(from.ip(), to.ip()).udp(from.port(), to.port()).write(&mut frame, payload).unwrap();
    frame
}

/// A packet of this protocol with these bytes behind the IP header.
pub fn ip(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    headed(from, to).write(&mut frame, IpNumber(protocol), payload).unwrap();
    frame
}

/// An SCTP packet with these chunks, each of them a type with its value.
pub fn sctp(from: &str, to: &str, chunks: &[(u8, &[u8])]) -> Vec<u8> {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let mut packet = [&from.port().to_be_bytes()[..], &to.port().to_be_bytes(), b"vtag", &[0; 4]].concat();
    for (kind, value) in chunks {
        let len = u16::try_from(4 + value.len()).unwrap();
        packet.extend([&[*kind, 0][..], &len.to_be_bytes(), value].concat());
        packet.resize(packet.len().next_multiple_of(4), 0);
    }
    let sum = crc32c(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&sum);
    ip(from.ip(), to.ip(), 132, &packet)
}

/// CRC32c, bit by bit.
pub fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

/// Makes the checksum of a frame's IPv4 header right, as far as there is one.
pub fn mend_ip(frame: &mut [u8]) {
    let end = (14 + usize::from(frame[14] & 15) * 4).min(frame.len());
    let Some(header) = frame.get_mut(14..end).filter(|header| header.len() >= 12) else { return };
    header[10..12].fill(0);
    let sum = checksum::of(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// The frame as the steering program hands it on when it has made this much room.
pub fn with_room(frame: &[u8], room: usize) -> Vec<u8> {
    if room == 0 {
        return frame.to_vec();
    }
    let mark = [&frame[..12], &[0x88, 0xb5], &u16::try_from(room).unwrap().to_be_bytes()].concat();
    [&mark[..], &vec![0xdd; room - mark.len()], frame].concat()
}

/// A packet that left: the independent parser's view of it, its checksums verified.
#[derive(Debug, PartialEq, Eq)]
pub struct Sent {
    pub port: PortId,
    pub dst_mac: [u8; 6],
    pub from: String,
    pub to: String,
    pub ttl: u8,
}

/// Source, destination, protocol and TTL of a packet, and what is behind its headers: an IPv4 header's checksum is right.
fn read_ip<'f>(sliced: &'f SlicedPacket<'_>) -> (IpAddr, IpAddr, IpNumber, u8, &'f [u8]) {
    match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header().to_header();
            assert_eq!(header.calc_header_checksum(), header.header_checksum, "IP header checksum");
            let (from, to) = (ip.header().source_addr().into(), ip.header().destination_addr().into());
            (from, to, header.protocol, header.time_to_live, ip.payload().payload)
        }
        Some(NetSlice::Ipv6(ip)) => {
            let (from, to) = (ip.header().source_addr().into(), ip.header().destination_addr().into());
            (from, to, ip.payload().ip_number, ip.header().hop_limit(), ip.payload().payload)
        }
        other => panic!("not IP: {other:?}"),
    }
}

/// Reads a frame with etherparse and panics unless every checksum is right.
pub fn read(frame: &[u8], port: PortId) -> Sent {
    let sliced = SlicedPacket::from_ethernet(frame).expect("a whole packet");
    let (from, to, protocol, ttl, packet) = read_ip(&sliced);
    let (sport, dport) = match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let sum = match (from, to) {
                (IpAddr::V4(from), IpAddr::V4(to)) => tcp.calc_checksum_ipv4(from.octets(), to.octets()),
                (IpAddr::V6(from), IpAddr::V6(to)) => tcp.calc_checksum_ipv6(from.octets(), to.octets()),
                _ => unreachable!(),
            };
            assert_eq!(sum.unwrap(), tcp.checksum(), "TCP checksum");
            (tcp.source_port(), tcp.destination_port())
        }
        Some(TransportSlice::Udp(udp)) => {
            let header = udp.to_header();
            let sum = match (from, to) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    header.calc_checksum_ipv4_raw(from.octets(), to.octets(), udp.payload())
                }
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    header.calc_checksum_ipv6_raw(from.octets(), to.octets(), udp.payload())
                }
                _ => unreachable!(),
            };
            assert!([0, sum.unwrap()].contains(&header.checksum), "UDP checksum");
            (udp.source_port(), udp.destination_port())
        }
        None if protocol == IpNumber::SCTP => {
            let zeroed = [&packet[..8], &[0; 4], &packet[12..]].concat();
            assert_eq!(crc32c(&zeroed).to_le_bytes(), packet[8..12], "CRC32c");
            let port = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
            (port(0), port(2))
        }
        // AH and ESP: addresses alone.
        None if [50, 51].contains(&protocol.0) => (0, 0),
        other => panic!("{other:?}"),
    };
    Sent {
        port,
        dst_mac: frame[..6].try_into().unwrap(),
        from: SocketAddr::new(from, sport).to_string(),
        to: SocketAddr::new(to, dport).to_string(),
        ttl,
    }
}

/// What an answer says, as the stack it is for would see it; every checksum is verified.
pub fn read_answer(frame: &[u8]) -> String {
    let Some(error) = IcmpError::read(frame) else {
        let sliced = SlicedPacket::from_ethernet(frame).expect("a whole packet");
        let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { panic!("{sliced:?}") };
        assert!(tcp.rst(), "a reset");
        let Sent { from, to, .. } = read(frame, OUTSIDE);
        return format!("{from} resets {to}");
    };
    let IcmpError { from, to, kind, code, rest, quote, .. } = error;
    let (source, destination): (IpAddr, IpAddr) = if from.is_ipv4() {
        let quoted = Ipv4HeaderSlice::from_slice(&quote).expect("a quoted header");
        (quoted.source_addr().into(), quoted.destination_addr().into())
    } else {
        let quoted = Ipv6HeaderSlice::from_slice(&quote).expect("a quoted header");
        (quoted.source_addr().into(), quoted.destination_addr().into())
    };
    assert_eq!(source, to, "the sender's own packet");
    let is_directors = from == INSIDE_ADDRESS || from == INSIDE_ADDRESS_V6;
    assert!(destination == from || is_directors, "in the name of who it was sent to");
    let said = format!("{from} tells {to}: type {kind} code {code}");
    if from.is_ipv4() { said } else { format!("{said} and {rest}") }
}
