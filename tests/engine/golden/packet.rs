//! A frame as a description, and the bytes of it: every header written anew and every checksum summed up whole, slowly.
//! Nothing here is shared with what it is the measure of.

use std::net::{IpAddr, SocketAddr};

use xvs::director::service::{Tunnel, TunnelChecksum};

const TCP: u8 = 6;
const UDP: u8 = 17;
const GRE: u8 = 47;
const ESP: u8 = 50;
const AH: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const SCTP: u8 = 132;

/// A frame from its first byte to its last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub to: [u8; 6],
    pub from: [u8; 6],
    /// The 16 bits of an 802.1Q tag that say priority and VLAN.
    pub tag: Option<u16>,
    /// What the packet is wrapped into.
    pub outer: Option<Outer>,
    pub packet: Packet,
}

/// The headers of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outer {
    pub tunnel: Tunnel,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub class: u8,
    pub ttl: u8,
    pub id: u16,
    pub df: bool,
    /// Of GUE.
    pub source_port: u16,
}

/// An IP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// DSCP and ECN.
    pub class: u8,
    pub ttl: u8,
    /// Of IPv6.
    pub flow_label: u32,
    /// Of IPv4.
    pub id: u16,
    pub df: bool,
    pub extension: Extension,
    pub transport: Transport,
    pub payload: Vec<u8>,
    /// A bit of the payload has turned since the transport checksum was made.
    pub damaged: bool,
}

/// What is between the IP header and the transport's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    None,
    /// Options of IPv4, or IPv6's header of destination options.
    Options,
    /// IPv6's Authentication Header.
    Authentication,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp {
        flags: u8,
        options: &'static [u8],
    },
    /// With a checksum or without.
    Udp {
        summed: bool,
    },
    /// Chunks as types with their values; the payload is the last one's value.
    Sctp {
        chunks: &'static [(u8, &'static [u8])],
    },
    /// AH or ESP: the payload is all that is known.
    Sealed {
        protocol: u8,
    },
}

pub const SEALED_ESP: Transport = Transport::Sealed { protocol: ESP };
pub const SEALED_AH: Transport = Transport::Sealed { protocol: AH };

/// The one's complement sum, one word after the other.
fn sum(bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(0, |sum: u16, word| {
        let word = u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]);
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}

/// CRC32c, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn length(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).unwrap().to_be_bytes()
}

/// The checksum over the pseudo header (RFC 768, RFC 8200 8.1) and what is behind it.
fn transport_sum(source: IpAddr, destination: IpAddr, protocol: u8, bytes: &[u8]) -> u16 {
    !sum(&[&octets(source), &octets(destination), &[0, protocol][..], &length(bytes), bytes].concat())
}

/// UDP says by a checksum of zero that it has none.
fn never_zero(sum: u16) -> u16 {
    if sum == 0 { 0xffff } else { sum }
}

/// What an IP header is written from.
struct Ip<'o> {
    source: IpAddr,
    destination: IpAddr,
    class: u8,
    ttl: u8,
    flow_label: u32,
    id: u16,
    df: bool,
    options: &'o [u8],
    protocol: u8,
}

impl Ip<'_> {
    /// The header, and behind it these bytes.
    fn around(&self, payload: &[u8]) -> Vec<u8> {
        let (source, destination) = (octets(self.source), octets(self.destination));
        if self.source.is_ipv6() {
            let first = 6 << 28 | u32::from(self.class) << 20 | self.flow_label;
            let behind = [self.options, payload].concat();
            let end = [self.protocol, self.ttl];
            return [&first.to_be_bytes()[..], &length(&behind), &end, &source, &destination, &behind]
                .concat();
        }
        let mut header = vec![0x45 + u8::try_from(self.options.len() / 4).unwrap(), self.class, 0, 0];
        header.extend(self.id.to_be_bytes());
        header.extend([if self.df { 0x40 } else { 0 }, 0, self.ttl, self.protocol, 0, 0]);
        header.extend([&source[..], &destination, self.options].concat());
        let total = length(&[&header[..], payload].concat());
        header[2..4].copy_from_slice(&total);
        let checksum = !sum(&header);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        [&header[..], payload].concat()
    }
}

impl Packet {
    fn protocol(&self) -> u8 {
        match self.transport {
            Transport::Tcp { .. } => TCP,
            Transport::Udp { .. } => UDP,
            Transport::Sctp { .. } => SCTP,
            Transport::Sealed { protocol } => protocol,
        }
    }

    /// True if a damaged payload shows.
    pub fn has_checksum(&self) -> bool {
        !matches!(self.transport, Transport::Udp { summed: false } | Transport::Sealed { .. })
    }

