//! What a story knows of a service: enough to change it and to send it traffic.

use fastrand::Rng;

use super::story::at;

/// Every scheduler.
pub const SCHEDULERS: [&str; 14] =
    ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos"];
/// Ports that the real servers answer on, but that of FTP.
const PORTS: [u16; 6] = [53, 80, 81, 443, 8080, 9999];

/// A service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Which of all there ever were.
    pub number: usize,
    /// As ipvsadm has it: `-t 10.0.0.100:80`.
    pub name: String,
    /// Whether it is IPv6's, and with it its clients and servers.
    pub is_v6: bool,
    /// Where TCP's clients reach it.
    pub tcp: Vec<String>,
    /// Where UDP's do.
    pub udp: Vec<String>,
    /// What it is reached by.
    pub kind: Kind,
    /// The name of its scheduler.
    pub scheduler: &'static str,
    /// Whether client ports decide.
    pub by_port: bool,
    /// Whether each datagram is for itself.
    pub one_packet: bool,
    /// Its servers.
    pub servers: Vec<Server>,
    /// Servers that were taken away and did not come back.
    pub removed: Vec<Server>,
}

/// What a service is reached by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One port.
    Port(u16),
    /// All ports.
    AnyPort,
    /// A firewall mark.
    Mark,
}

/// A real server of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// As ipvsadm has it: `10.1.0.11:80`.
    pub name: String,
    /// Whether it is behind NAT.
    pub nat: bool,
}

impl Service {
    /// The scheduler and what else `-A` and `-E` say; a service of port 0 stays persistent.
    pub fn options(&mut self, rng: &mut Rng) -> String {
        let several = self.servers.len() > 1;
        self.scheduler = loop {
            let drawn = SCHEDULERS[rng.usize(0..SCHEDULERS.len())];
            if drawn != "twos" || !several {
                break drawn;
            }
        };
        let mut options = format!("-s {}", self.scheduler);
        let mut flags = Vec::new();
        if matches!(self.scheduler, "sh" | "mh") {
            let among = ["fallback", "port"].into_iter().filter(|_| rng.bool());
            flags = among.map(|flag| format!("{}-{flag}", self.scheduler)).collect();
        }
        self.by_port = flags.iter().any(|flag| flag.ends_with("port"));
        if !flags.is_empty() {
            options += &format!(" -b {}", flags.join(","));
        }
        if self.kind == Kind::AnyPort || rng.u8(0..4) == 0 {
            options += &format!(" -p {}", rng.u32(2..=12) * 30);
            if rng.bool() {
                let masks = [
                    ("255.255.255.0", "120"),
                    ("255.255.255.240", "124"),
                    ("255.255.255.252", "126"),
                    ("255.255.0.0", "64"),
                ];
                let (v4, v6) = masks[rng.usize(0..masks.len())];
                options += &format!(" -M {}", if self.is_v6 { v6 } else { v4 });
            }
        }
        // With NAT no reply finds its way back.
        let may = self.tcp.is_empty() && self.kind != Kind::Mark && self.servers.iter().all(|it| !it.nat);
        self.one_packet = may && rng.u8(0..3) == 0;
        if self.one_packet {
            options += " -o";
        }
        options
    }

    /// Another server for it, if there is room.
    pub fn another(&self, rng: &mut Rng) -> Option<Server> {
        if self.servers.len() == 4 || (self.scheduler == "twos" && !self.servers.is_empty()) {
            return None;
        }
        // Those that have been here come back more often than not, and as they were: see `Story::leave_alone`.
        if !self.removed.is_empty() && rng.u8(0..3) != 0 {
            let back = self.removed[rng.usize(0..self.removed.len())].clone();
            return if self.one_packet && back.nat { None } else { self.fresh(back) };
        }
        let last = rng.u8(11..=14);
        let address = if self.is_v6 { format!("fd00:1::{last}") } else { format!("10.1.0.{last}") };
        let nat = !self.one_packet && rng.bool();
        let name = match self.kind {
            Kind::AnyPort => address,
            Kind::Mark if rng.bool() => address,
            Kind::Port(port) if !nat || rng.bool() => at(&address, port),
            _ => at(&address, PORTS[rng.usize(0..PORTS.len())]),
        };
        self.fresh(Server { name, nat })
    }

    /// A server with the port of the service can be reached without NAT.
    pub fn may_be_direct(&self, server: &str) -> bool {
        match self.kind {
            Kind::Port(port) => server.ends_with(&format!(":{port}")),
            Kind::AnyPort | Kind::Mark => true,
        }
    }

    fn fresh(&self, server: Server) -> Option<Server> {
        let there = self.servers.iter().any(|it| it.name == server.name);
        let was_another = self.removed.iter().any(|it| it.name == server.name && it.nat != server.nat);
        (!there && !was_another).then_some(server)
    }
}

/// The weight and the thresholds that `-a` and `-e` say.
pub fn server_options(nat: bool, rng: &mut Rng) -> String {
    const WEIGHTS: [u32; 8] = [0, 1, 1, 2, 3, 4, 6, 100];
    let mut options = String::from(if nat { "-m" } else { "-g" });
    options += &format!(" -w {}", WEIGHTS[rng.usize(0..WEIGHTS.len())]);
    if rng.u8(0..4) == 0 {
        let upper = rng.u32(1..=5);
        options += &format!(" -x {upper}");
        if rng.bool() {
            options += &format!(" -y {}", rng.u32(0..=upper));
        }
    }
    options
}
