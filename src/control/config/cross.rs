//! What no single value shows: services, servers and marks that contradict each other.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use super::mark;
use super::report::{Problems, Span};
use super::server::DraftServer;
use super::service::Draft;
use crate::director::marks::MarkRule;
use crate::director::name::ServiceKey;
use crate::director::service::{Method, Protocol};

/// Checks the services against each other and the servers against their service and each other.
///
/// One NAT server may stand in several services: the connection tells whose reply it is.
pub(super) fn services(services: &[Draft], problems: &mut Problems) {
    same_service(services, problems);
    for service in services {
        idle(service, problems);
        same_server(service, problems);
        for server in service.servers.iter().flatten() {
            reachable(service, server, problems);
            elsewhere(service, server, problems);
            told(service, server, problems);
        }
    }
}

/// Servers that are certainly the director itself, where nothing goes up to the kernel.
pub(super) fn local_servers(services: &[Draft], problems: &mut Problems) {
    let keys = services.iter().filter_map(|service| service.key.as_ref());
    let vips: HashSet<IpAddr> = keys.filter_map(|key| key.get_ref().vip()).collect();
    let servers = services.iter().flat_map(|service| service.servers.iter().flatten());
    for server in servers.filter_map(|server| server.address.as_ref()) {
        let ip = server.get_ref().ip();
        if ip.is_loopback() || vips.contains(&ip) {
            let message =
                format!("server {} is this host, and pass = \"off\" keeps packets from it", server.get_ref());
            problems
                .warning(server.span(), message)
                .cure("set pass = \"auto\" in [director], or give the address of another machine");
        }
    }
}

/// Checks the rules of marks against each other and against the services of marks.
pub(super) fn marks(rules: &[mark::Draft], services: &[Draft], problems: &mut Problems) {
    let wanted = |service: &Draft| match *service.key.as_ref()?.get_ref() {
        ServiceKey::Mark { mark, v6 } => Some((mark, v6)),
        ServiceKey::Address { .. } => None,
    };
    let with_service: HashSet<_> = services.iter().filter_map(wanted).collect();
    // A rule that is wrong elsewhere counts for both families.
    let is_for = |rule: &mark::Draft, v6| rule.rule.is_none_or(|rule| rule.is_v6() == v6);
    for (rule, mark) in rules.iter().filter_map(|rule| Some((rule, rule.mark.as_ref()?))) {
        let has_service = |v6| is_for(rule, v6) && with_service.contains(&(*mark.get_ref(), v6));
        if !has_service(false) && !has_service(true) {
            let family = if is_for(rule, false) { "" } else { " and family = \"ipv6\"" };
            let service = format!("mark = {}{family}", mark.get_ref());
            problems
                .warning(mark.span(), format!("no service has {service}"))
                .cure(format!("add a [[service]] with {service}, or leave the rule out"));
        }
    }
    for service in services {
        let Some(((mark, v6), key)) = wanted(service).zip(service.key.as_ref()) else { continue };
        let gives =
            |rule: &mark::Draft| rule.mark.as_ref().is_some_and(|m| *m.get_ref() == mark) && is_for(rule, v6);
        if !rules.iter().any(gives) {
            problems
                .warning(
                    key.span(),
                    format!("service {} gets no packets: no rule gives mark {mark}", key.get_ref()),
                )
                .cure(format!(
                    "add a [[mark]] with mark = {mark}{}; marks of netfilter do not reach xvs",
                    if v6 { " and a destination of IPv6" } else { "" }
                ));
        }
    }
    for (index, rule) in rules.iter().enumerate() {
        let Some(later) = &rule.rule else { continue };
        let earlier = rules[..index].iter().find(|r| r.rule.as_ref().is_some_and(|r| covers(r, later)));
        if let Some(earlier) = earlier {
            let problem = problems.warning(
                rule.span.clone(),
                "this rule has no effect: an earlier one takes all of its packets",
            );
            if let Some(span) = &earlier.span {
                problem.earlier(span.clone());
            }
            problem.cure("the first rule that fits gives its mark: move this one before it, or leave it out");
        }
    }
}

/// Whether every packet that fits `later` fits `earlier` too.
fn covers(earlier: &MarkRule, later: &MarkRule) -> bool {
    earlier.protocol == later.protocol
        && earlier.destination.contains(&later.destination)
        && earlier.port_first <= later.port_first
        && later.port_last <= earlier.port_last
        && earlier.source.is_none_or(|e| later.source.is_some_and(|l| e.contains(&l)))
}

/// What will listen on this TCP address is not reached if a service takes its packets.
pub(super) fn listen(listen: SocketAddr, services: &[Draft], problems: &mut Problems) {
    for key in services.iter().filter_map(|service| service.key.as_ref()) {
        let ServiceKey::Address { protocol: Protocol::Tcp, address } = *key.get_ref() else { continue };
        let is_same_ip = listen.ip() == address.ip() || listen.ip().is_unspecified();
        if is_same_ip && [0, listen.port()].contains(&address.port()) {
            problems
                .warning(
                    key.span(),
                    format!("service {} takes the packets of listen = \"{listen}\"", key.get_ref()),
                )
                .cure("let the [api] listen on another address or port");
        }
    }
}

