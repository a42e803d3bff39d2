//! Fragments on real links: large datagrams, fragments in the wrong order, and segments too long for the link behind.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::UdpSocket;
use xvs::packet::checksum;

use crate::client::{self, patiently};
use crate::decapsulator::GUE_PORT;
use crate::file::File;
use crate::lab::{self, DR_VIP, Lab, NAT_VIP, SERVERS, UDP_PORT, alone};
use crate::netns::inside;
use crate::server::answer;
use crate::tunnels::{far_ends, tunnelled};
use crate::xvs::{Xvs, abc, config, service, stats};

const DATAGRAM_LEN: usize = 8 << 10;
/// Client sockets, and datagrams of each.
const SOCKETS: usize = 30;
const DATAGRAMS: usize = 5;
/// 4 MiB.
const FILE_LEN: usize = 4 << 20;
const TRANSFER_LIMIT: Duration = Duration::from_secs(30);

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|_| fastrand::u8(..)).collect()
}

/// The name of the server whose answer to `query` this is.
fn name_in(query: &[u8], got: &[u8]) -> String {
    let name = got.strip_prefix(answer(query, "").as_slice()).expect("the whole datagram comes back");
    String::from_utf8(name.to_vec()).expect("a name")
}

/// Large datagrams from many sockets, and their answers; how many sockets each server answered.
async fn large_datagrams(vip: SocketAddrV4) -> BTreeMap<String, usize> {
    let one_socket = move |index: usize| async move {
        let from = SocketAddrV4::new(lab::client(index), 21_000 + u16::try_from(index).expect("few"));
        let socket = UdpSocket::bind(SocketAddr::V4(from)).await?;
        let mut names = Vec::new();
        for n in 0..DATAGRAMS {
            let query = bytes(DATAGRAM_LEN - n);
            socket.send_to(&query, SocketAddr::V4(vip)).await?;
            let mut buffer = vec![0; 65_536];
            let (len, from) = patiently(socket.recv_from(&mut buffer)).await?;
            assert_eq!(from, SocketAddr::V4(vip));
            names.push(name_in(&query, &buffer[..len]));
        }
        names.dedup();
        assert_eq!(names.len(), 1, "one flow, one server: {names:?}");
        Ok(names.remove(0))
    };
    client::tally(client::many(SOCKETS, 4, one_socket).await)
}

/// Sends them through a director with these services; its counters of packets and bytes, in and out.
fn carries(vip: SocketAddrV4, services: &[String], tunnels: bool) -> [u64; 4] {
    let _alone = alone();
    let lab = Lab::new();
    let ends = if tunnels { far_ends(&lab) } else { Vec::new() };
    let xvs = Xvs::start(&lab, &config(services));
    let names = client::run(&lab, async || large_datagrams(vip).await);
    assert!(names.len() == 3 && names.values().all(|&n| n == SOCKETS / 3), "{names:?}");
    assert!(ends.iter().all(|end| end.seen.bad.load(Relaxed) == 0), "badly wrapped");
    let [conns, counted @ ..] = stats(&xvs.stop(), "UDP", vip);
    assert_eq!(conns, SOCKETS as u64);
    counted
}

const PACKETS: u64 = (SOCKETS * DATAGRAMS) as u64;
/// Of whole datagrams, as the kernel's IPVS would count them.
const BYTES: u64 = SOCKETS as u64 * (DATAGRAMS as u64 * (DATAGRAM_LEN as u64 + 28) - 10);

#[test]
fn datagrams_of_8_kib_go_both_ways_by_nat() {
    let vip = SocketAddrV4::new(NAT_VIP, UDP_PORT);
    let counted = carries(vip, &[service(("udp", vip), ("rr", "nat"), &abc(UDP_PORT, [1; 3]))], false);
    // The answers are longer by the server's name, one letter.
    assert_eq!(counted, [PACKETS, PACKETS, BYTES, BYTES + PACKETS]);
}

#[test]
fn datagrams_of_8_kib_go_by_dr() {
    let vip = SocketAddrV4::new(DR_VIP, UDP_PORT);
    let counted = carries(vip, &[service(("udp", vip), ("rr", "dr"), &abc(UDP_PORT, [1; 3]))], false);
    assert_eq!(counted, [PACKETS, 0, BYTES, 0]);
}

#[test]
fn datagrams_of_8_kib_go_through_tunnels_whose_packets_are_fragmented_too() {
    let vip = SocketAddrV4::new(DR_VIP, UDP_PORT);
    let gue = format!("tunnel = \"gue\"\ntunnel_port = {GUE_PORT}\ntunnel_checksum = \"full\"");
    let keys = ["tunnel = \"ipip\"", &gue, "tunnel = \"gre\""];
    let counted = carries(vip, &[tunnelled("udp", UDP_PORT, &keys)], true);
    assert_eq!(counted, [PACKETS, 0, BYTES, 0]);
}

