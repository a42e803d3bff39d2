//! `[[service.server]]`: a real server, and the tunnel that leads to it.

use std::net::SocketAddr;

use toml::Spanned;

use super::address::{self, ServerAddress};
use super::reader::{Field, Table};
use super::report::Problems;
use super::service::MAX_SERVERS;
use super::value::{choice, number};
use crate::director::service::{
    MAX_DRAIN_S, MAX_WEIGHT, Method, Server, ServerState, Tunnel, TunnelChecksum,
};

/// Method of a service that names none, as in ipvsadm (`-g`).
pub(super) const METHOD: Method = Method::Dr;
/// Weight of a server that names none, as in ipvsadm.
const WEIGHT: u32 = 1;

/// Methods that a configuration may name; what a tunnel is like is said by other keys.
const METHODS: &[Method] = &[Method::Nat, Method::Dr, Method::Tun(Tunnel::Ipip), Method::FullNat];

/// Checksums of tunnels by their names.
pub(super) const CHECKSUMS: &[(TunnelChecksum, &str)] =
    &[(TunnelChecksum::None, "none"), (TunnelChecksum::Full, "full"), (TunnelChecksum::Remote, "remote")];

/// What servers have of their service. `None` is wrong and has been reported.
#[derive(Clone, Copy)]
pub(super) struct Parent {
    pub port: Option<u16>,
    pub method: Option<Method>,
    pub is_v4: Option<bool>,
}

/// A server as far as it could be read: `None` is a value that is wrong and has been reported.
pub(super) struct DraftServer {
    /// With the service's port if it names none; `None` too if that one is wrong.
    pub address: Option<Spanned<SocketAddr>>,
    pub weight: Option<u32>,
    pub method: Option<Method>,
    thresholds: Option<(u32, u32)>,
    state: Option<(ServerState, u32)>,
}

impl DraftServer {
    /// The server, unless something in it is wrong.
    pub fn finish(self) -> Option<Server> {
        let (upper, lower) = self.thresholds?;
        let (state, drain_timeout_s) = self.state?;
        let address = self.address?.into_inner();
        let (weight, method) = (self.weight?, self.method?);
        Some(Server { address, weight, method, upper, lower, state, drain_timeout_s })
    }
}

/// How packets reach a server.
pub(super) fn method(field: &Field<'_>, problems: &mut Problems) -> Option<Method> {
    choice(METHODS, Method::name, &[])(field, problems)
}

/// Reads every `[[service.server]]` of a service; `left` is how many there may still be.
pub(super) fn servers(
    service: &mut Table<'_, '_>,
    parent: Parent,
    left: &mut usize,
) -> Option<Vec<DraftServer>> {
    service.tables("server", |found, problems| {
        let mut drafts = Vec::with_capacity(found.len().min(*left));
        for (span, entries) in found {
            if *left == 0 {
                problems
                    .error(span, format!("there are more than {MAX_SERVERS} servers"))
                    .cure("split the services over several directors");
                break;
            }
            *left -= 1;
            drafts.push(server(Table::new("[[service.server]]", span, entries, problems), parent));
        }
        drafts
    })
}

fn server(mut table: Table<'_, '_>, parent: Parent) -> DraftServer {
    let written = table.required("address", address::server);
    let weight = table.or("weight", WEIGHT, number(0..=MAX_WEIGHT, ""));
    let own = table.optional("forward", method);
    let method = own.and_then(|own| own.map_or(parent.method, |own| Some(own.into_inner())));
    let method = tunnel(&mut table, method);
    let thresholds = thresholds(&mut table);
    let state = table.or("state", ServerState::Up, choice(ServerState::ALL, ServerState::name, &[]));
    let drain_timeout_s = table.or("drain_timeout_s", 0, number(0..=MAX_DRAIN_S, " seconds"));
    let state = state.zip(drain_timeout_s);

    if let (Some(written), Some(method @ (Method::Nat | Method::Dr | Method::FullNat)), Some(is_v4)) =
        (&written, method, parent.is_v4)
        && written.get_ref().address.is_ipv4() != is_v4
    {
        let (version, ip) = (if is_v4 { "IPv4" } else { "IPv6" }, written.get_ref().address.ip());
        let message = format!(
            "address = \"{ip}\": the service is one of {version}, and forward = \"{}\" leads to no other",
            method.name()
        );
        let cure = format!("give an address of {version}, or set forward = \"tun\"");
        table.problems.error(written.span(), message).cure(cure);
    }
    table.finish();
    let address = written.and_then(|written| {
        let ServerAddress { mut address, has_port } = *written.get_ref();
        if !has_port {
            address.set_port(parent.port?);
        }
        Some(Spanned::new(written.span(), address))
    });
    DraftServer { address, weight, method, thresholds, state }
}

