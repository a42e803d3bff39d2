//! Frames that the engine makes besides those it was lent: pieces of a packet that was too long, fragments that had
//! to wait. Whoever lends the batches takes them after each batch, and sends them behind it.

use arrayvec::ArrayVec;

use super::forward::hops::PortId;

/// Frames one batch may bring about: a batch of packets in three pieces each. 1.2 MiB for each engine, touched as used.
pub const OUTBOX_FRAMES: usize = 128;
/// Longest frame in bytes: one of MTU 9216 with the headers and the room that tunnels need.
pub const FRAME_MAX: usize = 9408;

/// Made frames, in the order in which they are to be sent.
#[derive(Debug)]
pub struct Outbox {
    bytes: Box<[u8]>,
    ready: ArrayVec<(PortId, usize), OUTBOX_FRAMES>,
    /// Room for a frame that is being worked on; who does has taken it, and left none.
    pub(super) desk: Box<[u8]>,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            bytes: vec![0; OUTBOX_FRAMES * FRAME_MAX].into(),
            ready: ArrayVec::new(),
            desk: vec![0; FRAME_MAX].into(),
        }
    }
}

impl Outbox {
    /// Frames there still is room for, besides one that is being worked on.
    pub fn free(&self) -> usize {
        self.ready.remaining_capacity().saturating_sub(usize::from(self.desk.is_empty()))
    }

    /// Adds the frame that `write` writes, to be sent from `port`; its length comes back from there. False, and nothing
    /// is added, if the outbox is full or `write` says none.
    pub fn write(&mut self, port: PortId, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        let start = self.ready.len() * FRAME_MAX;
        let Some(room) = self.bytes.get_mut(start..start + FRAME_MAX) else { return false };
        write(room)
            .filter(|&len| len <= FRAME_MAX)
            .is_some_and(|len| self.ready.try_push((port, len)).is_ok())
    }

    /// The frames, each with its interface.
    pub fn frames(&self) -> impl Iterator<Item = (PortId, &[u8])> {
        let frames = self.ready.iter().zip(self.bytes.chunks_exact(FRAME_MAX));
        frames.map(|(&(port, len), bytes)| (port, bytes.get(..len).unwrap_or_default()))
    }

    /// Forgets the frames: they have been taken.
    pub fn clear(&mut self) {
        self.ready.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(outbox: &mut Outbox, port: PortId, frame: &[u8]) -> bool {
        outbox.write(port, |room| {
            room.get_mut(..frame.len())?.copy_from_slice(frame);
            Some(frame.len())
        })
    }

    #[test]
    fn frames_come_out_as_they_went_in_and_a_full_outbox_refuses() {
        let mut outbox = Outbox::default();
        assert!(push(&mut outbox, 1, b"one") && !outbox.write(1, |_| None) && push(&mut outbox, 2, b"two"));
        assert!(!push(&mut outbox, 3, &[0; FRAME_MAX + 1]) && !outbox.write(3, |_| Some(FRAME_MAX + 1)));
        assert_eq!(outbox.frames().collect::<Vec<_>>(), [(1, &b"one"[..]), (2, b"two")]);
        for _ in 2..OUTBOX_FRAMES {
            assert!(push(&mut outbox, 3, &[7; FRAME_MAX]));
        }
        assert_eq!((outbox.free(), push(&mut outbox, 3, b"more")), (0, false));
        outbox.clear();
        assert_eq!((outbox.free(), outbox.frames().count()), (OUTBOX_FRAMES, 0));
    }
}
