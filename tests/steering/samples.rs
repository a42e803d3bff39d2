//! The specification of the steering program: what each frame is, in both families.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{IpHeaders, Ipv4Extensions, Ipv4Header, Ipv4Options, Ipv6FlowLabel, Ipv6Header};
use xvs::xdp::steer::Outcome;

use crate::frames::*;

pub const HTTP: u16 = 80;
pub const DNS: u16 = 53;
/// The port that the real servers listen on.
pub const BACKEND: u16 = 8080;
pub const CLIENT_PORT: u16 = 40_000;

/// The addresses of one family; the families are twins.
pub struct Net {
    pub client: IpAddr,
    /// TCP 80, UDP 53 and SCTP 80 are services; the kernel has the address on an interface as well.
    pub vip: IpAddr,
    /// Every TCP port is a service; the kernel has this address too.
    pub whole: IpAddr,
    /// An address of this host that is no VIP.
    pub host: IpAddr,
    /// A NAT server for TCP 8080.
    pub server: IpAddr,
    /// A NAT server for every TCP port.
    pub any_port_server: IpAddr,
    /// Somebody else.
    pub other: IpAddr,
}

pub fn nets() -> [Net; 2] {
    ["10.9.0.", "fd00:9::"].map(|prefix| {
        let address = |last: &str| format!("{prefix}{last}").parse().unwrap();
        Net {
            client: address("1"),
            vip: address("100"),
            whole: address("101"),
            host: address("2"),
            server: address("11"),
            any_port_server: address("12"),
            other: address("200"),
        }
    })
}

