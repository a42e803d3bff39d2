//! `ipvsadm -S`: the lines that restore all services.
//!
//! Thresholds are not among them, and neither are timeouts: ipvsadm leaves them out. Of FULLNAT there is no line that
//! any ipvsadm reads back, so what has it is not saved at all, and that is said: nobody is to rely on half of it.

use std::io::{self, Write};

use super::{
    Flags, Format, Names, ServiceKey, ServiceView, address_text, in_order, mark_text, protocol,
    sorted_servers, sorted_services,
};
use crate::control::command::{ChecksumSpec, Forward, TunnelSpec};
use crate::control::view::ServerView;
use crate::director::service::Protocol;

/// A server that no line can restore, with its service.
pub(crate) fn unspeakable(services: &[ServiceView]) -> Option<String> {
    let with =
        services.iter().flat_map(|service| service.servers.iter().map(move |server| (service, server)));
    let (service, server) = with.into_iter().find(|(_, server)| server.forward == Forward::FullNat)?;
    Some(format!(
        "ipvsadm has no word for FULLNAT, which server {} of service {} has: nothing is saved. `xvs save` saves all.",
        server.address, service.service
    ))
}

/// Writes the lines.
pub(crate) fn save(
    out: &mut dyn Write,
    format: Format,
    names: &mut Names,
    services: &[ServiceView],
) -> io::Result<()> {
    for service in in_order(services, format, sorted_services) {
        let key = service.service;
        let name = match key {
            ServiceKey::Address { protocol, address } => {
                format!("{} {}", option(protocol), address_text(address, Some(protocol), format, names))
            }
            ServiceKey::Mark { mark, v6: false } => format!("-f {}", mark_text(mark)),
            ServiceKey::Mark { mark, v6: true } => format!("-f {} -6", mark_text(mark)),
        };
        writeln!(out, "-A {name} {}", described(service))?;
        for server in sorted_servers(&service.servers) {
            let address = address_text(server.address, protocol(&key), format, names);
            writeln!(out, "-a {name} -r {address} {}", forwarded(server))?;
        }
    }
    Ok(())
}

const fn option(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "-t",
        Protocol::Udp => "-u",
        Protocol::Sctp => "--sctp-service",
    }
}

fn described(service: &ServiceView) -> String {
    let mut text = format!("-s {}", service.scheduler);
    if let Some(persistence) = &service.persistence {
        text += &format!(" -p {}", persistence.timeout_s);
        if let Some(netmask) = &persistence.netmask {
            text += &format!(" -M {netmask}");
        }
    }
    if let Some(engine) = &service.persistence_engine {
        text += &format!(" --pe {engine}");
    }
    if service.one_packet {
        text += " -o";
    }
    if let Some(flags) = Flags::of(&service.scheduler_flags).text(&service.scheduler) {
        text += &format!(" -b {flags}");
    }
    text
}

fn forwarded(server: &ServerView) -> String {
    let method = match server.forward {
        Forward::Nat => "-m",
        Forward::Dr => "-g",
        Forward::Tun => "-i",
        // Never asked: see `unspeakable`.
        Forward::FullNat => "--fullnat",
    };
    let tunnel = match server.tunnel {
        None => String::new(),
        Some(TunnelSpec::Ipip) => " --tun-type ipip".to_owned(),
        Some(TunnelSpec::Gue { port, checksum }) => {
            format!(" --tun-type gue --tun-port {port} {}", summed(checksum))
        }
        Some(TunnelSpec::Gre { checksum }) => format!(" --tun-type gre {}", summed(checksum)),
    };
    format!("{method} -w {}{tunnel}", server.weight)
}

const fn summed(checksum: ChecksumSpec) -> &'static str {
    match checksum {
        ChecksumSpec::None => "--tun-nocsum",
        ChecksumSpec::Full => "--tun-csum",
        ChecksumSpec::Remote => "--tun-remcsum",
    }
}
