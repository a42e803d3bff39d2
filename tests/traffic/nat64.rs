//! FULLNAT from IPv6 to IPv4 with real ends: clients that have no IPv4 reach servers that have no IPv6, and path MTUs are
//! learnt across.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;

use crate::client::{self, Resolver, connect, patiently, within};
use crate::file::File;
use crate::lab::{Lab, SERVERS, UDP_PORT, alone};
use crate::mtu6::{self, CLIENT, FAR, SMALL};
use crate::netns::succeed;
use crate::server::{Server, answer};
use crate::xvs::{Xvs, config, ipvsadm, say, stats};

const VIP: Ipv6Addr = mtu6::NAT_VIP;
const WEB: SocketAddr = SocketAddr::new(IpAddr::V6(VIP), 80);
const DNS: SocketAddr = SocketAddr::new(IpAddr::V6(VIP), UDP_PORT);
/// What the servers see.
const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
/// Of the server behind routers.
const BEHIND: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 11);
/// 4 MiB.
const FILE_LEN: usize = 4 << 20;
const LIMIT: Duration = Duration::from_secs(30);

pub fn service(protocol: &str, vip: SocketAddr, servers: &[SocketAddr]) -> String {
    let mut text = format!(
        "[[service]]\nprotocol = \"{protocol}\"\naddress = \"{vip}\"\nscheduler = \"rr\"\nforward = \"fullnat\"\nlocal_addresses = [\"{LOCAL}\"]\n"
    );
    for server in servers {
        text += &format!("[[service.server]]\naddress = \"{server}\"\n");
    }
    text
}

fn abc(port: u16) -> [SocketAddr; 3] {
    SERVERS.map(|(_, rip)| (rip, port).into())
}

/// The lab whose clients have IPv6 alone, and whose servers IPv4 alone and no way to anybody outside.
pub fn lab() -> Lab {
    let lab = Lab::new();
    for (name, _) in SERVERS {
        lab.ip(name, &["route del default", "route flush table 100"]);
    }
    for who in ["clients", "director"] {
        lab.sysctl(who, "ipv6/conf/all/disable_ipv6", 0);
    }
    // Its addresses of IPv4 go as well.
    succeed(lab.command("clients", "ip").args(["-4", "address", "flush", "dev", "cl0"]));
    lab.ip("clients", &[format!("address add {CLIENT}/64 dev cl0 nodad")]);
    lab.ip(
        "director",
        &[
            "address add 2001:db8:1::fe/64 dev lb0 nodad".to_owned(),
            format!("address add {VIP}/128 dev lb0 nodad"),
            format!("address add {LOCAL}/24 dev lb1"),
        ],
    );
    lab
}

/// What is sent both ways.
pub fn file(lab: &Lab) -> File<'_> {
    File::new(lab, FILE_LEN, LIMIT)
}

