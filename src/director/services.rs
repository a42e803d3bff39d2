//! The published state: what the workers know of services at one moment.
//!
//! Immutable but for the schedulers' own progress. A change is a new `Services`, made by a
//! [`Draft`] and swapped in whole; workers load it once a batch. What did not change is shared
//! with the one before.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use foldhash::fast::RandomState;
use indexmap::IndexMap;

use super::conn::state::{State, Timeouts};
use super::draft::{Draft, Refused};
use super::marks::{self, MarkRule};
use super::name::ServiceKey;
use super::roster::Roster;
use super::sched::{Change, Ramp, Schedule, Scheduler};
use super::server::{Destination, MAX_IDS, ServerId};
use super::service::{Method, Pool, Protocol, Service, Tunnel};
use super::terms::AllTerms;
use super::time::Time;
use super::tunables::Tunables;
use crate::packet::flow::FlowKey;

/// Port of FTP's control connection.
pub const FTP: u16 = 21;
/// Port of active FTP's data connections.
pub const FTP_DATA: u16 = 20;
/// The first port that needs no privilege to listen at (`ip_unprivileged_port_start`): those of passive FTP.
pub const UNPRIVILEGED: u16 = 1024;

/// A service with the state it is balanced by.
#[derive(Debug)]
pub struct VirtualService {
    /// What the operator wants.
    pub service: Service,
    /// Servers in the kernel's order, the newest first.
    pub destinations: Box<[Destination]>,
    /// Chooses among them.
    pub scheduler: Scheduler,
    /// The tick until which some of them have less than their whole share.
    ramps_until: u32,
}

impl VirtualService {
    /// The service as it is created: without servers.
    pub(super) fn new(service: Service) -> Self {
        let scheduler = Scheduler::new(service.scheduler, service.options);
        Self { service, destinations: Box::default(), scheduler, ramps_until: 0 }
    }

    /// A service with these servers and this scheduler.
    pub(crate) fn of(service: Service, destinations: Box<[Destination]>, scheduler: Scheduler) -> Self {
        let ticks = service.switches.slow_start_s.saturating_mul(Time::TICKS_PER_S);
        let taking = destinations.iter().filter(|d| d.weight > 0 && ticks > 0);
        let ramps_until = taking.map(|d| d.since.saturating_add(ticks)).max().unwrap_or(0);
        Self { service, destinations, scheduler, ramps_until }
    }

    /// How shares grow at `tick`, if any still does.
    #[inline]
    pub fn ramp(&self, tick: u32) -> Option<Ramp> {
        let ticks = || self.service.switches.slow_start_s.saturating_mul(Time::TICKS_PER_S);
        (tick < self.ramps_until).then(|| Ramp { tick, ticks: ticks() })
    }

    /// True if packets to [`FTP_DATA`] and from [`UNPRIVILEGED`] on of its address may be this service's: of FTP's if persistence keeps them
    /// together, or a helper announces them, which is there with NAT and if it `may_help`.
    pub fn takes_ftp_data(&self, may_help: bool) -> bool {
        let is_nat = || self.destinations.iter().any(|d| d.method == Method::Nat);
        self.service.key.is_ftp() && (self.service.persistence.is_some() || (may_help && is_nat()))
    }

    /// The same with another list of servers, of which `change` tells the difference.
    pub(super) fn with(&self, change: Change, destinations: Vec<Destination>) -> Self {
        let scheduler = self.scheduler.changed(change, &destinations);
        Self::of(self.service, destinations.into(), scheduler)
    }

    /// The same with other settings (`ip_vs_edit_service`): the scheduler goes on unless it is another one.
    pub(super) fn edited(&self, service: Service) -> Self {
        let scheduler = self.scheduler.edited(service.scheduler, service.options, &self.destinations);
        Self::of(service, self.destinations.clone(), scheduler)
    }

    /// The server with this number, if it is in the service.
    pub fn destination(&self, id: ServerId) -> Option<&Destination> {
        self.destinations.iter().find(|d| d.id == id)
    }

    /// The place in the list of the server with this address.
    pub fn position(&self, address: SocketAddr) -> Option<usize> {
        self.destinations.iter().position(|d| d.address == address)
    }
}

/// Protocol, address and port; port 0 is every port.
pub type Endpoint = (Protocol, SocketAddr);

/// A bit for each number of a server, set while it is in its service and not down: asked for every packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Available([u64; Self::WORDS]);

impl Available {
    const WORDS: usize = MAX_IDS.div_ceil(u64::BITS) as usize;

    /// Word and bit of a number, all of which are below [`MAX_IDS`].
    #[inline]
    const fn place(id: ServerId) -> (usize, u64) {
        ((id.0 / u64::BITS) as usize % Self::WORDS, 1 << (id.0 % u64::BITS))
    }

    #[inline]
    pub(super) const fn has(&self, id: ServerId) -> bool {
        let (word, bit) = Self::place(id);
        self.0[word] & bit != 0
    }
}

