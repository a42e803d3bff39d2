//! ICMP errors about packets in tunnels where IPv6 is inside, outside, or both: as with IPv4, and nobody is told of less than
//! IPv6 may be told of.

use std::net::{IpAddr, SocketAddr};

use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::service::{Method, Protocol, Tunnel};

use crate::table::*;

/// A router of either version.
const ROUTERS: [&str; 2] = ["10.1.0.99", "fd00:1::99"];
/// What IPv6 is never told less than.
const LEAST: u16 = 1280;

/// A tunnel, and whether the packets inside and outside are IPv4.
#[derive(Clone, Copy, Debug)]
struct Way {
    tunnel: Tunnel,
    inner_is_v4: bool,
    outer_is_v4: bool,
}

fn ways() -> impl Iterator<Item = Way> {
    let versions = [(false, false), (false, true), (true, false)];
    versions
        .into_iter()
        .flat_map(|(inner_is_v4, outer_is_v4)| TUNNELS.map(|tunnel| Way { tunnel, inner_is_v4, outer_is_v4 }))
}

impl Way {
    fn client(self) -> SocketAddr {
        if self.inner_is_v4 { "192.0.2.7:40000" } else { "[2001:db8::7]:40000" }.parse().unwrap()
    }

    fn vip(self) -> SocketAddr {
        if self.inner_is_v4 { "10.0.0.100:53" } else { "[fd00::100]:53" }.parse().unwrap()
    }

    fn table(self) -> Table {
        let server = if self.outer_is_v4 { "10.1.0.11:53" } else { "[fd00:1::11]:53" };
        let method = Method::Tun(self.tunnel);
        Table::new(&[service(Protocol::Udp, &self.vip().to_string(), method, &[(server, 1)])])
    }

    fn overhead(self) -> u16 {
        u16::try_from(self.tunnel.overhead(self.outer_is_v4)).unwrap()
    }

    /// A client's packet of so many bytes, which with IPv4 must not be fragmented.
    fn packet(self, len: u16) -> Vec<u8> {
        let headers = if self.inner_is_v4 { 28 } else { 48 };
        let payload = vec![7; usize::from(len) - headers];
        let mut frame = udp(&self.client().to_string(), &self.vip().to_string(), &payload);
        if self.inner_is_v4 {
            frame[20] = 0x40;
            mend_ip(&mut frame);
        }
        frame
    }

    /// What a router on the way says of this outer packet.
    fn says(self, outer: &[u8], kind: (u8, u8), mtu: u16) -> Vec<u8> {
        let (router, len) = if self.outer_is_v4 { (ROUTERS[0], 548) } else { (ROUTERS[1], 1232) };
        icmp_error(router, kind, mtu.into(), outer, len)
    }

    fn says_too_big(self, outer: &[u8], mtu: u16) -> Vec<u8> {
        self.says(outer, if self.outer_is_v4 { (3, 4) } else { (2, 0) }, mtu)
    }

    /// What the client is told of a packet that is too long.
    fn told_too_big(self, mtu: u16) -> String {
        let (vip, client): (IpAddr, IpAddr) = (self.vip().ip(), self.client().ip());
        if self.inner_is_v4 {
            format!("{vip} tells {client}: type 3 code 4, {mtu}")
        } else {
            format!("{vip} tells {client}: type 2 code 0 and {mtu}")
        }
    }
}

fn told(answer: &[u8]) -> String {
    let words = read_answer(answer);
    let mtu = u16::from_be_bytes([answer[40], answer[41]]);
    if words.ends_with("type 3 code 4") { format!("{words}, {mtu}") } else { words }
}

fn hears(t: &mut Table, frame: Vec<u8>) -> (Verdict, Vec<u8>) {
    t.batch(1, &[frame], INSIDE).remove(0)
}

/// Sends a packet that leaves in parts, each of which fits.
fn split(t: &mut Table, frame: &[u8], mtu: usize) {
    let first = t.forwarded(frame);
    let made: Vec<usize> = t.made.drain(..).map(|(_, frame)| frame.len() - 14).collect();
    assert_eq!(made.len(), 1, "two parts");
    assert!(first.len() - 14 <= mtu && made[0] <= mtu, "{} {made:?}", first.len());
}

#[test]
fn the_client_is_told_and_from_then_on_by_the_director_itself() {
    for way in ways() {
        let mut t = way.table();
        let (long, mtu) = (way.packet(1400), 1350 - way.overhead());
        let outer = t.forwarded(&long);
        let server = xvs::director::server::ServerId(0);
        let before = t.director.traffic(server);
        let (verdict, answer) = hears(&mut t, way.says_too_big(&outer, 1350));
        assert_eq!(verdict, Verdict::Transmit(OUTSIDE), "{way:?}");
        assert_eq!(told(&answer), way.told_too_big(mtu), "{way:?}");
        assert_eq!((&answer[..6], &answer[6..12]), (&ROUTER_MAC[..], &OUTSIDE_MAC[..]));
        let quote = &answer[if way.inner_is_v4 { 42 } else { 62 }..];
        assert_eq!(quote[48..200], long[62..214], "its own packet");
        assert_eq!(t.director.traffic(server), before, "nobody's traffic");

        // The next one does not get as far as that router.
        for (passes, s) in [(false, 0), (false, 599), (true, 2)] {
            t.pass(s);
            if passes {
                t.forwarded(&long);
                continue;
            }
            let (verdict, answer) = t.batch(0, std::slice::from_ref(&long), OUTSIDE).remove(0);
            assert_eq!(verdict, Verdict::Answer(OUTSIDE, DropReason::TooBig), "{way:?}");
            assert_eq!(told(&answer), way.told_too_big(mtu), "{way:?}");
            t.forwarded(&way.packet(mtu));
        }
    }
}

