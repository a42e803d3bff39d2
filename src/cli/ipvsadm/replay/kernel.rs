//! The kernel's control plane, as far as ipvsadm sees it: everything that xvs does not forward yet included.

use std::io;
use std::net::IpAddr;

use super::NO_TRAFFIC;
use crate::cli::ipvsadm::director::Director;
use crate::control::command::{Code, Command, Forward, Refusal, ServerSpec, ServiceSpec, TimeoutsSpec};
use crate::control::view::{ConnectionView, ServerView, ServiceView, TimeoutsView, TrafficView};
use crate::director::name::ServiceKey;

/// The schedulers of the recorded kernel.
pub(super) const SCHEDULERS: &[&str] =
    &["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos"];

/// A kernel without a packet path. Services are in the order they were added, servers newest first.
#[derive(Debug)]
pub(super) struct Kernel {
    services: Vec<(ServiceSpec, Vec<ServerSpec>)>,
    timeouts: TimeoutsSpec,
    pub connections: Vec<ConnectionView>,
    /// Of every service and server.
    pub traffic: TrafficView,
    /// How often changes were asked for.
    pub calls: usize,
    /// Nothing is answered any more.
    pub lost: bool,
}

impl Default for Kernel {
    fn default() -> Self {
        let timeouts = TimeoutsSpec { tcp_s: 900, tcp_fin_s: 120, udp_s: 300 };
        let (services, connections) = (Vec::new(), Vec::new());
        Self { services, timeouts, connections, traffic: NO_TRAFFIC, calls: 0, lost: false }
    }
}

impl Kernel {
    fn apply(&mut self, command: &Command) -> Result<(), Code> {
        match command {
            Command::AddService(spec) => {
                if self.find(&spec.service).is_some() {
                    return Err(Code::ServiceExists);
                }
                check_service(spec)?;
                self.services.push((spec.clone(), Vec::new()));
            }
            Command::EditService(spec) => {
                let index = self.find(&spec.service).ok_or(Code::NoService)?;
                check_service(spec)?;
                self.services[index].0 = spec.clone();
            }
            Command::DeleteService { service } => {
                let index = self.find(service).ok_or(Code::NoService)?;
                self.services.remove(index);
            }
            Command::Clear {} => self.services.clear(),
            Command::AddServer { service, server } => {
                let servers = self.servers(service)?;
                check_server(service, server)?;
                if servers.iter().any(|there| there.address == server.address) {
                    return Err(Code::ServerExists);
                }
                if !is_unicast(server.address.ip()) {
                    return Err(Code::Invalid);
                }
                servers.insert(0, server.clone());
            }
            Command::EditServer { service, server } => {
                let servers = self.servers(service)?;
                check_server(service, server)?;
                let there = servers.iter_mut().find(|there| there.address == server.address);
                *there.ok_or(Code::NoServer)? = server.clone();
            }
            Command::DeleteServer { service, server } => {
                let servers = self.servers(service)?;
                let index = servers.iter().position(|there| there.address == *server);
                servers.remove(index.ok_or(Code::NoServer)?);
            }
            Command::Zero { service } => {
                if let Some(service) = service {
                    self.find(service).ok_or(Code::NoService)?;
                }
            }
            Command::SetTimeouts(new) => {
                for (old, new) in [
                    (&mut self.timeouts.tcp_s, new.tcp_s),
                    (&mut self.timeouts.tcp_fin_s, new.tcp_fin_s),
                    (&mut self.timeouts.udp_s, new.udp_s),
                ] {
                    *old = if new == 0 { *old } else { new };
                }
            }
            other => panic!("ipvsadm has no {other:?}"),
        }
        Ok(())
    }

    fn find(&self, key: &ServiceKey) -> Option<usize> {
        self.services.iter().position(|(spec, _)| spec.service == *key)
    }

    fn servers(&mut self, key: &ServiceKey) -> Result<&mut Vec<ServerSpec>, Code> {
        let index = self.find(key).ok_or(Code::NoService)?;
        Ok(&mut self.services[index].1)
    }

