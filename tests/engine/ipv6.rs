//! IPv6: NAT, DR and TUN of every protocol in both directions, its limits, and what its clients are told. What does not
//! depend on the version of IP is in the other files.

use etherparse::{NetSlice, SlicedPacket};
use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::forward::hops::Route;
use xvs::director::marks::MarkRule;
use xvs::director::name::ServiceKey;
use xvs::director::sched::Kind;
use xvs::director::service::{
    Method, Netmask, Persistence, Pool, Protocol, Server, Service, Tunnel, TunnelChecksum,
};

use crate::table::*;

const C: &str = "[2001:db8:7::7]:40000";
const VIP: &str = "[2001:db8::100]:80";
const SERVER: [u8; 6] = [2, 0, 0, 0, 0xa, 11];

const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

/// What opens a connection of the protocol, or answers it.
fn packet(protocol: Protocol, from: &str, to: &str, opens: bool) -> Vec<u8> {
    match protocol {
        Protocol::Tcp => tcp(from, to, if opens { "S" } else { "SA" }),
        Protocol::Udp => udp(from, to, b"some text of odd size"),
        Protocol::Sctp => sctp(from, to, &[(if opens { 1 } else { 2 }, b"tag and streams")]),
    }
}

/// Puts eight bytes of destination options in front of the transport header.
fn extended(mut frame: Vec<u8>) -> Vec<u8> {
    let protocol = std::mem::replace(&mut frame[20], 60);
    frame.splice(54..54, [protocol, 0, 1, 4, 0, 0, 0, 0]);
    let len = u16::from_be_bytes([frame[18], frame[19]]) + 8;
    frame[18..20].copy_from_slice(&len.to_be_bytes());
    frame
}

fn sent(port: u16, dst_mac: [u8; 6], from: &str, to: &str) -> Result<Sent, DropReason> {
    Ok(Sent { port, dst_mac, from: from.into(), to: to.into(), ttl: 63 })
}

#[test]
fn nat_rewrites_every_protocol_both_ways_and_every_checksum_is_right() {
    for protocol in PROTOCOLS {
        for with in [|frame| frame, extended] {
            for server in ["[fd00:1::11]:8080", "[fd00:1::11]:80"] {
                let mut t = Table::new(&[service(protocol, VIP, Method::Nat, &[(server, 1)])]);
                let to_server = with(packet(protocol, C, VIP, true));
                assert_eq!(t.one(0, to_server, OUTSIDE), sent(INSIDE, SERVER, C, server), "{protocol:?}");
                let to_client = with(packet(protocol, server, C, false));
                assert_eq!(t.one(1, to_client, INSIDE), sent(OUTSIDE, ROUTER_MAC, VIP, C), "{protocol:?}");
                assert_eq!(t.director.table.len(), 1);
            }
        }
    }
}

#[test]
fn dr_changes_macs_and_the_hop_limit_only() {
    for protocol in PROTOCOLS {
        let mut t = Table::new(&[service(protocol, VIP, Method::Dr, &[("[fd00:1::11]:80", 1)])]);
        let before = packet(protocol, C, VIP, true);
        let (verdict, after) = t.batch(0, std::slice::from_ref(&before), OUTSIDE).remove(0);
        assert_eq!((verdict, &after[..12]), (Verdict::Transmit(INSIDE), &[SERVER, INSIDE_MAC].concat()[..]));
        assert_eq!(read(&after, INSIDE), sent(INSIDE, SERVER, C, VIP).unwrap());
        let same = |f: &[u8]| [&f[12..21], &f[22..]].concat();
        assert_eq!(same(&after), same(&before), "nothing but the hop limit");
    }
}

