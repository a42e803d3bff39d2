//! Interfaces and the ways between them: one, three, one way there and another back, long frames, short segments, and a
//! narrow way to a server behind a tunnel.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use crate::client::{self, name_of_server};
use crate::decapsulator::Decapsulator;
use crate::file::File;
use crate::lab::{self, DR, DR_VIP, Lab, NAT, rip};
use crate::netns::{inside, succeed};
use crate::server::Server;
use crate::xvs::{Xvs, config, dr, nat, service, stats};

const NEAR: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
/// Some thousand packets of full size.
pub const LEN: usize = 4 << 20;
const LIMIT: Duration = Duration::from_secs(30);

/// A file down and then up by one connection; the server's name.
pub fn transfer(lab: &Lab, netns: &str, from: Ipv4Addr, vip: SocketAddrV4) -> String {
    let file = File::new(lab, LEN, LIMIT);
    client::run_in(netns, async || file.both_ways(from, vip).await.0)
}

/// Clients and servers behind one interface: by NAT the way back leads through the director all the same.
#[test]
fn a_director_with_one_interface() {
    let lab = Lab::new();
    let guest = Ipv4Addr::new(10, 4, 0, 2);
    lab.add_netns("guest");
    lab.cable(("guest", "eth0"), ("clients", "to-guest"), true);
    lab.ip("clients", &["link set to-guest master switch"]);
    lab.ip("guest", &[format!("address add {guest}/24 dev eth0"), "route add default via 10.4.0.1".into()]);
    lab.ip("director", &["address add 10.4.0.1/24 dev lb1"]);
    for (name, _) in lab::SERVERS {
        lab.ip(name, &["route add 10.4.0.0/24 dev eth0 table 100"]);
    }
    let text = config(&[nat(), dr()]).replace("[\"lb0\", \"lb1\"]", "[\"lb1\"]");
    let xvs = Xvs::start(&lab, &text);
    for vip in [NAT, DR] {
        let names: String = (0..3).map(|_| transfer(&lab, &lab.netns("guest"), guest, vip)).collect();
        assert_eq!(names, "cba", "{vip}");
    }
    let report = xvs.stop();
    let [conns, in_packets, out_packets, ..] = stats(&report, "TCP", NAT);
    assert!(conns == 3 && in_packets > 3 * 2000 && out_packets > 3 * 2000, "{report}");
    assert_eq!(stats(&report, "TCP", DR)[2], 0, "replies pass the director by");
}

/// ```text
///  clients ──── lb0 director lb1 ──── servers
///     └── mid ──── lb2 ┘
/// ```
#[test]
fn three_interfaces_and_replies_by_another_way_than_requests() {
    let lab = Lab::new();
    let (there, far) = (Ipv4Addr::new(10, 5, 0, 2), Ipv4Addr::new(203, 0, 113, 5));
    lab.add_netns("mid");
    lab.sysctl("mid", "ipv4/ip_forward", 1);
    lab.cable(("director", "lb2"), ("mid", "to-lb"), true);
    lab.cable(("mid", "to-cl"), ("clients", "to-mid"), true);
    lab.ip("mid", &[format!("address add {there}/24 dev to-lb"), "address add 10.6.0.1/24 dev to-cl".into()]);
    lab.ip("mid", &["route add default via 10.5.0.1", "route add 203.0.113.0/24 via 10.6.0.2"]);
    lab.ip(
        "clients",
        &[format!("address add {far}/32 dev cl0"), "address add 10.6.0.2/24 dev to-mid".into()],
    );
    lab.ip("director", &["address add 10.5.0.1/24 dev lb2", "route add 203.0.113.0/24 via 10.5.0.2"]);
    let text = config(&[nat(), dr()]).replace("\"lb1\"]", "\"lb1\", \"lb2\"]");
    let xvs = Xvs::start(&lab, &text);

    // The third interface's own clients, the first's, and those whose replies go by the third.
    for (netns, from) in [("mid", there), ("clients", NEAR), ("clients", far)] {
        let before = lab.received("mid", "to-lb");
        assert_eq!(transfer(&lab, &lab.netns(netns), from, NAT).len(), 1);
        let frames = lab.received("mid", "to-lb") - before;
        let by_third = from != NEAR;
        assert_eq!(frames > 1000, by_third, "{frames} frames to {from} by the third interface");
    }
    let report = xvs.stop();
    let [conns, in_packets, out_packets, ..] = stats(&report, "TCP", NAT);
    assert!(conns == 3 && in_packets > 3 * 2000 && out_packets > 3 * 2000, "{report}");
}

