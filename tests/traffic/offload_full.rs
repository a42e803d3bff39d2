//! More connections than the steering program has places for: busy ones get places of slow ones, nothing is lost, and
//! every packet is counted once.

use std::cell::Cell;
use std::net::SocketAddrV4;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use tokio::task::spawn_local;

use crate::client::{self, Resolver};
use crate::lab::{self, Lab, NAT_VIP, UDP_PORT, alone};
use crate::xvs::{Xvs, abc, offloading, say, service, stats};

/// Connections with two flows each, of the least that `offload_flows` may be.
const PLACES: u64 = 512;
/// Ask twice in a second.
const SLOW: u16 = 560;
/// Ask all the time.
const BUSY: u16 = 12;

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

/// Asks again and again from one socket until told to stop; how often.
async fn ask(number: u16, is_busy: bool, stop: Rc<Cell<bool>>) -> u64 {
    let from = if is_busy { FIRST_BUSY_PORT } else { 20_000 } + number;
    let resolver =
        Resolver::new(SocketAddrV4::new(lab::client(number.into()), from), SERVICE).await.expect("a socket");
    let mut asked = 0;
    while !stop.get() {
        resolver.ask(number).await.expect("an answer, from where it was asked, to the question");
        asked += 1;
        // The first packets of a connection are always the workers'.
        let pause = if is_busy || asked < 12 { 15 } else { 500 };
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    asked
}

/// Waits for something that comes about while the clients go on.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..100 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    panic!("not in time: {what}");
}

#[test]
fn busy_connections_take_places_of_slow_ones_and_every_packet_is_counted_once() {
    let _alone = alone();
    let lab = Lab::new();
    lab.take_redirected();
    let config = offloading("on", &[service(("udp", SERVICE), ("rr", "nat"), &abc(UDP_PORT, [1; 3]))]);
    let xvs = Xvs::start(&lab, &config.replace("[director]\n", "[director]\noffload_flows = 1_024\n"));
    let asked = client::run(&lab, async || {
        let stop = Rc::new(Cell::new(false));
        let start = |is_busy| {
            let stop = &stop;
            move |number| spawn_local(ask(number, is_busy, Rc::clone(stop)))
        };
        let mut clients: Vec<_> = (0..SLOW).map(start(false)).collect();
        until("all places are taken, and others wanted", || {
            offload(&lab, "carried") >= PLACES - PLACES / 16 && offload(&lab, "refused") > 0
        })
        .await;
        clients.extend((0..BUSY).map(start(true)));
        until("the busy ones have places", || offloaded_busy(&lab) == usize::from(BUSY)).await;
        // They keep them: the slowest go first.
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(700)).await;
            // On a slow machine one may have been slower than the slow ones are at first.
            assert!(offloaded_busy(&lab) >= usize::from(BUSY) * 3 / 4);
        }
        assert!(offload(&lab, "gave_way") >= u64::from(BUSY) && offload(&lab, "places") == PLACES);
        let shown = say(&lab, &["show", "counters"]);
        assert!(shown.contains("there are places for 512") && shown.contains(" slow connections gave way"));
        stop.set(true);
        let mut asked = 0;
        for client in clients {
            asked += client.await.expect("every question was answered");
        }
        asked
    });
    let interfaces = json(&lab, "interfaces");
    let report = xvs.stop();
    let [conns, in_packets, out_packets, ..] = stats(&report, "UDP", SERVICE);
    assert_eq!([conns, in_packets, out_packets], [u64::from(SLOW + BUSY), asked, asked], "{report}");
    let frames = |outcome: &str| {
        let line = report.lines().find_map(|line| line.trim().strip_suffix(&format!(" {outcome}")));
        line.map_or(0, |count| count.trim().parse::<u64>().expect("a number"))
    };
    let carried = frames("offloaded");
    assert_eq!(frames("service") + frames("nat_return") + carried, 2 * asked, "{report}");
    // By the interface that they left by, as listed.
    let interfaces = interfaces.as_array().expect("interfaces");
    assert!(interfaces.iter().all(|i| i["offload"] == "yes"), "{interfaces:?}");
    let left: Vec<_> =
        interfaces.iter().map(|i| i["offloaded_packets"].as_u64().expect("a number")).collect();
    assert!(
        left.iter().sum::<u64>() <= carried && left.iter().all(|left| left * 3 > carried),
        "{left:?} of {carried}"
    );
}
