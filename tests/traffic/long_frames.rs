//! Frames of several chunks, as links of MTU 9000 have them: real files and datagrams, by each way of forwarding.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::net::UdpSocket;

use crate::client::{self, within};
use crate::lab::{self, DR, Lab, NAT, NAT_VIP, UDP_PORT};
use crate::links::{LEN, set_mtu, transfer};
use crate::offload::frames;
use crate::server::{Server, answer};
use crate::tunnels::{far_ends, tunnelled};
use crate::xvs::{Xvs, abc, dr, nat, offloading, service, stats, until};

const ANSWERED: Duration = Duration::from_secs(2);
const NEAR: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);

/// A lab of such links; with offloading, one whose ends take redirected frames.
fn lab_of(mtu: u16, offload: &str) -> Lab {
    let lab = Lab::new();
    set_mtu(&lab, mtu);
    if offload == "on" {
        lab.take_redirected();
    }
    lab
}

#[test]
fn files_of_long_segments_go_both_ways_by_nat_and_dr() {
    for (mode, mtu, frame_bytes, offload) in [
        ("native", 9000, 4096, "off"),
        ("native", 9000, 4096, "on"),
        ("native", 9216, 2048, "off"),
        ("generic", 9216, 4096, "off"),
    ] {
        let lab = lab_of(mtu, offload);
        let text = offloading(offload, &[nat(), dr()])
            .replace("[director]", &format!("[director]\nxdp_mode = \"{mode}\"\nframe_bytes = {frame_bytes}"))
            .replace("offload = \"on\"", "offload = \"on\"\noffload_after = 0");
        let xvs = Xvs::start(&lab, &text);
        for vip in [NAT, DR] {
            transfer(&lab, &lab.netns("clients"), NEAR, vip);
        }
        let report = xvs.stop();
        for vip in [NAT, DR] {
            let [_, in_packets, _, in_bytes, _] = stats(&report, "TCP", vip);
            // Acknowledgements of the file down are among them.
            let full = LEN as u64 / u64::from(mtu - 52);
            assert!(
                in_bytes > LEN as u64 && in_packets < 4 * full,
                "{mode} {mtu} {vip}: {in_packets} packets"
            );
        }
        // Acknowledgements are of one buffer and go on being offloaded, long segments come up.
        assert_eq!(frames(&report, "offloaded") > 0, offload == "on", "{report}");
        assert!(frames(&report, "service") > LEN as u64 / 9000, "{report}");
        assert_eq!(frames(&report, "pass_malformed"), 0, "{report}");
    }
}

async fn socket(from: Ipv4Addr) -> UdpSocket {
    UdpSocket::bind(SocketAddrV4::new(from, 0)).await.expect("bound")
}

/// Whether a datagram of so many bytes comes back whole, with the server's name, one letter, behind.
async fn echo(socket: &UdpSocket, vip: SocketAddrV4, len: usize) -> bool {
    let query: Vec<u8> = (0..len).map(|_| fastrand::u8(..)).collect();
    socket.send_to(&query, SocketAddr::V4(vip)).await.expect("sent");
    let mut buffer = vec![0; 65_536];
    let Ok(arrived) = within(ANSWERED, socket.recv_from(&mut buffer)).await else { return false };
    assert_eq!(arrived.1, SocketAddr::V4(vip));
    let name = buffer[..arrived.0].strip_prefix(answer(&query, "").as_slice());
    assert_eq!(name.map(<[u8]>::len), Some(1), "{len} bytes came back as {} others", arrived.0);
    true
}

/// Datagrams that are one packet, and those that are several long fragments.
#[test]
fn large_datagrams_are_echoed_whole() {
    let lens = [1000, 3500, 3700, 3800, 5000, 8000, 8971, 8972, 20_000, 60_000];
    for offload in ["off", "on"] {
        let lab = lab_of(9000, offload);
        let vip = SocketAddrV4::new(NAT_VIP, UDP_PORT);
        let xvs = Xvs::start(
            &lab,
            &offloading(offload, &[service(("udp", vip), ("rr", "nat"), &abc(UDP_PORT, [1; 3]))])
                .replace("offload = \"on\"", "offload = \"on\"\noffload_after = 0"),
        );
        client::run(&lab, async || {
            let socket = socket(NEAR).await;
            for len in lens {
                assert!(echo(&socket, vip, len).await, "{len} bytes, offload {offload}");
            }
        });
        let [conns, in_packets, out_packets, ..] = stats(&xvs.stop(), "UDP", vip);
        assert_eq!([conns, in_packets, out_packets], [1, lens.len() as u64, lens.len() as u64]);
    }
}

