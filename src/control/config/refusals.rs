//! Every value that is refused, and every conflict: the table of what an operator gets to read.
//!
//! A line of TOML says itself what is expected of it: `#! part | part` wants exactly one problem on that
//! line whose text has all the parts. A second `#!` wants a second problem. `#!0` is for problems of the
//! whole file. Whatever is reported without being expected fails the test as well.

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
        "watch = true",
        "watch = 1 #! error | watch = 1 is a whole number | true or false",
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
        "address = \"223.255.255.254:65535\"",
        "address = \"240.0.0.1:80\" #! warning | 240.0.0.0/4 | unicast",
        "address = \"192.0.2.10\" #! error | \"192.0.2.10\": the port is missing | \"192.0.2.10:80\"",
        "address = \"192.0.2.10:0\" #! error | port 0 | every port | needs persistence | 1 to 65_535",
        "persistence = false\naddress = \"192.0.2.10:0\" #! error | needs persistence",
        "persistence = true\naddress = \"192.0.2.10:0\"",
        "address = \"192.0.2.10:65536\" #! error | \"192.0.2.10:65536\" | from 1 to 65_535",
        "address = \"192.0.2.10:http\" #! error | \"192.0.2.10:http\" | the port is not a number",
        "address = \"192.0.2.256:80\" #! error | \"192.0.2.256:80\" | no IPv4 address",
        "address = \"www.example.com:80\" #! error | names are not resolved",
        "address = \"[2001:db8::1]:80\" #! error | \"[2001:db8::1]:80\" | IPv6 is not supported yet",
        "address = \"2001:db8::1\" #! error | IPv6 is not supported yet",
        "address = \"0.0.0.0:80\" #! warning | 0.0.0.0/8 | unicast",
        "address = \"127.0.0.1:80\" #! warning | 127.0.0.0/8 | this machine itself",
        "address = \"224.0.0.1:80\" #! warning | multicast",
        "address = \"255.255.255.255:80\" #! warning | broadcast",
        "address = 80 #! error | address = 80 is a whole number | quotes",
    ];
    each(&[DIRECTOR, "[[service]]\n", protocol], &addresses, &[SERVER]);

    let others = [
        "scheduler = \"rr\"",
        "scheduler = \"fifo\" #! error | scheduler = \"fifo\" is unknown | rr, wrr, lc, wlc",
        "scheduler = \"wlcc\" #! error | scheduler = \"wlcc\" is unknown | did you mean \"wlc\"?",
        "scheduler_flags = []",
        "scheduler_flags = [\"sh-port\"] #! error | \"wlc\" has no flag \"sh-port\" | scheduler = \"sh\"",
        "scheduler_flags = [\"flag-2\"] #! warning | \"wlc\" does not look at flag \"flag-2\" | leave it out",
        "scheduler_flags = [\"flag2\"] #! error | \"flag2\" is unknown | did you mean \"flag-2\"?",
        "scheduler = \"sh\"\nscheduler_flags = [\"flag-2\"]",
        "scheduler = \"sh\"\nscheduler_flags = [\"flag-2\", \"sh-port\"] #! error | \"sh-port\" twice",
        "scheduler = \"sh\"\nscheduler_flags = [\"flag-3\"] #! warning | \"sh\" does not look at flag \"flag-3\"",
        "scheduler = \"sh\"\nscheduler_flags = [\"sh-port\", \"sh-fallback\"]",
        "scheduler = \"sh\"\nscheduler_flags = [\"shport\"] #! error | did you mean \"sh-port\"?",
        "scheduler = \"sh\"\nscheduler_flags = [\"sh-port\", \"sh-port\"] #! error | \"sh-port\" twice",
        "scheduler = \"sh\"\nscheduler_flags = \"sh-port\" #! error | is a text | square brackets",
        "forward = \"nat\"",
        "forward = \"fullnat\" #! error | forward = \"fullnat\" is not supported yet | nat, dr, tun",
        "forward = \"masq\" #! error | forward = \"masq\" is unknown | did you mean \"nat\"? use one of: nat, dr, tun",
        "forward = \"gatewaying\" #! error | did you mean \"dr\"?",
        "persistence = 360",
        "persistence = true",
        "persistence = 0 #! error | persistence = 0 is out of range | 1 to 2_678_400 seconds",
        "persistence = 2_678_401 #! error | persistence = 2678401 is out of range",
        "persistence = \"360\" #! error | persistence = \"360\" is a text | seconds without quotes, or true for 360",
        "persistence = 360\npersistence_netmask = \"255.255.255.0\"",
        "persistence = 360\npersistence_netmask = \"0.0.0.0\"",
        "persistence = 360\npersistence_netmask = \"0.0.0.255\" #! warning | no network's mask | 255.255.255.0",
        "persistence = 360\npersistence_netmask = \"/28\" #! error | \"/28\" is no netmask | \"255.255.255.240\"",
        "persistence = 360\npersistence_netmask = 24 #! error | is a whole number | quotes",
        "persistence_netmask = \"255.255.255.0\" #! error | without persistence | persistence = true",
        "persistent = 360 #! error | `persistent` is not a key | did you mean `persistence`?",
        "persistence_timeout = 360 #! error | did you mean `persistence`?",
        "netmask = \"255.255.255.0\" #! error | did you mean `persistence_netmask`?",
        "one_packet = false",
        "one_packet = true #! error | one_packet = true | protocol = \"tcp\" | only UDP",
        "ops = true #! error | did you mean `one_packet`?",
        "lb_algo = \"rr\" #! error | `lb_algo` is not a key of [[service]] | did you mean `scheduler`?",
        "port = 80 #! error | did you mean `address`?",
        "weight = 1 #! error | `weight` is not a key of [[service]] | below its `[[service.server]]`",
        "family = \"ipv4\" #! error | family is for services of a mark | the address tells",
        "zzzzzz = 1 #! error | `zzzzzz` is not a key of [[service]] | known here: family, mark, protocol, address",
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
        "address = \"10.0.0.1:0\" #! error | 10.0.0.1:0 has another port | 80 | \"10.0.0.1\"",
        "forward = \"nat\"\naddress = \"10.0.0.1:0\" #! warning | port 0 | packet's own port | \"10.0.0.1\"",
        "address = \"240.0.0.1\" #! error | 240.0.0.0/4",
        "address = \"10.0.0.1:99999\" #! error | from 1 to 65_535",
        "address = \"10.0.0\" #! error | no IPv4 address",
        "address = \"2001:db8::1\" #! error | \"2001:db8::1\" | IPv6 is not supported yet",
        "address = \"0.0.0.0\" #! error | 0.0.0.0/8",
        "address = \"127.0.0.1\" #! warning | 127.0.0.0/8",
        "address = \"239.1.1.1\" #! error | multicast",
        "address = \"255.255.255.255\" #! error | broadcast",
        "address = \"192.0.2.10\" #! warning | its own service: packets would loop | not the VIP",
        "forward = \"nat\"\naddress = \"192.0.2.10:81\" #! warning | its own service",
    ];
    each(&[DIRECTOR, SERVICE, "[[service.server]]\n"], &addresses, &[]);
    let others = [
        "weight = 1",
        "weight = 65535",
        "weight = 2147483648 #! error | weight = 2147483648 is out of range | 0 to 2_147_483_647",
        "weight = -1 #! error | weight = -1 is out of range",
        "weight = \"1\" #! error | weight = \"1\" is a text | without quotes",
        "forward = \"fullnat\" #! error | not supported yet",
        "upper_threshold = 4_294_967_295\nlower_threshold = 4_294_967_295",
        "upper_threshold = -1 #! error | upper_threshold = -1 is out of range | 0 to 4_294_967_295 connections",
        "upper_threshold = 5\nlower_threshold = 6 #! error | lower_threshold = 6 is above upper_threshold = 5",
        "lower_threshold = 6 #! error | lower_threshold = 6 is above upper_threshold = 0",
        "uthreshold = 5 #! error | did you mean `upper_threshold`?",
        "tunnel = \"gue\" #! error | tunnel has no meaning with forward = \"dr\" | forward = \"tun\"",
        "tunnel_port = 6080 #! error | tunnel_port has no meaning with forward = \"dr\"",
        "forward = \"nat\"\ntunnel_checksum = \"full\" #! error | tunnel_checksum has no meaning | \"nat\"",
        "wieght = 3 #! error | `wieght` is not a key of [[service.server]] | did you mean `weight`?",
    ];
    each(&[DIRECTOR, SERVICE, SERVER], &others, &[]);
    let missing = "[[service.server]] #! error | [[service.server]] has no `address`";
    each(&[DIRECTOR, SERVICE], &[missing], &[]);
}

