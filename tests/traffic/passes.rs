//! What is not ours stays with the director's kernel while xvs runs.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::client;
use crate::lab::{self, DR_VIP, Lab, NAT, NAT_VIP};
use crate::netns::succeed;
use crate::server::Server;
use crate::xvs::{Xvs, abc, config, nat};

const DIRECTOR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

#[test]
fn ping_to_a_vip_is_answered_by_the_directors_kernel() {
    let lab = Lab::new();
    let _xvs = Xvs::start(&lab, &config(&[nat()]));
    for address in [NAT_VIP, DR_VIP, DIRECTOR] {
        succeed(lab.command("clients", "ping").args([
            "-n",
            "-c3",
            "-i0.2",
            "-W2",
            "-q",
            &address.to_string(),
        ]));
    }
}

#[test]
fn the_directors_own_services_stay_reachable_on_its_address_and_on_the_vip() {
    let lab = Lab::new();
    let ports = [SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 22)];
    let _sshd = Server::start(&lab.netns("director"), "director", &ports, &[], lab.dir());
    let _xvs = Xvs::start(&lab, &config(&[nat()]));
    for address in [DIRECTOR, NAT_VIP] {
        let ssh = SocketAddrV4::new(address, 22);
        let name = client::run(&lab, async || client::name_of_server(lab::client(0), ssh).await);
        assert_eq!(name.expect("answered"), "director", "at {ssh}");
    }
    // And what is a service is served by the servers, on the same address.
    let name = client::run(&lab, async || client::name_of_server(lab::client(0), NAT).await);
    assert_eq!(name.expect("answered"), "c");
}

#[test]
fn the_director_itself_reaches_the_servers_as_a_health_check_does() {
    let lab = Lab::new();
    let _xvs = Xvs::start(&lab, &config(&[nat()]));
    for (server, _) in abc(8080, [1; 3]) {
        let from = Ipv4Addr::new(10, 1, 0, 1);
        let name =
            client::run_in(&lab.netns("director"), async || client::name_of_server(from, server).await);
        assert!(name.is_ok(), "from {from} to {server}: {name:?}");
    }
}

/// The server's answer comes through the director, from an endpoint that NAT replies come from too, but belongs to
/// no connection: a router's business.
#[test]
fn a_nat_server_is_reached_directly_through_the_director() {
    let lab = Lab::new();
    let xvs = Xvs::start(&lab, &config(&[nat()]));
    for (server, _) in abc(8080, [1; 3]) {
        let name = client::run(&lab, async || client::name_of_server(lab::client(3), server).await);
        assert!(name.is_ok(), "{server}: {name:?}");
    }
    let report = xvs.stop();
    let strays = report.lines().find(|line| line.contains("belonged to no connection")).expect("a line");
    assert!(!strays.trim_start().starts_with("0 "), "the answers did not come this way:\n{report}");
}
