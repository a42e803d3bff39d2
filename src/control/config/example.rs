//! `config/example.toml` is documentation, so it is tested: complete, loadable, and true about defaults.

mod edits;

use std::collections::{BTreeMap, BTreeSet};

use super::{Api, Config, Director, Offload, Pass, Severity, XdpMode, ZeroCopy};
use crate::control::wanted::{Timeouts, Wanted};
use crate::director::marks::MarkRule;
use crate::director::pe::Engine;
use crate::director::sched::{Kind, Options};
use crate::director::service::{
    Method, Netmask, Persistence, Pool, Protocol, Server, ServerState, Service, Tunnel, TunnelChecksum,
};
use crate::director::switches::{ClientAddress, Switches, TcpWhenDown};
use crate::director::tunables::Tunables;

pub(super) const EXAMPLE: &str = include_str!("../../../config/example.toml");

/// What a line of the example is, besides explanation and what has no `#`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Commented {
    /// `#key = value` with the default.
    Default,
    /// The same below `This line is only an example.`
    Example,
    /// In a commented table, from `#[` to the next empty line.
    Table,
}

/// Every commented line that can be taken up, by its number.
fn commented() -> BTreeMap<usize, Commented> {
    let mut found = BTreeMap::new();
    let (mut in_table, mut is_example) = (false, false);
    for (index, line) in EXAMPLE.lines().enumerate() {
        let Some(rest) = line.strip_prefix('#') else {
            (in_table, is_example) = (false, false);
            continue;
        };
        in_table |= rest.starts_with('[');
        if in_table && !rest.starts_with(' ') {
            found.insert(index, Commented::Table);
        } else if rest.starts_with(|c: char| c.is_ascii_lowercase()) {
            found.insert(index, if is_example { Commented::Example } else { Commented::Default });
        } else {
            is_example |= rest.contains("only an example");
        }
    }
    found
}

pub(super) fn parsed() -> Config {
    let (config, warnings) = Config::parse("example.toml", EXAMPLE).unwrap_or_else(|e| panic!("{e}"));
    assert!(warnings.is_empty(), "{warnings}");
    config
}

