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
//! - servers are of the IP version of their service: with another they are for tunnels, of which there are none here;
//! - `-Z` takes away what the estimator has seen, and so does making a service anew: both come after a look at the
//!   counters.
//!
//! A new kind of step is a function and a line in [`STEPS`]; every seed then tells another story. Must not know how
//! anything is played.

mod changes;
mod service;
mod settings;
mod story;
mod traffic;

use story::Story;

/// What a step adds to a story; false if it cannot be told now, and then nothing was added.
type Step = fn(&mut Story) -> bool;

/// Every kind of step, and how often it is drawn among all of them.
const STEPS: &[(u32, Step)] = &[
    (14, traffic::open),
    (8, traffic::tcp),
    (4, traffic::clients),
    (8, traffic::udp),
    (4, traffic::udp_again),
    (6, traffic::send),
    (6, traffic::close),
    (4, traffic::server_closes),
    (3, traffic::reset),
    (5, traffic::port_again),
    (1, traffic::forsaken),
    (2, changes::add_service),
    (5, changes::add_server),
    (8, changes::edit_server),
    (4, changes::delete_server),
    (4, changes::edit_service),
    (1, changes::delete_service),
    (1, changes::clear),
    (1, changes::save_and_restore),
    (2, settings::zero),
    (3, settings::tune),
    (1, settings::timeouts),
    (1, settings::time_passes),
    (1, settings::server_stops),
    (2, settings::mistake),
];

/// How many steps a story has before its end, at most.
const MOST_STEPS: usize = 40;
/// The scenario of `seed`.
pub fn scenario(seed: u64) -> String {
    let mut story = Story::new(seed);
    for _ in 0..story.rng.usize(1..=3) {
        changes::add_service(&mut story);
    }
    for _ in 0..story.rng.usize(15..=MOST_STEPS) {
        if story.has_to_stop() && !story.outlive_the_short() {
            break;
        }
        go_on(&mut story);
        look_around(&mut story);
    }
    for line in ["conns", "list", "ipvsadm -Ln --thresholds", "ipvsadm -Sn", "traffic"] {
        story.say(line);
    }
    format!("# Random scenario {seed}\n{}", story.told())
}

/// One step, of those that can be told now.
fn go_on(story: &mut Story) {
    let total = STEPS.iter().map(|(often, _)| often).sum();
    loop {
        let mut drawn = story.rng.u32(0..total);
        let step = STEPS.iter().find(|(often, _)| {
            let found = drawn < *often;
            drawn = drawn.saturating_sub(*often);
            found
        });
        let (_, step) = step.expect("less than all together");
        if step(story) {
            return;
        }
    }
}

/// A listing, now and then.
fn look_around(story: &mut Story) {
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
    if story.one_in(3) {
        let look = story.pick(&LOOKS);
        story.say(look);
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
            "ipvsadm -A -t [fd00::",
            "ipvsadm -A -u [fd00::",
            " -r [fd00:1::",
            " -r fd00:1::",
            " -6 -s ",
            " -M 126",
            "\ntcp 1 [fd00::1:",
            "\nudpeach 1 [fd00::1:",
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
