//! `xvs show` on a loaded director, and what the command line says of itself.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddrV4;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use xvs::control::view::{
    ConnectionView, CountersView, DriftView, DropView, InfoView, InterfaceView, ServiceView, TimeoutsView,
    TunableView,
};
use xvs::director::marks::MarkRule;

use crate::client::{self, Resolver, connect, patiently};
use crate::lab::{self, DR_VIP, Lab, NAT, UDP_PORT};
use crate::netns::signal;
use crate::xvs::{Xvs, abc, client_command, config, ends, ipvsadm, say, service, wait};

const DNS: SocketAddrV4 = SocketAddrV4::new(DR_VIP, UDP_PORT);

fn loaded(lab: &Lab) -> Xvs {
    let services = [
        service(("tcp", NAT), ("wlc", "nat"), &abc(8080, [1, 20, 300])),
        service(("udp", DNS), ("rr", "dr"), &abc(UDP_PORT, [1; 3])),
    ];
    let xvs = Xvs::start(lab, &config(&services));
    ipvsadm(lab, "-A -t 10.0.0.100:443 -s sh -b sh-port -p 3600");
    ipvsadm(lab, "-a -t 10.0.0.100:443 -r 10.1.0.11:443 -m -x 100000 -y 9");
    ipvsadm(lab, "-A -u 10.0.0.100:5060 -s rr -o");
    say(lab, &["mark", "add", "5", "--protocol", "tcp", "--to", "10.0.0.0/24", "--ports", "8000-8999"]);
    say(
        lab,
        &["mark", "add", "4294967295", "--protocol", "udp", "--to", "10.0.0.101", "--from", "192.0.2.0/24"],
    );
    xvs
}

/// The words of every table.
const TABLES: [&str; 14] = [
    "services",
    "servers",
    "servers --view load",
    "servers --view totals",
    "servers --view rates",
    "servers --view thresholds",
    "servers tcp:10.0.0.100:80",
    "connections",
    "drops --all",
    "interfaces",
    "tunables",
    "timeouts",
    "marks",
    "connections --client 10.0.1.0/24 --state ESTABLISHED --limit 5",
];

fn shown(lab: &Lab, words: &str) -> String {
    say(lab, &["show"].into_iter().chain(words.split(' ')).collect::<Vec<_>>())
}

/// Two columns at least are blank, in every line, between the titles of neighbours.
fn is_aligned(table: &str) -> Result<(), String> {
    let title = table.lines().next().ok_or("nothing")?;
    let mut ends = Vec::new();
    for (start, _) in title.match_indices(|c: char| c != ' ') {
        let is_first = start == 0 || title[..start].ends_with("  ");
        if is_first {
            ends.push((start, title[start..].find("  ").map_or(title.len(), |len| start + len)));
        }
    }
    for pair in ends.windows(2) {
        let between = pair[0].1..pair[1].0;
        let is_blank = |column: usize| {
            table.lines().all(|line| line.as_bytes().get(column).is_none_or(|byte| *byte == b' '))
        };
        let blanks = between.clone().filter(|column| is_blank(*column)).count();
        if blanks < 2 {
            return Err(format!("columns {between:?} have {blanks} blank:\n{table}"));
        }
    }
    match table.lines().find(|line| line.ends_with(' ')) {
        Some(line) => Err(format!("{line:?} ends in blanks")),
        None => Ok(()),
    }
}

/// What `words --json` shows is a `T`, with no field more and none less.
fn json<T: DeserializeOwned + Serialize>(lab: &Lab, words: &str) -> T {
    let text = shown(lab, &format!("{words} --json"));
    let shown: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{words}: {e}:\n{text}"));
    let value: T = serde_json::from_value(shown.clone()).unwrap_or_else(|e| panic!("{words}: {e}:\n{text}"));
    assert_eq!(serde_json::to_value(&value).expect("JSON"), shown, "{words}");
    value
}

