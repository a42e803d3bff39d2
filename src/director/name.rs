//! The names of services: what makes a packet a service's, as text and as keys.
//!
//! A service is named by protocol, virtual address and port (`tcp:192.0.2.10:80`), or by a firewall mark
//! (`fwm:5`, and `fwm6:5` for IPv6), which is what `ipvsadm -f` names.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::service::Protocol;
use super::services::FTP;

/// What makes a packet a service's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ServiceKey {
    /// Where the packet goes.
    Address {
        /// Transport protocol.
        protocol: Protocol,
        /// Virtual address and port; port 0 is every port that has no service of its own.
        address: SocketAddr,
    },
    /// The mark it was given.
    Mark {
        /// The mark.
        mark: NonZeroU32,
        /// For packets of IPv6 rather than IPv4.
        v6: bool,
    },
}

impl Hash for ServiceKey {
    /// A number or two, and not field by field: every new connection looks its service up.
    fn hash<H: Hasher>(&self, state: &mut H) {
        match *self {
            Self::Address { protocol, address } => {
                let rest = u64::from(address.port()) << 8 | protocol as u64;
                match address.ip() {
                    IpAddr::V4(ip) => state.write_u64(u64::from(ip.to_bits()) << 32 | rest),
                    IpAddr::V6(ip) => {
                        state.write_u128(ip.to_bits());
                        state.write_u64(rest);
                    }
                }
            }
            Self::Mark { mark, v6 } => state.write_u64(u64::from(mark.get()) << 32 | u64::from(v6)),
        }
    }
}

impl ServiceKey {
    /// The service of this protocol, virtual address and port.
    pub const fn new(protocol: Protocol, address: SocketAddr) -> Self {
        // Of an IPv6 address without its zone, which no packet has.
        Self::Address { protocol, address: SocketAddr::new(address.ip(), address.port()) }
    }

    /// The virtual IP, if the service has one.
    pub const fn vip(&self) -> Option<IpAddr> {
        match self {
            Self::Address { address, .. } => Some(address.ip()),
            Self::Mark { .. } => None,
        }
    }

    /// The virtual port; 0 for all ports and for marks.
    pub const fn port(&self) -> u16 {
        match self {
            Self::Address { address, .. } => address.port(),
            Self::Mark { .. } => 0,
        }
    }

    /// True for a service of FTP: TCP at port 21.
    pub fn is_ftp(&self) -> bool {
        matches!(self, Self::Address { protocol: Protocol::Tcp, address } if address.port() == FTP)
    }

    /// True for clients with IPv4.
    pub const fn is_v4(&self) -> bool {
        match self {
            Self::Address { address, .. } => address.is_ipv4(),
            Self::Mark { v6, .. } => !*v6,
        }
    }

    /// What `ipvsadm` sorts by: mark, family, protocol, address, port.
    fn rank(&self) -> (u32, bool, u8, Option<SocketAddr>) {
        match *self {
            Self::Address { protocol, address } => (0, address.is_ipv6(), protocol as u8, Some(address)),
            Self::Mark { mark, v6 } => (mark.get(), v6, 0, None),
        }
    }
}

impl Ord for ServiceKey {
    /// The order of `ipvsadm -L`.
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for ServiceKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { protocol, address } => write!(f, "{}:{address}", protocol.name()),
            Self::Mark { mark, v6: false } => write!(f, "fwm:{mark}"),
            Self::Mark { mark, v6: true } => write!(f, "fwm6:{mark}"),
        }
    }
}

/// A text that names no service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` names no service: write tcp:ADDRESS:PORT or udp:ADDRESS:PORT (IPv6 addresses in brackets), or fwm:MARK, fwm6:MARK \
     with a mark from 1 to 4294967295"
)]
pub struct NoServiceName(pub String);

impl FromStr for ServiceKey {
    type Err = NoServiceName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once(':').and_then(|(kind, rest)| match kind {
            "fwm" | "fwm6" => Some(Self::Mark { mark: rest.parse().ok()?, v6: kind == "fwm6" }),
            protocol => Some(Self::new(protocol.parse().ok()?, rest.parse().ok()?)),
        });
        parsed.ok_or_else(|| NoServiceName(text.to_owned()))
    }
}

impl TryFrom<String> for ServiceKey {
    type Error = NoServiceName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ServiceKey> for String {
    fn from(key: ServiceKey) -> Self {
        key.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in
            ["tcp:192.0.2.10:80", "udp:[2001:db8::1]:53", "sctp:192.0.2.10:0", "fwm:5", "fwm6:4294967295"]
        {
            assert_eq!(name.parse::<ServiceKey>().unwrap().to_string(), name);
        }
        for wrong in
            ["", "tcp", "tcp:192.0.2.10", "icmp:192.0.2.10:80", "fwm:0", "fwm:x", "tcp:192.0.2.10:99999"]
        {
            assert_eq!(wrong.parse::<ServiceKey>(), Err(NoServiceName(wrong.to_owned())));
        }
    }

    #[test]
    fn the_order_is_that_of_ipvsadm() {
        let sorted = [
            "tcp:10.0.0.99:80",
            "tcp:10.0.0.100:80",
            "tcp:10.0.0.100:443",
            "udp:10.0.0.1:53",
            "tcp:[2001:db8::1]:80",
            "fwm:5",
            "fwm6:5",
            "fwm:7",
        ]
        .map(|name| name.parse::<ServiceKey>().unwrap());
        assert!(sorted.is_sorted(), "{sorted:?}");
    }
}
