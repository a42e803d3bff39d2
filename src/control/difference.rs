//! What a reload changes, line by line: between what is wanted now and what a file wants.
//!
//! The lines say what [`Wanted::apply`] does, no more and no less: `+` is added, `-` is taken away, `~` is changed in
//! its place, with its connections and counters.
//!
//! **Order.** Services, and the servers of a service, that stay keep their places; those that are new come last, in the
//! order of the file. So a file with the same services or servers in another order is no difference, although
//! schedulers would see the order of the file after a restart. Mark rules are always in the order of the file, since
//! the first that fits gives its mark: there another order is a difference.
//!
//! Must not know: how what is wanted is read, or published.

use std::collections::HashMap;
use std::fmt;

use super::config::{Config, Key, api_keys, director_keys};
use super::wanted::{Timeouts, Wanted};
use crate::director::local::LOCAL_PORTS;
use crate::director::marks::MarkRule;
use crate::director::name::ServiceKey;
use crate::director::service::{Method, Netmask, Pool, Server, ServerState, Service, Tunnel, TunnelChecksum};

/// What has to change for `from` to become `to`; empty if nothing has to.
pub fn difference(from: &Wanted, to: &Wanted) -> Vec<String> {
    changes(from, to).iter().map(Change::to_string).collect()
}

/// What no reload can change: it waits for a restart.
pub fn difference_needing_restart(from: &Config, to: &Config) -> Vec<String> {
    let keys = |table: &'static str, from: Vec<Key>, to: Vec<Key>| {
        let differing = from.into_iter().zip(to).filter(|(old, new)| old != new);
        differing.map(move |((key, old), (_, new))| {
            let shown = |value: Option<toml::Value>| {
                value.map_or_else(|| "none".to_owned(), |value| value.to_string())
            };
            format!("~ {table} {key}: {} -> {}", shown(old), shown(new))
        })
    };
    let director = keys("[director]", director_keys(&from.director), director_keys(&to.director));
    director.chain(keys("[api]", api_keys(&from.api), api_keys(&to.api))).collect()
}