fn same_service(services: &[Draft], problems: &mut Problems) {
    let mut seen: HashMap<_, Span> = HashMap::new();
    for key in services.iter().filter_map(|service| service.key.as_ref()) {
        match seen.entry(*key.get_ref()) {
            Entry::Vacant(free) => drop(free.insert(key.span())),
            Entry::Occupied(first) => {
                problems
                    .error(key.span(), format!("service {} is there already", key.get_ref()))
                    .earlier(first.get().clone())
                    .cure("move its servers to the first one, or change address, protocol or mark");
            }
        }
    }
}

fn same_server(service: &Draft, problems: &mut Problems) {
    let mut seen: HashMap<_, Span> = HashMap::new();
    for address in service.servers.iter().flatten().filter_map(|s| s.address.as_ref()) {
        match seen.entry(*address.get_ref()) {
            Entry::Vacant(free) => drop(free.insert(address.span())),
            Entry::Occupied(first) => {
                let message = format!("server {} is in this service already", address.get_ref());
                problems
                    .error(address.span(), message)
                    .earlier(first.get().clone())
                    .cure("leave one out; a larger share is a larger weight");
            }
        }
    }
}

/// Whether a packet sent to the server can arrive there.
///
/// Not whether it is another machine: a server may be the director itself, at a VIP too.
fn reachable(service: &Draft, server: &DraftServer, problems: &mut Problems) {
    let (Some(key), Some(rip)) = (&service.key, &server.address) else { return };
    let (key, r) = (*key.get_ref(), *rip.get_ref());
    let Some(method) = server.method else { return };
    let keeps_port = !method.translates_port();
    if keeps_port && r.port() != key.port() && matches!(key, ServiceKey::Mark { .. }) {
        // What ipvsadm makes must be read again once it is written.
        let message = format!("the port of server {r} is kept as ipvsadm keeps it, and has no effect");
        problems.warning(rip.span(), message).cure(format!(
            "forward = \"{}\" leaves packets the port they have: write \"{}\"",
            method.name(),
            r.ip()
        ));
    } else if keeps_port && r.port() != key.port() {
        let message = match key.port() {
            0 => format!(
                "server {r} has a port, but its service {key} has all, and forward = \"{}\"",
                method.name()
            ),
            port => format!(
                "server {r} has another port than its service, {port}, but forward = \"{}\"",
                method.name()
            ),
        };
        problems.error(rip.span(), message).cure(format!(
            "{} does not change packets: leave the port out (\"{}\"), or set forward = \"nat\"",
            method.name().to_uppercase(),
            r.ip()
        ));
    } else if r.port() == 0 && key.port() != 0 {
        problems
            .warning(rip.span(), format!("server {r} has port 0, which stands for the packet's own port"))
            .cure(format!("write \"{}\" for the port of the service, or give another", r.ip()));
    }
}

/// Whether a server with FULLNAT is another machine, as far as that can be seen here: what it answers would stay on the host.
fn elsewhere(service: &Draft, server: &DraftServer, problems: &mut Problems) {
    let (Some(Method::FullNat), Some(rip)) = (server.method, &server.address) else { return };
    let ip = rip.get_ref().ip();
    if service.has_here(ip) {
        problems
            .error(
                rip.span(),
                format!("server {} is this host, and forward = \"fullnat\" does not reach it", rip.get_ref()),
            )
            .cure("set forward = \"nat\" for it, or give the address of another machine");
    }
}

/// Whether the server can be told clients' addresses as its service wants it.
fn told(service: &Draft, server: &DraftServer, problems: &mut Problems) {
    let (Some(how), Some(method), Some(rip)) = (service.client_address(), server.method, &server.address)
    else {
        return;
    };
    if !how.suits_method(method) {
        let name = method.name();
        problems
            .error(
                rip.span(),
                format!(
                    "server {} cannot be told clients by client_address = \"{}\" with forward = \"{name}\"",
                    rip.get_ref(),
                    how.name()
                ),
            )
            .cure(format!(
                "{} servers see clients' addresses already: leave client_address out, or set forward = \"nat\"",
                name.to_uppercase()
            ));
    }
}

/// A service that can take no connection.
fn idle(service: &Draft, problems: &mut Problems) {
    let name = match &service.key {
        Some(key) => format!("service {}", key.get_ref()),
        None => "this service".to_owned(),
    };
    let Some(servers) = &service.servers else { return };
    if servers.is_empty() {
        problems
            .warning(
                service.span.clone(),
                format!("{name} has no servers: every connection to it is refused"),
            )
            .cure("add a [[service.server]]");
    } else if servers.iter().all(|s| s.weight == Some(0)) {
        problems
            .warning(
                service.span.clone(),
                format!("{name} takes no connection: all its servers have weight 0"),
            )
            .cure("give one of them a weight of 1 or more");
    }
}
