//! `[[service]]`, read into drafts that remember where everything stands.

use std::net::IpAddr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::address;
use super::flags::flags;
use super::locals;
use super::reader::{Field, Table};
use super::report::{Problems, Span};
use super::server::{DraftServer, METHOD, Parent, method, servers};
use super::switches;
use super::value::{boolean, choice, mistyped, number};
use crate::director::name::ServiceKey;
use crate::director::pe::Engine;
use crate::director::sched::Kind;
use crate::director::service::{MAX_PERSISTENCE_S, Netmask, Persistence, Pool, Protocol, Service};
use crate::director::switches::ClientAddress;

/// Most services in a configuration.
pub const MAX_SERVICES: usize = crate::director::draft::MAX_SERVICES;
/// Most servers in a configuration, those of all services together.
pub const MAX_SERVERS: usize = crate::director::server::MAX_SERVERS as usize;
/// What `persistence = true` means, in seconds, as `ipvsadm -p` without a number.
pub const PERSISTENCE_S: u32 = 360;

/// A service as far as it could be read: `None` is a value that is wrong and has been reported.
pub(super) struct Draft {
    /// Its header.
    pub span: Option<Span>,
    /// At its address or its mark.
    pub key: Option<Spanned<ServiceKey>>,
    pub servers: Option<Vec<DraftServer>>,
    service: Option<Service>,
}

impl Draft {
    /// How its servers are told clients' addresses, if that could be read.
    pub fn client_address(&self) -> Option<ClientAddress> {
        self.service.map(|service| service.switches.client_address)
    }

    /// As [`Service::has_here`], if it could be read.
    pub fn has_here(&self, ip: IpAddr) -> bool {
        self.service.is_some_and(|service| service.has_here(ip))
    }

    /// The service, unless something in it is wrong.
    pub fn finish(self) -> Option<Pool> {
        let servers = self.servers?.into_iter().map(DraftServer::finish).collect::<Option<_>>()?;
        Some(Pool { service: self.service?, servers })
    }
}

