//! Changes of services, made on a copy and published whole: what `ip_vs_ctl.c` does for each command, with the
//! kernel's refusals, orders and odd rules.
//!
//! A draft that is dropped has changed nothing.

mod check;
mod refused;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use self::check::{check_local, check_server, check_service, check_told};
pub use self::refused::Refused;
use super::name::ServiceKey;
use super::roster::Roster;
use super::sched::{Change, Kind, MAGLEV_SLOTS};
use super::server::{Destination, MAX_SERVERS, ServerId};
use super::service::{Pool, Server, Service};
use super::services::{Services, VirtualService};
use super::terms::Terms;

/// Most services there may be: what the steering program holds, with room for all protocols.
pub const MAX_SERVICES: usize = 16_384;

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
