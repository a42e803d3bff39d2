//! Frames for the steering tests, built with etherparse and, where it is too correct, edited.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, IpFragOffset, IpHeaders, IpNumber, Ipv4Extensions,
    Ipv4Header, Ipv6Extensions, Ipv6FragmentHeader, Ipv6Header, PacketBuilder, PacketBuilderStep,
};

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ESP: u8 = 50;
pub const AH: u8 = 51;
pub const ICMPV6: u8 = 58;
pub const VRRP: u8 = 112;
pub const SCTP: u8 = 132;

pub const HOP_BY_HOP: u8 = 0;
pub const ROUTING: u8 = 43;
pub const FRAGMENT: u8 = 44;
pub const DESTINATION_OPTIONS: u8 = 60;

pub const VLAN: u16 = 0x8100;
pub const SERVICE_VLAN: u16 = 0x88a8;

/// Where the network header of an untagged frame begins.
pub const NETWORK: usize = 14;

const MAC_FROM: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Where every frame here is sent to: the MAC address that the interface is said to have.
pub const MAC_TO: [u8; 6] = [2, 0, 0, 0, 0, 2];
const TTL: u8 = 64;
const PAYLOAD: &[u8] = b"seventeen bytes..";

fn between(source: IpAddr, destination: IpAddr) -> PacketBuilderStep<IpHeaders> {
    let ethernet = PacketBuilder::ethernet2(MAC_FROM, MAC_TO);
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ethernet.ipv4(source.octets(), destination.octets(), TTL)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ethernet.ipv6(source.octets(), destination.octets(), TTL)
        }
        _ => panic!("{source} and {destination} are of two families"),
    }
}

/// A SYN.
pub fn tcp(source: IpAddr, source_port: u16, destination: IpAddr, destination_port: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    let segment = between(source, destination).tcp(source_port, destination_port, 1, 65_535).syn();
    segment.write(&mut frame, &[]).unwrap();
    frame
}

pub fn udp(source: IpAddr, source_port: u16, destination: IpAddr, destination_port: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    between(source, destination).udp(source_port, destination_port).write(&mut frame, PAYLOAD).unwrap();
    frame
}

pub fn udp_over(ip: IpHeaders, source_port: u16, destination_port: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    let datagram = PacketBuilder::ethernet2(MAC_FROM, MAC_TO).ip(ip).udp(source_port, destination_port);
    datagram.write(&mut frame, PAYLOAD).unwrap();
    frame
}

/// The common header of an SCTP packet: ports, tag, checksum.
pub fn sctp(source: IpAddr, source_port: u16, destination: IpAddr, destination_port: u16) -> Vec<u8> {
    let ports = [source_port.to_be_bytes(), destination_port.to_be_bytes()].concat();
    ip(source, destination, SCTP, &[&ports[..], &[7; 8]].concat())
}

/// `payload` as it is behind an IP header.
pub fn ip(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    between(source, destination).write(&mut frame, IpNumber(protocol), payload).unwrap();
    frame
}

pub fn echo_request(source: IpAddr, destination: IpAddr) -> Vec<u8> {
    let mut frame = Vec::new();
    let ping = between(source, destination);
    match destination {
        IpAddr::V4(_) => ping.icmpv4_echo_request(1, 1).write(&mut frame, PAYLOAD).unwrap(),
        IpAddr::V6(_) => ping.icmpv6_echo_request(1, 1).write(&mut frame, PAYLOAD).unwrap(),
    }
    frame
}

/// An ICMP message of type `kind` that quotes a packet.
pub fn icmp_message(kind: u8, quoted: &[u8]) -> Vec<u8> {
    [&[kind, 1, 0, 0, 0, 0, 0, 0], quoted].concat()
}

/// A fragment of a datagram to port 53; `offset` is in units of 8 bytes.
pub fn fragment(source: IpAddr, destination: IpAddr, protocol: u8, offset: u16, more: bool) -> Vec<u8> {
    let payload: &[u8] = &[156, 64, 0, 53, 5, 220, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let fragment_offset = IpFragOffset::try_new(offset).unwrap();
    let protocol = IpNumber(protocol);
    let headers = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header =
                Ipv4Header::new(0, TTL, protocol, source.octets(), destination.octets()).unwrap();
            header.identification = 1;
            header.dont_fragment = false;
            header.more_fragments = more;
            header.fragment_offset = fragment_offset;
            IpHeaders::Ipv4(header, Ipv4Extensions::default())
        }
        _ => {
            let header = Ipv6Header {
                source: octets6(source),
                destination: octets6(destination),
                hop_limit: TTL,
                ..Ipv6Header::default()
            };
            let fragment = Ipv6FragmentHeader::new(protocol, fragment_offset, more, 1);
            let extensions = Ipv6Extensions { fragment: Some(fragment), ..Ipv6Extensions::default() };
            IpHeaders::Ipv6(header, extensions)
        }
    };
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(MAC_FROM, MAC_TO).ip(headers);
    builder.write(&mut frame, protocol, payload).unwrap();
    frame
}

pub fn arp_request(source: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let packet = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation::REQUEST,
        &MAC_FROM,
        &source.octets(),
        &[0; 6],
        &target.octets(),
    )
    .unwrap();
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(MAC_FROM, MAC_TO).arp(packet).write(&mut frame).unwrap();
    frame
}

/// `payload` behind just this IPv6 header.
pub fn ethernet(header: &Ipv6Header, payload: &[u8]) -> Vec<u8> {
    let mut header = header.clone();
    header.payload_length = payload.len().try_into().unwrap();
    [&MAC_TO[..], &MAC_FROM, &[0x86, 0xdd], &header.to_bytes(), payload].concat()
}

/// An untagged IPv6 frame with `extensions` (type and bytes) put before its transport header.
pub fn with_extensions(frame: &[u8], extensions: &[(u8, &[u8])]) -> Vec<u8> {
    let (head, transport) = frame.split_at(NETWORK + 40);
    let mut head = head.to_vec();
    let mut next = head[NETWORK + 6];
    let mut chain: Vec<u8> = Vec::new();
    for (kind, bytes) in extensions.iter().rev() {
        chain = [&[next], &bytes[1..], &chain].concat();
        next = *kind;
    }
    head[NETWORK + 6] = next;
    let payload_len = u16::try_from(chain.len() + transport.len()).unwrap();
    head[NETWORK + 4..NETWORK + 6].copy_from_slice(&payload_len.to_be_bytes());
    [&head[..], &chain, transport].concat()
}

/// The frame under a VLAN tag of this type (VLAN 7, priority 5).
pub fn tagged(frame: &[u8], tag_type: u16) -> Vec<u8> {
    [&frame[..12], &tag_type.to_be_bytes(), &[0xa0, 7], &frame[12..]].concat()
}

/// The frame sent to another MAC address.
pub fn to_mac(frame: &[u8], mac: [u8; 6]) -> Vec<u8> {
    [&mac[..], &frame[6..]].concat()
}

/// The frame with one byte changed.
pub fn edited(frame: &[u8], offset: usize, value: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[offset] = value;
    frame
}

pub fn octets6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V6(address) => address.octets(),
        IpAddr::V4(address) => panic!("{address} is no IPv6 address"),
    }
}
