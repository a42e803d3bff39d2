//! Totals and rates as the kernel's estimator shows them (`ip_vs_est.c`).
//!
//! Workers count by server and never reset anything. Every two seconds all counters are looked at: what is shown
//! is what was seen then, and rates are smoothed over the looks. `ipvsadm -Z` remembers what was seen last as the
//! new zero: what came after that look is shown again at the next one, as with the kernel.
//!
//! A service's totals are its own: they keep what its removed servers did, and do not take over what a server
//! that comes back did before. A server that comes back to its service goes on counting, and one whose service was
//! made anew in the meantime is zeroed (`__ip_vs_update_dest`); nobody looks at it while it is away.

use std::collections::HashMap;

use super::view::{InterfaceView, QueueRatesView, TrafficView};
use crate::director::name::ServiceKey;
use crate::director::server::ServerId;
use crate::director::services::{Services, VirtualService};
use crate::director::stats::Traffic;

/// Seconds between two looks.
pub const PERIOD_S: u64 = 2;

/// Totals at the last look, where they count from, and what there was in a second lately.
#[derive(Clone, Copy, Debug, Default)]
struct Meter {
    seen: Traffic,
    zero: Traffic,
    rate: ScaledRate,
}

/// Rates in the kernel's fixed point: 1/1024 for numbers, 1/32 for bytes.
#[derive(Clone, Copy, Debug, Default)]
struct ScaledRate {
    connections: u64,
    in_packets: u64,
    out_packets: u64,
    in_bytes: u64,
    out_bytes: u64,
}

/// One step of the smoothing: a quarter of the way to what two seconds showed (`ip_vs_estimation_kthread`).
fn step(average: &mut u64, delta: u64, shift: u32) {
    let shown = i128::from(delta) << shift;
    let next = i128::from(*average) + ((shown - i128::from(*average)) >> 2);
    *average = u64::try_from(next).unwrap_or(if next < 0 { 0 } else { u64::MAX });
}

impl Meter {
    fn look(&mut self, now: Traffic) {
        let delta = now - self.seen;
        self.seen = now;
        step(&mut self.rate.connections, delta.connections, 9);
        step(&mut self.rate.in_packets, delta.in_packets, 9);
        step(&mut self.rate.out_packets, delta.out_packets, 9);
        step(&mut self.rate.in_bytes, delta.in_bytes, 4);
        step(&mut self.rate.out_bytes, delta.out_bytes, 4);
    }

    fn zero(&mut self) {
        self.zero = self.seen;
        self.rate = ScaledRate::default();
    }

    fn shown(&self) -> Shown {
        let number = |scaled: u64| (scaled + 0x1ff) >> 10;
        let bytes = |scaled: u64| (scaled + 0xf) >> 5;
        let rates = TrafficView {
            connections: number(self.rate.connections),
            in_packets: number(self.rate.in_packets),
            out_packets: number(self.rate.out_packets),
            in_bytes: bytes(self.rate.in_bytes),
            out_bytes: bytes(self.rate.out_bytes),
        };
        Shown { totals: (self.seen - self.zero).into(), rates }
    }
}

impl From<Traffic> for TrafficView {
    fn from(t: Traffic) -> Self {
        let Traffic { connections, in_packets, in_bytes, out_packets, out_bytes } = t;
        Self { connections, in_packets, out_packets, in_bytes, out_bytes }
    }
}

/// What is shown of a server, a service or the director.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Totals since it was added or zeroed.
    pub totals: TrafficView,
    /// What there was in a second lately.
    pub rates: TrafficView,
}

#[derive(Debug, Default)]
struct OfServer {
    /// What the number's former bearers had done.
    base: Traffic,
    meter: Meter,
    /// Taken out of its service.
    away: bool,
}

#[derive(Debug, Default)]
struct OfService {
    meter: Meter,
    /// What was done by servers that are gone.
    carried: Traffic,
    /// Its servers, with what each had done before it was put in.
    servers: HashMap<ServerId, Traffic>,
}

/// Meters of all servers and services, and of the director.
#[derive(Debug, Default)]
pub struct Statistics {
    servers: HashMap<ServerId, OfServer>,
    services: HashMap<ServiceKey, OfService>,
    total: Meter,
    /// What was done by servers whose numbers are free again.
    carried: Traffic,
    workers: Vec<Meter>,
    /// By interface and number of the queue: received counts as in, sent as out.
    queues: HashMap<(String, u32), Meter>,
}

