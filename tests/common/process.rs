//! Processes that tests start: bounded in time, their output collected, xvs awaited until it is ready.
//!
//! Taken into each test binary by `#[path]`. Must not know where a process runs nor what is asked of it.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::netns::signal;

/// How long a start, a stop or a refusal may take.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Runs a command that has to end by itself; its exit status, standard output and standard error.
pub fn ends(command: &mut Command) -> (ExitStatus, String, String) {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().expect("spawn");
    let (out, err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let (out, err) = (collect(out), collect(err));
    let ended = wait(&mut child);
    if ended.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let (out, err) = (out.join().expect("reader"), err.join().expect("reader"));
    let status = ended.unwrap_or_else(|| panic!("{command:?} did not end within {PATIENCE:?}:\n{out}{err}"));
    (status, out, err)
}

fn collect(mut from: impl std::io::Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Its exit status, if it ends before [`PATIENCE`] does.
pub fn wait(child: &mut Child) -> Option<ExitStatus> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().expect("wait") {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(10));
    }
    None
}

/// A running xvs. Killed when dropped; a panicking test prints its log.
#[derive(Debug)]
pub struct Xvs {
    child: Child,
    log: Arc<Mutex<String>>,
    report: Option<JoinHandle<String>>,
}

impl Xvs {
    /// Runs `command`, which ends up as xvs, and waits until it says that it is ready.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("spawn xvs");
        let log = Arc::new(Mutex::new(String::new()));
        let report = collect(child.stdout.take().expect("piped"));
        let (stderr, shared) = (child.stderr.take().expect("piped"), Arc::clone(&log));
        let (ready, is_ready) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let is_ready = line.split(|c: char| !c.is_alphanumeric()).any(|word| word == "ready");
                let mut log = shared.lock().unwrap_or_else(PoisonError::into_inner);
                writeln!(log, "{line}").expect("a String");
                if is_ready {
                    let _ = ready.send(());
                }
            }
        });
        let xvs = Self { child, log, report: Some(report) };
        assert!(is_ready.recv_timeout(PATIENCE).is_ok(), "xvs did not become ready; its log is below");
        xvs
    }

    /// The process's id. `ip netns exec` becomes the command it runs, so this is xvs itself.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// SIGTERM: the report it ends with. The exit status must be 0.
    pub fn stop(mut self) -> String {
        signal(&self.pid().to_string(), "TERM");
        let status =
            wait(&mut self.child).unwrap_or_else(|| panic!("xvs still runs {PATIENCE:?} after SIGTERM"));
        assert!(status.success(), "xvs ended with {status}");
        self.report.take().expect("not stopped before").join().expect("reader")
    }

    /// Waits for an end that nobody asked for: exit status and log.
    pub fn ended(mut self) -> (ExitStatus, String) {
        let status = wait(&mut self.child).unwrap_or_else(|| panic!("xvs still runs after {PATIENCE:?}"));
        // The reader of the log has seen its end once the report's has: both are closed by the end.
        let _report = self.report.take().expect("not stopped before").join();
        thread::sleep(Duration::from_millis(100));
        (status, self.log())
    }

    /// SIGKILL: the end without any chance to clean up.
    pub fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }
}

impl Drop for Xvs {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("---- log of xvs\n{}", self.log());
        }
    }
}
