//! ICMP errors on their way (RFC 792, RFC 4443): which packet they are about, and that packet readdressed inside of them.
//!
//! An error quotes the packet that it is about, at least its IP header and eight bytes more. It goes to who sent that
//! packet, so the answer to the packet would come the same way: the key of that answer is the error's key.
//!
//! Quoted checksums are mended like those of packets, as far as they are quoted: the addressee finds its packet as
//! it has sent it (RFC 5508, 4.2). `ip_vs_nat_icmp` leaves the quoted transport checksum as it was.

pub mod across;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use etherparse::{EtherType, IpNumber, Ipv4HeaderSlice};

use super::checksum::{self, Delta};
use super::flow::FlowKey;
use super::ipv6::{self, ICMPV6, Ipv6, Over};
use super::parse::{self, Ipv4, Parsed, Reject, TcpFlags, link};

/// Bytes of an ICMP header.
const HEADER_LEN: usize = 8;
const ICMP_CHECKSUM: usize = 2;
const IPV4_CHECKSUM: usize = 10;
const IPV4_ADDRESSES: usize = 12;
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

/// Types that IPVS relays: unreachable, source quench, time exceeded (`ip_vs_in_icmp` in ip_vs_core.c).
const RELAYED_V4: [u8; 3] = [3, 4, 11];
/// Unreachable, too big, time exceeded, parameter problem: all errors there are (`ip_vs_in_icmp_v6`).
const RELAYED_V6: [u8; 4] = [1, 2, 3, 4];

/// Why an ICMP message is not one to relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unrelated {
    /// It is no whole IP packet.
    Packet(Reject),
    /// It is no error, or one of a type that is not relayed.
    Type,
    /// Its checksum is wrong.
    Checksum,
    /// What it quotes does not tell a flow (too short, a later fragment), or was not sent by who it goes to.
    Quote,
}

/// An ICMP error, understood as far as relaying needs it. All offsets lie inside the frame it was read from.
#[derive(Clone, Copy, Debug)]
pub struct Related {
    /// The error's own packet, under the key of the answer to the quoted packet; `l4` is the ICMP header.
    pub parsed: Parsed,
    /// Offset of the quoted transport header in the frame.
    quoted_l4: usize,
}

/// The packet that an error quotes: the key it was sent with, and where its transport header begins in the quote.
type Quoted = (FlowKey, usize);

/// Reads an ICMP error.
///
/// # Errors
/// Why it is none that can be relayed.
pub fn read(frame: &[u8]) -> Result<Related, Unrelated> {
    let (kind, l3, vlan) = link(frame, 0).map_err(Unrelated::Packet)?;
    if kind == EtherType::IPV6 {
        read_v6(&Ipv6::of(frame, l3, vlan).map_err(Unrelated::Packet)?)
    } else {
        read_v4(&parse::ipv4(frame, 0).map_err(Unrelated::Packet)?)
    }
}

fn read_v4(ip: &Ipv4<'_>) -> Result<Related, Unrelated> {
    if ip.header.protocol() != IpNumber::ICMP {
        return Err(Unrelated::Type);
    }
    let quote = quote(ip.payload, &RELAYED_V4)?;
    if checksum::of(ip.payload) != 0 {
        return Err(Unrelated::Checksum);
    }
    let (sent, l4) = quoted_v4(quote).ok_or(Unrelated::Quote)?;
    related(ip.parsed(sent.reversed(), TcpFlags::default()), ip.header.destination_addr().into(), (sent, l4))
}

fn read_v6(ip: &Ipv6<'_>) -> Result<Related, Unrelated> {
    if ip.chain.protocol != ICMPV6 {
        return Err(Unrelated::Type);
    }
    let quote = quote(ip.payload, &RELAYED_V6)?;
    let outer = ipv6::key(ip.header, ICMPV6, 0);
    let (source, destination) = (outer.source().ip(), outer.destination().ip());
    if checksum::of_transport(source, destination, ICMPV6, ip.payload) != 0 {
        return Err(Unrelated::Checksum);
    }
    let (sent, l4) = quoted_v6(quote).ok_or(Unrelated::Quote)?;
    related(ip.parsed(sent.reversed(), TcpFlags::default()), destination, (sent, l4))
}

/// Whether a message is an error that is relayed.
pub(super) fn is_relayed_v4(message: &[u8]) -> bool {
    quote(message, &RELAYED_V4).is_ok()
}

/// As [`is_relayed_v4`], of ICMPv6.
pub(super) fn is_relayed_v6(message: &[u8]) -> bool {
    quote(message, &RELAYED_V6).is_ok()
}

/// What is behind the header of a message, if it is of one of these types.
fn quote<'m>(message: &'m [u8], relayed: &[u8]) -> Result<&'m [u8], Unrelated> {
    let (head, quote) = message.split_at_checked(HEADER_LEN).ok_or(Unrelated::Quote)?;
    if relayed.contains(&head[0]) { Ok(quote) } else { Err(Unrelated::Type) }
}

/// The IPv4 packet that an error quotes, in front of which nothing else is.
pub(super) fn quoted_v4(quote: &[u8]) -> Option<Quoted> {
    let header = Ipv4HeaderSlice::from_slice(quote).ok()?;
    let l4 = header.slice().len();
    let ports = ports(quote, l4).filter(|_| header.fragments_offset().value() == 0)?;
    Some((parse::key(&header, ports), l4))
}

/// As [`quoted_v4`], of IPv6.
pub(super) fn quoted_v6(quote: &[u8]) -> Option<Quoted> {
    let (header, behind) = quote.split_first_chunk::<{ ipv6::HEADER_LEN }>()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let chain = ipv6::walk(behind, header[ipv6::NEXT_HEADER], Over::First).ok()?;
    let l4 = ipv6::HEADER_LEN + chain.len;
    // Behind a later fragment's header there are no ports.
    let ports = ports(quote, l4).filter(|_| chain.protocol != ipv6::FRAGMENT)?;
    Some((ipv6::key(header, chain.protocol, ports), l4))
}

