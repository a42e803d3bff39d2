//! Scenarios: `ipvsadm` lines and real traffic, played against xvs; the transcript must be the kernel's, whether or not the
//! steering program forwards established connections.
//!
//! `tests/scenarios` has the scenarios, `tests/transcripts` what kernel IPVS (Linux 6.12.117, ipvsadm 1.31)
//! did with each; `scripts/record-transcripts.sh` records them again. Needs root.

mod bare;
mod client;
#[allow(dead_code, reason = "shared: nobody counts here")]
#[path = "../traffic/decapsulator.rs"]
mod decapsulator;
mod director;
mod icmp;
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
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread::{self, ScopedJoinHandle};

use transcript::Deliberate;

/// Where xvs differs from the kernel on purpose.
const DELIBERATE: &[Deliberate] = &[
    Deliberate {
        scenario: "52-no-service-left.txt",
        command: "udp 1 10.0.1.2:5002 10.0.0.101:53",
        kernel: "refused",
        xvs: "timeout",
        reason: "without any service the kernel unregisters the hooks of IPVS, so that the host's stack resets what comes \
             between `ipvsadm -C` and `ipvsadm -R`; with xvs connections wait for their servers as they do while \
             there is another service",
    },
    Deliberate {
        scenario: "25-sctp-nat.txt",
        command: "sctp cl data! 10.0.1.1:7001 10.0.0.100:5000",
        kernel: "r2 gets SCTP 10.0.1.1:7001 to 10.1.0.12:5012",
        xvs: "r2 gets SCTP 10.0.1.1:7001 to 10.1.0.12:5012, with a wrong checksum",
        reason: DAMAGED,
    },
    Deliberate {
        scenario: "25-sctp-nat.txt",
        command: "sctp r2 data! 10.1.0.12:5012 10.0.1.1:7001",
        kernel: "cl gets SCTP 10.0.0.100:5000 to 10.0.1.1:7001",
        xvs: "cl gets SCTP 10.0.0.100:5000 to 10.0.1.1:7001, with a wrong checksum",
        reason: DAMAGED,
    },
    counted(
        "UDP  10.0.0.101:53                       1        1        1     1401      576",
        "UDP  10.0.0.101:53                       1        1        0     1401        0",
        OWN_ERROR,
    ),
    counted(
        "  -> 10.1.0.12:53                        1        1        1     1401      576",
        "  -> 10.1.0.12:53                        1        1        0     1401        0",
        OWN_ERROR,
    ),
    counted(
        "UDP  10.0.0.100:53                       3        3        2     2833       62",
        "UDP  10.0.0.100:53                       3        3        3     2833     1540",
        TOO_LONG,
    ),
    counted(
        "  -> 10.1.0.11:53                        3        3        2     2833       62",
        "  -> 10.1.0.11:53                        3        3        3     2833     1540",
        TOO_LONG,
    ),
];

const OWN_ERROR: &str = "the kernel's own ICMP error to a client of a DR server counts as a packet of that server, \
                         since it passes through IPVS once more on its way out; by NAT it does not. Here it never does";
const TOO_LONG: &str = "a client's packet that is too long for the way on counts, as it has been seen; a server's does \
                        not in the kernel, which finds out before IPVS sees it. Here both count";

const fn counted(kernel: &'static str, xvs: &'static str, reason: &'static str) -> Deliberate {
    Deliberate { scenario: "36-fragmentation-needed.txt", command: "stats", kernel, xvs, reason }
}

const DAMAGED: &str = "what was damaged on its way to the director must not get a right checksum there";

/// Scenarios whose transcript depends on a moment, with the reason: played again, so often at most, if it was missed.
const MOMENTS: &[(&str, usize)] = &[
    // `ipvsadm -Z` takes away what the estimator has seen, and the recording is of one that had not yet looked, which it
    // does every two seconds.
    ("10-listing-save-restore.txt", 3),
];

