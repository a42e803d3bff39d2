//! What the real servers say: their names.
//!
//! A connection is greeted with the name, and `ping` is answered with it again; at anything else, the end of
//! the stream included, the server closes. Every datagram is answered with the name.

use std::io;

use tokio::net::TcpStream;

use crate::real_server::Manners;
use crate::wire::Wire;

/// A server of this name.
#[derive(Debug)]
pub struct Named(pub &'static str);

impl Named {
    fn line(&self) -> Vec<u8> {
        format!("{}\n", self.0).into_bytes()
    }
}

impl Manners for Named {
    async fn converse(&self, stream: TcpStream) -> io::Result<()> {
        let mut wire = Wire::new(stream);
        loop {
            wire.write(&self.line()).await?;
            if wire.line().await?.as_deref() != Some("ping") {
                return Ok(());
            }
        }
    }

    fn answer(&self, _query: &[u8]) -> Vec<u8> {
        self.line()
    }
}