#[test]
fn tables_are_aligned_and_json_is_what_the_views_are() {
    let lab = Lab::new();
    let _xvs = loaded(&lab);
    client::run(&lab, async || {
        let mut open = Vec::new();
        for n in 0..40 {
            let mut wire = connect(lab::client(n), NAT).await.expect("connected");
            patiently(wire.ask("name")).await.expect("answered");
            open.push(wire);
            let from = SocketAddrV4::new(lab::client(n), 20_000 + u16::try_from(n).unwrap());
            Resolver::new(from, DNS).await.expect("a socket").ask(1).await.expect("answered");
        }
        for words in TABLES {
            let shown = shown(&lab, words);
            // Notes may follow it.
            let table = shown.split("\n\n").next().expect("a table");
            assert!(table.lines().count() > 1, "nothing in {words}:\n{shown}");
            is_aligned(table).unwrap_or_else(|why| panic!("{words}: {why}"));
        }
        assert_eq!(json::<InfoView>(&lab, "info").connections, 80);
        let services: Vec<ServiceView> = json(&lab, "services");
        assert_eq!(json::<Vec<ServiceView>>(&lab, "servers").len(), services.len());
        assert_eq!(json::<Vec<ServiceView>>(&lab, "servers tcp:10.0.0.100:443").len(), 1);
        let active = |s: &ServiceView| s.servers.iter().map(|d| d.active).sum::<u32>();
        let web = services.iter().find(|s| s.service.to_string() == "tcp:10.0.0.100:80").expect("there");
        assert_eq!(active(web), 40);
        assert!(!json::<CountersView>(&lab, "counters").steering.is_empty());
        assert!(json::<Vec<DropView>>(&lab, "drops --all").len() > 10);
        assert_eq!(json::<Vec<InterfaceView>>(&lab, "interfaces").len(), 2);
        json::<Vec<TunableView>>(&lab, "tunables");
        json::<TimeoutsView>(&lab, "timeouts");
        assert_eq!(json::<Vec<MarkRule>>(&lab, "marks").len(), 2);
        assert!(!json::<DriftView>(&lab, "drift").changes.is_empty());
        // A connection is a line, so that millions can be read one after the other.
        let lines = shown(&lab, "connections --json");
        let parse = |line: &str| serde_json::from_str::<ConnectionView>(line).expect("a connection");
        assert_eq!(lines.lines().map(parse).filter(|c| c.state == "ESTABLISHED").count(), 40);
    });
    for words in ["info", "counters", "drift"] {
        assert!(!shown(&lab, words).trim().is_empty());
    }
}

#[test]
fn watch_shows_again_until_it_is_interrupted_or_nobody_reads() {
    let lab = Lab::new();
    let _xvs = loaded(&lab);
    let watch = |words: &str| {
        let words: Vec<_> = ["show"].into_iter().chain(words.split(' ')).collect();
        let mut command = client_command(&lab, &words);
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("xvs show")
    };
    for (words, mark) in [
        ("info --watch 0.2", "version"),
        ("services -w 0.2", "SERVICE"),
        ("connections --watch 0.2", "PROTO"),
        ("--json --watch=0.2 info", "{"),
    ] {
        for is_interrupted in [true, false] {
            let mut child = watch(words);
            let mut out = BufReader::new(child.stdout.take().expect("piped"));
            let mut seen = 0;
            while seen < 3 {
                let mut line = String::new();
                assert!(out.read_line(&mut line).expect("UTF-8") > 0, "{words} ended");
                seen += usize::from(line.starts_with(mark));
            }
            if is_interrupted {
                signal(&child.id().to_string(), "INT");
            } else {
                drop(out);
            }
            let Some(status) = wait(&mut child) else {
                child.kill().expect("kill");
                panic!("{words}: still there");
            };
            let mut err = String::new();
            child.stderr.take().expect("piped").read_to_string(&mut err).expect("UTF-8");
            assert_eq!(err, "", "{words}");
            if is_interrupted {
                assert_eq!(status.signal(), Some(Signal::SIGINT as i32), "{words}: {status}");
            } else {
                assert!(status.success(), "{words}: {status}");
            }
        }
    }
}

#[test]
fn what_is_wrong_is_said_with_its_cure_and_an_exit_status() {
    let lab = Lab::new();
    let nobody = |words: &[&str], code: i32, told: &[&str]| {
        let (status, out, err) = ends(&mut client_command(&lab, words));
        assert_eq!((status.code(), out.as_str()), (Some(code), ""), "{words:?}: {err}");
        for told in told {
            assert!(err.contains(told), "{words:?} does not say {told:?}:\n{err}");
        }
    };
    let socket = crate::xvs::socket(&lab).display().to_string();
    for words in ["show info", "show connections", "set sloppy_tcp=1", "reload", "save", "mark list"] {
        let words: Vec<_> = words.split(' ').collect();
        nobody(&words, 1, &[&socket, "is `xvs run` running?", "XVS_SOCKET"]);
    }
    nobody(&["show", "info", "--socket", "/nowhere/x.sock"], 1, &["/nowhere/x.sock"]);
    let _xvs = loaded(&lab);
    let before = say(&lab, &["save"]);
    for (words, code, told) in [
        ("set sloppy=1", 1, &["`sloppy`", "sloppy_tcp"][..]),
        ("set sloppy_tcp=2", 1, &["sloppy_tcp = 2", "0..=1"]),
        ("set expire_nodest_conn=1 sloppy_tcp=2", 1, &["sloppy_tcp = 2"]),
        ("set sloppy_tcp", 2, &["NAME=VALUE"]),
        ("set sloppy_tcp=on", 2, &["`on`", "4294967295"]),
        ("set", 2, &["NAME=VALUE"]),
        ("show", 2, &["services"]),
        ("show server", 2, &["servers"]),
        ("show --watch services", 2, &["behind"]),
        ("show services --watch 0", 2, &["0.1 to 86400"]),
        ("show servers tcp:10.0.0.9:80", 1, &["tcp:10.0.0.9:80", "xvs show services"]),
        ("show connections --state OPEN", 2, &["`OPEN`", "ESTABLISHED"]),
        ("show connections --client web", 2, &["`web`", "198.51.100.0/24"]),
        ("drain tcp:10.0.0.100:80 10.1.0.99:8080", 1, &["10.1.0.99:8080", "xvs show servers"]),
        ("drain tcp:10.0.0.9:80 10.1.0.11:8080", 1, &["tcp:10.0.0.9:80", "xvs show services"]),
        ("drain 10.0.0.100:80 10.1.0.11:8080", 2, &["tcp:ADDRESS:PORT"]),
        ("drain tcp:10.0.0.100:80 10.1.0.11", 2, &["port"]),
        ("mark add 0 --protocol tcp --to 10.0.0.100", 2, &["from 1 to 4294967295"]),
        ("mark add 5 --protocol icmp --to 10.0.0.100", 2, &["`icmp`", "tcp"]),
        ("mark add 5 --protocol tcp --to web", 2, &["192.0.2.0/24"]),
        ("mark add 5 --protocol tcp --to 10.0.0.100 --ports 90-80", 2, &["8000-8999"]),
        ("mark add 5 --protocol tcp --to 10.0.0.0/24 --ports 8000-8999", 1, &["is there already"]),
        ("mark delete 6 --protocol tcp --to 10.0.0.100", 1, &["mark 6", "xvs mark list"]),
        ("save /nowhere/xvs.toml", 1, &["/nowhere/xvs.toml"]),
    ] {
        nobody(&words.split(' ').collect::<Vec<_>>(), code, told);
    }
    assert_eq!(say(&lab, &["save"]), before, "what was refused has changed something");
}

