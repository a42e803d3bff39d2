//! A frame in the worker's hands: an owned handle that cannot be copied and must not be lost.

use arrayvec::ArrayVec;
use xsk_rs::FrameDesc;

/// Frames received at once.
pub const BATCH: usize = 64;

/// Frames in hand, in order of arrival.
pub type Frames = ArrayVec<Frame, BATCH>;

/// One frame of a UMEM, owned: a chunk of it, or what was put together from several.
///
/// Whoever has it is its only user: it is in no ring and no pool, and no second handle exists. It ends by
/// [`transmit`](super::socket::PortSocket::transmit) or [`recycle`](super::umem::Umem::recycle); debug builds
/// panic when one is dropped instead.
#[derive(Debug)]
#[must_use = "a frame that is neither transmitted nor recycled is lost"]
pub struct Frame {
    pub(super) body: Body,
    pub(super) len: u32,
    pub(super) umem: UmemId,
}

/// Where the bytes of a frame are.
#[derive(Debug)]
pub(super) enum Body {
    /// Where the packet starts in its chunk; its own length is only set when the frame is given to the kernel.
    Chunk(FrameDesc),
    /// A buffer of the UMEM's [`long`](super::umem::Umem::long) ones.
    Long(Box<[u8]>),
}

/// Tells one UMEM of the process from another, so that a frame cannot be used with the wrong one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UmemId(pub(super) u32);

impl Frame {
    /// Length of the packet in bytes.
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether it holds no packet, as a frame fresh from the pool does not.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets the length of the packet in bytes; beyond the end of its room is cut there when it is sent.
    #[allow(clippy::cast_possible_truncation, reason = "a length in a room of some thousand bytes")]
    pub fn set_len(&mut self, len: usize) {
        self.len = len as u32;
    }

    /// Ends the handle without freeing anything: the caller puts the body into its next place.
    #[inline]
    pub(super) fn into_body(mut self) -> Body {
        let body = std::mem::replace(&mut self.body, Body::Chunk(FrameDesc::default()));
        std::mem::forget(self);
        body
    }
}

#[cfg(debug_assertions)]
impl Drop for Frame {
    fn drop(&mut self) {
        assert!(
            std::thread::panicking(),
            "a frame was dropped: every frame is transmitted or recycled, never forgotten"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "a frame was dropped")]
    fn dropping_a_frame_is_noticed() {
        drop(Frame { body: Body::Chunk(FrameDesc::default()), len: 0, umem: UmemId(0) });
    }

    #[test]
    fn a_frame_passed_on_is_not_dropped() {
        let mut frame = Frame { body: Body::Chunk(FrameDesc::default()), len: 0, umem: UmemId(0) };
        assert!(frame.is_empty());
        frame.set_len(60);
        assert_eq!(frame.len(), 60);
        let _ = frame.into_body();
    }
}
