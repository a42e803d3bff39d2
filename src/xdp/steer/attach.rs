//! Attaching to interfaces: native first, generic as a fallback that the caller is told about.
//!
//! Always by a BPF link: the kernel detaches when the last holder of the link's descriptor is gone, so
//! nothing is left behind however the process ends.

use std::io;

use aya::programs::links::FdLink;
use aya::programs::xdp::{XdpError, XdpMode as AyaMode};
use aya::programs::{ProgramError, Xdp};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{LinkAddr, SockaddrStorage};

use super::error::attach_reason;
use super::{MAX_PORTS, SteerError, Steering};

/// Which modes will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Require {
    /// Native if the driver can, generic otherwise.
    #[default]
    Any,
    /// Native or an error.
    Native,
    /// Generic, whatever the driver can.
    Generic,
}

/// How the program runs on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver, before the kernel has built anything around the frame.
    Native,
    /// In the kernel's stack, after a copy: correct, slower. The caller owes the operator a warning.
    Generic {
        /// Why native mode was refused, with what that often means.
        native_refused: String,
    },
}

/// An interface that the program is attached to, until this is dropped.
#[derive(Debug)]
pub(super) struct Attachment {
    /// Index of the interface.
    interface: u32,
    /// The MAC address that the program knows it by.
    mac: [u8; 6],
    /// Closing it detaches: see [`leave`](super::leave).
    pub(super) link: FdLink,
}

impl Steering {
    /// Attaches the program to `interface` (a name in this thread's network namespace), whose sockets are
    /// those set with the same `port_index` (below [`MAX_PORTS`], one for each interface).
    ///
    /// Frames that are ours pass to the kernel until their queue's socket is set. Only those sent to the MAC
    /// address that the interface has now are ours; [`set_mac`](Self::set_mac) follows it.
    ///
    /// # Errors
    /// Leave nothing attached: no such interface or one without Ethernet, another XDP program there, missing
    /// privileges, native mode refused though `require`d, or neither mode possible.
    pub fn attach(
        &mut self,
        interface: &str,
        port_index: u16,
        require: Require,
    ) -> Result<XdpMode, SteerError> {
        if port_index >= MAX_PORTS {
            return Err(SteerError::PortIndex { port_index });
        }
        let index = if_nametoindex(interface)
            .map_err(|_| SteerError::NoInterface { interface: interface.to_owned() })?;
        let mac = mac_of(index).ok_or_else(|| SteerError::NoMac { interface: interface.to_owned() })?;
        self.detach(port_index)?;
        self.ports.set(index, port_index, mac)?;
        match link(self.program()?, interface, index, require) {
            Ok((link, mode)) => {
                self.attachments.insert(port_index, Attachment { interface: index, mac, link });
                Ok(mode)
            }
            Err(error) => {
                self.ports.remove(index)?;
                Err(error)
            }
        }
    }

    /// Tells the program the MAC address that the interface attached as `port_index` has now. Without such an
    /// interface, or without a change, this does nothing.
    ///
    /// # Errors
    /// If the map of interfaces cannot be written; the program still knows the old address then.
    pub fn set_mac(&mut self, port_index: u16, mac: [u8; 6]) -> Result<(), SteerError> {
        let Some(attachment) = self.attachments.get_mut(&port_index).filter(|a| a.mac != mac) else {
            return Ok(());
        };
        self.ports.set(attachment.interface, port_index, mac)?;
        attachment.mac = mac;
        Ok(())
    }

    /// Detaches the program from the interface with this `port_index`, if there is one. Dropping `Steering`
    /// detaches from all.
    ///
    /// # Errors
    /// If the map of interfaces cannot be written; the interface is detached all the same.
    pub fn detach(&mut self, port_index: u16) -> Result<(), SteerError> {
        match self.attachments.remove(&port_index) {
            Some(attachment) => {
                let interface = attachment.interface;
                self.leave([attachment]);
                self.ports.remove(interface)
            }
            None => Ok(()),
        }
    }
}

/// The MAC address of the interface with this index, if it is there and has one.
fn mac_of(interface: u32) -> Option<[u8; 6]> {
    let is_it = |link: &LinkAddr| u32::try_from(link.ifindex()) == Ok(interface) && link.halen() == 6;
    getifaddrs()
        .ok()?
        .filter_map(|entry| entry.address.as_ref().and_then(SockaddrStorage::as_link_addr).copied())
        .find(is_it)?
        .addr()
}

/// Links the program in the best mode that `require` allows.
fn link(
    program: &mut Xdp,
    interface: &str,
    index: u32,
    require: Require,
) -> Result<(FdLink, XdpMode), SteerError> {
    let native = if require == Require::Generic {
        "it was not tried, since generic mode is required".to_owned()
    } else {
        match link_in_mode(program, interface, index, AyaMode::Driver)? {
            Ok(link) => return Ok((link, XdpMode::Native)),
            Err(refusal) => attach_reason(interface, &refusal),
        }
    };
    if require == Require::Native {
        return Err(SteerError::NativeRefused { interface: interface.to_owned(), reason: native });
    }
    match link_in_mode(program, interface, index, AyaMode::Skb)? {
        Ok(link) => Ok((link, XdpMode::Generic { native_refused: native })),
        Err(refusal) => Err(SteerError::Refused {
            interface: interface.to_owned(),
            native,
            generic: attach_reason(interface, &refusal),
        }),
    }
}

/// One attempt: a link, a refusal of this mode (inner error), or what no other mode would cure (outer error).
fn link_in_mode(
    program: &mut Xdp,
    interface: &str,
    index: u32,
    mode: AyaMode,
) -> Result<Result<FdLink, io::Error>, SteerError> {
    let error = match program.attach_to_if_index(index, mode) {
        Ok(id) => {
            let link = program.take_link(id).map_err(|error| SteerError::Load(error.into()))?;
            // Kernels without links get the program by netlink, where it would outlive the process: the
            // failed conversion drops and so detaches it.
            return FdLink::try_from(link)
                .map(Ok)
                .map_err(|_| SteerError::NoLink { interface: interface.to_owned() });
        }
        Err(ProgramError::SyscallError(error)) => error.io_error,
        Err(ProgramError::XdpError(XdpError::NetlinkError(error))) => match error.raw_os_error() {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::other(error.to_string()),
        },
        Err(error) => io::Error::other(error.to_string()),
    };
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            Err(SteerError::NotPermitted { act: "attach the steering program" })
        }
        // EBUSY: one in the same mode. EEXIST: one in the other mode.
        Some(libc::EBUSY | libc::EEXIST) => Err(SteerError::Occupied { interface: interface.to_owned() }),
        Some(libc::ENODEV) => Err(SteerError::NoInterface { interface: interface.to_owned() }),
        _ => Ok(Err(error)),
    }
}