fn xvs(words: &[&str]) -> String {
    let (status, out, err) =
        ends(Command::new(env!("CARGO_BIN_EXE_xvs")).args(words).env("XVS_SOCKET", "/secret"));
    assert!(status.success() && err.is_empty(), "{words:?}: {err}");
    assert!(!out.contains("/secret"), "{words:?} shows this shell's environment");
    out
}

#[test]
fn completions_and_help_know_every_command() {
    let commands = [
        "run",
        "check",
        "doctor",
        "ipvsadm",
        "show",
        "set",
        "mark",
        "drain",
        "down",
        "up",
        "reload",
        "save",
        "completions",
        "man",
    ];
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = xvs(&["completions", shell]);
        for command in commands {
            assert!(script.contains(command), "{shell}: no {command}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("xvs.bash");
    std::fs::write(&file, xvs(&["completions", "bash"])).unwrap();
    let (status, out, err) = ends(Command::new("bash").arg("-n").arg(&file));
    assert!(status.success() && out.is_empty() && err.is_empty(), "{out}{err}");
    let completed = "source $1; COMP_WORDS=(xvs sh); COMP_CWORD=1; _xvs xvs sh xvs; echo ${COMPREPLY[@]}";
    let (_, out, err) = ends(Command::new("bash").args(["-c", completed, "-"]).arg(&file));
    assert_eq!(out, "show\n", "{err}");
    for command in ["show", "set", "mark", "drain", "down", "up", "reload", "save", "run", "check"] {
        let help = xvs(&[command, "--help"]);
        for status in ["Exit status:", "\n  0  ", "\n  1  ", "\n  2  "] {
            assert!(help.contains(status), "`xvs {command} --help` does not tell its exit status:\n{help}");
        }
    }
}

#[test]
fn every_command_has_a_man_page_in_the_language_of_man_pages() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("share/man8");
    xvs(&["man", folder.to_str().unwrap()]);
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in ["xvs.8", "xvs-run.8", "xvs-show.8", "xvs-show-servers.8", "xvs-mark-add.8", "xvs-ipvsadm.8"]
    {
        assert!(names.iter().any(|n| n == name), "no {name}: {names:?}");
    }
    assert_eq!(xvs(&["man"]), std::fs::read_to_string(folder.join("xvs.8")).unwrap());
    for name in names {
        let page = std::fs::read_to_string(folder.join(&name)).unwrap();
        let title = format!(".TH {} 8 ", name.trim_end_matches(".8"));
        assert!(
            page.lines().any(|line| line.starts_with(&title) && line.contains("xvs 0")),
            "{name}:\n{page}"
        );
        for section in [".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION"] {
            assert!(page.lines().any(|line| line == section), "{name} has no {section}");
        }
        // Requests and macros of man(7); another one is a line of text that a reader never sees.
        let known = [
            ".SH", ".TP", ".TH", ".PP", ".RS", ".RE", ".IP", ".br", ".ie", ".el", ".ds", ".sp", ".nf", ".fi",
        ];
        let request = |line: &str| line.starts_with('.').then(|| line.split(' ').next().unwrap().to_owned());
        for request in page.lines().filter_map(request) {
            assert!(known.contains(&request.as_str()), "{name} has {request}:\n{page}");
        }
        // Every page that `SEE ALSO` would name is there: those of its subcommands.
        for other in page.lines().filter_map(|line| line.strip_suffix("(8)")) {
            let other = other.replace('\\', "");
            assert!(folder.join(format!("{other}.8")).exists(), "{name} names {other}(8)");
        }
    }
}
