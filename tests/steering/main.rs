//! The steering program by itself: frames in, verdict and counted outcome out (`BPF_PROG_TEST_RUN`).
//!
//! Every test needs root (CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW) and fails without.

mod agreement;
mod figures;
mod frames;
mod long_frames;
mod model;
#[allow(dead_code, reason = "shared: no test binary uses all of it")]
#[path = "../common/netns.rs"]
mod netns;
mod offload;
mod ranges;
mod rooms;
mod samples;
#[allow(dead_code, missing_docs, reason = "shared: no test binary uses all of it")]
#[path = "../engine/table.rs"]
mod table;
mod tunnels;

use std::net::{IpAddr, Ipv4Addr};

use frames::{ICMP, MAC_TO, NETWORK, SCTP, SERVICE_VLAN, TCP, UDP, VLAN, fragment, tagged, tcp, to_mac};
use samples::{BACKEND, CLIENT_PORT, DNS, HTTP, ISAKMP, Net, error, nets, samples};
use xvs::packet::ipv6;
use xvs::xdp::steer::{
    Endpoint, MAX_PORTS, MAX_QUEUES, MAX_SERVICES, Outcome, Rules, SteerError, Steering, Verdict, bare_socket,
};

/// Index of the loopback interface in every network namespace: where trial frames come from.
const LOOPBACK: u32 = 1;

fn endpoint(protocol: u8, address: IpAddr, port: u16) -> Endpoint {
    Endpoint { protocol, address, port }
}

/// What the samples are judged by.
fn rules() -> Rules {
    let mut rules = Rules::default();
    for net in nets() {
        let Net { vip, whole, host, server, any_port_server, full_nat_server, local, extra_local, .. } = net;
        rules.services.extend([
            endpoint(TCP, vip, HTTP),
            endpoint(UDP, vip, DNS),
            endpoint(SCTP, vip, HTTP),
            endpoint(UDP, vip, ISAKMP),
            endpoint(TCP, whole, 0),
        ]);
        rules.nat_servers.extend([
            endpoint(TCP, server, BACKEND),
            endpoint(SCTP, server, BACKEND),
            endpoint(UDP, server, ISAKMP),
            endpoint(TCP, any_port_server, 0),
        ]);
        rules.full_nat_servers.extend([
            endpoint(TCP, full_nat_server, BACKEND),
            endpoint(UDP, full_nat_server, DNS),
            endpoint(TCP, server, HTTP),
        ]);
        rules.local_addresses.extend([(local, (5000, 5999)), (extra_local, (5000, 5999))]);
        rules.vips.extend([vip, whole]);
        rules.host_addresses.extend([vip, whole, host, local]);
    }
    rules
}

fn load() -> Steering {
    Steering::load()
        .unwrap_or_else(|error| panic!("these tests need root and BPF: {:#}", anyhow::Error::from(error)))
}

/// The program with `rules` and a socket at queue 0 of the loopback interface.
fn steering(rules: &Rules) -> Steering {
    with_rules(load(), rules)
}

fn with_rules(mut steering: Steering, rules: &Rules) -> Steering {
    steering.apply(rules).unwrap();
    steering.assume_port(LOOPBACK, 0, MAC_TO).unwrap();
    // The map holds a socket only while it is open, so this one stays open until the process ends.
    let socket = Box::leak(Box::new(bare_socket().expect("AF_XDP sockets need root and CONFIG_XDP_SOCKETS")));
    steering.set_socket(0, 0, socket).unwrap();
    steering
}

/// Runs `frame` and returns its outcome, having checked that it is the only one counted, once, and that the
/// verdict agrees with it.
fn outcome(steering: &mut Steering, name: &str, frame: &[u8]) -> Outcome {
    let before = steering.counters().unwrap();
    let verdict = steering.try_frame(frame, None).unwrap_or_else(|error| panic!("{name}: {error:?}"));
    let after = steering.counters().unwrap();
    let counted: Vec<(Outcome, u64)> = before
        .iter()
        .zip(after)
        .map(|(before, after)| (after.0, after.1 - before.1))
        .filter(|(_, frames)| *frames > 0)
        .collect();
    let [(outcome, 1)] = counted[..] else { panic!("{name}: counted {counted:?}, not one frame once") };
    let expected = if outcome.is_redirected() { Verdict::Redirect } else { Verdict::Pass };
    assert_eq!(verdict, expected, "{name}: counted as {outcome}");
    outcome
}

