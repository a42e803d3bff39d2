//! Changes of services, made on a copy and published whole: what `ip_vs_ctl.c` does for each command, with the
//! kernel's refusals, orders and odd rules.
//!
//! A draft that is dropped has changed nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use super::name::ServiceKey;
use super::roster::Roster;
use super::sched::{Change, Kind, MAGLEV_SLOTS};
use super::server::{Destination, MAX_SERVERS, ServerId};
use super::service::{
    MAX_DRAIN_S, MAX_PERSISTENCE_S, MAX_WEIGHT, Method, Pool, Protocol, Server, Service, Tunnel,
};
use super::services::{Services, VirtualService};
use super::terms::Terms;

/// Most services there may be: what the steering program holds, with room for all protocols.
pub const MAX_SERVICES: usize = 16_384;

/// Why a command is refused. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Refused {
    #[error("service {0} exists already: edit it, or delete it first")]
    ServiceExists(ServiceKey),
    #[error("there is no service {0}: add it first; `xvs show services` lists those there are")]
    NoService(ServiceKey),
    #[error("server {server} is in service {service} already: edit it, or delete it first")]
    ServerExists { service: ServiceKey, server: SocketAddr },
    #[error(
        "there is no server {server} in service {service}: add it first; `xvs show servers` lists those there are"
    )]
    NoServer { service: ServiceKey, server: SocketAddr },
    #[error("{what} {value} is outside of {least}..={most}")]
    OutOfRange { what: &'static str, value: u32, least: u32, most: u32 },
    #[error(
        "lower threshold {lower} is above upper threshold {upper} of server {server}: give at most the upper one"
    )]
    Thresholds { server: SocketAddr, upper: u32, lower: u32 },
    #[error("server {0} is not one host's address: give the address of a machine")]
    NotUnicast(SocketAddr),
    #[error(
        "server {server} has another port than service {service}, and packets are not changed on the way to it: use the service's port, or NAT"
    )]
    Port { service: ServiceKey, server: SocketAddr },
    #[error("server {server} and service {service} have different address families: only tunnels may")]
    Family { service: ServiceKey, server: SocketAddr },
    #[error(
        "server {server} is to have FULLNAT, and service {service} has no local address of its IP version: give it local_addresses"
    )]
    NoLocalAddress { service: ServiceKey, server: SocketAddr },
    #[error(
        "server {server} of service {service} is this host, and FULLNAT does not reach it: use NAT for it, or another machine"
    )]
    FullNatHere { service: ServiceKey, server: SocketAddr },
    #[error(
        "service {0} schedules packets one by one, and the replies of servers with FULLNAT find their way by a connection: use NAT, or do without one_packet"
    )]
    OnePacketFullNat(ServiceKey),
    #[error("service {0} has port 0, which stands for all ports and needs persistence")]
    ZeroPort(ServiceKey),
    #[error(
        "service {0} cannot schedule packets one by one: only UDP services and those of firewall marks can"
    )]
    OnePacket(ServiceKey),
    #[error(
        "service {service} has {servers} servers, and scheduler mh has room for {slots}: delete some, or use sh"
    )]
    Maglev { service: ServiceKey, servers: usize, slots: usize },
    #[error(
        "client_address = {how} cannot be had for service {service}: PROXY headers are for TCP and UDP, the TCP option for TCP, and neither is for FTP; set client_address=none"
    )]
    ClientAddress { service: ServiceKey, how: &'static str },
    #[error(
        "client_address = {how} of service {service} cannot be done for server {server}, which answers clients directly: use NAT or FULLNAT for the server, or set client_address=none"
    )]
    ClientAddressMethod { service: ServiceKey, server: SocketAddr, how: &'static str },
    #[error("{0} services are all there may be: delete one first")]
    TooManyServices(usize),
    #[error(
        "{0} servers are all there may be, removed ones with connections among them: delete some, or wait for their connections to end"
    )]
    TooManyServers(usize),
}

/// Services in the making.
#[derive(Debug)]
pub struct Draft {
    pub(super) services: Services,
    pub(super) roster: Roster,
    /// Servers whose thresholds have to be set: number, upper, lower.
    pub(super) thresholds: Vec<(ServerId, u32, u32)>,
    /// The moment of the changes.
    tick: u32,
}

