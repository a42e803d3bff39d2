//! ICMP errors on their way (RFC 792): which packet they are about, and that packet readdressed inside of them.
//!
//! An error quotes the packet that it is about, at least its IP header and eight bytes more. It goes to who sent that
//! packet, so the answer to the packet would come the same way: the key of that answer is the error's key.
//!
//! Quoted checksums are mended like those of packets, as far as they are quoted: the addressee finds its packet as
//! it has sent it (RFC 5508, 4.2). `ip_vs_nat_icmp` leaves the quoted transport checksum as it was.

use etherparse::{IpNumber, Ipv4HeaderSlice};

use super::checksum::{self, Delta};
use super::flow::FlowKey;
use super::parse::{self, Parsed, Reject, TcpFlags};

/// Bytes of an ICMP header.
const HEADER_LEN: usize = 8;
/// The longest IPv4 header, and a TCP header up to its checksum: all that is ever changed of a quoted packet.
const MAX_HEAD: usize = 60 + 18;

const IP_CHECKSUM: usize = 10;
const ADDRESSES: usize = 12;

/// Types that IPVS relays: unreachable, source quench, time exceeded (`ip_vs_in_icmp` in ip_vs_core.c).
const RELAYED: [u8; 3] = [3, 4, 11];

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

/// Reads an ICMP error.
///
/// # Errors
/// Why it is none that can be relayed.
pub fn read(frame: &[u8]) -> Result<Related, Unrelated> {
    let ip = parse::ipv4(frame, 0).map_err(Unrelated::Packet)?;
    if ip.header.protocol() != IpNumber::ICMP {
        return Err(Unrelated::Type);
    }
    let (head, quote) = ip.payload.split_at_checked(HEADER_LEN).ok_or(Unrelated::Quote)?;
    if !RELAYED.contains(&head[0]) {
        return Err(Unrelated::Type);
    }
    if checksum::of(ip.payload) != 0 {
        return Err(Unrelated::Checksum);
    }
    let quoted = Ipv4HeaderSlice::from_slice(quote).map_err(|_| Unrelated::Quote)?;
    let quoted_len = quoted.slice().len();
    let ports = quote.get(quoted_len..).and_then(|t| t.first_chunk().copied()).ok_or(Unrelated::Quote)?;
    if quoted.fragments_offset().value() != 0 || quoted.source() != ip.header.destination() {
        return Err(Unrelated::Quote);
    }
    let key = parse::key(&quoted, u32::from_be_bytes(ports)).reversed();
    let parsed = ip.parsed(key, TcpFlags::default());
    Ok(Related { parsed, quoted_l4: parsed.l4 + HEADER_LEN + quoted_len })
}

/// Makes it an error about the packet `quoted`, which is the quoted one under the key it was sent with: the error
/// goes to its source, from `sender` or, without one, from where it came. The difference to the IP header's
/// checksum comes back, which is left to [`decrement_ttl`](super::edit::decrement_ttl).
pub fn translate(frame: &mut [u8], error: &Related, sender: Option<u32>, quoted: &FlowKey) -> Delta {
    let Parsed { l3, l4, ip_len, .. } = error.parsed;
    let Some(packet) = frame.get_mut(l3..l3 + usize::from(ip_len)) else { return Delta::default() };
    let Some((ip, message)) = packet.split_at_mut_checked(l4 - l3) else { return Delta::default() };
    let Some((header, quote)) = message.split_at_mut_checked(HEADER_LEN) else { return Delta::default() };
    let changed = requote(quote, error.quoted_l4 - l4 - HEADER_LEN, quoted);
    if let Some(field) = header.get_mut(2..).and_then(|h| h.first_chunk_mut::<2>()) {
        *field = changed.apply(u16::from_be_bytes(*field)).to_be_bytes();
    }
    let Some(field) = ip.get_mut(ADDRESSES..).and_then(|h| h.first_chunk_mut::<8>()) else {
        return Delta::default();
    };
    let before = u64::from_be_bytes(*field);
    let source = sender.map_or(before >> 32, u64::from);
    let after = (source << 32 | quoted.v4_addresses() >> 32).to_be_bytes();
    *field = after;
    Delta::between(&before.to_be_bytes(), &after)
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
    let (is_udp, at) = match key.protocol() {
        6 => (false, Some(16)),
        17 => (true, Some(6)),
        _ => (false, None),
    };
    // A quote may end before the checksum. Of an even number of bytes: the quoted header is whole words.
    let len = quote.len().min(l4 + at.map_or(4, |at| at + 2)).min(MAX_HEAD) & !1;
    let Some(head) = quote.get_mut(..len) else { return Delta::default() };
    let mut before = [0; MAX_HEAD];
    before[..len].copy_from_slice(head);

    let addresses = replace(head, ADDRESSES, &key.v4_addresses().to_be_bytes());
    let ports = replace(head, l4, &key.ports().to_be_bytes());
    update(head, IP_CHECKSUM, |c| addresses.apply(c));
    if let Some(at) = at {
        let all = addresses.and(ports);
        update(head, l4 + at, |c| if is_udp { all.apply_udp(c) } else { all.apply(c) });
    }
    Delta::between(&before[..len], head)
}

/// Puts `new` at `at`; the difference it makes to a checksum.
fn replace<const N: usize>(bytes: &mut [u8], at: usize, new: &[u8; N]) -> Delta {
    let Some(field) = bytes.get_mut(at..).and_then(|b| b.first_chunk_mut::<N>()) else {
        return Delta::default();
    };
    let delta = Delta::between(field, new);
    *field = *new;
    delta
}

fn update(bytes: &mut [u8], at: usize, edit: impl FnOnce(u16) -> u16) {
    if let Some(field) = bytes.get_mut(at..).and_then(|b| b.first_chunk_mut::<2>()) {
        *field = edit(u16::from_be_bytes(*field)).to_be_bytes();
    }
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
    fn translated(frame: &[u8], sender: Option<[u8; 4]>, sent_as: &FlowKey) -> Vec<u8> {
        let (mut frame, error) = (frame.to_vec(), read(frame).unwrap());
        let l3 = translate(&mut frame, &error, sender.map(u32::from_be_bytes), sent_as);
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
            let after = translated(&frame, None, &key(protocol, (SERVER, 8080), (CLIENT, 4711)));
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
                translate(&mut frame, &error, Some(7), &key);
                prop_assert_eq!(frame.len(), len);
                prop_assert_eq!(checksum::of(&frame[error.parsed.l4..]), 0);
            }
        }
    }
}
