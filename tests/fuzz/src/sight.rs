//! A packet in the eyes of an independent parser, which takes off tunnels: what must be right of it, and how wrong the rest
//! is.

use std::net::{IpAddr, SocketAddr};

use etherparse::{IpNumber, LinkExtSlice, NetSlice, SlicedPacket, TransportSlice};

use super::table::crc32c;

/// Of GUE.
pub const GUE_PORT: u16 = 6080;

/// A packet, or what is in the tunnel.
#[derive(Clone, Debug)]
pub struct Sight {
    pub vlan: Option<u16>,
    pub class: u8,
    pub ttl: u8,
    pub protocol: u8,
    /// Without ports 0.
    pub from: SocketAddr,
    pub to: SocketAddr,
    /// Sequence and acknowledgement number, flags, and options of TCP.
    pub tcp: Option<(u32, u32, u8, Vec<u8>)>,
    pub payload: Vec<u8>,
    /// By how much the transport checksum is wrong: modulo 0xffff, or the bits of CRC32c. None without a checksum.
    pub error: Option<u32>,
    /// It is not all of a datagram.
    pub is_fragment: bool,
    /// Who the packet around it is for.
    pub wrapped_to: Option<IpAddr>,
    /// Bytes of the outermost IP packet.
    pub len: usize,
}

/// The one's complement sum modulo 0xffff.
fn remainder(bytes: &[u8]) -> u32 {
    let word = |w: &[u8]| u64::from(w[0]) << 8 | w.get(1).map_or(0, |&b| u64::from(b));
    let sum = bytes.chunks(2).map(word).sum::<u64>() % 0xffff;
    u32::try_from(sum).expect("16 bits")
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

impl Sight {
    /// The packet in a frame, if it is a whole one. Panics if a tunnel's own checksums, or any IP header's, are wrong.
    pub fn of(frame: &[u8]) -> Option<Self> {
        let sliced = SlicedPacket::from_ethernet(frame).ok()?;
        let vlan = sliced.link_exts.iter().find_map(|ext| match ext {
            LinkExtSlice::Vlan(tag) => Some(tag.vlan_identifier().value()),
            _ => None,
        });
        Some(Self { vlan, ..Self::of_ip(&sliced)? })
    }

    fn of_ip(sliced: &SlicedPacket<'_>) -> Option<Self> {
        let (from, to, class, ttl, ip, len): (IpAddr, IpAddr, _, _, _, _) = match sliced.net.as_ref()? {
            NetSlice::Ipv4(ip) => {
                let header = ip.header();
                assert_eq!(remainder(header.slice()), 0, "IP header checksum");
                let class = header.dcp().value() << 2 | header.ecn().value();
                let (from, to) = (header.source_addr().into(), header.destination_addr().into());
                (from, to, class, header.ttl(), ip.payload(), usize::from(header.total_len()))
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header();
                let (from, to) = (header.source_addr().into(), header.destination_addr().into());
                let len = 40 + usize::from(header.payload_length());
                (from, to, header.traffic_class(), header.hop_limit(), ip.payload(), len)
            }
            NetSlice::Arp(_) => return None,
        };
        let (protocol, bytes) = (ip.ip_number, ip.payload);
        let length = u32::try_from(bytes.len()).expect("short").to_be_bytes();
        let pseudo = [&octets(from)[..], &octets(to), &[0, protocol.0], &length, bytes].concat();
        let sight = Self {
            vlan: None,
            class,
            ttl,
            protocol: protocol.0,
            from: (from, 0).into(),
            to: (to, 0).into(),
            tcp: None,
            payload: bytes.to_vec(),
            error: None,
            is_fragment: ip.fragmented,
            wrapped_to: None,
            len,
        };
        let between = |ports: (u16, u16)| ((from, ports.0).into(), (to, ports.1).into());
        Some(match (&sliced.transport, protocol) {
            _ if ip.fragmented => sight,
            (Some(TransportSlice::Tcp(tcp)), _) => {
                let (from, to) = between((tcp.source_port(), tcp.destination_port()));
                let header = (
                    tcp.sequence_number(),
                    tcp.acknowledgment_number(),
                    tcp.slice()[13],
                    tcp.options().to_vec(),
                );
                let (tcp, payload) = (Some(header), tcp.payload().to_vec());
                Self { from, to, tcp, payload, error: Some(remainder(&pseudo)), ..sight }
            }
            (Some(TransportSlice::Udp(udp)), _) => {
                let error = (udp.checksum() != 0).then(|| remainder(&pseudo));
                let is_ours =
                    udp.destination_port() == GUE_PORT && matches!(udp.payload(), [0, 4 | 41, 0, 0, ..]);
                if is_ours {
                    assert_eq!(error, Some(0), "GUE's checksum");
                    return sight.deeper(&udp.payload()[4..]);
                }
                let (from, to) = between((udp.source_port(), udp.destination_port()));
                Self { from, to, payload: udp.payload().to_vec(), error, ..sight }
            }
            (_, IpNumber::GRE) => {
                assert!(
                    bytes.len() > 8 && bytes[..2] == [0x80, 0] && remainder(bytes) == 0,
                    "GRE's checksum"
                );
                return sight.deeper(&bytes[8..]);
            }
            (_, IpNumber::SCTP) if bytes.len() >= 12 => {
                let zeroed = [&bytes[..8], &[0; 4], &bytes[12..]].concat();
                let error = crc32c(&zeroed) ^ u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
                let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
                let (from, to) = between((port(0), port(2)));
                Self { from, to, payload: bytes[12..].to_vec(), error: Some(error), ..sight }
            }
            (_, IpNumber::ICMP) => Self { error: Some(remainder(bytes)), ..sight },
            (_, IpNumber::IPV6_ICMP) => Self { error: Some(remainder(&pseudo)), ..sight },
            _ => sight,
        })
    }

    fn deeper(self, inner: &[u8]) -> Option<Self> {
        let sliced = SlicedPacket::from_ip(inner).expect("a whole packet in the tunnel");
        let inner = Self::of_ip(&sliced).expect("IP in the tunnel");
        assert_eq!(self.ttl, inner.ttl, "the outer TTL is the inner one's");
        Some(Self { wrapped_to: Some(self.to.ip()), len: self.len, ..inner })
    }
}