/// Sets the MTU of everything between clients and servers.
pub fn set_mtu(lab: &Lab, mtu: u16) {
    let of = |device: &str| format!("link set {device} mtu {mtu}");
    lab.ip("director", &[of("lb0"), of("lb1")]);
    lab.ip("clients", &["cl0", "to-lb", "to-a", "to-b", "to-c", "switch"].map(of));
    lab::SERVERS.iter().for_each(|(name, _)| lab.ip(name, &[of("eth0")]));
}

#[test]
fn the_longest_frames_that_a_chunk_holds() {
    // What a veth's native XDP takes in a page, less what the kernel keeps of it. Any interface's generic one takes more.
    for (mode, mtu) in [("native", 3506), ("generic", 3758)] {
        let lab = Lab::new();
        set_mtu(&lab, mtu);
        let text =
            config(&[nat(), dr()]).replace("[director]", &format!("[director]\nxdp_mode = \"{mode}\""));
        let xvs = Xvs::start(&lab, &text);
        for vip in [NAT, DR] {
            transfer(&lab, &lab.netns("clients"), NEAR, vip);
        }
        let report = xvs.stop();
        for vip in [NAT, DR] {
            let [_, in_packets, _, in_bytes, _] = stats(&report, "TCP", vip);
            // Acknowledgements of the file down are among them.
            let full = LEN as u64 / u64::from(mtu - 52);
            assert!(in_bytes > LEN as u64 && in_packets < 3 * full, "{mode} {vip}: {in_packets} packets");
        }
    }
}

/// The segment sizes that SYNs name as they arrive in a namespace, while `f` runs there.
fn sizes_named(netns: &str, port: u16, f: impl FnOnce()) -> Vec<u16> {
    use socket2::{Domain, Protocol, Socket, Type};
    use std::io::Read as _;
    let mut ear = inside(netns, || {
        // Whole packets of TCP, as they came in.
        let ear = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP)).expect("raw socket");
        ear.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        ear
    });
    f();
    let mut packet = [0; 1 << 16];
    let mut sizes = Vec::new();
    while let Ok(len) = ear.read(&mut packet) {
        let ip = etherparse::Ipv4Slice::from_slice(&packet[..len]).expect("IPv4");
        let tcp = etherparse::TcpSlice::from_slice(ip.payload().payload).expect("TCP");
        if tcp.syn() && (tcp.destination_port() == port || tcp.source_port() == port) {
            sizes.extend(tcp.options_iterator().filter_map(|option| match option {
                Ok(etherparse::TcpOptionElement::MaximumSegmentSize(size)) => Some(size),
                _ => None,
            }));
        }
    }
    sizes
}

#[test]
fn both_ends_of_nat_and_the_servers_of_dr_see_the_segment_size_lowered_on_the_wire() {
    let lab = Lab::new();
    let lowered = |service: String| service.replace("forward =", "mss_max = 1200\nforward =");
    let one = |vip, forward, port, name| {
        lowered(service(("tcp", vip), ("rr", forward), &[(SocketAddrV4::new(rip(name), port), 1)]))
    };
    let xvs = Xvs::start(&lab, &config(&[one(NAT, "nat", 8080, "a"), one(DR, "dr", 80, "b")]));
    let visit = |vip| {
        client::run(&lab, async || name_of_server(NEAR, vip).await.expect("served"));
    };
    assert_eq!(sizes_named(&lab.netns("a"), 8080, || visit(NAT)), [1200], "the server");
    assert_eq!(sizes_named(&lab.netns("clients"), 80, || visit(NAT)), [1200], "the client");
    assert_eq!(sizes_named(&lab.netns("b"), 80, || visit(DR)), [1200], "the server of DR");
    assert_eq!(sizes_named(&lab.netns("clients"), 80, || visit(DR)), [1460], "its answer does not come by");
    transfer(&lab, &lab.netns("clients"), NEAR, NAT);
    let [_, in_packets, ..] = stats(&xvs.stop(), "TCP", NAT);
    assert!(in_packets > LEN as u64 / 1200, "{in_packets}");
}

