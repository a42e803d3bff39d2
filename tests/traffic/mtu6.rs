//! IPv6 on real links: large datagrams, fragments in the wrong order, and path MTUs that kernels learn end to end.
//!
//! ```text
//!  far ──1500── mid ──1300── clients ── cl0 lb0 director lb1 ── switch ── a, b, c
//!  2001:db8:4::2 (routes)    (routes)  2001:db8:1::/64  fd00:1::/64  └── in ──1300── out ──1500── d fd00:2::11
//! ```

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::UdpSocket;
use xvs::packet::checksum;

use crate::client::{self, connect, patiently};
use crate::file::File;
use crate::lab::{Lab, SERVERS, UDP_PORT};
use crate::netns::{inside, succeed};
use crate::server::{Server, answer};
use crate::xvs::{Xvs, config, say, service, stats, until};

pub const CLIENT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
/// Of the same host: what is learnt for one address is not for the other.
pub const OTHER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);
pub const NAT_VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x100);
const DR_VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x101);
pub const FAR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 4, 0, 0, 0, 0, 2);
/// Of the server behind a router.
const BEHIND: Ipv6Addr = Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 0x11);
pub const SMALL: u16 = 1300;
/// Some thousand packets of full size.
const LEN: usize = 4 << 20;
const DATAGRAM_LEN: usize = 8 << 10;
/// A black hole lasts for minutes.
const LIMIT: Duration = Duration::from_secs(20);

fn rip(number: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x11 + u16::try_from(number).expect("few"))
}

fn end(ip: Ipv6Addr, port: u16) -> SocketAddr {
    SocketAddrV6::new(ip, port, 0, 0).into()
}

pub fn speak(lab: &Lab, who: &str) {
    // Nobody else has the addresses: no time is spent on asking, those of the links included.
    let script = "for file in /proc/sys/net/ipv6/conf/*/accept_dad; do echo 0 >$file; done";
    succeed(lab.command(who, "sh").args(["-c", script]));
    for key in ["all", "default"] {
        lab.sysctl(who, &format!("ipv6/conf/{key}/disable_ipv6"), 0);
    }
}

fn address(ip: Ipv6Addr, len: u8, device: &str) -> String {
    format!("address add {ip}/{len} dev {device} nodad")
}

/// Gives the lab IPv6 beside its IPv4, and its servers listeners.
pub fn six(lab: &Lab) -> Vec<Server> {
    ["clients", "director"].into_iter().chain(SERVERS.map(|(name, _)| name)).for_each(|who| speak(lab, who));
    lab.sysctl("director", "ipv6/conf/all/forwarding", 1);
    lab.ip(
        "clients",
        &[
            address(CLIENT, 64, "cl0"),
            address(OTHER, 64, "cl0"),
            "address add fd00:1::254/64 dev switch nodad".into(),
        ],
    );
    lab.ip(
        "director",
        &[
            "address add 2001:db8:1::fe/64 dev lb0 nodad".into(),
            address(NAT_VIP, 128, "lb0"),
            address(DR_VIP, 128, "lb0"),
            "address add fd00:1::1/64 dev lb1 nodad".into(),
        ],
    );
    let start = |(number, (name, _)): (usize, (&'static str, _))| {
        lab.ip(
            name,
            &[
                address(rip(number), 64, "eth0"),
                address(DR_VIP, 128, "lo"),
                "route add default via fd00:1::1".into(),
                "route add default via fd00:1::254 table 100".into(),
            ],
        );
        // A batch has no place for the family.
        let rule = format!("-6 rule add from {DR_VIP} lookup 100");
        succeed(lab.command(name, "ip").args(rule.split(' ')));
        let tcp = vec![end(rip(number), 8080), end(DR_VIP, 80)];
        let udp = [rip(number), DR_VIP].map(|ip| end(ip, UDP_PORT));
        Server::start_at(&lab.netns(name), name, tcp, udp.into(), lab.dir())
    };
    SERVERS.into_iter().enumerate().map(start).collect()
}

fn abc(port: u16) -> Vec<(SocketAddr, u16)> {
    (0..3).map(|number| (end(rip(number), port), 1)).collect()
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|_| fastrand::u8(..)).collect()
}

/// The name of the server whose answer to `query` this is.
fn name_in(query: &[u8], got: &[u8]) -> String {
    let name = got.strip_prefix(answer(query, "").as_slice()).expect("the whole datagram comes back");
    String::from_utf8(name.to_vec()).expect("a name")
}

