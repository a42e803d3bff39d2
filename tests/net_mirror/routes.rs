//! Routes, links and addresses: read, followed, read again when notifications were lost.

use std::sync::atomic::Ordering;
use std::time::Instant;

use xvs::net::{Hop, Mirror, NetError, Route};

use crate::lab::{FOLLOWED, Lab, PATIENCE, hop, ip, mac, options, via, within};
use crate::netns::run;

#[test]
fn the_first_snapshot_is_right() {
    let lab = Lab::new();
    lab.director("neigh add 10.0.0.2 lladdr 02:00:00:00:00:22 dev d0");
    lab.director("route add default via 10.1.0.254");
    lab.director("route add blackhole 192.0.2.0/24");
    lab.director("route add local 10.7.0.0/16 dev lo table local");
    lab.director("route add 10.7.7.0/24 via 10.0.0.2");
    lab.director("route add 10.8.0.0/16 nexthop via 10.0.0.254 weight 1 nexthop via 10.1.0.254 weight 3");
    lab.director("link set d1 mtu 1400");
    lab.run(async |_| {
        let mirror = Mirror::start(&options(&["d1", "d0"])).await.unwrap();
        let snapshot = mirror.snapshots().load_full();
        assert_eq!(snapshot.route(ip("10.0.0.1"), 0), Route::Local);
        assert_eq!(snapshot.route(ip("127.0.0.1"), 0), Route::Local);
        assert_eq!(snapshot.route(ip("10.7.1.1"), 0), Route::Local);
        assert_eq!(snapshot.route(ip("10.0.0.255"), 0), Route::Unreachable, "broadcast");
        assert_eq!(snapshot.route(ip("192.0.2.1"), 0), Route::Unreachable, "blackhole");
        assert_eq!(snapshot.route(ip("10.0.0.77"), 0), Route::Unknown, "nobody has been seen there");
        let expected = Hop { port: 1, dst_mac: mac(0, 0x22), src_mac: mac(0, 1), vlan: None, mtu: 1500 };
        assert_eq!(hop(&snapshot, "10.0.0.2"), Some(expected));
        assert_eq!(via(&snapshot, "10.7.7.7"), via(&snapshot, "10.0.0.2"), "one next hop, one id");
        assert_eq!(hop(&snapshot, "8.8.8.8"), None, "the gateway is not resolved yet");
        for address in ["10.0.0.1", "10.1.0.1", "127.0.0.1"] {
            assert!(snapshot.host_addresses().contains(&ip(address)), "{address}");
        }
        assert!(!snapshot.host_addresses().contains(&ip("10.0.0.2")));
        let default = via(&snapshot, "8.8.8.8");
        let by_default = (0..4000u32)
            .filter(|n| snapshot.route(ip("10.8.1.1"), n.wrapping_mul(0x9e37_79b9)) == Route::Via(default))
            .count();
        assert!((2900..3100).contains(&by_default), "weight 3 of 4, got {by_default} of 4000");
        within(PATIENCE, "a gateway is resolved by itself", &mirror.snapshots(), |snapshot| {
            hop(snapshot, "8.8.8.8").is_some_and(|hop| hop.port == 0 && hop.mtu == 1400)
        })
        .await;

        let one = Mirror::start(&options(&["d0"])).await.unwrap();
        assert_eq!(one.snapshots().load().route(ip("8.8.8.8"), 0), Route::Unreachable, "d1 is not ours");
    });
}

#[test]
fn routes_that_move_are_followed_and_so_is_the_watch() {
    let lab = Lab::new();
    lab.director("route add 10.9.0.0/16 via 10.0.0.254");
    lab.run(async |lab| {
        let mirror = Mirror::start(&options(&["d0", "d1"])).await.unwrap();
        let snapshots = mirror.snapshots();
        mirror.watch(vec![ip("10.9.1.1")]);
        within(PATIENCE, "gateway resolved", &snapshots, |s| hop(s, "10.9.1.1").is_some()).await;
        let before = snapshots.load_full();

        lab.director("route replace 10.9.0.0/16 via 10.1.0.254");
        within(FOLLOWED, "gateway moved and resolved", &snapshots, |s| {
            hop(s, "10.9.1.1").is_some_and(|hop| hop.port == 1 && hop.dst_mac == mac(1, 2))
        })
        .await;
        let moved = snapshots.load_full();
        assert_ne!(before.generation(), moved.generation());
        assert_ne!(via(&before, "10.9.1.1"), via(&moved, "10.9.1.1"));
        let neighbours = lab.director("neigh show");
        let line = |address: &str| neighbours.lines().find(|l| l.starts_with(address)).unwrap_or("");
        assert!(line("10.1.0.254 ").contains("managed"), "{neighbours}");
        assert!(!line("10.0.0.254 ").contains("managed"), "the old gateway is let go: {neighbours}");

        lab.director("route add 10.9.1.0/24 via 10.0.0.253");
        within(FOLLOWED, "a more specific route", &snapshots, |s| {
            hop(s, "10.9.1.1").is_some_and(|hop| hop.port == 0)
                && hop(s, "10.9.2.1").is_some_and(|h| h.port == 1)
        })
        .await;
        lab.director("link set d0 mtu 1300");
        within(FOLLOWED, "MTU", &snapshots, |s| hop(s, "10.9.1.1").is_some_and(|hop| hop.mtu == 1300)).await;

        lab.director("addr add 10.9.1.1/32 dev lo");
        within(FOLLOWED, "an address of this host", &snapshots, |s| {
            s.route(ip("10.9.1.1"), 0) == Route::Local && s.host_addresses().contains(&ip("10.9.1.1"))
        })
        .await;
        // The kernel removes the routes of a link that goes down without announcing each.
        lab.director("link set d1 down");
        within(FOLLOWED, "link down", &snapshots, |s| s.route(ip("10.9.2.1"), 0) == Route::Unreachable).await;
    });
}

