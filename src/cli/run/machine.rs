//! The machine as the control plane sees it: steering program, mirror of the kernel's network, interfaces and the
//! workers' counters.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::missing::{Missing, Use};
use super::pass::Up;
use super::report::Interface;
use super::rules;
use crate::control::plane::{Host, Steered};
use crate::control::view::{CameUpView, InterfaceView, OffloadView, QueueRatesView, QueueView};
use crate::director::time::Time;
use crate::net::{Mirror, Route, Snapshot};
use crate::worker::Clock;
use crate::worker::counters::{PortTally, WorkerCounters};
use crate::worker::offload::{Figures, Offload};
use crate::xdp::steer::offload::Why;
use crate::xdp::steer::{Outcome, Rules, SteerError, Steering};

/// What the director runs on.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) steering: Steering,
    pub(super) mirror: Mirror,
    /// The device by which packets go back up to the kernel.
    pub(super) up: Option<Up>,
    /// What has connections carried by the steering program, if anything has.
    offload: Option<Offload>,
    pub(super) interfaces: Vec<Interface>,
    /// Counters of each worker, in order of queue.
    pub(super) counters: Vec<Arc<WorkerCounters>>,
    pub(super) clock: Clock,
    host_addresses: BTreeSet<IpAddr>,
    missing: Missing,
    steered: Steered,
    /// The steering program could not be told of new addresses.
    is_behind: bool,
    /// The steering program knows a part of what was refused: it has to be told all again.
    is_torn: bool,
}

impl Machine {
    pub(super) fn new(
        steering: Steering,
        mirror: Mirror,
        up: Option<Up>,
        offload: Option<Offload>,
        interfaces: Vec<Interface>,
        counters: Vec<Arc<WorkerCounters>>,
        clock: Clock,
    ) -> Self {
        let host_addresses = mirror.snapshots().load().host_addresses().clone();
        let steered = Steered::default();
        Self {
            steering,
            mirror,
            up,
            offload,
            interfaces,
            counters,
            clock,
            host_addresses,
            missing: Missing::default(),
            steered,
            is_behind: false,
            is_torn: false,
        }
    }

    /// Tells the steering program when the host's own addresses or MACs have changed, and the operator which are missed. What it could not be told
    /// it is told at the next look: until then it works by what it knew before.
    pub(super) fn follow_host(&mut self) {
        let snapshot = self.mirror.snapshots().load_full();
        let told = self.tell_addresses(&snapshot).and_then(|()| self.tell_macs(&snapshot));
        if let Err(error) = &told
            && !self.is_behind
        {
            tracing::warn!("the steering program works by old addresses of this host, trying again: {error}");
        }
        self.is_behind = told.is_err();
        self.missing.warn(snapshot.host_addresses(), Instant::now());
        if let Some(up) = &self.up {
            up.keep();
        }
        self.follow_local_servers();
    }

    /// Sees to the answers of servers that are this host.
    fn follow_local_servers(&mut self) {
        if let Some(up) = &mut self.up {
            up.answer(&self.steered.nat_servers, &self.mirror.snapshots().load());
        }
    }

    fn tell_addresses(&mut self, snapshot: &Snapshot) -> Result<(), SteerError> {
        let addresses = snapshot.host_addresses();
        if *addresses != self.host_addresses || self.is_torn {
            self.steering.apply(&rules::rules(&self.steered, addresses))?;
            self.host_addresses = addresses.clone();
            self.is_torn = false;
        }
        Ok(())
    }

    fn tell_macs(&mut self, snapshot: &Snapshot) -> Result<(), SteerError> {
        for index in (0..).take(self.interfaces.len()) {
            if let Some(port) = snapshot.port(index) {
                self.steering.set_mac(index, port.mac)?;
            }
        }
        Ok(())
    }

    /// Leaves all traffic to the kernel.
    pub(super) fn let_go(&mut self) {
        self.steered = Steered::default();
        if let Err(error) = self.steering.apply(&Rules::default()) {
            tracing::warn!("the steering program could not be told to let go: {error}");
        }
    }

    /// What each worker did at each interface.
    pub(super) fn tallies(&self) -> Vec<Vec<PortTally>> {
        self.counters.iter().map(|worker| worker.ports.iter().map(|p| p.read()).collect()).collect()
    }

