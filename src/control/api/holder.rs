//! Who holds what only one process can have: a socket, asked of the kernel, for the error of who came second.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use nix::sys::socket::{getsockopt, sockopt};
use socket2::{Domain, SockAddr, Socket, Type};

/// A process that holds what another one wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pid: Option<i32>,
    command: Option<String>,
}

impl Holder {
    /// The process with this number, if it is known.
    pub fn of(pid: Option<i32>) -> Self {
        let line = pid.and_then(|pid| fs::read(format!("/proc/{pid}/cmdline")).ok());
        let command = line.map(|bytes| {
            let words = bytes.split(|&byte| byte == 0).map(|word| word.escape_ascii().to_string());
            words.collect::<Vec<_>>().join(" ").trim_end().to_owned()
        });
        Self { pid, command: command.filter(|command| !command.is_empty()) }
    }

    /// Who accepts at `socket`: none if the socket is left over from a process that is gone, or not there.
    pub(super) fn at(socket: &Path) -> io::Result<Option<Self>> {
        let client = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // A holder whose backlog is full must not hold up this process too.
        client.set_nonblocking(true)?;
        match client.connect(&SockAddr::unix(socket)?) {
            Ok(()) => {
                let credentials = getsockopt(&client, sockopt::PeerCredentials).ok();
                Ok(Some(Self::of(credentials.map(|c| c.pid()).filter(|&pid| pid > 0))))
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => Ok(Some(Self::of(None))),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
                _ => Err(error),
            },
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, &self.command) {
            (Some(pid), Some(command)) => write!(f, "process {pid} (`{command}`)"),
            (Some(pid), None) => write!(f, "process {pid}"),
            (None, _) => f.write_str("a process that cannot be seen from here"),
        }
    }
}
