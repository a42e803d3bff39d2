//! Packets in packets: what a server behind a tunnel gets (`ip_vs_tunnel_xmit` in ip_vs_xmit.c).
//!
//! The outer headers are written in front of a packet that stays where it is; who made the room for them is not
//! known here.

use std::net::IpAddr;

use super::checksum;

/// What packets to a tunnelling server are wrapped into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tunnel {
    /// IP in IP (RFC 2003, RFC 2473).
    #[default]
    Ipip,
    /// Generic UDP encapsulation.
    Gue {
        /// UDP port of the server, 1..=65_535.
        port: u16,
        /// What is summed.
        checksum: TunnelChecksum,
    },
    /// Generic routing encapsulation (RFC 2784).
    Gre {
        /// What is summed.
        checksum: TunnelChecksum,
    },
}

/// The checksum of a tunnel's own header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TunnelChecksum {
    /// None (`--tun-nocsum`).
    #[default]
    None,
    /// The whole packet (`--tun-csum`).
    Full,
    /// The remote checksum offload of GUE (`--tun-remcsum`). It is for packets whose own checksum is still to be
    /// computed, which none is that came over a wire: they are summed as with `Full`, as the kernel does.
    Remote,
}

const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const UDP_LEN: usize = 8;
const GUE_LEN: usize = 4;
const GRE_LEN: usize = 4;
const GRE_CHECKSUM_LEN: usize = 4;

/// The most bytes that any tunnel puts in front of a packet: GUE over IPv6.
pub const MAX_OVERHEAD: usize = IPV6_LEN + UDP_LEN + GUE_LEN;

pub(super) const IPIP: u8 = 4;
pub(super) const IPV6: u8 = 41;
pub(super) const UDP: u8 = 17;
pub(super) const GRE: u8 = 47;

const DONT_FRAGMENT: u16 = 0x4000;
/// Congestion experienced, in the two low bits of the traffic class (RFC 3168).
const ECN: u8 = 3;
const ECN_CE: u8 = 3;
const ECN_ECT_0: u8 = 2;

/// Source ports of GUE: `ip_local_port_range` as it is unless an administrator changed it.
const SOURCE_PORTS: (u16, u16) = (32_768, 60_999);

impl Tunnel {
    /// Bytes in front of a packet to a server of this family.
    pub const fn overhead(self, outer_is_v4: bool) -> usize {
        let ip = if outer_is_v4 { IPV4_LEN } else { IPV6_LEN };
        ip + match self {
            Tunnel::Ipip => 0,
            Tunnel::Gue { .. } => UDP_LEN + GUE_LEN,
            Tunnel::Gre { checksum: TunnelChecksum::None } => GRE_LEN,
            Tunnel::Gre { .. } => GRE_LEN + GRE_CHECKSUM_LEN,
        }
    }

    /// The protocol that outer packets are of, and for UDP the port they are sent to, else 0.
    pub const fn carrier(self, inner_is_v4: bool) -> (u8, u16) {
        match self {
            Tunnel::Ipip if inner_is_v4 => (IPIP, 0),
            Tunnel::Ipip => (IPV6, 0),
            Tunnel::Gue { port, .. } => (UDP, port),
            Tunnel::Gre { .. } => (GRE, 0),
        }
    }
}

/// The outer packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    /// What is between the two IP headers.
    pub tunnel: Tunnel,
    /// The director's address. Of the same family as `destination`.
    pub source: IpAddr,
    /// The server's.
    pub destination: IpAddr,
    /// Whether the outer packet has the inner one's DF (`pmtu_disc`); none without.
    pub copies_df: bool,
    /// Identification of an IPv4 packet that may be fragmented.
    pub identification: u16,
    /// Of the inner flow: GUE's source port spreads flows over the paths of the network.
    pub flow_hash: u32,
}

impl Outer {
    /// The source port of GUE.
    pub fn source_port(&self) -> u16 {
        source_port(self.flow_hash)
    }
}

