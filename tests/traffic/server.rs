//! A real server: a thread in its namespace that answers TCP and UDP with its name.
//!
//! TCP, any number of lines on a connection: `name` is answered with the name; `send FILE` with the
//! file's bytes; after `take LEN` the server takes LEN bytes, keeps them in `NAME.taken` in the lab's
//! directory and answers `taken`. UDP: see [`answer`].

use std::io;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::sync::oneshot;

use crate::netns;
use crate::wire::Wire;

/// Connections that may wait to be accepted: a burst of two thousand is no failure of the director.
const BACKLOG: u32 = 4096;
/// A DNS header's length in bytes: two of them the query's id, two flags.
pub const HEADER_LEN: usize = 12;

/// See the module. Stops when dropped.
#[derive(Debug)]
pub struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server called `name` in `netns`; it listens when this returns.
    pub fn start(netns: &str, name: &str, tcp: &[SocketAddrV4], udp: &[SocketAddrV4], dir: &Path) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let (netns, me) = (netns.to_owned(), Arc::new(Me { name: name.to_owned(), dir: dir.to_owned() }));
        let (tcp, udp) = (tcp.to_vec(), udp.to_vec());
        let thread = thread::spawn(move || {
            netns::enter(&netns);
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            runtime.block_on(async move {
                for address in tcp {
                    let listener =
                        listen(address).unwrap_or_else(|error| panic!("listen on {address}: {error}"));
                    tokio::spawn(accept(listener, Arc::clone(&me)));
                }
                for address in udp {
                    let socket = UdpSocket::bind(address).await;
                    let socket = socket.unwrap_or_else(|error| panic!("UDP on {address}: {error}"));
                    tokio::spawn(answer_datagrams(socket, Arc::clone(&me)));
                }
                ready.send(()).expect("the starter waits");
                let _ = stopped.await;
            });
        });
        is_ready.recv().unwrap_or_else(|_| panic!("server {name} did not start"));
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

struct Me {
    name: String,
    dir: PathBuf,
}

fn listen(address: SocketAddrV4) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address.into())?;
    socket.listen(BACKLOG)
}

async fn accept(listener: TcpListener, me: Arc<Me>) {
    while let Ok((stream, _)) = listener.accept().await {
        // An error ends the connection, and its client will notice; the server goes on.
        let me = Arc::clone(&me);
        tokio::spawn(async move { converse(Wire::new(stream), &me).await });
    }
}

async fn converse(mut wire: Wire, me: &Me) -> io::Result<()> {
    while let Some(line) = wire.line().await? {
        match line.split_once(' ') {
            None if line == "name" => wire.write(format!("{}\n", me.name).as_bytes()).await?,
            Some(("send", file)) => wire.write(&std::fs::read(me.dir.join(file))?).await?,
            Some(("take", len)) => {
                let bytes = wire.bytes(len.parse().map_err(io::Error::other)?).await?;
                std::fs::write(me.dir.join(format!("{}.taken", me.name)), bytes)?;
                wire.write(b"taken\n").await?;
            }
            _ => return Err(io::Error::other(format!("what is {line:?}?"))),
        }
    }
    Ok(())
}

async fn answer_datagrams(socket: UdpSocket, me: Arc<Me>) {
    let mut buffer = [0; 2048];
    while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
        let _ = socket.send_to(&answer(&buffer[..len], &me.name), from).await;
    }
}

/// The answer to a DNS-like query: the same id and question, the response bit set, the server's name behind.
pub fn answer(query: &[u8], name: &str) -> Vec<u8> {
    let mut answer = query.to_vec();
    if let Some(flags) = answer.get_mut(2) {
        *flags |= 0x80;
    }
    answer.extend(name.as_bytes());
    answer
}
