//! Persistence: templates, their time, their servers; what scenario 05 of the recordings does, packet by packet.

use xvs::director::drops::DropReason;
use xvs::director::server::ServerId;
use xvs::director::service::{Method, Netmask, Persistence, Pool, Protocol, Server, Service};

use crate::table::*;

const VIP: &str = "10.0.0.100:80";
const SERVICE: &str = "tcp:10.0.0.100:80";
const SERVERS: [(&str, u32); 3] = [("10.1.0.11:80", 1), ("10.1.0.12:80", 1), ("10.1.0.13:80", 1)];

fn web(method: Method) -> Pool {
    persistent(service(Protocol::Tcp, VIP, method, &SERVERS), 300)
}

fn persistent_counts(t: &Table) -> Vec<u32> {
    let id = |(server, _)| ServerId(t.id(SERVICE, server));
    SERVERS.map(id).map(|id| t.director.counts.persistent(id)).into()
}

/// The servers of `times` connections of a client, each from a port of its own.
fn visits(t: &mut Table, client: &str, first_port: u16, times: u16, vip: &str) -> Vec<String> {
    (0..times).map(|n| t.visit(&format!("{client}:{}", first_port + n), vip)).collect()
}

#[test]
fn as_recorded_from_the_kernel() {
    let mut t = Table::new(&[web(Method::Nat)]);
    assert_eq!(visits(&mut t, "10.0.1.1", 100, 3, VIP), ["10.1.0.13:80"; 3]);
    assert_eq!(visits(&mut t, "10.0.1.2", 100, 3, VIP), ["10.1.0.12:80"; 3]);
    assert_eq!(visits(&mut t, "10.0.1.3", 100, 2, VIP), ["10.1.0.11:80"; 2]);
    assert_eq!(visits(&mut t, "10.0.1.1", 200, 2, VIP), ["10.1.0.13:80"; 2]);
    let template = |client: u8, server: u8, port: u16| {
        format!("TCP 05:00 ASSURED 10.0.1.{client}:0 10.0.0.100:{port} 10.1.0.{server}:{port}")
    };
    assert_eq!(t.rows(true), [template(1, 13, 80), template(2, 12, 80), template(3, 11, 80)]);
    assert_eq!(persistent_counts(&t), [1, 1, 1]);
    assert_eq!(t.director.table.len(), 13, "templates take places too");

    t.weigh(SERVICE, "10.1.0.13:80", 0);
    assert_eq!(visits(&mut t, "10.0.1.1", 300, 2, VIP), ["10.1.0.13:80"; 2], "past its weight");
    t.tune("expire_quiescent_template", 1);
    assert_eq!(visits(&mut t, "10.0.1.1", 400, 2, VIP), ["10.1.0.12:80"; 2]);
    t.take_out(SERVICE, "10.1.0.12:80");
    assert_eq!(visits(&mut t, "10.0.1.2", 300, 2, VIP), ["10.1.0.11:80"; 2]);
    let rows = [
        template(1, 12, 80),
        template(1, 13, 65_535),
        template(2, 11, 80),
        template(2, 12, 65_535),
        template(3, 11, 80),
    ];
    let mut rows = rows.to_vec();
    rows.sort();
    assert_eq!(t.rows(true), rows, "those that lead nobody stay until their time ends");
    t.pass(2000);
    assert_eq!(t.director.table.len(), 0);
    assert_eq!([0, 1, 2].map(|id| t.director.counts.persistent(ServerId(id))), [0; 3]);
}

#[test]
fn clients_of_a_netmask_are_one() {
    let mut pool = web(Method::Dr);
    pool.service.persistence =
        Some(Persistence { timeout_s: 100, netmask: Netmask::V4([255, 255, 255, 240].into()) });
    let mut t = Table::new(&[pool]);
    assert_eq!(visits(&mut t, "10.0.1.1", 100, 2, VIP), ["10.1.0.13:80"; 2]);
    assert_eq!(visits(&mut t, "10.0.1.14", 100, 2, VIP), ["10.1.0.13:80"; 2]);
    assert_eq!(visits(&mut t, "10.0.1.17", 100, 2, VIP), ["10.1.0.12:80"; 2]);
    let row = |client: u8, server: u8| {
        format!("TCP 01:40 ASSURED 10.0.1.{client}:0 10.0.0.100:80 10.1.0.{server}:80")
    };
    assert_eq!(t.rows(true), [row(0, 13), row(16, 12)]);
}

