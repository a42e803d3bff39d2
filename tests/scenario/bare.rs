//! Packets without a program behind them, SCTP, AH and ESP: made by hand, sent from one host, and told as the host
//! sees them that gets them.
//!
//! No socket of these protocols is needed, so that every kernel can play. Must not know what is between the hosts.

use std::io::{ErrorKind, Read as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::thread;
use std::time::{Duration, Instant};

use etherparse::Ipv4HeaderSlice;
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::inside;

const ICMP: u8 = 1;
const ESP: u8 = 50;
const AH: u8 = 51;
const SCTP: u8 = 132;

/// The chunks of SCTP by their names here, at their numbers.
const CHUNKS: [&str; 15] = [
    "data",
    "init",
    "init-ack",
    "sack",
    "heartbeat",
    "heartbeat-ack",
    "abort",
    "shutdown",
    "shutdown-ack",
    "error",
    "cookie-echo",
    "cookie-ack",
    "ecne",
    "cwr",
    "shutdown-complete",
];
/// What every chunk says; not a multiple of four bytes, so that there is padding.
const VALUE: &[u8] = b"chunky";
/// Between two looks at the sockets.
const LOOK: Duration = Duration::from_millis(5);

/// A packet made by hand.
#[derive(Debug, PartialEq)]
pub enum Bare {
    /// SCTP with the chunks of these numbers. `damaged`: a byte was changed on its way, the checksum was not.
    Sctp { chunks: Vec<u8>, damaged: bool, from: SocketAddrV4, to: SocketAddrV4 },
    /// AH or ESP: what follows the IP header is only bytes.
    Ipsec { protocol: u8, from: Ipv4Addr, to: Ipv4Addr },
}

impl Bare {
    /// Reads `init`, `cookie-echo+abort`, `data!` (damaged), `none` (no chunk at all).
    pub fn chunks(word: &str) -> Option<(Vec<u8>, bool)> {
        let (names, damaged) = word.strip_suffix('!').map_or((word, false), |names| (names, true));
        if names == "none" {
            return Some((Vec::new(), damaged));
        }
        let number = |name| CHUNKS.iter().position(|chunk| *chunk == name).and_then(|n| u8::try_from(n).ok());
        Some((names.split('+').map(number).collect::<Option<_>>()?, damaged))
    }

    /// AH or ESP.
    pub fn ipsec(name: &str, from: Ipv4Addr, to: Ipv4Addr) -> Self {
        Self::Ipsec { protocol: if name == "ah" { AH } else { ESP }, from, to }
    }

    /// Sends it from `netns`, and says which of `hosts` got what, be it an error; `nobody` after `patience`.
    pub fn send(&self, netns: &str, hosts: &[(&str, String)], patience: Duration) -> String {
        let open = |(name, netns): &(&'_ str, String)| {
            [ICMP, ESP, AH, SCTP].map(|protocol| (name.to_string(), inside(netns, || raw(protocol))))
        };
        let mut sockets: Vec<_> = hosts.iter().flat_map(open).collect();
        let (protocol, from, to, bytes) = match self {
            Self::Sctp { chunks, damaged, from, to } => {
                (SCTP, *from.ip(), *to.ip(), sctp(chunks, *damaged, *from, *to))
            }
            Self::Ipsec { protocol, from, to } => (*protocol, *from, *to, vec![7; 32]),
        };
        let sent = inside(netns, || {
            let socket = raw(protocol);
            socket.bind(&SocketAddr::from((from, 0)).into())?;
            socket.send_to(&bytes, &SocketAddr::from((to, 0)).into())
        });
        if let Err(error) = sent {
            return format!("failed: {error}");
        }
        let start = Instant::now();
        while start.elapsed() < patience {
            for (name, socket) in &mut sockets {
                let mut packet = [0; 2048];
                match socket.read(&mut packet) {
                    Ok(len) => {
                        if let Some(seen) = seen(&packet[..len]) {
                            return format!("{name} gets {seen}");
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return format!("{name} cannot listen: {error}"),
                }
            }
            thread::sleep(LOOK);
        }
        "nobody".to_owned()
    }
}

fn raw(protocol: u8) -> Socket {
    let protocol = Protocol::from(i32::from(protocol));
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(protocol)).expect("a raw socket");
    socket.set_nonblocking(true).expect("non-blocking");
    socket
}

fn sctp(chunks: &[u8], damaged: bool, from: SocketAddrV4, to: SocketAddrV4) -> Vec<u8> {
    let mut packet =
        [&from.port().to_be_bytes()[..], &to.port().to_be_bytes(), &[1, 2, 3, 4, 0, 0, 0, 0]].concat();
    for kind in chunks {
        let len = u16::try_from(4 + VALUE.len()).expect("a short chunk");
        packet.extend([&[*kind, 0][..], &len.to_be_bytes(), VALUE].concat());
        packet.resize(packet.len().next_multiple_of(4), 0);
    }
    let sum = crc32c(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&sum);
    if damaged {
        packet[7] ^= 1;
    }
    packet
}

/// CRC32c, bit by bit (RFC 9260, appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

/// A packet in words; none for an ICMP message that is no error.
fn seen(packet: &[u8]) -> Option<String> {
    let ip = Ipv4HeaderSlice::from_slice(packet).ok()?;
    let (from, to) = (ip.source_addr(), ip.destination_addr());
    let rest = packet.get(ip.slice().len()..)?;
    match (ip.protocol().0, rest) {
        (ICMP, &[kind @ (3 | 11 | 12), code, ..]) => Some(format!("ICMP {kind}/{code} from {from}")),
        (ICMP, _) => None,
        (SCTP, rest) if rest.len() >= 12 => {
            let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
            let sum = crc32c(&[&rest[..8], &[0; 4], &rest[12..]].concat()).to_le_bytes();
            let wrong = if sum == rest[8..12] { "" } else { ", with a wrong checksum" };
            Some(format!("SCTP {from}:{} to {to}:{}{wrong}", port(0), port(2)))
        }
        (ESP, _) => Some(format!("ESP {from} to {to}")),
        (AH, _) => Some(format!("AH {from} to {to}")),
        (other, _) => Some(format!("protocol {other} {from} to {to}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_read_by_name() {
        assert_eq!(Bare::chunks("init"), Some((vec![1], false)));
        assert_eq!(Bare::chunks("cookie-echo+abort!"), Some((vec![10, 6], true)));
        assert_eq!(Bare::chunks("none"), Some((vec![], false)));
        assert_eq!(Bare::chunks("init+frob"), None);
    }
}
