//! The API at work on a socket of its own, on a thread like the control thread.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tempfile::TempDir;
use tokio::sync::oneshot;
use xvs::control::api::{Listener, Settings, Shared, serve};

use super::plane::FakePlane;

pub struct Served {
    pub plane: Arc<Mutex<FakePlane>>,
    pub socket: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _directory: TempDir,
}

impl Served {
    pub fn new(connections: u32) -> Self {
        Self::with(connections, Settings::default())
    }

    /// The socket of `settings` is replaced by one of its own.
    pub fn with(connections: u32, settings: Settings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("xvs.sock");
        let plane = Arc::new(Mutex::new(FakePlane::new(connections)));
        let shared = Shared::new(plane.clone());
        let listener = Listener::bind(&Settings { socket: socket.clone(), ..settings }).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let stopped = async move { drop(stopped.await) };
            runtime.block_on(serve(listener, shared, stopped)).unwrap();
        });
        Self { plane, socket, stop: Some(stop), thread: Some(thread), _directory: directory }
    }

    /// Ends it as a signal would.
    pub fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop();
    }
}
