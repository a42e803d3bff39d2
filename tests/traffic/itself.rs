//! The lab itself, without xvs: what fails here is not the director's fault.

use std::net::SocketAddrV4;

use crate::client::{self, Resolver};
use crate::lab::{self, DR_VIP, Lab, NAT_VIP, SERVERS, TCP_PORTS, UDP_PORT};
use crate::netns::inside;

#[test]
fn the_lab_works_without_xvs_through_the_directors_kernel() {
    let lab = Lab::new();
    // More specific than the switch's network, so that requests take the director's way too.
    lab.ip("clients", &SERVERS.map(|(_, rip)| format!("route add {rip}/32 via 10.0.0.1")));
    client::run(&lab, async || {
        for (index, (name, rip)) in SERVERS.into_iter().enumerate() {
            for port in TCP_PORTS {
                let answer = client::name_of_server(lab::client(index), SocketAddrV4::new(rip, port)).await;
                assert_eq!(answer.expect("TCP answer"), name);
            }
            let resolver = Resolver::new(
                SocketAddrV4::new(lab::client(index), 20_000),
                SocketAddrV4::new(rip, UDP_PORT),
            )
            .await
            .expect("socket");
            assert_eq!(resolver.ask(7).await.expect("UDP answer"), name);
        }
    });
}

#[test]
fn the_lab_carries_load_without_xvs() {
    let _alone = lab::alone();
    let lab = Lab::new();
    lab.ip("clients", &SERVERS.map(|(_, rip)| format!("route add {rip}/32 via 10.0.0.1")));
    let names = client::run(&lab, async || {
        let ask = |i: usize| client::name_of_server(lab::client(i), SocketAddrV4::new(SERVERS[i % 3].1, 80));
        client::tally(client::many(6_000, 64, ask).await)
    });
    assert_eq!(names.values().copied().collect::<Vec<_>>(), [2_000; 3]);
}

#[test]
fn every_server_holds_the_dr_vip_and_only_the_director_answers_arp_for_it() {
    let lab = Lab::new();
    for (name, _) in SERVERS {
        let vip = SocketAddrV4::new(DR_VIP, 80);
        let answer = client::run_in(&lab.netns(name), async || client::name_of_server(DR_VIP, vip).await);
        assert_eq!(answer.expect("its own VIP"), name);
    }
    // From the servers' switch nobody answers for the VIP: the neighbour entry fails.
    lab.ip("clients", &[format!("route add {DR_VIP}/32 dev switch src 10.1.0.254")]);
    let unreachable = client::run(&lab, async || {
        client::name_of_server([10, 1, 0, 254], SocketAddrV4::new(DR_VIP, 80)).await
    });
    assert!(unreachable.is_err(), "somebody on the switch answers ARP for {DR_VIP}: {unreachable:?}");
}

#[test]
fn without_xvs_nobody_serves_the_vips() {
    let lab = Lab::new();
    for vip in [NAT_VIP, DR_VIP] {
        let answer = client::run(&lab, async || {
            client::name_of_server(lab::client(0), SocketAddrV4::new(vip, 80)).await
        });
        let error = answer.expect_err("the director's kernel has no listener");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}

#[test]
fn a_lab_leaves_nothing_behind() {
    let lab = Lab::new();
    let names: Vec<String> = ["clients", "director", "a", "b", "c"].map(|who| lab.netns(who)).into();
    let dir = lab.dir().to_owned();
    for name in &names {
        let loopback =
            inside(name, || std::fs::read_to_string("/proc/thread-self/net/dev").expect("readable"));
        assert!(loopback.contains("lo:"), "{name} is a network namespace");
    }
    drop(lab);
    let left: Vec<_> =
        names.iter().filter(|name| std::path::Path::new("/run/netns").join(name).exists()).collect();
    assert!(left.is_empty() && !dir.exists(), "left behind: {left:?} {dir:?}");
}