/// Of IPv6 in both versions, and of IPv4 in IPv6: another parser takes the outer headers off.
#[test]
fn tunnels_hold_the_packet_whatever_room_was_made() {
    let gue = Tunnel::Gue { port: 6080, checksum: TunnelChecksum::Full };
    let gre = Tunnel::Gre { checksum: TunnelChecksum::Full };
    let v4 = ("192.0.2.7:40000", "10.0.0.100:80");
    for (client, vip, server, own) in [
        (C, VIP, "10.1.0.11:80", "10.1.0.1"),
        (C, VIP, "[fd00:1::11]:80", "fd00:1::1"),
        (v4.0, v4.1, "[fd00:1::11]:80", "fd00:1::1"),
    ] {
        for (tunnel, protocol) in [(Tunnel::Ipip, PROTOCOLS), (gue, PROTOCOLS), (gre, PROTOCOLS)]
            .into_iter()
            .flat_map(|(tunnel, all)| all.map(|protocol| (tunnel, protocol)))
        {
            let outer_is_v4 = own.contains('.');
            let overhead = tunnel.overhead(outer_is_v4);
            for room in [0, 16, overhead, 64] {
                let mut t = Table::new(&[service(protocol, vip, Method::Tun(tunnel), &[(server, 1)])]);
                let before = packet(protocol, client, vip, true);
                let mut frame = before.clone();
                if room > 0 {
                    let mark = [&before[..12], &[0x88, 0xb5], &u16::try_from(room).unwrap().to_be_bytes()];
                    frame = [&mark.concat()[..], &vec![0xdd; room - 16], &before].concat();
                }
                let (verdict, after) = t.batch(0, &[frame], OUTSIDE).remove(0);
                assert_eq!(verdict, Verdict::Transmit(INSIDE), "{tunnel:?} {server}");
                let sliced = SlicedPacket::from_ethernet(&after).unwrap();
                let (from, to, len) = match &sliced.net {
                    Some(NetSlice::Ipv4(ip)) => {
                        let header = ip.header().to_header();
                        assert_eq!(header.calc_header_checksum(), header.header_checksum);
                        assert!(!header.dont_fragment && header.identification != 0);
                        let (from, to) = (ip.header().source_addr(), ip.header().destination_addr());
                        (from.to_string(), to.to_string(), usize::from(header.total_len))
                    }
                    Some(NetSlice::Ipv6(ip)) => {
                        let (from, to) = (ip.header().source_addr(), ip.header().destination_addr());
                        assert_eq!(ip.header().hop_limit(), 63);
                        (from.to_string(), to.to_string(), 40 + usize::from(ip.header().payload_length()))
                    }
                    other => panic!("{other:?}"),
                };
                assert_eq!((from.as_str(), len), (own, after.len() - 14));
                assert!(server.contains(&to) && after[..6] == SERVER);
                let inner = [&after[..12], &before[12..14], &after[14 + overhead..]].concat();
                assert_eq!(read(&inner, INSIDE), sent(INSIDE, SERVER, client, vip).unwrap());
            }
        }
    }
}

#[test]
fn a_tunnel_that_is_too_narrow_is_told_of_and_ipv6_is_never_split() {
    for pmtu_disc in [0, 1] {
        let server = [("10.1.0.11:80", 1)];
        let mut t = Table::new(&[service(Protocol::Udp, VIP, Method::Tun(Tunnel::Ipip), &server)]);
        t.tune("pmtu_disc", pmtu_disc);
        let (verdict, after) = t.batch(0, &[udp(C, VIP, &[7; 1440])], OUTSIDE).remove(0);
        assert_eq!(verdict, Verdict::Answer(OUTSIDE, DropReason::TooBig));
        assert_eq!(read_answer(&after), "2001:db8::100 tells 2001:db8:7::7: type 2 code 0 and 1480");
        assert_eq!(t.made, [], "nothing was split");
        let fits = t.batch(0, &[udp(C, VIP, &[7; 1432])], OUTSIDE).remove(0).0;
        assert_eq!(fits, Verdict::Transmit(INSIDE));
    }
    // A tunnel of IPv6 that left less than its least MTU is none.
    let mut t =
        Table::new(&[service(Protocol::Udp, VIP, Method::Tun(Tunnel::Ipip), &[("[fd00:1::11]:80", 1)])]);
    t.hops.mtu = 1319;
    assert_eq!(t.one(0, udp(C, VIP, b"short"), OUTSIDE), Err(DropReason::NoTunnel));
}

fn nat(weight: u32) -> Table {
    let servers = |port: u16| format!("[fd00:1::11]:{port}");
    let pool = |protocol, vip, port| service(protocol, vip, Method::Nat, &[(servers(port).as_str(), weight)]);
    Table::new(&[pool(Protocol::Tcp, VIP, 80), pool(Protocol::Udp, "[2001:db8::100]:53", 53)])
}

/// The answer to a frame, or why there is none.
fn answer(t: &mut Table, frame: Vec<u8>, port: u16) -> Result<String, Verdict> {
    let (verdict, after) = t.batch(0, &[frame], port).remove(0);
    match verdict {
        Verdict::Answer(back, _) => {
            assert_eq!((back, &after[..6]), (port, &CLIENT_MAC[..]), "back where it came from");
            Ok(read_answer(&after))
        }
        other => Err(other),
    }
}