    fn answer(&self) -> io::Result<()> {
        if self.lost { Err(io::Error::from_raw_os_error(nix::libc::ECONNRESET)) } else { Ok(()) }
    }
}

fn check_service(spec: &ServiceSpec) -> Result<(), Code> {
    let known = SCHEDULERS.contains(&spec.scheduler.as_str()) && spec.persistence_engine.is_none();
    if known { Ok(()) } else { Err(Code::NoScheduler) }
}

fn check_server(service: &ServiceKey, server: &ServerSpec) -> Result<(), Code> {
    if server.address.is_ipv4() != service.is_v4() && server.forward != Forward::Tun {
        return Err(Code::Invalid);
    }
    if server.lower_threshold > server.upper_threshold {
        return Err(Code::OutOfRange);
    }
    Ok(())
}

fn is_unicast(ip: IpAddr) -> bool {
    let special = match ip {
        IpAddr::V4(ip) => ip.is_broadcast() || ip.octets()[0] == 0,
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.to_ipv4_mapped().is_some(),
    };
    !(ip.is_unspecified() || ip.is_multicast() || special)
}

/// A service as it is seen, with these servers.
pub(super) fn view(spec: &ServiceSpec, servers: Vec<ServerView>, traffic: TrafficView) -> ServiceView {
    ServiceView {
        service: spec.service,
        scheduler: spec.scheduler.clone(),
        scheduler_flags: spec.scheduler_flags.clone(),
        persistence: spec.persistence.clone(),
        persistence_engine: spec.persistence_engine.clone(),
        one_packet: spec.one_packet,
        switches: Default::default(),
        local_addresses: Vec::new(),
        local_ports: None,
        statistics: traffic,
        rates: traffic,
        servers,
    }
}

/// A server as it is seen, with so many active, inactive connections and templates.
pub(super) fn server_view(spec: &ServerSpec, counts: [u32; 3], traffic: Option<TrafficView>) -> ServerView {
    let [active, inactive, persistent] = counts;
    ServerView {
        address: spec.address,
        forward: spec.forward,
        tunnel: spec.tunnel,
        weight: spec.weight,
        configured_weight: spec.weight,
        state: Default::default(),
        drain_timeout_s: 0,
        down: false,
        share_percent: 100,
        upper_threshold: spec.upper_threshold,
        lower_threshold: spec.lower_threshold,
        active,
        inactive,
        persistent,
        draining: false,
        statistics: traffic,
        rates: traffic,
    }
}

impl Director for Kernel {
    fn apply_each(&mut self, commands: &[Command]) -> io::Result<Vec<Result<(), Refusal>>> {
        self.answer()?;
        self.calls += 1;
        let apply = |command| self.apply(command).map_err(|code| Refusal::new(code, "not said"));
        Ok(commands.iter().map(apply).collect())
    }

    fn services(&mut self, server_traffic: bool) -> io::Result<Vec<ServiceView>> {
        self.answer()?;
        let traffic = server_traffic.then_some(self.traffic);
        let server = |server: &ServerSpec| server_view(server, [0; 3], traffic);
        let service = |(spec, servers): &(ServiceSpec, Vec<ServerSpec>)| {
            view(spec, servers.iter().map(server).collect(), self.traffic)
        };
        Ok(self.services.iter().map(service).collect())
    }

    fn service(&mut self, key: &ServiceKey) -> io::Result<Option<ServiceView>> {
        Ok(self.services(true)?.into_iter().find(|view| view.service == *key))
    }

    fn timeouts(&mut self) -> io::Result<TimeoutsView> {
        self.answer()?;
        Ok(self.timeouts)
    }

    fn connections(&mut self, each: &mut dyn FnMut(ConnectionView) -> io::Result<()>) -> io::Result<()> {
        self.connections.iter().cloned().try_for_each(each)
    }
}
