//! Addresses of services, servers and mark rules: what `ipvsadm -t` and `-r` take, and why one is refused.
//!
//! Refused is what the director refuses. What it takes but cannot forward is a warning: the kernel takes it too, and
//! a running state that is written must be read again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::reader::Field;
use super::report::Problems;
use super::value::text;
use crate::director::service::Netmask;

/// The address of a server as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ServerAddress {
    pub address: SocketAddr,
    /// Without a port of its own it has the service's.
    pub has_port: bool,
}

/// `VIP:port`.
pub(super) fn service(field: &Field<'_>, problems: &mut Problems) -> Option<SocketAddr> {
    let given = text(field, problems)?;
    let address = parse(given).and_then(|(address, has_port)| {
        if !has_port {
            let (ip, example) = (address.ip(), SocketAddr::new(address.ip(), 80));
            let form = if ip.is_ipv4() { format!("{ip}:PORT") } else { format!("[{ip}]:PORT") };
            Err(("the port is missing", format!("write \"{form}\", for example \"{example}\"")))
        } else {
            Ok(address)
        }
    });
    let address = refuse(field, given, address, problems)?;
    if let Some(reason) = no_machine(address.ip()).or_else(|| loopback(address.ip())) {
        let message = format!("{} = \"{given}\": {reason}", field.key);
        problems
            .warning(field.span.clone(), message)
            .cure("give a unicast address of this host that clients reach");
    }
    Some(address)
}

/// `RIP` or `RIP:port`.
pub(super) fn server(field: &Field<'_>, problems: &mut Problems) -> Option<ServerAddress> {
    let given = text(field, problems)?;
    let address = parse(given).and_then(|(address, has_port)| match no_server(address.ip()) {
        Some(reason) => Err((reason, "give the unicast address of one machine".to_owned())),
        None => Ok(ServerAddress { address, has_port }),
    });
    refuse(field, given, address, problems)
}

/// A local address, without a port.
pub(super) fn local(field: &Field<'_>, problems: &mut Problems) -> Option<IpAddr> {
    let given = text(field, problems)?;
    let address = match given.parse::<IpAddr>() {
        Ok(ip) => match no_machine(ip).or_else(|| loopback(ip)) {
            Some(reason) => {
                Err((reason, "give an address of this host that servers send back to".to_owned()))
            }
            None => Ok(ip),
        },
        Err(_) => Err((
            "this is no address (names are not resolved)",
            "write for example \"10.0.0.250\", without a port".to_owned(),
        )),
    };
    refuse(field, given, address, problems)
}

/// `ADDRESS` or `ADDRESS/BITS`.
pub(super) fn network(field: &Field<'_>, problems: &mut Problems) -> Option<IpNet> {
    let given = text(field, problems)?;
    let network = given.parse::<IpNet>().or_else(|_| given.parse::<IpAddr>().map(IpNet::from));
    let network = network.map_err(|_| {
        let cure = "write for example \"192.0.2.10\", \"192.0.2.0/24\" or \"2001:db8::/64\"";
        ("this is no address or network", cure.to_owned())
    });
    let network = refuse(field, given, network, problems)?;
    if network.addr() != network.network() {
        let bits = network.prefix_len();
        let message = format!(
            "{} = \"{given}\": of this address only the first {bits} bits count, which is {}",
            field.key,
            network.trunc()
        );
        let cure =
            format!("write \"{}\" for the network, or \"{}\" for the one", network.trunc(), network.addr());
        problems.warning(field.span.clone(), message).cure(cure);
    }
    Some(network)
}

