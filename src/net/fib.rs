//! Route choice: the kernel's local, main and default tables as longest-prefix tries. Pure.
//!
//! With the default `ip rule`s Linux keeps IPv4's local and main tables in one trie, and so does this: the longest prefix
//! of both wins, local wins a tie. As soon as other rules exist, and for IPv6 always, the tables are
//! asked one after the other. The default table is asked last in both cases.

use std::net::IpAddr;

use ipnet::IpNet;
use prefix_trie::joint::JointPrefixMap;

use super::hop_table::{HopKey, HopTable, Lanes};

/// The tables that the default rules use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Local = 0,
    Main = 1,
    Default = 2,
}

/// One of the ways of a unicast route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub ifindex: u32,
    /// `None`: the destination itself is on the link.
    pub gateway: Option<IpAddr>,
    /// At least 1.
    pub weight: u32,
    /// The kernel calls it dead, or it needs an encapsulation that xvs does not do.
    pub unusable: bool,
}

/// What a route does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RouteKind {
    Local,
    Refused,
    /// Ask the next table.
    Throw,
    Unicast(Vec<Way>),
}

/// A route as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RouteEntry {
    pub table: Table,
    pub prefix: IpNet,
    /// Lower wins among equal prefixes; the first one listed wins among equal metrics.
    pub metric: u32,
    /// The address that the host's own packets are sent from.
    pub source: Option<IpAddr>,
    pub kind: RouteKind,
}

/// Where a way leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// To a gateway; no ids when the hop table is full.
    Gateway { hop: Option<Lanes>, key: HopKey },
    /// Straight to the destination on this link.
    OnLink { ifindex: u32 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Local,
    Unreachable,
    Throw,
    /// Never empty; with the sum of the weights up to and including each one. And the route's own source address.
    Ways(Box<[(u64, Target)]>, Option<IpAddr>),
}

/// What was decided for a destination.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision<'f> {
    Local,
    Unreachable,
    Way(&'f Target),
}

/// The three tables, ready to be asked in their order; local has IPv4's main routes too where they are in one trie. Equal
/// when every answer is equal.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Fib {
    tables: [JointPrefixMap<IpNet, Action>; 3],
}

impl Fib {
    /// Builds the tries from `routes` in the kernel's order. `usable` says whether frames can leave by
    /// an interface; gateways get their ids from `hops`. `ipv4_rules_changed`: see the module's words.
    pub(crate) fn build(
        routes: &[RouteEntry],
        usable: impl Fn(u32) -> bool,
        hops: &mut HopTable,
        ipv4_rules_changed: bool,
    ) -> Self {
        let mut best: [JointPrefixMap<IpNet, &RouteEntry>; 3] = Default::default();
        for route in routes {
            let table = match (route.table, route.prefix) {
                (Table::Main, IpNet::V4(_)) if !ipv4_rules_changed => Table::Local,
                (table, _) => table,
            };
            let rank = |route: &RouteEntry| (route.table as usize, route.metric);
            let table = &mut best[table as usize];
            if table.get(&route.prefix).is_none_or(|known| rank(route) < rank(known)) {
                table.insert(route.prefix, route);
            }
        }
        let tables = best.map(|table| {
            table.iter().map(|(prefix, route)| (prefix, action(route, &usable, hops))).collect()
        });
        Self { tables }
    }

    /// The way to `destination`; `flow_hash` chooses among several by weight.
    pub(crate) fn decide(&self, destination: IpAddr, flow_hash: u32) -> Decision<'_> {
        match self.action(destination) {
            Some(Action::Local) => Decision::Local,
            Some(Action::Unreachable | Action::Throw) | None => Decision::Unreachable,
            Some(Action::Ways(ways, _)) => Decision::Way(choose(ways, flow_hash)),
        }
    }

    /// All ways of the route to `destination`; empty for anything but a unicast route.
    pub(crate) fn ways(&self, destination: IpAddr) -> impl Iterator<Item = &Target> {
        let ways: &[(u64, Target)] = match self.action(destination) {
            Some(Action::Ways(ways, _)) => ways,
            _ => &[],
        };
        ways.iter().map(|(_, target)| target)
    }

    /// The source address that the route to `destination` names, or the one to its gateway.
    pub(crate) fn source(&self, destination: IpAddr) -> Option<IpAddr> {
        let named = |destination| match self.action(destination) {
            Some(Action::Ways(ways, source)) => Some((ways, *source)),
            _ => None,
        };
        let (ways, source) = named(destination)?;
        source.or_else(|| match choose(ways, 0) {
            Target::Gateway { key: (_, gateway), .. } => named(*gateway)?.1,
            Target::OnLink { .. } => None,
        })
    }

    /// The gateways of all routes, in the order of the tables, with repetitions.
    pub(crate) fn gateways(&self) -> impl Iterator<Item = HopKey> {
        let actions = self.tables.iter().flat_map(|table| table.values());
        let ways = actions.filter_map(|a| if let Action::Ways(ways, _) = a { Some(ways) } else { None });
        ways.flat_map(|ways| ways.iter()).filter_map(|(_, target)| match target {
            Target::Gateway { key, .. } => Some(*key),
            Target::OnLink { .. } => None,
        })
    }

    /// The first table's match that does not send on to the next one. A `throw` of the trie that local and main have in
    /// common leaves both.
    fn action(&self, destination: IpAddr) -> Option<&Action> {
        let host = IpNet::from(destination);
        let matches = self.tables.iter().filter_map(|table| table.get_lpm(&host));
        matches.map(|(_, action)| action).find(|action| **action != Action::Throw)
    }
}

