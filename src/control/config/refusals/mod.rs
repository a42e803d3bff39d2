//! Every value that is refused, and every conflict: the table of what an operator gets to read.
//!
//! A line of TOML says itself what is expected of it: `#! part | part` wants exactly one problem on that
//! line whose text has all the parts. A second `#!` wants a second problem. `#!0` is for problems of the
//! whole file. Whatever is reported without being expected fails the test as well; and whatever is read is given to a
//! director, which must take it.

mod machine;
mod services;

use super::{Config, Severity};
use crate::director::conn::state;
use crate::director::services::Services;

const DIRECTOR: &str = "[director]\ninterfaces = [\"eth0\"]\n";
const SERVICE: &str = "[[service]]\nprotocol = \"tcp\"\naddress = \"192.0.2.10:80\"\n";
const SERVER: &str = "[[service.server]]\naddress = \"10.0.0.1\"\n";

/// Compares what is reported with what the text expects; returns the differences.
fn differences(text: &str) -> Vec<String> {
    let mut expected: Vec<(usize, Vec<&str>)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for mark in line.split("#!").skip(1) {
            let (line, mark) = mark.strip_prefix('0').map_or((index + 1, mark), |whole| (0, whole));
            expected.push((line, mark.split('|').map(str::trim).collect()));
        }
    }
    let report = match Config::parse("test.toml", text) {
        Ok((config, warnings)) => {
            let taken = Services::new(&config.wanted.pools, state::Timeouts::default());
            assert!(taken.is_ok(), "read, but the director refuses it: {:?}\n{text}", taken.err());
            warnings
        }
        Err(errors) => errors.0,
    };
    let mut differences = Vec::new();
    for (problem, shown) in report.problems().iter().zip(report.lines()) {
        let fits = |(line, parts): &(usize, Vec<&str>)| {
            *line == problem.line() && parts.iter().all(|part| shown.contains(part))
        };
        match expected.iter().position(fits) {
            Some(index) => drop(expected.remove(index)),
            None => differences.push(format!("not expected: {shown}")),
        }
        if problem.remedy().is_none() {
            differences.push(format!("without a cure: {shown}"));
        }
    }
    differences
        .extend(expected.iter().map(|(line, parts)| format!("not reported on line {line}: {parts:?}")));
    if !differences.is_empty() {
        differences.push(format!("--- the text was:\n{text}"));
    }
    differences
}

