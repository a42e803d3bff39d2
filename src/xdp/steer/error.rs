//! What can go wrong with steering, each in one message with its cure.

use std::io;
use std::net::IpAddr;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use thiserror::Error;

use super::{MAX_PORTS, MAX_QUEUES, Range};
use crate::xdp::error::PRIVILEGES_CURE;

/// Why the steering program could not be loaded, fed or attached.
#[derive(Debug, Error)]
pub enum SteerError {
    /// The process lacks capabilities.
    #[error("not permitted to {act}: {PRIVILEGES_CURE}")]
    NotPermitted {
        /// What was tried.
        act: &'static str,
    },
    /// The kernel has no BPF system call.
    #[error("this kernel has no BPF: Linux 5.11 or newer with CONFIG_BPF_SYSCALL=y is needed")]
    NoBpf,
    /// The kernel has no AF_XDP.
    #[error("this kernel has no AF_XDP: Linux 5.11 or newer with CONFIG_XDP_SOCKETS=y is needed")]
    NoAfXdp,
    /// The kernel did not take the program, or a map of it.
    #[error("this kernel does not take the steering program (Linux 5.11 or newer is needed)")]
    Load(#[source] EbpfError),
    /// The embedded object lacks a part: a defect of the build.
    #[error("the steering program was built without its `{part}`")]
    Incomplete {
        /// The map or program that is missing.
        part: &'static str,
    },
    /// A map could not be read or written.
    #[error("the steering program's map `{map}` cannot be {act}")]
    Map {
        /// The name of the map in the program.
        map: &'static str,
        /// "read" or "written".
        act: &'static str,
        /// What the kernel said.
        #[source]
        source: MapError,
    },
    /// The tallies of offloaded flows could not be mapped.
    #[error(
        "the tallies of offloaded flows cannot be mapped: set offload = \"off\", or a lower `offload_flows`"
    )]
    Tallies(#[source] io::Error),
    /// An interface could not be made one that flows leave by.
    #[error("interface number {exit} cannot be redirected to")]
    Exit {
        /// Its number among the exits.
        exit: u16,
        /// What the kernel said.
        #[source]
        source: aya::maps::xdp::XdpMapError,
    },
    /// A set of the rules is too large.
    #[error("{count} {what} are more than the {limit} that can be steered")]
    TooMany {
        /// Which set.
        what: &'static str,
        /// Its size.
        count: usize,
        /// The most it may have.
        limit: usize,
    },
    /// Only protocols with ports can be steered.
    #[error(
        "IP protocol {protocol} of {address} cannot be steered: only TCP (6), UDP (17) and SCTP (132) can"
    )]
    Protocol {
        /// The protocol number.
        protocol: u8,
        /// The address of the service or server, or where the range is.
        address: IpAddr,
    },
    /// Room that no frame can be given.
    #[error("{room} bytes of room for the service at {} are outside of 16..={}", service.address, super::ROOM_MAX)]
    Room {
        /// The service.
        service: super::Endpoint,
        /// Bytes of room.
        room: u16,
    },
    /// A range without a packet.
    #[error(
        "no packet can be {range}: the first port must not be above the last, and source and destination must be \
         of one family"
    )]
    Range {
        /// The range.
        range: Range,
    },
    /// There is no such interface.
    #[error("there is no interface {interface} here; `ip link show` lists those there are")]
    NoInterface {
        /// The name that was given.
        interface: String,
    },
    /// It carries no Ethernet frames.
    #[error(
        "{interface} has no MAC address: only Ethernet interfaces can be steered; `ip link show dev {interface}` \
         shows what it is"
    )]
    NoMac {
        /// The interface.
        interface: String,
    },
    /// Too many interfaces.
    #[error("interface number {port_index} is one too many: at most {MAX_PORTS} interfaces can be steered")]
    PortIndex {
        /// The number of the interface, from 0.
        port_index: u16,
    },
    /// Too many queues.
    #[error(
        "receive queue {queue} is beyond the {MAX_QUEUES} that can be steered; \
         `ethtool -L INTERFACE combined {MAX_QUEUES}` gives the interface fewer"
    )]
    Queue {
        /// The number of the queue, from 0.
        queue: u32,
    },
    /// Somebody else's program (or another xvs) sits there.
    #[error(
        "{interface} already has an XDP program: `ip -d link show dev {interface}` shows it. End the process that \
         owns it, or, if none does, remove it with `ip link set dev {interface} xdp off` (xdpgeneric off \
         for a generic one)"
    )]
    Occupied {
        /// The interface.
        interface: String,
    },
    /// The driver refused, and the fallback was forbidden.
    #[error(
        "{interface} refuses native XDP: {reason}. Native mode is required by the configuration: cure the \
         cause, use an interface whose driver has native XDP, or allow the slower generic mode"
    )]
    NativeRefused {
        /// The interface.
        interface: String,
        /// What the kernel said, and what that often means.
        reason: String,
    },
    /// Neither mode is possible.
    #[error("{interface} refuses XDP, native: {native}; generic: {generic}")]
    Refused {
        /// The interface.
        interface: String,
        /// Why native mode was refused.
        native: String,
        /// Why generic mode was refused.
        generic: String,
    },
    /// The kernel cannot tie the program to the process.
    #[error("{interface}: this kernel cannot detach XDP when a process dies: Linux 5.11 or newer is needed")]
    NoLink {
        /// The interface.
        interface: String,
    },
    /// A trial run failed.
    #[error("the steering program cannot be tried on a frame")]
    Trial(#[source] ProgramError),
}

