//! What the mirror knows of the kernel's tables, and the snapshot made of it. Pure: no netlink here.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::addresses::Address;
use super::fib::{Fib, RouteEntry, Target};
use super::hop_table::{HopKey, HopTable};
use super::links::Link;
use super::netlink::{Neighbour, NeighbourChange};
use super::rss::Rss;
use super::snapshot::{Hop, Port, Snapshot};

/// Most gateways known by name. A director has a handful; a full routing table has a few dozen.
const MAX_GATEWAYS: usize = 256;

/// Links, addresses and routes as they were read together.
#[derive(Debug, Default)]
pub(crate) struct Network {
    pub links: Vec<Link>,
    pub addresses: Vec<Address>,
    pub routes: Vec<RouteEntry>,
    /// There are, or were since the start, other IPv4 rules than the default ones.
    pub ipv4_rules_changed: bool,
}

/// The mirror's state.
#[derive(Debug)]
pub(crate) struct Tables {
    /// Interface numbers in the order of the ports.
    ports: Vec<u32>,
    links: HashMap<u32, Link>,
    fib: Arc<Fib>,
    addresses: Arc<[Address]>,
    host_addresses: Arc<BTreeSet<IpAddr>>,
    neighbours: HashMap<HopKey, Neighbour>,
    hops: HopTable,
    gateways: BTreeSet<HopKey>,
    generation: u32,
    /// In the order of the ports.
    rss: Arc<[Option<Rss>]>,
}

impl Tables {
    /// Empty tables for interfaces with these numbers; a port is the position in `ports`.
    pub(crate) fn new(ports: Vec<u32>) -> Self {
        Self {
            ports,
            links: HashMap::new(),
            fib: Arc::default(),
            addresses: Arc::default(),
            host_addresses: Arc::default(),
            neighbours: HashMap::new(),
            hops: HopTable::default(),
            gateways: BTreeSet::new(),
            generation: 0,
            rss: Arc::default(),
        }
    }

    /// Takes over links, addresses and routes.
    pub(crate) fn set_network(&mut self, network: Network) {
        self.links = network.links.into_iter().map(|link| (link.ifindex, link)).collect();
        let addresses = network.addresses;
        let (ports, links) = (&self.ports, &self.links);
        let usable = |ifindex| exit(ports, links, ifindex, 0).is_some();
        self.hops.set_bonds(bonds(links));
        let fib = Fib::build(&network.routes, usable, &mut self.hops, network.ipv4_rules_changed);
        if fib != *self.fib || *addresses != *self.addresses {
            self.generation = self.generation.wrapping_add(1);
            self.gateways = first_gateways(&fib);
            self.fib = Arc::new(fib);
            self.host_addresses = Arc::new(addresses.iter().map(|address| address.ip).collect());
            self.addresses = addresses.into();
        }
        // Links may have become ours or usable: their neighbours get their ids now.
        let known: Vec<HopKey> = self.neighbours.keys().copied().collect();
        for key in known {
            self.name_neighbour(key);
        }
    }

    /// The names of the ports.
    pub(crate) fn port_names(&self) -> Vec<Option<String>> {
        let name = |ifindex| self.links.get(ifindex).map(|link| link.name.clone());
        self.ports.iter().map(name).collect()
    }

    /// Takes over how the ports distribute packets.
    pub(crate) fn set_rss(&mut self, rss: Vec<Option<Rss>>) {
        if *rss != *self.rss {
            self.rss = rss.into();
        }
    }

    /// Takes over the whole list of neighbours.
    pub(crate) fn set_neighbours(&mut self, neighbours: Vec<NeighbourChange>) {
        self.neighbours.clear();
        for change in neighbours {
            self.set_neighbour(change);
        }
    }

    /// Takes over one neighbour; whether a snapshot would differ.
    pub(crate) fn set_neighbour(&mut self, (key, neighbour): NeighbourChange) -> bool {
        let before = match neighbour {
            Some(neighbour) => self.neighbours.insert(key, neighbour),
            None => self.neighbours.remove(&key),
        };
        self.name_neighbour(key);
        before.and_then(|n| n.mac) != neighbour.and_then(|n| n.mac)
    }

    /// Gives a next hop its name before there is a neighbour entry; whether there was room.
    pub(crate) fn name(&mut self, key: HopKey) -> bool {
        self.hops.id(key).is_some()
    }

