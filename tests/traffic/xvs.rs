//! The built binary in the director's namespace: started, made ready, stopped, its report read.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddrV4;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::lab::{Lab, SERVERS};
use crate::netns::signal;

/// How long a start, a stop or a refusal may take.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// A configuration for the lab's director.
pub fn config(services: &[String]) -> String {
    format!("[director]\ninterfaces = [\"lb0\", \"lb1\"]\n\n{}", services.join("\n"))
}

/// A `[[service]]` with its servers, each an address and a weight, in this order.
pub fn service(
    (protocol, address): (&str, SocketAddrV4),
    (scheduler, forward): (&str, &str),
    servers: &[(SocketAddrV4, u16)],
) -> String {
    let mut text = format!(
        "[[service]]\nprotocol = \"{protocol}\"\naddress = \"{address}\"\nscheduler = \"{scheduler}\"\nforward = \"{forward}\"\n"
    );
    for (address, weight) in servers {
        writeln!(text, "[[service.server]]\naddress = \"{address}\"\nweight = {weight}").expect("a String");
    }
    text
}

/// Servers a, b and c of the lab at `port`, with these weights.
pub fn abc(port: u16, weights: [u16; 3]) -> Vec<(SocketAddrV4, u16)> {
    SERVERS.iter().zip(weights).map(|((_, rip), weight)| (SocketAddrV4::new(*rip, port), weight)).collect()
}

/// The command that runs xvs in the director's namespace with `config`; `wrapper` goes before it.
pub fn command(lab: &Lab, wrapper: &[&str], config: &str) -> Command {
    let path = lab.dir().join("xvs.toml");
    std::fs::write(&path, config).expect("configuration written");
    let words = [wrapper, &[env!("CARGO_BIN_EXE_xvs"), "run", "--config"]].concat();
    let mut command = lab.command("director", words[0]);
    command.args(&words[1..]).arg(path);
    command
}

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
    /// Starts xvs and waits until it says that it is ready.
    pub fn start(lab: &Lab, config: &str) -> Self {
        let mut child = command(lab, &[], config)
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

/// The five numbers of an `ipvsadm -Ln --stats` row of a report: Conns, InPkts, OutPkts, InBytes, OutBytes.
/// `label` is `TCP`, `UDP` or `->`.
pub fn stats(report: &str, label: &str, address: SocketAddrV4) -> [u64; 5] {
    let address = address.to_string();
    report
        .lines()
        .find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let numbers: Vec<u64> = words.iter().skip(2).map_while(|word| word.parse().ok()).collect();
            let is_row = words.len() == 7 && words[0] == label && words[1] == address;
            if is_row { numbers.try_into().ok() } else { None }
        })
        .unwrap_or_else(|| panic!("no --stats row for {label} {address} in the report:\n{report}"))
}
