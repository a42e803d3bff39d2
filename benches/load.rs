//! A client of HTTP servers that counts and times: new connections, requests on kept ones, single requests at a low
//! rate, or bytes. Prints one line of JSON, with the processor time that the whole machine used meanwhile.
//!
//! One thread; what it asks must be answered with a `Content-Length`. Must not know what lies between it and the server.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::{Parser, ValueEnum};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::{sleep_until, timeout};

/// How long any single answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
const BUFFER_BYTES: usize = 256 * 1024;

/// Asks an HTTP server for so many seconds and says how it went.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to do.
    kind: Kind,
    /// Whom to ask.
    server: SocketAddrV4,
    /// What to ask for.
    #[arg(long, default_value = "/")]
    path: String,
    /// Connections at once. A paced run has one request under way at a time.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Seconds to measure.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds before that, which do not count.
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
    /// Requests per second of a paced run, to each server.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Another server that a paced run asks in turn with the first: what slows the machine slows both.
    #[arg(long)]
    beside: Option<SocketAddrV4>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A connection for each request, closed by the server.
    Connect,
    /// Request after request on each connection.
    Keepalive,
    /// Single requests at a rate, on a connection that is kept.
    Paced,
    /// Single requests at a rate, each on a connection of its own.
    PacedConnect,
    /// Large answers, on connections that are kept.
    Bulk,
}

impl Kind {
    const fn closes(self) -> bool {
        matches!(self, Self::Connect | Self::PacedConnect)
    }

    const fn is_paced(self) -> bool {
        matches!(self, Self::Paced | Self::PacedConnect)
    }
}

/// What one client counted within the measured time.
#[derive(Debug, Default)]
struct Tally {
    requests: u64,
    bytes: u64,
    errors: u64,
    first_error: Option<String>,
    latencies_ns: Vec<u64>,
}

/// When to count and when to stop.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: Instant,
    end: Instant,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, run(&arguments))
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let start = Instant::now() + Duration::from_secs_f64(arguments.warm_up);
    let span = Span { start, end: start + Duration::from_secs_f64(arguments.seconds) };
    let request = request(arguments);
    let watch = tokio::task::spawn_local(async move {
        sleep_until(span.start.into()).await;
        let before = busy_ticks()?;
        sleep_until(span.end.into()).await;
        anyhow::Ok(busy_ticks()? - before)
    });
    let mut beside = None;
    let tallies = if arguments.kind.is_paced() {
        let (tally, other) = paced(arguments, &request, span).await;
        beside = other;
        vec![tally]
    } else {
        let clients = (0..arguments.connections).map(|_| {
            let (kind, server, request) = (arguments.kind, arguments.server, request.clone());
            tokio::task::spawn_local(async move { busy(kind, server, &request, span).await })
        });
        let mut tallies = Vec::new();
        for client in clients.collect::<Vec<_>>() {
            tallies.push(client.await?);
        }
        tallies
    };
    let busy_s = watch.await?? as f64 / ticks_per_second()?;
    report(tallies, beside, arguments.seconds, busy_s);
    Ok(())
}

/// Ticks that all processors were neither idle nor waiting, since the start of the machine.
fn busy_ticks() -> anyhow::Result<u64> {
    let stat = std::fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1).take(8);
    let ticks: Vec<u64> = fields.map(str::parse).collect::<Result<_, _>>().context("/proc/stat")?;
    ensure!(ticks.len() == 8, "/proc/stat does not begin with eight kinds of time");
    Ok(ticks.iter().sum::<u64>() - ticks[3] - ticks[4])
}

fn ticks_per_second() -> anyhow::Result<f64> {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?;
    Ok(ticks.context("the system has no clock ticks")? as f64)
}

fn request(arguments: &Arguments) -> Vec<u8> {
    let close = if arguments.kind.closes() { "Connection: close\r\n" } else { "" };
    format!("GET {} HTTP/1.1\r\nHost: bench\r\n{close}\r\n", arguments.path).into_bytes()
}

/// One client that asks again as soon as it is answered.
async fn busy(kind: Kind, server: SocketAddrV4, request: &[u8], span: Span) -> Tally {
    let (mut tally, mut kept) = (Tally::default(), None);
    let mut buffer = vec![0; BUFFER_BYTES];
    while Instant::now() < span.end {
        tally.ask(&mut kept, kind, server, request, &mut buffer, span).await;
    }
    tally
}

/// One client that asks at a steady rate; when an answer is late, so are the next questions. What it counted of the
/// server, and of the one beside it.
async fn paced(arguments: &Arguments, request: &[u8], span: Span) -> (Tally, Option<Tally>) {
    let mut asked: Vec<_> = [arguments.server]
        .into_iter()
        .chain(arguments.beside)
        .map(|server| (server, Tally::default(), None))
        .collect();
    let mut buffer = vec![0; BUFFER_BYTES];
    let step = Duration::from_secs(1) / arguments.rate / if arguments.beside.is_some() { 2 } else { 1 };
    let mut next = Instant::now();
    while next < span.end {
        for (server, tally, kept) in &mut asked {
            sleep_until(next.into()).await;
            tally.ask(kept, arguments.kind, *server, request, &mut buffer, span).await;
            next = (next + step).max(Instant::now());
        }
    }
    let mut tallies = asked.into_iter().map(|(_, tally, _)| tally);
    (tallies.next().unwrap_or_default(), tallies.next())
}