impl Statistics {
    /// Takes note of a change of services. `raw` is what has been counted under a number so far.
    pub fn follow(&mut self, before: &Services, after: &Services, raw: impl Fn(ServerId) -> Traffic) {
        let gone = before.all().filter(|s| after.get(&s.service.key).is_none());
        for service in gone {
            let of = self.services.remove(&service.service.key).unwrap_or_default();
            self.leave(of.servers.keys());
        }
        for service in after.all() {
            let is_same = before.get(&service.service.key).is_some_and(|old| std::ptr::eq(old, &**service));
            if !is_same {
                self.follow_service(service, &raw);
            }
        }
    }

    fn leave<'a>(&mut self, ids: impl Iterator<Item = &'a ServerId>) {
        for id in ids {
            self.servers.entry(*id).or_default().away = true;
        }
    }

    fn follow_service(&mut self, service: &VirtualService, raw: impl Fn(ServerId) -> Traffic) {
        let known = self.services.remove(&service.service.key);
        let is_new = known.is_none();
        let mut of = known.unwrap_or_default();
        let there: HashMap<ServerId, Traffic> = service
            .destinations
            .iter()
            .map(|d| (d.id, of.servers.get(&d.id).copied().unwrap_or_else(|| raw(d.id))))
            .collect();
        let left = || of.servers.iter().filter(|(id, _)| !there.contains_key(id));
        of.carried = left().fold(of.carried, |sum, (&id, &since)| sum + (raw(id) - since));
        self.leave(left().map(|(id, _)| id));
        for &id in there.keys() {
            let server = self.servers.entry(id).or_insert_with(|| {
                let base = raw(id);
                OfServer { base, meter: Meter { seen: base, zero: base, ..Meter::default() }, away: false }
            });
            server.away = false;
            if is_new {
                server.meter.zero();
            }
        }
        of.servers = there;
        self.services.insert(service.service.key, of);
    }

    /// Takes note that a service is another than the one of its name before.
    pub fn restart(&mut self, service: &VirtualService, raw: impl Fn(ServerId) -> Traffic) {
        self.services.remove(&service.service.key);
        self.follow_service(service, raw);
    }

    /// Takes note that these numbers are free.
    pub fn forget(&mut self, ids: &[ServerId], raw: impl Fn(ServerId) -> Traffic) {
        for &id in ids {
            if let Some(of) = self.servers.remove(&id) {
                self.carried = self.carried + (raw(id) - of.base);
            }
        }
    }

    /// Looks at all counters; to be called every [`PERIOD_S`] seconds.
    pub fn look(&mut self, raw: impl Fn(ServerId) -> Traffic) {
        let mut total = self.carried;
        for (&id, of) in &mut self.servers {
            let now = raw(id);
            total = total + (now - of.base);
            if !of.away {
                of.meter.look(now);
            }
        }
        for of in self.services.values_mut() {
            let since = of.servers.iter().map(|(&id, &since)| raw(id) - since);
            of.meter.look(since.fold(of.carried, |sum, part| sum + part));
        }
        self.total.look(total);
    }

    /// Looks at what the workers and the queues did; to be called every [`PERIOD_S`] seconds.
    pub fn look_at_machine(&mut self, workers: &[Traffic], interfaces: &[InterfaceView]) {
        self.workers.resize_with(workers.len(), Meter::default);
        self.workers.iter_mut().zip(workers).for_each(|(meter, now)| meter.look(*now));
        for interface in interfaces {
            for q in &interface.queues {
                let now = Traffic {
                    connections: 0,
                    in_packets: q.rx_packets,
                    in_bytes: q.rx_bytes,
                    out_packets: q.tx_packets,
                    out_bytes: q.tx_bytes,
                };
                self.queues.entry((interface.name.clone(), q.queue)).or_default().look(now);
            }
        }
    }

    /// What there was in a second lately at each worker.
    pub fn worker_rates(&self) -> Vec<TrafficView> {
        self.workers.iter().map(|meter| meter.shown().rates).collect()
    }

    /// What there was in a second lately at a queue.
    pub fn queue_rates(&self, interface: &str, queue: u32) -> QueueRatesView {
        let meter = self.queues.get(&(interface.to_owned(), queue));
        let rates = meter.map(|meter| meter.shown().rates).unwrap_or_default();
        QueueRatesView {
            rx_packets: rates.in_packets,
            rx_bytes: rates.in_bytes,
            tx_packets: rates.out_packets,
            tx_bytes: rates.out_bytes,
        }
    }

    /// `ipvsadm -Z`: of one service and its servers, or of all and of the director.
    pub fn zero(&mut self, service: Option<ServiceKey>) {
        match service {
            None => {
                self.total.zero();
                self.services.values_mut().for_each(|of| of.meter.zero());
                self.servers.values_mut().for_each(|of| of.meter.zero());
            }
            Some(key) => {
                if let Some(of) = self.services.get_mut(&key) {
                    of.meter.zero();
                    for id in of.servers.keys() {
                        if let Some(server) = self.servers.get_mut(id) {
                            server.meter.zero();
                        }
                    }
                }
            }
        }
    }

    /// Of a server.
    pub fn server(&self, id: ServerId) -> Shown {
        self.servers.get(&id).map(|of| of.meter.shown()).unwrap_or_default()
    }

    /// Of a service.
    pub fn service(&self, key: &ServiceKey) -> Shown {
        self.services.get(key).map(|of| of.meter.shown()).unwrap_or_default()
    }

    /// Of the director.
    pub fn total(&self) -> Shown {
        self.total.shown()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::view::QueueView;
    use crate::director::draft::Draft;
    use crate::director::roster::Roster;
    use crate::director::service::{Method, Server, Service};
    use std::cell::RefCell;

    /// Services that are changed, and counters that somebody counts up.
    struct Bench {
        statistics: Statistics,
        services: Services,
        roster: Roster,
        raw: RefCell<HashMap<ServerId, Traffic>>,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                statistics: Statistics::default(),
                services: Services::default(),
                roster: Roster::default(),
                raw: RefCell::default(),
            }
        }

        fn change(&mut self, change: impl FnOnce(&mut Draft)) {
            let mut draft = Draft::new(&self.services, &self.roster);
            change(&mut draft);
            let (services, roster) = draft.into_parts();
            self.statistics.follow(&self.services, &services, |id| self.raw.borrow()[&id]);
            (self.services, self.roster) = (services, roster);
        }

        fn count(&self, host: u8, packets: u64) {
            let id = self.id(host);
            let mut raw = self.raw.borrow_mut();
            let t = raw.entry(id).or_default();
            *t = *t + Traffic { in_packets: packets, in_bytes: packets * 100, ..Traffic::default() };
        }

        fn id(&self, host: u8) -> ServerId {
            let service = self.services.get(&key()).unwrap();
            service.destinations[service.position(server(host).address).unwrap()].id
        }

        fn look(&mut self) {
            self.statistics.look(|id| self.raw.borrow().get(&id).copied().unwrap_or_default());
        }

        fn packets(&self, host: u8) -> u64 {
            self.statistics.server(self.id(host)).totals.in_packets
        }
    }

    fn key() -> ServiceKey {
        "tcp:192.0.2.10:80".parse().unwrap()
    }

    fn server(host: u8) -> Server {
        Server::new(([10, 0, 0, host], 80).into(), Method::Nat)
    }

    fn with_two() -> Bench {
        let mut bench = Bench::new();
        for id in 0..8 {
            bench.raw.borrow_mut().insert(ServerId(id), Traffic::default());
        }
        bench.change(|draft| {
            draft.add_service(Service::new(key())).unwrap();
            draft.add_server(key(), server(1)).unwrap();
            draft.add_server(key(), server(2)).unwrap();
        });
        bench
    }

    #[test]
    fn rates_follow_the_kernels_smoothing() {
        let mut meter = Meter::default();
        let mut packets = 0;
        let mut rates = Vec::new();
        for _ in 0..40 {
            packets += 2000;
            meter.look(Traffic { in_packets: packets, in_bytes: packets * 64, ..Traffic::default() });
            rates.push(meter.shown().rates.in_packets);
        }
        // 25, 43.75, 57.8, 68.4 % of 1000 a second, as of the kernel's arithmetic.
        assert_eq!(rates[..4], [250, 437, 578, 684]);
        // The last quarter of a step is less than the kernel's unit, and never taken.
        assert_eq!((rates[39], meter.shown().rates.in_bytes), (1000, 63_999));
        for _ in 0..60 {
            meter.look(meter.seen);
        }
        assert_eq!(meter.shown().rates, TrafficView::default(), "and die out");
    }

    #[test]
    fn what_is_shown_is_what_was_seen_at_the_last_look() {
        let mut bench = with_two();
        bench.count(1, 5);
        assert_eq!(bench.packets(1), 0);
        bench.look();
        assert_eq!((bench.packets(1), bench.packets(2)), (5, 0));
        assert_eq!(bench.statistics.service(&key()).totals.in_packets, 5);
        assert_eq!(bench.statistics.total().totals.in_bytes, 500);
    }

    #[test]
    fn zeroing_counts_from_the_last_look_on() {
        let mut bench = with_two();
        bench.count(1, 5);
        bench.look();
        bench.count(1, 3);
        bench.statistics.zero(Some(key()));
        assert_eq!((bench.packets(1), bench.statistics.total().totals.in_packets), (0, 5));
        bench.look();
        assert_eq!((bench.packets(1), bench.statistics.service(&key()).totals.in_packets), (3, 3));
        bench.statistics.zero(None);
        assert_eq!(
            (bench.packets(1), bench.statistics.total(), bench.statistics.service(&key())),
            Default::default()
        );
    }

    #[test]
    fn a_service_keeps_what_removed_servers_did_and_a_server_that_comes_back_its_own() {
        let mut bench = with_two();
        bench.count(1, 5);
        bench.count(2, 7);
        bench.change(|draft| draft.remove_server(key(), server(1).address).unwrap());
        bench.look();
        assert_eq!(bench.statistics.service(&key()).totals.in_packets, 12);
        bench.change(|draft| draft.add_server(key(), server(1)).unwrap());
        bench.count(1, 1);
        bench.look();
        assert_eq!((bench.packets(1), bench.statistics.service(&key()).totals.in_packets), (6, 13));
        // A service that is made anew starts over, and so does its server; what was counted since the last look comes.
        bench.count(1, 2);
        bench.change(|draft| draft.remove_service(key()).unwrap());
        bench.change(|draft| {
            draft.add_service(Service::new(key())).unwrap();
            draft.add_server(key(), server(1)).unwrap();
        });
        assert_eq!((bench.packets(1), bench.statistics.service(&key()).totals.in_packets), (0, 0));
        bench.look();
        assert_eq!((bench.packets(1), bench.statistics.service(&key()).totals.in_packets), (2, 0));
        assert_eq!(bench.statistics.total().totals.in_packets, 15);
    }

    #[test]
    fn who_gets_a_free_number_starts_at_zero_and_the_director_loses_nothing() {
        let mut bench = with_two();
        bench.count(1, 5);
        let id = bench.id(1);
        bench.look();
        bench.change(|draft| draft.remove_server(key(), server(1).address).unwrap());
        bench.statistics.forget(&[id], |id| bench.raw.borrow()[&id]);
        assert_eq!(bench.statistics.server(id), Shown::default());
        // The number's counters go on from where they are.
        let of = VirtualService::of(
            Service::new("udp:192.0.2.10:53".parse().unwrap()),
            Box::new([crate::director::server::Destination::new(id, &server(9))]),
            crate::director::sched::Scheduler::new(Default::default(), Default::default()),
        );
        bench.statistics.follow_service(&of, |id| bench.raw.borrow()[&id]);
        bench.look();
        assert_eq!(bench.statistics.server(id).totals.in_packets, 0);
        assert_eq!(bench.statistics.total().totals.in_packets, 5);
    }

    #[test]
    fn workers_and_queues_have_rates_of_their_own() {
        let mut statistics = Statistics::default();
        let mut total = 0;
        for _ in 0..40 {
            total += 2000;
            let worker = Traffic { in_packets: total, ..Traffic::default() };
            let queue =
                QueueView { queue: 1, rx_packets: total, tx_bytes: 64 * total, ..QueueView::default() };
            let interface =
                InterfaceView { name: "eth0".into(), queues: vec![queue], ..InterfaceView::default() };
            statistics.look_at_machine(&[Traffic::default(), worker], &[interface]);
        }
        let rates: Vec<_> = statistics.worker_rates().iter().map(|t| t.in_packets).collect();
        assert_eq!(rates, [0, 1000]);
        let queue = statistics.queue_rates("eth0", 1);
        assert_eq!((queue.rx_packets, queue.tx_packets, queue.tx_bytes), (1000, 0, 63_999));
        assert_eq!(statistics.queue_rates("eth0", 0), QueueRatesView::default());
    }
}
