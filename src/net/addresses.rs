//! The host's addresses, and which of them packets of its own are sent from. Pure.

use std::net::IpAddr;

/// An address on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Number of the interface.
    pub ifindex: u32,
    /// The address itself.
    pub ip: IpAddr,
    /// Length of the prefix of the network it is in, in bits.
    pub prefix_len: u8,
    /// Not to be sent from by choice: another one of its network came first, or it is deprecated or tentative.
    pub is_secondary: bool,
    /// Valid on its link or host alone.
    pub is_local: bool,
}

impl Address {
    fn bits(&self) -> u8 {
        if self.ip.is_ipv4() { 32 } else { 128 }
    }

    /// True if `other` is in the same network.
    fn is_near(&self, other: IpAddr) -> bool {
        self.ip.is_ipv4() == other.is_ipv4()
            && common_bits(self.ip, other) >= self.prefix_len.min(self.bits())
    }
}

/// The address to send from on interface `ifindex` to a destination whose next station is `next`: on the interface the
/// one in the network of `next`, else the first (IPv4: `inet_select_addr`; IPv6: the longest common prefix, RFC 6724
/// rule 8); without any there, one of another interface.
pub(crate) fn source(addresses: &[Address], ifindex: u32, next: IpAddr) -> Option<IpAddr> {
    let usable = |a: &&Address| a.ip.is_ipv4() == next.is_ipv4() && !a.is_secondary && !a.ip.is_loopback();
    let global = || addresses.iter().filter(usable).filter(|a| !a.is_local);
    let here = || global().filter(|a| a.ifindex == ifindex);
    let near = here().find(|a| a.is_near(next));
    let chosen = match next {
        IpAddr::V4(_) => near.or_else(|| here().next()),
        // The first of equals, which `max_by_key` would not give.
        IpAddr::V6(_) => near.or_else(|| here().rev().max_by_key(|a| common_bits(a.ip, next))),
    };
    chosen.or_else(|| global().next()).map(|a| a.ip)
}

/// How many leading bits two addresses of one family have in common.
fn common_bits(a: IpAddr, b: IpAddr) -> u8 {
    let zeros = match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => 0,
    };
    u8::try_from(zeros).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(ifindex: u32, text: &str) -> Address {
        let (ip, prefix_len) = text.split_once('/').unwrap();
        let (ip, prefix_len) = (ip.parse().unwrap(), prefix_len.parse().unwrap());
        Address { ifindex, ip, prefix_len, is_secondary: false, is_local: false }
    }

    fn chosen(addresses: &[Address], ifindex: u32, next: &str) -> String {
        source(addresses, ifindex, next.parse().unwrap())
            .map_or_else(|| "none".to_owned(), |ip| ip.to_string())
    }

    #[test]
    fn on_the_interface_the_one_of_the_gateways_network_else_the_first() {
        let secondary = Address { is_secondary: true, ..on(7, "10.0.2.9/24") };
        let all = [
            on(1, "127.0.0.1/8"),
            on(7, "10.0.1.1/24"),
            secondary,
            on(7, "10.0.2.1/24"),
            on(8, "10.0.3.1/24"),
        ];
        assert_eq!(chosen(&all, 7, "10.0.2.254"), "10.0.2.1");
        assert_eq!(chosen(&all, 7, "192.0.2.1"), "10.0.1.1");
        assert_eq!(chosen(&all, 9, "10.9.9.9"), "10.0.1.1", "an interface without addresses");
        assert_eq!(chosen(&all, 7, "fd00::1"), "none");
        assert_eq!(chosen(&all[..1], 1, "10.0.0.1"), "none");
    }

    #[test]
    fn of_ipv6_the_one_that_agrees_longest_and_none_of_the_link() {
        let link = Address { is_local: true, ..on(7, "fe80::1/64") };
        let all = [link, on(7, "2001:db8:1::1/64"), on(7, "fd00:2::1/64"), on(7, "fd00:3::1/64")];
        assert_eq!(chosen(&all, 7, "fd00:3::9"), "fd00:3::1");
        assert_eq!(chosen(&all, 7, "fd00:9::9"), "fd00:2::1", "the first of equals");
        assert_eq!(chosen(&all, 7, "2001:db8:ffff::1"), "2001:db8:1::1");
        assert_eq!(chosen(&all[..1], 7, "fd00::1"), "none");
    }
}
