//! One batch of frames to verdicts: the whole packet path on one screen.

use arrayvec::ArrayVec;

use super::drops::DropReason;
use super::forward::hops::{NextHops, PortId};
use super::time::Time;

/// Frames processed at once: enough to overlap memory latency, few enough for the first-level cache.
pub const BATCH: usize = 64;

/// A frame lent to the engine for one batch.
#[derive(Debug)]
pub struct Packet<'f> {
    /// The room from the frame's first byte to the end of its chunk; the frame is the first `len` bytes.
    pub room: &'f mut [u8],
    /// Length of the frame in bytes, Ethernet header included, without FCS. At most `room.len()`.
    pub len: usize,
    /// The interface it arrived at.
    pub port: PortId,
}

/// A batch in order of arrival.
pub type Batch<'f> = ArrayVec<Packet<'f>, BATCH>;

/// What to do with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it, as it now is, from this interface.
    Transmit(PortId),
    /// Recycle it; the reason has been counted.
    Drop(DropReason),
}

/// Verdicts in the order of their batch.
pub type Verdicts = ArrayVec<Verdict, BATCH>;

/// The packet path of one worker.
#[derive(Debug, Default)]
pub struct Engine {}

impl Engine {
    /// Processes `batch` in place; `verdicts` is cleared and gets one entry per packet.
    pub fn process(
        &mut self,
        batch: &mut Batch<'_>,
        hops: &impl NextHops,
        now: Time,
        verdicts: &mut Verdicts,
    ) {
        let _ = (hops, now);
        verdicts.clear();
        for _ in batch.iter() {
            verdicts.push(Verdict::Drop(DropReason::NoService));
        }
    }

    /// Removes connections whose time has come: a bounded amount of work a call. Call once per loop.
    pub fn expire(&mut self, now: Time) {
        let _ = now;
    }

    /// Tells the other workers that this one holds no references into the table until the next
    /// [`process`](Self::process) or [`expire`](Self::expire). Call before sleeping.
    pub fn rest(&mut self) {}
}
