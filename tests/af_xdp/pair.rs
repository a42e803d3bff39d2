//! Two network namespaces and two veth pairs between them, gone when dropped.
//!
//! ```text
//!   outer: out0 ──── in0 :inner        two queues each, no offloads, no IPv6 of the kernel's own
//!   outer: out1 ──── in1 :inner
//! ```

use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};

pub struct Pair {
    prefix: String,
}

impl Pair {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let pair = Self { prefix: format!("xvs-{}-x{number}", std::process::id()) };
        let (outer, inner) = (pair.namespace("outer"), pair.namespace("inner"));
        for namespace in [&outer, &inner] {
            run("ip", &["netns", "add", namespace]);
        }
        for (out, into) in [("out0", "in0"), ("out1", "in1")] {
            let queues = ["numtxqueues", "2", "numrxqueues", "2"];
            let ends: [&[&str]; 4] = [
                &["link", "add", "name", out, "netns", &outer],
                &queues,
                &["type", "veth", "peer", "name", into, "netns", &inner],
                &queues,
            ];
            run("ip", &ends.concat());
            for (namespace, end) in [(&outer, out), (&inner, into)] {
                let inside = |command: &[&str]| run("ip", &[&["netns", "exec", namespace], command].concat());
                inside(&["sysctl", "-qw", &format!("net.ipv6.conf.{end}.disable_ipv6=1")]);
                let off =
                    ["tx", "off", "tso", "off", "gso", "off", "gro", "off", "rxvlan", "off", "txvlan", "off"];
                inside(&[&["ethtool", "-K", end], &off[..]].concat());
                inside(&["ip", "link", "set", end, "up"]);
            }
        }
        pair
    }

    fn namespace(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// Does something in the outer namespace.
    pub fn outer<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        within(&self.namespace("outer"), act)
    }

    /// Does something in the inner namespace.
    pub fn inner<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        within(&self.namespace("inner"), act)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for name in ["outer", "inner"] {
            let _ = Command::new("ip").args(["netns", "del", &self.namespace(name)]).output();
        }
    }
}

/// A namespace belongs to a thread, so the work is done in one of its own.
fn within<T: Send>(namespace: &str, act: impl FnOnce() -> T + Send) -> T {
    let file = File::open(format!("/run/netns/{namespace}")).expect("the namespace exists");
    thread::scope(|scope| {
        let acting = scope.spawn(move || {
            setns(file, CloneFlags::CLONE_NEWNET).expect("these tests need root to enter a namespace");
            act()
        });
        acting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs a command of the system; these tests need root and say so.
pub fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program} could not be run ({error}); see scripts/setup.sh"));
    assert!(
        output.status.success(),
        "{program} {arguments:?} failed (these tests need root): {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
