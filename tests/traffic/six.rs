//! IPv6 with real clients and servers: HTTP, files and datagrams by NAT, DR and TUN, what persistence keeps together, and
//! next hops by neighbour discovery. What does not depend on the version of IP is in the other files.
//!
//! The lab's namespaces have IPv6 addresses besides: fd00::/64 for its 10.0.0.0/16, fd00:1::/64 for 10.1.0.0/24.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::client::{self, Resolver, patiently, within};
use crate::decapsulator::{Decapsulator, GUE_PORT};
use crate::file::File;
use crate::lab::{Lab, SERVERS, TCP_PORTS, UDP_PORT, alone};
use crate::netns::succeed;
use crate::server::Server;
use crate::xvs::{Xvs, config, ipvsadm, say, stats, until};

/// 1 MiB.
const FILE_LEN: usize = 1 << 20;
const TRANSFER_LIMIT: Duration = Duration::from_secs(30);
/// The VIP for NAT, which no server holds, and the one for DR and TUN, which every server does.
pub const NAT_VIP: Ipv6Addr = near(0x100);
pub const SHARED_VIP: Ipv6Addr = near(0x101);
/// The director's address towards the servers.
const DIRECTOR: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

const fn near(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)
}

pub const fn inside(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, last)
}

/// Clients: two of one /64 behind the link, and one of another.
pub const CLIENTS: [Ipv6Addr; 3] =
    [near(0x1001), Ipv6Addr::new(0xfd00, 7, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0xfd00, 7, 0, 0, 0, 0, 0, 2)];

/// A server's address, by its place.
pub fn rip(place: u16) -> Ipv6Addr {
    inside(0x11 + place)
}

/// The lab with IPv6, and servers that listen there.
pub fn lab() -> (Lab, Vec<Server>) {
    let lab = Lab::new();
    let names = SERVERS.map(|(name, _)| name);
    let hosts = [("clients", &["cl0", "switch"][..]), ("director", &["lb0", "lb1"])];
    for (who, devices) in hosts.into_iter().chain(names.map(|name| (name, &["eth0"][..]))) {
        // Without waiting for somebody else who has the address.
        for device in devices {
            lab.sysctl(who, &format!("ipv6/conf/{device}/accept_dad"), 0);
        }
        lab.sysctl(who, "ipv6/conf/all/disable_ipv6", 0);
    }
    let address = |ip: Ipv6Addr, bits, device| format!("address add {ip}/{bits} dev {device} nodad");
    let mut lines = vec![address(CLIENTS[0], 64, "cl0"), address(inside(0xfe), 64, "switch")];
    lines.extend(CLIENTS[1..].iter().map(|far| address(*far, 128, "cl0")));
    lab.ip("clients", &lines);
    lab.ip(
        "director",
        &[
            address(near(1), 64, "lb0"),
            address(NAT_VIP, 128, "lb0"),
            address(SHARED_VIP, 128, "lb0"),
            address(inside(1), 64, "lb1"),
            format!("route add fd00:7::/64 via {} dev lb0 src {}", CLIENTS[0], near(1)),
        ],
    );
    let mut servers = Vec::new();
    for (place, name) in (0..).zip(names) {
        lab.ip(
            name,
            &[
                address(rip(place), 64, "eth0"),
                address(SHARED_VIP, 128, "lo"),
                format!("route add default via {}", inside(1)),
                format!("route add default via {} dev eth0 table 100", inside(0xfe)),
            ],
        );
        let rule = ["-6", "rule", "add", "from", &SHARED_VIP.to_string(), "lookup", "100"];
        succeed(lab.command(name, "ip").args(rule));
        let at = |port| [rip(place), SHARED_VIP].map(|ip| SocketAddr::from((ip, port)));
        let tcp = TCP_PORTS.into_iter().flat_map(at).collect();
        servers.push(Server::start_at(&lab.netns(name), name, tcp, at(UDP_PORT).into(), lab.dir()));
    }
    (lab, servers)
}

/// Services of TCP and UDP at a VIP over all servers, whose addresses at a port these are.
pub fn services(vip: Ipv6Addr, forward: &str, tcp_port: u16, server: impl Fn(u16) -> IpAddr) -> String {
    let one = |protocol, vip_port, port| {
        let mut text = format!(
            "[[service]]\nprotocol = \"{protocol}\"\naddress = \"[{vip}]:{vip_port}\"\nscheduler = \"rr\"\nforward = \"{forward}\"\n"
        );
        for place in 0..3 {
            text += &format!("[[service.server]]\naddress = \"{}\"\n", SocketAddr::new(server(place), port));
        }
        text
    };
    config(&[one("tcp", 80, tcp_port), one("udp", UDP_PORT, UDP_PORT)])
}

