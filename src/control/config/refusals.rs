//! Every value that is refused, and every conflict: the table of what an operator gets to read.
//!
//! A line of TOML says itself what is expected of it: `#! part | part` wants exactly one problem on that
//! line whose text has all the parts. A second `#!` wants a second problem. `#!0` is for problems of the
//! whole file. Whatever is reported without being expected fails the test as well.

use super::{Config, Severity};

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
        Ok((_, warnings)) => warnings,
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
fn interfaces() {
    let lines = [
        "interfaces = [\"eth0\"]",
        "interfaces = [\"eth0\", \"bond0.100\", \"a-15-bytes-name\"]",
        "interfaces = [] #! error | lists 0 interfaces | 1 to 16",
        "interfaces = \"eth0\" #! error | interfaces = \"eth0\" is a text | square brackets",
        "interfaces = [\"eth0\", 1] #! error | interfaces = 1 is a whole number | quotes",
        "interfaces = [\"eth0\", \"eth1\", \"eth0\"] #! test.toml:2:31: | error | \"eth0\" twice | leave one",
        "interfaces = [\"a-16-bytes-name-\"] #! error | \"a-16-bytes-name-\" cannot be | 1 to 15",
        "interfaces = [\"\"] #! error | cannot be the name",
        "interfaces = [\"eth 0\"] #! error | cannot be the name",
        "interfaces = [\"eth/0\"] #! error | cannot be the name",
        "interfaces = [\"eth0:1\"] #! error | cannot be the name",
        "interfaces = [\"..\"] #! error | cannot be the name",
    ];
    each(&["[director]\n"], &lines, &[SERVICE, SERVER]);

    let many = |count: usize| {
        let names: Vec<_> = (0..count).map(|n| format!("\"eth{n}\"")).collect();
        format!("interfaces = [{}]", names.join(", "))
    };
    each(&["[director]\n"], &[&many(16)], &[SERVICE, SERVER]);
    let refused = many(17) + " #! error | lists 17 interfaces | 1 to 16";
    each(&["[director]\n"], &[&refused], &[SERVICE, SERVER]);
    each(
        &["[director] #! error | [director] has no `interfaces` | interfaces ="],
        &[""],
        &["\n", SERVICE, SERVER],
    );
}

