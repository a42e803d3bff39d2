//! Network namespaces and the processes in them, by `ip netns`: entering, leaving nothing behind.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

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
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Every namespace and directory of these tests is called this, the test process's pid, a number and a name.
pub const PREFIX: &str = "xvst-";

/// Removes what test processes that were killed outright left behind: the pid in the name is gone.
pub fn sweep() {
    for name in left_behind(Path::new("/run/netns")) {
        remove(&name);
    }
    for name in left_behind(&std::env::temp_dir()) {
        let _ = fs::remove_dir_all(std::env::temp_dir().join(name));
    }
}

fn left_behind(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let is_left = |name: &String| {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
    };
    names.filter(is_left).collect()
}

/// Ends what still runs in a namespace of ours, then removes it. Errors are left: it may be gone already.
pub fn remove(name: &str) {
    let Ok(pids) = Command::new("ip").args(["netns", "pids", name]).output() else { return };
    for pid in String::from_utf8_lossy(&pids.stdout).split_whitespace() {
        signal(pid, "KILL");
    }
    let _ = Command::new("ip").args(["netns", "delete", name]).stderr(Stdio::null()).status();
}

/// Sends signal `name` (`TERM`, `KILL`, ...) to one process.
pub fn signal(pid: &str, name: &str) {
    let _ = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).stderr(Stdio::null()).status();
}

/// Lets this process hold the sockets of both ends of some thousand connections.
pub fn allow_many_files() {
    const FILES: u64 = 8_192;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("getrlimit");
    if soft < FILES {
        setrlimit(Resource::RLIMIT_NOFILE, FILES, hard.max(FILES))
            .expect("root may raise the limit of open files");
    }
}
