//! An error about a packet in a tunnel, as it comes: the message, the outer packet's headers that it quotes, the tunnel's, and
//! the inner packet behind them.

use std::net::IpAddr;

use etherparse::{EtherType, IpNumber, Ipv4HeaderSlice};

use super::{ICMP_LEN, IPV4_LEN, IPV6_LEN, TunnelError};
use crate::packet::encap::{GRE, IPIP, IPV6, UDP};
use crate::packet::ipv6::{self, ICMPV6, Ipv6, Over};
use crate::packet::parse::{self, Parsed, TcpFlags};
use crate::packet::{checksum, icmp};

const UDP_LEN: usize = 8;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// An ICMP error, whole and with a right checksum.
struct Message<'f> {
    /// Its header and what it quotes.
    bytes: &'f [u8],
    /// Where that begins in the frame.
    at: usize,
    vlan: Option<u16>,
    addressee: IpAddr,
}

/// What an error quotes of an outer packet's headers.
struct Outer {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    /// Bytes of the IP header, with all that is between it and the tunnel's, and without what only a fragment has.
    header_len: usize,
    whole_header_len: usize,
    len: u16,
}

/// Reads an error about a packet in a tunnel; none if it is anything else.
pub fn read(frame: &[u8]) -> Option<TunnelError> {
    let message = message(frame)?;
    let (head, quote) = message.bytes.split_first_chunk::<ICMP_LEN>()?;
    let &[kind, code, _, _, rest @ ..] = head;
    let says = icmp::across::quoted_len(head, message.addressee.is_ipv6());
    let quote = quote.get(..says.min(quote.len()))?;
    let outer = if message.addressee.is_ipv4() { outer_v4(quote) } else { outer_v6(quote) }?;
    if outer.source != message.addressee {
        return None;
    }
    let (port, shim, inner_is_v4) = shim(outer.protocol, quote.get(outer.header_len..)?)?;
    let packet = quote.get(outer.header_len + shim..)?;
    let (key, l4) = if inner_is_v4 { icmp::quoted_v4(packet) } else { icmp::quoted_v6(packet) }?;
    let &[_, _, high, low, six_high, six_low, _, six_ttl, ttl, ..] = packet.first_chunk::<IPV4_LEN>()?;
    let (ip_len, ttl) = if inner_is_v4 {
        (u16::from_be_bytes([high, low]), ttl)
    } else {
        (u16::try_from(IPV6_LEN).ok()?.checked_add(u16::from_be_bytes([six_high, six_low]))?, six_ttl)
    };
    let l3 = message.at + ICMP_LEN + outer.header_len + shim;
    let flags = TcpFlags::default();
    Some(TunnelError {
        inner: Parsed { key, l3, l4: l3 + l4, ip_len, vlan: message.vlan, ttl, flags, room: 0 },
        quoted: packet.len().min(usize::from(ip_len)),
        source: outer.source,
        destination: outer.destination,
        carrier: (outer.protocol, port),
        overhead: u16::try_from(outer.whole_header_len + shim).ok()?,
        outer_len: outer.len,
        kind,
        code,
        rest: u32::from_be_bytes(rest),
    })
}

fn message(frame: &[u8]) -> Option<Message<'_>> {
    let (kind, l3, vlan) = parse::link(frame, 0).ok()?;
    if kind == EtherType::IPV6 {
        let ip = Ipv6::of(frame, l3, vlan).ok().filter(|ip| ip.chain.protocol == ICMPV6)?;
        let outer = ipv6::key(ip.header, ICMPV6, 0);
        let (source, addressee) = (outer.source().ip(), outer.destination().ip());
        let is_right = checksum::of_transport(source, addressee, ICMPV6, ip.payload) == 0;
        let at = l3 + IPV6_LEN + ip.chain.len;
        (icmp::is_relayed_v6(ip.payload) && is_right).then_some(Message {
            bytes: ip.payload,
            at,
            vlan,
            addressee,
        })
    } else {
        let ip = parse::ipv4(frame, 0).ok().filter(|ip| ip.header.protocol() == IpNumber::ICMP)?;
        let (at, addressee) = (ip.l3 + ip.header.slice().len(), ip.header.destination_addr().into());
        (icmp::is_relayed_v4(ip.payload) && checksum::of(ip.payload) == 0).then_some(Message {
            bytes: ip.payload,
            at,
            vlan,
            addressee,
        })
    }
}

fn outer_v4(quote: &[u8]) -> Option<Outer> {
    let header = Ipv4HeaderSlice::from_slice(quote).ok().filter(|it| it.fragments_offset().value() == 0)?;
    let header_len = header.slice().len();
    Some(Outer {
        source: header.source_addr().into(),
        destination: header.destination_addr().into(),
        protocol: header.protocol().0,
        header_len,
        whole_header_len: header_len,
        len: header.total_len(),
    })
}

fn outer_v6(quote: &[u8]) -> Option<Outer> {
    let (header, behind) = quote.split_first_chunk::<IPV6_LEN>()?;
    let chain = ipv6::walk(behind, header[ipv6::NEXT_HEADER], Over::First).ok()?;
    let key = ipv6::key(header, chain.protocol, 0);
    let len = u16::from_be_bytes([header[4], header[5]]).saturating_add(u16::try_from(IPV6_LEN).ok()?);
    (header[0] >> 4 == 6 && chain.protocol != ipv6::FRAGMENT).then_some(Outer {
        source: key.source().ip(),
        destination: key.destination().ip(),
        protocol: chain.protocol,
        header_len: IPV6_LEN + chain.len,
        // The director's outer packets have no extension header but that of a fragment.
        whole_header_len: IPV6_LEN,
        len,
    })
}

/// The UDP port that a packet of a tunnel goes to, else 0; the length of the tunnel's own header (RFC 2784; GUE's), which
/// `behind` begins with; and whether what it carries is IPv4.
fn shim(protocol: u8, behind: &[u8]) -> Option<(u16, usize, bool)> {
    const GUE_LEN: usize = 4;
    let of_gre = |ethertype: [u8; 2]| match u16::from_be_bytes(ethertype) {
        ETHERTYPE_IPV4 => Some(true),
        ETHERTYPE_IPV6 => Some(false),
        _ => None,
    };
    match (protocol, behind) {
        (IPIP, _) => Some((0, 0, true)),
        (IPV6, _) => Some((0, 0, false)),
        (GRE, &[0, 0, high, low, ..]) => Some((0, 4, of_gre([high, low])?)),
        (GRE, &[0x80, 0, high, low, ..]) => Some((0, 8, of_gre([high, low])?)),
        (UDP, &[_, _, high, low, _, _, _, _, 0, inner @ (IPIP | IPV6), 0, 0, ..]) => {
            Some((u16::from_be_bytes([high, low]), UDP_LEN + GUE_LEN, inner == IPIP))
        }
        _ => None,
    }
}