fn action(route: &RouteEntry, usable: impl Fn(u32) -> bool, hops: &mut HopTable) -> Action {
    let ways = match &route.kind {
        RouteKind::Local => return Action::Local,
        RouteKind::Refused => return Action::Unreachable,
        RouteKind::Throw => return Action::Throw,
        RouteKind::Unicast(ways) => ways,
    };
    let mut sum = 0;
    let mut live = Vec::with_capacity(ways.len());
    for way in ways.iter().filter(|way| !way.unusable && usable(way.ifindex)) {
        sum += u64::from(way.weight.max(1));
        let target = match way.gateway {
            Some(gateway) => {
                let key = (way.ifindex, gateway);
                Target::Gateway { hop: hops.id(key), key }
            }
            None => Target::OnLink { ifindex: way.ifindex },
        };
        live.push((sum, target));
    }
    if live.is_empty() { Action::Unreachable } else { Action::Ways(live.into(), route.source) }
}

/// Picks by weight: the hash, scaled to the sum of the weights, falls into one way's share.
fn choose(ways: &[(u64, Target)], flow_hash: u32) -> &Target {
    let (sum, last) = ways.last().expect("a route of no ways is Unreachable");
    let point = (u64::from(flow_hash) * sum) >> 32;
    ways.iter().find(|(upto, _)| point < *upto).map_or(last, |(_, target)| target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn way(ifindex: u32, gateway: &str, weight: u32) -> Way {
        let gateway = (!gateway.is_empty()).then(|| gateway.parse().unwrap());
        Way { ifindex, gateway, weight, unusable: false }
    }

    fn route(table: Table, prefix: &str, metric: u32, kind: RouteKind) -> RouteEntry {
        RouteEntry { table, prefix: prefix.parse().unwrap(), metric, source: None, kind }
    }

    fn build(routes: &[RouteEntry]) -> Fib {
        Fib::build(routes, |ifindex| ifindex < 10, &mut HopTable::default(), false)
    }

    fn gateway_of(fib: &Fib, to: &str, hash: u32) -> String {
        match fib.decide(to.parse().unwrap(), hash) {
            Decision::Way(Target::Gateway { key, .. }) => key.1.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn the_lowest_metric_wins_and_the_first_listed_wins_a_tie() {
        let via = |gateway, metric| {
            route(Table::Main, "0.0.0.0/0", metric, RouteKind::Unicast(vec![way(1, gateway, 1)]))
        };
        let fib = build(&[via("10.0.0.1", 100), via("10.0.0.2", 50), via("10.0.0.3", 50)]);
        assert_eq!(gateway_of(&fib, "8.8.8.8", 0), "10.0.0.2");
    }

    #[test]
    fn ipv4_local_and_main_are_one_trie_until_other_rules_exist() {
        let routes = [
            route(Table::Local, "10.1.0.0/16", 0, RouteKind::Local),
            route(Table::Local, "10.1.3.0/24", 0, RouteKind::Local),
            route(Table::Main, "10.1.2.0/24", 0, RouteKind::Unicast(vec![way(1, "10.0.0.9", 1)])),
            route(Table::Main, "10.1.3.0/24", 0, RouteKind::Unicast(vec![way(1, "10.0.0.9", 1)])),
        ];
        let fib = build(&routes);
        assert_eq!(gateway_of(&fib, "10.1.2.3", 0), "10.0.0.9");
        assert_eq!(fib.decide("10.1.3.3".parse().unwrap(), 0), Decision::Local);
        let fib = Fib::build(&routes, |_| true, &mut HopTable::default(), true);
        assert_eq!(fib.decide("10.1.2.3".parse().unwrap(), 0), Decision::Local);
    }

    #[test]
    fn throw_goes_on_to_the_default_table() {
        let fib = build(&[
            route(Table::Main, "10.0.0.0/8", 0, RouteKind::Throw),
            route(Table::Default, "0.0.0.0/0", 0, RouteKind::Unicast(vec![way(1, "10.0.0.9", 1)])),
        ]);
        assert_eq!(gateway_of(&fib, "10.2.3.4", 0), "10.0.0.9");
        assert_eq!(fib.decide("2001:db8::1".parse().unwrap(), 0), Decision::Unreachable);
    }

    #[test]
    fn links_that_are_down_or_not_ours_do_not_carry() {
        let dead = Way { unusable: true, ..way(1, "10.0.0.3", 1) };
        let fib = build(&[
            route(Table::Main, "10.2.0.0/16", 0, RouteKind::Unicast(vec![way(99, "10.0.0.1", 1)])),
            route(Table::Main, "10.3.0.0/16", 0, {
                RouteKind::Unicast(vec![way(99, "10.0.0.1", 7), way(2, "10.0.0.2", 1), dead])
            }),
            route(Table::Main, "10.4.0.0/16", 0, RouteKind::Refused),
        ]);
        assert_eq!(fib.decide("10.2.0.1".parse().unwrap(), 0), Decision::Unreachable);
        assert_eq!(fib.decide("10.4.0.1".parse().unwrap(), 0), Decision::Unreachable);
        for hash in [0, 1 << 31, u32::MAX] {
            assert_eq!(gateway_of(&fib, "10.3.0.1", hash), "10.0.0.2");
        }
    }

    #[test]
    fn own_packets_come_from_the_address_that_the_route_or_that_to_its_gateway_names() {
        let from = |prefix, gateway, source: &str| {
            let kind = RouteKind::Unicast(vec![way(1, gateway, 1)]);
            RouteEntry { source: source.parse().ok(), ..route(Table::Main, prefix, 0, kind) }
        };
        let fib = build(&[
            from("10.1.0.0/24", "", "10.1.0.1"),
            from("10.2.0.0/24", "10.1.0.9", ""),
            from("10.3.0.0/24", "10.1.0.9", "10.9.9.9"),
            from("10.4.0.0/24", "", ""),
        ]);
        let source = |to: &str| fib.source(to.parse().unwrap()).map(|it| it.to_string());
        assert_eq!(source("10.1.0.11").as_deref(), Some("10.1.0.1"));
        assert_eq!(source("10.2.0.11").as_deref(), Some("10.1.0.1"));
        assert_eq!(source("10.3.0.11").as_deref(), Some("10.9.9.9"));
        assert_eq!([source("10.4.0.11"), source("10.5.0.11")], [None, None]);
    }

    #[test]
    fn several_ways_share_by_weight() {
        let ways = vec![way(1, "10.0.0.1", 1), way(2, "10.0.0.2", 3)];
        let fib = build(&[route(Table::Main, "0.0.0.0/0", 0, RouteKind::Unicast(ways))]);
        let first = (0..4000u32).filter(|n| gateway_of(&fib, "8.8.8.8", n << 20) == "10.0.0.1").count();
        assert_eq!(first, 1024, "a quarter of the hash space (hashes 0..2^30) goes to weight 1");
        assert_eq!(gateway_of(&fib, "8.8.8.8", u32::MAX), "10.0.0.2");
    }

    /// The slow, obvious way: look at every route.
    fn oracle<'r>(routes: &'r [RouteEntry], to: IpAddr) -> Option<&'r RouteEntry> {
        let mut best: Option<&'r RouteEntry> = None;
        for route in routes.iter().filter(|route| route.prefix.contains(&to)) {
            let rank = |r: &RouteEntry| (r.prefix.prefix_len(), r.table == Table::Local);
            let better = best.is_none_or(|known| {
                rank(route) > rank(known) || (rank(route) == rank(known) && route.metric < known.metric)
            });
            if better {
                best = Some(route);
            }
        }
        best
    }

    fn any_route() -> impl Strategy<Value = RouteEntry> {
        // Few distinct bits, so that prefixes nest and collide.
        let bits = prop::sample::select(vec![0u32, 0x0a00_0000, 0x0a01_0000, 0x0a01_0200, 0x0a01_02ff]);
        (any::<bool>(), bits, 0u8..=32, 0u32..3, 0u32..4).prop_map(|(local, bits, len, metric, what)| {
            let prefix = IpNet::new(IpAddr::from(bits.to_be_bytes()), len).unwrap().trunc();
            let kind = match (local, what) {
                (true, _) => RouteKind::Local,
                (false, 0) => RouteKind::Refused,
                (false, n) => RouteKind::Unicast(vec![way(n, &format!("10.9.9.{n}"), 1)]),
            };
            RouteEntry {
                table: if local { Table::Local } else { Table::Main },
                prefix,
                metric,
                source: None,
                kind,
            }
        })
    }

    proptest! {
        #[test]
        fn the_tries_agree_with_a_linear_scan(
            routes in prop::collection::vec(any_route(), 0..24),
            low in 0u32..0x400, hash in any::<u32>(),
        ) {
            let fib = build(&routes);
            for to in [0x0a01_0000 + low, 0x0a00_0000 + low, low] {
                let to = IpAddr::from(to.to_be_bytes());
                let expected = match oracle(&routes, to).map(|route| &route.kind) {
                    None | Some(RouteKind::Refused | RouteKind::Throw) => "Unreachable".to_string(),
                    Some(RouteKind::Local) => "Local".to_string(),
                    Some(RouteKind::Unicast(ways)) => ways[0].gateway.unwrap().to_string(),
                };
                prop_assert_eq!(gateway_of(&fib, &to.to_string(), hash), expected);
            }
        }
    }
}