#[test]
fn who_sent_what_goes_no_further_is_told() {
    const S: &str = "[fd00:1::11]:80";
    let tells = |what: &str| Ok(format!("2001:db8::100 tells 2001:db8:7::7: {what}"));
    let mut t = nat(0);
    assert_eq!(answer(&mut t, tcp(C, VIP, "S"), OUTSIDE), tells("type 1 code 4 and 0"), "no server");
    assert_eq!(answer(&mut t, udp(C, "[2001:db8::100]:53", b"?"), OUTSIDE), tells("type 1 code 4 and 0"));
    let reset = Ok(format!("{VIP} resets {C}"));
    assert_eq!(answer(&mut t, tcp(C, VIP, "A"), OUTSIDE), reset, "no connection");
    assert_eq!(answer(&mut t, extended(tcp(C, VIP, "FA")), OUTSIDE), reset);
    let sctp = sctp(C, "[2001:db8::100]:81", &[(1, b"tag")]);
    assert_eq!(answer(&mut t, extended(sctp), OUTSIDE), tells("type 4 code 1 and 40"), "no SCTP here");

    let mut t = nat(1);
    t.tcp(C, VIP, "S").unwrap();
    let with_hop_limit_1 = |mut frame: Vec<u8>| {
        frame[21] = 1;
        frame
    };
    let tells_server = |what: &str| Ok(format!("fd00:1::1 tells fd00:1::11: {what}"));
    assert_eq!(answer(&mut t, with_hop_limit_1(tcp(C, VIP, "A")), OUTSIDE), tells("type 3 code 0 and 0"));
    assert_eq!(answer(&mut t, with_hop_limit_1(tcp(S, C, "A")), INSIDE), tells_server("type 3 code 0 and 0"));
    t.hops.mtu = 80;
    assert_eq!(answer(&mut t, tcp(C, VIP, "A"), OUTSIDE), tells("type 2 code 0 and 80"));
    assert_eq!(answer(&mut t, tcp(S, C, "A"), INSIDE), tells_server("type 2 code 0 and 80"));
    t.hops.mtu = 1500;
    t.hops.client_route = Route::Unreachable;
    t.hops.generation += 1;
    assert_eq!(answer(&mut t, tcp(S, C, "A"), INSIDE), tells_server("type 1 code 3 and 0"));
    for source in ["[::1]:9", "[::]:9", "[ff02::1]:9"] {
        let silent = Err(Verdict::Drop(DropReason::NoConnection));
        assert_eq!(answer(&mut t, tcp(source, VIP, "A"), OUTSIDE), silent, "{source}");
    }
}

#[test]
fn a_nat_servers_own_packets_are_routed_on_unchanged() {
    let mut t = nat(1);
    let direct = "[2001:db8:9::9]:5000";
    let server = "[fd00:1::11]:80";
    assert_eq!(t.tcp(server, direct, "SA"), sent(OUTSIDE, ROUTER_MAC, server, direct));
    assert_eq!(t.director.table.len(), 0);
    assert_eq!(t.tcp("[fd00:1::11]:22", direct, "SA"), Err(DropReason::NoService));
}

#[test]
fn a_wrong_checksum_stays_wrong_and_a_missing_one_missing() {
    let mut t = nat(1);
    let dns = "[2001:db8::100]:53";
    let mut frame = udp(C, dns, b"question");
    frame[60..62].fill(0);
    assert_eq!(t.batch(0, &[frame], OUTSIDE).remove(0).1[60..62], [0, 0]);
    let mut damaged = tcp(C, VIP, "S");
    *damaged.last_mut().unwrap() ^= 1;
    let (_, mut after) = t.batch(0, &[damaged], OUTSIDE).remove(0);
    assert!(std::panic::catch_unwind(|| read(&after, INSIDE)).is_err(), "as wrong as it was");
    *after.last_mut().unwrap() ^= 1;
    read(&after, INSIDE);
}

#[test]
fn ipsec_goes_with_isakmp_and_what_ah_holds_is_what_it_is() {
    let isakmp = "[2001:db8::100]:500";
    let mut t = Table::new(&[service(Protocol::Udp, isakmp, Method::Nat, &[("[fd00:1::11]:500", 1)])]);
    let (client, vip) = ("2001:db8:7::7".parse().unwrap(), "2001:db8::100".parse().unwrap());
    let esp = ip(client, vip, 50, &[1; 24]);
    assert!(t.one(0, esp.clone(), OUTSIDE).is_err(), "nothing went before");
    t.one(0, udp("[2001:db8:7::7]:500", isakmp, b"ike"), OUTSIDE).unwrap();
    assert_eq!(t.one(0, esp, OUTSIDE).unwrap().to, "[fd00:1::11]:0");
    // To the walk over extension headers AH is one of them.
    let mut t = Table::new(&[service(Protocol::Tcp, VIP, Method::Dr, &[("[fd00:1::11]:80", 1)])]);
    let segment = tcp(C, VIP, "S");
    let ah = [&[6, 4, 0, 0][..], &[7; 20], &segment[54..]].concat();
    let (verdict, after) = t.batch(0, &[ip(client, vip, 51, &ah)], OUTSIDE).remove(0);
    assert_eq!((verdict, &after[..6]), (Verdict::Transmit(INSIDE), &SERVER[..]));
}