    /// The transport header with its checksum, and the payload.
    fn segment(&self) -> Vec<u8> {
        let ports = [self.source.port().to_be_bytes(), self.destination.port().to_be_bytes()].concat();
        let (source, destination) = (self.source.ip(), self.destination.ip());
        let mut bytes = match &self.transport {
            Transport::Tcp { flags, options } => {
                let offset = u8::try_from(5 + options.len() / 4).unwrap() << 4;
                let rest = [0, 0, 0, 7, 0, 0, 0, 9, offset, *flags, 0x20, 0, 0, 0, 0, 0];
                [&ports, &rest[..], options, &self.payload].concat()
            }
            Transport::Udp { .. } => {
                let len = u16::try_from(8 + self.payload.len()).unwrap().to_be_bytes();
                [&ports, &len[..], &[0, 0], &self.payload].concat()
            }
            Transport::Sctp { chunks } => {
                let mut bytes = [&ports, &b"vtag"[..], &[0; 4]].concat();
                for (n, (kind, value)) in chunks.iter().enumerate() {
                    let value = if n + 1 == chunks.len() {
                        [value, &self.payload[..]].concat()
                    } else {
                        value.to_vec()
                    };
                    bytes.extend([*kind, 3]);
                    bytes.extend(length(&[&[0; 4], &value[..]].concat()));
                    bytes.extend(value);
                    bytes.resize(bytes.len().next_multiple_of(4), 0);
                }
                bytes
            }
            Transport::Sealed { .. } => self.payload.clone(),
        };
        let summed = |bytes: &[u8]| transport_sum(source, destination, self.protocol(), bytes);
        match self.transport {
            Transport::Tcp { .. } => {
                let sum = summed(&bytes);
                bytes[16..18].copy_from_slice(&sum.to_be_bytes());
            }
            Transport::Udp { summed: true } => {
                let sum = never_zero(summed(&bytes));
                bytes[6..8].copy_from_slice(&sum.to_be_bytes());
            }
            Transport::Sctp { .. } => {
                let sum = crc32c(&bytes);
                bytes[8..12].copy_from_slice(&sum.to_le_bytes());
            }
            Transport::Udp { summed: false } | Transport::Sealed { .. } => {}
        }
        if self.damaged {
            // Well inside of the payload: of SCTP three bytes at most are padding.
            let at = bytes.len() - 5;
            bytes[at] ^= 0x10;
        }
        bytes
    }

    /// The transport checksum as it is written, of TCP and UDP.
    pub fn checksum(&self) -> u16 {
        let (segment, at) = (self.segment(), if self.protocol() == TCP { 16 } else { 6 });
        u16::from_be_bytes([segment[at], segment[at + 1]])
    }

    /// The packet from its IP header on.
    pub fn bytes(&self) -> Vec<u8> {
        let (is_v4, protocol) = (self.source.is_ipv4(), self.protocol());
        let (options, first) = match (self.extension, is_v4) {
            (Extension::None, _) | (Extension::Authentication, true) => (vec![], protocol),
            // A router alert (RFC 2113), and an end.
            (Extension::Options, true) => (vec![0x94, 4, 0, 0, 1, 1, 1, 0], protocol),
            // Six bytes of padding.
            (Extension::Options, false) => (vec![protocol, 0, 1, 4, 0, 0, 0, 0], DESTINATION_OPTIONS),
            // Its length, 24 bytes; the SPI, a number, and a value that was true of the client's packet.
            (Extension::Authentication, false) => {
                ([&[protocol, 4, 0, 0], &b"spi.numbthe value..."[..]].concat(), AH)
            }
        };
        let options = &options;
        let Self { source, destination, class, ttl, flow_label, id, df, .. } = *self;
        let (source, destination) = (source.ip(), destination.ip());
        let ip = Ip { source, destination, class, ttl, flow_label, id, df, options, protocol: first };
        ip.around(&self.segment())
    }
}

impl Outer {
    /// The outer packet with this one in it.
    fn around(&self, inner: &[u8]) -> Vec<u8> {
        let is_v4 = inner[0] >> 4 == 4;
        let number = if is_v4 { 4 } else { 41 };
        let (protocol, payload) = match self.tunnel {
            Tunnel::Ipip => (number, inner.to_vec()),
            Tunnel::Gre { checksum } => {
                let ethertype: [u8; 2] = if is_v4 { [8, 0] } else { [0x86, 0xdd] };
                let bytes = if checksum == TunnelChecksum::None {
                    [&[0, 0], &ethertype[..], inner].concat()
                } else {
                    let mut bytes = [&[0x80, 0], &ethertype[..], &[0; 4], inner].concat();
                    let sum = !sum(&bytes);
                    bytes[4..6].copy_from_slice(&sum.to_be_bytes());
                    bytes
                };
                (GRE, bytes)
            }
            Tunnel::Gue { port, checksum } => {
                let ports = [self.source_port.to_be_bytes(), port.to_be_bytes()].concat();
                let len = u16::try_from(12 + inner.len()).unwrap().to_be_bytes();
                let mut bytes = [&ports, &len[..], &[0, 0], &[0, number, 0, 0], inner].concat();
                if checksum != TunnelChecksum::None {
                    let sum = never_zero(transport_sum(self.source, self.destination, UDP, &bytes));
                    bytes[6..8].copy_from_slice(&sum.to_be_bytes());
                }
                (UDP, bytes)
            }
        };
        let Self { source, destination, class, ttl, id, df, .. } = *self;
        let ip = Ip { source, destination, class, ttl, flow_label: 0, id, df, options: &[], protocol };
        ip.around(&payload)
    }
}

impl Frame {
    /// The frame as it is on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let packet = self.packet.bytes();
        let packet = match &self.outer {
            Some(outer) => outer.around(&packet),
            None => packet,
        };
        let tag = self.tag.map(|tag| [[0x81, 0], tag.to_be_bytes()].concat());
        let ethertype: [u8; 2] = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
        [&self.to[..], &self.from, &tag.unwrap_or_default(), &ethertype, &packet].concat()
    }
}
