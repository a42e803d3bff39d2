//! One AF_XDP socket: the four rings of one queue of one interface, and how many frames are in them.
//!
//! ```text
//!  pool ──refill──> fill ring ──kernel──> receive ring ──receive──> hands
//!  pool <──reap── completion ring <──kernel── transmit ring <──transmit, flush── hands
//! ```
//!
//! At most one ring of frames is given to the kernel in each direction, so no ring can overflow.
//!
//! With long frames there are more chunks than packets: socket/long.rs.

#![allow(unsafe_code, reason = "rings and packet memory: every block names its invariant")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use arrayvec::ArrayVec;
use nix::sys::socket::{MsgFlags, getsockopt, recv, sockopt as sockopt_of_nix};
use xsk_rs::config::{BindFlags, Interface, LibxdpFlags, QueueSize, SocketConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue};

use super::error::{XdpError, cause};
use super::frame::{BATCH, Body, Frame, Frames, UmemId};
use super::ledger::Place;
use super::options::{SocketOptions, ZeroCopy};
use super::sockopt;
use super::umem::Umem;

mod long;

pub use long::NotSent;
pub use xsk_rs::socket::XdpStatistics;

/// Frames that a `sendto` transmits in copy mode. Newer kernels let a socket raise it (`XDP_MAX_TX_SKB_BUDGET`);
/// on veth that made no difference that could be measured.
const COPY_MODE_BUDGET: usize = 32;
/// Calls in a row that may show no progress before the kernel counts as busy. Kernels before 6.17 tell how far they have
/// read the transmit ring only when they have read all they knew of (`__xsk_generic_xmit` in net/xdp/xsk.c), so that a
/// batch takes as many calls as its budget asks for, and one more that tells.
const BLIND_CALLS: usize = BATCH.div_ceil(COPY_MODE_BUDGET) + 1;

/// The socket of one queue of one interface; one thread owns it.
#[derive(Debug)]
pub struct PortSocket {
    receive: RxQueue,
    transmit: TxQueue,
    fill: FillQueue,
    complete: CompQueue,
    /// Accepted by [`transmit`](Self::transmit), not in the ring yet.
    staged: ArrayVec<FrameDesc, BATCH>,
    /// Frames in the fill ring, the driver and the receive ring.
    receiving: usize,
    /// Frames staged, in the transmit ring, in the driver and in the completion ring.
    transmitting: usize,
    /// Whether the transmit ring may hold frames that the kernel has not looked at.
    unsent: bool,
    ring_len: usize,
    long_frames: bool,
    gathering: Option<long::Gathering>,
    busy_poll: bool,
    zero_copy: bool,
    umem: UmemId,
    interface: String,
    queue: u32,
}

impl PortSocket {
    /// Binds to `queue` of `interface`, with its receive ring still empty.
    ///
    /// # Errors
    /// The interface or queue does not exist, is taken, or cannot do what `options` require.
    pub fn open(umem: &Umem, interface: &str, queue: u32, options: &SocketOptions) -> Result<Self, XdpError> {
        options.check()?;
        let ring = QueueSize::new(options.ring_len).expect("checked to be a power of two");
        let mode = match options.zero_copy {
            ZeroCopy::Prefer => BindFlags::empty(),
            ZeroCopy::Require => BindFlags::XDP_ZEROCOPY,
            ZeroCopy::Never => BindFlags::XDP_COPY,
        };
        let several = if options.long_frames { BindFlags::XDP_USE_SG } else { BindFlags::empty() };
        let config = SocketConfig::builder()
            .rx_queue_size(ring)
            .tx_queue_size(ring)
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(mode | several | BindFlags::XDP_USE_NEED_WAKEUP)
            .build();
        let device: Interface =
            interface.parse().map_err(|_| XdpError::NoInterface { interface: interface.to_owned() })?;
        // SAFETY: the program is never loaded by libxdp (INHIBIT_PROG_LOAD), which is the condition.
        let made = unsafe { Socket::new(config, &umem.area, &device, queue) };
        let (transmit, receive, rings) =
            made.map_err(|error| XdpError::of_bind(cause(&error), interface, queue, umem.len_bytes()))?;
        // Without its own rings it is the second socket of this UMEM on the same queue.
        let Some((fill, complete)) = rings else {
            return Err(XdpError::QueueTaken { interface: interface.to_owned(), queue });
        };

        let mut port = Self {
            receive,
            transmit,
            fill,
            complete,
            staged: ArrayVec::new(),
            receiving: 0,
            transmitting: 0,
            unsent: false,
            ring_len: options.ring_len as usize,
            long_frames: options.long_frames,
            gathering: None,
            busy_poll: options.busy_poll,
            zero_copy: false,
            umem: umem.id,
            interface: interface.to_owned(),
            queue,
        };
        port.zero_copy = sockopt::is_zero_copy(port.as_fd()).map_err(|source| XdpError::Kernel {
            what: format!("asking whether queue {queue} of {interface} is zero-copy"),
            source,
        })?;
        if options.zero_copy == ZeroCopy::Require && !port.zero_copy {
            return Err(XdpError::NoZeroCopy { interface: interface.to_owned(), queue });
        }
        if options.busy_poll
            && let Err(error) = sockopt::prefer_busy_poll(port.as_fd())
        {
            tracing::warn!(interface, queue, %error, "busy polling without the driver's help");
        }
        Ok(port)
    }

