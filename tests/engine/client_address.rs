//! How servers are told who a connection is from, whichever way: fragments, tags, IPv6 and FULLNAT. Headers of streams and of
//! datagrams, and the option, have files of their own.

use etherparse::PacketBuilder;
use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::service::{Method, Pool, Protocol};

use crate::pieces::cut;
use crate::proxy_datagrams::{DNS, dns, dns_header};
use crate::segments::*;
use crate::table::*;

#[test]
fn nothing_is_put_into_fragments() {
    let mut t = opened("proxy", 1460);
    let pieces = cut(&says(&[7; 60]).frame(C, VIP), 40);
    assert_eq!(t.batch(0, &pieces[..1], OUTSIDE)[0].0, Verdict::Drop(DropReason::ClientAddress));
    from_client(&mut t, &says(b"")).unwrap();
    let mut other = says(&[7; 60]).frame(C, VIP);
    other[18] = 9;
    let sent = t.batch(0, &cut(&other, 40), OUTSIDE);
    assert!(sent.iter().all(|(verdict, _)| *verdict == Verdict::Transmit(INSIDE)));
    assert_eq!(sent[0].1[38..42], after(FIRST, 28).to_be_bytes(), "shifted, and no more");
    assert_eq!(sent[0].1.len() + sent[1].1.len(), 34 + 40 + 34 + 40);

    let mut t = Table::new(&[dns()]);
    let sent = t.batch(0, &cut(&udp(C, DNS, &[7; 60]), 40), OUTSIDE);
    assert!(sent.iter().all(|(verdict, _)| *verdict == Verdict::Drop(DropReason::ClientAddress)));
    let payload = |frame: &[u8]| frame[42..].to_vec();
    assert_eq!(payload(&t.batch(0, &[udp(C, DNS, b"?")], OUTSIDE)[0].1).len(), 29, "the next has it");
}

#[test]
fn connections_keep_what_they_began_with() {
    let mut t = opened("proxy", 1460);
    from_client(&mut t, &says(b"")).unwrap();
    t.switch(SERVICE, "client_address", "none");
    assert_eq!(from_client(&mut t, &says(b"x")).unwrap()[0].seq, after(FIRST, 28));
    let mut t = opened("none", 1460);
    t.switch(SERVICE, "client_address", "proxy");
    assert_eq!(from_client(&mut t, &says(b"")).unwrap(), [says(b"")]);
}

#[test]
fn a_tagged_frame_has_its_header_too_whatever_the_servers_tag() {
    for inside in [Some(7), None, Some(20)] {
        let mut t = Table::new(&[dns()]);
        t.hops.vlans = [Some(7), inside];
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(CLIENT_MAC, OUTSIDE_MAC)
            .single_vlan(etherparse::VlanId::try_new(7).unwrap())
            .ipv4([192, 0, 2, 7], [10, 0, 0, 100], 64)
            .udp(40000, 53)
            .write(&mut frame, b"?")
            .unwrap();
        let (verdict, after) = t.batch(0, &[frame], OUTSIDE).remove(0);
        let text = if inside.is_some() { 46 } else { 42 };
        let expected = [&dns_header()[..], b"?"].concat();
        assert_eq!((verdict, &after[text..]), (Verdict::Transmit(INSIDE), &expected[..]));
        read(&after, INSIDE);
    }
}

#[test]
fn servers_in_another_vlan_are_told_and_no_forged_option_reaches_them() {
    let mut t = Table::new(&[told("toa")]);
    open(&mut t, 1460);
    t.hops.vlans = [None, Some(20)];
    let lie = [254, 8, 0, 80, 9, 9, 9, 9];
    let (_, after) = t.batch(0, &[says(b"").with(&lie).frame(C, VIP)], OUTSIDE).remove(0);
    let options = &after[18 + 20 + 20..];
    assert!(
        options.windows(8).any(|it| it == OPTION) && !options.windows(8).any(|it| it == lie),
        "{options:?}"
    );
    // The header's own segment has the servers' tag as well.
    let mut t = opened("proxy", 60);
    t.hops.vlans = [None, Some(20)];
    t.batch(0, &[says(&[b'x'; 50]).frame(C, VIP)], OUTSIDE);
    let made = std::mem::take(&mut t.made);
    let tags: Vec<_> = made.iter().map(|(_, frame)| frame[12..16].to_vec()).collect();
    assert_eq!(tags, [[0x81, 0, 0, 20]]);
}

