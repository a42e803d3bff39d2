//! What ipvsadm needs of a director, running or of a test.

use std::io;
use std::path::PathBuf;

use crate::control::api::settings::DEFAULT_SOCKET;
use crate::control::client::{Client, SOCKET_VARIABLE};
use crate::control::command::{Code, Command, Refusal};
use crate::control::connections::Filter;
use crate::control::view::{ConnectionView, ServiceView, TimeoutsView};
use crate::director::name::ServiceKey;

/// A director that can be asked. Errors are those of talking to it.
pub(super) trait Director {
    /// Does one after the other, each by itself: a refusal does not keep the next one from being done.
    fn apply_each(&mut self, commands: &[Command]) -> io::Result<Vec<Result<(), Refusal>>>;

    /// All services, in the order they were added, their servers newest first. Statistics and rates of each server
    /// may be left out unless `server_traffic`.
    fn services(&mut self, server_traffic: bool) -> io::Result<Vec<ServiceView>>;

    /// One service, if it is there.
    fn service(&mut self, key: &ServiceKey) -> io::Result<Option<ServiceView>>;

    /// The three timeouts.
    fn timeouts(&mut self) -> io::Result<TimeoutsView>;

    /// Hands over each connection as it comes; an error of `each` ends it.
    fn connections(&mut self, each: &mut dyn FnMut(ConnectionView) -> io::Result<()>) -> io::Result<()>;
}

/// Where a running director listens.
pub(super) fn socket() -> PathBuf {
    let named = std::env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty());
    named.map_or_else(|| DEFAULT_SOCKET.into(), PathBuf::from)
}

/// A connection to the running director.
///
/// # Errors
/// None is running, or it may not be asked.
pub(super) fn connect() -> io::Result<impl Director> {
    Client::connect(&socket())
}

impl Director for Client {
    fn apply_each(&mut self, commands: &[Command]) -> io::Result<Vec<Result<(), Refusal>>> {
        Client::apply_each(self, commands)
    }

    fn services(&mut self, server_traffic: bool) -> io::Result<Vec<ServiceView>> {
        Client::services(self, server_traffic)
    }

    fn service(&mut self, key: &ServiceKey) -> io::Result<Option<ServiceView>> {
        match Client::service(self, key) {
            Ok(service) => Ok(Some(service)),
            Err(error) => {
                let refusal = error.get_ref().and_then(|e| e.downcast_ref::<Refusal>());
                if refusal.is_some_and(|r| r.code == Code::NoService) { Ok(None) } else { Err(error) }
            }
        }
    }

    fn timeouts(&mut self) -> io::Result<TimeoutsView> {
        Client::timeouts(self)
    }

    fn connections(&mut self, each: &mut dyn FnMut(ConnectionView) -> io::Result<()>) -> io::Result<()> {
        Client::connections(self, &Filter::default(), each)
    }
}