type Sample = (&'static str, Vec<u8>, Outcome);

pub fn samples(net: &Net) -> Vec<Sample> {
    use Outcome::{Fragment, NatReturn, PassHost, PassMalformed, PassNotOurs, Service, ServiceAnyPort};
    let Net { client, vip, whole, host, server, any_port_server, other } = *net;
    let mut samples = vec![
        // Ours.
        ("TCP to a service", tcp(client, CLIENT_PORT, vip, HTTP), Service),
        ("UDP to a service", udp(client, CLIENT_PORT, vip, DNS), Service),
        ("SCTP to a service", sctp(client, CLIENT_PORT, vip, HTTP), Service),
        ("a server that is a client of a service", tcp(server, BACKEND, vip, HTTP), Service),
        ("TCP to a whole-address service", tcp(client, CLIENT_PORT, whole, 12_345), ServiceAnyPort),
        ("a NAT server's reply", tcp(server, BACKEND, client, CLIENT_PORT), NatReturn),
        ("an any-port NAT server's reply", tcp(any_port_server, 99, client, CLIENT_PORT), NatReturn),
        ("the first fragment to a VIP", fragment(client, vip, UDP, 0, true), Fragment),
        ("a middle fragment to a VIP", fragment(client, vip, UDP, 185, true), Fragment),
        ("the last fragment to a VIP", fragment(client, vip, TCP, 370, false), Fragment),
        ("a fragment to a whole-address VIP", fragment(client, whole, TCP, 0, true), Fragment),
        ("the first fragment from a NAT server", fragment(server, client, TCP, 0, true), Fragment),
        ("a later fragment from a NAT server", fragment(server, client, TCP, 185, false), Fragment),
        ("a fragment from an any-port NAT server", fragment(any_port_server, other, TCP, 9, true), Fragment),
        ("a NAT server's fragment of another protocol", fragment(server, client, UDP, 185, true), Fragment),
        ("a NAT server's fragment to a VIP", fragment(server, vip, TCP, 185, true), Fragment),
        // Not ours.
        ("a NAT server's fragment to the host", fragment(server, host, TCP, 185, true), PassHost),
        ("a NAT server's fragment of VRRP", fragment(server, client, VRRP, 0, true), PassNotOurs),
        ("ssh to the host", tcp(client, CLIENT_PORT, host, 22), PassNotOurs),
        ("ssh to the VIP", tcp(client, CLIENT_PORT, vip, 22), PassNotOurs),
        ("UDP to the port of a TCP service", udp(client, CLIENT_PORT, vip, HTTP), PassNotOurs),
        ("UDP to a whole-address TCP service", udp(client, CLIENT_PORT, whole, DNS), PassNotOurs),
        ("TCP to another address", tcp(client, CLIENT_PORT, other, HTTP), PassNotOurs),
        ("a service's own address as source", tcp(vip, HTTP, client, CLIENT_PORT), PassNotOurs),
        ("a health check's reply", tcp(server, BACKEND, host, 50_000), PassHost),
        ("a health check's reply to the VIP", tcp(server, BACKEND, vip, 50_000), PassHost),
        ("an any-port server's reply to a check", tcp(any_port_server, 99, host, 50_000), PassHost),
        ("ssh from a NAT server", tcp(server, 22, client, CLIENT_PORT), PassNotOurs),
        ("UDP from a TCP NAT server", udp(server, BACKEND, client, CLIENT_PORT), PassNotOurs),
        ("a fragment to the host", fragment(client, host, UDP, 185, true), PassNotOurs),
        ("a fragment to another address", fragment(client, other, UDP, 0, true), PassNotOurs),
        ("VRRP to the host", ip(client, host, VRRP, &[0x21; 20]), PassNotOurs),
        ("VRRP to a VIP", ip(client, vip, VRRP, &[0x21; 20]), PassNotOurs),
        ("TCP too short for its ports", ip(client, vip, TCP, &[0, 0, 80]), PassMalformed),
    ];
    samples.extend(icmp_samples(net));
    samples.extend(match (client, vip) {
        (IpAddr::V4(client), IpAddr::V4(vip)) => ipv4_samples(client, vip),
        _ => ipv6_samples(client, vip),
    });
    samples
}

fn icmp_samples(net: &Net) -> Vec<Sample> {
    let Net { client, vip, host, other, .. } = *net;
    let (icmp, errors, others, foreign): (u8, &[u8], &[u8], u8) = if vip.is_ipv4() {
        // Unreachable, quench, time exceeded, parameter problem; echo both ways, redirect, timestamp.
        (ICMP, &[3, 4, 11, 12], &[0, 8, 5, 13], ICMPV6)
    } else {
        // Unreachable, too big, time exceeded, parameter problem; echo both ways, ND, undefined ones.
        (ICMPV6, &[1, 2, 3, 4], &[128, 129, 133, 134, 135, 136, 137, 0, 5], ICMP)
    };
    let message = |to: IpAddr, kind: u8| ip(client, to, icmp, &icmp_message(kind));

    let mut samples = vec![
        ("ping to the VIP", echo_request(client, vip), Outcome::PassNotOurs),
        ("a fragment of a ping to the VIP", fragment(client, vip, icmp, 0, true), Outcome::PassNotOurs),
        ("an ICMP error too short", ip(client, vip, icmp, &[3, 0, 0, 0]), Outcome::PassMalformed),
        ("the other family's ICMP", ip(client, vip, foreign, &icmp_message(3)), Outcome::PassNotOurs),
    ];
    for &kind in errors {
        samples.push(("an ICMP error to a VIP", message(vip, kind), Outcome::IcmpError));
        samples.push(("an ICMP error to the host", message(host, kind), Outcome::PassNotOurs));
        samples.push(("an ICMP error to another", message(other, kind), Outcome::PassNotOurs));
    }
    for &kind in others {
        samples.push(("no ICMP error", message(vip, kind), Outcome::PassNotOurs));
    }
    samples
}

fn ipv4_samples(client: Ipv4Addr, vip: Ipv4Addr) -> Vec<Sample> {
    let plain = udp(client.into(), CLIENT_PORT, vip.into(), DNS);
    let with_options = |words: usize| {
        let mut header = Ipv4Header::new(0, 64, UDP.into(), client.octets(), vip.octets()).unwrap();
        header.options = Ipv4Options::try_from(&vec![1; 4 * words][..]).unwrap();
        udp_over(IpHeaders::Ipv4(header, Ipv4Extensions::default()), CLIENT_PORT, DNS)
    };
    vec![
        ("one word of options", with_options(1), Outcome::Service),
        ("the most options", with_options(10), Outcome::Service),
        ("padding behind the packet", [&plain[..], &[0; 18]].concat(), Outcome::Service),
        ("don't fragment is no fragment", edited(&plain, NETWORK + 6, 0x40), Outcome::Service),
        ("version 5", edited(&plain, NETWORK, 0x55), Outcome::PassMalformed),
        ("a header of 16 bytes", edited(&plain, NETWORK, 0x44), Outcome::PassMalformed),
        ("options beyond the packet", edited(&plain, NETWORK, 0x4f), Outcome::PassMalformed),
        ("longer than the frame", edited(&plain, NETWORK + 2, 1), Outcome::PassMalformed),
        ("shorter than its header", edited(&plain, NETWORK + 3, 19), Outcome::PassMalformed),
        ("shorter than its ports", edited(&plain, NETWORK + 3, 23), Outcome::PassMalformed),
        ("IPv6 by its type", edited(&edited(&plain, 12, 0x86), 13, 0xdd), Outcome::PassMalformed),
        ("an ARP request", arp_request(client, vip), Outcome::PassNotIp),
        ("an unknown type", edited(&edited(&plain, 12, 0x88), 13, 0xcc), Outcome::PassNotIp),
        ("two VLAN tags", tagged(&tagged(&plain, VLAN), SERVICE_VLAN), Outcome::PassNotIp),
        ("to the broadcast address of the link", edited(&plain, 0, 0xff), Outcome::PassOtherMac),
    ]
}

fn ipv6_samples(client: IpAddr, vip: IpAddr) -> Vec<Sample> {
    let plain = udp(client, CLIENT_PORT, vip, DNS);
    let behind = |extensions: &[(u8, &[u8])]| with_extensions(&plain, extensions);
    // The first byte of each is replaced by the type of what follows.
    let options: &[u8] = &[0, 0, 1, 4, 0, 0, 0, 0];
    let long_options: &[u8] = &edited(&[0; 64], 1, 7);
    let at_its_end: &[u8] = &edited(&[0; 24], 1, 2);
    let on_its_way: &[u8] = &edited(at_its_end, 3, 1);
    let around_a_whole: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 1];
    let too_long: &[u8] = &[0, 200, 0, 0, 0, 0, 0, 0];
    let padded = with_extensions(&plain, &[(HOP_BY_HOP, &edited(&[0; 24], 1, 2))]);
    let labelled = Ipv6Header {
        traffic_class: 0xff,
        flow_label: Ipv6FlowLabel::try_new(0xf_ffff).unwrap(),
        next_header: UDP.into(),
        hop_limit: 64,
        source: octets6(client),
        destination: octets6(vip),
        ..Ipv6Header::default()
    };
    vec![
        ("hop-by-hop options", behind(&[(HOP_BY_HOP, options)]), Outcome::Service),
        ("destination options", behind(&[(DESTINATION_OPTIONS, long_options)]), Outcome::Service),
        ("a routing header at its end", behind(&[(ROUTING, at_its_end)]), Outcome::Service),
        (
            "all of them",
            behind(&[(HOP_BY_HOP, options), (DESTINATION_OPTIONS, long_options), (ROUTING, at_its_end)]),
            Outcome::Service,
        ),
        ("as many as are looked through", behind(&[(DESTINATION_OPTIONS, options); 6]), Outcome::Service),
        (
            "more than are looked through",
            behind(&[(DESTINATION_OPTIONS, options); 7]),
            Outcome::PassMalformed,
        ),
        ("a stop on a source route", behind(&[(ROUTING, on_its_way)]), Outcome::PassNotOurs),
        ("a fragment header on a whole packet", behind(&[(FRAGMENT, around_a_whole)]), Outcome::Fragment),
        (
            "a fragment header behind options",
            behind(&[(HOP_BY_HOP, long_options), (FRAGMENT, around_a_whole)]),
            Outcome::Fragment,
        ),
        ("options beyond the packet", behind(&[(HOP_BY_HOP, too_long)]), Outcome::PassMalformed),
        (
            "a fragment header cut short",
            edited(&behind(&[(FRAGMENT, around_a_whole)]), NETWORK + 5, 7),
            Outcome::PassMalformed,
        ),
        ("options cut short", edited(&padded, NETWORK + 5, 7), Outcome::PassMalformed),
        ("too short for ports behind options", edited(&padded, NETWORK + 5, 27), Outcome::PassMalformed),
        // The transport header that would be found is outside the packet, but inside the frame.
        ("options into what follows the packet", edited(&padded, NETWORK + 5, 16), Outcome::PassMalformed),
        ("no next header", edited(&plain, NETWORK + 6, 59), Outcome::PassNotOurs),
        ("an authentication header", edited(&plain, NETWORK + 6, 51), Outcome::PassNotOurs),
        ("class and flow label all ones", ethernet(&labelled, &plain[NETWORK + 40..]), Outcome::Service),
        ("padding behind the packet", [&plain[..], &[0; 18]].concat(), Outcome::Service),
        ("version 4", edited(&plain, NETWORK, 0x45), Outcome::PassMalformed),
        ("longer than the frame", edited(&plain, NETWORK + 4, 1), Outcome::PassMalformed),
        ("shorter than its ports", edited(&plain, NETWORK + 5, 3), Outcome::PassMalformed),
        ("IPv4 by its type", edited(&edited(&plain, 12, 0x08), 13, 0x00), Outcome::PassMalformed),
        ("two VLAN tags", tagged(&tagged(&plain, VLAN), VLAN), Outcome::PassNotIp),
        ("to a multicast address of the link", edited(&plain, 0, 0x33), Outcome::PassOtherMac),
    ]
}
