//! ICMP errors as hosts get them, and packets that no program of theirs would send.
//!
//! Must not know what is between the hosts.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use etherparse::{IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice, PacketBuilder, PacketBuilderStep};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::inside;
use crate::script::{Forged, Transport};

/// How long errors may take to who they are for.
const SETTLE: Duration = Duration::from_millis(200);
/// Bytes in a long datagram.
const LONG: usize = 1450;
/// For what is sent by hand.
const TTL: u8 = 64;
/// That fragmentation needed and packet too big speak of.
const MTU: u16 = 1400;

/// Hears the ICMP errors that hosts get.
#[derive(Debug)]
pub struct Ears {
    /// With raw sockets, of which only the addresses of senders are asked as UDP's would be.
    hosts: Vec<(&'static str, [UdpSocket; 2])>,
}

impl Ears {
    /// In each of these hosts: its name and its network namespace.
    pub fn new(hosts: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let listen = |netns: &str| {
            inside(netns, || {
                [(Domain::IPV4, Protocol::ICMPV4), (Domain::IPV6, Protocol::ICMPV6)].map(
                    |(domain, protocol)| {
                        let socket = Socket::new(domain, Type::RAW, Some(protocol)).expect("a raw socket");
                        socket.set_nonblocking(true).expect("non-blocking");
                        UdpSocket::from(socket)
                    },
                )
            })
        };
        Self { hosts: hosts.into_iter().map(|(name, netns)| (name, listen(&netns))).collect() }
    }

    /// What each host has got since this was asked last, host by host.
    pub fn heard(&mut self) -> Vec<String> {
        std::thread::sleep(SETTLE);
        let mut all = Vec::new();
        for (name, sockets) in &self.hosts {
            for socket in sockets {
                let mut packet = [0; 2048];
                loop {
                    let (len, from) = match socket.recv_from(&mut packet) {
                        Ok((len, from)) => (len, from.ip()),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => panic!("{name} cannot listen: {error}"),
                    };
                    let packet = &packet[..len];
                    let words = if from.is_ipv4() { told(packet) } else { told_v6(from, packet) };
                    all.extend(words.map(|what| format!("{name} hears {what}")));
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
    words +=
        &about(quoted.protocol(), [quoted.source_addr().into(), quoted.destination_addr().into()], ports)?;
    let quoted_header = quoted.to_header();
    if sum(message) != 0xffff || quoted_header.calc_header_checksum() != quoted_header.header_checksum {
        words += ", with a wrong checksum";
    }
    Some(words)
}

/// As [`told`], of ICMPv6, whose sockets show no header and no message with a wrong checksum.
fn told_v6(from: IpAddr, message: &[u8]) -> Option<String> {
    const FRAGMENT_LEN: usize = 8;
    let (head, quote) = message.split_at_checked(8)?;
    if !(1..=4).contains(&head[0]) {
        return None;
    }
    let mut words = format!("{from}: {}/{}", head[0], head[1]);
    if head[0] == 2 {
        words += &format!(" mtu {}", u32::from_be_bytes([head[4], head[5], head[6], head[7]]));
    }
    let quoted = Ipv6HeaderSlice::from_slice(quote).ok()?;
    let mut behind = quote.get(quoted.slice().len()..)?;
    let mut protocol = quoted.next_header();
    if protocol == IpNumber::IPV6_FRAGMENTATION_HEADER {
        protocol = IpNumber(*behind.first()?);
        behind = behind.get(FRAGMENT_LEN..)?;
        words += " about a fragment,";
    }
    let ends = [quoted.source_addr().into(), quoted.destination_addr().into()];
    Some(words + &about(protocol, ends, behind)?)
}

/// Which packet an error is about, in words.
fn about(protocol: IpNumber, [from, to]: [IpAddr; 2], ports: &[u8]) -> Option<String> {
    let &[a, b, c, d] = ports.first_chunk()?;
    let end = |ip: IpAddr, port: [u8; 2]| {
        let port = match u16::from_be_bytes(port) {
            // As in a listing of connections: chosen by a kernel.
            32_000.. => "*".to_owned(),
            port => port.to_string(),
        };
        if ip.is_ipv4() { format!("{ip}:{port}") } else { format!("[{ip}]:{port}") }
    };
    let protocol = match protocol {
        IpNumber::TCP => "tcp".to_owned(),
        IpNumber::UDP => "udp".to_owned(),
        IpNumber(other) => other.to_string(),
    };
    Some(format!(" about {protocol} {} to {}", end(from, [a, b]), end(to, [c, d])))
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
        Forged::Packet(transport, from, to) => (to.ip(), packet(*transport, *from, *to)),
        Forged::Error { kind, router, transport, from, to } => {
            (from.ip(), error(*kind, *router, from.ip(), &packet(*transport, *from, *to)))
        }
    };
    inside(netns, || {
        let domain = if to.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(255)))?;
        socket.send_to(&packet, &SocketAddr::from((to, 0)).into()).map(drop)
    })
}

fn header(from: IpAddr, to: IpAddr) -> PacketBuilderStep<etherparse::IpHeaders> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), TTL),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), TTL),
        _ => panic!("{from} and {to} are of two versions"),
    }
}

