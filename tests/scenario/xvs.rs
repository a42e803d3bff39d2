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
    /// Starts `binary` and waits until it is ready.
    pub fn start(lab: &Lab, binary: &Path) -> Self {
        let (config, socket) = (lab.dir().join("xvs.toml"), lab.dir().join("xvs.sock"));
        let text = format!(
            "[director]\ninterfaces = [\"lb0\", \"lb1\"]\n\n[api]\nsocket = \"{}\"\n",
            socket.display()
        );
        std::fs::write(&config, text).expect("configuration written");
        let mut run = lab.command("lb", &binary.display().to_string());
        let running = Xvs::spawn(run.args(["run", "--config"]).arg(&config));
        Self { binary: binary.to_owned(), socket, _running: running }
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
