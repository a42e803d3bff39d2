//! What can go wrong with UMEM and sockets: each error names the thing, the limit and the cure.

use std::error::Error;
use std::io;

use super::options::{RING_LEN_MAX, RING_LEN_MIN};

/// Capabilities that `xvs run` needs, with their bit (`linux/capability.h`): of the interfaces and neighbours, of
/// the sockets, of the steering program, and of its headers of variable length.
pub const CAPABILITIES: [(&str, u32); 4] =
    [("CAP_NET_ADMIN", 12), ("CAP_NET_RAW", 13), ("CAP_BPF", 39), ("CAP_PERFMON", 38)];

/// How a process gets [`CAPABILITIES`]; the same words wherever they are missing.
pub const PRIVILEGES_CURE: &str = "run xvs as root, or give its systemd unit \
     AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW CAP_BPF CAP_PERFMON";

/// Why a UMEM or a socket could not be made, or stopped working.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// Ring length out of bounds.
    #[error(
        "ring_frames = {ring_len}: must be a power of two from {min} to {max}",
        min = RING_LEN_MIN,
        max = RING_LEN_MAX
    )]
    RingLen {
        /// What was asked for, in frames.
        ring_len: u32,
    },
    /// Chunk length out of bounds.
    #[error("frame_bytes = {chunk_len}: must be 2048 or 4096")]
    ChunkLen {
        /// What was asked for, in bytes.
        chunk_len: u32,
    },
    /// The kernel was built without `CONFIG_XDP_SOCKETS`.
    #[error(
        "this kernel has no AF_XDP sockets: run a kernel of 5.11 or later built with CONFIG_XDP_SOCKETS=y"
    )]
    NoAfXdp,
    /// The process may not open or bind AF_XDP sockets.
    #[error("no permission to open AF_XDP sockets: {PRIVILEGES_CURE}")]
    Privileges,
    /// The locked-memory limit, or the memory itself, is too small.
    #[error(
        "{need_bytes} bytes of packet memory cannot be locked (limit: {limit}); raise it with `ulimit -l \
         unlimited`, or LimitMEMLOCK=infinity in the systemd unit, grant CAP_IPC_LOCK, or set a smaller ring_frames or frame_bytes"
    )]
    Memory {
        /// Size of the UMEM in bytes.
        need_bytes: u64,
        /// `RLIMIT_MEMLOCK` as it is, in words.
        limit: String,
    },
    /// No interface of that name in this network namespace.
    #[error("interface {interface} does not exist in this network namespace; `ip link` lists those that do")]
    NoInterface {
        /// The name asked for.
        interface: String,
    },
    /// The interface has fewer queues.
    #[error("interface {interface} has no queue {queue}; `ethtool -l {interface}` shows how many it has")]
    NoQueue {
        /// The interface.
        interface: String,
        /// The queue index asked for, from 0.
        queue: u32,
    },
    /// Somebody else's AF_XDP socket is bound to the queue.
    #[error(
        "queue {queue} of {interface} is taken by another AF_XDP socket; find its process with `ss --xdp -p` and \
         its XDP program with `ip link show {interface}`, and stop it"
    )]
    QueueTaken {
        /// The interface.
        interface: String,
        /// The queue index, from 0.
        queue: u32,
    },
    /// Zero-copy was required and the driver has none.
    #[error(
        "zero-copy is required, but {interface} (queue {queue}) cannot do it; set zero_copy = \"auto\" to accept \
         copy mode, or use an interface whose driver supports zero-copy (`ethtool -i {interface}` names the driver); many do \
         so only for frames of one buffer, which is an MTU of 3758 at most with frame_bytes = 4096"
    )]
    NoZeroCopy {
        /// The interface.
        interface: String,
        /// The queue index, from 0.
        queue: u32,
    },
    /// The interface is down or has gone.
    #[error("interface {interface} (queue {queue}) no longer carries its AF_XDP socket: {source}")]
    PortLost {
        /// The interface.
        interface: String,
        /// The queue index, from 0.
        queue: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// Anything else the kernel may say.
    #[error("{what} failed: {source}")]
    Kernel {
        /// What was being done.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The operating system's error inside one of xsk-rs's.
pub(super) fn cause(error: &(dyn Error + 'static)) -> io::Error {
    match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
        Some(source) => source
            .raw_os_error()
            .map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error),
        None => io::Error::other(error.to_string()),
    }
}

impl XdpError {
    /// What the kernel's `source` means when a UMEM of `need_bytes` is made.
    pub(super) fn of_umem(source: io::Error, need_bytes: u64) -> Self {
        match source.raw_os_error() {
            Some(libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT) => Self::NoAfXdp,
            Some(libc::EPERM | libc::EACCES) => Self::Privileges,
            Some(libc::ENOBUFS | libc::ENOMEM | libc::EAGAIN) => {
                Self::Memory { need_bytes, limit: memlock_limit() }
            }
            _ => Self::Kernel { what: format!("making a UMEM of {need_bytes} bytes"), source },
        }
    }

    /// What the kernel's `source` means when a socket is bound to `queue` of `interface`.
    pub(super) fn of_bind(source: io::Error, interface: &str, queue: u32, need_bytes: u64) -> Self {
        let interface = interface.to_owned();
        match source.raw_os_error() {
            Some(libc::ENODEV | libc::ENXIO) => Self::NoInterface { interface },
            Some(libc::EINVAL) => Self::NoQueue { interface, queue },
            Some(libc::EBUSY) => Self::QueueTaken { interface, queue },
            Some(libc::EOPNOTSUPP) => Self::NoZeroCopy { interface, queue },
            Some(libc::EPERM | libc::EACCES) => Self::Privileges,
            Some(libc::ENOBUFS | libc::ENOMEM) => Self::Memory { need_bytes, limit: memlock_limit() },
            _ => Self::Kernel {
                what: format!("binding an AF_XDP socket to queue {queue} of {interface}"),
                source,
            },
        }
    }
}

fn memlock_limit() -> String {
    use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((RLIM_INFINITY, _)) => "unlimited, so it is memory itself that is short".to_owned(),
        Ok((soft, _)) => format!("{soft} bytes"),
        Err(_) => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(errno: i32) -> String {
        XdpError::of_bind(io::Error::from_raw_os_error(errno), "eth7", 3, 1 << 20).to_string()
    }

    #[test]
    fn the_cure_for_missing_privileges_names_every_capability_and_no_other() {
        let (_, list) = PRIVILEGES_CURE.split_once("AmbientCapabilities=").unwrap();
        assert_eq!(list.split(' ').collect::<Vec<_>>(), CAPABILITIES.map(|(name, _)| name));
        assert!(bind(libc::EPERM).ends_with(PRIVILEGES_CURE));
    }

    #[test]
    fn every_refusal_of_bind_names_the_thing_and_the_cure() {
        for (errno, words) in [
            (libc::EBUSY, ["queue 3 of eth7", "ss --xdp -p"]),
            (libc::EINVAL, ["no queue 3", "ethtool -l eth7"]),
            (libc::ENODEV, ["eth7 does not exist", "ip link"]),
            (libc::EOPNOTSUPP, ["eth7", "zero_copy = \"auto\""]),
            (libc::EPERM, ["CAP_NET_RAW", "root"]),
            (libc::ENOBUFS, ["ulimit -l", "LimitMEMLOCK"]),
            (libc::EIO, ["queue 3 of eth7", "os error 5"]),
        ] {
            let text = bind(errno);
            for word in words {
                assert!(text.contains(word), "{errno}: {text}");
            }
        }
    }

    #[test]
    fn every_refusal_of_a_umem_names_the_limit_and_the_cure() {
        let umem = |errno| XdpError::of_umem(io::Error::from_raw_os_error(errno), 33_554_432).to_string();
        assert!(umem(libc::EAFNOSUPPORT).contains("CONFIG_XDP_SOCKETS"));
        assert!(umem(libc::EPERM).contains("CAP_NET_RAW"));
        for errno in [libc::ENOBUFS, libc::ENOMEM] {
            let text = umem(errno);
            assert!(text.contains("33554432 bytes") && text.contains("LimitMEMLOCK"), "{text}");
        }
    }
}
