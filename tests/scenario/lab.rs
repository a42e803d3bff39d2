//! The lab every scenario is played in: seven network namespaces, gone when dropped.
//!
//! ```text
//!  cl: clients and router          lb: the director              r1..r4: real servers
//!    cl0 10.0.1.1-64/16 ────────── lb0 10.0.0.1/16                 eth0 10.1.0.11-14/24
//!                                      VIPs 10.0.0.100-107         lo   the VIPs, no ARP for them
//!    cl1 10.1.0.254/24             lb1 10.1.0.1/24
//!     │                             │                               │
//!     └──────────────── sw: a bridge that joins them ───────────────┘
//! ```
//!
//! Scenarios that name addresses of IPv6 have those besides: fd00::/64 for 10.0.0.0/16 (clients fd00::1:1-40, VIPs
//! fd00::100-107), fd00:1::/64 for 10.1.0.0/24 (servers fd00:1::11-14), all with the same ends.
//!
//! A server's default route is the director for replies from its own address (NAT), and cl for replies from
//! a VIP (DR, TUN). The addresses are part of the scenarios. Must not know which director is in lb.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::decapsulator::{Decapsulator, GUE_PORT};
use crate::netns::{Namespaces, inside, run, succeed};
use crate::real_server::Server;
use crate::script::{Line, Tunnel};
use crate::server::Named;

/// The real servers, by the name they answer with.
const SERVERS: [(&str, Ipv4Addr); 4] = [
    ("r1", Ipv4Addr::new(10, 1, 0, 11)),
    ("r2", Ipv4Addr::new(10, 1, 0, 12)),
    ("r3", Ipv4Addr::new(10, 1, 0, 13)),
    ("r4", Ipv4Addr::new(10, 1, 0, 14)),
];
/// The addresses of the director itself that a program there answers at, besides the VIPs.
const OWN: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 1, 0, 1)];
/// The ports every server answers on, TCP and UDP, at all of its addresses.
const PORTS: [u16; 9] = [21, 53, 80, 81, 443, 500, 5060, 8080, 9999];
/// How long a command in the lab may take, in seconds; then it is ended, and its exit status is 124.
const COMMAND_LIMIT_S: &str = "30";
/// How long the neighbours may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Whether the kernel has the devices of all kinds of tunnels.
fn has_tunnels() -> bool {
    // `modprobe` succeeds for what is built in, too.
    let modules = ["ipip", "ip_gre", "fou", "ip6_tunnel", "ip6_gre", "sit", "fou6"];
    Command::new("modprobe").arg("-aq").args(modules).status().is_ok_and(|status| status.success())
}

/// The name and address of a real server.
fn real_server(name: &str) -> (&'static str, Ipv4Addr) {
    *SERVERS.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("no server {name}"))
}

/// The clients' addresses of the version of this one, in order.
pub fn clients_to(vip: IpAddr) -> Box<dyn Iterator<Item = IpAddr>> {
    if vip.is_ipv4() {
        Box::new(clients().map(IpAddr::from))
    } else {
        Box::new(clients_v6().map(IpAddr::from))
    }
}

fn clients_v6() -> impl Iterator<Item = Ipv6Addr> {
    (1..=64).map(|last| outside(1, last))
}

fn vips_v6() -> impl Iterator<Item = Ipv6Addr> {
    (0x100..=0x107).map(|last| outside(0, last))
}

const fn outside(group: u16, last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, group, last)
}

const fn inside_v6(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, last)
}

/// The IPv6 address of a server, by its place.
const fn rip_v6(place: u16) -> Ipv6Addr {
    inside_v6(0x11 + place)
}

/// The clients' addresses, in order.
pub fn clients() -> impl Iterator<Item = Ipv4Addr> {
    (1..=64).map(|last| Ipv4Addr::new(10, 0, 1, last))
}

fn vips() -> impl Iterator<Item = Ipv4Addr> {
    (100..=107).map(|last| Ipv4Addr::new(10, 0, 0, last))
}

/// See the module.
#[derive(Debug)]
pub struct Lab {
    // Dropped in this order: the servers leave their namespaces first.
    servers: BTreeMap<&'static str, Server>,
    ends: BTreeMap<&'static str, Decapsulator>,
    has_ipv6: bool,
    namespaces: Namespaces,
    dir: TempDir,
}

