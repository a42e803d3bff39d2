//! Firewall marks: which packets belong to the services that are named by a mark.
//!
//! With IPVS, netfilter marks packets before they reach it. No netfilter runs before AF_XDP, so the marks
//! are given here, by rules of their own: the first rule that fits gives its mark.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::service::Protocol;
use crate::packet::flow::FlowKey;

/// Most rules: the steering program looks through them one by one.
pub const MAX_MARK_RULES: usize = 64;

/// Packets that get a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MarkRule {
    /// The mark, as `ipvsadm -f` names it.
    pub mark: NonZeroU32,
    /// Their transport protocol.
    pub protocol: Protocol,
    /// Where they go, an address or a network.
    pub destination: IpNet,
    /// The first of the ports they go to.
    #[serde(default = "first_port")]
    pub port_first: u16,
    /// The last of the ports they go to.
    #[serde(default = "last_port")]
    pub port_last: u16,
    /// Where they come from, if not from anywhere. Of the same family as the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpNet>,
}

fn first_port() -> u16 {
    0
}

fn last_port() -> u16 {
    u16::MAX
}

impl MarkRule {
    /// The ports that packets go to.
    pub const fn ports(&self) -> RangeInclusive<u16> {
        self.port_first..=self.port_last
    }

    /// True for a packet with this key.
    pub fn fits(&self, flow: &FlowKey) -> bool {
        let (source, destination) = (flow.source(), flow.destination());
        flow.protocol() == self.protocol as u8
            && self.destination.contains(&destination.ip())
            && self.ports().contains(&destination.port())
            && self.source.is_none_or(|net: IpNet| net.contains(&source.ip()))
    }

    /// True if it is about IPv6.
    pub const fn is_v6(&self) -> bool {
        matches!(self.destination, IpNet::V6(_))
    }
}

impl fmt::Display for MarkRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.protocol.name(), self.destination)?;
        if self.ports() != (0..=u16::MAX) {
            write!(f, " ports {}-{}", self.port_first, self.port_last)?;
        }
        if let Some(source) = self.source {
            write!(f, " from {source}")?;
        }
        write!(f, ": mark {}", self.mark)
    }
}

/// The mark that the first fitting rule gives.
pub fn mark_of(rules: &[MarkRule], flow: &FlowKey) -> Option<NonZeroU32> {
    rules.iter().find(|rule| rule.fits(flow)).map(|rule| rule.mark)
}

/// True if packets to this address may get a mark.
pub fn covers(rules: &[MarkRule], address: IpAddr) -> bool {
    rules.iter().any(|rule| rule.destination.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(mark: u32, destination: &str, ports: RangeInclusive<u16>, source: Option<&str>) -> MarkRule {
        MarkRule {
            mark: mark.try_into().unwrap(),
            protocol: Protocol::Tcp,
            destination: destination.parse().unwrap(),
            port_first: *ports.start(),
            port_last: *ports.end(),
            source: source.map(|net| net.parse().unwrap()),
        }
    }

    #[test]
    fn the_first_rule_that_fits_gives_its_mark() {
        let rules = [
            rule(1, "192.0.2.10/32", 80..=80, Some("198.51.100.0/24")),
            rule(2, "192.0.2.0/24", 80..=443, None),
            rule(3, "2001:db8::/64", 0..=65535, None),
        ];
        let mark = |protocol, from: &str, to: &str| {
            let flow = FlowKey::new(protocol, from.parse().unwrap(), to.parse().unwrap());
            mark_of(&rules, &flow).map(NonZeroU32::get)
        };
        assert_eq!(mark(6, "198.51.100.1:1", "192.0.2.10:80"), Some(1));
        assert_eq!(mark(6, "203.0.113.1:1", "192.0.2.10:80"), Some(2));
        assert_eq!(mark(6, "203.0.113.1:1", "192.0.2.77:443"), Some(2));
        assert_eq!(mark(6, "203.0.113.1:1", "192.0.2.77:444"), None);
        assert_eq!(mark(17, "203.0.113.1:1", "192.0.2.77:443"), None);
        assert_eq!(mark(6, "[2001:db8::9]:1", "[2001:db8::1]:5"), Some(3));
    }
}
