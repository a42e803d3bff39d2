//! A running director and its file: what a reload would change, changes and refuses; drift, save, restart.

use std::fs;
use std::net::SocketAddrV4;

use crate::client::{self, Resolver, connect, patiently};
use crate::lab::{self, Lab, NAT_VIP, UDP_PORT};
use crate::netns::signal;
use crate::xvs::{
    Xvs, abc, client_command, config, config_path, ends, ipvsadm, replace_config, say, service, start_with,
    until, write_config,
};

const WEB: SocketAddrV4 = SocketAddrV4::new(NAT_VIP, 80);
const DNS: SocketAddrV4 = SocketAddrV4::new(NAT_VIP, UDP_PORT);

fn web(weights: [u16; 3]) -> String {
    service(("tcp", WEB), ("rr", "nat"), &abc(8080, weights))
}

fn dns() -> String {
    service(("udp", DNS), ("rr", "nat"), &abc(UDP_PORT, [1; 3]))
}

fn rules(lab: &Lab) -> String {
    ipvsadm(lab, "-Sn")
}

fn servers(lab: &Lab, count: usize) -> String {
    client::run(lab, async || client::servers_in_a_row(count, lab::client(0), WEB).await)
}

/// A file with two errors: their lines, as they are to be told.
fn broken() -> (String, [String; 2]) {
    let text = config(&[web([1; 3])]).replace("\"rr\"", "\"rrr\"").replace("13:8080", "13:80800");
    let line = |word: &str| text.lines().position(|line| line.contains(word)).expect("it is there") + 1;
    let told = [(line("rrr"), "\"rrr\" is unknown"), (line("80800"), "a number from 1 to 65_535")];
    let told = told.map(|(line, what)| format!("xvs.toml:{line}:{what}"));
    (text, told)
}

/// Whether each of `told` (`FILE:LINE:WHAT`) is on a line of `text`.
fn tells(text: &str, told: &[String; 2]) -> bool {
    told.iter().all(|told| {
        let (place, what) = told.rsplit_once(':').expect("FILE:LINE:WHAT");
        text.lines().any(|line| line.contains(&format!("{place}:")) && line.contains(what))
    })
}

#[test]
fn a_changed_file_is_shown_then_applied_and_a_broken_one_changes_nothing() {
    let lab = Lab::new();
    let xvs = Xvs::start(&lab, &config(&[web([1; 3])]));
    client::run(&lab, async || {
        let mut open = connect(lab::client(5), WEB).await.expect("connected");
        let there = patiently(open.ask("name")).await.expect("answered");
        assert_eq!(there, "c");
        let mut goes_on = async || assert_eq!(patiently(open.ask("name")).await.expect("goes on"), there);

        // What would be: said, not done.
        write_config(&lab, &config(&[web([1, 1, 0]), dns()]));
        let before = rules(&lab);
        let changes = [
            "~ server 10.1.0.13:8080 in tcp:10.0.0.100:80: weight 1 -> 0",
            "+ service udp:10.0.0.100:53 rr",
            "+ server 10.1.0.11:53 in udp:10.0.0.100:53: nat, weight 1",
            "+ server 10.1.0.12:53 in udp:10.0.0.100:53: nat, weight 1",
            "+ server 10.1.0.13:53 in udp:10.0.0.100:53: nat, weight 1",
            "",
        ]
        .join("\n");
        assert_eq!(say(&lab, &["reload", "--dry-run"]), changes);
        let file = config_path(&lab).display().to_string();
        assert_eq!(say(&lab, &["show", "drift"]), format!("a reload of {file} would change:\n{changes}"));
        assert_eq!(rules(&lab), before);
        assert_eq!(servers(&lab, 3), "BAC");

        // Done by a command.
        assert_eq!(say(&lab, &["reload"]), changes);
        assert_eq!(say(&lab, &["reload"]), "nothing changes\n");
        assert_eq!(say(&lab, &["show", "drift"]), format!("{file} is what runs\n"));
        assert_eq!(servers(&lab, 4), "BABA");
        goes_on().await;
        let resolver = Resolver::new(SocketAddrV4::new(lab::client(0), 30_000), DNS).await.expect("a socket");
        assert_eq!(resolver.ask(1).await.expect("answered"), "c");

        // Done by a signal.
        write_config(&lab, &config(&[web([0, 1, 0])]));
        signal(&xvs.pid().to_string(), "HUP");
        until("the UDP service is gone", || !rules(&lab).contains("-u"));
        assert_eq!(servers(&lab, 2), "BB");

        // Refused, by all ways.
        let before = rules(&lab);
        let (text, told) = broken();
        write_config(&lab, &text);
        for words in [&["reload"][..], &["reload", "--dry-run"], &["show", "drift"]] {
            let (status, out, err) = ends(&mut client_command(&lab, words));
            assert_eq!((status.code(), out.as_str()), (Some(1), ""), "{words:?}: {err}");
            assert!(tells(&err, &told), "{words:?} does not tell {told:?}:\n{err}");
            assert!(err.contains("did you mean \"rr\"") && err.contains("for example"), "no cure:\n{err}");
        }
        signal(&xvs.pid().to_string(), "HUP");
        until("the log tells the errors", || tells(&xvs.log(), &told));
        fs::remove_file(&file).unwrap();
        let (status, _, err) = ends(&mut client_command(&lab, &["reload"]));
        assert!(status.code() == Some(1) && err.contains(&file), "{err}");
        assert_eq!(rules(&lab), before);
        assert_eq!(servers(&lab, 2), "BB");
        goes_on().await;
    });
}

