//! `local_addresses` and `local_ports` of a `[[service]]`: what servers with FULLNAT are sent clients' packets from.

use toml::Spanned;

use super::address;
use super::reader::{Field, Table};
use super::report::Problems;
use super::server::DraftServer;
use super::value::{list, text};
use crate::director::local::{LOCAL_PORTS, Locals, MAX_LOCAL_ADDRESSES, Ports};
use crate::director::service::Method;

/// Reads both, of which `None` is wrong.
pub(super) fn locals(table: &mut Table<'_, '_>) -> Option<Locals> {
    let addresses = list(1..=MAX_LOCAL_ADDRESSES, "addresses", address::local);
    let addresses = table.or("local_addresses", Vec::new(), addresses);
    let ports = table.or("local_ports", LOCAL_PORTS, ports);
    // What is wrong with them has been said.
    Locals::new(&addresses?, ports?).ok()
}

/// `1024-65535`.
fn ports(field: &Field<'_>, problems: &mut Problems) -> Option<Ports> {
    let given = text(field, problems)?;
    let ports = given.parse().ok();
    if ports.is_none() {
        problems.error(field.span.clone(), format!("local_ports = \"{given}\" is no range of ports")).cure(
            format!(
                "write \"{LOCAL_PORTS}\", or another range from 1 to 65_535 with the smaller number first"
            ),
        );
    }
    ports
}

/// Whether the servers of a service with FULLNAT have what they need, and local addresses a use.
pub(super) fn check(
    table: &mut Table<'_, '_>,
    locals: &Locals,
    one_packet: Option<&Spanned<bool>>,
    servers: &[DraftServer],
) {
    let full_nat: Vec<_> = servers.iter().filter(|server| server.method == Some(Method::FullNat)).collect();
    let addresses = full_nat.iter().filter_map(|server| server.address.as_ref());
    for address in addresses.filter(|address| !locals.has_family(address.get_ref().is_ipv4())) {
        let message = format!(
            "server {} is to have FULLNAT, and its service has no local address of its IP version",
            address.get_ref()
        );
        table.problems.error(address.span(), message).cure(
            "add local_addresses = [\"ADDRESS\"] to the [[service]]: addresses of this host that servers send back to",
        );
    }
    if let (Some(one_packet), false) = (one_packet.filter(|one| *one.get_ref()), full_nat.is_empty()) {
        table
            .problems
            .error(one_packet.span(), "one_packet = true cannot be had with forward = \"fullnat\"")
            .cure("replies find their way back by a connection: leave it out, or set forward = \"nat\"");
    }
    for (key, is_default) in [("local_addresses", false), ("local_ports", locals.ports == LOCAL_PORTS)] {
        if full_nat.is_empty()
            && !is_default
            && let Some(field) = table.ask(key)
        {
            let message = format!("{key} has no effect: no server of this service has FULLNAT");
            table.problems.warning(field.span, message).cure("set forward = \"fullnat\", or leave it out");
        }
    }
}
