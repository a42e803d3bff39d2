//! The specification of the steering program: what each frame is, in both families.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{
    IpFragOffset, IpHeaders, Ipv4Extensions, Ipv4Header, Ipv4Options, Ipv6FlowLabel, Ipv6Header,
};
use xvs::xdp::steer::Outcome;

use crate::frames::*;

pub const HTTP: u16 = 80;
pub const DNS: u16 = 53;
pub const ISAKMP: u16 = 500;
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
    /// A FULLNAT server for TCP 8080 and UDP 53.
    pub full_nat_server: IpAddr,
    /// What FULLNAT sends from, ports 5000 to 5999; the kernel has this address too.
    pub local: IpAddr,
    /// The same, and the kernel does not have it.
    pub extra_local: IpAddr,
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
            full_nat_server: address("13"),
            local: address("3"),
            extra_local: address("4"),
            other: address("200"),
        }
    })
}

type Sample = (&'static str, Vec<u8>, Outcome);

pub fn samples(net: &Net) -> Vec<Sample> {
    use Outcome::{Fragment, NatReturn, PassHost, PassMalformed, PassNotOurs, Service, ServiceAnyPort};
    let Net { client, vip, whole, host, server, any_port_server, other, .. } = *net;
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
        ("an SCTP NAT server's reply", sctp(server, BACKEND, client, CLIENT_PORT), NatReturn),
        ("the first fragment from a NAT server", fragment(server, client, TCP, 0, true), Fragment),
        ("a later fragment from a NAT server", fragment(server, client, TCP, 185, false), Fragment),
        ("a fragment from an any-port NAT server", fragment(any_port_server, other, TCP, 9, true), Fragment),
        ("a NAT server's fragment of another protocol", fragment(server, client, UDP, 185, true), Fragment),
        ("a NAT server's fragment to a VIP", fragment(server, vip, TCP, 185, true), Fragment),
        // Not ours.
        ("SCTP to another port", sctp(client, CLIENT_PORT, vip, DNS), PassNotOurs),
        ("SCTP from a TCP NAT server", sctp(any_port_server, 99, client, CLIENT_PORT), PassNotOurs),
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
    samples.extend(full_nat_samples(net));
    samples.extend(icmp_samples(net));
    samples.extend(ipsec_samples(net));
    samples.extend(match (client, vip) {
        (IpAddr::V4(client), IpAddr::V4(vip)) => ipv4_samples(client, vip),
        _ => ipv6_samples(client, vip),
    });
    samples
}

/// An ICMP error about the packet of a frame.
pub fn error(from: IpAddr, to: IpAddr, quoted: &[u8]) -> Vec<u8> {
    match to {
        IpAddr::V4(_) => ip(from, to, ICMP, &icmp_message(3, &quoted[NETWORK..])),
        IpAddr::V6(_) => ip(from, to, ICMPV6, &icmp_message(1, &quoted[NETWORK..])),
    }
}

/// What comes back to local addresses, by server, port and local port.
fn full_nat_samples(net: &Net) -> Vec<Sample> {
    use Outcome::{Fragment, FullNatReturn, IcmpError, NatReturn, PassHost, PassNotOurs};
    let Net { client, vip, host, server, full_nat_server, local, extra_local, other, .. } = *net;
    vec![
        ("a FULLNAT server's reply", tcp(full_nat_server, BACKEND, local, 5000), FullNatReturn),
        ("the last port", tcp(full_nat_server, BACKEND, local, 5999), FullNatReturn),
        ("to an extra address", tcp(full_nat_server, BACKEND, extra_local, 5500), FullNatReturn),
        ("of UDP", udp(full_nat_server, DNS, extra_local, 5500), FullNatReturn),
        ("a NAT server that has FULLNAT too", tcp(server, HTTP, local, 5000), FullNatReturn),
        ("and still has NAT", tcp(server, BACKEND, client, CLIENT_PORT), NatReturn),
        // The host's own connections from that address.
        ("to the port before", tcp(full_nat_server, BACKEND, local, 4999), PassNotOurs),
        ("to the port behind", tcp(full_nat_server, BACKEND, local, 6000), PassNotOurs),
        ("from another port of the server", tcp(full_nat_server, 22, local, 5000), PassNotOurs),
        ("of another protocol", sctp(full_nat_server, BACKEND, local, 5000), PassNotOurs),
        ("from anybody else", tcp(other, BACKEND, local, 5000), PassNotOurs),
        ("from a NAT server", tcp(server, BACKEND, local, 5000), PassHost),
        ("ssh to a local address", tcp(client, 5000, local, 22), PassNotOurs),
        ("to the host", tcp(full_nat_server, BACKEND, host, 5000), PassNotOurs),
        ("to a client", tcp(full_nat_server, BACKEND, client, 5000), PassNotOurs),
        ("to the VIP", tcp(full_nat_server, BACKEND, vip, 5000), PassNotOurs),
        ("ping to a local address", echo_request(full_nat_server, local), PassNotOurs),
        // Fragments, by address alone.
        ("the first fragment to it", fragment(full_nat_server, local, UDP, 0, true), Fragment),
        ("a later fragment to it", fragment(full_nat_server, extra_local, UDP, 185, false), Fragment),
        ("a fragment to the host", fragment(full_nat_server, host, UDP, 185, false), PassNotOurs),
        ("a fragment to a client", fragment(full_nat_server, client, UDP, 185, false), PassNotOurs),
        ("a fragment from anybody", fragment(other, local, UDP, 185, false), PassNotOurs),
        // What is said of requests from it.
        ("about a request", error(other, local, &tcp(local, 5000, full_nat_server, BACKEND)), IcmpError),
        ("about the host's", error(other, local, &tcp(local, 4999, full_nat_server, BACKEND)), PassNotOurs),
        ("about one to another", error(other, local, &tcp(local, 5000, other, BACKEND)), PassNotOurs),
    ]
}

/// AH and ESP follow ISAKMP; IPv6's AH is an extension header.
fn ipsec_samples(net: &Net) -> Vec<Sample> {
    use Outcome::{Fragment, NatReturn, PassHost, PassNotOurs, Service};
    let Net { client, vip, whole, host, server, any_port_server, .. } = *net;
    let is_v4 = vip.is_ipv4();
    let alone = |protocol| if protocol == ESP || is_v4 { Service } else { Outcome::PassMalformed };
    // Of IPv6, where fragments have no protocol that could be asked for, the first decides on them in user space.
    let part = if is_v4 { Service } else { Fragment };
    vec![
        ("ESP to a service of ISAKMP", ip(client, vip, ESP, &[7; 24]), Service),
        ("AH to a service of ISAKMP", ip(client, vip, AH, &[7; 24]), alone(AH)),
        ("ESP from a NAT server of ISAKMP", ip(server, client, ESP, &[7; 24]), NatReturn),
        ("ESP to the host", ip(client, host, ESP, &[7; 24]), PassNotOurs),
        ("ESP to a VIP without ISAKMP", ip(client, whole, ESP, &[7; 24]), PassNotOurs),
        ("ESP from a NAT server to the host", ip(server, host, ESP, &[7; 24]), PassHost),
        ("ESP from a NAT server of another service", ip(any_port_server, client, ESP, &[7; 24]), PassNotOurs),
        ("the last fragment of ESP", fragment(client, vip, ESP, 185, false), part),
        ("the first fragment of AH", fragment(client, vip, AH, 0, true), part),
    ]
}

fn icmp_samples(net: &Net) -> Vec<Sample> {
    use Outcome::{IcmpError, PassMalformed, PassNotOurs};
    let Net { client, vip, whole, host, server, any_port_server, other, .. } = *net;
    let (icmp, errors, others, foreign): (u8, &[u8], &[u8], u8) = if vip.is_ipv4() {
        // Unreachable, quench, time exceeded; echo both ways, redirect, parameter problem, timestamp.
        (ICMP, &[3, 4, 11], &[0, 8, 5, 12, 13], ICMPV6)
    } else {
        // Unreachable, too big, time exceeded, parameter problem; echo both ways, ND, undefined ones.
        (ICMPV6, &[1, 2, 3, 4], &[128, 129, 133, 134, 135, 136, 137, 0, 5], ICMP)
    };
    // About a packet, from `from` to who sent it; for most, who it goes to makes no difference.
    let to = |from: IpAddr, to: IpAddr, kind: u8, quoted: &[u8]| {
        ip(from, to, icmp, &icmp_message(kind, &quoted[NETWORK..]))
    };
    let about = |from: IpAddr, quoted: &[u8]| to(from, source(quoted), errors[0], quoted);

    let reply = tcp(vip, HTTP, client, CLIENT_PORT);
    let request = tcp(client, CLIENT_PORT, server, BACKEND);
    let shortest = NETWORK + if vip.is_ipv4() { 20 } else { 40 } + 4;
    let mut samples = vec![
        ("ping to the VIP", echo_request(client, vip), PassNotOurs),
        ("a fragment of a ping to the VIP", fragment(client, vip, icmp, 0, true), PassNotOurs),
        ("a fragment of an ICMP error", fragment(other, client, icmp, 0, true), PassNotOurs),
        ("an ICMP error too short", ip(client, vip, icmp, &[3, 0, 0, 0]), PassMalformed),
        (
            "the other family's ICMP",
            ip(client, vip, foreign, &icmp_message(3, &reply[NETWORK..])),
            PassNotOurs,
        ),
        // What is said of replies, by whomever.
        ("a client about a reply", about(client, &reply), IcmpError),
        ("a router about a reply", about(other, &reply), IcmpError),
        ("about a UDP reply", about(other, &udp(vip, DNS, client, CLIENT_PORT)), IcmpError),
        ("about an SCTP reply", about(other, &sctp(vip, HTTP, client, CLIENT_PORT)), IcmpError),
        ("about a reply of all ports", about(other, &tcp(whole, 12_345, client, CLIENT_PORT)), IcmpError),
        ("about no more than the ports", about(other, &reply[..shortest]), IcmpError),
        ("about the host's ssh", about(other, &tcp(host, 22, client, CLIENT_PORT)), PassNotOurs),
        ("about the VIP's own ssh", about(other, &tcp(vip, 22, client, CLIENT_PORT)), PassNotOurs),
        ("about UDP from a TCP service", about(other, &udp(vip, HTTP, client, CLIENT_PORT)), PassNotOurs),
        ("about another's packet", about(client, &tcp(other, HTTP, client, CLIENT_PORT)), PassNotOurs),
        ("about a ping of the host's", about(other, &echo_request(vip, client)), PassNotOurs),
        ("about what it did not send", to(client, other, errors[0], &reply), PassNotOurs),
        ("to a VIP about another's", to(client, vip, errors[0], &request), PassNotOurs),
        // What is said of requests to NAT servers.
        ("a server about a request", about(server, &request), IcmpError),
        ("a router about a request", about(other, &request), IcmpError),
        ("about an any-port server's", about(other, &tcp(client, 9, any_port_server, 99)), IcmpError),
        ("about a request to ssh there", about(server, &tcp(client, 9, server, 22)), PassNotOurs),
        ("about UDP to a TCP server", about(server, &udp(client, 9, server, BACKEND)), PassNotOurs),
        ("about a health check", about(server, &tcp(host, 50_000, server, BACKEND)), PassNotOurs),
        ("about a check from the VIP", about(server, &tcp(vip, 50_000, server, BACKEND)), PassNotOurs),
        // What cannot be told.
        ("about half of the ports", about(other, &reply[..shortest - 1]), PassMalformed),
        ("about half a header", about(other, &reply[..shortest - 5]), PassMalformed),
        ("of version 9", about(other, &edited(&reply, NETWORK, 0x95)), PassMalformed),
    ];
    for &kind in errors {
        samples.push(("an ICMP error about a reply", to(other, vip, kind, &reply), IcmpError));
        samples.push(("an ICMP error about a request", to(other, client, kind, &request), IcmpError));
    }
    for &kind in others {
        samples.push(("no ICMP error to a VIP", to(other, vip, kind, &reply), PassNotOurs));
        samples.push(("no ICMP error to a client", to(other, client, kind, &request), PassNotOurs));
    }
    samples
}

/// Who an untagged frame was sent by.
fn source(frame: &[u8]) -> IpAddr {
    let bytes = |from: usize, to: usize| &frame[NETWORK + from..NETWORK + to];
    match frame[12..14] {
        [0x86, 0xdd] => IpAddr::from(<[u8; 16]>::try_from(bytes(8, 24)).unwrap()),
        _ => IpAddr::from(<[u8; 4]>::try_from(bytes(12, 16)).unwrap()),
    }
}

fn ipv4_samples(client: Ipv4Addr, vip: Ipv4Addr) -> Vec<Sample> {
    let plain = udp(client.into(), CLIENT_PORT, vip.into(), DNS);
    let with_options = |words: usize| {
        let mut header = Ipv4Header::new(0, 64, UDP.into(), client.octets(), vip.octets()).unwrap();
        header.options = Ipv4Options::try_from(&vec![1; 4 * words][..]).unwrap();
        udp_over(IpHeaders::Ipv4(header, Ipv4Extensions::default()), CLIENT_PORT, DNS)
    };
    let reply = |edit: fn(&mut Ipv4Header)| {
        let mut header = Ipv4Header::new(0, 64, UDP.into(), vip.octets(), client.octets()).unwrap();
        edit(&mut header);
        let quoted = udp_over(IpHeaders::Ipv4(header, Ipv4Extensions::default()), DNS, CLIENT_PORT);
        ip(client.into(), vip.into(), ICMP, &icmp_message(3, &quoted[NETWORK..]))
    };
    vec![
        (
            "about a packet with the most options",
            reply(|it| it.options = Ipv4Options::try_from(&[1; 40][..]).unwrap()),
            Outcome::IcmpError,
        ),
        ("about a first fragment", reply(|it| it.more_fragments = true), Outcome::IcmpError),
        (
            "about a later fragment",
            reply(|it| it.fragment_offset = IpFragOffset::try_new(185).unwrap()),
            Outcome::PassNotOurs,
        ),
        ("about a header of 16 bytes", edited(&reply(|_| ()), NETWORK + 28, 0x44), Outcome::PassMalformed),
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
        ("two VLAN tags", tagged(&tagged(&plain, VLAN), SERVICE_VLAN), Outcome::PassTags),
        ("to the broadcast address of the link", edited(&plain, 0, 0xff), Outcome::PassOtherMac),
    ]
}

fn ipv6_samples(client: IpAddr, vip: IpAddr) -> Vec<Sample> {
    use Outcome::IcmpError;
    let plain = udp(client, CLIENT_PORT, vip, DNS);
    let behind = |extensions: &[(u8, &[u8])]| with_extensions(&plain, extensions);
    // The first byte of each is replaced by the type of what follows.
    let options: &[u8] = &[0, 0, 1, 4, 0, 0, 0, 0];
    let long_options: &[u8] = &edited(&[0; 64], 1, 7);
    let at_its_end: &[u8] = &edited(&[0; 24], 1, 2);
    let on_its_way: &[u8] = &edited(at_its_end, 3, 1);
    let around_a_whole: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 1];
    let (first, last): (&[u8], &[u8]) = (&[0, 9, 0, 1, 0, 0, 0, 1], &[0, 9, 0, 8, 0, 0, 0, 1]);
    let authentication: &[u8] = &edited(&[0; 24], 1, 4);
    let half: &[u8] = &edited(&[0; 512], 1, 63);
    let too_long: &[u8] = &[0, 200, 0, 0, 0, 0, 0, 0];
    let to_nobody = udp(client, CLIENT_PORT, vip, 99);
    let to_nobody = with_extensions(&to_nobody, &[(FRAGMENT, around_a_whole)]);
    let reply = udp(vip, DNS, client, CLIENT_PORT);
    let error = |quoted: &[u8]| ip(client, vip, ICMPV6, &icmp_message(2, &quoted[NETWORK..]));
    let about = |extensions: &[(u8, &[u8])]| error(&with_extensions(&reply, extensions));
    let cut_off = with_extensions(&reply, &[(DESTINATION_OPTIONS, long_options)]);
    let cut_off = error(&cut_off[..NETWORK + 40 + 63]);
    let all: &[u8] = &edited(&[0; 1024], 1, 127);
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
        (
            "a fragment of hop-by-hop options",
            fragment(client, vip, HOP_BY_HOP, 0, true),
            Outcome::PassNotOurs,
        ),
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
        ("a fragment header on a whole packet", behind(&[(FRAGMENT, around_a_whole)]), Outcome::Service),
        ("that packet to nobody", to_nobody, Outcome::PassNotOurs),
        (
            "a first fragment behind options",
            behind(&[(HOP_BY_HOP, long_options), (FRAGMENT, first)]),
            Outcome::Fragment,
        ),
        (
            "a later fragment behind options",
            behind(&[(HOP_BY_HOP, long_options), (FRAGMENT, last)]),
            Outcome::Fragment,
        ),
        (
            "options in a first fragment",
            behind(&[(FRAGMENT, first), (DESTINATION_OPTIONS, options)]),
            Outcome::Fragment,
        ),
        (
            "options in a later fragment",
            fragment(client, vip, DESTINATION_OPTIONS, 9, true),
            Outcome::Fragment,
        ),
        ("an authentication header of its own", behind(&[(AH, authentication)]), Outcome::Service),
        ("1,024 bytes of options", behind(&[(DESTINATION_OPTIONS, half); 2]), Outcome::Service),
        (
            "more bytes of options",
            behind(&[(DESTINATION_OPTIONS, half), (DESTINATION_OPTIONS, half), (HOP_BY_HOP, options)]),
            Outcome::PassMalformed,
        ),
        // Errors about packets with extension headers.
        ("about a reply behind options", about(&[(HOP_BY_HOP, options), (ROUTING, at_its_end)]), IcmpError),
        ("about as many as are looked through", about(&[(DESTINATION_OPTIONS, options); 6]), IcmpError),
        ("about more of them", about(&[(DESTINATION_OPTIONS, options); 7]), Outcome::PassMalformed),
        ("about a whole fragment", about(&[(FRAGMENT, around_a_whole)]), IcmpError),
        ("about a first fragment", about(&[(HOP_BY_HOP, options), (FRAGMENT, first)]), IcmpError),
        ("about a later fragment", about(&[(FRAGMENT, last)]), Outcome::PassNotOurs),
        ("about a stop on a source route", about(&[(ROUTING, on_its_way)]), Outcome::PassNotOurs),
        ("about options that are cut off", cut_off, Outcome::PassMalformed),
        (
            "an error behind options",
            with_extensions(&about(&[(HOP_BY_HOP, options)]), &[(DESTINATION_OPTIONS, options)]),
            IcmpError,
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
        ("an authentication header cut short", edited(&plain, NETWORK + 6, AH), Outcome::PassMalformed),
        (
            "one behind options and before them",
            behind(&[(HOP_BY_HOP, options), (AH, authentication), (DESTINATION_OPTIONS, options)]),
            Outcome::Service,
        ),
        (
            "one that is cut short",
            edited(&behind(&[(AH, authentication)]), NETWORK + 5, 23),
            Outcome::PassMalformed,
        ),
        ("as many bytes as are looked through", behind(&[(DESTINATION_OPTIONS, all)]), Outcome::Service),
        (
            "more bytes than are looked through",
            behind(&[(DESTINATION_OPTIONS, all), (HOP_BY_HOP, options)]),
            Outcome::PassMalformed,
        ),
        ("class and flow label all ones", ethernet(&labelled, &plain[NETWORK + 40..]), Outcome::Service),
        ("padding behind the packet", [&plain[..], &[0; 18]].concat(), Outcome::Service),
        ("version 4", edited(&plain, NETWORK, 0x45), Outcome::PassMalformed),
        ("longer than the frame", edited(&plain, NETWORK + 4, 1), Outcome::PassMalformed),
        ("shorter than its ports", edited(&plain, NETWORK + 5, 3), Outcome::PassMalformed),
        ("IPv4 by its type", edited(&edited(&plain, 12, 0x08), 13, 0x00), Outcome::PassMalformed),
        ("two VLAN tags", tagged(&tagged(&plain, VLAN), VLAN), Outcome::PassTags),
        ("to a multicast address of the link", edited(&plain, 0, 0x33), Outcome::PassOtherMac),
    ]
}
