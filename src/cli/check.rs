//! `xvs check`: is this configuration usable?

use std::collections::BTreeSet;
use std::io::{Write, stderr, stdout};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use super::error::{counted, print_warnings};
use crate::control::config::Config;
use crate::control::wanted::Wanted;

const EXIT_STATUS: &str = "\
Exit status:
  0  the file is usable (there may be warnings)
  1  it is not, or cannot be read: every error is on standard error
  2  the command line is wrong";

/// Checks a configuration file and reports everything that is wrong with it
///
/// Every error and warning is shown with its line, the limit and the cure.
/// Nothing is changed and no privileges are needed, so a file may be checked
/// on another machine than the one it is for.
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
/// The file is not usable.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (config, warnings) = Config::load(&args.config)?;
    tracing::debug!(file = %args.config.display(), "configuration read");
    print_warnings(&warnings);
    let foreign: Vec<_> = foreign_cores(&config).into_iter().chain(foreign_locals(&config)).collect();
    for warning in &foreign {
        writeln!(stderr(), "{}: warning: {warning}", warnings.name())?;
    }
    let verdict = match warnings.problems().len() + foreign.len() {
        0 => "fine".to_owned(),
        odd => format!("usable, with {}", counted(odd, "warning")),
    };
    writeln!(stdout(), "{}: {}: {verdict}", warnings.name(), contents(&config))?;
    Ok(ExitCode::SUCCESS)
}

/// `1 service, 2 servers`, and mark rules if there are any.
fn contents(config: &Config) -> String {
    let Wanted { pools, marks, .. } = &config.wanted;
    let servers = pools.iter().map(|pool| pool.servers.len()).sum();
    let mut all = vec![counted(pools.len(), "service"), counted(servers, "server")];
    if !marks.is_empty() {
        all.push(counted(marks.len(), "mark rule"));
    }
    all.join(", ")
}

/// Local addresses that this machine does not have. No error either, and keepalived may bring them later.
fn foreign_locals(config: &Config) -> Vec<String> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let ip = |address: nix::sys::socket::SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| a.ip().into()))
    };
    let here: BTreeSet<IpAddr> = all.filter_map(|interface| ip(interface.address?)).collect();
    let wanted: BTreeSet<IpAddr> =
        config.wanted.pools.iter().flat_map(|pool| pool.service.locals.addresses()).collect();
    wanted
        .difference(&here)
        .map(|address| {
            format!("local address {address} is not on this machine: `ip addr add {address} dev INTERFACE` if servers are to find it")
        })
        .collect()
}

/// Cores that this machine does not have, or does not let this process use. No error: the file may be for
/// another machine.
fn foreign_cores(config: &Config) -> Vec<String> {
    let Some(here) = core_affinity::get_core_ids() else { return Vec::new() };
    let wanted = config.director.cores.iter().flatten();
    wanted
        .filter(|&&core| here.iter().all(|id| id.id != core))
        .map(|core| format!("core {core} is not available on this machine (see `lscpu -e`)"))
        .collect()
}
