//! `xvs ipvsadm ...`, and `ipvsadm` as a link to xvs: the command line of ipvsadm 1.31, to the byte.
//!
//! | file | owns |
//! | --- | --- |
//! | `popt`, `options` | words to options |
//! | `read`, `asked`, `decide`, `rules`, `address`, `flags`, `numbers` | options to a `request` |
//! | `session`, `restore` | requests carried out, one or a file of them |
//! | `scripts` | ipvsadm-save and ipvsadm-restore, the scripts beside it |
//! | `render`, `order`, `names` | what is listed, and in which order |
//! | `messages`, `stop` | what is said, and the exit status |
//! | `director` | what is needed of a running director |
//!
//! What the director means is for it to say; what ipvsadm makes of words, and how a table looks, is here. Where they
//! differ from ipvsadm on purpose: help and version need no director; no synchronisation daemon can be started;
//! `-b ,` is refused, where ipvsadm crashes.

mod address;
mod asked;
mod decide;
mod director;
mod flags;
mod messages;
mod names;
mod numbers;
mod options;
mod order;
mod popt;
mod read;
mod render;
#[cfg(test)]
mod replay;
mod request;
mod restore;
mod rules;
mod scripts;
mod session;
mod stop;

use std::ffi::OsString;
use std::io::{self, BufWriter, Write, stderr, stdin, stdout};
use std::path::Path;
use std::process::ExitCode;

use self::names::Names;
use self::session::{Session, reason};
use self::stop::{Stop, WRONG};

/// What a shell says of a program that wrote into a closed pipe: SIGPIPE.
const CLOSED_PIPE: u8 = 128 + 13;

/// Bytes of a listing that are written at once: what a pipe holds.
const WRITTEN_AT_ONCE: usize = 64 << 10;

/// Lists and changes services and servers with the words of ipvsadm
///
/// Takes the arguments of ipvsadm 1.31 and answers as it does. A link to xvs
/// by the name of ipvsadm, ipvsadm-save or ipvsadm-restore is that program.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true, verbatim_doc_comment)]
pub struct Args {
    /// The arguments of ipvsadm: `xvs ipvsadm -h` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    words: Vec<OsString>,
}

/// Runs the command.
///
/// # Errors
/// None: it says itself what is wrong, as ipvsadm does.
#[allow(clippy::unnecessary_wraps, reason = "as every command")]
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    Ok(Program::Ipvsadm.run("ipvsadm", args.words))
}

/// A program that xvs can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Ipvsadm,
    Save,
    Restore,
}

impl Program {
    fn by_name(name: &Path) -> Option<Self> {
        match name.file_name()?.to_str()? {
            "ipvsadm" => Some(Self::Ipvsadm),
            "ipvsadm-save" => Some(Self::Save),
            "ipvsadm-restore" => Some(Self::Restore),
            _ => None,
        }
    }

    fn run(self, name: &str, words: Vec<OsString>) -> ExitCode {
        let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let status = match self {
            Self::Ipvsadm => ipvsadm(name, &words),
            Self::Save => scripts::save(name, &words),
            Self::Restore => scripts::restore(),
        };
        match status {
            Ok(status) => ExitCode::from(status),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(CLOSED_PIPE),
            Err(error) => {
                // Nobody is left to tell if standard error is closed.
                let _ = writeln!(stderr(), "{name}: {}", reason(&error));
                ExitCode::FAILURE
            }
        }
    }
}

/// If this process was started as ipvsadm, or is to be: runs it. Its words mean what ipvsadm says they mean, so
/// nobody else may look at them before.
pub(super) fn main(mut words: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let name = words.next()?;
    if let Some(program) = Program::by_name(Path::new(&name)) {
        return Some(program.run(&name.to_string_lossy(), words.collect()));
    }
    (words.next()? == "ipvsadm").then(|| Program::Ipvsadm.run("ipvsadm", words.collect()))
}

/// Runs ipvsadm with this process's input and output.
fn ipvsadm(program: &str, words: &[String]) -> io::Result<u8> {
    let (mut out, mut err) = (BufWriter::with_capacity(WRITTEN_AT_ONCE, stdout().lock()), stderr().lock());
    if let Some(stop) = read::without_director(program, words) {
        out.write_all(stop.answer.as_bytes())?;
        out.flush()?;
        return Ok(stop.status);
    }
    let director = match director::connect() {
        Ok(director) => director,
        Err(error) => {
            err.write_all(unconnected(&error).message.as_bytes())?;
            return Ok(WRONG);
        }
    };
    let mut session = Session { program, director, names: Names::system(), out: &mut out, err: &mut err };
    session.run(words, stdin().lock())
}

fn unconnected(error: &io::Error) -> Stop {
    Stop::new(
        WRONG,
        format!(
            "Can't initialize ipvs: {}\nIs xvs running? It should listen on {}: start it with `xvs run --config FILE`.",
            reason(error),
            director::socket().display()
        ),
    )
}
