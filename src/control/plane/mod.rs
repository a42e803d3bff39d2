//! The control plane: the one owner of what the director is to do.
//!
//! ```text
//!  TOML file, HTTP, ipvsadm ──> Command ──> perform: a draft, the kernel's rules ──> publish
//!                                                                                   1 the host steers
//!                                                                                   2 the workers' snapshot
//!                                                                                   3 statistics, drains follow
//! ```
//!
//! | file | owns |
//! | --- | --- |
//! | `file` | reload, drift, save |
//! | `perform` | what each command does to a draft |
//! | `publish` | from draft to workers, steering program and neighbours; nothing half-way |
//! | `ftp` | at which ports FTP's data connections come up |
//! | `show`, `seen` | what can be seen, and by the API |
//! | `upkeep` | what time brings: estimates, drains, removed servers |
//!
//! Everything runs on the control thread and is over in milliseconds; workers are never waited for. The machine
//! (steering, neighbours, interfaces) is behind the trait [`Host`].

mod file;
mod ftp;
mod perform;
mod publish;
mod seen;
mod show;
#[cfg(test)]
mod tests;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub use self::ftp::FtpData;
use super::command::{Command, Refusal};
use super::statistics::Statistics;
use super::view::{InterfaceView, OffloadView};
use crate::director::Director;
use crate::director::draft::Draft;
use crate::director::local::Ports;
use crate::director::marks::MarkRule;
use crate::director::name::ServiceKey;
use crate::director::roster::Roster;
use crate::director::server::ServerId;
use crate::director::services::{Endpoint, Services};
use crate::director::stats::Traffic;
use crate::director::time::Time;

/// What must come up to the workers rather than stay with the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steered {
    /// Packets to these; port 0 is every port.
    pub services: BTreeSet<Endpoint>,
    /// Bytes of room that packets to a service get in front: what all its tunnels need. Services without are not here.
    pub rooms: BTreeMap<Endpoint, u16>,
    /// Packets from these, unless to this host; port 0 is every port.
    pub nat_servers: BTreeSet<Endpoint>,
    /// Packets from these to a local address; port 0 is every port.
    pub full_nat_servers: BTreeSet<Endpoint>,
    /// Local addresses of FULLNAT, and their ports.
    pub local_addresses: BTreeMap<IpAddr, Ports>,
    /// TCP packets to these at the ports of FTP's data connections.
    pub ftp: BTreeSet<FtpData>,
    /// Packets that these rules mark.
    pub marks: Vec<MarkRule>,
    /// Fragments to these.
    pub vips: BTreeSet<IpAddr>,
    /// ICMP errors about packets into tunnels to these: the protocol of the outer packets, the server, and for UDP the
    /// port, else 0.
    pub tunnels: BTreeSet<(u8, SocketAddr)>,
}

/// The machine that the director runs on.
pub trait Host: fmt::Debug + Send {
    /// The workers' time.
    fn now(&self) -> Time;

    /// Lets these packets come up to the workers, and no others.
    ///
    /// # Errors
    /// Why the kernel refuses. What was steered before is still steered then.
    fn steer(&mut self, wanted: &Steered) -> Result<(), String>;

    /// Keeps the MAC addresses of these servers, or of their gateways, known.
    fn watch(&mut self, servers: BTreeSet<IpAddr>);

    /// Interfaces and queues with their counters.
    fn interfaces(&self) -> Vec<InterfaceView>;

    /// Frames by outcome of the steering program.
    fn steering(&self) -> Vec<(String, u64)>;

    /// What the steering program carries by itself, if it is to.
    fn offload(&self) -> Option<OffloadView>;
}

/// The one owner of what the director is to do.
#[derive(Debug)]
pub struct ControlPlane {
    director: Arc<Director>,
    host: Box<dyn Host>,
    roster: Roster,
    statistics: Statistics,
    steered: Steered,
    /// Snapshots that workers may still hold: freed here, not by a worker.
    before: Vec<Arc<Services>>,
    /// Servers that are deleted once their connections are gone, or at a tick.
    drains: HashMap<(ServiceKey, SocketAddr), Option<u32>>,
    upkeep: upkeep::Due,
    /// The place of the table from which on connections of removed servers are to be ended, if they are.
    orphans: Option<u32>,
    /// The file it was started with.
    origin: Option<file::Origin>,
}

impl ControlPlane {
    /// The control plane of `director`, which has no services yet.
    pub fn new(director: Arc<Director>, host: Box<dyn Host>) -> Self {
        Self {
            director,
            host,
            roster: Roster::default(),
            statistics: Statistics::default(),
            steered: Steered::default(),
            before: Vec::new(),
            drains: HashMap::new(),
            upkeep: upkeep::Due::default(),
            orphans: None,
            origin: None,
        }
    }

    /// Performs commands in their order, each by itself: one that is refused changes nothing, the others do. The
    /// workers see all of them at once.
    pub fn apply_each(&mut self, commands: &[Command]) -> Vec<Result<(), Refusal>> {
        let mut draft = self.draft();
        let mut after = Vec::new();
        let mut results: Vec<_> =
            commands.iter().map(|command| perform::perform(command, &mut draft, &mut after)).collect();
        if results.iter().any(Result::is_ok)
            && let Err(refusal) = self.publish(draft, after)
        {
            for result in results.iter_mut().filter(|r| r.is_ok()) {
                *result = Err(refusal.clone());
            }
        }
        results
    }

    /// Performs commands in their order, all of them or none.
    ///
    /// # Errors
    /// The place of the one that is refused, and why.
    pub fn apply_all(&mut self, commands: &[Command]) -> Result<(), (usize, Refusal)> {
        let mut draft = self.draft();
        let mut after = Vec::new();
        for (place, command) in commands.iter().enumerate() {
            perform::perform(command, &mut draft, &mut after).map_err(|refusal| (place, refusal))?;
        }
        self.publish(draft, after).map_err(|refusal| (0, refusal))
    }

    /// The director it controls.
    pub const fn director(&self) -> &Arc<Director> {
        &self.director
    }

    /// A copy of the services to change. Numbers for as many servers as there may be are left, if any can be.
    fn draft(&mut self) -> Draft {
        self.make_room();
        Draft::new(&self.director.services.load(), &self.roster).at(self.tick_now())
    }

    /// What was counted under a number since the start, until this moment.
    fn raw(director: &Director) -> impl Fn(ServerId) -> Traffic {
        director.offload().settle();
        |id| director.traffic(id)
    }

    /// The tick of this moment.
    fn tick_now(&self) -> u32 {
        self.host.now().tick()
    }
}
