//! TUN with real clients and servers: every tunnel, both sizes of files, and a path MTU that clients have to find.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::client::{self, Resolver, patiently};
use crate::decapsulator::{Decapsulator, GUE_PORT};
use crate::file::File;
use crate::lab::{self, DR, DR_VIP, Lab, SERVERS, UDP_PORT, alone};
use crate::xvs::{Xvs, abc, config, service, stats};

/// 4 MiB.
const FILE_LEN: usize = 4 << 20;
const TRANSFER_LIMIT: Duration = Duration::from_secs(30);
/// The director's address towards the servers.
const DIRECTOR: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

pub fn far_ends(lab: &Lab) -> Vec<Decapsulator> {
    SERVERS.iter().map(|(name, _)| Decapsulator::start(&lab.netns(name), DIRECTOR)).collect()
}

/// A service at the DR VIP whose servers are at the end of tunnels of the kinds in `keys`, in turn.
pub fn tunnelled(protocol: &str, port: u16, keys: &[&str]) -> String {
    let vip = SocketAddrV4::new(DR_VIP, port);
    let mut text = service((protocol, vip), ("rr", "tun"), &[]);
    for ((address, weight), keys) in abc(port, [1; 3]).into_iter().zip(keys.iter().cycle()) {
        text += &format!("[[service.server]]\naddress = \"{address}\"\nweight = {weight}\n{keys}\n");
    }
    text
}

#[test]
fn ipip_carries_files_and_datagrams() {
    carries(&["tunnel = \"ipip\""]);
}

#[test]
fn gue_with_and_without_checksum_carries_files_and_datagrams() {
    let plain = format!("tunnel = \"gue\"\ntunnel_port = {GUE_PORT}");
    let summed = format!("{plain}\ntunnel_checksum = \"full\"");
    carries(&[&plain]);
    carries(&[&summed]);
}

#[test]
fn gre_with_and_without_checksum_carries_files_and_datagrams() {
    carries(&["tunnel = \"gre\""]);
    carries(&["tunnel = \"gre\"\ntunnel_checksum = \"full\""]);
}

/// No room fits all of them, so packets are moved.
#[test]
fn servers_of_one_service_may_have_different_tunnels() {
    let gue = format!("tunnel = \"gue\"\ntunnel_port = {GUE_PORT}\ntunnel_checksum = \"full\"");
    carries(&["tunnel = \"ipip\"", &gue, "tunnel = \"gre\""]);
}

fn carries(keys: &[&str]) {
    let _alone = alone();
    let lab = Lab::new();
    let ends = far_ends(&lab);
    let file = File::new(&lab, FILE_LEN, TRANSFER_LIMIT);
    let text = config(&[tunnelled("tcp", 80, keys), tunnelled("udp", UDP_PORT, keys)]);
    let xvs = Xvs::start(&lab, &text);
    client::run(&lab, async || {
        for index in 0..3 {
            // Full segments do not fit the tunnel: the client has to be told, and to listen.
            file.both_ways(lab::client(index), DR).await;
        }
        let resolver =
            Resolver::new(SocketAddrV4::new(lab::client(3), 20_000), SocketAddrV4::new(DR_VIP, UDP_PORT));
        patiently(resolver.await.expect("socket").ask(7)).await.expect("an answer");
    });
    let [conns, in_packets, out_packets, ..] = stats(&xvs.stop(), "TCP", DR);
    assert_eq!((conns, out_packets), (3, 0), "replies pass the director by");
    let carried: u64 = ends.iter().map(|end| end.seen.packets.load(Relaxed)).sum();
    assert!(carried > in_packets / 2 && carried > 3 * FILE_LEN as u64 / 1500, "{carried} of {in_packets}");
    for end in &ends {
        assert_eq!(end.seen.bad.load(Relaxed), 0, "badly wrapped");
        let longest = end.seen.longest.load(Relaxed);
        assert!(
            (1460..=1500).contains(&longest),
            "the path MTU, which is one for all servers, is used and kept: {longest}"
        );
    }
}
