//! Which neighbours the kernel must keep resolved, and what to ask of it for that. Pure: requests come
//! out, [`mirror`](super::mirror) sends them.
//!
//! Kept are the next hops of the watched addresses (the servers) and the gateways of all routes. The
//! kernel does it by itself for entries marked `NTF_EXT_MANAGED` (Linux 5.16); where it does not know
//! the mark, they are re-probed from here.
//!
//! A neighbour that announces a new MAC (gratuitous ARP, or any ARP request of its own) is followed at
//! once. One that changes it silently is found out when the kernel's own timers probe it again.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::hop_table::HopKey;
use super::netlink::Ask;
use super::tables::Tables;

/// The least time between two requests for a neighbour that does not answer.
const RETRY: Duration = Duration::from_secs(1);

/// The time between two probes of a neighbour that the kernel does not keep by itself.
const REPROBE: Duration = Duration::from_secs(3);

/// How often a neighbour of a client is asked for at most.
const CLIENT_RETRY: Duration = Duration::from_secs(1);

/// Clients remembered for [`CLIENT_RETRY`]; with more, the oldest knowledge is thrown away.
const MAX_CLIENTS: usize = 4096;

/// How neighbours are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// By the kernel.
    Managed,
    /// By probing every [`REPROBE`].
    Probing,
}

/// What to send to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub key: HopKey,
    pub ask: Ask,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    /// xvs marked the entry, so xvs takes the mark away.
    marked: bool,
    asked: Instant,
}

/// What is kept, and when it was last asked for.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub keeping: Keeping,
    watched: Vec<IpAddr>,
    kept: HashMap<HopKey, Kept>,
    clients: HashMap<HopKey, Instant>,
}

impl Keeper {
    pub(crate) fn new(keeping: Keeping) -> Self {
        Self { keeping, watched: Vec::new(), kept: HashMap::new(), clients: HashMap::new() }
    }

    /// Replaces the set of watched addresses; the next [`plan`](Self::plan) acts on it.
    pub(crate) fn watch(&mut self, addresses: Vec<IpAddr>) {
        self.watched = addresses;
    }

    /// Names the next hops of the watched addresses, so that routes to servers answer with an id even
    /// before they are resolved.
    pub(crate) fn name_watched(&self, tables: &mut Tables) {
        for key in self.watched.iter().flat_map(|address| tables.next_hops(*address)).collect::<Vec<_>>() {
            tables.name(key);
        }
    }

    /// What to ask of the kernel now, so that everything that should be kept is. Call after every
    /// change and once a second.
    pub(crate) fn plan(&mut self, tables: &Tables, now: Instant) -> Vec<Request> {
        let mut targets: BTreeSet<HopKey> = tables.gateways().clone();
        targets.extend(self.watched.iter().flat_map(|address| tables.next_hops(*address)));

        // Marks of this run, and those that a killed one has left.
        let mut marked: BTreeSet<HopKey> = tables.managed_by_us().collect();
        marked.extend(self.kept.iter().filter(|(_, kept)| kept.marked).map(|(key, _)| *key));
        let let_go = marked.difference(&targets).map(|key| Request { key: *key, ask: Ask::Use });
        let mut requests: Vec<Request> = let_go.collect();
        self.kept.retain(|key, _| targets.contains(key));
        for key in targets {
            let neighbour = tables.neighbour(key).copied().unwrap_or_default();
            let since = self.kept.get(&key).map(|kept| now.saturating_duration_since(kept.asked));
            let (ask, due) = match self.keeping {
                Keeping::Managed if neighbour.managed && neighbour.mac.is_some() => {
                    if neighbour.ours {
                        self.kept.entry(key).or_insert(Kept { marked: true, asked: now });
                    }
                    continue;
                }
                Keeping::Managed => (Ask::Manage, since.is_none_or(|since| since >= RETRY)),
                Keeping::Probing => (Ask::Use, since.is_none_or(|since| since >= REPROBE)),
            };
            if due && !neighbour.is_static {
                let marked = ask == Ask::Manage
                    && (!neighbour.managed
                        || neighbour.ours
                        || self.kept.get(&key).is_some_and(|kept| kept.marked));
                self.kept.insert(key, Kept { marked, asked: now });
                requests.push(Request { key, ask });
            }
        }
        requests
    }

    /// What to ask of the kernel so that `client` gets resolved: nothing if it is, or is being.
    pub(crate) fn ask(&mut self, client: IpAddr, tables: &Tables, now: Instant) -> Vec<Request> {
        if self.clients.len() >= MAX_CLIENTS {
            self.clients.clear();
        }
        let mut requests = Vec::new();
        for key in tables.next_hops(client) {
            let resolved = tables.neighbour(key).is_some_and(|n| n.mac.is_some() || n.managed);
            let kept = self.kept.contains_key(&key);
            let recent = self.clients.get(&key).is_some_and(|asked| now - *asked < CLIENT_RETRY);
            if !resolved && !kept && !recent {
                self.clients.insert(key, now);
                requests.push(Request { key, ask: Ask::Use });
            }
        }
        requests
    }