    fn name_neighbour(&mut self, key: HopKey) {
        let usable = self.neighbours.get(&key).is_some_and(|neighbour| neighbour.mac.is_some());
        if usable && exit(&self.ports, &self.links, key.0, 0).is_some() {
            self.hops.id(key);
        }
    }

    pub(crate) fn neighbour(&self, key: HopKey) -> Option<&Neighbour> {
        self.neighbours.get(&key)
    }

    /// The neighbours that the kernel keeps because xvs asked, in this run or an earlier one.
    pub(crate) fn managed_by_us(&self) -> impl Iterator<Item = HopKey> {
        self.neighbours
            .iter()
            .filter(|(_, neighbour)| neighbour.managed && neighbour.ours)
            .map(|(key, _)| *key)
    }

    /// The next hops of all ways to `destination`.
    pub(crate) fn next_hops(&self, destination: IpAddr) -> Vec<HopKey> {
        let key = |target: &Target| match target {
            Target::Gateway { key, .. } => *key,
            Target::OnLink { ifindex } => (*ifindex, destination),
        };
        self.fib.ways(destination).map(key).collect()
    }

    /// The gateways of all routes, at most [`MAX_GATEWAYS`].
    pub(crate) fn gateways(&self) -> &BTreeSet<HopKey> {
        &self.gateways
    }

    /// How often a next hop got no name because the table is full.
    pub(crate) fn hops_refused(&self) -> u64 {
        self.hops.refused()
    }

    fn port(&self, ifindex: u32) -> Option<Port> {
        let link = self.links.get(&ifindex).filter(|link| link.up)?;
        Some(Port { mac: link.mac, mtu: u16::try_from(link.mtu).unwrap_or(u16::MAX) })
    }

    /// The state of now, for the workers.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let hop = |(key, lane): &(HopKey, u16)| {
            let Exit { port, vlan, src_mac, link } = exit(&self.ports, &self.links, key.0, *lane)?;
            let dst_mac = self.neighbours.get(key)?.mac?;
            Some(Hop { port, dst_mac, src_mac, vlan, mtu: u16::try_from(link.mtu).unwrap_or(u16::MAX) })
        };
        Snapshot {
            generation: self.generation,
            fib: Arc::clone(&self.fib),
            ids: self.hops.ids(),
            hops: self.hops.keys().iter().map(hop).collect(),
            ports: self.ports.iter().map(|ifindex| self.port(*ifindex)).collect(),
            addresses: Arc::clone(&self.addresses),
            host_addresses: Arc::clone(&self.host_addresses),
            rss: Arc::clone(&self.rss),
            resolver: None,
        }
    }
}

fn first_gateways(fib: &Fib) -> BTreeSet<HopKey> {
    let mut gateways = BTreeSet::new();
    for key in fib.gateways() {
        gateways.insert(key);
        if gateways.len() == MAX_GATEWAYS {
            break;
        }
    }
    gateways
}

/// How frames for an interface leave.
#[derive(Clone, Copy, Debug)]
struct Exit<'l> {
    port: u16,
    /// The VLAN tag they need there.
    vlan: Option<u16>,
    src_mac: [u8; 6],
    /// The interface itself.
    link: &'l Link,
}

/// How frames of a lane leave by an interface: itself a port, a bond of ports, or a VLAN on one of these. `None` if they
/// cannot: it is nothing of that, or one on the way is down.
fn exit<'l>(ports: &[u32], links: &'l HashMap<u32, Link>, ifindex: u32, lane: u16) -> Option<Exit<'l>> {
    let port_of = |ifindex: u32| {
        let position = ports.iter().position(|port| *port == ifindex)?;
        Some(u16::try_from(position).expect("bounded by MAX_PORTS"))
    };
    let running = |ifindex: u32| links.get(&ifindex).filter(|link| link.is_running());
    let link = running(ifindex)?;
    if let Some(port) = port_of(ifindex) {
        return Some(Exit { port, vlan: None, src_mac: link.mac, link });
    }
    let below = if link.vlan.is_some() { running(below(link)?)? } else { link };
    if let Some(port) = port_of(below.ifindex) {
        return Some(Exit { port, vlan: link.vlan, src_mac: link.mac, link });
    }
    if !below.is_bond() {
        return None;
    }
    let sends =
        |member: &&Link| member.controller == Some(below.ifindex) && member.is_running() && !member.is_backup;
    let mut members: Vec<(u32, u16, [u8; 6])> = links
        .values()
        .filter(sends)
        .filter_map(|member| Some((member.ifindex, port_of(member.ifindex)?, member.mac)))
        .collect();
    members.sort_unstable();
    let (_, port, mac) = *members.get(usize::from(lane) % members.len().max(1))?;
    // Members that keep addresses of their own (balance-alb) send from these.
    let src_mac = if link.mac == below.mac { mac } else { link.mac };
    Some(Exit { port, vlan: link.vlan, src_mac, link })
}

