//! What the steering program can decide about a frame, in the order of `enum outcome` in its source.

use std::fmt;

/// What became of a frame; each frame counts in exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Outcome {
    /// Ours: to (protocol, address, port) of a service.
    Service,
    /// Ours: to the address of a service that takes all ports.
    ServiceAnyPort,
    /// Ours: in a range of protocol, networks and ports.
    ServiceRange,
    /// Ours: from a NAT server to somewhere else than this host.
    NatReturn,
    /// Ours: from a FULLNAT server to a local address and one of its ports.
    FullNatReturn,
    /// Ours: a fragment, the first or a later one, to a VIP, from a NAT server to somewhere else than this host, or from a
    /// FULLNAT server to a local address.
    Fragment,
    /// Ours: an ICMP error about a packet whose answer would be ours.
    IcmpError,
    /// Ours, but its interface and queue have no socket: passed to the kernel.
    NoSocket,
    /// Passed: ours by its addresses, but not sent to the MAC address of the interface it arrived at: another
    /// machine's, or a broadcast or multicast of the link.
    PassOtherMac,
    /// Passed: IP that concerns no service, such as ssh, ping, ND or VRRP.
    PassNotOurs,
    /// Passed: from a NAT server to this host itself, such as the reply to a health check.
    PassHost,
    /// Passed: neither IPv4 nor IPv6 under at most one VLAN tag, such as ARP.
    PassNotIp,
    /// Passed: under two VLAN tags, or one of a provider's (802.1ad), whatever it is.
    PassTags,
    /// Passed: truncated, contradicting itself, or more IPv6 extension headers than are looked through.
    PassMalformed,
    /// Of an offloaded connection: readdressed and sent on, without coming up.
    Offloaded,
}

impl Outcome {
    /// How many there are.
    pub const COUNT: usize = 15;

    /// All, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Service,
        Self::ServiceAnyPort,
        Self::ServiceRange,
        Self::NatReturn,
        Self::FullNatReturn,
        Self::Fragment,
        Self::IcmpError,
        Self::NoSocket,
        Self::PassOtherMac,
        Self::PassNotOurs,
        Self::PassHost,
        Self::PassNotIp,
        Self::PassTags,
        Self::PassMalformed,
        Self::Offloaded,
    ];

    /// The name in counters and listings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::ServiceAnyPort => "service_any_port",
            Self::ServiceRange => "service_range",
            Self::NatReturn => "nat_return",
            Self::FullNatReturn => "full_nat_return",
            Self::Fragment => "fragment",
            Self::IcmpError => "icmp_error",
            Self::NoSocket => "no_socket",
            Self::PassOtherMac => "pass_other_mac",
            Self::PassNotOurs => "pass_not_ours",
            Self::PassHost => "pass_host",
            Self::PassNotIp => "pass_not_ip",
            Self::PassTags => "pass_tags",
            Self::PassMalformed => "pass_malformed",
            Self::Offloaded => "offloaded",
        }
    }

    /// Whether such a frame was given to a socket. All others went to the kernel, or on their way
    /// ([`Offloaded`](Self::Offloaded)).
    pub const fn is_redirected(self) -> bool {
        (self as u32) < Self::NoSocket as u32
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_has_the_same_outcomes_in_the_same_order() {
        let source = include_str!("../counters.bpf.h");
        let (_, body) = source.split_once("enum outcome {").expect("the enum is in the program");
        let (body, _) = body.split_once("};").expect("the enum ends");
        let in_c: Vec<String> = body
            .split(',')
            .filter_map(|entry| entry.trim().strip_prefix("OUTCOME_"))
            .map(str::to_lowercase)
            .collect();
        let in_rust: Vec<&str> = Outcome::ALL.iter().map(|outcome| outcome.name()).collect();
        assert_eq!(in_c, in_rust);
    }

    #[test]
    fn the_number_of_an_outcome_is_its_place() {
        for (place, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, place, "{outcome}");
        }
    }
}
