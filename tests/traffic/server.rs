//! What the lab's real servers say.
//!
//! TCP, any number of lines on a connection: `name` is answered with the name; `send FILE` with the
//! file's bytes; a request of HTTP with a page that is the name, and the end; after `take LEN` the server takes LEN bytes, keeps them in `NAME.taken` in the lab's
//! directory and answers `taken`. UDP: see [`answer`].

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};

use tokio::net::TcpStream;

use crate::real_server::Manners;
pub use crate::real_server::Server;
use crate::wire::Wire;

/// A DNS header's length in bytes: two of them the query's id, two flags.
pub const HEADER_LEN: usize = 12;

impl Server {
    /// Starts a server called `name` in `netns`, with its files in `dir`; it listens when this returns.
    pub fn start(netns: &str, name: &str, tcp: &[SocketAddrV4], udp: &[SocketAddrV4], dir: &Path) -> Self {
        Self::spawn(netns, Named { name: name.to_owned(), dir: dir.to_owned() }, tcp, udp)
    }

    /// As [`start`](Self::start), at addresses of either version.
    pub fn start_at(netns: &str, name: &str, tcp: Vec<SocketAddr>, udp: Vec<SocketAddr>, dir: &Path) -> Self {
        Self::spawn_at(netns, Named { name: name.to_owned(), dir: dir.to_owned() }, tcp, udp)
    }
}

struct Named {
    name: String,
    dir: PathBuf,
}

impl Manners for Named {
    async fn converse(&self, stream: TcpStream) -> io::Result<()> {
        let mut wire = Wire::new(stream);
        while let Some(line) = wire.line().await? {
            match line.split_once(' ') {
                None if line == "name" => wire.write(format!("{}\n", self.name).as_bytes()).await?,
                Some(("send", file)) => wire.write(&std::fs::read(self.dir.join(file))?).await?,
                Some(("take", len)) => {
                    let bytes = wire.bytes(len.parse().map_err(io::Error::other)?).await?;
                    std::fs::write(self.dir.join(format!("{}.taken", self.name)), bytes)?;
                    wire.write(b"taken\n").await?;
                }
                Some(("GET", _)) => {
                    while wire.line().await?.is_some_and(|line| line != "\r") {}
                    let len = self.name.len() + 1;
                    let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {len}\r\n\r\n");
                    return wire.write(format!("{head}{}\n", self.name).as_bytes()).await;
                }
                _ => return Err(io::Error::other(format!("what is {line:?}?"))),
            }
        }
        Ok(())
    }

    fn answer(&self, query: &[u8]) -> Vec<u8> {
        answer(query, &self.name)
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
