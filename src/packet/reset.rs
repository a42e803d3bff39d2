//! A TCP reset on the way of a segment: the same ends, nothing but the reset (RFC 9293, 3.5.2).

use super::checksum;
use super::parse::{Parsed, TcpFlags};

/// Bytes of a TCP header without options.
const TCP_LEN: usize = 20;
/// The longest frame of a reset: Ethernet with a tag, the longest IPv4 header or an IPv6 header with a few extensions.
pub const LEN_MAX: usize = 256;
/// Of both families: where addresses begin in the header, and how many bytes both have.
const V4_ADDRESSES: (usize, usize) = (12, 8);
const V6_ADDRESSES: (usize, usize) = (8, 32);
const V6_HEADER_LEN: usize = 40;

/// Writes to `to` the frame that resets the connection of the TCP segment in `frame`, from the same sender with sequence
/// number `number`. Its length comes back; none if the segment has no room for it or is none.
pub fn write(frame: &[u8], parsed: &Parsed, number: u32, to: &mut [u8]) -> Option<usize> {
    let end = parsed.l4 + TCP_LEN;
    if parsed.key.protocol() != 6 || parsed.l3 + usize::from(parsed.ip_len) < end {
        return None;
    }
    let reset = to.get_mut(..end)?;
    reset.copy_from_slice(frame.get(..end)?);
    let (l3, l4) = (parsed.l3, parsed.l4);
    let length = |len: usize| u16::try_from(len).ok().map(u16::to_be_bytes);
    let (at, len) = if parsed.key.is_v4() {
        reset[l3 + 2..l3 + 4].copy_from_slice(&length(end - l3)?);
        // It is whole.
        reset[l3 + 6] &= 0x40;
        reset[l3 + 7] = 0;
        reset[l3 + 10..l3 + 12].fill(0);
        let sum = checksum::of(&reset[l3..l4]);
        reset[l3 + 10..l3 + 12].copy_from_slice(&sum.to_be_bytes());
        V4_ADDRESSES
    } else {
        reset[l3 + 4..l3 + 6].copy_from_slice(&length(end - l3 - V6_HEADER_LEN)?);
        V6_ADDRESSES
    };
    reset[l4 + 4..l4 + 8].copy_from_slice(&number.to_be_bytes());
    reset[l4 + 8..l4 + 12].fill(0);
    reset[l4 + 12..end].copy_from_slice(&[0x50, TcpFlags::RST, 0, 0, 0, 0, 0, 0]);
    // Of the pseudo header protocol and length; order and padding make no difference to the sum.
    let mut summed = [0; V6_ADDRESSES.1 + 4 + TCP_LEN];
    summed[..len].copy_from_slice(&reset[l3 + at..l3 + at + len]);
    summed[len..len + 4].copy_from_slice(&[0, 6, 0, TCP_LEN.to_le_bytes()[0]]);
    summed[len + 4..len + 4 + TCP_LEN].copy_from_slice(&reset[l4..end]);
    let sum = checksum::of(&summed[..len + 4 + TCP_LEN]);
    reset[l4 + 16..l4 + 18].copy_from_slice(&sum.to_be_bytes());
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::parse::parse;
    use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};

    #[test]
    fn a_reset_has_the_ends_of_its_segment_and_right_checksums() {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv4([10, 1, 0, 2], [10, 1, 0, 11], 63)
            .tcp(1024, 80, 77, 512)
            .syn()
            .options_raw(&[2, 4, 5, 180])
            .unwrap()
            .write(&mut frame, b"with data")
            .unwrap();
        let parsed = parse(&frame).unwrap();
        let mut room = [0xee; LEN_MAX];
        let len = write(&frame, &parsed, 0xfeed_beef, &mut room).unwrap();
        let sliced = SlicedPacket::from_ethernet(&room[..len]).unwrap();
        let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Tcp(tcp))) = (&sliced.net, &sliced.transport)
        else {
            panic!("{sliced:?}")
        };
        let header = ip.header();
        assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
        assert_eq!((header.source(), header.destination()), ([10, 1, 0, 2], [10, 1, 0, 11]));
        let sum = tcp.calc_checksum_ipv4(header.source(), header.destination()).unwrap();
        assert_eq!((sum, tcp.sequence_number()), (tcp.checksum(), 0xfeed_beef));
        assert_eq!((tcp.source_port(), tcp.destination_port()), (1024, 80));
        assert!(tcp.rst() && !tcp.syn() && !tcp.ack() && tcp.options().is_empty());
        assert_eq!((room[..12].to_vec(), len), (frame[..12].to_vec(), 54));
        assert_eq!(write(&frame, &parsed, 0, &mut [0; 53]), None, "no room");
    }

    #[test]
    fn of_ipv6_too() {
        use crate::packet::flow::FlowKey;
        let mut frame = Vec::new();
        let (from, to) = ("2001:db8::2", "2001:db8::11").into_ips();
        PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv6(from.octets(), to.octets(), 63)
            .tcp(1024, 80, 77, 512)
            .syn()
            .write(&mut frame, b"with data")
            .unwrap();
        let key = FlowKey::v6(6, from, to, 1024 << 16 | 80);
        let ip_len = u16::try_from(frame.len() - 14).unwrap();
        let mut other = Vec::new();
        PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv4([1; 4], [2; 4], 9)
            .tcp(1, 2, 3, 4)
            .write(&mut other, b"")
            .unwrap();
        let parsed = Parsed { key, l3: 14, l4: 54, ip_len, ..parse(&other).unwrap() };
        let mut room = [0xee; LEN_MAX];
        let len = write(&frame, &parsed, 5, &mut room).unwrap();
        let sliced = SlicedPacket::from_ethernet(&room[..len]).unwrap();
        let (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Tcp(tcp))) = (&sliced.net, &sliced.transport)
        else {
            panic!("{sliced:?}")
        };
        assert_eq!(ip.header().payload_length(), 20);
        let sum = tcp.calc_checksum_ipv6(from.octets(), to.octets()).unwrap();
        assert_eq!((sum, tcp.sequence_number(), tcp.rst()), (tcp.checksum(), 5, true));
    }

    trait IntoIps {
        fn into_ips(self) -> (std::net::Ipv6Addr, std::net::Ipv6Addr);
    }

    impl IntoIps for (&str, &str) {
        fn into_ips(self) -> (std::net::Ipv6Addr, std::net::Ipv6Addr) {
            (self.0.parse().unwrap(), self.1.parse().unwrap())
        }
    }
}
