//! The loop itself.
//!
//! A turn: for each interface receive a batch, let the engine judge it, hand on every frame; then flush,
//! reap and refill every interface, and let the engine expire what is due. Without work, spin; then sleep: see
//! [`idle`](super::idle).

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use arrayvec::ArrayVec;
use nix::poll::{PollFd, PollFlags, poll};

use crate::director::engine::{self, Batch, Packet, Verdict, Verdicts};
use crate::director::forward::hops::{NextHops, PASS, PortId};
use crate::director::outbox::FRAME_MAX;
use crate::director::time::Time;
use crate::xdp::error::XdpError;
use crate::xdp::frame::{self, Frames};
use crate::xdp::options::{CHUNK_LENS, LONG_LEN};
use crate::xdp::socket::{NotSent, PortSocket};
use crate::xdp::tap::Tap;
use crate::xdp::umem::Umem;

use super::clock::{Clock, time_of};
use super::counters::{LoopTally, PortTally, WorkerCounters};
use super::idle::{Idle, Next, RETRY_MS, SLEEP_MAX_MS};
use super::processor::Processor;
use super::report::WorkerReport;
use super::spawn::WorkerSetup;

const _: () = assert!(CHUNK_LENS[1] as usize <= FRAME_MAX, "a frame of any chunk fits the outbox");
const _: () = assert!(LONG_LEN <= FRAME_MAX, "one of several chunks does, too");
const _: () = assert!(engine::BATCH == frame::BATCH, "a batch received is a batch processed");

/// How often the kernel's own counters are read and the sockets are asked whether they still stand.
const STATISTICS_EVERY: Duration = Duration::from_secs(1);
/// How long a worker that was told to stop forwards what has arrived and waits for its completions.
const DRAIN_MAX: Duration = Duration::from_millis(200);
/// Turns with work after which it is seen, at the latest, what the kernel has sent: that costs a system call.
const HEAR_EVERY: u64 = 8;

pub(super) struct Loop<P, H> {
    queue: u32,
    core: Option<usize>,
    umem: Umem,
    ports: Vec<PortSocket>,
    pass: Option<Tap>,
    processor: P,
    hops: Cache<Arc<ArcSwap<H>>, Arc<H>>,
    clock: Clock,
    idle: Idle,
    stop: Arc<AtomicBool>,
    frames: Frames,
    verdicts: Verdicts,
    turns: LoopTally,
    tallies: Vec<PortTally>,
    counters: Arc<WorkerCounters>,
    statistics_due: Duration,
}

impl<P: Processor, H: NextHops> Loop<P, H> {
    pub(super) fn new(setup: WorkerSetup<P, H>, counters: Arc<WorkerCounters>) -> Self {
        Self {
            queue: setup.queue,
            core: setup.core,
            tallies: vec![PortTally::default(); setup.ports.len()],
            umem: setup.umem,
            ports: setup.ports,
            pass: setup.pass,
            processor: setup.processor,
            hops: Cache::new(setup.hops),
            clock: setup.clock,
            idle: Idle::new((!setup.options.busy_poll).then_some(setup.options.spin)),
            stop: setup.stop,
            frames: Frames::new(),
            verdicts: Verdicts::new(),
            turns: LoopTally::default(),
            counters,
            statistics_due: Duration::ZERO,
        }
    }

    /// Works until told to stop, drains, and reports.
    pub(super) fn run(mut self) -> WorkerReport {
        let failure = self.work().and_then(|()| self.drain()).err();
        if failure.is_some() {
            self.stop.store(true, Ordering::Relaxed);
        }
        self.read_statistics();
        self.publish();
        WorkerReport {
            queue: self.queue,
            core: self.core,
            census: self.umem.census(&self.ports),
            turns: self.turns,
            ports: self.tallies,
            failure,
        }
    }

    fn work(&mut self) -> Result<(), XdpError> {
        while !self.stop.load(Ordering::Relaxed) {
            let now = self.clock.read();
            let work = self.turn(now)?;
            match self.idle.after(work, now) {
                Next::Turn => {}
                Next::Yield => thread::yield_now(),
                Next::Sleep => self.sleep(),
            }
        }
        Ok(())
    }

