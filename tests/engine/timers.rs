//! States, timeouts and counts over simulated time.

use xvs::director::conn::state::State;
use xvs::director::engine::{Batch, Packet, Verdicts};
use xvs::director::sched::Kind;
use xvs::director::service::{Method, Protocol};

use crate::table::*;

const C: &str = "192.0.2.7:40000";
const VIP: &str = "10.0.0.100:80";
const S: &str = "10.1.0.11:80";

fn one_server(method: Method) -> Table {
    Table::new(&[service(Protocol::Tcp, VIP, method, &[(S, 1)])])
}

/// Seconds until the one connection there is goes, to the quarter of a second, rounded down.
fn lifetime(t: &mut Table) -> u64 {
    let start = t.now.0;
    while !t.director.table.is_empty() {
        assert!(t.now.0 < start + 2_000_000, "it never goes");
        t.now.0 += 250;
        t.expire();
    }
    assert_eq!(t.counts(0), (0, 0));
    (t.now.0 - start) / 1000
}

#[test]
fn every_state_lives_as_long_as_the_kernels() {
    // What follows the client's SYN: from the client (<) or the server (>).
    let cases = [
        ("", State::SynRecv, 60),
        ("<A", State::Established, 900),
        ("<A <FA", State::CloseWait, 60),
        ("<A >FA", State::FinWait, 120),
        ("<A <FA >FA", State::TimeWait, 120),
        ("<A <R", State::Close, 10),
    ];
    for (packets, state, seconds) in cases {
        let mut t = one_server(Method::Nat);
        t.tcp(C, VIP, "S").unwrap();
        for packet in packets.split_whitespace() {
            let (from, to) = if packet.starts_with('<') { (C, VIP) } else { (S, C) };
            t.tcp(from, to, &packet[1..]).unwrap();
        }
        assert_eq!(t.states(), [(C.to_owned(), state)], "{packets}");
        let lived = lifetime(&mut t);
        assert!((seconds..=seconds + 1).contains(&lived), "{packets}: {lived} s, not {seconds}");
    }
}

#[test]
fn dr_sees_the_client_only_and_goes_to_fin_wait_at_its_fin() {
    let mut t = one_server(Method::Dr);
    for (flags, state) in
        [("S", State::SynRecv), ("A", State::Established), ("FA", State::FinWait), ("A", State::FinWait)]
    {
        t.tcp(C, VIP, flags).unwrap();
        assert_eq!(t.states()[0].1, state, "after {flags}");
    }
    assert!((120..=121).contains(&lifetime(&mut t)));
}

#[test]
fn udp_lives_300_s_after_its_last_packet_in_either_direction() {
    let mut t = Table::new(&[service(Protocol::Udp, "10.0.0.100:53", Method::Nat, &[("10.1.0.11:53", 1)])]);
    t.one(0, udp(C, "10.0.0.100:53", b"?"), OUTSIDE).unwrap();
    assert_eq!(t.counts(0), (0, 1), "UDP is never active");
    t.pass(200);
    t.one(0, udp("10.1.0.11:53", C, b"!"), INSIDE).unwrap();
    assert!((300..=301).contains(&lifetime(&mut t)));
}

#[test]
fn active_and_inactive_follow_the_states() {
    let mut t = one_server(Method::Nat);
    let at = |t: &mut Table, from: &str, to: &str, flags: &str| {
        t.tcp(from, to, flags).unwrap();
        t.counts(0)
    };
    assert_eq!(at(&mut t, C, VIP, "S"), (1, 0));
    assert_eq!(at(&mut t, C, VIP, "A"), (1, 0));
    assert_eq!(at(&mut t, C, VIP, "FA"), (0, 1));
    assert_eq!(at(&mut t, S, C, "FA"), (0, 1));
    assert_eq!(at(&mut t, "192.0.2.8:1", VIP, "S"), (1, 1));
}

#[test]
fn a_busy_connection_outlives_its_timeout_by_far() {
    let mut t = one_server(Method::Nat);
    t.tcp(C, VIP, "S").unwrap();
    for _ in 0..10 {
        t.tcp(C, VIP, "A").unwrap();
        t.pass(800);
    }
    assert_eq!(t.director.table.len(), 1);
}

#[test]
fn a_shortened_timeout_is_told_to_the_worker_that_owns_the_timer() {
    let mut t = one_server(Method::Nat);
    t.one(0, tcp(C, VIP, "S"), OUTSIDE).unwrap();
    t.one(0, tcp(C, VIP, "A"), OUTSIDE).unwrap();
    t.pass(5);
    // The reset is seen by the other worker; the first one's wheel is armed for 900 s.
    t.one(1, tcp(S, C, "R"), INSIDE).unwrap();
    assert!((10..=11).contains(&lifetime(&mut t)));
}

