//! What no single value shows: services and servers that contradict each other.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

use super::report::{Problems, Span};
use super::service::{Draft, DraftServer};
use crate::director::service::Method;

/// Checks the services against each other and the servers against their service and each other.
///
/// One NAT server may stand in several services: the connection tells whose reply it is.
pub(super) fn check(services: &[Draft], problems: &mut Problems) {
    same_service(services, problems);
    let vips: HashMap<IpAddr, Span> =
        services.iter().filter_map(|s| s.address.as_ref()).map(|a| (a.get_ref().ip(), a.span())).collect();
    for service in services {
        idle(service, problems);
        same_server(service, problems);
        for server in service.servers.iter().flatten() {
            reachable(service, server, &vips, problems);
        }
    }
}

fn same_service(services: &[Draft], problems: &mut Problems) {
    let mut seen: HashMap<_, Span> = HashMap::new();
    for service in services {
        let (Some(protocol), Some(address)) = (service.protocol, &service.address) else { continue };
        match seen.entry((protocol, *address.get_ref())) {
            Entry::Vacant(free) => drop(free.insert(address.span())),
            Entry::Occupied(first) => {
                let message = format!("service {protocol} {} is there already", address.get_ref());
                problems
                    .error(address.span(), message)
                    .earlier(first.get().clone())
                    .cure("move its servers to the first one, or change address or protocol");
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
fn reachable(service: &Draft, server: &DraftServer, vips: &HashMap<IpAddr, Span>, problems: &mut Problems) {
    let (Some(vip), Some(rip)) = (&service.address, &server.address) else { return };
    let (v, r) = (*vip.get_ref(), *rip.get_ref());
    if v.ip() == r.ip() {
        problems
            .error(rip.span(), format!("server {r} has the address of its own service: packets would loop"))
            .cure("give the server's own address, not the VIP");
    } else if vips.contains_key(&r.ip()) {
        problems
            .warning(rip.span(), format!("server {r} has the address of another service of this director"))
            .cure("a server must be another machine: give its own address");
    }
    if server.method == Some(Method::Dr) && v.port() != r.port() {
        let message =
            format!("server {r} has another port than its service, {}, but forward = \"dr\"", v.port());
        problems.error(rip.span(), message).cure(format!(
            "DR does not change packets: leave the port out (\"{}\"), or set forward = \"nat\"",
            r.ip()
        ));
    }
}

/// A service that can take no connection.
fn idle(service: &Draft, problems: &mut Problems) {
    let name = match (service.protocol, &service.address) {
        (Some(protocol), Some(address)) => format!("service {protocol} {}", address.get_ref()),
        _ => "this service".to_owned(),
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