#[test]
fn a_service_of_all_ports_keeps_a_client_at_its_server() {
    let servers = [("10.1.0.11:0", 1), ("10.1.0.12:0", 1)];
    let pool = persistent(service(Protocol::Tcp, "10.0.0.102:0", Method::Dr, &servers), 360);
    let mut t = Table::new(&[pool]);
    assert_eq!(visits(&mut t, "10.0.1.1", 100, 2, "10.0.0.102:80"), ["10.1.0.12:80"; 2]);
    assert_eq!(visits(&mut t, "10.0.1.1", 200, 2, "10.0.0.102:8080"), ["10.1.0.12:8080"; 2]);
    assert_eq!(visits(&mut t, "10.0.1.2", 100, 1, "10.0.0.102:443"), ["10.1.0.11:443"]);
    assert_eq!(
        t.rows(true),
        [
            "TCP 06:00 ASSURED 10.0.1.1:0 10.0.0.102:0 10.1.0.12:0",
            "TCP 06:00 ASSURED 10.0.1.2:0 10.0.0.102:0 10.1.0.11:0"
        ]
    );
    assert!(t.rows(false).contains(&"TCP 02:00 FIN_WAIT 10.0.1.1:200 10.0.0.102:8080 10.1.0.12:8080".into()));
}

#[test]
fn ftp_keeps_data_connections_at_the_server_of_the_control_connection() {
    let servers = [("10.1.0.11:2121", 1), ("10.1.0.12:2121", 1)];
    let pool = persistent(service(Protocol::Tcp, "10.0.0.100:21", Method::Nat, &servers), 300);
    let mut t = Table::new(&[pool]);
    assert_eq!(t.visit("10.0.1.1:100", "10.0.0.100:21"), "10.1.0.12:2121");
    assert_eq!(t.visit("10.0.1.1:101", "10.0.0.100:50000"), "10.1.0.12:50000");
    assert_eq!(t.visit("10.0.1.2:100", "10.0.0.100:50000"), "10.1.0.11:50000", "in whatever order");
    assert_eq!(t.visit("10.0.1.2:101", "10.0.0.100:21"), "10.1.0.11:2121");
    assert_eq!(
        t.rows(true)[0],
        "TCP 05:00 NONE 10.0.1.1:0 10.0.0.100:0 10.1.0.12:0".replace("NONE", "ASSURED")
    );
}

#[test]
fn ftp_and_the_other_ports_of_its_address_share_a_clients_template() {
    let pool = |port: u16, servers: &[(&str, u32)]| {
        persistent(service(Protocol::Tcp, &format!("10.0.0.100:{port}"), Method::Nat, servers), 300)
    };
    let mut t = Table::new(&[pool(21, &[("10.1.0.11:21", 1)]), pool(0, &[("10.1.0.12:0", 1)])]);
    assert_eq!(t.visit("10.0.1.1:100", "10.0.0.100:80"), "10.1.0.12:80");
    assert_eq!(t.visit("10.0.1.1:101", "10.0.0.100:21"), "10.1.0.12:21", "the kernel's key is the same");
    assert_eq!(t.rows(true).len(), 1);
}

#[test]
fn a_mark_keeps_all_protocols_and_ports_of_a_client_together() {
    let mut pool = persistent(
        service(Protocol::Tcp, VIP, Method::Nat, &[("10.1.0.11:80", 1), ("10.1.0.12:80", 1)]),
        300,
    );
    pool.service.key = "fwm:258".parse().unwrap();
    let mut t = Table::new(&[pool]);
    t.change(|draft| {
        let rules = ["tcp", "udp"].map(|protocol| xvs::director::marks::MarkRule {
            mark: 258.try_into().unwrap(),
            protocol: protocol.parse().unwrap(),
            destination: "10.0.0.0/24".parse().unwrap(),
            port_first: 0,
            port_last: 65_535,
            source: None,
        });
        draft.settings().marks = rules.into();
        Ok(())
    });
    // A server's own port counts only where it is the service's: here it is the one that the packet has.
    assert_eq!(t.visit("10.0.1.1:100", "10.0.0.100:443"), "10.1.0.12:443");
    assert_eq!(t.one(0, udp("10.0.1.1:100", "10.0.0.9:53", b"?"), OUTSIDE).unwrap().to, "10.1.0.12:53");
    assert_eq!(t.visit("10.0.1.2:100", "10.0.0.100:443"), "10.1.0.11:443");
    assert_eq!(t.rows(true)[0], "IP 05:00 ASSURED 10.0.1.1:0 0.0.1.2:0 10.1.0.12:0");
}