/// Reads every `[[service]]`.
pub(super) fn services(found: Vec<(Span, &DeTable<'_>)>, problems: &mut Problems) -> Vec<Draft> {
    if let Some((span, _)) = found.get(MAX_SERVICES) {
        problems
            .error(span.clone(), format!("{} services are more than {MAX_SERVICES}", found.len()))
            .cure("split them over several directors");
    }
    let mut servers_left = MAX_SERVERS;
    let mut drafts = Vec::with_capacity(found.len().min(MAX_SERVICES));
    for (span, entries) in found.into_iter().take(MAX_SERVICES) {
        drafts.push(service(Table::new("[[service]]", span, entries, problems), &mut servers_left));
    }
    drafts
}

fn service(mut table: Table<'_, '_>, servers_left: &mut usize) -> Draft {
    let (key, port) = key(&mut table);
    let scheduler = table.or("scheduler", Kind::default(), choice(Kind::ALL, Kind::name, &[]));
    let options = flags(&mut table, scheduler);
    let method = table.or("forward", METHOD, method);
    let named = key.as_ref().map(|key| *key.get_ref());
    let is_v4 = named.as_ref().map(ServiceKey::is_v4);
    let persistence = persistence(&mut table, is_v4);
    let engine = table.optional("persistence_engine", choice(Engine::ALL, Engine::name, &[]));
    let one_packet = table.optional("one_packet", boolean);
    let locals = locals::locals(&mut table);
    let switches = switches::switches(&mut table, named, scheduler);
    let servers = servers(&mut table, Parent { port, method, is_v4 }, servers_left);
    if let (Some(locals), Some(servers)) = (&locals, &servers) {
        locals::check(&mut table, locals, one_packet.as_ref().and_then(Option::as_ref), servers);
    }

    if let (Some(key), Some(None)) = (&key, &persistence)
        && matches!(key.get_ref(), ServiceKey::Address { address, .. } if address.port() == 0)
    {
        table
            .problems
            .error(key.span(), "port 0 stands for every port, which needs persistence")
            .cure("add persistence = true, or give a port from 1 to 65_535");
    }
    if let (Some(ServiceKey::Address { protocol, .. }), Some(Some(one_packet))) = (named, &one_packet)
        && *one_packet.get_ref()
        && protocol != Protocol::Udp
    {
        let message = format!("one_packet = true cannot be had with protocol = \"{}\"", protocol.name());
        table
            .problems
            .error(one_packet.span(), message)
            .cure("only UDP, and what has a mark, can be scheduled packet by packet: leave it out");
    }

    let span = table.span.clone();
    table.finish();
    let whole = || {
        let (scheduler, options, persistence, switches) = (scheduler?, options?, persistence?, switches?);
        let engine = engine?.map(Spanned::into_inner);
        let one_packet = one_packet?.is_some_and(Spanned::into_inner);
        Some(Service {
            key: named?,
            scheduler,
            options,
            persistence,
            engine,
            one_packet,
            switches,
            locals: locals?,
        })
    };
    Draft { span, key, servers, service: whole() }
}

/// Reads what makes a packet the service's: `protocol` and `address`, or `mark` and perhaps `family`. The port is
/// known even if the protocol is wrong.
fn key(table: &mut Table<'_, '_>) -> (Option<Spanned<ServiceKey>>, Option<u16>) {
    let family = table.optional("family", choice(&["ipv4", "ipv6"], |name| name, &[]));
    let mark = table.optional("mark", number(1..=u32::MAX, ""));
    if let Some(None) = mark {
        if let Some(family) = table.ask("family") {
            table
                .problems
                .error(family.span, "family is for services of a mark")
                .cure("leave it out: the address tells");
        }
        let protocol = table.required("protocol", choice(Protocol::ALL, Protocol::name, &[]));
        let address = table.required("address", address::service);
        let port = address.as_ref().map(|address| address.get_ref().port());
        let key = protocol.zip(address).map(|(protocol, address)| {
            Spanned::new(address.span(), ServiceKey::new(protocol.into_inner(), address.into_inner()))
        });
        return (key, port);
    }
    for (name, both) in [("protocol", "a mark or a protocol"), ("address", "a mark or an address")] {
        if let Some(field) = table.ask(name) {
            table
                .problems
                .error(field.span, format!("a service has {both}, not both"))
                .cure(format!("leave out `mark`, or `{name}`: [[mark]] says which packets have the mark"));
        }
    }
    let key = mark.flatten().and_then(|mark| {
        let v6 = family.flatten().is_some_and(|family| *family.get_ref() == "ipv6");
        let key = ServiceKey::Mark { mark: (*mark.get_ref()).try_into().ok()?, v6 };
        Some(Spanned::new(mark.span(), key))
    });
    (key, Some(0))
}

/// Reads `persistence` and `persistence_netmask`, whose form is that of the service's family.
fn persistence(table: &mut Table<'_, '_>, is_v4: Option<bool>) -> Option<Option<Persistence>> {
    let timeout_s = table.or("persistence", None, persistence_timeout);
    let is_v4 = is_v4.unwrap_or(true);
    let netmask =
        table.optional("persistence_netmask", |field, problems| address::netmask(field, problems, is_v4));
    if let (Some(None), Some(Some(netmask))) = (timeout_s, &netmask) {
        table
            .problems
            .error(netmask.span(), "persistence_netmask has no meaning without persistence")
            .cure("add persistence = true, or leave it out");
    }
    let netmask = netmask?.map_or_else(|| Netmask::whole(is_v4), Spanned::into_inner);
    Some(timeout_s?.map(|timeout_s| Persistence { timeout_s, netmask }))
}

fn persistence_timeout(field: &Field<'_>, problems: &mut Problems) -> Option<Option<u32>> {
    match field.value {
        DeValue::Boolean(wanted) => Some(wanted.then_some(PERSISTENCE_S)),
        DeValue::Integer(_) => number(1..=MAX_PERSISTENCE_S, " seconds")(field, problems).map(Some),
        _ => mistyped(field, "a number of seconds without quotes, or true for 360", problems),
    }
}
