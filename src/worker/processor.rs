//! What a worker needs of the engine, so that the same loop can run without a director.

use std::net::IpAddr;

use crate::director::drops::DropReason;
use crate::director::engine::{Batch, Engine, Verdicts};
use crate::director::forward::hops::{Hop, HopId, NextHops, Origin, Route};
use crate::director::outbox::Outbox;
use crate::director::time::Time;

/// Turns batches of frames into verdicts.
pub trait Processor {
    /// Processes `batch` in place and leaves one verdict for each packet in `verdicts`.
    fn process<H: NextHops>(&mut self, batch: &mut Batch<'_>, hops: &H, now: Time, verdicts: &mut Verdicts);

    /// Does a bounded amount of what is due at `now`; called once a turn. True if there is more to do.
    fn expire(&mut self, now: Time) -> bool;

    /// Called before the worker sleeps: nothing is processed until it wakes.
    fn rest(&mut self);

    /// A frame that was to be transmitted was dropped, since the transmit ring was full.
    fn unsent(&mut self) {}

    /// A frame that was to be given to the kernel was not taken.
    fn unpassed(&mut self) {}

    /// Frames made besides those of the last batch, if any are ever made; asked after each batch.
    fn outbox(&mut self) -> Option<&mut Outbox> {
        None
    }

    /// So many frames of the outbox were dropped, since no frame of packet memory was free for them.
    fn without_frame(&mut self, _count: usize) {}
}

impl Processor for Engine {
    fn process<H: NextHops>(&mut self, batch: &mut Batch<'_>, hops: &H, now: Time, verdicts: &mut Verdicts) {
        Engine::process(self, batch, hops, now, verdicts);
    }

    fn expire(&mut self, now: Time) -> bool {
        Engine::expire(self, now)
    }

    fn rest(&mut self) {
        Engine::rest(self);
    }

    fn unsent(&mut self) {
        self.count_unsent(DropReason::TransmitFull);
    }

    fn unpassed(&mut self) {
        self.count_unsent(DropReason::PassFailed);
    }

    fn outbox(&mut self) -> Option<&mut Outbox> {
        Some(Engine::outbox(self))
    }

    fn without_frame(&mut self, count: usize) {
        (0..count).for_each(|_| self.count_unsent(DropReason::OutboxFull));
    }
}

/// Next hops for a processor that asks for none.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHops;

impl NextHops for NoHops {
    fn generation(&self) -> u32 {
        0
    }

    fn route(&self, _destination: IpAddr, _flow_hash: u32) -> Route {
        Route::Unreachable
    }

    fn hop(&self, _id: HopId) -> Option<Hop> {
        None
    }

    fn source(&self, _destination: IpAddr, _flow_hash: u32) -> Option<IpAddr> {
        None
    }

    fn back_to(&self, _origin: Origin) -> Option<Hop> {
        None
    }
}