/// The ports at `l4` of a quote.
fn ports(quote: &[u8], l4: usize) -> Option<u32> {
    quote.get(l4..)?.first_chunk().map(|ports| u32::from_be_bytes(*ports))
}

/// The error `parsed` to `addressee`, if that has sent what it quotes.
fn related(parsed: Parsed, addressee: IpAddr, (sent, l4): Quoted) -> Result<Related, Unrelated> {
    if sent.source().ip() == addressee {
        Ok(Related { parsed, quoted_l4: parsed.l4 + HEADER_LEN + l4 })
    } else {
        Err(Unrelated::Quote)
    }
}

/// Makes it an error about the packet `quoted`, which is the quoted one under the key it was sent with: the error
/// goes to its source, from `sender` or, without one, from where it came. The difference to the IP header's
/// checksum comes back, which is left to [`decrement_ttl`](super::edit::decrement_ttl).
pub fn translate(frame: &mut [u8], error: &Related, sender: Option<IpAddr>, quoted: &FlowKey) -> Delta {
    let Parsed { l3, l4, ip_len, .. } = error.parsed;
    let Some(packet) = frame.get_mut(l3..l3 + usize::from(ip_len)) else { return Delta::default() };
    let Some((ip, message)) = packet.split_at_mut_checked(l4 - l3) else { return Delta::default() };
    let Some((header, quote)) = message.split_at_mut_checked(HEADER_LEN) else { return Delta::default() };
    let addresses = readdress(ip, sender, quoted.source().ip());
    let inside = requote(quote, error.quoted_l4 - l4 - HEADER_LEN, quoted);
    // ICMPv6 sums its pseudo header too (RFC 4443, 2.3).
    let all = if quoted.is_v4() { inside } else { inside.and(addresses) };
    update(header, ICMP_CHECKSUM, |c| all.apply(c));
    addresses
}

/// Gives the quoted segment the sequence number that its sender gave it, where that was changed on the way.
pub fn renumber(frame: &mut [u8], error: &Related, sequence: impl FnOnce(u32) -> u32) {
    const SEQUENCE: usize = 4;
    let Parsed { l3, l4, ip_len, .. } = error.parsed;
    let Some(message) = frame.get_mut(l4..l3 + usize::from(ip_len)) else { return };
    let tcp = error.quoted_l4 - l4;
    let Some(old) = message.get(tcp + SEQUENCE..).and_then(|q| q.first_chunk::<4>()) else { return };
    let number = replace(message, tcp + SEQUENCE, &sequence(u32::from_be_bytes(*old)).to_be_bytes());
    let sum = message.get(tcp + 16..).and_then(|q| q.first_chunk::<2>()).copied();
    // If it is quoted too, it changes as much the other way.
    let checksum =
        sum.map(|sum| replace(message, tcp + 16, &number.apply(u16::from_be_bytes(sum)).to_be_bytes()));
    update(message, 2, |c| number.and(checksum.unwrap_or_default()).apply(c));
}

/// Writes addresses and ports of `key` into the quoted packet, whose transport header begins at `l4`, and mends its
/// checksums. What all that makes of the checksum over the quote comes back.
fn requote(quote: &mut [u8], l4: usize, key: &FlowKey) -> Delta {
    let addresses = readdress(quote, Some(key.source().ip()), key.destination().ip());
    let ports = replace(quote, l4, &key.ports().to_be_bytes());
    let both = addresses.and(ports);
    let header =
        if key.is_v4() { update(quote, IPV4_CHECKSUM, |c| addresses.apply(c)) } else { Delta::default() };
    // A quote may end before it.
    let transport = match key.protocol() {
        6 => update(quote, l4 + TCP_CHECKSUM, |c| both.apply(c)),
        17 => update(quote, l4 + UDP_CHECKSUM, |c| both.apply_udp(c)),
        _ => Delta::default(),
    };
    both.and(header).and(transport)
}

/// Writes addresses into the IP header that `packet` begins with, the source only if there is one; the difference they
/// make to a checksum.
fn readdress(packet: &mut [u8], source: Option<IpAddr>, destination: IpAddr) -> Delta {
    let (at, len) = if destination.is_ipv4() { (IPV4_ADDRESSES, 4) } else { (ipv6::ADDRESSES, 16) };
    let mut put = |at: usize, address: IpAddr| match address {
        IpAddr::V4(ip) => replace(packet, at, &ip.octets()),
        IpAddr::V6(ip) => replace(packet, at, &ip.octets()),
    };
    let source = source.map_or_else(Delta::default, |source| put(at, source));
    source.and(put(at + len, destination))
}

/// Puts `new` at `at`, which is even; the difference it makes to a checksum.
fn replace<const N: usize>(bytes: &mut [u8], at: usize, new: &[u8; N]) -> Delta {
    let Some(field) = bytes.get_mut(at..).and_then(|b| b.first_chunk_mut::<N>()) else {
        return Delta::default();
    };
    let delta = Delta::between(field, new);
    *field = *new;
    delta
}

/// As [`replace`], with what `edit` makes of the two bytes there.
fn update(bytes: &mut [u8], at: usize, edit: impl FnOnce(u16) -> u16) -> Delta {
    let field = bytes.get(at..).and_then(|b| b.first_chunk::<2>()).map(|field| u16::from_be_bytes(*field));
    field.map_or_else(Delta::default, |field| replace(bytes, at, &edit(field).to_be_bytes()))
}