#[test]
fn datagrams_of_8_kib_go_both_ways_by_nat_and_by_dr() {
    const SOCKETS: usize = 9;
    const DATAGRAMS: usize = 5;
    let lab = Lab::new();
    let _servers = six(&lab);
    let vips = [(NAT_VIP, "nat"), (DR_VIP, "dr")];
    let services =
        vips.map(|(vip, forward)| service(("udp", end(vip, UDP_PORT)), ("rr", forward), &abc(UDP_PORT)));
    let xvs = Xvs::start(&lab, &config(&services));
    for (vip, _) in vips {
        let names: BTreeSet<String> = client::run(&lab, async || {
            let mut names = BTreeSet::new();
            for n in 0..SOCKETS {
                let socket = UdpSocket::bind(end(CLIENT, 0)).await.expect("bound");
                for len in 0..DATAGRAMS {
                    let query = bytes(DATAGRAM_LEN - n - len);
                    socket.send_to(&query, end(vip, UDP_PORT)).await.expect("sent");
                    let mut buffer = vec![0; 65_536];
                    let (len, from) = patiently(socket.recv_from(&mut buffer)).await.expect("an answer");
                    assert_eq!(from, end(vip, UDP_PORT));
                    names.insert(name_in(&query, &buffer[..len]));
                }
            }
            names
        });
        assert_eq!(names.len(), 3);
    }
    let report = xvs.stop();
    for (vip, forward) in vips {
        let [conns, in_packets, out_packets, ..] = stats(&report, "UDP", end(vip, UDP_PORT));
        let all = (SOCKETS * DATAGRAMS) as u64;
        let answers = if forward == "nat" { all } else { 0 };
        assert_eq!([conns, in_packets, out_packets], [SOCKETS as u64, all, answers]);
    }
}

/// A packet of `protocol` from the client as IPv6 fragments of at most `step` bytes each, without the fixed header.
fn pieces(id: u32, protocol: u8, packet: &[u8], step: usize) -> Vec<Vec<u8>> {
    let piece = |(n, part): (usize, &[u8])| {
        let more = u16::from((n + 1) * step < packet.len());
        let field = u16::try_from(n * step).expect("short") | more;
        [&[protocol, 0][..], &field.to_be_bytes(), &id.to_be_bytes(), part].concat()
    };
    packet.chunks(step).enumerate().map(piece).collect()
}

fn summed(protocol: u8, to: Ipv6Addr, mut packet: Vec<u8>, at: usize) -> Vec<u8> {
    let sum = checksum::of_transport(CLIENT.into(), to.into(), protocol, &packet);
    packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// A raw socket of the client's that sends fragments as they are.
fn raw() -> Socket {
    const FRAGMENT: i32 = 44;
    let raw = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(FRAGMENT))).expect("a raw socket");
    raw.bind(&end(CLIENT, 0).into()).expect("bound");
    raw
}

#[test]
fn fragments_in_any_order_arrive_as_the_datagram_they_are_of() {
    let lab = Lab::new();
    let _servers = six(&lab);
    let vips = [(NAT_VIP, "nat"), (DR_VIP, "dr")];
    let services =
        vips.map(|(vip, forward)| service(("udp", end(vip, UDP_PORT)), ("rr", forward), &abc(UDP_PORT)));
    let xvs = Xvs::start(&lab, &config(&services));
    for (vip, _) in vips {
        for id in 0..20u32 {
            let query = bytes(2000);
            let got = client::run(&lab, async || {
                let socket = UdpSocket::bind(end(CLIENT, 0)).await.expect("bound");
                let port = socket.local_addr().expect("its address").port();
                let head = [port, UDP_PORT, 2008, 0].map(u16::to_be_bytes).concat();
                let datagram = summed(17, vip, [&head[..], &query].concat(), 6);
                let mut fragments = pieces(id << 8, 17, &datagram, 512);
                fastrand::shuffle(&mut fragments);
                let raw = raw();
                for fragment in &fragments {
                    raw.send_to(fragment, &SockAddr::from(end(vip, 0))).expect("sent");
                }
                let mut buffer = vec![0; 65_536];
                let answer = patiently(socket.recv_from(&mut buffer)).await;
                let drops = || say(&lab, &["show", "drops"]);
                let (len, _) =
                    answer.unwrap_or_else(|error| panic!("datagram {id} to {vip}: {error}\n{}", drops()));
                buffer.truncate(len);
                buffer
            });
            name_in(&query, &got);
        }
    }
    let report = xvs.stop();
    for (vip, _) in vips {
        assert_eq!(stats(&report, "UDP", end(vip, UDP_PORT))[1], 20, "one packet for each datagram");
    }
}