/// What the program leaves to the kernel and what the director drops must not part.
#[test]
fn the_director_walks_over_as_many_extension_headers() {
    let source = include_str!("../../src/xdp/extensions.bpf.h");
    for (name, limit) in
        [("MAX_EXTENSIONS", ipv6::MAX_EXTENSIONS), ("MAX_EXTENSIONS_LEN", ipv6::MAX_EXTENSIONS_LEN)]
    {
        assert!(source.contains(&format!("#define {name} {limit}\n")), "{name} is not {limit}");
    }
}

#[test]
fn each_sample_has_its_outcome_untagged_and_tagged() {
    let mut steering = steering(&rules());
    for net in nets() {
        for (name, frame, expected) in samples(&net) {
            let name = format!("{name} ({})", net.vip);
            assert_eq!(outcome(&mut steering, &name, &frame), expected, "{name}");
            if name.starts_with("two VLAN tags") {
                continue;
            }
            let both = [(VLAN, expected), (SERVICE_VLAN, Outcome::PassTags)];
            for (tag, expected) in both {
                let name = format!("{name} under tag {tag:#x}");
                assert_eq!(outcome(&mut steering, &name, &tagged(&frame, tag)), expected, "{name}");
            }
        }
    }
}

#[test]
fn a_frame_to_any_other_mac_passes_and_is_counted_so_if_it_would_be_ours() {
    // Another byte anywhere, which in the first one is a group's bit; and groups that IP uses.
    let mut others: Vec<[u8; 6]> = (0..6)
        .map(|byte| {
            let mut mac = MAC_TO;
            mac[byte] ^= 1;
            mac
        })
        .collect();
    others.extend([[0xff; 6], [1, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1], [0; 6]]);
    let mut steering = steering(&rules());
    for net in nets() {
        for (name, frame, expected) in samples(&net) {
            let expected = if expected.is_redirected() { Outcome::PassOtherMac } else { expected };
            for mac in &others {
                let name = format!("{name} ({}) to {mac:x?}", net.vip);
                let frame = to_mac(&frame, *mac);
                assert_eq!(outcome(&mut steering, &name, &frame), expected, "{name}");
                let outcome = outcome(&mut steering, &name, &tagged(&frame, VLAN));
                assert!(!outcome.is_redirected(), "{name} under a tag: {outcome}");
            }
        }
    }
}

#[test]
fn padding_behind_the_packet_changes_nothing() {
    let mut steering = steering(&rules());
    for net in nets() {
        for (name, frame, expected) in samples(&net) {
            let name = format!("{name} ({}) with padding", net.vip);
            let padded = [&frame[..], &[0; 18]].concat();
            assert_eq!(outcome(&mut steering, &name, &padded), expected, "{name}");
        }
    }
}

#[test]
fn whatever_is_truncated_passes() {
    let mut steering = steering(&rules());
    for net in nets() {
        for (name, frame, expected) in samples(&net) {
            for frame in [tagged(&frame, VLAN), frame] {
                // The kernel runs the program on nothing shorter than an Ethernet header.
                for len in NETWORK..frame.len() {
                    let name = format!("{len} of the {} bytes of {name} ({})", frame.len(), net.vip);
                    let outcome = outcome(&mut steering, &name, &frame[..len]);
                    // Only padding may be missing.
                    let whole = name.contains("padding") && len >= frame.len() - 18;
                    assert_eq!(
                        outcome.is_redirected(),
                        whole && expected.is_redirected(),
                        "{name}: {outcome}"
                    );
                }
            }
        }
    }
}

