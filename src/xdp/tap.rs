//! A TAP device: frames written to it arrive in the kernel's stack as if by an interface of that name, and what the
//! kernel sends by it can be read.
//!
//! One queue for each worker, so that no worker waits for another. The device is not persistent: it is gone with the
//! last of its queues, however the process ends.

#![allow(unsafe_code, reason = "one ioctl that no crate in use wraps")]

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read as _, Write as _};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Where the kernel makes such devices.
pub const TUN_FILE: &str = "/dev/net/tun";
/// Most queues of one device: the kernel's `MAX_TAP_QUEUES`.
pub const MAX_QUEUES: usize = 256;

/// A frame's destination MAC, and where its EtherType is.
const MAC_LEN: usize = 6;
const TYPE: usize = 12;
const TAG_LEN: usize = 4;
/// 802.1Q and 802.1ad.
const VLAN_TYPES: [[u8; 2]; 2] = [[0x81, 0], [0x88, 0xa8]];

/// One queue of the device.
#[derive(Debug)]
pub struct Tap {
    file: File,
    mac: [u8; MAC_LEN],
    heard: Arc<AtomicBool>,
}

/// `struct ifreq` as `TUNSETIFF` reads it.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: u16,
    rest: [u8; 22],
}

const _: () = assert!(mem::size_of::<Request>() == mem::size_of::<libc::ifreq>());

impl Tap {
    /// Makes device `name` with so many queues in the network namespace of the calling thread; it is down.
    ///
    /// # Errors
    /// There is one of that name, the kernel has no TAP devices, or does not allow it.
    pub fn make(name: &str, queues: usize) -> io::Result<Vec<Self>> {
        let heard = Arc::new(AtomicBool::new(false));
        let open = |queue| {
            // The first makes it, and must not join another's; the others must not make another one.
            let first = if queue == 0 { libc::IFF_TUN_EXCL } else { 0 };
            let file =
                OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(TUN_FILE)?;
            join(file.as_fd(), name, libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_MULTI_QUEUE | first)?;
            Ok(Self { file, mac: [0; MAC_LEN], heard: heard.clone() })
        };
        (0..queues).map(open).collect()
    }

    /// Tells it the device's own MAC address, without which the kernel takes no frame as its own.
    pub fn set_mac(&mut self, mac: [u8; MAC_LEN]) {
        self.mac = mac;
    }

    /// Gives a frame to the kernel, addressed to this device and without a VLAN tag; nothing else is changed. Does not
    /// wait.
    ///
    /// # Errors
    /// The device is down, or the kernel has no memory.
    pub fn write(&self, frame: &[u8]) -> io::Result<()> {
        let short = || io::Error::from(io::ErrorKind::InvalidInput);
        let kind = frame.get(TYPE..TYPE + 2).ok_or_else(short)?;
        let tag = if VLAN_TYPES.iter().any(|t| t == kind) { TAG_LEN } else { 0 };
        let rest = frame.get(TYPE + tag..).ok_or_else(short)?;
        let parts = [IoSlice::new(&self.mac), IoSlice::new(&frame[MAC_LEN..TYPE]), IoSlice::new(rest)];
        (&self.file).write_vectored(&parts).map(drop)
    }

    /// Reads a frame that the kernel has sent; its length in bytes comes back, none if there is none. Does not wait.
    pub fn read(&self, room: &mut [u8]) -> Option<usize> {
        (&self.file).read(room).ok().filter(|&len| len > 0)
    }

    /// Whether anybody expects the kernel to send frames by the device.
    pub fn is_heard(&self) -> bool {
        self.heard.load(Relaxed)
    }

    /// What [`is_heard`](Self::is_heard) says of every queue, to be set by whoever knows.
    pub fn heard(&self) -> Arc<AtomicBool> {
        self.heard.clone()
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Makes an open file a queue of a device.
fn join(fd: BorrowedFd<'_>, name: &str, flags: libc::c_int) -> io::Result<()> {
    let mut request = Request { name: [0; libc::IFNAMSIZ], flags: 0, rest: [0; 22] };
    request.flags = u16::try_from(flags).expect("flags of 16 bits");
    // One byte less: the name ends with a zero.
    let room = request.name.get_mut(..name.len()).filter(|room| room.len() < libc::IFNAMSIZ);
    room.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?.copy_from_slice(name.as_bytes());
    // SAFETY: the kernel reads and writes one `struct ifreq`, whose size `request` has (asserted); it outlives the call.
    let status = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if status != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
