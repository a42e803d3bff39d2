//! Transcripts: what of a director's output may differ from run to run is taken out, what is left is compared.
//!
//! A transcript has the lines of a scenario after `> ` and what came of each, indented by two spaces.
//! Must not know where the output came from.

use std::fmt::Write as _;

/// The lines of a command's output, the empty ones at its end left out.
pub fn lines(output: &str) -> Vec<String> {
    output.trim_end_matches('\n').split('\n').map(String::from).collect()
}

/// A listing with its services sorted, since the kernel keeps them in a randomly keyed hash; the servers of
/// each stay in the director's order.
pub fn by_service(lines: &[String]) -> Vec<String> {
    let is_service = |line: &&String| ["TCP ", "UDP ", "SCTP ", "FWM "].iter().any(|it| line.starts_with(it));
    let head = lines.iter().position(|line| is_service(&line)).unwrap_or(lines.len());
    let (head, services) = lines.split_at(head);
    let mut blocks: Vec<_> = services.chunk_by(|_, next| !is_service(&next)).collect();
    blocks.sort();
    [head, &blocks.concat()].concat()
}

/// The connections, sorted: expiries rounded up to 30 s, ports that a kernel chose as `*`.
pub fn conns(output: &str) -> Vec<String> {
    const HEAD: usize = 2;
    let mut lines = lines(output);
    let mut rows: Vec<_> = lines.iter().skip(HEAD).filter_map(|line| conn(line)).collect();
    rows.sort();
    lines.truncate(HEAD);
    lines.extend(rows);
    lines
}

fn conn(line: &str) -> Option<String> {
    const STEP_S: u32 = 30;
    let words: Vec<_> = line.split_whitespace().collect();
    let [protocol, expire, state, source, rest @ ..] = words.as_slice() else { return None };
    let (minutes, seconds) = expire.split_once(':')?;
    let seconds = minutes.parse::<u32>().ok()? * 60 + seconds.parse::<u32>().ok()?;
    let expire = seconds.next_multiple_of(STEP_S);
    let ends: Vec<_> = [source].into_iter().chain(rest).map(|end| without_chosen_port(end)).collect();
    Some(format!("{protocol} <={expire}s {state} {}", ends.join(" ")))
}

/// An address with its port, or `*` for a port that a kernel chose; whatever else as it is.
fn without_chosen_port(end: &str) -> String {
    const CHOSEN_BY_THE_KERNEL: std::ops::RangeInclusive<u32> = 32_000..=65_534;
    match end.rsplit_once(':') {
        Some((address, port)) if port.parse().is_ok_and(|port| CHOSEN_BY_THE_KERNEL.contains(&port)) => {
            format!("{address}:*")
        }
        _ => end.to_owned(),
    }
}

/// Of a listing of connections the connections without the time they have left.
pub fn states(output: &str) -> Vec<String> {
    const HEAD: usize = 2;
    let all = conns(output);
    let without = |row: &String| {
        row.split(' ')
            .enumerate()
            .filter(|(i, _)| *i != 1)
            .map(|(_, word)| word)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let mut rows: Vec<_> = all.get(HEAD..).unwrap_or_default().iter().map(without).collect();
    rows.sort();
    rows
}

/// Of a listing with `--stats` the protocol, the address and the connections.
pub fn counts(output: &str) -> Vec<String> {
    stats_rows(output).iter().map(|words| words[..words.len().min(3)].join(" ")).collect()
}

/// Of a listing with `--stats` everything where it is UDP's. Elsewhere packets and bytes depend on how TCP
/// acknowledges: they are `+`, or 0.
pub fn traffic(output: &str) -> Vec<String> {
    const COUNTERS_FROM: usize = 3;
    let mut exact = false;
    let mut row = |mut words: Vec<String>| {
        exact = if words[0] == "->" { exact } else { words[0] == "UDP" };
        for word in words.iter_mut().skip(COUNTERS_FROM).filter(|word| !exact && *word != "0") {
            *word = "+".to_owned();
        }
        words.join(" ")
    };
    stats_rows(output).into_iter().map(&mut row).collect()
}

/// The words of each service and server of a listing with `--stats`, without its heading.
fn stats_rows(output: &str) -> Vec<Vec<String>> {
    const HEAD: usize = 3;
    let all = lines(output);
    let rows = by_service(all.get(HEAD..).unwrap_or_default());
    let words = rows.iter().map(|row| row.split_whitespace().map(String::from).collect::<Vec<_>>());
    words.filter(|words| !words.is_empty()).collect()
}

/// A line on which xvs differs from the kernel on purpose.
#[derive(Debug)]
pub struct Deliberate {
    /// The scenario's file name.
    pub scenario: &'static str,
    /// The line of the scenario; each time it is played.
    pub command: &'static str,
    /// The kernel's line, without its indentation.
    pub kernel: &'static str,
    /// What xvs has in its place.
    pub xvs: &'static str,
    /// Why.
    pub reason: &'static str,
}

/// What is played at one line, and what came of it.
#[derive(Clone, Debug, PartialEq)]
struct Step<'a> {
    command: &'a str,
    output: Vec<&'a str>,
}

