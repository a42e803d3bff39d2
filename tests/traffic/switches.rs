//! What operators get that the kernel does not have, seen by real clients and servers.

use std::io::ErrorKind;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use crate::client::{self, Resolver, connect, name_of_server, patiently, within};
use crate::lab::{self, Lab, NAT, NAT_VIP, UDP_PORT, alone};
use crate::netns::succeed;
use crate::xvs::{Xvs, abc, config, config_path, ipvsadm, say, service, until};

const DNS: SocketAddrV4 = SocketAddrV4::new(NAT_VIP, UDP_PORT);
const WEB: &str = "tcp:10.0.0.100:80";
/// Well below the second after which a client's TCP repeats a lost packet for the first time.
const AT_ONCE: Duration = Duration::from_millis(900);

/// A service by NAT over all three servers, with these keys besides.
fn web(scheduler: &str, keys: &str) -> String {
    with_keys(service(("tcp", NAT), (scheduler, "nat"), &abc(8080, [1; 3])), keys)
}

fn with_keys(service: String, keys: &str) -> String {
    service.replacen("forward =", &format!("{keys}\nforward ="), 1)
}

/// What `xvs show servers` notes of a server.
fn note(lab: &Lab, server: &str) -> String {
    let rows = say(lab, &["show", "servers"]);
    let row = rows.lines().find(|line| line.contains(server)).expect("it is listed");
    row.split_whitespace().skip(7).collect::<Vec<_>>().join(" ")
}

#[test]
fn drained_a_server_keeps_its_clients_and_down_it_loses_them_at_once() {
    let lab = Lab::new();
    let keys = "persistence = 300\ntcp_when_down = \"reset\"";
    let _xvs = Xvs::start(&lab, &config(&[web("rr", keys)]));
    client::run(&lab, async || {
        let mut open = connect(lab::client(0), NAT).await.expect("connected");
        assert_eq!(patiently(open.ask("name")).await.expect("answered"), "c");
        say(&lab, &["drain", "--keep", WEB, "10.1.0.13:8080"]);
        assert_eq!(note(&lab, "10.1.0.13:8080"), "draining");
        let listed = ipvsadm(&lab, "-Ln");
        let row = listed.lines().find(|line| line.contains("10.1.0.13:8080")).expect("it is listed");
        let words: Vec<_> = row.split_whitespace().collect();
        assert_eq!(words, ["->", "10.1.0.13:8080", "Masq", "0", "1", "0"], "as with LVS");
        assert_eq!(patiently(open.ask("name")).await.expect("it goes on"), "c");
        assert_eq!(
            name_of_server(lab::client(0), NAT).await.expect("served"),
            "c",
            "persistence leads to it"
        );
        assert!(["a", "b"].contains(&name_of_server(lab::client(1), NAT).await.expect("served").as_str()));

        say(&lab, &["down", WEB, "10.1.0.13:8080"]);
        assert_eq!(note(&lab, "10.1.0.13:8080"), "down");
        let elsewhere = within(AT_ONCE, name_of_server(lab::client(0), NAT)).await.expect("served at once");
        assert_ne!(elsewhere, "c");
        let told = within(AT_ONCE, open.ask("name")).await.expect_err("it is reset");
        assert_eq!(told.kind(), ErrorKind::ConnectionReset, "{told}");

        let saved = say(&lab, &["save"]);
        assert!(saved.contains("state = \"down\""), "{saved}");
        std::fs::write(config_path(&lab), &saved).expect("written");
        assert_eq!(say(&lab, &["reload", "--dry-run"]), "nothing changes\n");
        say(&lab, &["up", WEB, "10.1.0.13:8080"]);
        assert_eq!(note(&lab, "10.1.0.13:8080"), "");
        let names = client::tally(client::many(12, 3, |i| name_of_server(lab::client(i + 2), NAT)).await);
        assert_eq!(names.len(), 3, "{names:?}");
    });
}

#[test]
fn a_drained_server_is_down_when_its_time_is_over() {
    let lab = Lab::new();
    let keys = "persistence = 300\ntcp_when_down = \"reset\"";
    let _xvs = Xvs::start(&lab, &config(&[web("rr", keys)]));
    client::run(&lab, async || {
        let mut open = connect(lab::client(0), NAT).await.expect("connected");
        assert_eq!(patiently(open.ask("name")).await.expect("answered"), "c");
        let start = Instant::now();
        say(&lab, &["drain", "--keep", "--deadline", "2", WEB, "10.1.0.13:8080"]);
        assert_eq!(patiently(open.ask("name")).await.expect("it goes on"), "c");
        until("it is down", || note(&lab, "10.1.0.13:8080") == "drained, down");
        let took = start.elapsed();
        assert!((Duration::from_millis(1500)..Duration::from_secs(5)).contains(&took), "after {took:?}");
        let told = within(AT_ONCE, open.ask("name")).await.expect_err("it is reset");
        assert_eq!(told.kind(), ErrorKind::ConnectionReset, "{told}");
    });
}

