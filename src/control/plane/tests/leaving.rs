//! Servers that are drained, down, deleted, and back.

use super::*;

#[test]
fn a_server_that_comes_back_is_the_same_one_and_after_two_minutes_another() {
    let mut bench = Bench::with_two();
    let id = bench.id(1);
    bench.plane.apply_all(&[delete(1)]).unwrap();
    bench.later(60);
    bench.plane.apply_all(&[add_server(1)]).unwrap();
    assert_eq!(bench.id(1), id);
    bench.plane.apply_all(&[delete(1)]).unwrap();
    bench.later(1);
    bench.later(121);
    bench.plane.apply_all(&[add_server(3)]).unwrap();
    assert_eq!(bench.id(3), id, "its number is free");
}

#[test]
fn a_drained_server_goes_with_its_last_connection_or_at_its_deadline() {
    let mut bench = Bench::with_two();
    let [a, b] = [1, 2].map(|host| bench.id(host));
    for id in [a, b] {
        bench.plane.director().counts.opened(id, OPEN);
    }
    let drain = |host, deadline_s| Command::DrainServer { service: key(), server: address(host), deadline_s };
    bench.plane.apply_all(&[drain(1, None), drain(2, Some(30))]).unwrap();
    assert_eq!(bench.services(), ["tcp:192.0.2.10:80 rr: 10.0.0.2:80 0, 10.0.0.1:80 0"]);
    assert!(bench.plane.services()[0].servers.iter().all(|s| s.draining));
    bench.later(29);
    assert_eq!(bench.plane.services()[0].servers.len(), 2);
    bench.later(2);
    assert_eq!(bench.services(), ["tcp:192.0.2.10:80 rr: 10.0.0.1:80 0"]);
    bench.plane.director().counts.closed(a, OPEN);
    bench.later(1);
    assert_eq!(bench.services(), ["tcp:192.0.2.10:80 rr: "]);
}

#[test]
fn a_server_with_a_weight_again_is_not_drained_any_more() {
    let mut bench = Bench::with_two();
    let drain = Command::DrainServer { service: key(), server: address(1), deadline_s: Some(5) };
    let edit = Command::EditServer { service: key(), server: server(1) };
    bench.plane.apply_all(&[drain]).unwrap();
    bench.plane.apply_all(&[edit]).unwrap();
    bench.later(10);
    assert_eq!(bench.plane.services()[0].servers.len(), 2);
    assert!(!bench.plane.services()[0].servers[1].draining);
}

#[test]
fn a_weight_later_in_the_same_batch_ends_the_drain() {
    let mut bench = Bench::with_two();
    let drain = Command::DrainServer { service: key(), server: address(1), deadline_s: Some(5) };
    let edit = Command::EditServer { service: key(), server: server(1) };
    bench.plane.apply_all(&[drain, edit]).unwrap();
    bench.later(10);
    assert_eq!(bench.plane.services()[0].servers.len(), 2);
}

#[test]
fn a_drain_that_the_host_stops_is_tried_again() {
    let mut bench = Bench::with_two();
    let drain = Command::DrainServer { service: key(), server: address(1), deadline_s: None };
    bench.plane.director().counts.opened(bench.id(1), OPEN);
    bench.plane.apply_all(&[drain]).unwrap();
    bench.plane.director().counts.closed(bench.id(1), OPEN);
    bench.told.lock().unwrap().refuses = true;
    bench.later(1);
    assert!(bench.plane.services()[0].servers.iter().any(|s| s.draining));
    bench.told.lock().unwrap().refuses = false;
    bench.later(1);
    assert_eq!(bench.services(), ["tcp:192.0.2.10:80 rr: 10.0.0.2:80 1"]);
}

/// What `ipvsadm -Ln` shows of a server's weight, its state, and whether it is down.
fn standing(bench: &Bench, host: u8) -> (u32, ServerState, bool) {
    let servers = &bench.plane.services()[0].servers;
    let server = servers.iter().find(|s| s.address == address(host)).unwrap();
    (server.weight, server.state, server.down)
}

