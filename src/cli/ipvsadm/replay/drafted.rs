//! A director that only has its control plane: commands change its services as they change a running one's.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use super::NO_TRAFFIC;
use super::kernel::{SCHEDULERS, server_view, view};
use crate::cli::ipvsadm::director::Director;
use crate::control::command::{
    Code, Command, PersistenceSpec, Refusal, ServerSpec, ServiceSpec, TimeoutsSpec,
};
use crate::control::view::{ConnectionView, ServiceView, TimeoutsView};
use crate::director::draft::Draft;
use crate::director::name::ServiceKey;
use crate::director::roster::Roster;
use crate::director::server::Destination;
use crate::director::service::{Netmask, Persistence, Service};
use crate::director::services::Services;

/// The director.
#[derive(Debug)]
pub(super) struct Drafted {
    draft: Draft,
    /// What was said of schedulers: not all of those that the kernel has need be there to be listed.
    said: HashMap<ServiceKey, ServiceSpec>,
    timeouts: TimeoutsSpec,
    /// Active and inactive connections and templates of each server: the traffic's, not the commands'.
    pub counts: HashMap<(ServiceKey, SocketAddr), [u32; 3]>,
}

impl Default for Drafted {
    fn default() -> Self {
        Self {
            draft: Draft::new(&Services::default(), &Roster::default()),
            said: HashMap::new(),
            timeouts: TimeoutsSpec { tcp_s: 900, tcp_fin_s: 120, udp_s: 300 },
            counts: HashMap::new(),
        }
    }
}

impl Drafted {
    fn apply(&mut self, command: &Command) -> Result<(), Refusal> {
        match command {
            Command::AddService(spec) => {
                if self.draft.services().get(&spec.service).is_none() {
                    known(spec)?;
                }
                self.draft.add_service(service(spec))?;
                self.said.insert(spec.service, spec.clone());
            }
            Command::EditService(spec) => {
                if self.draft.services().get(&spec.service).is_some() {
                    known(spec)?;
                }
                self.draft.edit_service(service(spec))?;
                self.said.insert(spec.service, spec.clone());
            }
            Command::DeleteService { service } => self.draft.remove_service(*service)?,
            Command::Clear {} => self.draft.clear(),
            Command::AddServer { service, server } => self.draft.add_server(*service, server.server()?)?,
            Command::EditServer { service, server } => self.draft.edit_server(*service, server.server()?)?,
            Command::DeleteServer { service, server } => self.draft.remove_server(*service, *server)?,
            Command::Zero { service: Some(service) } if self.draft.services().get(service).is_none() => {
                return Err(Refusal::new(Code::NoService, ""));
            }
            Command::Zero { .. } => {}
            Command::SetTimeouts(new) => {
                let set = |old: u32, new: u32| if new == 0 { old } else { new };
                let old = self.timeouts;
                self.timeouts = TimeoutsSpec {
                    tcp_s: set(old.tcp_s, new.tcp_s),
                    tcp_fin_s: set(old.tcp_fin_s, new.tcp_fin_s),
                    udp_s: set(old.udp_s, new.udp_s),
                };
            }
            other => panic!("ipvsadm has no {other:?}"),
        }
        Ok(())
    }

    /// A service with its servers, newest first.
    fn view(&self, key: &ServiceKey) -> Option<ServiceView> {
        let destinations = &self.draft.services().get(key)?.destinations;
        let servers = destinations.iter().map(Destination::server).map(|server| {
            let counts = self.counts.get(&(*key, server.address)).copied().unwrap_or_default();
            server_view(&ServerSpec::from(&server), counts, Some(NO_TRAFFIC))
        });
        Some(view(&self.said[key], servers.collect(), NO_TRAFFIC))
    }
}

fn known(spec: &ServiceSpec) -> Result<(), Refusal> {
    let known = SCHEDULERS.contains(&spec.scheduler.as_str()) && spec.persistence_engine.is_none();
    if known { Ok(()) } else { Err(Refusal::new(Code::NoScheduler, "")) }
}

fn service(spec: &ServiceSpec) -> Service {
    let is_v4 = spec.service.is_v4();
    let persistence = |spec: &PersistenceSpec| Persistence {
        timeout_s: spec.timeout_s,
        netmask: match (&spec.netmask, is_v4) {
            (None, _) => Netmask::whole(is_v4),
            (Some(mask), true) => Netmask::V4(mask.parse().unwrap()),
            (Some(bits), false) => Netmask::V6(bits.parse().unwrap()),
        },
    };
    Service {
        persistence: spec.persistence.as_ref().map(persistence),
        engine: None,
        one_packet: spec.one_packet,
        ..Service::new(spec.service)
    }
}

impl Director for Drafted {
    fn apply_each(&mut self, commands: &[Command]) -> io::Result<Vec<Result<(), Refusal>>> {
        Ok(commands.iter().map(|command| self.apply(command)).collect())
    }

    fn services(&mut self, _server_traffic: bool) -> io::Result<Vec<ServiceView>> {
        let keys: Vec<ServiceKey> = self.draft.services().all().map(|s| s.service.key).collect();
        Ok(keys.iter().filter_map(|key| self.view(key)).collect())
    }

    fn service(&mut self, key: &ServiceKey) -> io::Result<Option<ServiceView>> {
        Ok(self.view(key))
    }

    fn timeouts(&mut self) -> io::Result<TimeoutsView> {
        Ok(self.timeouts)
    }

    fn connections(&mut self, _: &mut dyn FnMut(ConnectionView) -> io::Result<()>) -> io::Result<()> {
        Ok(())
    }
}
