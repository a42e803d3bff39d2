//! The mirror against a real kernel: two namespaces, two veth pairs, changes made with `ip`.
//!
//! Needs root. The director's side has d0 (10.0.0.1/24) and d1 (10.1.0.1/24), the peer's p0 and p1
//! with servers, clients and gateways on them.

use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use xvs::net::mirror::MirrorOptions;
use xvs::net::{Hop, HopId, Mirror, NetError, Route, Snapshot};

/// What the issue asks for: a change is followed within a second.
const FOLLOWED: Duration = Duration::from_secs(1);

/// How long a check may wait for something the kernel does in its own time.
const PATIENCE: Duration = Duration::from_secs(8);

/// The two namespaces of one test; gone when dropped.
struct Lab {
    director: String,
    peer: String,
}

impl Lab {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        assert!(nix::unistd::geteuid().is_root(), "this test makes network namespaces: run it as root");
        let name = format!("xvs-{}-mirror{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let lab = Self { director: format!("{name}-d"), peer: format!("{name}-p") };
        run(&format!("ip netns add {}", lab.director));
        run(&format!("ip netns add {}", lab.peer));
        for n in 0..2 {
            run(&format!(
                "ip link add d{n} address 02:00:00:00:0{n}:01 netns {} type veth peer name p{n} address \
                 02:00:00:00:0{n}:02 netns {}",
                lab.director, lab.peer
            ));
            lab.director(&format!("link set d{n} up"));
            lab.peer(&format!("link set p{n} up"));
            lab.director(&format!("addr add 10.{n}.0.1/24 dev d{n}"));
            for host in [2, 3, 4, 253, 254] {
                lab.peer(&format!("addr add 10.{n}.0.{host}/24 dev p{n}"));
            }
        }
        lab.director("link set lo up");
        lab
    }

    fn director(&self, arguments: &str) -> String {
        run(&format!("ip -n {} {arguments}", self.director))
    }

    fn peer(&self, arguments: &str) -> String {
        run(&format!("ip -n {} {arguments}", self.peer))
    }

    /// Runs `test` in the director's namespace, on a thread and a runtime of its own.
    fn run(&self, test: impl AsyncFnOnce(&Lab) + Send) {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let namespace = std::fs::File::open(format!("/run/netns/{}", self.director)).unwrap();
                nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(test(self));
            });
            if let Err(panic) = inside.join() {
                std::panic::resume_unwind(panic);
            }
        });
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in [&self.director, &self.peer] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().expect(command);
    assert!(output.status.success(), "`{command}`: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn ip(address: &str) -> IpAddr {
    address.parse().unwrap()
}

fn options(interfaces: &[&str]) -> MirrorOptions {
    MirrorOptions {
        interfaces: interfaces.iter().map(|name| name.to_string()).collect(),
        managed_neighbours: true,
    }
}

type Snapshots = Arc<ArcSwap<Snapshot>>;

