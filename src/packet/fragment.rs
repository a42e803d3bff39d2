//! Fragments of IPv4 packets (RFC 791, 3.2): read, and made.
//!
//! Where a datagram goes, and which of its fragments there have been, is not known here.

use etherparse::{EtherType, Ipv4HeaderSlice};

use super::checksum;
use super::flow::FlowKey;
use super::parse::{Parsed, Reject, TcpFlags, link};
use super::sctp;

/// Longest datagram in bytes, its header included.
const DATAGRAM_MAX: usize = 65_535;
/// What offsets count in, in bytes.
const UNIT: usize = 8;
const MORE: u8 = 0x20;
const OFFSET_MASK: u16 = 0x1fff;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// What all fragments of a datagram have in common: source, destination, protocol and identification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatagramKey(FlowKey);

impl DatagramKey {
    /// As a key with the identification in place of the ports; for hashing.
    pub const fn as_key(&self) -> &FlowKey {
        &self.0
    }
}

/// A fragment of a TCP or UDP packet.
#[derive(Clone, Copy, Debug)]
pub struct Fragment {
    /// Its datagram.
    pub datagram: DatagramKey,
    /// Where its bytes are in the datagram's, behind the IP header. A multiple of eight.
    pub offset: u16,
    /// How many there are, at least one.
    pub len: u16,
    /// Whether others follow behind; if so, `len` is a multiple of eight.
    pub more: bool,
    /// As of a whole packet, of the length of this fragment. Only the first has ports and flags.
    pub parsed: Parsed,
}

/// Why a fragment is none that can be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// As for whole packets.
    Packet(Reject),
    /// A first one that does not hold the whole transport header (RFC 1858, RFC 3128): nothing could be told by it.
    Tiny,
    /// Empty, ending beyond the longest datagram, or not the last one and its length no multiple of eight.
    Bounds,
}

impl From<Reject> for Malformed {
    fn from(reject: Reject) -> Self {
        Malformed::Packet(reject)
    }
}

/// Bytes of a transport header that the first fragment must hold.
const fn header_len_min(protocol: u8) -> Option<usize> {
    match protocol {
        TCP => Some(20),
        UDP => Some(8),
        SCTP => Some(sctp::HEADER_LEN),
        _ => None,
    }
}

/// Reads the fragment in a frame for which [`parse`](super::parse::parse) says [`Reject::Fragment`]. Frames with room in
/// front are none: who makes room knows ports.
///
/// # Errors
/// Why it cannot be forwarded.
#[cold]
#[inline(never)]
pub fn read(frame: &[u8]) -> Result<Fragment, Malformed> {
    let (kind, l3, vlan) = link(frame, 0)?;
    if kind != EtherType::IPV4 {
        return Err(Reject::NotIp.into());
    }
    let packet = frame.get(l3..).unwrap_or_default();
    let ip = Ipv4HeaderSlice::from_slice(packet).map_err(|_| Reject::BadHeader)?;
    let (ip_len, header_len) = (ip.total_len(), ip.slice().len());
    let payload = packet.get(header_len..usize::from(ip_len)).ok_or(Reject::Truncated)?;
    let protocol = ip.protocol().0;
    // ICMP is relayed whole only.
    let unknown = if protocol == ICMP { Reject::Fragment } else { Reject::Protocol };
    let least = header_len_min(protocol).ok_or(unknown)?;

    let offset = usize::from(ip.fragments_offset().value()) * UNIT;
    let more = ip.more_fragments();
    let is_whole_units = payload.len().is_multiple_of(UNIT) || !more;
    if payload.is_empty() || header_len + offset + payload.len() > DATAGRAM_MAX || !is_whole_units {
        return Err(Malformed::Bounds);
    }
    let (source, destination) = (u32::from_be_bytes(ip.source()), u32::from_be_bytes(ip.destination()));
    let (mut ports, mut flags) = (0, TcpFlags::default());
    if offset == 0 {
        if payload.len() < least {
            return Err(Malformed::Tiny);
        }
        match (protocol, payload) {
            (TCP, [_, _, _, _, _, _, _, _, _, _, _, _, data_offset, bits, ..]) if data_offset >> 4 >= 5 => {
                flags = TcpFlags(*bits);
            }
            // The length is that of the whole datagram.
            (UDP, [_, _, _, _, high, low, ..]) if u16::from_be_bytes([*high, *low]) >= 8 => {}
            (SCTP, _) => flags = sctp::flags(payload),
            _ => return Err(Reject::BadHeader.into()),
        }
        ports = u32::from_be_bytes(*payload.first_chunk().ok_or(Malformed::Tiny)?);
    }
    let key = FlowKey::v4(protocol, source, destination, ports);
    let len = u16::try_from(payload.len()).map_err(|_| Malformed::Bounds)?;
    Ok(Fragment {
        datagram: DatagramKey(FlowKey::v4(protocol, source, destination, ip.identification().into())),
        offset: u16::try_from(offset).map_err(|_| Malformed::Bounds)?,
        len,
        more,
        parsed: Parsed { key, l3, l4: l3 + header_len, ip_len, vlan, ttl: ip.ttl(), flags, room: 0 },
    })
}

