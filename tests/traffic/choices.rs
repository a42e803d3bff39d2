//! The servers chosen are the kernel's choices, connection by connection.
//!
//! The expected letters are what kernel IPVS does, as recorded from it or (first wrr sequences, wlc)
//! derived from its rules, with the same servers added in the same order and
//! the same clients: its server list has the newest first.

use crate::client::{self, connect, patiently, servers_in_a_row};
use crate::lab::{self, DR, FAR_CLIENTS, Lab, NAT};
use crate::xvs::{Xvs, abc, config, service};

/// The same scheduler and weights by NAT and by DR, each a service with a state of its own.
fn both(scheduler: &str, weights: [u16; 3]) -> String {
    config(&[
        service(("tcp", NAT), (scheduler, "nat"), &abc(8080, weights)),
        service(("tcp", DR), (scheduler, "dr"), &abc(80, weights)),
    ])
}

/// What the first connections from one client get, one after another.
fn in_a_row(scheduler: &str, weights: [u16; 3], expected: &str) {
    let lab = Lab::new();
    let _xvs = Xvs::start(&lab, &both(scheduler, weights));
    for vip in [NAT, DR] {
        let names = client::run(&lab, async || servers_in_a_row(expected.len(), lab::client(0), vip).await);
        assert_eq!(names, expected, "{scheduler} {weights:?} at {vip}");
    }
}

#[test]
fn rr_takes_the_newest_server_first() {
    in_a_row("rr", [1, 1, 1], "CBACBACBA");
}

#[test]
fn rr_skips_a_server_of_weight_zero_and_ignores_other_weights() {
    in_a_row("rr", [5, 0, 1], "CACACA");
}

#[test]
fn wrr_interleaves_as_the_kernel_does() {
    in_a_row("wrr", [4, 3, 2], "CBAABACBACBAABACBA");
}

#[test]
fn wrr_divides_by_the_greatest_common_divisor() {
    in_a_row("wrr", [6, 4, 2], "CBAABACBAABA");
}

#[test]
fn sh_finds_the_same_server_for_a_client_address() {
    let lab = Lab::new();
    let _xvs = Xvs::start(&lab, &both("sh", [1, 1, 1]));
    for vip in [NAT, DR] {
        for (far, expected) in FAR_CLIENTS.into_iter().zip(["AA", "BB", "CC"]) {
            assert_eq!(
                client::run(&lab, async || servers_in_a_row(2, far, vip).await),
                expected,
                "{far} at {vip}"
            );
        }
    }
}

#[test]
fn sh_gives_weights_their_share_of_the_table() {
    let lab = Lab::new();
    let _xvs = Xvs::start(&lab, &both("sh", [1, 2, 3]));
    for vip in [NAT, DR] {
        let names = client::run(&lab, async || {
            let mut names = String::new();
            for index in 0..24 {
                names += &servers_in_a_row(1, lab::client(index), vip).await;
            }
            names
        });
        assert_eq!(names, "CBABACACCCCACBCBCCBCBABA", "10.0.1.1 to 10.0.1.24 at {vip}");
    }
}

/// What connections get that stay open until a step closes them.
fn held_open(scheduler: &str, weights: [u16; 3], steps: &[Step], expected: &str) {
    let lab = Lab::new();
    let _xvs = Xvs::start(&lab, &both(scheduler, weights));
    for vip in [NAT, DR] {
        let names = client::run(&lab, async || {
            let (mut open, mut names) = (Vec::new(), String::new());
            for (index, step) in steps.iter().enumerate() {
                match step {
                    Step::Open => {
                        let mut wire = connect(lab::client(index), vip).await.expect("connected");
                        names += &patiently(wire.ask("name")).await.expect("name");
                        open.push(Some(wire));
                    }
                    Step::Close(earlier) => {
                        open[*earlier] = None;
                        // The client's FIN is on its way; the next connection must not overtake it.
                        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                    }
                }
            }
            names.to_uppercase()
        });
        assert_eq!(names, expected, "{scheduler} {weights:?} at {vip}");
    }
}

/// One step of [`held_open`].
enum Step {
    /// Opens a connection and keeps it.
    Open,
    /// Closes the connection that was opened as the n-th, counted from 0.
    Close(usize),
}
use Step::{Close, Open};

#[test]
fn lc_prefers_an_inactive_connection_to_an_active_one_and_ignores_weights() {
    held_open("lc", [1, 2, 4], &[Open, Open, Open, Open, Close(1), Open, Open], "CBACBA");
}

#[test]
fn wlc_weighs_open_connections_and_keeps_the_earlier_of_equals() {
    held_open("wlc", [1, 2, 4], &[Open, Open, Open, Open, Open, Open, Open], "CBACCBC");
}
