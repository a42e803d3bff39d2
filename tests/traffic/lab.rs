//! A lab: network namespaces with clients, a director and three real servers, gone when dropped.
//!
//! ```text
//!  clients                     director             a, b, c: the real servers
//!    cl0  10.0.1.1-24/16 ──── lb0 10.0.0.1/16         eth0 10.1.0.11-13/24
//!         192.0.2.1-2             VIPs 10.0.0.100-101    lo 10.0.0.101
//!         198.51.100.7        lb1 10.1.0.1/24
//!    switch 10.1.0.254/24 ──── lb1, a, b, c
//! ```
//!
//! The servers' default route is the director (replies from a RIP: NAT), except for packets that
//! come from the DR VIP, which go to the clients by the switch. Every veth has two receive queues at both
//! ends and one or two transmit queues, so replies may arrive at another worker than the requests.
//! Must not know xvs.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::netns::{Namespaces, succeed};
use crate::server::Server;

/// The VIP the tests use for NAT: no server holds it.
pub const NAT_VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
/// The VIP the tests use for DR: every server holds it on `lo`.
pub const DR_VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 101);
/// The service at each of them that most tests ask.
pub const NAT: SocketAddrV4 = SocketAddrV4::new(NAT_VIP, 80);
pub const DR: SocketAddrV4 = SocketAddrV4::new(DR_VIP, 80);
/// The real servers, by the name they answer with.
pub const SERVERS: [(&str, Ipv4Addr); 3] = [
    ("a", Ipv4Addr::new(10, 1, 0, 11)),
    ("b", Ipv4Addr::new(10, 1, 0, 12)),
    ("c", Ipv4Addr::new(10, 1, 0, 13)),
];
/// The TCP ports every server listens on, at all of its addresses.
pub const TCP_PORTS: [u16; 2] = [80, 8080];
/// The UDP port every server answers on, from the address that was asked.
pub const UDP_PORT: u16 = 53;
/// Client addresses outside the director's network, for schedulers that hash the source.
pub const FAR_CLIENTS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(198, 51, 100, 7)];
/// How many addresses the clients have: 10.0.1.1 to 10.0.1.24.
pub const CLIENTS: u8 = 24;

/// Client address `index`, counted from 0 and wrapping at [`CLIENTS`].
pub fn client(index: usize) -> Ipv4Addr {
    let last = u8::try_from(index % usize::from(CLIENTS)).expect("below CLIENTS") + 1;
    Ipv4Addr::new(10, 0, 1, last)
}

/// The address of real server `name`.
pub fn rip(name: &str) -> Ipv4Addr {
    SERVERS.iter().find(|(n, _)| *n == name).expect("a server of the lab").1
}

/// Whether the tests are to be run with connections offloaded, as early as possible: `XVS_TEST_OFFLOAD=on`.
pub fn offloads() -> bool {
    std::env::var_os("XVS_TEST_OFFLOAD").is_some_and(|value| value == "on")
}

/// Held by a test that loads the machine or measures time; the others of its kind wait.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the module.
#[derive(Debug)]
pub struct Lab {
    // Dropped in this order: the servers leave their namespaces first.
    servers: Mutex<BTreeMap<&'static str, Server>>,
    namespaces: Namespaces,
    dir: TempDir,
}

impl Lab {
    /// The lab with the offloads as AF_XDP needs them.
    pub fn new() -> Self {
        Self::build(true)
    }

    /// The lab with the offloads as the kernel sets them for a new veth.
    pub fn with_kernel_offloads() -> Self {
        Self::build(false)
    }

    fn build(offloads_off: bool) -> Self {
        let namespaces = Namespaces::new();
        allow_many_files();
        let dir = tempfile::Builder::new().prefix(namespaces.prefix()).tempdir();
        let lab = Self { servers: Mutex::default(), namespaces, dir: dir.expect("temporary directory") };
        lab.clients_and_director(offloads_off);
        for (name, rip) in SERVERS {
            lab.real_server(name, rip, offloads_off);
        }
        for (name, rip) in SERVERS {
            lab.start_server(name, rip);
        }
        lab
    }