/// Names, files both ways and datagrams, from a near client and a far one. The report comes back.
fn carries(lab: &Lab, vip: Ipv6Addr, config: &str) -> String {
    let file = File::new(lab, FILE_LEN, TRANSFER_LIMIT);
    let xvs = Xvs::start(lab, config);
    let mut names = client::run(lab, async || {
        let mut names = Vec::new();
        for index in 0..3 {
            let from = CLIENTS[index % 2];
            let (name, _) = file.both_ways(from, (vip, 80)).await;
            let resolver = Resolver::new((from, 20_000), (vip, UDP_PORT)).await.expect("socket");
            for id in 0..5 {
                patiently(resolver.ask(id)).await.expect("an answer");
            }
            names.push(name);
        }
        names
    });
    names.sort();
    assert_eq!(names, ["a", "b", "c"], "each in its turn");
    // HTTP, by somebody else's client.
    let url = format!("http://[{vip}]/");
    let page = succeed(lab.command("clients", "curl").args(["-sS", "--max-time", "10", &url]));
    assert!(["a\n", "b\n", "c\n"].contains(&String::from_utf8_lossy(&page.stdout).as_ref()));
    xvs.stop()
}

#[test]
fn nat_carries_pages_files_and_datagrams() {
    let _alone = alone();
    let (lab, _servers) = lab();
    let report = carries(&lab, NAT_VIP, &services(NAT_VIP, "nat", 8080, |place| rip(place).into()));
    let [conns, in_packets, out_packets, ..] = stats(&report, "TCP", SocketAddr::from((NAT_VIP, 80)));
    assert!(conns == 4 && in_packets > 500 && out_packets > 500, "{report}");
    let [conns, in_packets, out_packets, ..] = stats(&report, "UDP", SocketAddr::from((NAT_VIP, UDP_PORT)));
    assert_eq!(
        (conns, in_packets, out_packets),
        (2, 15, 15),
        "a socket that is bound again is the same flow"
    );
}

#[test]
fn dr_carries_pages_files_and_datagrams() {
    let _alone = alone();
    let (lab, _servers) = lab();
    let report = carries(&lab, SHARED_VIP, &services(SHARED_VIP, "dr", 80, |place| rip(place).into()));
    let [conns, in_packets, out_packets, ..] = stats(&report, "TCP", SocketAddr::from((SHARED_VIP, 80)));
    assert!(conns == 4 && in_packets > 500 && out_packets == 0, "{report}");
}

/// The configuration with these keys of tunnels for the three servers of each service.
fn tunnelled(config: &str, keys: [&str; 3]) -> String {
    let mut keys = keys.into_iter().cycle();
    let mut of_server = false;
    let line = |line: &str| {
        let is_address = std::mem::replace(&mut of_server, line == "[[service.server]]");
        if is_address {
            format!("{line}\n{}\n", keys.next().unwrap_or_default())
        } else {
            format!("{line}\n")
        }
    };
    config.lines().map(line).collect()
}

/// Full segments do not fit the tunnel: clients have to be told that their packets are too big, and to listen.
#[test]
fn tunnels_of_both_versions_carry_pages_files_and_datagrams() {
    let _alone = alone();
    let (lab, _servers) = lab();
    let ends: Vec<_> =
        SERVERS.iter().map(|(name, _)| Decapsulator::start_for_both(&lab.netns(name), DIRECTOR)).collect();
    let in_six = services(SHARED_VIP, "tun", 80, |place| rip(place).into());
    let in_four = services(SHARED_VIP, "tun", 80, |place| SERVERS[usize::from(place)].1.into());
    let gue = format!("tunnel = \"gue\"\ntunnel_port = {GUE_PORT}");
    let (summed, gre) = (format!("{gue}\ntunnel_checksum = \"full\""), "tunnel = \"gre\"");
    let gre_summed = format!("{gre}\ntunnel_checksum = \"full\"");
    for (config, keys) in [
        (&in_six, [""; 3]),
        (&in_four, [""; 3]),
        (&in_six, [&gue, &summed, &gre_summed]),
        (&in_four, [&summed, gre, &gre_summed]),
    ] {
        let report = carries(&lab, SHARED_VIP, &tunnelled(config, keys));
        let [conns, _, out_packets, ..] = stats(&report, "TCP", SocketAddr::from((SHARED_VIP, 80)));
        assert_eq!((conns, out_packets), (4, 0), "replies pass the director by");
    }
    for end in &ends {
        assert_eq!(end.seen.bad.load(Relaxed), 0, "badly wrapped");
        let (packets, longest) = (end.seen.packets.load(Relaxed), end.seen.longest.load(Relaxed));
        assert!(
            packets > 1000 && (1460..=1500).contains(&longest),
            "{packets} packets, the longest {longest}"
        );
    }
}