/// The interface below a VLAN, if it is in this network namespace.
fn below(link: &Link) -> Option<u32> {
    link.parent.filter(|_| link.vlan.is_some() && !link.parent_is_elsewhere)
}

/// The bonds, and the VLANs on them.
fn bonds(links: &HashMap<u32, Link>) -> BTreeSet<u32> {
    let is_bond = |link: &Link| {
        link.is_bond() || below(link).and_then(|below| links.get(&below)).is_some_and(Link::is_bond)
    };
    links.values().filter(|link| is_bond(link)).map(|link| link.ifindex).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::fib::{RouteKind, Table, Way};
    use crate::net::snapshot::Route;

    fn link(ifindex: u32) -> Link {
        Link {
            ifindex,
            ethernet: true,
            mac: [2, 0, 0, 0, 0, u8::try_from(ifindex).unwrap()],
            mtu: 1500,
            up: true,
            carrier: true,
            ..Link::default()
        }
    }

    fn main_route(prefix: &str, ifindex: u32, gateway: Option<&str>) -> RouteEntry {
        let gateway = gateway.map(|g| g.parse().unwrap());
        let ways = vec![Way { ifindex, gateway, weight: 1, unusable: false }];
        RouteEntry {
            table: Table::Main,
            prefix: prefix.parse().unwrap(),
            metric: 0,
            source: None,
            kind: RouteKind::Unicast(ways),
        }
    }

    fn address(ip: &str) -> Address {
        let ip = ip.parse().unwrap();
        Address { ifindex: 7, ip, prefix_len: 24, is_secondary: false, is_local: false }
    }

    fn network() -> Network {
        let vlan = Link { vlan: Some(100), parent: Some(7), mtu: 1400, ..link(9) };
        Network {
            links: vec![link(5), link(7), vlan],
            addresses: vec![address("10.0.0.1")],
            routes: vec![
                main_route("10.0.0.0/24", 7, None),
                main_route("10.100.0.0/24", 9, None),
                main_route("0.0.0.0/0", 7, Some("10.0.0.254")),
            ],
            ipv4_rules_changed: false,
        }
    }

    fn at(ifindex: u32, address: &str, mac: u8) -> NeighbourChange {
        let neighbour = Neighbour { mac: Some([2, 9, 9, 9, 9, mac]), ..Neighbour::default() };
        ((ifindex, address.parse().unwrap()), Some(neighbour))
    }

    fn hop(snapshot: &Snapshot, to: &str) -> Option<Hop> {
        match snapshot.route(to.parse().unwrap(), 0) {
            Route::Via(id) => snapshot.hop(id).copied(),
            other => panic!("{to}: {other:?}"),
        }
    }

    #[test]
    fn a_neighbour_appears_moves_and_goes_without_changing_the_generation() {
        let mut tables = Tables::new(vec![5, 7]);
        tables.set_network(network());
        let first = tables.snapshot();
        assert_eq!(first.route("10.0.0.9".parse().unwrap(), 0), Route::Unknown);
        assert_eq!(hop(&first, "8.8.8.8"), None, "the gateway has a name before it has a MAC");

        assert!(tables.set_neighbour(at(7, "10.0.0.9", 1)));
        let second = tables.snapshot();
        let expected =
            Hop { port: 1, dst_mac: [2, 9, 9, 9, 9, 1], src_mac: [2, 0, 0, 0, 0, 7], vlan: None, mtu: 1500 };
        assert_eq!(hop(&second, "10.0.0.9"), Some(expected));
        assert!(!tables.set_neighbour(at(7, "10.0.0.9", 1)), "nothing new");
        assert!(tables.set_neighbour(at(7, "10.0.0.9", 2)));
        let third = tables.snapshot();
        assert_eq!(third.route("10.0.0.9".parse().unwrap(), 0), second.route("10.0.0.9".parse().unwrap(), 0));
        assert_eq!(hop(&third, "10.0.0.9").unwrap().dst_mac[5], 2);
        assert!(tables.set_neighbour((at(7, "10.0.0.9", 2).0, None)));
        assert_eq!(hop(&tables.snapshot(), "10.0.0.9"), None);
        assert_eq!(tables.snapshot().generation(), first.generation());
    }

    #[test]
    fn the_same_routes_again_keep_the_generation_and_others_change_it() {
        let mut tables = Tables::new(vec![5, 7]);
        tables.set_network(network());
        let first = tables.snapshot().generation();
        tables.set_network(network());
        assert_eq!(tables.snapshot().generation(), first);
        let mut other = network();
        other.routes[2] = main_route("0.0.0.0/0", 7, Some("10.0.0.253"));
        tables.set_network(other);
        assert_ne!(tables.snapshot().generation(), first);
    }

    #[test]
    fn packets_of_its_own_are_sent_from_where_the_route_says_else_from_its_interface() {
        let mut tables = Tables::new(vec![5, 7]);
        let mut network = network();
        network.routes[2].source = Some("10.0.0.77".parse().unwrap());
        network.routes.push(main_route("10.8.0.0/16", 7, Some("10.0.0.253")));
        network.addresses.push(address("10.0.0.77"));
        tables.set_network(network);
        let source = |to: &str| tables.snapshot().source(to.parse().unwrap(), 0).map(|ip| ip.to_string());
        assert_eq!(source("8.8.8.8").as_deref(), Some("10.0.0.77"));
        assert_eq!(source("10.8.0.1").as_deref(), Some("10.0.0.1"));
        assert_eq!(source("10.0.0.9").as_deref(), Some("10.0.0.1"));
        assert_eq!(source("fd00::1"), None);
    }

    #[test]
    fn a_vlan_on_a_port_leaves_by_the_port_with_its_tag() {
        let mut tables = Tables::new(vec![5, 7]);
        tables.set_network(network());
        tables.set_neighbour(at(9, "10.100.0.2", 3));
        let hop = hop(&tables.snapshot(), "10.100.0.2").unwrap();
        assert_eq!((hop.port, hop.vlan, hop.mtu, hop.src_mac[5]), (1, Some(100), 1400, 9));
    }

    /// A bond (4) of ports 5 and 7 and of 8, which is no port, and a VLAN (10) on it.
    fn bonded() -> Network {
        let bond = Link { kind: Some("bond".to_owned()), ..link(4) };
        let member = |ifindex| Link { controller: Some(4), mac: bond.mac, ..link(ifindex) };
        let vlan = Link { vlan: Some(100), parent: Some(4), mac: bond.mac, ..link(10) };
        Network {
            links: vec![member(5), member(7), member(8), vlan, bond],
            addresses: vec![address("10.0.0.1")],
            routes: vec![
                main_route("10.0.0.0/24", 4, None),
                main_route("10.100.0.0/24", 10, None),
                main_route("0.0.0.0/0", 4, Some("10.0.0.254")),
            ],
            ipv4_rules_changed: false,
        }
    }

    /// Ports and tags that flows to this address leave by, and the source addresses.
    fn exits(tables: &Tables, to: &str) -> BTreeSet<(u16, Option<u16>, u8)> {
        let snapshot = tables.snapshot();
        let hop = |hash: u32| {
            let route = snapshot.route(to.parse().unwrap(), hash.wrapping_mul(0x0101_6b55));
            let Route::Via(id) = route else { panic!("{to}: {route:?}") };
            snapshot.hop(id).map(|hop| (hop.port, hop.vlan, hop.src_mac[5]))
        };
        (0..1000).filter_map(hop).collect()
    }

    #[test]
    fn a_bond_leads_to_those_of_its_members_that_send_and_no_flow_asks_again() {
        let mut tables = Tables::new(vec![5, 7]);
        tables.set_network(bonded());
        for (ifindex, ip) in [(4, "10.0.0.254"), (4, "10.0.0.9"), (10, "10.100.0.2")] {
            tables.set_neighbour(at(ifindex, ip, 1));
        }
        let generation = tables.snapshot().generation();
        for (to, vlan) in [("8.8.8.8", None), ("10.0.0.9", None), ("10.100.0.2", Some(100))] {
            assert_eq!(exits(&tables, to), [(0, vlan, 4), (1, vlan, 4)].into(), "{to}");
        }
        let with = |change: fn(&mut Link)| {
            let mut network = bonded();
            change(&mut network.links[0]);
            network
        };
        for other in [with(|l| l.is_backup = true), with(|l| l.carrier = false), with(|l| l.up = false)] {
            tables.set_network(other);
            for (to, vlan) in [("8.8.8.8", None), ("10.0.0.9", None), ("10.100.0.2", Some(100))] {
                assert_eq!(exits(&tables, to), [(1, vlan, 4)].into(), "{to}");
            }
            assert_eq!(tables.snapshot().generation(), generation, "every connection follows by itself");
        }
        // Members that keep addresses of their own.
        tables.set_network(with(|l| l.mac[5] = 5));
        assert_eq!(exits(&tables, "10.100.0.2"), [(0, Some(100), 5), (1, Some(100), 4)].into());
        let mut none = bonded();
        none.links[..2].iter_mut().for_each(|l| l.controller = None);
        tables.set_network(none);
        assert_eq!(tables.snapshot().route("8.8.8.8".parse().unwrap(), 0), Route::Unreachable);
    }

    #[test]
    fn what_all_flows_have_in_common_is_what_each_of_them_gets() {
        let mut several = network();
        let two = ["10.0.0.253", "10.0.0.254"].map(|gateway| {
            let gateway = Some(gateway.parse().unwrap());
            Way { ifindex: 7, gateway, weight: 1, unusable: false }
        });
        let away = main_route("10.9.0.0/16", 7, None);
        several.routes.push(RouteEntry { kind: RouteKind::Unicast(two.into()), ..away });
        let mut tables = Tables::new(vec![5, 7]);
        for (network, common) in
            [(several, [true, true, false, false, false]), (bonded(), [false, false, false, false, false])]
        {
            tables.set_network(network);
            tables.set_neighbour(at(7, "10.0.0.9", 1));
            let snapshot = tables.snapshot();
            // By a gateway, on a link, by one of two gateways, not known yet, and of another family.
            let to = ["8.8.8.8", "10.0.0.9", "10.9.0.1", "10.0.0.7", "fd00::1"].map(|to| to.parse().unwrap());
            for (to, is_common) in to.into_iter().zip(common) {
                let hop = snapshot.common_hop(to);
                assert_eq!(hop.is_some(), is_common, "{to}");
                for hash in (0..1000_u32).map(|n| n.wrapping_mul(0x0101_6b55)).filter(|_| is_common) {
                    assert_eq!(hop.map(Route::Via), Some(snapshot.route(to, hash)));
                    assert_eq!(snapshot.source(to, hash), snapshot.source(to, 0));
                }
            }
        }
    }

    #[test]
    fn a_vlan_on_what_is_no_port_or_of_a_provider_leads_nowhere() {
        for change in [|l: &mut Link| l.vlan = None, |l: &mut Link| l.parent = Some(99)] {
            let mut network = network();
            change(&mut network.links[2]);
            let mut tables = Tables::new(vec![5, 7]);
            tables.set_network(network);
            assert_eq!(tables.snapshot().route("10.100.0.2".parse().unwrap(), 0), Route::Unreachable);
        }
    }

    #[test]
    fn a_link_without_carrier_is_unreachable_and_its_hops_unresolved() {
        let mut tables = Tables::new(vec![5, 7]);
        tables.set_network(network());
        tables.set_neighbour(at(7, "10.0.0.9", 1));
        let Route::Via(id) = tables.snapshot().route("10.0.0.9".parse().unwrap(), 0) else { panic!() };
        let mut down = network();
        down.links[1].carrier = false;
        tables.set_network(down);
        let snapshot = tables.snapshot();
        assert_eq!(snapshot.route("10.0.0.9".parse().unwrap(), 0), Route::Unreachable);
        assert_eq!(snapshot.route("10.100.0.2".parse().unwrap(), 0), Route::Unreachable, "VLAN above it");
        assert_eq!(snapshot.hop(id), None);
    }
}
