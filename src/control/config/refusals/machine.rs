//! `[director]`, `[api]`, `[timeouts]` and `[tunables]`: what is refused.

use super::{DIRECTOR, SERVER, SERVICE, each};

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
        "offload = \"on\"\noffload_flows = 1_024",
        "offload = \"off\"\noffload_flows = 16_777_216",
        "offload = true #! error | offload = true is true or false | in quotes",
        "offload_flows = 1_023 #! error | offload_flows = 1023 is out of range | 1_024 to 16_777_216 flows",
        "offload_after = 0",
        "offload_after = 8",
        "offload_after = 9 #! error | offload_after = 9 is out of range | 0 to 8 packets",
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
        "pass = \"on\"",
        "pass = true #! error | pass = true is true or false | give a text in quotes",
        "pass_limit = 10",
        "pass_limit = 9 #! error | pass_limit = 9 is out of range | 10 to 1_000_000 packets per second",
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
fn the_tunables() {
    let lines = [
        "conn_reuse_mode = 3\nexpire_nodest_conn = 1\nexpire_quiescent_template = 1\nsloppy_tcp = 1",
        "conn_reuse_mode = 4 #! error | conn_reuse_mode = 4 is out of range | 0 to 3",
        "secure_tcp = 3\ndrop_entry = 1\ndrop_packet = 2\nam_droprate = 100\namemthresh = 0\ncache_bypass = 0",
        "drop_entry = 4 #! error | drop_entry = 4 is out of range | 0 to 3",
        "cache_bypass = 1 #! error | cache_bypass = 1 cannot be | leave it 0",
        "sloppy_tcp = true #! error | sloppy_tcp = true is true or false | a whole number",
        "expire_nodest = 1 #! error | `expire_nodest` is not a key of [tunables] | did you mean `expire_nodest_conn`?",
    ];
    each(&[DIRECTOR, "[tunables]\n"], &lines, &[SERVICE, SERVER]);
}
