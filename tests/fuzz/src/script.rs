//! Engine inputs: a script of frames, batches, waits and changes of the world around, one byte an order.
//!
//! ```text
//! order & 7   then
//! 0, 1, 2     a frame: ends, flags, shape; see `Frame`
//! 3           a raw frame: length, bytes
//! 4           send what there is as one batch: bit 0 worker, bit 1 interface, bit 2 rest afterwards
//! 5           wait: bits 0-5 n, for n * n ticks in n steps; bit 6 in one leap; bit 7 worker 1 sleeps
//! 6           routes and neighbours change: bits 0-3 how
//! 7           a flood of SYNs: bits 0-2 service, bits 3-7 how many more than one
//! ```
//!
//! Any bytes are a script, and a byte changed in one leaves most of it as it was. What is missing at the end
//! reads as zero.

use xvs::director::service::{Method, Pool, Protocol};
use xvs::packet::checksum;

use super::table::{ip, sctp, service, tcp, udp};

/// Orders carried out of one script: enough for every state and a full table, few enough to be quick.
pub const MAX_ORDERS: usize = 256;

/// What one order says.
#[derive(Debug)]
pub enum Order {
    Frame(Vec<u8>),
    Send { worker: usize, port: u16, rest: bool },
    Wait { steps: u64, leap: bool, asleep: bool },
    Change(u8),
    Flood { service: usize, count: u8 },
}

/// The bytes of a script that have not been read, and what its frames are.
#[derive(Debug)]
pub struct Script<'i>(pub &'i [u8], pub fn(&mut Script<'_>) -> Vec<u8>);

impl Script<'_> {
    pub fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes.to_vec()
    }
}

impl Iterator for Script<'_> {
    type Item = Order;

    fn next(&mut self) -> Option<Order> {
        if self.0.is_empty() {
            return None;
        }
        Some(match self.byte() & 7 {
            0..=2 => Order::Frame((self.1)(self)),
            3 => {
                let len = self.byte();
                Order::Frame(self.bytes(len.into()))
            }
            4 => {
                let how = self.byte();
                Order::Send { worker: (how & 1).into(), port: (how >> 1 & 1).into(), rest: how & 4 != 0 }
            }
            5 => {
                let how = self.byte();
                Order::Wait { steps: (how & 63).into(), leap: how & 64 != 0, asleep: how & 128 != 0 }
            }
            6 => Order::Change(self.byte() & 15),
            _ => {
                let how = self.byte();
                Order::Flood { service: (how & 7).into(), count: (how >> 3) + 1 }
            }
        })
    }
}