impl Tally {
    /// One exchange, counted.
    async fn ask(
        &mut self,
        kept: &mut Option<TcpStream>,
        kind: Kind,
        server: SocketAddrV4,
        request: &[u8],
        buffer: &mut [u8],
        span: Span,
    ) {
        let asked = Instant::now();
        match timeout(PATIENCE, exchange(kept, kind, server, request, buffer)).await {
            Ok(Ok(bytes)) => self.note(asked, bytes, span),
            Ok(Err(error)) => self.fail(&format!("{error:#}"), kept),
            Err(_) => self.fail("no answer in time", kept),
        }
    }

    fn note(&mut self, asked: Instant, bytes: u64, span: Span) {
        let now = Instant::now();
        if now >= span.start && now < span.end {
            self.requests += 1;
            self.bytes += bytes;
            if asked >= span.start {
                self.latencies_ns.push(u64::try_from((now - asked).as_nanos()).expect("not centuries"));
            }
        }
    }

    fn fail(&mut self, error: &str, kept: &mut Option<TcpStream>) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| error.to_owned());
        *kept = None;
    }
}

/// One request and its answer, on the connection that is kept or a new one; the bytes of the answer.
async fn exchange(
    kept: &mut Option<TcpStream>,
    kind: Kind,
    server: SocketAddrV4,
    request: &[u8],
    buffer: &mut [u8],
) -> anyhow::Result<u64> {
    let stream = match kept.take() {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(server).await.context("connect")?;
            stream.set_nodelay(true)?;
            stream
        }
    };
    write(&stream, request).await.context("request")?;
    let bytes = answer(&stream, buffer).await.context("answer")?;
    if kind.closes() {
        // The server closes first, so that the client's port is free at once.
        ensure!(read(&stream, buffer).await? == 0, "the answer is longer than it says");
    } else {
        *kept = Some(stream);
    }
    Ok(bytes)
}

/// Reads an answer to its end.
async fn answer(stream: &TcpStream, buffer: &mut [u8]) -> anyhow::Result<u64> {
    let mut filled = 0;
    let head_len = loop {
        let count = read(stream, &mut buffer[filled..]).await?;
        ensure!(count > 0, "the connection ended before the answer");
        filled += count;
        if let Some(at) = find(&buffer[..filled], b"\r\n\r\n") {
            break at + 4;
        }
        ensure!(filled < buffer.len(), "the answer has no head");
    };
    let total = head_len as u64 + body_len(&buffer[..head_len])?;
    let mut seen = filled as u64;
    while seen < total {
        let count = read(stream, buffer).await?;
        ensure!(count > 0, "the connection ended within the answer");
        seen += count as u64;
    }
    ensure!(seen == total, "the answer is longer than it says");
    Ok(total)
}

/// What the head says of the body's length.
fn body_len(head: &[u8]) -> anyhow::Result<u64> {
    let head = std::str::from_utf8(head).context("the head is no text")?;
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    ensure!(status.split(' ').nth(1) == Some("200"), "the server says `{status}`");
    for line in lines {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            return value.trim().parse().context("Content-Length");
        }
    }
    bail!("the answer has no Content-Length")
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

async fn read(stream: &TcpStream, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match stream.try_read(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => stream.readable().await?,
            other => return other,
        }
    }
}

async fn write(stream: &TcpStream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn report(tallies: Vec<Tally>, beside: Option<Tally>, seconds: f64, busy_s: f64) {
    let mut all = Tally::default();
    for tally in tallies {
        all.requests += tally.requests;
        all.bytes += tally.bytes;
        all.errors += tally.errors;
        all.first_error = all.first_error.or(tally.first_error);
        all.latencies_ns.extend(tally.latencies_ns);
    }
    let mut said = told(all);
    said["seconds"] = seconds.into();
    said["busy_s"] = busy_s.into();
    said["beside"] = beside.map(told).into();
    println!("{said}");
}

fn told(mut tally: Tally) -> serde_json::Value {
    tally.latencies_ns.sort_unstable();
    serde_json::json!({
        "requests": tally.requests,
        "bytes": tally.bytes,
        "errors": tally.errors,
        "first_error": tally.first_error,
        "p50_us": percentile_us(&tally.latencies_ns, 50),
        "p99_us": percentile_us(&tally.latencies_ns, 99),
    })
}

/// The smallest latency that so many percent do not exceed, of a sorted list.
fn percentile_us(sorted_ns: &[u64], percent: usize) -> Option<f64> {
    let rank = (sorted_ns.len() * percent).div_ceil(100);
    sorted_ns.get(rank.checked_sub(1)?).map(|&ns| ns as f64 / 1e3)
}