    /// One turn; whether there was anything to do comes back.
    fn turn(&mut self, now: Duration) -> Result<bool, XdpError> {
        let time = time_of(now);
        let mut work = false;
        for port in 0..self.ports.len() {
            if self.receive(port) {
                work = true;
                self.process(PortId::try_from(port).expect("fewer interfaces than port ids"), time);
                self.hand_on(Some(port));
                self.send_outbox();
            }
        }
        if (!work || self.turns.turns.is_multiple_of(HEAR_EVERY)) && self.hear() {
            work = true;
            self.process(PASS, time);
            self.hand_on(None);
            self.send_outbox();
        }
        for (port, tally) in self.ports.iter_mut().zip(&mut self.tallies) {
            tally.tx_kicks += port.flush()? as u64;
            work |= port.reap(&mut self.umem) > 0;
            port.refill(&mut self.umem)?;
        }
        work |= self.processor.expire(time);
        self.turns.turns += 1;
        if now >= self.statistics_due {
            self.statistics_due = now + STATISTICS_EVERY;
            self.ports.iter().try_for_each(PortSocket::check)?;
            self.read_statistics();
        }
        if work {
            self.publish();
        }
        debug_assert!(self.umem.census(&self.ports).is_conserved(), "{:?}", self.umem.census(&self.ports));
        Ok(work)
    }

    /// Takes what has arrived at `port` into the hands; whether there was anything comes back.
    fn receive(&mut self, port: usize) -> bool {
        if self.ports[port].receive(&mut self.umem, &mut self.frames) == 0 {
            return false;
        }
        let tally = &mut self.tallies[port];
        tally.batches += 1;
        tally.rx_packets += self.frames.len() as u64;
        tally.rx_bytes += self.frames.iter().map(|frame| frame.len() as u64).sum::<u64>();
        true
    }

    /// Lends the frames in hand to the processor; they come back with verdicts and lengths.
    fn process(&mut self, port: PortId, now: Time) {
        let mut batch = Batch::new();
        for frame in &mut self.frames {
            let len = frame.len();
            batch.push(Packet { room: self.umem.room(frame), len, port });
        }
        self.processor.process(&mut batch, &**self.hops.load(), now, &mut self.verdicts);
        let lens: ArrayVec<usize, { frame::BATCH }> = batch.iter().map(|packet| packet.len).collect();
        drop(batch);
        assert_eq!(lens.len(), self.frames.len(), "the processor takes no packet out of its batch");
        for (frame, len) in self.frames.iter_mut().zip(lens) {
            frame.set_len(len);
        }
    }

    /// Takes into the hands what the kernel has sent by the device that leads up to it; whether there was anything
    /// comes back.
    fn hear(&mut self) -> bool {
        let Some(tap) = self.pass.as_ref().filter(|tap| tap.is_heard()) else { return false };
        while !self.frames.is_full()
            && let Some(mut frame) = self.umem.take_longest()
        {
            match tap.read(self.umem.room(&mut frame)) {
                Some(len) => {
                    frame.set_len(len);
                    self.frames.push(frame);
                }
                None => {
                    self.umem.recycle(frame);
                    break;
                }
            }
        }
        !self.frames.is_empty()
    }

    /// Transmits or recycles each frame in hand as its verdict says. They were received at this interface, or read
    /// from the kernel.
    fn hand_on(&mut self, received_at: Option<usize>) {
        assert_eq!(self.verdicts.len(), self.frames.len(), "one verdict for each packet");
        let mut recycled = 0;
        for (frame, verdict) in self.frames.drain(..).zip(self.verdicts.drain(..)) {
            let dropped = match verdict {
                Verdict::Drop(_) | Verdict::Keep => frame,
                Verdict::Transmit(PASS) | Verdict::Answer(PASS, _) => {
                    let mut frame = frame;
                    if !is_taken(self.pass.as_ref(), self.umem.packet(&mut frame)) {
                        self.processor.unpassed();
                    }
                    frame
                }
                Verdict::Transmit(out) | Verdict::Answer(out, _) => {
                    let tally = &mut self.tallies[usize::from(out)];
                    let len = frame.len() as u64;
                    match self.ports[usize::from(out)].transmit(&mut self.umem, frame) {
                        Ok(()) => {
                            tally.tx_packets += 1;
                            tally.tx_bytes += len;
                            tally.tx_made += u64::from(received_at.is_none());
                            continue;
                        }
                        Err(frame) => {
                            tally.transmit_full += 1;
                            self.processor.unsent();
                            frame
                        }
                    }
                }
            };
            self.umem.recycle(dropped);
            recycled += 1;
        }
        if let Some(port) = received_at {
            self.tallies[port].recycled += recycled;
        }
    }

