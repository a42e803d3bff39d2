//! FULLNAT with real clients and servers: the servers know no way to the clients, only the network they are in.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::client::{self, Resolver, connect, patiently};
use crate::file::File;
use crate::lab::{self, Lab, NAT_VIP, SERVERS, UDP_PORT, alone};
use crate::netns::inside;
use crate::xvs::{Xvs, abc, client_command, config, ipvsadm, say, service, stats};

/// What the servers see.
const LOCALS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 1, 0, 2), Ipv4Addr::new(10, 1, 0, 3)];
/// Connections that are opened, used once and closed.
const SHORT: usize = 20_000;
/// The same through few ports, closed by the server.
const REUSED: usize = 10_000;
const AT_ONCE: usize = 64;
/// 4 MiB.
const FILE_LEN: usize = 4 << 20;
const TRANSFER_LIMIT: Duration = Duration::from_secs(30);
const WEB: SocketAddrV4 = SocketAddrV4::new(NAT_VIP, 80);
const DNS: SocketAddrV4 = SocketAddrV4::new(NAT_VIP, UDP_PORT);

/// The lab whose servers know nobody outside, and whose director has the local addresses.
fn far_lab() -> Lab {
    let lab = Lab::new();
    for (name, _) in SERVERS {
        lab.ip(name, &["route del default", "route flush table 100"]);
    }
    lab.ip("director", &LOCALS.map(|local| format!("address add {local}/24 dev lb1")));
    lab
}

/// The service with local addresses, and perhaps ports.
fn from_locals(service: &str, ports: Option<&str>) -> String {
    let locals = LOCALS.map(|local| format!("\"{local}\"")).join(", ");
    let ports = ports.map_or_else(String::new, |ports| format!("local_ports = \"{ports}\"\n"));
    let keys = format!("forward = \"fullnat\"\nlocal_addresses = [{locals}]\n{ports}");
    service.replacen("forward = \"fullnat\"\n", &keys, 1)
}

fn web(ports: Option<&str>, weights: [u16; 3]) -> String {
    from_locals(&service(("tcp", WEB), ("rr", "fullnat"), &abc(8080, weights)), ports)
}

#[test]
fn twenty_thousand_short_connections_without_one_failed() {
    let _alone = alone();
    let lab = far_lab();
    let xvs = Xvs::start(&lab, &config(&[web(None, [1; 3])]));
    let names = client::run(&lab, async || {
        client::tally(client::many(SHORT, AT_ONCE, |i| client::name_of_server(lab::client(i), WEB)).await)
    });
    assert_eq!((names.len(), names.values().sum::<usize>()), (3, SHORT), "{names:?}");
    crate::load::both_queues_received(&lab, "lb0");
    crate::load::both_queues_received(&lab, "lb1");
    let report = xvs.stop();
    let [conns, in_packets, out_packets, ..] = stats(&report, "TCP", WEB);
    assert_eq!(conns, u64::try_from(SHORT).unwrap());
    assert!(out_packets > 2 * conns && in_packets > out_packets / 2, "{in_packets} {out_packets}");
}

#[test]
fn files_and_datagrams_go_both_ways() {
    let _alone = alone();
    let lab = far_lab();
    let file = File::new(&lab, FILE_LEN, TRANSFER_LIMIT);
    let dns = from_locals(&service(("udp", DNS), ("rr", "fullnat"), &abc(UDP_PORT, [1; 3])), None);
    let _xvs = Xvs::start(&lab, &config(&[web(None, [1; 3]), dns]));
    client::run(&lab, async || {
        for index in 0..3 {
            file.both_ways(lab::client(index), WEB).await;
        }
        for index in 0..60 {
            let resolver = Resolver::new(SocketAddrV4::new(lab::client(index), 20_000), DNS);
            patiently(resolver.await.expect("socket").ask(7)).await.expect("an answer");
        }
    });
}

