//! Neighbours: followed, kept resolved, asked for.

use std::sync::atomic::Ordering;

use xvs::net::mirror::MirrorOptions;
use xvs::net::{Mirror, Route};

use crate::lab::{FOLLOWED, Lab, PATIENCE, hop, ip, mac, options, via, within};
use crate::netns::run;

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
fn the_marks_of_a_killed_run_go_with_the_end_of_the_next() {
    let lab = Lab::new();
    lab.run(async |lab| {
        // Forgetting the mirror and ending its runtime is what a killed process does: no mark is taken back.
        let namespace = lab.director.clone();
        let killed = std::thread::spawn(move || {
            let namespace = std::fs::File::open(format!("/run/netns/{namespace}")).unwrap();
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mirror = Mirror::start(&options(&["d0", "d1"])).await.unwrap();
                mirror.watch(vec![ip("10.0.0.2"), ip("10.0.0.3")]);
                let snapshots = mirror.snapshots();
                within(PATIENCE, "kept", &snapshots, |s| {
                    hop(s, "10.0.0.2").is_some() && hop(s, "10.0.0.3").is_some()
                })
                .await;
                std::mem::forget(mirror);
            });
        });
        killed.join().unwrap();
        lab.director("neigh add 10.1.0.3 dev d1 managed");
        let managed = || lab.director("neigh show").lines().filter(|line| line.contains("managed")).count();
        assert_eq!(managed(), 3, "left behind, and somebody else's");
        let mirror = Mirror::start(&options(&["d0", "d1"])).await.unwrap();
        assert!(!mirror.is_finished());
        mirror.watch(vec![ip("10.0.0.2")]);
        let snapshots = mirror.snapshots();
        within(PATIENCE, "known", &snapshots, |s| hop(s, "10.0.0.2").is_some()).await;
        mirror.stop().await;
        let left = lab.director("neigh show");
        assert_eq!(managed(), 1, "{left}");
        assert!(lab.director("neigh show 10.1.0.3").contains("managed"), "somebody else's stays: {left}");
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
