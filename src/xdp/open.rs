//! Opening all sockets of one worker: one UMEM, the same queue of every interface, one copy mode.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::error::XdpError;
use super::options::{SocketOptions, ZeroCopy};
use super::socket::PortSocket;
use super::umem::Umem;

/// How long a closed socket may keep its queue: 100 ms were seen.
pub const FREED_WITHIN: Duration = Duration::from_secs(1);
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// Opens queue `queue` of every interface in `interfaces`, in that order, on one new UMEM.
///
/// Sockets that share a UMEM share its copy mode. So, when zero-copy is only preferred and one interface
/// cannot do it, all of them are opened again in copy mode. Receive rings are filled: frames flow as soon as
/// an XDP program redirects to the sockets.
///
/// A queue that is taken is asked for again for up to [`FREED_WITHIN`], sleeping meanwhile: the kernel frees
/// the queue of a closed socket some time after the close, be it one of the first attempt here or of a process
/// that has just ended.
///
/// Call in the network namespace of the interfaces.
///
/// # Errors
/// Whatever stops any of them.
pub fn open(
    interfaces: &[impl AsRef<str>],
    queue: u32,
    options: &SocketOptions,
) -> Result<(Umem, Vec<PortSocket>), XdpError> {
    match open_when_free(interfaces, queue, options) {
        Err(XdpError::NoZeroCopy { interface, .. }) if options.zero_copy == ZeroCopy::Prefer => {
            tracing::warn!(interface, queue, "no zero-copy here, so all interfaces of this worker copy");
            open_when_free(interfaces, queue, &SocketOptions { zero_copy: ZeroCopy::Never, ..*options })
        }
        opened => opened,
    }
}

fn open_when_free(
    interfaces: &[impl AsRef<str>],
    queue: u32,
    options: &SocketOptions,
) -> Result<(Umem, Vec<PortSocket>), XdpError> {
    let start = Instant::now();
    loop {
        match open_once(interfaces, queue, options) {
            Err(XdpError::QueueTaken { .. }) if start.elapsed() < FREED_WITHIN => sleep(ASK_AGAIN),
            opened => return opened,
        }
    }
}

fn open_once(
    interfaces: &[impl AsRef<str>],
    queue: u32,
    options: &SocketOptions,
) -> Result<(Umem, Vec<PortSocket>), XdpError> {
    let count = u32::try_from(interfaces.len()).expect("an interface list fits in memory");
    let mut umem = Umem::new(options, count)?;
    let mut ports = Vec::with_capacity(interfaces.len());
    for interface in interfaces {
        let mut port = PortSocket::open(&umem, interface.as_ref(), queue, options)?;
        port.refill(&mut umem)?;
        ports.push(port);
    }
    Ok((umem, ports))
}
