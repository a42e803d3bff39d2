//! A real server: a thread in its namespace that listens and answers by the rules it is given.
//!
//! Taken into each test binary by `#[path]`. Must not know what is said on a connection.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::oneshot;

use crate::netns;

/// Connections that may wait to be accepted: a burst of two thousand is no failure of the director.
const BACKLOG: u32 = 4096;

/// What a UDP socket may hold, in bytes as the kernel counts them: 4 KiB for a datagram of any size. A burst of a thousand is
/// no failure of the director either.
const RECEIVE_BUFFER: usize = 4 << 20;

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
            runtime.block_on(async move {
                for address in tcp {
                    let listener = once_free(|| listen(address)).await;
                    let listener = listener.unwrap_or_else(|error| panic!("listen on {address}: {error}"));
                    tokio::spawn(accept(listener, Arc::clone(&manners)));
                }
                for address in udp {
                    let bind = || std::net::UdpSocket::bind(address).and_then(asynchronous);
                    let socket = once_free(bind).await;
                    let socket = socket.unwrap_or_else(|error| panic!("UDP on {address}: {error}"));
                    tokio::spawn(answer_datagrams(socket, Arc::clone(&manners)));
                }
                ready.send(()).expect("the starter waits");
                let _ = stopped.await;
            });
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

/// Binds, as soon as whoever had the address lets go of it: a program that another thread is just starting holds all sockets
/// of this process for a moment, those that were closed meanwhile too.
async fn once_free<S>(bind: impl Fn() -> io::Result<S>) -> io::Result<S> {
    const PATIENCE: Duration = Duration::from_secs(5);
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