#[test]
fn a_tunnel() {
    let address =
        "address = \"10.0.0.1\" #! warning | forward = \"tun\" is not there yet | \"dr\" or \"nat\"\n";
    let lines = [
        "",
        "tunnel = \"ipip\"",
        "tunnel = \"gue\"\ntunnel_port = 1\ntunnel_checksum = \"remote\"",
        "tunnel = \"gre\"\ntunnel_checksum = \"full\"",
        "tunnel = \"gre\"\ntunnel_checksum = \"remote\" #! warning | no effect with tunnel = \"gre\" | \"full\"",
    ];
    each(&[DIRECTOR, SERVICE, "[[service.server]]\nforward = \"tun\"\n", address], &lines, &[]);
    let v6 = "address = \"[2001:db8::1]:80\" #! warning | not there yet";
    each(&[DIRECTOR, SERVICE, "forward = \"tun\"\n[[service.server]]\n"], &[v6], &[]);
    let port = "address = \"10.0.0.1:81\" #! error | another port | 80 | \"tun\"  #! warning | not there yet";
    each(&[DIRECTOR, SERVICE, "forward = \"tun\"\n[[service.server]]\n"], &[port], &[]);

    let refused = [
        "tunnel = \"gue\" #! error | tunnel = \"gue\" needs a tunnel_port | 6080",
        "tunnel = \"gre\"\ntunnel_port = 6080 #! error | tunnel_port is of \"gue\" only",
        "tunnel_port = 6080 #! error | tunnel_port has no meaning with tunnel = \"ipip\"",
        "tunnel_checksum = \"none\" #! error | tunnel_checksum has no meaning with tunnel = \"ipip\"",
        "tunnel = \"gue\"\ntunnel_port = 0 #! error | tunnel_port = 0 is out of range | 1 to 65_535",
        "tunnel = \"gue\"\ntunnel_port = 6080\ntunnel_checksum = \"csum\" #! error | did you mean \"full\"?",
        "tunnel = \"vxlan\" #! error | tunnel = \"vxlan\" is unknown | ipip, gue, gre",
    ];
    each(&[DIRECTOR, SERVICE, SERVER, "forward = \"tun\"\n"], &refused, &[]);
    let many = "address = \"10.0.0.1\" #! warning | for this server are dropped, and those of 2 more\n";
    let more = "[[service.server]]\naddress = \"10.0.0.2\"\n[[service.server]]\naddress = \"10.0.0.3\"\n";
    each(&[DIRECTOR, SERVICE, "forward = \"tun\"\n[[service.server]]\n"], &[many], &[more]);
}

