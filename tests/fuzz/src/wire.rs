//! What may have happened to a frame that is sent, in the eyes of an independent parser.

use std::net::{IpAddr, SocketAddr};

use etherparse::{IpNumber, NetSlice, SlicedPacket, TransportSlice};
use xvs::director::forward::hops::{PortId, Route};
use xvs::director::name::ServiceKey;
use xvs::director::service::{Method, Pool};
use xvs::packet::checksum;

use super::table::{Hops, INSIDE_MAC, OUTSIDE, OUTSIDE_MAC, crc32c};

/// Offsets of the fields that forwarding may change, and what etherparse reads there.
#[derive(Debug)]
struct View {
    l3: usize,
    l4: usize,
    checksum_at: usize,
    vlan: Option<u16>,
    total_len: u16,
    ttl: u8,
    protocol: u8,
    from: SocketAddr,
    to: SocketAddr,
    checksum: Vec<u8>,
    /// The transport checksum as it should be; none if it was not computed.
    right: Option<Vec<u8>>,
    ip_right: bool,
    /// The one's complement sums under the checksums, modulo 0xffff: 0 if right, otherwise the error. Of CRC32c it is
    /// the bits that are wrong.
    ip_error: u32,
    error: u32,
}

impl View {
    fn of(frame: &[u8]) -> Option<Self> {
        let sliced = SlicedPacket::from_ethernet(frame).ok()?;
        let vlan = sliced.vlan_ids().first().map(|id| id.value());
        let l3 = if vlan.is_some() { 18 } else { 14 };
        let ip = Ip::of(sliced.net.as_ref()?)?;
        // What is behind all headers is a part of the frame.
        let l4 = ip.payload.as_ptr() as usize - frame.as_ptr() as usize;
        let (source, destination) = (ip.source, ip.destination);
        let (offset, width, right, covered) = match sliced.transport.as_ref() {
            Some(TransportSlice::Tcp(t)) => {
                let right = match (source, destination) {
                    (IpAddr::V4(source), IpAddr::V4(to)) => {
                        t.calc_checksum_ipv4(source.octets(), to.octets())
                    }
                    (IpAddr::V6(source), IpAddr::V6(to)) => {
                        t.calc_checksum_ipv6(source.octets(), to.octets())
                    }
                    _ => return None,
                };
                (16, 2, right.ok().map(|sum| sum.to_be_bytes().to_vec()), t.slice())
            }
            Some(TransportSlice::Udp(u)) => {
                let udp = u.to_header();
                let right = match (source, destination) {
                    (IpAddr::V4(source), IpAddr::V4(to)) => {
                        udp.calc_checksum_ipv4_raw(source.octets(), to.octets(), u.payload())
                    }
                    (IpAddr::V6(source), IpAddr::V6(to)) => {
                        udp.calc_checksum_ipv6_raw(source.octets(), to.octets(), u.payload())
                    }
                    _ => return None,
                };
                let right = right.ok().filter(|_| udp.checksum != 0);
                (6, 2, right.map(|sum| sum.to_be_bytes().to_vec()), u.slice())
            }
            None if ip.protocol == IpNumber::SCTP => {
                let packet = ip.payload;
                let zeroed = [packet.get(..8)?, &[0; 4], packet.get(12..)?].concat();
                (8, 4, Some(crc32c(&zeroed).to_le_bytes().to_vec()), packet)
            }
            _ => return None,
        };
        let port = |at: usize| u16::from_be_bytes([covered[at], covered[at + 1]]);
        let checksum = covered[offset..offset + width].to_vec();
        let len = u16::try_from(covered.len()).ok()?.to_be_bytes();
        let pseudo = [&octets(source)[..], &octets(destination), &[0, ip.protocol.0], &len, covered].concat();
        let error = match &right {
            Some(right) if width == 4 => {
                checksum.iter().zip(right).fold(0, |error, (is, should)| error << 8 | u32::from(is ^ should))
            }
            Some(_) => sum(&pseudo),
            None => 0,
        };
        Some(Self {
            l3,
            l4,
            checksum_at: l4 + offset,
            vlan,
            total_len: ip.total_len,
            ttl: ip.ttl,
            protocol: ip.protocol.0,
            from: SocketAddr::new(source, port(0)),
            to: SocketAddr::new(destination, port(2)),
            checksum,
            right,
            ip_right: ip.is_right,
            ip_error: ip.error,
            error,
        })
    }

    /// The frame without what may change.
    fn rest(&self, frame: &[u8]) -> Vec<u8> {
        let mut rest = frame[self.l3 - 2..].to_vec();
        let before = self.l3 - 2;
        let mut blank = |at: usize, len: usize| rest[at - before..at - before + len].fill(0);
        if self.from.is_ipv4() {
            blank(self.l3 + 8, 1);
            blank(self.l3 + 10, 10);
        } else {
            blank(self.l3 + 7, 33);
        }
        blank(self.l4, 4);
        blank(self.checksum_at, self.checksum.len());
        rest
    }
}

/// What etherparse reads of an IP header, extension headers included.
struct Ip<'f> {
    source: IpAddr,
    destination: IpAddr,
    protocol: IpNumber,
    ttl: u8,
    total_len: u16,
    payload: &'f [u8],
    is_right: bool,
    error: u32,
}

