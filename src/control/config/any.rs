//! Whatever may be configured, for property tests: values within the director's limits.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{
    Api, CONNECTIONS, Config, Director, FRAME_BYTES, IDLE_SPIN_US, OFFLOAD_AFTER, OFFLOAD_FLOWS, Offload,
    PASS_LIMIT, Pass, XdpMode, ZeroCopy,
};
use crate::control::wanted::{TIMEOUT_S, Timeouts, Wanted};
use crate::director::local::{LOCAL_PORTS, Locals, Ports};
use crate::director::marks::{MAX_MARK_RULES, MarkRule};
use crate::director::name::ServiceKey;
use crate::director::pe::Engine;
use crate::director::sched::{Kind, Options};
use crate::director::service::{
    MAX_DRAIN_S, MAX_PERSISTENCE_S, MAX_WEIGHT, Method, Netmask, Persistence, Pool, Protocol, Server,
    ServerState, Service, Tunnel, TunnelChecksum,
};
use crate::director::switches::{
    ClientAddress, MSS_MAX, SLOW_START_S, Switches, TIMEOUT_S as OWN_TIMEOUT_S, TOA_KIND, TOA_KIND_DEFAULT,
    TcpWhenDown,
};
use crate::director::tunables::Tunables;

/// From how much the values are taken.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Range {
    /// All there is.
    Wide,
    /// So little that two of them have much in common.
    Narrow,
}

pub(crate) fn config() -> impl Strategy<Value = Config> {
    (director(), api(), wanted(Range::Wide)).prop_map(|(director, api, wanted)| Config {
        director,
        api,
        wanted,
    })
}

pub(crate) fn director() -> impl Strategy<Value = Director> {
    let interfaces = vec("[a-z][a-z\"'\\\\#é=.-]{0,6}", 1..4);
    let switches = (any::<bool>(), any::<bool>(), any::<bool>());
    let modes = (
        (select(XdpMode::ALL), select(ZeroCopy::ALL), select(Pass::ALL)),
        (select(Offload::ALL), OFFLOAD_FLOWS, OFFLOAD_AFTER),
    );
    let sizes = (IDLE_SPIN_US, CONNECTIONS, select(&FRAME_BYTES[..]), 6..16u32, PASS_LIMIT);
    (interfaces, option::of(vec(0..=1023usize, 1..9)), switches, modes, sizes).prop_map(
        |(
            interfaces,
            cores,
            (busy_poll, huge_pages, watch),
            ((xdp_mode, zero_copy, pass), (offload, offload_flows, offload_after)),
            sizes,
        )| Director {
            interfaces: distinct(interfaces),
            // The two contradict each other.
            xdp_mode: if zero_copy == ZeroCopy::Require { XdpMode::Native } else { xdp_mode },
            zero_copy,
            offload,
            offload_flows,
            offload_after,
            cores: cores.map(distinct),
            busy_poll,
            idle_spin_us: sizes.0,
            connections: sizes.1,
            frame_bytes: sizes.2,
            ring_frames: 1 << sizes.3,
            huge_pages,
            watch,
            pass,
            pass_limit: sizes.4,
        },
    )
}

pub(crate) fn api() -> impl Strategy<Value = Api> {
    let path = || "/[^\\pC]{0,20}[a-z\"']";
    let listen = (any::<IpAddr>(), 1..=u16::MAX).prop_map(SocketAddr::from);
    (path(), 0..=0o777u32, option::of("[a-z\"'\\\\_-]{1,9}"), option::of((listen, path()))).prop_map(
        |(socket, mode, group, tcp)| {
            let (listen, token_file) = tcp.unzip();
            Api { socket: socket.into(), mode, group, listen, token_file: token_file.map(Into::into) }
        },
    )
}

pub(crate) fn wanted(range: Range) -> impl Strategy<Value = Wanted> {
    let few = match range {
        Range::Wide => MAX_MARK_RULES,
        Range::Narrow => 4,
    };
    (vec(pool(range), 0..6), vec(mark_rule(range), 0..=few), timeouts(range), tunables()).prop_map(
        |(mut pools, marks, timeouts, tunables)| {
            let mut seen = HashSet::new();
            pools.retain(|pool| seen.insert(pool.service.key));
            Wanted { pools, marks, timeouts, tunables }
        },
    )
}

fn pool(range: Range) -> impl Strategy<Value = Pool> {
    (service(range), vec(server(range), 0..6), locals(range)).prop_map(|(mut service, servers, locals)| {
        service.locals = locals;
        let mut servers: Vec<Server> = servers.into_iter().map(|server| fitting(&service, server)).collect();
        let mut seen = HashSet::new();
        servers.retain(|server| seen.insert(server.address));
        Pool { service, servers }
    })
}

/// Whether a server may have it.
fn is_unicast(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => (1..224).contains(&ip.octets()[0]),
        IpAddr::V6(ip) => {
            let is_special = ip.is_multicast() || ip.is_unspecified() || ip.is_unicast_link_local();
            !is_special && ip.to_ipv4_mapped().is_none()
        }
    }
}

