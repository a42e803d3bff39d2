//! A director at work: what is looked at while it runs, and how it is taken down.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::report::{self, Interface};
use super::{host, rules};
use crate::director::Director;
use crate::director::time::Time;
use crate::net::{Mirror, Snapshot};
use crate::worker::counters::PortTally;
use crate::worker::{Clock, Worker, WorkerReport};
use crate::xdp::steer::{Rules, SteerError, Steering};

/// A director at work.
pub(super) struct Running {
    pub(super) director: Arc<Director>,
    pub(super) mirror: Mirror,
    pub(super) host_addresses: BTreeSet<IpAddr>,
    /// Why the receive queues are not those of the start, if they are not.
    pub(super) changed_queues: Option<String>,
    /// The steering program could not be told of new addresses.
    pub(super) is_behind: bool,
    pub(super) steering: Steering,
    pub(super) interfaces: Vec<Interface>,
    pub(super) workers: Vec<Worker>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) clock: Clock,
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
            || self.mirror.is_finished()
            || self.workers.iter().any(Worker::is_finished)
    }

    /// Notices receive queues that came or went since the start. Frames of a new one would reach no worker:
    /// rather than work by half the process ends, to be started again.
    pub(super) async fn look_at_queues(&mut self) {
        let names: Vec<String> = self.interfaces.iter().map(|i| i.name.clone()).collect();
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

    /// Tells the steering program when the host's own addresses or MACs have changed. What it could not be told
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
    }

    fn tell_addresses(&mut self, snapshot: &Snapshot) -> Result<(), SteerError> {
        let addresses = snapshot.host_addresses();
        if *addresses != self.host_addresses {
            self.steering.apply(&rules::rules(&self.director.services.load(), addresses))?;
            self.host_addresses = addresses.clone();
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

    /// Everything there is to say at this moment.
    pub(super) fn report(&self) -> String {
        let tally = |w: &Worker| w.counters().ports.iter().map(|p| p.read()).collect();
        self.describe(&self.workers.iter().map(tally).collect::<Vec<_>>())
    }

    fn describe(&self, tallies: &[Vec<PortTally>]) -> String {
        let now = Time(u64::try_from(self.clock.read().as_millis()).unwrap_or(u64::MAX));
        let outcomes = self.steering.counters().map(Vec::from).unwrap_or_default();
        [
            crate::control::report::all(&self.director, now),
            report::steering(&outcomes),
            report::queues(&self.interfaces, tallies),
        ]
        .join("\n")
    }

    /// Hands all traffic back to the kernel, lets the workers finish what has arrived, and reports.
    pub(super) async fn stop(mut self) -> Stopped {
        if let Err(error) = self.steering.apply(&Rules::default()) {
            tracing::warn!("the steering program could not be told to let go: {error}");
        }
        self.stop.store(true, Ordering::Relaxed);
        let reports: Vec<_> = std::mem::take(&mut self.workers).into_iter().map(Worker::join).collect();
        let tallies: Vec<_> = reports.iter().map(|r| r.ports.clone()).collect();
        let mut report = self.describe(&tallies);
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
        let mirror =
            self.mirror.is_finished().then(|| "the mirror of the kernel's routes has ended".to_owned());
        let failures =
            self.changed_queues.into_iter().chain(mirror).chain(reports.iter().filter_map(failure)).collect();
        drop(self.steering);
        self.mirror.stop().await;
        Stopped { report, failures }
    }
}