/// Waits until `holds` of the newest snapshot, at most `limit`.
async fn within(limit: Duration, what: &str, snapshots: &Snapshots, holds: impl Fn(&Snapshot) -> bool) {
    let start = Instant::now();
    while !holds(&snapshots.load()) {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("{what}: after {:?}", start.elapsed());
}

fn via(snapshot: &Snapshot, to: &str) -> HopId {
    match snapshot.route(ip(to), 0) {
        Route::Via(id) => id,
        other => panic!("{to}: {other:?}"),
    }
}

fn hop(snapshot: &Snapshot, to: &str) -> Option<Hop> {
    match snapshot.route(ip(to), 0) {
        Route::Via(id) => snapshot.hop(id).copied(),
        _ => None,
    }
}

fn mac(pair: u8, side: u8) -> [u8; 6] {
    [2, 0, 0, 0, pair, side]
}

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
fn a_server_that_changes_its_mac_is_followed_without_a_new_generation() {
    let lab = Lab::new();
    run(&format!("ip netns exec {} sysctl -qw net.ipv4.conf.p0.arp_notify=1", lab.peer));
    lab.run(async |lab| {
        let mirror = Mirror::start(&options(&["d0", "d1"])).await.unwrap();
        let snapshots = mirror.snapshots();
        mirror.watch(vec![ip("10.0.0.2")]);
        within(PATIENCE, "resolved", &snapshots, |s| hop(s, "10.0.0.2").is_some()).await;
        let before = snapshots.load_full();
        let other = [2, 0, 0, 0, 0x77, 0x77];
        lab.peer("link set p0 address 02:00:00:00:77:77");
        within(FOLLOWED, "announced MAC", &snapshots, |s| hop(s, "10.0.0.2").unwrap().dst_mac == other).await;
        lab.director("neigh replace 10.0.0.2 lladdr 02:00:00:00:88:88 dev d0");
        let by_hand = [2, 0, 0, 0, 0x88, 0x88];
        within(FOLLOWED, "MAC set by hand", &snapshots, |s| hop(s, "10.0.0.2").unwrap().dst_mac == by_hand)
            .await;
        let after = snapshots.load_full();
        assert_eq!(before.generation(), after.generation());
        assert_eq!(via(&before, "10.0.0.2"), via(&after, "10.0.0.2"));
        assert_eq!(hop(&before, "10.0.0.2").unwrap().dst_mac, mac(0, 2), "an old snapshot does not change");
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

#[test]
fn a_peer_without_carrier_is_unreachable_until_it_is_back() {
    let lab = Lab::new();
    lab.run(async |lab| {
        let mirror = Mirror::start(&options(&["d0", "d1"])).await.unwrap();
        let snapshots = mirror.snapshots();
        mirror.watch(vec![ip("10.0.0.2")]);
        within(PATIENCE, "resolved", &snapshots, |s| hop(s, "10.0.0.2").is_some()).await;
        lab.peer("link set p0 down");
        // The kernel itself takes up to a second to tell.
        within(PATIENCE, "no carrier", &snapshots, |s| s.route(ip("10.0.0.2"), 0) == Route::Unreachable)
            .await;
        lab.peer("link set p0 up");
        within(PATIENCE, "back", &snapshots, |s| hop(s, "10.0.0.2").is_some()).await;
    });
}

#[test]
fn watched_servers_are_resolved_without_traffic_and_stay_so() {
    let lab = Lab::new();
    lab.director("neigh add 10.0.0.4 lladdr 02:00:00:00:00:44 dev d0");
    lab.run(async |lab| {
        let mirror = Mirror::start(&options(&["d0", "d1"])).await.unwrap();
        let snapshots = mirror.snapshots();
        assert_eq!(snapshots.load().route(ip("10.0.0.2"), 0), Route::Unknown);
        mirror.watch(vec![ip("10.0.0.2"), ip("10.0.0.4"), ip("10.1.0.99")]);
        within(PATIENCE, "resolved", &snapshots, |s| {
            hop(s, "10.0.0.2").is_some_and(|hop| hop.dst_mac == mac(0, 2))
        })
        .await;
        assert_eq!(hop(&snapshots.load(), "10.1.0.99"), None, "nobody answers there");
        via(&snapshots.load(), "10.1.0.99");
        let neighbours = lab.director("neigh show 10.0.0.4");
        assert!(neighbours.contains("02:00:00:00:00:44 PERMANENT"), "left alone: {neighbours}");

        lab.director("neigh del 10.0.0.2 dev d0");
        within(FOLLOWED, "noticed as gone", &snapshots, |s| hop(s, "10.0.0.2").is_none()).await;
        within(PATIENCE, "resolved again", &snapshots, |s| hop(s, "10.0.0.2").is_some()).await;
        lab.peer("addr add 10.1.0.99/24 dev p1");
        within(PATIENCE, "a server that comes late", &snapshots, |s| hop(s, "10.1.0.99").is_some()).await;

        assert!(lab.director("neigh show 10.0.0.2").contains("managed"));
        mirror.stop().await;
        let neighbours = lab.director("neigh show");
        assert!(!neighbours.contains("managed"), "no mark is left behind: {neighbours}");
    });
}

#[test]
fn where_the_kernel_does_not_keep_neighbours_they_are_probed() {
    let lab = Lab::new();
    lab.run(async |lab| {
        let options = MirrorOptions { managed_neighbours: false, ..options(&["d0", "d1"]) };
        let mirror = Mirror::start(&options).await.unwrap();
        let snapshots = mirror.snapshots();
        mirror.watch(vec![ip("10.0.0.2")]);
        within(PATIENCE, "resolved", &snapshots, |s| hop(s, "10.0.0.2").is_some()).await;
        assert!(!lab.director("neigh show").contains("managed"));
        lab.director("neigh del 10.0.0.2 dev d0");
        within(FOLLOWED, "noticed as gone", &snapshots, |s| hop(s, "10.0.0.2").is_none()).await;
        within(PATIENCE, "probed again", &snapshots, |s| hop(s, "10.0.0.2").is_some()).await;
    });
}

#[test]
fn a_client_is_resolved_when_a_worker_asks() {
    let lab = Lab::new();
    lab.run(async |_| {
        let mirror = Mirror::start(&options(&["d0", "d1"])).await.unwrap();
        let snapshots = mirror.snapshots();
        let generation = snapshots.load().generation();
        assert_eq!(snapshots.load().route(ip("10.1.0.3"), 0), Route::Unknown);
        let resolver = mirror.resolver();
        let taken = std::thread::spawn(move || {
            let many = (0..100_000).filter(|_| resolver.try_ask(ip("10.1.0.3"))).count();
            (many, resolver.try_ask(ip("10.1.0.3")))
        });
        let (taken, last) = taken.join().unwrap();
        assert!((1..100_000).contains(&taken) && !last, "bounded: {taken} taken");
        within(FOLLOWED, "client resolved", &snapshots, |s| {
            hop(s, "10.1.0.3").is_some_and(|hop| hop.port == 1 && hop.dst_mac == mac(1, 2))
        })
        .await;
        assert_eq!(snapshots.load().generation(), generation);
        let dropped = mirror.counters().asks_dropped.load(Ordering::Relaxed);
        assert_eq!(dropped, 100_001 - u64::try_from(taken).unwrap());
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
