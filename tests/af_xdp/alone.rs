//! What is only seen from outside a process: it starts itself again with one test and less of something.

use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use xvs::director::engine::{Batch, Verdicts};
use xvs::director::forward::hops::NextHops;
use xvs::director::time::Time;
use xvs::worker::{Processor, WorkerOptions};
use xvs::xdp::umem::Umem;

use crate::{LONG, SMALL, work};

/// Set in the second process.
const ALONE: &str = "XVS_TEST_ALONE";

/// Runs `test` of this binary in another process, started by `with`.
fn alone(with: &[&str], test: &str) -> Output {
    let myself = std::env::current_exe().unwrap();
    let (program, arguments) = with.split_first().unwrap();
    Command::new(program)
        .args(arguments)
        .arg(myself)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .unwrap_or_else(|error| panic!("{program} could not be run ({error}); see scripts/setup.sh"))
}

fn is_alone() -> bool {
    std::env::var_os(ALONE).is_some()
}

/// Says why there is no UMEM; the first process reads it.
fn tell_refusal() {
    match Umem::new(&SMALL, 4) {
        Ok(umem) => println!("refused: nothing, {} bytes", umem.len_bytes()),
        Err(error) => println!("refused: {error}"),
    }
}

fn refusal(with: &[&str], test: &str) -> String {
    let output = alone(with, test);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .find_map(|line| line.split_once("refused: ").map(|(_, why)| why.to_owned()))
        .unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn too_little_locked_memory_is_said_with_the_limit() {
    if is_alone() {
        return tell_refusal();
    }
    let with = ["setpriv", "--bounding-set=-ipc_lock", "prlimit", "--memlock=65536"];
    let why = refusal(&with, "alone::too_little_locked_memory_is_said_with_the_limit");
    for words in ["1048576 bytes", "65536 bytes", "ulimit -l", "LimitMEMLOCK"] {
        assert!(why.contains(words), "{words}: {why}");
    }
}

#[test]
fn missing_privileges_are_named() {
    if is_alone() {
        return tell_refusal();
    }
    let why = refusal(&["setpriv", "--bounding-set=-net_raw"], "alone::missing_privileges_are_named");
    assert!(why.contains("CAP_NET_RAW"), "{why}");
}

struct Faulty;

impl Processor for Faulty {
    fn process<H: NextHops>(&mut self, _: &mut Batch<'_>, _: &H, _: Time, _: &mut Verdicts) {}
    fn expire(&mut self, _now: Time) -> bool {
        panic!("a fault of the engine");
    }
    fn rest(&mut self) {}
    fn unsent(&mut self) {}
}

#[test]
fn a_worker_that_panics_takes_the_process_with_it() {
    if is_alone() {
        // Without a namespace: nobody would remove it.
        let opened = (Umem::new(&SMALL, 1).unwrap(), Vec::new());
        let _worker = work(0, opened, &Arc::new(AtomicBool::new(false)), Faulty, WorkerOptions::default());
        return thread::sleep(LONG);
    }
    let output = alone(&["env"], "alone::a_worker_that_panics_takes_the_process_with_it");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(6), "{said}");
    assert!(said.contains("a fault of the engine"), "{said}");
}
