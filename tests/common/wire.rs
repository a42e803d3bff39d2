//! A TCP connection that speaks lines and counted bytes; what client and server share.
//!
//! Taken into each test binary by `#[path]`.

use std::io::{self, ErrorKind};

use tokio::net::TcpStream;

/// See the module.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Wire {
    /// Wraps a connected stream.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, unread: Vec::new() }
    }

    /// Writes all of `bytes`.
    pub async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.stream.writable().await?;
            match self.stream.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The next line without its end, `None` at the end of the stream.
    pub async fn line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
                let line = self.unread.drain(..=end).take(end).collect();
                return String::from_utf8(line).map(Some).map_err(io::Error::other);
            }
            if self.more().await? == 0 {
                return Ok(None);
            }
        }
    }

    /// The next `len` bytes.
    pub async fn bytes(&mut self, len: usize) -> io::Result<Vec<u8>> {
        while self.unread.len() < len {
            if self.more().await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        let rest = self.unread.split_off(len);
        Ok(std::mem::replace(&mut self.unread, rest))
    }

    /// Sends one line and takes one as the answer.
    pub async fn ask(&mut self, question: &str) -> io::Result<String> {
        self.write(format!("{question}\n").as_bytes()).await?;
        self.line().await?.ok_or_else(|| ErrorKind::UnexpectedEof.into())
    }

    async fn more(&mut self) -> io::Result<usize> {
        loop {
            self.stream.readable().await?;
            let mut chunk = [0; 16 * 1024];
            match self.stream.try_read(&mut chunk) {
                Ok(count) => {
                    self.unread.extend(&chunk[..count]);
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}
