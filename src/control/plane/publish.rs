//! From a draft to the workers, the steering program and the neighbours; nothing half-way.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;

use super::ftp::ftp_data;
use super::perform::After;
use super::{ControlPlane, Steered};
use crate::control::command::{Code, Refusal};
use crate::director::draft::Draft;
use crate::director::local::Ports;
use crate::director::name::ServiceKey;
use crate::director::roster::Roster;
use crate::director::server::{Counts, Destination};
use crate::director::service::{Method, ServerState};
use crate::director::services::{Services, reply_endpoints};
use crate::director::time::Time;

impl ControlPlane {
    /// Publishes a draft, and does what is to be done after.
    ///
    /// The steering program comes first, since it is the one that may refuse; between it and the workers' next
    /// batch a packet of a new service finds no service, as it did before.
    pub(super) fn publish(&mut self, mut draft: Draft, after: Vec<After>) -> Result<(), Refusal> {
        let wanted = steered(draft.services(), draft.roster(), &self.director.counts, &self.steered);
        if wanted != self.steered {
            self.host.steer(&wanted).map_err(|why| Refusal::new(Code::Host, why))?;
            self.steered = wanted;
        }
        if draft.services().timeouts != self.director.services.load().timeouts {
            draft.settings().timeouts_since = self.tick_now();
        }
        let servers = addresses(draft.services());
        let (roster, before) = self.director.publish(draft);
        self.roster = roster;
        let now = self.director.services.load_full();
        self.statistics.follow(&before, &now, Self::raw(&self.director));
        if servers != addresses(&before) {
            self.host.watch(servers);
        }
        if now.lacks_a_server_of(&before) {
            // From the first place on again: their connections may be anywhere.
            self.orphans = Some(0);
            self.end_orphans();
        }
        self.before.push(before);
        self.free_snapshots();
        self.warn_of_servers_here();
        for what in after {
            match what {
                After::Fresh(key) => {
                    if let Some(service) = now.get(&key) {
                        self.statistics.restart(service, Self::raw(&self.director));
                    }
                }
                After::Zero(service) => self.statistics.zero(service),
                After::Drain(service, server, deadline_s) => {
                    let ticks = deadline_s.map(|s| s.saturating_mul(Time::TICKS_PER_S));
                    let deadline = ticks.map(|ticks| self.tick_now().saturating_add(ticks));
                    self.drains.insert((service, server), deadline);
                }
                After::Stay(service, server) => drop(self.drains.remove(&(service, server))),
            }
        }
        // Last, since a later command of the same batch may have ended a drain.
        self.drains.retain(|(key, address), _| is_quiet(&now, key, *address));
        Ok(())
    }

    /// Steers anew if removed servers have lost their last connections, or failed to be steered before.
    pub(super) fn steer_again(&mut self) {
        let services = self.director.services.load_full();
        let wanted = steered(&services, &self.roster, &self.director.counts, &self.steered);
        if wanted != self.steered {
            match self.host.steer(&wanted) {
                Ok(()) => self.steered = wanted,
                Err(why) => tracing::debug!("steering again later: {why}"),
            }
        }
    }

    /// Frees the snapshots that no worker holds any more.
    pub(super) fn free_snapshots(&mut self) {
        self.before.retain(|services| Arc::strong_count(services) > 1);
    }
}

/// True if the server is there and waits for its end.
fn is_quiet(services: &Services, key: &ServiceKey, address: SocketAddr) -> bool {
    let service = services.get(key);
    let server = service.and_then(|s| s.destinations.get(s.position(address)?));
    server.is_some_and(|server| server.state != ServerState::Up)
}

fn addresses(services: &Services) -> BTreeSet<std::net::IpAddr> {
    services.all().flat_map(|s| s.destinations.iter().map(|d| d.address.ip())).collect()
}

/// Bytes in front of every packet of a service: none if its servers need different ones.
fn room(servers: &[Destination]) -> Option<u16> {
    let needs = |server: &Destination| match server.method {
        Method::Tun(tunnel) => Some(tunnel.overhead(server.address.is_ipv4())),
        Method::Nat | Method::Dr | Method::FullNat => None,
    };
    let first = needs(servers.first()?)?;
    let same = servers.iter().all(|server| needs(server) == Some(first));
    same.then_some(first).and_then(|bytes| u16::try_from(bytes).ok())
}

