//! What ipvsadm needs of a director, running or of a test.

use std::io;
use std::path::PathBuf;

use crate::control::command::{Command, Refusal};
use crate::control::view::{ConnectionView, ServiceView, TimeoutsView};
use crate::director::name::ServiceKey;

/// Where a running director listens, unless the environment says otherwise.
const SOCKET: &str = "/run/xvs/xvs.sock";

/// The environment's word on where it listens.
const VARIABLE: &str = "XVS_SOCKET";

/// A director that can be asked. Errors are those of talking to it.
pub(super) trait Director {
    /// Does one after the other, each by itself: a refusal does not keep the next one from being done.
    fn apply_each(&mut self, commands: &[Command]) -> io::Result<Vec<Result<(), Refusal>>>;

    /// All services, in the order they were added, their servers newest first.
    fn services(&mut self) -> io::Result<Vec<ServiceView>>;

    /// One service, if it is there.
    fn service(&mut self, key: &ServiceKey) -> io::Result<Option<ServiceView>>;

    /// The three timeouts.
    fn timeouts(&mut self) -> io::Result<TimeoutsView>;

    /// Hands over each connection as it comes; an error of `each` ends it.
    fn connections(&mut self, each: &mut dyn FnMut(ConnectionView) -> io::Result<()>) -> io::Result<()>;
}

/// Where a running director listens.
pub(super) fn socket() -> PathBuf {
    std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map_or_else(|| SOCKET.into(), PathBuf::from)
}

/// A connection to the running director.
///
/// # Errors
/// None is running, or it may not be asked.
pub(super) fn connect() -> io::Result<impl Director> {
    Err::<Nobody, _>(io::ErrorKind::NotConnected.into())
}

/// Stands where the client of the control socket will: nobody is ever connected to it.
enum Nobody {}

impl Director for Nobody {
    fn apply_each(&mut self, _: &[Command]) -> io::Result<Vec<Result<(), Refusal>>> {
        match *self {}
    }

    fn services(&mut self) -> io::Result<Vec<ServiceView>> {
        match *self {}
    }

    fn service(&mut self, _: &ServiceKey) -> io::Result<Option<ServiceView>> {
        match *self {}
    }

    fn timeouts(&mut self) -> io::Result<TimeoutsView> {
        match *self {}
    }

    fn connections(&mut self, _: &mut dyn FnMut(ConnectionView) -> io::Result<()>) -> io::Result<()> {
        match *self {}
    }
}
