//! A real server: a thread in its namespace that listens and answers by the rules it is given.
//!
//! Taken into each test binary by `#[path]`. Must not know what is said on a connection.

use std::collections::BTreeSet;
use std::fs;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::stat::fstat;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::oneshot;

use crate::netns;

/// Connections that may wait to be accepted: a burst of two thousand is no failure of the director.
const BACKLOG: u32 = 4096;

/// What a UDP socket may hold, in bytes as the kernel counts them: 4 KiB for a datagram of any size. A burst of a thousand is
/// no failure of the director either.
const RECEIVE_BUFFER: usize = 4 << 20;

/// How long a socket may take to go.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a server says.
pub trait Manners: Send + Sync + 'static {
    /// Serves one connection to its end. An error ends it, and its client will notice; the server goes on.
    fn converse(&self, stream: TcpStream) -> impl Future<Output = io::Result<()>> + Send;

    /// The answer to a datagram; it is sent from the address that was asked.
    fn answer(&self, query: &[u8]) -> Vec<u8>;
}

/// See the module. Stops when dropped: it closes everything, and its ports refuse.
#[derive(Debug)]
pub struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server in `netns`; it listens when this returns.
    pub fn spawn(netns: &str, manners: impl Manners, tcp: Vec<SocketAddr>, udp: Vec<SocketAddr>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let (there, manners) = (netns.to_owned(), Arc::new(manners));
        let thread = thread::spawn(move || {
            netns::enter(&there);
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            let sockets = runtime.block_on(async move {
                let mut sockets = BTreeSet::new();
                for address in tcp {
                    let listener = once_free(|| listen(address)).await;
                    let listener = listener.unwrap_or_else(|error| panic!("listen on {address}: {error}"));
                    sockets.insert(inode(&listener));
                    tokio::spawn(accept(listener, Arc::clone(&manners)));
                }
                for address in udp {
                    let bind = || std::net::UdpSocket::bind(address).and_then(asynchronous);
                    let socket = once_free(bind).await;
                    let socket = socket.unwrap_or_else(|error| panic!("UDP on {address}: {error}"));
                    sockets.insert(inode(&socket));
                    tokio::spawn(answer_datagrams(socket, Arc::clone(&manners)));
                }
                ready.send(()).expect("the starter waits");
                let _ = stopped.await;
                sockets
            });
            drop(runtime);
            wait_until_gone(&sockets);
        });
        is_ready.recv().unwrap_or_else(|_| panic!("the server in {netns} did not start"));
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How a socket is named in `/proc/net`.
fn inode(socket: &impl AsFd) -> u64 {
    fstat(socket).expect("an open socket").st_ino
}

/// Waits until the kernel has none of `sockets` any more. They are closed, but a program that another thread is just
/// starting holds all sockets of this process for a moment: what comes in meanwhile is taken, and answered by nobody.
fn wait_until_gone(sockets: &BTreeSet<u64>) {
    const INODE_COLUMN: usize = 9;
    let is_held = |table: &str| {
        let table = fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
        let inodes = table.lines().filter_map(|line| line.split_whitespace().nth(INODE_COLUMN)?.parse().ok());
        inodes.into_iter().any(|inode| sockets.contains(&inode))
    };
    let start = Instant::now();
    while ["tcp", "udp", "tcp6", "udp6"].into_iter().any(is_held) && start.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Binds, as soon as whoever had the address lets go of it: somebody else's socket may be held as ours are, see
/// [`wait_until_gone`].
async fn once_free<S>(bind: impl Fn() -> io::Result<S>) -> io::Result<S> {
    let start = Instant::now();
    loop {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && start.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            outcome => return outcome,
        }
    }
}

fn asynchronous(socket: std::net::UdpSocket) -> io::Result<UdpSocket> {
    socket.set_nonblocking(true)?;
    setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
    UdpSocket::from_std(socket)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if address.is_ipv6() {
        socket2::SockRef::from(&socket).set_only_v6(true)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(listener: TcpListener, manners: Arc<impl Manners>) {
    while let Ok((stream, _)) = listener.accept().await {
        let manners = Arc::clone(&manners);
        tokio::spawn(async move { manners.converse(stream).await });
    }
}

async fn answer_datagrams(socket: UdpSocket, manners: Arc<impl Manners>) {
    let mut buffer = vec![0; 65_536];
    while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
        let _ = socket.send_to(&manners.answer(&buffer[..len]), from).await;
    }
}
