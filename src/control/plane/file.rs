//! The configuration file and the running state: reload, drift, save.
//!
//! **Who is right.** The file says what is wanted at the start and at every reload; commands and `ipvsadm` change
//! what runs, not the file. A reload makes everything that may change at run time what the file says: a service that
//! was only added by `ipvsadm` is deleted, a weight or timeout goes back to the file's. Drift is that difference;
//! saving the running state over the file makes it nothing.
//!
//! What needs a restart (`[director]`, `[api]`) is said at every reload and changes nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::ControlPlane;
use crate::control::command::{Code, Refusal};
use crate::control::config::{Config, ConfigErrors, write};
use crate::control::difference::{difference, difference_needing_restart};
use crate::control::view::DriftView;
use crate::control::wanted::Wanted;

/// Changes of one reload that are logged: a log that nobody reads must not fill its pipe.
const MAX_LOGGED: usize = 100;

/// The file that the director was started with, and what it said then.
#[derive(Debug)]
pub(super) struct Origin {
    path: PathBuf,
    config: Config,
    seen: Option<Stamp>,
}

/// What changes when a file is written, or another is put in its place.
type Stamp = (u64, u64, SystemTime);

fn stamp(path: &Path) -> Option<Stamp> {
    let data = fs::metadata(path).ok()?;
    Some((data.ino(), data.len(), data.modified().ok()?))
}

impl Origin {
    fn load(&self) -> Result<Config, Refusal> {
        // A pipe would keep the control thread waiting.
        if fs::metadata(&self.path).is_ok_and(|there| !there.is_file()) {
            let message = format!("{} is no file: only a file can be read again", self.path.display());
            return Err(Refusal::new(Code::Invalid, message));
        }
        let (config, warnings) = Config::load(&self.path).map_err(|ConfigErrors(report)| {
            let lines: Vec<String> = report.lines().map(|line| line.to_string()).collect();
            Refusal::new(Code::Invalid, format!("the file cannot be used:\n{}", lines.join("\n")))
        })?;
        warnings.lines().for_each(|line| tracing::warn!("{line}"));
        Ok(config)
    }

    /// What a reload of `config` would change, line by line.
    fn changes(&self, running: &Wanted, config: &Config) -> Vec<String> {
        let mut lines = difference(running, &config.wanted);
        let waiting = difference_needing_restart(&self.config, config);
        lines.extend(waiting.into_iter().map(|line| format!("{line} (not before a restart)")));
        lines
    }
}

impl ControlPlane {
    /// Makes the services those of the configuration that was read from `path`, which reloads read again.
    ///
    /// # Errors
    /// They contradict each other, or the host refuses.
    pub fn begin(&mut self, path: &Path, config: &Config) -> Result<(), Refusal> {
        self.become_as(&config.wanted)?;
        self.origin = Some(Origin { path: path.to_owned(), config: config.clone(), seen: stamp(path) });
        Ok(())
    }

    fn become_as(&mut self, wanted: &Wanted) -> Result<(), Refusal> {
        let mut draft = self.draft();
        wanted.apply(&mut draft)?;
        self.publish(draft, Vec::new())
    }

    fn origin(&self) -> Result<&Origin, Refusal> {
        self.origin.as_ref().ok_or_else(|| Refusal::new(Code::NotFound, "there is no configuration file"))
    }

    fn running(&self) -> Wanted {
        Wanted::of(&self.director.services.load())
    }

    /// Makes what runs what the file says, unless `dry_run`. What changes comes back, line by line; it is logged
    /// before it is done.
    ///
    /// # Errors
    /// The file cannot be read or is wrong, or the host refuses. Nothing has changed then.
    pub fn reload(&mut self, dry_run: bool) -> Result<Vec<String>, Refusal> {
        let origin = self.origin()?;
        let now = stamp(&origin.path);
        let config = origin.load()?;
        let lines = origin.changes(&self.running(), &config);
        if !dry_run {
            lines.iter().take(MAX_LOGGED).for_each(|line| tracing::info!("reload: {line}"));
            if let Some(more) = lines.len().checked_sub(MAX_LOGGED).filter(|&more| more > 0) {
                tracing::info!("reload: and {more} changes more");
            }
            self.become_as(&config.wanted)
                .inspect_err(|why| tracing::error!("reload: none of it was done: {why}"))?;
            if let Some(origin) = &mut self.origin {
                origin.seen = now;
            }
        }
        Ok(lines)
    }

    /// Reloads as nobody waits for the answer: what is refused is logged, line by line.
    pub fn reload_or_log(&mut self) {
        match self.reload(false) {
            Ok(lines) if lines.is_empty() => tracing::info!("reload: nothing changes"),
            Ok(lines) => tracing::info!("reload: done, changes: {}", lines.len()),
            Err(refusal) => {
                tracing::error!("reload refused, everything stays as it was");
                refusal.message.lines().for_each(|line| tracing::error!("reload: {line}"));
            }
        }
    }

    /// Reloads if the file has changed since it was last read, or tried to be.
    pub fn reload_if_changed(&mut self) {
        let Some(origin) = &mut self.origin else { return };
        let now = stamp(&origin.path);
        if now.is_none() || now == origin.seen {
            return;
        }
        origin.seen = now;
        tracing::info!("{} has changed: reloading", origin.path.display());
        self.reload_or_log();
    }

    /// How what runs and the file disagree.
    ///
    /// # Errors
    /// The file cannot be read or is wrong.
    pub fn drift(&self) -> Result<DriftView, Refusal> {
        let origin = self.origin()?;
        let changes = origin.changes(&self.running(), &origin.load()?);
        Ok(DriftView { file: origin.path.display().to_string(), changes })
    }

    /// What runs, as a configuration file.
    pub fn save(&self) -> String {
        let Some(origin) = &self.origin else { return String::new() };
        write(&Config { wanted: self.running(), ..origin.config.clone() })
    }
}
