//! ICMP errors about packets in tunnels: what a router between the director and a server behind a tunnel says of the outer
//! packet, and the error for who sent the inner one (`ip_vs_in_icmp` in ip_vs_core.c).
//!
//! How much of the inner packet is quoted is the router's choice: RFC 1812, 4.3.2.3 wants as much as fits, and of one that
//! keeps to RFC 792's eight bytes nothing can be learnt here. Outer packets are IPv4 here, and so are inner ones.

use std::net::Ipv4Addr;

use etherparse::{IpNumber, Ipv4HeaderSlice};

use super::checksum;
use super::encap::Tunnel;
use super::parse::{self, Parsed, TcpFlags};

const IP_LEN: usize = 20;
const ICMP_LEN: usize = 8;
const UDP_LEN: usize = 8;
/// Longest IP packet of an ICMP error (RFC 1812, 4.3.2.3).
const ERROR_MAX: usize = 576;
/// TTL of what the director itself sends, Linux's default.
const TTL: u8 = 64;
const UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
/// Types that IPVS relays: unreachable, source quench, time exceeded.
const RELAYED: [u8; 3] = [UNREACHABLE, 4, 11];
/// GRE's header for IPv4, without and with a checksum (RFC 2784), and GUE's.
const GRE: [u8; 4] = [0, 0, 8, 0];
const GRE_SUMMED: [u8; 4] = [0x80, 0, 8, 0];
const GUE: [u8; 4] = [0, 4, 0, 0];

/// An error about a packet in a tunnel. All offsets lie inside the frame it was read from.
#[derive(Clone, Copy, Debug)]
pub struct TunnelError {
    /// The inner packet as its sender sent it, at its place in the quote; only its beginning may be there.
    pub inner: Parsed,
    /// Bytes of it that are quoted.
    quoted: usize,
    /// Where the outer packet was sent from: the director's own address.
    pub source: Ipv4Addr,
    /// Where it was sent to: the server.
    pub destination: Ipv4Addr,
    /// The outer packet's protocol, and for UDP the port it was sent to, else 0.
    carrier: (u8, u16),
    /// Bytes of outer headers.
    overhead: u16,
    /// Length of the outer packet in bytes.
    outer_len: u16,
    kind: u8,
    code: u8,
    mtu: u16,
}

/// Reads an error about a packet in a tunnel; none if it is anything else.
pub fn read(frame: &[u8]) -> Option<TunnelError> {
    let ip = parse::ipv4(frame, 0).ok().filter(|ip| ip.header.protocol() == IpNumber::ICMP)?;
    let (head, quote) = ip.payload.split_at_checked(ICMP_LEN)?;
    let &[kind, code, _, _, _, _, high, low] = head.first_chunk()?;
    let outer = Ipv4HeaderSlice::from_slice(quote).ok()?;
    let is_sent = outer.fragments_offset().value() == 0 && outer.source() == ip.header.destination();
    if !RELAYED.contains(&kind) || !is_sent || checksum::of(ip.payload) != 0 {
        return None;
    }
    let ip_len = outer.slice().len();
    let behind = quote.get(ip_len..)?;
    let (port, shim) = match outer.protocol() {
        IpNumber::IPV4 => (0, 0),
        IpNumber::GRE if behind.starts_with(&GRE) => (0, GRE.len()),
        IpNumber::GRE if behind.starts_with(&GRE_SUMMED) => (0, GRE_SUMMED.len() + 4),
        IpNumber::UDP if behind.get(UDP_LEN..)?.starts_with(&GUE) => {
            (u16::from_be_bytes(*behind.get(2..)?.first_chunk()?), UDP_LEN + GUE.len())
        }
        _ => return None,
    };
    let overhead = ip_len + shim;
    let packet = quote.get(overhead..)?;
    let header = Ipv4HeaderSlice::from_slice(packet).ok()?;
    let header_len = header.slice().len();
    let ports = u32::from_be_bytes(*packet.get(header_len..)?.first_chunk()?);
    if header.fragments_offset().value() != 0 {
        return None;
    }
    let l3 = ip.l3 + ip.header.slice().len() + ICMP_LEN + overhead;
    let key = parse::key(&header, ports);
    let of_frame = ip.parsed(key, TcpFlags::default());
    let inner = Parsed { l3, l4: l3 + header_len, ip_len: header.total_len(), ttl: header.ttl(), ..of_frame };
    Some(TunnelError {
        inner,
        quoted: packet.len().min(usize::from(header.total_len())),
        source: outer.source_addr(),
        destination: outer.destination_addr(),
        carrier: (outer.protocol().0, port),
        overhead: u16::try_from(overhead).ok()?,
        outer_len: outer.total_len(),
        kind,
        code,
        mtu: u16::from_be_bytes([high, low]),
    })
}

impl TunnelError {
    /// True if the outer packet is one of this tunnel's.
    pub fn is_of(&self, tunnel: Tunnel) -> bool {
        tunnel.carrier(true) == self.carrier
    }