    /// The requests that take back every mark; forgets what was kept.
    pub(crate) fn release(&mut self) -> Vec<Request> {
        let marked = self.kept.drain().filter(|(_, kept)| kept.marked);
        marked.map(|(key, _)| Request { key, ask: Ask::Use }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::fib::{RouteEntry, RouteKind, Table, Way};
    use crate::net::links::Link;
    use crate::net::netlink::Neighbour;
    use crate::net::tables::Network;

    const MAC: Option<[u8; 6]> = Some([2, 0, 0, 0, 0, 1]);

    fn ip(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    fn network(gateway: &str) -> Network {
        let way = |gateway| Way { ifindex: 7, gateway, weight: 1, unusable: false };
        let route = |prefix: &str, gateway| RouteEntry {
            table: Table::Main,
            prefix: prefix.parse().unwrap(),
            metric: 0,
            source: None,
            kind: RouteKind::Unicast(vec![way(gateway)]),
        };
        Network {
            links: vec![Link { ifindex: 7, up: true, carrier: true, ..Link::default() }],
            routes: vec![route("10.0.0.0/24", None), route("10.5.0.0/16", Some(ip(gateway)))],
            ..Network::default()
        }
    }

    fn tables() -> Tables {
        let mut tables = Tables::new(vec![7]);
        tables.set_network(network("10.0.0.254"));
        tables
    }

    fn manage(address: &str) -> Request {
        Request { key: (7, ip(address)), ask: Ask::Manage }
    }

    fn let_go(address: &str) -> Request {
        Request { key: (7, ip(address)), ask: Ask::Use }
    }

    #[test]
    fn servers_and_gateways_are_kept_and_retried_until_they_answer() {
        let (mut tables, mut keeper, start) = (tables(), Keeper::new(Keeping::Managed), Instant::now());
        keeper.watch(vec![ip("10.0.0.2"), ip("10.5.1.1"), ip("192.0.2.1")]);
        assert_eq!(keeper.plan(&tables, start), [manage("10.0.0.2"), manage("10.0.0.254")]);
        assert_eq!(keeper.plan(&tables, start), []);
        let neighbour = Neighbour { mac: MAC, managed: true, ..Neighbour::default() };
        tables.set_neighbour(((7, ip("10.0.0.2")), Some(neighbour)));
        assert_eq!(keeper.plan(&tables, start + RETRY), [manage("10.0.0.254")]);
        let mut marked = keeper.release();
        marked.sort_by_key(|request| request.key);
        assert_eq!(marked, [let_go("10.0.0.2"), let_go("10.0.0.254")]);
    }

    #[test]
    fn a_gateway_that_moves_is_followed_and_the_old_one_let_go() {
        let (mut tables, mut keeper, start) = (tables(), Keeper::new(Keeping::Managed), Instant::now());
        keeper.plan(&tables, start);
        tables.set_network(network("10.0.0.253"));
        assert_eq!(keeper.plan(&tables, start), [let_go("10.0.0.254"), manage("10.0.0.253")]);
    }

    #[test]
    fn entries_of_others_are_left_alone() {
        let (mut tables, mut keeper, start) = (tables(), Keeper::new(Keeping::Managed), Instant::now());
        let by_hand = Neighbour { mac: MAC, is_static: true, ..Neighbour::default() };
        tables.set_neighbour(((7, ip("10.0.0.254")), Some(by_hand)));
        let managed_by_others = Neighbour { mac: MAC, managed: true, ..Neighbour::default() };
        tables.set_neighbour(((7, ip("10.0.0.2")), Some(managed_by_others)));
        keeper.watch(vec![ip("10.0.0.2")]);
        assert_eq!(keeper.plan(&tables, start), []);
        assert_eq!(keeper.release(), []);
    }

    #[test]
    fn what_a_killed_run_has_left_is_taken_over_or_let_go() {
        let (mut tables, mut keeper, start) = (tables(), Keeper::new(Keeping::Managed), Instant::now());
        let left = Neighbour { mac: MAC, managed: true, ours: true, is_static: false };
        tables.set_neighbour(((7, ip("10.0.0.254")), Some(left)));
        tables.set_neighbour(((7, ip("10.0.0.2")), Some(left)));
        assert_eq!(keeper.plan(&tables, start), [let_go("10.0.0.2")]);
        tables.set_neighbour(((7, ip("10.0.0.2")), Some(Neighbour { managed: false, ..left })));
        assert_eq!(keeper.plan(&tables, start + RETRY), []);
        assert_eq!(keeper.release(), [let_go("10.0.0.254")]);
    }

    #[test]
    fn without_the_mark_the_probes_go_on() {
        let (mut tables, mut keeper, start) = (tables(), Keeper::new(Keeping::Probing), Instant::now());
        assert_eq!(keeper.plan(&tables, start), [let_go("10.0.0.254")]);
        let neighbour = Neighbour { mac: MAC, ..Neighbour::default() };
        tables.set_neighbour(((7, ip("10.0.0.254")), Some(neighbour)));
        assert_eq!(keeper.plan(&tables, start + RETRY), []);
        assert_eq!(keeper.plan(&tables, start + REPROBE), [let_go("10.0.0.254")]);
        assert_eq!(keeper.release(), [], "nothing was marked");
    }

    #[test]
    fn a_client_is_asked_for_once_a_second_until_it_is_known() {
        let (mut tables, mut keeper, start) = (tables(), Keeper::new(Keeping::Managed), Instant::now());
        let client = ip("10.0.0.9");
        assert_eq!(keeper.ask(client, &tables, start), [let_go("10.0.0.9")]);
        assert_eq!(keeper.ask(client, &tables, start), []);
        assert_eq!(keeper.ask(client, &tables, start + CLIENT_RETRY), [let_go("10.0.0.9")]);
        let neighbour = Neighbour { mac: MAC, ..Neighbour::default() };
        tables.set_neighbour(((7, client), Some(neighbour)));
        assert_eq!(keeper.ask(client, &tables, start + 2 * CLIENT_RETRY), []);
        keeper.plan(&tables, start);
        assert_eq!(keeper.ask(ip("10.5.1.1"), &tables, start), [], "its gateway is kept already");
    }
}
