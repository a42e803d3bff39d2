//! Socket options that xsk-rs does not wrap, and a question to the kernel.

#![allow(unsafe_code, reason = "rings and packet memory: every block names its invariant")]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::steer::bare_socket;

/// `XDP_OPTIONS` of `linux/if_xdp.h`: what the socket became.
const XDP_OPTIONS: libc::c_int = 8;
/// Its bit for zero-copy.
const XDP_OPTIONS_ZEROCOPY: u32 = 1;
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "44")]
const AF_XDP: u16 = libc::AF_XDP as u16;
/// Microseconds a busy poll may last.
const BUSY_POLL_US: u32 = 20;
/// Frames a busy poll may handle.
const BUSY_POLL_BUDGET: u32 = 64;

/// Whether the bound socket is zero-copy.
pub(super) fn is_zero_copy(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut options = 0u32;
    let mut len = option_len();
    // SAFETY: the kernel writes at most `len` bytes, the size of `options`, which outlives the call.
    let status = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_XDP,
            XDP_OPTIONS,
            (&raw mut options).cast::<libc::c_void>(),
            &raw mut len,
        )
    };
    if status != 0 { Err(io::Error::last_os_error()) } else { Ok(options & XDP_OPTIONS_ZEROCOPY != 0) }
}

/// Whether the kernel's AF_XDP takes frames of several chunks ([`long_frames`](super::options::SocketOptions::long_frames)),
/// which it does since Linux 6.6.
///
/// # Errors
/// No AF_XDP in the kernel, or no privileges.
pub fn kernel_has_long_frames() -> io::Result<bool> {
    let socket = bare_socket()?;
    // No interface has this number: a kernel that knows the flag says so, another one that it does not know the flag.
    let to = libc::sockaddr_xdp {
        sxdp_family: AF_XDP,
        sxdp_flags: libc::XDP_USE_SG,
        sxdp_ifindex: 0,
        sxdp_queue_id: 0,
        sxdp_shared_umem_fd: 0,
    };
    let len = mem::size_of_val(&to);
    // SAFETY: the kernel reads `len` bytes, the size of `to`, which outlives the call.
    let status = unsafe { libc::bind(socket.as_raw_fd(), (&raw const to).cast(), socklen(len)) };
    match io::Error::last_os_error() {
        _ if status == 0 => Ok(true),
        error if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        error if error.raw_os_error() == Some(libc::ENODEV) => Ok(true),
        error => Err(error),
    }
}

/// Lets the worker drive the driver's receive path.
pub(super) fn prefer_busy_poll(fd: BorrowedFd<'_>) -> io::Result<()> {
    set(fd, libc::SOL_SOCKET, libc::SO_PREFER_BUSY_POLL, 1)?;
    set(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL, BUSY_POLL_US)?;
    set(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL_BUDGET, BUSY_POLL_BUDGET)
}

fn set(fd: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int, value: u32) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes as `value` has, and `value` outlives the call.
    let status = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            (&raw const value).cast::<libc::c_void>(),
            option_len(),
        )
    };
    if status != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

const fn option_len() -> libc::socklen_t {
    socklen(mem::size_of::<u32>())
}

#[allow(clippy::cast_possible_truncation, reason = "the size of a small struct")]
const fn socklen(len: usize) -> libc::socklen_t {
    len as libc::socklen_t
}
