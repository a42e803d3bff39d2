//! One worker's packet memory and its free pool.
//!
//! ```text
//!  chunk:  │ headroom 256 │ packet ......................│
//!                         ^ first byte of the room       ^ end of the room
//! ```

#![allow(unsafe_code, reason = "rings and packet memory: every block names its invariant")]

use std::num::NonZeroU32;
use std::slice;
use std::sync::atomic::{AtomicU32, Ordering};

use xsk_rs::FrameDesc;
use xsk_rs::config::{FrameSize, QueueSize, UmemConfig};

use super::error::{XdpError, cause};
use super::frame::{BATCH, Body, Frame, UmemId};
use super::ledger::{Census, Place, Places};
use super::options::{LONG_LEN, SocketOptions};
use super::socket::PortSocket;

/// The usual huge page; the UMEM is a multiple of it when huge pages are asked for.
const HUGE_PAGE_LEN: u32 = 2 << 20;

/// Packet memory shared by the sockets of one worker, and the frames nobody uses at the moment.
#[derive(Debug)]
pub struct Umem {
    pub(super) area: xsk_rs::Umem,
    pub(super) id: UmemId,
    /// Last in, first out: the frame used last is the one still in the cache.
    pub(super) pool: Vec<FrameDesc>,
    pub(super) held: usize,
    pub(super) places: Places,
    /// Buffers for frames of several chunks, if there are any such: one for each frame in hand, and for each port one for
    /// a frame that is not whole yet.
    pub(super) long: Vec<Box<[u8]>>,
    total: usize,
    pub(super) chunk_shift: u32,
    hugepages: bool,
}

impl Umem {
    /// Packet memory for `sockets` sockets, all of it in the pool.
    ///
    /// Huge pages that were asked for but are not there are replaced by ordinary ones, with a warning.
    ///
    /// # Errors
    /// No AF_XDP in the kernel, no privileges, or too little (locked) memory.
    pub fn new(options: &SocketOptions, sockets: u32) -> Result<Self, XdpError> {
        options.check()?;
        let mut count = options.frames_per_socket() * sockets.max(1);
        if options.hugepages {
            count = count.next_multiple_of(HUGE_PAGE_LEN / options.chunk_len);
        }
        let need_bytes = u64::from(count) * u64::from(options.chunk_len);
        let ring = QueueSize::new(options.ring_len).expect("checked to be a power of two");
        let config = UmemConfig::builder()
            .frame_size(FrameSize::new(options.chunk_len).expect("checked to be a chunk length"))
            .fill_queue_size(ring)
            .comp_queue_size(ring)
            .build()
            .expect("both chunk lengths have room beyond the headroom");
        let frames = NonZeroU32::new(count).expect("at least one socket, at least one ring");
        let make = |huge| xsk_rs::Umem::new(config, frames, huge);

        let mut hugepages = options.hugepages;
        let made = match make(hugepages) {
            Err(error) if hugepages => {
                tracing::warn!(
                    need_bytes,
                    cause = %cause(&error),
                    "no huge pages for packet memory, using ordinary ones; reserve some with \
                     `sysctl vm.nr_hugepages=N`"
                );
                hugepages = false;
                make(false)
            }
            made => made,
        };
        let (area, pool) = made.map_err(|error| XdpError::of_umem(cause(&error), need_bytes))?;

        let long = if options.long_frames { BATCH + sockets as usize } else { 0 };
        static NEXT_ID: AtomicU32 = AtomicU32::new(0);
        Ok(Self {
            area,
            id: UmemId(NEXT_ID.fetch_add(1, Ordering::Relaxed)),
            held: 0,
            places: Places::new(pool.len()),
            long: (0..long).map(|_| vec![0; LONG_LEN].into()).collect(),
            total: pool.len(),
            pool,
            chunk_shift: options.chunk_len.trailing_zeros(),
            hugepages,
        })
    }

    /// Size of the packet memory in bytes.
    pub fn len_bytes(&self) -> u64 {
        (self.total as u64) << self.chunk_shift
    }

    /// Whether it lies on huge pages.
    pub const fn hugepages(&self) -> bool {
        self.hugepages
    }

    /// A free frame with no packet in it, or `None` when all are in use.
    pub fn take(&mut self) -> Option<Frame> {
        let desc = self.pool.pop()?;
        self.held += 1;
        self.places.change(self.chunk(&desc), Place::Pool, Place::Held);
        Some(Frame { body: Body::Chunk(desc), len: 0, umem: self.id })
    }

    /// A free frame with room for the longest packet that its sockets take.
    pub fn take_longest(&mut self) -> Option<Frame> {
        match self.long.pop() {
            Some(buffer) => Some(Frame { body: Body::Long(buffer), len: 0, umem: self.id }),
            None => self.take(),
        }
    }

    /// Puts a frame back into the pool.
    pub fn recycle(&mut self, frame: Frame) {
        self.assert_mine(&frame);
        match frame.into_body() {
            Body::Chunk(desc) => {
                self.places.change(self.chunk(&desc), Place::Held, Place::Pool);
                self.held -= 1;
                self.pool.push(desc);
            }
            Body::Long(buffer) => self.long.push(buffer),
        }
    }

    /// The bytes from the packet's first one to the end of the chunk, or of the buffer that is longer than one.
    #[inline]
    pub fn room<'f>(&'f self, frame: &'f mut Frame) -> &'f mut [u8] {
        self.assert_mine(frame);
        match &mut frame.body {
            // SAFETY: the frame belongs to this UMEM (asserted), and its handle is unique and in no ring.
            Body::Chunk(desc) => unsafe { self.chunk_room(desc) },
            Body::Long(buffer) => buffer,
        }
    }

    /// The bytes from where a descriptor's packet starts to the end of its chunk.
    ///
    /// # Safety
    /// The chunk belongs to this UMEM, and who calls is its only user: neither another slice nor the kernel touches it
    /// while the descriptor is borrowed.
    #[inline]
    pub(super) unsafe fn chunk_room<'d>(&'d self, desc: &'d mut FrameDesc) -> &'d mut [u8] {
        // SAFETY: as the caller says.
        let mut data = unsafe { self.area.data_mut(desc) };
        data.cursor().set_pos(usize::MAX);
        let room = data.contents_mut();
        // SAFETY: the same slice, for as long as the descriptor is borrowed instead of for as long as the local
        // `data` lives; the memory stays mapped while `self` is borrowed.
        unsafe { slice::from_raw_parts_mut(room.as_mut_ptr(), room.len()) }
    }

    /// The packet itself.
    #[inline]
    pub fn packet<'f>(&'f self, frame: &'f mut Frame) -> &'f mut [u8] {
        let len = frame.len();
        let room = self.room(frame);
        let end = len.min(room.len());
        &mut room[..end]
    }

    /// Where all frames are, given all sockets of this UMEM.
    pub fn census(&self, ports: &[PortSocket]) -> Census {
        Census {
            total: self.total,
            pool: self.pool.len(),
            receive: ports.iter().map(PortSocket::receiving).sum(),
            transmit: ports.iter().map(PortSocket::transmitting).sum(),
            held: self.held,
        }
    }

    /// The chunk a descriptor lies in, wherever in the chunk its packet starts.
    #[inline]
    pub(super) fn chunk(&self, desc: &FrameDesc) -> usize {
        desc.addr() >> self.chunk_shift
    }

    #[inline]
    pub(super) fn assert_mine(&self, frame: &Frame) {
        assert!(frame.umem == self.id, "a frame is used with the UMEM it belongs to");
    }
}