/// Where the replies of a NAT server of this service come from: all ports of it, if the service has all ports or is FTP's,
/// whose data connections have any, and of every protocol, if it is a firewall mark's.
pub fn reply_endpoints(service: ServiceKey, server: SocketAddr) -> impl Iterator<Item = Endpoint> {
    let port = if service.port() == 0 || service.is_ftp() { 0 } else { server.port() };
    let has = move |protocol: &Protocol| match service {
        ServiceKey::Address { protocol: own, .. } => own == *protocol,
        ServiceKey::Mark { .. } => true,
    };
    let protocols = Protocol::ALL.iter().copied().filter(has);
    protocols.map(move |protocol| (protocol, SocketAddr::new(server.ip(), port)))
}

/// All services.
#[derive(Clone, Debug)]
pub struct Services {
    /// In the order they were added.
    pub(super) list: IndexMap<ServiceKey, Arc<VirtualService>, RandomState>,
    /// How many servers there are in all services.
    pub(super) servers: usize,
    /// Servers whose packets come through the director, and in how many services each is.
    pub(super) nat_servers: Arc<HashMap<Endpoint, u32, RandomState>>,
    /// Their addresses, and how many of them have each.
    nat_addresses: Arc<HashMap<IpAddr, u32, RandomState>>,
    /// Servers that are in their services and not down.
    pub(super) available: Arc<Available>,
    /// What is between the director and a server, by the server's number; nothing where no tunnel was yet.
    pub(super) tunnels: Arc<Vec<Tunnel>>,
    /// What their services have switched on, of removed servers too.
    pub(super) terms: AllTerms,
    /// Which packets get a firewall mark.
    pub marks: Arc<[MarkRule]>,
    /// How long connections live.
    pub timeouts: Timeouts,
    /// The tick since which they do.
    pub timeouts_since: u32,
    /// Settings of the director as a whole.
    pub tunables: Tunables,
    /// Changes with whatever the connections there are depend on (`binds_as`).
    pub binding: u32,
}

/// A tick that none is near to: 17 years of ticks away from the first ones.
const LONG_AGO: u32 = u32::MAX / 2;

impl Default for Services {
    /// No services.
    fn default() -> Self {
        Self {
            list: IndexMap::default(),
            servers: 0,
            nat_servers: Arc::default(),
            nat_addresses: Arc::default(),
            available: Arc::new(Available([0; Available::WORDS])),
            tunnels: Arc::default(),
            terms: AllTerms::default(),
            marks: Arc::default(),
            timeouts: Timeouts::default(),
            timeouts_since: LONG_AGO,
            tunables: Tunables::default(),
            binding: 0,
        }
    }
}

impl Services {
    /// The services an operator wants, all of them new, each built as `ipvsadm` would: created empty, then one
    /// server added after the other.
    ///
    /// # Errors
    /// What the commands would be refused for.
    pub fn new(wanted: &[Pool], timeouts: Timeouts) -> Result<Self, Refused> {
        let mut draft = Draft::new(&Self { timeouts, ..Self::default() }, &Roster::default());
        for pool in wanted {
            draft.add_service(pool.service)?;
            pool.servers.iter().try_for_each(|server| draft.add_server(pool.service.key, *server))?;
        }
        Ok(draft.services)
    }

    /// The service at a virtual address.
    pub fn find(&self, protocol: u8, address: SocketAddr) -> Option<&VirtualService> {
        let protocol = Protocol::from_number(protocol)?;
        self.get(&ServiceKey::new(protocol, address))
    }

    /// The service of a packet that belongs to no connection, in the order of `ip_vs_service_find`: of its mark; of
    /// its destination; FTP's, whose data connections have other ports; of all ports of the address.
    pub fn of_packet(&self, key: &FlowKey) -> Option<&VirtualService> {
        let (protocol, address) = (key.protocol(), key.destination());
        let by_mark = || {
            let mark = marks::mark_of(&self.marks, key)?;
            self.get(&ServiceKey::Mark { mark, v6: !key.is_v4() })
        };
        let of_port = |port| self.find(protocol, SocketAddr::new(address.ip(), port));
        let may_be_ftp =
            protocol == Protocol::Tcp as u8 && (address.port() == FTP_DATA || address.port() >= UNPRIVILEGED);
        by_mark()
            .or_else(|| self.find(protocol, address))
            .or_else(|| of_port(FTP).filter(|_| may_be_ftp))
            .or_else(|| of_port(0))
    }

    /// The service of this name.
    pub fn get(&self, key: &ServiceKey) -> Option<&VirtualService> {
        self.list.get(key).map(Arc::as_ref)
    }

    /// True if packets from here may be a NAT server's replies.
    pub fn is_nat_server(&self, protocol: u8, address: SocketAddr) -> bool {
        let whole = SocketAddr::new(address.ip(), 0);
        Protocol::from_number(protocol)
            .is_some_and(|p| [address, whole].iter().any(|a| self.nat_servers.contains_key(&(p, *a))))
    }