/// Another service's ports of a local address.
fn add_local(wanted: &mut Steered, address: IpAddr, ports: Ports) {
    let all = wanted.local_addresses.entry(address).or_insert(ports);
    *all = all.joined(ports);
}

/// Where the tunnel that takes a service's packets to a server ends, if there is one.
fn tunnel_end(key: ServiceKey, method: Method, server: IpAddr) -> Option<(u8, SocketAddr)> {
    let Method::Tun(tunnel) = method else { return None };
    let (protocol, port) = tunnel.carrier(key.is_v4());
    Some((protocol, SocketAddr::new(server, port)))
}

/// What must come up: what services take, and what removed ones took as long as they have connections, which live
/// on if server and service come back. Nor does a server whose way of forwarding is changed leave its connections:
/// the replies of one that had NAT or FULLNAT come up as they did `before`, and so do those to local addresses that were
/// taken away, as long as any server with FULLNAT has connections.
fn steered(services: &Services, roster: &Roster, counts: &Counts, before: &Steered) -> Steered {
    let mut wanted = Steered::default();
    let mut marks: HashSet<NonZeroU32> = HashSet::new();
    let mut service = |wanted: &mut Steered, key: ServiceKey| match key {
        ServiceKey::Address { protocol, address } => {
            wanted.services.insert((protocol, address));
            wanted.vips.insert(address.ip());
        }
        ServiceKey::Mark { mark, .. } => drop(marks.insert(mark)),
    };
    wanted.nat_servers.extend(services.nat_servers());
    let mut keeps_locals = false;
    let mut had_nat = |wanted: &mut Steered, key: ServiceKey, server: SocketAddr| {
        for end in reply_endpoints(key, server) {
            wanted.nat_servers.extend(before.nat_servers.get(&end));
            wanted.full_nat_servers.extend(before.full_nat_servers.get(&end));
            keeps_locals |= before.full_nat_servers.contains(&end);
        }
    };
    for s in services.all() {
        service(&mut wanted, s.service.key);
        let ends = s.destinations.iter().filter_map(|d| tunnel_end(s.service.key, d.method, d.address.ip()));
        wanted.tunnels.extend(ends);
        if let ServiceKey::Address { protocol, address } = s.service.key {
            wanted.rooms.extend(room(&s.destinations).map(|room| ((protocol, address), room)));
        }
        for d in s.destinations.iter().filter(|d| counts.any(d.id)) {
            had_nat(&mut wanted, s.service.key, d.address);
        }
        for d in s.destinations.iter().filter(|d| d.method == Method::FullNat) {
            wanted.full_nat_servers.extend(reply_endpoints(s.service.key, d.address));
            for address in s.service.locals.addresses() {
                add_local(&mut wanted, address, s.service.locals.ports);
            }
        }
    }
    for (key, removed) in roster.removed().filter(|(_, removed)| counts.any(removed.id)) {
        service(&mut wanted, key);
        wanted.tunnels.extend(tunnel_end(key, removed.server.method, removed.server.address.ip()));
        if removed.server.method == Method::Nat {
            wanted.nat_servers.extend(reply_endpoints(key, removed.server.address));
        }
        had_nat(&mut wanted, key, removed.server.address);
    }
    if keeps_locals {
        for (address, ports) in &before.local_addresses {
            add_local(&mut wanted, *address, *ports);
        }
    }
    wanted.marks = services.marks.iter().filter(|rule| marks.contains(&rule.mark)).copied().collect();
    wanted.ftp = ftp_data(services, roster, counts, &wanted.marks, &before.ftp);
    // Of networks there are too many addresses: their fragments stay with the kernel.
    let single = wanted.marks.iter().filter(|r| r.destination.prefix_len() == r.destination.max_prefix_len());
    wanted.vips.extend(single.map(|rule| rule.destination.addr()));
    wanted
}
