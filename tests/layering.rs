//! The import rule of `src/lib.rs`, held: nothing imports upwards.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room with the rooms it may use.
const RULE: &[(&str, &[&str])] = &[
    ("packet", &[]),
    ("director", &["packet"]),
    ("xdp", &[]),
    ("net", &[]),
    ("worker", &["packet", "director", "xdp", "net"]),
    ("control", &["packet", "director", "net"]),
    ("cli", &["packet", "director", "xdp", "net", "worker", "control"]),
];

fn sources(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let (dirs, files): (Vec<_>, Vec<_>) = entries.partition(|p| p.is_dir());
    let rust = files.into_iter().filter(|p| p.extension().is_some_and(|e| e == "rs"));
    rust.chain(dirs.iter().flat_map(|d| sources(d))).collect()
}

/// The rooms that code names by `crate::` or after `super::` (which leaves the room then), in `use` lines and in paths alike; comments and docs left out.
fn rooms_used(text: &str) -> BTreeSet<String> {
    let code: String =
        text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut rooms = BTreeSet::new();
    let roots = code.match_indices("crate::").chain(code.match_indices("super::"));
    for after in roots.map(|(at, root)| &code[at + root.len()..]) {
        let names: Vec<&str> = match after.strip_prefix('{') {
            // `use crate::{a::b, c}`: the first name of each branch at the outermost level.
            Some(group) => {
                let mut depth = 0;
                let end = group.find(|c| {
                    depth += i32::from(c == '{') - i32::from(c == '}');
                    depth < 0
                });
                group[..end.expect("a closed group")].split(',').collect()
            }
            None => vec![after],
        };
        let room = |name: &str| {
            name.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().map(String::from)
        };
        rooms.extend(names.into_iter().filter_map(room));
    }
    rooms.retain(|name| RULE.iter().any(|(room, _)| room == name));
    rooms
}

#[test]
fn nothing_imports_upwards() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = 0;
    for (room, may_use) in RULE {
        for file in sources(&src.join(room)) {
            for used in rooms_used(&fs::read_to_string(&file).unwrap()) {
                let allowed = used == *room || may_use.contains(&used.as_str());
                assert!(allowed, "{} uses `{used}`; {room} may use only {may_use:?}", file.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 60, "only {seen} files found: does this test look in the right place?");
}

#[test]
fn every_room_has_its_rule() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let declared: BTreeSet<&str> =
        lib.lines().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(declared, RULE.iter().map(|(room, _)| *room).collect());
}

#[test]
fn unsafe_stays_in_its_rooms() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in sources(&src) {
        let path = file.strip_prefix(&src).unwrap().to_string_lossy().into_owned();
        // By `allow`, by `expect`, alone or among others.
        let allows = fs::read_to_string(&file).unwrap().contains("unsafe_code");
        let may = path.starts_with("xdp/") || path == "director/conn/memory.rs";
        assert!(!allows || may, "{path} allows unsafe code");
    }
}

#[test]
fn a_use_upwards_would_be_seen() {
    let text = "use crate::{packet::flow, worker::{Clock, spawn}};\n// crate::cli in a comment\nfn f() { crate::net::g() }";
    assert_eq!(rooms_used(text), ["net", "packet", "worker"].map(String::from).into());
    for text in ["use super::super::worker::Clock;", "use super::{own, super::{worker::Clock}};"] {
        assert_eq!(rooms_used(text), ["worker".to_owned()].into(), "{text}");
    }
}
