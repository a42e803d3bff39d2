//! ICMP errors about packets that the host itself sent through a tunnel to a server, and about all else that it sent.

use std::net::IpAddr;

use xvs::xdp::steer::{Outcome, Rules, Steering};

use crate::frames::{ICMP, ICMPV6, NETWORK, UDP, VLAN, icmp_message, ip, tagged, udp};
use crate::samples::{DNS, HTTP, Net, nets};
use crate::{endpoint, outcome, rules, steering};

const IPIP: u8 = 4;
const IPV6: u8 = 41;
const FRAGMENT: u8 = 44;
const GRE: u8 = 47;
const GUE_PORT: u16 = 6080;

/// The rules of all samples, and tunnels of every kind to `server`.
fn with_tunnels() -> Rules {
    let mut rules = rules();
    for Net { server, .. } in nets() {
        let ends = [(IPIP, 0), (GRE, 0), (UDP, GUE_PORT)];
        rules.tunnels.extend(ends.map(|(protocol, port)| endpoint(protocol, server, port)));
    }
    rules
}

/// What `from` says of this packet to `to`.
fn about(from: IpAddr, to: IpAddr, quoted: &[u8]) -> Vec<u8> {
    let (icmp, unreachable) = if from.is_ipv4() { (ICMP, 3) } else { (ICMPV6, 1) };
    ip(from, to, icmp, &icmp_message(unreachable, &quoted[NETWORK..]))
}

fn judged(steering: &mut Steering, name: &str, frame: &[u8]) -> Outcome {
    let untagged = outcome(steering, name, frame);
    assert_eq!(outcome(steering, name, &tagged(frame, VLAN)), untagged, "{name}, tagged");
    untagged
}

#[test]
fn errors_about_what_went_through_a_tunnel_are_ours_and_about_all_else_the_kernels() {
    let (mut steering, mut without) = (steering(&with_tunnels()), steering(&rules()));
    for Net { host, server, other, client, vip, .. } in nets() {
        let of = |protocol: u8, to: IpAddr| ip(host, to, protocol, &[0; 24]);
        let ours = [of(IPIP, server), of(GRE, server), udp(host, 40_000, server, GUE_PORT)];
        for (n, outer) in ours.iter().enumerate() {
            let error = about(other, host, outer);
            assert_eq!(judged(&mut steering, "of a tunnel", &error), Outcome::IcmpError, "{n} to {host}");
            assert_eq!(judged(&mut without, "without", &error), Outcome::PassNotOurs, "{n} to {host}");
            // Not to who sent that packet.
            let astray = about(other, client, outer);
            assert_eq!(judged(&mut steering, "astray", &astray), Outcome::PassNotOurs, "{n} to {host}");
        }
        let kernels = [
            ("another protocol", of(IPV6, server)),
            ("to who is no server", of(IPIP, other)),
            ("to the VIP", of(IPIP, vip)),
            ("another port", udp(host, 40_000, server, GUE_PORT + 1)),
            ("from that port", udp(host, GUE_PORT, server, 9)),
            ("DNS", udp(host, 40_000, server, DNS)),
            ("a health check", crate::tcp(host, 40_000, server, HTTP)),
            ("TCP to that port", crate::tcp(host, 40_000, server, GUE_PORT)),
        ];
        for (name, outer) in kernels {
            assert_eq!(
                judged(&mut steering, name, &about(other, host, &outer)),
                Outcome::PassNotOurs,
                "{name}"
            );
        }
        // The outer packets themselves, towards this host: whoever sends them, they are none of ours.
        for protocol in [IPIP, GRE] {
            assert_eq!(
                judged(&mut steering, "outer", &ip(server, host, protocol, &[0; 24])),
                Outcome::PassNotOurs
            );
        }
        // The errors that were ours stay so.
        let reply = crate::tcp(vip, HTTP, client, 40_000);
        assert_eq!(judged(&mut steering, "a reply", &about(client, vip, &reply)), Outcome::IcmpError);
    }
}

#[test]
fn ends_of_tunnels_come_and_go_with_the_rules() {
    let mut steering = steering(&rules());
    let Net { host, server, other, .. } = nets()[0];
    let error = about(other, host, &ip(host, server, IPIP, &[0; 24]));
    for (wanted, expected) in [
        (rules(), Outcome::PassNotOurs),
        (with_tunnels(), Outcome::IcmpError),
        (rules(), Outcome::PassNotOurs),
    ] {
        steering.apply(&wanted).unwrap();
        assert_eq!(judged(&mut steering, "an error", &error), expected);
    }
}

/// IPv6 in a tunnel, and every error that a router may send of it; a quoted first fragment shows as much as a whole packet.
#[test]
fn every_error_about_ipv6_in_a_tunnel_comes_up() {
    let mut rules = rules();
    rules.tunnels.extend(nets().map(|Net { server, .. }| endpoint(IPV6, server, 0)));
    rules.tunnels.extend(nets().map(|Net { server, .. }| endpoint(UDP, server, GUE_PORT)));
    let mut steering = steering(&rules);
    for Net { host, server, other, .. } in nets() {
        let six = ip(host, server, IPV6, &[0; 24]);
        let gue = udp(host, 40_000, server, GUE_PORT);
        let mut outers = vec![six, gue];
        let (icmp, kinds) = if host.is_ipv4() { (ICMP, vec![3, 11]) } else { (ICMPV6, vec![1, 2, 3, 4]) };
        if host.is_ipv6() {
            for outer in outers.clone() {
                let header = [&[outer[20], 0, 0, 1, 0, 0, 0, 9], &outer[NETWORK + 40..]].concat();
                outers.push(ip(host, server, FRAGMENT, &header));
            }
        }
        for (n, outer) in outers.iter().enumerate() {
            for &kind in &kinds {
                let error = ip(other, host, icmp, &icmp_message(kind, &outer[NETWORK..]));
                assert_eq!(judged(&mut steering, "of a tunnel", &error), Outcome::IcmpError, "{n} {kind}");
            }
        }
        // A later fragment tells nothing, and nobody has told of IPv4 in this tunnel.
        let four = ip(host, server, IPIP, &[0; 24]);
        assert_eq!(judged(&mut steering, "IPv4", &about(other, host, &four)), Outcome::PassNotOurs);
        if host.is_ipv6() {
            let later = ip(host, server, FRAGMENT, &[&[UDP, 0, 0, 9, 0, 0, 0, 9][..], &[0; 24]].concat());
            assert_eq!(judged(&mut steering, "later", &about(other, host, &later)), Outcome::PassNotOurs);
        }
    }
}
