//! The headers that nearly all packets to servers behind tunnels get, written by straight-line code into room that fits:
//! IPv4 in IPv4, without a VLAN tag, and nothing summed but the outer IP header.
//!
//! Of all others [`encap`](super::encap) knows, which would write the same of these at thrice the price.

use super::checksum::{self, Delta};
use super::encap::{GRE, IPIP, Tunnel, TunnelChecksum, UDP, source_port, tunnelled};

/// An Ethernet header; then an outer IPv4 header; then what is between that and the packet.
const ETHERNET: usize = 14;
const IPV4: usize = ETHERNET + 20;
const GUE_LEN: usize = 12;
const GRE_LEN: usize = 4;
const TTL: usize = 8;
const CHECKSUM: usize = 10;

const DONT_FRAGMENT: u8 = 0x40;

/// What the outer headers are made of, besides the packet.
#[derive(Clone, Copy, Debug)]
pub struct Plain {
    /// Destination MAC address.
    pub dst_mac: [u8; 6],
    /// Source MAC address.
    pub src_mac: [u8; 6],
    /// Source and destination as they follow each other in the outer header, read as one big-endian number.
    pub addresses: u64,
    /// See [`Outer::copies_df`](super::encap::Outer::copies_df).
    pub copies_df: bool,
    /// See [`Outer::flow_hash`](super::encap::Outer::flow_hash).
    pub flow_hash: u32,
}

/// Bytes in front of a packet to a server behind this tunnel, the Ethernet header included; `None` if the tunnel has more
/// than can be written here.
#[inline]
pub const fn head_len(tunnel: Tunnel) -> Option<usize> {
    match tunnel {
        Tunnel::Ipip => Some(IPV4),
        Tunnel::Gue { checksum: TunnelChecksum::None, .. } => Some(IPV4 + GUE_LEN),
        Tunnel::Gre { checksum: TunnelChecksum::None } => Some(IPV4 + GRE_LEN),
        Tunnel::Gue { .. } | Tunnel::Gre { .. } => None,
    }
}

/// Counts the TTL of the IPv4 packet of `len` bytes at [`head_len`] down, and writes all headers in front of it; asks for
/// an [identification](super::encap::Outer::identification) if it may be fragmented. `None`, with nothing written, if there is no room,
/// or no such tunnel.
#[inline]
pub fn wrap(
    frame: &mut [u8],
    len: u16,
    tunnel: Tunnel,
    plain: &Plain,
    identification: impl FnOnce() -> u16,
) -> Option<()> {
    match tunnel {
        Tunnel::Ipip => {
            headers::<IPV4>(frame, len, IPIP, plain, identification)?;
        }
        Tunnel::Gue { port, checksum: TunnelChecksum::None } => {
            let head = headers::<{ IPV4 + GUE_LEN }>(frame, len, UDP, plain, identification)?;
            let ports = u32::from(source_port(plain.flow_hash)) << 16 | u32::from(port);
            let udp_len = u32::from(len) + 12;
            head[IPV4..IPV4 + 4].copy_from_slice(&ports.to_be_bytes());
            head[IPV4 + 4..IPV4 + 8].copy_from_slice(&(udp_len << 16).to_be_bytes());
            head[IPV4 + 8..].copy_from_slice(&[0, IPIP, 0, 0]);
        }
        Tunnel::Gre { checksum: TunnelChecksum::None } => {
            let head = headers::<{ IPV4 + GRE_LEN }>(frame, len, GRE, plain, identification)?;
            head[IPV4..].copy_from_slice(&[0, 0, 8, 0]);
        }
        Tunnel::Gue { .. } | Tunnel::Gre { .. } => return None,
    }
    Some(())
}

