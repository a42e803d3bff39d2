//! `config/example.toml` is documentation, so it is tested: complete, loadable, and true about defaults.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{Config, Director, Severity, Style, Timeouts, XdpMode, ZeroCopy};
use crate::director::sched::{Kind, Options};
use crate::director::service::{Method, Pool, Server, Service};

const EXAMPLE: &str = include_str!("../../../config/example.toml");

/// A line that is a key with its default, commented out: `#key = value`.
fn default_of(line: &str) -> Option<&str> {
    line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
}

fn example() -> Config {
    let (config, warnings) = Config::parse("example.toml", EXAMPLE).unwrap_or_else(|e| panic!("{e}"));
    assert!(warnings.is_empty(), "{warnings}");
    config
}

/// The example with those commented lines as keys for which `chosen` says yes.
fn uncommented(chosen: impl Fn(usize, &str) -> bool) -> String {
    let line = |(index, line): (usize, &'static str)| match default_of(line) {
        Some(key) if chosen(index, key) => key,
        _ => line,
    };
    EXAMPLE.lines().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_is_usable_and_its_commented_keys_are_at_their_defaults() {
    let config = example();
    assert_eq!(config.director, Director::new(vec!["eth0".into(), "eth1".into()]));
    assert_eq!(config.timeouts, Timeouts::default());
    assert_eq!(config.services.len(), 3);
    let methods: Vec<_> = config.services[2].servers.iter().map(|s| (s.address.port(), s.method)).collect();
    assert_eq!(methods, [(53, Method::Nat), (53, Method::Dr)]);
    assert!(config.services[2].service.options.port && !config.services[2].service.options.fallback);
}

#[test]
fn every_commented_default_is_the_one_of_the_code() {
    let mut tried = 0;
    for (index, line) in EXAMPLE.lines().enumerate() {
        // The cores' default is derived from the machine: the line is an example, and says so.
        let Some(key) = default_of(line).filter(|key| !key.starts_with("cores ")) else { continue };
        let (config, warnings) = Config::parse("example.toml", &uncommented(|i, _| i == index))
            .unwrap_or_else(|errors| panic!("{key}: {errors}"));
        assert!(warnings.is_empty(), "{key}: {warnings}");
        assert_eq!(config, example(), "`{key}` is not the default");
        tried += 1;
    }
    assert_eq!(tried, 16, "keys with a constant default");
    let (all, _) = Config::parse("example.toml", &uncommented(|_, _| true)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(all.director.cores, Some(vec![2, 3]));
}

#[test]
fn every_value_arrives_in_its_own_field() {
    let text = r#"
        [director]
        interfaces = ["eth1", "eth0"]
        xdp_mode = "native"
        zero_copy = "require"
        cores = [3, 2]
        busy_poll = true
        connections = 1_025
        frame_bytes = 2048
        ring_frames = 512
        huge_pages = true
        [timeouts]
        tcp = 1
        tcp_fin = 2
        udp = 3
        [[service]]
        protocol = "udp"
        address = "192.0.2.10:53"
        scheduler = "sh"
        scheduler_flags = ["sh-fallback"]
        forward = "nat"
        server = [{ address = "10.0.0.2:54", weight = 0 }, { address = "10.0.0.1", weight = 7, forward = "dr" }]
    "#;
    let (config, warnings) = Config::parse("all.toml", text).unwrap_or_else(|e| panic!("{e}"));
    assert!(warnings.is_empty(), "{warnings}");
    let server = |address: &str, weight, method| Server {
        weight,
        ..Server::new(address.parse().expect("an address"), method)
    };
    let expected = Config {
        director: Director {
            interfaces: vec!["eth1".into(), "eth0".into()],
            xdp_mode: XdpMode::Native,
            zero_copy: ZeroCopy::Require,
            cores: Some(vec![3, 2]),
            busy_poll: true,
            idle_spin_us: 50,
            connections: 1_025,
            frame_bytes: 2048,
            ring_frames: 512,
            huge_pages: true,
        },
        timeouts: Timeouts { tcp_s: 1, tcp_fin_s: 2, udp_s: 3 },
        services: vec![Pool {
            service: Service {
                scheduler: Kind::Sh,
                options: Options { fallback: true, ..Options::default() },
                ..Service::new("udp:192.0.2.10:53".parse().expect("a name"))
            },
            servers: vec![server("10.0.0.2:54", 0, Method::Nat), server("10.0.0.1:53", 7, Method::Dr)],
        }],
    };
    assert_eq!(config, expected);
    let (config, _) = Config::parse("spin.toml", "director = { interfaces = [\"a\"], idle_spin_us = 9 }")
        .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.director.idle_spin_us, 9);
}

/// The keys of every table as the code itself lists them when one is unknown.
#[test]
fn every_key_of_the_schema_is_in_the_example() {
    let probe = "[director]\nzzzzzz = 1\n[timeouts]\nzzzzzz = 1\n\
                 [[service]]\nzzzzzz = 1\n[[service.server]]\nzzzzzz = 1\n[zzzzzz]\n";
    let refusal = Config::parse("probe.toml", probe).expect_err("unknown keys").0;
    let schema: Vec<(&str, BTreeSet<&str>)> = refusal
        .problems()
        .iter()
        .filter_map(|p| {
            let table = p.message().strip_prefix("`zzzzzz` is not a ")?.split_once(" of ")?.1;
            Some((table, p.remedy()?.strip_prefix("known here: ")?.split(", ").collect()))
        })
        .collect();
    assert_eq!(schema.len(), 5, "{refusal}");

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

/// One careless edit: at a place (in thousandths of the text), take some bytes away and put a text in.
fn edit() -> impl Strategy<Value = (usize, usize, String)> {
    let fragment = prop_oneof![
        proptest::sample::select(vec![
            "",
            "\"",
            "'",
            "'''",
            "[",
            "]",
            "[[",
            "]]",
            "{",
            "}",
            "=",
            ",",
            "\n",
            "\r\n",
            "#",
            ".",
            "-",
            "0",
            "9999999999999999999999",
            "1e400",
            "nan",
            "true",
            "\"10.0.0.1\"",
            "\"[::1]:80\"",
            "[[service]]\n",
            "[director]\n",
            "server = [1]\n",
            "\u{0}",
            "\u{fffd}",
            "é",
            "\\",
            "\\u00",
            "a.b.c = 1\n",
        ])
        .prop_map(str::to_owned),
        ".{0,12}",
    ];
    (0..1000usize, prop_oneof![3 => 0..4usize, 1 => 0..400usize], fragment)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn careless_edits_are_refused_or_usable_but_never_a_panic(
        dense in any::<bool>(),
        edits in proptest::collection::vec(edit(), 1..8),
    ) {
        let mut bytes = uncommented(|_, _| true).into_bytes();
        if dense {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let keys: Vec<_> = text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).collect();
            bytes = keys.join("\n").into_bytes();
        }
        for (place, taken, put) in edits {
            let from = bytes.len() * place / 1000;
            let to = (from + taken).min(bytes.len());
            bytes.splice(from..to, put.into_bytes());
        }
        let text = String::from_utf8_lossy(&bytes);
        let report = match Config::parse("edited.toml", &text) {
            Ok((config, warnings)) => {
                prop_assert_eq!(warnings.count(Severity::Error), 0);
                prop_assert!(super::CONNECTIONS.contains(&config.director.connections));
                warnings
            }
            Err(errors) => {
                prop_assert!(errors.0.count(Severity::Error) > 0, "refused without a reason");
                errors.0
            }
        };
        let lines = text.split('\n').count();
        for problem in report.problems() {
            prop_assert!(problem.line() <= lines, "line {} of {lines}", problem.line());
        }
        for style in [Style::Colour, Style::Plain, Style::Ascii] {
            prop_assert_eq!(report.is_empty(), report.render(style).is_empty());
        }
    }
}
