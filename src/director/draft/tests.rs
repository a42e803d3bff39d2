use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::director::local::{LOCAL_PORTS, Locals};
use crate::director::sched::{Request, Schedule};
use crate::director::server::Counts;
use crate::director::service::{MAX_WEIGHT, Method, Persistence, Protocol, Tunnel};
use crate::director::switches::{ClientAddress, Switches};
use crate::packet::flow::FlowKey;

fn key(n: u8) -> ServiceKey {
    ServiceKey::new(Protocol::Tcp, ([192, 0, 2, n], 80).into())
}

fn server(host: u8) -> Server {
    Server::new(([10, 0, 0, host], 80).into(), Method::Nat)
}

fn rr(n: u8) -> Service {
    Service { scheduler: Kind::Rr, ..Service::new(key(n)) }
}

fn empty() -> Draft {
    Draft::new(&Services::default(), &Roster::default())
}

fn hosts(draft: &Draft, n: u8) -> Vec<u8> {
    let last = |d: &Destination| match d.address.ip() {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(_) => unreachable!(),
    };
    draft.services.get(&key(n)).unwrap().destinations.iter().map(last).collect()
}

#[test]
fn servers_are_put_at_the_head_edited_in_place_and_return_to_the_head() {
    let mut draft = empty();
    draft.add_service(rr(1)).unwrap();
    (1..=3).for_each(|host| draft.add_server(key(1), server(host)).unwrap());
    assert_eq!(hosts(&draft, 1), [3, 2, 1]);
    draft.edit_server(key(1), Server { weight: 9, ..server(2) }).unwrap();
    assert_eq!(hosts(&draft, 1), [3, 2, 1]);
    draft.remove_server(key(1), server(2).address).unwrap();
    draft.add_server(key(1), server(2)).unwrap();
    assert_eq!(hosts(&draft, 1), [2, 3, 1]);
}

#[test]
fn an_edit_with_the_same_scheduler_leaves_it_where_it_is() {
    let mut draft = empty();
    draft.add_service(rr(1)).unwrap();
    (1..=3).for_each(|host| draft.add_server(key(1), server(host)).unwrap());
    let counts = Counts::new(8);
    let flow = FlowKey::v4(6, 1, 2, 3);
    let pick = |draft: &Draft| {
        let service = draft.services.get(&key(1)).unwrap();
        let request = Request { flow: &flow, tick: 0, ramp: None };
        service.scheduler.pick(&service.destinations, &counts, &request).unwrap()
    };
    assert_eq!(pick(&draft), 0);
    let persistence =
        Some(Persistence { timeout_s: 60, netmask: crate::director::service::Netmask::whole(true) });
    draft.edit_service(Service { persistence, ..rr(1) }).unwrap();
    assert_eq!(pick(&draft), 1);
    draft.edit_service(Service { scheduler: Kind::Wrr, ..rr(1) }).unwrap();
    draft.edit_service(rr(1)).unwrap();
    assert_eq!(pick(&draft), 0, "another scheduler starts anew");
}

#[test]
fn refusals_change_nothing() {
    let mut draft = empty();
    draft.add_service(rr(1)).unwrap();
    draft.add_server(key(1), server(1)).unwrap();
    let six: ServiceKey = "tcp:[2001:db8::1]:80".parse().unwrap();
    draft.add_service(Service::new(six)).unwrap();
    let before = draft.services.pools();
    let udp = ServiceKey::new(Protocol::Udp, ([192, 0, 2, 1], 80).into());
    let with = |change: fn(&mut Server)| {
        let mut new = server(2);
        change(&mut new);
        new
    };
    let refused = [
        draft.add_service(rr(1)),
        draft.edit_service(rr(2)),
        draft.remove_service(key(2)),
        draft.add_service(Service {
            one_packet: true,
            ..Service::new(ServiceKey::new(Protocol::Sctp, ([192, 0, 2, 1], 80).into()))
        }),
        draft.add_service(Service::new(ServiceKey::new(Protocol::Tcp, ([192, 0, 2, 3], 0).into()))),
        draft.add_service(Service { one_packet: true, ..rr(3) }),
        draft.add_server(udp, server(1)),
        draft.add_server(key(1), server(1)),
        draft.edit_server(key(1), server(2)),
        draft.remove_server(key(1), server(2).address),
        draft.add_server(key(1), with(|s| s.weight = MAX_WEIGHT + 1)),
        draft.add_server(key(1), with(|s| s.lower = 1)),
        draft.add_server(key(1), with(|s| s.address = "224.0.0.1:80".parse().unwrap())),
        draft.add_server(key(1), with(|s| s.address = "255.255.255.255:80".parse().unwrap())),
        draft.add_server(key(1), with(|s| s.address = "[2001:db8::1]:80".parse().unwrap())),
        draft.add_server(six, with(|_| {})),
        draft.add_server(six, with(|s| s.address = "[fe80::1]:80".parse().unwrap())),
        draft.add_server(six, with(|s| s.address = "[ff02::1]:80".parse().unwrap())),
        draft.add_server(six, with(|s| s.address = "[::]:80".parse().unwrap())),
        draft.add_server(six, with(|s| s.address = "[::ffff:10.0.0.1]:80".parse().unwrap())),
        draft.add_server(six, with(|s| s.address = "[2001:db8::1%3]:80".parse().unwrap())),
        draft.add_server(
            key(1),
            with(|s| (s.method, s.address) = (Method::Dr, "10.0.0.2:81".parse().unwrap())),
        ),
        draft.add_server(
            key(1),
            with(|s| s.method = Method::Tun(Tunnel::Gue { port: 0, checksum: Default::default() })),
        ),
    ];
    for (place, result) in refused.iter().enumerate() {
        assert!(result.is_err(), "{place}");
    }
    assert_eq!(draft.services.pools(), before);
}