/// The server as this service may have it.
fn fitting(service: &Service, mut server: Server) -> Server {
    let key = service.key;
    let has_local = service.locals.has_family(server.address.is_ipv4());
    let is_here = service.has_here(server.address.ip());
    if server.method == Method::FullNat && (!has_local || service.one_packet || is_here) {
        server.method = Method::Nat;
    }
    if server.address.is_ipv4() != key.is_v4() && server.method != Method::FullNat {
        server.method = Method::Tun(Tunnel::Ipip);
    }
    if !server.method.translates_port() && matches!(key, ServiceKey::Address { .. }) {
        server.address.set_port(key.port());
    }
    server
}

fn locals(range: Range) -> impl Strategy<Value = Locals> {
    let is_local = |ip: &IpAddr| is_unicast(ip) && !ip.is_loopback();
    let addresses = vec(ip(range).prop_filter("unicast", is_local), 0..4);
    (addresses, 1..=u16::MAX, 1..=u16::MAX, any::<bool>()).prop_map(|(mut addresses, a, b, is_default)| {
        addresses.sort_unstable();
        addresses.dedup();
        let ports = if is_default { LOCAL_PORTS } else { Ports { first: a.min(b), last: a.max(b) } };
        Locals::new(&addresses, ports).expect("addresses of machines")
    })
}

fn service(range: Range) -> impl Strategy<Value = Service> {
    let options = (any::<(bool, bool, bool)>(), switches(range));
    let netmask = (prop_oneof![Just(u32::MAX), any::<u32>()], prop_oneof![Just(128), 1..=128u8]);
    let persistence = option::of((1..=MAX_PERSISTENCE_S, netmask));
    (service_key(range), select(Kind::ALL), options, persistence, any::<bool>(), any::<bool>()).prop_map(
        |(key, scheduler, ((fallback, port, third), switches), persistence, one_packet, has_engine)| {
            let engine = has_engine.then_some(Engine::Sip);
            let may_be_single =
                !matches!(key, ServiceKey::Address { protocol, .. } if protocol != Protocol::Udp);
            let is_whole = matches!(key, ServiceKey::Address { address, .. } if address.port() == 0);
            let persistence = persistence.or_else(|| is_whole.then_some((360, (u32::MAX, 128))));
            let persistence = persistence.map(|(timeout_s, (mask, bits))| Persistence {
                timeout_s,
                netmask: if key.is_v4() { Netmask::V4(Ipv4Addr::from_bits(mask)) } else { Netmask::V6(bits) },
            });
            let options = Options { fallback, port, third };
            let one_packet = one_packet && may_be_single;
            let locals = Locals::default();
            Service { key, scheduler, options, persistence, engine, one_packet, switches, locals }
        },
    )
}

fn switches(range: Range) -> impl Strategy<Value = Switches> {
    let seconds = |limits: std::ops::RangeInclusive<u32>| match range {
        Range::Wide => prop_oneof![2 => Just(0), 1 => limits].boxed(),
        Range::Narrow => (0..2u32).boxed(),
    };
    let times =
        (seconds(OWN_TIMEOUT_S), seconds(OWN_TIMEOUT_S), seconds(OWN_TIMEOUT_S), seconds(SLOW_START_S));
    let gone = (any::<bool>(), select(TcpWhenDown::ALL), any::<bool>());
    let mss_max = match range {
        Range::Wide => prop_oneof![1 => Just(0), 1 => MSS_MAX].boxed(),
        Range::Narrow => prop_oneof![Just(0), Just(536)].boxed(),
    };
    // What suits every service with every server: the others have tests of their own.
    let kind = match range {
        Range::Wide => prop_oneof![2 => Just(TOA_KIND_DEFAULT), 1 => TOA_KIND].boxed(),
        Range::Narrow => Just(TOA_KIND_DEFAULT).boxed(),
    };
    let all = (times, gone, option::of(any::<bool>()), mss_max, kind);
    all.prop_map(|(times, gone, sloppy_tcp, mss_max, toa_kind)| Switches {
        timeout_tcp_s: times.0,
        timeout_tcp_fin_s: times.1,
        timeout_udp_s: times.2,
        slow_start_s: times.3,
        udp_rehome: gone.0,
        tcp_when_down: gone.1,
        reset_on_removal: gone.2,
        sloppy_tcp,
        mss_max,
        client_address: ClientAddress::None,
        toa_kind,
    })
}

fn service_key(range: Range) -> impl Strategy<Value = ServiceKey> {
    let address = (select(Protocol::ALL), ip(range), port(range))
        .prop_map(|(protocol, ip, port)| ServiceKey::new(protocol, (ip, port).into()));
    let mark = (mark(range), any::<bool>()).prop_map(|(mark, v6)| ServiceKey::Mark { mark, v6 });
    prop_oneof![2 => address, 1 => mark]
}

