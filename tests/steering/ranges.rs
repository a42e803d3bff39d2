//! Ranges of the steering program: what is in one, and how lists of them replace each other.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::IpNet;
use xvs::xdp::steer::{MAX_RANGES, Outcome, Range, Rules, SteerError, Steering};

use crate::frames::*;
use crate::samples::{BACKEND, CLIENT_PORT, DNS, HTTP, Net, nets};
use crate::{endpoint, outcome, rules, steering};

const PROTOCOLS: [u8; 3] = [TCP, UDP, SCTP];

fn range(protocol: u8, destination: IpNet, ports: RangeInclusive<u16>, source: Option<IpNet>) -> Range {
    Range { protocol, destination, port_first: *ports.start(), port_last: *ports.end(), source }
}

fn only(ranges: impl IntoIterator<Item = Range>) -> Rules {
    Rules { ranges: ranges.into_iter().collect(), ..Rules::default() }
}

fn packet(protocol: u8, source: IpAddr, destination: IpAddr, port: u16) -> Vec<u8> {
    match protocol {
        TCP => tcp(source, CLIENT_PORT, destination, port),
        UDP => udp(source, CLIENT_PORT, destination, port),
        _ => sctp(source, CLIENT_PORT, destination, port),
    }
}

/// Whether the frame is in a range, untagged and tagged alike, and counted as nothing else then.
fn is_taken(steering: &mut Steering, name: &str, frame: &[u8]) -> bool {
    let untagged = outcome(steering, name, frame);
    assert_eq!(outcome(steering, name, &tagged(frame, VLAN)), untagged, "{name} under a tag");
    assert!(matches!(untagged, Outcome::ServiceRange | Outcome::PassNotOurs), "{name}: {untagged}");
    untagged == Outcome::ServiceRange
}

/// `address` and `steps` on, around the end of all addresses.
fn moved(address: IpAddr, steps: i8) -> IpAddr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::from(u32::from(address).wrapping_add_signed(steps.into())).into(),
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address).wrapping_add_signed(steps.into())).into(),
    }
}

/// The network of each of these lengths that the address is in.
fn networks(address: IpAddr) -> impl Iterator<Item = IpNet> {
    let lens: &[u8] = match address {
        IpAddr::V4(_) => &[0, 1, 8, 23, 24, 31, 32],
        IpAddr::V6(_) => &[0, 1, 16, 48, 63, 64, 65, 96, 127, 128],
    };
    lens.iter().map(move |&len| IpNet::new(address, len).unwrap())
}

/// First and last address of the network, those beside them, and the address it was named by.
fn around(network: IpNet) -> [IpAddr; 5] {
    let (first, last) = (network.network(), network.broadcast());
    [moved(first, -1), first, network.addr(), last, moved(last, 1)]
}

#[test]
fn networks_end_where_their_prefix_says() {
    let mut steering = steering(&Rules::default());
    for Net { client, vip, .. } in nets() {
        for network in networks(vip) {
            steering.apply(&only([range(TCP, network, HTTP..=HTTP, None)])).unwrap();
            for address in around(network) {
                let name = format!("{address} of {network}");
                let taken = is_taken(&mut steering, &name, &packet(TCP, client, address, HTTP));
                assert_eq!(taken, network.contains(&address), "to {name}");
            }
        }
        for network in networks(client) {
            steering.apply(&only([range(TCP, vip.into(), HTTP..=HTTP, Some(network))])).unwrap();
            for address in around(network) {
                let name = format!("{address} of {network}");
                let taken = is_taken(&mut steering, &name, &packet(TCP, address, vip, HTTP));
                assert_eq!(taken, network.contains(&address), "from {name}");
            }
        }
    }
}

#[test]
fn a_network_of_all_addresses_is_of_one_family() {
    let mut steering = steering(&Rules::default());
    let [ipv4, ipv6] = &nets();
    for [this, other] in [[ipv4, ipv6], [ipv6, ipv4]] {
        let all = IpNet::new(this.vip, 0).unwrap();
        for source in [None, Some(all)] {
            steering.apply(&only([range(TCP, all, 0..=u16::MAX, source)])).unwrap();
            for (net, expected) in [(this, true), (other, false)] {
                let taken = is_taken(&mut steering, "", &packet(TCP, net.client, net.vip, HTTP));
                assert_eq!(taken, expected, "to {} by {all} from {source:?}", net.vip);
            }
        }
    }
}