impl Draft {
    /// A copy to change.
    pub fn new(services: &Services, roster: &Roster) -> Self {
        Self { services: services.clone(), roster: roster.clone(), thresholds: Vec::new(), tick: 0 }
    }

    /// The same, and its changes are made at `tick`: from then on shares grow and time of draining counts.
    #[must_use]
    pub fn at(self, tick: u32) -> Self {
        Self { tick, ..self }
    }

    /// What it has become, unpublished.
    pub fn into_parts(self) -> (Services, Roster) {
        (self.services, self.roster)
    }

    /// The services as they are now in this draft.
    pub const fn services(&self) -> &Services {
        &self.services
    }

    /// Numbers of servers as they are now in this draft.
    pub const fn roster(&self) -> &Roster {
        &self.roster
    }

    /// What is no service: timeouts, tunables, marks.
    pub const fn settings(&mut self) -> &mut Services {
        &mut self.services
    }

    /// `ipvsadm -A`.
    ///
    /// # Errors
    /// It is there already, its values contradict each other, or there are too many.
    pub fn add_service(&mut self, service: Service) -> Result<(), Refused> {
        if self.services.list.contains_key(&service.key) {
            return Err(Refused::ServiceExists(service.key));
        }
        check_service(&service)?;
        if self.services.list.len() >= MAX_SERVICES {
            return Err(Refused::TooManyServices(MAX_SERVICES));
        }
        self.services.list.insert(service.key, Arc::new(VirtualService::new(service)));
        Ok(())
    }

    /// `ipvsadm -E`: everything but the servers is as it says, what it does not say included.
    ///
    /// # Errors
    /// It is not there, or its values contradict each other.
    pub fn edit_service(&mut self, service: Service) -> Result<(), Refused> {
        let old = self.service(&service.key)?;
        old.destinations.iter().try_for_each(|d| {
            check_local(&service, &d.server())?;
            check_told(&service, &d.server())
        })?;
        self.edit(service, &old)
    }

    /// As [`edit_service`](Self::edit_service), and its servers are not looked at, which may change too.
    fn edit(&mut self, service: Service, old: &VirtualService) -> Result<(), Refused> {
        check_service(&service)?;
        // A server that is added to so many is taken, and gets nothing; only beginning with them is refused.
        let servers = old.destinations.len();
        if service.scheduler == Kind::Mh && old.service.scheduler != Kind::Mh && servers > MAGLEV_SLOTS {
            return Err(Refused::Maglev { service: service.key, servers, slots: MAGLEV_SLOTS });
        }
        let new = old.edited(service);
        if service.switches != old.service.switches {
            for destination in &new.destinations {
                self.settle(&service, destination);
            }
            let removed = self.roster.removed().filter(|(key, _)| *key == service.key);
            for (_, removed) in removed {
                self.services.terms.set(removed.id, Terms::new(&service.switches, false));
            }
        }
        self.put(new);
        Ok(())
    }

    /// `ipvsadm -D`: with all its servers. Its connections stay, in case that it comes back.
    ///
    /// # Errors
    /// It is not there.
    pub fn remove_service(&mut self, key: ServiceKey) -> Result<(), Refused> {
        let service = self.services.list.shift_remove(&key).ok_or(Refused::NoService(key))?;
        for destination in &service.destinations {
            self.forget(&service.service, destination);
        }
        Ok(())
    }

    /// `ipvsadm -C`: all services, not the timeouts.
    pub fn clear(&mut self) {
        let keys: Vec<_> = self.services.list.keys().copied().collect();
        for key in keys.into_iter().rev() {
            let _there = self.remove_service(key);
        }
    }