/// The example with those commented lines taken up for which `chosen` says yes.
fn uncommented(chosen: impl Fn(usize, Commented) -> bool) -> String {
    let commented = commented();
    let line = |(index, line): (usize, &'static str)| match commented.get(&index) {
        Some(kind) if chosen(index, *kind) => &line[1..],
        _ => line,
    };
    EXAMPLE.lines().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_is_usable_and_its_commented_keys_are_at_their_defaults() {
    let config = parsed();
    assert_eq!(config.director, Director::new(vec!["eth0".into(), "eth1".into()]));
    assert_eq!(config.api, Api::default());
    let Wanted { pools, marks, timeouts, tunables } = &config.wanted;
    assert_eq!((*timeouts, *tunables), (Timeouts::default(), Tunables::default()));
    assert_eq!((pools.len(), marks.len()), (4, 2));
    let methods: Vec<_> = pools[2].servers.iter().map(|s| (s.address.port(), s.method)).collect();
    assert_eq!(methods, [(53, Method::Nat), (53, Method::Dr)]);
    assert!(pools[2].service.options.port && !pools[2].service.options.fallback);
    assert_eq!(pools[3].service.key.to_string(), "fwm:5");
}

#[test]
fn every_commented_default_is_the_one_of_the_code() {
    let defaults = commented().into_iter().filter(|(_, kind)| *kind == Commented::Default);
    let mut tried = 0;
    for (line, _) in defaults {
        let key = EXAMPLE.lines().nth(line).unwrap_or_default();
        let (config, warnings) = Config::parse("example.toml", &uncommented(|i, _| i == line))
            .unwrap_or_else(|errors| panic!("{key}: {errors}"));
        assert!(warnings.is_empty(), "{key}: {warnings}");
        assert_eq!(config, parsed(), "`{key}` is not the default");
        tried += 1;
    }
    assert_eq!(tried, 58, "keys with a constant default");
}

#[test]
fn every_scheduler_and_flag_is_explained() {
    for kind in Kind::ALL {
        let flags = super::flags::names(*kind).into_iter().filter(|name| !name.starts_with("flag-"));
        for name in flags.chain([kind.name()]) {
            let explained = |line: &str| line.starts_with("#   ") && line.contains(&format!("\"{name}\""));
            assert!(EXAMPLE.lines().any(explained), "{name} is not explained");
        }
    }
}

#[test]
fn every_line_of_the_example_can_be_taken_up() {
    let (all, warnings) =
        Config::parse("example.toml", &uncommented(|_, _| true)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(warnings.count(Severity::Warning), 0, "{warnings}");
    assert_eq!(all.director.cores, Some(vec![2, 3]));
    assert_eq!(all.api.listen, Some("127.0.0.1:8080".parse().expect("an address")));
    let tunnels = all.wanted.pools.iter().flat_map(|pool| &pool.servers);
    assert!(tunnels.clone().any(|server| matches!(server.method, Method::Tun(Tunnel::Gue { .. }))));
    assert!(tunnels.clone().any(|server| server.method == Method::FullNat));
    assert!(all.wanted.pools.iter().any(|pool| pool.service.locals.addresses().count() == 2));
}

#[test]
fn every_value_arrives_in_its_own_field() {
    let text = r#"
        [director]
        interfaces = ["eth1", "eth0"]
        xdp_mode = "native"
        zero_copy = "require"
        offload = "on"
        offload_flows = 2_048
        offload_after = 0
        cores = [3, 2]
        busy_poll = true
        connections = 1_025
        frame_bytes = 2048
        ring_frames = 512
        huge_pages = true
        watch = true
        pass = "on"
        pass_limit = 11
        [api]
        socket = "/tmp/xvs.sock"
        mode = "0600"
        group = "lvs"
        listen = "[::1]:8080"
        token_file = "/etc/xvs/token"
        [timeouts]
        tcp = 1
        tcp_fin = 2
        udp = 3
        [tunables]
        expire_nodest_conn = 1
        [[mark]]
        mark = 4294967295
        protocol = "udp"
        destination = "192.0.2.0/24"
        ports = "8000-8999"
        source = "198.51.100.1"
        [[service]]
        mark = 4_294_967_295
        family = "ipv4"
        persistence = 300
        persistence_netmask = "255.255.255.0"
        persistence_engine = "sip"
        one_packet = true
        [[service.server]]
        address = "10.0.0.1"
        upper_threshold = 20
        lower_threshold = 10
        state = "drain"
        drain_timeout_s = 30
        [[service]]
        protocol = "udp"
        address = "192.0.2.10:53"
        scheduler = "sh"
        scheduler_flags = ["sh-fallback"]
        forward = "nat"
        timeout_udp_s = 30
        udp_rehome = true
        server = [{ address = "10.0.0.2:54", weight = 0 }, { address = "10.0.0.1", weight = 7, forward = "dr" }]
        [[service]]
        protocol = "tcp"
        address = "192.0.2.10:81"
        forward = "nat"
        client_address = "toa"
        toa_kind = 253
        server = [{ address = "10.0.0.1" }]
        [[service]]
        protocol = "tcp"
        address = "192.0.2.10:80"
        timeout_tcp_s = 7500
        timeout_tcp_fin_s = 20
        slow_start_s = 60
        tcp_when_down = "reset"
        reset_on_removal = true
        sloppy_tcp = false
        mss_max = 1380
        server = [{ address = "10.0.0.1", state = "down" }]
    "#;
    let (config, warnings) = Config::parse("all.toml", text).unwrap_or_else(|e| panic!("{e}"));
    assert!(warnings.is_empty(), "{warnings}");
    let mark = std::num::NonZeroU32::MAX;
    let server = |address: &str, weight, method| Server {
        weight,
        ..Server::new(address.parse().expect("an address"), method)
    };
    let expected = Config {
        director: Director {
            interfaces: vec!["eth1".into(), "eth0".into()],
            xdp_mode: XdpMode::Native,
            zero_copy: ZeroCopy::Require,
            offload: Offload::On,
            offload_flows: 2_048,
            offload_after: 0,
            cores: Some(vec![3, 2]),
            busy_poll: true,
            idle_spin_us: 50,
            connections: 1_025,
            frame_bytes: 2048,
            ring_frames: 512,
            huge_pages: true,
            watch: true,
            pass: Pass::On,
            pass_limit: 11,
        },
        api: Api {
            socket: "/tmp/xvs.sock".into(),
            mode: 0o600,
            group: Some("lvs".into()),
            listen: Some("[::1]:8080".parse().expect("an address")),
            token_file: Some("/etc/xvs/token".into()),
        },
        wanted: Wanted {
            pools: vec![
                Pool {
                    service: Service {
                        persistence: Some(Persistence {
                            timeout_s: 300,
                            netmask: Netmask::V4([255, 255, 255, 0].into()),
                        }),
                        engine: Some(Engine::Sip),
                        one_packet: true,
                        ..Service::new("fwm:4294967295".parse().expect("a name"))
                    },
                    servers: vec![Server {
                        upper: 20,
                        lower: 10,
                        state: ServerState::Drain,
                        drain_timeout_s: 30,
                        ..server("10.0.0.1:0", 1, Method::Dr)
                    }],
                },
                Pool {
                    service: Service {
                        scheduler: Kind::Sh,
                        options: Options { fallback: true, ..Options::default() },
                        switches: Switches { timeout_udp_s: 30, udp_rehome: true, ..Switches::default() },
                        ..Service::new("udp:192.0.2.10:53".parse().expect("a name"))
                    },
                    servers: vec![
                        server("10.0.0.2:54", 0, Method::Nat),
                        server("10.0.0.1:53", 7, Method::Dr),
                    ],
                },
                Pool {
                    service: Service {
                        switches: Switches {
                            client_address: ClientAddress::Toa,
                            toa_kind: 253,
                            ..Switches::default()
                        },
                        ..Service::new("tcp:192.0.2.10:81".parse().expect("a name"))
                    },
                    servers: vec![server("10.0.0.1:81", 1, Method::Nat)],
                },
                Pool {
                    service: Service {
                        switches: Switches {
                            timeout_tcp_s: 7500,
                            timeout_tcp_fin_s: 20,
                            slow_start_s: 60,
                            tcp_when_down: TcpWhenDown::Reset,
                            reset_on_removal: true,
                            sloppy_tcp: Some(false),
                            mss_max: 1380,
                            ..Switches::default()
                        },
                        ..Service::new("tcp:192.0.2.10:80".parse().expect("a name"))
                    },
                    servers: vec![Server {
                        state: ServerState::Down,
                        ..server("10.0.0.1:80", 1, Method::Dr)
                    }],
                },
            ],
            marks: vec![MarkRule {
                mark,
                protocol: Protocol::Udp,
                destination: "192.0.2.0/24".parse().expect("a network"),
                port_first: 8000,
                port_last: 8999,
                source: Some("198.51.100.1/32".parse().expect("a network")),
            }],
            timeouts: Timeouts { tcp_s: 1, tcp_fin_s: 2, udp_s: 3 },
            tunables: Tunables { expire_nodest_conn: 1, ..Tunables::default() },
        },
    };
    assert_eq!(config, expected);
    let (config, _) = Config::parse("spin.toml", "director = { interfaces = [\"a\"], idle_spin_us = 9 }")
        .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.director.idle_spin_us, 9);
}

#[test]
fn tunnels_and_ports_of_all_kinds_arrive() {
    let method = |keys: &str| {
        let text = format!(
            "director = {{ interfaces = [\"a\"] }}\n[[service]]\nprotocol = \"udp\"\naddress = \"192.0.2.10:0\"\n\
             persistence = true\nforward = \"tun\"\n[[service.server]]\naddress = \"10.0.0.1\"\n{keys}"
        );
        let (config, _) = Config::parse("tun.toml", &text).unwrap_or_else(|e| panic!("{e}"));
        let Pool { service, servers } = config.wanted.pools[0].clone();
        assert_eq!(service.persistence.map(|p| p.timeout_s), Some(360));
        assert_eq!(servers[0].address, "10.0.0.1:0".parse().expect("an address"));
        servers[0].method
    };
    assert_eq!(method(""), Method::Tun(Tunnel::Ipip));
    assert_eq!(method("forward = \"dr\""), Method::Dr);
    let gue = method("tunnel = \"gue\"\ntunnel_port = 6080\ntunnel_checksum = \"remote\"");
    assert_eq!(gue, Method::Tun(Tunnel::Gue { port: 6080, checksum: TunnelChecksum::Remote }));
    let gre = method("tunnel = \"gre\"\ntunnel_checksum = \"full\"");
    assert_eq!(gre, Method::Tun(Tunnel::Gre { checksum: TunnelChecksum::Full }));
}

/// The keys of every table as the code itself lists them when one is unknown.
#[test]
fn every_key_of_the_schema_is_in_the_example() {
    let probe = "[director]\nzzzzzz = 1\n[api]\nzzzzzz = 1\n[timeouts]\nzzzzzz = 1\n[tunables]\nzzzzzz = 1\n\
                 [[mark]]\nzzzzzz = 1\n[[service]]\nzzzzzz = 1\n[[service.server]]\nzzzzzz = 1\n[zzzzzz]\n";
    let refusal = Config::parse("probe.toml", probe).expect_err("unknown keys").0;
    let schema: Vec<(&str, BTreeSet<&str>)> = refusal
        .problems()
        .iter()
        .filter_map(|p| {
            let table = p.message().strip_prefix("`zzzzzz` is not a ")?.split_once(" of ")?.1;
            Some((table, p.remedy()?.strip_prefix("known here: ")?.split(", ").collect()))
        })
        .collect();
    assert_eq!(schema.len(), 8, "{refusal}");

    let text = uncommented(|_, _| true);
    for (table, keys) in schema {
        let mut found = BTreeSet::new();
        let mut current = "the top of the file";
        for line in text.lines() {
            if let Some(key) = line.strip_prefix('[').map(|rest| rest.trim_matches(['[', ']'])) {
                let (parent, child) = match key.rsplit_once('.') {
                    Some((_, child)) => ("[[service]]", child),
                    None => ("the top of the file", key),
                };
                current = line;
                if table == parent {
                    found.insert(child);
                }
            } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#'))
                && current == table
            {
                found.insert(key);
            }
        }
        assert_eq!(found, keys, "keys of {table} in config/example.toml");
    }
}