#[test]
fn clients_addresses_are_told_where_that_can_be_done() {
    let told = |client_address| {
        let switches = Switches { client_address, ..Switches::default() };
        move |service: Service| Service { switches, ..service }
    };
    let (proxy, toa) = (told(ClientAddress::Proxy), told(ClientAddress::Toa));
    let at = |protocol, port: u16| Service {
        scheduler: Kind::Rr,
        ..Service::new(ServiceKey::new(protocol, ([192, 0, 2, 1], port).into()))
    };
    let dr = Server { method: Method::Dr, ..server(1) };
    let mut draft = empty();
    for refused in [toa(at(Protocol::Udp, 53)), proxy(at(Protocol::Sctp, 80)), toa(at(Protocol::Tcp, 21))] {
        assert!(matches!(draft.add_service(refused), Err(Refused::ClientAddress { .. })), "{refused:?}");
    }
    draft.add_service(proxy(rr(1))).unwrap();
    let refused = Err(Refused::ClientAddressMethod { service: key(1), server: dr.address, how: "proxy" });
    assert_eq!(draft.add_server(key(1), dr), refused);
    draft.add_server(key(1), server(1)).unwrap();
    assert_eq!(draft.edit_server(key(1), dr), refused);
    draft.edit_service(rr(1)).unwrap();
    draft.edit_server(key(1), dr).unwrap();
    assert_eq!(draft.edit_service(proxy(rr(1))), refused);
    // A reload may change both at once, in either direction.
    let pool = |service, server| [Pool { service, servers: vec![server] }];
    draft.replace(&pool(toa(rr(1)), server(1))).unwrap();
    draft.replace(&pool(rr(1), dr)).unwrap();
    assert!(draft.replace(&pool(toa(rr(1)), dr)).is_err());
}

#[test]
fn servers_of_the_other_ip_version_are_behind_tunnels_or_local_addresses() {
    let mut draft = empty();
    let six: ServiceKey = "tcp:[2001:db8::1]:80".parse().unwrap();
    let locals = |list: &[&str]| {
        let list: Vec<_> = list.iter().map(|address| address.parse().unwrap()).collect();
        Locals::new(&list, LOCAL_PORTS).unwrap()
    };
    draft.add_service(Service { locals: locals(&["2001:db8::2"]), ..Service::new(six) }).unwrap();
    let add = |draft: &mut Draft, address: &str, method| {
        draft.add_server(six, Server::new(address.parse().unwrap(), method))
    };
    for method in [Method::Nat, Method::Dr] {
        assert!(matches!(add(&mut draft, "10.0.0.1:80", method), Err(Refused::Family { .. })));
    }
    let tunnel = Method::Tun(Tunnel::Ipip);
    let methods = [("10.0.0.1", tunnel), ("[2001:db8::11]", tunnel), ("[2001:db8::12]", Method::Nat)];
    for (host, method) in methods.into_iter().chain([("[2001:db8::13]", Method::Dr)]) {
        add(&mut draft, &format!("{host}:80"), method).unwrap();
    }
    assert_eq!(draft.services.get(&six).unwrap().destinations.len(), 4);
    // The local address is of the server's version.
    let refused = add(&mut draft, "10.0.0.14:8080", Method::FullNat);
    assert!(matches!(refused, Err(Refused::NoLocalAddress { .. })), "{refused:?}");
    draft
        .edit_service(Service { locals: locals(&["2001:db8::2", "10.0.0.250"]), ..Service::new(six) })
        .unwrap();
    add(&mut draft, "10.0.0.14:8080", Method::FullNat).unwrap();
    // Who the client is it is told as any other.
    let proxied = Switches { client_address: ClientAddress::Proxy, ..Switches::default() };
    let told: ServiceKey = "tcp:[2001:db8::2]:80".parse().unwrap();
    let both = Service { locals: locals(&["10.0.0.250"]), switches: proxied, ..Service::new(told) };
    draft.add_service(both).unwrap();
    let four = Server::new("10.0.0.14:8080".parse().unwrap(), Method::FullNat);
    draft.add_server(told, four).unwrap();
    let tunnels = Service { switches: proxied, ..draft.services.get(&six).unwrap().service };
    assert!(matches!(draft.edit_service(tunnels), Err(Refused::ClientAddressMethod { .. })));
}

