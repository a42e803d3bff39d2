//! The configuration file: TOML in the words of LVS, read whole, refused whole.
//!
//! ```text
//!  text ──> toml's spanned tree ──> walk (director, service, ...) ──> drafts ──> cross-checks ──> Config
//!   ^                                 │  reader: asks a table for its keys           │              │
//!   │                                 │  value: one value, typed and in range        │              │
//!   │                                 └──────────> report: every problem <───────────┘              │
//!   └───────────────────────────────────── write: what has no default <─────────────────────────────┘
//! ```
//!
//! Nothing stops at the first error: whoever edits a file of a thousand services sees all that is wrong
//! with it in one run, each with its place, the limit and the cure. Either a file yields a [`Config`] in
//! which every value is within its limits, or it changes nothing.
//!
//! Of services, servers and marks, refused is exactly what the director refuses. What it takes but cannot forward, or
//! what has no effect, is a warning: `ipvsadm` may have put it there, and what is running can always be written and
//! read again.
//!
//! Must not know: the machine it runs on (`xvs doctor` and `xvs run` look at that), workers, sockets.

mod address;
mod api;
mod cross;
mod director;
mod escape;
mod flags;
mod locals;
mod mark;
mod reader;
mod report;
mod server;
mod service;
mod settings;
mod switches;
mod syntax;
mod value;
mod words;
mod write;

#[cfg(test)]
pub(super) mod any;
#[cfg(test)]
mod example;
#[cfg(test)]
mod refusals;

use std::fs::File;
use std::io::Read;
use std::path::Path;

pub use api::{Api, SOCKET, SOCKET_MODE};
pub use director::{
    BUSY_POLL, CONNECTIONS, Director, FRAME_BYTES, HUGE_PAGES, IDLE_SPIN_US, MAX_CORE, MAX_INTERFACES,
    OFFLOAD_AFTER, OFFLOAD_FLOWS, Offload, PASS_LIMIT, Pass, RING_FRAMES, WATCH, XdpMode, ZeroCopy,
};
pub use report::{ConfigErrors, Problem, Report, Severity, Style, Warnings};
pub use service::{MAX_SERVERS, MAX_SERVICES, PERSISTENCE_S};
pub use write::write;

use super::wanted::Wanted;
pub(super) use flags::set as flags_set;
use reader::Table;
use report::Problems;
pub(super) use write::{Key, api_keys, director_keys};

/// Largest configuration file that is read, in bytes: more than [`MAX_SERVERS`] servers with all of their keys need.
pub const MAX_FILE_BYTES: usize = 64 << 20;

/// Everything an operator decides, checked: each value is within its limits and no two contradict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The machine's part: interfaces, cores, memory.
    pub director: Director,
    /// Where it is asked and told.
    pub api: Api,
    /// What may change while it runs: services, marks, timeouts, tunables.
    pub wanted: Wanted,
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// The file cannot be read, is larger than [`MAX_FILE_BYTES`], or anything in it is wrong: all of it
    /// at once, together with the warnings.
    pub fn load(path: &Path) -> Result<(Self, Warnings), ConfigErrors> {
        let name = path.display().to_string();
        match read(path) {
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Self::parse(&name, &text),
                Err(error) => Err(not_utf8(&name, &error)),
            },
            Err(error) => {
                let mut problems = Problems::default();
                problems
                    .error(None, format!("the configuration file cannot be read: {error}"))
                    .cure("check the path and who may read it");
                Err(ConfigErrors(problems.into_report(&name, "")))
            }
        }
    }

    /// Reads a configuration from `text`; `name` is what problems call it.
    ///
    /// # Errors
    /// Anything in it is wrong: all of it at once, together with the warnings.
    pub fn parse(name: &str, text: &str) -> Result<(Self, Warnings), ConfigErrors> {
        let mut problems = Problems::default();
        let config = walk(text, &mut problems);
        let refused = problems.has_errors();
        debug_assert!(config.is_some() || refused, "what is missing has been reported");
        let report = problems.into_report(name, text);
        match config {
            Some(config) if !refused => Ok((config, report)),
            _ => Err(ConfigErrors(report)),
        }
    }
}

/// From text to values; `None`, or any error in `problems`, means that the file is refused.
fn walk(text: &str, problems: &mut Problems) -> Option<Config> {
    let document = syntax::parse(text, problems)?;
    let mut top = Table::new(words::TOP, None, document.get_ref(), problems);
    let director = top.table("director", director::director);
    let api = top.optional_table("api", api::api);
    let timeouts = top.optional_table("timeouts", settings::timeouts);
    let tunables = top.optional_table("tunables", settings::tunables);
    let marks = top.tables("mark", mark::marks);
    let services = top.tables("service", service::services);
    top.finish();

    let (rules, drafts) = (marks.as_deref().unwrap_or_default(), services.as_deref().unwrap_or_default());
    cross::services(drafts, problems);
    if director.as_ref().is_some_and(|director| director.pass == Pass::Off) {
        cross::local_servers(drafts, problems);
    }
    cross::marks(rules, drafts, problems);
    if let Some(listen) = api.as_ref().and_then(|api| api.as_ref()?.listen) {
        cross::listen(listen, drafts, problems);
    }
    if services.as_ref().is_some_and(Vec::is_empty) {
        problems
            .warning(None, "there is no service: every packet is left to the kernel")
            .cure("add a [[service]]");
    }
    Some(Config {
        director: director?,
        api: api?.unwrap_or_default(),
        wanted: Wanted {
            pools: services?.into_iter().map(service::Draft::finish).collect::<Option<_>>()?,
            marks: marks?.into_iter().map(|draft| draft.rule).collect::<Option<_>>()?,
            timeouts: timeouts?.unwrap_or_default(),
            tunables: tunables?.unwrap_or_default(),
        },
    })
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(std::io::Error::other(format!(
            "it is larger than {} MiB; is this the right file?",
            MAX_FILE_BYTES >> 20
        )));
    }
    Ok(bytes)
}

fn not_utf8(name: &str, error: &std::string::FromUtf8Error) -> ConfigErrors {
    let at = error.utf8_error().valid_up_to();
    let text = String::from_utf8_lossy(error.as_bytes());
    let mut problems = Problems::default();
    problems
        .error(Some(at..at), format!("byte {:#04x} is not UTF-8", error.as_bytes()[at]))
        .cure("save the file as UTF-8, the only encoding TOML knows");
    ConfigErrors(problems.into_report(name, &text))
}