#[test]
fn services_of_marks_and_of_all_ports() {
    let rule = "[[mark]]\nmark = 5\nprotocol = \"tcp\"\ndestination = \"192.0.2.20\"\n";
    let lines = [
        "mark = 5",
        "mark = 5\nfamily = \"ipv4\"\none_packet = true\npersistence = 5",
        "mark = 5\nfamily = \"ipv6\" #! error | family = \"ipv6\" is not supported yet | ipv4",
        "mark = 5\nfamily = \"inet\" #! error | family = \"inet\" is unknown | ipv4",
        "mark = 5\nprotocol = \"tcp\" #! error | has a mark or a protocol, not both | leave out",
        "mark = 5\naddress = \"192.0.2.10:80\" #! error | has a mark or an address, not both",
        "fwmark = 5 #! error | `fwmark` is not a key of [[service]] | did you mean `mark`?",
    ];
    each(&[rule, DIRECTOR, "[[service]]\n"], &lines[..6], &[SERVER]);
    let missing = "[[service]] #! error | no `protocol` #! error | no `address`\n";
    let idle = "[[mark]]\nmark = 5 #! warning | no service has mark = 5 | [[service]] with mark = 5\nprotocol = \"tcp\"\n";
    each(&[idle, "destination = \"192.0.2.20\"\n", DIRECTOR, missing], &lines[6..], &[SERVER]);
    let out = ["mark = 0 #! error | mark = 0 is out of range | 1 to 4_294_967_295"];
    each(&[idle, "destination = \"192.0.2.20\"\n", DIRECTOR, "[[service]]\n"], &out, &[SERVER]);
    let alone = ["mark = 7 #! warning | fwm:7 gets no packets | a [[mark]] with mark = 7"];
    each(&[DIRECTOR, "[[service]]\n"], &alone, &[SERVER]);
    let twice = ["[[service]]\nmark = 5 #! error | fwm:5 is there already"];
    each(&[rule, DIRECTOR, "[[service]]\nmark = 5\n", SERVER], &twice, &[SERVER]);

    let servers = [
        "address = \"10.0.0.1\"",
        "address = \"10.0.0.1:0\"",
        "address = \"10.0.0.1:80\" #! error | 10.0.0.1:80 has a port, but its service | all | \"10.0.0.1\"",
        "forward = \"nat\"\naddress = \"10.0.0.1:80\"",
        "forward = \"nat\"\naddress = \"10.0.0.1\"",
    ];
    each(&[rule, DIRECTOR, "[[service]]\nmark = 5\n[[service.server]]\n"], &servers, &[]);
    let whole =
        "[[service]]\nprotocol = \"udp\"\naddress = \"192.0.2.10:0\"\npersistence = 9\n[[service.server]]\n";
    each(&[DIRECTOR, whole], &servers, &[]);
}

