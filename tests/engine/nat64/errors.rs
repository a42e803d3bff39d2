//! FULLNAT between IP versions: ICMP errors, which each end hears in its own version about its own packet.

use etherparse::Ipv4HeaderSlice;
use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::service::Protocol;

use super::{C, L, L3, S, V4, V6, VIP, error, out, relayed, split, table, without_df};
use crate::table::*;

#[test]
fn the_client_hears_of_its_own_packet_in_its_own_version() {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let mut t = table(protocol);
        let (about, own) = match protocol {
            Protocol::Tcp => (tcp(L, S, "A"), tcp(C, VIP, "A")),
            _ => (udp(L, S, b"a question"), udp(C, VIP, b"a question")),
        };
        let told = |t: &mut Table, head| relayed(&out(t, error("10.1.0.9", head, &about), INSIDE));
        let (text, quoted) = told(&mut t, (3, 4, 1400));
        assert_eq!(text, "2001:db8::100 tells 2001:db8:7::7: 2 0 1420, ttl 59");
        assert_eq!(quoted, own[L3..], "byte for byte");
        for (head, said) in [
            ((3, 4, 576), "2 0 1280"),
            // By a router that tells no MTU: less than the packet has.
            ((3, 4, 0), "2 0 1280"),
            ((3, 4, 9000), "2 0 1500"),
            ((3, 0, 0), "1 0 0"),
            ((3, 1, 0), "1 0 0"),
            ((3, 2, 0), "4 1 6"),
            ((3, 3, 0), "1 4 0"),
            ((3, 10, 0), "1 1 0"),
            ((3, 13, 0), "1 1 0"),
            ((11, 0, 0), "3 0 0"),
            ((11, 1, 0), "3 1 0"),
        ] {
            let (text, quoted) = told(&mut t, head);
            assert_eq!(text, format!("2001:db8::100 tells 2001:db8:7::7: {said}, ttl 59"), "{head:?}");
            assert_eq!(quoted, own[L3..]);
        }
        for head in [(4, 0, 0), (3, 14, 0)] {
            let verdict = t.batch(0, &[error("10.1.0.9", head, &about)], INSIDE).remove(0).0;
            assert_eq!(verdict, Verdict::Drop(DropReason::Untranslatable), "{head:?}");
        }
        // Eight bytes are all that some quote.
        let short = out(&mut t, error("10.1.0.9", (3, 3, 0), &about[..L3 + V4 + 8]), INSIDE);
        assert_eq!(relayed(&short).1[V6..][..4], own[L3 + V6..][..4]);
    }
}

#[test]
fn the_server_hears_of_its_own_packet_in_its_own_version() {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let mut t = table(protocol);
        let (about, mut own) = match protocol {
            Protocol::Tcp => (tcp(VIP, C, "A"), without_df(tcp(S, L, "A"))),
            _ => (udp(VIP, C, b"an answer"), without_df(udp(S, L, b"an answer"))),
        };
        own[L3 + 4..L3 + 6].fill(0);
        mend_ip(&mut own);
        for (head, said) in [
            ((2, 0, 1400), "3 4 1380"),
            ((2, 0, 9000), "3 4 1500"),
            ((1, 0, 0), "3 1 0"),
            ((1, 1, 0), "3 10 0"),
            ((1, 3, 0), "3 1 0"),
            ((1, 4, 0), "3 3 0"),
            ((3, 0, 0), "11 0 0"),
            ((4, 1, 6), "3 2 0"),
            ((4, 0, 7), "12 0 134217728"),
        ] {
            let (text, quoted) = relayed(&out(&mut t, error("2001:db8:9::1", head, &about), OUTSIDE));
            assert_eq!(text, format!("10.1.0.2 tells 10.1.0.11: {said}, ttl 59"), "{head:?}");
            assert_eq!(quoted, own[L3..]);
        }
        for head in [(4, 2, 0), (4, 0, 3), (1, 6, 0)] {
            let verdict = t.batch(0, &[error("2001:db8:9::1", head, &about)], OUTSIDE).remove(0).0;
            assert_eq!(verdict, Verdict::Drop(DropReason::Untranslatable), "{head:?}");
        }
    }
    // Long quotes are cut to what hosts take.
    let mut t = table(Protocol::Udp);
    let frame = error("2001:db8:9::1", (2, 0, 1400), &udp(VIP, C, &[7; 1150]));
    assert_eq!(out(&mut t, frame, OUTSIDE).len(), L3 + 576);
    // Of a fragment there is more in the way.
    let first = split(&udp(VIP, C, &[7; 2000]), 1200, 0x77).remove(0);
    let (text, quoted) = relayed(&out(&mut t, error("2001:db8:9::1", (2, 0, 1400), &first), OUTSIDE));
    assert_eq!(text, "10.1.0.2 tells 10.1.0.11: 3 4 1372, ttl 59");
    let header = Ipv4HeaderSlice::from_slice(&quoted).unwrap();
    assert_eq!((header.identification(), header.more_fragments(), header.total_len()), (0x77, true, 1220));
}

#[test]
fn extensions_behind_a_quote_are_left_out() {
    let mut t = table(Protocol::Udp);
    // 128 bytes are quoted (RFC 4884, 5.1), and what follows is MPLS' affair.
    let mut about = udp(L, S, &[7; 100]);
    about.extend([0x20, 0, 0, 0, 0, 8, 1, 1, 1, 2, 3, 4]);
    let (text, quoted) = relayed(&out(&mut t, error("10.1.0.9", (11, 0, 0x0020_0000), &about), INSIDE));
    assert_eq!(text, "2001:db8::100 tells 2001:db8:7::7: 3 0 0, ttl 59");
    assert_eq!(quoted, udp(C, VIP, &[7; 100])[L3..]);
}
