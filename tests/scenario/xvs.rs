//! xvs, started without a service, everything else told it by its own command line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::lab::Lab;
use crate::process::Xvs;

/// See the module.
#[derive(Debug)]
pub struct Director {
    binary: PathBuf,
    socket: PathBuf,
    _running: Xvs,
}

impl Director {
    /// Starts `binary` and waits until it is ready. Whatever can be is offloaded, as early as it can be, if `offloads`;
    /// nothing otherwise.
    pub fn start(lab: &Lab, binary: &Path, offloads: bool) -> Self {
        let offload = if offloads { "offload = \"on\"\noffload_after = 0" } else { "offload = \"off\"" };
        if offloads {
            lab.take_redirected();
        }
        let (config, socket) = (lab.dir().join("xvs.toml"), lab.dir().join("xvs.sock"));
        let text = format!(
            "[director]\ninterfaces = [\"lb0\", \"lb1\"]\n{offload}\n\n[api]\nsocket = \"{}\"\n",
            socket.display()
        );
        std::fs::write(&config, text).expect("configuration written");
        let mut run = lab.command("lb", &binary.display().to_string());
        let running = Xvs::spawn(run.args(["run", "--config"]).arg(&config));
        Self { binary: binary.to_owned(), socket, _running: running }
    }

    /// How many frames the steering program has sent on.
    #[allow(dead_code, reason = "for the tests")]
    pub fn carried(&self, lab: &Lab) -> u64 {
        let shown = lab.shell(&self.client("show counters --json"));
        let all: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("JSON");
        let outcomes = all["steering"].as_array().expect("outcomes");
        let of = |pair: &serde_json::Value| (pair[0] == "offloaded").then(|| pair[1].as_u64());
        outcomes.iter().find_map(of).flatten().expect("the outcome `offloaded`")
    }

    fn client(&self, verb: &str) -> String {
        format!("XVS_SOCKET='{}' '{}' {verb}", self.socket.display(), self.binary.display())
    }
}

impl crate::director::Director for Director {
    fn ipvsadm(&self) -> String {
        self.client("ipvsadm")
    }

    fn tune(&self, setting: &str) -> String {
        format!("{} {setting}", self.client("set"))
    }

    fn tuned(&self, name: &str) -> String {
        format!("{} tunables | awk '$1 == \"{name}\" {{ print $2 }}'", self.client("show"))
    }

    fn helper(&self, name: &str) -> String {
        self.tune(&format!("{name}_helper=1"))
    }

    fn mark(&self, mark: u32, protocol: &str, to: SocketAddr) -> String {
        let add = self.client("mark add");
        format!("{add} --protocol {protocol} --to {} --ports {} {mark}", to.ip(), to.port())
    }

    fn counters_lag(&self) -> Duration {
        // As with the kernel: what is shown is what the estimator saw last.
        Duration::from_millis(2200)
    }
}
