//! `scenario`: the player of the scenario tests as a program, for a kernel that has IPVS.
//!
//! `scripts/record-transcripts.sh` runs it there, in `scripts/guest.sh`.

mod bare;
mod client;
mod director;
mod icmp;
mod ipvs;
mod lab;
#[allow(dead_code, reason = "shared: no program uses all of it")]
#[path = "../common/netns.rs"]
mod netns;
mod player;
#[allow(dead_code, reason = "shared: no program uses all of it")]
#[path = "../common/process.rs"]
mod process;
#[path = "../common/server.rs"]
mod real_server;
mod script;
mod server;
#[allow(dead_code, reason = "comparing is for the tests")]
mod transcript;
#[allow(dead_code, reason = "shared: no program uses all of it")]
#[path = "../common/wire.rs"]
mod wire;
mod xvs;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use clap::{Parser, ValueEnum};

/// Plays scenarios against a director and prints the transcripts. Needs root.
#[derive(Debug, Parser)]
#[command(name = "scenario")]
struct Arguments {
    /// The director that is played against.
    #[arg(long, value_enum)]
    director: Director,
    /// The binary of xvs.
    #[arg(long, default_value = "xvs")]
    xvs: PathBuf,
    /// How many seconds a client waits for an answer before it counts as none.
    #[arg(long, value_name = "SECONDS", default_value_t = player::PATIENCE.as_secs())]
    patience: u64,
    /// Write each transcript into this directory under its scenario's name instead.
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    /// The scenarios.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Director {
    Ipvs,
    Xvs,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    for file in &arguments.files {
        let name = Path::new(file.file_name().context("a scenario is a file")?);
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let script = script::parse(&text).map_err(|error| anyhow!("{}: {error}", file.display()))?;
        let start = Instant::now();
        let mut lab = lab::Lab::new();
        let director: Box<dyn director::Director> = match arguments.director {
            Director::Ipvs => Box::new(ipvs::Ipvs::start(&lab)),
            Director::Xvs => Box::new(xvs::Director::start(&lab, &arguments.xvs)),
        };
        let patience = Duration::from_secs(arguments.patience);
        let transcript = player::play(&mut lab, director.as_ref(), &script, patience);
        eprintln!("{}: {:.1} s", name.display(), start.elapsed().as_secs_f64());
        match &arguments.write {
            Some(dir) => {
                std::fs::write(dir.join(name), transcript).with_context(|| dir.display().to_string())?
            }
            None => print!("== {}\n{transcript}", name.display()),
        }
    }
    Ok(())
}
