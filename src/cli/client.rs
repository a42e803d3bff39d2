//! What all commands that talk to a running director share: which one it is, and how answers are printed.

use std::io::{self, Write, stdout};
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};
use serde::Serialize;

use crate::control::api::settings::DEFAULT_SOCKET;
use crate::control::client::Client;

/// How all of these commands end.
pub(super) const EXIT_STATUS: &str = "\
Exit status:
  0  xvs did, or would do, what was asked
  1  it refused, or cannot be reached; standard error says why and how to cure it
  2  the command line is wrong";

/// Which director is meant.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Socket {
    /// The running director's socket
    #[arg(
        long,
        global = true,
        env = "XVS_SOCKET",
        hide_env_values = true,
        value_name = "PATH",
        default_value = DEFAULT_SOCKET,
        value_parser = OsStringValueParser::new().map(PathBuf::from)
    )]
    socket: PathBuf,
}

impl Socket {
    /// A client of it.
    pub(super) fn connect(&self) -> io::Result<Client> {
        // A variable that is set to nothing is not set, as ipvsadm has it too.
        let is_empty = self.socket.as_os_str().is_empty();
        Client::connect(if is_empty { Path::new(DEFAULT_SOCKET) } else { &self.socket })
    }
}

/// Prints `text` to standard output. False if its reader went away, which is no error.
pub(super) fn print(text: &str) -> io::Result<bool> {
    let mut out = stdout().lock();
    is_read(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Whether what was written to standard output is read by somebody.
pub(super) fn is_read(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true),
    }
}

/// As JSON for programs, indented for people who look at it.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}
