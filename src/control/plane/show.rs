//! What can be seen of the director.

use super::ControlPlane;
use crate::control::command::{PersistenceSpec, ServerSpec, netmask_text};
use crate::control::view::{
    CountersView, DropView, InfoView, InterfaceView, ServerView, ServiceView, TimeoutsView, TrafficView,
    TunableView,
};
use crate::director::defence::Level;
use crate::director::drops::DropReason;
use crate::director::marks::MarkRule;
use crate::director::name::ServiceKey;
use crate::director::server::Destination;
use crate::director::services::VirtualService;
use crate::director::stats::{Stats, Traffic};
use crate::director::tunables::Tunable;

impl ControlPlane {
    /// The director as a whole.
    pub fn info(&self) -> InfoView {
        InfoView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.host.now().0 / 1000,
            connections_max: self.director.table.capacity() as u64,
            connections: self.director.table.len(),
            services: self.director.services.load().all().len() as u64,
            workers: self.director.workers() as u64,
        }
    }

    /// Every service in the order they were added.
    pub fn services(&self) -> Vec<ServiceView> {
        self.director.services.load().all().map(|service| self.view(service)).collect()
    }

    /// The service of this name.
    pub fn service(&self, key: &ServiceKey) -> Option<ServiceView> {
        self.director.services.load().get(key).map(|service| self.view(service))
    }

    fn view(&self, v: &VirtualService) -> ServiceView {
        let shown = self.statistics.service(&v.service.key);
        ServiceView {
            service: v.service.key,
            scheduler: v.service.scheduler.name().to_owned(),
            scheduler_flags: v.service.options.names(v.service.scheduler),
            persistence: v
                .service
                .persistence
                .map(|p| PersistenceSpec { timeout_s: p.timeout_s, netmask: netmask_text(p.netmask) }),
            persistence_engine: v.service.engine.map(|engine| engine.name().to_owned()),
            one_packet: v.service.one_packet,
            switches: v.service.switches,
            local_addresses: v.service.locals.addresses().collect(),
            local_ports: (!v.service.locals.is_empty()).then(|| v.service.locals.ports.to_string()),
            statistics: shown.totals,
            rates: shown.rates,
            servers: v.destinations.iter().map(|d| self.server_view(v, d)).collect(),
        }
    }

    fn server_view(&self, v: &VirtualService, d: &Destination) -> ServerView {
        let ramp =
            v.ramp(self.host.now().tick()).filter(|_| d.weight > 0 && v.service.scheduler.starts_slowly());
        let spec = ServerSpec::from(&d.server());
        let (counts, shown) = (&self.director.counts, self.statistics.server(d.id));
        ServerView {
            address: spec.address,
            forward: spec.forward,
            tunnel: spec.tunnel,
            weight: d.weight,
            configured_weight: d.wanted_weight,
            state: d.state,
            drain_timeout_s: d.drain_timeout_s,
            down: d.is_down,
            share_percent: ramp.map_or(100, |ramp| ramp.percent(d)),
            upper_threshold: spec.upper_threshold,
            lower_threshold: spec.lower_threshold,
            active: counts.active(d.id),
            inactive: counts.inactive(d.id),
            persistent: counts.persistent(d.id),
            draining: self.drains.contains_key(&(v.service.key, d.address)),
            statistics: Some(shown.totals),
            rates: Some(shown.rates),
        }
    }

    /// Totals and rates of the director, and what each worker did.
    pub fn counters(&self) -> CountersView {
        let shown = self.statistics.total();
        let stats = &self.director.stats;
        CountersView {
            statistics: shown.totals,
            rates: shown.rates,
            answered: stats.iter().map(Stats::answered).sum(),
            strays: stats.iter().map(Stats::strays).sum(),
            passed: stats.iter().map(Stats::passed).sum(),
            dropped_entries: stats.iter().map(Stats::entries_shed).sum(),
            workers: self.by_worker().into_iter().map(TrafficView::from).collect(),
            worker_rates: self.statistics.worker_rates(),
            steering: self.host.steering(),
            offload: self.host.offload(),
        }
    }

    /// Every reason to drop a frame, with how often it occurred.
    pub fn drops(&self) -> Vec<DropView> {
        let view = |&reason: &DropReason| DropView {
            reason: reason.name().to_owned(),
            help: reason.help().to_owned(),
            count: self.director.stats.iter().map(|s| s.dropped(reason)).sum(),
        };
        DropReason::ALL.iter().map(view).collect()
    }

    /// Interfaces and queues.
    pub fn interfaces(&self) -> Vec<InterfaceView> {
        let mut interfaces = self.host.interfaces();
        for interface in &mut interfaces {
            for q in &mut interface.queues {
                q.rates = self.statistics.queue_rates(&interface.name, q.queue);
            }
        }
        interfaces
    }

    /// What each worker forwarded since the start.
    pub(super) fn by_worker(&self) -> Vec<Traffic> {
        let of_worker = |s: &Stats| self.roster.ids().map(|id| s.traffic(id)).sum();
        self.director.stats.iter().take(self.director.workers()).map(of_worker).collect()
    }

    /// Every tunable.
    pub fn tunables(&self) -> Vec<TunableView> {
        let all = self.director.services.load().tunables.all();
        let level = self.director.defence.level();
        let view = |t: Tunable| TunableView {
            name: t.name.to_owned(),
            value: shown(&t, level),
            state: state(&t, level),
            default: t.default,
            least: t.least,
            most: t.most,
            help: t.help.to_owned(),
        };
        all.into_iter().map(view).collect()
    }

    /// The three timeouts that `ipvsadm --set` sets.
    pub fn timeouts(&self) -> TimeoutsView {
        let [tcp_s, tcp_fin_s, udp_s] = self.director.services.load().timeouts.set_by_ipvsadm();
        TimeoutsView { tcp_s, tcp_fin_s, udp_s }
    }

    /// The rules that give marks.
    pub fn marks(&self) -> Vec<MarkRule> {
        self.director.services.load().marks.to_vec()
    }
}

/// Whether the defence that a tunable sets is active; none if it sets none.
fn is_active(name: &str, level: Level) -> Option<bool> {
    match name {
        "drop_entry" => Some(level.drop_entry),
        "drop_packet" => Some(level.drops_packets()),
        "secure_tcp" => Some(level.secure_tcp),
        _ => None,
    }
}

/// The value as the kernel shows it: what follows the room by itself is 1 while idle, 2 while active.
fn shown(t: &Tunable, level: Level) -> u32 {
    match (t.value, is_active(t.name, level)) {
        (1 | 2, Some(active)) => 1 + u32::from(active),
        (value, _) => value,
    }
}

/// What a defence does at the moment.
fn state(t: &Tunable, level: Level) -> Option<String> {
    Some(match (is_active(t.name, level)?, t.value) {
        (false, 0) => "off".to_owned(),
        (false, _) => "idle".to_owned(),
        (true, _) if t.name == "drop_packet" => format!("active: drops 1 of {}", level.drop_rate),
        (true, _) => "active".to_owned(),
    })
}
