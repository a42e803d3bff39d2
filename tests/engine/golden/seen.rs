//! A frame through the eyes of another parser, which takes tunnels off: what it finds, and whether its checksums are right.

use etherparse::{IpNumber, LinkExtSlice, NetSlice, SlicedPacket, TransportSlice, UdpSlice};

/// What does not change on the way, or does so by a rule of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub class: u8,
    pub ttl: u8,
    /// Of IPv6.
    pub flow_label: Option<u32>,
    pub tcp_options: Option<Vec<u8>>,
    /// Flags, sequence numbers and window of TCP; verification tag of SCTP.
    pub transport: Vec<u8>,
    pub payload: Vec<u8>,
    /// Whether the transport checksum is right, if there is one.
    pub is_right: Option<bool>,
    /// The VLAN of the frame.
    pub vlan: Option<u16>,
    /// Headers of IP: more than one in a tunnel.
    pub depth: u8,
}

/// The one's complement sum modulo 0xffff.
fn remainder(bytes: &[u8]) -> u64 {
    let word = |w: &[u8]| u64::from(w[0]) << 8 | w.get(1).map_or(0, |&b| u64::from(b));
    bytes.chunks(2).map(word).sum::<u64>() % 0xffff
}

/// Reads a frame: panics unless every length and every checksum but the innermost transport's is right.
pub fn see(frame: &[u8]) -> Seen {
    let sliced = SlicedPacket::from_ethernet(frame).expect("a whole packet");
    let vlan = sliced.link_exts.iter().find_map(|ext| match ext {
        LinkExtSlice::Vlan(tag) => Some(tag.vlan_identifier().value()),
        _ => None,
    });
    Seen { vlan, ..see_ip(&sliced) }
}

fn see_ip(sliced: &SlicedPacket<'_>) -> Seen {
    let (source, destination, class, ttl, flow_label, protocol, payload) = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header().to_header();
            assert_eq!(header.calc_header_checksum(), header.header_checksum, "IP header checksum");
            let class = header.dscp.value() << 2 | header.ecn.value();
            let (source, destination) = (header.source.to_vec(), header.destination.to_vec());
            let payload = ip.payload();
            (source, destination, class, header.time_to_live, None, payload.ip_number, payload.payload)
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header();
            let label = Some(header.flow_label().value());
            let (source, destination) = (header.source().to_vec(), header.destination().to_vec());
            let payload = ip.payload();
            let class = header.traffic_class();
            (source, destination, class, header.hop_limit(), label, payload.ip_number, payload.payload)
        }
        other => panic!("not IP: {other:?}"),
    };
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let pseudo = |bytes: &[u8]| [&source[..], &destination, &[0, protocol.0], &length, bytes].concat();
    let seen = Seen {
        class,
        ttl,
        flow_label,
        tcp_options: None,
        transport: vec![],
        payload: payload.to_vec(),
        is_right: None,
        vlan: None,
        depth: 1,
    };
    match (&sliced.transport, protocol) {
        (Some(TransportSlice::Tcp(tcp)), _) => Seen {
            tcp_options: Some(tcp.options().to_vec()),
            transport: [&tcp.slice()[4..16], &tcp.slice()[18..20]].concat(),
            payload: tcp.payload().to_vec(),
            is_right: Some(remainder(&pseudo(payload)) == 0),
            ..seen
        },
        (Some(TransportSlice::Udp(udp)), _) => {
            let is_right = (udp.checksum() != 0).then(|| remainder(&pseudo(payload)) == 0);
            match inside_gue(udp) {
                Some(inner) => {
                    assert_ne!(is_right, Some(false), "GUE's UDP checksum");
                    deeper(inner)
                }
                None => Seen { payload: udp.payload().to_vec(), is_right, ..seen },
            }
        }
        (None, IpNumber::IPV4 | IpNumber::IPV6) => deeper(payload),
        (None, IpNumber::GRE) => {
            let is_summed = payload[0] & 0x80 != 0;
            assert!(payload[0] & 0x7f == 0 && payload[1] == 0, "nothing else of GRE");
            assert!(!is_summed || remainder(payload) == 0, "GRE's checksum");
            deeper(&payload[if is_summed { 8 } else { 4 }..])
        }
        (None, IpNumber::SCTP) => {
            let zeroed = [&payload[..8], &[0; 4], &payload[12..]].concat();
            let is_right = Some(crate::table::crc32c(&zeroed).to_le_bytes() == payload[8..12]);
            Seen { transport: payload[4..8].to_vec(), payload: payload[12..].to_vec(), is_right, ..seen }
        }
        // ESP, and what is behind AH.
        (None, IpNumber(50 | 59)) => seen,
        other => panic!("{other:?}"),
    }
}

/// The packet in one of GUE, if it is one: a header of four bytes without anything optional.
fn inside_gue<'p>(udp: &UdpSlice<'p>) -> Option<&'p [u8]> {
    let payload = udp.payload();
    (udp.destination_port() == super::GUE_PORT && matches!(payload, [0, 4 | 41, 0, 0, ..]))
        .then(|| &payload[4..])
}

fn deeper(inner: &[u8]) -> Seen {
    let sliced = SlicedPacket::from_ip(inner).expect("a whole packet in the tunnel");
    let seen = see_ip(&sliced);
    Seen { depth: seen.depth + 1, ..seen }
}
