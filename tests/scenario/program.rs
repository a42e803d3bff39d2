//! `scenario`: the player of the scenario tests as a program, for a kernel that has IPVS.
//!
//! `scripts/record-transcripts.sh` runs it there, in `scripts/guest.sh`.

mod bare;
mod client;
#[allow(dead_code, reason = "shared: nobody counts here")]
#[path = "../traffic/decapsulator.rs"]
mod decapsulator;
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
mod random;
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
///
/// Without a director it prints the scenarios themselves.
#[derive(Debug, Parser)]
#[command(name = "scenario")]
struct Arguments {
    /// The director that is played against.
    #[arg(long, value_enum)]
    director: Option<Director>,
    /// The binary of xvs.
    #[arg(long, default_value = "xvs")]
    xvs: PathBuf,
    /// Have xvs offload whatever can be.
    #[arg(long)]
    offload: bool,
    /// How many seconds a client waits for an answer before it counts as none.
    #[arg(long, value_name = "SECONDS", default_value_t = player::PATIENCE.as_secs())]
    patience: u64,
    /// Write each transcript into this directory under its scenario's name instead.
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    /// Random scenarios, after the others: SEED.txt is the name of each.
    #[arg(long, value_name = "SEED", num_args = 1..)]
    random: Vec<u64>,
    /// The scenarios.
    #[arg(required_unless_present = "random")]
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
        arguments.play(name, &text)?;
    }
    for &seed in &arguments.random {
        arguments.play(Path::new(&format!("{seed}.txt")), &random::scenario(seed))?;
    }
    Ok(())
}

impl Arguments {
    fn play(&self, name: &Path, text: &str) -> Result<()> {
        let script = script::parse(text).map_err(|error| anyhow!("{}: {error}", name.display()))?;
        let start = Instant::now();
        let result = match self.director {
            None => text.to_owned(),
            Some(director) => {
                let mut lab = lab::Lab::new(&script);
                let director: Box<dyn director::Director> = match director {
                    Director::Ipvs => Box::new(ipvs::Ipvs::start(&lab)),
                    Director::Xvs => Box::new(xvs::Director::start(&lab, &self.xvs, self.offload)),
                };
                let patience = Duration::from_secs(self.patience);
                player::play(&mut lab, director.as_ref(), &script, patience)
            }
        };
        eprintln!("{}: {:.1} s", name.display(), start.elapsed().as_secs_f64());
        match &self.write {
            Some(dir) => std::fs::write(dir.join(name), result).with_context(|| dir.display().to_string())?,
            None => print!("== {}\n{result}", name.display()),
        }
        Ok(())
    }
}
