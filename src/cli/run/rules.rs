//! What the steering program is told: which frames are ours.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::director::service::{Method, Service};
use crate::xdp::steer::{Endpoint, Rules};

/// The rules for these services on a host with these addresses.
pub(super) fn rules(services: &[Service], host_addresses: &BTreeSet<IpAddr>) -> Rules {
    let endpoint = |service: &Service, address: std::net::SocketAddr| Endpoint {
        protocol: service.protocol as u8,
        address: address.ip(),
        port: address.port(),
    };
    let nat_servers = services.iter().flat_map(|service| {
        let nat = service.servers.iter().filter(|server| server.method == Method::Nat);
        nat.map(|server| endpoint(service, server.address))
    });
    Rules {
        services: services.iter().map(|s| endpoint(s, s.address)).collect(),
        nat_servers: nat_servers.collect(),
        vips: services.iter().map(Service::vip).collect(),
        host_addresses: host_addresses.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::director::sched::{Kind, Options};
    use crate::director::service::{Protocol, Server};

    #[test]
    fn only_nat_servers_send_replies_here() {
        let server = |address: &str, method| Server { address: address.parse().unwrap(), weight: 1, method };
        let service = Service {
            protocol: Protocol::Tcp,
            address: "192.0.2.10:80".parse().unwrap(),
            scheduler: Kind::Rr,
            options: Options::default(),
            servers: vec![server("10.0.0.1:8080", Method::Nat), server("10.0.0.2:80", Method::Dr)],
        };
        let rules = rules(&[service], &BTreeSet::from(["192.0.2.1".parse().unwrap()]));
        let text = |set: &BTreeSet<Endpoint>| -> Vec<String> {
            set.iter().map(|e| format!("{} {}:{}", e.protocol, e.address, e.port)).collect()
        };
        assert_eq!(text(&rules.services), ["6 192.0.2.10:80"]);
        assert_eq!(text(&rules.nat_servers), ["6 10.0.0.1:8080"]);
        assert_eq!((rules.vips.len(), rules.host_addresses.len()), (1, 1));
    }
}
