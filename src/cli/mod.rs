//! The commands of `xvs`, one file each.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod doctor;

#[derive(Debug, Parser)]
struct Xvs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Checks whether this machine is fit to be a director, and says what cures it
    Doctor(doctor::DoctorArgs),
}

/// Runs the command line; the process's exit status comes back.
pub fn main() -> ExitCode {
    let Command::Doctor(arguments) = Xvs::parse().command;
    doctor::run(&arguments, &[]).unwrap_or_else(|error| {
        eprintln!("xvs: {error:#}");
        ExitCode::FAILURE
    })
}
