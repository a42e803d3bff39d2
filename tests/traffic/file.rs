//! A file that a connection carries: down from the server and up to it, compared byte by byte.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::client::{connect, patiently, within};
use crate::lab::Lab;
use crate::wire::Wire;

/// A file without a pattern that a checksum could miss, which every server of the lab can send.
#[derive(Debug)]
pub struct File<'l> {
    lab: &'l Lab,
    bytes: Vec<u8>,
    limit: Duration,
}

impl<'l> File<'l> {
    /// One of so many bytes, which goes each way within `limit`.
    pub fn new(lab: &'l Lab, len: usize, limit: Duration) -> Self {
        let bytes: Vec<u8> = (0..len).map(|_| fastrand::u8(..)).collect();
        std::fs::write(lab.dir().join("file"), &bytes).expect("file written");
        Self { lab, bytes, limit }
    }

    /// What is in it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// From the server.
    pub async fn down(&self, wire: &mut Wire) {
        wire.write(b"send file\n").await.expect("asked");
        let got = within(self.limit, wire.bytes(self.bytes.len())).await.expect("the whole file");
        assert!(got == self.bytes, "another file came down");
    }

    /// To the server, whose name comes back.
    pub async fn up(&self, wire: &mut Wire) -> String {
        let name = patiently(wire.ask("name")).await.expect("name");
        let upload = async {
            wire.write(format!("take {}\n", self.bytes.len()).as_bytes()).await?;
            wire.write(&self.bytes).await?;
            wire.line().await
        };
        assert_eq!(within(self.limit, upload).await.expect("sent").as_deref(), Some("taken"), "by {name}");
        let taken = std::fs::read(self.lab.dir().join(format!("{name}.taken"))).expect("taken");
        assert!(taken == self.bytes, "another file came up to {name}");
        name
    }

    /// Down and then up on one connection, which is left open. The server's name comes back.
    pub async fn both_ways(&self, from: impl Into<IpAddr>, vip: impl Into<SocketAddr>) -> (String, Wire) {
        let mut wire = opened(from.into(), vip.into()).await;
        self.down(&mut wire).await;
        (self.up(&mut wire).await, wire)
    }

    /// Up on a new connection, which is left open. The server's name comes back.
    pub async fn up_by(&self, from: impl Into<IpAddr>, vip: impl Into<SocketAddr>) -> (String, Wire) {
        let mut wire = opened(from.into(), vip.into()).await;
        (self.up(&mut wire).await, wire)
    }

    /// Up and then down on one connection, which is closed then. The server's name comes back.
    pub async fn up_and_down(&self, from: impl Into<IpAddr>, vip: impl Into<SocketAddr>) -> String {
        let (name, mut wire) = self.up_by(from, vip).await;
        self.down(&mut wire).await;
        name
    }
}

async fn opened(from: IpAddr, vip: SocketAddr) -> Wire {
    connect(from, vip).await.unwrap_or_else(|error| panic!("{from} to {vip}: {error}"))
}
