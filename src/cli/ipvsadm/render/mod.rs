//! Listings of services: one file for each kind of columns, and what they have in common.
//!
//! Every blank is ipvsadm's, trailing ones included.

mod connections;
mod persistent;
mod plain;
mod rate;
mod rules;
mod stats;
mod thresholds;
mod tunnels;

use std::io::{self, Write};
use std::net::SocketAddr;

pub(super) use connections::Connections;
pub(super) use rules::{save, unspeakable};

use super::address::ip_text;
use super::flags::Flags;
use super::names::Names;
use super::order::{sorted_servers, sorted_services};
use super::request::{Columns, Format};
use crate::control::view::{ServerView, ServiceView};
use crate::director::name::ServiceKey;
use crate::director::service::Protocol;

/// Longest text of an address with its port, in bytes.
const LONGEST_ADDRESS: usize = 59;

/// Longest text of a service of IPv4, protocol and address, in bytes.
const LONGEST_SERVICE: usize = 33;

/// Longest text of a server of IPv4, in bytes.
const LONGEST_SERVER: usize = 28;

/// What is said of each service and server. `exact` is about large numbers.
trait Table {
    /// The title of the columns: two lines, the last one without its end.
    fn title(&self) -> &'static str;

    /// The line of a service with this name.
    fn service(&self, name: &str, service: &ServiceView, _exact: bool) -> String {
        format!("{name} {}", described(service))
    }

    /// What follows a server's name, which takes 28 columns.
    fn server(&self, server: &ServerView, exact: bool) -> String;
}

/// The closed list.
fn table(columns: Columns) -> &'static dyn Table {
    match columns {
        Columns::Plain => &plain::Plain,
        Columns::Stats => &stats::Stats,
        Columns::Rate => &rate::Rate,
        Columns::Thresholds => &thresholds::Thresholds,
        Columns::Persistent => &persistent::Persistent,
        Columns::Tunnels => &tunnels::Tunnels,
    }
}

/// Writes the title and these services, each with its servers.
pub(super) fn list(
    out: &mut dyn Write,
    format: Format,
    names: &mut Names,
    services: &[ServiceView],
) -> io::Result<()> {
    let table = table(format.columns);
    writeln!(out, "{}", table.title())?;
    for service in in_order(services, format, sorted_services) {
        let key = service.service;
        let is_cut = key.is_v4() && key.vip().is_some();
        let name = cut(service_name(&key, format, names), is_cut, LONGEST_SERVICE);
        writeln!(out, "{}", table.service(&name, service, format.exact))?;
        for server in in_order(&service.servers, format, sorted_servers) {
            let name = address_text(server.address, protocol(&key), format, names);
            let name = cut(name, server.address.is_ipv4(), LONGEST_SERVER);
            writeln!(out, "  -> {name:28}{}", table.server(server, format.exact))?;
        }
    }
    Ok(())
}

/// In ipvsadm's order, unless the director's is wanted.
fn in_order<T>(list: &[T], format: Format, sorted: fn(&[T]) -> Vec<&T>) -> Vec<&T> {
    if format.unsorted { list.iter().collect() } else { sorted(list) }
}

/// Scheduler, flags, persistence, one packet at a time.
fn described(service: &ServiceView) -> String {
    let mut text = service.scheduler.clone();
    if let Some(flags) = Flags::of(&service.scheduler_flags).text(&service.scheduler) {
        text += &format!(" ({flags})");
    }
    if let Some(persistence) = &service.persistence {
        text += &format!(" persistent {}", persistence.timeout_s);
        if let Some(netmask) = &persistence.netmask {
            text += &format!(" mask {netmask}");
        }
        if let Some(engine) = &service.persistence_engine {
            text += &format!(" pe {engine}");
        }
    }
    if service.one_packet {
        text += " ops";
    }
    text
}

fn service_name(key: &ServiceKey, format: Format, names: &mut Names) -> String {
    match *key {
        ServiceKey::Address { protocol, address } => {
            format!("{protocol:4} {}", address_text(address, Some(protocol), format, names))
        }
        ServiceKey::Mark { mark, v6: false } => format!("FWM  {}", mark_text(mark)),
        ServiceKey::Mark { mark, v6: true } => format!("FWM  {} IPv6", mark_text(mark)),
    }
}

/// ipvsadm prints marks as signed numbers.
fn mark_text(mark: std::num::NonZeroU32) -> i32 {
    mark.get().cast_signed()
}

/// By which names a service's ports go: a mark has none.
const fn protocol(key: &ServiceKey) -> Option<Protocol> {
    match *key {
        ServiceKey::Address { protocol, .. } => Some(protocol),
        ServiceKey::Mark { .. } => None,
    }
}

/// `address:port`, by name unless numbers are wanted.
fn address_text(
    address: SocketAddr,
    protocol: Option<Protocol>,
    format: Format,
    names: &mut Names,
) -> String {
    let (ip, port) = (address.ip(), address.port());
    let names = (!format.numeric).then_some(names);
    let (host, service) = match names {
        None => (None, None),
        Some(names) => (
            names.host(ip).map(String::from),
            protocol.and_then(|protocol| names.service(port, protocol)).map(String::from),
        ),
    };
    let host = host.unwrap_or_else(|| ip_text(ip));
    let service = service.unwrap_or_else(|| port.to_string());
    let text = if ip.is_ipv4() { format!("{host}:{service}") } else { format!("[{host}]:{service}") };
    cut(text, true, LONGEST_ADDRESS)
}

/// The first bytes of a text, if it is to be cut.
fn cut(mut text: String, is_cut: bool, longest: usize) -> String {
    if is_cut {
        text.truncate(text.floor_char_boundary(longest));
    }
    text
}

/// Active and inactive connections: the last columns of most tables.
fn connections(server: &ServerView) -> String {
    format!("{:<10} {:<10}", server.active, server.inactive)
}
