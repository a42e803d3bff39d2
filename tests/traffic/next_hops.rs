//! Next hops that change under load: traffic follows the kernel's tables within a second.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use crate::client::{self, Resolver, connect, patiently};
use crate::lab::{self, DR_VIP, Lab, NAT_VIP, UDP_PORT, alone, rip};
use crate::server::Server;
use crate::xvs::{Xvs, config, service};

/// When the change happens, after the load has begun.
const CHANGE: Duration = Duration::from_secs(1);
/// How long the load lasts.
const LOAD: Duration = Duration::from_secs(5);
/// The longest silence allowed.
const FOLLOWS: Duration = Duration::from_secs(1);
/// Connections that have to survive.
const CONNECTIONS: usize = 8;

/// A TCP and a UDP service on `vip`, over one server.
fn one_server(forward: &str, vip: Ipv4Addr, server: Ipv4Addr) -> String {
    let tcp_port = if forward == "nat" { 8080 } else { 80 };
    config(&[
        service(
            ("tcp", SocketAddrV4::new(vip, 80)),
            ("rr", forward),
            &[(SocketAddrV4::new(server, tcp_port), 1)],
        ),
        service(
            ("udp", SocketAddrV4::new(vip, UDP_PORT)),
            ("rr", forward),
            &[(SocketAddrV4::new(server, UDP_PORT), 1)],
        ),
    ])
}

/// Loads both services while `change` happens. Connections must survive; the longest silence of UDP
/// around the change comes back.
fn silence_under_load(lab: &Lab, vip: Ipv4Addr, change: impl FnOnce()) -> Duration {
    let start = Instant::now();
    let (heard, sent) = std::thread::scope(|scope| {
        let clients = scope.spawn(|| {
            client::run(lab, async || {
                let connections = client::many(CONNECTIONS, CONNECTIONS, move |i| {
                    talk(i, SocketAddrV4::new(vip, 80), start)
                });
                let (talked, heard) =
                    tokio::join!(connections, heartbeat(SocketAddrV4::new(vip, UDP_PORT), start));
                let talked: io::Result<Vec<u32>> = talked.into_iter().collect();
                let asked = talked.expect("every connection survives");
                assert!(asked.iter().all(|&count| count > 50), "hardly any load: {asked:?}");
                heard.expect("heartbeat")
            })
        });
        std::thread::sleep(CHANGE.saturating_sub(start.elapsed()));
        change();
        clients.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    assert!(
        heard.len() > 100 && heard.iter().any(|&at| at < CHANGE),
        "{} of {sent} answers heard",
        heard.len()
    );
    let end = [start.elapsed().min(LOAD)];
    let beats = heard.iter().chain(&end);
    heard
        .iter()
        .zip(beats.skip(1))
        .map(|(earlier, later)| later.saturating_sub(*earlier))
        .max()
        .expect("two beats")
}

/// One connection: asks every 20 ms until the load ends; how often it was answered.
async fn talk(index: usize, vip: SocketAddrV4, start: Instant) -> io::Result<u32> {
    let mut wire = connect(lab::client(index), vip).await?;
    let mut answered = 0;
    while start.elapsed() < LOAD {
        patiently(wire.ask("name")).await?;
        answered += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(answered)
}

/// Sends a query every 10 ms until the load ends, answered or not: when each answer was heard, and
/// how many were sent.
async fn heartbeat(vip: SocketAddrV4, start: Instant) -> io::Result<(Vec<Duration>, u16)> {
    let resolver = Resolver::new(SocketAddrV4::new(lab::client(0), 20_000), vip).await?;
    let (mut heard, mut sent) = (Vec::new(), 0);
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    while start.elapsed() < LOAD {
        tokio::select! {
            received = resolver.receive() => {
                received?;
                heard.push(start.elapsed());
            }
            _ = tick.tick() => {
                resolver.send(sent).await?;
                sent += 1;
            }
        }
    }
    Ok((heard, sent))
}

#[test]
fn a_servers_mac_changes_by_nat() {
    mac_changes("nat", NAT_VIP);
}

#[test]
fn a_servers_mac_changes_by_dr() {
    mac_changes("dr", DR_VIP);
}

fn mac_changes(forward: &str, vip: Ipv4Addr) {
    let _alone = alone();
    let lab = Lab::new();
    let _xvs = Xvs::start(&lab, &one_server(forward, vip, rip("a")));
    let silence =
        silence_under_load(&lab, vip, || lab.ip("a", &["link set dev eth0 address 02:00:00:00:aa:aa"]));
    assert!(silence < FOLLOWS, "silent for {silence:?}");
}

#[test]
fn the_directors_own_macs_change() {
    let _alone = alone();
    let lab = Lab::new();
    let _xvs = Xvs::start(&lab, &one_server("nat", NAT_VIP, rip("a")));
    lab.ip(
        "director",
        &["link set dev lb0 address 02:00:00:00:bb:00", "link set dev lb1 address 02:00:00:00:bb:01"],
    );
    let changed = Instant::now();
    lab.ip("clients", &["neighbour flush dev cl0"]);
    lab.ip("a", &["neighbour flush dev eth0"]);
    // Until xvs knows the new addresses, the director's kernel refuses what comes to them.
    loop {
        let vip = SocketAddrV4::new(NAT_VIP, 80);
        let name = client::run(&lab, async || client::name_of_server(lab::client(0), vip).await);
        match name {
            Ok(name) => break assert_eq!(name, "a"),
            Err(error) => assert!(changed.elapsed() < FOLLOWS, "still: {error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_gateway_moves() {
    const FAR: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 11);
    let _alone = alone();
    let lab = Lab::new();
    // A server behind two routers, g1 (.21) and g2 (.22); its own network is a bridge in its namespace.
    for who in ["g1", "g2", "far"] {
        lab.add_netns(who);
    }
    lab.ip(
        "far",
        &["link add net type bridge forward_delay 0", "link set net up", "address add 10.2.0.11/24 dev net"],
    );
    for (who, host) in [("g1", 21), ("g2", 22)] {
        lab.cable((who, "eth0"), ("clients", &format!("to-{who}")), true);
        lab.cable((who, "eth1"), ("far", &format!("to-{who}")), true);
        lab.ip("clients", &[format!("link set to-{who} master switch")]);
        lab.ip("far", &[format!("link set to-{who} master net")]);
        let addresses = [("eth0", 1), ("eth1", 2)]
            .map(|(dev, net)| format!("address add 10.{net}.0.{host}/24 dev {dev}"));
        lab.ip(who, &addresses);
        lab.ip(who, &["route add default via 10.1.0.1"]);
        lab.sysctl(who, "ipv4/ip_forward", 1);
    }
    lab.ip("far", &["route add default via 10.2.0.21"]);
    lab.ip("director", &["route add 10.2.0.0/24 via 10.1.0.21"]);
    let tcp = [SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 8080)];
    let _server =
        Server::start(&lab.netns("far"), "far", &tcp, &[SocketAddrV4::new(FAR, UDP_PORT)], lab.dir());
    let _xvs = Xvs::start(&lab, &one_server("nat", NAT_VIP, FAR));
    let silence = silence_under_load(&lab, NAT_VIP, || {
        lab.ip("g1", &["link set eth0 down"]);
        lab.ip("far", &["route replace default via 10.2.0.22"]);
        lab.ip("director", &["route replace 10.2.0.0/24 via 10.1.0.22"]);
    });
    assert!(silence < FOLLOWS, "silent for {silence:?}");
}