/// Writes the outer headers in front of the IP packet of `inner_len` bytes that starts at `inner` in `frame`. Its TTL
/// is what it leaves the director with. Returns where the outer packet starts, and its length; `None`, with nothing
/// written, if there is no room, the addresses are of two families, or the whole were longer than 65,535 bytes.
pub fn encapsulate(
    frame: &mut [u8],
    inner: usize,
    inner_len: usize,
    outer: &Outer,
) -> Option<(usize, usize)> {
    let is_v4 = outer.destination.is_ipv4();
    let overhead = outer.tunnel.overhead(is_v4);
    let start = inner.checked_sub(overhead)?;
    let len = overhead + inner_len;
    let packet = frame.get_mut(start..inner + inner_len)?;
    let header = Inner::read(packet.get(overhead..)?)?;
    let ip = if is_v4 { IPV4_LEN } else { IPV6_LEN };
    let (protocol, shim) = match outer.tunnel {
        Tunnel::Ipip => (header.protocol, &[][..]),
        Tunnel::Gue { .. } => (UDP, &[0, header.protocol, 0, 0][..]),
        Tunnel::Gre { checksum } => {
            let flags = if checksum == TunnelChecksum::None { 0 } else { 0x80 };
            let [high, low] = header.ethertype.to_be_bytes();
            (GRE, &[flags, 0, high, low, 0, 0, 0, 0][..overhead - ip])
        }
    };
    let total = u16::try_from(len).ok()?;
    match (outer.source, outer.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let flags = if outer.copies_df && header.dont_fragment { DONT_FRAGMENT } else { 0 };
            // One that is never fragmented needs no identification (RFC 6864, 4.1).
            let identification = if flags == 0 { outer.identification } else { 0 };
            let to = packet.first_chunk_mut::<IPV4_LEN>()?;
            to[..2].copy_from_slice(&[0x45, header.traffic_class]);
            to[2..4].copy_from_slice(&total.to_be_bytes());
            to[4..6].copy_from_slice(&identification.to_be_bytes());
            to[6..8].copy_from_slice(&flags.to_be_bytes());
            to[8..12].copy_from_slice(&[header.ttl, protocol, 0, 0]);
            to[12..16].copy_from_slice(&source.octets());
            to[16..].copy_from_slice(&destination.octets());
            let sum = checksum::of_header(to);
            to[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let to = packet.first_chunk_mut::<IPV6_LEN>()?;
            to[..4].copy_from_slice(&[0x60 | header.traffic_class >> 4, header.traffic_class << 4, 0, 0]);
            to[4..6].copy_from_slice(&u16::try_from(len - IPV6_LEN).ok()?.to_be_bytes());
            to[6..8].copy_from_slice(&[protocol, header.ttl]);
            to[8..24].copy_from_slice(&source.octets());
            to[24..].copy_from_slice(&destination.octets());
        }
        _ => return None,
    }
    packet[overhead - shim.len()..overhead].copy_from_slice(shim);
    match outer.tunnel {
        Tunnel::Ipip | Tunnel::Gre { checksum: TunnelChecksum::None } => {}
        Tunnel::Gre { .. } => {
            let sum = checksum::of(&packet[ip..]);
            packet[ip + GRE_LEN..ip + GRE_LEN + 2].copy_from_slice(&sum.to_be_bytes());
        }
        Tunnel::Gue { port, checksum } => {
            let udp_len = u16::try_from(len - ip).ok()?;
            let udp = packet.get_mut(ip..)?;
            udp[..2].copy_from_slice(&source_port(outer.flow_hash).to_be_bytes());
            udp[2..4].copy_from_slice(&port.to_be_bytes());
            udp[4..6].copy_from_slice(&udp_len.to_be_bytes());
            udp[6..8].fill(0);
            if checksum != TunnelChecksum::None {
                let sum = checksum::of_transport(outer.source, outer.destination, UDP, udp);
                // Zero says that there is none (RFC 768).
                udp[6..8].copy_from_slice(&if sum == 0 { 0xffff } else { sum }.to_be_bytes());
            }
        }
    }
    Some((start, len))
}

/// What the outer headers take over from the packet.
#[derive(Clone, Copy, Debug)]
struct Inner {
    protocol: u8,
    ethertype: u16,
    traffic_class: u8,
    ttl: u8,
    dont_fragment: bool,
}

impl Inner {
    fn read(packet: &[u8]) -> Option<Self> {
        let [first, second, _, _, _, _, flags, seventh, eighth] = *packet.first_chunk()?;
        Some(match first >> 4 {
            4 => Self {
                protocol: IPIP,
                ethertype: 0x0800,
                traffic_class: tunnelled(second),
                ttl: eighth,
                dont_fragment: flags & 0x40 != 0,
            },
            6 => Self {
                protocol: IPV6,
                ethertype: 0x86dd,
                traffic_class: tunnelled(first << 4 | second >> 4),
                ttl: seventh,
                dont_fragment: false,
            },
            _ => return None,
        })
    }
}