/// One line.
#[derive(Clone, Copy, Debug)]
enum Change<'a> {
    Timeout(&'static str, u32, u32),
    Tunable(&'static str, u32, u32),
    RemoveMark(&'a MarkRule),
    AddMark(&'a MarkRule),
    /// Those that stay, or are new, are not simply one after the other.
    OrderMarks,
    RemoveService(&'a Pool),
    AddService(&'a Service),
    EditService(&'a Service, &'a Service),
    RemoveServer(ServiceKey, &'a Server),
    EditServer(ServiceKey, &'a Server, &'a Server),
    AddServer(ServiceKey, &'a Server),
}

fn changes<'a>(from: &'a Wanted, to: &'a Wanted) -> Vec<Change<'a>> {
    let mut changes = Vec::new();
    let Timeouts { tcp_s, tcp_fin_s, udp_s } = from.timeouts;
    let new = to.timeouts;
    let timeouts =
        [("tcp", tcp_s, new.tcp_s), ("tcp_fin", tcp_fin_s, new.tcp_fin_s), ("udp", udp_s, new.udp_s)];
    let timeouts = timeouts.into_iter().filter(|(_, old, new)| old != new);
    changes.extend(timeouts.map(|(name, old, new)| Change::Timeout(name, old, new)));

    let tunables = from.tunables.all().into_iter().zip(to.tunables.all());
    let tunables = tunables.filter(|(old, new)| old.value != new.value);
    changes.extend(tunables.map(|(old, new)| Change::Tunable(old.name, old.value, new.value)));

    of_marks(&from.marks, &to.marks, &mut changes);
    of_services(&from.pools, &to.pools, &mut changes);
    changes
}

/// At most 64 rules on either side. The same rule may stand there twice.
fn of_marks<'a>(from: &'a [MarkRule], to: &'a [MarkRule], changes: &mut Vec<Change<'a>>) {
    let mut added: Vec<&MarkRule> = to.iter().collect();
    let mut kept = Vec::new();
    for old in from {
        match added.iter().position(|new| *new == old) {
            Some(index) => kept.push(added.remove(index)),
            None => changes.push(Change::RemoveMark(old)),
        }
    }
    changes.extend(added.iter().copied().map(Change::AddMark));
    if !kept.into_iter().chain(added).eq(to) {
        changes.push(Change::OrderMarks);
    }
}

fn of_services<'a>(from: &'a [Pool], to: &'a [Pool], changes: &mut Vec<Change<'a>>) {
    let wanted: HashMap<_, _> = to.iter().map(|pool| (pool.service.key, pool)).collect();
    let there: HashMap<_, _> = from.iter().map(|pool| (pool.service.key, pool)).collect();
    changes
        .extend(from.iter().filter(|old| !wanted.contains_key(&old.service.key)).map(Change::RemoveService));
    for new in to {
        let old = there.get(&new.service.key);
        match old {
            None => changes.push(Change::AddService(&new.service)),
            Some(old) if old.service != new.service => {
                changes.push(Change::EditService(&old.service, &new.service));
            }
            Some(_) => {}
        }
        of_servers(new.service.key, old.map_or(&[], |old| &old.servers), &new.servers, changes);
    }
}

fn of_servers<'a>(key: ServiceKey, from: &'a [Server], to: &'a [Server], changes: &mut Vec<Change<'a>>) {
    let wanted: HashMap<_, _> = to.iter().map(|server| (server.address, server)).collect();
    let there: HashMap<_, _> = from.iter().map(|server| (server.address, server)).collect();
    for old in from {
        match wanted.get(&old.address) {
            None => changes.push(Change::RemoveServer(key, old)),
            Some(new) if *new != old => changes.push(Change::EditServer(key, old, new)),
            Some(_) => {}
        }
    }
    let new = to.iter().filter(|new| !there.contains_key(&new.address));
    changes.extend(new.map(|new| Change::AddServer(key, new)));
}

impl fmt::Display for Change<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Timeout(name, old, new) => write!(f, "~ timeout {name}: {old} s -> {new} s"),
            Self::Tunable(name, old, new) => write!(f, "~ tunable {name}: {old} -> {new}"),
            Self::RemoveMark(rule) => write!(f, "- mark rule {rule}"),
            Self::AddMark(rule) => write!(f, "+ mark rule {rule}"),
            Self::OrderMarks => write!(f, "~ mark rules: in the order of the file"),
            Self::RemoveService(pool) => write!(f, "- service {}", pool.service.key),
            Self::AddService(new) => write!(f, "+ service {} {}", new.key, added(&of_service(new), 1)),
            Self::EditService(old, new) => {
                write!(f, "~ service {}: {}", new.key, edited(&of_service(old), &of_service(new)))
            }
            Self::RemoveServer(key, old) => write!(f, "- server {} in {key}", old.address),
            Self::EditServer(key, old, new) => {
                write!(f, "~ server {} in {key}: {}", new.address, edited(&of_server(old), &of_server(new)))
            }
            Self::AddServer(key, new) => {
                write!(f, "+ server {} in {key}: {}", new.address, added(&of_server(new), 1))
            }
        }
    }
}

/// A name, a value, and whether the value is the default.
type Property = (&'static str, String, bool);

fn of_service(service: &Service) -> Vec<Property> {
    let Service { key, scheduler, options, persistence, engine, one_packet, switches, locals } = *service;
    let flags = super::config::flags_set(scheduler, options);
    let netmask = persistence.map_or_else(|| Netmask::whole(key.is_v4()), |p| p.netmask);
    let netmask_text = match netmask {
        Netmask::V4(mask) => mask.to_string(),
        Netmask::V6(bits) => bits.to_string(),
    };
    let mut properties = vec![
        ("scheduler", scheduler.name().to_owned(), false),
        ("flags", if flags.is_empty() { "none".to_owned() } else { flags.join(" ") }, flags.is_empty()),
        (
            "persistence",
            persistence.map_or_else(|| "none".to_owned(), |p| format!("{} s", p.timeout_s)),
            persistence.is_none(),
        ),
        ("netmask", netmask_text, netmask == Netmask::whole(key.is_v4())),
        ("persistence engine", engine.map_or("none", |engine| engine.name()).to_owned(), engine.is_none()),
        ("one packet", if one_packet { "on" } else { "off" }.to_owned(), !one_packet),
    ];
    let addresses: Vec<_> = locals.addresses().map(|address| address.to_string()).collect();
    let listed = if addresses.is_empty() { "none".to_owned() } else { addresses.join(" ") };
    properties.push(("local addresses", listed, addresses.is_empty()));
    properties.push(("local ports", locals.ports.to_string(), locals.ports == LOCAL_PORTS));
    properties.extend(switches.all().map(|switch| (switch.name, switch.value.to_string(), !switch.is_set)));
    properties
}

fn of_server(server: &Server) -> [Property; 6] {
    let Server { address: _, weight, method, upper, lower, state, drain_timeout_s } = *server;
    [
        ("forward", forward(method), false),
        ("weight", weight.to_string(), false),
        ("upper threshold", upper.to_string(), upper == 0),
        ("lower threshold", lower.to_string(), lower == 0),
        ("state", state.name().to_owned(), state == ServerState::Up),
        ("drain timeout", format!("{drain_timeout_s} s"), drain_timeout_s == 0),
    ]
}

fn forward(method: Method) -> String {
    let summed = |checksum| match checksum {
        TunnelChecksum::None => "",
        TunnelChecksum::Full => " with checksum",
        TunnelChecksum::Remote => " with remote checksum",
    };
    match method {
        Method::Nat | Method::Dr | Method::FullNat => method.name().to_owned(),
        Method::Tun(Tunnel::Ipip) => "tun ipip".to_owned(),
        Method::Tun(Tunnel::Gue { port, checksum }) => format!("tun gue port {port}{}", summed(checksum)),
        Method::Tun(Tunnel::Gre { checksum }) => format!("tun gre{}", summed(checksum)),
    }
}

/// `nat, weight 1`: what is not the default; the first `bare` without their names.
fn added(properties: &[Property], bare: usize) -> String {
    let shown = properties.iter().enumerate().filter(|(_, (.., is_default))| !is_default);
    let shown = shown.map(
        |(index, (name, value, _))| if index < bare { value.clone() } else { format!("{name} {value}") },
    );
    shown.collect::<Vec<_>>().join(", ")
}

/// `weight 1 -> 2, forward dr -> nat`.
fn edited(old: &[Property], new: &[Property]) -> String {
    let differing = old.iter().zip(new).filter(|(old, new)| old.1 != new.1);
    differing.map(|(old, new)| format!("{} {} -> {}", old.0, old.1, new.1)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::config::any::{self, Range};
    use super::*;
    use crate::director::draft::Draft;
    use crate::director::roster::Roster;
    use crate::director::services::Services;

    /// A director that was told this, with all that it was told.
    fn running(wanted: &Wanted) -> Draft {
        let mut draft = Draft::new(&Services::default(), &Roster::default());
        wanted.apply(&mut draft).expect("within the director's limits");
        draft
    }

    /// What the lines mean, one after the other.
    fn done(mut now: Wanted, changes: &[Change<'_>], file: &[MarkRule]) -> Wanted {
        for change in changes {
            let pool = |pools: &mut Vec<Pool>, key: ServiceKey| {
                pools.iter().position(|pool| pool.service.key == key).expect("it is there")
            };
            let server = |pool: &Pool, server: &Server| {
                pool.servers.iter().position(|s| s.address == server.address).expect("it is there")
            };
            match *change {
                Change::Timeout("tcp", old, new) => {
                    assert_eq!(std::mem::replace(&mut now.timeouts.tcp_s, new), old);
                }
                Change::Timeout("tcp_fin", old, new) => {
                    assert_eq!(std::mem::replace(&mut now.timeouts.tcp_fin_s, new), old);
                }
                Change::Timeout(_, old, new) => {
                    assert_eq!(std::mem::replace(&mut now.timeouts.udp_s, new), old);
                }
                Change::Tunable(name, _, new) => now.tunables.set(name, new).expect("within its limits"),
                Change::RemoveMark(rule) => {
                    // Of equal rules the last ones go.
                    let index = now.marks.iter().rposition(|r| r == rule).expect("it is there");
                    now.marks.remove(index);
                }
                Change::AddMark(rule) => now.marks.push(*rule),
                Change::OrderMarks => {
                    assert_ne!(now.marks, file, "they were in order");
                    let sorted = |rules: &[MarkRule]| {
                        let mut texts: Vec<_> = rules.iter().map(|rule| format!("{rule:?}")).collect();
                        texts.sort();
                        texts
                    };
                    assert_eq!(sorted(&now.marks), sorted(file), "only the order is another");
                    now.marks = file.to_vec();
                }
                Change::RemoveService(old) => {
                    let index = pool(&mut now.pools, old.service.key);
                    now.pools.remove(index);
                }
                Change::AddService(new) => {
                    assert!(now.pools.iter().all(|pool| pool.service.key != new.key), "it is new");
                    now.pools.push(Pool { service: *new, servers: vec![] });
                }
                Change::EditService(old, new) => {
                    let index = pool(&mut now.pools, new.key);
                    assert_eq!(std::mem::replace(&mut now.pools[index].service, *new), *old);
                    assert_ne!(old, new);
                }
                Change::RemoveServer(key, old) => {
                    let index = pool(&mut now.pools, key);
                    let at = server(&now.pools[index], old);
                    now.pools[index].servers.remove(at);
                }
                Change::EditServer(key, old, new) => {
                    let index = pool(&mut now.pools, key);
                    let at = server(&now.pools[index], old);
                    assert_eq!(std::mem::replace(&mut now.pools[index].servers[at], *new), *old);
                    assert_ne!(old, new);
                }
                Change::AddServer(key, new) => {
                    let index = pool(&mut now.pools, key);
                    now.pools[index].servers.push(*new);
                }
            }
        }
        now
    }

    /// Without the order of services and servers, which is no difference.
    fn unordered(mut wanted: Wanted) -> Wanted {
        wanted.pools.sort_by_key(|pool| pool.service.key);
        wanted.pools.iter_mut().for_each(|pool| pool.servers.sort_by_key(|server| server.address));
        wanted
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn the_lines_are_what_the_director_does(
            from in any::wanted(Range::Narrow),
            to in any::wanted(Range::Narrow),
        ) {
            let changes = changes(&from, &to);
            let mut draft = running(&from);
            prop_assert_eq!(Wanted::of(draft.services()), from.clone());
            to.apply(&mut draft).expect("within the director's limits");
            prop_assert_eq!(done(from.clone(), &changes, &to.marks), Wanted::of(draft.services()));

            prop_assert_eq!(changes.is_empty(), unordered(from.clone()) == unordered(to.clone()));
            prop_assert_eq!(difference(&Wanted::of(draft.services()), &to), Vec::<String>::new(), "nothing is left");
            let lines = difference(&from, &to);
            for line in &lines {
                prop_assert!(!line.contains('\n') && !line.ends_with(": ") && !line.ends_with(' '), "{}", line);
            }
            let all: std::collections::HashSet<_> = lines.iter().filter(|line| !line.contains("mark rule")).collect();
            let marks = lines.iter().filter(|line| line.contains("mark rule")).count();
            prop_assert_eq!(all.len() + marks, lines.len(), "no line twice: {:?}", lines);
        }

        #[test]
        fn another_order_is_no_difference(wanted in any::wanted(Range::Wide)) {
            let mut turned = wanted.clone();
            turned.pools.reverse();
            turned.pools.iter_mut().for_each(|pool| pool.servers.reverse());
            prop_assert_eq!(difference(&wanted, &turned), Vec::<String>::new());
        }
    }

    fn parse(text: &str) -> Config {
        let text = format!("[director]\ninterfaces = [\"eth0\"]\n{text}");
        Config::parse("test.toml", &text).unwrap_or_else(|errors| panic!("{errors}")).0
    }

    #[test]
    fn lines_are_readable() {
        let from = parse(
            r#"
            [timeouts]
            tcp = 900
            [[mark]]
            mark = 5
            protocol = "tcp"
            destination = "192.0.2.10"
            [[service]]
            protocol = "tcp"
            address = "192.0.2.10:80"
            forward = "nat"
            server = [{ address = "10.0.0.1" }, { address = "10.0.0.2" }, { address = "10.0.0.3", forward = "dr" }]
            [[service]]
            protocol = "udp"
            address = "192.0.2.10:53"
            "#,
        );
        let to = parse(
            r#"
            [timeouts]
            tcp = 300
            [tunables]
            expire_nodest_conn = 1
            [[mark]]
            mark = 6
            protocol = "tcp"
            destination = "192.0.2.0/24"
            ports = "80"
            [[mark]]
            mark = 5
            protocol = "tcp"
            destination = "192.0.2.10"
            [[service]]
            mark = 5
            persistence = 300
            persistence_netmask = "255.255.255.0"
            one_packet = true
            scheduler = "sh"
            scheduler_flags = ["sh-port", "sh-fallback"]
            server = [{ address = "10.0.0.9", forward = "tun", upper_threshold = 10 }]
            [[service]]
            protocol = "tcp"
            address = "192.0.2.10:80"
            scheduler = "rr"
            persistence = true
            slow_start_s = 60
            tcp_when_down = "reset"
            server = [
                { address = "10.0.0.1:8080", forward = "nat", weight = 3 },
                { address = "10.0.0.3", forward = "tun", tunnel = "gue", tunnel_port = 6080, lower_threshold = 3, upper_threshold = 4 },
                { address = "10.0.0.2", weight = 2, forward = "nat", state = "drain", drain_timeout_s = 30 },
            ]
            "#,
        );
        let expected = [
            "~ timeout tcp: 900 s -> 300 s",
            "~ tunable expire_nodest_conn: 0 -> 1",
            "+ mark rule tcp to 192.0.2.0/24 ports 80-80: mark 6",
            "~ mark rules: in the order of the file",
            "- service udp:192.0.2.10:53",
            "+ service fwm:5 sh, flags sh-fallback sh-port, persistence 300 s, netmask 255.255.255.0, one packet on",
            "+ server 10.0.0.9:0 in fwm:5: tun ipip, weight 1, upper threshold 10",
            "~ service tcp:192.0.2.10:80: scheduler wlc -> rr, persistence none -> 360 s, slow_start_s 0 -> 60, \
             tcp_when_down drop -> reset",
            "- server 10.0.0.1:80 in tcp:192.0.2.10:80",
            "~ server 10.0.0.2:80 in tcp:192.0.2.10:80: weight 1 -> 2, state up -> drain, drain timeout 0 s -> 30 s",
            "~ server 10.0.0.3:80 in tcp:192.0.2.10:80: forward dr -> tun gue port 6080, upper threshold 0 -> 4, lower \
             threshold 0 -> 3",
            "+ server 10.0.0.1:8080 in tcp:192.0.2.10:80: nat, weight 3",
        ];
        assert_eq!(difference(&from.wanted, &to.wanted), expected);
        assert_eq!(difference(&to.wanted, &to.wanted), Vec::<String>::new());
        assert_eq!(
            difference_needing_restart(&from, &to),
            Vec::<String>::new(),
            "a reload changes all of it"
        );
    }

    #[test]
    fn what_needs_a_restart_is_told_key_by_key() {
        let from = parse("");
        let mut to = parse("[api]\nmode = \"0600\"\ngroup = \"lvs\"");
        to.director.interfaces.push("eth1".into());
        to.director.cores = Some(vec![2, 3]);
        to.director.watch = true;
        let expected = [
            "~ [director] interfaces: [\"eth0\"] -> [\"eth0\", \"eth1\"]",
            "~ [director] cores: none -> [2, 3]",
            "~ [director] watch: false -> true",
            "~ [api] mode: \"0660\" -> \"0600\"",
            "~ [api] group: none -> \"lvs\"",
        ];
        assert_eq!(difference_needing_restart(&from, &to), expected);
        assert_eq!(difference(&from.wanted, &to.wanted), Vec::<String>::new());
    }
}
