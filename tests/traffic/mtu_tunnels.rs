//! Path MTU through tunnels where IPv6 is outside, inside, or both: real clients, a router with a narrow link between the
//! director and the server, and a server that takes the packets out.
//!
//! ```text
//!  clients ── cl0 lb0 director lb1 ── switch ── in ──1350── out ──1500── d  fd00:2::20 and on, 10.2.0.20 and on
//! ```
//!
//! Every service has an address of `d` for itself, since what is learnt counts for the address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::client;
use crate::decapsulator::{Decapsulator, GUE_PORT};
use crate::file::File;
use crate::lab::{self, Lab, alone};
use crate::mtu6::{self, CLIENT, OTHER, link, speak};
use crate::server::Server;
use crate::xvs::{Xvs, config};

const NARROW: u16 = 1350;
const LEAST: u16 = 1280;
/// Some thousand packets of full size.
const LEN: usize = 4 << 20;
/// A black hole lasts for minutes.
const LIMIT: Duration = Duration::from_secs(20);
/// The director's address towards the servers.
const DIRECTOR: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

/// A service with one server behind a tunnel.
struct Way {
    vip: IpAddr,
    server: IpAddr,
    keys: String,
    /// Bytes of the outer headers.
    overhead: u16,
}

impl Way {
    fn vip(&self) -> SocketAddr {
        (self.vip, 80).into()
    }

    fn service(&self) -> String {
        let server = SocketAddr::from((self.server, 80));
        format!(
            "[[service]]\nprotocol = \"tcp\"\naddress = \"{}\"\nforward = \"tun\"\n[[service.server]]\naddress = \"{server}\"\n{}\n",
            self.vip(),
            self.keys
        )
    }

    /// A client's address of the right version: each learns for itself.
    fn client(&self, other: bool) -> IpAddr {
        match (self.vip.is_ipv4(), other) {
            (true, _) => lab::client(usize::from(other)).into(),
            (false, false) => CLIENT.into(),
            (false, true) => OTHER.into(),
        }
    }

    /// Uploads, and what the client has learnt of the way by then.
    fn learns(&self, lab: &Lab, other: bool) -> Option<u16> {
        let from = self.client(other);
        let file = File::new(lab, LEN, LIMIT);
        let name = client::run(lab, async || file.up_by(from, self.vip()).await.0);
        assert_eq!(name, "d", "{}", self.keys);
        lab.learnt("clients", self.vip, from)
    }
}

/// Each kind of tunnel, between these versions of IP.
fn ways(inner_is_v4: bool, outer_is_v4: bool, first: u8) -> Vec<Way> {
    let gue = format!("tunnel = \"gue\"\ntunnel_port = {GUE_PORT}");
    let kinds = [
        ("tunnel = \"ipip\"".to_owned(), 0),
        (gue.clone(), 12),
        (format!("{gue}\ntunnel_checksum = \"full\""), 12),
        ("tunnel = \"gre\"".to_owned(), 4),
        ("tunnel = \"gre\"\ntunnel_checksum = \"full\"".to_owned(), 8),
    ];
    let one = |(number, (keys, extra)): (u8, (String, u16))| Way {
        vip: if inner_is_v4 {
            Ipv4Addr::new(10, 0, 0, 110 + number).into()
        } else {
            Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x110 + u16::from(number)).into()
        },
        server: if outer_is_v4 {
            Ipv4Addr::new(10, 2, 0, 20 + number).into()
        } else {
            Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 0x20 + u16::from(number)).into()
        },
        keys,
        overhead: extra + if outer_is_v4 { 20 } else { 40 },
    };
    (first..).zip(kinds).map(one).collect()
}

