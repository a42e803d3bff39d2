//! UDP request and response, as DNS resolvers do it: many sockets, small datagrams.

use std::io;
use std::net::SocketAddrV4;

use crate::client::{self, Resolver};
use crate::lab::{self, CLIENTS, DR_VIP, Lab, NAT_VIP, UDP_PORT, alone};
use crate::xvs::{Xvs, abc, config, service, stats};

/// Client sockets; each is a flow of its own.
const SOCKETS: usize = 1_500;
/// Queries from each socket, one after another.
const QUERIES: u16 = 8;
/// Sockets that ask at the same time: no more datagrams than this are ever under way.
const AT_ONCE: usize = 64;

#[test]
fn every_dns_query_is_answered_from_the_vip_by_nat() {
    let report = resolve("nat", SocketAddrV4::new(NAT_VIP, UDP_PORT));
    let [conns, in_packets, out_packets, ..] = stats(&report, "UDP", SocketAddrV4::new(NAT_VIP, UDP_PORT));
    assert_eq!([conns, in_packets, out_packets], [SOCKETS as u64, QUERY_COUNT, QUERY_COUNT]);
}

#[test]
fn every_dns_query_is_answered_from_the_vip_by_dr() {
    let report = resolve("dr", SocketAddrV4::new(DR_VIP, UDP_PORT));
    let [conns, in_packets, out_packets, ..] = stats(&report, "UDP", SocketAddrV4::new(DR_VIP, UDP_PORT));
    assert_eq!([conns, in_packets, out_packets], [SOCKETS as u64, QUERY_COUNT, 0]);
}

const QUERY_COUNT: u64 = SOCKETS as u64 * QUERIES as u64;

fn resolve(forward: &str, vip: SocketAddrV4) -> String {
    let _alone = alone();
    let lab = Lab::new();
    let xvs = Xvs::start(&lab, &config(&[service(("udp", vip), ("rr", forward), &abc(UDP_PORT, [1; 3]))]));
    let names = client::run(&lab, async || {
        client::tally(client::many(SOCKETS, AT_ONCE, move |i| one_socket(i, vip)).await)
    });
    assert!(names.len() == 3 && names.values().all(|&count| count == SOCKETS / 3), "{names:?}");
    xvs.stop()
}

/// All queries of one socket: one flow, so one server.
async fn one_socket(index: usize, vip: SocketAddrV4) -> io::Result<String> {
    let port = 20_000 + u16::try_from(index / usize::from(CLIENTS)).expect("few sockets");
    let resolver = Resolver::new(SocketAddrV4::new(lab::client(index), port), vip).await?;
    let first = u16::try_from(index).expect("few sockets") * QUERIES;
    let name = resolver.ask(first).await?;
    for id in first + 1..first + QUERIES {
        let other = resolver.ask(id).await?;
        if other != name {
            return Err(io::Error::other(format!("query {id} went to {other}, those before to {name}")));
        }
    }
    Ok(name)
}