#[test]
fn ports_are_from_the_first_to_the_last() {
    let mut steering = steering(&Rules::default());
    for Net { client, vip, .. } in nets() {
        // 255 and 256 are where the order of bytes in a port matters.
        for (first, last) in
            [(80, 80), (80, 90), (255, 256), (0, 0), (0, 65_535), (65_535, 65_535), (1, 65_534)]
        {
            steering.apply(&only([range(UDP, vip.into(), first..=last, None)])).unwrap();
            for port in [first.wrapping_sub(1), first, first.midpoint(last), last, last.wrapping_add(1)] {
                let taken = is_taken(&mut steering, "", &packet(UDP, client, vip, port));
                assert_eq!(taken, (first..=last).contains(&port), "port {port} of {first}-{last}");
            }
        }
    }
}

#[test]
fn a_range_is_of_one_protocol() {
    let mut steering = steering(&Rules::default());
    for Net { client, vip, .. } in nets() {
        for protocol in PROTOCOLS {
            steering.apply(&only([range(protocol, vip.into(), 0..=u16::MAX, None)])).unwrap();
            for of_packet in PROTOCOLS {
                let taken = is_taken(&mut steering, "", &packet(of_packet, client, vip, HTTP));
                assert_eq!(taken, of_packet == protocol, "{of_packet} by a range of {protocol}");
            }
            assert!(!is_taken(&mut steering, "ping", &echo_request(client, vip)));
            assert!(!is_taken(&mut steering, "VRRP", &ip(client, vip, VRRP, &[0x21; 20])));
            assert!(!is_taken(&mut steering, "a fragment", &fragment(client, vip, UDP, 0, true)));
        }
    }
}

/// As many ranges as there may be, each to the address of its own number in a network that nobody is in.
pub fn filling(net: &Net, ports: RangeInclusive<u16>) -> BTreeSet<Range> {
    (0..64).map(|number| range(TCP, filled(net, number).into(), ports.clone(), None)).collect()
}

fn filled(net: &Net, number: i8) -> IpAddr {
    moved(if net.vip.is_ipv4() { "192.0.2.0" } else { "2001:db8::" }.parse().unwrap(), number)
}

#[test]
fn the_program_leaves_the_verifier_room() {
    // Of a million. Other kernels take other ways through the loops.
    for flows in [None, Some(1)] {
        let mut steering = Steering::load_with(flows).unwrap();
        let verified = steering.verified_instructions().unwrap().expect("kernel 5.16 or newer");
        println!("{verified} instructions with room for {flows:?} flows");
        assert!(verified < 200_000, "{verified} instructions with room for {flows:?} flows");
    }
}

#[test]
fn each_of_the_most_ranges_is_looked_at_and_none_more() {
    let mut steering = steering(&Rules::default());
    for net in nets() {
        let full = filling(&net, HTTP..=HTTP);
        assert_eq!(full.len(), MAX_RANGES);
        steering.apply(&only(full.clone())).unwrap();
        for number in -1..=64 {
            let taken = is_taken(&mut steering, "", &packet(TCP, net.client, filled(&net, number), HTTP));
            assert_eq!(taken, (0..64).contains(&number), "range {number}");
        }

        // The first half: what was behind it counts no more.
        steering.apply(&only(full.iter().take(32).copied())).unwrap();
        steering.apply(&only(full.iter().take(31).copied())).unwrap();
        steering.apply(&only(full.iter().take(32).copied())).unwrap();
        for number in [0, 31, 32, 63] {
            let taken = is_taken(&mut steering, "", &packet(TCP, net.client, filled(&net, number), HTTP));
            assert_eq!(taken, number < 32, "range {number} of 32");
        }

        let one_more = full.into_iter().chain([range(TCP, net.vip.into(), HTTP..=HTTP, None)]);
        let refused = steering.apply(&only(one_more));
        assert!(matches!(refused, Err(SteerError::TooMany { count: 65, limit: 64, .. })), "{refused:?}");
        steering.apply(&Rules::default()).unwrap();
        assert!(!is_taken(&mut steering, "", &packet(TCP, net.client, filled(&net, 0), HTTP)));
    }
}

