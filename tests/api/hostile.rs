//! Clients that are broken, slow or hostile: each is answered or closed in time, and whoever behaves is served.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use xvs::control::api::limits::{
    BODY_TIMEOUT, HEAD_TIMEOUT, IDLE_TIMEOUT, LOOK, MAX_BODY_BYTES, MAX_CONNECTIONS,
};
use xvs::control::client::Client;

use super::http::{Answer, ask, exchange, open, request, rest};
use super::served::Served;

/// What a client that behaves waits at most.
const SOON: Duration = Duration::from_millis(100);

/// How long a client that behaves takes, from connecting to the answer.
fn behaves(socket: &Path) -> Duration {
    let begin = Instant::now();
    Client::connect(socket).unwrap().info().unwrap();
    begin.elapsed()
}

#[test]
fn garbage_is_refused_and_closed() {
    let served = Served::new(0);
    let long = "x".repeat(1 << 20);
    let many: String = (0..1000).map(|n| format!("a{n}: b\r\n")).collect();
    let texts = [
        "\0\u{1}\u{2}\u{3}\r\n\r\n".to_owned(),
        "\r\n\r\n\r\n\r\nnonsense\r\n\r\n".to_owned(),
        "GET /v1/info HTTP/9.9\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "POST /v1/commands HTTP/1.1\r\nContent-Length: -5\r\n\r\n".to_owned(),
        "POST /v1/commands HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n".to_owned(),
        "POST /v1/commands HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n".to_owned(),
        format!("GET /{long} HTTP/1.1\r\n\r\n"),
        format!("GET /v1/info HTTP/1.1\r\n{many}\r\n"),
    ];
    for text in texts {
        let mut stream = open(&served.socket);
        // It may be closed before all is written.
        let _closed = stream.write_all(text.as_bytes());
        let mut bytes = Vec::new();
        let _closed = stream.read_to_end(&mut bytes);
        if !bytes.is_empty() {
            let status = Answer::parse(&bytes).status;
            assert!(
                (400..500).contains(&status),
                "{status} for `{}`",
                text[..text.len().min(60)].escape_debug()
            );
        }
        assert!(behaves(&served.socket) < SOON);
    }
}

#[test]
fn a_body_that_is_too_large_is_refused_without_being_read() {
    let served = Served::new(0);
    let head = "POST /v1/commands HTTP/1.1\r\nHost: x\r\nContent-Length: 104857600\r\n\r\n";
    let mut stream = open(&served.socket);
    stream.write_all(head.as_bytes()).unwrap();
    let answer = Answer::parse(&rest(&mut stream));
    assert_eq!((answer.status, answer.code().as_str()), (413, "too-large"));

    // One that sends it all the same, without saying how much it is.
    let mut stream = open(&served.socket);
    stream.write_all(b"POST /v1/commands HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    let chunk = [b"10000\r\n", &[b' '; 0x10000][..], b"\r\n"].concat();
    let sent = (0..1600).take_while(|_| stream.write_all(&chunk).is_ok()).count() * 0x10000;
    assert!(sent < 2 * MAX_BODY_BYTES, "{sent} bytes were taken");
    let answer = Answer::parse(&rest(&mut stream));
    assert_eq!((answer.status, answer.code().as_str()), (413, "too-large"));
    assert!(behaves(&served.socket) < SOON);
}

#[test]
fn one_who_leaves_half_way_is_forgotten() {
    let served = Served::new(200_000);
    for _ in 0..2 * MAX_CONNECTIONS {
        let mut stream = open(&served.socket);
        stream.write_all(b"POST /v1/services HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{").unwrap();
        drop(stream);
        let mut stream = open(&served.socket);
        stream
            .write_all(b"GET /v1/connections HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\n\r\n")
            .unwrap();
        stream.read_exact(&mut [0; 100]).unwrap();
    }
    assert!(behaves(&served.socket) < SOON);
}

#[test]
fn one_who_takes_no_answers_has_none_made() {
    let served = Served::new(300_000);
    let mut stream = open(&served.socket);
    stream.set_nonblocking(true).unwrap();
    // Pages of 2 MB, one asked for after the other.
    let asked = b"GET /v1/connections?limit=10000 HTTP/1.1\r\nHost: x\r\n\r\n";
    let before = resident_bytes();
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        let _full = stream.write(asked);
        assert!(behaves(&served.socket) < SOON);
    }
    let grown = resident_bytes().saturating_sub(before);
    eprintln!("GROWN {} KiB", grown >> 10);
    assert!(grown < 32 << 20, "{} MiB more", grown >> 20);
}

