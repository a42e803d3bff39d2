//! The commands of `xvs`, one file each.
//!
//! A command is a module with `Args` (clap) and `run(Args) -> anyhow::Result<ExitCode>`: adding one is a
//! variant of `Command` and an arm of its `run`. Errors come back here and are printed once.

pub mod change;
pub mod check;
mod client;
pub mod doctor;
mod error;
pub mod ipvsadm;
mod logging;
pub mod paper;
pub mod run;
pub mod show;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXIT_STATUS: &str = "\
Exit status:
  0  the command did what it says
  1  it could not, or found something wrong; standard error says what and how to cure it
  2  the command line is wrong";

/// XDP Virtual Server: layer 4 load balancing as with Linux IPVS, in user space over AF_XDP.
#[derive(Debug, Parser)]
#[command(name = "xvs", version, about, after_help = EXIT_STATUS)]
struct CommandLine {
    #[command(flatten)]
    logging: logging::Args,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Check(check::Args),
    Doctor(doctor::DoctorArgs),
    Ipvsadm(ipvsadm::Args),
    Show(show::Args),
    Set(change::SetArgs),
    Mark(change::MarkArgs),
    Drain(change::DrainArgs),
    Down(change::DownArgs),
    Up(change::UpArgs),
    Reload(change::ReloadArgs),
    Save(change::SaveArgs),
    Completions(paper::CompletionsArgs),
    Man(paper::ManArgs),
}

impl Command {
    fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Command::Run(args) => run::run(&args),
            Command::Check(args) => check::run(&args),
            Command::Doctor(args) => doctor::run(&args),
            Command::Ipvsadm(args) => ipvsadm::run(args),
            Command::Show(args) => show::run(&args),
            Command::Set(args) => change::set(&args),
            Command::Mark(args) => change::mark(&args),
            Command::Drain(args) => change::drain(&args),
            Command::Down(args) => change::down(&args),
            Command::Up(args) => change::up(&args),
            Command::Reload(args) => change::reload(&args),
            Command::Save(args) => change::save(&args),
            Command::Completions(args) => paper::completions(&args),
            Command::Man(args) => paper::man(&args),
        }
    }
}

/// Runs the command line; the process's exit status comes back. The words of ipvsadm are its own to read.
pub fn main() -> ExitCode {
    if let Some(status) = ipvsadm::main(std::env::args_os()) {
        return status;
    }
    let CommandLine { logging, command } = CommandLine::parse();
    logging.start();
    command.run().unwrap_or_else(|error| {
        error::print(&error);
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::CommandLine::command().debug_assert();
    }
}
