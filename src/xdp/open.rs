//! Opening all sockets of one worker: one UMEM, the same queue of every interface, one copy mode.

use super::error::XdpError;
use super::options::{SocketOptions, ZeroCopy};
use super::socket::PortSocket;
use super::umem::Umem;

/// Opens queue `queue` of every interface in `interfaces`, in that order, on one new UMEM.
///
/// Sockets that share a UMEM share its copy mode. So, when zero-copy is only preferred and one interface
/// cannot do it, all of them are opened again in copy mode. Receive rings are filled: frames flow as soon as
/// an XDP program redirects to the sockets.
///
/// Call in the network namespace of the interfaces.
///
/// # Errors
/// Whatever stops any of them; nothing stays open then.
pub fn open(
    interfaces: &[impl AsRef<str>],
    queue: u32,
    options: &SocketOptions,
) -> Result<(Umem, Vec<PortSocket>), XdpError> {
    match open_once(interfaces, queue, options) {
        Err(XdpError::NoZeroCopy { interface, .. }) if options.zero_copy == ZeroCopy::Prefer => {
            tracing::warn!(interface, queue, "no zero-copy here, so all interfaces of this worker copy");
            open_once(interfaces, queue, &SocketOptions { zero_copy: ZeroCopy::Never, ..*options })
        }
        opened => opened,
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