const C6: &str = "[2001:db8::7]:40000";
const VIP6: &str = "[2001:db8:f::100]:80";
const R6: &str = "[fd00:1::11]:8080";

/// A pool at the IPv6 VIP.
fn told_v6(protocol: Protocol, how: &str) -> Pool {
    let mut pool = service(protocol, VIP6, Method::Nat, &[(R6, 1)]);
    pool.service.switches.set("client_address", how).unwrap();
    pool
}

/// A segment or datagram of IPv6.
fn v6(from: &str, to: &str, tcp: Option<(&str, u32, u32)>, text: &[u8]) -> Vec<u8> {
    use std::net::SocketAddrV6;
    let (from, to): (SocketAddrV6, SocketAddrV6) = (from.parse().unwrap(), to.parse().unwrap());
    let ip = PacketBuilder::ethernet2(CLIENT_MAC, OUTSIDE_MAC).ipv6(from.ip().octets(), to.ip().octets(), 64);
    let mut frame = Vec::new();
    match tcp {
        None => ip.udp(from.port(), to.port()).write(&mut frame, text).unwrap(),
        Some((flags, seq, ack)) => {
            let mut segment = ip.tcp(from.port(), to.port(), seq, 8192);
            if flags.contains('S') {
                segment = segment.syn();
            }
            if flags.contains('A') {
                segment = segment.ack(ack);
            }
            segment.write(&mut frame, text).unwrap();
        }
    }
    frame
}

/// Sends a frame to whichever side it belongs: what comes out, behind its IP header, checksums verified.
fn through(t: &mut Table, frame: Vec<u8>, port: u16) -> Vec<u8> {
    let (verdict, after) = t.batch(0, &[frame], port).remove(0);
    assert_eq!(verdict, Verdict::Transmit(if port == OUTSIDE { INSIDE } else { OUTSIDE }));
    read(&after, 0);
    assert_eq!(usize::from(u16::from_be_bytes([after[18], after[19]])) + 54, after.len(), "its length");
    after[54..].to_vec()
}

