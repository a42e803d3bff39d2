//! `xvs doctor INTERFACE...`: is this machine fit to be a director, and if not, which command cures it?
//!
//! Looks only; changes nothing. Gathering ([`facts`]) and judging ([`findings`], pure) are apart.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use crate::control::config::Config;
use crate::xdp::options::SocketOptions;

pub mod facts;
pub mod findings;
mod host;
mod interface;
mod mtu;
mod offload;
mod power;
mod report;
mod xdp;

pub use findings::{Finding, Severity};

/// Checks whether this machine is fit to be a director, and says what cures it
#[derive(Clone, Debug, clap::Args)]
pub struct DoctorArgs {
    /// Interfaces that the director uses, as `ip link` lists them
    #[arg(required = true, value_name = "INTERFACE")]
    pub interfaces: Vec<String>,
    /// Also check that the services' addresses in this configuration are on this host, that frames fit its
    /// `frame_bytes`, and what its `busy_poll` needs
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Examines the interfaces and prints what was found. Exit status 0 when nothing fails, 1 otherwise.
///
/// # Errors
/// When the examination itself is impossible: no netlink, no output, a configuration that is not usable.
pub fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let mut vips = Vec::new();
    let SocketOptions { chunk_len: mut frame_bytes, mut busy_poll, .. } = SocketOptions::default();
    if let Some(file) = &args.config {
        let (config, _) = Config::load(file)?;
        frame_bytes = config.director.frame_bytes;
        busy_poll = config.director.busy_poll;
        vips = config.wanted.pools.iter().filter_map(|pool| pool.service.key.vip()).collect();
        vips.sort_unstable();
        vips.dedup();
    }
    let findings = doctor(&args.interfaces, &vips, frame_bytes, busy_poll)?;
    report::print(&findings).context("cannot print the findings")?;
    let failed = findings.iter().any(|finding| finding.severity == Severity::Fail);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Examines the interfaces of the calling thread's network namespace, for chunks of `frame_bytes` each and
/// workers that poll all the time or not.
///
/// # Errors
/// When the examination itself is impossible.
pub fn doctor(
    interfaces: &[String],
    vips: &[IpAddr],
    frame_bytes: u32,
    busy_poll: bool,
) -> anyhow::Result<Vec<Finding>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a tokio runtime")?;
    let facts = runtime.block_on(facts::gather(interfaces)).context("cannot examine the interfaces")?;
    Ok(findings::judge(&facts, vips, frame_bytes, busy_poll))
}