/// The datagram `payload` as IPv4 packets of at most `step` bytes behind the header.
fn pieces(from: SocketAddrV4, to: SocketAddrV4, id: u16, payload: &[u8], step: usize) -> Vec<Vec<u8>> {
    let len = u16::try_from(payload.len() + 8).expect("a datagram");
    let mut udp = [from.port().to_be_bytes(), to.port().to_be_bytes(), len.to_be_bytes(), [0; 2]].concat();
    udp.extend(payload);
    let sum = checksum::of_transport((*from.ip()).into(), (*to.ip()).into(), 17, &udp);
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    let piece = |(n, part): (usize, &[u8])| {
        let more = if (n + 1) * step < udp.len() { 0x2000 } else { 0 };
        let field = u16::try_from(n * step / 8).expect("in a datagram") | more;
        let len = u16::try_from(20 + part.len()).expect("in a datagram");
        let mut ip = vec![0x45, 0];
        ip.extend([len.to_be_bytes(), id.to_be_bytes(), field.to_be_bytes(), [64, 17], [0, 0]].concat());
        ip.extend([from.ip().octets(), to.ip().octets()].concat());
        [&ip[..], part].concat()
    };
    udp.chunks(step).enumerate().map(piece).collect()
}

#[test]
fn fragments_in_any_order_are_answered() {
    let _alone = alone();
    let lab = Lab::new();
    let vips = [NAT_VIP, DR_VIP].map(|ip| SocketAddrV4::new(ip, UDP_PORT));
    let services = [(vips[0], "nat"), (vips[1], "dr")]
        .map(|(vip, forward)| service(("udp", vip), ("rr", forward), &abc(UDP_PORT, [1; 3])));
    let xvs = Xvs::start(&lab, &config(&services));
    let mut id = 0;
    for vip in vips {
        for round in 0..20 {
            id += 1;
            let from = SocketAddrV4::new(lab::client(round), 22_000 + id);
            let query = bytes(4000);
            let mut fragments = pieces(from, vip, id, &query, 800);
            match round {
                0 => fragments.reverse(),
                1 => fragments.rotate_left(1),
                _ => fastrand::shuffle(&mut fragments),
            }
            let got = client::run(&lab, async || {
                let socket = UdpSocket::bind(SocketAddr::V4(from)).await.expect("a socket");
                let raw =
                    Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).expect("raw socket");
                for fragment in &fragments {
                    raw.send_to(fragment, &SockAddr::from(vip)).expect("sent");
                }
                let mut buffer = vec![0; 65_536];
                let (len, _) = patiently(socket.recv_from(&mut buffer)).await.expect("an answer");
                buffer.truncate(len);
                buffer
            });
            name_in(&query, &got);
        }
    }
    let report = xvs.stop();
    for vip in vips {
        assert_eq!(stats(&report, "UDP", vip)[1], 20, "one packet for each datagram");
    }
}

/// How many fragments this host was asked to put together.
fn fragments_at(lab: &Lab, who: &str) -> u64 {
    let text = inside(&lab.netns(who), || std::fs::read_to_string("/proc/thread-self/net/snmp"));
    let text = text.expect("counters of IP");
    let mut rows = text.lines().filter(|line| line.starts_with("Ip:")).map(str::split_whitespace);
    let (names, numbers) = (rows.next().expect("names"), rows.next().expect("numbers"));
    let (_, number) = names.zip(numbers).find(|(name, _)| *name == "ReasmReqds").expect("a counter");
    number.parse().expect("a number")
}

/// The servers' links take 1,300 bytes, they ask for segments of 1,460, and clients let routers fragment.
#[test]
fn segments_too_long_for_the_servers_links_arrive_in_fragments() {
    for (vip, forward, port, table) in [(NAT_VIP, "nat", 8080, ""), (DR_VIP, "dr", 80, " table 100")] {
        let gateway = if table.is_empty() { "10.1.0.1" } else { "10.1.0.254" };
        let _alone = alone();
        let lab = Lab::new();
        lab.sysctl("clients", "ipv4/ip_no_pmtu_disc", 1);
        lab.ip("director", &["link set lb1 mtu 1300"]);
        for (name, _) in SERVERS {
            let route = format!("route replace default via {gateway}{table} advmss 1460");
            lab.ip(name, &["link set eth0 mtu 1300".to_owned(), route]);
        }
        let names = transfer(&lab, vip, forward, port);
        let fragments: u64 = names.iter().map(|name| fragments_at(&lab, name)).sum();
        assert!(fragments > 2 * FILE_LEN as u64 / 1460, "{fragments}");
    }
}

/// The other way round: the clients' link takes 1,200 bytes, and the servers let routers fragment.
#[test]
fn segments_too_long_for_the_clients_link_arrive_in_fragments() {
    let _alone = alone();
    let lab = Lab::new();
    lab.ip("director", &["link set lb0 mtu 1200"]);
    lab.ip(
        "clients",
        &["link set cl0 mtu 1200", "route replace 10.0.0.0/16 dev cl0 scope link src 10.0.1.1 advmss 1460"],
    );
    for (name, _) in SERVERS {
        lab.sysctl(name, "ipv4/ip_no_pmtu_disc", 1);
        // It counts for sockets made from now on.
        lab.stop_server(name);
        lab.restart_server(name);
    }
    transfer(&lab, NAT_VIP, "nat", 8080);
    let fragments = fragments_at(&lab, "clients");
    assert!(fragments > 2 * FILE_LEN as u64 / 1460, "{fragments}");
}

/// A file both ways, compared byte by byte; the name of its server.
fn transfer(lab: &Lab, vip: Ipv4Addr, forward: &str, port: u16) -> Vec<String> {
    let file = File::new(lab, FILE_LEN, TRANSFER_LIMIT);
    let vip = SocketAddrV4::new(vip, 80);
    let xvs = Xvs::start(lab, &config(&[service(("tcp", vip), ("rr", forward), &abc(port, [1; 3]))]));
    let (name, _) = client::run(lab, async || file.both_ways(lab::client(0), vip).await);
    xvs.stop();
    vec![name]
}