/// How a packet, or a fragment, is split so that its pieces fit an MTU. The first piece stays in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pieces {
    l3: usize,
    header_len: usize,
    payload_len: usize,
    /// Payload of every piece but the last.
    step: usize,
}

impl Pieces {
    /// Of the IPv4 packet at `l3` of its frame. `None` if not even eight bytes of payload fit the MTU.
    pub const fn new(l3: usize, header_len: usize, payload_len: usize, mtu: u16) -> Option<Self> {
        let step = (mtu as usize).saturating_sub(header_len) / UNIT * UNIT;
        if step == 0 { None } else { Some(Self { l3, header_len, payload_len, step }) }
    }

    /// How many there are besides the first.
    pub const fn later(&self) -> usize {
        self.payload_len.div_ceil(self.step).saturating_sub(1)
    }

    /// Writes the nth piece of `frame`, counted from the first as 0, with its Ethernet header to `to`. Its length
    /// comes back; `None` if it does not fit.
    ///
    /// Before [`shorten`](Self::shorten).
    pub fn write(&self, frame: &[u8], n: usize, to: &mut [u8]) -> Option<usize> {
        let head = self.l3 + self.header_len;
        let (from, end) = (n * self.step, self.payload_len.min((n + 1) * self.step));
        let len = head + end.checked_sub(from)?;
        let to = to.get_mut(..len)?;
        to[..head].copy_from_slice(frame.get(..head)?);
        to[head..].copy_from_slice(frame.get(head + from..head + end)?);
        let header = to.get_mut(self.l3..head)?;
        if n > 0 {
            only_copied_options(header.get_mut(20..)?);
        }
        head_piece(header, end - from, from / UNIT, end < self.payload_len)?;
        Some(len)
    }

    /// Makes `frame` its own first piece. Its length comes back.
    pub fn shorten(&self, frame: &mut [u8]) -> Option<usize> {
        let len = self.payload_len.min(self.step);
        let head = self.l3 + self.header_len;
        head_piece(frame.get_mut(self.l3..head)?, len, 0, len < self.payload_len)?;
        Some(head + len)
    }
}