#[test]
fn what_is_no_whole_packet_has_its_reason() {
    let mut t = nat(1);
    for frame in [tcp(C, VIP, "S"), extended(udp(C, "[2001:db8::100]:53", b"?"))] {
        for len in 0..frame.len() {
            let verdict = t.batch(0, &[frame[..len].to_vec()], OUTSIDE).remove(0).0;
            assert_eq!(verdict, Verdict::Drop(DropReason::Truncated), "{len} bytes");
        }
    }
    let mut long = tcp(C, VIP, "S");
    for _ in 0..7 {
        long = extended(long);
    }
    assert_eq!(t.batch(0, &[long], OUTSIDE).remove(0).0, Verdict::Drop(DropReason::Extension));
    assert_eq!(t.director.table.len(), 0);
}

#[test]
fn a_prefix_of_clients_stays_together() {
    let servers = [("[fd00:1::11]:80", 1), ("[fd00:1::12]:80", 1)];
    let mut pool = service(Protocol::Tcp, VIP, Method::Nat, &servers);
    pool.service.persistence = Some(Persistence { timeout_s: 300, netmask: Netmask::V6(64) });
    let mut t = Table::new(&[pool]);
    let mut to = |client: &str| t.tcp(client, VIP, "S").unwrap().to;
    let first = to("[2001:db8:7:1::7]:1");
    assert_eq!(to("[2001:db8:7:1::8]:1"), first, "of the same /64");
    assert_ne!(to("[2001:db8:7:2::7]:1"), first, "of another");
    assert_eq!(to("[2001:db8:7:1:ffff::1]:9"), first);
    assert_eq!(
        t.rows(true),
        [
            "TCP 05:00 NONE [2001:db8:7:1::]:0 [2001:db8::100]:80 [fd00:1::12]:80",
            "TCP 05:00 NONE [2001:db8:7:2::]:0 [2001:db8::100]:80 [fd00:1::11]:80"
        ]
    );
}

#[test]
fn a_mark_is_of_one_version() {
    let mark = 5.try_into().unwrap();
    let pool = |v6, server: &str| Pool {
        service: Service { scheduler: Kind::Rr, ..Service::new(ServiceKey::Mark { mark, v6 }) },
        servers: vec![Server::new(server.parse().unwrap(), Method::Dr)],
    };
    let mut t = Table::new(&[pool(false, "10.1.0.11:0"), pool(true, "[fd00:1::12]:0")]);
    let rule = |destination: &str| MarkRule {
        mark,
        protocol: Protocol::Tcp,
        destination: destination.parse().unwrap(),
        port_first: 80,
        port_last: 90,
        source: None,
    };
    t.change(|draft| {
        draft.settings().marks = [rule("10.0.0.100/32"), rule("2001:db8::/64")].into();
        Ok(())
    });
    let mac = |sent: Result<Sent, DropReason>| sent.map(|sent| sent.dst_mac[5]);
    assert_eq!(mac(t.tcp("192.0.2.7:1", "10.0.0.100:85", "S")), Ok(11));
    assert_eq!(mac(t.tcp(C, "[2001:db8::55]:85", "S")), Ok(12));
    assert_eq!(mac(t.tcp(C, "[2001:db8:0:1::55]:85", "S")), Err(DropReason::NoService));
}

#[test]
fn one_packet_scheduling_forgets_each_datagram() {
    let servers = [("[fd00:1::11]:53", 1), ("[fd00:1::12]:53", 1)];
    let vip = "[2001:db8::100]:53";
    let mut pool = service(Protocol::Udp, vip, Method::Nat, &servers);
    pool.service.one_packet = true;
    let mut t = Table::new(&[pool]);
    let to: Vec<_> = (0..4).map(|_| t.one(0, udp(C, vip, b"?"), OUTSIDE).unwrap().to).collect();
    assert_eq!(to, [servers[1].0, servers[0].0, servers[1].0, servers[0].0]);
    assert_eq!(t.director.table.len(), 0);
}
