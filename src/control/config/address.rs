//! Addresses of services and servers: what `ipvsadm -t` and `-r` take, and why one is refused.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::reader::Field;
use super::report::Problems;
use super::value::text;

/// The address of a server as written; without a port it is the service's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ServerAddress {
    pub ip: IpAddr,
    pub port: Option<u16>,
}

/// `VIP:port`.
pub(super) fn service(field: &Field<'_>, problems: &mut Problems) -> Option<SocketAddr> {
    let given = text(field, problems)?;
    let address = parse(given).and_then(|(ip, port)| match port {
        Some(0) => Err((
            "port 0 (every port) needs persistence, which xvs does not have yet",
            "give 1 to 65_535".into(),
        )),
        Some(port) => Ok(SocketAddr::new(ip, port)),
        None => Err(("the port is missing", format!("write \"{ip}:PORT\", for example \"{ip}:80\""))),
    });
    report(field, given, address, problems)
}

/// `RIP` or `RIP:port`.
pub(super) fn server(field: &Field<'_>, problems: &mut Problems) -> Option<ServerAddress> {
    let given = text(field, problems)?;
    let address = parse(given).and_then(|(ip, port)| match port {
        Some(0) => Err(("port 0 is no port", format!("write \"{ip}\" alone for the port of the service"))),
        port => Ok(ServerAddress { ip, port }),
    });
    report(field, given, address, problems)
}

/// Why an address is refused, and the cure.
type Refusal = (&'static str, String);

fn report<T>(field: &Field<'_>, given: &str, read: Result<T, Refusal>, problems: &mut Problems) -> Option<T> {
    read.map_err(|(reason, cure)| {
        let message = format!("{} = \"{given}\": {reason}", field.key);
        problems.error(field.span.clone(), message).cure(cure);
    })
    .ok()
}

fn parse(given: &str) -> Result<(IpAddr, Option<u16>), Refusal> {
    let (ip, port) = if let Ok(address) = given.parse::<SocketAddr>() {
        (address.ip(), Some(address.port()))
    } else if let Ok(ip) = given.parse::<IpAddr>() {
        (ip, None)
    } else {
        return Err(unreadable(given));
    };
    match ip {
        IpAddr::V6(_) => Err(("IPv6 is not supported yet", "give an IPv4 address".to_owned())),
        IpAddr::V4(v4) => match not_unicast(v4) {
            Some(reason) => Err((reason, "give the unicast address of one machine".to_owned())),
            None => Ok((ip, port)),
        },
    }
}

fn unreadable(given: &str) -> Refusal {
    match given.rsplit_once(':') {
        Some((ip, _)) if ip.parse::<Ipv4Addr>().is_ok() => (
            "the port is not a number from 1 to 65_535",
            format!("write \"{ip}:PORT\", for example \"{ip}:80\""),
        ),
        _ => (
            "this is no IPv4 address (names are not resolved)",
            "write four numbers, for example \"192.0.2.10:80\"".to_owned(),
        ),
    }
}

/// IPVS too takes unicast only; it also takes loopback, for servers on the director itself, which xvs has
/// no way to reach: its packets leave by an interface.
const fn not_unicast(ip: Ipv4Addr) -> Option<&'static str> {
    if ip.octets()[0] == 0 {
        Some("0.0.0.0/8 is no address of a machine")
    } else if ip.is_loopback() {
        Some("127.0.0.0/8 is this machine itself, and xvs forwards to others only")
    } else if ip.is_multicast() {
        Some("224.0.0.0/4 is multicast")
    } else if ip.is_broadcast() {
        Some("this is the broadcast address")
    } else {
        None
    }
}