/// The lab with `d` behind routers, which has the VIPs of all these and is their server.
fn far_server(lab: &Lab, ways: &[Way]) -> (Decapsulator, Server) {
    for who in ["in", "out"] {
        mtu6::router(lab, who);
        lab.sysctl(who, "ipv4/ip_forward", 1);
        lab.sysctl(who, "ipv4/conf/all/send_redirects", 0);
    }
    lab.add_netns("d");
    speak(lab, "d");
    lab.cable(("in", "eth0"), ("clients", "to-in"), true);
    lab.ip("clients", &["link set to-in master switch"]);
    link(lab, ("in", "out"), "fd00:3", NARROW);
    lab.cable(("out", "inner"), ("d", "eth0"), true);
    // Answers pass the director by.
    lab.ip(
        "in",
        &[
            "address add fd00:1::99/64 dev eth0 nodad",
            "address add 10.1.0.99/24 dev eth0",
            "address add 10.3.0.1/24 dev to-out",
            "route add fd00:2::/64 via fd00:3::2",
            "route add 10.2.0.0/24 via 10.3.0.2",
            "route add default via fd00:1::254",
            "route add default via 10.1.0.254",
        ],
    );
    lab.ip(
        "out",
        &[
            "address add 10.3.0.2/24 dev to-in",
            "address add fd00:2::1/64 dev inner nodad",
            "address add 10.2.0.1/24 dev inner",
            "route add default via fd00:3::1",
            "route add default via 10.3.0.1",
        ],
    );
    lab.ip("d", &["address add 10.2.0.2/24 dev eth0", "address add fd00:2::2/64 dev eth0 nodad"]);
    lab.ip("d", &["route add default via fd00:2::1", "route add default via 10.2.0.1"]);
    lab.ip("director", &["route add fd00:2::/64 via fd00:1::99", "route add 10.2.0.0/24 via 10.1.0.99"]);
    let alone = |ip: IpAddr, device: &str| match ip {
        IpAddr::V4(ip) => format!("address add {ip}/32 dev {device}"),
        IpAddr::V6(ip) => format!("address add {ip}/128 dev {device} nodad"),
    };
    for way in ways {
        lab.ip("director", &[alone(way.vip, "lb0")]);
        lab.ip("d", &[alone(way.vip, "lo"), alone(way.server, "eth0")]);
    }
    let end = Decapsulator::start_for_both(&lab.netns("d"), DIRECTOR);
    let vips = ways.iter().map(Way::vip).collect();
    (end, Server::start_at(&lab.netns("d"), "d", vips, Vec::new(), lab.dir()))
}

#[test]
fn over_ipv6_the_client_learns_what_the_narrow_link_and_the_tunnel_leave() {
    let _alone = alone();
    let lab = Lab::new();
    let _servers = mtu6::six(&lab);
    let all: Vec<_> = ways(false, false, 0).into_iter().chain(ways(true, false, 5)).collect();
    let (end, _server) = far_server(&lab, &all);
    let services: Vec<_> = all.iter().map(Way::service).collect();
    let xvs = Xvs::start(&lab, &config(&services));
    for way in &all {
        assert_eq!(way.learns(&lab, false), Some(NARROW - way.overhead), "{} {}", way.vip, way.keys);
    }
    assert_eq!(end.seen.bad.load(Relaxed), 0, "badly wrapped");
    let longest = end.seen.longest.load(Relaxed);
    assert!((u64::from(NARROW) - 8..=u64::from(NARROW)).contains(&longest), "{longest}");

    // As narrow as IPv6 allows: there is no less to tell a client of IPv6, and the director splits its own packets.
    lab.ip("in", &[format!("link set to-out mtu {LEAST}")]);
    lab.ip("out", &[format!("link set to-in mtu {LEAST}")]);
    for way in &all {
        let left = if way.vip.is_ipv4() { LEAST - way.overhead } else { LEAST };
        assert_eq!(way.learns(&lab, true), Some(left), "{} {}", way.vip, way.keys);
    }
    assert_eq!(end.seen.bad.load(Relaxed), 0, "badly wrapped");
    drop(xvs.stop());
}

/// Routers on the way may fragment the outer packets: all that a client learns is what the tunnel needs.
#[test]
fn ipv6_over_ipv4_goes_through_a_narrow_link() {
    let _alone = alone();
    let lab = Lab::new();
    let _servers = mtu6::six(&lab);
    let all = ways(false, true, 0);
    let (end, _server) = far_server(&lab, &all);
    let services: Vec<_> = all.iter().map(Way::service).collect();
    let xvs = Xvs::start(&lab, &config(&services));
    for way in &all {
        assert_eq!(way.learns(&lab, false), Some(1500 - way.overhead), "{}", way.keys);
    }
    assert_eq!(end.seen.bad.load(Relaxed), 0, "badly wrapped");
    drop(xvs.stop());
}
