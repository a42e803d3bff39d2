//! The log: on standard error, as text for people or as JSON for machines.

use std::io::{IsTerminal, stderr};

use clap::error::ErrorKind;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// The environment's word on how much is logged; `--log` overrides it.
const VARIABLE: &str = "XVS_LOG";
const DEFAULT: &str = "info";

/// Options that every command takes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Log")]
pub(super) struct Args {
    /// How much is logged: off, error, warn, info, debug, trace [default: info]
    ///
    /// Single modules may differ: `info,xvs::net=debug`.
    /// The environment variable XVS_LOG says the same with less priority.
    #[arg(long, value_name = "LEVEL", global = true, value_parser = checked, verbatim_doc_comment)]
    log: Option<String>,
    /// Form of the log, which goes to standard error
    #[arg(long, value_name = "FORMAT", global = true, value_enum, default_value_t = Format::Text)]
    log_format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A line of text for each event
    Text,
    /// A JSON object on a line for each event
    Json,
}

impl Args {
    /// Starts the log of the process; ends the process with status 2 if `XVS_LOG` cannot be understood.
    pub fn start(self) {
        let wanted = self.log.or_else(|| std::env::var(VARIABLE).ok().filter(|v| !v.is_empty()));
        let filter = filter(wanted.as_deref().unwrap_or(DEFAULT)).unwrap_or_else(|reason| {
            let message = format!("invalid value in the environment variable {VARIABLE}: {reason}\n");
            clap::Error::raw(ErrorKind::InvalidValue, message).exit()
        });
        // A log that cannot be written is no reason to stop: by default the failure would be printed, to the same
        // closed standard error, which panics.
        let log =
            tracing_subscriber::fmt().with_writer(stderr).with_env_filter(filter).log_internal_errors(false);
        match self.log_format {
            Format::Text => log.with_ansi(stderr().is_terminal()).init(),
            Format::Json => log.json().flatten_event(true).init(),
        }
    }
}

fn checked(value: &str) -> Result<String, String> {
    filter(value).map(|_| value.to_owned())
}

/// Understands a filter. A word without `=` must be a level: it could be a module too, but then
/// a slip such as `inof` would silence everything else.
fn filter(value: &str) -> Result<EnvFilter, String> {
    for word in value.split(',').filter(|w| !w.contains('=')) {
        if word.is_empty() || word.parse::<LevelFilter>().is_err() {
            return Err(format!(
                "`{word}` is not a level: use off, error, warn, info, debug or trace, or MODULE=LEVEL"
            ));
        }
    }
    EnvFilter::try_new(value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_modules_are_understood_and_slips_are_not() {
        for good in ["info", "off", "warn,xvs::net=debug", "xvs=trace"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["inof", "", "info,,", "xvs=loud", "info,xvs"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }
}