#[test]
fn fullnat_leads_to_no_server_that_is_certainly_here() {
    let locals = |last| Locals::new(&[[10, 0, 0, last].into()], LOCAL_PORTS).unwrap();
    let mut draft = empty();
    draft.add_service(Service { locals: locals(250), ..rr(1) }).unwrap();
    let at = |ip: [u8; 4]| Server::new((ip, 8080).into(), Method::FullNat);
    let vip = Server::new(([192, 0, 2, 1], 8080).into(), Method::FullNat);
    for server in [at([127, 0, 0, 1]), at([10, 0, 0, 250]), vip] {
        let refused = draft.add_server(key(1), server);
        assert_eq!(refused, Err(Refused::FullNatHere { service: key(1), server: server.address }));
        draft.add_server(key(1), Server { method: Method::Nat, ..server }).unwrap();
        assert!(draft.edit_server(key(1), server).is_err());
    }
    draft.add_server(key(1), at([10, 0, 0, 7])).unwrap();
    let moved = draft.edit_service(Service { locals: locals(7), ..rr(1) });
    assert!(matches!(moved, Err(Refused::FullNatHere { .. })), "{moved:?}");
}

#[test]
fn there_is_a_limit_to_services_and_to_servers() {
    let mut draft = empty();
    for n in 0..u16::try_from(MAX_SERVICES).unwrap() {
        let [a, b] = n.to_be_bytes();
        draft.add_service(Service::new(ServiceKey::new(Protocol::Tcp, ([10, 9, a, b], 80).into()))).unwrap();
    }
    assert_eq!(draft.add_service(rr(1)), Err(Refused::TooManyServices(MAX_SERVICES)));
    let [first, second] = [0, 1].map(|n| ServiceKey::new(Protocol::Tcp, ([10, 9, 0, n], 80).into()));
    draft.add_server(first, server(1)).unwrap();
    draft.services.servers = MAX_SERVERS as usize;
    let too_many = Err(Refused::TooManyServers(MAX_SERVERS as usize));
    assert_eq!(draft.add_server(second, server(2)), too_many);
    draft.remove_server(first, server(1).address).unwrap();
    draft.add_server(second, server(2)).unwrap();
}

fn pools() -> impl Strategy<Value = Vec<Pool>> {
    let servers = proptest::collection::btree_map(1u8..8, 0u32..4, 0..6);
    let services = proptest::collection::btree_map(1u8..6, (any::<bool>(), servers), 0..5);
    services.prop_map(|services: BTreeMap<u8, (bool, BTreeMap<u8, u32>)>| {
        let pool = |(n, (is_rr, servers)): (u8, (bool, BTreeMap<u8, u32>))| Pool {
            service: if is_rr { rr(n) } else { Service::new(key(n)) },
            servers: servers.into_iter().map(|(host, weight)| Server { weight, ..server(host) }).collect(),
        };
        services.into_iter().map(pool).collect()
    })
}

/// Services and servers without their order.
fn as_sets(services: &Services) -> BTreeMap<ServiceKey, (Kind, BTreeMap<SocketAddr, u32>)> {
    let pool = |p: Pool| {
        let servers = p.servers.iter().map(|s| (s.address, s.weight)).collect();
        (p.service.key, (p.service.scheduler, servers))
    };
    services.pools().into_iter().map(pool).collect()
}

proptest! {
    /// Whatever there was: afterwards there is what is wanted, what did not change was not touched, nobody has
    /// another's number, and everything derived is what a slow look at the services gives.
    #[test]
    fn a_replacement_is_the_smallest_change(histories in proptest::collection::vec(pools(), 1..6)) {
        let (mut services, mut roster) = (Services::default(), Roster::default());
        let mut numbers: HashMap<(ServiceKey, SocketAddr), ServerId> = HashMap::new();
        for wanted in histories {
            let mut draft = Draft::new(&services, &roster);
            draft.replace(&wanted).unwrap();
            let (new, new_roster) = draft.into_parts();
            let mut fresh = empty();
            fresh.replace(&wanted).unwrap();
            prop_assert_eq!(as_sets(&new), as_sets(&fresh.services));
            for service in new.all() {
                let key = service.service.key;
                let old = services.list.get(&key);
                let is_same = old.is_some_and(|old| {
                    (old.service, &old.destinations) == (service.service, &service.destinations)
                });
                prop_assert_eq!(is_same, old.is_some_and(|old| Arc::ptr_eq(old, service)));
                for d in &service.destinations {
                    prop_assert_eq!(*numbers.entry((key, d.address)).or_insert(d.id), d.id, "its own number");
                }
            }
            let ids: Vec<_> = new.all().flat_map(|s| s.destinations.iter().map(|d| d.id)).collect();
            let distinct: HashSet<_> = ids.iter().copied().collect();
            prop_assert_eq!(ids.len(), distinct.len());
            for id in new_roster.ids() {
                prop_assert_eq!(new.is_available(id), distinct.contains(&id));
            }
            let nat: HashSet<_> =
                new.all().flat_map(|s| s.destinations.iter().map(|d| (Protocol::Tcp, d.address))).collect();
            prop_assert_eq!(new.nat_servers().copied().collect::<HashSet<_>>(), nat);
            (services, roster) = (new, new_roster);
        }
    }
}
