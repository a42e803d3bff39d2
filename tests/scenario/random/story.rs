//! A story as far as it is told: what there is, what may happen to it yet, and the time it takes.
//!
//! Must not know the steps.

use std::collections::HashSet;

use fastrand::Rng;

use super::service::Service;

/// How long a story may take, in milliseconds as they are guessed here.
const MOST_MS: u32 = 18_000;
/// How long a story goes on beside connections that live 10 s.
const BESIDE_SHORT_MS: u32 = 4_000;
/// What is waited until they are gone.
const SHORT_GONE_S: u32 = 11;
/// Connections that may be waited for in vain.
const VAIN_WAITS: u32 = 3;

/// Whether an address, with a port or without, is one of IPv6.
pub fn is_v6(address: &str) -> bool {
    address.matches(':').count() > 1
}

/// ADDRESS:PORT, or with brackets.
pub fn at(address: &str, port: u16) -> String {
    if is_v6(address) { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// A connection that a client has opened, or tried to.
#[derive(Clone, Debug)]
pub struct Conn {
    pub id: String,
    pub client: String,
    /// ADDRESS:PORT.
    pub to: String,
    /// The number of its service.
    pub service: usize,
}

/// A story as far as it is told.
pub struct Story {
    pub rng: Rng,
    lines: Vec<String>,
    pub services: Vec<Service>,
    /// How many services there ever were.
    pub born: usize,
    /// Open as far as is known: nothing has happened to their server.
    pub conns: Vec<Conn>,
    /// Of servers or services that have gone: their packets may be dropped.
    pub forsaken: Vec<Conn>,
    /// Ended by both sides: their ports are free again.
    pub ended: Vec<Conn>,
    /// UDP's sockets, by their ports, which have no ids.
    pub sockets: Vec<Conn>,
    /// How many connections had names.
    pub named: usize,
    ports: HashSet<u16>,
    pub spent_ms: u32,
    /// When the story has to stop for connections of 10 s.
    pub stop_ms: Option<u32>,
    vain_waits: u32,
}

impl Story {
    /// Nothing yet.
    pub fn new(seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            lines: Vec::new(),
            services: Vec::new(),
            born: 0,
            conns: Vec::new(),
            forsaken: Vec::new(),
            ended: Vec::new(),
            sockets: Vec::new(),
            named: 0,
            ports: HashSet::new(),
            spent_ms: 0,
            stop_ms: None,
            vain_waits: 0,
        }
    }

    /// All of it.
    pub fn told(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Whether its time is over.
    pub fn has_to_stop(&self) -> bool {
        self.spent_ms > MOST_MS || self.stop_ms.is_some_and(|stop| self.spent_ms > stop)
    }

    /// Waits until connections of 10 s are gone, if there is the time and the luck.
    pub fn outlive_the_short(&mut self) -> bool {
        let waits = self.spent_ms < MOST_MS / 2 && self.rng.bool();
        if waits {
            self.say("conns");
            self.wait(&SHORT_GONE_S.to_string(), SHORT_GONE_S * 1_000);
            self.stop_ms = None;
        }
        waits
    }

    /// The next line.
    pub fn say(&mut self, line: impl Into<String>) {
        const GUESS_MS: [(&str, u32); 6] =
            [("traffic", 2_300), ("ipvsadm", 60), ("list", 60), ("conns", 60), ("mark", 60), ("tune", 60)];
        const CLIENT_MS: u32 = 90;
        let line = line.into();
        let guess = GUESS_MS.iter().find(|(verb, _)| line.starts_with(verb));
        // A client that the kernel refuses over IPv6 takes most of a second in the guest.
        if guess.is_none() && line.contains("fd00:") {
            let clients = line.split(' ').nth(1).and_then(|count| count.parse::<u32>().ok());
            self.spent_ms += 300 * clients.unwrap_or(1);
        }
        self.spent_ms += guess.map_or(CLIENT_MS, |(_, ms)| *ms);
        // Nobody listens there, and what is refused is in CLOSE.
        if guess.is_none() && line.ends_with(":8888") {
            self.short_lived();
        }
        self.lines.push(line);
    }

    /// Nothing happens for so long.
    pub fn wait(&mut self, seconds: &str, ms: u32) {
        self.say(format!("wait {seconds}"));
        self.spent_ms += ms;
    }

    /// There may be connections of 10 s from now on.
    pub fn short_lived(&mut self) {
        self.stop_ms.get_or_insert(self.spent_ms + BESIDE_SHORT_MS);
    }

    /// One of some.
    pub fn pick<T: Clone>(&mut self, among: &[T]) -> T {
        among[self.rng.usize(0..among.len())].clone()
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(0..n) == 0
    }

    /// A client address for the target `to`; more of them than there are servers, in more than one net of any mask used here.
    pub fn client_of(&mut self, to: &str) -> String {
        const CLIENTS: [u8; 12] = [1, 2, 3, 5, 9, 14, 17, 18, 33, 40, 50, 64];
        let last = self.pick(&CLIENTS);
        if is_v6(to) { format!("fd00::1:{last:x}") } else { format!("10.0.1.{last}") }
    }

    /// A client address with a port that no client had before.
    pub fn client_port_of(&mut self, to: &str) -> String {
        let client = self.client_of(to);
        at(&client, self.port())
    }

    /// A port that no client had before: two connections of one port to one server would be one to NAT.
    fn port(&mut self) -> u16 {
        loop {
            let port = self.rng.u16(2_000..31_000);
            if self.ports.insert(port) {
                return port;
            }
        }
    }

    /// The number of a service that `fits`.
    pub fn service(&mut self, fits: impl Fn(&Service) -> bool) -> Option<usize> {
        let fitting: Vec<_> = (0..self.services.len()).filter(|i| fits(&self.services[*i])).collect();
        (!fitting.is_empty()).then(|| self.pick(&fitting))
    }

    /// Whether packets of a connection to it may be dropped: it has lost a server, or has gone itself.
    pub fn has_lost(&self, number: usize) -> bool {
        self.services.iter().find(|it| it.number == number).is_none_or(|it| !it.removed.is_empty())
    }

    /// A client may wait in vain; false if there was enough of that.
    pub fn may_wait(&mut self) -> bool {
        const PATIENCE_MS: u32 = 3_000;
        let may = self.vain_waits < VAIN_WAITS;
        if may {
            self.vain_waits += 1;
            self.spent_ms += PATIENCE_MS;
        }
        may
    }

    /// Nothing more is heard of a service's connections: one of its servers is forwarded to in another way from now on. The
    /// kernel remembers one route to a server, and with a route of NAT its packets of DR go astray.
    pub fn leave_alone(&mut self, number: usize) {
        for conns in [&mut self.conns, &mut self.forsaken, &mut self.ended, &mut self.sockets] {
            conns.retain(|conn| conn.service != number);
        }
    }

    /// What happened to a service leaves its connections alone with whatever is left of it.
    pub fn forsake(&mut self, number: usize) {
        let (gone, left) = self.conns.drain(..).partition(|conn| conn.service == number);
        self.conns = left;
        self.forsaken.extend::<Vec<_>>(gone);
        self.ended.retain(|conn| conn.service != number);
    }
}
