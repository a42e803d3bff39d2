//! Counters, drops, interfaces, settings.

use super::table::Table;
use crate::cli::client::json as as_json;
use crate::control::client::Client;
use crate::control::view::{InterfaceView, OffloadView, TrafficView};

pub(super) fn info(client: &mut Client, json: bool) -> anyhow::Result<String> {
    let info = client.info()?;
    if json {
        return as_json(&info);
    }
    let (minutes, seconds) = (info.uptime_s / 60, info.uptime_s % 60);
    let (days, hours) = (minutes / 1440, minutes / 60 % 24);
    let mut table = Table::new(&["", ""]);
    table.row(["version".to_owned(), info.version]);
    table.row(["uptime".to_owned(), format!("{days} d {hours:02}:{:02}:{seconds:02}", minutes % 60)]);
    table.row(["connections".to_owned(), format!("{} of {}", info.connections, info.connections_max)]);
    table.row(["services".to_owned(), info.services.to_string()]);
    table.row(["workers".to_owned(), info.workers.to_string()]);
    Ok(table.finish("").trim_start().to_owned())
}

pub(super) fn counters(client: &mut Client, json: bool) -> anyhow::Result<String> {
    let counters = client.counters()?;
    if json {
        return as_json(&counters);
    }
    let mut table = Table::new(&["", ">CONNS", ">IN-PACKETS", ">OUT-PACKETS", ">IN-BYTES", ">OUT-BYTES"]);
    let row = |table: &mut Table, name: String, t: &TrafficView| {
        let numbers = [t.connections, t.in_packets, t.out_packets, t.in_bytes, t.out_bytes];
        table.row([name].into_iter().chain(numbers.map(|n| n.to_string())));
    };
    row(&mut table, "total".to_owned(), &counters.statistics);
    row(&mut table, "per second".to_owned(), &counters.rates);
    for (queue, worker) in counters.workers.iter().enumerate() {
        row(&mut table, format!("worker {queue} since start"), worker);
    }
    for (queue, rates) in counters.worker_rates.iter().enumerate() {
        row(&mut table, format!("worker {queue} per second"), rates);
    }
    let mut text = table.finish("");
    text.push_str(&format!(
        "\n{} dropped packets answered with a reset or an ICMP error\n",
        counters.answered
    ));
    text.push_str(&format!(
        "{} packets of NAT servers belonged to no connection and were routed on\n",
        counters.strays
    ));
    text.push_str(&format!("{} packets were nobody's here and went to the kernel\n", counters.passed));
    text.push_str(&format!(
        "{} connections ended by drop_entry before their time\n",
        counters.dropped_entries
    ));
    let mut table = Table::new(&[">FRAMES", "SEEN BY THE STEERING PROGRAM"]);
    for (outcome, count) in counters.steering.iter().filter(|(_, count)| *count > 0) {
        table.row([count.to_string(), outcome.clone()]);
    }
    text.push('\n');
    text.push_str(&table.finish("the steering program has seen no frames yet"));
    if let Some(offload) = &counters.offload {
        text.push('\n');
        text.push_str(&offloaded(offload));
    }
    Ok(text)
}

/// How many connections are offloaded, and why their packets came up all the same.
fn offloaded(offload: &OffloadView) -> String {
    let OffloadView { places, carried, refused, gave_way, came_up } = offload;
    let mut text = format!("{carried} connections are offloaded; there are places for {places}\n");
    if *refused > 0 {
        text.push_str(&format!(
            "{refused} times there was none, and {gave_way} slow connections gave way: more `offload_flows`?\n"
        ));
    }
    let mut table = Table::new(&[">PACKETS", "CAME UP ALL THE SAME", "~MEANING"]);
    for row in came_up.iter().filter(|row| row.packets > 0) {
        table.row([row.packets.to_string(), row.reason.clone(), row.help.clone()]);
    }
    text.push_str(&table.finish("none of their packets came up"));
    text
}

pub(super) fn drops(client: &mut Client, all: bool, json: bool) -> anyhow::Result<String> {
    let mut drops = client.drops()?;
    if !all {
        drops.retain(|d| d.count > 0);
    }
    if json {
        return as_json(&drops);
    }
    let mut table = Table::new(&[">FRAMES", "REASON", "~MEANING"]);
    for d in &drops {
        table.row([d.count.to_string(), d.reason.clone(), d.help.clone()]);
    }
    Ok(table.finish("none"))
}