    /// `ipvsadm -a`: at the head of the list.
    ///
    /// # Errors
    /// There is no such service, the server is there already, its values contradict each other, or there are
    /// too many.
    pub fn add_server(&mut self, key: ServiceKey, server: Server) -> Result<(), Refused> {
        let service = self.service(&key)?;
        check_server(&key, &server)?;
        check_told(&service.service, &server)?;
        check_local(&service.service, &server)?;
        if service.position(server.address).is_some() {
            return Err(Refused::ServerExists { service: key, server: server.address });
        }
        let too_many = Refused::TooManyServers(MAX_SERVERS as usize);
        if self.services.servers >= MAX_SERVERS as usize {
            return Err(too_many);
        }
        let id = self.roster.enter(key, server.address).ok_or(too_many)?;
        let destination = Destination { since: self.tick, ..Destination::new(id, &server) };
        let mut list = Vec::with_capacity(service.destinations.len() + 1);
        list.push(destination);
        list.extend_from_slice(&service.destinations);
        self.put(service.with(Change::Added, list));
        self.services.servers += 1;
        self.settle(&service.service, &destination);
        self.services.count_nat(&key, &destination, true);
        self.services.set_tunnel(&destination);
        self.thresholds.push((id, server.upper, server.lower));
        Ok(())
    }

    /// `ipvsadm -e`: everything is as it says, what it does not say included; its place in the list stays.
    ///
    /// # Errors
    /// There is no such service or server, or its values contradict each other.
    pub fn edit_server(&mut self, key: ServiceKey, server: Server) -> Result<(), Refused> {
        let service = self.service(&key)?;
        check_server(&key, &server)?;
        check_told(&service.service, &server)?;
        let there = service.position(server.address);
        let index = there.ok_or(Refused::NoServer { service: key, server: server.address })?;
        check_local(&service.service, &server)?;
        let mut list = service.destinations.to_vec();
        let old = list[index];
        let new = old.edited(&server, self.tick);
        list[index] = new;
        self.put(service.with(Change::Updated, list));
        self.settle(&service.service, &new);
        self.services.count_nat(&key, &old, false);
        self.services.count_nat(&key, &new, true);
        self.services.set_tunnel(&new);
        self.thresholds.push((old.id, server.upper, server.lower));
        Ok(())
    }

    /// The servers that have been drained for their time count as down from now on. How many there are comes back.
    pub fn end_drains(&mut self) -> usize {
        let tick = self.tick;
        let over = |service: &&Arc<VirtualService>| service.destinations.iter().any(|d| d.is_drained(tick));
        let services: Vec<_> = self.services.all().filter(over).cloned().collect();
        let mut count = 0;
        for service in services {
            let mut list = service.destinations.to_vec();
            for destination in list.iter_mut().filter(|d| d.is_drained(tick)) {
                destination.is_down = true;
                self.settle(&service.service, destination);
                count += 1;
            }
            // Schedulers gave them nothing before and give them nothing now.
            self.put(service.with(Change::Flags(service.service.options), list));
        }
        count
    }

    /// `ipvsadm -d`. Its connections stay, in case that it comes back.
    ///
    /// # Errors
    /// There is no such service or server.
    pub fn remove_server(&mut self, key: ServiceKey, address: SocketAddr) -> Result<(), Refused> {
        let service = self.service(&key)?;
        let there = service.position(address);
        let index = there.ok_or(Refused::NoServer { service: key, server: address })?;
        let mut list = service.destinations.to_vec();
        let old = list.remove(index);
        self.put(service.with(Change::Removed(index), list));
        self.forget(&service.service, &old);
        Ok(())
    }

    /// Makes the services those of `wanted` by the smallest change: what is there and equal is not touched; what is
    /// new comes last.
    ///
    /// # Errors
    /// What any of the single changes would be refused for.
    pub fn replace(&mut self, wanted: &[Pool]) -> Result<(), Refused> {
        let keys: std::collections::HashSet<_> = wanted.iter().map(|pool| pool.service.key).collect();
        let gone: Vec<_> = self.services.list.keys().filter(|key| !keys.contains(*key)).copied().collect();
        gone.into_iter().try_for_each(|key| self.remove_service(key))?;
        for pool in wanted {
            pool.servers.iter().try_for_each(|server| check_told(&pool.service, server))?;
            match self.services.list.get(&pool.service.key).cloned() {
                None => self.add_service(pool.service)?,
                Some(old) if old.service != pool.service => self.edit(pool.service, &old)?,
                Some(_) => {}
            }
            self.replace_servers(pool)?;
            let service = self.service(&pool.service.key)?;
            service.destinations.iter().try_for_each(|d| check_local(&service.service, &d.server()))?;
        }
        Ok(())
    }

