//! Servers with FULLNAT at addresses of the director's own. The host sends what they answer, which is for a local address of
//! its own, to itself, and it never comes by the workers, who refuse such connections. Addresses come and go, and so do
//! not make a command wrong: it is said.

use std::collections::HashSet;
use std::net::SocketAddr;

use super::ControlPlane;
use crate::director::name::ServiceKey;
use crate::director::service::Method;
use crate::director::services::VirtualService;

impl ControlPlane {
    /// Says of which servers that cannot be served it has not been said yet.
    pub(super) fn warn_of_servers_here(&mut self) {
        for (service, server) in self.unsaid_here() {
            tracing::warn!(
                "server {server} of service {service} is this host, and FULLNAT does not reach it: what it answers stays on \
                 the host; set forward = \"nat\" for it"
            );
        }
    }

    /// Those of them that have not been given yet since they became so.
    pub(super) fn unsaid_here(&mut self) -> Vec<(ServiceKey, SocketAddr)> {
        let now = self.full_nat_here();
        let unsaid = now.difference(&self.here).copied().collect();
        self.here = now;
        unsaid
    }

    /// Servers that have FULLNAT and are this host.
    pub(super) fn full_nat_here(&self) -> HashSet<(ServiceKey, SocketAddr)> {
        // Most directors have none.
        if self.steered.full_nat_servers.is_empty() {
            return HashSet::new();
        }
        let services = self.director.services.load();
        let of = |service: &VirtualService| {
            let servers = service.destinations.iter().filter(|d| d.method == Method::FullNat);
            let here = servers.filter(|d| self.host.is_here(d.address.ip()));
            here.map(|d| (service.service.key, d.address)).collect::<Vec<_>>()
        };
        services.all().flat_map(|service| of(service)).collect()
    }
}
