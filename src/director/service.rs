//! What is balanced, and over whom: the desired state in the words of LVS.
//!
//! These are plain values that configuration and commands produce and the published snapshot is built from.
//! What a service or a server *does* (counts, chooses) lives elsewhere.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::local::Locals;
use super::name::ServiceKey;
use super::pe::Engine;
use super::sched::{Kind, Options};
use super::switches::{ClientAddress, Switches};
pub use crate::packet::encap::{Tunnel, TunnelChecksum};

/// A transport protocol that services balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Protocol {
    /// IANA number 6.
    Tcp = 6,
    /// IANA number 17.
    Udp = 17,
    /// IANA number 132.
    Sctp = 132,
}

impl Protocol {
    /// Every protocol that is forwarded.
    pub const ALL: &[Protocol] = &[Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

    /// The name in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    /// The protocol with this IANA number, if it is balanced.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Protocol::Tcp),
            17 => Some(Protocol::Udp),
            132 => Some(Protocol::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    /// As `ipvsadm` prints it: in capitals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        })
    }
}

/// How packets reach a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Address and port are rewritten in both directions; the director is the servers' way back.
    Nat,
    /// Only the destination MAC is rewritten; replies go from the server straight to the client.
    Dr,
    /// Packets are wrapped into packets to the server; replies go from the server straight to the client.
    Tun(Tunnel),
    /// As NAT, and from a local address of the director's: the servers need no way back to the clients.
    FullNat,
}

impl Method {
    /// The name in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Method::Nat => "nat",
            Method::Dr => "dr",
            Method::Tun(_) => "tun",
            Method::FullNat => "fullnat",
        }
    }

    /// True if the server may have another port than its service.
    pub const fn translates_port(self) -> bool {
        matches!(self, Method::Nat | Method::FullNat)
    }
}

impl fmt::Display for Method {
    /// As `ipvsadm` prints it; FULLNAT, which it does not know, as that of DPVS does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Method::Nat => "Masq",
            Method::Dr => "Route",
            Method::Tun(_) => "Tunnel",
            Method::FullNat => "FullNat",
        })
    }
}

/// A name that is not in a closed list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} `{value}`: use one of {known}")]
pub struct UnknownName {
    /// What the name should have been.
    pub what: &'static str,
    /// The name given.
    pub value: String,
    /// The names there are, separated by blanks.
    pub known: String,
}

/// Finds a name in a closed list.
pub(super) fn by_name<T: Copy>(
    what: &'static str,
    value: &str,
    all: &[T],
    name: impl Fn(T) -> &'static str,
) -> Result<T, UnknownName> {
    all.iter().copied().find(|&t| name(t) == value).ok_or_else(|| UnknownName {
        what,
        value: value.to_owned(),
        known: all.iter().map(|&t| name(t)).collect::<Vec<_>>().join(" "),
    })
}

impl FromStr for Protocol {
    type Err = UnknownName;
    fn from_str(value: &str) -> Result<Self, Self::Err> {
        const KNOWN: &[Protocol] = &[Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
        by_name("protocol", value, KNOWN, Self::name)
    }
}

/// Largest weight of a server: the kernel's weight is a signed number and `ipvsadm -w` takes all of it.
pub const MAX_WEIGHT: u32 = i32::MAX.unsigned_abs();

/// Longest persistence in seconds: 31 days, as `ipvsadm -p` has it.
pub const MAX_PERSISTENCE_S: u32 = 2_678_400;

/// Longest time of draining in seconds: 31 days.
pub const MAX_DRAIN_S: u32 = 2_678_400;

/// A virtual service as the operator wants it, without its servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// What makes a packet the service's.
    pub key: ServiceKey,
    /// The scheduler that chooses a server for each new connection.
    pub scheduler: Kind,
    /// The scheduler's flags.
    pub options: Options,
    /// Whether the connections of a client stay together (`ipvsadm -p`).
    pub persistence: Option<Persistence>,
    /// What besides the client's address its connections stay together by (`ipvsadm --pe`); without persistence it
    /// only lets servers begin connections.
    pub engine: Option<Engine>,
    /// Each datagram is scheduled by itself (`ipvsadm -o`).
    pub one_packet: bool,
    /// What it does otherwise than the kernel.
    pub switches: Switches,
    /// What servers with FULLNAT are sent clients' packets from.
    pub locals: Locals,
}

impl Service {
    /// A service as `ipvsadm -A` makes it without further options.
    pub fn new(key: ServiceKey) -> Self {
        Self {
            key,
            scheduler: Kind::default(),
            options: Options::default(),
            persistence: None,
            engine: None,
            one_packet: false,
            switches: Switches::default(),
            locals: Locals::default(),
        }
    }