/// A file for `ip -batch` that adds 20,000 routes, 172.0.0.0/24 to 172.78.31.0/24.
fn many_routes() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let routes: String =
        (0..20_000).map(|n| format!("route add 172.{}.{}.0/24 via 10.0.0.254\n", n / 256, n % 256)).collect();
    std::fs::write(file.path(), routes).unwrap();
    file
}

#[test]
fn a_burst_of_changes_is_followed_to_its_end_in_few_snapshots() {
    let lab = Lab::new();
    let batch = many_routes();
    lab.run(async |lab| {
        let mirror = Mirror::start(&options(&["d0", "d1"])).await.unwrap();
        let (snapshots, counters) = (mirror.snapshots(), mirror.counters());
        let before = counters.published.load(Ordering::Relaxed);
        let start = Instant::now();
        let command = format!("ip -n {} -batch {}", lab.director, batch.path().display());
        tokio::task::spawn_blocking(move || run(&command)).await.unwrap();
        within(FOLLOWED, "the last of 20,000 routes", &snapshots, |s| {
            matches!(s.route(ip("172.78.31.1"), 0), Route::Via(_))
        })
        .await;
        let count = counters.published.load(Ordering::Relaxed) - before;
        let most = 2 + start.elapsed().as_millis() / 20;
        assert!(u128::from(count) <= most, "{count} snapshots, {most} allowed");
        lab.director("route flush root 172.0.0.0/8");
        within(FOLLOWED, "all gone", &snapshots, |s| {
            s.route(ip("172.0.1.1"), 0) == Route::Unreachable
                && s.route(ip("172.78.31.1"), 0) == Route::Unreachable
        })
        .await;
    });
}

#[test]
fn lost_notifications_do_no_harm() {
    let lab = Lab::new();
    lab.director("neigh add 10.0.0.2 lladdr 02:00:00:00:00:22 dev d0");
    let batch = many_routes();
    lab.run(async |lab| {
        let mirror = Mirror::start(&options(&["d0", "d1"])).await.unwrap();
        let snapshots = mirror.snapshots();
        // These commands hold up the thread that the mirror runs on: nobody empties its socket.
        run(&format!("ip -n {} -batch {}", lab.director, batch.path().display()));
        lab.director("neigh replace 10.0.0.2 lladdr 02:00:00:00:00:33 dev d0");
        lab.director("neigh add 10.1.0.3 lladdr 02:00:00:00:00:44 dev d1");
        within(FOLLOWED, "all is known although the socket ran over", &snapshots, |s| {
            hop(s, "10.0.0.2").is_some_and(|hop| hop.dst_mac == mac(0, 0x33))
                && hop(s, "10.1.0.3").is_some_and(|hop| hop.dst_mac == mac(0, 0x44))
                && matches!(s.route(ip("172.78.31.1"), 0), Route::Via(_))
        })
        .await;
        assert!(mirror.counters().overruns.load(Ordering::Relaxed) > 0, "the socket did not run over");
    });
}

#[test]
fn nexthop_objects_and_ipv6_are_followed_too() {
    let lab = Lab::new();
    lab.director("nexthop add id 7 via 10.0.0.254 dev d0");
    lab.director("route add 10.9.0.0/16 nhid 7");
    lab.director("addr add 2001:db8::1/64 dev d1 nodad");
    lab.director("neigh add 2001:db8::fe lladdr 02:00:00:00:00:66 dev d1");
    lab.run(async |lab| {
        let mirror = Mirror::start(&options(&["d0", "d1"])).await.unwrap();
        let snapshots = mirror.snapshots();
        within(PATIENCE, "by the object", &snapshots, |s| hop(s, "10.9.1.1").is_some()).await;
        lab.director("nexthop replace id 7 via 10.1.0.254 dev d1");
        within(FOLLOWED, "object replaced", &snapshots, |s| {
            hop(s, "10.9.1.1").is_some_and(|hop| hop.port == 1)
        })
        .await;
        assert_eq!(snapshots.load().route(ip("2001:db8::1"), 0), Route::Local);
        assert_eq!(snapshots.load().route(ip("2001:db8::77"), 0), Route::Unknown);
        lab.director("route add 2001:db8:1::/48 via 2001:db8::fe");
        within(FOLLOWED, "IPv6 route", &snapshots, |s| {
            hop(s, "2001:db8:1::1").is_some_and(|hop| hop.dst_mac == mac(0, 0x66))
        })
        .await;
    });
}

#[test]
fn interfaces_that_are_not_fit_are_refused_with_the_cure() {
    let lab = Lab::new();
    lab.director("link set d1 down");
    lab.run(async |_| {
        let error = async |names: &[&str]| Mirror::start(&options(names)).await.unwrap_err();
        let missing = error(&["d0", "d7"]).await;
        assert!(matches!(&missing, NetError::NoSuchInterface(name) if name == "d7"), "{missing}");
        let down = error(&["d0", "d1"]).await.to_string();
        assert!(down.contains("`d1` is down") && down.contains("ip link set dev d1 up"), "{down}");
        assert!(matches!(error(&["lo"]).await, NetError::NotEthernet(_)));
        assert!(matches!(error(&["d0", "d0"]).await, NetError::Duplicate(_)));
    });
}