/// `255.255.255.0`, or `64` for a service of IPv6.
pub(super) fn netmask(field: &Field<'_>, problems: &mut Problems, is_v4: bool) -> Option<Netmask> {
    let given = text(field, problems)?;
    if !is_v4 {
        let bits = given.parse::<u8>().ok().filter(|bits| (1..=128).contains(bits));
        if bits.is_none() {
            let message = format!("{} = \"{given}\" is no length of a prefix of IPv6", field.key);
            problems
                .error(field.span.clone(), message)
                .cure("write how many bits of an address count, from \"1\" to \"128\": \"64\"");
        }
        return bits.map(Netmask::V6);
    }
    let Ok(mask) = given.parse::<Ipv4Addr>() else {
        let bits = given.strip_prefix('/').unwrap_or(given).parse::<u32>().ok().filter(|bits| *bits <= 32);
        let example = u32::MAX.checked_shl(32 - bits.unwrap_or(24)).unwrap_or(0);
        problems
            .error(field.span.clone(), format!("{} = \"{given}\" is no netmask of IPv4", field.key))
            .cure(format!("write four numbers: \"{}\"", Ipv4Addr::from_bits(example)));
        return None;
    };
    if mask.to_bits().leading_ones() != mask.to_bits().count_ones() {
        problems
            .warning(field.span.clone(), format!("{} = \"{given}\" is no network's mask", field.key))
            .cure("the bits that count come first, for example \"255.255.255.0\"");
    }
    Some(Netmask::V4(mask))
}

/// Why an address is refused, and the cure.
type Refusal = (&'static str, String);

fn refuse<T>(field: &Field<'_>, given: &str, read: Result<T, Refusal>, problems: &mut Problems) -> Option<T> {
    read.map_err(|(reason, cure)| {
        let message = format!("{} = \"{given}\": {reason}", field.key);
        problems.error(field.span.clone(), message).cure(cure);
    })
    .ok()
}

/// An address, with port 0 and `false` if it has none.
fn parse(given: &str) -> Result<(SocketAddr, bool), Refusal> {
    match given.parse::<SocketAddr>() {
        Ok(SocketAddr::V6(v6)) if v6.scope_id() != 0 => {
            let reason = "the address has a zone, which names an interface of one machine";
            return Err((reason, format!("leave it out: \"[{}]:{}\"", v6.ip(), v6.port())));
        }
        Ok(address) => return Ok((address, true)),
        Err(_) => {}
    }
    if let Ok(ip) = given.parse::<IpAddr>() {
        return Ok((SocketAddr::new(ip, 0), false));
    }
    Err(match given.rsplit_once(':') {
        Some((ip, _)) if is_host(ip) => (
            "the port is not a number from 1 to 65_535",
            format!("write \"{ip}:PORT\", for example \"{ip}:80\""),
        ),
        _ => (
            "this is no address (names are not resolved)",
            "write for example \"192.0.2.10:80\" or \"[2001:db8::10]:80\"".to_owned(),
        ),
    })
}

/// True for what may stand in front of a port: IPv4, or IPv6 in brackets.
fn is_host(text: &str) -> bool {
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    bracketed.map_or_else(|| text.parse::<Ipv4Addr>().is_ok(), |ip| ip.parse::<Ipv6Addr>().is_ok())
}

/// Why no server has this address (`__ip_vs_update_dest`).
fn no_server(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Some("fe80::/10 is of one link only"),
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => Some("::ffff:0:0/96 stands for addresses of IPv4"),
        ip => no_machine(ip),
    }
}

/// Why no machine has this address. IPVS takes unicast only.
fn no_machine(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) if ip.octets()[0] == 0 => Some("0.0.0.0/8 is no address of a machine"),
        IpAddr::V4(ip) if ip.is_multicast() => Some("224.0.0.0/4 is multicast"),
        IpAddr::V4(ip) if ip.is_broadcast() => Some("this is the broadcast address"),
        IpAddr::V6(ip) if ip.is_multicast() => Some("ff00::/8 is multicast"),
        IpAddr::V6(ip) if ip.is_unspecified() => Some(":: is no address of a machine"),
        _ => None,
    }
}

/// Why nobody else sends to this address.
fn loopback(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) if ip.is_loopback() => Some("127.0.0.0/8 is reached by nobody else"),
        IpAddr::V6(ip) if ip.is_loopback() => Some("::1 is reached by nobody else"),
        _ => None,
    }
}