/// With room in front of it a packet is not moved; without it, it is. Either way the client has to find out what fits.
#[test]
fn long_segments_go_through_tunnels_and_clients_are_told_what_fits() {
    let gue = "tunnel = \"gue\"\ntunnel_port = 6080\ntunnel_checksum = \"full\"";
    let mixed = ["tunnel = \"ipip\"", gue, "tunnel = \"gre\""];
    for (keys, offload) in [(&mixed[..1], "off"), (&mixed[..1], "on"), (&mixed[..], "off")] {
        let lab = lab_of(9000, offload);
        let far = far_ends(&lab);
        let text = offloading(offload, &[tunnelled("tcp", 80, keys), tunnelled("udp", UDP_PORT, keys)]);
        let xvs = Xvs::start(&lab, &text.replace("offload = \"on\"", "offload = \"on\"\noffload_after = 0"));
        for index in 0..3 {
            transfer(&lab, &lab.netns("clients"), lab::client(index), DR);
        }
        let report = xvs.stop();
        let [conns, _, out_packets, ..] = stats(&report, "TCP", DR);
        assert_eq!((conns, out_packets), (3, 0), "replies pass the director by");
        for end in &far {
            assert_eq!(end.seen.bad.load(Relaxed), 0, "badly wrapped");
            let longest = end.seen.longest.load(Relaxed);
            assert!((8960..=9000).contains(&longest), "{keys:?}: {longest}");
        }
    }
}

/// What the host's own server sends is read from a device, and sent in several chunks.
#[test]
fn a_server_on_the_director_sends_long_segments() {
    let lab = lab_of(9000, "off");
    let own = SocketAddrV4::new(Ipv4Addr::new(10, 1, 0, 1), 8081);
    let _host = Server::start(&lab.netns("director"), "host", &[own], &[], lab.dir());
    let xvs = Xvs::start(&lab, &offloading("off", &[service(("tcp", NAT), ("rr", "nat"), &[(own, 1)])]));
    until("it serves", || client::run(&lab, async || client::name_of_server(NEAR, NAT).await.is_ok()));
    assert_eq!(transfer(&lab, &lab.netns("clients"), NEAR, NAT), "host");
    let [_, in_packets, out_packets, _, out_bytes] = stats(&xvs.stop(), "TCP", NAT);
    assert!(out_bytes > LEN as u64, "{out_bytes}");
    let full = LEN as u64 / 8900;
    assert!(in_packets < 4 * full && out_packets < 4 * full, "{in_packets} {out_packets}");
}

/// What is too long for the way behind the director is told, or split into pieces that are not.
#[test]
fn a_short_way_behind_long_frames_is_learnt_or_split_for() {
    let lab = Lab::new();
    lab.ip("director", &["link set lb0 mtu 9000"]);
    lab.ip("clients", &["link set cl0 mtu 9000"]);
    let vip = SocketAddrV4::new(NAT_VIP, UDP_PORT);
    let udp = service(("udp", vip), ("rr", "nat"), &abc(UDP_PORT, [1; 3]));
    let xvs = Xvs::start(&lab, &offloading("off", &[nat(), udp]));
    let answered = |from| client::run(&lab, async || echo(&socket(from).await, vip, 8000).await);
    lab.sysctl("clients", "ipv4/ip_no_pmtu_disc", 1);
    assert!(answered(lab::client(1)), "in pieces that the director made");
    lab.sysctl("clients", "ipv4/ip_no_pmtu_disc", 0);
    assert!(!answered(NEAR) && answered(NEAR), "the first one is lost, and tells the client");
    transfer(&lab, &lab.netns("clients"), NEAR, NAT);
    drop(xvs.stop());
}
