//! Listings of connections, whole and in pieces.

use xvs::director::conn::Direction;
use xvs::director::service::{Method, Protocol};

use crate::table::*;

const VIP: &str = "10.0.0.100:80";

fn client(n: u32) -> String {
    format!("198.18.{}.{}:9", n / 250, n % 250)
}

#[test]
fn a_listing_in_pieces_shows_once_what_is_there_all_the_time() {
    let mut t = Table::sized(&[service(Protocol::Tcp, VIP, Method::Nat, &[("10.1.0.11:80", 1)])], 2000, 2);
    for n in 0..1000 {
        t.one((n % 2) as usize, tcp(&client(n), VIP, "S"), OUTSIDE).unwrap();
    }
    let (mut from, mut pieces, mut seen) = (Some(0), 0, Vec::new());
    while let Some(place) = from {
        let before = seen.len();
        from = t.director.table.list_from(place, 64, |_, slot| {
            seen.push(slot.key(Direction::In).source().to_string());
        });
        assert!(seen.len() - before <= 64);
        pieces += 1;
        // Traffic goes on meanwhile.
        t.tcp(&client(1000 + pieces), VIP, "S").unwrap();
    }
    seen.retain(|client| client.parse::<std::net::SocketAddr>().is_ok());
    seen.sort();
    let all = seen.len();
    seen.dedup();
    assert_eq!(seen.len(), all, "each once");
    assert!((0..1000).all(|n| seen.binary_search(&client(n)).is_ok()));
    assert!(pieces >= 16, "{pieces}");
    let empty = Table::new(&[]);
    assert_eq!(empty.director.table.list_from(0, 10, |_, _| panic!("nothing is there")), None);
    assert_eq!(empty.director.table.list_from(9999, 10, |_, _| panic!("nothing is there")), None);
}

#[test]
fn the_time_left_is_rounded_down_as_the_kernel_does() {
    let mut t = Table::new(&[service(Protocol::Tcp, VIP, Method::Nat, &[("10.1.0.11:80", 1)])]);
    let c = "192.0.2.7:40000";
    t.tcp(c, VIP, "S").unwrap();
    let line = |time: &str| [format!("TCP {time} SYN_RECV {c} 10.0.0.100:80 10.1.0.11:80")];
    assert_eq!(t.rows(false), line("01:00"));
    t.now.0 += 250;
    assert_eq!(t.rows(false), line("00:59"));
    t.now.0 += 750;
    assert_eq!(t.rows(false), line("00:59"));
    t.now.0 += 250;
    assert_eq!(t.rows(false), line("00:58"));
    t.now.0 += 1_000_000;
    assert_eq!(t.rows(false), line("00:00"), "not looked at yet");
}