/// The outer traffic class: DSCP as it is; a congestion already told is told by the inner packet (RFC 3168, 9.1.1, the
/// full-functionality option).
pub(super) const fn tunnelled(traffic_class: u8) -> u8 {
    if traffic_class & ECN == ECN_CE { traffic_class & !ECN | ECN_ECT_0 } else { traffic_class }
}

/// As `udp_flow_src_port` spreads flows.
#[allow(clippy::cast_possible_truncation, reason = "below the width of the range")]
#[inline]
pub(super) fn source_port(flow_hash: u32) -> u16 {
    let (least, most) = SOURCE_PORTS;
    let hash = flow_hash ^ flow_hash << 16;
    least + ((u64::from(hash) * u64::from(most - least)) >> 32) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{LaxPacketHeaders, NetHeaders, PacketBuilder, TransportHeader};

    const HEAD: usize = 80;
    const CHECKSUMS: [TunnelChecksum; 3] =
        [TunnelChecksum::None, TunnelChecksum::Full, TunnelChecksum::Remote];

    /// An IPv4 or IPv6 packet at `HEAD`, and its length.
    fn inner(v4: bool, traffic_class: u8, dont_fragment: bool) -> (Vec<u8>, usize) {
        let mut packet = vec![0xee; HEAD];
        if v4 {
            let mut ip =
                etherparse::Ipv4Header::new(0, 33, 17.into(), [10, 0, 1, 1], [10, 0, 0, 100]).unwrap();
            ip.dont_fragment = dont_fragment;
            let builder = PacketBuilder::ip(etherparse::IpHeaders::Ipv4(ip, Default::default()));
            builder.udp(4711, 53).write(&mut packet, b"hello").unwrap();
            packet[HEAD + 1] = traffic_class;
            packet[HEAD + 10..HEAD + 12].fill(0);
            let sum = checksum::of(&packet[HEAD..HEAD + 20]);
            packet[HEAD + 10..HEAD + 12].copy_from_slice(&sum.to_be_bytes());
        } else {
            let builder = PacketBuilder::ipv6([1; 16], [2; 16], 33);
            builder.udp(4711, 53).write(&mut packet, b"hello").unwrap();
            packet[HEAD] = 0x60 | traffic_class >> 4;
            packet[HEAD + 1] = traffic_class << 4;
        }
        let len = packet.len() - HEAD;
        (packet, len)
    }

    fn outer(tunnel: Tunnel, v4: bool) -> Outer {
        let [source, destination] = if v4 { ["10.0.2.1", "10.0.2.7"] } else { ["fd00::1", "fd00::7"] };
        Outer {
            tunnel,
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            copies_df: true,
            identification: 0x1234,
            flow_hash: 0x8000_0000,
        }
    }

    fn tunnels() -> Vec<Tunnel> {
        let mut all = vec![Tunnel::Ipip];
        all.extend(CHECKSUMS.map(|checksum| Tunnel::Gue { port: 6080, checksum }));
        all.extend(CHECKSUMS[..2].iter().map(|&checksum| Tunnel::Gre { checksum }));
        all
    }

    /// Another parser takes the outer headers off: the inner packet is there, unchanged, and every sum is right.
    #[test]
    fn every_tunnel_of_every_family_holds_the_packet() {
        for (inner_v4, outer_v4) in [(true, true), (true, false), (false, true), (false, false)] {
            for tunnel in tunnels() {
                let (mut frame, len) = inner(inner_v4, 0x2d, true);
                let before = frame[HEAD..].to_vec();
                let outer = outer(tunnel, outer_v4);
                let (start, total) = encapsulate(&mut frame, HEAD, len, &outer).unwrap();
                assert_eq!((start, start + total), (HEAD - tunnel.overhead(outer_v4), frame.len()));
                assert_eq!(frame[HEAD..], before);
                assert!(frame[..start].iter().all(|b| *b == 0xee), "nothing is written in front");

                let headers = LaxPacketHeaders::from_ip(&frame[start..]).unwrap();
                let (ttl, class, protocol, payload) = match headers.net.unwrap() {
                    NetHeaders::Ipv4(ip, _) => {
                        assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                        assert_eq!((usize::from(ip.total_len), ip.dont_fragment), (total, inner_v4));
                        assert_eq!(ip.identification, if inner_v4 { 0 } else { 0x1234 });
                        assert_eq!(IpAddr::from(ip.source), outer.source);
                        assert_eq!(IpAddr::from(ip.destination), outer.destination);
                        (ip.time_to_live, ip.dscp.value() << 2 | ip.ecn.value(), ip.protocol.0, start + 20)
                    }
                    NetHeaders::Ipv6(ip, _) => {
                        assert_eq!(usize::from(ip.payload_length), total - 40);
                        assert_eq!(IpAddr::from(ip.source), outer.source);
                        assert_eq!(IpAddr::from(ip.destination), outer.destination);
                        assert_eq!(ip.flow_label.value(), 0);
                        (ip.hop_limit, ip.traffic_class, ip.next_header.0, start + 40)
                    }
                    other => panic!("{other:?}"),
                };
                assert_eq!((ttl, class), (33, 0x2d));
                let number = if inner_v4 { 4 } else { 41 };
                match tunnel {
                    Tunnel::Ipip => assert_eq!((protocol, payload), (number, HEAD)),
                    Tunnel::Gre { checksum: TunnelChecksum::None } => {
                        let kind: [u8; 2] = if inner_v4 { [8, 0] } else { [0x86, 0xdd] };
                        assert_eq!((protocol, &frame[payload..HEAD]), (47, &[0, 0, kind[0], kind[1]][..]));
                    }
                    Tunnel::Gre { .. } => {
                        assert_eq!(
                            (protocol, frame[payload], checksum::of(&frame[payload..])),
                            (47, 0x80, 0)
                        );
                    }
                    Tunnel::Gue { checksum, .. } => {
                        let Some(TransportHeader::Udp(udp)) = headers.transport else { panic!() };
                        assert_eq!((protocol, udp.destination_port), (17, 6080));
                        assert!((32_768..61_000).contains(&udp.source_port));
                        assert_eq!(frame[HEAD - 4..HEAD], [0, number, 0, 0]);
                        let data = &frame[payload + 8..];
                        let expected = match (checksum, outer.source, outer.destination) {
                            (TunnelChecksum::None, ..) => 0,
                            (_, IpAddr::V4(s), IpAddr::V4(d)) => {
                                udp.calc_checksum_ipv4_raw(s.octets(), d.octets(), data).unwrap()
                            }
                            (_, IpAddr::V6(s), IpAddr::V6(d)) => {
                                udp.calc_checksum_ipv6_raw(s.octets(), d.octets(), data).unwrap()
                            }
                            _ => unreachable!(),
                        };
                        assert_eq!(udp.checksum, expected);
                    }
                }
            }
        }
    }

    #[test]
    fn df_is_copied_only_if_asked_and_congestion_is_told_once() {
        for (df, copies_df, expected) in [(true, true, 0x40), (false, true, 0), (true, false, 0)] {
            let (mut frame, len) = inner(true, 0xbb, df);
            let outer = Outer { copies_df, ..outer(Tunnel::Ipip, true) };
            let (start, _) = encapsulate(&mut frame, HEAD, len, &outer).unwrap();
            assert_eq!(frame[start + 6], expected);
            assert_eq!(frame[start + 1], 0xba, "CE becomes ECT(0)");
            let identification = if expected == 0 { [0x12, 0x34] } else { [0, 0] };
            assert_eq!(frame[start + 4..start + 6], identification);
        }
    }

    #[test]
    fn without_room_nothing_is_written() {
        for tunnel in tunnels() {
            let (frame, len) = inner(true, 0, true);
            let short = &mut frame[HEAD + 1 - tunnel.overhead(true)..].to_vec();
            let before = short.clone();
            let at = tunnel.overhead(true) - 1;
            assert_eq!(encapsulate(short, at, len, &outer(tunnel, true)), None);
            assert_eq!(*short, before);
        }
        let mut mixed = outer(Tunnel::Ipip, true);
        mixed.source = "fd00::1".parse().unwrap();
        let (mut frame, len) = inner(true, 0, true);
        assert_eq!(encapsulate(&mut frame, HEAD, len, &mixed), None);
    }

    #[test]
    fn flows_spread_over_the_local_ports() {
        let ports: std::collections::BTreeSet<u16> =
            (0..1000u32).map(|n| source_port(n.wrapping_mul(0x9e37_79b9))).collect();
        assert!(ports.len() > 950 && ports.iter().all(|p| (32_768..61_000).contains(p)), "{}", ports.len());
    }
}
