//! What each command does to a draft. A command that is refused has changed nothing in it.

use std::net::SocketAddr;
use std::str::FromStr;

use crate::control::command::{Code, Command, PersistenceSpec, Refusal, ServiceSpec, TimeoutsSpec};
use crate::director::draft::{Draft, Refused};
use crate::director::local::{Locals, LocalsError};
use crate::director::marks::{MAX_MARK_RULES, MarkRule};
use crate::director::name::ServiceKey;
use crate::director::pe::Engine;
use crate::director::sched::{Kind, Options};
use crate::director::service::{Netmask, Persistence, Server, ServerState, Service};
use crate::director::switches::{SwitchError, Switches};
use crate::director::tunables::TunableError;

/// Longest timeout in seconds: 31 days, as `ipvsadm --set` has it.
const MAX_TIMEOUT_S: u32 = 2_678_400;

/// What is to be done once the draft is published.
#[derive(Debug)]
pub(super) enum After {
    /// The service is new, even if one of its name was deleted a moment ago.
    Fresh(ServiceKey),
    /// Totals count from here.
    Zero(Option<ServiceKey>),
    /// The server is deleted once its connections are gone, or these many seconds later.
    Drain(ServiceKey, SocketAddr, Option<u32>),
    /// The server is not deleted if it was to be.
    Stay(ServiceKey, SocketAddr),
}

/// Performs one command.
pub(super) fn perform(command: &Command, draft: &mut Draft, after: &mut Vec<After>) -> Result<(), Refusal> {
    match command {
        Command::AddService(spec) => {
            // The kernel looks for the service before it looks for the scheduler.
            if draft.services().get(&spec.service).is_some() {
                return Err(Refused::ServiceExists(spec.service).into());
            }
            draft.add_service(service(spec, Switches::default(), Locals::default())?)?;
            after.push(After::Fresh(spec.service));
        }
        Command::EditService(spec) => {
            let there = draft.services().get(&spec.service).ok_or(Refused::NoService(spec.service))?;
            let (switches, locals) = (there.service.switches, there.service.locals);
            draft.edit_service(service(spec, switches, locals)?)?;
        }
        Command::DeleteService { service } => draft.remove_service(*service)?,
        Command::Clear {} => draft.clear(),
        Command::AddServer { service, server } => draft.add_server(*service, server.server()?)?,
        Command::EditServer { service, server } => {
            let new = match find(draft, *service, server.address) {
                Ok(old) => server.edited(&old)?,
                // Refused in the order of the kernel's looks.
                Err(_) => server.server()?,
            };
            draft.edit_server(*service, new)?;
        }
        Command::DeleteServer { service, server } => draft.remove_server(*service, *server)?,
        Command::DrainServer { service, server, deadline_s } => {
            let wanted = find(draft, *service, *server)?;
            // Its end is by its connections now: it is not to count as down before. One that is down stays so.
            let state = if wanted.state == ServerState::Down { wanted.state } else { ServerState::Drain };
            draft.edit_server(*service, Server { state, drain_timeout_s: 0, ..wanted })?;
            after.push(After::Drain(*service, *server, *deadline_s));
        }
        Command::SetServerState { service, server, state, drain_timeout_s } => {
            let old = find(draft, *service, *server)?;
            let drain_timeout_s = drain_timeout_s.unwrap_or(old.drain_timeout_s);
            draft.edit_server(*service, Server { state: *state, drain_timeout_s, ..old })?;
            after.push(After::Stay(*service, *server));
        }
        Command::SetSwitch { service, name, value } => {
            let there = draft.services().get(service).ok_or(Refused::NoService(*service))?;
            let mut wanted = there.service;
            wanted.switches.set(name, value)?;
            draft.edit_service(wanted)?;
        }
        Command::Zero { service } => {
            if let Some(key) = service.filter(|key| draft.services().get(key).is_none()) {
                return Err(Refused::NoService(key).into());
            }
            after.push(After::Zero(*service));
        }
        Command::SetTimeouts(spec) => set_timeouts(draft, *spec)?,
        Command::SetTunable { name, value } => draft.settings().tunables.set(name, *value)?,
        Command::AddMark(rule) => add_mark(draft, rule)?,
        Command::DeleteMark(rule) => {
            let rules = &draft.services().marks;
            let place = rules.iter().position(|r| r == rule).ok_or_else(|| {
                Refusal::new(
                    Code::NotFound,
                    format!("there is no rule `{rule}`: `xvs mark list` lists those there are"),
                )
            })?;
            let mut rules = rules.to_vec();
            rules.remove(place);
            draft.settings().marks = rules.into();
        }
    }
    Ok(())
}

impl From<TunableError> for Refusal {
    fn from(error: TunableError) -> Self {
        let code = match error {
            TunableError::Unknown { .. } => Code::NotFound,
            TunableError::OutOfRange { .. } => Code::OutOfRange,
            TunableError::Unsupported { .. } => Code::Invalid,
        };
        Self::new(code, error.to_string())
    }
}

impl From<SwitchError> for Refusal {
    fn from(error: SwitchError) -> Self {
        let code = match error {
            SwitchError::Unknown { .. } => Code::NotFound,
            SwitchError::Value { .. } => Code::OutOfRange,
        };
        Self::new(code, error.to_string())
    }
}

