//! ICMP errors as hosts get them, and packets that no program of theirs would send.
//!
//! Must not know what is between the hosts.

use std::io::{ErrorKind, Read as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use etherparse::{IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv4HeaderSlice, PacketBuilder};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::inside;
use crate::script::{Forged, Transport};

/// How long errors may take to who they are for.
const SETTLE: Duration = Duration::from_millis(200);
/// Bytes in a long datagram.
const LONG: usize = 1450;
/// For what is sent by hand.
const TTL: u8 = 64;

/// Hears the ICMP errors that hosts get.
#[derive(Debug)]
pub struct Ears {
    hosts: Vec<(&'static str, Socket)>,
}

impl Ears {
    /// In each of these hosts: its name and its network namespace.
    pub fn new(hosts: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let listen = |netns: &str| {
            inside(netns, || {
                let socket =
                    Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).expect("a raw socket");
                socket.set_nonblocking(true).expect("non-blocking");
                socket
            })
        };
        Self { hosts: hosts.into_iter().map(|(name, netns)| (name, listen(&netns))).collect() }
    }

    /// What each host has got since this was asked last, host by host.
    pub fn heard(&mut self) -> Vec<String> {
        std::thread::sleep(SETTLE);
        let mut all = Vec::new();
        for (name, socket) in &mut self.hosts {
            let mut packet = [0; 2048];
            loop {
                match socket.read(&mut packet) {
                    Ok(len) => all.extend(told(&packet[..len]).map(|what| format!("{name} hears {what}"))),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{name} cannot listen: {error}"),
                }
            }
        }
        all
    }
}

/// An ICMP error in words, with its checksums if they are wrong; none for any other message.
fn told(packet: &[u8]) -> Option<String> {
    let ip = Ipv4HeaderSlice::from_slice(packet).ok()?;
    let message = packet.get(ip.slice().len()..)?;
    let (head, quote) = message.split_at_checked(8)?;
    if !matches!(head[0], 3 | 4 | 5 | 11 | 12) {
        return None;
    }
    let mut words = format!("{}: {}/{}", ip.source_addr(), head[0], head[1]);
    if head[..2] == [3, 4] {
        words += &format!(" mtu {}", u16::from_be_bytes([head[6], head[7]]));
    }
    let quoted = Ipv4HeaderSlice::from_slice(quote).ok()?;
    let ports = quote.get(quoted.slice().len()..)?;
    let port = |at: usize| match u16::from_be_bytes([ports[at], ports[at + 1]]) {
        // As in a listing of connections: chosen by a kernel.
        32_000.. => "*".to_owned(),
        port => port.to_string(),
    };
    let protocol = match quoted.protocol() {
        IpNumber::TCP => "tcp".to_owned(),
        IpNumber::UDP => "udp".to_owned(),
        IpNumber(other) => other.to_string(),
    };
    let (from, to) = (quoted.source_addr(), quoted.destination_addr());
    words += &format!(" about {protocol} {from}:{} to {to}:{}", port(0), port(2));
    let quoted_header = quoted.to_header();
    if sum(message) != 0xffff || quoted_header.calc_header_checksum() != quoted_header.header_checksum {
        words += ", with a wrong checksum";
    }
    Some(words)
}

/// Sums as a checksum does (RFC 1071): all ones over a message that has its own.
fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|w| u32::from(w[0]) << 8 | w.get(1).map_or(0, |low| u32::from(*low)));
    let total: u32 = words.sum();
    let folded = (total & 0xffff) + (total >> 16);
    (folded & 0xffff) + (folded >> 16)
}

/// Sends a packet from `netns` as it is: whatever address it says it comes from.
pub fn forge(netns: &str, forged: &Forged) -> std::io::Result<()> {
    let (to, packet) = match forged {
        Forged::Packet(transport, from, to) => (*to.ip(), packet(*transport, *from, *to)),
        Forged::Error { kind, router, transport, from, to } => {
            (*from.ip(), error(*kind, *router, *from.ip(), &packet(*transport, *from, *to)))
        }
    };
    inside(netns, || {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)))?;
        socket.send_to(&packet, &SocketAddr::from((to, 0)).into()).map(drop)
    })
}

fn header(protocol: IpNumber, from: Ipv4Addr, to: Ipv4Addr) -> IpHeaders {
    let header = Ipv4Header::new(0, TTL, protocol, from.octets(), to.octets()).expect("a short header");
    IpHeaders::Ipv4(header, Ipv4Extensions::default())
}

fn packet(transport: Transport, from: SocketAddrV4, to: SocketAddrV4) -> Vec<u8> {
    let mut bytes = Vec::new();
    match transport {
        Transport::Udp | Transport::Long => {
            let len = if transport == Transport::Long { LONG } else { 8 };
            PacketBuilder::ip(header(IpNumber::UDP, *from.ip(), *to.ip()))
                .udp(from.port(), to.port())
                .write(&mut bytes, &vec![b'x'; len])
        }
        Transport::Tcp { syn, ack, rst } => {
            let builder = PacketBuilder::ip(header(IpNumber::TCP, *from.ip(), *to.ip()));
            let mut builder = builder.tcp(from.port(), to.port(), 1, 1024);
            builder = if syn { builder.syn() } else { builder };
            builder = if ack { builder.ack(1) } else { builder };
            builder = if rst { builder.rst() } else { builder };
            builder.write(&mut bytes, &[])
        }
    }
    .expect("a Vec takes all");
    bytes
}

fn error((kind, code): (u8, u8), router: Ipv4Addr, to: Ipv4Addr, quoted: &[u8]) -> Vec<u8> {
    // The MTU that fragmentation needed speaks of: 1400.
    let second = if (kind, code) == (3, 4) { [0, 0, 5, 120] } else { [0; 4] };
    let mut bytes = Vec::new();
    PacketBuilder::ip(header(IpNumber::ICMP, router, to))
        .icmpv4_raw(kind, code, second)
        .write(&mut bytes, quoted)
        .expect("a Vec takes all");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_by_hand_is_heard_as_what_it_is() {
        let at = |text: &str| text.parse::<SocketAddrV4>().expect("address and port");
        let quoted = packet(Transport::Udp, at("10.0.1.1:5001"), at("10.0.0.100:53"));
        let router = Ipv4Addr::new(10, 0, 0, 100);
        let mut bytes = error((3, 4), router, Ipv4Addr::new(10, 0, 1, 1), &quoted);
        let words = "10.0.0.100: 3/4 mtu 1400 about udp 10.0.1.1:5001 to 10.0.0.100:53";
        assert_eq!(told(&bytes).as_deref(), Some(words));
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert_eq!(told(&bytes), Some(format!("{words}, with a wrong checksum")));
        let echo = error((8, 0), router, router, &quoted);
        assert_eq!(told(&echo), None);
    }
}
