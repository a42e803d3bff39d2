//! What time brings: estimates, the defence against floods, drained servers, removed servers that are forgotten, addresses
//! that the machine gets.

use super::ControlPlane;
use crate::control::command::Command;
use crate::control::statistics::PERIOD_S;
use crate::director::sched::{Expiration, Schedule};
use crate::director::server::MAX_SERVERS;
use crate::director::time::Time;

/// Ticks between two looks of the estimator.
#[allow(clippy::cast_possible_truncation, reason = "2 s")]
const ESTIMATE_TICKS: u32 = PERIOD_S as u32 * Time::TICKS_PER_S;

/// Ticks between two looks at drained and removed servers.
const LOOK_TICKS: u32 = Time::TICKS_PER_S;

/// Places of the table looked through at once: fewer than the letters that a mailbox holds.
const ORPHANS_AT_ONCE: usize = 1 << 15;

/// When things are to be done next, as ticks.
#[derive(Debug, Default)]
pub(super) struct Due {
    estimate: u32,
    look: u32,
}

impl ControlPlane {
    /// Does what is due. To be called several times a second.
    pub fn tick(&mut self) {
        self.end_orphans();
        let now = self.tick_now();
        if now >= self.upkeep.estimate {
            // From one deadline to the next, so that a late call does not stretch the period.
            self.upkeep.estimate = (self.upkeep.estimate + ESTIMATE_TICKS).max(now + 1);
            self.statistics.look(Self::raw(&self.director));
            self.statistics.look_at_machine(&self.by_worker(), &self.host.interfaces());
        }
        if now >= self.upkeep.look {
            self.upkeep.look = now + LOOK_TICKS;
            self.director.defend();
            self.end_drains(now);
            self.take_down();
            self.forget_removed(0);
            self.tend_schedulers(now);
            self.steer_again();
            self.free_snapshots();
            self.warn_of_servers_here();
        }
    }

    /// Servers that have been drained for their time count as down from now on.
    fn take_down(&mut self) {
        let now = self.tick_now();
        let services = self.director.services.load_full();
        if !services.all().any(|service| service.destinations.iter().any(|d| d.is_drained(now))) {
            return;
        }
        let mut draft = self.draft();
        let count = draft.end_drains();
        match self.publish(draft, Vec::new()) {
            Ok(()) => {
                tracing::info!("servers that have been drained for their time and are down now: {count}")
            }
            Err(why) => tracing::debug!("drained servers are not down yet: {why}"),
        }
    }

    /// Deletes drained servers without connections, and those whose time is over.
    fn end_drains(&mut self, now: u32) {
        let services = self.director.services.load_full();
        let is_over = |(key, address): &(_, _), deadline: Option<u32>| {
            let service = services.get(key)?;
            let id = service.destinations.get(service.position(*address)?)?.id;
            let counts = &self.director.counts;
            let is_idle = counts.active(id) == 0 && counts.inactive(id) == 0;
            Some(is_idle || deadline.is_some_and(|deadline| now >= deadline))
        };
        let over: Vec<_> = self
            .drains
            .iter()
            .filter(|(server, deadline)| is_over(server, **deadline).unwrap_or(false))
            .map(|(server, _)| *server)
            .collect();
        let delete = |&(service, server): &_| Command::DeleteServer { service, server };
        let commands: Vec<_> = over.iter().map(delete).collect();
        if commands.is_empty() {
            return;
        }
        // At once. What is refused is tried again at the next look; what is deleted is not drained any more.
        for ((service, server), result) in over.iter().zip(self.apply_each(&commands)) {
            match result {
                Ok(()) => tracing::info!("server {server} of service {service} is drained and deleted"),
                Err(why) => tracing::debug!("drained server {server} of service {service} stays: {why}"),
            }
        }
    }

    /// Ends connections whose servers were removed, if `expire_nodest_conn` says so: a bounded part of the table.
    pub(super) fn end_orphans(&mut self) {
        self.orphans = self.orphans.and_then(|from| self.director.end_orphans(from, ORPHANS_AT_ONCE));
    }

    /// Lets lblc and lblcr forget what is too old.
    fn tend_schedulers(&self, now: u32) {
        let services = self.director.services.load();
        let t = &services.tunables;
        let expiration = Expiration { lblc_s: t.lblc_expiration, lblcr_s: t.lblcr_expiration };
        services.all().for_each(|service| service.scheduler.tend(now, &expiration));
    }

    /// Makes sure that there are numbers for as many servers as there may be, if connections let go of them.
    pub(super) fn make_room(&mut self) {
        if self.roster.left() < MAX_SERVERS {
            self.forget_removed(MAX_SERVERS);
        }
    }

    fn forget_removed(&mut self, wanted: u32) {
        let now = self.tick_now();
        let freed = self.director.forget_removed(&mut self.roster, now, wanted);
        self.statistics.forget(&freed, Self::raw(&self.director));
        let services = self.director.services.load();
        for id in freed {
            services.all().for_each(|service| service.scheduler.forget(id));
        }
    }
}
