//! Random scenarios: the same seed gives the same scenario, and directors that follow the same rules give it the same
//! transcript.
//!
//! A scenario is a story of services that come, change and go under traffic, told step by step. What a kernel
//! leaves to chance or to the moment must not come up, or a transcript would prove nothing:
//! - `twos` draws: it has one server at most;
//! - a scheduler that looks at client ports gets only ports that are chosen here;
//! - conns show expiries rounded up to 30 s: timeouts are multiples of that, and the story ends before the first 30 s
//!   are over. Connections in CLOSE live 10 s only: after a reset the story ends, or waits until they are gone;
//! - a client whose packets are dropped sends them again, nobody knows when: after each such wait it resets;
//! - without any service the kernel takes IPVS out of the way of packets, which xvs does not (scenario 52): connections
//!   are used only while there is one;
//! - the kernel remembers one route to a server for NAT and for DR: no connection is used across such a change;
//! - `-Z` takes away what the estimator has seen, and so does making a service anew: both come after a look at the
//!   counters.
//!
//! A new kind of step is a function and a line in [`STEPS`]. Must not know how anything is played.

mod service;
mod steps;

use fastrand::Rng;

use service::Service;

/// What a step adds to a story; false if it cannot be told now, and then nothing was added.
type Step = fn(&mut Story) -> bool;

/// Every kind of step, and how often it is drawn among all of them.
const STEPS: &[(u32, Step)] = &[
    (14, steps::open),
    (8, steps::tcp),
    (4, steps::clients),
    (8, steps::udp),
    (4, steps::udp_again),
    (6, steps::send),
    (6, steps::close),
    (4, steps::server_closes),
    (3, steps::reset),
    (5, steps::port_again),
    (1, steps::forsaken),
    (2, steps::add_service),
    (5, steps::add_server),
    (8, steps::edit_server),
    (4, steps::delete_server),
    (4, steps::edit_service),
    (1, steps::delete_service),
    (1, steps::clear),
    (1, steps::save_and_restore),
    (2, steps::zero),
    (3, steps::tune),
    (1, steps::timeouts),
    (1, steps::time_passes),
    (1, steps::server_stops),
    (2, steps::mistake),
];

/// How many steps a story has before its end, at most.
const MOST_STEPS: usize = 40;
/// How long a story may take, in milliseconds as they are guessed here.
const MOST_MS: u32 = 18_000;
/// How long a story goes on beside connections that live 10 s.
const BESIDE_SHORT_MS: u32 = 4_000;
/// What is waited until they are gone.
const SHORT_GONE_S: u32 = 11;
/// Connections that may be waited for in vain.
const VAIN_WAITS: u32 = 3;

/// A connection that a client has opened, or tried to.
#[derive(Clone, Debug)]
struct Conn {
    id: String,
    client: String,
    /// ADDRESS:PORT.
    to: String,
    /// The number of its service.
    service: usize,
}

/// A story as far as it is told.
struct Story {
    rng: Rng,
    lines: Vec<String>,
    services: Vec<Service>,
    /// How many services there ever were.
    born: usize,
    /// Open as far as is known: nothing has happened to their server.
    conns: Vec<Conn>,
    /// Of servers or services that have gone: their packets may be dropped.
    forsaken: Vec<Conn>,
    /// Ended by both sides: their ports are free again.
    ended: Vec<Conn>,
    /// UDP's sockets, by their ports, which have no ids.
    sockets: Vec<Conn>,
    /// How many connections had names.
    named: usize,
    ports: std::collections::HashSet<u16>,
    spent_ms: u32,
    /// When the story has to stop for connections of 10 s.
    stop_ms: Option<u32>,
    vain_waits: u32,
}