#[test]
fn mark_rules() {
    let rule = "[[mark]]\nmark = 5\nprotocol = \"tcp\"\n";
    let service = "[[service]]\nmark = 5\n";
    let lines = [
        "destination = \"192.0.2.20\"",
        "destination = \"192.0.2.0/24\"\nports = \"80\"\nsource = \"198.51.100.0/24\"",
        "destination = \"192.0.2.20/24\" #! warning | first 24 bits | \"192.0.2.0/24\" | \"192.0.2.20\"",
        "destination = \"192.0.2.0/33\" #! error | no IPv4 address or network | 192.0.2.0/24",
        "destination = \"2001:db8::/64\" #! error | IPv6 is not supported yet",
        "destination = \"192.0.2.20\"\nports = \"8000-8999\"",
        "destination = \"192.0.2.20\"\nports = \"0-65535\"",
        "destination = \"192.0.2.20\"\nports = \"9-8\" #! error | ports = \"9-8\" is no range | smaller number first",
        "destination = \"192.0.2.20\"\nports = \"65536\" #! error | no range of ports | 0 to 65_535",
        "destination = \"192.0.2.20\"\nports = \"+80\" #! error | no range of ports",
        "destination = \"192.0.2.20\"\nports = 80 #! error | ports = 80 is a whole number | quotes",
        "destination = \"192.0.2.20\"\nport = \"80\" #! error | `port` is not a key of [[mark]] | did you mean `ports`?",
        "destination = \"192.0.2.20\"\nsource = \"::1\" #! error | source = \"::1\": IPv6",
    ];
    each(&[rule], &lines, &[DIRECTOR, service, SERVER]);
    each(
        &["[[mark]] #! error | no `destination`\nmark = 5\nprotocol = \"tcp\""],
        &["\n"],
        &[DIRECTOR, service, SERVER],
    );
    let protocol = "[[mark]]\nmark = 5\ndestination = \"192.0.2.20\"\n";
    let lines = ["protocol = \"udp\"", "protocol = \"sctp\" #! error | not supported yet | tcp, udp"];
    each(&[protocol], &lines, &[DIRECTOR, service, SERVER]);
    let single = "[mark] #! error | `mark` is a table | [[mark]] | two brackets\nmark = 5";
    each(&[single], &["\n"], &[DIRECTOR, SERVICE, SERVER]);

    let first = "destination = \"192.0.2.0/24\"\nports = \"80-90\"\n";
    let after =
        ["destination = \"192.0.2.1\"\nports = \"80-91\"", "destination = \"192.0.0.0/16\"\nports = \"80\""];
    each(&[rule, first, rule], &after, &[DIRECTOR, service, SERVER]);
    let covered = "[[mark]] #! warning | no effect: an earlier one | first rule that fits\nmark = 5\nprotocol = \"tcp\"\n";
    let after = ["destination = \"192.0.2.1\"\nports = \"80\"\nsource = \"10.0.0.0/8\"", first];
    each(&[rule, first, covered], &after, &[DIRECTOR, service, SERVER]);

    let other = |n: usize| format!("{rule}destination = \"192.0.2.{n}\"\n");
    let many: String = (0..64).map(other).collect();
    each(&[&many], &[""], &[DIRECTOR, service, SERVER]);
    let last = other(64).replace("[[mark]]", "[[mark]] #! error | 65 mark rules are more than 64 | networks");
    each(&[&many, &last], &[""], &[DIRECTOR, service, SERVER]);
}

