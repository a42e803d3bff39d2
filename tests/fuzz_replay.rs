//! The fuzz targets as ordinary tests: every seed, then mutations of them. `scripts/fuzz.sh` goes on from here.
//!
//! The mutations are the same in every run; `XVS_FUZZ_SEED=NUMBER` gives others. `XVS_WRITE_SEEDS=1` writes the
//! seeds of known scenarios; an input that once broke something is put beside them by hand and stays.

#[path = "fuzz/src/lib.rs"]
mod fuzz;

use std::collections::BTreeMap;
use std::panic::{catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::{env, fs};

type Target = fn(&[u8]);

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn seed_file(target: &str, name: &str) -> PathBuf {
    here().join("tests/fuzz/seeds").join(target).join(name)
}

/// The inputs committed for a target, by file name.
fn inputs(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let read =
        |path: PathBuf| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap());
    files.map(|f| f.unwrap().path()).filter(|p| p.is_file()).map(read).collect()
}

/// Runs a target; an input that breaks it is shown whole.
fn run(target: Target, name: &str, input: &[u8]) {
    if let Err(panic) = catch_unwind(|| target(input)) {
        let hex: String = input.iter().map(|b| format!("{b:02x}")).collect();
        eprintln!("broken by {name}, {} bytes: {hex}", input.len());
        resume_unwind(panic);
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = env::var("XVS_FUZZ_SEED").map_or(1, |s| s.parse().expect("XVS_FUZZ_SEED is a number"));
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    /// One of the inputs with a few changes: bytes, bits, parts lost, doubled, or of another input.
    fn mutated(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let mut input = inputs[self.below(inputs.len())].clone();
        for _ in 0..=self.below(6) {
            let at = self.below(input.len() + 1);
            let end = at + self.below(16.min(input.len() - at) + 1);
            match self.below(6) {
                0 if at < input.len() => input[at] = self.byte(),
                1 if at < input.len() => input[at] ^= 1 << self.below(8),
                2 => drop(input.drain(at..end)),
                3 => input.insert(at, self.byte()),
                4 => {
                    let part = input[at..end].to_vec();
                    input.splice(at..at, part);
                }
                _ => {
                    let other = &inputs[self.below(inputs.len())];
                    let from = self.below(other.len() + 1);
                    input.truncate(at);
                    input.extend(&other[from..]);
                }
            }
        }
        input.truncate(4096);
        input
    }
}

/// Every input that is committed for a target, then `mutations` made of them.
fn replay(target: Target, name: &str, more: Option<&Path>, mutations: u32) {
    let mut all = inputs(&seed_file(name, ""));
    if let Some(directory) = more {
        all.extend(inputs(directory));
    }
    all.iter().for_each(|(name, input)| run(target, name, input));
    let all: Vec<_> = all.into_values().collect();
    let mut random = Random::new();
    for n in 0..mutations {
        run(target, &format!("mutation {n}"), &random.mutated(&all));
    }
}

#[test]
fn parse_takes_anything() {
    replay(fuzz::parse::run, "parse", None, 300_000);
}

#[test]
fn the_engine_keeps_its_promises_in_any_script() {
    replay(fuzz::engine::run, "engine", None, 6_000);
}

#[test]
fn every_method_keeps_packets_right_in_any_script() {
    replay(fuzz::methods::run, "methods", None, 1_000);
}

#[test]
fn config_takes_any_text() {
    replay(fuzz::config::run, "config", Some(&here().join("config")), 6_000);
}

#[test]
fn the_seeds_are_those_of_their_scenarios() {
    let write = env::var_os("XVS_WRITE_SEEDS").is_some();
    for (target, name, input) in fuzz::seeds::all() {
        let file = seed_file(target, name);
        if write {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, &input).unwrap();
        }
        let cure = "write it with XVS_WRITE_SEEDS=1 cargo test --test fuzz_replay the_seeds";
        assert!(fs::read(&file).ok() == Some(input), "{} is not the scenario's: {cure}", file.display());
    }
}