/// The scenario of `seed`.
pub fn scenario(seed: u64) -> String {
    let mut story = Story::new(seed);
    for _ in 0..story.rng.usize(1..=3) {
        steps::add_service(&mut story);
    }
    for _ in 0..story.rng.usize(15..=MOST_STEPS) {
        if story.has_to_stop() && !story.outlive_the_short() {
            break;
        }
        story.go_on();
        story.look_around();
    }
    for line in ["conns", "list", "ipvsadm -Ln --thresholds", "ipvsadm -Sn", "traffic"] {
        story.say(line);
    }
    format!("# Random scenario {seed}\n{}\n", story.lines.join("\n"))
}

impl Story {
    fn new(seed: u64) -> Self {
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
            ports: std::collections::HashSet::new(),
            spent_ms: 0,
            stop_ms: None,
            vain_waits: 0,
        }
    }

    /// One step, of those that can be told now.
    fn go_on(&mut self) {
        let total = STEPS.iter().map(|(often, _)| often).sum();
        loop {
            let mut drawn = self.rng.u32(0..total);
            let step = STEPS.iter().find(|(often, _)| {
                let found = drawn < *often;
                drawn = drawn.saturating_sub(*often);
                found
            });
            let (_, step) = step.expect("less than all together");
            if step(self) {
                return;
            }
        }
    }

    /// A listing, now and then.
    fn look_around(&mut self) {
        const LOOKS: [&str; 8] = [
            "list",
            "list",
            "conns",
            "conns",
            "ipvsadm -Ln --thresholds",
            "ipvsadm -Ln --persistent-conn",
            "ipvsadm -Sn",
            "ipvsadm -Ln",
        ];
        if self.one_in(3) {
            let look = self.pick(&LOOKS);
            self.say(look);
        }
    }

    fn has_to_stop(&self) -> bool {
        self.spent_ms > MOST_MS || self.stop_ms.is_some_and(|stop| self.spent_ms > stop)
    }

    /// Waits until connections of 10 s are gone, if there is the time and the luck.
    fn outlive_the_short(&mut self) -> bool {
        let waits = self.spent_ms < MOST_MS / 2 && self.rng.bool();
        if waits {
            self.say("conns");
            self.wait(&SHORT_GONE_S.to_string(), SHORT_GONE_S * 1_000);
            self.stop_ms = None;
        }
        waits
    }

    fn say(&mut self, line: impl Into<String>) {
        const GUESS_MS: [(&str, u32); 6] =
            [("traffic", 2_300), ("ipvsadm", 60), ("list", 60), ("conns", 60), ("mark", 60), ("tune", 60)];
        const CLIENT_MS: u32 = 90;
        let line = line.into();
        let guess = GUESS_MS.iter().find(|(verb, _)| line.starts_with(verb));
        self.spent_ms += guess.map_or(CLIENT_MS, |(_, ms)| *ms);
        self.lines.push(line);
    }

    fn wait(&mut self, seconds: &str, ms: u32) {
        self.say(format!("wait {seconds}"));
        self.spent_ms += ms;
    }

    /// There may be connections of 10 s from now on.
    fn short_lived(&mut self) {
        self.stop_ms.get_or_insert(self.spent_ms + BESIDE_SHORT_MS);
    }

    fn pick<T: Clone>(&mut self, among: &[T]) -> T {
        among[self.rng.usize(0..among.len())].clone()
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(0..n) == 0
    }

    /// A client address; more of them than there are servers, in more than one net of any mask used here.
    fn client(&mut self) -> String {
        const CLIENTS: [u8; 12] = [1, 2, 3, 5, 9, 14, 17, 18, 33, 40, 50, 64];
        format!("10.0.1.{}", self.pick(&CLIENTS))
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
    fn service(&mut self, fits: impl Fn(&Service) -> bool) -> Option<usize> {
        let fitting: Vec<_> = (0..self.services.len()).filter(|i| fits(&self.services[*i])).collect();
        (!fitting.is_empty()).then(|| self.pick(&fitting))
    }

    /// Whether packets of a connection to it may be dropped: it has lost a server, or has gone itself.
    fn has_lost(&self, number: usize) -> bool {
        self.services.iter().find(|it| it.number == number).is_none_or(|it| !it.removed.is_empty())
    }

    /// A client may wait in vain; false if there was enough of that.
    fn may_wait(&mut self) -> bool {
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
    fn leave_alone(&mut self, number: usize) {
        for conns in [&mut self.conns, &mut self.forsaken, &mut self.ended, &mut self.sockets] {
            conns.retain(|conn| conn.service != number);
        }
    }

    /// What happened to a service leaves its connections alone with whatever is left of it.
    fn forsake(&mut self, number: usize) {
        let (gone, left) = self.conns.drain(..).partition(|conn| conn.service == number);
        self.conns = left;
        self.forsaken.extend::<Vec<_>>(gone);
        self.ended.retain(|conn| conn.service != number);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::script::{Verb, parse};

    #[test]
    fn every_seed_is_a_scenario_of_its_own_and_always_the_same() {
        let mut all = BTreeSet::new();
        for seed in 0..300 {
            let text = scenario(seed);
            let script = parse(&text).unwrap_or_else(|error| panic!("seed {seed}, {error}"));
            assert!((12..140).contains(&script.len()), "seed {seed} has {} lines", script.len());
            assert_eq!(text, scenario(seed), "seed {seed}");
            all.insert(text.split_once('\n').expect("a comment").1.to_owned());
        }
        assert_eq!(all.len(), 300);
    }

    /// What is proven is what comes up.
    #[test]
    fn everything_comes_up() {
        let all: String = (0..300).map(scenario).collect();
        for scheduler in service::SCHEDULERS {
            assert!(all.contains(&format!("-s {scheduler} ")) || all.contains(&format!("-s {scheduler}\n")));
        }
        for part in [
            "ipvsadm -A -t",
            "ipvsadm -A -u",
            "ipvsadm -A -f",
            "ipvsadm -E -t",
            "ipvsadm -E -u",
            "ipvsadm -E -f",
            "ipvsadm -D -",
            "ipvsadm -C\n",
            "ipvsadm -a -t",
            "ipvsadm -e -t",
            "ipvsadm -d -t",
            "ipvsadm -a -f",
            "ipvsadm -R <",
            "ipvsadm -Z",
            "ipvsadm --set",
            " -p ",
            " -M ",
            ":0 ",
            " -o",
            " -w 0",
            " -x ",
            " -y ",
            " -m",
            " -g",
            "sh-fallback",
            "sh-port",
            "mh-fallback",
            "mh-port",
            "expire_nodest_conn=1",
            "expire_quiescent_template=1",
            "conn_reuse_mode=0",
            "sloppy_tcp=1",
            "\nopen",
            "\nsend",
            "\nclose",
            "\nreset",
            "\nsclose",
            "\ntcp",
            "\nudp ",
            "\nudpeach",
            "\nclients",
            "\nmark",
            "\nserver",
            "# an error",
        ] {
            assert!(all.contains(part), "{part}");
        }
    }

    /// Only one server can be drawn.
    #[test]
    fn twos_has_one_server() {
        for seed in 0..300 {
            let mut servers = std::collections::HashMap::new();
            for line in parse(&scenario(seed)).expect("understood") {
                let Verb::Ipvsadm(arguments) = line.verb else { continue };
                let words: Vec<_> = arguments.split(' ').collect();
                let name = words.get(1..3).map(|name| name.join(" ")).unwrap_or_default();
                let twos = arguments.contains("-s twos");
                match words[0] {
                    _ if arguments.contains("# an error") => {}
                    "-A" => drop(servers.insert(name, (twos, 0))),
                    "-E" => servers.get_mut(&name).expect("there").0 = twos,
                    "-a" => servers.get_mut(&name).expect("there").1 += 1,
                    "-d" => servers.get_mut(&name).expect("there").1 -= 1,
                    "-D" => drop(servers.remove(&name)),
                    "-C" if !arguments.contains("restored") => servers.clear(),
                    _ => {}
                }
                assert!(servers.values().all(|&(twos, n)| !twos || n <= 1), "seed {seed}");
            }
        }
    }
}