#[test]
fn the_tunables() {
    let lines = [
        "conn_reuse_mode = 3\nexpire_nodest_conn = 1\nexpire_quiescent_template = 1\nsloppy_tcp = 1",
        "conn_reuse_mode = 4 #! error | conn_reuse_mode = 4 is out of range | 0 to 3",
        "sloppy_tcp = true #! error | sloppy_tcp = true is true or false | a whole number",
        "expire_nodest = 1 #! error | `expire_nodest` is not a key of [tunables] | did you mean `expire_nodest_conn`?",
    ];
    each(&[DIRECTOR, "[tunables]\n"], &lines, &[SERVICE, SERVER]);
}

#[test]
fn the_api() {
    let long = format!("socket = \"/{}\" #! error | is too long | 107 bytes", "x".repeat(107));
    let lines = [
        "socket = \"/run/xvs.sock\"",
        "socket = \"xvs.sock\" #! error | \"xvs.sock\" is no absolute path | /run/xvs/xvs.sock",
        "socket = \"\" #! error | is no absolute path",
        "socket = \"/run/xvs/\" #! error | is a directory",
        "socket = \"/run/\\u0000\" #! error | \"/run/\\u{0}\" has control characters",
        &long,
        "mode = \"0600\"",
        "mode = \"777\" #! warning | mode = \"777\" | everyone on this machine | \"0660\"",
        "mode = 660 #! error | mode = 660 is a whole number | octal digits in quotes | \"0660\"",
        "mode = \"0680\" #! error | mode = \"0680\" | octal",
        "mode = \"1777\" #! error | mode = \"1777\" | \"0777\"",
        "mode = \"+660\" #! error | mode = \"+660\"",
        "group = \"lvs\"",
        "group = \"\" #! error | \"\" cannot be the name of a group",
        "group = \"a b\" #! error | \"a b\" cannot be the name of a group | getent",
        "token_file = \"/etc/xvs/token\" #! warning | no effect without listen",
        "token_file = \"token\" #! error | no absolute path",
        "listen = \"127.0.0.1:8080\" #! error | listen needs a token_file | token_file = \"/etc/xvs/token\"",
        "listen = \"127.0.0.1:8080\"\ntoken_file = \"/t\"",
        "listen = \"[::1]:8080\"\ntoken_file = \"/t\"",
        "token_file = \"/t\"\nlisten = \"0.0.0.0:8080\" #! warning | \"0.0.0.0:8080\" | unencrypted | 127.0.0.1",
        "token_file = \"/t\"\nlisten = \"127.0.0.1\" #! error | \"127.0.0.1\" is no address and port",
        "token_file = \"/t\"\nlisten = \"localhost:80\" #! error | no address and port | 127.0.0.1:8080",
        "token_file = \"/t\"\nlisten = \"127.0.0.1:0\" #! error | no address and port | 1 to 65_535",
        "token = \"x\" #! error | `token` is not a key of [api] | known here: socket, mode",
    ];
    each(&[DIRECTOR, "[api]\n"], &lines, &[SERVICE, SERVER]);
    let taken = "address = \"192.0.2.10:80\" #! warning | tcp:192.0.2.10:80 takes the packets of listen\n";
    let listen = "token_file = \"/t\"\nlisten = \"192.0.2.10:80\" #! warning | unencrypted\n";
    each(&[DIRECTOR, "[api]\n", listen, "[[service]]\nprotocol = \"tcp\"\n"], &[taken], &[SERVER]);
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
fn conflicts_between_services_and_servers() {
    let cases = [
        "address = \"192.0.2.10:80\" #! error | tcp:192.0.2.10:80 is there already | first one",
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

    let empty = format!("{DIRECTOR}[[service]] #! warning | tcp:192.0.2.10:80 has no servers\n");
    each(&[&empty], &["protocol = \"tcp\"\naddress = \"192.0.2.10:80\""], &[]);
    let drained =
        format!("{DIRECTOR}[[service]] #! warning | tcp:192.0.2.10:80 takes no connection | weight 0\n");
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
