//! The kinds of connections that may be offloaded: each method, protocol and version of IP, and a connection of one.

use xvs::director::local::Locals;
use xvs::director::service::{Method, Pool, Protocol, Tunnel, TunnelChecksum};

use crate::table::{sctp, service, tcp, udp};

/// A service with one server.
#[derive(Debug)]
pub struct Kind {
    pub protocol: Protocol,
    pub vip: &'static str,
    pub method: Method,
    pub server: &'static str,
}

const IPIP: Method = Method::Tun(Tunnel::Ipip);
const GRE: Method = Method::Tun(Tunnel::Gre { checksum: TunnelChecksum::None });
const GUE: Method = Method::Tun(Tunnel::Gue { port: 6080, checksum: TunnelChecksum::None });

const fn kind(protocol: Protocol, vip: &'static str, method: Method, server: &'static str) -> Kind {
    Kind { protocol, vip, method, server }
}

/// All of them. The first one is NAT with TCP over IPv4.
pub const KINDS: &[Kind] = &[
    kind(Protocol::Tcp, "10.0.0.100:80", Method::Nat, "10.1.0.11:8080"),
    kind(Protocol::Tcp, "10.0.0.101:80", Method::Dr, "10.1.0.12:80"),
    kind(Protocol::Udp, "10.0.0.100:53", Method::Nat, "10.1.0.11:5353"),
    kind(Protocol::Udp, "10.0.0.101:53", Method::Dr, "10.1.0.12:53"),
    kind(Protocol::Tcp, "10.0.0.104:80", Method::FullNat, "10.1.0.16:8080"),
    kind(Protocol::Tcp, "10.0.0.102:80", IPIP, "10.1.0.13:80"),
    kind(Protocol::Udp, "10.0.0.102:53", GRE, "10.1.0.14:53"),
    kind(Protocol::Tcp, "10.0.0.103:80", GUE, "10.1.0.15:80"),
    // A CRC that does not know addresses: as long as the ports stay.
    kind(Protocol::Sctp, "10.0.0.100:80", Method::Nat, "10.1.0.11:80"),
    kind(Protocol::Sctp, "10.0.0.101:80", Method::Dr, "10.1.0.12:80"),
    kind(Protocol::Sctp, "10.0.0.102:80", GUE, "10.1.0.13:80"),
    // IPv4 in IPv6.
    kind(Protocol::Tcp, "10.0.0.105:80", IPIP, "[fd00:1::13]:80"),
    kind(Protocol::Udp, "10.0.0.105:53", GRE, "[fd00:1::14]:53"),
    kind(Protocol::Udp, "10.0.0.106:53", GUE, "[fd00:1::15]:53"),
    kind(Protocol::Tcp, "[2001:db8::100]:80", Method::Nat, "[fd00:1::11]:8080"),
    kind(Protocol::Tcp, "[2001:db8::101]:80", Method::Dr, "[fd00:1::12]:80"),
    kind(Protocol::Udp, "[2001:db8::100]:53", Method::Nat, "[fd00:1::11]:5353"),
    kind(Protocol::Udp, "[2001:db8::101]:53", Method::Dr, "[fd00:1::12]:53"),
    kind(Protocol::Tcp, "[2001:db8::104]:80", Method::FullNat, "[fd00:1::16]:8080"),
    kind(Protocol::Udp, "[2001:db8::104]:53", Method::FullNat, "[fd00:1::16]:5353"),
    kind(Protocol::Tcp, "[2001:db8::102]:80", IPIP, "[fd00:1::13]:80"),
    kind(Protocol::Udp, "[2001:db8::102]:53", GRE, "[fd00:1::14]:53"),
    kind(Protocol::Tcp, "[2001:db8::103]:80", GUE, "[fd00:1::15]:80"),
    kind(Protocol::Sctp, "[2001:db8::100]:80", Method::Nat, "[fd00:1::11]:80"),
    kind(Protocol::Sctp, "[2001:db8::101]:80", Method::Dr, "[fd00:1::12]:80"),
    kind(Protocol::Sctp, "[2001:db8::102]:80", IPIP, "[fd00:1::13]:80"),
    // IPv6 in IPv4.
    kind(Protocol::Tcp, "[2001:db8::105]:80", IPIP, "10.1.0.17:80"),
    kind(Protocol::Udp, "[2001:db8::105]:53", GRE, "10.1.0.18:53"),
    kind(Protocol::Udp, "[2001:db8::106]:53", GUE, "10.1.0.19:53"),
];

impl Kind {
    pub fn pool(&self) -> Pool {
        let mut pool = service(self.protocol, self.vip, self.method, &[(self.server, 1)]);
        if self.method == Method::FullNat {
            let local = if self.is_v4() { "10.1.0.2" } else { "fd00:1::2" };
            pool.service.locals =
                Locals::new(&[local.parse().unwrap()], "5000-5999".parse().unwrap()).unwrap();
        }
        pool
    }

    pub fn is_v4(&self) -> bool {
        !self.vip.starts_with('[')
    }

    pub fn is_wrapped(&self) -> bool {
        matches!(self.method, Method::Tun(_))
    }

    pub fn is_tcp(&self) -> bool {
        self.protocol == Protocol::Tcp
    }

    /// Where the transport header begins in a frame.
    pub fn l4(&self) -> usize {
        super::IP + if self.is_v4() { 20 } else { 40 }
    }
}

/// A connection of a client's.
#[derive(Clone, Debug)]
pub struct Flow {
    pub client: String,
    pub kind: &'static Kind,
    /// Whom the server answers to, if its packets come through the director: known once there is the connection.
    pub back: Option<String>,
}

impl Flow {
    /// One of each kind, and others with higher numbers.
    pub fn of(number: usize) -> Self {
        let kind = &KINDS[number % KINDS.len()];
        let host = if kind.is_v4() {
            format!("192.0.2.{}", number % 200 + 1)
        } else {
            format!("[2001:db8:7::{:x}]", number % 60_000 + 1)
        };
        Self { client: format!("{host}:{}", 20_000 + number % 40_000), kind, back: None }
    }

    pub fn frame(&self, from: &str, to: &str) -> Vec<u8> {
        match self.kind.protocol {
            Protocol::Tcp => tcp(from, to, "A"),
            Protocol::Udp => udp(from, to, b"some payload, or none"),
            Protocol::Sctp => sctp(from, to, &[(0, b"some data"), (3, b"and a SACK")]),
        }
    }

    pub fn inward(&self) -> Vec<u8> {
        self.frame(&self.client, self.kind.vip)
    }

    pub fn outward(&self) -> Option<Vec<u8>> {
        Some(self.frame(self.kind.server, self.back.as_ref()?))
    }

    /// An SCTP packet of one chunk, the server's or the client's.
    pub fn chunk(&self, chunk: u8, back: Option<&str>) -> Vec<u8> {
        let (from, to) = match back {
            Some(back) => (self.kind.server, back),
            None => (&*self.client, self.kind.vip),
        };
        sctp(from, to, &[(chunk, b"some value")])
    }
}
