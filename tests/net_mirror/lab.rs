//! The two namespaces, and how the tests look at snapshots.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use xvs::net::mirror::MirrorOptions;
use xvs::net::{Hop, HopId, Route, Snapshot};

use crate::netns::{Namespaces, inside, run};

/// What the issue asks for: a change is followed within a second.
pub(crate) const FOLLOWED: Duration = Duration::from_secs(1);

/// How long a check may wait for something the kernel does in its own time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(8);

/// The two namespaces of one test; gone when dropped.
pub(crate) struct Lab {
    pub(crate) director: String,
    pub(crate) peer: String,
    _namespaces: Namespaces,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let namespaces = Namespaces::new();
        let (director, peer) = (namespaces.add("director"), namespaces.add("peer"));
        let lab = Self { director, peer, _namespaces: namespaces };
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

    pub(crate) fn director(&self, arguments: &str) -> String {
        run(&format!("ip -n {} {arguments}", self.director))
    }

    pub(crate) fn peer(&self, arguments: &str) -> String {
        run(&format!("ip -n {} {arguments}", self.peer))
    }

    /// Runs `test` in the director's namespace, on a thread and a runtime of its own.
    pub(crate) fn run(&self, test: impl AsyncFnOnce(&Lab) + Send) {
        inside(&self.director, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(test(self));
        });
    }
}

pub(crate) fn ip(address: &str) -> IpAddr {
    address.parse().unwrap()
}

pub(crate) fn options(interfaces: &[&str]) -> MirrorOptions {
    MirrorOptions {
        interfaces: interfaces.iter().map(|name| name.to_string()).collect(),
        managed_neighbours: true,
    }
}

pub(crate) type Snapshots = Arc<ArcSwap<Snapshot>>;

/// Waits until `holds` of the newest snapshot, at most `limit`.
pub(crate) async fn within(
    limit: Duration,
    what: &str,
    snapshots: &Snapshots,
    holds: impl Fn(&Snapshot) -> bool,
) {
    let start = Instant::now();
    while !holds(&snapshots.load()) {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("{what}: after {:?}", start.elapsed());
}

pub(crate) fn via(snapshot: &Snapshot, to: &str) -> HopId {
    match snapshot.route(ip(to), 0) {
        Route::Via(id) => id,
        other => panic!("{to}: {other:?}"),
    }
}

pub(crate) fn hop(snapshot: &Snapshot, to: &str) -> Option<Hop> {
    match snapshot.route(ip(to), 0) {
        Route::Via(id) => snapshot.hop(id).copied(),
        _ => None,
    }
}

pub(crate) fn mac(pair: u8, side: u8) -> [u8; 6] {
    [2, 0, 0, 0, pair, side]
}
