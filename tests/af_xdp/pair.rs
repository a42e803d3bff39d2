//! Two network namespaces and two veth pairs between them, gone when dropped.
//!
//! ```text
//!   outer: out0 ──── in0 :inner        two queues each, no offloads, no IPv6 of the kernel's own
//!   outer: out1 ──── in1 :inner
//! ```

use crate::netns::{Namespaces, inside, run};

pub struct Pair {
    namespaces: Namespaces,
}

impl Pair {
    pub fn new() -> Self {
        let namespaces = Namespaces::new();
        let (outer, inner) = (namespaces.add("outer"), namespaces.add("inner"));
        for (out, into) in [("out0", "in0"), ("out1", "in1")] {
            let queues = "numtxqueues 2 numrxqueues 2";
            run(&format!(
                "ip link add name {out} netns {outer} {queues} type veth peer name {into} netns {inner} {queues}"
            ));
            for (namespace, end) in [(&outer, out), (&inner, into)] {
                let exec = format!("ip netns exec {namespace}");
                run(&format!("{exec} sysctl -qw net.ipv6.conf.{end}.disable_ipv6=1"));
                run(&format!("{exec} ethtool -K {end} tx off tso off gso off gro off rxvlan off txvlan off"));
                run(&format!("{exec} ip link set {end} up"));
            }
        }
        Self { namespaces }
    }

    /// Does something in the outer namespace.
    pub fn outer<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        inside(&self.namespaces.name("outer"), act)
    }

    /// Does something in the inner namespace.
    pub fn inner<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        inside(&self.namespaces.name("inner"), act)
    }
}
