//! What the options of one command line ask for together.

use super::asked::Asked;
use super::flags::Flags;
use super::request::{Columns, Format, Listing, Request};
use super::rules::{Action, Opt};
use super::stop::Stop;
use crate::control::command::{
    Command, Forward, PersistenceSpec, ServerSpec, ServiceSpec, TunnelSpec, netmask_text,
};
use crate::director::name::ServiceKey;
use crate::director::sched::Kind;
use crate::director::service::Protocol;

impl Asked {
    /// What they ask for.
    ///
    /// # Errors
    /// They do not go together.
    pub fn request(self, action: Action) -> Result<Request, Stop> {
        let scheduler = match self.scheduler.as_str() {
            "" => Kind::default().name(),
            name => name,
        };
        let flags = match self.flags.as_str() {
            "" => Flags::default(),
            text => Flags::parse(scheduler, text)?,
        };
        self.seen.check(action)?;
        let request = match (action, self.key()) {
            (Action::AddService, Some(key)) => self.service_request(key, scheduler, flags, false)?,
            (Action::EditService, Some(key)) => self.service_request(key, scheduler, flags, true)?,
            (Action::DeleteService, Some(service)) => Request::Change(Command::DeleteService { service }),
            (Action::AddServer, Some(service)) => {
                let server = self.server_spec()?;
                Request::Change(Command::AddServer { service, server })
            }
            (Action::EditServer, Some(service)) => {
                let server = self.server_spec()?;
                Request::Change(Command::EditServer { service, server })
            }
            (Action::DeleteServer, Some(service)) => {
                let server = self.server.ok_or_else(|| missing("real-server"))?;
                Request::Change(Command::DeleteServer { service, server })
            }
            (Action::Zero, service) => {
                // No address and no port: that is how ipvsadm asks for all.
                let all =
                    |key: &ServiceKey| key.vip().is_some_and(|ip| ip.is_unspecified()) && key.port() == 0;
                Request::Change(Command::Zero { service: service.filter(|key| !all(key)) })
            }
            (Action::List, service) => self.list_request(service)?,
            (Action::Clear, _) => Request::Change(Command::Clear {}),
            (Action::SetTimeouts, _) => {
                let timeouts = self.timeouts.ok_or_else(|| missing("timeout"))?;
                Request::Change(Command::SetTimeouts(timeouts))
            }
            (Action::Save, _) => Request::Save(self.format()),
            (Action::Restore, _) => Request::Restore,
            (Action::StartDaemon, _) => Request::StartDaemon,
            (Action::StopDaemon, _) => Request::StopDaemon,
            _ => return Err(missing("service-address")),
        };
        Ok(request)
    }

    fn key(&self) -> Option<ServiceKey> {
        match (self.mark, self.ip, self.protocol) {
            (Some(mark), ..) => Some(ServiceKey::Mark { mark, v6: self.v6 }),
            (None, Some(ip), Some(protocol)) => Some(ServiceKey::new(protocol, (ip, self.port).into())),
            _ => None,
        }
    }

    fn service_request(
        &self,
        service: ServiceKey,
        scheduler: &str,
        flags: Flags,
        edited: bool,
    ) -> Result<Request, Stop> {
        if let ServiceKey::Address { protocol, address } = service {
            if address.port() == 0 && self.persistence_s.is_none() {
                return Err(Stop::wrong("Zero port specified for non-persistent service"));
            }
            if self.one_packet && protocol != Protocol::Udp {
                return Err(Stop::wrong("One-Packet Scheduling is only for UDP virtual services"));
            }
        }
        let engine = Some(self.engine.clone()).filter(|engine| !engine.is_empty());
        let netmask = netmask_text(self.netmask);
        let persistence = self.persistence_s.map(|timeout_s| PersistenceSpec { timeout_s, netmask });
        let spec = ServiceSpec {
            service,
            scheduler: scheduler.to_owned(),
            scheduler_flags: flags.names(scheduler),
            persistence,
            persistence_engine: engine,
            one_packet: self.one_packet,
            switches: None,
            local_addresses: None,
            local_ports: None,
        };
        let command = if edited { Command::EditService(spec) } else { Command::AddService(spec) };
        Ok(Request::Change(command))
    }

    fn server_spec(&self) -> Result<ServerSpec, Stop> {
        let mut address = self.server.ok_or_else(|| missing("real-server"))?;
        if self.mark.is_none() && self.forward != Forward::Nat {
            address.set_port(self.port);
        }
        if address.is_ipv6() != self.v6 && self.forward != Forward::Tun {
            return Err(Stop::wrong("Different address family is allowed only for tunneling servers"));
        }
        let tunnel_options = [
            Opt::TunnelType,
            Opt::TunnelPort,
            Opt::TunnelNoChecksum,
            Opt::TunnelChecksum,
            Opt::TunnelRemoteChecksum,
        ];
        if self.seen.any(&tunnel_options) && self.forward != Forward::Tun {
            return Err(Stop::wrong("Tunnel options conflict with forward method"));
        }
        self.seen.check_tunnel(self.tunnel)?;
        let checksum = self.checksum;
        let tunnel = match self.tunnel {
            "gue" => TunnelSpec::Gue { port: self.tunnel_port, checksum },
            "gre" => TunnelSpec::Gre { checksum },
            _ => TunnelSpec::Ipip,
        };
        Ok(ServerSpec {
            address,
            forward: self.forward,
            tunnel: (self.forward == Forward::Tun).then_some(tunnel),
            weight: self.weight,
            upper_threshold: self.upper,
            lower_threshold: self.lower,
            state: None,
            drain_timeout_s: None,
        })
    }

    fn list_request(&self, service: Option<ServiceKey>) -> Result<Request, Stop> {
        let seen = self.seen;
        let no_services = seen.any(&[Opt::Timeout, Opt::Daemon]);
        let conflict = (no_services || seen.has(Opt::Connection))
            && seen.any(&[Opt::Stats, Opt::Rate, Opt::Thresholds])
            || no_services && seen.has(Opt::PersistentConnections);
        if conflict {
            return Err(Stop::wrong("options conflicts in the list command"));
        }
        let listing = match service {
            Some(key) => Listing::Service(key),
            None if seen.has(Opt::Connection) => Listing::Connections,
            None if seen.has(Opt::Timeout) => Listing::Timeouts,
            None if seen.has(Opt::Daemon) => Listing::Daemons,
            None => Listing::All,
        };
        Ok(Request::List(listing, self.format()))
    }

    fn format(&self) -> Format {
        // In the order of precedence.
        let columns = [
            (Opt::Stats, Columns::Stats),
            (Opt::Rate, Columns::Rate),
            (Opt::Thresholds, Columns::Thresholds),
            (Opt::PersistentConnections, Columns::Persistent),
            (Opt::TunnelInfo, Columns::Tunnels),
        ];
        let columns = columns.into_iter().find(|&(opt, _)| self.seen.has(opt));
        Format {
            numeric: self.seen.has(Opt::Numeric),
            exact: self.seen.has(Opt::Exact),
            unsorted: self.seen.has(Opt::NoSort),
            columns: columns.map_or(Columns::Plain, |(_, columns)| columns),
        }
    }
}

/// The rules of the commands have seen to it that this is there.
fn missing(name: &str) -> Stop {
    Stop::wrong(format!("You need to supply the '{name}' option"))
}