/// Makes an IP header that of a piece of `len` bytes, `further` units behind where its payload was.
fn head_piece(header: &mut [u8], len: usize, further: usize, more: bool) -> Option<()> {
    let total = u16::try_from(header.len() + len).ok()?;
    header.get_mut(2..4)?.copy_from_slice(&total.to_be_bytes());
    let field = header.get_mut(6..8)?;
    let old = u16::from_be_bytes([field[0], field[1]]);
    let offset = u16::try_from(usize::from(old & OFFSET_MASK) + further).ok()? & OFFSET_MASK;
    field.copy_from_slice(&(old & !OFFSET_MASK | offset).to_be_bytes());
    if more {
        field[0] |= MORE;
    }
    header.get_mut(10..12)?.fill(0);
    let sum = checksum::of_header(header);
    header.get_mut(10..12)?.copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// Leaves of IP options those that every fragment has (RFC 791, 3.1: the copied flag); others become "no operation", as
/// Linux does (`ip_options_fragment`).
fn only_copied_options(mut options: &mut [u8]) {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const COPIED: u8 = 0x80;
    while let Some(&kind) = options.first() {
        let len = match (kind, options.get(1)) {
            (END, _) => return,
            (NO_OPERATION, _) => 1,
            (_, Some(&len)) if len >= 2 => usize::from(len),
            _ => return,
        };
        let Some((option, rest)) = options.split_at_mut_checked(len) else { return };
        if kind & COPIED == 0 {
            option.fill(NO_OPERATION);
        }
        options = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::parse::parse;
    use etherparse::{IpFragOffset, Ipv4Header, PacketBuilder};
    use proptest::prelude::*;

    fn frame(protocol: u8, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
        let mut ip = Ipv4Header::new(0, 64, protocol.into(), [10, 0, 1, 1], [10, 0, 0, 100]).unwrap();
        ip.set_payload_len(payload.len()).unwrap();
        ip.identification = 0x1234;
        ip.dont_fragment = false;
        ip.more_fragments = more;
        ip.fragment_offset = IpFragOffset::try_new(offset).unwrap();
        ip.header_checksum = ip.calc_header_checksum();
        [&[1; 6][..], &[2; 6], &[8, 0], &ip.to_bytes(), payload].concat()
    }

    fn udp_head(len: u16) -> [u8; 8] {
        let [high, low] = len.to_be_bytes();
        [0x12, 0x67, 0, 53, high, low, 0, 0]
    }

    #[test]
    fn a_first_one_has_ports_and_a_later_one_has_none() {
        let first = read(&frame(UDP, 0, true, &[&udp_head(4000)[..], &[0; 8]].concat())).unwrap();
        assert_eq!(format!("{:?}", first.parsed.key), "protocol 17 10.0.1.1:4711 -> 10.0.0.100:53");
        assert_eq!((first.offset, first.len, first.more), (0, 16, true));
        let later = read(&frame(UDP, 2, false, &[7; 5])).unwrap();
        assert_eq!(format!("{:?}", later.parsed.key), "protocol 17 10.0.1.1:0 -> 10.0.0.100:0");
        assert_eq!((later.offset, later.len, later.more), (16, 5, false));
        assert_eq!((later.datagram, later.parsed.l4), (first.datagram, 34));
        let mut other = frame(UDP, 2, false, &[7; 5]);
        other[19] ^= 1;
        assert_ne!(read(&other).unwrap().datagram, first.datagram);
    }

    #[test]
    fn each_lie_has_its_reason() {
        let refused = |protocol, offset, more, payload: &[u8]| {
            let frame = frame(protocol, offset, more, payload);
            assert_eq!(parse(&frame).err(), Some(Reject::Fragment));
            read(&frame).err()
        };
        let mut segment = [0; 24];
        segment[12] = 0x50;
        assert_eq!(refused(TCP, 0, true, &segment), None);
        assert_eq!(refused(TCP, 0, true, &segment[..16]), Some(Malformed::Tiny));
        segment[12] = 0x40;
        assert_eq!(refused(TCP, 0, true, &segment), Some(Reject::BadHeader.into()));
        assert_eq!(refused(UDP, 0, true, &udp_head(7)), Some(Reject::BadHeader.into()));
        assert_eq!(refused(UDP, 0, true, &udp_head(9)), None);
        assert_eq!(refused(UDP, 1, true, &[0; 9]), Some(Malformed::Bounds), "no multiple of eight");
        assert_eq!(refused(UDP, 1, true, &[]), Some(Malformed::Bounds), "empty");
        assert_eq!(refused(UDP, 8189, false, &[0; 3]), None);
        assert_eq!(refused(UDP, 8189, false, &[0; 4]), Some(Malformed::Bounds), "65,536 bytes");
        assert_eq!(refused(47, 0, true, &[0; 64]), Some(Reject::Protocol.into()));
        assert_eq!(refused(ICMP, 0, true, &[0; 64]), Some(Reject::Fragment.into()));
    }

    #[test]
    fn options_that_are_not_copied_become_no_operations() {
        // Record route (not copied), loose source route (copied), the end and what is behind it.
        let mut options = [7, 4, 4, 9, 1, 131, 3, 4, 0, 7, 3, 0];
        only_copied_options(&mut options);
        assert_eq!(options, [1, 1, 1, 1, 1, 131, 3, 4, 0, 7, 3, 0]);
        for lie in [[7, 1, 0, 0], [7, 0, 0, 0], [7, 9, 0, 0], [1, 1, 1, 7]] {
            let mut options = lie;
            only_copied_options(&mut options);
            assert_eq!(options, lie, "left as it is");
        }
    }

    proptest! {
        /// The oracle puts the bytes of all pieces where they say that they belong.
        #[test]
        fn pieces_are_the_packet_and_fit_the_mtu(
            len in 1usize..3000,
            mtu in 68u16..1500,
            at in 0u16..1000,
            more: bool,
        ) {
            let payload: Vec<u8> = (0..len).map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1]).collect();
            let whole = frame(UDP, at, more, &payload);
            let pieces = Pieces::new(14, 20, len, mtu).unwrap();
            let mut all: Vec<Vec<u8>> = (0..=pieces.later())
                .map(|n| {
                    let mut room = vec![0; 2000];
                    let len = pieces.write(&whole, n, &mut room).unwrap();
                    room.truncate(len);
                    room
                })
                .collect();
            let mut shortened = whole.clone();
            let first = pieces.shorten(&mut shortened).unwrap();
            prop_assert_eq!(&shortened[..first], &all[0]);
            let mut got = vec![0xee; len];
            let last = all.pop().unwrap();
            for (piece, is_last) in all.iter().map(|p| (p, false)).chain([(&last, true)]) {
                prop_assert!(piece.len() <= 14 + usize::from(mtu));
                let ip = Ipv4HeaderSlice::from_slice(&piece[14..]).unwrap();
                prop_assert_eq!(checksum::of(ip.slice()), 0);
                prop_assert_eq!((ip.identification(), ip.more_fragments()), (0x1234, more || !is_last));
                let from = 8 * usize::from(ip.fragments_offset().value() - at);
                let bytes = &piece[34..14 + usize::from(ip.total_len())];
                got[from..from + bytes.len()].copy_from_slice(bytes);
            }
            prop_assert_eq!(got, payload);
        }

        #[test]
        fn any_bytes_are_an_answer_whose_offsets_lie_inside(frame in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut headed = frame;
            if headed.len() > 24 {
                headed[12..15].copy_from_slice(&[8, 0, 0x45]);
                headed[16] = 0;
                headed[23] = if headed[0] & 1 == 0 { 6 } else { 17 };
            }
            if let Ok(f) = read(&headed) {
                prop_assert!(f.parsed.l3 + usize::from(f.parsed.ip_len) <= headed.len());
                prop_assert_eq!(f.parsed.l4 + usize::from(f.len), f.parsed.l3 + usize::from(f.parsed.ip_len));
            }
        }
    }

    #[test]
    fn a_whole_packet_that_fits_is_one_piece() {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv4([10, 0, 1, 1], [10, 0, 0, 100], 33)
            .udp(4711, 53)
            .write(&mut frame, &[7; 100])
            .unwrap();
        assert_eq!(Pieces::new(14, 20, 108, 128).unwrap().later(), 1, "104 bytes are whole units");
        assert_eq!(Pieces::new(14, 20, 104, 128).unwrap().later(), 0);
        assert_eq!(Pieces::new(14, 20, 108, 27), None);
    }
}
