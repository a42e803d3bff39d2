//! What all commands that talk to a running director share: which one it is, and how answers are printed.

use std::io::{self, Write, stdout};
use std::path::PathBuf;

use serde::Serialize;

use crate::control::client::Client;

/// Which director is meant.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Socket {
    /// The running director's socket
    #[arg(long, env = "XVS_SOCKET", value_name = "PATH", default_value = crate::control::api::settings::DEFAULT_SOCKET)]
    socket: PathBuf,
}

impl Socket {
    /// A client of it.
    pub(super) fn connect(&self) -> io::Result<Client> {
        Client::connect(&self.socket)
    }
}

/// Prints `text` to standard output; a reader that went away is no error.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut out = stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// As JSON for programs, indented for people who look at it.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}