#[test]
fn a_range_with_an_error_changes_nothing() {
    let [ipv4, ipv6] = nets();
    let good = range(TCP, ipv4.vip.into(), 80..=90, None);
    let frame = packet(TCP, ipv4.client, ipv4.vip, 85);
    let mut steering = steering(&only([good]));
    for wrong in [
        Range { port_first: 91, ..good },
        Range { source: Some(ipv6.client.into()), ..good },
        Range { protocol: ICMP, ..good },
    ] {
        steering.apply(&only([wrong])).unwrap_err();
        assert!(is_taken(&mut steering, "", &frame), "after {wrong}");
    }
}

#[test]
fn what_is_not_in_a_range_is_as_without_ranges() {
    use Outcome::{NatReturn, PassHost, PassNotOurs, Service, ServiceAnyPort, ServiceRange};
    for Net { client, vip, whole, host, server, any_port_server, other, .. } in nets() {
        let mut with = rules();
        let around_other = IpNet::new(other, if other.is_ipv4() { 30 } else { 126 }).unwrap();
        with.ranges = [
            range(TCP, around_other, 0..=u16::MAX, None),
            range(TCP, vip.into(), 0..=u16::MAX, None),
            range(UDP, whole.into(), DNS..=DNS, Some(client.into())),
        ]
        .into();
        let mut steering = steering(&with);
        for (name, frame, expected) in [
            ("a service first", tcp(client, CLIENT_PORT, vip, HTTP), Service),
            ("a whole-address service first", tcp(client, CLIENT_PORT, whole, 4000), ServiceAnyPort),
            ("a server's reply first", tcp(server, BACKEND, other, CLIENT_PORT), NatReturn),
            ("a server's reply to somebody else", tcp(server, BACKEND, client, CLIENT_PORT), NatReturn),
            ("an any-port server's reply", tcp(any_port_server, 99, client, CLIENT_PORT), NatReturn),
            ("to the range", tcp(client, CLIENT_PORT, other, 4000), ServiceRange),
            ("to the range, and to this host", tcp(client, CLIENT_PORT, vip, 4000), ServiceRange),
            ("a server as a client of the range", tcp(server, BACKEND, vip, 4000), ServiceRange),
            ("UDP to the range", udp(client, CLIENT_PORT, whole, DNS), ServiceRange),
            ("UDP to the range from elsewhere", udp(other, CLIENT_PORT, whole, DNS), PassNotOurs),
            ("ssh to this host", tcp(client, CLIENT_PORT, host, 22), PassNotOurs),
            ("a health check's reply", tcp(server, BACKEND, host, 50_000), PassHost),
            ("UDP to an address of another protocol", udp(client, CLIENT_PORT, other, DNS), PassNotOurs),
        ] {
            assert_eq!(outcome(&mut steering, name, &frame), expected, "{name} ({vip})");
        }
    }
}

#[test]
fn whatever_is_truncated_is_in_no_range() {
    let mut steering = steering(&Rules::default());
    for Net { client, vip, .. } in nets() {
        let all = IpNet::new(vip, 0).unwrap();
        steering.apply(&only(PROTOCOLS.map(|protocol| range(protocol, all, 0..=u16::MAX, None)))).unwrap();
        for protocol in PROTOCOLS {
            let frame = packet(protocol, client, vip, HTTP);
            assert!(is_taken(&mut steering, "the whole", &frame));
            for frame in [tagged(&frame, VLAN), frame] {
                for len in NETWORK..frame.len() {
                    let outcome = outcome(&mut steering, "", &frame[..len]);
                    assert!(!outcome.is_redirected(), "{len} bytes of protocol {protocol}: {outcome}");
                }
            }
        }
    }
}

