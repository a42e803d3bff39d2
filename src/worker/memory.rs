//! The thread that makes the connection table's memory ready before workers need it.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use crate::director::Director;

/// How often it looks: what is ready lasts longer than this at a million new connections a second.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Preparing {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Preparing {
    /// Starts it.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn start(director: Arc<Director>) -> io::Result<Self> {
        let (stop, stopped) = bounded::<()>(0);
        let work = move || {
            loop {
                if let Err(error) = director.table.make_ready() {
                    tracing::debug!("the connection table's memory is taken as it is used: {error}");
                    return;
                }
                if stopped.recv_timeout(LOOK_EVERY) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("xvs-memory".into()).spawn(work)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Preparing {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that makes memory ready has panicked");
        }
    }
}
