//! Servers at IPv6 addresses of the director's own, by NAT: what they answer, and what the host says in their place, is led
//! back.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use tokio::net::UdpSocket;

use crate::client::{self, Resolver, patiently};
use crate::file::File;
use crate::lab::{Lab, UDP_PORT};
use crate::netns::succeed;
use crate::server::Server;
use crate::six::{CLIENTS, NAT_VIP, inside, lab};
use crate::xvs::{Xvs, config, say, service, stats, until};

const FILE_LEN: usize = 1 << 20;
const OWN: Ipv6Addr = inside(1);

fn at(ip: Ipv6Addr, port: u16) -> SocketAddr {
    (ip, port).into()
}

fn nat(protocol: &str, vip_port: u16, server: SocketAddr) -> String {
    service((protocol, at(NAT_VIP, vip_port)), ("rr", "nat"), &[(server, 1)])
}

fn rules(lab: &Lab) -> usize {
    let output = succeed(Command::new("ip").args(["-n", &lab.netns("director"), "-6", "rule", "show"]));
    String::from_utf8(output.stdout).expect("UTF-8").matches("lookup 7894643").count()
}

#[test]
fn a_server_at_an_own_address_of_ipv6_serves_by_nat() {
    let (lab, _servers) = lab();
    let host = lab.netns("director");
    let (own_tcp, own_udp, nobody) = (at(OWN, 8081), at(OWN, 5353), at(OWN, 5354));
    let _host = Server::start_at(&host, "host", vec![own_tcp], vec![own_udp], lab.dir());
    let services = [nat("tcp", 80, own_tcp), nat("udp", UDP_PORT, own_udp), nat("udp", 54, nobody)];
    let xvs = Xvs::start(&lab, &config(&services));
    until("each server has its rule, and the host", || rules(&lab) == 4);

    let file = File::new(&lab, FILE_LEN, Duration::from_secs(30));
    client::run(&lab, async || {
        for (from, port) in CLIENTS.into_iter().zip(30_000..) {
            let mut wire = client::connect(from, at(NAT_VIP, 80)).await.expect("connected");
            assert_eq!(patiently(wire.ask("name")).await.expect("name"), "host");
            file.down(&mut wire).await;
            let resolver = Resolver::new((from, port), at(NAT_VIP, UDP_PORT)).await.expect("socket");
            assert_eq!(resolver.ask(7).await.expect("answered"), "host");
        }
        // Where nobody listens the host says so, and the client hears it of the VIP.
        let socket = UdpSocket::bind(at(CLIENTS[0], 0)).await.expect("socket");
        socket.connect(at(NAT_VIP, 54)).await.expect("connected");
        socket.send(b"?").await.expect("sent");
        let refused = patiently(socket.recv(&mut [0; 8])).await.expect_err("nobody there");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    });
    // Nothing here goes astray: the host itself still reaches the server.
    let itself = client::run_in(&host, async || client::name_of_server(OWN, own_tcp).await);
    assert_eq!(itself.expect("answered"), "host");
    until("both directions are seen", || say(&lab, &["show", "connections"]).contains("TIME_WAIT"));

    let report = xvs.stop();
    let [conns, in_packets, out_packets, ..] = stats(&report, "TCP", at(NAT_VIP, 80));
    assert!(conns == 3 && in_packets > 100 && out_packets > 1000, "{conns} {in_packets} {out_packets}");
    assert_eq!(stats(&report, "UDP", at(NAT_VIP, UDP_PORT))[..3], [3, 3, 3]);
    assert_eq!(rules(&lab), 0);
}

/// To ::1 the kernel lets nothing that came by a device.
#[test]
fn a_server_that_cannot_be_reached_or_told_apart_is_named_with_the_cure() {
    let (lab, _servers) = lab();
    let servers = [at(Ipv6Addr::LOCALHOST, 8081), at(OWN, 0), at(OWN, 8081)];
    let mut services: Vec<_> =
        servers.iter().zip(80..).map(|(server, port)| nat("tcp", port, *server)).collect();
    let vip = at(NAT_VIP, 90);
    let full_nat = service(("tcp", vip), ("rr", "fullnat"), &[(at(OWN, 8082), 1)]);
    services.push(full_nat.replacen(
        "[[service.server]]",
        "local_addresses = [\"fd00:1::2\"]\n[[service.server]]",
        1,
    ));
    let xvs = Xvs::start(&lab, &config(&services));
    until("the able one has its rules", || rules(&lab) == 2);
    until("it is said", || xvs.log().contains("and FULLNAT does not reach it"));
    let log = xvs.log();
    for (server, is_named) in servers.iter().zip([true, true, false]) {
        let says = format!("tcp server {server}, which is this host, cannot serve by NAT");
        assert_eq!(log.contains(&says), is_named, "{says}\n{log}");
    }
    assert!(log.contains("forward by DR"), "{log}");
    let says =
        format!("server {} of service tcp:{vip} is this host, and FULLNAT does not reach it", at(OWN, 8082));
    assert!(log.matches(&says).count() == 1 && log.contains("set forward = \"nat\" for it"), "{says}\n{log}");
}
