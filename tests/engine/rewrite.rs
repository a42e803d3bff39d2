//! What happens to packets: NAT and DR, both directions, next hops.

use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::forward::hops::Route;
use xvs::director::server::ServerId;
use xvs::director::service::{Method, Protocol};
use xvs::director::stats::Traffic;

use crate::table::*;

const C: &str = "192.0.2.7:40000";
const VIP: &str = "10.0.0.100:80";

fn nat() -> Table {
    Table::new(&[service(Protocol::Tcp, VIP, Method::Nat, &[("10.1.0.11:8080", 1), ("10.1.0.12:8081", 1)])])
}

fn sent(port: u16, dst_mac: [u8; 6], from: &str, to: &str, ttl: u8) -> Result<Sent, DropReason> {
    Ok(Sent { port, dst_mac, from: from.into(), to: to.into(), ttl })
}

#[test]
fn nat_rewrites_the_destination_inwards_and_the_source_outwards() {
    let mut t = nat();
    let server = [2, 0, 0, 0, 0xa, 12];
    assert_eq!(t.tcp(C, VIP, "S"), sent(INSIDE, server, C, "10.1.0.12:8081", 63));
    assert_eq!(t.tcp("10.1.0.12:8081", C, "SA"), sent(OUTSIDE, ROUTER_MAC, VIP, C, 63));
    assert_eq!(t.tcp(C, VIP, "A"), sent(INSIDE, server, C, "10.1.0.12:8081", 63));
    assert_eq!(t.tcp("192.0.2.8:1", VIP, "S").unwrap().to, "10.1.0.11:8080", "the next one's turn");
}

#[test]
fn dr_changes_macs_and_ttl_only() {
    let mut t = Table::new(&[service(Protocol::Tcp, VIP, Method::Dr, &[("10.1.0.11:80", 1)])]);
    let before = tcp(C, VIP, "S");
    let after = t.forwarded(&before);
    assert_eq!(read(&after, INSIDE).ttl, 63);
    assert_eq!(after[..12], [[2, 0, 0, 0, 0xa, 11], INSIDE_MAC].concat());
    let same = |f: &[u8]| [&f[12..22], &f[23..24], &f[26..]].concat();
    assert_eq!(same(&after), same(&before), "nothing but TTL and header checksum");
    assert_eq!(t.tcp("10.1.0.11:80", C, "SA"), Err(DropReason::NoService), "no way back is kept");
}

#[test]
fn udp_goes_both_ways_and_a_missing_checksum_stays_missing() {
    let vip = "10.0.0.100:53";
    let mut t = Table::new(&[service(Protocol::Udp, vip, Method::Nat, &[("10.1.0.11:5353", 1)])]);
    assert_eq!(t.one(0, udp(C, vip, b"question"), OUTSIDE).unwrap().to, "10.1.0.11:5353");
    assert_eq!(t.one(1, udp("10.1.0.11:5353", C, b"answer"), INSIDE).unwrap().from, vip);
    let mut frame = udp(C, vip, b"question");
    frame[40..42].fill(0);
    let (_, after) = t.batch(0, &[frame], OUTSIDE).remove(0);
    assert_eq!(after[40..42], [0, 0]);
}

#[test]
fn a_wrong_checksum_on_arrival_is_wrong_on_departure() {
    let mut t = nat();
    t.tcp(C, VIP, "S").unwrap();
    let mut frame = tcp(C, VIP, "A");
    frame[60] ^= 0x40;
    let after = t.forwarded(&frame);
    let caught = std::panic::catch_unwind(|| read(&after, INSIDE));
    assert!(caught.is_err(), "the ends must still be able to see it");
}

#[test]
fn a_batch_may_hold_a_connection_from_its_first_packet_on() {
    let mut t = nat();
    let frames: Vec<_> = ["S", "A", "A", "FA"].map(|flags| tcp(C, VIP, flags)).into();
    let verdicts = t.batch(0, &frames, OUTSIDE);
    assert!(verdicts.iter().all(|(v, _)| *v == Verdict::Transmit(INSIDE)), "{verdicts:?}");
    assert_eq!(t.director.table.len(), 1);
}

#[test]
fn replies_may_arrive_at_another_worker() {
    let mut t = nat();
    t.one(0, tcp(C, VIP, "S"), OUTSIDE).unwrap();
    assert_eq!(t.one(1, tcp("10.1.0.12:8081", C, "SA"), INSIDE).unwrap().from, VIP);
    assert_eq!(t.one(1, tcp(C, VIP, "A"), OUTSIDE).unwrap().to, "10.1.0.12:8081");
    let (id1, id0) = (ServerId(1), ServerId(0));
    let traffic = t.director.traffic(id1);
    assert_eq!((traffic.connections, traffic.in_packets, traffic.out_packets), (1, 2, 1));
    assert_eq!((traffic.in_bytes, traffic.out_bytes), (2 * 65, 65), "IP packets, not frames");
    assert_eq!(t.director.traffic(id0), Traffic::default());
}

#[test]
fn what_opens_nothing_is_dropped_with_its_reason() {
    let mut t = nat();
    assert_eq!(t.tcp(C, VIP, "A"), Err(DropReason::NoConnection));
    assert_eq!(t.tcp(C, VIP, "SR"), Err(DropReason::NoConnection));
    assert_eq!(t.tcp(C, "10.0.0.100:81", "S"), Err(DropReason::NoService));
    assert_eq!(t.one(0, udp(C, VIP, b"?"), OUTSIDE), Err(DropReason::NoService));
    assert_eq!(t.director.table.len(), 0);
    let mut t = Table::new(&[service(Protocol::Tcp, VIP, Method::Nat, &[("10.1.0.11:80", 0)])]);
    assert_eq!(t.tcp(C, VIP, "S"), Err(DropReason::NoServer));
    let drops: Vec<_> = t.director.drops();
    assert_eq!(drops, [(DropReason::NoServer, 1)]);
}