#[test]
fn a_range_that_stays_is_never_missed_while_others_come_and_go() {
    let net = &nets()[0];
    let stays = range(TCP, net.vip.into(), HTTP..=HTTP, None);
    let frame = packet(TCP, net.client, net.vip, HTTP);
    let others = filling(net, HTTP..=HTTP);
    // By their order it is the first of 64, or behind 63, or alone.
    let behind = others.iter().map(|r| Range { destination: "1.0.0.0/8".parse().unwrap(), ..*r });
    let behind = behind.zip(1..).map(|(r, port)| Range { port_first: port, port_last: port, ..r });
    let lists = [
        only(others.iter().skip(1).copied().chain([stays])),
        only([stays]),
        only(behind.skip(1).chain([stays])),
        only(others.iter().take(20).copied().chain([stays])),
    ];
    const RUNS: u32 = 20_000;
    let mut steering = steering(&lists[0]);
    let trial = steering.trial().unwrap();
    std::thread::scope(|scope| {
        let runs = scope.spawn(|| (0..50).for_each(|_| _ = trial.time(&frame, RUNS).unwrap()));
        while !runs.is_finished() {
            lists.iter().for_each(|list| steering.apply(list).unwrap());
        }
        runs.join().unwrap();
    });
    let counted: Vec<_> =
        steering.counters().unwrap().into_iter().filter(|(_, frames)| *frames > 0).collect();
    assert_eq!(counted, [(Outcome::ServiceRange, u64::from(50 * RUNS))]);
}

#[test]
fn a_range_in_the_place_of_another_leaves_no_gap() {
    let net = &nets()[0];
    let frame = packet(TCP, net.client, net.vip, HTTP);
    let by = |len| range(TCP, IpNet::new(net.vip, len).unwrap(), HTTP..=HTTP, None);
    // The range is in the last of all places, behind others to the addresses below, and then in the first one.
    let others = (1..64).map(|steps| range(TCP, moved(net.vip, -steps).into(), HTTP..=HTTP, None));
    let lists = [only(others.chain([by(32)])), only([by(31)]), only([by(30)])];
    let mut steering = steering(&lists[0]);
    let trial = steering.trial().unwrap();
    let counted =
        |steering: &Steering| steering.counters().unwrap().iter().map(|(_, frames)| frames).sum::<u64>();
    std::thread::scope(|scope| {
        let runs = scope.spawn(|| (0..50).for_each(|_| _ = trial.time(&frame, 20_000).unwrap()));
        let lists = lists.iter().cycle().skip(1);
        for list in lists.take_while(|_| !runs.is_finished()) {
            steering.apply(list).unwrap();
            // What began before the change is over when two more are counted.
            let before = counted(&steering);
            while counted(&steering) < before + 2 && !runs.is_finished() {}
        }
        runs.join().unwrap();
    });
    let outcomes: Vec<_> =
        steering.counters().unwrap().into_iter().filter(|(_, frames)| *frames > 0).collect();
    assert_eq!(outcomes, [(Outcome::ServiceRange, 1_000_000)]);
}

#[test]
fn port_0_is_every_port_of_a_service_and_of_a_server() {
    use Outcome::{NatReturn, PassNotOurs, Service, ServiceAnyPort};
    for Net { client, vip, server, .. } in nets() {
        for protocol in PROTOCOLS {
            let any_port = Rules {
                services: [endpoint(protocol, vip, 0)].into(),
                nat_servers: [endpoint(protocol, server, 0)].into(),
                ..Rules::default()
            };
            let mut steering = steering(&any_port);
            for of_packet in PROTOCOLS {
                let expected = |ours| if of_packet == protocol { ours } else { PassNotOurs };
                for port in [0, 1, 80, 65_535] {
                    let to = packet(of_packet, client, vip, port);
                    // Port 0 itself is found as any single port would be.
                    let ours = if port == 0 { Service } else { ServiceAnyPort };
                    assert_eq!(outcome(&mut steering, "", &to), expected(ours), "to port {port}");
                    let from = match of_packet {
                        TCP => tcp(server, port, client, CLIENT_PORT),
                        UDP => udp(server, port, client, CLIENT_PORT),
                        _ => sctp(server, port, client, CLIENT_PORT),
                    };
                    assert_eq!(outcome(&mut steering, "", &from), expected(NatReturn), "from port {port}");
                }
            }
        }
    }
}