#[test]
fn without_rules_nothing_is_ours() {
    let mut steering = steering(&Rules::default());
    for net in nets() {
        for (name, frame, _) in samples(&net) {
            assert!(!outcome(&mut steering, name, &frame).is_redirected(), "{name}");
        }
    }
}

#[test]
fn without_a_socket_what_is_ours_passes_and_is_counted_so() {
    let net = &nets()[0];
    let frame = tcp(net.client, CLIENT_PORT, net.vip, HTTP);

    let mut steering = load();
    steering.apply(&rules()).unwrap();
    assert_eq!(outcome(&mut steering, "an interface that is not ours", &frame), Outcome::NoSocket);
    steering.assume_port(LOOPBACK, 3, MAC_TO).unwrap();
    assert_eq!(outcome(&mut steering, "no socket yet", &frame), Outcome::NoSocket);
    let socket = bare_socket().unwrap();
    steering.set_socket(3, 0, &socket).unwrap();
    assert_eq!(outcome(&mut steering, "with its socket", &frame), Outcome::Service);
    drop(socket);
    assert_eq!(outcome(&mut steering, "the socket was closed", &frame), Outcome::NoSocket);
}

#[test]
fn a_new_set_of_rules_replaces_the_old_one() {
    use Outcome::{Fragment, NatReturn, PassHost, PassNotOurs, Service};
    let net = &nets()[0];
    let frames = [
        tcp(net.client, CLIENT_PORT, net.vip, HTTP),
        tcp(net.client, CLIENT_PORT, net.other, HTTP),
        tcp(net.server, BACKEND, net.client, CLIENT_PORT),
        tcp(net.server, BACKEND, net.host, CLIENT_PORT),
        fragment(net.client, net.vip, UDP, 0, true),
    ];
    let outcomes = |steering: &mut Steering| frames.each_ref().map(|frame| outcome(steering, "", frame));

    let mut steering = steering(&rules());
    let before = [Service, PassNotOurs, NatReturn, PassHost, Fragment];
    assert_eq!(outcomes(&mut steering), before);

    let moved = Rules {
        services: [endpoint(TCP, net.other, HTTP)].into(),
        nat_servers: rules().nat_servers,
        vips: [net.other].into(),
        ..Rules::default()
    };
    steering.apply(&moved).unwrap();
    let after = [PassNotOurs, Service, NatReturn, NatReturn, PassNotOurs];
    assert_eq!(outcomes(&mut steering), after);

    let mut wrong = rules();
    wrong.nat_servers.insert(endpoint(ICMP, net.server, 0));
    assert!(matches!(steering.apply(&wrong), Err(SteerError::Protocol { protocol: ICMP, .. })));
    assert_eq!(outcomes(&mut steering), after, "rules with an error change nothing");

    steering.apply(&rules()).unwrap();
    assert_eq!(outcomes(&mut steering), before);
}

#[test]
fn services_and_servers_of_any_port_come_and_go() {
    use Outcome::{NatReturn, PassNotOurs, ServiceAnyPort};
    let net = &nets()[0];
    let frames = [
        tcp(net.client, CLIENT_PORT, net.whole, 4711),
        tcp(net.any_port_server, 4711, net.client, CLIENT_PORT),
    ];
    let without = |services: bool, servers: bool| {
        let mut rules = rules();
        rules.services.retain(|service| service.port != 0 || services);
        rules.nat_servers.retain(|server| server.port != 0 || servers);
        rules
    };
    let mut steering = steering(&without(false, false));
    for (services, servers) in [
        (false, false),
        (true, false),
        (true, true),
        (false, true),
        (true, true),
        (false, false),
        (true, true),
    ] {
        steering.apply(&without(services, servers)).unwrap();
        let expected = [
            if services { ServiceAnyPort } else { PassNotOurs },
            if servers { NatReturn } else { PassNotOurs },
        ];
        let outcomes = frames.each_ref().map(|frame| outcome(&mut steering, "", frame));
        assert_eq!(outcomes, expected, "services {services}, servers {servers}");
    }
}