    fn replace_servers(&mut self, pool: &Pool) -> Result<(), Refused> {
        let key = pool.service.key;
        let old: Vec<Server> = self.service(&key)?.destinations.iter().map(Destination::server).collect();
        let wanted: std::collections::HashMap<_, _> = pool.servers.iter().map(|s| (s.address, s)).collect();
        for server in &old {
            match wanted.get(&server.address) {
                None => self.remove_server(key, server.address)?,
                Some(&new) if new != server => self.edit_server(key, *new)?,
                Some(_) => {}
            }
        }
        let old: std::collections::HashSet<_> = old.iter().map(|s| s.address).collect();
        let new = pool.servers.iter().filter(|server| !old.contains(&server.address));
        new.into_iter().try_for_each(|server| self.add_server(key, *server))
    }

    fn service(&self, key: &ServiceKey) -> Result<Arc<VirtualService>, Refused> {
        self.services.list.get(key).cloned().ok_or(Refused::NoService(*key))
    }

    fn put(&mut self, service: VirtualService) {
        self.services.list.insert(service.service.key, Arc::new(service));
    }

    /// Workers are to know of a server that is in this service whether it is down, and on which terms it serves.
    fn settle(&mut self, service: &Service, destination: &Destination) {
        self.services.set_available(destination.id, !destination.is_down);
        self.services.terms.set(destination.id, Terms::new(&service.switches, destination.is_down));
    }

    /// A server has left its service.
    fn forget(&mut self, service: &Service, old: &Destination) {
        self.services.servers -= 1;
        self.services.set_available(old.id, false);
        self.services.terms.set(old.id, Terms::new(&service.switches, false));
        self.services.count_nat(&service.key, old, false);
        self.roster.leave(service.key, old.id, old.server());
    }
}

fn check_service(service: &Service) -> Result<(), Refused> {
    let key = service.key;
    if let ServiceKey::Address { protocol, .. } = key {
        if service.one_packet && protocol != Protocol::Udp {
            return Err(Refused::OnePacket(key));
        }
        if key.port() == 0 && service.persistence.is_none() {
            return Err(Refused::ZeroPort(key));
        }
    }
    if let Some((what, value, limits)) = service.switches.beyond() {
        let (least, most) = limits.into_inner();
        return Err(Refused::OutOfRange { what, value, least, most });
    }
    if !service.may_tell() {
        return Err(Refused::ClientAddress { service: key, how: service.switches.client_address.name() });
    }
    match service.persistence.map(|p| p.timeout_s) {
        Some(value) if !(1..=MAX_PERSISTENCE_S).contains(&value) => {
            Err(Refused::OutOfRange { what: "persistence", value, least: 1, most: MAX_PERSISTENCE_S })
        }
        _ => Ok(()),
    }
}

/// Whether the server can be told clients' addresses as its service wants it.
fn check_told(service: &Service, server: &Server) -> Result<(), Refused> {
    let how = service.switches.client_address;
    let (key, address) = (service.key, server.address);
    if !how.suits_method(server.method) {
        return Err(Refused::ClientAddressMethod { service: key, server: address, how: how.name() });
    }
    Ok(())
}

/// What FULLNAT needs of a service.
fn check_local(service: &Service, server: &Server) -> Result<(), Refused> {
    if server.method != Method::FullNat {
        return Ok(());
    }
    if !service.locals.has_family(server.address.is_ipv4()) {
        return Err(Refused::NoLocalAddress { service: service.key, server: server.address });
    }
    if service.has_here(server.address.ip()) {
        return Err(Refused::FullNatHere { service: service.key, server: server.address });
    }
    if service.one_packet { Err(Refused::OnePacketFullNat(service.key)) } else { Ok(()) }
}