/// The line that asks hosts for the errors they got. These come in any order: who sends an error may hear it late,
/// and two senders' packets are forwarded by two workers.
const ERRORS: &str = "errors";

fn steps(transcript: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    for line in transcript.lines() {
        match (line.strip_prefix("> "), steps.last_mut()) {
            (None, Some(step)) => step.output.push(line.strip_prefix("  ").unwrap_or(line)),
            (command, _) => steps.push(Step { command: command.unwrap_or(line), output: Vec::new() }),
        }
    }
    for step in steps.iter_mut().filter(|step| step.command == ERRORS) {
        step.output.sort_unstable();
    }
    steps
}

/// Compares line by line. The error shows every step that differs: `-` before what was expected, `+` before
/// what came instead.
pub fn compare(expected: &str, got: &str, deliberate: &[&Deliberate]) -> Result<(), String> {
    let (mut expected, got) = (steps(expected), steps(got));
    let mut differences = String::new();
    for it in deliberate {
        let mut found = false;
        for step in expected.iter_mut().filter(|step| step.command == it.command) {
            for line in step.output.iter_mut().filter(|line| **line == it.kernel) {
                (*line, found) = (it.xvs, true);
            }
        }
        if !found {
            writeln!(differences, "the kernel's transcript has no line for {it:?}").expect("a String");
        }
    }
    for index in 0..expected.len().max(got.len()) {
        let (expected, got) = (expected.get(index), got.get(index));
        if expected.map(|step| step.command) != got.map(|step| step.command) {
            let name = |step: Option<&Step<'_>>| {
                step.map_or_else(|| "the end".to_owned(), |s| format!("`{}`", s.command))
            };
            writeln!(differences, "expected {}, played {}", name(expected), name(got)).expect("a String");
            break;
        }
        if let (Some(expected), Some(got)) = (expected, got)
            && expected != got
        {
            writeln!(differences, "> {}", got.command).expect("a String");
            differences += &step_difference(&expected.output, &got.output);
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(differences) }
}