    /// True if this is a NAT server's address and port, not only its address.
    pub(super) fn is_nat_server_at(&self, protocol: u8, address: SocketAddr) -> bool {
        Protocol::from_number(protocol).is_some_and(|p| self.nat_servers.contains_key(&(p, address)))
    }

    /// True for an address of a server whose packets come through the director, whatever their protocol and port.
    pub fn is_nat_address(&self, address: IpAddr) -> bool {
        self.nat_addresses.contains_key(&address)
    }

    /// True if this server is in its service, and not down.
    #[inline]
    pub fn is_available(&self, id: ServerId) -> bool {
        self.available.has(id)
    }

    /// The seconds that a connection of this server lives without packets.
    pub(super) fn timeout_s(&self, id: ServerId, protocol: u8, state: State) -> u32 {
        let own = self.terms.of(id).timeout_s(protocol, state);
        own.unwrap_or_else(|| self.timeouts.of(protocol, state))
    }

    /// True if a server of `before` is not in its service any more, or is down now.
    pub fn lacks_a_server_of(&self, before: &Self) -> bool {
        self.available.0.iter().zip(before.available.0.iter()).any(|(now, before)| before & !now != 0)
    }

    /// Every service in the order they were added.
    pub fn all(&self) -> impl ExactSizeIterator<Item = &Arc<VirtualService>> {
        self.list.values()
    }

    /// Every service in the order `ipvsadm -Ln` lists them: by mark, family, protocol, address and port.
    pub fn sorted(&self) -> Vec<&VirtualService> {
        let mut all: Vec<_> = self.list.values().map(Arc::as_ref).collect();
        all.sort_by_key(|service| service.service.key);
        all
    }

    /// Every service with its servers, in the order all of them were added.
    pub fn pools(&self) -> Vec<Pool> {
        let pool = |v: &Arc<VirtualService>| Pool {
            service: v.service,
            servers: v.destinations.iter().rev().map(Destination::server).collect(),
        };
        self.list.values().map(pool).collect()
    }

    /// Addresses that services are reached at; those of marks are in their rules.
    pub fn vips(&self) -> impl Iterator<Item = IpAddr> {
        self.list.keys().filter_map(ServiceKey::vip)
    }

    /// NAT servers by protocol, address and port.
    pub fn nat_servers(&self) -> impl Iterator<Item = &Endpoint> {
        self.nat_servers.keys()
    }

    /// True for a protocol some service may have.
    pub const fn balances(protocol: u8) -> bool {
        Protocol::from_number(protocol).is_some()
    }

    pub(super) fn set_available(&mut self, id: ServerId, is_available: bool) {
        let (word, bit) = Available::place(id);
        let word = &mut Arc::make_mut(&mut self.available).0[word];
        *word = if is_available { *word | bit } else { *word & !bit };
    }

    /// True if the packets of connections there are fare as they do by `other`: weights, thresholds, schedulers and new
    /// servers concern new connections only.
    pub(super) fn binds_as(&self, other: &Self) -> bool {
        self.available == other.available
            && self.tunnels == other.tunnels
            && self.terms == other.terms
            && self.timeouts == other.timeouts
            && self.tunables == other.tunables
    }

    /// The tunnel to the server with this number, if it is behind one.
    #[inline]
    pub(super) fn tunnel(&self, id: ServerId) -> Tunnel {
        self.tunnels.get(id.0 as usize).copied().unwrap_or_default()
    }

    /// Notes what is between the director and a server.
    pub(super) fn set_tunnel(&mut self, server: &Destination) {
        let Method::Tun(tunnel) = server.method else { return };
        if self.tunnel(server.id) != tunnel {
            let (tunnels, place) = (Arc::make_mut(&mut self.tunnels), server.id.0 as usize);
            if tunnels.len() <= place {
                tunnels.resize(place + 1, Tunnel::default());
            }
            tunnels[place] = tunnel;
        }
    }

    /// Counts a NAT server in, or out.
    pub(super) fn count_nat(&mut self, service: &ServiceKey, server: &Destination, is_in: bool) {
        if server.method != Method::Nat {
            return;
        }
        let counts = Arc::make_mut(&mut self.nat_servers);
        for endpoint in reply_endpoints(*service, server.address) {
            count(counts, endpoint, is_in);
        }
        count(Arc::make_mut(&mut self.nat_addresses), server.address.ip(), is_in);
    }
}

/// One more of `what`, or one less.
fn count<T: Copy + Eq + Hash>(counts: &mut HashMap<T, u32, RandomState>, what: T, is_in: bool) {
    let count = counts.entry(what).or_default();
    *count = if is_in { *count + 1 } else { count.saturating_sub(1) };
    if *count == 0 {
        counts.remove(&what);
    }
}
