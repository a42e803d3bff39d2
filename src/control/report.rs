//! What the director did, in the listings an operator of LVS reads: services, traffic, connections, drops.
//!
//! The formats are those of `ipvsadm -Ln`, `-Ln --stats --exact` and `-Lnc`.

use std::fmt::{self, Write};
use std::net::SocketAddr;

use crate::director::Director;
use crate::director::conn::Slot;
use crate::director::name::ServiceKey;
use crate::director::server::{Destination, ServerId};
use crate::director::services::{Services, VirtualService};
use crate::director::stats::{Stats, Traffic};
use crate::director::time::Time;

/// Most connections that are listed.
pub const MAX_LISTED: usize = 1000;

/// Everything, as text. `now` is the workers' time.
pub fn all(director: &Director, now: Time) -> String {
    let services = director.services.load();
    let mut out = String::new();
    write(&mut out, director, &services, now).expect("a string takes all that is written");
    out
}

fn write(out: &mut String, director: &Director, services: &Services, now: Time) -> fmt::Result {
    writeln!(
        out,
        "xvs {} (size={}, connections={})",
        env!("CARGO_PKG_VERSION"),
        director.table.capacity(),
        director.table.len()
    )?;
    listing(out, director, services)?;
    writeln!(out)?;
    traffic(out, director, services)?;
    writeln!(out)?;
    connections(out, director, now)?;
    writeln!(out)?;
    writeln!(out, "Frames dropped, by reason")?;
    for (reason, count) in director.drops() {
        writeln!(out, "{count:>12} {}", reason.name())?;
    }
    let answered: u64 = director.stats.iter().map(Stats::answered).sum();
    let strays: u64 = director.stats.iter().map(Stats::strays).sum();
    writeln!(out, "{answered:>12} of them answered with a reset or an ICMP error")?;
    writeln!(out)?;
    writeln!(out, "{strays:>12} packets of NAT servers belonged to no connection and were routed on")?;
    let passed: u64 = director.stats.iter().map(Stats::passed).sum();
    writeln!(out, "{passed:>12} packets were nobody's here and went to the kernel")?;
    Ok(())
}

fn listing(out: &mut String, director: &Director, services: &Services) -> fmt::Result {
    writeln!(out, "Prot LocalAddress:Port Scheduler Flags")?;
    writeln!(out, "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn")?;
    for service in services.sorted() {
        let wanted = &service.service;
        let flags: Vec<&str> = [(wanted.options.fallback, "sh-fallback"), (wanted.options.port, "sh-port")]
            .into_iter()
            .filter_map(|(on, name)| on.then_some(name))
            .collect();
        let flags = if flags.is_empty() { String::new() } else { format!(" ({})", flags.join(",")) };
        writeln!(out, "{} {}{flags}", name(&wanted.key), wanted.scheduler.name())?;
        for d in sorted(service) {
            writeln!(
                out,
                "  -> {:<28} {:<7} {:<6} {:<10} {:<10}",
                d.address.to_string(),
                d.method,
                d.weight,
                director.counts.active(d.id),
                director.counts.inactive(d.id)
            )?;
        }
    }
    Ok(())
}

/// As `ipvsadm` names it.
fn name(key: &ServiceKey) -> String {
    match key {
        ServiceKey::Address { protocol, address } => format!("{protocol:<4} {address}"),
        ServiceKey::Mark { mark, v6: false } => format!("FWM  {mark}"),
        ServiceKey::Mark { mark, v6: true } => format!("FWM  {mark} IPv6"),
    }
}

fn traffic(out: &mut String, director: &Director, services: &Services) -> fmt::Result {
    writeln!(
        out,
        "{:<33} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "Prot LocalAddress:Port", "Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"
    )?;
    writeln!(out, "  -> RemoteAddress:Port")?;
    for service in services.sorted() {
        let total = service.destinations.iter().map(|d| director.traffic(d.id)).sum();
        counters(out, &name(&service.service.key), total)?;
        for d in sorted(service) {
            counters(out, &format!("  -> {}", d.address), director.traffic(d.id))?;
        }
    }
    Ok(())
}

fn counters(out: &mut String, name: &str, t: Traffic) -> fmt::Result {
    let columns = [t.connections, t.in_packets, t.out_packets, t.in_bytes, t.out_bytes];
    let columns: String = columns.iter().map(|n| format!(" {n:>8}")).collect();
    writeln!(out, "{name:<33}{columns}")
}

fn connections(out: &mut String, director: &Director, now: Time) -> fmt::Result {
    writeln!(out, "IPVS connection entries")?;
    writeln!(out, "pro expire state       source             virtual            destination")?;
    let (mut rows, mut unlisted) = (Vec::new(), 0usize);
    director.table.list(|slot| {
        if rows.len() < MAX_LISTED {
            rows.push(connection(slot, now));
        } else {
            unlisted += 1;
        }
    });
    rows.sort();
    rows.iter().try_for_each(|row| writeln!(out, "{row}"))?;
    if unlisted > 0 {
        writeln!(out, "... and {unlisted} more")?;
    }
    Ok(())
}

fn connection(slot: &Slot, now: Time) -> String {
    let row = slot.row(now.tick());
    format!(
        "{:<3} {:<6} {:<11} {:<18} {:<18} {}",
        row.protocol,
        format!("{:02}:{:02}", row.expires_s / 60, row.expires_s % 60),
        row.state,
        row.client.to_string(),
        row.virtual_address.to_string(),
        row.server
    )
}

/// Servers as ipvsadm sorts them: by address and port.
fn sorted(service: &VirtualService) -> Vec<Destination> {
    let mut servers = service.destinations.to_vec();
    servers.sort_by_key(|d: &Destination| -> (SocketAddr, ServerId) { (d.address, d.id) });
    servers
}