/// What both begin and end with stands once.
fn step_difference(expected: &[&str], got: &[&str]) -> String {
    let same = |(a, b): &(&&str, &&str)| a == b;
    let head = expected.iter().zip(got).take_while(same).count();
    let (expected_rest, got_rest) = (&expected[head..], &got[head..]);
    let tail = expected_rest.iter().rev().zip(got_rest.iter().rev()).take_while(same).count();
    let parts = [
        ("  ", &expected[..head]),
        ("- ", &expected_rest[..expected_rest.len() - tail]),
        ("+ ", &got_rest[..got_rest.len() - tail]),
        ("  ", &expected_rest[expected_rest.len() - tail..]),
    ];
    let marked =
        parts.into_iter().flat_map(|(mark, part)| part.iter().map(move |line| format!("  {mark}{line}\n")));
    marked.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // What a kernel said, as it said it.
    const CONNS: &str = "\
IPVS connection entries
pro expire state       source             virtual            destination
UDP 04:57  UDP         10.0.1.2:51101     10.0.0.100:53      10.1.0.12:53
TCP 14:56  ESTABLISHED 10.0.1.9:5001      10.0.0.100:80      10.1.0.12:80
TCP 01:57  TIME_WAIT   10.0.1.10:43317    10.0.0.100:80      10.1.0.11:80
TCP 01:57  TIME_WAIT   10.0.1.10:44851    10.0.0.100:80      10.1.0.11:80
TCP 04:56  ASSURED     10.0.1.9:0         10.0.0.100:80      10.1.0.12:80
TCP 04:57  ASSURED     10.0.1.10:0        10.0.0.100:80      10.1.0.11:80
";
    const STATS: &str = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
UDP  10.0.0.100:53                       1        1        1       32       31
  -> 10.1.0.12:53                        1        1        1       32       31
TCP  10.0.0.100:80                       3       13        9      700      501
  -> 10.1.0.12:80                        1        3        2      164      115
  -> 10.1.0.11:80                        2       10        7      536      386
FWM  5                                   0        0        0        0        0
  -> 10.1.0.12:0                         0        0        0        0        0
";

    #[test]
    fn connections_lose_what_differs_from_run_to_run() {
        let expected = [
            "IPVS connection entries",
            "pro expire state       source             virtual            destination",
            "TCP <=120s TIME_WAIT 10.0.1.10:* 10.0.0.100:80 10.1.0.11:80",
            "TCP <=120s TIME_WAIT 10.0.1.10:* 10.0.0.100:80 10.1.0.11:80",
            "TCP <=300s ASSURED 10.0.1.10:0 10.0.0.100:80 10.1.0.11:80",
            "TCP <=300s ASSURED 10.0.1.9:0 10.0.0.100:80 10.1.0.12:80",
            "TCP <=900s ESTABLISHED 10.0.1.9:5001 10.0.0.100:80 10.1.0.12:80",
            "UDP <=300s UDP 10.0.1.2:* 10.0.0.100:53 10.1.0.12:53",
        ];
        assert_eq!(conns(CONNS), expected);
    }

    #[test]
    fn an_expiry_is_rounded_up_and_a_port_hidden_only_where_the_kernel_chose_it() {
        let row = |expire: &str, port: u16| {
            conn(&format!("TCP {expire}  CLOSE 10.0.1.1:{port} 10.0.0.100:80 10.1.0.11:80")).expect("a row")
        };
        assert_eq!(row("00:00", 1), "TCP <=0s CLOSE 10.0.1.1:1 10.0.0.100:80 10.1.0.11:80");
        assert_eq!(row("00:01", 31_999), "TCP <=30s CLOSE 10.0.1.1:31999 10.0.0.100:80 10.1.0.11:80");
        assert_eq!(row("00:30", 32_000), "TCP <=30s CLOSE 10.0.1.1:* 10.0.0.100:80 10.1.0.11:80");
        assert_eq!(row("00:31", 60_999), "TCP <=60s CLOSE 10.0.1.1:* 10.0.0.100:80 10.1.0.11:80");
    }

    #[test]
    fn errors_come_in_any_order_and_nothing_else_does() {
        let of = |command: &str, lines: [&str; 2]| format!("> {command}\n  {}\n  {}\n", lines[0], lines[1]);
        assert_eq!(compare(&of("errors", ["a", "b"]), &of("errors", ["b", "a"]), &[]), Ok(()));
        assert!(compare(&of("errors", ["a", "b"]), &of("errors", ["b", "b"]), &[]).is_err());
        assert!(compare(&of("stats", ["a", "b"]), &of("stats", ["b", "a"]), &[]).is_err());
    }

    #[test]
    fn states_have_no_time() {
        let listing = "IPVS connection entries\npro expire state source virtual destination\n\
            SCTP 00:03  INIT1 10.0.1.2:7002 10.0.0.100:80 10.1.0.11:80\n\
            SCTP 01:00  CLOSED 10.0.1.1:7001 10.0.0.100:80 10.1.0.11:80\n";
        let expected = [
            "SCTP CLOSED 10.0.1.1:7001 10.0.0.100:80 10.1.0.11:80",
            "SCTP INIT1 10.0.1.2:7002 10.0.0.100:80 10.1.0.11:80",
        ];
        assert_eq!(states(listing), expected);
    }

    #[test]
    fn services_are_sorted_and_servers_are_not() {
        let sorted = by_service(&lines(STATS));
        let places: Vec<_> =
            sorted.iter().map(|row| row.split_whitespace().take(2).collect::<Vec<_>>().join(" ")).collect();
        let expected = [
            "IP Virtual",
            "Prot LocalAddress:Port",
            "-> RemoteAddress:Port",
            "FWM 5",
            "-> 10.1.0.12:0",
            "TCP 10.0.0.100:80",
            "-> 10.1.0.12:80",
            "-> 10.1.0.11:80",
            "UDP 10.0.0.100:53",
            "-> 10.1.0.12:53",
        ];
        assert_eq!(places, expected);
        assert_eq!(by_service(&lines("No such service\n")), ["No such service"]);
    }

    #[test]
    fn counts_are_the_connections_and_no_more() {
        let expected = [
            "FWM 5 0",
            "-> 10.1.0.12:0 0",
            "TCP 10.0.0.100:80 3",
            "-> 10.1.0.12:80 1",
            "-> 10.1.0.11:80 2",
            "UDP 10.0.0.100:53 1",
            "-> 10.1.0.12:53 1",
        ];
        assert_eq!(counts(STATS), expected);
        assert!(counts("").is_empty());
    }

    #[test]
    fn traffic_is_exact_for_udp_only() {
        let expected = [
            "FWM 5 0 0 0 0 0",
            "-> 10.1.0.12:0 0 0 0 0 0",
            "TCP 10.0.0.100:80 3 + + + +",
            "-> 10.1.0.12:80 1 + + + +",
            "-> 10.1.0.11:80 2 + + + +",
            "UDP 10.0.0.100:53 1 1 1 32 31",
            "-> 10.1.0.12:53 1 1 1 32 31",
        ];
        assert_eq!(traffic(STATS), expected);
    }

    const KERNEL: &str = "> list\n  head\n  TCP a\n  tail\n> ipvsadm -Z\n> tcp 1\n  r1\n> list\n  TCP a\n";

    #[test]
    fn a_difference_is_shown_below_its_command() {
        assert_eq!(compare(KERNEL, KERNEL, &[]), Ok(()));
        let got = KERNEL.replacen("  TCP a\n", "  TCP b\n  TCP c\n", 1).replace("-Z\n", "-Z\n  exit 1\n");
        let shown = "> list\n    head\n  - TCP a\n  + TCP b\n  + TCP c\n    tail\n> ipvsadm -Z\n  + exit 1\n";
        assert_eq!(compare(KERNEL, &got, &[]), Err(shown.to_owned()));
    }

    #[test]
    fn a_transcript_of_another_scenario_is_no_match() {
        let (short, _) = KERNEL.split_once("> tcp").expect("a tcp line");
        assert_eq!(compare(KERNEL, short, &[]), Err("expected `tcp 1`, played the end\n".to_owned()));
        assert_eq!(compare(short, KERNEL, &[]), Err("expected the end, played `tcp 1`\n".to_owned()));
    }

    #[test]
    fn a_deliberate_difference_is_expected_and_has_to_exist() {
        let mut known =
            Deliberate { scenario: "", command: "list", kernel: "TCP a", xvs: "TCP b", reason: "" };
        let got = KERNEL.replace("TCP a", "TCP b");
        assert_eq!(compare(KERNEL, &got, &[&known]), Ok(()));
        assert!(compare(KERNEL, KERNEL, &[&known]).is_err(), "what is expected to differ does not");
        known.kernel = "TCP z";
        let error = compare(KERNEL, KERNEL, &[&known]).expect_err("no line to differ from");
        assert!(error.contains("the kernel's transcript has no line for"), "{error}");
    }
}
