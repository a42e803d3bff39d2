//! A client of the API over its Unix socket: what the command line speaks through.
//!
//! Its methods block. A refusal comes back as an [`io::Error`] around a [`Refusal`], unless a method says otherwise;
//! an xvs that cannot be reached as one that names the socket and the cure.

mod transport;

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use hyper::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::transport::{Failure, Transport};
use super::api::limits::MAX_COMMANDS;
use super::api::settings::DEFAULT_SOCKET;
use super::api::{Mode, NDJSON, Reloaded, Results};
use super::command::{Command, Refusal};
use super::connections::Filter;
use super::view::{
    ConnectionView, CountersView, DriftView, DropView, InfoView, InterfaceView, ServiceView, TimeoutsView,
    TunableView,
};
use crate::director::marks::MarkRule;
use crate::director::name::ServiceKey;

/// The variable that names the socket.
pub const SOCKET_VARIABLE: &str = "XVS_SOCKET";

/// What stands in a path or a query as it is: everything else could mean something there.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b':').remove(b'.').remove(b'-').remove(b'_');

/// Commands as `/v1/commands` takes them.
#[derive(Serialize)]
struct Batch<'a> {
    mode: Mode,
    commands: &'a [Command],
}

/// A connection to a running xvs.
#[derive(Debug)]
pub struct Client {
    transport: Transport,
}