#[test]
fn a_syn_on_a_finished_connection_is_scheduled_anew_at_once() {
    let mut t = Table::new(&[service(Protocol::Tcp, VIP, Method::Nat, &[(S, 1), ("10.1.0.12:80", 1)])]);
    assert_eq!(t.tcp(C, VIP, "S").unwrap().to, "10.1.0.12:80");
    assert_eq!(t.tcp(C, VIP, "S").unwrap().to, "10.1.0.12:80", "a retransmission stays");
    t.tcp(C, VIP, "R").unwrap();
    assert_eq!(t.states()[0].1, State::SynRecv, "a reset before the answer changes nothing");
    t.tcp(C, VIP, "A").unwrap();
    t.tcp(C, VIP, "R").unwrap();
    // Another worker reuses the ports; the owner of the old timer frees the old connection.
    assert_eq!(t.one(1, tcp(C, VIP, "S"), OUTSIDE).unwrap().to, S);
    assert_eq!((t.director.table.len(), t.counts(1), t.counts(0)), (1, (0, 0), (1, 0)));
    assert_eq!(t.tcp("10.1.0.12:80", C, "A").unwrap().from, "10.1.0.12:80", "the old way back is gone");
    assert!((60..=61).contains(&lifetime(&mut t)));
}

#[test]
fn ten_minutes_of_mixed_traffic_end_in_an_empty_table() {
    let mut t = Table::sized(&[service(Protocol::Tcp, VIP, Method::Nat, &[(S, 1)])], 4096, 2);
    let mut opened = 0;
    for second in 0..600u32 {
        for n in 0..4 {
            let client = format!("198.51.{}.{n}:5000", second % 250);
            let worker = (n % 2) as usize;
            if t.one(worker, tcp(&client, VIP, "S"), OUTSIDE).is_ok() {
                opened += 1;
            }
            let _ = t.one(1 - worker, tcp(S, &client, "SA"), INSIDE);
            if n > 0 {
                let _ = t.one(worker, tcp(&client, VIP, "A"), OUTSIDE);
            }
            if n > 1 {
                let _ = t.one(worker, tcp(&client, VIP, "FA"), OUTSIDE);
            }
            if n > 2 {
                let _ = t.one(1 - worker, tcp(S, &client, "FA"), INSIDE);
            }
        }
        t.pass(1);
    }
    assert_eq!(opened, 2400);
    t.pass(901);
    assert_eq!((t.director.table.len(), t.counts(0)), (0, (0, 0)));
    // Every slot can be used again.
    t.engines.iter_mut().for_each(|e| e.rest());
    let all = (0..4096u32).filter(|n| t.tcp(&format!("203.0.{}.{}:7", n / 256, n % 256), VIP, "S").is_ok());
    assert!(all.count() >= 4096 - 4096 / 16, "slots were lost");
}

#[test]
fn an_idle_worker_is_not_behind_with_fifty_thousand_timers() {
    let mut t = Table::sized(&[service(Protocol::Tcp, VIP, Method::Nat, &[(S, 1)])], 65_536, 1);
    for n in 0..50_000u32 {
        let client = format!("198.18.{}.{}:{}", n >> 8 & 255, n & 255, 9 + (n >> 16));
        t.tcp(&client, VIP, "S").unwrap();
    }
    let start = t.now.0;
    // A worker without packets sleeps 100 ms unless it is told that there is more to do.
    while !t.director.table.is_empty() {
        t.now.0 += 100;
        t.expire();
        t.engines[0].rest();
    }
    assert!((60_000..61_500).contains(&(t.now.0 - start)), "{} ms", t.now.0 - start);
}

#[test]
fn more_shortened_timers_than_a_mailbox_holds_are_late_by_a_minute_at_most() {
    const MANY: u32 = 70_000;
    let mut t = Table::sized(&[service(Protocol::Tcp, VIP, Method::Nat, &[(S, 1)])], MANY + 4096, 2);
    let clients: Vec<String> =
        (0..MANY).map(|n| format!("198.{}.{}.{}:9", 18 + (n >> 16), n >> 8 & 255, n & 255)).collect();
    for client in &clients {
        for flags in ["S", "A"] {
            t.one(0, tcp(client, VIP, flags), OUTSIDE).unwrap();
        }
    }
    t.pass(10);
    t.engines[0].rest();
    for client in &clients {
        t.one(1, tcp(S, client, "R"), INSIDE).unwrap();
    }
    t.pass(12);
    let late = t.director.table.len();
    assert!((1..10_000).contains(&late), "{late} did not fit the mailbox");
    t.pass(60);
    assert_eq!((t.director.table.len(), t.counts(0)), (0, (0, 0)));
}