impl Lab {
    /// The lab for `script`: all servers up, every neighbour known so that ARP never decides an outcome, and addresses
    /// of IPv6 if the script names any. All of it is there before a director starts, who could otherwise be asked to
    /// forward to what it has not seen yet.
    pub fn new(script: &[Line]) -> Self {
        let namespaces = Namespaces::new();
        let dir = tempfile::Builder::new().prefix(namespaces.prefix()).tempdir();
        let mut lab = Self {
            servers: BTreeMap::new(),
            ends: BTreeMap::new(),
            has_ipv6: false,
            namespaces,
            dir: dir.expect("temporary directory"),
        };
        lab.hosts_and_cables();
        lab.clients();
        lab.director();
        for (name, rip) in SERVERS {
            lab.real_server(name, rip);
            lab.server(name, true);
        }
        lab.resolve("lb", "lb0", clients());
        lab.resolve("lb", "lb1", SERVERS.into_iter().map(|(_, rip)| rip));
        lab.resolve("cl", "cl0", vips());
        for (name, _) in SERVERS {
            lab.resolve(name, "eth0", [Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(10, 1, 0, 254)]);
        }
        if script.iter().any(|line| line.text.contains("fd00:")) {
            lab.add_ipv6();
        }
        lab
    }

    /// Gives everybody addresses of IPv6 besides, and has all servers listen there; every neighbour is known.
    fn add_ipv6(&mut self) {
        self.has_ipv6 = true;
        let hosts = [("cl", &["cl0", "cl1"][..]), ("lb", &["lb0", "lb1"])];
        for (who, devices) in hosts.into_iter().chain(SERVERS.map(|(name, _)| (name, &["eth0"][..]))) {
            // Without waiting for somebody else who has the address.
            for device in devices {
                self.namespaces.sysctl(who, &format!("ipv6/conf/{device}/accept_dad"), 0);
            }
            self.namespaces.sysctl(who, "ipv6/conf/all/disable_ipv6", 0);
        }
        self.namespaces.sysctl("lb", "ipv6/conf/all/forwarding", 1);
        let add = |ip: Ipv6Addr, bits, device| format!("address add {ip}/{bits} dev {device} nodad");
        let mut lines: Vec<_> = clients_v6().map(|ip| add(ip, 64, "cl0")).collect();
        lines.push(add(inside_v6(0xfe), 64, "cl1"));
        self.namespaces.ip("cl", &lines);
        let mut lines: Vec<_> = vips_v6().map(|vip| add(vip, 128, "lb0")).collect();
        lines.extend([add(outside(0, 1), 64, "lb0"), add(inside_v6(1), 64, "lb1")]);
        self.namespaces.ip("lb", &lines);
        for (place, (name, _)) in (0..).zip(SERVERS) {
            let mut lines: Vec<_> = vips_v6().map(|vip| add(vip, 128, "lo")).collect();
            lines.push(add(rip_v6(place), 64, "eth0"));
            lines.push(format!("route add default via {}", inside_v6(1)));
            lines.push(format!("route add default via {} dev eth0 table 100", inside_v6(0xfe)));
            self.namespaces.ip(name, &lines);
            let rule = format!("-6 rule add from {}/120 lookup 100", outside(0, 0x100));
            run(&format!("ip -n {} {rule}", self.netns(name)));
            self.server(name, true);
        }
        self.resolve("lb", "lb0", clients_v6());
        self.resolve("lb", "lb1", (0..4).map(rip_v6));
        self.resolve("cl", "cl0", vips_v6());
        for (name, _) in SERVERS {
            self.resolve(name, "eth0", [inside_v6(1), inside_v6(0xfe)]);
        }
    }

    fn hosts_and_cables(&self) {
        let servers = SERVERS.map(|(name, _)| name);
        for who in ["cl", "lb", "sw"].into_iter().chain(servers) {
            self.namespaces.add_host(who);
        }
        self.namespaces.ip("sw", &["link add br0 type bridge forward_delay 0", "link set br0 up"]);
        self.cable(("cl", "cl0"), ("lb", "lb0"));
        for (who, device) in
            [("lb", "lb1"), ("cl", "cl1")].into_iter().chain(servers.map(|who| (who, "eth0")))
        {
            let port = format!("p-{who}");
            self.cable((who, device), ("sw", &port));
            self.namespaces.ip("sw", &[format!("link set {port} master br0")]);
        }
    }