/// A SYN in two fragments, in either order: the server takes it, and answers from the VIP.
#[test]
fn a_segment_in_fragments_opens_a_connection() {
    const PORT: u16 = 1234;
    let lab = Lab::new();
    let _servers = six(&lab);
    let services = [service(("tcp", end(NAT_VIP, 80)), ("rr", "nat"), &abc(8080))];
    let xvs = Xvs::start(&lab, &config(&services));
    for reversed in [false, true] {
        let source = PORT + u16::from(reversed);
        // Twelve bytes of options behind the header, which the first fragment has to hold.
        let head = [source, 80, 0, 7, 0, 0, 0x8002, 8192, 0, 0].map(u16::to_be_bytes).concat();
        let syn = summed(6, NAT_VIP, [&head[..], &[2, 4, 5, 0xa0], &[1; 8]].concat(), 16);
        let mut fragments = pieces(7 + u32::from(reversed), 6, &syn, 24);
        if reversed {
            fragments.reverse();
        }
        let segment = inside(&lab.netns("clients"), || {
            let ear = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::TCP)).expect("a raw socket");
            ear.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
            ear.bind(&end(CLIENT, 0).into()).expect("bound");
            for fragment in &fragments {
                raw().send_to(fragment, &SockAddr::from(end(NAT_VIP, 0))).expect("sent");
            }
            let mut segment = [0; 100];
            let len = std::io::Read::read(&mut &ear, &mut segment).expect("an answer");
            segment[..len].to_vec()
        });
        assert_eq!(segment[..4], [80u16, source].map(u16::to_be_bytes).concat()[..]);
        assert_eq!(segment[13], 0x12, "SYN and ACK");
        assert_eq!(checksum::of_transport(NAT_VIP.into(), CLIENT.into(), 6, &segment), 0);
    }
    drop(xvs.stop());
}

/// Up and then down on one connection, each more than a window. Gives back the server's name.
fn transfer(lab: &Lab, netns: &str, from: Ipv6Addr, vip: SocketAddr) -> String {
    let file = File::new(lab, LEN, LIMIT);
    client::run_in(netns, async || file.up_and_down(from, vip).await)
}

/// A namespace that routes.
pub fn router(lab: &Lab, who: &str) {
    lab.add_netns(who);
    speak(lab, who);
    lab.sysctl(who, "ipv6/conf/all/forwarding", 1);
}

/// A link with two addresses of a /64; its MTU is that of both ends.
pub fn link(lab: &Lab, (left, right): (&str, &str), net: &str, mtu: u16) {
    let (there, back) = (format!("to-{right}"), format!("to-{left}"));
    lab.cable((left, &there), (right, &back), true);
    for (who, device, last) in [(left, there, 1), (right, back, 2)] {
        let address = format!("address add {net}::{last}/64 dev {device} nodad");
        lab.ip(who, &[address, format!("link set {device} mtu {mtu}")]);
    }
}

/// The client behind a narrow link that neither end sees.
pub fn far_client(lab: &Lab) {
    router(lab, "mid");
    lab.add_netns("far");
    speak(lab, "far");
    lab.sysctl("clients", "ipv6/conf/all/forwarding", 1);
    link(lab, ("clients", "mid"), "2001:db8:3", SMALL);
    link(lab, ("mid", "far"), "2001:db8:4", 1500);
    lab.ip("clients", &["route add 2001:db8:4::/64 via 2001:db8:3::2"]);
    lab.ip("mid", &["route add default via 2001:db8:3::1"]);
    lab.ip("far", &["route add default via 2001:db8:4::1"]);
    lab.ip(
        "director",
        &[
            format!("route add 2001:db8:3::/64 via {CLIENT}"),
            format!("route add 2001:db8:4::/64 via {CLIENT}"),
        ],
    );
}

fn one(vip: Ipv6Addr, forward: &str, server: SocketAddr) -> String {
    service(("tcp", end(vip, 80)), ("rr", forward), &[(server, 1)])
}

