//! Services, servers, connections.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write, stdout};

use super::ServersView;
use super::table::Table;
use crate::cli::client::{is_read, json as as_json};
use crate::control::client::Client;
use crate::control::command::Forward;
use crate::control::connections::{Endpoint, Filter, Network, StateName};
use crate::control::view::{ConnectionView, ServerView, ServiceView, TrafficView};
use crate::director::name::ServiceKey;
use crate::director::service::ServerState;
use crate::director::switches::{ClientAddress, TOA_KIND_DEFAULT};

/// Which connections are shown.
#[derive(Debug, clap::Args)]
pub(super) struct ConnectionsArgs {
    /// Only of this client, an address or a network
    #[arg(long, value_name = "NET")]
    client: Option<Network>,
    /// Only of this service, for example tcp:192.0.2.10:80
    #[arg(long)]
    service: Option<ServiceKey>,
    /// Only of this server, an address with or without a port
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    server: Option<Endpoint>,
    /// Only in this state, for example ESTABLISHED
    #[arg(long)]
    state: Option<StateName>,
    /// At most so many
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
}

pub(super) fn services(client: &mut Client, json: bool) -> anyhow::Result<String> {
    let services = sorted(client.services(json)?);
    if json {
        return as_json(&services);
    }
    let mut table = Table::new(&[
        "SERVICE",
        "SCHEDULER",
        "PERSISTENT",
        "CLIENT IP",
        ">SERVERS",
        ">ACTIVE",
        ">INACTIVE",
        ">CONNS",
        ">CONNS/S",
        ">PACKETS/S",
        ">BITS/S",
    ]);
    for s in &services {
        let sum = |of: fn(&ServerView) -> u32| s.servers.iter().map(|d| u64::from(of(d))).sum::<u64>();
        table.row([
            s.service.to_string(),
            scheduler(s),
            persistence(s),
            client_address(s),
            s.servers.len().to_string(),
            sum(|d| d.active).to_string(),
            sum(|d| d.inactive).to_string(),
            s.statistics.connections.to_string(),
            s.rates.connections.to_string(),
            (s.rates.in_packets + s.rates.out_packets).to_string(),
            bits(&s.rates),
        ]);
    }
    Ok(table.finish("no services: `ipvsadm -A`, or [[service]] in the configuration and `xvs reload`"))
}

pub(super) fn servers(
    client: &mut Client,
    of: Option<&ServiceKey>,
    view: ServersView,
    json: bool,
) -> anyhow::Result<String> {
    let shows_traffic = json || matches!(view, ServersView::Totals | ServersView::Rates);
    let services = only(of, sorted(client.services(shows_traffic)?))?;
    if json {
        return as_json(&services);
    }
    let columns: &[&str] = match view {
        ServersView::Load => &["FORWARD", ">WEIGHT", ">ACTIVE", ">INACTIVE", ">PERSISTENT", "NOTE"],
        ServersView::Totals => &[">CONNS", ">IN-PACKETS", ">OUT-PACKETS", ">IN-BYTES", ">OUT-BYTES"],
        ServersView::Rates => &[">CONNS/S", ">IN-PACKETS/S", ">OUT-PACKETS/S", ">BITS/S"],
        ServersView::Thresholds => &[">UPPER", ">LOWER", ">ACTIVE", ">INACTIVE"],
    };
    let mut table = Table::new(&[&["SERVICE", "SERVER"], columns].concat());
    for s in &services {
        let mut servers: Vec<_> = s.servers.iter().collect();
        servers.sort_by_key(|d| d.address);
        for d in servers {
            let cells = match view {
                ServersView::Load => {
                    let forward = serde_json::to_value(d.forward)?;
                    vec![
                        forward.as_str().unwrap_or_default().to_owned(),
                        d.weight.to_string(),
                        d.active.to_string(),
                        d.inactive.to_string(),
                        d.persistent.to_string(),
                        note(s, d),
                    ]
                }
                ServersView::Totals => {
                    let t = d.statistics.unwrap_or_default();
                    [t.connections, t.in_packets, t.out_packets, t.in_bytes, t.out_bytes]
                        .map(|n| n.to_string())
                        .to_vec()
                }
                ServersView::Rates => {
                    let t = d.rates.unwrap_or_default();
                    let mut cells =
                        [t.connections, t.in_packets, t.out_packets].map(|n| n.to_string()).to_vec();
                    cells.push(bits(&t));
                    cells
                }
                ServersView::Thresholds => [d.upper_threshold, d.lower_threshold, d.active, d.inactive]
                    .map(|n| n.to_string())
                    .to_vec(),
            };
            table.row([s.service.to_string(), d.address.to_string()].into_iter().chain(cells));
        }
    }
    Ok(table.finish("no servers: `ipvsadm -a`, or [[service.server]] in the configuration and `xvs reload`"))
}

/// Those of one service, or of all.
fn only(of: Option<&ServiceKey>, mut services: Vec<ServiceView>) -> anyhow::Result<Vec<ServiceView>> {
    if let Some(key) = of {
        services.retain(|s| s.service == *key);
        anyhow::ensure!(
            !services.is_empty(),
            "there is no service {key}: `xvs show services` lists those there are"
        );
    }
    Ok(services)
}