    /// The MTU in bytes that the outer packet was too long for, if that is what the error says. Not one that it fits: who
    /// says that has not seen it.
    pub fn outer_mtu(&self) -> Option<u16> {
        let is_about_mtu = (self.kind, self.code) == (UNREACHABLE, FRAGMENTATION_NEEDED);
        (is_about_mtu && self.mtu < self.outer_len).then_some(self.mtu)
    }

    /// True for an error that who sent the inner packet has no use for: it let the packet be fragmented.
    pub fn is_for_the_director(&self, frame: &[u8]) -> bool {
        (self.kind, self.code) == (UNREACHABLE, FRAGMENTATION_NEEDED)
            && !super::answer::must_not_fragment(frame, &self.inner)
    }

    /// Makes the frame at the start of `room` an error about the inner packet, to who sent that, in the name of who that
    /// was sent to; an MTU is what the tunnel leaves of it. The IP packet begins at `l3`, behind what the caller writes.
    /// Returns the frame's length; `None` if it would not fit.
    pub fn write(&self, room: &mut [u8], l3: usize) -> Option<usize> {
        let icmp = l3 + IP_LEN;
        let quoted = self.quoted.min(ERROR_MAX - IP_LEN - ICMP_LEN);
        let end = icmp + ICMP_LEN + quoted;
        if room.len() < end {
            return None;
        }
        room.copy_within(self.inner.l3..self.inner.l3 + quoted, icmp + ICMP_LEN);
        let mtu = match (self.kind, self.code) {
            (UNREACHABLE, FRAGMENTATION_NEEDED) => self.mtu.saturating_sub(self.overhead),
            _ => 0,
        };
        let [high, low] = mtu.to_be_bytes();
        room[icmp..icmp + ICMP_LEN].copy_from_slice(&[self.kind, self.code, 0, 0, 0, 0, high, low]);
        let sum = checksum::of(&room[icmp..end]);
        room[icmp + 2..icmp + 4].copy_from_slice(&sum.to_be_bytes());

        let header = room.get_mut(l3..)?.first_chunk_mut::<IP_LEN>()?;
        let [high, low] = u16::try_from(end - l3).ok()?.to_be_bytes();
        // Not to be fragmented, so its identification may be anything (RFC 6864, 4.1).
        header[..12].copy_from_slice(&[0x45, 0, high, low, 0, 0, 0x40, 0, TTL, IpNumber::ICMP.0, 0, 0]);
        header[12..].copy_from_slice(&self.inner.key.v4_addresses().rotate_left(32).to_be_bytes());
        let sum = checksum::of_header(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        Some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::super::encap::{Outer, TunnelChecksum, encapsulate};
    use super::*;
    use etherparse::{Icmpv4Type, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
    use proptest::prelude::*;

    const CLIENT: [u8; 4] = [192, 0, 2, 7];
    const VIP: [u8; 4] = [10, 0, 0, 100];
    const DIRECTOR: [u8; 4] = [10, 1, 0, 1];
    const SERVER: [u8; 4] = [10, 2, 0, 11];
    const ROUTER: [u8; 4] = [10, 1, 0, 99];
    const TUNNELS: [Tunnel; 5] = [
        Tunnel::Ipip,
        Tunnel::Gue { port: 6080, checksum: TunnelChecksum::None },
        Tunnel::Gue { port: 6081, checksum: TunnelChecksum::Full },
        Tunnel::Gre { checksum: TunnelChecksum::None },
        Tunnel::Gre { checksum: TunnelChecksum::Full },
    ];

    /// The client's packet, without a frame around it.
    fn inner(len: usize) -> Vec<u8> {
        let mut packet = Vec::new();
        let builder = PacketBuilder::ipv4(CLIENT, VIP, 63).tcp(4711, 80, 7, 99).ack(5);
        builder.write(&mut packet, &vec![0xab; len]).unwrap();
        packet
    }

    /// An error about that packet in a tunnel, which quotes so much of the outer one.
    fn error(tunnel: Tunnel, packet: &[u8], (kind, code): (u8, u8), mtu: u16, quoted: usize) -> Vec<u8> {
        let mut outer = [&[0; 60][..], packet].concat();
        let how = Outer {
            tunnel,
            source: DIRECTOR.into(),
            destination: SERVER.into(),
            copies_df: true,
            identification: 7,
            flow_hash: 1,
        };
        let (start, len) = encapsulate(&mut outer, 60, packet.len(), &how).unwrap();
        let quote = &outer[start..start + len.min(quoted)];
        let [high, low] = mtu.to_be_bytes();
        let kind = Icmpv4Type::Unknown { type_u8: kind, code_u8: code, bytes5to8: [0, 0, high, low] };
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(ROUTER, DIRECTOR, 60)
            .icmpv4(kind)
            .write(&mut frame, quote)
            .unwrap();
        frame
    }

    /// Who tells whom, with which type, code and MTU, and the quote.
    type Told = ([u8; 4], [u8; 4], (u8, u8), u16, Vec<u8>);

    /// What an error says, by another parser.
    fn told(frame: &[u8]) -> Told {
        let sliced = SlicedPacket::from_ethernet(frame).unwrap();
        let Some(NetSlice::Ipv4(ip)) = &sliced.net else { panic!("{sliced:?}") };
        let header = ip.header().to_header();
        assert_eq!(header.calc_header_checksum(), header.header_checksum, "IP header checksum");
        let Some(TransportSlice::Icmpv4(icmp)) = &sliced.transport else { panic!("{sliced:?}") };
        assert_eq!(checksum::of(icmp.slice()), 0, "ICMP checksum");
        let mtu = u16::from_be_bytes(icmp.bytes5to8()[2..].try_into().unwrap());
        (header.source, header.destination, (icmp.type_u8(), icmp.code_u8()), mtu, icmp.payload().to_vec())
    }

    fn rewritten(frame: &[u8]) -> Vec<u8> {
        let mut room = frame.to_vec();
        let len = read(frame).unwrap().write(&mut room, 14).unwrap();
        room.truncate(len);
        room
    }

    #[test]
    fn the_client_hears_of_its_own_packet_from_the_vip_with_what_the_tunnel_leaves() {
        for tunnel in TUNNELS {
            let packet = inner(1400);
            let frame = error(tunnel, &packet, (3, 4), 1400, 528);
            let about = read(&frame).unwrap();
            assert_eq!((about.source.octets(), about.destination.octets()), (DIRECTOR, SERVER));
            assert_eq!(about.outer_mtu(), Some(1400));
            for other in TUNNELS {
                let same_carrier = tunnel.carrier(true) == other.carrier(true);
                assert_eq!(about.is_of(other), same_carrier, "{tunnel:?} and {other:?}");
            }
            let overhead = u16::try_from(tunnel.overhead(true)).unwrap();
            let quoted = 528 - usize::from(overhead);
            let expected = (VIP, CLIENT, (3, 4), 1400 - overhead, packet[..quoted].to_vec());
            assert_eq!(told(&rewritten(&frame)), expected, "{tunnel:?}");
            for kind in [(3, 1), (11, 0)] {
                let frame = error(tunnel, &packet, kind, 0, 528);
                assert_eq!(told(&rewritten(&frame)).2, kind);
                assert_eq!(read(&frame).unwrap().outer_mtu(), None);
            }
        }
    }

    #[test]
    fn too_little_of_a_quote_is_none_and_as_much_as_the_ports_is_one() {
        for tunnel in TUNNELS {
            let packet = inner(100);
            let least = tunnel.overhead(true) + 24;
            for quoted in 20..least {
                assert!(
                    read(&error(tunnel, &packet, (3, 4), 90, quoted)).is_none(),
                    "{tunnel:?}, {quoted} bytes"
                );
            }
            let frame = error(tunnel, &packet, (3, 4), 90, least);
            assert_eq!(told(&rewritten(&frame)).4, packet[..24], "{tunnel:?}");
        }
    }

    #[test]
    fn each_lie_is_no_error_about_a_tunnel() {
        let good = error(Tunnel::Ipip, &inner(100), (3, 4), 90, 528);
        let edit = |at: usize, value: u8| {
            let mut frame = good.clone();
            frame[at] = value;
            frame[36..38].fill(0);
            let sum = checksum::of(&frame[34..]);
            frame[36..38].copy_from_slice(&sum.to_be_bytes());
            read(&frame).is_some()
        };
        assert!(edit(34, 3));
        assert!(!edit(34, 0) && !edit(34, 5), "no error");
        assert!(!edit(42, 0x44) && !edit(42, 0x65), "an outer header that contradicts itself");
        assert!(!edit(49, 1), "a later fragment of the outer packet");
        assert!(!edit(51, 6), "no tunnel");
        assert!(!edit(54, 11), "not sent by who the error goes to");
        assert!(!edit(62, 0x65), "an inner packet that is none");
        assert!(!edit(69, 1), "a later fragment inside");
        let mut wrong = good.clone();
        wrong[80] ^= 1;
        assert!(read(&wrong).is_none(), "ICMP checksum");
        let short = error(Tunnel::Ipip, &inner(10), (3, 4), 1400, 528);
        assert_eq!(read(&short).unwrap().outer_mtu(), None, "it would have fitted");
    }

    proptest! {
        #[test]
        fn any_quote_is_an_answer(
            which in 0..TUNNELS.len(), mut at in 42usize..120, byte: u8, quoted in 20usize..200, tag: bool,
        ) {
            let mut frame = error(TUNNELS[which], &inner(100), (3, 4), 90, quoted);
            at = at.min(frame.len() - 1);
            frame[at] = byte;
            frame[36..38].fill(0);
            let sum = checksum::of(&frame[34..]);
            frame[36..38].copy_from_slice(&sum.to_be_bytes());
            if let Some(about) = read(&frame) {
                let l3 = if tag { 18 } else { 14 };
                let len = about.write(&mut frame, l3).unwrap();
                prop_assert!(len <= frame.len());
                prop_assert_eq!(checksum::of(&frame[l3 + 20..len]), 0);
            }
        }
    }
}