#[test]
fn a_reusing_syn_and_what_follows_it_may_share_a_batch() {
    let mut t = Table::new(&[service(Protocol::Tcp, VIP, Method::Nat, &[(S, 1), ("10.1.0.12:80", 1)])]);
    for flags in ["S", "A", "R"] {
        t.tcp(C, VIP, flags).unwrap();
    }
    let sent = t.batch(0, &["S", "S", "A"].map(|flags| tcp(C, VIP, flags)), OUTSIDE);
    let to: Vec<_> = sent.iter().map(|(_, frame)| read(frame, INSIDE).to).collect();
    assert_eq!(to, [S, S, S], "scheduled once");
    assert_eq!(t.director.table.len(), 1);
}

#[test]
fn the_choice_for_a_reused_port_still_counts_the_old_connection() {
    let mut lc = service(Protocol::Tcp, VIP, Method::Nat, &[(S, 1), ("10.1.0.12:80", 1)]);
    lc.service.scheduler = Kind::Lc;
    let other = "192.0.2.8:1";
    let mut t = Table::new(&[lc]);
    for client in [C, other] {
        t.tcp(client, VIP, "S").unwrap();
    }
    for client in [C, other] {
        t.tcp(client, VIP, "A").unwrap();
        t.tcp(client, VIP, "R").unwrap();
    }
    // One finished connection each: a tie, so the first in the list, which is the newest server.
    assert_eq!(t.tcp(other, VIP, "S").unwrap().to, "10.1.0.12:80");
}

#[test]
fn counts_do_not_drift_when_two_workers_open_the_same_flow() {
    const VIP2: &str = "10.0.0.101:80";
    let services = [VIP, VIP2].map(|vip| service(Protocol::Tcp, vip, Method::Nat, &[(S, 1)]));
    let mut t = Table::sized(&services, 4096, 2);
    let (barrier, hops, now) = (std::sync::Barrier::new(2), &t.hops, t.now);
    std::thread::scope(|scope| {
        for engine in &mut t.engines {
            let barrier = &barrier;
            scope.spawn(move || {
                let mut verdicts = Verdicts::new();
                for round in 0..20_000 {
                    barrier.wait();
                    let vip = if round % 2 == 0 { VIP } else { VIP2 };
                    let mut frames: Vec<_> = ["S", "A", "R"].map(|flags| tcp(C, vip, flags)).into();
                    let mut batch = Batch::new();
                    for room in &mut frames {
                        batch.push(Packet { len: room.len(), room, port: OUTSIDE });
                    }
                    engine.process(&mut batch, hops, now, &mut verdicts);
                    drop(batch);
                    while engine.expire(now) {}
                }
            });
        }
    });
    t.pass(1000);
    assert_eq!((t.director.table.len(), t.counts(0), t.counts(1)), (0, (0, 0), (0, 0)));
}

/// As with the kernel: a timeout is given to a connection by its packets, not by `ipvsadm --set`.
#[test]
fn new_timeouts_are_for_connections_with_packets() {
    const IDLE: &str = "192.0.2.8:40000";
    const ACKS: &str = "192.0.2.9:40000";
    let set = |t: &mut Table, tcp_s| {
        let since = t.now.tick();
        t.change(|draft| {
            let settings = draft.settings();
            settings.timeouts = settings.timeouts.changed(tcp_s, 120, 300);
            settings.timeouts_since = since;
            Ok(())
        });
    };
    let mut t = one_server(Method::Nat);
    t.pass(10);
    for client in [C, IDLE, ACKS] {
        for flags in ["S", "A"] {
            t.tcp(client, VIP, flags).unwrap();
        }
    }
    set(&mut t, 20);
    // In the same tick: data counts, an acknowledgement of what was before does not.
    t.tcp(C, VIP, "PA").unwrap();
    t.tcp(ACKS, VIP, "A").unwrap();
    t.pass(2);
    t.tcp(ACKS, VIP, "A").unwrap();
    t.pass(19);
    assert_eq!(t.director.table.len(), 2, "the one with data is over after 20 s");
    t.pass(3);
    assert_eq!(t.states().len(), 1, "an acknowledgement later on counts");
    set(&mut t, 900);
    t.pass(870);
    assert_eq!(t.states(), [(IDLE.to_owned(), State::Established)], "the idle one keeps its 900 s");
    t.pass(10);
    assert!(t.director.table.is_empty());
}