fn stand(host: u8, state: ServerState, drain_timeout_s: Option<u32>) -> Command {
    Command::SetServerState { service: key(), server: address(host), state, drain_timeout_s }
}

#[test]
fn a_state_hides_the_weight_and_only_a_drain_is_ended_by_one() {
    use ServerState::{Down, Drain, Up};
    let mut bench = Bench::with_two();
    let edit = |weight| Command::EditServer { service: key(), server: ServerSpec { weight, ..server(1) } };
    bench.plane.apply_all(&[edit(7), stand(1, Drain, None)]).unwrap();
    assert_eq!(standing(&bench, 1), (0, Drain, false));
    bench.plane.apply_all(&[edit(0)]).unwrap();
    assert_eq!(standing(&bench, 1), (0, Drain, false), "weight 0 is no weight");
    bench.plane.apply_all(&[edit(7)]).unwrap();
    assert_eq!(standing(&bench, 1), (7, Up, false));
    bench.plane.apply_all(&[stand(1, Down, None), edit(8)]).unwrap();
    assert_eq!(standing(&bench, 1), (0, Down, true), "what has failed is not cured by a weight");
    bench.plane.apply_all(&[stand(1, Up, None)]).unwrap();
    assert_eq!(standing(&bench, 1), (8, Up, false));
    let refused = bench.plane.apply_all(&[stand(9, Up, None)]).unwrap_err().1.code;
    assert_eq!(refused, Code::NoServer);
    let refused = bench.plane.apply_all(&[stand(1, Drain, Some(2_678_401))]).unwrap_err().1.code;
    assert_eq!((refused, standing(&bench, 1)), (Code::OutOfRange, (8, Up, false)));
}

#[test]
fn a_drained_server_that_is_kept_is_down_after_its_time() {
    use ServerState::{Drain, Up};
    let mut bench = Bench::with_two();
    bench.later(100);
    bench.plane.apply_all(&[stand(1, Drain, Some(30))]).unwrap();
    bench.later(29);
    assert_eq!(standing(&bench, 1), (0, Drain, false));
    // What `ipvsadm -e -w 0` and the like say of something else does not begin it again.
    let edit = Command::EditServer {
        service: key(),
        server: ServerSpec { weight: 0, upper_threshold: 9, lower_threshold: 1, ..server(1) },
    };
    bench.plane.apply_all(&[edit]).unwrap();
    bench.later(1);
    assert_eq!(standing(&bench, 1), (0, Drain, true));
    bench.plane.apply_all(&[stand(1, Drain, Some(60))]).unwrap();
    assert_eq!(standing(&bench, 1), (0, Drain, false), "more time");
    bench.later(30);
    assert_eq!(standing(&bench, 1), (0, Drain, true), "counted from the beginning");
    bench.plane.apply_all(&[stand(1, Up, None)]).unwrap();
    assert!(!standing(&bench, 1).2);
    // Deleting it is another wish, which any state ends.
    let drain = Command::DrainServer { service: key(), server: address(2), deadline_s: Some(5) };
    bench.plane.apply_all(&[drain, stand(2, Drain, None)]).unwrap();
    bench.later(10);
    assert_eq!(bench.plane.services()[0].servers.len(), 2);
}

/// It is not to count as down before its connections end, nor to come back when it has failed.
#[test]
fn a_server_that_waits_for_its_end_keeps_what_it_has() {
    let mut bench = Bench::with_two();
    bench.plane.apply_all(&[stand(1, ServerState::Up, Some(30)), stand(2, ServerState::Down, None)]).unwrap();
    for host in [1, 2] {
        bench.plane.director().counts.opened(bench.id(host), OPEN);
    }
    let drain = |host| Command::DrainServer { service: key(), server: address(host), deadline_s: None };
    bench.plane.apply_all(&[drain(1), drain(2)]).unwrap();
    bench.later(60);
    assert_eq!(standing(&bench, 1), (0, ServerState::Drain, false));
    assert_eq!(standing(&bench, 2), (0, ServerState::Down, true));
    for host in [1, 2] {
        bench.plane.director().counts.closed(bench.id(host), OPEN);
    }
    bench.later(1);
    assert!(bench.plane.services()[0].servers.is_empty());
}
