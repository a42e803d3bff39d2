//! The director's own programs beside the director: what is nobody's service reaches them, and they can be servers.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::process::Command;
use std::time::Duration;

use crate::client::{self, Resolver};
use crate::file::File;
use crate::lab::{self, DR_VIP, Lab, NAT_VIP, UDP_PORT};
use crate::netns::{inside, signal, succeed};
use crate::server::Server;
use crate::xvs::{Xvs, abc, command, config, ipvsadm, say, service, stats, until};

const OWN: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;
const FTP: SocketAddrV4 = SocketAddrV4::new(NAT_VIP, 21);

fn at(ip: Ipv4Addr, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(ip, port)
}

/// A program on the director, called `host`.
fn host(lab: &Lab, tcp: &[SocketAddrV4], udp: &[SocketAddrV4]) -> Server {
    Server::start(&lab.netns("director"), "host", tcp, udp, lab.dir())
}

fn name(lab: &Lab, from: usize, to: SocketAddrV4) -> io::Result<String> {
    client::run(lab, async || client::name_of_server(lab::client(from), to).await)
}

fn resolved(lab: &Lab, from_port: u16, to: SocketAddrV4) -> io::Result<String> {
    client::run(lab, async || Resolver::new(at(lab::client(0), from_port), to).await?.ask(7).await)
}

/// The number in front of `what` in a text of xvs.
fn number(text: &str, what: &str) -> u64 {
    let line =
        text.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("no {what} in\n{text}"));
    line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number first")
}