/// What is to be known of a server besides numbers.
fn note(s: &ServiceView, d: &ServerView) -> String {
    let from: Vec<_> = s.local_addresses.iter().map(ToString::to_string).collect();
    let from = (d.forward == Forward::FullNat).then(|| format!("from {}", from.join(" ")));
    let stands = standing(d);
    let notes = from.into_iter().chain((!stands.is_empty()).then_some(stands));
    notes.collect::<Vec<_>>().join(", ")
}

/// How the server stands.
fn standing(d: &ServerView) -> String {
    match d.state {
        ServerState::Down => "down".to_owned(),
        ServerState::Drain if d.down => "drained, down".to_owned(),
        ServerState::Drain => "draining".to_owned(),
        ServerState::Up if d.share_percent < 100 => format!("slow start {} %", d.share_percent),
        ServerState::Up => String::new(),
    }
}

pub(super) fn switches(
    client: &mut Client,
    of: Option<&ServiceKey>,
    all: bool,
    json: bool,
) -> anyhow::Result<String> {
    let services = only(of, sorted(client.services(false)?))?;
    if json {
        let switches: BTreeMap<_, _> = services.iter().map(|s| (s.service.to_string(), s.switches)).collect();
        return as_json(&switches);
    }
    let mut table = Table::new(&["SERVICE", "SWITCH", "VALUE", "~MEANING"]);
    for s in &services {
        for switch in s.switches.all().iter().filter(|switch| all || switch.is_set) {
            let (name, help) = (switch.name.to_owned(), switch.help.to_owned());
            table.row([s.service.to_string(), name, switch.value.to_string(), help]);
        }
    }
    Ok(table.finish("every service does as the kernel: `xvs set --service SERVICE NAME=VALUE` changes that"))
}

/// Streams: there may be millions. False if nobody reads it any more.
pub(super) fn connections(client: &mut Client, args: &ConnectionsArgs, json: bool) -> anyhow::Result<bool> {
    let filter =
        Filter { client: args.client, service: args.service, server: args.server, state: args.state };
    let mut out = BufWriter::new(stdout().lock());
    let mut left = args.limit.unwrap_or(u64::MAX);
    let show = |out: &mut dyn Write, c: &ConnectionView| -> io::Result<()> {
        if json {
            serde_json::to_writer(&mut *out, c)?;
            return writeln!(out);
        }
        writeln!(
            out,
            "{:<5}  {:<21}  {:<21}  {:<21}  {:<11}  {:>5}:{:02}{}",
            c.protocol,
            c.client.to_string(),
            c.virtual_address.to_string(),
            c.server.to_string(),
            c.state,
            c.expires_s / 60,
            c.expires_s % 60,
            match (c.local, c.template) {
                (Some(local), _) if c.offloaded => format!("  from {local}, offloaded"),
                (Some(local), _) => format!("  from {local}"),
                (None, true) => "  persistence".to_owned(),
                (None, false) if c.offloaded => "  offloaded".to_owned(),
                (None, false) => String::new(),
            }
        )
    };
    let listed = (|| {
        if !json {
            writeln!(
                out,
                "{:<5}  {:<21}  {:<21}  {:<21}  {:<11}  {:>8}",
                "PROTO", "CLIENT", "VIRTUAL", "SERVER", "STATE", "EXPIRES"
            )?;
        }
        client.connections(&filter, &mut |c| {
            if left == 0 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            left -= 1;
            show(&mut out, &c)
        })
    })();
    let listed = match listed {
        // The limit is reached.
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        result => result,
    };
    Ok(is_read(listed.and_then(|()| out.flush()))?)
}

fn scheduler(s: &ServiceView) -> String {
    let mut text = s.scheduler.clone();
    if !s.scheduler_flags.is_empty() {
        text = format!("{text} ({})", s.scheduler_flags.join(","));
    }
    if s.one_packet {
        text.push_str(" ops");
    }
    text
}

/// `60 s`, and the netmask if clients of a network are one.
fn persistence(s: &ServiceView) -> String {
    match &s.persistence {
        None => "-".to_owned(),
        Some(p) => p.netmask.iter().fold(format!("{} s", p.timeout_s), |text, netmask| text + " " + netmask),
    }
}

/// How servers are told it.
fn client_address(s: &ServiceView) -> String {
    match s.switches.client_address {
        ClientAddress::None => "-".to_owned(),
        ClientAddress::Toa if s.switches.toa_kind != TOA_KIND_DEFAULT => {
            format!("toa {}", s.switches.toa_kind)
        }
        how => how.name().to_owned(),
    }
}

fn bits(rates: &TrafficView) -> String {
    (8 * (rates.in_bytes + rates.out_bytes)).to_string()
}

fn sorted(mut services: Vec<ServiceView>) -> Vec<ServiceView> {
    services.sort_by_key(|s| s.service);
    services
}