#[test]
fn an_interface_whose_place_is_taken_has_another_one() {
    let net = &nets()[0];
    let frame = tcp(net.client, CLIENT_PORT, net.vip, HTTP);
    let mut steering = load();
    steering.apply(&rules()).unwrap();
    // They want the place of the loopback interface, and the one behind it.
    for interface in [LOOPBACK + 128, LOOPBACK + 256, LOOPBACK + 1] {
        steering.assume_port(interface, 1, MAC_TO).unwrap();
    }
    assert_eq!(outcome(&mut steering, "not known yet", &frame), Outcome::NoSocket);
    let socket = bare_socket().unwrap();
    steering.assume_port(LOOPBACK, 3, MAC_TO).unwrap();
    steering.set_socket(3, 0, &socket).unwrap();
    assert_eq!(outcome(&mut steering, "known", &frame), Outcome::Service);
    steering.assume_port(LOOPBACK, 3, [2; 6]).unwrap();
    assert_eq!(outcome(&mut steering, "with another MAC address", &frame), Outcome::PassOtherMac);
}

/// NAT64: what comes back is of another IP version than what is balanced.
#[test]
fn replies_to_local_addresses_come_up_whatever_the_version_of_the_services() {
    let [four, six] = nets();
    for (outside, inside) in [(&six, &four), (&four, &six)] {
        let Net { full_nat_server: server, local, .. } = *inside;
        let rules = Rules {
            services: [endpoint(TCP, outside.vip, HTTP)].into(),
            vips: [outside.vip].into(),
            full_nat_servers: [endpoint(TCP, server, BACKEND)].into(),
            local_addresses: [(local, (5000, 5999))].into(),
            host_addresses: [outside.vip, local].into(),
            ..Rules::default()
        };
        let mut steering = steering(&rules);
        let about = tcp(local, 5000, server, BACKEND);
        for (name, frame, expected) in [
            ("a request", tcp(outside.client, CLIENT_PORT, outside.vip, HTTP), Outcome::Service),
            ("a reply", tcp(server, BACKEND, local, 5000), Outcome::FullNatReturn),
            ("a fragment of one", fragment(server, local, TCP, 185, false), Outcome::Fragment),
            ("an error", error(inside.other, local, &about), Outcome::IcmpError),
            ("the host's own", tcp(server, BACKEND, local, 4999), Outcome::PassNotOurs),
        ] {
            assert_eq!(outcome(&mut steering, name, &frame), expected, "{name} at {local}");
        }
    }
}

#[test]
fn a_full_set_can_be_replaced_by_another_full_one() {
    let client = nets()[0].client;
    let full = |port: u16| Rules {
        services: (0..u32::try_from(MAX_SERVICES).unwrap())
            .map(|number| endpoint(TCP, Ipv4Addr::from(0x0a64_0000 + number).into(), port))
            .collect(),
        ..Rules::default()
    };
    let to_last = |port: u16| tcp(client, CLIENT_PORT, Ipv4Addr::new(10, 100, 255, 255).into(), port);

    let mut steering = steering(&full(HTTP));
    assert_eq!(outcome(&mut steering, "the last of the old", &to_last(HTTP)), Outcome::Service);
    steering.apply(&full(443)).unwrap();
    assert_eq!(outcome(&mut steering, "the last of the old", &to_last(HTTP)), Outcome::PassNotOurs);
    assert_eq!(outcome(&mut steering, "the last of the new", &to_last(443)), Outcome::Service);
}

#[test]
fn places_beyond_the_socket_map_are_errors() {
    let mut steering = load();
    let socket = bare_socket().unwrap();
    steering.set_socket(MAX_PORTS - 1, MAX_QUEUES - 1, &socket).unwrap();
    assert!(matches!(steering.set_socket(0, MAX_QUEUES, &socket), Err(SteerError::Queue { .. })));
    assert!(matches!(steering.set_socket(MAX_PORTS, 0, &socket), Err(SteerError::PortIndex { .. })));
    let not_a_socket = std::fs::File::open("/dev/null").unwrap();
    assert!(matches!(steering.set_socket(0, 0, &not_a_socket), Err(SteerError::Map { map: "sockets", .. })));
}
