//! The kernel's IPVS, as the director's namespace has it, with the ipvsadm that is installed.

use std::net::SocketAddr;
use std::time::Duration;

use crate::director::Director;
use crate::lab::Lab;

/// See the module.
#[derive(Debug)]
pub struct Ipvs;

impl Ipvs {
    /// Loads it; the kernel loads schedulers by itself.
    pub fn start(lab: &Lab) -> Self {
        let answer = lab.shell("modprobe ip_vs && ipvsadm -Ln");
        let error = String::from_utf8_lossy(&answer.stderr);
        assert!(answer.status.success(), "no IPVS or no ipvsadm here, see scripts/guest.sh: {error}");
        Self
    }
}

impl Director for Ipvs {
    fn ipvsadm(&self) -> String {
        "ipvsadm".to_owned()
    }

    fn tune(&self, setting: &str) -> String {
        format!("sysctl -qw net.ipv4.vs.{setting}")
    }

    fn tuned(&self, name: &str) -> String {
        format!("sysctl -n net.ipv4.vs.{name}")
    }

    fn helper(&self, name: &str) -> String {
        format!("modprobe ip_vs_{name}")
    }

    fn mark(&self, mark: u32, protocol: &str, to: SocketAddr) -> String {
        let ip = if to.is_ipv4() { "ip" } else { "ip6" };
        format!(
            "nft 'add table {ip} marks; \
             add chain {ip} marks arriving {{ type filter hook prerouting priority mangle; }}; \
             add rule {ip} marks arriving {ip} daddr {} {protocol} dport {} meta mark set {mark} accept'",
            to.ip(),
            to.port()
        )
    }

    /// The kernel shows what its estimator last saw, up to 2 s ago.
    fn counters_lag(&self) -> Duration {
        Duration::from_millis(2_200)
    }
}
