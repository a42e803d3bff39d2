//! Persistence by the Call-ID of SIP, and the connections that servers begin.

use xvs::director::drops::DropReason;
use xvs::director::pe::Engine;
use xvs::director::service::{Method, Netmask, Persistence, Pool, Protocol};

use crate::table::*;

const VIP: &str = "10.0.0.100:5060";

fn sip(method: Method) -> Pool {
    let servers = [("10.1.0.11:5060", 1), ("10.1.0.12:5060", 1), ("10.1.0.13:5060", 1)];
    let mut pool = persistent(service(Protocol::Udp, VIP, method, &servers), 300);
    pool.service.engine = Some(Engine::Sip);
    pool
}

fn message(from: &str, to: &str, call: &str) -> Vec<u8> {
    udp(from, to, format!("OPTIONS sip:a SIP/2.0\r\nCall-ID: {call}\r\n\r\n").as_bytes())
}

/// The last byte of the server that a message of this call goes to.
fn goes(t: &mut Table, from: &str, call: &str) -> u8 {
    t.one(0, message(from, VIP, call), OUTSIDE).unwrap().dst_mac[5]
}

/// The engine's names, as listed.
fn names(t: &Table) -> Vec<String> {
    let mut all = Vec::new();
    t.director.table.list(|slot| {
        if let Some((engine, name)) =
            slot.is_template().then(|| t.director.names.find(slot.aside())).flatten()
        {
            all.push(format!("{} {} {name}", slot.row(0).client, engine.name()));
        }
    });
    all.sort();
    all
}

#[test]
fn a_call_stays_with_its_server_and_a_client_may_have_many() {
    let mut t = Table::new(&[sip(Method::Nat)]);
    let first = goes(&mut t, "192.0.2.7:1", "one@host");
    let second = goes(&mut t, "192.0.2.7:2", "two@host");
    let other = goes(&mut t, "192.0.2.8:1", "one@host");
    assert_eq!([first, second, other], [13, 12, 11], "the scheduler's choices");
    for (port, (call, server)) in (10..).zip([("two@host", second), ("one@host", first)].repeat(3)) {
        assert_eq!(goes(&mut t, &format!("192.0.2.7:{port}"), call), server);
    }
    let templates = t.rows(true);
    assert_eq!(templates[0], "UDP 05:00 NONE 192.0.2.7:0 10.0.0.100:5060 10.1.0.12:5060");
    assert_eq!(templates.len(), 3);
    let listed = ["192.0.2.7:0 sip one@host", "192.0.2.7:0 sip two@host", "192.0.2.8:0 sip one@host"];
    assert_eq!(names(&t), listed);
    // The template outlives its connections by a minute's step, and its name goes with it.
    t.pass(660);
    assert_eq!((t.rows(false), names(&t)), (vec![], vec![]));
}

#[test]
fn clients_of_a_network_share_their_calls() {
    let mut pool = sip(Method::Dr);
    let netmask = Netmask::V4([255, 255, 255, 0].into());
    pool.service.persistence = Some(Persistence { timeout_s: 300, netmask });
    let mut t = Table::new(&[pool]);
    assert_eq!(goes(&mut t, "192.0.2.7:1", "one"), 13);
    assert_eq!(goes(&mut t, "192.0.2.8:1", "one"), 13);
    assert_eq!(names(&t), ["192.0.2.0:0 sip one"]);
}

/// Recorded from the kernel: there is no falling back to the address.
#[test]
fn what_has_no_call_id_is_dropped() {
    let mut t = Table::new(&[sip(Method::Nat)]);
    for text in ["OPTIONS sip:a SIP/2.0\r\n\r\n", "X\r\nCall-ID: wrong@@host\r\n", ""] {
        let sent = t.one(0, udp("192.0.2.7:1", VIP, text.as_bytes()), OUTSIDE);
        assert_eq!(sent, Err(DropReason::Unidentified));
    }
    assert!(t.rows(false).is_empty());
    // A connection that is there goes on whatever is said.
    goes(&mut t, "192.0.2.7:1", "one");
    assert!(t.one(0, udp("192.0.2.7:1", VIP, b"keep-alive"), OUTSIDE).is_ok());
}

#[test]
fn a_server_begins_a_connection_from_the_vip() {
    let mut t = Table::new(&[sip(Method::Nat)]);
    let (server, client) = ("10.1.0.12:5060", "192.0.2.7:5060");
    let sent = t.one(0, message(server, client, "out@host"), INSIDE).unwrap();
    assert_eq!((sent.from.as_str(), sent.to.as_str()), (VIP, client));
    assert_eq!(t.one(1, message(client, VIP, "out@host"), OUTSIDE).unwrap().to, server);
    // The call is the server's, from wherever the client goes on with it.
    assert_eq!(goes(&mut t, "192.0.2.7:9999", "out@host"), 12);
    assert_eq!(t.rows(true), ["UDP 05:00 ASSURED 192.0.2.7:0 10.0.0.100:5060 10.1.0.12:5060"]);
    // What says nothing of a call, and what is not of this service, is routed on as it is.
    assert_eq!(t.one(0, udp(server, "192.0.2.9:1", b"?"), INSIDE).unwrap().from, server);
    let mut t = Table::new(&[Pool {
        service: xvs::director::service::Service { engine: None, ..sip(Method::Nat).service },
        ..sip(Method::Nat)
    }]);
    assert_eq!(t.one(0, message(server, client, "out@host"), INSIDE).unwrap().from, server);
}

#[test]
fn packet_by_packet_the_answers_come_from_the_vip_too() {
    let mut pool = sip(Method::Nat);
    pool.service.one_packet = true;
    let mut t = Table::new(&[pool]);
    let client = "192.0.2.7:1";
    for _ in 0..3 {
        assert_eq!(goes(&mut t, client, "one@host"), 13);
        let answer = t.one(0, message("10.1.0.13:5060", client, "one@host"), INSIDE).unwrap();
        assert_eq!((answer.from.as_str(), answer.to.as_str()), (VIP, client));
    }
    assert_eq!(t.rows(false), ["UDP 05:00 ASSURED 192.0.2.7:0 10.0.0.100:5060 10.1.0.13:5060"]);
    let id = xvs::director::server::ServerId(t.id("udp:10.0.0.100:5060", "10.1.0.13:5060"));
    let traffic = t.director.traffic(id);
    assert_eq!((traffic.connections, traffic.in_packets, traffic.out_packets), (6, 3, 3));
}

#[test]
fn a_server_takes_a_call_over_and_leaves_anothers_connection_alone() {
    for method in [Method::Nat, Method::Dr] {
        let mut pool = sip(Method::Nat);
        pool.servers[2].method = method;
        let mut t = Table::new(&[pool]);
        let client = "192.0.2.7:5060";
        assert_eq!(goes(&mut t, client, "one@host"), 13);
        // Another server has something to say to the same port of the client's.
        let sent = t.one(0, message("10.1.0.12:5060", client, "two@host"), INSIDE).unwrap();
        assert_eq!((sent.from.as_str(), sent.to.as_str()), (VIP, client));
        assert_eq!(goes(&mut t, client, "one@host"), 13);
        // And then takes the first call over.
        t.one(0, message("10.1.0.12:5060", "192.0.2.7:7777", "one@host"), INSIDE).unwrap();
        assert_eq!(goes(&mut t, "192.0.2.7:8888", "one@host"), 12);
    }
}