fn check_server(key: &ServiceKey, server: &Server) -> Result<(), Refused> {
    let address = server.address;
    if server.weight > MAX_WEIGHT {
        return Err(Refused::OutOfRange { what: "weight", value: server.weight, least: 0, most: MAX_WEIGHT });
    }
    if server.drain_timeout_s > MAX_DRAIN_S {
        let value = server.drain_timeout_s;
        return Err(Refused::OutOfRange { what: "drain timeout", value, least: 0, most: MAX_DRAIN_S });
    }
    if server.lower > server.upper {
        return Err(Refused::Thresholds { server: address, upper: server.upper, lower: server.lower });
    }
    if let Method::Tun(Tunnel::Gue { port: 0, .. }) = server.method {
        return Err(Refused::OutOfRange { what: "tunnel port", value: 0, least: 1, most: 65_535 });
    }
    if !is_unicast(address) {
        return Err(Refused::NotUnicast(address));
    }
    let leads_across = matches!(server.method, Method::Tun(_) | Method::FullNat);
    if address.is_ipv4() != key.is_v4() && !leads_across {
        return Err(Refused::Family { service: *key, server: address });
    }
    let has_port = matches!(key, ServiceKey::Address { .. });
    if has_port && !server.method.translates_port() && address.port() != key.port() {
        return Err(Refused::Port { service: *key, server: address });
    }
    Ok(())
}

