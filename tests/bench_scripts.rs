//! The arithmetic and the refusals of `scripts/bench-ipvs.sh` and `scripts/bench-peers.sh`, by their own tests.

use std::path::Path;
use std::process::Command;

#[test]
fn the_benches_count_right_and_refuse_what_they_must() {
    let benches = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches");
    let output = Command::new("python3")
        .args(["-m", "unittest", "-v", "compare.test_compare"])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(benches)
        .output()
        .unwrap_or_else(|error| panic!("python3 could not be run ({error}): see scripts/setup.sh"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let ran = said.lines().find_map(|line| line.strip_prefix("Ran ")?.split(' ').next()?.parse().ok());
    assert!(ran.is_some_and(|ran: u32| ran >= 20), "most tests were not found:\n{said}");
}
