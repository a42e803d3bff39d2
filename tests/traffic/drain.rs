//! Draining a server with a connection on it: nobody is cut off, nobody new comes, and in the end it is gone.

use std::time::{Duration, Instant};

use crate::client::{self, connect, patiently};
use crate::lab::{self, DR, Lab, NAT};
use crate::xvs::{Xvs, config, dr, ipvsadm, nat, say, until};

/// The row of a server, if it is there.
fn row(lab: &Lab, server: &str) -> Option<String> {
    say(lab, &["show", "servers"]).lines().find(|line| line.contains(server)).map(str::to_owned)
}

#[test]
fn a_drained_server_keeps_its_connection_gets_no_new_one_and_goes_with_it() {
    let lab = Lab::new();
    let _xvs = Xvs::start(&lab, &config(&[dr()]));
    // By DR the director sees only the client's FIN: the connection ends a second after that.
    ipvsadm(&lab, "--set 0 1 0");
    client::run(&lab, async || {
        let mut open = connect(lab::client(0), DR).await.expect("connected");
        assert_eq!(patiently(open.ask("name")).await.expect("answered"), "c");
        say(&lab, &["drain", "tcp:10.0.0.101:80", "10.1.0.13:80"]);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(3) {
            let row = row(&lab, "10.1.0.13:80").expect("not deleted while it has a connection");
            let words: Vec<_> = row.split_whitespace().skip(2).collect();
            assert_eq!((words[..3].join(" ").as_str(), words.last()), ("dr 0 1", Some(&"draining")), "{row}");
            assert_eq!(patiently(open.ask("name")).await.expect("it works"), "c");
            let others = client::servers_in_a_row(4, lab::client(1), DR).await;
            assert!(!others.contains('C') && others.contains('A') && others.contains('B'), "{others}");
        }
        drop(open);
    });
    until("the server is deleted", || row(&lab, "10.1.0.13:80").is_none());
    let others = client::run(&lab, async || client::servers_in_a_row(2, lab::client(1), DR).await);
    assert!(["AB", "BA"].contains(&others.as_str()), "{others}");
}

#[test]
fn at_its_deadline_it_is_deleted_with_a_connection_open_and_a_new_weight_ends_a_drain() {
    let lab = Lab::new();
    let _xvs = Xvs::start(&lab, &config(&[nat()]));
    client::run(&lab, async || {
        let mut open = Vec::new();
        for name in ["c", "b"] {
            let mut wire = connect(lab::client(0), NAT).await.expect("connected");
            assert_eq!(patiently(wire.ask("name")).await.expect("answered"), name);
            open.push(wire);
        }
        let start = Instant::now();
        for server in ["10.1.0.13:8080", "10.1.0.12:8080"] {
            say(&lab, &["drain", "tcp:10.0.0.100:80", server, "--deadline", "3"]);
            assert!(row(&lab, server).expect("there").ends_with("draining"));
        }
        ipvsadm(&lab, "-e -t 10.0.0.100:80 -r 10.1.0.12:8080 -m -w 1");
        assert!(!row(&lab, "10.1.0.12:8080").expect("there").contains("draining"));
        until("the deadline has passed", || row(&lab, "10.1.0.13:8080").is_none());
        let took = start.elapsed();
        assert!((Duration::from_secs(2)..Duration::from_secs(6)).contains(&took), "after {took:?}");
        std::thread::sleep(Duration::from_millis(1500));
        assert!(row(&lab, "10.1.0.12:8080").is_some(), "its drain was ended");
        assert_eq!(patiently(open[1].ask("name")).await.expect("it works"), "b");
        let others = client::servers_in_a_row(4, lab::client(1), NAT).await;
        assert!(["ABAB", "BABA"].contains(&others.as_str()), "{others}");
        // Packets of a connection whose server is gone are dropped, as the kernel does (expire_nodest_conn = 0).
        let answer = client::within(Duration::from_millis(700), open[0].ask("name")).await;
        assert!(answer.is_err(), "{answer:?}");
        // The client's repetitions would be answered if the server came back: it is not to see the test's end.
        std::mem::forget(open);
    });
}