fn header_v6(transport: u8) -> Vec<u8> {
    let mut header = HEADER[..12].to_vec();
    header.extend([0x21, 0x20 | transport, 0, 36]);
    header.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    header.extend([0x20, 1, 0xd, 0xb8, 0, 0xf, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    header.extend([0x9c, 0x40, 0, 80]);
    header
}

/// The header of 52 bytes leaves 1248 of 1300: nobody would believe that (RFC 8200, 5).
#[test]
fn no_client_of_ipv6_is_told_an_mtu_below_1280() {
    for (mtu, text_len, expected) in [
        (1300, 1300 - 52 - 48, Verdict::Transmit(INSIDE)),
        (1300, 1300 - 52 - 47, Verdict::Drop(DropReason::ClientAddress)),
        (1331, 1331 - 52 - 47, Verdict::Drop(DropReason::ClientAddress)),
        (1332, 1332 - 52 - 47, Verdict::Answer(OUTSIDE, DropReason::TooBig)),
    ] {
        let mut t = Table::new(&[told_v6(Protocol::Udp, "proxy")]);
        t.hops.mtu = mtu;
        let frame = v6(C6, VIP6, None, &vec![b'x'; text_len]);
        assert_eq!(t.batch(0, &[frame], OUTSIDE).remove(0).0, expected, "{mtu} {text_len}");
    }
}

#[test]
fn clients_of_ipv6_are_told_too() {
    let mut t = Table::new(&[told_v6(Protocol::Udp, "proxy")]);
    assert_eq!(
        through(&mut t, v6(C6, VIP6, None, b"odd"), OUTSIDE)[8..],
        [&header_v6(2)[..], b"odd"].concat()
    );
    assert_eq!(through(&mut t, v6(C6, VIP6, None, b"odd"), OUTSIDE)[8..], *b"odd");

    for how in ["proxy", "toa"] {
        let mut t = Table::new(&[told_v6(Protocol::Tcp, how)]);
        through(&mut t, v6(C6, VIP6, Some(("S", ISN, 0)), b""), OUTSIDE);
        through(&mut t, v6(R6, C6, Some(("SA", S_ISN, FIRST)), b""), INSIDE);
        let sent = through(&mut t, v6(C6, VIP6, Some(("A", FIRST, S_FIRST)), b""), OUTSIDE);
        if how == "proxy" {
            assert_eq!(sent[20..], header_v6(1));
            let reply = v6(R6, C6, Some(("A", S_FIRST, after(FIRST, 52))), b"220");
            assert_eq!(through(&mut t, reply, INSIDE)[8..12], FIRST.to_be_bytes());
            let sent = through(&mut t, v6(C6, VIP6, Some(("A", FIRST, S_FIRST)), b"x"), OUTSIDE);
            assert_eq!(sent[4..8], after(FIRST, 52).to_be_bytes());
        } else {
            let expected = [&[254, 20, 0x9c, 0x40][..], &header_v6(1)[16..32]].concat();
            assert_eq!((sent[12], &sent[20..]), (10 << 4, &expected[..]));
        }
    }
}

/// Where servers know clients by these words alone.
#[test]
fn servers_of_fullnat_are_told_who_is_behind_the_local_address() {
    use xvs::director::local::Locals;
    const LOCAL: &str = "10.1.0.2:5000";
    for how in ["proxy", "toa"] {
        let mut pool = service(Protocol::Tcp, VIP, Method::FullNat, &[(R, 1)]);
        pool.service.switches.set("client_address", how).unwrap();
        pool.service.locals = Locals::new(&["10.1.0.2".parse().unwrap()], "5000".parse().unwrap()).unwrap();
        let mut t = Table::new(&[pool]);
        let back = |t: &mut Table, segment: &Segment| {
            send(t, segment.frame(R, LOCAL), INSIDE).map(|mut all| all.remove(0))
        };
        from_client(&mut t, &Segment::new("S", ISN, 0, b"")).unwrap();
        back(&mut t, &Segment::new("SA", S_ISN, FIRST, b"")).unwrap();
        let (_, sent) = t.batch(0, &[says(b"").frame(C, VIP)], OUTSIDE).remove(0);
        assert_eq!((read(&sent, 0).from, read(&sent, 0).to), (LOCAL.to_owned(), R.to_owned()));
        let sent = Segment::read(&sent);
        if how == "toa" {
            assert_eq!(sent.options, OPTION);
            continue;
        }
        assert_eq!(sent.text, HEADER);
        assert_eq!(from_client(&mut t, &says(b"text")).unwrap()[0].seq, after(FIRST, 28));
        assert_eq!(back(&mut t, &acks(after(FIRST, 32))).unwrap().ack, after(FIRST, 4));
        // Its port is needed again while the server remembers it: the reset that goes ahead has the server's number.
        back(&mut t, &Segment { flags: "FA", ..acks(after(FIRST, 32)) }).unwrap();
        from_client(&mut t, &Segment { flags: "FA", seq: after(FIRST, 4), ack: S_FIRST + 1, ..says(b"") })
            .unwrap();
        back(&mut t, &Segment { seq: S_FIRST + 1, ..acks(after(FIRST, 33)) }).unwrap();
        let syn = Segment::new("S", 900, 0, b"").frame("192.0.2.8:1", VIP);
        let (_, reset) = t.batch(0, &[syn], OUTSIDE).remove(0);
        let reset = Segment::read(&reset);
        assert!(reset.flags.contains('R') && reset.seq == after(FIRST, 33), "{reset:?}");
        t.made.clear();
    }
}
