//! A director at work: what is looked at while it runs, and how it is taken down.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::api::Serving;
use super::machine::{Machine, Shared};
use super::{host, offload, report};
use crate::control::config;
use crate::control::plane::ControlPlane;
use crate::director::Director;
use crate::worker::counters::PortTally;
use crate::worker::memory::Preparing;
use crate::worker::offload::Carrying;
use crate::worker::{Worker, WorkerReport};

/// A director at work.
pub(super) struct Running {
    pub(super) director: Arc<Director>,
    pub(super) plane: Arc<Mutex<ControlPlane>>,
    pub(super) api: Serving,
    pub(super) machine: Shared,
    /// Why the receive queues are not those of the start, if they are not.
    pub(super) changed_queues: Option<String>,
    pub(super) workers: Vec<Worker>,
    pub(super) preparing: Preparing,
    /// What offloads connections, if anything does, and what the operator wants of it.
    pub(super) carrying: Option<Carrying>,
    pub(super) offload: config::Offload,
    pub(super) stop: Arc<AtomicBool>,
}

/// A director that has stopped.
pub(super) struct Stopped {
    /// Everything it has to say.
    pub(super) report: String,
    /// Why it stopped, if nobody asked it to.
    pub(super) failures: Vec<String>,
}

impl Running {
    /// How many workers there are.
    pub(super) fn queues(&self) -> usize {
        self.workers.len()
    }

    /// True once the director cannot go on as it should.
    pub(super) fn has_failed(&self) -> bool {
        self.changed_queues.is_some()
            || self.machine.lock().mirror.is_finished()
            || self.workers.iter().any(Worker::is_finished)
            || self.carrying.as_ref().is_some_and(Carrying::is_finished)
    }

    /// Notices receive queues that came or went since the start. Frames of a new one would reach no worker:
    /// rather than work by half the process ends, to be started again.
    pub(super) async fn look_at_queues(&mut self) {
        let names: Vec<String> = self.machine.lock().interfaces.iter().map(|i| i.name.clone()).collect();
        let before = self.workers.len();
        match host::queues(&names).await {
            Ok(queues) => {
                let changed = names.iter().zip(&queues).find(|(_, q)| q.receive as usize != before);
                self.changed_queues = changed.map(|(name, q)| {
                    let now = q.receive;
                    format!(
                        "{name} has {now} receive queues now and had {before} at the start: start xvs again"
                    )
                });
            }
            // An interface that is gone ends its worker; anything else is asked again.
            Err(error) => tracing::debug!("the receive queues cannot be counted now: {error:#}"),
        }
    }

    /// Notices interfaces that offloaded packets can be redirected to no more, or again.
    pub(super) async fn look_at_exits(&mut self) {
        let Some(carrying) = &self.carrying else { return };
        let mut interfaces = self.machine.lock().interfaces.clone();
        if offload::look_again(self.offload, &mut interfaces, carrying.offload()).await {
            self.machine.lock().interfaces = interfaces;
            carrying.offload().follow_exits();
        }
    }

    /// What is due: the host's addresses, estimates, drains.
    pub(super) fn tick(&mut self) {
        self.machine.lock().follow_host();
        self.plane().tick();
    }

    /// The control plane, for a moment.
    pub(super) fn plane(&self) -> MutexGuard<'_, ControlPlane> {
        self.plane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything there is to say at this moment.
    pub(super) fn report(&self) -> String {
        self.director.offload().settle();
        let machine = self.machine.lock();
        describe(&self.director, &machine, &machine.tallies())
    }

    /// Reads the configuration file again; what is wrong with it is logged and changes nothing.
    pub(super) fn reload(&self) {
        self.plane().reload_or_log();
    }

    /// Hands all traffic back to the kernel, lets the workers finish what has arrived, and reports.
    pub(super) async fn stop(mut self) -> Stopped {
        self.api.stop().await;
        self.machine.lock().let_go();
        if let Some(carrying) = self.carrying.take() {
            carrying.offload().let_go();
            carrying.stop();
        }
        self.director.offload().settle();
        self.stop.store(true, Ordering::Relaxed);
        let reports: Vec<_> = std::mem::take(&mut self.workers).into_iter().map(Worker::join).collect();
        let tallies: Vec<_> = reports.iter().map(|r| r.ports.clone()).collect();
        let mut report = describe(&self.director, &self.machine.lock(), &tallies);
        report.push('\n');
        for worker in &reports {
            report.push_str(&format!("{worker}\n"));
        }
        let failure = |r: &WorkerReport| match &r.failure {
            Some(error) => Some(format!("worker of queue {}: {error}", r.queue)),
            None if !r.is_conserved() => {
                Some(format!("worker of queue {}: frames were lost: {:?}", r.queue, r.census))
            }
            None => None,
        };
        let is_finished = self.machine.lock().mirror.is_finished();
        let mirror = is_finished.then(|| "the mirror of the kernel's routes has ended".to_owned());
        let failures =
            self.changed_queues.into_iter().chain(mirror).chain(reports.iter().filter_map(failure)).collect();
        drop(self.plane);
        drop(self.preparing);
        if let Some(Machine { steering, mirror, up, .. }) = self.machine.into_inner() {
            drop(steering);
            if let Some(up) = up {
                up.stop().await;
            }
            mirror.stop().await;
        }
        Stopped { report, failures }
    }
}

fn describe(director: &Director, machine: &Machine, tallies: &[Vec<PortTally>]) -> String {
    [
        crate::control::report::all(director, machine.now()),
        report::steering(&machine.outcomes()),
        report::queues(&machine.interfaces, tallies),
    ]
    .join("\n")
}