#[test]
fn clients_of_ipv6_get_pages_files_and_datagrams_from_servers_of_ipv4() {
    let _alone = alone();
    let lab = lab();
    let file = file(&lab);
    let services = [service("tcp", WEB, &abc(8080)), service("udp", DNS, &abc(UDP_PORT))];
    let xvs = Xvs::start(&lab, &config(&services));
    let names = client::run(&lab, async || {
        let mut names = Vec::new();
        for _ in 0..3 {
            names.push(file.both_ways(CLIENT, WEB).await.0);
        }
        for id in 0..60 {
            let resolver = Resolver::new((CLIENT, 20_000 + id), DNS).await.expect("socket");
            patiently(resolver.ask(id)).await.expect("an answer");
        }
        // Long ones come and go in fragments. An answer that is too long only for IPv6 is lost, and its server told so.
        let mut lost = Vec::new();
        for len in [1400, 1453, 1480, 3000, 8 << 10] {
            for server in 0..3 {
                let socket = UdpSocket::bind((CLIENT, 0)).await.expect("bound");
                let query: Vec<u8> = (0..len).map(|_| fastrand::u8(..)).collect();
                let mut buffer = vec![0; 65_536];
                let got = loop {
                    socket.send_to(&query, DNS).await.expect("sent");
                    match within(Duration::from_secs(2), socket.recv_from(&mut buffer)).await {
                        Ok(got) => break got,
                        Err(_) => lost.push((len, server)),
                    }
                    assert!(lost.len() <= 3, "{lost:?}");
                };
                assert_eq!((got.1, buffer.starts_with(&answer(&query, ""))), (DNS, true), "{len} bytes");
            }
        }
        assert!(lost.iter().all(|(len, _)| *len == 1453), "learnt by the first: {lost:?}");
        let mut wire = connect(CLIENT, WEB).await.expect("connected");
        patiently(wire.ask("name")).await.expect("name");
        let shown = say(&lab, &["show", "connections"]);
        let line = shown.lines().find(|line| line.contains("ESTABLISHED")).expect("a connection");
        assert!(line.contains("from 10.1.0.2:") && line.contains(&CLIENT.to_string()), "{shown}");
        names
    });
    assert_eq!(names, ["c", "b", "a"]);
    let listed = ipvsadm(&lab, "-Ln");
    assert!(listed.contains(&format!("TCP  {WEB} rr\n  -> 10.1.0.11:8080")), "{listed}");
    assert_eq!(listed.matches(" FullNat ").count(), 6, "{listed}");
    let report = xvs.stop();
    let [conns, in_packets, out_packets, ..] = stats(&report, "UDP", DNS);
    assert_eq!(conns, 75, "{report}");
    assert!((75..=78).contains(&in_packets) && in_packets == out_packets, "{report}");
    assert_eq!(stats(&report, "TCP", WEB)[0], 4);
}

/// A server learns of the clients' link in its own version: 20 bytes less.
#[test]
fn a_server_learns_what_fits_behind_a_narrow_link_of_ipv6() {
    let lab = lab();
    let file = file(&lab);
    mtu6::far_client(&lab);
    let xvs = Xvs::start(&lab, &config(&[service("tcp", WEB, &abc(8080)[..1])]));
    let name = client::run_in(&lab.netns("far"), async || file.both_ways(FAR, WEB).await.0);
    assert_eq!(name, "a");
    assert_eq!(lab.learnt("a", LOCAL, SERVERS[0].1), Some(SMALL - 20));
    xvs.stop();
}

/// A client learns of the servers' link: 20 bytes more.
#[test]
fn a_client_learns_what_fits_behind_a_narrow_link_of_ipv4() {
    let lab = lab();
    let file = file(&lab);
    for who in ["in", "out", "d"] {
        lab.add_netns(who);
        lab.sysctl(who, "ipv4/ip_forward", 1);
    }
    lab.cable(("in", "eth0"), ("clients", "to-in"), true);
    lab.ip("clients", &["link set to-in master switch"]);
    lab.cable(("in", "narrow"), ("out", "narrow"), true);
    lab.cable(("out", "inner"), ("d", "eth0"), true);
    let narrow = |last: u8| {
        [format!("address add 10.3.0.{last}/24 dev narrow"), format!("link set narrow mtu {SMALL}")]
    };
    lab.ip("in", &narrow(1));
    lab.ip("out", &narrow(2));
    lab.ip("in", &["address add 10.1.0.99/24 dev eth0", "route add 10.2.0.0/24 via 10.3.0.2"]);
    lab.ip("out", &["address add 10.2.0.1/24 dev inner", "route add default via 10.3.0.1"]);
    lab.ip("d", &[format!("address add {BEHIND}/24 dev eth0"), "route add default via 10.2.0.1".into()]);
    lab.ip("director", &["route add 10.2.0.0/24 via 10.1.0.99", "route add 10.3.0.0/24 via 10.1.0.99"]);
    let at = SocketAddr::from((BEHIND, 8080));
    let _server = Server::start_at(&lab.netns("d"), "d", vec![at], Vec::new(), lab.dir());
    let xvs = Xvs::start(&lab, &config(&[service("tcp", WEB, &[at])]));
    let name = client::run(&lab, async || file.both_ways(CLIENT, WEB).await.0);
    assert_eq!(name, "d");
    assert_eq!(lab.learnt("clients", VIP, CLIENT), Some(SMALL + 20));
    xvs.stop();
}
