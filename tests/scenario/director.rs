//! What a scenario can be played against: how the director that stands in lb is spoken to.

use std::net::SocketAddr;
use std::time::Duration;

/// A director that runs in a lab. It ends when dropped.
pub trait Director {
    /// What to put into a shell's command line in place of `ipvsadm`.
    fn ipvsadm(&self) -> String;

    /// The shell's command line that sets `NAME=VALUE`.
    fn tune(&self, setting: &str) -> String;

    /// The shell's command line that prints what `name` is set to.
    fn tuned(&self, name: &str) -> String;

    /// The shell's command line that brings the helper of an application.
    fn helper(&self, name: &str) -> String;

    /// The shell's command line that marks packets of `protocol` to an address; the first mark a packet gets stays.
    fn mark(&self, mark: u32, protocol: &str, to: SocketAddr) -> String;

    /// How far its counters may be behind its traffic.
    fn counters_lag(&self) -> Duration;
}
