//! What the steering program is told: which frames are ours.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use crate::director::name::ServiceKey;
use crate::director::service::Protocol;
use crate::director::services::Services;
use crate::xdp::steer::{Endpoint, Rules};

/// The rules for these services on a host with these addresses.
pub(super) fn rules(services: &Services, host_addresses: &BTreeSet<IpAddr>) -> Rules {
    let endpoint = |protocol: Protocol, address: SocketAddr| Endpoint {
        protocol: protocol as u8,
        address: address.ip(),
        port: address.port(),
    };
    let of_service = |key: ServiceKey| match key {
        ServiceKey::Address { protocol, address } => Some(endpoint(protocol, address)),
        ServiceKey::Mark { .. } => None,
    };
    Rules {
        services: services.all().filter_map(|s| of_service(s.service.key)).collect(),
        nat_servers: services.nat_servers().map(|&(protocol, address)| endpoint(protocol, address)).collect(),
        vips: services.vips().collect(),
        host_addresses: host_addresses.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::director::conn::state::Timeouts;
    use crate::director::service::{Method, Pool, Server, Service};

    #[test]
    fn only_nat_servers_send_replies_here() {
        let server = |address: &str, method| Server::new(address.parse().unwrap(), method);
        let pool = Pool {
            service: Service::new("tcp:192.0.2.10:80".parse().unwrap()),
            servers: vec![server("10.0.0.1:8080", Method::Nat), server("10.0.0.2:80", Method::Dr)],
        };
        let services = Services::new(&[pool], Timeouts::default()).unwrap();
        let rules = rules(&services, &BTreeSet::from(["192.0.2.1".parse().unwrap()]));
        let text = |set: &BTreeSet<Endpoint>| -> Vec<String> {
            set.iter().map(|e| format!("{} {}:{}", e.protocol, e.address, e.port)).collect()
        };
        assert_eq!(text(&rules.services), ["6 192.0.2.10:80"]);
        assert_eq!(text(&rules.nat_servers), ["6 10.0.0.1:8080"]);
        assert_eq!((rules.vips.len(), rules.host_addresses.len()), (1, 1));
    }
}
