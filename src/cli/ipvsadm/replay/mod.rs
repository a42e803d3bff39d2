//! Recorded runs of the real ipvsadm, run again: what is said and the exit status have to be equal to the byte.
//!
//! `tests/ipvsadm` has command lines against a kernel's IPVS, recorded by its `record.py`; a model of that kernel's
//! control plane stands for it here. `tests/transcripts` has what was played with traffic; there the director's own
//! drafts do what the commands say, and connections are as many as the transcript has.

mod drafted;
mod kernel;
mod transcript;

use std::fs;
use std::io;
use std::path::PathBuf;

use super::director::Director;
use super::names::Names;
use super::session::Session;
use crate::control::command::{Command, Refusal};
use crate::control::view::{ConnectionView, ServiceView, TimeoutsView, TrafficView};
use crate::director::name::ServiceKey;
use kernel::Kernel;

/// As `record.py` writes them into the guest's /etc/hosts.
const HOSTS: &[(&str, &str)] = &[
    ("127.0.0.1", "localhost"),
    ("10.0.0.200", "web.example.org www"),
    ("10.0.0.201", "a-rather-long-name.for-a-host.example.org"),
    ("10.0.0.202", "six.example.org"),
    ("2001:db8::200", "six.example.org"),
];

/// What the recordings use of /etc/services.
const SERVICES: &str = "\
ssh 22/tcp
mdns 5353/udp
domain 53/tcp
domain 53/udp
http 80/tcp www
https 443/tcp
https 443/udp
http-alt 8080/tcp webcache
http-alt 8080/udp
";

/// What one command line said.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    out: String,
    err: String,
    status: u8,
}

/// Runs one command line, the words after `ipvsadm`.
fn run(director: &mut impl Director, words: &[String], input: &str) -> Said {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let names = Names::fixed(HOSTS, SERVICES);
    let mut session = Session { program: "ipvsadm", director, names, out: &mut out, err: &mut err };
    let status = session.run(words, input.as_bytes()).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { out: text(out), err: text(err), status }
}

impl<D: Director> Director for &mut D {
    fn apply_each(&mut self, commands: &[Command]) -> io::Result<Vec<Result<(), Refusal>>> {
        (**self).apply_each(commands)
    }

    fn services(&mut self, server_traffic: bool) -> io::Result<Vec<ServiceView>> {
        (**self).services(server_traffic)
    }

    fn service(&mut self, key: &ServiceKey) -> io::Result<Option<ServiceView>> {
        (**self).service(key)
    }

    fn timeouts(&mut self) -> io::Result<TimeoutsView> {
        (**self).timeouts()
    }

    fn connections(&mut self, each: &mut dyn FnMut(ConnectionView) -> io::Result<()>) -> io::Result<()> {
        (**self).connections(each)
    }
}

const NO_TRAFFIC: TrafficView =
    TrafficView { connections: 0, in_packets: 0, out_packets: 0, in_bytes: 0, out_bytes: 0 };

/// A file of the tests' data.
fn data(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The words of a line: blanks between them, single quotes around one with blanks.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'').expect("a closed quote"),
            None => rest.split_at(rest.find(' ').unwrap_or(rest.len())),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    words
}

/// A recorded command line: its words, its input, and what it said.
#[derive(Debug, Default)]
struct Recorded {
    line: String,
    input: String,
    said: Said,
}

/// Reads a recording: `> ` begins a command line, `< ` is its input, `  ` its output, `! ` what it complained of,
/// `exit ` its exit status. A backslash at the end of a line of input stands for no end of line.
fn recording(text: &str) -> Vec<Recorded> {
    let mut lines: Vec<Recorded> = Vec::new();
    for text in text.lines().filter(|text| !text.starts_with('#')) {
        if let Some(line) = text.strip_prefix("> ") {
            lines.push(Recorded { line: line.to_owned(), ..Recorded::default() });
            continue;
        }
        let recorded = lines.last_mut().expect("a command line first");
        if let Some(status) = text.strip_prefix("exit ") {
            recorded.said.status = status.parse().unwrap();
            continue;
        }
        let (kind, text) = text.split_at(text.len().min(2));
        let (to, text) = match kind {
            "< " | "<" => (&mut recorded.input, text),
            "! " => (&mut recorded.said.err, text),
            "  " => (&mut recorded.said.out, text),
            other => panic!("`{other}` in a recording"),
        };
        match text.strip_suffix('\\') {
            Some(open) => to.push_str(open),
            None => *to += &format!("{text}\n"),
        }
    }
    lines
}

