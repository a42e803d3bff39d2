//! The published state: what the workers know of services at one moment.
//!
//! Immutable but for the schedulers' own progress. A change is a new `Services`, swapped in whole; workers load
//! it once a batch.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use super::conn::state::Timeouts;
use super::sched::{Change, Schedule, Scheduler};
use super::server::{Destination, MAX_SERVERS, ServerId};
use super::service::{Method, Protocol, Server, Service};

/// More servers than the director has counters for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} servers, more than the {MAX_SERVERS} there may be: leave some out")]
pub struct TooManyServers(pub usize);

/// A service with the state it is balanced by.
#[derive(Debug)]
pub struct VirtualService {
    /// What the operator wants.
    pub wanted: Service,
    /// Servers in the kernel's order, the newest first.
    pub destinations: Box<[Destination]>,
    /// Chooses among them.
    pub scheduler: Scheduler,
}

impl VirtualService {
    /// Builds the service as `ipvsadm` would: created empty, then one server added after the other. The history
    /// matters: wrr starts on a level that depends on it.
    fn build(wanted: &Service, next_id: &mut u32) -> Self {
        let mut scheduler = Scheduler::new(wanted.scheduler, wanted.options);
        let mut list: Vec<Destination> = Vec::with_capacity(wanted.servers.len());
        for server in &wanted.servers {
            let (id, weight) = (ServerId(*next_id), server.weight);
            *next_id += 1;
            let destination = Destination {
                id,
                address: server.address,
                weight,
                last_weight: weight,
                method: server.method,
            };
            list.insert(0, destination);
            scheduler = scheduler.changed(Change::Added, &list);
        }
        Self { wanted: wanted.clone(), destinations: list.into(), scheduler }
    }
}

/// Protocol, address and port.
type Endpoint = (u8, IpAddr, u16);

/// All services.
#[derive(Debug, Default)]
pub struct Services {
    by_address: HashMap<Endpoint, VirtualService>,
    /// Servers whose packets come through the director.
    nat_servers: HashSet<Endpoint>,
    /// How long connections live.
    pub timeouts: Timeouts,
}

impl Services {
    /// The services an operator wants, all of them new.
    ///
    /// # Errors
    /// When there are more servers than counters.
    pub fn new(wanted: &[Service], timeouts: Timeouts) -> Result<Self, TooManyServers> {
        let servers = wanted.iter().map(|s| s.servers.len()).sum();
        if servers > MAX_SERVERS as usize {
            return Err(TooManyServers(servers));
        }
        let mut next_id = 0;
        let build = |s: &Service| {
            let service = VirtualService::build(s, &mut next_id);
            ((s.protocol as u8, s.address.ip(), s.address.port()), service)
        };
        let nat = |s: &Server| s.method == Method::Nat;
        let endpoints = wanted.iter().flat_map(|service| {
            let servers = service.servers.iter().filter(|s| nat(s));
            servers.map(|s| (service.protocol as u8, s.address.ip(), s.address.port()))
        });
        let nat_servers = endpoints.collect();
        Ok(Self { by_address: wanted.iter().map(build).collect(), nat_servers, timeouts })
    }

    /// The service at a virtual address.
    pub fn find(&self, protocol: u8, address: SocketAddr) -> Option<&VirtualService> {
        self.by_address.get(&(protocol, address.ip(), address.port()))
    }

    /// True if packets from here may be a NAT server's replies.
    pub fn is_nat_server(&self, protocol: u8, address: SocketAddr) -> bool {
        self.nat_servers.contains(&(protocol, address.ip(), address.port()))
    }

    /// Every service in the order `ipvsadm -Ln` lists them: by protocol, address and port.
    pub fn sorted(&self) -> Vec<&VirtualService> {
        let mut all: Vec<_> = self.by_address.iter().collect();
        all.sort_by_key(|(key, _)| **key);
        all.into_iter().map(|(_, service)| service).collect()
    }

    /// True for a protocol some service may have.
    pub const fn balances(protocol: u8) -> bool {
        Protocol::from_number(protocol).is_some()
    }
}