    /// A veth pair with two queues in either direction.
    fn cable(&self, from: (&str, &str), to: (&str, &str)) {
        let queues = "numrxqueues 2 numtxqueues 2";
        let peer = format!("peer name {} netns {} {queues}", to.1, self.netns(to.0));
        self.namespaces.ip(from.0, &[format!("link add {} {queues} type veth {peer}", from.1)]);
        for (who, device) in [from, to] {
            self.namespaces.offloads_off(who, device);
            self.namespaces.ip(who, &[format!("link set {device} up")]);
        }
    }

    fn clients(&self) {
        let mut lines: Vec<_> =
            clients().map(|address| format!("address add {address}/16 dev cl0")).collect();
        lines.push("address add 10.1.0.254/24 dev cl1".to_owned());
        self.namespaces.ip("cl", &lines);
        self.namespaces.sysctl("cl", "ipv4/ip_forward", 1);
    }

    fn director(&self) {
        let mut lines = vec!["address add 10.0.0.1/16 dev lb0".to_owned()];
        lines.extend(vips().map(|vip| format!("address add {vip}/32 dev lb0")));
        lines.push("address add 10.1.0.1/24 dev lb1".to_owned());
        self.namespaces.ip("lb", &lines);
        for (name, value) in
            [("ipv4/ip_forward", 1), ("ipv4/conf/all/send_redirects", 0), ("ipv4/conf/lb1/send_redirects", 0)]
        {
            self.namespaces.sysctl("lb", name, value);
        }
    }

    fn real_server(&self, name: &str, rip: Ipv4Addr) {
        self.namespaces.sysctl(name, "ipv4/conf/all/arp_ignore", 1);
        self.namespaces.sysctl(name, "ipv4/conf/all/arp_announce", 2);
        let mut lines = vec![
            format!("address add {rip}/24 dev eth0"),
            "route add default via 10.1.0.1".to_owned(),
            "route add default via 10.1.0.254 table 100".to_owned(),
        ];
        for vip in vips() {
            lines.push(format!("address add {vip}/32 dev lo"));
            lines.push(format!("rule add from {vip} lookup 100"));
        }
        self.namespaces.ip(name, &lines);
    }

    /// Starts or stops the program on real server `name`, or on the director itself, `lb`, where it is off at first; its
    /// address stays.
    pub fn server(&mut self, name: &str, up: bool) {
        let place = SERVERS.iter().position(|(n, _)| *n == name);
        let (name, own) = match name {
            "lb" => ("lb", OWN.to_vec()),
            _ => {
                let (name, rip) = real_server(name);
                (name, vec![rip])
            }
        };
        let rip_v6 = place.and_then(|place| u16::try_from(place).ok()).map(rip_v6);
        // Before a new one starts, the old one has let go of the ports.
        drop(self.servers.remove(name));
        if up {
            let mut any = vec![IpAddr::from(Ipv4Addr::UNSPECIFIED)];
            let mut each: Vec<_> = vips().chain(own).map(IpAddr::from).collect();
            if self.has_ipv6 {
                any.push(Ipv6Addr::UNSPECIFIED.into());
                each.extend(vips_v6().chain(rip_v6).map(IpAddr::from));
            }
            let at = |addresses: &[IpAddr]| {
                let ports = |ip: &IpAddr| PORTS.map(|port| SocketAddr::new(*ip, port));
                addresses.iter().flat_map(ports).collect()
            };
            self.servers.insert(name, Server::spawn(&self.netns(name), Named(name), at(&any), at(&each)));
        }
    }

    /// Makes real server `name` the end of tunnels: by its kernel's own devices, or, where that has none, by a program
    /// that knows all kinds.
    pub fn tunnel(&mut self, name: &str, kind: Tunnel) {
        let (name, rip) = real_server(name);
        let device = |what: &str| format!("link add tunnel-{what} type {what} local {rip} remote any");
        let lines = match kind {
            Tunnel::Ipip => vec![device("ipip"), "link set tunnel-ipip up".to_owned()],
            // What comes out of UDP is IP in IP.
            Tunnel::Gue => {
                let open = format!("fou add port {GUE_PORT} gue");
                vec![device("ipip"), "link set tunnel-ipip up".to_owned(), open]
            }
            Tunnel::Gre => vec![device("gre"), "link set tunnel-gre up".to_owned()],
            Tunnel::GreSummed => {
                vec![format!("{} icsum", device("gre")), "link set tunnel-gre up".to_owned()]
            }
        };
        if has_tunnels() {
            self.namespaces.ip(name, &lines);
            if self.has_ipv6 {
                self.tunnel_v6(name, kind);
            }
        } else if !self.ends.contains_key(name) {
            let start = if self.has_ipv6 { Decapsulator::start_for_both } else { Decapsulator::start };
            self.ends.insert(name, start(&self.netns(name), OWN[1]));
        }
    }

