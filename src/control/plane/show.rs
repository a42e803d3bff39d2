//! What can be seen of the director.

use super::ControlPlane;
use crate::control::command::{PersistenceSpec, ServerSpec, netmask_text};
use crate::control::view::{
    CountersView, DropView, InfoView, InterfaceView, ServerView, ServiceView, TimeoutsView, TrafficView,
    TunableView,
};
use crate::director::drops::DropReason;
use crate::director::marks::MarkRule;
use crate::director::name::ServiceKey;
use crate::director::server::Destination;
use crate::director::services::VirtualService;
use crate::director::stats::{Stats, Traffic};

impl ControlPlane {
    /// The director as a whole.
    pub fn info(&self) -> InfoView {
        InfoView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.host.now().0 / 1000,
            connections_max: self.director.table.capacity() as u64,
            connections: self.director.table.len(),
            services: self.director.services.load().all().len() as u64,
            workers: self.director.stats.len() as u64,
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
            statistics: shown.totals,
            rates: shown.rates,
            servers: v.destinations.iter().map(|d| self.server_view(v.service.key, d)).collect(),
        }
    }

    fn server_view(&self, key: ServiceKey, d: &Destination) -> ServerView {
        let spec = ServerSpec::from(&d.server());
        let (counts, shown) = (&self.director.counts, self.statistics.server(d.id));
        ServerView {
            address: spec.address,
            forward: spec.forward,
            tunnel: spec.tunnel,
            weight: spec.weight,
            upper_threshold: spec.upper_threshold,
            lower_threshold: spec.lower_threshold,
            active: counts.active(d.id),
            inactive: counts.inactive(d.id),
            persistent: counts.persistent(d.id),
            draining: self.drains.contains_key(&(key, d.address)),
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
            workers: self.by_worker().into_iter().map(TrafficView::from).collect(),
            worker_rates: self.statistics.worker_rates(),
            steering: self.host.steering(),
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
        self.director.stats.iter().map(of_worker).collect()
    }

    /// Every tunable.
    pub fn tunables(&self) -> Vec<TunableView> {
        let all = self.director.services.load().tunables.all();
        let view = |t: crate::director::tunables::Tunable| TunableView {
            name: t.name.to_owned(),
            value: t.value,
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
