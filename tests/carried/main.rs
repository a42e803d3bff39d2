//! The engine's tests once more, golden packets among them, with the steering program as a witness: see
//! `tests/engine/witness.rs`. Needs root.
#![allow(missing_docs)]

#[path = "../engine/main.rs"]
mod engine;

use std::slice::from_ref;

use engine::{golden, pieces, proxy_datagrams, segments, table, told_across};
use table::{INSIDE, OUTSIDE, Table, persistent, service, tcp, udp};
use xvs::director::service::{Method, Protocol, Tunnel};

/// Else nothing here says anything.
#[test]
fn what_is_established_is_sent_on_by_the_program_too() {
    const CLIENT: &str = "192.0.2.7:4000";
    for (method, server) in [
        (Method::Nat, "10.1.0.11:8080"),
        (Method::Dr, "10.1.0.11:80"),
        (Method::Tun(Tunnel::Ipip), "10.1.0.11:80"),
    ] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let mut t = Table::new(&[service(protocol, "10.0.0.100:80", method, &[(server, 1)])]);
            let is_tcp = protocol == Protocol::Tcp;
            let packet =
                |from: &str, to: &str| if is_tcp { tcp(from, to, "A") } else { udp(from, to, b"text") };
            let inward = packet(CLIENT, "10.0.0.100:80");
            if is_tcp {
                t.batch(0, &[tcp(CLIENT, "10.0.0.100:80", "S")], OUTSIDE);
                if method == Method::Nat {
                    t.batch(0, &[tcp(server, CLIENT, "SA")], INSIDE);
                }
            }
            t.batch(0, from_ref(&inward), OUTSIDE);
            assert_eq!(t.carried(), 0, "{method:?} {protocol:?}: offered by now");
            t.batch(0, &[inward], OUTSIDE);
            assert_eq!(t.carried(), 1, "{method:?} {protocol:?}: inward");
            if method == Method::Nat {
                t.batch(0, &[packet(server, CLIENT)], INSIDE);
                assert_eq!(t.carried(), 2, "{protocol:?}: outward");
            }
        }
    }
}

/// The reply changes the template, so the engine has to see it.
#[test]
fn a_template_is_told_of_the_first_reply() {
    let (client, vip, server) = ("192.0.2.7:4000", "10.0.0.100:53", "10.1.0.11:53");
    let pool = service(Protocol::Udp, vip, Method::Nat, &[(server, 1)]);
    let mut t = Table::new(&[persistent(pool, 300)]);
    let [inward, outward] = [udp(client, vip, b"asks"), udp(server, client, b"answers")];
    for _ in 0..4 {
        t.batch(0, from_ref(&inward), OUTSIDE);
    }
    t.batch(0, from_ref(&outward), INSIDE);
    assert_eq!(t.carried(), 0, "none was answered before");
    t.batch(0, from_ref(&inward), OUTSIDE);
    t.batch(0, from_ref(&outward), INSIDE);
    assert_eq!(t.carried(), 1);
}
