//! `conn_reuse_mode`, and SYNs of connections whose servers take no new ones; `sloppy_tcp`.

use xvs::director::conn::state::State;
use xvs::director::drops::DropReason;
use xvs::director::service::{Method, Protocol};

use crate::table::*;

const C: &str = "192.0.2.7:40000";
const VIP: &str = "10.0.0.100:80";
const SERVICE: &str = "tcp:10.0.0.100:80";
const FIRST: [u8; 6] = [2, 0, 0, 0, 0xa, 12];
const SECOND: [u8; 6] = [2, 0, 0, 0, 0xa, 11];

fn two(method: Method) -> Table {
    Table::new(&[service(Protocol::Tcp, VIP, method, &[("10.1.0.11:80", 1), ("10.1.0.12:80", 1)])])
}

/// The MAC of the server that gets a SYN with the ports of a connection of `FIRST` that went through `packets`.
fn reused(mode: u32, method: Method, packets: &[&str], state: State) -> [u8; 6] {
    let mut t = two(method);
    t.tune("conn_reuse_mode", mode);
    assert_eq!(t.tcp(C, VIP, "S").unwrap().dst_mac, FIRST);
    for packet in packets {
        let (from, to) = if packet.starts_with('<') { (C, VIP) } else { ("10.1.0.12:80", C) };
        t.tcp(from, to, &packet[1..]).unwrap();
    }
    assert_eq!(t.states()[0].1, state);
    t.tcp(C, VIP, "S").unwrap().dst_mac
}

#[test]
fn which_finished_connections_a_syn_begins_anew() {
    let time_wait = (Method::Nat, &["<A", "<FA", ">FA"][..], State::TimeWait);
    let closed = (Method::Nat, &["<A", "<R"][..], State::Close);
    let fin_wait_dr = (Method::Dr, &["<A", "<FA"][..], State::FinWait);
    let fin_wait_nat = (Method::Nat, &["<A", ">FA"][..], State::FinWait);
    let established = (Method::Nat, &["<A"][..], State::Established);
    for (mode, anew) in [
        (0, [false, false, false, false, false]),
        (1, [true, true, false, false, false]),
        (2, [true, true, true, false, false]),
        (3, [true, true, true, false, false]),
    ] {
        let cases = [time_wait, closed, fin_wait_dr, fin_wait_nat, established];
        for ((method, packets, state), anew) in cases.into_iter().zip(anew) {
            let server = reused(mode, method, packets, state);
            assert_eq!(server == SECOND, anew, "mode {mode}, {state:?} with {method}");
        }
    }
}

#[test]
fn a_syn_to_a_server_of_weight_0_is_scheduled_anew_if_such_connections_are_given_up() {
    for (mode, expire, server) in [(1, 0, FIRST), (1, 1, SECOND), (0, 1, SECOND)] {
        let mut t = two(Method::Nat);
        t.tune("conn_reuse_mode", mode);
        t.tune("expire_nodest_conn", expire);
        t.tcp(C, VIP, "S").unwrap();
        t.tcp(C, VIP, "A").unwrap();
        t.weigh(SERVICE, "10.1.0.12:80", 0);
        assert_eq!(t.tcp(C, VIP, "A").unwrap().dst_mac, FIRST, "the connection goes on");
        assert_eq!(t.tcp(C, VIP, "S").unwrap().dst_mac, server, "mode {mode}, expire {expire}");
        assert_eq!(t.director.table.len(), 1);
    }
}

#[test]
fn a_reset_that_looks_like_a_new_connection_ends_the_old_one() {
    let mut t = two(Method::Nat);
    for flags in ["S", "A", "R"] {
        t.tcp(C, VIP, flags).unwrap();
    }
    assert_eq!(t.tcp(C, VIP, "SR"), Err(DropReason::NoConnection));
    assert_eq!((t.director.table.len(), t.counts(1)), (0, (0, 0)));
}

#[test]
fn sloppy_tcp_opens_with_any_segment_but_a_reset() {
    let mut t = two(Method::Nat);
    assert_eq!(t.tcp(C, VIP, "A"), Err(DropReason::NoConnection));
    t.tune("sloppy_tcp", 1);
    assert_eq!(t.tcp(C, VIP, "R"), Err(DropReason::NoConnection));
    assert_eq!(t.tcp(C, VIP, "A").unwrap().dst_mac, FIRST);
    assert_eq!(t.states(), [(C.to_owned(), State::Established)]);
    assert_eq!(t.counts(1), (1, 0));
}