fn find(draft: &Draft, key: ServiceKey, address: SocketAddr) -> Result<Server, Refused> {
    let service = draft.services().get(&key).ok_or(Refused::NoService(key))?;
    let no_server = Refused::NoServer { service: key, server: address };
    let index = service.position(address).ok_or(no_server)?;
    Ok(service.destinations[index].server())
}

/// The service that a command describes; what it does not say of switches and local addresses is as it was.
fn service(spec: &ServiceSpec, kept: Switches, locals: Locals) -> Result<Service, Refusal> {
    let scheduler = Kind::from_str(&spec.scheduler)
        .map_err(|unknown| Refusal::new(Code::NoScheduler, unknown.to_string()))?;
    let mut options = Options::default();
    for flag in &spec.scheduler_flags {
        match options.by_name(scheduler, flag) {
            Some(option) => *option = true,
            None => {
                let message = format!(
                    "scheduler {} has no flag `{flag}`: use one of {}",
                    scheduler.name(),
                    scheduler.flag_names().join(", ")
                );
                return Err(Refusal::new(Code::Invalid, message));
            }
        }
    }
    let persistence = spec.persistence.as_ref().map(|p| persistence(&spec.service, p)).transpose()?;
    let engine = spec.persistence_engine.as_deref().map(Engine::from_str).transpose();
    let engine = engine.map_err(|unknown| Refusal::new(Code::NoScheduler, unknown.to_string()))?;
    let (one_packet, switches) = (spec.one_packet, spec.switches.unwrap_or(kept));
    let locals = locals_of(spec, locals).map_err(|e| Refusal::new(Code::Invalid, e.to_string()))?;
    Ok(Service { key: spec.service, scheduler, options, persistence, engine, one_packet, switches, locals })
}

fn locals_of(spec: &ServiceSpec, mut kept: Locals) -> Result<Locals, LocalsError> {
    kept.ports = spec.local_ports.as_deref().map_or(Ok(kept.ports), str::parse)?;
    spec.local_addresses.as_ref().map_or(Ok(kept), |addresses| Locals::new(addresses, kept.ports))
}

fn persistence(key: &ServiceKey, spec: &PersistenceSpec) -> Result<Persistence, Refusal> {
    let netmask = match (&spec.netmask, key.is_v4()) {
        (None, v4) => Some(Netmask::whole(v4)),
        (Some(text), true) => text.parse().ok().map(Netmask::V4),
        (Some(text), false) => text.parse().ok().filter(|bits| (1..=128).contains(bits)).map(Netmask::V6),
    };
    let timeout_s = spec.timeout_s;
    netmask.map(|netmask| Persistence { timeout_s, netmask }).ok_or_else(|| {
        let given = spec.netmask.as_deref().unwrap_or_default();
        let message = format!(
            "netmask `{given}` of service {key}: give 255.255.255.0 or the like for IPv4, 1 to 128 for IPv6"
        );
        Refusal::new(Code::Invalid, message)
    })
}

/// 0 keeps what is (`ip_vs_set_timeout`).
fn set_timeouts(draft: &mut Draft, spec: TimeoutsSpec) -> Result<(), Refusal> {
    let wanted = [spec.tcp_s, spec.tcp_fin_s, spec.udp_s];
    let named = ["tcp_s", "tcp_fin_s", "udp_s"].into_iter().zip(wanted);
    if let Some((name, over)) = named.into_iter().find(|&(_, s)| s > MAX_TIMEOUT_S) {
        let message =
            format!("timeout {name} = {over} is outside of 0..={MAX_TIMEOUT_S} s (0 keeps what it is)");
        return Err(Refusal::new(Code::OutOfRange, message));
    }
    let timeouts = &mut draft.settings().timeouts;
    let now = timeouts.set_by_ipvsadm();
    let [tcp_s, tcp_fin_s, udp_s]: [u32; 3] =
        std::array::from_fn(|i| if wanted[i] == 0 { now[i] } else { wanted[i] });
    *timeouts = timeouts.changed(tcp_s, tcp_fin_s, udp_s);
    Ok(())
}

fn add_mark(draft: &mut Draft, rule: &MarkRule) -> Result<(), Refusal> {
    let rules = &draft.services().marks;
    let (first, last) = (rule.port_first, rule.port_last);
    let problem = if rules.len() >= MAX_MARK_RULES {
        Some((Code::Full, format!("{MAX_MARK_RULES} mark rules are all there may be: delete one first")))
    } else if rules.contains(rule) {
        Some((Code::ServiceExists, format!("the rule `{rule}` is there already")))
    } else if first > last {
        Some((
            Code::Invalid,
            format!("ports {first}-{last}: the first is above the last: give the smaller one first"),
        ))
    } else if rule.source.is_some_and(|s| matches!(s, ipnet::IpNet::V6(_)) != rule.is_v6()) {
        Some((
            Code::Invalid,
            format!(
                "source and destination of `{rule}` are of different families: give both of IPv4, or both of IPv6"
            ),
        ))
    } else {
        None
    };
    if let Some((code, message)) = problem {
        return Err(Refusal::new(code, message));
    }
    draft.settings().marks = rules.iter().copied().chain([*rule]).collect();
    Ok(())
}