    /// As [`tunnel`](Self::tunnel), of IPv6 in IPv4 and of both in IPv6, by the kernel's devices.
    fn tunnel_v6(&self, name: &str, kind: Tunnel) {
        let place = SERVERS.iter().position(|(n, _)| *n == name).expect("a server");
        let (rip, rip_v6) = (SERVERS[place].1, rip_v6(u16::try_from(place).expect("few")));
        let six = |what: &str| format!("link add tunnel-six type {what} local {rip_v6} remote any");
        let mut lines = match kind {
            Tunnel::Ipip | Tunnel::Gue => vec![
                format!("link add tunnel-sit type sit local {rip} remote any"),
                "link set tunnel-sit up".to_owned(),
                format!("{} mode any", six("ip6tnl")),
            ],
            Tunnel::Gre => vec![six("ip6gre")],
            Tunnel::GreSummed => vec![format!("{} icsum", six("ip6gre"))],
        };
        lines.push("link set tunnel-six up".to_owned());
        self.namespaces.ip(name, &lines);
        if kind == Tunnel::Gue {
            // A batch has no place for the family.
            run(&format!("ip -n {} -6 fou add port {GUE_PORT} gue", self.netns(name)));
        }
    }

    /// Lets the other ends of the director's interfaces take redirected frames.
    pub fn take_redirected(&self) {
        for (who, device) in [("cl", "cl0"), ("sw", "p-lb")] {
            succeed(self.command(who, "ethtool").args(["-K", device, "gro", "on"]));
        }
    }

    /// Sets the MTU of a device of `who`.
    pub fn mtu(&self, who: &str, device: &str, bytes: u16) {
        self.namespaces.ip(who, &[format!("link set {device} mtu {bytes}")]);
    }

    /// Makes the kernel of `who` look for its neighbours on `device`, and waits until it knows them all. A packet
    /// would do that too, but its answer would count: a kernel limits the ICMP errors it sends to an address.
    fn resolve(&self, who: &str, device: &str, neighbours: impl IntoIterator<Item = impl ToString>) {
        let neighbours: Vec<_> = neighbours.into_iter().map(|it| it.to_string()).collect();
        let lines: Vec<_> =
            neighbours.iter().map(|it| format!("neighbour replace {it} dev {device} use")).collect();
        self.namespaces.ip(who, &lines);
        let show = format!("ip -n {} neighbour show dev {device}", self.netns(who));
        let start = Instant::now();
        loop {
            let all = run(&show);
            let known: Vec<_> = all.lines().filter(|line| line.contains(" lladdr ")).collect();
            let is_known = |it: &String| known.iter().any(|line| line.split(' ').next() == Some(it));
            if neighbours.iter().all(is_known) {
                return;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{who} looks for {neighbours:?} on {device} and finds\n{all}"
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The full name of this lab's namespace `who`.
    pub fn netns(&self, who: &str) -> String {
        self.namespaces.name(who)
    }

    /// Clients and servers, by name and network namespace.
    pub fn ends(&self) -> Vec<(&'static str, String)> {
        let all = ["cl"].into_iter().chain(SERVERS.map(|(name, _)| name));
        all.map(|name| (name, self.netns(name))).collect()
    }

    /// A command that will run in namespace `who`.
    pub fn command(&self, who: &str, program: &str) -> Command {
        self.namespaces.command(who, program)
    }

    /// A directory for this lab's files, gone with it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Runs a shell's command line in the director's namespace.
    pub fn shell(&self, line: &str) -> Output {
        inside(&self.netns("lb"), || {
            let mut bash = Command::new("timeout");
            bash.args(["--kill-after=5", COMMAND_LIMIT_S, "bash", "-c", line]).stdin(Stdio::null());
            bash.output().expect("timeout and bash are installed")
        })
    }
}
