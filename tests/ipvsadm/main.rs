//! `xvs ipvsadm` from outside: by which names it goes, and what it does without a director.
//!
//! What it says to a director is compared with recordings of the real ipvsadm in `src/cli/ipvsadm/replay`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const VERSION: &str = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n";

fn xvs() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_xvs"))
}

/// A link to xvs by another name.
fn link(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    symlink(xvs(), &path).unwrap();
    path
}

/// Runs a program where no director listens.
fn run(program: &Path, words: &[&str]) -> Output {
    Command::new(program)
        .args(words)
        .env("XVS_SOCKET", "/nonexistent/xvs.sock")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// What the real one says to this line.
fn recorded(line: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ipvsadm/01-options.txt");
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().skip_while(|text| *text != format!("> ipvsadm {line}")).skip(1);
    lines.map_while(|text| text.strip_prefix("  ")).map(|text| format!("{text}\n")).collect()
}

#[test]
fn help_and_version_need_no_director() {
    for words in [["ipvsadm", "-v"], ["ipvsadm", "--version"]] {
        let said = run(xvs(), &words);
        assert_eq!((text(&said.stdout), said.status.code()), (VERSION, Some(0)));
    }
    let said = run(xvs(), &["ipvsadm", "-h"]);
    assert_eq!((text(&said.stdout), said.status.code()), (recorded("-h").as_str(), Some(0)));
    assert!(said.stderr.is_empty());
}

#[test]
fn options_of_xvs_may_come_before_ipvsadm() {
    let said = run(xvs(), &["--log", "error", "ipvsadm", "-h"]);
    assert_eq!(text(&said.stdout), recorded("-h"));
}

#[test]
fn a_link_is_the_program_of_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let ipvsadm = link(dir.path(), "ipvsadm");
    let said = run(&ipvsadm, &["--help"]);
    let name = format!("  {} -", ipvsadm.display());
    assert_eq!(text(&said.stdout), recorded("-h").replace("  ipvsadm -", &name));
    let said = run(&link(dir.path(), "ipvsadm-save"), &["-h"]);
    assert_eq!(
        text(&said.stderr),
        "ipvsadm-save: Script to save the IPVS table to stdout.
   With the -n option, prints out the table in numeric format.
"
    );
    assert_eq!(said.status.code(), Some(1));
}

#[test]
fn nothing_else_works_without_a_director() {
    let dir = tempfile::tempdir().unwrap();
    let [save, restore] = ["ipvsadm-save", "ipvsadm-restore"].map(|name| link(dir.path(), name));
    for (program, words) in [
        (xvs(), &["ipvsadm"][..]),
        (xvs(), &["ipvsadm", "-Ln"]),
        (xvs(), &["ipvsadm", "nonsense"]),
        (xvs(), &["ipvsadm", "-A", "-t", "10.0.0.1:80"]),
        (&save, &["-n"]),
        (&restore, &[]),
    ] {
        let said = run(program, words);
        let complaint = text(&said.stderr);
        assert_eq!((text(&said.stdout), said.status.code()), ("", Some(2)), "{words:?}: {complaint}");
        let (first, second) = complaint.split_once('\n').unwrap();
        assert!(first.starts_with("Can't initialize ipvs: "), "{complaint}");
        assert!(second.contains("/nonexistent/xvs.sock") && second.contains("xvs run"), "{complaint}");
    }
}

/// As of a program that SIGPIPE ended: no complaint, and the status a shell gives it.
#[test]
fn a_closed_output_ends_it_quietly() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = Command::new(xvs()).args(["ipvsadm", "-h"]).stdout(writer).stderr(Stdio::piped()).spawn();
    let said = child.unwrap().wait_with_output().unwrap();
    assert_eq!((text(&said.stderr), said.status.code()), ("", Some(141)));
}
