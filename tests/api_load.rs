//! The API under load, in a process of its own so that memory can be measured: a million connections, ten thousand
//! requests at once. Run with `--nocapture` it prints what it measured.

#[path = "api/http.rs"]
#[allow(dead_code, reason = "shared with the other tests of the API")]
mod http;
#[path = "api/plane.rs"]
#[allow(dead_code, reason = "shared with the other tests of the API")]
mod plane;
#[path = "api/served.rs"]
#[allow(dead_code, reason = "shared with the other tests of the API")]
mod served;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HUNG, open};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use served::Served;
use xvs::control::client::Client;
use xvs::control::connections::Filter;

/// One after the other: each measures the memory of the process.
static ALONE: Mutex<()> = Mutex::new(());

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn mib(bytes: usize) -> usize {
    bytes >> 20
}

#[test]
fn a_million_connections_stream_in_time_in_little_memory() {
    const CONNECTIONS: u32 = 1_000_000;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let served = Served::new(CONNECTIONS);
    let before = resident_bytes();
    let (mut listed, mut most, mut sum) = (0u32, 0, 0u64);
    let begin = Instant::now();
    let mut client = Client::connect(&served.socket).unwrap();
    let mut note = |connection: xvs::control::view::ConnectionView| {
        if listed % 50_000 == 0 {
            most = most.max(resident_bytes());
        }
        listed += 1;
        let std::net::SocketAddr::V4(client) = connection.client else { panic!("{connection:?}") };
        sum += u64::from(client.ip().to_bits());
        Ok(())
    };
    client.connections(&Filter::default(), &mut note).unwrap();
    let took = begin.elapsed();
    let grown = most.saturating_sub(before);
    println!("{listed} connections in {took:?}, {} MiB more at most, both sides", mib(grown));
    let all = u64::from(CONNECTIONS);
    assert_eq!((listed, sum), (CONNECTIONS, all * 0x0a00_0000 + all * (all - 1) / 2));
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(grown < 32 << 20, "{} MiB", mib(grown));
}

#[test]
fn a_call_is_over_in_milliseconds_even_while_all_connections_are_streamed() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let served = Served::new(300_000);
    let call = || {
        let begin = Instant::now();
        Client::connect(&served.socket).unwrap().info().unwrap();
        begin.elapsed()
    };
    let median = |mut times: Vec<Duration>| {
        times.sort();
        (times[times.len() / 2], times[times.len() - 1])
    };
    let quiet = median((0..200).map(|_| call()).collect());
    let busy = std::thread::scope(|scope| {
        let stream = scope.spawn(|| {
            let mut client = Client::connect(&served.socket).unwrap();
            for _ in 0..3 {
                client.connections(&Filter::default(), &mut |_| Ok(())).unwrap();
            }
        });
        let mut times = vec![call()];
        while !stream.is_finished() {
            times.push(call());
        }
        median(times)
    });
    println!("GET /v1/info, median and longest: {quiet:?}, during a stream {busy:?}");
    assert!(quiet.0 < Duration::from_millis(5), "{quiet:?}");
    assert!(busy.0 < Duration::from_millis(20) && busy.1 < Duration::from_millis(100), "{busy:?}");
}

#[test]
fn ten_thousand_requests_at_once_are_answered_in_little_memory() {
    const REQUESTS: usize = 10_000;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let served = Served::new(1000);
    Client::connect(&served.socket).unwrap().info().unwrap();
    let before = resident_bytes();
    let begin = Instant::now();
    // They neither say that this is their last request nor close.
    let ask = |_| {
        let mut stream = open(&served.socket);
        stream.write_all(b"GET /v1/connections?limit=100 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        stream
    };
    let streams: Vec<UnixStream> = (0..REQUESTS).map(ask).collect();
    let during = Instant::now();
    Client::connect(&served.socket).unwrap().info().unwrap();
    let behind = during.elapsed();
    let grown = resident_bytes().saturating_sub(before);
    // One that was slow when all seats were taken is closed without an answer.
    let answered = streams.into_iter().filter(is_answered);
    let answered = answered.count();
    let took = begin.elapsed();
    println!(
        "{answered} of {REQUESTS} answered in {took:?}, {} MiB more; one behind them all waited {behind:?}",
        mib(grown)
    );
    assert!(answered >= REQUESTS * 99 / 100, "{answered}");
    assert!(took < HUNG && grown < 64 << 20, "{took:?}, {} MiB", mib(grown));
}

/// Reads one whole answer.
fn is_answered(stream: &UnixStream) -> bool {
    let (mut stream, mut bytes) = (stream, vec![0; 64 << 10]);
    let mut filled = 0;
    while let Ok(read) = stream.read(&mut bytes[filled..])
        && read > 0
    {
        filled += read;
        if bytes[..filled].ends_with(b"\"next\":100}") {
            let answer = http::Answer::parse(&bytes[..filled]);
            return answer.status == 200 && answer.json()["connections"].as_array().unwrap().len() == 100;
        }
    }
    false
}