/// Memory of this process, which the API is a part of.
pub fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Fills every seat, and more, with clients that keep xvs waiting; one that behaves is served all the same.
fn crowd(served: &Served, first_bytes: &[u8]) {
    let begin = |_| {
        let mut stream = open(&served.socket);
        let _closed = stream.write_all(first_bytes);
        stream
    };
    let mut crowd: Vec<UnixStream> = (0..MAX_CONNECTIONS + 100).map(begin).collect();
    // All have sat down and are as slow as they can be without being thrown out for that.
    std::thread::sleep(xvs::control::api::limits::PATIENCE_AMID * 2);
    for _ in 0..20 {
        let took = behaves(&served.socket);
        assert!(took < SOON, "{took:?}");
        for slow in &mut crowd {
            let _closed = slow.write_all(b"x");
        }
    }
}

#[test]
fn slow_heads_keep_nobody_waiting() {
    crowd(&Served::new(0), b"GET /v1/info HTTP/1.1\r\nx: ");
}

#[test]
fn silent_clients_keep_nobody_waiting() {
    crowd(&Served::new(0), b"");
}

#[test]
fn slow_bodies_keep_nobody_waiting() {
    crowd(&Served::new(0), b"POST /v1/services HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n");
}

#[test]
fn clients_that_do_not_read_keep_nobody_waiting() {
    let ask = b"GET /v1/connections HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\n\r\n";
    crowd(&Served::new(300_000), ask);
}

#[test]
fn large_requests_have_a_limit_together_and_those_that_stall_make_room() {
    let served = Served::new(0);
    let head = format!("POST /v1/commands HTTP/1.1\r\nHost: x\r\nContent-Length: {MAX_BODY_BYTES}\r\n\r\n{{");
    let begin = |_| {
        let mut stream = open(&served.socket);
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let mut crowd: Vec<_> = (0..16).map(begin).collect();
    behaves(&served.socket);
    let answer = Answer::parse(&rest(&mut begin(0)));
    assert_eq!((answer.status, answer.code().as_str()), (503, "too-busy"));
    assert_eq!(answer.header("retry-after"), "1");
    std::thread::sleep(xvs::control::api::limits::PATIENCE_AMID + LOOK);
    let body = vec![b' '; MAX_BODY_BYTES];
    let bytes = exchange(&served.socket, &request("POST", "/v1/commands", "", &body));
    assert_eq!(Answer::parse(&bytes).status, 400, "it was read to its end");
    assert!(crowd[0].read_to_end(&mut Vec::new()).map_or(true, |n| n == 0), "the slowest had to go");
}

/// These wait for real: the limits are what is tested.
#[test]
fn every_wait_has_its_end() {
    let served = Served::new(0);
    let waits: [(&[u8], Duration); 3] = [
        (b"GET /v1/info HTTP/1.1\r\n", HEAD_TIMEOUT),
        (b"POST /v1/services HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{", BODY_TIMEOUT),
        (b"", IDLE_TIMEOUT),
    ];
    let wait = |(bytes, limit): (&'static [u8], Duration)| {
        let socket = served.socket.clone();
        std::thread::spawn(move || {
            let mut stream = open(&socket);
            stream.write_all(bytes).unwrap();
            let begin = Instant::now();
            wait_for_close(&stream, limit + Duration::from_secs(10));
            let took = begin.elapsed();
            assert!(took > limit - LOOK && took < limit + 8 * LOOK, "{took:?} instead of {limit:?}");
            stream.set_nonblocking(true).unwrap();
            let mut answer = Vec::new();
            let _closed = stream.read_to_end(&mut answer);
            answer
        })
    };
    let waiting = waits.map(|(bytes, limit)| wait((Box::leak(bytes.to_vec().into_boxed_slice()), limit)));
    let [head, body, idle] = waiting.map(|thread| thread.join().unwrap());
    assert!(head.is_empty() && idle.is_empty());
    let answer = Answer::parse(&body);
    assert_eq!((answer.status, answer.code().as_str()), (408, "too-slow"));
    assert_eq!(ask(&served.socket, "GET", "/v1/info", "").status, 200);
}

/// Waits until the other side has closed, without reading.
fn wait_for_close(stream: &UnixStream, limit: Duration) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let mut fds = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    let limit = PollTimeout::try_from(limit).unwrap();
    assert_eq!(poll(&mut fds, limit).unwrap(), 1, "it was never closed");
}