#[test]
fn the_director() {
    let lines = [
        "xdp_mode = \"native\"",
        "xdp_mode = \"generic\"",
        "xdp_mode = \"skb\" #! error | xdp_mode = \"skb\" is unknown | auto, native, generic",
        "xdp_mode = \"Native\" #! error | did you mean \"native\"?",
        "xdp_mode = true #! error | xdp_mode = true is true or false | a text in quotes",
        "zero_copy = \"off\"",
        "zero_copy = \"require\"",
        "zero_copy = \"required\" #! error | did you mean \"require\"? | auto, require, off",
        "xdp_mode = \"generic\"\nzero_copy = \"require\" #! error | \"require\" cannot | \"generic\" | native",
        "cores = [0, 1023]",
        "cores = [] #! error | lists 0 cores | 1 to 1024",
        "cores = [1024] #! error | cores = 1024 is out of range | 0 to 1_023",
        "cores = [-1] #! error | cores = -1 is out of range | 0 to 1_023",
        "cores = [2, 3, 2] #! test.toml:3:16: | error | lists 2 twice",
        "cores = 2 #! error | cores = 2 is a whole number | list of cores",
        "cores = [\"2\"] #! error | cores = \"2\" is a text | without quotes",
        "busy_poll = true",
        "busy_poll = 1 #! error | busy_poll = 1 is a whole number | true or false",
        "busy_poll = \"true\" #! error | busy_poll = \"true\" is a text | true or false",
        "busy_poll = true\nidle_spin_us = 50 #! warning | no effect | busy_poll",
        "busy_poll = false\nidle_spin_us = 50",
        "idle_spin_us = 0",
        "idle_spin_us = 1_000_000",
        "idle_spin_us = 1_000_001 #! error | idle_spin_us = 1000001 is out of range | 0 to 1_000_000 micro",
        "idle_spin_us = -1 #! error | idle_spin_us = -1 is out of range",
        "connections = 1024",
        "connections = 67_108_864",
        "connections = 1023 #! error | connections = 1023 | 1_024 to 67_108_864 connections",
        "connections = 67_108_865 #! error | connections = 67108865 is out of range",
        "connections = 99999999999999999999999999999999999999999999 #! error | is out of range",
        "connections = 1e6 #! error | connections = 1e6 is a fraction | a whole number",
        "connections = 0x10000",
        "connections = 2026-01-01 #! error | is a date",
        "connections = {} #! error | is a table",
        "frame_bytes = 2048",
        "frame_bytes = 4096",
        "frame_bytes = 3072 #! error | frame_bytes = 3072 | 2048 or 4096 bytes",
        "frame_bytes = -4096 #! error | frame_bytes = -4096 | out of range",
        "ring_frames = 64",
        "ring_frames = 32_768",
        "ring_frames = 32 #! error | ring_frames = 32 is out of range | 64 to 32_768 frames",
        "ring_frames = 65536 #! error | ring_frames = 65536 is out of range",
        "ring_frames = 3000 #! error | ring_frames = 3000 is not a power of two | 2048 and 4096",
        "huge_pages = true",
        "huge_pages = \"yes\" #! error | huge_pages = \"yes\" is a text | true or false",
        "conections = 5000 #! error | `conections` is not a key of [director] | did you mean `connections`?",
        "mtu = 1500 #! error | `mtu` is not a key of [director] | known here: interfaces, xdp_mode,",
    ];
    each(&[DIRECTOR], &lines, &[SERVICE, SERVER]);
    each(&["#!0 error | no table `[director]` | example.toml"], &["\n"], &[SERVICE, SERVER]);
    each(&["director = 5 #! error | `director` is a whole number | [director]"], &["\n"], &[SERVICE, SERVER]);
    each(&["[[director]] #! error | `director` is a list | one `[director]`"], &["\n"], &[SERVICE, SERVER]);
}