#[test]
fn ttl_and_mtu_are_checked_before_anything_leaves() {
    let mut t = nat();
    let mut frame = tcp(C, VIP, "S");
    frame[22] = 1;
    let sum =
        etherparse::Ipv4HeaderSlice::from_slice(&frame[14..]).unwrap().to_header().calc_header_checksum();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(t.one(0, frame, OUTSIDE), Err(DropReason::TtlExpired));
    t.hops.mtu = 64;
    assert_eq!(t.tcp(C, VIP, "S"), Err(DropReason::TooBig));
    t.hops.mtu = 65;
    assert!(t.tcp(C, VIP, "S").is_ok());
}

#[test]
fn a_servers_new_mac_is_followed_by_the_next_packet() {
    let mut t = nat();
    t.tcp(C, VIP, "S").unwrap();
    t.hops.macs.insert(12, [2, 9, 9, 9, 9, 9]);
    assert_eq!(t.tcp(C, VIP, "A").unwrap().dst_mac, [2, 9, 9, 9, 9, 9]);
    t.hops.macs.remove(&12);
    assert_eq!(t.tcp(C, VIP, "A"), Err(DropReason::Unresolved));
}

#[test]
fn a_moved_route_is_followed_when_its_generation_changes() {
    let mut t = nat();
    t.tcp(C, VIP, "S").unwrap();
    let reply = |t: &mut Table| t.tcp("10.1.0.12:8081", C, "A").map(|s| s.dst_mac);
    assert_eq!(reply(&mut t), Ok(ROUTER_MAC));
    t.hops.client_route = Route::Via(xvs::director::forward::hops::HopId(15));
    assert_eq!(reply(&mut t), Ok(ROUTER_MAC), "until the generation says so");
    t.hops.generation += 1;
    assert_eq!(reply(&mut t), Ok([2, 0, 0, 0, 0xa, 15]));
    t.hops.client_route = Route::Unreachable;
    t.hops.generation += 1;
    assert_eq!(reply(&mut t), Err(DropReason::NoRoute));
}

#[test]
fn a_client_without_a_neighbour_entry_is_answered_where_it_came_from() {
    let mut t = nat();
    t.hops.client_route = Route::Unknown;
    t.tcp(C, VIP, "S").unwrap();
    assert_eq!(t.tcp("10.1.0.12:8081", C, "SA").unwrap().dst_mac, CLIENT_MAC);
    // Once the kernel knows it, within a tick.
    t.hops.client_route = Route::Via(xvs::director::forward::hops::HopId(0));
    t.pass(1);
    assert_eq!(t.tcp("10.1.0.12:8081", C, "A").unwrap().dst_mac, ROUTER_MAC);
}

#[test]
fn two_vips_over_one_server_keep_their_connections_and_the_newest_has_the_replies() {
    let (vips, server) = (["10.0.0.100:5060", "10.0.0.101:5060"], "10.1.0.11:5060");
    let client = "192.0.2.7:5060";
    let mut t = Table::new(&vips.map(|vip| service(Protocol::Udp, vip, Method::Nat, &[(server, 1)])));
    for vip in vips.repeat(8) {
        assert_eq!(t.one(0, udp(client, vip, b"x"), OUTSIDE).unwrap().to, server);
    }
    let opened = |t: &Table| (0..2).map(|id| t.director.traffic(ServerId(id)).connections).sum::<u64>();
    assert_eq!((t.director.table.len(), opened(&t)), (2, 2));
    assert_eq!(t.one(0, udp(server, client, b"y"), INSIDE).unwrap().from, vips[1], "as the kernel finds it");
}

#[test]
fn a_priority_tag_is_no_vlan() {
    let mut t = nat();
    let plain = tcp(C, VIP, "S");
    let tagged = [&plain[..12], &[0x81, 0, 0xa0, 0], &plain[12..]].concat();
    assert_eq!(t.batch(0, &[tagged], OUTSIDE)[0].0, Verdict::Transmit(INSIDE));
}

#[test]
fn active_ftp_data_from_port_20_is_never_scheduled() {
    assert_eq!(nat().tcp("192.0.2.7:20", VIP, "S"), Err(DropReason::NoConnection));
}

#[test]
fn a_nat_servers_own_packets_are_routed_on_unchanged() {
    let mut t = nat();
    let direct = "192.0.2.9:5000";
    assert_eq!(
        t.tcp("10.1.0.12:8081", direct, "SA"),
        sent(OUTSIDE, ROUTER_MAC, "10.1.0.12:8081", direct, 63)
    );
    assert_eq!(t.director.stats.iter().map(|s| s.strays()).sum::<u64>(), 1);
    assert_eq!(t.director.table.len(), 0);
    assert_eq!(t.tcp("10.1.0.12:22", direct, "SA"), Err(DropReason::NoService), "not the port of a server");
    t.hops.mtu = 60;
    assert_eq!(t.tcp("10.1.0.12:8081", direct, "A"), Err(DropReason::TooBig));
    t.hops.client_route = Route::Unreachable;
    assert_eq!(t.tcp("10.1.0.12:8081", direct, "A"), Err(DropReason::NoRoute));
}
