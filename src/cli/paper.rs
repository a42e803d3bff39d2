//! `xvs completions` and `xvs man`: what the command line knows of itself, for shells and for readers.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::CommandFactory;

use super::CommandLine;

/// Prints the completions of a shell
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// bash, zsh, fish, elvish or powershell
    shell: clap_complete::Shell,
}

/// `xvs completions`.
///
/// # Errors
/// None: a reader that went away ends it quietly.
pub fn completions(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut CommandLine::command(), "xvs", &mut text);
    super::client::print(&String::from_utf8(text)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the man pages, one for each command
///
/// Into the folder man8 of a folder that `manpath` lists, for example, they
/// are found by man: `xvs man /usr/local/share/man/man8`.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ManArgs {
    /// The folder they are put into, made if it is not there; without it xvs(8)
    /// goes to standard output
    folder: Option<PathBuf>,
}

/// `xvs man`.
///
/// # Errors
/// The folder cannot be written to.
pub fn man(args: &ManArgs) -> anyhow::Result<ExitCode> {
    let mut command = CommandLine::command().disable_help_subcommand(true);
    match &args.folder {
        None => drop(super::client::print(&String::from_utf8(page(&command)?)?)?),
        Some(folder) => {
            command.build();
            std::fs::create_dir_all(folder)
                .and_then(|()| write_all(&command, folder))
                .with_context(|| format!("cannot write man pages to {}", folder.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn page(command: &clap::Command) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let page = clap_mangen::Man::new(command.clone()).section("8").manual("XDP Virtual Server");
    page.source(concat!("xvs ", env!("CARGO_PKG_VERSION"))).render(&mut text)?;
    Ok(text)
}

fn write_all(command: &clap::Command, folder: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    std::fs::write(folder.join(format!("{name}.8")), page(command)?)?;
    command.get_subcommands().filter(|c| !c.is_hide_set()).try_for_each(|c| write_all(c, folder))
}
