//! Local addresses and ports of a service, as the operator wants them: plain values.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Most local addresses of a service: with all ports, a million connections to each server.
pub const MAX_LOCAL_ADDRESSES: usize = 16;
/// The local ports of a service that names none: those that need no privilege.
pub const LOCAL_PORTS: Ports = Ports { first: 1024, last: u16::MAX };

/// Ports from the first to the last one, neither of them 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ports {
    /// The first port.
    pub first: u16,
    /// The last port, at least the first.
    pub last: u16,
}

impl Ports {
    /// How many there are.
    pub const fn count(self) -> u32 {
        (self.last - self.first) as u32 + 1
    }

    /// All that are in this or the other one, and those between.
    #[must_use]
    pub fn joined(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for Ports {
    type Err = LocalsError;

    fn from_str(text: &str) -> Result<Self, LocalsError> {
        let wrong = || LocalsError::Ports { given: text.to_owned() };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.parse().ok().filter(|port| *port > 0).ok_or_else(wrong);
        let ports = Self { first: port(first)?, last: port(last)? };
        if ports.first > ports.last { Err(wrong()) } else { Ok(ports) }
    }
}

/// Why local addresses or ports are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum LocalsError {
    #[error("local ports `{given}`: give FIRST-LAST with 1 <= FIRST <= LAST <= 65535, such as {LOCAL_PORTS}")]
    Ports { given: String },
    #[error("{count} local addresses are more than {MAX_LOCAL_ADDRESSES}: leave some out")]
    TooMany { count: usize },
    #[error("local address {0} is listed twice: leave one of them out")]
    Twice(IpAddr),
    #[error("local address {0} is not one host's: give an address of the director that servers send back to")]
    NotUnicast(IpAddr),
}

/// Local addresses of a service, and their ports. Without any address its servers cannot have FULLNAT.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Locals {
    addresses: [Option<IpAddr>; MAX_LOCAL_ADDRESSES],
    /// Of all of them.
    pub ports: Ports,
}

impl Default for Locals {
    fn default() -> Self {
        Self { addresses: [None; MAX_LOCAL_ADDRESSES], ports: LOCAL_PORTS }
    }
}

impl Locals {
    /// These addresses in this order, each with these ports.
    ///
    /// # Errors
    /// There are more than [`MAX_LOCAL_ADDRESSES`], one of them twice, or one is no machine's.
    pub fn new(addresses: &[IpAddr], ports: Ports) -> Result<Self, LocalsError> {
        let mut locals = Self { ports, ..Self::default() };
        if addresses.len() > MAX_LOCAL_ADDRESSES {
            return Err(LocalsError::TooMany { count: addresses.len() });
        }
        for (place, address) in locals.addresses.iter_mut().zip(addresses) {
            *place = Some(*address);
        }
        let of_many = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast() || matches!(ip.octets()[0], 0 | 127),
            IpAddr::V6(ip) => ip.is_multicast() || ip.is_unspecified() || ip.is_loopback(),
        };
        if let Some(address) = addresses.iter().copied().find(of_many) {
            return Err(LocalsError::NotUnicast(address));
        }
        let twice =
            addresses.iter().enumerate().find(|(place, address)| addresses[..*place].contains(address));
        twice.map_or(Ok(locals), |(_, address)| Err(LocalsError::Twice(*address)))
    }

    /// The addresses in their order.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.into_iter().flatten()
    }

    /// Those of one IP version.
    pub(super) fn of_family(&self, v4: bool) -> impl Iterator<Item = IpAddr> + Clone {
        self.addresses.into_iter().flatten().filter(move |address| address.is_ipv4() == v4)
    }

    /// True if there is an address for a server of this IP version.
    pub fn has_family(&self, v4: bool) -> bool {
        self.of_family(v4).next().is_some()
    }

    /// True if there is no address.
    pub const fn is_empty(&self) -> bool {
        self.addresses[0].is_none()
    }
}

impl fmt::Debug for Locals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ports {}", self.addresses().collect::<Vec<_>>(), self.ports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn addresses_keep_their_order_and_are_told_apart_by_family() {
        let list = ips(&["10.1.0.3", "2001:db8::1", "10.1.0.2"]);
        let locals = Locals::new(&list, LOCAL_PORTS).unwrap();
        assert_eq!(locals.addresses().collect::<Vec<_>>(), list);
        assert_eq!(locals.of_family(true).collect::<Vec<_>>(), ips(&["10.1.0.3", "10.1.0.2"]));
        assert!(locals.has_family(false) && !locals.is_empty() && Locals::default().is_empty());
    }

    #[test]
    fn what_cannot_be_sent_from_is_refused() {
        let many: Vec<IpAddr> = (1..=17).map(|n| [10, 1, 0, n].into()).collect();
        assert_eq!(Locals::new(&many, LOCAL_PORTS), Err(LocalsError::TooMany { count: 17 }));
        Locals::new(&many[..16], LOCAL_PORTS).unwrap();
        let twice = ips(&["10.1.0.2", "10.1.0.3", "10.1.0.2"]);
        assert_eq!(Locals::new(&twice, LOCAL_PORTS), Err(LocalsError::Twice(twice[0])));
        for wrong in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "ff02::1"] {
            let ip = ips(&[wrong]);
            assert_eq!(Locals::new(&ip, LOCAL_PORTS), Err(LocalsError::NotUnicast(ip[0])));
        }
    }

    #[test]
    fn ports_are_read_as_they_are_written() {
        for text in ["1024-65535", "1-1", "5000-5009"] {
            assert_eq!(text.parse::<Ports>().unwrap().to_string(), text);
        }
        assert_eq!("80".parse::<Ports>().unwrap(), Ports { first: 80, last: 80 });
        assert_eq!("1-65535".parse::<Ports>().unwrap().count(), 65_535);
        for wrong in ["", "0-9", "9-8", "1-65536", "a-b", "1-2-3", " 1-2"] {
            assert!(wrong.parse::<Ports>().is_err(), "{wrong}");
        }
    }
}