    /// Transmits what the processor has made besides the frames it was lent.
    fn send_outbox(&mut self) {
        let Some(outbox) = self.processor.outbox() else { return };
        let (mut unsent, mut without_frame, mut unpassed) = (0, 0, 0);
        for (out, bytes) in outbox.frames() {
            if out == PASS {
                unpassed += usize::from(!is_taken(self.pass.as_ref(), bytes));
                continue;
            }
            let out = usize::from(out);
            let tally = &mut self.tallies[out];
            match self.ports[out].transmit_bytes(&mut self.umem, bytes) {
                Ok(()) => {
                    tally.tx_packets += 1;
                    tally.tx_made += 1;
                    tally.tx_bytes += bytes.len() as u64;
                }
                Err(NotSent::RingFull) => {
                    tally.transmit_full += 1;
                    unsent += 1;
                }
                Err(NotSent::NoChunks) => without_frame += 1,
            }
        }
        outbox.clear();
        (0..unsent).for_each(|_| self.processor.unsent());
        (0..unpassed).for_each(|_| self.processor.unpassed());
        if without_frame > 0 {
            self.processor.without_frame(without_frame);
        }
    }

    /// Waits for a frame at any interface, for a bounded time.
    fn sleep(&mut self) {
        self.processor.rest();
        self.publish();
        let unsent = self.ports.iter().any(PortSocket::has_unsent);
        let mut fds: Vec<PollFd<'_>> =
            self.ports.iter().map(|port| PollFd::new(port.as_fd(), PollFlags::POLLIN)).collect();
        if let Some(tap) = self.pass.as_ref().filter(|tap| tap.is_heard()) {
            fds.push(PollFd::new(tap.as_fd(), PollFlags::POLLIN));
        }
        let ready = poll(&mut fds, if unsent { RETRY_MS } else { SLEEP_MAX_MS }).unwrap_or(0);
        self.turns.sleeps += 1;
        self.turns.wakeups += u64::from(ready > 0);
    }

    /// Forwards what has arrived, then waits for the kernel to transmit it, both together for a bounded time.
    fn drain(&mut self) -> Result<(), XdpError> {
        let deadline = self.clock.read() + DRAIN_MAX;
        let mut now = self.clock.read();
        while now < deadline && self.turn(now)? {
            now = self.clock.read();
        }
        while now < deadline && self.ports.iter().any(|port| port.transmitting() > 0) {
            for (port, tally) in self.ports.iter_mut().zip(&mut self.tallies) {
                tally.tx_kicks += port.flush()? as u64;
                port.reap(&mut self.umem);
            }
            now = self.clock.read();
        }
        self.processor.rest();
        Ok(())
    }

    fn read_statistics(&mut self) {
        for (port, tally) in self.ports.iter().zip(&mut self.tallies) {
            if let Ok(kernel) = port.statistics() {
                tally.kernel_rx_dropped = kernel.rx_dropped();
                tally.kernel_rx_ring_full = kernel.rx_ring_full();
                tally.kernel_fill_ring_empty = kernel.rx_fill_ring_empty_descs();
                tally.kernel_invalid_descs = kernel.rx_invalid_descs() + kernel.tx_invalid_descs();
            }
        }
    }

    fn publish(&self) {
        self.counters.turns.publish(&self.turns);
        for (counters, tally) in self.counters.ports.iter().zip(&self.tallies) {
            counters.publish(tally);
        }
    }
}

/// Gives a frame to the kernel; false if there is no way, or it was not taken.
#[cold]
fn is_taken(pass: Option<&Tap>, frame: &[u8]) -> bool {
    pass.is_some_and(|tap| tap.write(frame).is_ok())
}
