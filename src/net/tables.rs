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
        let usable = |ifindex| exit(ports, links, ifindex).is_some();
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
        if usable && exit(&self.ports, &self.links, key.0).is_some() {
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
        let hop = |key: &HopKey| {
            let (port, vlan, link) = exit(&self.ports, &self.links, key.0)?;
            let dst_mac = self.neighbours.get(key)?.mac?;
            Some(Hop {
                port,
                dst_mac,
                src_mac: link.mac,
                vlan,
                mtu: u16::try_from(link.mtu).unwrap_or(u16::MAX),
            })
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

/// The port by which frames for an interface leave, the VLAN tag they need there, and the interface
/// itself; `None` if they cannot: it is not a port nor a VLAN on one, or one of the two is down.
fn exit<'l>(
    ports: &[u32],
    links: &'l HashMap<u32, Link>,
    ifindex: u32,
) -> Option<(u16, Option<u16>, &'l Link)> {
    let port_of = |ifindex: u32| {
        let position = ports.iter().position(|port| *port == ifindex)?;
        Some(u16::try_from(position).expect("bounded by MAX_PORTS"))
    };
    let link = links.get(&ifindex).filter(|link| link.is_running())?;
    if let Some(port) = port_of(ifindex) {
        return Some((port, None, link));
    }
    let vlan = link.vlan?;
    let parent = link.parent.filter(|_| !link.parent_is_elsewhere)?;
    links.get(&parent).filter(|parent| parent.is_running())?;
    Some((port_of(parent)?, Some(vlan), link))
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
