//! Clients of the API that mean harm, while traffic flows: not one datagram is lost.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddrV4};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::client::{self, Resolver, within};
use crate::lab::{self, Lab, NAT_VIP, UDP_PORT, alone};
use crate::xvs::{PATIENCE, Xvs, abc, config, say, service, socket};

const DNS: SocketAddrV4 = SocketAddrV4::new(NAT_VIP, UDP_PORT);
/// How long an answer may take before its datagram counts as lost. Nothing here repeats a lost one.
const LOST: Duration = Duration::from_secs(1);
/// Sockets that ask at the same time.
const ASKING: u16 = 8;
/// Connections to the API at once.
const CONNECTIONS: usize = 2_000;
/// How much one client sends.
const FLOOD_BYTES: usize = 100 << 20;
/// How long the command line may take to be answered meanwhile.
const ANSWERED: Duration = Duration::from_secs(5);

#[test]
fn no_client_of_the_api_costs_a_datagram() {
    let _alone = alone();
    let lab = Lab::new();
    let xvs = Xvs::start(&lab, &config(&[service(("udp", DNS), ("rr", "nat"), &abc(UDP_PORT, [1; 3]))]));
    let over = AtomicBool::new(false);
    let asked = std::thread::scope(|scope| {
        let clients = scope.spawn(|| client::run(&lab, async || steady(&over).await));
        let attacks = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for (name, attack) in
                [("garbage", garbage as fn(&Lab)), ("a flood", flood), ("many connections", crowd)]
            {
                let start = Instant::now();
                attack(&lab);
                let took = start.elapsed();
                let start = Instant::now();
                say(&lab, &["show", "services"]);
                println!("{name} took {took:?}; answered after it within {:?}", start.elapsed());
            }
        }));
        over.store(true, Ordering::Relaxed);
        let asked = clients.join().expect("the clients");
        attacks.expect("the attacks");
        asked
    });
    println!("{asked} datagrams answered");
    assert!(asked > 1_000, "only {asked} datagrams in all the attacks");
    assert!(!xvs.log().contains("panicked"));
    xvs.stop();
}

/// Asks without a pause until it is over: how many datagrams were answered, all of them at the first try.
async fn steady(over: &AtomicBool) -> u64 {
    let ask = async |n: u16| {
        let resolver = Resolver::new(SocketAddrV4::new(lab::client(n.into()), 30_000 + n), DNS).await?;
        let mut asked = 0;
        while !over.load(Ordering::Relaxed) {
            within(LOST, resolver.ask((asked % 60_000) as u16)).await?;
            asked += 1;
        }
        Ok::<u64, std::io::Error>(asked)
    };
    let all = futures_util::future::join_all((0..ASKING).map(ask)).await;
    all.into_iter().map(|asked| asked.expect("every datagram is answered")).sum()
}

fn open(lab: &Lab) -> UnixStream {
    let stream = UnixStream::connect(socket(lab)).expect("the socket is there");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Everything but requests.
fn garbage(lab: &Lab) {
    let mut dice = fastrand::Rng::with_seed(11);
    for round in 0..300 {
        let mut stream = open(lab);
        let mut bytes: Vec<u8> = (0..dice.usize(..2_000)).map(|_| dice.u8(..)).collect();
        match round % 3 {
            0 => {}
            1 => bytes
                .splice(0..0, *b"POST /v1/commands HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n")
                .for_each(drop),
            _ => bytes
                .splice(0..0, *b"POST /v1/commands HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nffff\r\n")
                .for_each(drop),
        }
        // It may be closed amid this.
        let _ = stream.write_all(&bytes).and_then(|()| stream.shutdown(Shutdown::Write));
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let is_refusal =
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 4") || answer.starts_with(b"HTTP/1.0 4");
        assert!(
            is_refusal,
            "{:?} to {:?}",
            answer.escape_ascii().to_string(),
            bytes.escape_ascii().to_string()
        );
    }
}

/// One request that does not end.
fn flood(lab: &Lab) {
    let chunk = vec![b'x'; 1 << 20];
    let head = format!("POST /v1/commands HTTP/1.1\r\nhost: x\r\ncontent-length: {FLOOD_BYTES}\r\n\r\n");
    let chunked = format!(
        "POST /v1/commands HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{FLOOD_BYTES:x}\r\n"
    );
    for head in [head.as_bytes(), chunked.as_bytes(), b"GET /", b""] {
        let mut stream = open(lab);
        let mut sent = 0;
        let mut result = stream.write_all(head);
        while result.is_ok() && sent < FLOOD_BYTES {
            result = stream.write_all(&chunk);
            sent += chunk.len();
        }
        assert!(result.is_err(), "all of it was taken");
    }
}

/// So many that all places are taken, some of them amid a request, while the command line is used.
fn crowd(lab: &Lab) {
    let mut crowd = Vec::with_capacity(CONNECTIONS);
    for n in 0..CONNECTIONS {
        let mut stream = open(lab);
        if n % 2 == 0 {
            let _ = stream.write_all(b"GET /v1/services HTTP/1.1\r\nhost: ");
        }
        crowd.push(stream);
        if n % 500 == 499 {
            let start = Instant::now();
            say(lab, &["show", "info"]);
            let took = start.elapsed();
            assert!(took < ANSWERED, "with {n} others, an answer took {took:?}");
        }
    }
}
