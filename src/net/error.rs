//! What can go wrong between xvs and the kernel's network configuration, each with its cure.

use thiserror::Error;

/// Errors of the `net` room. Names the interface or the request, and what to do about it.
#[derive(Debug, Error)]
pub enum NetError {
    /// An interface that was asked for is not there.
    #[error("interface `{0}` does not exist in this network namespace; `ip link show` lists those that do")]
    NoSuchInterface(String),
    /// An interface that was asked for is administratively down.
    #[error("interface `{0}` is down; bring it up with `ip link set dev {0} up`")]
    InterfaceDown(String),
    /// An interface that does not carry Ethernet frames.
    #[error("interface `{0}` is not Ethernet; give the Ethernet interface below it instead")]
    NotEthernet(String),
    /// The same interface named twice.
    #[error("interface `{0}` is given twice; name it once")]
    Duplicate(String),
    /// More interfaces than a port number can name.
    #[error("{given} interfaces are given, {limit} is the limit; give fewer")]
    TooMany {
        /// How many were given.
        given: usize,
        /// [`MAX_PORTS`](super::mirror::MAX_PORTS).
        limit: usize,
    },
    /// No netlink socket.
    #[error("cannot open a netlink socket: {0}; xvs needs CAP_NET_ADMIN (run it as root)")]
    Open(#[from] std::io::Error),
    /// The kernel refused a request.
    #[error("the kernel refused to {what}: {reason}")]
    Refused {
        /// The request, as a verb phrase.
        what: &'static str,
        /// The kernel's words.
        reason: String,
        /// The kernel's error number (positive), or 0 if there is none.
        errno: i32,
    },
    /// The kernel did not answer in time.
    #[error("no answer from the kernel within {limit_ms} ms when asked to {what}")]
    Timeout {
        /// The request, as a verb phrase.
        what: &'static str,
        /// The limit, in milliseconds.
        limit_ms: u64,
    },
}