/// A client of IPv6 may send packets of 1280 bytes whatever the way: the outer ones are split then.
#[test]
fn no_way_is_too_narrow_for_what_ipv6_always_carries() {
    for way in ways() {
        let mut t = way.table();
        let outer = t.forwarded(&way.packet(1400));
        // What no router of IPv6 may say.
        let narrow = if way.outer_is_v4 { 700 } else { 68 };
        let believed = if way.outer_is_v4 { 700 } else { LEAST };
        let mtu = if way.inner_is_v4 { believed - way.overhead() } else { LEAST };
        let (verdict, answer) = hears(&mut t, way.says_too_big(&outer, narrow));
        assert_eq!((verdict, told(&answer)), (Verdict::Transmit(OUTSIDE), way.told_too_big(mtu)), "{way:?}");
        if way.inner_is_v4 {
            t.forwarded(&way.packet(mtu));
            assert!(t.made.is_empty());
            continue;
        }
        let least = way.packet(LEAST);
        if !way.outer_is_v4 {
            split(&mut t, &least, usize::from(believed));
        }
        let (verdict, answer) = t.batch(0, &[way.packet(LEAST + 1)], OUTSIDE).remove(0);
        assert_eq!(verdict, Verdict::Answer(OUTSIDE, DropReason::TooBig));
        assert_eq!(told(&answer), way.told_too_big(LEAST), "{way:?}");
        // Of such a packet its client has nothing to hear.
        let mut t = way.table();
        let outer = t.forwarded(&least);
        assert_eq!(hears(&mut t, way.says_too_big(&outer, LEAST)).0, Verdict::Drop(DropReason::IcmpHeard));
        split(&mut t, &least, usize::from(LEAST));
    }
}

#[test]
fn a_packet_of_ipv4_that_may_be_fragmented_is_and_its_sender_is_not_told() {
    for way in ways().filter(|way| way.inner_is_v4) {
        let mut t = way.table();
        let mut long = way.packet(1400);
        long[20] = 0;
        mend_ip(&mut long);
        let outer = t.forwarded(&long);
        assert_eq!(hears(&mut t, way.says_too_big(&outer, 1300)).0, Verdict::Drop(DropReason::IcmpHeard));
        split(&mut t, &long, 1300);
    }
}

#[test]
fn other_errors_are_told_in_the_clients_version() {
    for way in ways() {
        let (said, expected) = match (way.inner_is_v4, way.outer_is_v4) {
            (false, false) => ([(1, 4), (3, 0)], ["type 1 code 4 and 0", "type 3 code 0 and 0"]),
            (false, true) => ([(3, 3), (11, 0)], ["type 1 code 4 and 0", "type 3 code 0 and 0"]),
            (true, _) => ([(1, 4), (3, 0)], ["type 3 code 3", "type 11 code 0"]),
        };
        for (kind, expected) in said.into_iter().zip(expected) {
            let mut t = way.table();
            let outer = t.forwarded(&way.packet(600));
            let (verdict, answer) = hears(&mut t, way.says(&outer, kind, 0));
            assert_eq!(verdict, Verdict::Transmit(OUTSIDE), "{way:?}");
            let ends = format!("{} tells {}", way.vip().ip(), way.client().ip());
            assert_eq!(read_answer(&answer), format!("{ends}: {expected}"), "{way:?}");
            t.forwarded(&way.packet(1400));
        }
    }
    // IPv6 has no source quench.
    for way in ways().filter(|way| way.outer_is_v4) {
        let mut t = way.table();
        let outer = t.forwarded(&way.packet(600));
        assert_eq!(hears(&mut t, way.says(&outer, (4, 0), 0)).0, Verdict::Drop(DropReason::IcmpHeard));
    }
}

#[test]
fn only_who_shows_the_connection_is_believed() {
    for way in ways() {
        let mut t = way.table();
        let long = way.packet(1400);
        let outer = t.forwarded(&long);
        let edited = |at: usize, value: u8| {
            let mut outer = outer.clone();
            outer[at] = value;
            way.says_too_big(&outer, 1300)
        };
        let inner = 14 + usize::from(way.overhead());
        // Another client's packet; from another address of the director; to another server.
        let client = edited(inner + if way.inner_is_v4 { 15 } else { 23 }, 8);
        let (source, server) =
            if way.outer_is_v4 { (edited(29, 7), edited(33, 12)) } else { (edited(37, 7), edited(53, 0x12)) };
        for (n, lie) in [client, source, server].into_iter().enumerate() {
            let verdict = hears(&mut t, lie).0;
            assert!(matches!(verdict, Verdict::Drop(_)), "{way:?} {n}: {verdict:?}");
            t.forwarded(&long);
        }
    }
}