/// ```text
///  clients ── lb0 director lb1 ── switch ── in ──1300── out ── d 10.2.0.11, the far end of a tunnel
/// ```
#[test]
fn a_narrow_way_to_the_far_end_of_a_tunnel_is_learnt_by_the_client() {
    const BEHIND: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 11);
    for keys in [
        "tunnel = \"ipip\"",
        "tunnel = \"gue\"\ntunnel_port = 6080",
        "tunnel = \"gre\"\ntunnel_checksum = \"full\"",
    ] {
        let lab = Lab::new();
        for who in ["in", "out", "d"] {
            lab.add_netns(who);
            lab.sysctl(who, "ipv4/ip_forward", u32::from(who != "d"));
        }
        lab.cable(("in", "eth0"), ("clients", "to-in"), true);
        lab.cable(("in", "narrow"), ("out", "narrow"), true);
        lab.cable(("out", "inner"), ("d", "eth0"), true);
        lab.ip("clients", &["link set to-in master switch"]);
        lab.ip("in", &["address add 10.1.0.99/24 dev eth0", "address add 10.3.0.1/24 dev narrow"]);
        lab.ip("in", &["link set narrow mtu 1300", "route add 10.2.0.0/24 via 10.3.0.2"]);
        lab.ip("in", &["route add default via 10.1.0.254"]);
        lab.ip("out", &["address add 10.3.0.2/24 dev narrow", "address add 10.2.0.1/24 dev inner"]);
        lab.ip("out", &["link set narrow mtu 1300", "route add default via 10.3.0.1"]);
        lab.ip(
            "d",
            &[format!("address add {BEHIND}/24 dev eth0"), format!("address add {DR_VIP}/32 dev lo")],
        );
        lab.ip("d", &["route add default via 10.2.0.1"]);
        lab.ip("director", &["route add 10.2.0.0/23 via 10.1.0.99"]);
        // Its answers pass the director by.
        lab.sysctl("clients", "ipv4/ip_forward", 1);
        let at = SocketAddrV4::new(DR_VIP, 80);
        let _server = Server::start(&lab.netns("d"), "d", &[at], &[], lab.dir());
        let end = Decapsulator::start(&lab.netns("d"), Ipv4Addr::new(10, 1, 0, 1));

        let tun = service(("tcp", DR), ("rr", "tun"), &[])
            + &format!("[[service.server]]\naddress = \"{BEHIND}:80\"\n{keys}\n");
        let xvs = Xvs::start(&lab, &config(&[tun]));
        assert_eq!(transfer(&lab, &lab.netns("clients"), NEAR, DR), "d", "{keys}");
        let out =
            succeed(lab.command("clients", "ip").args(["route", "get", "10.0.0.101", "from", "10.0.1.1"]));
        let learnt = String::from_utf8_lossy(&out.stdout).into_owned();
        let overhead = if keys.contains("ipip") {
            20
        } else if keys.contains("gue") {
            32
        } else {
            28
        };
        assert!(learnt.contains(&format!(" mtu {}", 1300 - overhead)), "{keys}: {learnt}");
        // Another client, whose kernel knows nothing yet, is told by the director.
        assert_eq!(transfer(&lab, &lab.netns("clients"), lab::client(1), DR), "d", "{keys}");
        let longest = end.seen.longest.load(std::sync::atomic::Ordering::Relaxed);
        assert!((1250..=1300).contains(&longest), "{keys}: {longest}");
        assert_eq!(end.seen.bad.load(std::sync::atomic::Ordering::Relaxed), 0);
        drop(xvs.stop());
    }
}