type Row = (Protocol, &'static str, Method, &'static [(&'static str, u32)]);

const SERVICES: [Row; 8] = [
    (Protocol::Tcp, "10.0.0.100:80", Method::Nat, &[("10.1.0.11:8080", 1), ("10.1.0.12:8081", 3)]),
    (Protocol::Tcp, "10.0.0.101:80", Method::Dr, &[("10.1.0.11:80", 1), ("10.1.0.13:80", 1)]),
    (Protocol::Udp, "10.0.0.100:53", Method::Nat, &[("10.1.0.11:5353", 1), ("10.1.0.12:5353", 2)]),
    (Protocol::Udp, "10.0.0.101:53", Method::Dr, &[("10.1.0.11:53", 1)]),
    // The servers of the first: replies of both would carry the same tuple.
    (Protocol::Tcp, "10.0.0.102:80", Method::Nat, &[("10.1.0.11:8080", 1), ("10.1.0.12:8081", 1)]),
    (Protocol::Udp, "10.0.0.102:53", Method::Nat, &[("10.1.0.11:5353", 1)]),
    // Port and address unchanged but for one.
    (Protocol::Tcp, "10.0.0.103:80", Method::Nat, &[("10.1.0.14:80", 1), ("10.1.0.15:80", 0)]),
    (Protocol::Tcp, "10.0.0.104:80", Method::Nat, &[("10.1.0.11:80", 0)]),
];

/// The IPv6 end that stands for an IPv4 one.
fn six(end: &str) -> String {
    let (address, port) = end.split_once(':').expect("a port");
    let (network, last) = address.rsplit_once('.').expect("an address");
    let network = match network {
        "10.0.0" => "2001:db8:",
        "10.1.0" => "fd00:1:",
        _ => "2001:db8:7:",
    };
    format!("[{network}:{last}]:{port}")
}

/// The services of every script, each with another scheduler; the same of SCTP; and all but those over IPv6.
pub fn services() -> Vec<Pool> {
    let mut all = services_v4();
    all.extend(SERVICES.iter().map(|&(protocol, address, method, servers)| {
        let servers: Vec<(String, u32)> = servers.iter().map(|(ip, weight)| (six(ip), *weight)).collect();
        let servers: Vec<(&str, u32)> = servers.iter().map(|(ip, weight)| (&ip[..], *weight)).collect();
        service(protocol, &six(address), method, &servers)
    }));
    all
}

fn services_v4() -> Vec<Pool> {
    let kinds = xvs::director::sched::Kind::ALL.iter().cycle();
    let build = |(&(protocol, address, method, servers), &scheduler)| {
        [protocol, Protocol::Sctp].map(|protocol| {
            let mut pool = service(protocol, address, method, servers);
            pool.service.scheduler = scheduler;
            pool
        })
    };
    SERVICES.iter().zip(kinds).flat_map(build).collect()
}

/// A SYN, or a datagram, of the nth client of a flood.
pub fn flood(service: usize, n: u32) -> Vec<u8> {
    let (protocol, address, ..) = SERVICES[service];
    let client = format!("198.18.{}.{}:9", n >> 8 & 0xff, n & 0xff);
    if protocol == Protocol::Tcp { tcp(&client, address, "S") } else { udp(&client, address, b"flood") }
}

/// What may be done to a good packet, bit by bit of its shape.
pub mod shape {
    pub const VLAN: u8 = 1;
    pub const IP_OPTIONS: u8 = 2;
    pub const LAST_TTL: u8 = 4;
    pub const PADDED: u8 = 8;
    /// Followed by a number and that many pairs of place and value.
    pub const EDITED: u8 = 16;
    /// After the edits the transport checksum is made right.
    pub const MENDED: u8 = 32;
    /// Followed by the length that is left.
    pub const TRUNCATED: u8 = 64;
    /// After the edits the IP header checksum is left as it is. Otherwise it is right, as a hostile sender would
    /// have it.
    pub const BAD_IP_CHECKSUM: u8 = 128;
}

/// Of `flags`.
pub const SCTP: u8 = 32;
pub const SIX: u8 = 8;
pub const FRAGMENT: u8 = 64;
pub const ERROR: u8 = 128;

/// A frame: `ends` has the service in bits 0-2, the client in 3-5, a reply's server in 7 and in 6 that it is one;
/// `flags` are TCP's, or, with bit 5, it is SCTP and bits 0-3 are its first chunk, 15 for none; if it is not, bit 3 is
/// that it goes over IPv6, bit 6 that it has a Fragment header then, and bit 7 that it is an ICMP error about such a
/// packet; then the shape.
pub fn frame(script: &mut Script<'_>) -> Vec<u8> {
    let (ends, flags, shape) = (script.byte(), script.byte(), script.byte());
    let (protocol, address, _, servers) = SERVICES[usize::from(ends & 7)];
    // One client lives among the servers.
    let client = match ends >> 3 & 7 {
        7 => "10.1.0.20:4000".to_owned(),
        n => format!("192.0.2.{}:{}", n / 2 + 1, 4000 + u16::from(n)),
    };
    let server = servers[usize::from(ends >> 7) % servers.len()].0;
    let (from, to) = if ends & 64 != 0 { (server, &client[..]) } else { (&client[..], address) };
    let is_six = flags & (SIX | SCTP) == SIX;
    let (six_from, six_to) = (six(from), six(to));
    let (from, to) = if is_six { (&six_from[..], &six_to[..]) } else { (from, to) };
    let frame = if flags & SCTP != 0 {
        let second = [(flags >> 6 == 1).then_some((6, &b""[..])), (flags >> 6 == 2).then_some((0, b"odd"))];
        let first = Some((flags & 15, &b"question"[..])).filter(|(kind, _)| *kind < 15);
        let chunks: Vec<_> = [first].into_iter().chain(second).flatten().collect();
        sctp(from, to, &chunks)
    } else if protocol == Protocol::Tcp {
        let letters = [(1, 'F'), (2, 'S'), (4, 'R'), (16, 'A')];
        let set: String = letters.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, l)| l).collect();
        tcp(from, to, &set)
    } else {
        udp(from, to, if flags & 1 == 0 { b"question" } else { b"odd" })
    };
    // SCTP has other bits for its flags.
    dress(script, frame, if flags & SCTP == 0 { flags } else { 0 }, shape)
}

/// Does to a good packet what its flags, of [`FRAGMENT`] and [`ERROR`], and its shape say.
pub fn dress(script: &mut Script<'_>, mut frame: Vec<u8>, flags: u8, shape: u8) -> Vec<u8> {
    let mut l3 = 14;
    let is_six = frame[l3] >> 4 == 6;
    if is_six && flags & FRAGMENT != 0 {
        extend(&mut frame, 44, [0; 7]);
    }
    if is_six && shape & shape::IP_OPTIONS != 0 {
        extend(&mut frame, 60, [0, 1, 4, 0, 0, 0, 0]);
    } else if shape & shape::IP_OPTIONS != 0 {
        frame.splice(34..34, [1, 1, 1, 0]); // three times no operation, then the end
        frame[l3] += 1;
        frame[l3 + 3] += 4;
    }
    if flags & ERROR != 0 {
        super::wire::mend_ip(&mut frame, l3);
        frame = error(&frame);
    }
    if shape & shape::LAST_TTL != 0 {
        frame[l3 + if is_six { 7 } else { 8 }] = 1;
    }
    if shape & shape::VLAN != 0 {
        frame.splice(12..12, [0x81, 0, 0, 7]);
        l3 += 4;
    }
    if shape & shape::PADDED != 0 {
        frame.extend([0x5a; 7]);
    }
    if shape & shape::EDITED != 0 {
        for _ in 0..=script.byte() & 7 {
            let (at, value) = (script.byte(), script.byte());
            let at = usize::from(at) % frame.len();
            frame[at] = value;
        }
    }
    if shape & shape::BAD_IP_CHECKSUM == 0 {
        super::wire::mend_ip(&mut frame, l3);
    }
    if shape & shape::MENDED != 0 {
        super::wire::mend_transport(&mut frame);
    }
    if shape & shape::TRUNCATED != 0 {
        frame.truncate(script.byte().into());
    }
    frame
}

/// Puts an extension header in front of what is behind the IPv6 header.
pub fn extend(frame: &mut Vec<u8>, number: u8, rest: [u8; 7]) {
    let next = std::mem::replace(&mut frame[20], number);
    frame.splice(54..54, [&[next][..], &rest].concat());
    frame[19] += 8; // short packets
}

/// An ICMP error about a packet, to who sent it: it is too big.
pub fn error(about: &[u8]) -> Vec<u8> {
    let quote = &about[14..];
    let (from, to, protocol, kind) = if about[14] >> 4 == 6 {
        let to = <[u8; 16]>::try_from(&quote[8..24]).expect("an address");
        ("2001:db8:5::1".parse().expect("an address"), to.into(), 58, [2, 0])
    } else {
        let to = <[u8; 4]>::try_from(&quote[12..16]).expect("an address");
        ([198, 51, 100, 1].into(), to.into(), 1, [3, 4])
    };
    let mut message = [&kind[..], &[0; 4], &1400u16.to_be_bytes(), quote].concat();
    let sum = if protocol == 1 {
        checksum::of(&message)
    } else {
        checksum::of_transport(from, to, protocol, &message)
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ip(from, to, protocol, &message)
}