    fn start_server(&self, name: &'static str, rip: Ipv4Addr) {
        let tcp = TCP_PORTS.map(|port| SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port));
        let udp = [rip, DR_VIP].map(|address| SocketAddrV4::new(address, UDP_PORT));
        let server = Server::start(&self.netns(name), name, &tcp, &udp, self.dir());
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).insert(name, server);
    }

    /// Ends the processes of real server `name`: its ports refuse.
    pub fn stop_server(&self, name: &str) {
        let server = self.servers.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        assert!(server.is_some(), "server {name} does not run");
    }

    /// Starts them again.
    pub fn restart_server(&self, name: &str) {
        let (name, rip) = *SERVERS.iter().find(|(n, _)| *n == name).expect("a server of the lab");
        self.start_server(name, rip);
    }

    fn clients_and_director(&self, offloads_off: bool) {
        self.add_netns("clients");
        self.add_netns("director");
        self.cable(("clients", "cl0"), ("director", "lb0"), offloads_off);
        self.cable(("director", "lb1"), ("clients", "to-lb"), offloads_off);
        let mut lines: Vec<String> =
            (0..usize::from(CLIENTS)).map(|i| format!("address add {}/16 dev cl0", client(i))).collect();
        lines.extend(FAR_CLIENTS.map(|far| format!("address add {far}/32 dev cl0")));
        lines.push("link add switch address 02:00:00:00:00:fe type bridge forward_delay 0".into());
        lines.push("link set switch up".into());
        lines.push("address add 10.1.0.254/24 dev switch".into());
        lines.push("link set to-lb master switch".into());
        self.ip("clients", &lines);
        self.sysctl("clients", "ipv4/conf/all/arp_ignore", 1);
        let far = FAR_CLIENTS.map(|far| format!("route add {far}/32 dev lb0 src 10.0.0.1"));
        let near = [
            "address add 10.0.0.1/16 dev lb0".to_owned(),
            format!("address add {NAT_VIP}/32 dev lb0"),
            format!("address add {DR_VIP}/32 dev lb0"),
            "address add 10.1.0.1/24 dev lb1".to_owned(),
        ];
        self.ip("director", &[near.as_slice(), far.as_slice()].concat());
        for (name, value) in
            [("ipv4/ip_forward", 1), ("ipv4/conf/all/send_redirects", 0), ("ipv4/conf/lb1/send_redirects", 0)]
        {
            self.sysctl("director", name, value);
        }
    }

    fn real_server(&self, name: &str, rip: Ipv4Addr, offloads_off: bool) {
        self.add_netns(name);
        let port = format!("to-{name}");
        self.cable((name, "eth0"), ("clients", &port), offloads_off);
        self.ip("clients", &[format!("link set {port} master switch")]);
        // It holds the DR VIP without answering ARP for it, and announces a new MAC address as hosts do.
        for (key, value) in [("arp_ignore", 1), ("arp_announce", 2), ("arp_notify", 1)] {
            self.sysctl(name, &format!("ipv4/conf/all/{key}"), value);
        }
        self.sysctl(name, "ipv4/conf/eth0/arp_notify", 1);
        let lines = [
            format!("address add {rip}/24 dev eth0"),
            format!("address add {DR_VIP}/32 dev lo"),
            "route add default via 10.1.0.1".to_owned(),
            "route add default via 10.1.0.254 table 100".to_owned(),
            format!("rule add from {DR_VIP} lookup 100"),
        ];
        self.ip(name, &lines);
    }

    /// The full name of this lab's namespace `who`.
    pub fn netns(&self, who: &str) -> String {
        self.namespaces.name(who)
    }

    /// A directory for the test's files, gone with the lab.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Adds namespace `who`: `lo` up, IPv4 only, no reverse path filter (DR is one-way).
    pub fn add_netns(&self, who: &str) {
        self.namespaces.add_host(who);
    }

    /// Joins two (namespace, device) ends by a veth pair with two receive queues each, and sets both up. The director's
    /// other end takes redirected frames if the tests are run with offloading.
    pub fn cable(&self, from: (&str, &str), to: (&str, &str), offloads_off: bool) {
        // A server sends by one queue: a bridge takes a second one for a queue it was received at and then puts
        // every flow into the first of its own.
        let queues = |who: &str| match who {
            "director" | "clients" => "numrxqueues 2 numtxqueues 2",
            _ => "numrxqueues 2 numtxqueues 1",
        };
        let (here, there, peer) = (queues(from.0), queues(to.0), self.netns(to.0));
        self.ip(
            from.0,
            &[format!("link add {} {here} type veth peer name {} netns {peer} {there}", from.1, to.1)],
        );
        for (who, device) in [from, to] {
            if offloads_off {
                self.offloads_off(who, device);
            }
            self.ip(who, &[format!("link set {device} up")]);
        }
        // Only a veth that is up notices.
        for ((who, device), other) in [(from, to.0), (to, from.0)] {
            if offloads() && other == "director" {
                self.take_redirected_at(who, device);
            }
        }
    }

    /// Makes `device` send packets as a wire carries them: whole checksums, nothing beyond the MTU.
    pub fn offloads_off(&self, who: &str, device: &str) {
        self.namespaces.offloads_off(who, device);
    }

    /// Lets the other ends of the director's interfaces take redirected frames.
    pub fn take_redirected(&self) {
        for device in ["cl0", "to-lb"] {
            self.take_redirected_at("clients", device);
        }
    }

    fn take_redirected_at(&self, who: &str, device: &str) {
        succeed(self.command(who, "ethtool").args(["-K", device, "gro", "on"]));
    }

    /// Runs `ip` in namespace `who`, once for all `lines`.
    pub fn ip(&self, who: &str, lines: &[impl AsRef<str>]) {
        self.namespaces.ip(who, lines);
    }

    /// Sets /proc/sys/net/`name` in namespace `who`.
    pub fn sysctl(&self, who: &str, name: &str, value: u32) {
        self.namespaces.sysctl(who, name, value);
    }

    /// A command that will run in namespace `who`.
    pub fn command(&self, who: &str, program: &str) -> Command {
        self.namespaces.command(who, program)
    }

    /// Frames that a device of `who`'s has received by the kernel's count.
    pub fn received(&self, who: &str, device: &str) -> u64 {
        let path = format!("/sys/class/net/{device}/statistics/rx_packets");
        let out = succeed(self.command(who, "cat").arg(path)).stdout;
        String::from_utf8_lossy(&out).trim().parse().expect("a number")
    }

    /// What host `who` has learnt of the way from one address to another, in bytes.
    pub fn learnt(&self, who: &str, to: impl Into<IpAddr>, from: impl Into<IpAddr>) -> Option<u16> {
        let (to, from) = (to.into(), from.into());
        let words = format!("route get {to} from {from}");
        let out = succeed(self.command(who, "ip").args(words.split(' '))).stdout;
        let out = String::from_utf8_lossy(&out).into_owned();
        let mut words = out.split_whitespace().skip_while(|word| *word != "mtu");
        words.nth(1).and_then(|bytes| bytes.parse().ok())
    }

    /// Whether an XDP program is attached to one of the director's interfaces.
    pub fn xdp_attached(&self) -> bool {
        let output = succeed(Command::new("ip").args(["-n", &self.netns("director"), "link", "show"]));
        String::from_utf8_lossy(&output.stdout).contains("prog/xdp")
    }
}

/// Lets this process hold the sockets of both ends of some thousand connections.
fn allow_many_files() {
    const FILES: u64 = 8_192;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("getrlimit");
    if soft < FILES {
        setrlimit(Resource::RLIMIT_NOFILE, FILES, hard.max(FILES))
            .expect("root may raise the limit of open files");
    }
}
