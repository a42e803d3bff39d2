//! `xvs show`: what a running director does, as tables for people and as JSON for programs.
//!
//! | file | owns |
//! | --- | --- |
//! | `table` | aligned columns |
//! | `balance` | services, servers, connections |
//! | `machine` | counters, drops, interfaces, settings |

mod balance;
mod machine;
mod table;

use std::io::{IsTerminal, stdout};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};

use super::client::{EXIT_STATUS, Socket, print};
use crate::control::client::Client;
use balance::ConnectionsArgs;

/// Shortest interval of `--watch` in seconds.
const WATCH_MIN_S: f64 = 0.1;

/// Shows what a running director does
///
/// Tables for people, JSON with --json for programs. Totals and rates are looked
/// at every two seconds, as with ipvsadm.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_STATUS, verbatim_doc_comment)]
pub struct Args {
    #[command(flatten)]
    socket: Socket,
    /// JSON instead of a table
    #[arg(long, global = true)]
    json: bool,
    /// Shows it again every so many seconds, until interrupted
    #[arg(long, short, global = true, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = seconds)]
    watch: Option<f64>,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The director as a whole: version, uptime, sizes
    Info,
    /// Services with their totals and rates
    Services,
    /// Servers of all services, with connections, weight and rates
    Servers {
        /// Only this service's, for example tcp:192.0.2.10:80
        service: Option<crate::director::name::ServiceKey>,
        /// What the columns show
        #[arg(long, value_enum, default_value_t)]
        view: ServersView,
    },
    /// What services do otherwise than the kernel
    Switches {
        /// Only this service's, for example tcp:192.0.2.10:80
        service: Option<crate::director::name::ServiceKey>,
        /// Switches that are as the kernel too, and what they do
        #[arg(long)]
        all: bool,
    },
    /// Connections, and templates of persistence
    Connections(ConnectionsArgs),
    /// Totals and rates of the director and of each worker
    Counters,
    /// Dropped frames by reason
    Drops {
        /// Reasons that never occurred too
        #[arg(long)]
        all: bool,
    },
    /// Interfaces and receive queues
    Interfaces,
    /// Settings named as the kernel's sysctls
    Tunables,
    /// Timeouts of idle connections
    Timeouts,
    /// Rules that give packets a firewall mark
    Marks,
    /// What a reload would change
    Drift,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum ServersView {
    /// Weight and connections
    #[default]
    Load,
    /// Totals
    Totals,
    /// Rates
    Rates,
    /// Thresholds
    Thresholds,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (WATCH_MIN_S..=86_400.0).contains(&seconds) => Ok(seconds),
        Ok(_) => Err(format!("give {WATCH_MIN_S} to 86400 seconds")),
        // `--watch services`: the next word is taken for the seconds.
        Err(_) => Err("this is no number of seconds: write --watch behind the other words".to_owned()),
    }
}

/// Runs the command.
///
/// # Errors
/// No director answers.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut client = args.socket.connect()?;
    let Some(interval) = args.watch else {
        args.show(&mut client)?;
        return Ok(ExitCode::SUCCESS);
    };
    loop {
        if stdout().is_terminal() {
            // Home, and everything below it cleared.
            print("\x1b[H\x1b[2J")?;
        }
        if !args.show(&mut client)? {
            return Ok(ExitCode::SUCCESS);
        }
        sleep(Duration::from_secs_f64(interval));
    }
}

/// The rules that give marks, as `xvs mark list` shows them too.
pub(super) fn marks(client: &mut Client) -> anyhow::Result<String> {
    machine::marks(client, false)
}

impl Args {
    /// False if nobody reads it any more.
    fn show(&self, client: &mut Client) -> anyhow::Result<bool> {
        let json = self.json;
        match &self.what {
            What::Info => machine::info(client, json),
            What::Services => balance::services(client, json),
            What::Servers { service, view } => balance::servers(client, service.as_ref(), *view, json),
            What::Switches { service, all } => balance::switches(client, service.as_ref(), *all, json),
            What::Connections(args) => return balance::connections(client, args, json),
            What::Counters => machine::counters(client, json),
            What::Drops { all } => machine::drops(client, *all, json),
            What::Interfaces => machine::interfaces(client, json),
            What::Tunables => machine::tunables(client, json),
            What::Timeouts => machine::timeouts(client, json),
            What::Marks => machine::marks(client, json),
            What::Drift => machine::drift(client, json),
        }
        .and_then(|text| Ok(print(&text)?))
    }
}
