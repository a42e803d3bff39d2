//! ICMP errors on their way (RFC 792, RFC 4443): which packet they are about, and that packet readdressed inside of them.
//!
//! An error quotes the packet that it is about, at least its IP header and eight bytes more. It goes to who sent that
//! packet, so the answer to the packet would come the same way: the key of that answer is the error's key.
//!
//! Quoted checksums are mended like those of packets, as far as they are quoted: the addressee finds its packet as
//! it has sent it (RFC 5508, 4.2). `ip_vs_nat_icmp` leaves the quoted transport checksum as it was.

pub mod across;

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

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{Ipv4Header, Ipv4Options, PacketBuilder, TransportSlice, icmpv4};
    use proptest::prelude::*;

    const CLIENT: [u8; 4] = [10, 0, 1, 1];
    const VIP: [u8; 4] = [10, 0, 0, 100];
    const SERVER: [u8; 4] = [10, 1, 0, 11];
    const ROUTER: [u8; 4] = [10, 9, 9, 9];

    /// A packet without its Ethernet header, with `words` words of IP options.
    fn packet(protocol: u8, source: ([u8; 4], u16), destination: ([u8; 4], u16), words: usize) -> Vec<u8> {
        let mut ip = Ipv4Header::new(0, 63, IpNumber(protocol), source.0, destination.0).unwrap();
        ip.options = Ipv4Options::try_from(&vec![1; 4 * words][..]).unwrap();
        let builder =
            PacketBuilder::ip(etherparse::IpHeaders::Ipv4(ip, etherparse::Ipv4Extensions::default()));
        let mut bytes = Vec::new();
        let payload = b"a payload of an odd size, long enough to be cut";
        match protocol {
            6 => builder.tcp(source.1, destination.1, 7, 99).ack(5).write(&mut bytes, payload).unwrap(),
            17 => builder.udp(source.1, destination.1).write(&mut bytes, payload).unwrap(),
            _ => {
                let ports = [source.1.to_be_bytes(), destination.1.to_be_bytes()].concat();
                builder.write(&mut bytes, IpNumber(protocol), &[&ports[..], payload].concat()).unwrap();
            }
        }
        bytes
    }

    /// An error about `quote` from `source` to who sent it.
    fn error(source: [u8; 4], quote: &[u8]) -> Vec<u8> {
        let kind = etherparse::Icmpv4Type::DestinationUnreachable(
            icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1400 },
        );
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6]);
        let builder = builder.ipv4(source, quote[12..16].try_into().unwrap(), 60).icmpv4(kind);
        builder.write(&mut frame, quote).unwrap();
        frame
    }

    /// The bytes quoted by an error, whose own checksums an independent parser finds right.
    fn quoted(frame: &[u8]) -> Vec<u8> {
        let sliced = etherparse::SlicedPacket::from_ethernet(frame).unwrap();
        let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else { panic!("{sliced:?}") };
        let header = ip.header().to_header();
        assert_eq!(header.calc_header_checksum(), header.header_checksum, "IP header checksum");
        let Some(TransportSlice::Icmpv4(icmp)) = &sliced.transport else { panic!("{sliced:?}") };
        let right = icmp.icmp_type().calc_checksum(icmp.payload());
        assert_eq!(right, icmp.checksum(), "ICMP checksum");
        icmp.payload().to_vec()
    }

    /// Translates with the IP checksum mended as the director does.
    fn translated(frame: &[u8], sender: Option<impl Into<IpAddr>>, sent_as: &FlowKey) -> Vec<u8> {
        let (mut frame, error) = (frame.to_vec(), read(frame).unwrap());
        let l3 = translate(&mut frame, &error, sender.map(Into::into), sent_as);
        super::super::edit::decrement_ttl(&mut frame, &error.parsed, l3.and(Delta::TTL_MINUS_ONE));
        frame
    }

    fn key(protocol: u8, source: ([u8; 4], u16), destination: ([u8; 4], u16)) -> FlowKey {
        FlowKey::new(protocol, source.into(), destination.into())
    }

    #[test]
    fn the_addressee_finds_the_packet_it_has_sent() {
        for (protocol, words) in [(6, 0), (6, 10), (17, 0), (17, 1), (132, 0), (132, 10)] {
            let as_seen = packet(protocol, (VIP, 80), (CLIENT, 4711), words);
            let as_sent = packet(protocol, (SERVER, 8080), (CLIENT, 4711), words);
            let frame = error(ROUTER, &as_seen);
            let read = read(&frame).unwrap();
            assert_eq!(read.parsed.key, key(protocol, (CLIENT, 4711), (VIP, 80)));
            let after = translated(&frame, None::<[u8; 4]>, &key(protocol, (SERVER, 8080), (CLIENT, 4711)));
            assert_eq!(quoted(&after), as_sent, "protocol {protocol}, {words} words of options");
            assert_eq!((&after[26..30], &after[30..34]), (&ROUTER[..], &SERVER[..]));
        }
    }

    #[test]
    fn the_client_finds_the_packet_it_has_sent_and_hears_of_it_from_the_vip() {
        let as_seen = packet(17, (CLIENT, 4711), (SERVER, 8053), 0);
        let as_sent = packet(17, (CLIENT, 4711), (VIP, 53), 0);
        let frame = error(SERVER, &as_seen);
        assert_eq!(read(&frame).unwrap().parsed.key, key(17, (SERVER, 8053), (CLIENT, 4711)));
        let after = translated(&frame, Some(VIP), &key(17, (CLIENT, 4711), (VIP, 53)));
        assert_eq!(quoted(&after), as_sent);
        assert_eq!((&after[26..30], &after[30..34], after[22]), (&VIP[..], &CLIENT[..], 59));
    }

    #[test]
    fn a_datagram_without_a_checksum_keeps_none() {
        let mut seen = packet(17, (CLIENT, 4711), (SERVER, 8053), 0);
        seen[26..28].fill(0);
        let after = translated(&error(SERVER, &seen), Some(VIP), &key(17, (CLIENT, 4711), (VIP, 53)));
        assert_eq!(quoted(&after)[26..28], [0, 0]);
    }

    #[test]
    fn each_lie_has_its_reason() {
        let good = error(ROUTER, &packet(6, (VIP, 80), (CLIENT, 4711), 0));
        // Changes a byte behind the IP header and makes the checksum right again.
        let edit = |at: usize, value: u8| {
            let mut frame = good.clone();
            frame[at] = value;
            frame[36..38].fill(0);
            let sum = checksum::of(&frame[34..]);
            frame[36..38].copy_from_slice(&sum.to_be_bytes());
            read(&frame).err()
        };
        assert_eq!(edit(34, 3), None);
        for kind in [0, 5, 8, 12, 13] {
            assert_eq!(edit(34, kind), Some(Unrelated::Type), "type {kind}");
        }
        assert_eq!(edit(42, 0x44), Some(Unrelated::Quote), "a quoted header of 16 bytes");
        assert_eq!(edit(42, 0x65), Some(Unrelated::Quote), "of version 6");
        assert_eq!(edit(42, 0x4f), None, "with more options");
        assert_eq!(edit(48, 0x20), None, "the first fragment has the ports");
        assert_eq!(edit(49, 1), Some(Unrelated::Quote), "a later one has not");
        assert_eq!(edit(54, 11), Some(Unrelated::Quote), "not sent by who the error goes to");
        let mut wrong = good.clone();
        wrong[60] ^= 1;
        assert_eq!(read(&wrong).err(), Some(Unrelated::Checksum));
        wrong = good.clone();
        wrong[24] ^= 1;
        assert_eq!(read(&wrong).err(), Some(Unrelated::Packet(Reject::BadChecksum)));
    }

    proptest! {
        /// However much is quoted, what is behind the ports and checksums stays, and the ICMP checksum is right.
        #[test]
        fn every_length_of_a_quote(
            is_udp: bool, words in 0usize..=10, cut in 0usize..120,
        ) {
            let protocol = if is_udp { 17 } else { 6 };
            let seen = packet(protocol, (CLIENT, 4711), (SERVER, 8053), words);
            let sent = packet(protocol, (CLIENT, 4711), (VIP, 53), words);
            let cut = cut.min(seen.len());
            if cut < 20 {
                return Ok(());
            }
            let frame = error(SERVER, &seen[..cut]);
            if cut < 20 + 4 * words + 4 {
                prop_assert_eq!(read(&frame).err(), Some(Unrelated::Quote));
                return Ok(());
            }
            let after = translated(&frame, Some(VIP), &key(protocol, (CLIENT, 4711), (VIP, 53)));
            let mut expected = sent[..cut].to_vec();
            // Half a checksum is none: it stays.
            let half = 20 + 4 * words + if is_udp { 6 } else { 16 };
            if cut == half + 1 {
                expected[half] = seen[half];
            }
            prop_assert_eq!(quoted(&after), expected);
        }

        #[test]
        fn any_bytes_are_an_answer_and_translating_keeps_the_length(
            mut frame in proptest::collection::vec(any::<u8>(), 0..160), mend: bool,
        ) {
            if frame.len() > 62 {
                let len = u16::try_from(frame.len() - 14).unwrap();
                frame[12..15].copy_from_slice(&[8, 0, 0x45]);
                frame[16..18].copy_from_slice(&len.to_be_bytes());
                frame[20..22].fill(0);
                frame[23] = 1;
                frame[34] = 3;
                frame[24..26].fill(0);
                let sum = checksum::of(&frame[14..34]);
                frame[24..26].copy_from_slice(&sum.to_be_bytes());
                if mend {
                    frame[42] = 0x40 | frame[42] & 0xf;
                    frame[48..50].fill(0);
                    frame.copy_within(30..34, 54);
                    frame[36..38].fill(0);
                    let sum = checksum::of(&frame[34..]);
                    frame[36..38].copy_from_slice(&sum.to_be_bytes());
                }
            }
            if let Ok(error) = read(&frame) {
                let len = frame.len();
                let key = FlowKey::v4(error.parsed.key.protocol(), 1, 2, 3);
                translate(&mut frame, &error, Some([7; 4].into()), &key);
                prop_assert_eq!(frame.len(), len);
                prop_assert_eq!(checksum::of(&frame[error.parsed.l4..]), 0);
            }
        }
    }

    const CLIENT6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    const VIP6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6];
    const SERVER6: [u8; 16] = [0xfd, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];
    const ROUTER6: [u8; 16] = [0xfd, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 99];
    /// Extension headers, each with its number in front, and where it has that of the next.
    const OPTIONS: &[u8] = &[60, 0, 0, 1, 4, 0, 0, 0, 0];
    const WHOLE: [u8; 9] = [44, 0, 0, 0, 0, 0, 0, 0, 9];
    const FIRST: [u8; 9] = [44, 0, 0, 0, 1, 0, 0, 0, 9];
    const LATER: [u8; 9] = [44, 0, 0, 0, 8, 0, 0, 0, 9];

    /// An IPv6 packet without its Ethernet header, with these extension headers.
    fn packet6(
        protocol: u8,
        source: ([u8; 16], u16),
        destination: ([u8; 16], u16),
        chain: &[&[u8]],
    ) -> Vec<u8> {
        let builder = PacketBuilder::ipv6(source.0, destination.0, 63);
        let mut bytes = Vec::new();
        let payload = b"a payload of an odd size, long enough to be cut";
        match protocol {
            6 => builder.tcp(source.1, destination.1, 7, 99).ack(5).write(&mut bytes, payload).unwrap(),
            _ => builder.udp(source.1, destination.1).write(&mut bytes, payload).unwrap(),
        }
        for header in chain.iter().rev() {
            let next = std::mem::replace(&mut bytes[6], header[0]);
            bytes.splice(40..40, [&[next], &header[2..]].concat());
        }
        let len = u16::try_from(bytes.len() - 40).unwrap();
        bytes[4..6].copy_from_slice(&len.to_be_bytes());
        bytes
    }

    fn chains() -> [&'static [&'static [u8]]; 5] {
        const HOP: [u8; 9] = [0, 0, 0, 1, 4, 0, 0, 0, 0];
        [&[], &[&HOP], &[&WHOLE], &[&HOP, &FIRST], &[&HOP, OPTIONS, &FIRST, OPTIONS]]
    }

    fn error6(source: [u8; 16], quote: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        let destination = quote[8..24].try_into().unwrap();
        let kind = etherparse::Icmpv6Type::PacketTooBig { mtu: 1400 };
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv6(source, destination, 60);
        builder.icmpv6(kind).write(&mut frame, quote).unwrap();
        frame
    }

    fn quoted6(frame: &[u8]) -> Vec<u8> {
        let sliced = etherparse::SlicedPacket::from_ethernet(frame).unwrap();
        let Some(etherparse::NetSlice::Ipv6(ip)) = &sliced.net else { panic!("{sliced:?}") };
        let Some(TransportSlice::Icmpv6(icmp)) = &sliced.transport else { panic!("{sliced:?}") };
        assert!(icmp.is_checksum_valid(ip.header().source(), ip.header().destination()));
        icmp.payload().to_vec()
    }

    fn key6(protocol: u8, source: ([u8; 16], u16), destination: ([u8; 16], u16)) -> FlowKey {
        FlowKey::new(protocol, source.into(), destination.into())
    }

    #[test]
    fn in_ipv6_both_find_the_packet_they_have_sent_behind_every_extension_header() {
        for (protocol, chain) in [6, 17].into_iter().flat_map(|p| chains().map(|chain| (p, chain))) {
            let seen = packet6(protocol, (VIP6, 80), (CLIENT6, 4711), chain);
            let sent = packet6(protocol, (SERVER6, 8080), (CLIENT6, 4711), chain);
            let frame = error6(ROUTER6, &seen);
            assert_eq!(read(&frame).unwrap().parsed.key, key6(protocol, (CLIENT6, 4711), (VIP6, 80)));
            let after =
                translated(&frame, None::<[u8; 16]>, &key6(protocol, (SERVER6, 8080), (CLIENT6, 4711)));
            assert_eq!(quoted6(&after), sent, "protocol {protocol} behind {chain:?}");
            assert_eq!((&after[22..38], &after[38..54], after[21]), (&ROUTER6[..], &SERVER6[..], 59));

            let seen = packet6(protocol, (CLIENT6, 4711), (SERVER6, 8080), chain);
            let sent = packet6(protocol, (CLIENT6, 4711), (VIP6, 80), chain);
            let after =
                translated(&error6(SERVER6, &seen), Some(VIP6), &key6(protocol, (CLIENT6, 4711), (VIP6, 80)));
            assert_eq!(quoted6(&after), sent, "protocol {protocol} behind {chain:?}");
            assert_eq!((&after[22..38], &after[38..54]), (&VIP6[..], &CLIENT6[..]));
        }
    }

    #[test]
    fn each_lie_in_ipv6_has_its_reason() {
        let seen = packet6(6, (VIP6, 80), (CLIENT6, 4711), &[]);
        let good = error6(ROUTER6, &seen);
        // Changes a byte behind the IP header and makes the checksum right again.
        let edit = |at: usize, value: u8| {
            let mut frame = good.clone();
            frame[at] = value;
            frame[56..58].fill(0);
            let destination = <[u8; 16]>::try_from(&frame[38..54]).unwrap();
            let sum = checksum::of_transport(ROUTER6.into(), destination.into(), ICMPV6, &frame[54..]);
            frame[56..58].copy_from_slice(&sum.to_be_bytes());
            read(&frame).err()
        };
        for kind in 0..=255 {
            let expected = (!(1..=4).contains(&kind)).then_some(Unrelated::Type);
            assert_eq!(edit(54, kind), expected, "type {kind}");
        }
        assert_eq!(edit(62, 0x45), Some(Unrelated::Quote), "of version 4");
        assert_eq!(edit(68, 43), Some(Unrelated::Quote), "a routing header longer than the quote");
        assert_eq!(edit(70 + 15, 11), Some(Unrelated::Quote), "not sent by who the error goes to");
        let about =
            |chain: &[&[u8]]| read(&error6(ROUTER6, &packet6(17, (VIP6, 80), (CLIENT6, 4711), chain))).err();
        assert_eq!(about(&[&LATER]), Some(Unrelated::Quote), "a later fragment has no ports");
        assert_eq!(about(&[&[43, 0, 0, 2, 1, 0, 0, 0, 0]]), Some(Unrelated::Quote), "a stop on its way");
        assert_eq!(about(&[OPTIONS; 6]), None);
        assert_eq!(about(&[OPTIONS; 7]), Some(Unrelated::Quote), "too many to look through");
        for at in [23, 53, 60, 90] {
            let mut wrong = good.clone();
            wrong[at] ^= 1;
            let reason = read(&wrong).err();
            assert!(matches!(reason, Some(Unrelated::Checksum | Unrelated::Quote)), "byte {at}: {reason:?}");
        }
        let mut wrong = good.clone();
        wrong[20] = 17;
        assert_eq!(read(&wrong).err(), Some(Unrelated::Type), "no ICMPv6");
    }

    proptest! {
        /// However much is quoted, what is behind the ports and checksums stays, and the ICMPv6 checksum is right.
        #[test]
        fn every_length_of_a_quote_of_ipv6(is_udp: bool, chain in 0usize..5, cut in 40usize..160) {
            let (protocol, chain) = (if is_udp { 17 } else { 6 }, chains()[chain]);
            let seen = packet6(protocol, (CLIENT6, 4711), (SERVER6, 8053), chain);
            let sent = packet6(protocol, (CLIENT6, 4711), (VIP6, 53), chain);
            let cut = cut.min(seen.len());
            let frame = error6(SERVER6, &seen[..cut]);
            let l4 = 40 + 8 * chain.len();
            if cut < l4 + 4 {
                prop_assert_eq!(read(&frame).err(), Some(Unrelated::Quote));
                return Ok(());
            }
            let after = translated(&frame, Some(VIP6), &key6(protocol, (CLIENT6, 4711), (VIP6, 53)));
            let mut expected = sent[..cut].to_vec();
            // Half a checksum is none: it stays.
            let half = l4 + if is_udp { 6 } else { 16 };
            if cut == half + 1 {
                expected[half] = seen[half];
            }
            prop_assert_eq!(quoted6(&after), expected);
        }

        #[test]
        fn any_bytes_of_ipv6_are_an_answer_and_translating_keeps_the_length(
            mut frame in proptest::collection::vec(any::<u8>(), 0..260), mend: bool, next in prop::sample::select(vec![0u8, 6, 17, 43, 44, 51, 60]),
        ) {
            if frame.len() > 110 {
                let len = u16::try_from(frame.len() - 54).unwrap();
                frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
                frame[18..20].copy_from_slice(&len.to_be_bytes());
                frame[20] = ICMPV6;
                frame[54] = 1 + frame[54] % 4;
                frame[62] = 0x60;
                frame[68] = next;
                let to: [u8; 16] = frame[38..54].try_into().unwrap();
                frame[70..86].copy_from_slice(&to);
                frame[103] %= 4;
                if mend {
                    frame[56..58].fill(0);
                    let from = <[u8; 16]>::try_from(&frame[22..38]).unwrap();
                    let sum = checksum::of_transport(from.into(), to.into(), ICMPV6, &frame[54..]);
                    frame[56..58].copy_from_slice(&sum.to_be_bytes());
                }
            }
            if let Ok(error) = read(&frame) {
                prop_assert!(error.quoted_l4 + 4 <= frame.len());
                let len = frame.len();
                let after = translated(&frame, Some(VIP6), &error.parsed.key);
                prop_assert_eq!(after.len(), len);
                quoted6(&after);
            }
        }
    }
}
