//! A director with every method that changes more of a packet than NAT does (FULLNAT between all IP versions, tunnels),
//! clients' addresses told, segment sizes bounded, IPv6 with persistence and a server of its own: in any script each frame
//! has its verdict, and what is sent is right wherever what came was.

use std::net::SocketAddr;

use etherparse::PacketBuilder;
use xvs::director::local::Locals;
use xvs::director::service::{Method, Pool, Protocol, Tunnel, TunnelChecksum};

use super::drive::drive;
use super::forwarded::Forwarded;
use super::script::{Script, dress};
use super::table::{CLIENT_MAC, OUTSIDE_MAC, persistent, sctp, service, udp};

pub fn run(input: &[u8]) {
    drive(Forwarded::new(services()), input, frame, flood);
}

/// Protocol, virtual address, method, servers, and what else there is to it: a switch with its value, or persistence.
type Row = (Protocol, &'static str, Method, &'static [&'static str], (&'static str, &'static str));

const TCP: Protocol = Protocol::Tcp;
const UDP: Protocol = Protocol::Udp;
const SCTP: Protocol = Protocol::Sctp;
const GRE: Tunnel = Tunnel::Gre { checksum: TunnelChecksum::Full };
const GUE: Tunnel = Tunnel::Gue { port: super::sight::GUE_PORT, checksum: TunnelChecksum::Full };
const NONE: (&str, &str) = ("", "");
const PROXY: (&str, &str) = ("client_address", "proxy");
const TOA: (&str, &str) = ("client_address", "toa");
const MSS: (&str, &str) = ("mss_max", "1300");
const PERSISTENCE: (&str, &str) = ("persistence", "100");

const ROWS: [Row; 16] = [
    (TCP, "10.0.0.100:80", Method::FullNat, &["10.1.0.11:8080", "10.1.0.12:8080"], NONE),
    (UDP, "10.0.0.100:53", Method::FullNat, &["10.1.0.11:5353"], PROXY),
    (TCP, "[2001:db8::100]:80", Method::FullNat, &["10.1.0.11:8081", "10.1.0.12:8080"], MSS),
    (UDP, "[2001:db8::100]:53", Method::FullNat, &["10.1.0.11:53"], NONE),
    (TCP, "10.0.0.101:80", Method::FullNat, &["[fd00:1::11]:8080"], NONE),
    (UDP, "10.0.0.101:53", Method::FullNat, &["[fd00:1::11]:5353"], PERSISTENCE),
    (SCTP, "[2001:db8::100]:80", Method::FullNat, &["10.1.0.11:80"], NONE),
    (SCTP, "10.0.0.101:80", Method::FullNat, &["[fd00:1::11]:8080"], NONE),
    (TCP, "10.0.0.102:80", Method::Nat, &["10.1.0.13:80", "10.1.0.14:80"], PROXY),
    (TCP, "[2001:db8::102]:80", Method::FullNat, &["[fd00:1::13]:80"], PROXY),
    (TCP, "10.0.0.103:80", Method::FullNat, &["10.1.0.15:80"], TOA),
    (TCP, "[2001:db8::103]:80", Method::Nat, &["[fd00:1::15]:80"], TOA),
    (TCP, "10.0.0.104:80", Method::Tun(GRE), &["[fd00:1::16]:80", "10.1.0.16:80"], MSS),
    (UDP, "[2001:db8::104]:53", Method::Tun(GUE), &["10.1.0.17:53", "[fd00:1::17]:53"], PERSISTENCE),
    // The director itself, as long as it is: see `Forwarded::change`.
    (TCP, "10.0.0.105:80", Method::Nat, &["10.1.0.1:8080", "10.1.0.18:80"], MSS),
    (TCP, "[2001:db8::105]:80", Method::Nat, &["[fd00:1::18]:8080", "[fd00:1::19]:8080"], PERSISTENCE),
];

/// What FULLNAT sends from, of either version: few ports, so that they run out.
const LOCALS: [&str; 2] = ["10.1.0.2", "fd00:1::2"];
const LOCAL_PORT: u16 = 5000;

fn services() -> Vec<Pool> {
    let kinds = xvs::director::sched::Kind::ALL.iter().cycle();
    let build = |(&(protocol, vip, method, servers, (what, value)), &scheduler): (&Row, _)| {
        let servers: Vec<_> = servers.iter().map(|&server| (server, 2)).collect();
        let mut pool = service(protocol, vip, method, &servers);
        pool.service.scheduler = scheduler;
        if method == Method::FullNat {
            let locals = LOCALS.map(|ip| ip.parse().expect("an address"));
            pool.service.locals = Locals::new(&locals, "5000-5003".parse().expect("ports")).expect("locals");
        }
        match what {
            "" => pool,
            "persistence" => persistent(pool, value.parse().expect("seconds")),
            _ => {
                pool.service.switches.set(what, value).expect("a switch");
                pool
            }
        }
    };
    ROWS.iter().zip(kinds).map(build).collect()
}

fn client(is_v4: bool, n: usize) -> String {
    let port = 4000 + n;
    if is_v4 {
        format!("192.0.2.{}:{port}", n / 2 + 1)
    } else {
        format!("[2001:db8:7::{}]:{port}", n / 2 + 1)
    }
}

/// A SYN, or a datagram, of the nth client of a flood.
fn flood(service: usize, n: u32) -> Vec<u8> {
    let (protocol, vip, ..) = ROWS[service * 2];
    let (high, low) = (n >> 8 & 0xff, n & 0xff);
    let is_v4 = !vip.starts_with('[');
    let from = if is_v4 { format!("198.18.{high}.{low}:9") } else { format!("[2001:db8:8::{n:x}]:9") };
    match protocol {
        Protocol::Tcp => segment(&from, vip, 2, (0, 0), b""),
        Protocol::Udp => udp(&from, vip, b"flood"),
        Protocol::Sctp => sctp(&from, vip, &[(1, b"flood")]),
    }
}

/// Of `where`, the third byte of a frame.
pub const REPLY: u8 = 16;
pub const OTHER_SERVER: u8 = 32;

/// A frame. Four bytes, then the shape as for [`engine`](super::engine):
///
/// - the service in bits 0-3, and that it is a reply in 4, of the service's other server in 5; the client in 6-7, whose
///   place in a reply of FULLNAT a local port has;
/// - TCP's flags in 0-5, or SCTP's first chunk in 0-3; then [`FRAGMENT`](super::script::FRAGMENT) and
///   [`ERROR`](super::script::ERROR);
/// - how far the stream is for TCP: bytes sent in 0-2 and acknowledged in 3-5, as [`STEPS`]; how long the payload in 6-7.
fn frame(script: &mut Script<'_>) -> Vec<u8> {
    let (ends, flags, place, shape) = (script.byte(), script.byte(), script.byte(), script.byte());
    let (protocol, vip, method, servers, _) = ROWS[usize::from(ends & 15)];
    let number = usize::from(ends >> 6);
    let server = servers[usize::from(ends & OTHER_SERVER != 0) % servers.len()];
    let is_v4 = !vip.starts_with('[');
    let client = client(is_v4, number);
    let (from, to) = match (ends & REPLY != 0, method) {
        (false, _) => (client, vip.to_owned()),
        (true, Method::FullNat) => {
            let port = usize::from(LOCAL_PORT) + number;
            let to = if server.starts_with('[') {
                format!("[{}]:{port}", LOCALS[1])
            } else {
                format!("{}:{port}", LOCALS[0])
            };
            (server.to_owned(), to)
        }
        // A server behind a tunnel answers as the virtual address, and by another way.
        (true, Method::Tun(_)) => (vip.to_owned(), client),
        (true, _) => (server.to_owned(), client),
    };
    let payload: &[u8] = [&b""[..], b"odd", b"some longer text", &[0x5a; 1290]][usize::from(place >> 6)];
    let frame = match protocol {
        Protocol::Tcp => segment(&from, &to, flags & 0x3f, (place & 7, place >> 3 & 7), payload),
        Protocol::Udp => udp(&from, &to, payload),
        Protocol::Sctp => sctp(&from, &to, &[(flags & 15, payload), (0, b"behind")]),
    };
    dress(script, frame, flags, shape)
}

/// How far a stream may be from its first byte: at the SYN, behind it, behind some payloads, behind PROXY headers too, and
/// before all that.
const STEPS: [u32; 8] = [0, 1, 4, 17, 29, 32, 53, u32::MAX];

/// A TCP segment with options, so many steps into the stream.
fn segment(from: &str, to: &str, flags: u8, (seq, ack): (u8, u8), payload: &[u8]) -> Vec<u8> {
    const SYN_OPTIONS: &[u8] = &[2, 4, 5, 0xb4, 4, 2, 1, 1];
    // A forged client's address, and blocks that were received.
    const OPTIONS: &[u8] = &[254, 8, 0, 80, 8, 8, 8, 8, 5, 10, 0, 0, 0, 9, 0, 0, 0, 99, 1, 1];
    let (from, to): (SocketAddr, SocketAddr) = (from.parse().expect("a source"), to.parse().expect("an end"));
    let builder = PacketBuilder::ethernet2(CLIENT_MAC, OUTSIDE_MAC);
    let builder = match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => builder.ipv4(from.ip().octets(), to.ip().octets(), 64),
        (SocketAddr::V6(from), SocketAddr::V6(to)) => builder.ipv6(from.ip().octets(), to.ip().octets(), 64),
        _ => panic!("{from} and {to} are of two versions"),
    };
    let number = |step: u8| 1000u32.wrapping_add(STEPS[usize::from(step)]);
    let mut tcp = etherparse::TcpHeader::new(from.port(), to.port(), number(seq), 8192);
    (tcp.fin, tcp.syn, tcp.rst) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
    (tcp.psh, tcp.ack, tcp.urg) = (flags & 8 != 0, flags & 16 != 0, flags & 32 != 0);
    (tcp.acknowledgment_number, tcp.urgent_pointer) = (number(ack), u16::from(tcp.urg) * 2);
    tcp.set_options_raw(if tcp.syn { SYN_OPTIONS } else { OPTIONS }).expect("short options");
    let mut frame = Vec::new();
    builder.tcp_header(tcp).write(&mut frame, payload).expect("a short packet");
    frame
}
