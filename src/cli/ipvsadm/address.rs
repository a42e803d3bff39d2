//! Addresses on the command line, and as text.
//!
//! `host[:port]`, where the host is an IPv4 address in any of the C library's forms, a name, or an IPv6 address (in
//! brackets if a port follows, which then has to), and the port a number or a service's name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::names::Names;
use super::numbers::{is_space, number};
use crate::director::service::Protocol;

/// An address as it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub ip: IpAddr,
    pub port: Option<u16>,
}

/// Reads `host[:port]`. Ports by name need a protocol. A text of digits alone is refused: it looks like a port.
pub(super) fn parse(text: &str, protocol: Option<Protocol>, names: &mut Names) -> Option<Given> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, Some(after.strip_prefix(':')?))
        }
        None => (text, None),
    };
    let (ip, port) = match host.parse::<Ipv6Addr>() {
        Ok(ip) => (IpAddr::V6(ip), port),
        // The brackets of what is no IPv6 address are taken off, and the port after them is lost.
        Err(_) => {
            let (host, port) = match host.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (host, None),
            };
            (IpAddr::V4(ipv4(host).or_else(|| names.address(host))?), port)
        }
    };
    let port = match port {
        None => None,
        Some(port) => {
            let number = number(port, 0, 65_535).and_then(|n| u16::try_from(n).ok());
            Some(number.or_else(|| names.port(port, protocol?))?)
        }
    };
    Some(Given { ip, port })
}

/// An IPv4 address as `inet_aton` reads it: one to four numbers, decimal, octal (`010`) or hexadecimal (`0x10`), of
/// which the last fills the bytes that are left. What follows after white space does not count.
pub(super) fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let text = text.split(is_space).next()?;
    let parts: Vec<&str> = text.split('.').collect();
    let (last, first) = parts.split_last()?;
    if first.len() > 3 {
        return None;
    }
    let mut bits = 0_u32;
    for (part, shift) in first.iter().zip([24, 16, 8]) {
        bits |= u32::from(u8::try_from(part_of_ipv4(part)?).ok()?) << shift;
    }
    let room = 32 - 8 * u32::try_from(first.len()).ok()?;
    let last = part_of_ipv4(last)?;
    (u64::from(last) < 1 << room).then(|| Ipv4Addr::from_bits(bits | last))
}

fn part_of_ipv4(text: &str) -> Option<u32> {
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (digits, radix) = match (hex, text.strip_prefix('0')) {
        (Some(digits), _) => (digits, 16),
        (None, Some(digits)) if !digits.is_empty() => (digits, 8),
        _ => (text, 10),
    };
    // `from_str_radix` would take a sign.
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}

/// An address as the C library writes it. Only IPv4 in IPv6 differs: the last 32 bits of `::10.0.0.1` are dotted.
pub(super) fn ip_text(ip: IpAddr) -> String {
    match ip {
        IpAddr::V6(v6) if v6.segments()[..6] == [0; 6] && v6.segments()[6] != 0 => {
            let [.., a, b, c, d] = v6.octets();
            format!("::{}", Ipv4Addr::new(a, b, c, d))
        }
        _ => ip.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        let mut names = Names::fixed(&[("10.0.0.200", "web.example.org")], "http 80/tcp www\n");
        let given = parse(text, Some(Protocol::Tcp), &mut names)?;
        Some(format!("{} {:?}", given.ip, given.port))
    }

    #[test]
    fn hosts_and_ports() {
        for (text, expected) in [
            ("10.0.0.1:80", "10.0.0.1 Some(80)"),
            ("10.0.0.1", "10.0.0.1 None"),
            ("10.0.0.1:www", "10.0.0.1 Some(80)"),
            ("web.example.org:http", "10.0.0.200 Some(80)"),
            ("[2001:db8::1]:80", "2001:db8::1 Some(80)"),
            ("2001:db8::1", "2001:db8::1 None"),
            ("2001:db8::1:80", "2001:db8::1:80 None"),
            ("[10.0.0.1]:80", "10.0.0.1 None"),
            ("10.1:+81", "10.0.0.1 Some(81)"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "80",
            ":80",
            ":",
            "10.0.0.1:",
            "10.0.0.1:x",
            "10.0.0.1:65536",
            "10.0.0.1:80:80",
            "[2001:db8::1]",
            "[2001:db8::1]:",
            "[2001:db8::1",
            "[]:80",
            "nosuch:80",
            "10.0.0.256:80",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn ipv4_in_all_its_forms() {
        for (text, expected) in [
            ("10.1.2.3", "10.1.2.3"),
            ("10.1.515", "10.1.2.3"),
            ("10.66051", "10.1.2.3"),
            ("167838211", "10.1.2.3"),
            ("0xA.01.0x2.3 and more", "10.1.2.3"),
            ("0", "0.0.0.0"),
            ("4294967295", "255.255.255.255"),
            ("255.16777215", "255.255.255.255"),
        ] {
            assert_eq!(ipv4(text).map(|ip| ip.to_string()).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            " 10.1.2.3",
            "10.1.2.",
            "10..2.3",
            "10.1.2.256",
            "10.1.65536",
            "10.16777216",
            "4294967296",
            "256.1",
            "08.1",
            "0x.1",
            "1.2.3.4.5",
            "10.1.2.3x",
            "+10.1.2.3",
            "10.1.2.-3",
        ] {
            assert_eq!(ipv4(text), None, "{text}");
        }
    }

    #[test]
    fn addresses_are_written_as_the_c_library_writes_them() {
        for text in [
            "10.0.0.1",
            "::",
            "::1",
            "::ffff",
            "::10.0.0.1",
            "::ffff:10.0.0.1",
            "2001:db8::1:0:0:1",
            "fe80::",
        ] {
            assert_eq!(ip_text(text.parse().unwrap()), text);
        }
    }
}
