//! Clients: connections and queries from addresses of the lab's clients, every wait bounded.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpSocket, UdpSocket};
use tokio::task::LocalSet;

use crate::lab::Lab;
use crate::netns::inside;
use crate::server::{HEADER_LEN, answer};
use crate::wire::Wire;

/// How long a client waits for anything. TCP has repeated a lost SYN three times by then.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Runs `clients` in the clients' namespace; tasks may be spawned with [`tokio::task::spawn_local`].
pub fn run<T: Send>(lab: &Lab, clients: impl AsyncFnOnce() -> T + Send) -> T {
    run_in(&lab.netns("clients"), clients)
}

/// Runs `clients` in any namespace.
pub fn run_in<T: Send>(netns: &str, clients: impl AsyncFnOnce() -> T + Send) -> T {
    inside(netns, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        LocalSet::new().block_on(&runtime, clients())
    })
}

/// Bounds a wait by [`PATIENCE`].
pub async fn patiently<T>(wait: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    within(PATIENCE, wait).await
}

/// Bounds a wait.
pub async fn within<T>(limit: Duration, wait: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(limit, wait).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

/// Opens a connection from a client address.
pub async fn connect(from: impl Into<IpAddr>, to: impl Into<SocketAddr>) -> io::Result<Wire> {
    let (from, to) = (from.into(), to.into());
    let socket = if from.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::from((from, 0)))?;
    patiently(socket.connect(to)).await.map(Wire::new)
}

/// One connection: opened, asked for the server's name, closed by the client.
pub async fn name_of_server(from: impl Into<IpAddr>, to: impl Into<SocketAddr>) -> io::Result<String> {
    let mut wire = connect(from, to).await?;
    patiently(wire.ask("name")).await
}

/// The servers that answered `count` connections, opened one after another, as in `"CBACBA"`.
pub async fn servers_in_a_row(count: usize, from: impl Into<IpAddr>, to: impl Into<SocketAddr>) -> String {
    let (from, to) = (from.into(), to.into());
    let mut names = String::new();
    for _ in 0..count {
        names += &name_of_server(from, to).await.unwrap_or_else(|error| format!("({error})"));
    }
    names.to_uppercase()
}

/// Runs `job(0)` to `job(count - 1)`, `at_once` of them at any time, and gives back what they returned.
pub async fn many<T: 'static, F: Future<Output = T> + 'static>(
    count: usize,
    at_once: usize,
    job: impl Fn(usize) -> F + 'static,
) -> Vec<T> {
    let (next, job) = (Rc::new(Cell::new(0)), Rc::new(job));
    let hands: Vec<_> = (0..at_once)
        .map(|_| {
            let (next, job) = (Rc::clone(&next), Rc::clone(&job));
            tokio::task::spawn_local(async move {
                let mut done = Vec::new();
                while next.get() < count {
                    let index = next.replace(next.get() + 1);
                    done.push(job(index).await);
                }
                done
            })
        })
        .collect();
    let mut done = Vec::with_capacity(count);
    for hand in hands {
        done.extend(hand.await.expect("a client panicked"));
    }
    done
}

/// How often each name was given; the first error with the number of errors if there was any.
pub fn tally(answers: impl IntoIterator<Item = io::Result<String>>) -> BTreeMap<String, usize> {
    let (mut names, mut errors) = (BTreeMap::new(), Vec::new());
    for answer in answers {
        match answer {
            Ok(name) => *names.entry(name).or_default() += 1,
            Err(error) => errors.push(error),
        }
    }
    assert!(errors.is_empty(), "{} failed, the first with: {}; served: {names:?}", errors.len(), errors[0]);
    names
}

/// A client of a DNS-like service: one socket, queries one after another.
#[derive(Debug)]
pub struct Resolver {
    socket: UdpSocket,
    service: SocketAddr,
}

impl Resolver {
    /// A socket at a client's address and port. The port is the caller's choice because the kernel may
    /// choose one again that was closed a moment ago, and for a director that is still the same flow.
    pub async fn new(from: impl Into<SocketAddr>, service: impl Into<SocketAddr>) -> io::Result<Self> {
        Ok(Self { socket: UdpSocket::bind(from.into()).await?, service: service.into() })
    }

    /// Sends query `id` and waits for its answer: from the address that was asked, with the same id
    /// and question. Gives back the server's name.
    pub async fn ask(&self, id: u16) -> io::Result<String> {
        let query = query(id);
        self.socket.send_to(&query, self.service).await?;
        let mut buffer = [0; 2048];
        let (len, from) = patiently(self.socket.recv_from(&mut buffer)).await?;
        if from != self.service {
            return Err(io::Error::other(format!("asked {}, answered by {from}", self.service)));
        }
        let expected = answer(&query, "");
        let name = buffer[..len].strip_prefix(expected.as_slice());
        let name = name.ok_or_else(|| io::Error::other(format!("not the answer to query {id}")))?;
        Ok(String::from_utf8_lossy(name).into_owned())
    }

    /// Sends query `id` without waiting.
    pub async fn send(&self, id: u16) -> io::Result<()> {
        self.socket.send_to(&query(id), self.service).await.map(drop)
    }

    /// Waits for any answer, which must come from the service.
    pub async fn receive(&self) -> io::Result<()> {
        let (_, from) = self.socket.recv_from(&mut [0; 2048]).await?;
        if from == self.service { Ok(()) } else { Err(io::Error::other(format!("from {from}"))) }
    }
}

/// A DNS query for an A record, of a length that differs from id to id (odd lengths are a checksum's edge).
fn query(id: u16) -> Vec<u8> {
    let mut query = vec![0; HEADER_LEN];
    query[..2].copy_from_slice(&id.to_be_bytes());
    query[2] = 1; // recursion desired
    query[5] = 1; // one question
    let label = format!("host-{id}");
    query.push(u8::try_from(label.len()).expect("a short label"));
    query.extend(label.as_bytes());
    query.extend(b"\x07example\x03com\x00\x00\x01\x00\x01");
    query
}