/// How many command lines a recording has; all that are answered differently are shown.
fn replay(file: &str) -> usize {
    let lines = recording(&data(&format!("ipvsadm/{file}")));
    let mut kernel = Kernel::default();
    let mut wrong = String::new();
    for Recorded { line, input, said } in &lines {
        let words = words(line);
        let got = run(&mut kernel, &words[1..], input);
        if got != *said {
            wrong += &format!("> {line}\n  ipvsadm: {said:#?}\n  here: {got:#?}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    lines.len()
}

#[test]
fn every_recorded_command_line_is_answered_as_ipvsadm_answers() {
    let counts = [
        ("01-options.txt", 140),
        ("02-services.txt", 200),
        ("03-servers.txt", 165),
        ("04-other.txt", 95),
        ("05-restore.txt", 35),
        ("06-names.txt", 35),
        ("07-combinations.txt", 840),
    ];
    for (file, least) in counts {
        let count = replay(file);
        assert!(count >= least, "{file} has only {count} command lines");
    }
}

/// 10,000 lines make few calls of the director, and what is refused is said in order.
#[test]
fn a_long_file_is_restored_in_few_steps() {
    let mut file: String = (0..10_000_u32)
        .map(|i| format!("-A -t 10.{}.{}.{}:80 -s rr\n", i >> 16, i >> 8 & 255, i & 255))
        .collect();
    file += "-A -t 10.0.0.0:80\n-a -t 10.99.0.0:80 -r 10.1.0.1\n-D -t 10.99.0.0:80\n-Z\n-D -t 10.0.0.1:81\n";
    let mut kernel = Kernel::default();
    let said = run(&mut kernel, &["-R".to_owned()], &file);
    assert_eq!(said.err, "Service already exists\nService not defined\nNo such service\nNo such service\n");
    assert_eq!(said.status, 255);
    assert_eq!(kernel.services(false).unwrap().len(), 10_000);
    assert!(kernel.calls < 10, "{} calls", kernel.calls);
}

/// A connection of a listing in numbers.
fn connection(row: &str) -> ConnectionView {
    let [protocol, expires, state, client, vip, server] = row.split_whitespace().collect::<Vec<_>>()[..]
    else {
        panic!("`{row}` is no connection")
    };
    ConnectionView {
        protocol: protocol.to_owned(),
        expires_s: seconds(expires),
        state: state.to_owned(),
        client: client.parse().unwrap(),
        virtual_address: vip.parse().unwrap(),
        server: server.parse().unwrap(),
        local: None,
        template: false,
        offloaded: false,
        engine: None,
        engine_data: None,
    }
}

fn seconds(expires: &str) -> u64 {
    let (minutes, seconds) = expires.split_once(':').unwrap();
    60 * minutes.parse::<u64>().unwrap() + seconds.parse::<u64>().unwrap()
}

/// The same connections in numbers, with names, and with the columns of persistence engines.
#[test]
fn recorded_connections_are_listed_as_ipvsadm_lists_them() {
    let listings = recording(&data("ipvsadm/traffic/connections.txt"));
    let rows = |out: &str| out.lines().skip(2).map(String::from).collect::<Vec<_>>();
    let mut kernel = Kernel::default();
    kernel.connections = rows(&listings[0].said.out).iter().map(|row| connection(row)).collect();
    assert_eq!((listings.len(), kernel.connections.len()), (3, 8));
    for Recorded { line, said, .. } in listings {
        // Time went on between the listings.
        for (connection, row) in kernel.connections.iter_mut().zip(rows(&said.out)) {
            connection.expires_s = seconds(row.split_whitespace().nth(1).unwrap());
        }
        assert_eq!(run(&mut kernel, &words(&line)[1..], ""), said, "{line}");
    }
}

#[test]
fn a_template_of_a_mark_has_no_names_of_ports() {
    let mut kernel = Kernel::default();
    kernel.connections = vec![connection("IP 05:59 NONE 198.51.100.7:0 0.0.0.1:80 10.0.0.200:22")];
    assert_eq!(
        run(&mut kernel, &words("-Lc"), "").out.lines().nth(2).unwrap(),
        "IP  05:59  NONE        198.51.100.7:0     0.0.0.1:80         web.example.org:22"
    );
}

/// Numbers of traffic, which no recording has: large ones, and those of a server's rates.
#[test]
fn traffic_is_listed_in_nine_columns() {
    let mut kernel = Kernel::default();
    for line in ["-A -t 10.0.0.1:80 -s rr", "-a -t 10.0.0.1:80 -r 10.1.0.1:80 -m"] {
        assert_eq!(run(&mut kernel, &words(line), ""), Said::default());
    }
    kernel.traffic = TrafficView {
        connections: 123,
        in_packets: 123_456_789,
        out_packets: 0,
        in_bytes: 12_345_678_901,
        out_bytes: 99_999_999,
    };
    let rows = |kernel: &mut Kernel, line: &str| {
        run(kernel, &words(line), "").out.lines().skip(3).map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(
        rows(&mut kernel, "-Ln --stats"),
        [
            "TCP  10.0.0.1:80                       123  123456K        0   12345M 99999999",
            "  -> 10.1.0.1:80                       123  123456K        0   12345M 99999999",
        ]
    );
    assert_eq!(
        rows(&mut kernel, "-Ln --stats --exact"),
        [
            "TCP  10.0.0.1:80                       123 123456789        0 12345678901 99999999",
            "  -> 10.1.0.1:80                       123 123456789        0 12345678901 99999999",
        ]
    );
    assert_eq!(
        rows(&mut kernel, "-Ln --rate"),
        [
            "TCP  10.0.0.1:80                       123  123456K        0   12345M 99999999",
            "  -> 10.1.0.1:80                       123 123456789        0   12345M 99999999",
        ]
    );
}

/// Who talks to the director fails: that is said, and nothing more is tried.
#[test]
fn a_lost_director_ends_the_run() {
    let mut kernel = Kernel::default();
    kernel.lost = true;
    let said = run(&mut kernel, &words("-A -t 10.0.0.1:80"), "");
    assert_eq!((said.err.as_str(), said.status), ("Connection reset by peer\n", 255));
    let said = run(&mut kernel, &words("-Ln -t 10.0.0.1:80"), "");
    assert_eq!((said.err.as_str(), said.status), ("Connection reset by peer\n", 1));
    let said = run(&mut kernel, &words("-R"), "-A -t 10.0.0.1:80\n-L -n\n");
    assert_eq!((said.out.as_str(), said.err.as_str()), ("", "Connection reset by peer\n"));
}