/// Each of `lines` is tried by itself, with `before` and `after` around it.
#[track_caller]
fn each(before: &[&str], lines: &[&str], after: &[&str]) {
    let differences: Vec<_> = lines
        .iter()
        .flat_map(|line| differences(&format!("{}{line}\n{}", before.concat(), after.concat())))
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn the_top() {
    let lines = [
        "#!0 warning | there is no service | add a [[service]]",
        "service = [] #!0 warning | there is no service",
        "service = [1] #! error | an item of `service` is a whole number | write `[[service]]`",
        "service = 1 #! error | `service` is a whole number | [[service]]",
        "[service] #! error | `service` is a table | [[service]] | two brackets",
        "[[services]] #! error | `services` is not a key | did you mean `service`?\n#!0 warning | there is no",
        "[timeout] #! error | `timeout` is not a table of the top | did you mean `timeouts`?\n#!0 warning",
    ];
    for line in lines {
        each(&[line], &["\n"], &["[director]\ninterfaces = [\"eth0\"]\n"]);
    }
}

#[test]
fn tables_that_users_of_lvs_expect() {
    let lines = [
        "[[virtual_server]] #! error | `virtual_server` is not a key | did you mean `service`?",
        "[[server]] #! error | `server` is not a key of the top | write `[[service.server]]` below",
        "[[real_server]] #! error | `real_server` is not a key | write `[[service.server]]` below",
        "[[marks]] #! error | `marks` is not a key | did you mean `mark`?",
        "[tunable] #! error | `tunable` is not a table | did you mean `tunables`?",
        "interfaces = [\"eth0\"] #! error | `interfaces` is not a key of the top | below `[director]`",
    ];
    for line in lines {
        each(&[line], &["\n"], &[DIRECTOR, SERVICE, SERVER]);
    }
    let servers =
        "[[service.servers]] #! error | `servers` is not a key of [[service]] | did you mean `server`?\n";
    let empty = "[[service]] #! warning | has no servers\nprotocol = \"tcp\"\naddress = \"192.0.2.10:80\"\n";
    each(&[DIRECTOR, empty], &[servers], &[]);
    let first = "[[service.server]] #! error | `service` is a table | stands before | [[service]]\naddress = \"10.0.0.1\"\n";
    each(&[DIRECTOR], &[first], &[]);
}

#[test]
fn what_a_terminal_would_obey_is_never_shown_as_it_is() {
    let text =
        "[director]\ninterfaces = [\"\\u001b[2J\"]\n# \u{202e}\n[api]\nsocket = \"a\\nb\"\nx = \u{1b}[31m\n";
    let broken = Config::parse("\u{1b}[2J.toml", text).expect_err("not TOML").0;
    let whole = text.replace("\nx = \u{1b}[31m", "");
    let wrong = Config::parse("b.toml", &whole).expect_err("two values are wrong").0;
    assert_eq!(wrong.count(Severity::Error), 2, "{wrong}");
    for report in [&broken, &wrong] {
        for style in [super::Style::Plain, super::Style::Ascii] {
            let shown = report.render(style) + &report.to_string().replace('\n', " ") + report.name();
            assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
            assert!(!shown.contains('\u{202e}'), "{shown:?}");
        }
    }
    assert!(broken.to_string().starts_with("\\u{1b}[2J.toml:6:6: error: this is not TOML"), "{broken}");
    assert!(wrong.to_string().contains("\"\\u{1b}[2J\" cannot be the name"), "{wrong}");
    assert!(wrong.to_string().contains("\"a\\nb\" is no absolute path"), "{wrong}");
}

#[test]
fn text_that_is_not_toml() {
    let lines = [
        "xdp_mode = native #! error | `native` is a text without quotes | write \"native\"",
        "xdp_mode = auto #! error | `auto` is a text without quotes",
        "zero_copy = off #! error | `off` is a text without quotes",
        "interfaces = [eth0] #! error | `eth0` is a text without quotes",
        "connections = 1__0 #! error | this is not TOML | toml.io",
        "connections == 1 #! error | this is not TOML",
        "cores #! error | this is not TOML",
        "xdp_mode = \"auto #! error | this is not TOML",
    ];
    each(&["[director]\n"], &lines, &[SERVICE, SERVER]);
    let address = "address = 192.0.2.10:80 #! error | `192.0.2.10:80` is a text without quotes";
    each(&[DIRECTOR, "[[service]]\n"], &[address], &[]);
    let address = "address = 10.0.0.1 #! error | `10.0.0.1` is a text without quotes";
    each(&[DIRECTOR, SERVICE, "[[service.server]]\n"], &[address], &[]);
}

#[test]
fn after_broken_syntax_only_the_first_place_is_reported() {
    let text = "[director]\ninterfaces = [\"eth0\"\nxdp_mode = = \"native\"\n[[service]]\nport = \"\n";
    let report = Config::parse("test.toml", text).expect_err("not TOML").0;
    assert_eq!(report.problems().len(), 1, "{report}");
    assert_eq!(report.problems()[0].line(), 3, "{report}");
}

#[test]
fn keys_and_tables_given_twice_do_not_hide_other_errors() {
    let twice = "interfaces = [\"eth1\"] #! error | `interfaces` is here for the second time | leave one";
    let table = "[director] #! error | `director` is here for the second time\nring_frames = 3 #! error | out of range\n";
    each(&[DIRECTOR], &[twice], &["connections = 1 #! error | out of range\n", SERVICE, SERVER, table]);
}

#[test]
fn all_errors_of_a_file_are_reported_at_once_in_its_order() {
    let text = r#"
[director]
interfaces = ["eth0", "eth0"]           #! "eth0" twice
xdp_mod = "native"                      #! did you mean `xdp_mode`?
connections = 12                        #! connections = 12 is out of range
ring_frames = 100                       #! 64 and 128
[timeouts]
tcp = 0                                 #! tcp = 0
[[service]]                             #! has no `protocol`
address = "192.0.2.10:80"
  [[service.server]]
  address = "10.0.0.1"
  weight = 3000000000                        #! weight = 3000000000
  [[service.server]]
  address = "10.0.0.1:80"               #! is in this service already
  wight = 1                             #! did you mean `weight`?
[[service]]                             #! warning | has no servers
protocol = "tcp"
address = "192.0.2.10:80"
[[service]]
protocol = "tcp"
address = "192.0.2.10:80"               #! is there already
scheduler = "hm"                        #! is unknown
  [[service.server]]
  address = "10.0.0.1:81"               #! has another port
"#;
    each(&[text], &[""], &[]);
    let report = Config::parse("test.toml", text).expect_err("full of errors").0;
    assert_eq!((report.count(Severity::Error), report.count(Severity::Warning)), (12, 1));
    assert!(report.problems().is_sorted_by_key(|p| (p.line(), p.column())), "{report}");
}