impl SteerError {
    /// Sorts what loading can say into what an operator can do.
    pub(super) fn from_load(error: EbpfError) -> Self {
        match load_errno(&error) {
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted { act: "load the steering program" },
            Some(libc::ENOSYS) => Self::NoBpf,
            Some(libc::EINVAL) if is_socket_map(&error) => Self::NoAfXdp,
            _ => Self::Load(error),
        }
    }

    /// Whether loading may succeed if it is tried again: the verifier gives up with EAGAIN when a signal comes in
    /// (kernel/bpf/verifier.c, `do_check`), and memory for a map or the compiled program may be free in a moment.
    pub(super) fn may_pass(&self) -> bool {
        let Self::Load(error) = self else { return false };
        let refusal = match error {
            EbpfError::MapError(MapError::CreateError { io_error, .. })
            | EbpfError::ProgramError(ProgramError::LoadError { io_error, .. }) => io_error,
            EbpfError::MapError(MapError::SyscallError(error))
            | EbpfError::ProgramError(ProgramError::SyscallError(error)) => &error.io_error,
            _ => return false,
        };
        matches!(refusal.raw_os_error(), Some(libc::EAGAIN | libc::EINTR | libc::ENOMEM | libc::EBUSY))
    }
}

/// The number of the system error at the bottom of a failed load. The verifier's EACCES is left out, as it means
/// a rejected program, unless it says that only the lack of CAP_PERFMON makes it so.
fn load_errno(error: &EbpfError) -> Option<i32> {
    match error {
        EbpfError::MapError(MapError::CreateError { io_error, .. }) => io_error.raw_os_error(),
        EbpfError::MapError(MapError::SyscallError(error)) => error.io_error.raw_os_error(),
        EbpfError::ProgramError(ProgramError::LoadError { io_error, verifier_log })
            if log_blames_privileges(&verifier_log.to_string()) =>
        {
            io_error.raw_os_error()
        }
        _ => None,
    }
}

fn log_blames_privileges(verifier_log: &str) -> bool {
    verifier_log.is_empty() || verifier_log.contains("prohibited for !root")
}

fn is_socket_map(error: &EbpfError) -> bool {
    matches!(error, EbpfError::MapError(MapError::CreateError { name, .. }) if name == "sockets")
}

/// What the kernel said to an attempt to attach to `interface`, with what that number often means for XDP.
pub(super) fn attach_reason(interface: &str, error: &io::Error) -> String {
    /// The kernel's own "not supported", which has no name in user space (include/linux/errno.h).
    const ENOTSUPP: i32 = 524;
    let (meaning, cure) = match error.raw_os_error() {
        Some(libc::EOPNOTSUPP | ENOTSUPP) => (
            "the driver has none, or none beside an offload that is on",
            format!("ethtool -K {interface} lro off"),
        ),
        Some(libc::EINVAL | libc::ERANGE | libc::EMSGSIZE) => (
            "often the MTU is too large for the driver's XDP",
            format!("ip link set dev {interface} mtu 1500"),
        ),
        Some(libc::ENOSPC | libc::ENOMEM) => (
            "often there are more queues than the driver can serve with XDP",
            format!("ethtool -l {interface}` shows them, `ethtool -L {interface}"),
        ),
        _ => return error.to_string(),
    };
    format!("{error}: {meaning} (`{cure}`)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(errno: i32) -> SteerError {
        SteerError::from_load(EbpfError::MapError(MapError::CreateError {
            name: "services".to_owned(),
            io_error: io::Error::from_raw_os_error(errno),
        }))
    }

    #[test]
    fn a_load_that_a_signal_ended_is_tried_again_and_a_refused_program_is_not() {
        assert!(refused(libc::EAGAIN).may_pass());
        for errno in [libc::EPERM, libc::EINVAL, libc::E2BIG] {
            assert!(!refused(errno).may_pass());
        }
    }

    #[test]
    fn missing_privileges_are_cured_in_the_words_of_the_sockets() {
        let refused = SteerError::NotPermitted { act: "load the steering program" }.to_string();
        assert!(refused.ends_with(PRIVILEGES_CURE), "{refused}");
        assert!(crate::xdp::error::XdpError::Privileges.to_string().ends_with(PRIVILEGES_CURE));
    }
}