fn packet(transport: Transport, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::new();
    let header = header(from.ip(), to.ip());
    match transport {
        Transport::Udp | Transport::Long => {
            let len = if transport == Transport::Long { LONG } else { 8 };
            header.udp(from.port(), to.port()).write(&mut bytes, &vec![b'x'; len])
        }
        Transport::Tcp { syn, ack, rst } => {
            let mut builder = header.tcp(from.port(), to.port(), 1, 1024);
            builder = if syn { builder.syn() } else { builder };
            builder = if ack { builder.ack(1) } else { builder };
            builder = if rst { builder.rst() } else { builder };
            builder.write(&mut bytes, &[])
        }
    }
    .expect("a Vec takes all");
    bytes
}

fn error((kind, code): (u8, u8), router: IpAddr, to: IpAddr, quoted: &[u8]) -> Vec<u8> {
    let is_about_mtu = matches!((router.is_ipv4(), kind, code), (true, 3, 4) | (false, 2, 0));
    let [high, low] = if is_about_mtu { MTU } else { 0 }.to_be_bytes();
    let second = [0, 0, high, low];
    let mut bytes = Vec::new();
    let header = header(router, to);
    if router.is_ipv4() {
        header.icmpv4_raw(kind, code, second).write(&mut bytes, quoted)
    } else {
        header.icmpv6_raw(kind, code, second).write(&mut bytes, quoted)
    }
    .expect("a Vec takes all");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_by_hand_is_heard_as_what_it_is() {
        let at = |text: &str| text.parse::<SocketAddr>().expect("address and port");
        let quoted = packet(Transport::Udp, at("10.0.1.1:5001"), at("10.0.0.100:53"));
        let router = at("10.0.0.100:0").ip();
        let mut bytes = error((3, 4), router, at("10.0.1.1:5001").ip(), &quoted);
        let words = "10.0.0.100: 3/4 mtu 1400 about udp 10.0.1.1:5001 to 10.0.0.100:53";
        assert_eq!(told(&bytes).as_deref(), Some(words));
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert_eq!(told(&bytes), Some(format!("{words}, with a wrong checksum")));
        let echo = error((8, 0), router, router, &quoted);
        assert_eq!(told(&echo), None);

        let quoted = packet(Transport::Udp, at("[fd00::1:1]:5001"), at("[fd00::100]:53"));
        let router = at("[fd00::100]:0").ip();
        let bytes = error((2, 0), router, at("[fd00::1:1]:0").ip(), &quoted);
        let words = "fd00::100: 2/0 mtu 1400 about udp [fd00::1:1]:5001 to [fd00::100]:53";
        assert_eq!(told_v6(router, &bytes[40..]).as_deref(), Some(words));
    }
}
