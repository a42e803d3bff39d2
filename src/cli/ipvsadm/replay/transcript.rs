//! The lines of ipvsadm in the transcripts of kernel IPVS with traffic.

use std::net::SocketAddr;

use super::drafted::Drafted;
use super::{data, run, words};
use crate::director::name::ServiceKey;

/// A line of a transcript and what it said.
struct Step<'a> {
    line: &'a str,
    said: Vec<&'a str>,
}

fn steps(text: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    for text in text.lines() {
        match (text.strip_prefix("> "), steps.last_mut()) {
            (Some(line), _) => steps.push(Step { line, said: Vec::new() }),
            (None, Some(step)) => step.said.push(text.strip_prefix("  ").unwrap_or(text)),
            (None, None) => panic!("`{text}` before any command"),
        }
    }
    steps
}

/// The service that a line of a listing is about.
fn service(line: &str) -> Option<ServiceKey> {
    let mut words = line.split(' ').filter(|word| !word.is_empty());
    let name = match (words.next()?, words.next()?) {
        ("FWM", mark) => format!("fwm:{mark}"),
        (protocol @ ("TCP" | "UDP"), address) => format!("{}:{address}", protocol.to_lowercase()),
        _ => return None,
    };
    name.parse().ok()
}

/// Puts the connections of a listing into the director: they are the traffic's, and there is none here.
fn take_counts(director: &mut Drafted, listing: &[&str]) {
    let title = *listing.iter().find(|line| line.starts_with("Prot ")).unwrap_or(&"");
    let with_templates = title.contains("PersistConn");
    // Titles that end in connections: of the other listings there is nothing to take.
    if !(with_templates || title.ends_with("Scheduler Flags") || title.contains("Uthreshold")) {
        return;
    }
    let mut current = None;
    for line in listing {
        if let Some(key) = service(line) {
            current = Some(key);
        }
        let row: Vec<&str> = line.split_whitespace().collect();
        if let (Some(key), ["->", address, .., third, active, inactive]) = (current, &row[..])
            && let Ok(address) = address.parse::<SocketAddr>()
        {
            let templates = if with_templates { third.parse().unwrap() } else { 0 };
            let counts = [active.parse().unwrap(), inactive.parse().unwrap(), templates];
            director.counts.insert((key, address), counts);
        }
    }
}

/// The services of a listing sorted by their text, servers left as they are: the kernel's order is random.
fn by_service(lines: &[String]) -> Vec<String> {
    let first = lines.iter().position(|line| service(line).is_some()).unwrap_or(lines.len());
    let (head, body) = lines.split_at(first);
    let mut blocks: Vec<&[String]> = body.chunk_by(|_, next| service(next).is_none()).collect();
    blocks.sort();
    head.iter().chain(blocks.into_iter().flatten()).cloned().collect()
}

/// Replays a transcript; how many of its lines were compared comes back.
fn replay(file: &str) -> usize {
    let text = data(&format!("transcripts/{file}"));
    let mut director = Drafted::default();
    let (mut saved, mut compared) = (String::new(), 0);
    for Step { line, said } in steps(&text) {
        let line = match (line.strip_prefix("ipvsadm "), line) {
            (Some(line), _) if line.contains('|') => continue,
            (Some(line), _) => line,
            (None, "list") => "-Ln --nosort",
            (None, _) => continue,
        };
        take_counts(&mut director, &said);
        let (line, redirected) = line.split_once(['<', '>']).unwrap_or((line, ""));
        let got = run(&mut director, &words(line), &saved);
        let mut lines: Vec<String> = if redirected.is_empty() || line.contains("-R") {
            got.out.lines().chain(got.err.lines()).map(String::from).collect()
        } else {
            saved = got.out;
            Vec::new()
        };
        if line.contains("--nosort") {
            lines = by_service(&lines);
        }
        if got.status != 0 {
            lines.push(format!("exit {}", got.status));
        }
        assert_eq!(lines, said, "{file}: ipvsadm {line}");
        compared += 1;
    }
    compared
}

#[test]
fn what_transcripts_say_of_ipvsadm_is_said_here() {
    let counts = [
        ("01-rr-wrr.txt", 12),
        ("02-least-connection.txt", 17),
        ("03-hashing.txt", 16),
        ("04-locality-overflow-failover.txt", 17),
        ("05-persistence.txt", 15),
        ("06-tcp-states-nat.txt", 12),
        ("07-tcp-states-dr.txt", 10),
        ("08-server-leaves.txt", 18),
        ("09-ipvsadm-errors.txt", 37),
        ("10-listing-save-restore.txt", 33),
        ("11-howtos.txt", 26),
    ];
    for (file, least) in counts {
        let compared = replay(file);
        assert!(compared >= least, "only {compared} lines of {file} were compared");
    }
}