#[test]
fn a_file_that_is_watched_is_reloaded_when_it_changes() {
    let lab = Lab::new();
    let watching =
        |services: &[String]| config(services).replace("[director]\n", "[director]\nwatch = true\n");
    let xvs = Xvs::start(&lab, &watching(&[web([1; 3])]));
    let before = rules(&lab);
    write_config(&lab, &watching(&[web([1; 3]), dns()]));
    until("the new service is there", || rules(&lab).contains("-A -u 10.0.0.100:53"));

    // Written in place, it may have been read before it was whole.
    let refused = || xvs.log().matches("reload refused").count();
    let refused_before = refused();
    let (text, told) = broken();
    replace_config(&lab, &text.replace("[director]\n", "[director]\nwatch = true\n"));
    let told = told.map(|told| told.rsplit_once(':').expect("WHAT").1.to_owned());
    until("the log tells the errors", || told.iter().all(|what| xvs.log().contains(what)));
    assert!(rules(&lab).contains("-A -u 10.0.0.100:53"));
    replace_config(&lab, &watching(&[web([1; 3])]));
    until("it is what it was", || rules(&lab) == before);
    assert_eq!(refused() - refused_before, 1, "once, not at every look");
}

/// A script brings a VIP and its service in one breath.
#[test]
fn a_vip_that_never_comes_is_missed_and_one_that_just_came_is_not() {
    let lab = Lab::new();
    let xvs = Xvs::start(&lab, &config(&[]));
    lab.ip("director", &["address add 10.0.0.150/32 dev lb0"]);
    ipvsadm(&lab, "-A -t 10.0.0.150:80 -s rr");
    ipvsadm(&lab, "-A -t 10.0.0.151:80 -s rr");
    let missed = |vip: &str| xvs.log().contains(&format!("VIP {vip} is not on this host"));
    until("the VIP that is nowhere is missed", || missed("10.0.0.151"));
    assert!(!missed("10.0.0.150"), "{}", xvs.log());
}

#[test]
fn what_was_changed_at_run_time_drifts_is_saved_and_survives_a_restart() {
    let lab = Lab::new();
    let xvs = Xvs::start(&lab, &config(&[web([1; 3])]));
    for line in [
        "-E -t 10.0.0.100:80 -s wrr",
        "-e -t 10.0.0.100:80 -r 10.1.0.11:8080 -m -w 3",
        "-d -t 10.0.0.100:80 -r 10.1.0.12:8080",
        "-A -t 10.0.0.101:80 -s sh -b sh-port,sh-fallback",
        "-a -t 10.0.0.101:80 -r 10.1.0.12 -g -w 5 -x 100 -y 50",
        "-A -u 10.0.0.100:53 -s rr -o",
        "-a -u 10.0.0.100:53 -r 10.1.0.13:53 -m",
        "-A -t 10.0.0.100:0 -s wlc -p 60 -M 255.255.255.0",
        "-a -t 10.0.0.100:0 -r 10.1.0.12 -m",
        "-A -f 5 -s lblcr",
        "-a -f 5 -r 10.1.0.13 -m",
        "--set 800 60 30",
    ] {
        ipvsadm(&lab, line);
    }
    say(&lab, &["set", "expire_nodest_conn=1", "conn_reuse_mode=0"]);
    say(&lab, &["mark", "add", "5", "--protocol", "tcp", "--to", "10.0.0.101", "--ports", "90-99"]);
    let changes = say(&lab, &["reload", "--dry-run"]);
    for line in [
        "~ timeout tcp: 800 s -> 900 s",
        "~ tunable expire_nodest_conn: 1 -> 0",
        "- mark rule tcp to 10.0.0.101/32 ports 90-99: mark 5",
        "- service fwm:5",
        "~ service tcp:10.0.0.100:80: scheduler wrr -> rr",
        "~ server 10.1.0.11:8080 in tcp:10.0.0.100:80: weight 3 -> 1",
        "+ server 10.1.0.12:8080 in tcp:10.0.0.100:80: nat, weight 1",
    ] {
        assert!(changes.lines().any(|l| l == line), "no {line:?} in\n{changes}");
    }
    let state = |lab: &Lab| {
        ["ipvsadm -Sn", "ipvsadm -Ln --timeout", "ipvsadm -Ln --thresholds", "show tunables", "mark list"]
            .map(|line| say(lab, &line.split(' ').collect::<Vec<_>>()))
    };
    let before = state(&lab);

    // Into its own file: what runs is what it says.
    let file = config_path(&lab);
    say(&lab, &["save", file.to_str().unwrap()]);
    assert_eq!(say(&lab, &["reload"]), "nothing changes\n");
    let none = format!("{} is what runs\n", file.display());
    assert_eq!(say(&lab, &["show", "drift"]), none);
    assert_eq!(state(&lab), before);
    assert_eq!(say(&lab, &["save"]), fs::read_to_string(&file).unwrap());

    // And into another, by which the next one starts.
    let saved = lab.dir().join("saved.toml");
    fs::write(&saved, say(&lab, &["save"])).unwrap();
    let checked = say(&lab, &["check", "--config", saved.to_str().unwrap()]);
    assert!(checked.contains("5 services, 6 servers, 1 mark rule: fine"), "{checked}");
    xvs.stop();
    let _again = start_with(&lab, &saved);
    assert_eq!(state(&lab), before);
    assert_eq!(say(&lab, &["show", "drift"]), none.replace("xvs.toml", "saved.toml"));
    assert_eq!(say(&lab, &["save"]), fs::read_to_string(&saved).unwrap());
    // As the kernel has it: while the server of weight 3 was the only one, 3 was one step.
    assert_eq!(servers(&lab, 4), "CAAA");
}