fn server(range: Range) -> impl Strategy<Value = Server> {
    let address = (ip(range).prop_filter("unicast", is_unicast), port(range)).prop_map(SocketAddr::from);
    let checksum = select(&[TunnelChecksum::None, TunnelChecksum::Full, TunnelChecksum::Remote][..]);
    let method = prop_oneof![
        Just(Method::Nat),
        Just(Method::Dr),
        Just(Method::FullNat),
        Just(Method::Tun(Tunnel::Ipip)),
        (1..=u16::MAX, checksum.clone())
            .prop_map(|(port, checksum)| Method::Tun(Tunnel::Gue { port, checksum })),
        checksum.prop_map(|checksum| Method::Tun(Tunnel::Gre { checksum })),
    ];
    let number = || prop_oneof![2 => Just(0), 1 => any::<u32>()];
    let weight = prop_oneof![0..3u32, 0..=MAX_WEIGHT];
    let state = (select(ServerState::ALL), prop_oneof![2 => Just(0), 1 => 0..=MAX_DRAIN_S]);
    (address, weight, method, (number(), number()), state).prop_map(
        |(address, weight, method, (a, b), (state, drain_timeout_s))| Server {
            address,
            weight,
            method,
            upper: a.max(b),
            lower: a.min(b),
            state,
            drain_timeout_s,
        },
    )
}

fn mark_rule(range: Range) -> impl Strategy<Value = MarkRule> {
    let net = move |v6: bool| -> BoxedStrategy<IpNet> {
        if v6 {
            let net = (any::<Ipv6Addr>(), 0..=128u8);
            net.prop_map(|(ip, bits)| Ipv6Net::new(ip, bits).expect("at most 128 bits").into()).boxed()
        } else {
            let net = (ipv4(range), 0..=32u8);
            net.prop_map(|(ip, bits)| Ipv4Net::new(ip, bits).expect("at most 32 bits").into()).boxed()
        }
    };
    let networks = any::<bool>().prop_flat_map(move |v6| (net(v6), option::of(net(v6))));
    let ports = prop_oneof![Just((0, u16::MAX)), (port(range), port(range))];
    (mark(range), select(Protocol::ALL), networks, ports).prop_map(
        |(mark, protocol, (destination, source), (a, b)): (_, _, (IpNet, _), _)| MarkRule {
            mark,
            protocol,
            destination,
            port_first: a.min(b),
            port_last: a.max(b),
            source,
        },
    )
}

fn timeouts(range: Range) -> BoxedStrategy<Timeouts> {
    let seconds = || match range {
        Range::Wide => TIMEOUT_S.boxed(),
        Range::Narrow => (900..902u32).boxed(),
    };
    let three = (seconds(), seconds(), seconds());
    three.prop_map(|(tcp_s, tcp_fin_s, udp_s)| Timeouts { tcp_s, tcp_fin_s, udp_s }).boxed()
}

fn tunables() -> impl Strategy<Value = Tunables> {
    let all = Tunables::default().all();
    let values: Vec<_> = all.iter().map(|tunable| tunable.least..=tunable.most).collect();
    values.prop_map(move |values| {
        let mut tunables = Tunables::default();
        for (tunable, value) in all.iter().zip(values) {
            tunables.set(tunable.name, value).expect("within its limits");
        }
        tunables
    })
}

fn mark(range: Range) -> BoxedStrategy<std::num::NonZeroU32> {
    match range {
        Range::Wide => any::<std::num::NonZeroU32>().boxed(),
        Range::Narrow => (1..3u32).prop_map(|mark| mark.try_into().expect("not 0")).boxed(),
    }
}

fn ipv4(range: Range) -> BoxedStrategy<Ipv4Addr> {
    match range {
        Range::Wide => any::<Ipv4Addr>().boxed(),
        Range::Narrow => (1..4u8).prop_map(|last| Ipv4Addr::new(10, 0, 0, last)).boxed(),
    }
}

/// Of either version.
fn ip(range: Range) -> BoxedStrategy<IpAddr> {
    let v6 = match range {
        Range::Wide => any::<Ipv6Addr>().boxed(),
        Range::Narrow => (1..4u16).prop_map(|n| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n)).boxed(),
    };
    prop_oneof![2 => ipv4(range).prop_map(IpAddr::from), 1 => v6.prop_map(IpAddr::from)].boxed()
}

fn port(range: Range) -> BoxedStrategy<u16> {
    match range {
        Range::Wide => prop_oneof![1 => Just(0), 4 => any::<u16>()].boxed(),
        Range::Narrow => prop_oneof![Just(0), 80..82u16].boxed(),
    }
}

fn distinct<T: Clone + Eq + std::hash::Hash>(mut items: Vec<T>) -> Vec<T> {
    let mut seen = HashSet::new();
    items.retain(|item| seen.insert(item.clone()));
    items
}