impl<'f> Ip<'f> {
    fn of(net: &NetSlice<'f>) -> Option<Self> {
        Some(match net {
            NetSlice::Ipv4(ip) => {
                let header = ip.header().to_header();
                Self {
                    source: header.source.into(),
                    destination: header.destination.into(),
                    protocol: header.protocol,
                    ttl: header.time_to_live,
                    total_len: header.total_len,
                    payload: ip.payload().payload,
                    is_right: header.calc_header_checksum() == header.header_checksum,
                    error: sum(ip.header().slice()),
                }
            }
            // Without a checksum.
            NetSlice::Ipv6(ip) => Self {
                source: ip.header().source().into(),
                destination: ip.header().destination().into(),
                protocol: ip.payload().ip_number,
                ttl: ip.header().hop_limit(),
                total_len: ip.header().payload_length() + 40,
                payload: ip.payload().payload,
                is_right: true,
                error: 0,
            },
            NetSlice::Arp(_) => return None,
        })
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The one's complement sum modulo 0xffff, where 0 and 0xffff are both zero.
fn sum(bytes: &[u8]) -> u32 {
    let word = |w: &[u8]| u32::from(w[0]) << 8 | w.get(1).map_or(0, |&b| u32::from(b));
    bytes.chunks(2).map(word).sum::<u32>() % 0xffff
}

/// Panics unless `after` is what a director may make of `before`.
pub fn check_sent((before, after): (&[u8], &[u8]), port: PortId, services: &[Pool], hops: &Hops) {
    let b = View::of(before).expect("what is sent was a whole packet");
    let a = View::of(after).expect("a whole packet is sent");
    assert_eq!(a.ttl, b.ttl - 1, "TTL");
    assert!(a.total_len <= hops.mtu, "MTU");
    // A client without a neighbour is answered in the VLAN that it came from, which may be another by now.
    if port != OUTSIDE || matches!(hops.client_route, Route::Via(_)) {
        let wanted = hops.vlans[usize::from(port)];
        assert_eq!(a.vlan.filter(|&id| id != 0), wanted, "VLAN; 0 is a priority and none");
    }
    assert_eq!(a.rest(after), b.rest(before), "nothing else is touched");
    assert!([OUTSIDE_MAC, INSIDE_MAC].iter().any(|mac| after[6..12] == mac[..]), "our own source MAC");

    assert_eq!((b.ip_error, a.ip_error), (0, 0), "IP header checksum");
    assert!(a.ip_right || !b.ip_right, "IP header checksum, in its usual form");
    assert_eq!(a.error, b.error, "a right checksum stays right, a wrong one as wrong as it was");
    assert_eq!(a.right.is_some(), b.right.is_some(), "no checksum stays none, one stays one");
    if b.right == Some(b.checksum) {
        assert_eq!(a.right, Some(a.checksum), "transport checksum, in its usual form");
    }

    let by_address = services.iter().filter_map(|pool| match pool.service.key {
        ServiceKey::Address { protocol, address } => Some((protocol, address, pool)),
        ServiceKey::Mark { .. } => None,
    });
    let allowed = by_address.filter(|(protocol, ..)| *protocol as u8 == b.protocol).any(|(_, vip, pool)| {
        pool.servers.iter().any(|server| match server.method {
            Method::Tun(_) => false,
            Method::FullNat => {
                let is_local = |end: SocketAddr| pool.service.locals.addresses().any(|ip| ip == end.ip());
                let inwards = b.to == vip && a.to == server.address && is_local(a.from);
                let outwards = b.from == server.address && is_local(b.to) && a.from == vip;
                inwards || outwards
            }
            Method::Dr => (b.from, b.to) == (a.from, a.to) && b.to == vip,
            Method::Nat => {
                let inwards = b.to == vip && a.to == server.address && a.from == b.from;
                let outwards = b.from == server.address && a.from == vip && a.to == b.to;
                let routed_on = b.from == server.address && (b.from, b.to) == (a.from, a.to);
                inwards || outwards || routed_on
            }
        })
    });
    assert!(allowed, "{} -> {} became {} -> {}", b.from, b.to, a.from, a.to);
}

/// Panics unless `frame` is an ICMP error with right checksums: wrong ones are not relayed.
pub fn check_relayed(frame: &[u8]) {
    let sliced = SlicedPacket::from_ethernet(frame).expect("a whole packet is relayed");
    match (&sliced.net, &sliced.transport) {
        (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Icmpv4(icmp))) => {
            assert_eq!(sum(ip.header().slice()), 0, "IP header checksum");
            assert!(matches!(icmp.type_u8(), 3 | 4 | 11), "type {}", icmp.type_u8());
            assert_eq!(sum(icmp.slice()), 0, "ICMP checksum");
        }
        (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(icmp))) => {
            assert!(matches!(icmp.type_u8(), 1..=4), "type {}", icmp.type_u8());
            let (source, destination) = (ip.header().source(), ip.header().destination());
            assert!(icmp.is_checksum_valid(source, destination), "ICMPv6 checksum");
        }
        other => panic!("no ICMP: {other:?}"),
    }
}

/// Makes the checksum of the IP header at `l3` right, as far as there is one.
pub fn mend_ip(frame: &mut [u8], l3: usize) {
    let Some(len) = frame.get(l3).map(|b| usize::from(b & 15) * 4) else { return };
    let Some(header) = frame.get_mut(l3..l3 + len).filter(|h| h.len() >= 20) else { return };
    header[10..12].fill(0);
    let sum = checksum::of(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Makes the transport checksum right, as far as there is one.
pub fn mend_transport(frame: &mut [u8]) {
    let Some(view) = View::of(frame) else { return };
    if let Some(right) = view.right {
        frame[view.checksum_at..view.checksum_at + right.len()].copy_from_slice(&right);
    }
}
