//! Plays a script in a lab, line by line, and writes the transcript.

use std::fmt::Write as _;
use std::process::Output;
use std::thread;
use std::time::Duration;

use crate::client::Client;
use crate::director::Director;
use crate::icmp::{Ears, forge};
use crate::lab::Lab;
use crate::script::{Line, Verb};
use crate::transcript::{by_service, conns, counts, lines, states, traffic};

/// How long a client waits for an answer before it counts as none. Some scenarios have clients that get none.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// How long a packet that nobody waits for may take to the director.
const SETTLE: Duration = Duration::from_millis(50);

const STATS: &str = "-Ln --nosort --stats --exact";

/// Plays `script` against a director that runs in `lab`; the transcript.
pub fn play(lab: &mut Lab, director: &dyn Director, script: &[Line], patience: Duration) -> String {
    let client = Client::new(&lab.netns("cl"), patience);
    let ears = Ears::new(lab.ends());
    let mut player = Player { lab, director, client, ears, patience };
    let mut transcript = String::new();
    for line in script {
        writeln!(transcript, "> {}", line.text).expect("a String");
        for said in player.act(&line.verb) {
            writeln!(transcript, "  {said}").expect("a String");
        }
    }
    transcript
}

struct Player<'a> {
    lab: &'a mut Lab,
    director: &'a dyn Director,
    client: Client,
    ears: Ears,
    patience: Duration,
}

impl Player<'_> {
    fn act(&mut self, verb: &Verb) -> Vec<String> {
        match verb {
            Verb::Ipvsadm(arguments) => return self.administer(arguments),
            Verb::List(arguments) => return self.administer(&format!("-Ln --nosort {arguments}")),
            Verb::Stats => {
                thread::sleep(self.director.counters_lag());
                return self.administer(STATS);
            }
            Verb::Counts => {
                thread::sleep(self.director.counters_lag());
                return counts(&text(&self.ipvsadm(STATS).stdout));
            }
            Verb::Traffic => {
                thread::sleep(self.director.counters_lag());
                return traffic(&text(&self.ipvsadm(STATS).stdout));
            }
            Verb::Conns => return conns(&text(&self.ipvsadm("-Lnc").stdout)),
            Verb::States => return states(&text(&self.ipvsadm("-Lnc").stdout)),
            Verb::Engines => return conns(&text(&self.ipvsadm("-Lnc --persistent-conn").stdout)),
            Verb::Tune(setting) => return self.set(&self.director.tune(setting)),
            Verb::Tuned(name) => return lines(&text(&self.lab.shell(&self.director.tuned(name)).stdout)),
            Verb::Helper(name) => return self.set(&self.director.helper(name)),
            Verb::Mark { mark, protocol, to } => return self.set(&self.director.mark(*mark, protocol, *to)),
            Verb::Wait(time) => thread::sleep(*time),
            Verb::Server { name, up } => self.lab.server(name, *up),
            Verb::Mtu { host, device, bytes } => self.lab.mtu(host, device, *bytes),
            Verb::Tunnel { host, kind } => self.lab.tunnel(host, *kind),
            Verb::Errors => return self.ears.heard(),
            Verb::Forge { host, what } => {
                if let Err(error) = forge(&self.lab.netns(host), what) {
                    return vec![format!("failed: {error}")];
                }
            }
            Verb::Client(ask) => return vec![self.client.ask(ask)],
            Verb::Bare { host, packet } => {
                let got = packet.send(&self.lab.netns(host), &self.lab.ends(), self.patience);
                thread::sleep(SETTLE);
                return vec![got];
            }
        }
        Vec::new()
    }

    /// Runs a command line that says something only when it fails.
    fn set(&self, line: &str) -> Vec<String> {
        let set = self.lab.shell(line);
        if set.status.success() {
            return Vec::new();
        }
        let why = if set.stderr.is_empty() { set.stdout } else { set.stderr };
        vec![format!("failed: {}", text(&why).trim())]
    }

    fn ipvsadm(&self, arguments: &str) -> Output {
        // What a scenario means to keep in /tmp is kept in the lab's directory, so that labs do not share it.
        let arguments = arguments.replace("/tmp/", &format!("{}/", self.lab.dir().display()));
        self.lab.shell(&format!("{} {arguments}", self.director.ipvsadm()))
    }

    /// Both outputs, and the exit status when it is not 0.
    fn administer(&self, arguments: &str) -> Vec<String> {
        let done = self.ipvsadm(arguments);
        let mut said = lines(&(text(&done.stdout) + &text(&done.stderr)));
        if arguments.contains("--nosort") {
            said = by_service(&said);
        }
        said.retain(|line| !line.trim().is_empty());
        if !done.status.success() {
            said.push(
                done.status.code().map_or_else(|| done.status.to_string(), |code| format!("exit {code}")),
            );
        }
        said
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