    /// Name of the interface.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Index of the queue, from 0.
    pub const fn queue(&self) -> u32 {
        self.queue
    }

    /// Whether the kernel made it zero-copy.
    pub const fn zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// Frames the kernel has to receive into, read or not.
    pub const fn receiving(&self) -> usize {
        self.receiving
    }

    /// Frames accepted for transmission whose completion has not been seen.
    pub const fn transmitting(&self) -> usize {
        self.transmitting
    }

    /// Whether frames wait for the kernel to take them: call [`flush`](Self::flush) again.
    pub fn has_unsent(&self) -> bool {
        self.unsent || !self.staged.is_empty()
    }

    /// The kernel's own counters of this socket since it was opened.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn statistics(&self) -> io::Result<XdpStatistics> {
        self.receive.fd().xdp_statistics()
    }

    /// Appends what has arrived to `frames`, as far as it has room; the number of frames comes back.
    pub fn receive(&mut self, umem: &mut Umem, frames: &mut Frames) -> usize {
        self.assert_same(umem);
        let mut descs = [FrameDesc::default(); BATCH];
        let mut most = frames.remaining_capacity();
        if self.long_frames {
            most = most.min(umem.long.len()); // Each may be the beginning of a long one.
        }
        // SAFETY: the ring and the UMEM belong together since they were made.
        let count = unsafe { self.receive.consume(&mut descs[..most]) };
        self.receiving -= count;
        umem.held += count;
        let before = frames.len();
        for desc in &descs[..count] {
            umem.places.change(umem.chunk(desc), Place::Receive, Place::Held);
            let len = desc.lengths().data();
            let mut frame = Frame { body: Body::Chunk(*desc), len: 0, umem: umem.id };
            frame.set_len(len);
            if self.long_frames && self.is_part(umem, desc) {
                frames.extend(self.gather(umem, frame, desc.has_more_frames()));
            } else {
                frames.push(frame);
            }
        }
        frames.len() - before
    }

    /// Gives the kernel as many free frames to receive into as it may have and the pool has.
    ///
    /// # Errors
    /// [`XdpError::PortLost`].
    pub fn refill(&mut self, umem: &mut Umem) -> Result<(), XdpError> {
        self.assert_same(umem);
        let count = (self.ring_len - self.receiving).min(umem.pool.len());
        if count > 0 {
            let free = &umem.pool[umem.pool.len() - count..];
            // SAFETY: descriptors in the pool are free frames of this UMEM, and those taken leave the pool below.
            let mut taken = unsafe { self.fill.produce(free) };
            if taken < count {
                taken = self.fill_what_fits(free);
            }
            let kept = umem.pool.len() - taken;
            for desc in umem.pool.drain(kept..) {
                umem.places.change(desc.addr() >> umem.chunk_shift, Place::Pool, Place::Receive);
            }
            self.receiving += taken;
        }
        if self.busy_poll || self.fill.needs_wakeup() {
            self.drive_receive()?;
        }
        Ok(())
    }

    /// The ring shows less room than was received from it: the kernel hands over what has arrived a moment before it tells
    /// that it has read the frames it arrived in (`xsk_flush` in net/xdp/xsk.c), and may be interrupted in between.
    /// What does not fit stays free until the next turn. How many were taken, from the last one on, comes back.
    #[cold]
    fn fill_what_fits(&mut self, free: &[FrameDesc]) -> usize {
        // SAFETY: as in `refill`.
        free.iter().rev().take_while(|desc| unsafe { self.fill.produce_one(desc) } == 1).count()
    }

    /// Lets the driver look at its queue.
    fn drive_receive(&self) -> Result<(), XdpError> {
        match recv(self.receive.fd().as_raw_fd(), &mut [], MsgFlags::MSG_DONTWAIT) {
            Ok(_)
            | Err(nix::Error::EAGAIN | nix::Error::EBUSY | nix::Error::EINTR | nix::Error::ENETDOWN) => {
                Ok(())
            }
            Err(error) => Err(self.lost(error.into())),
        }
    }

    /// Accepts a frame for transmission, or gives it back when the ring is full even after reaping.
    ///
    /// # Errors
    /// The frame itself: the caller still owns it.
    #[inline]
    pub fn transmit(&mut self, umem: &mut Umem, frame: Frame) -> Result<(), Frame> {
        umem.assert_mine(&frame);
        self.assert_same(umem);
        if matches!(frame.body, Body::Long(_)) {
            return self.transmit_long(umem, frame);
        }
        if !self.has_place(umem, 1) {
            return Err(frame);
        }
        let len = frame.len();
        if let Body::Chunk(mut desc) = frame.into_body() {
            // SAFETY: the handle was unique and its frame is in no ring; only the length is set.
            let mut data = unsafe { umem.area.data_mut(&mut desc) };
            data.cursor().set_pos(len);
            umem.held -= 1;
            self.stage(umem, desc, Place::Held);
        }
        Ok(())
    }

    /// Whether so many chunks can be staged, if need be after reaping and submitting.
    #[inline]
    fn has_place(&mut self, umem: &mut Umem, chunks: usize) -> bool {
        if self.transmitting + chunks > self.ring_len {
            self.reap(umem);
            if self.transmitting + chunks > self.ring_len {
                return false;
            }
        }
        if self.staged.remaining_capacity() < chunks {
            self.submit();
        }
        self.staged.remaining_capacity() >= chunks
    }

    #[inline]
    fn stage(&mut self, umem: &mut Umem, desc: FrameDesc, from: Place) {
        umem.places.change(umem.chunk(&desc), from, Place::Transmit);
        self.staged.push(desc);
        self.transmitting += 1;
    }

    /// Puts what is staged into the transmit ring.
    fn submit(&mut self) {
        // Either it is in the ring then, or the ring is full of what waits before it.
        self.unsent |= !self.staged.is_empty();
        // SAFETY: staged descriptors came out of frame handles, so they are in no other place.
        let taken = unsafe { self.transmit.produce(&self.staged) };
        if taken < self.staged.len() {
            return self.submit_what_fits();
        }
        self.staged.clear();
    }

    /// The ring shows less room than was completed: kernels before 6.17 complete a frame before they tell that they have
    /// read it. See [`BLIND_CALLS`].
    #[cold]
    fn submit_what_fits(&mut self) {
        let room = self.staged.len().min(self.transmit.nb_free_exact() as usize);
        // SAFETY: as in `submit`; what is taken leaves `staged` here.
        let taken = unsafe { self.transmit.produce(&self.staged[..room]) };
        self.staged.drain(..taken);
    }

    /// Hands the transmit ring to the kernel, waking it as often as it makes progress; how often comes back.
    ///
    /// What a busy kernel leaves in the ring stays there: see [`has_unsent`](Self::has_unsent).
    ///
    /// # Errors
    /// [`XdpError::PortLost`].
    pub fn flush(&mut self) -> Result<usize, XdpError> {
        self.submit();
        let (mut kicks, mut blind) = (0, 0);
        while self.unsent && kicks <= self.ring_len / COPY_MODE_BUDGET {
            if !self.transmit.needs_wakeup() {
                self.unsent = false; // The driver is at it and needs no call.
                break;
            }
            let waiting = self.ring_len - self.transmit.nb_free_exact() as usize;
            self.transmit.wakeup().map_err(|error| self.lost(error))?;
            kicks += 1;
            let left = self.ring_len - self.transmit.nb_free_exact() as usize;
            self.unsent = left > 0;
            blind = if left == waiting { blind + 1 } else { 0 };
            if blind == BLIND_CALLS {
                break;
            }
        }
        Ok(kicks)
    }

    /// Puts transmitted frames back into the pool; their number comes back.
    pub fn reap(&mut self, umem: &mut Umem) -> usize {
        self.assert_same(umem);
        let mut reaped = 0;
        let mut descs = [FrameDesc::default(); BATCH];
        while self.transmitting - self.staged.len() > reaped {
            // SAFETY: the ring and the UMEM belong together since they were made.
            let count = unsafe { self.complete.consume(&mut descs) };
            for desc in &descs[..count] {
                umem.places.change(umem.chunk(desc), Place::Transmit, Place::Pool);
            }
            umem.pool.extend_from_slice(&descs[..count]);
            reaped += count;
            if count < BATCH {
                break;
            }
        }
        self.transmitting -= reaped;
        reaped
    }

    /// Whether the socket still stands: its interface may have vanished, which poll does not tell.
    ///
    /// # Errors
    /// [`XdpError::PortLost`].
    pub fn check(&self) -> Result<(), XdpError> {
        match getsockopt(self, sockopt_of_nix::SocketError) {
            Ok(0) => Ok(()),
            Ok(errno) => Err(self.lost(io::Error::from_raw_os_error(errno))),
            Err(error) => Err(self.lost(error.into())),
        }
    }

    fn lost(&self, source: io::Error) -> XdpError {
        XdpError::PortLost { interface: self.interface.clone(), queue: self.queue, source }
    }

    #[inline]
    fn assert_same(&self, umem: &Umem) {
        assert!(self.umem == umem.id, "a socket is used with the UMEM it was opened on");
    }
}

impl AsFd for PortSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket is open for as long as its queues exist, and `self` owns them.
        unsafe { BorrowedFd::borrow_raw(self.receive.fd().as_raw_fd()) }
    }
}

impl AsRawFd for PortSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.receive.fd().as_raw_fd()
    }
}
