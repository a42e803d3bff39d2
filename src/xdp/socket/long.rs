//! Frames of several chunks (XDP's multi-buffer, Linux 6.6): one descriptor for each, all but the last of which say that the
//! packet goes on.
//!
//! The chunks of a received one are copied into a buffer of the UMEM and are free again at once; to send it, free ones are
//! taken again. So behind the ring every packet is in one piece, and what becomes of it has nothing to do with how many
//! chunks it came in.

#![allow(unsafe_code, reason = "rings and packet memory: every block names its invariant")]

use arrayvec::ArrayVec;
use xsk_rs::FrameDesc;

use super::super::frame::{Body, Frame};
use super::super::ledger::Place;
use super::super::options::{CHUNK_LENS, LONG_LEN, ROOM};
use super::super::umem::Umem;
use super::PortSocket;

/// Option of a descriptor whose packet goes on in the next one (`linux/if_xdp.h`).
const XDP_PKT_CONTD: u32 = 1;
/// Chunks of the longest frame, more than half of each of which is room.
const CHUNKS_MAX: usize = LONG_LEN.div_ceil(CHUNK_LENS[0] as usize / 2);

/// Why bytes were not transmitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// The transmit ring is full.
    RingFull,
    /// There are too few free chunks, or more than one would be needed and the socket has no long frames.
    NoChunks,
}

/// What has come of a frame that is not whole yet.
#[derive(Debug)]
pub(super) struct Gathering {
    buffer: Box<[u8]>,
    len: usize,
}

impl Gathering {
    /// Adds a part, as far as there is room.
    fn add(&mut self, part: &[u8]) {
        let room = self.buffer.get_mut(self.len..).unwrap_or_default();
        let fits = part.len().min(room.len());
        room[..fits].copy_from_slice(&part[..fits]);
        self.len += fits;
    }
}

impl PortSocket {
    /// Whether a descriptor is a part of a long frame, or a frame without the room behind it that every frame has to have.
    #[inline]
    pub(super) fn is_part(&self, umem: &Umem, desc: &FrameDesc) -> bool {
        let chunk_len = 1 << umem.chunk_shift;
        let room = chunk_len - desc.addr() % chunk_len;
        desc.has_more_frames() || self.gathering.is_some() || desc.lengths().data() + ROOM as usize > room
    }

    /// Puts a part of a long frame behind those before it and frees its chunk. The frame comes back once it is whole; one
    /// that is longer than any may be comes back cut, as a packet that is shorter than it says.
    #[inline(never)]
    pub(super) fn gather(&mut self, umem: &mut Umem, mut part: Frame, goes_on: bool) -> Option<Frame> {
        let empty = |buffer| Gathering { buffer, len: 0 };
        let mut so_far = self.gathering.take().or_else(|| umem.long.pop().map(empty));
        if let Some(so_far) = &mut so_far {
            so_far.add(umem.packet(&mut part));
        }
        if let Body::Chunk(desc) = &mut part.body {
            desc.set_options(0); // It is used again, for a part of another frame or a whole one.
        }
        umem.recycle(part);
        if goes_on {
            self.gathering = so_far;
            return None;
        }
        let Gathering { buffer, len } = so_far?;
        let mut frame = Frame { body: Body::Long(buffer), len: 0, umem: umem.id };
        frame.set_len(len);
        Some(frame)
    }

    /// As [`transmit`](Self::transmit), of a frame that was put together.
    ///
    /// # Errors
    /// The frame itself.
    #[inline(never)]
    pub(super) fn transmit_long(&mut self, umem: &mut Umem, frame: Frame) -> Result<(), Frame> {
        let len = frame.len();
        let Body::Long(buffer) = &frame.body else { return Err(frame) };
        let bytes = buffer.get(..len).unwrap_or(buffer);
        if self.transmit_bytes(umem, bytes).is_err() {
            return Err(frame);
        }
        umem.recycle(frame);
        Ok(())
    }

    /// Accepts a copy of `bytes` for transmission as one frame, in as many free chunks as it takes.
    ///
    /// # Errors
    /// Says why it has not; nothing has changed then.
    pub fn transmit_bytes(&mut self, umem: &mut Umem, mut bytes: &[u8]) -> Result<(), NotSent> {
        self.assert_same(umem);
        if !self.has_place(umem, (bytes.len() >> umem.chunk_shift) + 1) {
            return Err(NotSent::RingFull);
        }
        let mut parts: ArrayVec<FrameDesc, CHUNKS_MAX> = ArrayVec::new();
        let most = if self.long_frames { CHUNKS_MAX } else { 1 };
        while !bytes.is_empty() && parts.len() < most {
            let Some(mut desc) = umem.pool.pop() else { break };
            // SAFETY: the chunk was free, and this is its only user now.
            let room = unsafe { umem.chunk_room(&mut desc) };
            let (part, rest) = bytes.split_at(bytes.len().min(room.len()));
            room[..part.len()].copy_from_slice(part);
            // SAFETY: as above; only the length is set.
            unsafe { umem.area.data_mut(&mut desc) }.cursor().set_pos(part.len());
            desc.set_options(if rest.is_empty() { 0 } else { XDP_PKT_CONTD });
            parts.push(desc);
            bytes = rest;
        }
        let refusal = match bytes {
            [] if self.has_place(umem, parts.len()) => None,
            [] => Some(NotSent::RingFull),
            _ => Some(NotSent::NoChunks),
        };
        if let Some(refusal) = refusal {
            umem.pool.extend(parts.into_iter().rev().map(|mut desc| {
                desc.set_options(0);
                desc
            }));
            return Err(refusal);
        }
        parts.into_iter().for_each(|desc| self.stage(umem, desc, Place::Pool));
        Ok(())
    }
}