/// Writes the Ethernet and the outer IP header into the first bytes of `HEAD`, behind which the packet begins.
#[inline(always)]
fn headers<'f, const HEAD: usize>(
    frame: &'f mut [u8],
    len: u16,
    protocol: u8,
    plain: &Plain,
    identification: impl FnOnce() -> u16,
) -> Option<&'f mut [u8; HEAD]> {
    let total = u16::try_from(HEAD - ETHERNET).ok()?.checked_add(len)?;
    let (head, packet) = frame.split_first_chunk_mut::<HEAD>()?;
    let inner = packet.first_chunk_mut::<20>()?;
    inner[TTL] = inner[TTL].wrapping_sub(1);
    let sum = u16::from_be_bytes([inner[CHECKSUM], inner[CHECKSUM + 1]]);
    inner[CHECKSUM..CHECKSUM + 2].copy_from_slice(&Delta::TTL_MINUS_ONE.apply(sum).to_be_bytes());

    let has_df = plain.copies_df && inner[6] & DONT_FRAGMENT != 0;
    let flags = if has_df { u32::from(DONT_FRAGMENT) << 8 } else { u32::from(identification()) << 16 };
    let words = [
        0x4500_0000 | u32::from(tunnelled(inner[1])) << 16 | u32::from(total),
        flags,
        u32::from(inner[TTL]) << 24 | u32::from(protocol) << 16,
    ];
    let sum = checksum::of_words(words, plain.addresses);
    head[..6].copy_from_slice(&plain.dst_mac);
    head[6..12].copy_from_slice(&plain.src_mac);
    head[12..14].copy_from_slice(&[8, 0]);
    for (field, word) in head[ETHERNET..].as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *field = word.to_be_bytes();
    }
    head[ETHERNET + CHECKSUM..ETHERNET + 12].copy_from_slice(&sum.to_be_bytes());
    head[ETHERNET + 12..IPV4].copy_from_slice(&plain.addresses.to_be_bytes());
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::encap::{Outer, encapsulate};
    use crate::packet::flow::FlowKey;
    use crate::packet::parse::Parsed;
    use crate::packet::{edit, parse};
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];

    fn tunnels() -> Vec<Tunnel> {
        let sums = [TunnelChecksum::None, TunnelChecksum::Full, TunnelChecksum::Remote];
        let gue = sums.map(|checksum| Tunnel::Gue { port: 6080, checksum });
        [&[Tunnel::Ipip][..], &gue, &sums.map(|checksum| Tunnel::Gre { checksum })].concat()
    }

    proptest! {
        /// The oracle is what writes all other headers.
        #[test]
        fn it_writes_what_is_written_by_parts(
            class: u8, ttl in 2u8.., df: bool, copies_df: bool, addresses: u64, identification: u16, flow_hash: u32,
            payload in proptest::collection::vec(any::<u8>(), 20..80), spare in 0usize..3,
        ) {
            for tunnel in tunnels() {
                let start = 14 + tunnel.overhead(true);
                let mut ip = etherparse::Ipv4Header::new(80, ttl, 6.into(), [10, 0, 1, 1], [10, 0, 0, 100]).unwrap();
                ip.total_len = u16::try_from(20 + payload.len()).unwrap();
                ip.dont_fragment = df;
                let mut header = ip.to_bytes().to_vec();
                header[1] = class;
                header[10..12].fill(0);
                let sum = checksum::of(&header);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                let frame = [&vec![0xee; start][..], &header, &payload, &vec![0xee; spare]].concat();

                let mut expected = frame.clone();
                let key = FlowKey::v4(6, 0, 0, 0);
                let flags = parse::TcpFlags::default();
                let parsed =
                    Parsed { key, l3: start, l4: start + 20, ip_len: ip.total_len, vlan: None, ttl, flags, room: 0 };
                edit::decrement_ttl(&mut expected, &parsed, Delta::TTL_MINUS_ONE);
                let [source, destination] =
                    [addresses >> 32, addresses & 0xffff_ffff].map(|ip| Ipv4Addr::from_bits(u32::try_from(ip).unwrap()).into());
                let outer = Outer { tunnel, source, destination, copies_df, identification, flow_hash };
                encapsulate(&mut expected, start, ip.total_len.into(), &outer).unwrap();
                edit::set_ethernet(&mut expected, MACS[0], MACS[1], None, true);

                let mut wrapped = frame.clone();
                let plain = Plain {
                    dst_mac: MACS[0], src_mac: MACS[1], addresses, copies_df, flow_hash
                };
                let done = wrap(&mut wrapped, ip.total_len, tunnel, &plain, || identification);
                prop_assert_eq!(done.is_some(), head_len(tunnel).is_some());
                match head_len(tunnel) {
                    Some(len) => prop_assert_eq!((len, wrapped), (start, expected)),
                    None => prop_assert_eq!(wrapped, frame.clone()),
                }
                let mut short = frame[..(start + 19).min(frame.len())].to_vec();
                prop_assert_eq!(wrap(&mut short, ip.total_len, tunnel, &plain, || identification), None);
                prop_assert_eq!(&short[..], &frame[..short.len()]);
            }
        }
    }
}