/// Each connection leaves its server in TIME_WAIT for a minute, and there are but 200 ports: every one of them is used
/// again and again in that time, by clients with other sequence numbers and other timestamps.
#[test]
fn ten_thousand_connections_through_two_hundred_ports_that_the_server_has_in_time_wait() {
    let _alone = alone();
    let lab = far_lab();
    let xvs = Xvs::start(&lab, &config(&[web(Some("5000-5099"), [1, 0, 0])]));
    let visits = client::run(&lab, async || {
        let visit = |i: usize| async move {
            let mut wire = connect(lab::client(i), WEB).await?;
            wire.write(b"GET / HTTP/1.0\r\n\r\n").await?;
            let mut last = None;
            while let Some(line) = patiently(wire.line()).await? {
                last = Some(line);
            }
            assert_eq!(last.as_deref(), Some("a"), "the page is the server's name");
            Ok::<_, std::io::Error>(())
        };
        client::many(REUSED, 32, visit).await
    });
    let failed = visits.iter().filter(|visit| visit.is_err()).count();
    assert_eq!(failed, 0, "the first: {:?}", visits.iter().find(|visit| visit.is_err()));
    let report = xvs.stop();
    let [conns, ..] = stats(&report, "TCP", WEB);
    let visits = u64::try_from(REUSED).unwrap();
    // A server may still refuse a SYN at a port whose end it has not heard of; the next one is counted again.
    assert!((visits..visits + visits / 100).contains(&conns), "{conns} connections for {visits} visits");
    assert!(!report.contains("local_ports"), "{report}");
}

/// Connects in the director's namespace from a local address and port.
fn connect_from(lab: &Lab, from: SocketAddrV4, to: SocketAddrV4) -> std::io::Result<TcpStream> {
    inside(&lab.netns("director"), || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::V4(from).into())?;
        socket.connect_timeout(&SocketAddr::V4(to).into(), Duration::from_secs(3))?;
        Ok(socket.into())
    })
}

#[test]
fn the_hosts_own_connections_from_a_local_address_stay_its_own_and_listings_tell() {
    let lab = far_lab();
    let one = [(SocketAddrV4::new(lab::rip("a"), 8080), 1)];
    let web = from_locals(&service(("tcp", WEB), ("rr", "fullnat"), &one), Some("20000-29999"));
    let _xvs = Xvs::start(&lab, &config(&[web]));
    let to = |name, port| SocketAddrV4::new(lab::rip(name), port);
    // To others from any port, to its other ports from any, and to the server itself from a port that is not xvs's.
    for (from, to) in [(25_000, to("b", 8080)), (25_001, to("a", 80)), (40_000, to("a", 8080))] {
        connect_from(&lab, SocketAddrV4::new(LOCALS[0], from), to)
            .unwrap_or_else(|error| panic!("{from} -> {to}: {error}"));
    }

    let (shown, listed) = client::run(&lab, async || {
        let mut wire = connect(lab::client(0), WEB).await.expect("connected");
        assert_eq!(patiently(wire.ask("name")).await.expect("name"), "a");
        (say(&lab, &["show", "connections"]), ipvsadm(&lab, "-Ln"))
    });
    assert!(
        shown.lines().any(|line| line.contains("ESTABLISHED") && line.contains("from 10.1.0.")),
        "{shown}"
    );
    let row = listed.lines().last().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    assert_eq!(row.as_deref(), Some("-> 10.1.0.11:8080 FullNat 1 1 0"), "{listed}");
    let servers = say(&lab, &["show", "servers"]);
    assert!(servers.contains("fullnat") && servers.contains("from 10.1.0.2 10.1.0.3"), "{servers}");
    let saved = client_command(&lab, &["ipvsadm", "-Sn"]).output().expect("it runs");
    assert_eq!(
        (saved.stdout.as_slice(), saved.status.code()),
        (&b""[..], Some(255)),
        "nothing rather than a half"
    );
    assert!(String::from_utf8_lossy(&saved.stderr).contains("no word for FULLNAT"));
    assert!(say(&lab, &["show", "drift"]).ends_with("is what runs\n"), "what was read is what there is");
}
