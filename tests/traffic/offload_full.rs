//! More connections than the steering program has places for: busy ones get places of slow ones, nothing is lost, and
//! every packet is counted once.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tokio::task::spawn_local;

use crate::client::{self, Resolver};
use crate::lab::{self, Lab, NAT_VIP, UDP_PORT, alone};
use crate::offload::{frames, frames_now};
use crate::xvs::{Xvs, abc, offloading, say, service, stats, until_within};

/// Connections with two flows each, of the least that `offload_flows` may be.
const PLACES: u64 = 512;
/// Ask twice in a second.
const SLOW: u16 = 560;
/// Ask all the time.
const BUSY: u16 = 12;
/// Questions after which the slow ones are slow: by then their connections are offered.
const FIRST: u64 = 12;

const SERVICE: SocketAddrV4 = SocketAddrV4::new(NAT_VIP, UDP_PORT);
const FIRST_BUSY_PORT: u16 = 30_000;

fn json(lab: &Lab, what: &str) -> Value {
    serde_json::from_str(&say(lab, &["show", what, "--json"])).expect("JSON")
}

fn offload(lab: &Lab, what: &str) -> u64 {
    json(lab, "counters")["offload"][what].as_u64().expect("a number")
}

/// How many of the busy connections are offloaded.
fn offloaded_busy(lab: &Lab) -> usize {
    let listed = say(lab, &["show", "connections", "--json"]);
    let connections: Vec<Value> =
        listed.lines().map(|line| serde_json::from_str(line).expect("JSON on each line")).collect();
    let is_busy = |c: &&Value| {
        let client: SocketAddrV4 = c["client"].as_str().expect("a client").parse().expect("IPv4");
        client.port() >= FIRST_BUSY_PORT
    };
    connections.iter().filter(is_busy).filter(|c| c["offloaded"] == true).count()
}

/// Places change hands once a second, and many do.
fn until(what: &str, is_so: impl FnMut() -> bool) {
    until_within(Duration::from_secs(30), what, is_so);
}

/// What the clients and who looks on tell each other.
#[derive(Default)]
struct Going {
    /// Clients that have asked so often that they are slow, if they are to be.
    begun: AtomicUsize,
    /// The busy ones may start.
    all: AtomicBool,
    /// All are to end.
    over: AtomicBool,
}

/// Ends the clients, whatever becomes of who looks on.
struct End<'g>(&'g Going);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.all.store(true, SeqCst);
        self.0.over.store(true, SeqCst);
    }
}

/// Asks again and again from one socket until told to stop; how often.
async fn ask(number: u16, is_busy: bool, going: Arc<Going>) -> u64 {
    let from = if is_busy { FIRST_BUSY_PORT } else { 20_000 } + number;
    let resolver =
        Resolver::new(SocketAddrV4::new(lab::client(number.into()), from), SERVICE).await.expect("a socket");
    let mut asked = 0;
    while !going.over.load(SeqCst) {
        resolver.ask(number).await.expect("an answer, from where it was asked, to the question");
        asked += 1;
        going.begun.fetch_add((asked == FIRST).into(), SeqCst);
        // The first packets of a connection are always the workers'.
        let pause = if is_busy || asked < FIRST { 15 } else { 500 };
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    asked
}

/// All clients, until they are told to stop; how often they have asked.
async fn ask_all(going: &Arc<Going>) -> u64 {
    let start = |is_busy| move |number| spawn_local(ask(number, is_busy, Arc::clone(going)));
    let mut clients: Vec<_> = (0..SLOW).map(start(false)).collect();
    while !going.all.load(SeqCst) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    clients.extend((0..BUSY).map(start(true)));
    let mut asked = 0;
    for client in clients {
        asked += client.await.expect("every question was answered");
    }
    asked
}

/// Looks on while the clients, whom that must not hold up, go on by a thread of their own.
fn look_on(lab: &Lab, going: &Going) {
    let _end = End(going);
    until("the slow ones are slow", || going.begun.load(SeqCst) == usize::from(SLOW));
    until("all places are taken, and others wanted", || {
        offload(lab, "carried") >= PLACES - PLACES / 16 && offload(lab, "refused") > 0
    });
    going.all.store(true, SeqCst);
    until("the busy ones have places", || offloaded_busy(lab) == usize::from(BUSY));
    // They keep them: the slowest go first.
    for _ in 0..4 {
        let before = offload(lab, "gave_way");
        until("places are tried with others", || offload(lab, "gave_way") > before);
        // On a slow machine one may have been slower than the slow ones for a moment.
        assert!(offloaded_busy(lab) >= usize::from(BUSY) * 3 / 4);
    }
    until("as many gave way as busy ones came", || offload(lab, "gave_way") >= u64::from(BUSY));
    assert_eq!(offload(lab, "places"), PLACES);
    let shown = say(lab, &["show", "counters"]);
    assert!(shown.contains("there are places for 512") && shown.contains(" slow connections gave way"));
}

#[test]
fn busy_connections_take_places_of_slow_ones_and_every_packet_is_counted_once() {
    let _alone = alone();
    let lab = Lab::new();
    lab.take_redirected();
    let config = offloading("on", &[service(("udp", SERVICE), ("rr", "nat"), &abc(UDP_PORT, [1; 3]))]);
    let xvs = Xvs::start(&lab, &config.replace("[director]\n", "[director]\noffload_flows = 1_024\n"));
    let going = Arc::new(Going::default());
    let asked = thread::scope(|scope| {
        let clients = scope.spawn(|| client::run(&lab, async || ask_all(&going).await));
        look_on(&lab, &going);
        clients.join().expect("every question was answered")
    });
    // By the interface that they left by, as listed: all of them when the last ones have been settled.
    let left = || -> Vec<u64> {
        let interfaces = json(&lab, "interfaces");
        let interfaces = interfaces.as_array().expect("interfaces");
        assert!(interfaces.iter().all(|i| i["offload"] == "yes"), "{interfaces:?}");
        interfaces.iter().map(|i| i["offloaded_packets"].as_u64().expect("a number")).collect()
    };
    until("what was carried is settled", || left().iter().sum::<u64>() == frames_now(&lab, "offloaded"));
    let left = left();
    let report = xvs.stop();
    let [conns, in_packets, out_packets, ..] = stats(&report, "UDP", SERVICE);
    assert_eq!([conns, in_packets, out_packets], [u64::from(SLOW + BUSY), asked, asked], "{report}");
    let carried = frames(&report, "offloaded");
    assert_eq!(frames(&report, "service") + frames(&report, "nat_return") + carried, 2 * asked, "{report}");
    assert_eq!(left.iter().sum::<u64>(), carried, "{left:?}");
    assert!(left.iter().all(|left| left * 3 > carried), "{left:?} of {carried}");
}
