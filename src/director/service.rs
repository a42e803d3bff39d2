//! What is balanced, and over whom: the desired state in the words of LVS.
//!
//! These are plain values that configuration produces and the published snapshot is built from. What
//! a service or a server *does* (counts, chooses) lives elsewhere.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::sched::{Kind, Options};

/// A transport protocol that services balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Protocol {
    /// IANA number 6.
    Tcp = 6,
    /// IANA number 17.
    Udp = 17,
}

impl Protocol {
    /// Every protocol that a configuration may name.
    pub const ALL: &[Protocol] = &[Protocol::Tcp, Protocol::Udp];

    /// The name in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }

    /// The protocol with this IANA number, if it is balanced.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Protocol::Tcp),
            17 => Some(Protocol::Udp),
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
}

impl Method {
    /// Every method that a configuration may name.
    pub const ALL: &[Method] = &[Method::Nat, Method::Dr];

    /// The name in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Method::Nat => "nat",
            Method::Dr => "dr",
        }
    }
}

impl fmt::Display for Method {
    /// As `ipvsadm` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Method::Nat => "Masq",
            Method::Dr => "Route",
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
        by_name("protocol", value, Self::ALL, Self::name)
    }
}

impl FromStr for Method {
    type Err = UnknownName;
    fn from_str(value: &str) -> Result<Self, Self::Err> {
        by_name("forwarding method", value, Self::ALL, Self::name)
    }
}

/// Largest weight of a server, as in `ipvsadm -w`.
pub const MAX_WEIGHT: u32 = 65_535;

/// A virtual service as the operator wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Virtual address and port.
    pub address: SocketAddr,
    /// The scheduler that chooses a server for each new connection.
    pub scheduler: Kind,
    /// The scheduler's flags.
    pub options: Options,
    /// Servers in the order they were added. The schedulers' list is the reverse of it: the kernel puts
    /// each new server at the head (`__ip_vs_update_dest` in ip_vs_ctl.c).
    pub servers: Vec<Server>,
}

/// A real server of a service as the operator wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Real address and port. With DR the port is the service's.
    pub address: SocketAddr,
    /// Share of new connections, 0..=65535; 0 takes no new ones.
    pub weight: u32,
    /// How packets reach it.
    pub method: Method,
}

impl Service {
    /// The virtual IP.
    pub const fn vip(&self) -> IpAddr {
        self.address.ip()
    }
}