#[test]
fn a_template_is_assured_when_its_server_answered() {
    let mut t = Table::new(&[
        web(Method::Nat),
        persistent(service(Protocol::Udp, "10.0.0.100:53", Method::Nat, &[("10.1.0.14:53", 1)]), 300),
    ]);
    let state = |t: &Table| t.rows(true)[0].split(' ').nth(2).unwrap().to_owned();
    t.tcp("10.0.1.1:100", VIP, "S").unwrap();
    assert_eq!(state(&t), "NONE");
    t.tcp("10.0.1.1:100", VIP, "A").unwrap();
    assert_eq!(state(&t), "ASSURED");
    t.pass(2000);
    t.one(0, udp("10.0.1.1:100", "10.0.0.100:53", b"?"), OUTSIDE).unwrap();
    t.one(0, udp("10.0.1.1:100", "10.0.0.100:53", b"?"), OUTSIDE).unwrap();
    assert_eq!(state(&t), "NONE");
    t.one(1, udp("10.1.0.14:53", "10.0.1.1:100", b"!"), INSIDE).unwrap();
    assert_eq!(state(&t), "ASSURED");
}

#[test]
fn a_template_lives_from_its_last_connection_on_and_as_long_as_any_is_left() {
    let mut t = Table::new(&[web(Method::Nat)]);
    let templates = |t: &Table| t.rows(true).len();
    // A connection of 900 s under a template of 300 s: 300, then steps of 60.
    t.tcp("10.0.1.1:100", VIP, "S").unwrap();
    t.tcp("10.0.1.1:100", VIP, "A").unwrap();
    t.pass(200);
    assert!(t.rows(true)[0].starts_with("TCP 01:40 "));
    t.tcp("10.0.1.1:100", VIP, "A").unwrap();
    assert!(t.rows(true)[0].starts_with("TCP 01:40 "), "packets do not renew it");
    t.tcp("10.0.1.1:101", VIP, "S").unwrap();
    assert!(t.rows(true)[0].starts_with("TCP 05:00 "), "connections do");
    t.pass(301);
    let now = t.rows(true)[0].clone();
    assert!(now.starts_with("TCP 00:59 ") || now.starts_with("TCP 01:00 "), "{now}");
    t.tcp("10.0.1.1:102", VIP, "S").unwrap();
    assert!(t.rows(true)[0].starts_with("TCP 01:00 "), "and stays at 60 s, like the kernel's");
    t.pass(590);
    assert_eq!((t.director.table.len(), templates(&t)), (2, 1), "the first connection still holds it");
    t.pass(70);
    assert_eq!(t.director.table.len(), 0, "it has ended, and so did the minute that ran then");
    assert_eq!(persistent_counts(&t), [0, 0, 0]);
}

#[test]
fn a_changed_timeout_is_for_new_templates() {
    let mut t = Table::new(&[web(Method::Nat)]);
    t.visit("10.0.1.1:100", VIP);
    t.change(|draft| {
        let service =
            Service { persistence: None, ..draft.services().get(&SERVICE.parse().unwrap()).unwrap().service };
        let netmask = Netmask::whole(true);
        draft.edit_service(Service { persistence: Some(Persistence { timeout_s: 60, netmask }), ..service })
    });
    t.visit("10.0.1.1:101", VIP);
    t.visit("10.0.1.2:100", VIP);
    let times: Vec<_> = t.rows(true).iter().map(|row| row[4..9].to_owned()).collect();
    assert_eq!(times, ["01:00", "05:00"]);
}

#[test]
fn workers_share_templates() {
    let mut t = Table::new(&[web(Method::Nat)]);
    let to = |t: &mut Table, worker, port: u16| {
        t.one(worker, tcp(&format!("10.0.1.1:{port}"), VIP, "S"), OUTSIDE).unwrap().to
    };
    assert_eq!((to(&mut t, 0, 100), to(&mut t, 1, 101)), ("10.1.0.13:80".into(), "10.1.0.13:80".into()));
    t.pass(2000);
    assert_eq!((t.director.table.len(), persistent_counts(&t)), (0, vec![0, 0, 0]));
}