pub(super) fn interfaces(client: &mut Client, json: bool) -> anyhow::Result<String> {
    let interfaces = client.interfaces()?;
    if json {
        return as_json(&interfaces);
    }
    let mut table = Table::new(&[
        "INTERFACE",
        ">QUEUE",
        "XDP",
        "COPY",
        "RSS",
        "OFFLOAD",
        ">RECEIVED",
        ">/S",
        ">SENT",
        ">/S",
        ">NOT-SENT-ON",
        ">RING-FULL",
        ">KERNEL-DROPPED",
        ">OFFLOADED",
    ]);
    for interface in &interfaces {
        for q in &interface.queues {
            table.row([
                interface.name.clone(),
                q.queue.to_string(),
                interface.xdp.clone(),
                if q.zero_copy { "zero".to_owned() } else { "copy".to_owned() },
                if interface.rss { "known".to_owned() } else { "-".to_owned() },
                interface.offload.clone(),
                q.rx_packets.to_string(),
                q.rates.rx_packets.to_string(),
                q.tx_packets.to_string(),
                q.rates.tx_packets.to_string(),
                q.recycled.to_string(),
                q.transmit_full.to_string(),
                q.kernel_dropped.to_string(),
                // Of all queues, once.
                if q.queue == 0 { interface.offloaded_packets.to_string() } else { "-".to_owned() },
            ]);
        }
    }
    let mut text = table.finish("no interfaces");
    let notes = no_offload_to(&interfaces);
    if !notes.is_empty() {
        text.push_str(&format!("\n{notes}"));
    }
    Ok(text)
}

/// Why packets of offloaded connections do not leave by some interfaces, a line each.
fn no_offload_to(interfaces: &[InterfaceView]) -> String {
    let why = |offload: &str| match offload {
        "no" => {
            Some("its driver takes no redirected frames at present; a veth does once its other end has GRO")
        }
        "unknown" => {
            Some("this kernel does not tell whether its driver takes redirected frames (Linux 6.3 does)")
        }
        _ => None,
    };
    let line = |i: &InterfaceView| why(&i.offload).map(|why| format!("no offload to {}: {why}\n", i.name));
    interfaces.iter().filter_map(line).collect()
}

pub(super) fn tunables(client: &mut Client, json: bool) -> anyhow::Result<String> {
    let tunables = client.tunables()?;
    if json {
        return as_json(&tunables);
    }
    let mut table = Table::new(&["TUNABLE", ">VALUE", ">DEFAULT", ">RANGE", "STATE", "~MEANING"]);
    for t in &tunables {
        table.row([
            t.name.clone(),
            t.value.to_string(),
            t.default.to_string(),
            format!("{}..{}", t.least, t.most),
            t.state.clone().unwrap_or_default(),
            t.help.clone(),
        ]);
    }
    Ok(table.finish("none"))
}

pub(super) fn timeouts(client: &mut Client, json: bool) -> anyhow::Result<String> {
    let timeouts = client.timeouts()?;
    if json {
        return as_json(&timeouts);
    }
    let mut table = Table::new(&["IDLE CONNECTION", ">SECONDS"]);
    table.row(["tcp established".to_owned(), timeouts.tcp_s.to_string()]);
    table.row(["tcp after a FIN".to_owned(), timeouts.tcp_fin_s.to_string()]);
    table.row(["udp".to_owned(), timeouts.udp_s.to_string()]);
    Ok(table.finish(""))
}

pub(super) fn marks(client: &mut Client, json: bool) -> anyhow::Result<String> {
    let marks = client.marks()?;
    if json {
        return as_json(&marks);
    }
    let mut table = Table::new(&[">MARK", "PROTOCOL", "DESTINATION", "PORTS", "SOURCE"]);
    for rule in &marks {
        table.row([
            rule.mark.to_string(),
            rule.protocol.name().to_owned(),
            rule.destination.to_string(),
            format!("{}-{}", rule.port_first, rule.port_last),
            rule.source.map_or_else(|| "any".to_owned(), |net| net.to_string()),
        ]);
    }
    Ok(table.finish("no rules: `xvs mark add`, or [[mark]] in the configuration and `xvs reload`"))
}

pub(super) fn drift(client: &mut Client, json: bool) -> anyhow::Result<String> {
    let drift = client.drift()?;
    if json {
        return as_json(&drift);
    }
    if drift.changes.is_empty() {
        return Ok(format!("{} is what runs\n", drift.file));
    }
    let lines: String = drift.changes.iter().map(|line| format!("{line}\n")).collect();
    Ok(format!("a reload of {} would change:\n{lines}", drift.file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_nothing_is_offloaded_to_has_a_line_that_says_why() {
        let one = |name: &str, offload: &str| InterfaceView {
            name: name.to_owned(),
            offload: offload.to_owned(),
            ..InterfaceView::default()
        };
        assert_eq!(no_offload_to(&[one("lb0", "yes"), one("lb1", "off")]), "");
        let said = no_offload_to(&[one("lb0", "no"), one("lb1", "yes"), one("lb2", "unknown")]);
        let lines: Vec<&str> = said.lines().collect();
        let [no, unknown] = lines[..] else { panic!("{said}") };
        assert!(no.starts_with("no offload to lb0: its driver takes no redirected frames at present"));
        assert!(unknown.starts_with("no offload to lb2: this kernel does not tell"), "{unknown}");
    }
}