    /// Frames by outcome of the steering program; nothing if the kernel does not tell.
    pub(super) fn outcomes(&self) -> Vec<(Outcome, u64)> {
        self.steering.counters().map(Vec::from).unwrap_or_default()
    }

    /// The workers' time.
    pub(super) fn now(&self) -> Time {
        Time(u64::try_from(self.clock.read().as_millis()).unwrap_or(u64::MAX))
    }
}

/// A machine that the control plane and the main loop share; both are on one thread.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<Mutex<Machine>>);

impl Shared {
    pub(super) fn new(machine: Machine) -> Self {
        Self(Arc::new(Mutex::new(machine)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Machine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine itself, if nobody else has it any more.
    pub(super) fn into_inner(self) -> Option<Machine> {
        Arc::into_inner(self.0).map(|machine| machine.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Host for Shared {
    fn now(&self) -> Time {
        self.lock().now()
    }

    fn steer(&mut self, wanted: &Steered) -> Result<(), String> {
        let machine = &mut *self.lock();
        if let Err(error) = machine.steering.apply(&rules::rules(wanted, &machine.host_addresses)) {
            // Some of it may be told already: back to what it was.
            let before = rules::rules(&machine.steered, &machine.host_addresses);
            if let Err(again) = machine.steering.apply(&before) {
                tracing::error!("the steering program is between two states, trying again: {again}");
                machine.is_torn = true;
            }
            return Err(error.to_string());
        }
        let vips = wanted.vips.iter().map(|vip| (*vip, Use::Vip));
        let locals = wanted.local_addresses.keys().map(|local| (*local, Use::Local));
        machine.missing.want(vips.chain(locals), Instant::now());
        machine.steered = wanted.clone();
        machine.follow_local_servers();
        Ok(())
    }

    fn watch(&mut self, servers: BTreeSet<IpAddr>) {
        self.lock().mirror.watch(servers.into_iter().collect());
    }

    fn is_here(&self, address: IpAddr) -> bool {
        self.lock().mirror.snapshots().load().route(address, 0) == Route::Local
    }

    fn interfaces(&self) -> Vec<InterfaceView> {
        let machine = self.lock();
        let tallies = machine.tallies();
        let snapshot = machine.mirror.snapshots().load_full();
        let left = machine.offload.as_ref().map_or_else(Vec::new, |offload| offload.figures().left);
        let queue = |(queue, ports): (usize, &Vec<PortTally>), port: usize, interface: &Interface| {
            let t = ports.get(port).copied().unwrap_or_default();
            QueueView {
                queue: u32::try_from(queue).unwrap_or(u32::MAX),
                zero_copy: interface.zero_copy.get(queue).is_some_and(|zero| *zero),
                rx_packets: t.rx_packets,
                rx_bytes: t.rx_bytes,
                tx_packets: t.tx_packets,
                tx_bytes: t.tx_bytes,
                recycled: t.recycled,
                transmit_full: t.transmit_full,
                kernel_dropped: t.kernel_rx_dropped + t.kernel_rx_ring_full,
                rates: QueueRatesView::default(),
            }
        };
        let view = |(port, interface): (usize, &Interface)| {
            let (offloaded_packets, offloaded_bytes) = left.get(port).copied().unwrap_or_default();
            InterfaceView {
                name: interface.name.clone(),
                xdp: interface.xdp.clone(),
                rss: u16::try_from(port).is_ok_and(|port| snapshot.rss(port).is_some()),
                offload: interface.offload.name().to_owned(),
                offloaded_packets,
                offloaded_bytes,
                queues: tallies.iter().enumerate().map(|q| queue(q, port, interface)).collect(),
            }
        };
        machine.interfaces.iter().enumerate().map(view).collect()
    }

    fn steering(&self) -> Vec<(String, u64)> {
        self.lock().outcomes().into_iter().map(|(outcome, count)| (outcome.to_string(), count)).collect()
    }

    fn offload(&self) -> Option<OffloadView> {
        let offload = self.lock().offload.clone()?;
        let Figures { places, carried, refused, gave_way, .. } = offload.figures();
        let view = |(why, packets): (Why, u64)| CameUpView {
            reason: why.name().to_owned(),
            help: why.help().to_owned(),
            packets,
        };
        let came_up = offload.came_up().into_iter().map(view).collect();
        Some(OffloadView { places, carried, refused, gave_way, came_up })
    }
}
