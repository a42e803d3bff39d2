//! `[[service]]`, `[[service.server]]` and `[[mark]]`: what is refused, and what contradicts each other.

use super::{DIRECTOR, SERVER, SERVICE, each};
use crate::control::config::{MAX_SERVERS, MAX_SERVICES};

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
        "protocol = \"icmp\" #! error | protocol = \"icmp\" is unknown | use one of: tcp, udp, sctp",
        "protocol = \"sctp\"",
        "protocol = 6 #! error | protocol = 6 is a whole number | quotes",
    ];
    each(&[DIRECTOR, "[[service]]\n", address], &protocols, &[SERVER]);

    let addresses = [
        "address = \"223.255.255.254:65535\"",
        "address = \"240.0.0.1:80\"",
        "address = \"192.0.2.10\" #! error | \"192.0.2.10\": the port is missing | \"192.0.2.10:80\"",
        "address = \"192.0.2.10:0\" #! error | port 0 | every port | needs persistence | 1 to 65_535",
        "persistence = false\naddress = \"192.0.2.10:0\" #! error | needs persistence",
        "persistence = true\naddress = \"192.0.2.10:0\"",
        "address = \"192.0.2.10:65536\" #! error | \"192.0.2.10:65536\" | from 1 to 65_535",
        "address = \"192.0.2.10:http\" #! error | \"192.0.2.10:http\" | the port is not a number",
        "address = \"192.0.2.256:80\" #! error | \"192.0.2.256:80\" | no address",
        "address = \"www.example.com:80\" #! error | names are not resolved",
        "address = \"2001:db8::1\" #! error | the port is missing | \"[2001:db8::1]:PORT\" | \"[2001:db8::1]:80\"",
        "address = \"[2001:db8::1]:http\" #! error | the port is not a number | \"[2001:db8::1]:80\"",
        "address = \"[2001:db8::1]:65536\" #! error | from 1 to 65_535",
        "address = \"[2001:db8::g]:80\" #! error | no address",
        "address = \"[fe80::1%3]:80\" #! error | a zone | \"[fe80::1]:80\"",
        "address = \"0.0.0.0:80\" #! warning | 0.0.0.0/8 | unicast",
        "address = \"127.0.0.1:80\" #! warning | 127.0.0.0/8 is reached by nobody else",
        "address = \"224.0.0.1:80\" #! warning | multicast",
        "address = \"255.255.255.255:80\" #! warning | broadcast",
        "address = 80 #! error | address = 80 is a whole number | quotes",
    ];
    each(&[DIRECTOR, "[[service]]\n", protocol], &addresses, &[SERVER]);
    let of_ipv6 = [
        "address = \"[2001:db8::1]:80\"",
        "address = \"[fe80::1]:80\"",
        "address = \"[::]:80\" #! warning | :: is no address",
        "address = \"[::1]:80\" #! warning | ::1 is reached by nobody else",
        "address = \"[ff02::1]:80\" #! warning | multicast",
        "address = \"[2001:db8::1]:80\"\npersistence = 360\npersistence_netmask = \"64\"",
        "address = \"[2001:db8::1]:80\"\npersistence = 360\npersistence_netmask = \"0\" #! error | \"0\" is no length | from \"1\" to \"128\"",
        "address = \"[2001:db8::1]:80\"\npersistence = 360\npersistence_netmask = \"129\" #! error | is no length of a prefix",
        "address = \"[2001:db8::1]:80\"\npersistence = 360\npersistence_netmask = \"255.255.255.0\" #! error | is no length of a prefix",
    ];
    let server = "[[service.server]]\naddress = \"2001:db8::11\"\n";
    each(&[DIRECTOR, "[[service]]\n", protocol], &of_ipv6, &[server]);

    let others = [
        "scheduler = \"rr\"",
        "scheduler = \"fifo\" #! error | scheduler = \"fifo\" is unknown | rr, wrr, lc, wlc",
        "scheduler = \"wlcc\" #! error | scheduler = \"wlcc\" is unknown | did you mean \"wlc\"?",
        "scheduler_flags = []",
        "scheduler_flags = [\"sh-port\"] #! error | \"wlc\" has no flag \"sh-port\" | scheduler = \"sh\"",
        "timeout_tcp_s = 2_678_401 #! error | out of range | 0 to 2_678_400 seconds",
        "slow_start_s = 86_401 #! error | out of range | 0 to 86_400 seconds",
        "scheduler = \"rr\"\nslow_start_s = 60 #! warning | no effect with scheduler = \"rr\" | wrr, lc, wlc, sed, nq",
        "mss_max = 0",
        "mss_max = 536",
        "mss_max = 65_495",
        "mss_max = 535 #! error | mss_max = 535 is out of range | 536 to 65_495 bytes",
        "mss_max = 65_496 #! error | out of range | 536 to 65_495 bytes",
        "tcp_when_down = \"close\" #! error | unknown | drop, keep, reset",
        "reset_on_removal = 1 #! error | true or false",
        "udp_rehome = true #! warning | udp_rehome has no effect with protocol = \"tcp\" | leave it out",
        "client_address = \"none\"",
        "client_address = \"pp2\" #! error | client_address = \"pp2\" is unknown | none, proxy, toa",
        "forward = \"nat\"\nclient_address = \"proxy\"",
        "forward = \"nat\"\nclient_address = \"toa\"\ntoa_kind = 253",
        "forward = \"nat\"\nclient_address = \"toa\"\ntoa_kind = 8 #! error | toa_kind = 8 is out of range | 9 to 255",
        "forward = \"nat\"\nclient_address = \"toa\"\ntoa_kind = 256 #! error | out of range",
        "toa_kind = 253 #! warning | no effect without client_address = \"toa\" | leave it out",
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
        "forward = \"fullnat\"\nlocal_addresses = [\"10.0.0.250\", \"10.0.0.251\"]",
        "forward = \"fullnat\"\nlocal_addresses = [\"10.0.0.250\"]\nlocal_ports = \"5000\"",
        "forward = \"fullnat\"\nlocal_addresses = [\"10.0.0.250\"]\nlocal_ports = \"5000-5000\"",
        "local_addresses = [\"10.0.0.250\"] #! warning | local_addresses has no effect | forward = \"fullnat\"",
        "local_ports = \"5000-6000\" #! warning | local_ports has no effect",
        "local_ports = \"6000-5000\" #! error | \"6000-5000\" is no range of ports | \"1024-65535\"",
        "local_ports = \"0-5000\" #! error | \"0-5000\" is no range of ports | from 1 to 65_535",
        "local_ports = 5000 #! error | is a whole number | quotes",
        "local_addresses = \"10.0.0.250\" #! error | is a text | square brackets",
        "local_addresses = [] #! error | local_addresses lists 0 addresses | 1 to 16",
        "local_addresses = [\"10.0.0.250\", \"10.0.0.250\"] #! error | lists \"10.0.0.250\" twice",
        "local_addresses = [\"10.0.0.250:80\"] #! error | \"10.0.0.250:80\": this is no address | without a port",
        "local_addresses = [\"224.0.0.1\"] #! error | 224.0.0.0/4 is multicast | address of this host",
        "local_addresses = [\"127.0.0.1\"] #! error | 127.0.0.0/8 is reached by nobody else",
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
        "address = \"255.255.255.255\" #! error | broadcast",
        "address = \"10.0.0.1:99999\" #! error | from 1 to 65_535",
        "address = \"10.0.0\" #! error | no address",
        "address = \"2001:db8::1\" #! error | \"2001:db8::1\": the service is one of IPv4 | \"dr\" | \"tun\"",
        "forward = \"nat\"\naddress = \"2001:db8::1\" #! error | one of IPv4 | \"nat\"",
        "address = \"0.0.0.0\" #! error | 0.0.0.0/8",
        "address = \"127.0.0.1\"",
        "address = \"239.1.1.1\" #! error | multicast",
        "address = \"255.255.255.255\" #! error | broadcast",
        "address = \"192.0.2.10\"",
        "forward = \"nat\"\naddress = \"192.0.2.10:81\"",
    ];
    each(&[DIRECTOR, SERVICE, "[[service.server]]\n"], &addresses, &[]);
    let full_nat = [
        "address = \"10.0.0.1:81\" #! error | server 10.0.0.1:81 is to have FULLNAT | no local address | local_addresses = ",
        "forward = \"nat\"\naddress = \"10.0.0.1:81\"",
        "address = \"2001:db8::1\" #! error | is to have FULLNAT | no local address of its IP version",
    ];
    each(&[DIRECTOR, SERVICE, "forward = \"fullnat\"\n[[service.server]]\n"], &full_nat, &[]);
    let across = [
        "address = \"10.0.0.1:81\"",
        "address = \"10.0.0.1\"",
        "address = \"2001:db8::11\" #! error | is to have FULLNAT | no local address of its IP version",
    ];
    let service = "[[service]]\nprotocol = \"tcp\"\naddress = \"[2001:db8::100]:80\"\nforward = \"fullnat\"\nlocal_addresses = [\"10.0.0.250\"]\n";
    each(&[DIRECTOR, service, "[[service.server]]\n"], &across, &[]);
    let service = format!("{service}client_address = \"toa\"\n");
    each(&[DIRECTOR, &service, "[[service.server]]\n"], &across[..2], &[]);
    let one_packet =
        ["one_packet = true #! error | one_packet = true cannot be had | forward = \"fullnat\" | \"nat\""];
    let udp = "[[service]]\nprotocol = \"udp\"\naddress = \"192.0.2.10:53\"\nforward = \"fullnat\"\nlocal_addresses = [\"10.0.0.250\"]\n";
    each(&[DIRECTOR, udp], &one_packet, &[SERVER]);
    let of_ipv6 = [
        "address = \"2001:db8::11\"",
        "address = \"[2001:db8::11]:80\"",
        "forward = \"nat\"\naddress = \"[2001:db8::11]:8080\"",
        "address = \"[2001:db8::11]:81\" #! error | another port | 80 | \"dr\"",
        "address = \"10.0.0.1\" #! error | the service is one of IPv6 | \"dr\" | \"tun\" or \"fullnat\"",
        "forward = \"tun\"\naddress = \"10.0.0.1\"",
        "address = \"fe80::1\" #! error | fe80::/10 is of one link only",
        "address = \"::ffff:10.0.0.1\" #! error | ::ffff:0:0/96",
        "address = \"::\" #! error | no address of a machine",
        "address = \"::1\"",
        "address = \"2001:db8::100\"",
    ];
    let service = "[[service]]\nprotocol = \"tcp\"\naddress = \"[2001:db8::100]:80\"\n";
    each(&[DIRECTOR, service, "[[service.server]]\n"], &of_ipv6, &[]);
    let others = [
        "state = \"drain\"\ndrain_timeout_s = 2_678_400",
        "state = \"dead\" #! error | unknown | up, drain, down",
        "drain_timeout_s = 2_678_401 #! error | out of range | 0 to 2_678_400 seconds",
        "weight = 1",
        "weight = 65535",
        "weight = 2147483648 #! error | weight = 2147483648 is out of range | 0 to 2_147_483_647",
        "weight = -1 #! error | weight = -1 is out of range",
        "weight = \"1\" #! error | weight = \"1\" is a text | without quotes",
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
fn clients_addresses() {
    let service = |protocol: &str, port: u16| {
        format!(
            "[[service]]\nprotocol = \"{protocol}\"\naddress = \"192.0.2.10:{port}\"\nforward = \"nat\"\n"
        )
    };
    let udp = [
        "client_address = \"proxy\"",
        "client_address = \"toa\" #! error | \"toa\" cannot be had with protocol = \"udp\" | no options: use \"proxy\"",
    ];
    each(&[DIRECTOR, &service("udp", 80)], &udp, &[SERVER]);
    let sctp = ["client_address = \"proxy\" #! error | protocol = \"sctp\" | leave it out"];
    each(&[DIRECTOR, &service("sctp", 80)], &sctp, &[SERVER]);
    let ftp = ["client_address = \"proxy\" #! error | cannot be had with FTP | leave it out"];
    each(&[DIRECTOR, &service("tcp", 21)], &ftp, &[SERVER]);
    let servers = [
        "address = \"10.0.0.1\"",
        "forward = \"dr\"\naddress = \"10.0.0.1\" #! error | 10.0.0.1:80 cannot be told | \"proxy\" | \"dr\" | leave client_address out | \"nat\"",
        "forward = \"tun\"\naddress = \"10.0.0.1\" #! error | cannot be told | TUN servers see",
    ];
    let proxy = format!("{}client_address = \"proxy\"\n[[service.server]]\n", service("tcp", 80));
    each(&[DIRECTOR, &proxy], &servers, &[]);
}

#[test]
fn a_tunnel() {
    let address = "address = \"10.0.0.1\"\n";
    let lines = [
        "",
        "tunnel = \"ipip\"",
        "tunnel = \"gue\"\ntunnel_port = 1\ntunnel_checksum = \"remote\"",
        "tunnel = \"gre\"\ntunnel_checksum = \"full\"",
        "tunnel = \"gre\"\ntunnel_checksum = \"remote\" #! warning | no effect with tunnel = \"gre\" | \"full\"",
    ];
    each(&[DIRECTOR, SERVICE, "[[service.server]]\nforward = \"tun\"\n", address], &lines, &[]);
    let v6 = "address = \"[2001:db8::1]:80\"";
    each(&[DIRECTOR, SERVICE, "forward = \"tun\"\n[[service.server]]\n"], &[v6], &[]);
    let port = "address = \"10.0.0.1:81\" #! error | another port | 80 | \"tun\"";
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
}

#[test]
fn servers_here_without_a_way_up() {
    let lines = [
        "address = \"10.0.0.1\"",
        "address = \"127.0.0.1\" #! warning | 127.0.0.1:80 is this host | pass = \"off\" | pass = \"auto\"",
        "address = \"192.0.2.10\" #! warning | 192.0.2.10:80 is this host | another machine",
    ];
    each(&[DIRECTOR, "pass = \"off\"\n", SERVICE, "[[service.server]]\n"], &lines, &[]);
}

#[test]
fn servers_here_with_fullnat() {
    let fullnat = "forward = \"fullnat\"\nlocal_addresses = [\"10.0.0.250\"]\n[[service.server]]\n";
    let lines = [
        "address = \"10.0.0.1\"",
        "address = \"127.0.0.1\" #! error | 127.0.0.1:80 is this host | does not reach | forward = \"nat\"",
        "address = \"192.0.2.10\" #! error | 192.0.2.10:80 is this host | another machine",
        "address = \"10.0.0.250:8080\" #! error | 10.0.0.250:8080 is this host",
    ];
    each(&[DIRECTOR, SERVICE, fullnat], &lines, &[]);
}

#[test]
fn services_of_marks_and_of_all_ports() {
    let rule = "[[mark]]\nmark = 5\nprotocol = \"tcp\"\ndestination = \"192.0.2.20\"\n";
    let lines = [
        "mark = 5",
        "mark = 5\nfamily = \"ipv4\"\none_packet = true\npersistence = 5",
        "mark = 5\nfamily = \"ip6\" #! error | family = \"ip6\" is unknown | did you mean \"ipv6\"?",
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

    let fixed = "#! error | 10.0.0.1:80 has a port, but its service | all | \"10.0.0.1\"";
    let kept =
        "#! warning | port of server 10.0.0.1:80 is kept as ipvsadm keeps it | no effect | \"10.0.0.1\"";
    let servers = [fixed, kept].map(|said| {
        [
            "address = \"10.0.0.1\"".to_owned(),
            "address = \"10.0.0.1:0\"".to_owned(),
            format!("address = \"10.0.0.1:80\" {said}"),
            "forward = \"nat\"\naddress = \"10.0.0.1:80\"".to_owned(),
            "forward = \"nat\"\naddress = \"10.0.0.1\"".to_owned(),
        ]
    });
    let [servers, of_mark] = servers.each_ref().map(|all| all.each_ref().map(String::as_str));
    each(&[rule, DIRECTOR, "[[service]]\nmark = 5\n[[service.server]]\n"], &of_mark, &[]);
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
        "destination = \"192.0.2.0/33\" #! error | no address or network | 192.0.2.0/24",
        "destination = \"192.0.2.20\"\nports = \"8000-8999\"",
        "destination = \"192.0.2.20\"\nports = \"0-65535\"",
        "destination = \"192.0.2.20\"\nports = \"9-8\" #! error | ports = \"9-8\" is no range | smaller number first",
        "destination = \"192.0.2.20\"\nports = \"65536\" #! error | no range of ports | 0 to 65_535",
        "destination = \"192.0.2.20\"\nports = \"+80\" #! error | no range of ports",
        "destination = \"192.0.2.20\"\nports = 80 #! error | ports = 80 is a whole number | quotes",
        "destination = \"192.0.2.20\"\nport = \"80\" #! error | `port` is not a key of [[mark]] | did you mean `ports`?",
        "destination = \"192.0.2.20\"\nsource = \"::1\" #! error | source = \"::1/128\" are of different IP versions",
    ];
    each(&[rule], &lines, &[DIRECTOR, service, SERVER]);
    let of_ipv6 = [
        "destination = \"2001:db8::20\"",
        "destination = \"2001:db8::/64\"\nports = \"80\"\nsource = \"2001:db8:1::/48\"",
        "destination = \"2001:db8::1/64\" #! warning | first 64 bits | \"2001:db8::/64\"",
        "destination = \"2001:db8::/129\" #! error | no address or network",
        "destination = \"2001:db8::20\"\nsource = \"10.0.0.0/8\" #! error | different IP versions",
    ];
    let service_v6 = "[[service]]\nmark = 5\nfamily = \"ipv6\"\n";
    let server_v6 = "[[service.server]]\naddress = \"2001:db8::11\"\n";
    each(&[rule], &of_ipv6, &[DIRECTOR, service_v6, server_v6]);
    let v4_alone = "[[mark]]\nmark = 5 #! warning | no service has mark = 5\nprotocol = \"tcp\"\ndestination = \"192.0.2.20\"\n";
    let service_v6 = [
        "[[service]]\nmark = 5 #! warning | fwm6:5 gets no packets | a destination of IPv6\nfamily = \"ipv6\"\n",
    ];
    each(&[v4_alone, DIRECTOR], &service_v6, &[server_v6]);
    each(
        &["[[mark]] #! error | no `destination`\nmark = 5\nprotocol = \"tcp\""],
        &["\n"],
        &[DIRECTOR, service, SERVER],
    );
    let protocol = "[[mark]]\nmark = 5\ndestination = \"192.0.2.20\"\n";
    let lines = [
        "protocol = \"udp\"",
        "protocol = \"sctp\"",
        "protocol = \"dccp\" #! error | unknown | tcp, udp, sctp",
    ];
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
    each(&[DIRECTOR, SERVICE, SERVER, other_vip], &["address = \"192.0.2.10\""], &[]);

    // The same NAT server in two services is legal.
    let nat = "forward = \"nat\"\n[[service.server]]\naddress = \"10.0.0.1:8080\"\n";
    let second = "[[service]]\nprotocol = \"tcp\"\naddress = \"192.0.2.10:81\"\n";
    each(&[DIRECTOR, SERVICE, nat, second], &[nat], &[]);
}

#[test]
fn more_than_the_limits() {
    use std::fmt::Write;
    let mut text = DIRECTOR.to_owned();
    for n in 0..=MAX_SERVICES {
        let mark = if n == MAX_SERVICES { " #! error | 16385 services are more than 16384" } else { "" };
        let (high, low) = (n / 256, n % 256);
        write!(text, "[[service]]{mark}\nprotocol = \"tcp\"\naddress = \"10.1.{high}.{low}:80\"\n{SERVER}")
            .expect("a String takes all");
    }
    each(&[&text], &[""], &[]);

    let mut text = [DIRECTOR, SERVICE].concat();
    for n in 0..=MAX_SERVERS {
        let mark = if n == MAX_SERVERS { " #! error | more than 65536 servers" } else { "" };
        let (high, low) = (n / 256, n % 256);
        writeln!(text, "[[service.server]]{mark}\naddress = \"10.{}.{}.{low}\"", high / 256 + 1, high % 256)
            .expect("a String takes all");
    }
    each(&[&text], &[""], &[]);
}