fn rules(lab: &Lab) -> String {
    let output = succeed(Command::new("ip").args(["-n", &lab.netns("director"), "rule", "show"]));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn has_device(lab: &Lab) -> bool {
    let mut show = Command::new("ip");
    show.args(["-n", &lab.netns("director"), "link", "show", "xvs-pass"])
        .output()
        .expect("ip runs")
        .status
        .success()
}

/// With FTP by NAT all ports from 1024 on come up.
#[test]
fn a_program_of_the_hosts_at_a_vip_of_ftp_is_reached() {
    let lab = Lab::new();
    let _host = host(&lab, &[at(NAT_VIP, 2222)], &[]);
    let xvs = Xvs::start(&lab, &config(&[service(("tcp", FTP), ("rr", "nat"), &abc(8080, [1; 3]))]));
    assert_eq!(name(&lab, 0, at(NAT_VIP, 2222)).expect("answered"), "host");
    assert_eq!(name(&lab, 0, FTP).expect("answered"), "c", "and the service is the service's");
    // Where the host does not listen, it says so itself.
    let refused = name(&lab, 0, at(NAT_VIP, 2223)).expect_err("nobody there");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    // And what the host itself begins with such an address is answered.
    let netns = lab.netns("director");
    let from_vip =
        client::run_in(&netns, async || client::name_of_server(NAT_VIP, at(lab::rip("a"), 8080)).await);
    assert_eq!(from_vip.expect("answered"), "a");
    assert!(number(&xvs.stop(), "went to the kernel") > 5);
}

/// As long as there are connections of a service that was deleted, its packets come up.
#[test]
fn after_a_service_its_port_is_the_hosts_again() {
    let lab = Lab::new();
    let vip = at(NAT_VIP, 80);
    let xvs = Xvs::start(&lab, &config(&[service(("tcp", vip), ("rr", "nat"), &abc(8080, [1; 3]))]));
    assert_eq!(name(&lab, 0, vip).expect("answered"), "c");
    ipvsadm(&lab, &format!("-D -t {vip}"));
    let _host = host(&lab, &[vip], &[]);
    assert_eq!(name(&lab, 1, vip).expect("answered"), "host");
    assert!(number(&xvs.stop(), "went to the kernel") > 3);
}

/// Fragments come up by the VIP alone: they may be of a port that is no service's.
#[test]
fn fragments_to_a_program_of_the_hosts_reach_it() {
    let lab = Lab::new();
    let xvs = Xvs::start(
        &lab,
        &config(&[service(("udp", at(NAT_VIP, UDP_PORT)), ("rr", "nat"), &abc(UDP_PORT, [1; 3]))]),
    );
    let socket = inside(&lab.netns("director"), || UdpSocket::bind(at(NAT_VIP, 9999)).expect("bound"));
    socket.set_read_timeout(Some(client::PATIENCE)).expect("timeout");
    let datagram: Vec<u8> = (0..8192).map(|_| fastrand::u8(..)).collect();
    inside(&lab.netns("clients"), || {
        let from = UdpSocket::bind(at(lab::client(0), 5000)).expect("bound");
        from.send_to(&datagram, at(NAT_VIP, 9999)).expect("sent");
    });
    let mut got = vec![0; 9000];
    let (len, from) = socket.recv_from(&mut got).expect("the datagram");
    assert!(got[..len] == datagram, "{len} bytes");
    assert_eq!(from, at(lab::client(0), 5000).into());
    assert_eq!(number(&xvs.stop(), "went to the kernel"), 6, "fragments of 1,480 bytes");
}

#[test]
fn without_the_device_what_is_nobodys_is_refused() {
    let lab = Lab::new();
    let _host = host(&lab, &[at(NAT_VIP, 2222)], &[]);
    let text = config(&[service(("tcp", FTP), ("rr", "nat"), &abc(8080, [1; 3]))]);
    let _xvs = Xvs::start(&lab, &text.replace("[director]", "[director]\npass = \"off\""));
    assert!(!has_device(&lab));
    let refused = name(&lab, 0, at(NAT_VIP, 2222)).expect_err("refused");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

/// For all interfaces it cannot be switched off by one, so it is said.
#[test]
fn a_reverse_path_filter_that_is_in_the_way_is_named() {
    let lab = Lab::new();
    for (all, default, is_named) in [(1, 0, true), (2, 0, true), (0, 1, false)] {
        lab.sysctl("director", "ipv4/conf/all/rp_filter", all);
        lab.sysctl("director", "ipv4/conf/default/rp_filter", default);
        let text = config(&[service(("tcp", FTP), ("rr", "nat"), &abc(8080, [1; 3]))]);
        let xvs = Xvs::start(&lab, &text);
        assert_eq!(xvs.log().contains("sysctl -w net.ipv4.conf.all.rp_filter=0"), is_named, "{}", xvs.log());
        if !is_named {
            let _host = host(&lab, &[at(NAT_VIP, 2222)], &[]);
            assert_eq!(name(&lab, 0, at(NAT_VIP, 2222)).expect("answered"), "host");
            // systemd may set it when it sees the device.
            lab.sysctl("director", "ipv4/conf/xvs-pass/rp_filter", 2);
            until("it is off again", || name(&lab, 0, at(NAT_VIP, 2222)).is_ok());
        }
        xvs.stop();
    }
}

#[test]
fn more_than_the_limit_is_dropped_and_counted() {
    let lab = Lab::new();
    let text = config(&[service(("tcp", FTP), ("rr", "nat"), &abc(8080, [1; 3]))]);
    let xvs = Xvs::start(&lab, &text.replace("[director]", "[director]\npass = \"on\"\npass_limit = 10"));
    client::run(&lab, async || {
        let job = |_| client::connect(lab::client(0), at(NAT_VIP, 4000));
        // All at once: three in a quarter of a second may pass.
        let within = Duration::from_millis(50);
        let _ = client::within(within, async { Ok(client::many(100, 100, job).await) }).await;
    });
    let report = xvs.stop();
    let (passed, dropped) = (number(&report, "went to the kernel"), number(&report, " pass_limit"));
    assert!((1..20).contains(&passed) && passed + dropped >= 100, "{passed} and {dropped}");
}

#[test]
fn a_server_on_the_director_serves_by_dr() {
    let lab = Lab::new();
    let (tcp, udp) = (at(DR_VIP, 80), at(DR_VIP, UDP_PORT));
    let _host = host(&lab, &[tcp], &[udp]);
    let dr =
        |protocol, vip: SocketAddrV4| service((protocol, vip), ("rr", "dr"), &[(at(OWN, vip.port()), 1)]);
    let xvs = Xvs::start(&lab, &config(&[dr("tcp", tcp), dr("udp", udp)]));
    for (n, port) in (0..3).zip(30_000..) {
        assert_eq!(name(&lab, n, tcp).expect("answered"), "host");
        assert_eq!(resolved(&lab, port, udp).expect("answered"), "host");
    }
    let listed = ipvsadm(&lab, "-Lnc");
    assert!(
        listed.lines().filter(|line| line.contains("FIN_WAIT")).count() == 3,
        "closed by the client:\n{listed}"
    );
    let report = xvs.stop();
    let [conns, in_packets, out_packets, ..] = stats(&report, "TCP", tcp);
    assert!((conns, out_packets) == (3, 0) && in_packets >= 12, "{conns} {in_packets} {out_packets}");
    assert_eq!(stats(&report, "UDP", udp)[..3], [3, 3, 0]);
    assert_eq!(number(&report, "went to the kernel"), 0, "a server's packets are no strays");
}

#[test]
fn a_server_at_an_own_address_serves_by_nat() {
    serves_by_nat(OWN);
}

#[test]
fn a_server_at_a_loopback_address_serves_by_nat() {
    serves_by_nat(LOOPBACK);
}

/// Its answers leave by the host's routes, unless they are brought back.
fn serves_by_nat(address: Ipv4Addr) {
    let lab = Lab::new();
    let (tcp, udp) = (at(NAT_VIP, 80), at(NAT_VIP, UDP_PORT));
    let (own_tcp, own_udp) = (at(address, 8081), at(address, 5353));
    let _host = host(&lab, &[own_tcp], &[own_udp]);
    let nat = |protocol, vip: SocketAddrV4, server: SocketAddrV4| {
        service((protocol, vip), ("rr", "nat"), &[(server, 1)])
    };
    let xvs = Xvs::start(&lab, &config(&[nat("tcp", tcp, own_tcp), nat("udp", udp, own_udp)]));
    until("both servers have their rules, and the host for them", || {
        rules(&lab).matches("lookup 7894643").count() == 3
    });
    let file = File::new(&lab, 1 << 20, Duration::from_secs(30));
    for (n, port) in (0..3).zip(30_000..) {
        assert_eq!(name(&lab, n, tcp).expect("answered"), "host");
        assert_eq!(resolved(&lab, port, udp).expect("answered"), "host");
    }
    client::run(&lab, async || {
        let mut wire = client::connect(lab::client(0), tcp).await.expect("connected");
        file.down(&mut wire).await;
    });
    // Nothing here goes astray: the host itself still reaches the server.
    let itself =
        client::run_in(&lab.netns("director"), async || client::name_of_server(address, own_tcp).await);
    assert_eq!(itself.expect("answered"), "host");
    assert!(say(&lab, &["show", "connections"]).contains("TIME_WAIT"), "both directions are seen");
    let report = xvs.stop();
    let [conns, in_packets, out_packets, ..] = stats(&report, "TCP", tcp);
    assert!(conns == 4 && in_packets > 20 && out_packets > 700, "{conns} {in_packets} {out_packets}");
    assert_eq!(stats(&report, "UDP", udp)[..3], [3, 3, 3]);
    assert!(!rules(&lab).contains("7894643") && !has_device(&lab), "{}", rules(&lab));
}

/// What a killed one leaves behind does no harm, and the next one clears it away.
#[test]
fn a_killed_one_leaves_no_device_and_no_harm() {
    let lab = Lab::new();
    let own = at(OWN, 8081);
    let _host = host(&lab, &[own], &[]);
    let text = config(&[service(("tcp", at(NAT_VIP, 80)), ("rr", "nat"), &[(own, 1)])]);
    let mut child = command(&lab, &[], &text).spawn().expect("spawned");
    until("it serves", || rules(&lab).contains("7894643"));
    signal(&child.id().to_string(), "KILL");
    let _ = child.wait();
    until("the device is gone", || !has_device(&lab));
    assert!(rules(&lab).contains("7894643"), "if not, this tests nothing");
    assert_eq!(name(&lab, 0, own).expect("answered"), "host");
    let xvs = Xvs::start(&lab, &config(&[service(("tcp", FTP), ("rr", "nat"), &abc(8080, [1; 3]))]));
    assert!(!rules(&lab).contains("7894643"));
    drop(xvs);
}