/// True for the address of one machine as `__ip_vs_update_dest` takes it: none of a link alone, and none of IPv4 written
/// as one of IPv6.
fn is_unicast(address: SocketAddr) -> bool {
    match address {
        SocketAddr::V4(v4) => {
            let ip = v4.ip();
            !(ip.is_multicast() || ip.is_broadcast() || ip.octets()[0] == 0)
        }
        SocketAddr::V6(v6) => {
            let ip = v6.ip();
            let is_special = ip.is_multicast() || ip.is_unspecified() || ip.is_unicast_link_local();
            !is_special && ip.to_ipv4_mapped().is_none() && v6.scope_id() == 0 && v6.flowinfo() == 0
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;
    use crate::director::local::{LOCAL_PORTS, Locals};
    use crate::director::sched::{Request, Schedule};
    use crate::director::server::Counts;
    use crate::director::service::Persistence;
    use crate::director::switches::{ClientAddress, Switches};
    use crate::packet::flow::FlowKey;

    fn key(n: u8) -> ServiceKey {
        ServiceKey::new(Protocol::Tcp, ([192, 0, 2, n], 80).into())
    }

    fn server(host: u8) -> Server {
        Server::new(([10, 0, 0, host], 80).into(), Method::Nat)
    }

    fn rr(n: u8) -> Service {
        Service { scheduler: Kind::Rr, ..Service::new(key(n)) }
    }

    fn empty() -> Draft {
        Draft::new(&Services::default(), &Roster::default())
    }

    fn hosts(draft: &Draft, n: u8) -> Vec<u8> {
        let last = |d: &Destination| match d.address.ip() {
            std::net::IpAddr::V4(ip) => ip.octets()[3],
            std::net::IpAddr::V6(_) => unreachable!(),
        };
        draft.services.get(&key(n)).unwrap().destinations.iter().map(last).collect()
    }

    #[test]
    fn servers_are_put_at_the_head_edited_in_place_and_return_to_the_head() {
        let mut draft = empty();
        draft.add_service(rr(1)).unwrap();
        (1..=3).for_each(|host| draft.add_server(key(1), server(host)).unwrap());
        assert_eq!(hosts(&draft, 1), [3, 2, 1]);
        draft.edit_server(key(1), Server { weight: 9, ..server(2) }).unwrap();
        assert_eq!(hosts(&draft, 1), [3, 2, 1]);
        draft.remove_server(key(1), server(2).address).unwrap();
        draft.add_server(key(1), server(2)).unwrap();
        assert_eq!(hosts(&draft, 1), [2, 3, 1]);
    }

    #[test]
    fn an_edit_with_the_same_scheduler_leaves_it_where_it_is() {
        let mut draft = empty();
        draft.add_service(rr(1)).unwrap();
        (1..=3).for_each(|host| draft.add_server(key(1), server(host)).unwrap());
        let counts = Counts::new(8);
        let flow = FlowKey::v4(6, 1, 2, 3);
        let pick = |draft: &Draft| {
            let service = draft.services.get(&key(1)).unwrap();
            let request = Request { flow: &flow, tick: 0, ramp: None };
            service.scheduler.pick(&service.destinations, &counts, &request).unwrap()
        };
        assert_eq!(pick(&draft), 0);
        let persistence =
            Some(Persistence { timeout_s: 60, netmask: crate::director::service::Netmask::whole(true) });
        draft.edit_service(Service { persistence, ..rr(1) }).unwrap();
        assert_eq!(pick(&draft), 1);
        draft.edit_service(Service { scheduler: Kind::Wrr, ..rr(1) }).unwrap();
        draft.edit_service(rr(1)).unwrap();
        assert_eq!(pick(&draft), 0, "another scheduler starts anew");
    }

    #[test]
    fn refusals_change_nothing() {
        let mut draft = empty();
        draft.add_service(rr(1)).unwrap();
        draft.add_server(key(1), server(1)).unwrap();
        let six: ServiceKey = "tcp:[2001:db8::1]:80".parse().unwrap();
        draft.add_service(Service::new(six)).unwrap();
        let before = draft.services.pools();
        let udp = ServiceKey::new(Protocol::Udp, ([192, 0, 2, 1], 80).into());
        let with = |change: fn(&mut Server)| {
            let mut new = server(2);
            change(&mut new);
            new
        };
        let refused = [
            draft.add_service(rr(1)),
            draft.edit_service(rr(2)),
            draft.remove_service(key(2)),
            draft.add_service(Service {
                one_packet: true,
                ..Service::new(ServiceKey::new(Protocol::Sctp, ([192, 0, 2, 1], 80).into()))
            }),
            draft.add_service(Service::new(ServiceKey::new(Protocol::Tcp, ([192, 0, 2, 3], 0).into()))),
            draft.add_service(Service { one_packet: true, ..rr(3) }),
            draft.add_server(udp, server(1)),
            draft.add_server(key(1), server(1)),
            draft.edit_server(key(1), server(2)),
            draft.remove_server(key(1), server(2).address),
            draft.add_server(key(1), with(|s| s.weight = MAX_WEIGHT + 1)),
            draft.add_server(key(1), with(|s| s.lower = 1)),
            draft.add_server(key(1), with(|s| s.address = "224.0.0.1:80".parse().unwrap())),
            draft.add_server(key(1), with(|s| s.address = "255.255.255.255:80".parse().unwrap())),
            draft.add_server(key(1), with(|s| s.address = "[2001:db8::1]:80".parse().unwrap())),
            draft.add_server(six, with(|_| {})),
            draft.add_server(six, with(|s| s.address = "[fe80::1]:80".parse().unwrap())),
            draft.add_server(six, with(|s| s.address = "[ff02::1]:80".parse().unwrap())),
            draft.add_server(six, with(|s| s.address = "[::]:80".parse().unwrap())),
            draft.add_server(six, with(|s| s.address = "[::ffff:10.0.0.1]:80".parse().unwrap())),
            draft.add_server(six, with(|s| s.address = "[2001:db8::1%3]:80".parse().unwrap())),
            draft.add_server(
                key(1),
                with(|s| (s.method, s.address) = (Method::Dr, "10.0.0.2:81".parse().unwrap())),
            ),
            draft.add_server(
                key(1),
                with(|s| s.method = Method::Tun(Tunnel::Gue { port: 0, checksum: Default::default() })),
            ),
        ];
        for (place, result) in refused.iter().enumerate() {
            assert!(result.is_err(), "{place}");
        }
        assert_eq!(draft.services.pools(), before);
    }

    #[test]
    fn clients_addresses_are_told_where_that_can_be_done() {
        let told = |client_address| {
            let switches = Switches { client_address, ..Switches::default() };
            move |service: Service| Service { switches, ..service }
        };
        let (proxy, toa) = (told(ClientAddress::Proxy), told(ClientAddress::Toa));
        let at = |protocol, port: u16| Service {
            scheduler: Kind::Rr,
            ..Service::new(ServiceKey::new(protocol, ([192, 0, 2, 1], port).into()))
        };
        let dr = Server { method: Method::Dr, ..server(1) };
        let mut draft = empty();
        for refused in [toa(at(Protocol::Udp, 53)), proxy(at(Protocol::Sctp, 80)), toa(at(Protocol::Tcp, 21))]
        {
            assert!(matches!(draft.add_service(refused), Err(Refused::ClientAddress { .. })), "{refused:?}");
        }
        draft.add_service(proxy(rr(1))).unwrap();
        let refused = Err(Refused::ClientAddressMethod { service: key(1), server: dr.address, how: "proxy" });
        assert_eq!(draft.add_server(key(1), dr), refused);
        draft.add_server(key(1), server(1)).unwrap();
        assert_eq!(draft.edit_server(key(1), dr), refused);
        draft.edit_service(rr(1)).unwrap();
        draft.edit_server(key(1), dr).unwrap();
        assert_eq!(draft.edit_service(proxy(rr(1))), refused);
        // A reload may change both at once, in either direction.
        let pool = |service, server| [Pool { service, servers: vec![server] }];
        draft.replace(&pool(toa(rr(1)), server(1))).unwrap();
        draft.replace(&pool(rr(1), dr)).unwrap();
        assert!(draft.replace(&pool(toa(rr(1)), dr)).is_err());
    }

    #[test]
    fn servers_of_the_other_ip_version_are_behind_tunnels_or_local_addresses() {
        let mut draft = empty();
        let six: ServiceKey = "tcp:[2001:db8::1]:80".parse().unwrap();
        let locals = |list: &[&str]| {
            let list: Vec<_> = list.iter().map(|address| address.parse().unwrap()).collect();
            Locals::new(&list, LOCAL_PORTS).unwrap()
        };
        draft.add_service(Service { locals: locals(&["2001:db8::2"]), ..Service::new(six) }).unwrap();
        let add = |draft: &mut Draft, address: &str, method| {
            draft.add_server(six, Server::new(address.parse().unwrap(), method))
        };
        for method in [Method::Nat, Method::Dr] {
            assert!(matches!(add(&mut draft, "10.0.0.1:80", method), Err(Refused::Family { .. })));
        }
        let tunnel = Method::Tun(Tunnel::Ipip);
        let methods = [("10.0.0.1", tunnel), ("[2001:db8::11]", tunnel), ("[2001:db8::12]", Method::Nat)];
        for (host, method) in methods.into_iter().chain([("[2001:db8::13]", Method::Dr)]) {
            add(&mut draft, &format!("{host}:80"), method).unwrap();
        }
        assert_eq!(draft.services.get(&six).unwrap().destinations.len(), 4);
        // The local address is of the server's version.
        let refused = add(&mut draft, "10.0.0.14:8080", Method::FullNat);
        assert!(matches!(refused, Err(Refused::NoLocalAddress { .. })), "{refused:?}");
        draft
            .edit_service(Service { locals: locals(&["2001:db8::2", "10.0.0.250"]), ..Service::new(six) })
            .unwrap();
        add(&mut draft, "10.0.0.14:8080", Method::FullNat).unwrap();
        // Who the client is it is told as any other.
        let proxied = Switches { client_address: ClientAddress::Proxy, ..Switches::default() };
        let told: ServiceKey = "tcp:[2001:db8::2]:80".parse().unwrap();
        let both = Service { locals: locals(&["10.0.0.250"]), switches: proxied, ..Service::new(told) };
        draft.add_service(both).unwrap();
        let four = Server::new("10.0.0.14:8080".parse().unwrap(), Method::FullNat);
        draft.add_server(told, four).unwrap();
        let tunnels = Service { switches: proxied, ..draft.services.get(&six).unwrap().service };
        assert!(matches!(draft.edit_service(tunnels), Err(Refused::ClientAddressMethod { .. })));
    }

    #[test]
    fn fullnat_leads_to_no_server_that_is_certainly_here() {
        let locals = |last| Locals::new(&[[10, 0, 0, last].into()], LOCAL_PORTS).unwrap();
        let mut draft = empty();
        draft.add_service(Service { locals: locals(250), ..rr(1) }).unwrap();
        let at = |ip: [u8; 4]| Server::new((ip, 8080).into(), Method::FullNat);
        let vip = Server::new(([192, 0, 2, 1], 8080).into(), Method::FullNat);
        for server in [at([127, 0, 0, 1]), at([10, 0, 0, 250]), vip] {
            let refused = draft.add_server(key(1), server);
            assert_eq!(refused, Err(Refused::FullNatHere { service: key(1), server: server.address }));
            draft.add_server(key(1), Server { method: Method::Nat, ..server }).unwrap();
            assert!(draft.edit_server(key(1), server).is_err());
        }
        draft.add_server(key(1), at([10, 0, 0, 7])).unwrap();
        let moved = draft.edit_service(Service { locals: locals(7), ..rr(1) });
        assert!(matches!(moved, Err(Refused::FullNatHere { .. })), "{moved:?}");
    }

    #[test]
    fn there_is_a_limit_to_services_and_to_servers() {
        let mut draft = empty();
        for n in 0..u16::try_from(MAX_SERVICES).unwrap() {
            let [a, b] = n.to_be_bytes();
            draft
                .add_service(Service::new(ServiceKey::new(Protocol::Tcp, ([10, 9, a, b], 80).into())))
                .unwrap();
        }
        assert_eq!(draft.add_service(rr(1)), Err(Refused::TooManyServices(MAX_SERVICES)));
        let [first, second] = [0, 1].map(|n| ServiceKey::new(Protocol::Tcp, ([10, 9, 0, n], 80).into()));
        draft.add_server(first, server(1)).unwrap();
        draft.services.servers = MAX_SERVERS as usize;
        let too_many = Err(Refused::TooManyServers(MAX_SERVERS as usize));
        assert_eq!(draft.add_server(second, server(2)), too_many);
        draft.remove_server(first, server(1).address).unwrap();
        draft.add_server(second, server(2)).unwrap();
    }

    fn pools() -> impl Strategy<Value = Vec<Pool>> {
        let servers = proptest::collection::btree_map(1u8..8, 0u32..4, 0..6);
        let services = proptest::collection::btree_map(1u8..6, (any::<bool>(), servers), 0..5);
        services.prop_map(|services: BTreeMap<u8, (bool, BTreeMap<u8, u32>)>| {
            let pool = |(n, (is_rr, servers)): (u8, (bool, BTreeMap<u8, u32>))| Pool {
                service: if is_rr { rr(n) } else { Service::new(key(n)) },
                servers: servers
                    .into_iter()
                    .map(|(host, weight)| Server { weight, ..server(host) })
                    .collect(),
            };
            services.into_iter().map(pool).collect()
        })
    }

    /// Services and servers without their order.
    fn as_sets(services: &Services) -> BTreeMap<ServiceKey, (Kind, BTreeMap<SocketAddr, u32>)> {
        let pool = |p: Pool| {
            let servers = p.servers.iter().map(|s| (s.address, s.weight)).collect();
            (p.service.key, (p.service.scheduler, servers))
        };
        services.pools().into_iter().map(pool).collect()
    }

    proptest! {
        /// Whatever there was: afterwards there is what is wanted, what did not change was not touched, nobody has
        /// another's number, and everything derived is what a slow look at the services gives.
        #[test]
        fn a_replacement_is_the_smallest_change(histories in proptest::collection::vec(pools(), 1..6)) {
            let (mut services, mut roster) = (Services::default(), Roster::default());
            let mut numbers: HashMap<(ServiceKey, SocketAddr), ServerId> = HashMap::new();
            for wanted in histories {
                let mut draft = Draft::new(&services, &roster);
                draft.replace(&wanted).unwrap();
                let (new, new_roster) = draft.into_parts();
                let mut fresh = empty();
                fresh.replace(&wanted).unwrap();
                prop_assert_eq!(as_sets(&new), as_sets(&fresh.services));
                for service in new.all() {
                    let key = service.service.key;
                    let old = services.list.get(&key);
                    let is_same = old.is_some_and(|old| {
                        (old.service, &old.destinations) == (service.service, &service.destinations)
                    });
                    prop_assert_eq!(is_same, old.is_some_and(|old| Arc::ptr_eq(old, service)));
                    for d in &service.destinations {
                        prop_assert_eq!(*numbers.entry((key, d.address)).or_insert(d.id), d.id, "its own number");
                    }
                }
                let ids: Vec<_> = new.all().flat_map(|s| s.destinations.iter().map(|d| d.id)).collect();
                let distinct: HashSet<_> = ids.iter().copied().collect();
                prop_assert_eq!(ids.len(), distinct.len());
                for id in new_roster.ids() {
                    prop_assert_eq!(new.is_available(id), distinct.contains(&id));
                }
                let nat: HashSet<_> =
                    new.all().flat_map(|s| s.destinations.iter().map(|d| (Protocol::Tcp, d.address))).collect();
                prop_assert_eq!(new.nat_servers().copied().collect::<HashSet<_>>(), nat);
                (services, roster) = (new, new_roster);
            }
        }
    }
}