#[test]
fn a_controlled_connection_is_never_scheduled_anew_by_a_reused_port() {
    let mut t = Table::new(&[web(Method::Nat)]);
    for flags in ["S", "A", "R"] {
        t.tcp("10.0.1.1:100", VIP, flags).unwrap();
    }
    let connections = || t.director.traffic(ServerId(t.id(SERVICE, "10.1.0.13:80"))).connections;
    assert_eq!(connections(), 1);
    t.tcp("10.0.1.1:100", VIP, "S").unwrap();
    let connections = t.director.traffic(ServerId(t.id(SERVICE, "10.1.0.13:80"))).connections;
    assert_eq!(connections, 1, "the same one goes on");
}

#[test]
fn a_full_table_refuses_templates_and_their_connections() {
    let mut t = Table::sized(&[web(Method::Nat)], 3, 1);
    assert!(t.tcp("10.0.1.1:100", VIP, "S").is_ok());
    assert_eq!(t.tcp("10.0.1.2:100", VIP, "S"), Err(DropReason::TableFull), "a template and no connection");
    assert_eq!(t.tcp("10.0.1.3:100", VIP, "S"), Err(DropReason::TableFull), "not even a template");
    assert_eq!(persistent_counts(&t), [0, 1, 1]);
    assert_eq!(t.director.drops(), [(DropReason::TableFull, 2)]);
    t.pass(1000);
    assert_eq!(
        (t.director.table.len(), persistent_counts(&t)),
        (0, vec![0, 0, 0]),
        "nobody follows for ever"
    );
}

#[test]
fn given_up_servers_lose_their_templates_too() {
    let mut t = Table::new(&[web(Method::Nat)]);
    t.tune("expire_nodest_conn", 1);
    t.visit("10.0.1.1:100", VIP);
    t.visit("10.0.1.1:101", VIP);
    t.visit("10.0.1.2:101", VIP);
    t.take_out(SERVICE, "10.1.0.13:80");
    assert_eq!(t.director.end_orphans(0, usize::MAX), None);
    assert_eq!(t.director.table.len(), 2);
    assert_eq!(t.rows(true), ["TCP 05:00 ASSURED 10.0.1.2:0 10.0.0.100:80 10.1.0.12:80"]);
    assert_eq!(t.visit("10.0.1.1:100", VIP), "10.1.0.11:80");
}

#[test]
fn without_persistence_any_more_templates_lead_nobody() {
    let mut t = Table::new(&[web(Method::Nat)]);
    t.visit("10.0.1.1:100", VIP);
    t.change(|draft| {
        let service = draft.services().get(&SERVICE.parse().unwrap()).unwrap().service;
        draft.edit_service(Service { persistence: None, ..service })
    });
    assert_eq!(t.visit("10.0.1.1:101", VIP), "10.1.0.12:80");
}

#[test]
fn a_server_that_comes_back_has_its_clients_again() {
    let mut t = Table::new(&[web(Method::Nat)]);
    t.visit("10.0.1.1:100", VIP);
    t.take_out(SERVICE, "10.1.0.13:80");
    let server = Server::new("10.1.0.13:80".parse().unwrap(), Method::Nat);
    t.change(|draft| draft.add_server(SERVICE.parse().unwrap(), server));
    assert_eq!(t.visit("10.0.1.1:101", VIP), "10.1.0.13:80");
    assert_eq!(persistent_counts(&t), [0, 0, 1]);
}

/// Two workers open connections of few clients under templates that end all the time.
#[test]
fn counts_do_not_drift_when_workers_share_templates_that_end() {
    let mut pool = web(Method::Nat);
    pool.service.persistence = Some(Persistence { timeout_s: 1, netmask: Netmask::whole(true) });
    let mut t = Table::sized(&[pool], 4096, 2);
    let (hops, start) = (&t.hops, t.now.0);
    std::thread::scope(|scope| {
        for (worker, engine) in (0..).zip(&mut t.engines) {
            scope.spawn(move || {
                for round in 0..20_000u64 {
                    let now = xvs::director::time::Time(start + round * 100);
                    let client = format!("10.0.1.{}:{}", round % 3, 100 + worker);
                    let mut frames: Vec<_> = ["S", "A", "R"].map(|flags| tcp(&client, VIP, flags)).into();
                    turn(engine, &mut frames, hops, now);
                }
            });
        }
    });
    t.now.0 += 20_000 * 100;
    t.pass(2000);
    assert_eq!((t.director.table.len(), persistent_counts(&t)), (0, vec![0, 0, 0]));
    assert_eq!([0, 1, 2].map(|id| t.counts(id)), [(0, 0); 3]);
}