#[test]
fn no_datagram_is_lost_when_a_flows_server_is_removed_or_down() {
    let lab = Lab::new();
    let dns = with_keys(service(("udp", DNS), ("rr", "nat"), &abc(UDP_PORT, [1; 3])), "udp_rehome = true");
    let _xvs = Xvs::start(&lab, &config(&[dns]));
    client::run(&lab, async || {
        let mut resolvers = Vec::new();
        for n in 0..6 {
            let resolver =
                Resolver::new(SocketAddrV4::new(lab::client(n), 30_000), DNS).await.expect("a socket");
            resolver.ask(1).await.expect("answered");
            resolvers.push(resolver);
        }
        let asked = async |id: u16| {
            let mut names = String::new();
            for resolver in &resolvers {
                names += &within(AT_ONCE, resolver.ask(id)).await.expect("answered at the first try");
            }
            names
        };
        assert_eq!(asked(2).await, "cbacba", "each where it was");
        ipvsadm(&lab, "-d -u 10.0.0.100:53 -r 10.1.0.13:53");
        let names = asked(3).await;
        assert!(!names.contains('c'), "{names}");
        assert_eq!((&names[1..3], &names[4..]), ("ba", "ba"), "the others stay");
        assert_eq!(asked(4).await, names, "they stay where they went");
        say(&lab, &["down", "udp:10.0.0.100:53", "10.1.0.12:53"]);
        assert_eq!(asked(5).await, "aaaaaa");
        // As the kernel does it.
        say(&lab, &["set", "--service", "udp:10.0.0.100:53", "udp_rehome=false"]);
        ipvsadm(&lab, "-d -u 10.0.0.100:53 -r 10.1.0.11:53");
        assert!(within(AT_ONCE, resolvers[0].ask(6)).await.is_err(), "it waits");
    });
}

/// TCP connections that server `name` has with clients, as its kernel sees them.
fn established(lab: &Lab, name: &str) -> usize {
    let mut command = lab.command(name, "ss");
    let output = succeed(command.args(["-Htn", "state", "established", "sport = :8080"]));
    String::from_utf8_lossy(&output.stdout).lines().count()
}

#[test]
fn both_ends_learn_that_the_server_was_removed_if_asked() {
    let lab = Lab::new();
    let _xvs = Xvs::start(&lab, &config(&[web("rr", "reset_on_removal = true")]));
    // More than all buffers between the two hold: the server is in the middle of it.
    std::fs::write(lab.dir().join("long"), vec![7; 64 << 20]).expect("written");
    client::run(&lab, async || {
        let mut reading = connect(lab::client(0), NAT).await.expect("connected");
        reading.write(b"send long\n").await.expect("asked");
        patiently(reading.bytes(1000)).await.expect("it sends");
        let mut idle = connect(lab::client(1), NAT).await.expect("connected");
        assert_eq!(patiently(idle.ask("name")).await.expect("answered"), "b");
        assert_eq!((established(&lab, "c"), established(&lab, "b")), (1, 1));
        for server in ["10.1.0.13:8080", "10.1.0.12:8080"] {
            ipvsadm(&lab, &format!("-d -t 10.0.0.100:80 -r {server}"));
        }
        let told = within(AT_ONCE, idle.ask("name")).await.expect_err("it is reset");
        assert_eq!(told.kind(), ErrorKind::ConnectionReset, "{told}");
        let told = patiently(reading.bytes(64 << 20)).await.expect_err("it is reset");
        assert_eq!(told.kind(), ErrorKind::ConnectionReset, "{told}");
        until("its server knows", || established(&lab, "c") == 0);
        assert_eq!(name_of_server(lab::client(1), NAT).await.expect("served"), "a");
    });
}

#[test]
fn the_share_of_a_new_server_grows_over_its_start() {
    const START_S: u64 = 8;
    let _alone = alone();
    let lab = Lab::new();
    let ab = abc(8080, [1; 3])[..2].to_vec();
    let keys = format!("slow_start_s = {START_S}");
    let _xvs = Xvs::start(&lab, &config(&[with_keys(service(("tcp", NAT), ("wrr", "nat"), &ab), &keys)]));
    until("the first two have started", || {
        ["10.1.0.11:8080", "10.1.0.12:8080"].iter().all(|server| note(&lab, server).is_empty())
    });
    let seen = client::run(&lab, async || {
        let mut seen = Vec::new();
        ipvsadm(&lab, "-a -t 10.0.0.100:80 -r 10.1.0.13:8080 -m");
        let start = Instant::now();
        let note = note(&lab, "10.1.0.13:8080");
        assert!(note.starts_with("slow start "), "{note}");
        let mut n = 0;
        while start.elapsed() < Duration::from_secs(START_S + 4) {
            let at = start.elapsed();
            let name = name_of_server(lab::client(n), NAT).await.expect("served");
            seen.push((at.as_millis(), name));
            n += 1;
            tokio::time::sleep(Duration::from_millis(4)).await;
        }
        seen
    });
    let share = |from_s: u64, to_s: u64| {
        let of = u128::from(from_s) * 1000..u128::from(to_s) * 1000;
        let all: Vec<_> = seen.iter().filter(|(at, _)| of.contains(at)).collect();
        let own = all.iter().filter(|(_, name)| name == "c").count();
        assert!(all.len() > 40, "only {} connections from {from_s} to {to_s} s", all.len());
        own as f64 / all.len() as f64
    };
    // With a share of f beside two whole ones it gets f / (2 + f).
    let expected = |f: f64| f / (2.0 + f);
    let measured = [(0, 2), (3, 5), (6, 8), (9, 12)].map(|(from, to)| (share(from, to), from + to));
    println!("of {} connections the new server got {measured:.3?}", seen.len());
    for (share, twice) in measured {
        let wanted = expected((twice as f64 / 2.0 / START_S as f64).min(1.0));
        assert!((share - wanted).abs() < 0.05, "{share:.3}, not {wanted:.3}: {measured:.3?}");
    }
}
