//! The packets that nearly all are, read by straight-line code: untagged, IPv4 without options, whole, and TCP or UDP.
//!
//! Says nothing of any other packet, not even of a wrong one: [`parse`](super::parse::parse) does, and would say the
//! same of these at thrice the price.

use super::checksum;
use super::flow::FlowKey;
use super::parse::{Parsed, TcpFlags};

/// An Ethernet header, an IPv4 header and a TCP header without options. Shorter frames are rare: a wire has none.
const LEN: usize = ETHERNET_LEN + IPV4_LEN + TCP_LEN;
const ETHERNET_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const TCP_LEN: usize = 20;
const UDP_LEN: usize = 8;

/// EtherType of IPv4, its version and a header length of 20 bytes.
const IPV4: [u8; 3] = [8, 0, 0x45];
/// "More fragments" and the offset of a fragment.
const FRAGMENT: u16 = 0x3fff;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// The packet in the frame that begins at `start`, if it is one of these.
#[inline(always)]
pub(super) fn parse(frame: &[u8], start: usize) -> Option<Parsed> {
    let bytes = frame.get(start..)?;
    let head = bytes.first_chunk::<LEN>()?;
    let (&[.., a, b], rest) = head.split_first_chunk::<ETHERNET_LEN>()?;
    let (ip, transport) = rest.split_first_chunk::<IPV4_LEN>()?;
    let transport = transport.first_chunk::<TCP_LEN>()?;
    let at = |n: usize| u16::from_be_bytes([ip[n], ip[n + 1]]);
    if [a, b, ip[0]] != IPV4 || at(6) & FRAGMENT != 0 || !checksum::is_right(ip) {
        return None;
    }
    let ip_len = at(2);
    let len = usize::from(ip_len);
    let payload_len = len.wrapping_sub(IPV4_LEN);
    if len < IPV4_LEN || len > bytes.len() - ETHERNET_LEN {
        return None;
    }
    let (protocol, flags) = match ip[9] {
        TCP => {
            let header_len = usize::from(transport[12] >> 4) * 4;
            (TCP_LEN..=payload_len).contains(&header_len).then_some((TCP, TcpFlags(transport[13])))?
        }
        UDP => {
            let udp_len = usize::from(u16::from_be_bytes([transport[4], transport[5]]));
            (UDP_LEN..=payload_len).contains(&udp_len).then_some((UDP, TcpFlags::default()))?
        }
        _ => return None,
    };
    let number = |bytes: [u8; 4]| u32::from_be_bytes(bytes);
    let source = number([ip[12], ip[13], ip[14], ip[15]]);
    let destination = number([ip[16], ip[17], ip[18], ip[19]]);
    let ports = number([transport[0], transport[1], transport[2], transport[3]]);
    let key = FlowKey::v4(protocol, source, destination, ports);
    let l3 = start + ETHERNET_LEN;
    Some(Parsed { key, l3, l4: l3 + IPV4_LEN, ip_len, vlan: None, ttl: ip[8], flags, room: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::parse::parse_from;
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    fn frame(is_tcp: bool, options: bool, payload: usize) -> Vec<u8> {
        let ip = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 0, 1, 1], [10, 0, 0, 100], 64);
        let (mut bytes, payload) = (Vec::new(), vec![7; payload]);
        if is_tcp {
            let tcp = ip.tcp(4711, 80, 1, 1000).ack(7);
            let segment_size = [etherparse::TcpOptionElement::MaximumSegmentSize(1460)];
            let tcp = if options { tcp.options(&segment_size).unwrap() } else { tcp };
            tcp.write(&mut bytes, &payload).unwrap();
        } else {
            ip.udp(5353, 53).write(&mut bytes, &payload).unwrap();
        }
        bytes
    }

    #[test]
    fn what_nearly_all_packets_are_is_read() {
        for (is_tcp, options, payload) in
            [(true, false, 0), (true, true, 5), (false, false, 12), (false, false, 1400)]
        {
            assert!(parse(&frame(is_tcp, options, payload), 0).is_some(), "{is_tcp} {options} {payload}");
        }
    }

    proptest! {
        /// The oracle is what reads all packets. Each byte of the headers may lie; the IP header's sum is right or wrong.
        #[test]
        fn it_reads_what_is_read_by_parts(
            is_tcp: bool, options: bool, payload in 0usize..40, padding in 0usize..20, room in 0usize..3,
            lies in proptest::collection::vec((12usize..54, any::<u8>()), 0..3), mends: bool, cut in 0usize..200,
        ) {
            let mut bytes = frame(is_tcp, options, payload);
            bytes.resize(bytes.len() + padding, 0xaa);
            for (at, lie) in lies {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = lie;
                }
            }
            if mends {
                bytes[24..26].fill(0);
                let sum = checksum::of(&bytes[14..34]);
                bytes[24..26].copy_from_slice(&sum.to_be_bytes());
            }
            bytes.truncate(cut);
            let all = [&vec![0xee; room][..], &bytes].concat();
            if let Some(parsed) = parse(&all, room) {
                prop_assert_eq!(Ok(parsed), parse_from(&all, room));
            }
        }
    }
}
