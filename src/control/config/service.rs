//! `[[service]]` and `[[service.server]]`, read into drafts that remember where everything stands.

use std::net::SocketAddr;

use toml::Spanned;
use toml::de::DeTable;

use super::address::{self, ServerAddress};
use super::reader::Table;
use super::report::{Problems, Span};
use super::value::{choice, list, number};
use crate::director::name::ServiceKey;
use crate::director::sched::{Kind, Options};
use crate::director::service::{MAX_WEIGHT, Method, Pool, Protocol, Server, Service};

/// Most services in a configuration.
pub const MAX_SERVICES: usize = 16_384;
/// Most servers in a configuration, those of all services together.
pub const MAX_SERVERS: usize = crate::director::server::MAX_SERVERS as usize;

/// Weight of a server that names none, as in ipvsadm.
const WEIGHT: u32 = 1;
/// Methods that are forwarded.
const METHODS: &[Method] = &[Method::Nat, Method::Dr];
/// Method of a service that names none, as in ipvsadm (`-g`).
const METHOD: Method = Method::Dr;

/// What LVS knows and xvs does not yet: a better answer than "unknown".
const LATER_METHODS: &[&str] = &["tun", "fullnat"];
const LATER_PROTOCOLS: &[&str] = &["sctp"];

/// A service as far as it could be read: `None` is a value that is wrong and has been reported.
pub(super) struct Draft {
    /// Its header.
    pub span: Option<Span>,
    pub protocol: Option<Protocol>,
    pub address: Option<Spanned<SocketAddr>>,
    pub scheduler: Option<Kind>,
    pub options: Option<Options>,
    pub servers: Option<Vec<DraftServer>>,
}

/// A server as far as it could be read.
pub(super) struct DraftServer {
    /// With the service's port if it names none; `None` too if that one is wrong.
    pub address: Option<Spanned<SocketAddr>>,
    pub weight: Option<u32>,
    pub method: Option<Method>,
}

impl Draft {
    /// The service, unless something in it is wrong.
    pub fn finish(self) -> Option<Pool> {
        let key = ServiceKey::new(self.protocol?, self.address?.into_inner());
        let (scheduler, options) = (self.scheduler?, self.options?);
        Some(Pool {
            service: Service { scheduler, options, ..Service::new(key) },
            servers: self.servers?.into_iter().map(DraftServer::finish).collect::<Option<_>>()?,
        })
    }
}

impl DraftServer {
    fn finish(self) -> Option<Server> {
        let server = Server::new(self.address?.into_inner(), self.method?);
        Some(Server { weight: self.weight?, ..server })
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
    let protocol = table.required("protocol", choice(Protocol::ALL, Protocol::name, LATER_PROTOCOLS));
    let address = table.required("address", address::service);
    let scheduler = table.or("scheduler", Kind::default(), choice(Kind::ALL, Kind::name, &[]));
    let options = flags(&mut table, scheduler);
    let method = table.or("forward", METHOD, choice(METHODS, Method::name, LATER_METHODS));
    let port = address.as_ref().map(|a| a.get_ref().port());
    let servers = table.tables("server", |found, problems| {
        let mut drafts = Vec::with_capacity(found.len().min(*servers_left));
        for (span, entries) in found {
            if *servers_left == 0 {
                problems
                    .error(span, format!("there are more than {MAX_SERVERS} servers"))
                    .cure("split the services over several directors");
                break;
            }
            *servers_left -= 1;
            drafts.push(server(Table::new("[[service.server]]", span, entries, problems), port, method));
        }
        drafts
    });
    let span = table.span.clone();
    table.finish();
    Draft { span, protocol: protocol.map(Spanned::into_inner), address, scheduler, options, servers }
}

fn server(
    mut table: Table<'_, '_>,
    service_port: Option<u16>,
    service_method: Option<Method>,
) -> DraftServer {
    let written = table.required("address", address::server);
    let weight = table.or("weight", WEIGHT, number(0..=MAX_WEIGHT, ""));
    let method = table.optional("forward", choice(METHODS, Method::name, LATER_METHODS));
    table.finish();
    let address = written.and_then(|written| {
        let ServerAddress { ip, port } = *written.get_ref();
        Some(Spanned::new(written.span(), SocketAddr::new(ip, port.or(service_port)?)))
    });
    let method = method.and_then(|own| own.map_or(service_method, |own| Some(own.into_inner())));
    DraftServer { address, weight, method }
}

/// Reads `scheduler_flags`, which only the hashing schedulers have.
fn flags(table: &mut Table<'_, '_>, scheduler: Option<Kind>) -> Option<Options> {
    const FLAGS: &[&str] = &["sh-port", "sh-fallback"];
    let flags =
        table.optional("scheduler_flags", list(0..=FLAGS.len(), "flags", choice(FLAGS, |f| f, &[])))?;
    let Some(flags) = flags else { return Some(Options::default()) };
    let (span, flags) = (flags.span(), flags.into_inner());
    if let Some(scheduler) = scheduler.filter(|&s| s != Kind::Sh)
        && !flags.is_empty()
    {
        let message = format!("scheduler \"{}\" has no flag \"{}\"", scheduler.name(), flags.join("\", \""));
        table.problems.error(span, message).cure("set scheduler = \"sh\", or leave scheduler_flags out");
        return None;
    }
    let has = |name| flags.contains(&name);
    Some(Options { fallback: has("sh-fallback"), port: has("sh-port"), third: false })
}
