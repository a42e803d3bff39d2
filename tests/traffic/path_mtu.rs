//! Path MTU discovery and other ICMP errors, end to end: kernels that believe what reaches them.
//!
//! ```text
//!  far ──1500── mid ──1300── clients ── cl0 lb0 director lb1 ── switch ── a, b, c
//!  203.0.113.2  (routes)    (routes)                              └── in ──1300── out ──1500── d 10.2.0.11
//! ```

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use tokio::net::UdpSocket;

use crate::client::{self, connect, patiently};
use crate::file::File;
use crate::lab::{self, DR_VIP, Lab, NAT_VIP, UDP_PORT, rip};
use crate::server::Server;
use crate::xvs::{Xvs, abc, config, service, stats, until};

const FAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const NEAR: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
/// Of the server behind a router.
const BEHIND: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 11);
const SMALL: u16 = 1300;
/// Some thousand packets of full size.
const LEN: usize = 4 << 20;
/// A black hole lasts for minutes.
const LIMIT: Duration = Duration::from_secs(20);

/// Up and then down on one connection, each more than a window. Gives back the server's name.
fn transfer(lab: &Lab, netns: &str, from: Ipv4Addr, vip: SocketAddrV4) -> String {
    let file = File::new(lab, LEN, LIMIT);
    client::run_in(netns, async || file.up_and_down(from, vip).await)
}

/// A namespace that routes.
fn router(lab: &Lab, who: &str) {
    lab.add_netns(who);
    lab.sysctl(who, "ipv4/ip_forward", 1);
    lab.sysctl(who, "ipv4/conf/all/send_redirects", 0);
}

/// A link with two addresses of a /24; its MTU is that of both ends.
fn link(lab: &Lab, (left, right): (&str, &str), net: &str, mtu: u16) {
    let (there, back) = (format!("to-{right}"), format!("to-{left}"));
    lab.cable((left, &there), (right, &back), true);
    for (who, device, last) in [(left, there, 1), (right, back, 2)] {
        let address = format!("address add {net}.{last}/24 dev {device}");
        lab.ip(who, &[address, format!("link set {device} mtu {mtu}")]);
    }
}

/// The client behind a narrow link that neither end sees.
fn far_client(lab: &Lab) {
    router(lab, "mid");
    lab.add_netns("far");
    lab.sysctl("clients", "ipv4/ip_forward", 1);
    link(lab, ("clients", "mid"), "203.0.112", SMALL);
    link(lab, ("mid", "far"), "203.0.113", 1500);
    lab.ip("clients", &["route add 203.0.113.0/24 via 203.0.112.2"]);
    lab.ip("mid", &["route add default via 203.0.112.1"]);
    lab.ip("far", &["route add default via 203.0.113.1"]);
    lab.ip("director", &["route add 203.0.112.0/23 via 10.0.1.1"]);
}

fn one(vip: Ipv4Addr, forward: &str, server: SocketAddrV4) -> String {
    service(("tcp", SocketAddrV4::new(vip, 80)), ("rr", forward), &[(server, 1)])
}

#[test]
fn by_nat_a_narrow_link_before_the_director_is_learnt_by_client_and_server() {
    let lab = Lab::new();
    far_client(&lab);
    let vip = SocketAddrV4::new(NAT_VIP, 80);
    let xvs = Xvs::start(&lab, &config(&[one(NAT_VIP, "nat", SocketAddrV4::new(rip("a"), 8080))]));
    assert_eq!(transfer(&lab, &lab.netns("far"), FAR, vip), "a");
    assert_eq!(lab.learnt("a", FAR, rip("a")), Some(SMALL));
    assert_eq!(lab.learnt("far", NAT_VIP, FAR), Some(SMALL));
    drop(xvs.stop());
}

#[test]
fn by_dr_a_narrow_link_before_the_director_is_learnt_by_client_and_server() {
    let lab = Lab::new();
    far_client(&lab);
    let vip = SocketAddrV4::new(DR_VIP, 80);
    let xvs = Xvs::start(&lab, &config(&[service(("tcp", vip), ("rr", "dr"), &abc(80, [1; 3]))]));
    let name = transfer(&lab, &lab.netns("far"), FAR, vip);
    assert_eq!(lab.learnt(&name, FAR, DR_VIP), Some(SMALL), "the right one of three servers");
    assert_eq!(lab.learnt("far", DR_VIP, FAR), Some(SMALL));
    drop(xvs.stop());
}

