//! Names of hosts and ports, both ways: the resolver's and those of `/etc/services`.
//!
//! Answers are kept for as long as the command runs: a listing of connections asks for the same few again and again.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};

use crate::director::service::Protocol;

const SERVICES: &str = "/etc/services";

/// Who is asked for the names of hosts.
trait Hosts: std::fmt::Debug {
    fn name(&self, ip: IpAddr) -> Option<String>;
    fn address(&self, name: &str) -> Option<Ipv4Addr>;
}

/// The names known so far.
#[derive(Debug)]
pub(super) struct Names {
    hosts: Box<dyn Hosts>,
    known: HashMap<IpAddr, Option<String>>,
    /// Read when first needed.
    services: Option<Services>,
}

/// Names and aliases of ports; the first line that has one counts.
#[derive(Debug, Default)]
struct Services {
    names: HashMap<(u16, u8), String>,
    ports: HashMap<(String, u8), u16>,
}

impl Names {
    /// Those of this machine.
    pub fn system() -> Self {
        Self { hosts: Box::new(Resolver), known: HashMap::new(), services: None }
    }

    /// The host's name.
    pub fn host(&mut self, ip: IpAddr) -> Option<&str> {
        let Self { hosts, known, .. } = self;
        known.entry(ip).or_insert_with(|| hosts.name(ip)).as_deref()
    }

    /// The host's IPv4 address.
    pub fn address(&self, name: &str) -> Option<Ipv4Addr> {
        self.hosts.address(name)
    }

    /// The port's name.
    pub fn service(&mut self, port: u16, protocol: Protocol) -> Option<&str> {
        self.services().names.get(&(port, protocol as u8)).map(String::as_str)
    }

    /// The service's port.
    pub fn port(&mut self, name: &str, protocol: Protocol) -> Option<u16> {
        self.services().ports.get(&(name.to_owned(), protocol as u8)).copied()
    }

    fn services(&mut self) -> &Services {
        self.services
            .get_or_insert_with(|| Services::read(&std::fs::read_to_string(SERVICES).unwrap_or_default()))
    }

    /// These hosts and this file of services.
    #[cfg(test)]
    pub fn fixed(hosts: &[(&str, &str)], services: &str) -> Self {
        let host =
            |&(ip, names): &(&str, &str)| (ip.parse().unwrap(), names.split(' ').map(String::from).collect());
        Self {
            hosts: Box::new(Fixed(hosts.iter().map(host).collect())),
            known: HashMap::new(),
            services: Some(Services::read(services)),
        }
    }
}

impl Services {
    /// Reads the lines of services(5): `name port/protocol alias... # comment`.
    fn read(text: &str) -> Self {
        let mut services = Self::default();
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let (Some(name), Some((port, protocol))) =
                (words.next(), words.next().and_then(|word| word.split_once('/')))
            else {
                continue;
            };
            let (Ok(port), Ok(protocol)) = (port.parse(), protocol.parse::<Protocol>()) else { continue };
            services.names.entry((port, protocol as u8)).or_insert_with(|| name.to_owned());
            for name in std::iter::once(name).chain(words) {
                services.ports.entry((name.to_owned(), protocol as u8)).or_insert(port);
            }
        }
        services
    }
}

#[derive(Debug)]
struct Resolver;

impl Hosts for Resolver {
    fn name(&self, ip: IpAddr) -> Option<String> {
        dns_lookup::lookup_addr(&ip).ok()
    }

    fn address(&self, name: &str) -> Option<Ipv4Addr> {
        (name, 0).to_socket_addrs().ok()?.find_map(|address| match address.ip() {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        })
    }
}

#[cfg(test)]
#[derive(Debug)]
struct Fixed(Vec<(IpAddr, Vec<String>)>);

#[cfg(test)]
impl Hosts for Fixed {
    fn name(&self, ip: IpAddr) -> Option<String> {
        self.0.iter().find(|(known, _)| *known == ip).map(|(_, names)| names[0].clone())
    }

    fn address(&self, name: &str) -> Option<Ipv4Addr> {
        self.0.iter().find_map(|(ip, names)| match ip {
            IpAddr::V4(ip) if names.iter().any(|known| known == name) => Some(*ip),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_have_names_by_protocol() {
        let text =
            "# services\nhttp\t80/tcp\twww web # the web\nhttp 80/udp\nalt 80/tcp\nx\ny 1/ddp\nwww 81/tcp\n";
        let mut names = Names::fixed(&[], text);
        assert_eq!(names.service(80, Protocol::Tcp), Some("http"));
        assert_eq!(names.service(80, Protocol::Sctp), None);
        assert_eq!(names.service(1, Protocol::Tcp), None);
        assert_eq!(names.port("www", Protocol::Tcp), Some(80));
        assert_eq!(names.port("www", Protocol::Udp), None);
        assert_eq!(names.port("alt", Protocol::Tcp), Some(80));
    }

    #[test]
    fn the_machine_knows_itself() {
        let mut names = Names::system();
        assert_eq!(names.address("localhost"), Some(Ipv4Addr::LOCALHOST));
        assert_eq!(names.host(Ipv4Addr::LOCALHOST.into()), Some("localhost"));
        assert_eq!(names.host(Ipv4Addr::LOCALHOST.into()), Some("localhost"), "and is not asked twice");
    }
}