#[test]
fn the_timeouts() {
    let lines = [
        "tcp = 1\ntcp_fin = 2_678_400\nudp = 7",
        "tcp = 0 #! error | tcp = 0 is out of range | 1 to 2_678_400 seconds",
        "tcp_fin = 2_678_401 #! error | tcp_fin = 2678401 is out of range | 1 to 2_678_400 seconds",
        "udp = \"300s\" #! error | udp = \"300s\" is a text | a whole number without quotes",
        "tcpfin = 120 #! error | `tcpfin` is not a key of [timeouts] | did you mean `tcp_fin`?",
    ];
    each(&[DIRECTOR, "[timeouts]\n"], &lines, &[SERVICE, SERVER]);
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
fn a_service() {
    let protocol = "protocol = \"tcp\"\n";
    let address = "address = \"192.0.2.10:80\"\n";
    let missing = "[[service]] #! error | [[service]] has no";
    each(&[DIRECTOR, missing], &[" `protocol`", " `protocol` | add a line"], &[address, SERVER]);
    each(&[DIRECTOR, missing], &[" `address`"], &[protocol, SERVER]);

    let protocols = [
        "protocol = \"udp\"",
        "protocol = \"TCP\" #! error | protocol = \"TCP\" is unknown | did you mean \"tcp\"? | tcp, udp",
        "protocol = \"icmp\" #! error | protocol = \"icmp\" is unknown | use one of: tcp, udp",
        "protocol = \"sctp\" #! error | protocol = \"sctp\" is not supported yet | tcp, udp",
        "protocol = 6 #! error | protocol = 6 is a whole number | quotes",
    ];
    each(&[DIRECTOR, "[[service]]\n", address], &protocols, &[SERVER]);

    let addresses = [
        "address = \"255.255.255.254:65535\"",
        "address = \"192.0.2.10\" #! error | \"192.0.2.10\": the port is missing | \"192.0.2.10:80\"",
        "address = \"192.0.2.10:0\" #! error | port 0 | persistence | not have yet | 1 to 65_535",
        "address = \"192.0.2.10:65536\" #! error | \"192.0.2.10:65536\" | from 1 to 65_535",
        "address = \"192.0.2.10:http\" #! error | \"192.0.2.10:http\" | the port is not a number",
        "address = \"192.0.2.256:80\" #! error | \"192.0.2.256:80\" | no IPv4 address",
        "address = \"www.example.com:80\" #! error | names are not resolved",
        "address = \"[2001:db8::1]:80\" #! error | \"[2001:db8::1]:80\" | IPv6 is not supported yet",
        "address = \"2001:db8::1\" #! error | IPv6 is not supported yet",
        "address = \"0.0.0.0:80\" #! error | 0.0.0.0/8 | unicast",
        "address = \"127.0.0.1:80\" #! error | 127.0.0.0/8 | this machine itself",
        "address = \"224.0.0.1:80\" #! error | multicast",
        "address = \"255.255.255.255:80\" #! error | broadcast",
        "address = 80 #! error | address = 80 is a whole number | quotes",
    ];
    each(&[DIRECTOR, "[[service]]\n", protocol], &addresses, &[SERVER]);

    let others = [
        "scheduler = \"rr\"",
        "scheduler = \"mh\"",
        "scheduler = \"wlcc\" #! error | scheduler = \"wlcc\" is unknown | did you mean \"wlc\"?",
        "scheduler_flags = []",
        "scheduler_flags = [\"sh-port\"] #! error | \"wlc\" has no flag \"sh-port\" | scheduler = \"sh\"",
        "scheduler = \"sh\"\nscheduler_flags = [\"sh-port\", \"sh-fallback\"]",
        "scheduler = \"sh\"\nscheduler_flags = [\"shport\"] #! error | did you mean \"sh-port\"?",
        "scheduler = \"sh\"\nscheduler_flags = [\"sh-port\", \"sh-port\"] #! error | \"sh-port\" twice",
        "scheduler = \"sh\"\nscheduler_flags = \"sh-port\" #! error | is a text | square brackets",
        "forward = \"nat\"",
        "forward = \"tun\" #! error | forward = \"tun\" is not supported yet | nat, dr",
        "forward = \"masq\" #! error | forward = \"masq\" is unknown | use one of: nat, dr",
        "persistence = 360 #! error | `persistence` is not a key of [[service]] | known here: protocol, address",
        "servers = [] #! error | `servers` is not a key of [[service]] | did you mean `server`?",
    ];
    each(&[DIRECTOR, SERVICE], &others, &[SERVER]);

    let server = "server = {} #! error | `server` is a table | [[service.server]]";
    each(&[DIRECTOR, SERVICE], &[server], &[]);
}

#[test]
fn a_server() {
    let addresses = [
        "address = \"10.0.0.1\"",
        "address = \"10.0.0.1:80\"",
        "forward = \"nat\"\naddress = \"10.0.0.1:8080\"",
        "address = \"10.0.0.1:8080\" #! error | 10.0.0.1:8080 has another port | 80 | \"dr\" | \"nat\"",
        "address = \"10.0.0.1:0\" #! error | port 0 | \"10.0.0.1\" alone",
        "address = \"10.0.0.1:99999\" #! error | from 1 to 65_535",
        "address = \"10.0.0\" #! error | no IPv4 address",
        "address = \"2001:db8::1\" #! error | \"2001:db8::1\" | IPv6 is not supported yet",
        "address = \"0.0.0.0\" #! error | 0.0.0.0/8",
        "address = \"127.0.0.1\" #! error | 127.0.0.0/8",
        "address = \"239.1.1.1\" #! error | multicast",
        "address = \"255.255.255.255\" #! error | broadcast",
        "address = \"192.0.2.10\" #! error | its own service: packets would loop | not the VIP",
        "forward = \"nat\"\naddress = \"192.0.2.10:81\" #! error | its own service",
    ];
    each(&[DIRECTOR, SERVICE, "[[service.server]]\n"], &addresses, &[]);
    let others = [
        "weight = 1",
        "weight = 65535",
        "weight = 2147483648 #! error | weight = 2147483648 is out of range | 0 to 2_147_483_647",
        "weight = -1 #! error | weight = -1 is out of range",
        "weight = \"1\" #! error | weight = \"1\" is a text | without quotes",
        "forward = \"fullnat\" #! error | not supported yet",
        "wieght = 3 #! error | `wieght` is not a key of [[service.server]] | did you mean `weight`?",
    ];
    each(&[DIRECTOR, SERVICE, SERVER], &others, &[]);
    let missing = "[[service.server]] #! error | [[service.server]] has no `address`";
    each(&[DIRECTOR, SERVICE], &[missing], &[]);
}

#[test]
fn conflicts_between_services_and_servers() {
    let cases = [
        "address = \"192.0.2.10:80\" #! error | TCP 192.0.2.10:80 is there already | first one",
        "address = \"192.0.2.10:81\"",
        "address = \"192.0.2.11:80\"",
    ];
    each(&[DIRECTOR, SERVICE, SERVER, "[[service]]\nprotocol = \"tcp\"\n"], &cases, &[SERVER]);
    let other_protocol = ["address = \"192.0.2.10:80\""];
    each(&[DIRECTOR, SERVICE, SERVER, "[[service]]\nprotocol = \"udp\"\n"], &other_protocol, &[SERVER]);

    let servers = [
        "address = \"10.0.0.1\" #! error | 10.0.0.1:80 is in this service already | larger weight",
        "address = \"10.0.0.1:80\" #! error | 10.0.0.1:80 is in this service already",
        "forward = \"nat\"\naddress = \"10.0.0.1:81\"",
        "address = \"10.0.0.2\"",
    ];
    each(&[DIRECTOR, SERVICE, SERVER, "[[service.server]]\n"], &servers, &[]);

    let empty = format!("{DIRECTOR}[[service]] #! warning | TCP 192.0.2.10:80 has no servers\n");
    each(&[&empty], &["protocol = \"tcp\"\naddress = \"192.0.2.10:80\""], &[]);
    let drained =
        format!("{DIRECTOR}[[service]] #! warning | TCP 192.0.2.10:80 takes no connection | weight 0\n");
    let rest = ["protocol = \"tcp\"\naddress = \"192.0.2.10:80\"\n", SERVER, "weight = 0\n"].concat();
    each(&[&drained], &[&rest], &[]);
    let not_drained = [&rest, "[[service.server]]\naddress = \"10.0.0.2\"\n"].concat();
    each(&[DIRECTOR, "[[service]]\n"], &[&not_drained], &[]);

    let other_vip = "[[service]]\nprotocol = \"udp\"\naddress = \"192.0.2.99:80\"\n[[service.server]]\n";
    let line = "address = \"192.0.2.10\" #! warning | 192.0.2.10:80 | another service | its own address";
    each(&[DIRECTOR, SERVICE, SERVER, other_vip], &[line], &[]);

    // The same NAT server in two services is legal.
    let nat = "forward = \"nat\"\n[[service.server]]\naddress = \"10.0.0.1:8080\"\n";
    let second = "[[service]]\nprotocol = \"tcp\"\naddress = \"192.0.2.10:81\"\n";
    each(&[DIRECTOR, SERVICE, nat, second], &[nat], &[]);
}

#[test]
fn more_than_the_limits() {
    use std::fmt::Write;
    let mut text = DIRECTOR.to_owned();
    for n in 0..=super::MAX_SERVICES {
        let mark =
            if n == super::MAX_SERVICES { " #! error | 16385 services are more than 16384" } else { "" };
        let (high, low) = (n / 256, n % 256);
        write!(text, "[[service]]{mark}\nprotocol = \"tcp\"\naddress = \"10.1.{high}.{low}:80\"\n{SERVER}")
            .expect("a String takes all");
    }
    each(&[&text], &[""], &[]);

    let mut text = [DIRECTOR, SERVICE].concat();
    for n in 0..=super::MAX_SERVERS {
        let mark = if n == super::MAX_SERVERS { " #! error | more than 65536 servers" } else { "" };
        let (high, low) = (n / 256, n % 256);
        writeln!(text, "[[service.server]]{mark}\naddress = \"10.{}.{}.{low}\"", high / 256 + 1, high % 256)
            .expect("a String takes all");
    }
    each(&[&text], &[""], &[]);
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
