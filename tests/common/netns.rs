//! Network namespaces of the tests and the processes in them, by `ip netns`: made, entered, nothing left behind.
//!
//! Every one is called `xvst-PID-NUMBER-WHO`, with the pid of the test process and the number of the test's
//! [`Namespaces`] in it; the first test of a process sweeps away those of processes that are gone.
//! Taken into each test binary by `#[path]`. Must not know what a test builds in them.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::thread;

use nix::sched::{CloneFlags, setns};

/// What the name of everything these tests make begins with.
const PREFIX: &str = "xvst-";

/// The network namespaces of one test, gone when dropped.
#[derive(Debug)]
pub struct Namespaces {
    prefix: String,
    names: Mutex<Vec<String>>,
}

impl Namespaces {
    /// None yet.
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        static SWEEP: Once = Once::new();
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test makes network namespaces: run it as root, see scripts/test.sh"
        );
        SWEEP.call_once(sweep);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self { prefix: format!("{PREFIX}{}-{number}-", std::process::id()), names: Mutex::default() }
    }

    /// What their names begin with. A temporary directory called so is swept too.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The full name of namespace `who`.
    pub fn name(&self, who: &str) -> String {
        format!("{}{who}", self.prefix)
    }

    /// Adds namespace `who`; its full name.
    pub fn add(&self, who: &str) -> String {
        let name = self.name(who);
        self.names.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
        run(&format!("ip netns add {name}"));
        name
    }

    /// Adds namespace `who` as a host: `lo` up, IPv4 only, no reverse path filter (DR is one-way).
    pub fn add_host(&self, who: &str) {
        self.add(who);
        for (key, value) in [
            ("ipv6/conf/all/disable_ipv6", 1),
            ("ipv6/conf/default/disable_ipv6", 1),
            ("ipv4/conf/all/rp_filter", 0),
            ("ipv4/conf/default/rp_filter", 0),
        ] {
            self.sysctl(who, key, value);
        }
        self.ip(who, &["link set lo up"]);
    }

    /// Sets /proc/sys/net/`name` in namespace `who`.
    pub fn sysctl(&self, who: &str, name: &str, value: u32) {
        let path = Path::new("/proc/sys/net").join(name);
        inside(&self.name(who), || fs::write(&path, value.to_string()).expect("sysctl is writable"));
    }

    /// Runs `ip` in namespace `who`, once for all `lines`.
    pub fn ip(&self, who: &str, lines: &[impl AsRef<str>]) {
        let mut batch = Command::new("ip")
            .args(["-n", &self.name(who), "-batch", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ip (iproute2) is installed: scripts/setup.sh");
        let text = lines.iter().map(|line| format!("{}\n", line.as_ref())).collect::<String>();
        batch.stdin.take().expect("piped").write_all(text.as_bytes()).expect("ip reads its batch");
        let output = batch.wait_with_output().expect("ip ends");
        assert!(output.status.success(), "ip in {who}: {}\n{text}", String::from_utf8_lossy(&output.stderr));
    }

    /// Makes `device` send packets as a wire carries them: whole checksums, nothing beyond the MTU.
    pub fn offloads_off(&self, who: &str, device: &str) {
        let off = "tx off tso off gso off gro off rxvlan off txvlan off";
        succeed(self.command(who, "ethtool").args(["-K", device]).args(off.split(' ')));
    }

    /// A command that will run in namespace `who`.
    pub fn command(&self, who: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(who), program]);
        command
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in self.names.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            remove(name);
        }
    }
}

/// Enters network namespace `netns` with the calling thread; sockets it makes from now on are there.
pub fn enter(netns: &str) {
    let file = File::open(Path::new("/run/netns").join(netns)).expect("namespace exists");
    setns(file, CloneFlags::CLONE_NEWNET).expect("setns");
}

/// Runs `f` on a thread inside network namespace `netns`; sockets it makes stay there.
pub fn inside<T: Send>(netns: &str, f: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let entered = scope.spawn(|| {
            enter(netns);
            f()
        });
        entered.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs a command, which must succeed.
pub fn succeed(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?} could not be run ({error}): see scripts/setup.sh"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Runs a command of plain words, which must succeed; its standard output.
pub fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = succeed(Command::new(words.next().expect("a command")).args(words));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Sends signal `name` (`TERM`, `KILL`, ...) to one process.
pub fn signal(pid: &str, name: &str) {
    let _ = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).stderr(Stdio::null()).status();
}

/// Removes what test processes that were killed outright left behind.
fn sweep() {
    for name in left_behind(Path::new("/run/netns")) {
        remove(&name);
    }
    for name in left_behind(&std::env::temp_dir()) {
        let _ = fs::remove_dir_all(std::env::temp_dir().join(name));
    }
}

/// What is called after a process that is gone; or after this one, which has made nothing yet: its pid is used
/// a second time.
fn left_behind(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let is_left = |name: &String| {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        pid.is_some_and(|pid| pid == std::process::id() || !Path::new("/proc").join(pid.to_string()).exists())
    };
    names.filter(is_left).collect()
}

/// Ends what else still runs in a namespace of ours, then removes it. Errors are left: it may be gone already.
fn remove(name: &str) {
    let Ok(pids) = Command::new("ip").args(["netns", "pids", name]).stderr(Stdio::null()).output() else {
        return;
    };
    let this = std::process::id().to_string();
    for pid in String::from_utf8_lossy(&pids.stdout).split_whitespace().filter(|pid| **pid != this) {
        signal(pid, "KILL");
    }
    let _ = Command::new("ip").args(["netns", "delete", name]).stderr(Stdio::null()).status();
}
