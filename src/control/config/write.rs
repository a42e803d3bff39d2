//! From values to text: what [`Config::parse`] reads back to exactly the same.
//!
//! One key a line, always in the same order, and only what differs from its default: equal configurations are
//! equal texts, and texts can be compared line by line.

use std::fmt::Write;

use ipnet::IpNet;
use toml::Value;

use super::server::CHECKSUMS;
use super::{Api, Config, Director, flags};
use crate::control::wanted::{Timeouts, Wanted};
use crate::director::local::LOCAL_PORTS;
use crate::director::marks::MarkRule;
use crate::director::name::ServiceKey;
use crate::director::sched::Kind;
use crate::director::service::{Method, Netmask, Pool, Server, ServerState, Service, Tunnel, TunnelChecksum};
use crate::director::switches;
use crate::director::tunables::Tunables;

/// A key with its value; `None`: the key is left out.
pub(in crate::control) type Key = (&'static str, Option<Value>);

/// The configuration as a file.
pub fn write(config: &Config) -> String {
    let Config { director, api, wanted: Wanted { pools, marks, timeouts, tunables } } = config;
    let mut out = String::new();
    // What has no default differs from this one.
    table(&mut out, "[director]", director_keys(director), &director_keys(&Director::new(Vec::new())));
    table(&mut out, "[api]", api_keys(api), &api_keys(&Api::default()));
    table(&mut out, "[timeouts]", timeout_keys(timeouts), &timeout_keys(&Timeouts::default()));
    table(&mut out, "[tunables]", tunable_keys(tunables), &tunable_keys(&Tunables::default()));
    for rule in marks {
        table(&mut out, "[[mark]]", mark_keys(rule), &[]);
    }
    for Pool { service, servers } in pools {
        table(&mut out, "[[service]]", service_keys(service), &[]);
        for server in servers {
            table(&mut out, "[[service.server]]", server_keys(&service.key, server), &[]);
        }
    }
    out
}

/// Writes a table, unless all of its keys have their defaults.
fn table(out: &mut String, header: &str, keys: Vec<Key>, defaults: &[Key]) {
    let given: Vec<_> = keys.into_iter().filter(|key| !defaults.contains(key)).collect();
    if given.iter().all(|(_, value)| value.is_none()) {
        return;
    }
    let gap = if out.is_empty() { "" } else { "\n" };
    let _infallible = writeln!(out, "{gap}{header}");
    for (key, value) in given {
        let Some(value) = value else { continue };
        let _infallible = writeln!(out, "{key} = {value}");
    }
}

/// Every key of `[director]`.
pub(in crate::control) fn director_keys(director: &Director) -> Vec<Key> {
    let Director {
        interfaces,
        xdp_mode,
        zero_copy,
        offload,
        offload_flows,
        offload_after,
        cores,
        busy_poll,
        idle_spin_us,
        connections,
        frame_bytes,
        ring_frames,
        huge_pages,
        watch,
        pass,
        pass_limit,
    } = director;
    // At most MAX_CORE.
    let core = |core: &usize| Value::Integer(*core as i64);
    vec![
        ("interfaces", Some(interfaces.clone().into())),
        ("xdp_mode", Some(xdp_mode.name().into())),
        ("zero_copy", Some(zero_copy.name().into())),
        ("offload", Some(offload.name().into())),
        ("offload_flows", Some((*offload_flows).into())),
        ("offload_after", Some((*offload_after).into())),
        ("cores", cores.as_ref().map(|cores| Value::Array(cores.iter().map(core).collect()))),
        ("busy_poll", Some((*busy_poll).into())),
        ("idle_spin_us", Some((*idle_spin_us).into())),
        ("connections", Some((*connections).into())),
        ("frame_bytes", Some((*frame_bytes).into())),
        ("ring_frames", Some((*ring_frames).into())),
        ("huge_pages", Some((*huge_pages).into())),
        ("watch", Some((*watch).into())),
        ("pass", Some(pass.name().into())),
        ("pass_limit", Some((*pass_limit).into())),
    ]
}

/// Every key of `[api]`.
pub(in crate::control) fn api_keys(api: &Api) -> Vec<Key> {
    let Api { socket, mode, group, listen, token_file } = api;
    // Paths that came from text are text.
    let path = |path: &std::path::PathBuf| Value::from(path.to_string_lossy().into_owned());
    vec![
        ("socket", Some(path(socket))),
        ("mode", Some(format!("{mode:04o}").into())),
        ("group", group.clone().map(Value::from)),
        ("listen", listen.map(|listen| listen.to_string().into())),
        ("token_file", token_file.as_ref().map(path)),
    ]
}

fn timeout_keys(timeouts: &Timeouts) -> Vec<Key> {
    let Timeouts { tcp_s, tcp_fin_s, udp_s } = *timeouts;
    [("tcp", tcp_s), ("tcp_fin", tcp_fin_s), ("udp", udp_s)]
        .into_iter()
        .map(|(key, seconds)| (key, Some(seconds.into())))
        .collect()
}

fn tunable_keys(tunables: &Tunables) -> Vec<Key> {
    tunables.all().into_iter().map(|tunable| (tunable.name, Some(tunable.value.into()))).collect()
}

fn mark_keys(rule: &MarkRule) -> Vec<Key> {
    let MarkRule { mark, protocol, destination, port_first, port_last, source } = *rule;
    let ports = match (port_first, port_last) {
        (0, u16::MAX) => None,
        (first, last) if first == last => Some(first.to_string()),
        (first, last) => Some(format!("{first}-{last}")),
    };
    vec![
        ("mark", Some(mark.get().into())),
        ("protocol", Some(protocol.name().into())),
        ("destination", Some(network(destination))),
        ("ports", ports.map(Value::from)),
        ("source", source.map(network)),
    ]
}

/// A network, or an address alone.
fn network(net: IpNet) -> Value {
    if net.prefix_len() == net.max_prefix_len() {
        net.addr().to_string().into()
    } else {
        net.to_string().into()
    }
}

fn service_keys(service: &Service) -> Vec<Key> {
    let Service { key, scheduler, options, persistence, engine, one_packet, switches, locals } = *service;
    let mut keys: Vec<Key> = match key {
        ServiceKey::Address { protocol, address } => {
            vec![("protocol", Some(protocol.name().into())), ("address", Some(address.to_string().into()))]
        }
        ServiceKey::Mark { mark, v6 } => {
            vec![("mark", Some(mark.get().into())), ("family", v6.then(|| "ipv6".into()))]
        }
    };
    let flags = flags::set(scheduler, options);
    let netmask = persistence.map(|p| p.netmask).filter(|netmask| *netmask != Netmask::whole(key.is_v4()));
    let netmask = netmask.map(|netmask| match netmask {
        Netmask::V4(mask) => mask.to_string(),
        Netmask::V6(bits) => bits.to_string(),
    });
    keys.extend([
        ("scheduler", (scheduler != Kind::default()).then(|| scheduler.name().into())),
        ("scheduler_flags", (!flags.is_empty()).then(|| flags.into())),
        ("persistence", persistence.map(|p| p.timeout_s.into())),
        ("persistence_netmask", netmask.map(Value::from)),
        ("persistence_engine", engine.map(|engine| engine.name().into())),
        ("one_packet", one_packet.then(|| true.into())),
    ]);
    let addresses: Vec<Value> = locals.addresses().map(|address| address.to_string().into()).collect();
    keys.push(("local_addresses", (!addresses.is_empty()).then(|| addresses.into())));
    keys.push(("local_ports", (locals.ports != LOCAL_PORTS).then(|| locals.ports.to_string().into())));
    keys.extend(switches.all().into_iter().filter(|switch| switch.is_set).map(|switch| {
        let value = match switch.value {
            switches::Value::Seconds(number)
            | switches::Value::Bytes(number)
            | switches::Value::Number(number) => Some(number.into()),
            switches::Value::Bool(on) => Some(on.into()),
            switches::Value::Word(word) => Some(word.into()),
            switches::Value::Unset => None,
        };
        (switch.name, value)
    }));
    keys
}

fn server_keys(service: &ServiceKey, server: &Server) -> Vec<Key> {
    let Server { address, weight, method, upper, lower, state, drain_timeout_s } = *server;
    // A port that is the service's may be left out, and 0 is better not seen.
    let is_whole = address.port() == 0 && service.port() == 0 && address.is_ipv4();
    let shown = if is_whole { address.ip().to_string() } else { address.to_string() };
    let mut keys = vec![
        ("address", Some(shown.into())),
        ("weight", (weight != 1).then(|| weight.into())),
        ("forward", (method != Method::Dr).then(|| method.name().into())),
    ];
    if let Method::Tun(tunnel) = method {
        keys.extend(tunnel_keys(tunnel));
    }
    keys.extend([
        ("upper_threshold", (upper != 0).then(|| upper.into())),
        ("lower_threshold", (lower != 0).then(|| lower.into())),
        ("state", (state != ServerState::Up).then(|| state.name().into())),
        ("drain_timeout_s", (drain_timeout_s != 0).then(|| drain_timeout_s.into())),
    ]);
    keys
}

fn tunnel_keys(tunnel: Tunnel) -> [Key; 3] {
    let (name, port, checksum) = match tunnel {
        Tunnel::Ipip => (None, None, TunnelChecksum::None),
        Tunnel::Gue { port, checksum } => (Some("gue"), Some(port), checksum),
        Tunnel::Gre { checksum } => (Some("gre"), None, checksum),
    };
    let checksum = CHECKSUMS.iter().find(|(c, _)| *c == checksum && *c != TunnelChecksum::None);
    [
        ("tunnel", name.map(Value::from)),
        ("tunnel_port", port.map(|port| u32::from(port).into())),
        ("tunnel_checksum", checksum.map(|(_, name)| (*name).into())),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{any, example};
    use super::*;
    use crate::director::conn::state;
    use crate::director::services::Services;

    #[test]
    fn what_has_its_default_is_left_out_and_the_order_is_that_of_the_example() {
        let text = r#"
            mark = [{ mark = 5, protocol = "udp", destination = "192.0.2.0/24", ports = "53", source = "198.51.100.9" }]
            tunables = { sloppy_tcp = 1, conn_reuse_mode = 1 }
            api = { mode = "0600" }
            director = { interfaces = ["eth0"], connections = 1_048_576, cores = [1] }
            [[service]]
            mark = 5
            server = [{ address = "10.0.0.1", forward = "nat", weight = 3 }]
            [[service]]
            protocol = "udp"
            address = "192.0.2.10:0"
            scheduler = "sh"
            scheduler_flags = ["sh-port"]
            persistence = true
            persistence_netmask = "255.255.255.0"
            server = [{ address = "10.0.0.2", forward = "tun", tunnel = "gue", tunnel_port = 6080 }]
        "#;
        let (config, _) = Config::parse("test.toml", text).unwrap_or_else(|e| panic!("{e}"));
        let expected = "\
[director]
interfaces = [\"eth0\"]
cores = [1]

[api]
mode = \"0600\"

[tunables]
sloppy_tcp = 1

[[mark]]
mark = 5
protocol = \"udp\"
destination = \"192.0.2.0/24\"
ports = \"53\"
source = \"198.51.100.9\"

[[service]]
mark = 5

[[service.server]]
address = \"10.0.0.1\"
weight = 3
forward = \"nat\"

[[service]]
protocol = \"udp\"
address = \"192.0.2.10:0\"
scheduler = \"sh\"
scheduler_flags = [\"sh-port\"]
persistence = 360
persistence_netmask = \"255.255.255.0\"

[[service.server]]
address = \"10.0.0.2\"
forward = \"tun\"
tunnel = \"gue\"
tunnel_port = 6080
";
        assert_eq!(write(&config), expected);
        let (example, _) = Config::parse("example.toml", example::EXAMPLE).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(
            Config::parse("again.toml", &write(&example)).unwrap_or_else(|e| panic!("{e}")).0,
            example
        );
    }

    #[test]
    fn the_largest_configuration_can_be_written_and_read() {
        let server = |n: u32| Server {
            address: format!("[2001:db8:1111:2222:3333:4444:{:x}:{:x}]:65535", n >> 8, 0xff00 | n & 0xff)
                .parse()
                .unwrap(),
            weight: crate::director::service::MAX_WEIGHT,
            method: Method::Tun(Tunnel::Gue { port: 65_535, checksum: TunnelChecksum::Remote }),
            upper: u32::MAX,
            lower: u32::MAX,
            state: ServerState::Drain,
            drain_timeout_s: 2_678_400,
        };
        let count = u32::try_from(super::super::MAX_SERVICES).unwrap();
        let each = u32::try_from(super::super::MAX_SERVERS).unwrap() / count;
        let pool = |n: u32| Pool {
            service: Service {
                scheduler: Kind::Sh,
                options: crate::director::sched::Options { fallback: true, port: true, third: true },
                persistence: Some(crate::director::service::Persistence {
                    timeout_s: 2_678_400,
                    netmask: Netmask::V4([255, 255, 255, 128].into()),
                }),
                engine: Some(crate::director::pe::Engine::Sip),
                one_packet: true,
                locals: crate::director::local::Locals::new(
                    &(1..=16)
                        .map(|n| [2001, 0xdb8, 0xaaaa, 0xbbbb, 0xcccc, 0xdddd, 0xeeee, 0xff00 + n].into())
                        .collect::<Vec<_>>(),
                    crate::director::local::Ports { first: 10_000, last: 65_534 },
                )
                .unwrap(),
                switches: switches::Switches {
                    timeout_tcp_s: 2_678_400,
                    timeout_tcp_fin_s: 2_678_400,
                    timeout_udp_s: 2_678_400,
                    slow_start_s: 86_400,
                    udp_rehome: true,
                    tcp_when_down: switches::TcpWhenDown::Reset,
                    reset_on_removal: true,
                    sloppy_tcp: Some(false),
                    mss_max: 1380,
                    client_address: switches::ClientAddress::None,
                    toa_kind: 253,
                },
                key: format!("udp:223.255.{}.{}:65535", n >> 8 & 0x7f | 0x80, n & 0xff | n >> 15 << 7)
                    .parse()
                    .unwrap(),
            },
            servers: (0..each).map(|i| server(n * each + i)).collect(),
        };
        let mut config = example::parsed();
        config.wanted.pools = (0..count).map(pool).collect();
        let text = write(&config);
        assert!(text.len() < super::super::MAX_FILE_BYTES, "{} bytes", text.len());
        let (again, _) =
            Config::parse("large.toml", &text).unwrap_or_else(|e| panic!("{}", e.0.problems()[0].message()));
        assert!(again == config);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn whatever_a_director_takes_is_written_and_read_back_the_same(config in any::config()) {
            let taken = Services::new(&config.wanted.pools, state::Timeouts::default());
            prop_assert!(taken.is_ok(), "the test asks for too much: {:?}", taken.err());
            let text = write(&config);
            let (again, _) = Config::parse("written.toml", &text)
                .map_err(|errors| TestCaseError::fail(format!("{errors}\n{text}")))?;
            prop_assert_eq!(&again, &config, "{}", text);
            prop_assert_eq!(write(&again), text);
        }
    }
}