/// Scenarios in which much is offloaded, and a part of it in time for the next packets, whatever the machine's load. Of those of
/// IPv6, 63 has no traffic, 70 fragments, 74 connections of one packet that fits; 64 has connections with a helper, and such as last
/// a moment.
const CARRIED: &[&str] = &[
    "01-rr-wrr.txt",
    "02-least-connection.txt",
    "03-hashing.txt",
    "05-persistence.txt",
    "06-tcp-states-nat.txt",
    "08-server-leaves.txt",
    "11-howtos.txt",
    "60-ipv6-schedulers.txt",
    "61-ipv6-persistence.txt",
    "62-ipv6-states.txt",
    "71-ipv6-tun.txt",
    "72-ipv6-too-big.txt",
    "73-ipv6-errors.txt",
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
        secure_tcp_nat "20-secure-tcp-nat.txt",
        secure_tcp_dr "21-secure-tcp-dr.txt",
        drop_packet "22-drop-packet.txt",
        limits "23-limits.txt",
        maglev_full "24-maglev-full.txt",
        sctp_nat "25-sctp-nat.txt",
        sctp_dr "26-sctp-dr.txt",
        sctp_rules "27-sctp-rules.txt",
        ipsec "28-ipsec.txt",
        port_unreachable "35-port-unreachable.txt",
        fragmentation_needed "36-fragmentation-needed.txt",
        nat_icmp_send "37-nat-icmp-send.txt",
        schedule_icmp "38-schedule-icmp.txt",
        icmp_of_others "39-icmp-of-others.txt",
        ftp_passive_nat "30-ftp-passive-nat.txt",
        ftp_active_nat "31-ftp-active-nat.txt",
        ftp_persistent "32-ftp-persistent.txt",
        sip "33-sip.txt",
        sip_one_packet "34-sip-one-packet.txt",
        tun_ipip "40-tun-ipip.txt",
        tun_gue "41-tun-gue.txt",
        tun_gre "42-tun-gre.txt",
        fragments_nat "43-fragments-nat.txt",
        fragments_dr "44-fragments-dr.txt",
        fragments_tun "45-fragments-tun.txt",
        tun_mtu "46-tun-mtu.txt",
        local_server "47-local-server.txt",
        host_at_a_vip "48-host-at-a-vip.txt",
        service_made_again "50-service-made-again.txt",
        nat_to_dr_with_connections "51-nat-to-dr-with-connections.txt",
        no_service_left "52-no-service-left.txt",
        ipv6_schedulers "60-ipv6-schedulers.txt",
        ipv6_persistence "61-ipv6-persistence.txt",
        ipv6_states "62-ipv6-states.txt",
        ipv6_rules "63-ipv6-rules.txt",
        ipv6_ftp "64-ipv6-ftp.txt",
        ipv6_fragments "70-ipv6-fragments.txt",
        ipv6_tun "71-ipv6-tun.txt",
        ipv6_too_big "72-ipv6-too-big.txt",
        ipv6_errors "73-ipv6-errors.txt",
        ipv6_tun_mtu "74-ipv6-tun-mtu.txt",
}

/// Both ways at once, since most of a scenario is waiting: by the workers alone, and with all offloaded that can be.
fn play_against_xvs(file: &str) {
    thread::scope(|scope| {
        let ways = [false, true].map(|offloads| scope.spawn(move || play(file, offloads)));
        // Both are played to their end.
        for played in ways.map(ScopedJoinHandle::join) {
            played.unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
}

fn play(file: &str, offloads: bool) {
    let script = script::parse(&read("scenarios", file)).unwrap_or_else(|error| panic!("{file}, {error}"));
    let plays = MOMENTS.iter().find(|(name, _)| *name == file).map_or(1, |(_, plays)| *plays);
    for play in 1..=plays {
        let mut lab = lab::Lab::new(&script);
        let xvs = xvs::Director::start(&lab, Path::new(env!("CARGO_BIN_EXE_xvs")), offloads);
        let got = player::play(&mut lab, &xvs, &script, player::PATIENCE);
        let deliberate: Vec<_> = DELIBERATE.iter().filter(|it| it.scenario == file).collect();
        match transcript::compare(&read("transcripts", file), &got, &deliberate) {
            Ok(()) => {
                let carried = xvs.carried(&lab);
                assert!(offloads || carried == 0, "{file}: {carried} frames were offloaded");
                assert!(
                    !offloads || carried > 0 || !CARRIED.contains(&file),
                    "{file}: nothing was offloaded"
                );
                return;
            }
            Err(difference) if play < plays => println!("{file}, played again:\n{difference}"),
            // It still runs: as it is dropped by a panic, it prints its log.
            Err(difference) => {
                let with = if offloads { "with all offloaded that can be" } else { "without offloading" };
                panic!(
                    "{file}, {with}: the kernel's transcript (-) and that of xvs (+) differ:\n{difference}"
                )
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
    assert!(CARRIED.iter().all(|file| tested.contains(*file)));
    for it in DELIBERATE {
        assert!(tested.contains(it.scenario) && !it.reason.is_empty(), "{it:?}");
    }
}

/// What the generator means to be refused is refused, and nothing else. Whether the rest is right is for the kernel
/// to say: `scripts/against-ipvs.sh`.
#[test]
fn random_scenarios_are_played_without_refusals() {
    for seed in [1, 2] {
        let script = script::parse(&random::scenario(seed)).expect("understood");
        let mut lab = lab::Lab::new(&script);
        let xvs = xvs::Director::start(&lab, Path::new(env!("CARGO_BIN_EXE_xvs")), seed == 2);
        let got = player::play(&mut lab, &xvs, &script, player::PATIENCE);
        let steps = got.strip_prefix("> ").expect("a command first").split("\n> ");
        for step in steps {
            let refused = step.contains("\n  exit ") || step.contains("\n  failed: ");
            assert_eq!(refused, step.contains("# an error"), "seed {seed}: {step}");
        }
    }
}
