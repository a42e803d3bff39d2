//! One run of ipvsadm: requests carried out, answers written, in order.

use std::io::{self, Read, Write};

use super::director::Director;
use super::messages;
use super::names::Names;
use super::read::read;
use super::render::{self, Connections};
use super::request::{Format, Listing, Request};
use super::restore::Lines;
use super::stop::{NOT_LISTED, REFUSED, Stop};
use crate::control::command::Command;
use crate::control::view::ServiceView;

/// Why a run ends before its time.
#[derive(Debug)]
enum End {
    /// Something is said, and there is an exit status.
    Stop(Stop),
    /// What was to be said cannot be written.
    Unwritten(io::Error),
}

impl From<Stop> for End {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Unwritten(error)
    }
}

/// What a run works with.
pub(super) struct Session<'a, D> {
    pub program: &'a str,
    pub director: D,
    pub names: Names,
    pub out: &'a mut dyn Write,
    pub err: &'a mut dyn Write,
}

impl<D: Director> Session<'_, D> {
    /// Runs one command line, `input` being what it may restore from. The exit status comes back.
    ///
    /// # Errors
    /// Standard output or standard error cannot be written.
    pub fn run(&mut self, words: &[String], input: impl Read) -> io::Result<u8> {
        let status = match self.line(words, input) {
            Ok(status) => status,
            Err(End::Unwritten(error)) => return Err(error),
            Err(End::Stop(stop)) => {
                self.out.write_all(stop.answer.as_bytes())?;
                self.out.flush()?;
                self.err.write_all(stop.message.as_bytes())?;
                stop.status
            }
        };
        self.out.flush()?;
        Ok(status)
    }

    fn line(&mut self, words: &[String], input: impl Read) -> Result<u8, End> {
        let request = match words {
            [] => Request::List(Listing::All, Format::default()),
            words => read(self.program, words, &mut self.names)?,
        };
        match request {
            Request::Restore => self.restore(input),
            request => self.answer(request),
        }
    }

    /// Does what each line of the input says. Changes that come one after the other are handed over together, as
    /// far as the input is here already; what is said stays in order.
    fn restore(&mut self, input: impl Read) -> Result<u8, End> {
        let mut lines = Lines::new(input);
        let mut changes = Vec::new();
        let mut status = 0;
        loop {
            if !lines.has_line() {
                status = self.apply(&mut changes)?.unwrap_or(status);
                self.out.flush()?;
            }
            let Some(words) = lines.next_line()? else { break };
            if words.is_empty() {
                continue;
            }
            match read(self.program, &words, &mut self.names) {
                Ok(Request::Change(change)) => changes.push(change),
                other => {
                    self.apply(&mut changes)?;
                    status = self.answer(other?)?;
                }
            }
        }
        Ok(self.apply(&mut changes)?.unwrap_or(status))
    }

    /// Makes these changes and says which were refused. The status of the last one comes back, if there is one.
    fn apply(&mut self, changes: &mut Vec<Command>) -> Result<Option<u8>, End> {
        let changes = std::mem::take(changes);
        if changes.is_empty() {
            return Ok(None);
        }
        let done = self.director.apply_each(&changes).map_err(|error| Stop::new(REFUSED, reason(&error)))?;
        let mut status = 0;
        for (change, result) in changes.iter().zip(&done) {
            status = match result {
                Ok(()) => 0,
                Err(refusal) => self.refused(messages::refusal(change, refusal))?,
            };
        }
        Ok(Some(status))
    }

    /// Carries out a request, all but restoring.
    fn answer(&mut self, request: Request) -> Result<u8, End> {
        match request {
            Request::Change(change) => Ok(self.apply(&mut vec![change])?.unwrap_or(0)),
            Request::StartDaemon => self.refused(messages::NO_DAEMONS),
            Request::StopDaemon => self.refused(messages::NO_DAEMON_RUNS),
            Request::Unreadable(why) => self.refused(&why),
            Request::Save(format) => {
                let services = self.services(format)?;
                if let Some(why) = render::unspeakable(&services) {
                    return self.refused(&why);
                }
                render::save(self.out, format, &mut self.names, &services)?;
                Ok(0)
            }
            Request::List(listing, format) => self.list(listing, format),
            // What is restored cannot restore.
            Request::Restore => Err(Stop::try_help(self.program).into()),
        }
    }

    fn list(&mut self, listing: Listing, format: Format) -> Result<u8, End> {
        match listing {
            Listing::All => {
                self.out.write_all(messages::BANNER.as_bytes())?;
                let services = self.services(format)?;
                render::list(self.out, format, &mut self.names, &services)?;
            }
            Listing::Service(key) => {
                let service = self.director.service(&key).map_err(not_listed)?;
                let service = service.ok_or_else(|| Stop::new(NOT_LISTED, messages::NO_SUCH_SERVICE))?;
                render::list(self.out, format, &mut self.names, &[service])?;
            }
            Listing::Connections => {
                let Self { director, out, names, .. } = self;
                let mut table = Connections { out: &mut **out, format, names };
                table.title()?;
                let mut written = Ok(());
                let listed = director.connections(&mut |connection| {
                    written = table.connection(&connection);
                    written.as_ref().map_err(|error| error.kind().into()).copied()
                });
                written?;
                listed.map_err(not_listed)?;
            }
            Listing::Timeouts => {
                let timeouts = self.director.timeouts().map_err(not_listed)?;
                let (tcp, tcp_fin, udp) = (timeouts.tcp_s, timeouts.tcp_fin_s, timeouts.udp_s);
                writeln!(self.out, "Timeout (tcp tcpfin udp): {tcp} {tcp_fin} {udp}")?;
            }
            Listing::Daemons => {}
        }
        Ok(0)
    }

    fn services(&mut self, format: Format) -> Result<Vec<ServiceView>, End> {
        self.director.services(format.shows_traffic()).map_err(not_listed)
    }

    fn refused(&mut self, why: &str) -> Result<u8, End> {
        self.out.flush()?;
        writeln!(self.err, "{why}")?;
        Ok(REFUSED)
    }
}

fn not_listed(error: io::Error) -> End {
    Stop::new(NOT_LISTED, reason(&error)).into()
}

/// An error as the C library says it: without its number.
pub(super) fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}
