//! What was counted of each offloaded flow, and whether it still holds: an array of the program's that is mapped into
//! this process. A flow ends by one store here, for all CPUs, without a system call and without a lock.
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use aya::maps::MapData;

/// `struct tally` of the program.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Tally {
    serial: AtomicU32,
    services: AtomicU32,
    routes: AtomicU32,
    unused: AtomicU32,
    packets: AtomicU64,
    bytes: AtomicU64,
    seen_ns: AtomicU64,
    unused_too: [AtomicU64; 3],
}

const _: () = assert!(size_of::<Tally>() == 64, "as in the program");

impl Tally {
    /// Lets the flow with this serial number, not 0, begin: nothing counted yet. It holds as long as the program is told
    /// the same numbers of services and routes.
    pub fn begin(&self, serial: u32, services: u32, routes: u32) {
        for counter in [&self.packets, &self.bytes, &self.seen_ns] {
            counter.store(0, Relaxed);
        }
        self.services.store(services, Relaxed);
        self.routes.store(routes, Relaxed);
        self.serial.store(serial, SeqCst);
    }

    /// Ends the flow: packets that arrive from now on come up.
    pub fn end(&self) {
        self.serial.store(0, SeqCst);
    }

    /// The serial number of the flow, 0 if it has ended.
    pub fn serial(&self) -> u32 {
        self.serial.load(SeqCst)
    }

    /// The numbers of services and routes that it began with.
    pub fn numbers(&self) -> (u32, u32) {
        (self.services.load(Relaxed), self.routes.load(Relaxed))
    }

    /// Packets, and bytes of IP, since the beginning.
    pub fn counted(&self) -> (u64, u64) {
        (self.packets.load(Relaxed), self.bytes.load(Relaxed))
    }

    /// When the last packet came, by [`monotonic_ns`] and right within two ticks of the kernel's (of at most 10 ms); none
    /// if none came.
    pub fn seen_ns(&self) -> Option<u64> {
        Some(self.seen_ns.load(Relaxed)).filter(|&ns| ns > 0)
    }
}

/// All tallies.
pub struct Tallies {
    /// Keeps the map for as long as it is mapped; nobody needs it for more.
    _map: MapData,
    start: NonNull<Tally>,
    len: usize,
}

impl fmt::Debug for Tallies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tallies").field("len", &self.len).finish_non_exhaustive()
    }
}

// SAFETY: `start` is a shared mapping that only this value unmaps; what it holds is atomic integers.
unsafe impl Send for Tallies {}
// SAFETY: only shared references to atomic integers are handed out.
unsafe impl Sync for Tallies {}

impl Tallies {
    /// Maps the array, which has `len` elements.
    pub(super) fn new(map: MapData, len: u32) -> io::Result<Self> {
        let len = len as usize;
        // SAFETY: a new mapping of a whole map, which its descriptor allows (BPF_F_MMAPABLE); no memory that there is
        // is touched.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len * size_of::<Tally>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast::<Tally>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { _map: map, start, len })
    }

    /// The tally with this number.
    pub fn get(&self, number: u32) -> Option<&Tally> {
        self.all().get(number as usize)
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True if there are none, which cannot be.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn all(&self) -> &[Tally] {
        // SAFETY: `start` maps `len` tallies, on a page's boundary, for as long as `self` lives; the kernel changes them
        // by atomic additions and whole stores, and any bytes are valid atomic integers.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Tallies {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `new` mapped; no reference to it outlives `self`.
        let _cannot_fail = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len * size_of::<Tally>()) };
    }
}

/// Nanoseconds since the machine started, as the program reads them (`bpf_ktime_get_coarse_ns`).
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec, which `now` is.
    let _cannot_fail = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    let (s, ns) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    s.unwrap_or_default() * 1_000_000_000 + ns.unwrap_or_default()
}
