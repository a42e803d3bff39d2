//! What the API asks of the control plane, so that it can be tested without one.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::control::command::{Command, Refusal};
use crate::control::view::{
    CountersView, DriftView, DropView, InfoView, InterfaceView, ServiceView, TimeoutsView, TunableView,
};
use crate::director::Director;
use crate::director::marks::MarkRule;
use crate::director::name::ServiceKey;
use crate::director::time::Time;

/// The control plane as the API sees it. Every call is over in milliseconds.
pub trait Plane: Send {
    /// Performs commands in their order, each by itself; published once.
    fn apply_each(&mut self, commands: &[Command]) -> Vec<Result<(), Refusal>>;

    /// Performs all commands or none.
    ///
    /// # Errors
    /// The number of the command that was refused, from 0, and why. Nothing has changed then.
    fn apply_all(&mut self, commands: &[Command]) -> Result<(), (usize, Refusal)>;

    /// Every service in the order they were added.
    fn services(&self) -> Vec<ServiceView>;

    /// The service of this name.
    fn service(&self, key: &ServiceKey) -> Option<ServiceView>;

    /// The director as a whole.
    fn info(&self) -> InfoView;

    /// Totals and rates.
    fn counters(&self) -> CountersView;

    /// Dropped frames by reason.
    fn drops(&self) -> Vec<DropView>;

    /// Interfaces and their queues.
    fn interfaces(&self) -> Vec<InterfaceView>;

    /// Every tunable.
    fn tunables(&self) -> Vec<TunableView>;

    /// The timeouts of `ipvsadm --set`.
    fn timeouts(&self) -> TimeoutsView;

    /// The rules that give firewall marks, in their order.
    fn marks(&self) -> Vec<MarkRule>;

    /// Makes the running state that of the configuration file, unless `dry_run`: the difference, line by line.
    ///
    /// # Errors
    /// Why not. Nothing has changed then.
    fn reload(&mut self, dry_run: bool) -> Result<Vec<String>, Refusal>;

    /// How the running state and the configuration file disagree.
    ///
    /// # Errors
    /// The file cannot be read or is wrong.
    fn drift(&self) -> Result<DriftView, Refusal>;

    /// The running state as a configuration file.
    fn save(&self) -> String;

    /// The director, for the connections it has.
    fn director(&self) -> &Arc<Director>;

    /// The workers' time.
    fn now(&self) -> Time;
}

/// The one control plane, shared by the API and whoever else changes it on the control thread.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<dyn Plane>>);

impl Shared {
    /// Shares `plane` with the API.
    pub fn new(plane: Arc<Mutex<dyn Plane>>) -> Self {
        Self(plane)
    }

    /// The control plane, for a moment: never held across an `await`. One that panicked is not given up: its changes
    /// are published whole or not at all.
    pub(super) fn lock(&self) -> MutexGuard<'_, dyn Plane + 'static> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared(..)")
    }
}