#[test]
fn by_nat_a_narrow_link_behind_the_director_is_learnt_by_client_and_server() {
    let lab = Lab::new();
    router(&lab, "in");
    router(&lab, "out");
    lab.add_netns("d");
    lab.cable(("in", "eth0"), ("clients", "to-in"), true);
    lab.ip("clients", &["link set to-in master switch"]);
    lab.ip("in", &["address add 10.1.0.99/24 dev eth0"]);
    link(&lab, ("in", "out"), "10.3.0", SMALL);
    lab.cable(("out", "inner"), ("d", "eth0"), true);
    lab.ip("out", &["address add 10.2.0.1/24 dev inner", "route add default via 10.3.0.1"]);
    lab.ip("in", &["route add 10.2.0.0/24 via 10.3.0.2", "route add default via 10.1.0.1"]);
    let address = format!("address add {BEHIND}/24 dev eth0");
    lab.ip("d", &[address.as_str(), "route add default via 10.2.0.1"]);
    lab.ip("director", &["route add 10.2.0.0/23 via 10.1.0.99", "route add 10.3.0.0/24 via 10.1.0.99"]);
    let at = SocketAddrV4::new(BEHIND, 8080);
    let _server = Server::start(&lab.netns("d"), "d", &[at], &[], lab.dir());
    let xvs = Xvs::start(&lab, &config(&[one(NAT_VIP, "nat", at)]));

    let vip = SocketAddrV4::new(NAT_VIP, 80);
    assert_eq!(transfer(&lab, &lab.netns("clients"), NEAR, vip), "d");
    assert_eq!(lab.learnt("clients", NAT_VIP, NEAR), Some(SMALL));
    assert_eq!(lab.learnt("d", NEAR, BEHIND), Some(SMALL));

    // As traceroute sees it: the router behind the director speaks in the VIP's name.
    let (error, who) = hop_limited(&lab, vip);
    assert_eq!((error, who), (11, NAT_VIP));
    drop(xvs.stop());
}

/// A SYN with a TTL that ends behind the director: the type of the error, and who it comes from.
fn hop_limited(lab: &Lab, vip: SocketAddrV4) -> (u8, Ipv4Addr) {
    use std::io::Read as _;
    crate::netns::inside(&lab.netns("clients"), || {
        use socket2::{Domain, Protocol, Socket, Type};
        let mut ear = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).expect("raw socket");
        ear.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
        // The director, `in`, and there it ends.
        socket.set_ttl_v4(2).expect("IP_TTL");
        socket.bind(&SocketAddrV4::new(NEAR, 0).into()).expect("bind");
        let _ends_in_an_error = socket.connect_timeout(&vip.into(), Duration::from_millis(100));
        let mut packet = [0; 1500];
        let len = ear.read(&mut packet).expect("an error is heard");
        let ip = etherparse::Ipv4HeaderSlice::from_slice(&packet[..len]).expect("IPv4");
        (packet[ip.slice().len()], ip.source_addr())
    })
}

#[test]
fn the_directors_own_narrow_interfaces_are_learnt_by_who_sends_too_much() {
    let lab = Lab::new();
    let (nat, dr) = (SocketAddrV4::new(NAT_VIP, 80), SocketAddrV4::new(DR_VIP, 80));
    let services = [
        one(NAT_VIP, "nat", SocketAddrV4::new(rip("a"), 8080)),
        one(DR_VIP, "dr", SocketAddrV4::new(rip("b"), 80)),
    ];
    let xvs = Xvs::start(&lab, &config(&services));
    let file = File::new(&lab, LEN, LIMIT);
    // One direction each: what comes in by the narrow one and is too long is lost before anybody can say so.
    let set = |device: &str, mtu: u16| lab.ip("director", &[format!("link set {device} mtu {mtu}")]);
    set("lb0", SMALL);
    until("the server has learnt the MTU of lb0", || {
        client::run(&lab, async || file.down(&mut connect(NEAR, nat).await.expect("connected")).await);
        lab.learnt("a", NEAR, rip("a")) == Some(SMALL)
    });
    set("lb0", 1500);
    set("lb1", SMALL);
    // To another client, of which the servers have learnt nothing: they tell it how long its segments may be.
    let other = lab::client(1);
    for (vip, server) in [(nat, "a"), (dr, "b")] {
        until("the client has learnt the MTU of lb1", || {
            assert_eq!(client::run(&lab, async || file.up_by(other, vip).await.0), server);
            lab.learnt("clients", *vip.ip(), other) == Some(SMALL)
        });
    }
    drop(xvs.stop());
}

#[test]
fn a_closed_udp_server_refuses_the_clients_socket() {
    let lab = Lab::new();
    let (nat, dr) = (SocketAddrV4::new(NAT_VIP, UDP_PORT), SocketAddrV4::new(DR_VIP, UDP_PORT));
    let services = [
        service(("udp", nat), ("rr", "nat"), &[(SocketAddrV4::new(rip("a"), 5353), 1)]),
        service(("udp", dr), ("rr", "dr"), &[(SocketAddrV4::new(rip("b"), UDP_PORT), 1)]),
    ];
    let xvs = Xvs::start(&lab, &config(&services));
    lab.stop_server("b");
    for vip in [nat, dr] {
        let kind = client::run(&lab, async || {
            let socket = UdpSocket::bind(SocketAddrV4::new(lab::client(1), 0)).await.expect("bound");
            socket.connect(vip).await.expect("connected");
            socket.send(b"anybody?").await.expect("sent");
            let mut answer = [0; 64];
            patiently(socket.recv(&mut answer)).await.expect_err("nobody listens").kind()
        });
        assert_eq!(kind, std::io::ErrorKind::ConnectionRefused, "{vip}");
    }
    let report = xvs.stop();
    let [conns, in_packets, out_packets, ..] = stats(&report, "UDP", nat);
    assert_eq!([conns, in_packets, out_packets], [1, 1, 1], "the error counts as what it is about went");
}