#[test]
fn a_narrow_link_before_the_director_is_learnt_by_client_and_server() {
    for (vip, forward, port) in [(NAT_VIP, "nat", 8080), (DR_VIP, "dr", 80)] {
        let lab = Lab::new();
        let _servers = six(&lab);
        far_client(&lab);
        let services = [service(("tcp", end(vip, 80)), ("rr", forward), &abc(port))];
        let xvs = Xvs::start(&lab, &config(&services));
        let name = transfer(&lab, &lab.netns("far"), FAR, end(vip, 80));
        let number = SERVERS.iter().position(|(n, _)| *n == name).expect("one of them");
        let speaks_as = if forward == "nat" { rip(number) } else { vip };
        assert_eq!(lab.learnt(&name, FAR, speaks_as), Some(SMALL), "{forward}: the right one of three");
        assert_eq!(lab.learnt("far", vip, FAR), Some(SMALL), "{forward}");
        drop(xvs.stop());
    }
}

#[test]
fn by_nat_a_narrow_link_behind_the_director_is_learnt_by_client_and_server() {
    let lab = Lab::new();
    let _servers = six(&lab);
    router(&lab, "in");
    router(&lab, "out");
    lab.add_netns("d");
    speak(&lab, "d");
    lab.cable(("in", "eth0"), ("clients", "to-in"), true);
    lab.ip("clients", &["link set to-in master switch"]);
    lab.ip("in", &["address add fd00:1::99/64 dev eth0 nodad"]);
    link(&lab, ("in", "out"), "fd00:3", SMALL);
    lab.cable(("out", "inner"), ("d", "eth0"), true);
    lab.ip("out", &["address add fd00:2::1/64 dev inner nodad", "route add default via fd00:3::1"]);
    lab.ip("in", &["route add fd00:2::/64 via fd00:3::2", "route add default via fd00:1::1"]);
    lab.ip("d", &[address(BEHIND, 64, "eth0"), "route add default via fd00:2::1".into()]);
    lab.ip("director", &["route add fd00:2::/64 via fd00:1::99", "route add fd00:3::/64 via fd00:1::99"]);
    let at = end(BEHIND, 8080);
    let _server = Server::start_at(&lab.netns("d"), "d", vec![at], Vec::new(), lab.dir());
    let xvs = Xvs::start(&lab, &config(&[one(NAT_VIP, "nat", at)]));

    assert_eq!(transfer(&lab, &lab.netns("clients"), CLIENT, end(NAT_VIP, 80)), "d");
    assert_eq!(lab.learnt("clients", NAT_VIP, CLIENT), Some(SMALL));
    assert_eq!(lab.learnt("d", CLIENT, BEHIND), Some(SMALL));
    drop(xvs.stop());
}

#[test]
fn the_directors_own_narrow_interfaces_are_learnt_by_who_sends_too_much() {
    let lab = Lab::new();
    let _servers = six(&lab);
    let (nat, dr) = (end(NAT_VIP, 80), end(DR_VIP, 80));
    let services = [one(NAT_VIP, "nat", end(rip(0), 8080)), one(DR_VIP, "dr", end(rip(1), 80))];
    let xvs = Xvs::start(&lab, &config(&services));
    let file = File::new(&lab, LEN, LIMIT);
    // One direction each: what comes in by the narrow one and is too long is lost before anybody can say so.
    let set = |device: &str, mtu: u16| lab.ip("director", &[format!("link set {device} mtu {mtu}")]);
    set("lb0", SMALL);
    until("the server has learnt the MTU of lb0", || {
        client::run(&lab, async || file.down(&mut connect(CLIENT, nat).await.expect("connected")).await);
        lab.learnt("a", CLIENT, rip(0)) == Some(SMALL)
    });
    set("lb0", 1500);
    set("lb1", SMALL);
    // From another address, of which the servers have learnt nothing: they tell it how long its segments may be.
    for (vip, server) in [(nat, "a"), (dr, "b")] {
        let IpAddr::V6(ip) = vip.ip() else { panic!("{vip}") };
        until("the client has learnt the MTU of lb1", || {
            assert_eq!(client::run(&lab, async || file.up_by(OTHER, vip).await.0), server);
            lab.learnt("clients", ip, OTHER) == Some(SMALL)
        });
    }
    drop(xvs.stop());
}
