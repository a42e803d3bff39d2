//! Scenarios: `ipvsadm` lines and real traffic, played against xvs; the transcript must be the kernel's.
//!
//! `tests/scenarios` has the scenarios, `tests/transcripts` what kernel IPVS (Linux 6.12.117, ipvsadm 1.31)
//! did with each; `scripts/record-transcripts.sh` records them again. Needs root.

mod client;
mod director;
mod itself;
mod lab;
#[allow(dead_code, reason = "shared: no test binary uses all of it")]
#[path = "../common/netns.rs"]
mod netns;
mod player;
#[allow(dead_code, reason = "shared: no test binary uses all of it")]
#[path = "../common/process.rs"]
mod process;
mod random;
#[path = "../common/server.rs"]
mod real_server;
mod script;
mod server;
mod transcript;
#[allow(dead_code, reason = "shared: no test binary uses all of it")]
#[path = "../common/wire.rs"]
mod wire;
mod xvs;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use transcript::Deliberate;

/// Where xvs differs from the kernel on purpose.
const DELIBERATE: &[Deliberate] = &[Deliberate {
    scenario: "52-no-service-left.txt",
    command: "udp 1 10.0.1.2:5002 10.0.0.101:53",
    kernel: "refused",
    xvs: "timeout",
    reason: "without any service the kernel unregisters the hooks of IPVS, so that the host's stack resets what comes \
             between `ipvsadm -C` and `ipvsadm -R`; with xvs connections wait for their servers as they do while \
             there is another service",
}];

/// Scenarios whose transcript depends on a moment, with the reason: played again, so often at most, if it was missed.
const MOMENTS: &[(&str, usize)] = &[
    // `ipvsadm -Z` takes away what the estimator has seen, and the recording is of one that had not yet looked, which it
    // does every two seconds.
    ("10-listing-save-restore.txt", 3),
];

/// One test for each scenario.
macro_rules! scenarios {
    ($($played:ident $file:literal,)*) => {
        /// Every scenario that has a test.
        const SCENARIOS: &[&str] = &[$($file,)*];
        $(
            #[test]
            fn $played() {
                play_against_xvs($file);
            }
        )*
    };
}

scenarios! {
        rr_wrr "01-rr-wrr.txt",
        least_connection "02-least-connection.txt",
        hashing "03-hashing.txt",
        locality_overflow_failover "04-locality-overflow-failover.txt",
        persistence "05-persistence.txt",
        tcp_states_nat "06-tcp-states-nat.txt",
        tcp_states_dr "07-tcp-states-dr.txt",
        server_leaves "08-server-leaves.txt",
        ipvsadm_errors "09-ipvsadm-errors.txt",
        listing_save_restore "10-listing-save-restore.txt",
        howtos "11-howtos.txt",
        reuse_mode_off "12-reuse-mode-off.txt",
        service_made_again "50-service-made-again.txt",
        nat_to_dr_with_connections "51-nat-to-dr-with-connections.txt",
        no_service_left "52-no-service-left.txt",
}

fn play_against_xvs(file: &str) {
    let script = script::parse(&read("scenarios", file)).unwrap_or_else(|error| panic!("{file}, {error}"));
    let plays = MOMENTS.iter().find(|(name, _)| *name == file).map_or(1, |(_, plays)| *plays);
    for play in 1..=plays {
        let mut lab = lab::Lab::new();
        let xvs = xvs::Director::start(&lab, Path::new(env!("CARGO_BIN_EXE_xvs")));
        let got = player::play(&mut lab, &xvs, &script, player::PATIENCE);
        let deliberate: Vec<_> = DELIBERATE.iter().filter(|it| it.scenario == file).collect();
        match transcript::compare(&read("transcripts", file), &got, &deliberate) {
            Ok(()) => return,
            Err(difference) if play < plays => println!("{file}, played again:\n{difference}"),
            // It still runs: as it is dropped by a panic, it prints its log.
            Err(difference) => {
                panic!("{file}: the kernel's transcript (-) and that of xvs (+) differ:\n{difference}")
            }
        }
    }
}

fn dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn read(kind: &str, file: &str) -> String {
    fs::read_to_string(dir(kind).join(file)).unwrap_or_else(|error| panic!("tests/{kind}/{file}: {error}"))
}

#[test]
fn every_scenario_has_a_test_and_a_transcript() {
    let files = |kind: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(dir(kind)).expect("a directory");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    };
    let tested: BTreeSet<String> = SCENARIOS.iter().map(ToString::to_string).collect();
    assert_eq!(tested, files("scenarios"));
    assert_eq!(tested, files("transcripts"));
    for it in DELIBERATE {
        assert!(tested.contains(it.scenario) && !it.reason.is_empty(), "{it:?}");
    }
}

/// What the generator means to be refused is refused, and nothing else. Whether the rest is right is for the kernel
/// to say: `scripts/against-ipvs.sh`.
#[test]
fn random_scenarios_are_played_without_refusals() {
    for seed in [1, 2] {
        let text = random::scenario(seed);
        let mut lab = lab::Lab::new();
        let xvs = xvs::Director::start(&lab, Path::new(env!("CARGO_BIN_EXE_xvs")));
        let got = player::play(&mut lab, &xvs, &script::parse(&text).expect("understood"), player::PATIENCE);
        let steps = got.strip_prefix("> ").expect("a command first").split("\n> ");
        for step in steps {
            let refused = step.contains("\n  exit ") || step.contains("\n  failed: ");
            assert_eq!(refused, step.contains("# an error"), "seed {seed}: {step}");
        }
    }
}