impl Client {
    /// Connects to the xvs that has this socket.
    ///
    /// # Errors
    /// Nobody listens there, or it may not be used.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        Transport::connect(socket).map(|transport| Self { transport })
    }

    /// Connects to the socket that `XVS_SOCKET` names, or to the default one.
    ///
    /// # Errors
    /// Nobody listens there, or it may not be used.
    pub fn from_env() -> io::Result<Self> {
        let named = std::env::var_os(SOCKET_VARIABLE).filter(|value| !value.is_empty());
        Self::connect(Path::new(&named.unwrap_or_else(|| DEFAULT_SOCKET.into())))
    }

    /// Performs commands in their order, each by itself: what became of each. Up to 10,000 are published at once.
    ///
    /// # Errors
    /// xvs cannot be reached.
    pub fn apply_each(&mut self, commands: &[Command]) -> io::Result<Vec<Result<(), Refusal>>> {
        let mut results = Vec::with_capacity(commands.len());
        for commands in commands.chunks(MAX_COMMANDS) {
            let batch = Batch { mode: Mode::Each, commands };
            let answer: Results = self.send(Method::POST, "/v1/commands", Some(&batch))?;
            results.extend(answer.results.into_iter().map(|refusal| refusal.map_or(Ok(()), Err)));
        }
        if results.len() != commands.len() {
            let message = format!("xvs answered {} of {} commands", results.len(), commands.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(results)
    }

    /// Performs all commands or none: the number of the one that was refused, from 0, and why. At most 10,000.
    ///
    /// # Errors
    /// xvs cannot be reached, or these are too many.
    pub fn apply_all(&mut self, commands: &[Command]) -> io::Result<Result<(), (usize, Refusal)>> {
        let batch = Batch { mode: Mode::All, commands };
        match self.try_send::<Results>(Method::POST, "/v1/commands", Some(&batch)) {
            Ok(_) => Ok(Ok(())),
            Err(Failure::Refused(Some(index), refusal)) => Ok(Err((index, refusal))),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Every service in the order they were added, with statistics and rates of each server if `server_traffic`:
    /// they are half of a long list.
    ///
    /// # Errors
    /// xvs cannot be reached.
    pub fn services(&mut self, server_traffic: bool) -> io::Result<Vec<ServiceView>> {
        self.get(&format!("/v1/services?server_traffic={server_traffic}"))
    }

    /// The service of this name.
    ///
    /// # Errors
    /// There is none, or xvs cannot be reached.
    pub fn service(&mut self, key: &ServiceKey) -> io::Result<ServiceView> {
        self.get(&service_path(key))
    }

    /// The director as a whole.
    ///
    /// # Errors
    /// xvs cannot be reached.
    pub fn info(&mut self) -> io::Result<InfoView> {
        self.get("/v1/info")
    }

    /// Totals and rates.
    ///
    /// # Errors
    /// xvs cannot be reached.
    pub fn counters(&mut self) -> io::Result<CountersView> {
        self.get("/v1/counters")
    }

    /// Zeroes the totals of all services.
    ///
    /// # Errors
    /// xvs cannot be reached.
    pub fn zero(&mut self) -> io::Result<()> {
        self.send(Method::POST, "/v1/counters/zero", None::<&()>)
    }

    /// Dropped frames by reason.
    ///
    /// # Errors
    /// xvs cannot be reached.
    pub fn drops(&mut self) -> io::Result<Vec<DropView>> {
        self.get("/v1/drops")
    }

    /// Interfaces and their queues.
    ///
    /// # Errors
    /// xvs cannot be reached.
    pub fn interfaces(&mut self) -> io::Result<Vec<InterfaceView>> {
        self.get("/v1/interfaces")
    }

    /// Every tunable.
    ///
    /// # Errors
    /// xvs cannot be reached.
    pub fn tunables(&mut self) -> io::Result<Vec<TunableView>> {
        self.get("/v1/tunables")
    }

    /// Sets a tunable, and shows it.
    ///
    /// # Errors
    /// There is none of this name, the value is out of its range, or xvs cannot be reached.
    pub fn set_tunable(&mut self, name: &str, value: u32) -> io::Result<TunableView> {
        let path = format!("/v1/tunables/{}", utf8_percent_encode(name, PLAIN));
        self.send(Method::PUT, &path, Some(&serde_json::json!({ "value": value })))
    }

    /// The three timeouts.
    ///
    /// # Errors
    /// xvs cannot be reached.
    pub fn timeouts(&mut self) -> io::Result<TimeoutsView> {
        self.get("/v1/timeouts")
    }

    /// Sets the three timeouts, and shows them: 0 keeps what is.
    ///
    /// # Errors
    /// A value is out of its range, or xvs cannot be reached.
    pub fn set_timeouts(&mut self, timeouts: &TimeoutsView) -> io::Result<TimeoutsView> {
        self.send(Method::PUT, "/v1/timeouts", Some(timeouts))
    }

    /// The rules that give firewall marks, in their order.
    ///
    /// # Errors
    /// xvs cannot be reached.
    pub fn marks(&mut self) -> io::Result<Vec<MarkRule>> {
        self.get("/v1/marks")
    }

    /// Makes the running state that of the configuration file, unless `dry_run`: the difference, line by line.
    ///
    /// # Errors
    /// The file is wrong, or xvs cannot be reached.
    pub fn reload(&mut self, dry_run: bool) -> io::Result<Vec<String>> {
        let path = format!("/v1/reload?dry_run={dry_run}");
        self.send::<Reloaded>(Method::POST, &path, None::<&()>).map(|reloaded| reloaded.changes)
    }

    /// How the running state and the configuration file disagree.
    ///
    /// # Errors
    /// The file is wrong, or xvs cannot be reached.
    pub fn drift(&mut self) -> io::Result<DriftView> {
        self.get("/v1/drift")
    }

    /// The running state as a configuration file.
    ///
    /// # Errors
    /// xvs cannot be reached.
    pub fn save(&mut self) -> io::Result<String> {
        let bytes = self.transport.call(Method::GET, "/v1/config", None)?;
        String::from_utf8(bytes.into()).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }

    /// Drains a server: deleted once its connections are gone, or after `deadline_s` seconds.
    ///
    /// # Errors
    /// There is no such server, or xvs cannot be reached.
    pub fn drain(
        &mut self,
        service: &ServiceKey,
        server: SocketAddr,
        deadline_s: Option<u32>,
    ) -> io::Result<()> {
        let server = server.to_string();
        let path = format!("{}/servers/{}/drain", service_path(service), utf8_percent_encode(&server, PLAIN));
        self.send(Method::POST, &path, Some(&serde_json::json!({ "deadline_s": deadline_s })))
    }

    /// Hands `each` every connection that passes `filter`, in no order, while they come.
    ///
    /// # Errors
    /// What `each` says, or xvs cannot be reached, or went away before the end.
    pub fn connections(
        &mut self,
        filter: &Filter,
        each: &mut dyn FnMut(ConnectionView) -> io::Result<()>,
    ) -> io::Result<()> {
        let said = [
            ("client", filter.client.map(|client| client.to_string())),
            ("service", filter.service.map(|service| service.to_string())),
            ("server", filter.server.map(|server| server.to_string())),
            ("state", filter.state.map(|state| state.to_string())),
        ];
        let said = said.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let query: Vec<_> =
            said.map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, PLAIN))).collect();
        let path = format!("/v1/connections?{}", query.join("&"));
        self.transport.lines(&path, NDJSON, &mut |line| each(read(line)?))
    }

    fn get<T: DeserializeOwned>(&mut self, path: &str) -> io::Result<T> {
        self.send(Method::GET, path, None::<&()>)
    }

    fn send<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> io::Result<T> {
        Ok(self.try_send(method, path, body)?)
    }

    fn try_send<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, Failure> {
        let body = body.map(serde_json::to_vec).transpose().map_err(io::Error::from)?;
        let answer = self.transport.call(method, path, body)?;
        // No content is JSON's null: nothing.
        Ok(read(if answer.is_empty() { b"null" } else { &answer })?)
    }
}

fn service_path(key: &ServiceKey) -> String {
    format!("/v1/services/{}", utf8_percent_encode(&key.to_string(), PLAIN))
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        let message = format!("xvs's answer is not understood, is it of another version? {error}");
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
}