/// Reads `upper_threshold` and `lower_threshold`.
fn thresholds(table: &mut Table<'_, '_>) -> Option<(u32, u32)> {
    let connections = || number(0..=u32::MAX, " connections");
    let upper = table.or("upper_threshold", 0, connections());
    let lower = table.optional("lower_threshold", connections())?;
    let (upper, span) = (upper?, lower.as_ref().map(Spanned::span));
    let lower = lower.map_or(0, Spanned::into_inner);
    if lower > upper {
        table
            .problems
            .error(span, format!("lower_threshold = {lower} is above upper_threshold = {upper}"))
            .cure("a full server takes new connections again when it has less than the lower: give at most the upper");
        return None;
    }
    Some((upper, lower))
}

/// Reads the keys that say what a tunnel is like, which nothing but `forward = "tun"` has.
fn tunnel(table: &mut Table<'_, '_>, method: Option<Method>) -> Option<Method> {
    let name = table.or("tunnel", "ipip", choice(&["ipip", "gue", "gre"], |name| name, &[]));
    let port = table.optional("tunnel_port", number(1..=u16::MAX, ""));
    let checksum = table.optional("tunnel_checksum", choice(CHECKSUMS, |(_, name)| name, &[]));

    let mut stray = |keys: &[&'static str], why: &str, cure: &str| {
        let found: Vec<_> = keys.iter().filter_map(|key| table.ask(key)).collect();
        for field in &found {
            table.problems.error(field.span.clone(), format!("{} {why}", field.key)).cure(cure);
        }
        found.is_empty().then_some(())
    };
    let method = method?;
    if !matches!(method, Method::Tun(_)) {
        let why = format!("has no meaning with forward = \"{}\"", method.name());
        stray(&["tunnel", "tunnel_port", "tunnel_checksum"], &why, "set forward = \"tun\", or leave it out")?;
        return Some(method);
    }
    let name = name?;
    let cure = "leave it out, or set tunnel to one that has it";
    match name {
        "gue" => {}
        "gre" => stray(&["tunnel_port"], "is of \"gue\" only", cure)?,
        _ => stray(&["tunnel_port", "tunnel_checksum"], "has no meaning with tunnel = \"ipip\"", cure)?,
    }
    let (port, checksum) = (port?.map(Spanned::into_inner), checksum?);
    if let (Some(checksum), "gre") = (&checksum, name)
        && checksum.get_ref().0 == TunnelChecksum::Remote
    {
        table
            .problems
            .warning(checksum.span(), "tunnel_checksum = \"remote\" has no effect with tunnel = \"gre\"")
            .cure("only \"gue\" has it: give \"none\" or \"full\"");
    }
    let checksum = checksum.map_or(TunnelChecksum::None, |checksum| checksum.into_inner().0);
    match (name, port) {
        ("gue", Some(port)) => Some(Method::Tun(Tunnel::Gue { port, checksum })),
        ("gue", None) => {
            let field = table.ask("tunnel");
            table
                .problems
                .error(field.map(|field| field.span), "tunnel = \"gue\" needs a tunnel_port")
                .cure("add the UDP port that the server listens to: tunnel_port = 6080");
            None
        }
        ("gre", _) => Some(Method::Tun(Tunnel::Gre { checksum })),
        _ => Some(Method::Tun(Tunnel::Ipip)),
    }
}