    /// Whether it says by itself that this address is the director's own: of this host alone, its VIP, or a local address.
    pub fn has_here(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.key.vip() == Some(ip) || self.locals.addresses().any(|local| local == ip)
    }

    /// Whether clients' addresses can be told to servers as its switches want it. The text of FTP's control connections
    /// is changed already.
    pub fn may_tell(&self) -> bool {
        let how = self.switches.client_address;
        let suits = match self.key {
            ServiceKey::Address { protocol, .. } => how.suits(protocol),
            // What does not suit is forwarded as it is.
            ServiceKey::Mark { .. } => true,
        };
        suits && (how == ClientAddress::None || !self.key.is_ftp())
    }
}

/// The connections of a client go to the server that its first one went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// For how long after the last new connection, 1..=[`MAX_PERSISTENCE_S`] seconds.
    pub timeout_s: u32,
    /// Which clients count as one.
    pub netmask: Netmask,
}

/// Which part of a client's address counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Netmask {
    /// The bits that are set; as in the kernel they need not be the first ones.
    V4(Ipv4Addr),
    /// The first bits, 1..=128.
    V6(u8),
}

impl Netmask {
    /// The one that tells all clients of a service apart.
    pub const fn whole(v4: bool) -> Self {
        if v4 { Self::V4(Ipv4Addr::BROADCAST) } else { Self::V6(128) }
    }

    /// What counts of `client`. An address of the other family counts whole.
    pub fn apply(self, client: IpAddr) -> IpAddr {
        match (self, client) {
            (Self::V4(mask), IpAddr::V4(ip)) => IpAddr::V4(ip & mask),
            (Self::V6(bits), IpAddr::V6(ip)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
                IpAddr::V6(std::net::Ipv6Addr::from_bits(ip.to_bits() & mask))
            }
            _ => client,
        }
    }
}

/// A real server of a service as the operator wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// Real address and port. With DR and TUN the port is the service's; 0 with a service of all ports or of a
    /// firewall mark: the port that the packet has.
    pub address: SocketAddr,
    /// Share of new connections, 0..=[`MAX_WEIGHT`]; 0 takes no new ones.
    pub weight: u32,
    /// How packets reach it.
    pub method: Method,
    /// Connections from which on it takes no new ones (`ipvsadm -x`); 0: as many as come.
    pub upper: u32,
    /// Connections below which it takes new ones again (`ipvsadm -y`), at most `upper`; 0: three quarters of it.
    pub lower: u32,
    /// What the operator has it do, whatever its weight.
    pub state: ServerState,
    /// Seconds after which a server that is drained counts as down, at most [`MAX_DRAIN_S`]; 0: never.
    pub drain_timeout_s: u32,
}

/// What the operator has a server do, besides its weight. The kernel knows weights only: a server of weight 0 is
/// drained, and one that has failed is deleted, or is left with weight 0 and keeps what it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ServerState {
    /// It takes new connections by its weight.
    #[default]
    Up,
    /// As with weight 0: it takes no new connections, those it has go on, and persistence leads to it.
    Drain,
    /// It has failed: it takes no new connections, persistence does not lead to it any more, UDP flows go to other
    /// servers, and TCP connections do as the service says.
    Down,
}

impl ServerState {
    /// Every state.
    pub const ALL: &[Self] = &[Self::Up, Self::Drain, Self::Down];

    /// The name in configuration and commands.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Drain => "drain",
            Self::Down => "down",
        }
    }
}

impl Server {
    /// A server as `ipvsadm -a` makes it without further options.
    pub const fn new(address: SocketAddr, method: Method) -> Self {
        let state = ServerState::Up;
        Self { address, weight: 1, method, upper: 0, lower: 0, state, drain_timeout_s: 0 }
    }
}

/// A service with its servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The service.
    pub service: Service,
    /// Servers in the order they were added. The schedulers' list is the reverse of it: the kernel puts
    /// each new server at the head (`__ip_vs_update_dest` in ip_vs_ctl.c).
    pub servers: Vec<Server>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_netmask_keeps_the_bits_it_has() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(Netmask::V4(Ipv4Addr::new(255, 0, 255, 240)).apply(ip("10.9.1.30")), ip("10.0.1.16"));
        assert_eq!(Netmask::whole(true).apply(ip("10.9.1.30")), ip("10.9.1.30"));
        assert_eq!(Netmask::V6(64).apply(ip("2001:db8::1:2:3:4")), ip("2001:db8::"));
        assert_eq!(Netmask::whole(false).apply(ip("2001:db8::1")), ip("2001:db8::1"));
        assert_eq!(Netmask::V6(0).apply(ip("2001:db8::1")), ip("::"));
    }
}
