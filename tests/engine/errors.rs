//! ICMP errors of both versions of IP: as hosts and routers send them, and as an independent parser reads those that left,
//! every checksum and those of what they quote verified.

use std::net::IpAddr;

use etherparse::{Icmpv4Type, Icmpv6Type, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::forward::hops::PortId;
use xvs::packet::checksum;

use super::{CLIENT_MAC, OUTSIDE_MAC, Table, read};

/// An error of this type and code about what `quoted` holds behind its Ethernet header, up to `len` bytes of it, to who
/// sent that. `rest` is its second word: the MTU of those that tell one.
pub fn icmp_error(from: &str, (kind, code): (u8, u8), rest: u32, quoted: &[u8], len: usize) -> Vec<u8> {
    let quote = &quoted[14..quoted.len().min(14 + len)];
    let (type_u8, code_u8, bytes5to8) = (kind, code, rest.to_be_bytes());
    let builder = PacketBuilder::ethernet2(CLIENT_MAC, OUTSIDE_MAC);
    let mut frame = Vec::new();
    match from.parse().unwrap() {
        IpAddr::V4(from) => builder
            .ipv4(from.octets(), quote[12..16].try_into().unwrap(), 60)
            .icmpv4(Icmpv4Type::Unknown { type_u8, code_u8, bytes5to8 })
            .write(&mut frame, quote),
        IpAddr::V6(from) => builder
            .ipv6(from.octets(), quote[8..24].try_into().unwrap(), 60)
            .icmpv6(Icmpv6Type::Unknown { type_u8, code_u8, bytes5to8 })
            .write(&mut frame, quote),
    }
    .unwrap();
    frame
}

/// An error, its own checksums verified.
pub struct IcmpError {
    pub from: IpAddr,
    pub to: IpAddr,
    pub ttl: u8,
    pub kind: u8,
    pub code: u8,
    pub rest: u32,
    /// The packet that it is about, as far as it goes.
    pub quote: Vec<u8>,
}

impl IcmpError {
    /// Reads one; nothing if the frame is none.
    pub fn read(frame: &[u8]) -> Option<Self> {
        let sliced = SlicedPacket::from_ethernet(frame).unwrap();
        match (&sliced.net, &sliced.transport) {
            (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Icmpv4(icmp))) => {
                let header = ip.header().to_header();
                assert_eq!(header.calc_header_checksum(), header.header_checksum, "IP header checksum");
                assert_eq!(checksum::of(icmp.slice()), 0, "ICMP checksum");
                Some(Self {
                    from: ip.header().source_addr().into(),
                    to: ip.header().destination_addr().into(),
                    ttl: header.time_to_live,
                    kind: icmp.type_u8(),
                    code: icmp.code_u8(),
                    rest: u32::from_be_bytes(icmp.bytes5to8()),
                    quote: icmp.payload().to_vec(),
                })
            }
            (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(icmp))) => {
                let header = ip.header();
                assert!(icmp.is_checksum_valid(header.source(), header.destination()), "ICMPv6 checksum");
                Some(Self {
                    from: header.source_addr().into(),
                    to: header.destination_addr().into(),
                    ttl: header.hop_limit(),
                    kind: icmp.type_u8(),
                    code: icmp.code_u8(),
                    rest: u32::from_be_bytes(icmp.bytes5to8()),
                    quote: icmp.payload().to_vec(),
                })
            }
            _ => None,
        }
    }
}

/// An error that was relayed: who tells whom by which way, and the packet quoted whole, which must be right by its own
/// checksums.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    pub who: String,
    pub about: String,
    pub ttl: u8,
    pub by: (PortId, [u8; 6]),
}

/// Has an error relayed that comes in by this interface.
pub fn relay(t: &mut Table, frame: Vec<u8>, port: PortId) -> Result<Told, DropReason> {
    // To whichever worker: replies and errors arrive at other queues than requests.
    let (verdict, frame) = t.batch(1, &[frame], port).remove(0);
    let port = match verdict {
        Verdict::Transmit(port) => port,
        Verdict::Drop(reason) => return Err(reason),
        Verdict::Answer(..) => panic!("an error about an error"),
        Verdict::Keep => panic!("no fragment"),
    };
    let IcmpError { from, to, ttl, quote, .. } = IcmpError::read(&frame).expect("an error");
    let ethertype: [u8; 2] = if from.is_ipv4() { [8, 0] } else { [0x86, 0xdd] };
    let quoted = read(&[&[0; 12][..], &ethertype, &quote].concat(), port);
    Ok(Told {
        who: format!("{from} tells {to}"),
        about: format!("{} -> {}", quoted.from, quoted.to),
        ttl,
        by: (port, frame[..6].try_into().unwrap()),
    })
}