#[test]
fn ipvsadm_sets_up_persistence_by_prefix() {
    let (lab, _servers) = lab();
    let xvs = Xvs::start(&lab, &config(&[]));
    ipvsadm(&lab, "-A -t [fd00::100]:80 -s rr -p 300 -M 64");
    for place in 0..3 {
        ipvsadm(&lab, &format!("-a -t [fd00::100]:80 -r [{}]:8080 -m", rip(place)));
    }
    let vip = SocketAddr::from((NAT_VIP, 80));
    let (together, apart) = client::run(&lab, async || {
        let far = client::servers_in_a_row(2, CLIENTS[1], vip).await
            + &client::servers_in_a_row(2, CLIENTS[2], vip).await;
        (far, client::servers_in_a_row(2, CLIENTS[0], vip).await)
    });
    assert_eq!((together.as_str(), apart.as_str()), ("CCCC", "BB"), "one /64, and another");
    let listed = ipvsadm(&lab, "-Ln");
    for line in [
        "TCP  [fd00::100]:80 rr persistent 300 mask 64\n",
        "  -> [fd00:1::11]:8080            Masq    1      ",
    ] {
        assert!(listed.contains(line), "{line}:\n{listed}");
    }
    let connections = ipvsadm(&lab, "-Lcn");
    let template = "[fd00:7::]:0       [fd00::100]:80     [fd00:1::13]:8080";
    assert!(connections.contains(template), "{connections}");
    assert_eq!(ipvsadm(&lab, "-Sn").lines().next(), Some("-A -t [fd00::100]:80 -s rr -p 300 -M 64"));
    xvs.stop();
}

#[test]
fn ports_of_a_mark_of_ipv6_are_balanced() {
    let (lab, _servers) = lab();
    let xvs = Xvs::start(&lab, &config(&[]));
    say(&lab, &["mark", "add", "5", "--protocol", "tcp", "--to", "fd00::100", "--ports", "80-90"]);
    ipvsadm(&lab, "-A -f 5 -6 -s rr");
    for place in 0..3 {
        ipvsadm(&lab, &format!("-a -f 5 -6 -r {} -m", rip(place)));
    }
    assert!(ipvsadm(&lab, "-Ln").contains("FWM  5 IPv6 rr\n"));
    let vip = SocketAddr::from((NAT_VIP, 80));
    let names = client::run(&lab, async || client::servers_in_a_row(3, CLIENTS[0], vip).await);
    assert_eq!(names, "CBA");
    xvs.stop();
}

/// The kernel learns it by neighbour discovery, and flows follow.
#[test]
fn a_server_with_another_mac_is_found_again() {
    let _alone = alone();
    let (lab, _servers) = lab();
    lab.sysctl("a", "ipv6/conf/eth0/ndisc_notify", 1);
    let service = format!(
        "[[service]]\nprotocol = \"udp\"\naddress = \"[{NAT_VIP}]:{UDP_PORT}\"\nforward = \"nat\"\n[[service.server]]\naddress = \"{}\"\n",
        rip(0)
    );
    let xvs = Xvs::start(&lab, &config(&[service]));
    let resolver = async || Resolver::new((CLIENTS[0], 20_000), (NAT_VIP, UDP_PORT)).await.expect("socket");
    let answers = || {
        client::run(&lab, async || within(Duration::from_millis(300), resolver().await.ask(7)).await.is_ok())
    };
    until("the server answers", answers);
    let neighbour = |mac: &str| {
        let words = ["-6", "neighbour", "show", "to", &rip(0).to_string()];
        let shown = succeed(lab.command("director", "ip").args(words)).stdout;
        String::from_utf8_lossy(&shown).contains(mac)
    };
    lab.ip("a", &["link set dev eth0 address 02:00:00:00:aa:bb"]);
    until("the kernel knows", || neighbour("02:00:00:00:aa:bb"));
    until("the server answers again", answers);
    xvs.stop();
}
