//! `xvs run`: the director in the foreground. Puts all rooms together and takes them apart again.
//!
//! ```text
//! configuration -> mirror of the kernel's network -> steering attached, nothing ours yet
//!   -> sockets of every queue -> workers -> what is ours -> ready
//! signal -> nothing ours any more -> workers drain -> report
//! ```
//!
//! Whatever fails on the way up takes down what was built so far: links and sockets close with their
//! owners, so nothing stays attached, however the process ends.

mod api;
mod holder;
mod host;
mod machine;
mod missing;
mod offload;
mod pass;
mod report;
mod rules;
mod running;
mod start;

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::doctor;
use crate::control::config::Config;
use running::Running;

/// How often worker threads and the host's addresses are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How often the interfaces' queues are counted.
const LOOK_AT_QUEUES: Duration = Duration::from_secs(1);

/// How long the last report may take to print.
const SAY_MAX: Duration = Duration::from_secs(2);

const EXIT_STATUS: &str = "\
Signals:
  SIGTERM, SIGINT  forward what has arrived, print the report, end
  SIGUSR1          print the report and go on
  SIGHUP           read the configuration file again, as `xvs reload` does

Exit status:
  0  ended by SIGTERM or SIGINT
  1  it could not start, or could not go on; standard error says why and how to cure it
  2  the command line is wrong";

/// Runs the director in the foreground
///
/// Takes the packets of the configured services from the configured
/// interfaces, on all of their receive queues, and forwards them. Everything
/// else stays with the kernel.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_STATUS, verbatim_doc_comment)]
pub struct Args {
    /// The configuration file (TOML)
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// The configuration is not usable, the machine cannot do what it asks for, or a worker failed.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (config, warnings) = Config::load(&args.config)?;
    for line in warnings.lines() {
        tracing::warn!("{line}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the control thread's runtime")?;
    let path = std::path::absolute(&args.config).unwrap_or_else(|_| args.config.clone());
    runtime.block_on(direct(&path, &config))
}

async fn direct(path: &Path, config: &Config) -> anyhow::Result<ExitCode> {
    // Before anything is attached, so that no signal finds the process unprepared.
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut ask = listen(SignalKind::user_defined1())?;
    let mut reload = listen(SignalKind::hangup())?;

    point_to_doctor(path, config).await;
    let mut running = Running::start(path, config).await?;
    tracing::info!(
        interfaces = config.director.interfaces.join(" "),
        queues = running.queues(),
        services = config.wanted.pools.len(),
        "ready: forwarding"
    );

    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut look_at_queues = interval(LOOK_AT_QUEUES);
    look_at_queues.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !running.has_failed() {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = ask.recv() => drop(say(running.report())),
            _ = reload.recv() => running.reload(),
            _ = look.tick() => running.tick(),
            _ = look_at_queues.tick() => {
                running.look_at_queues().await;
                running.look_at_exits().await;
                if config.director.watch {
                    running.plane().reload_if_changed();
                }
            }
        }
    }
    tracing::info!("stopping: forwarding what has arrived");
    let stopped = running.stop().await;
    let _nobody_reads = timeout(SAY_MAX, say(stopped.report)).await;
    match stopped.failures.as_slice() {
        [] => Ok(ExitCode::SUCCESS),
        failures => bail!("{}", failures.join("; ")),
    }
}

/// Says so if `xvs doctor` has something to say about these interfaces: offloads, for one, let everything look right
/// and let nothing through.
async fn point_to_doctor(path: &Path, config: &Config) {
    let interfaces = &config.director.interfaces;
    if let Ok(facts) = doctor::facts::gather(interfaces).await {
        let findings =
            doctor::findings::judge(&facts, &[], config.director.frame_bytes, config.director.busy_poll);
        let troubles = findings.iter().filter(|finding| match finding.severity {
            doctor::Severity::Ok => false,
            // That it cannot be seen is no trouble.
            doctor::Severity::Warn => finding.check != doctor::findings::OTHER_END,
            doctor::Severity::Fail => true,
        });
        let cures = troubles.count();
        if cures > 0 {
            tracing::warn!(
                "{cures} findings about these interfaces: see `xvs doctor --config {} {}`",
                path.display(),
                interfaces.join(" ")
            );
        }
    }
}

/// Prints `report` from a thread of its own: standard output may be closed, or a pipe that nobody empties, and
/// neither is a reason to stop forwarding.
fn say(report: String) -> oneshot::Receiver<()> {
    let (done, said) = oneshot::channel();
    std::thread::spawn(move || {
        let _closed = stdout().write_all(report.as_bytes()).and_then(|()| stdout().flush());
        let _given_up = done.send(());
    });
    said
}

fn listen(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("cannot listen for signals")
}
