//! Starting a worker's thread, and what it needs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{io, process};

use arc_swap::ArcSwap;

use crate::director::forward::hops::NextHops;
use crate::xdp::socket::PortSocket;
use crate::xdp::tap::Tap;
use crate::xdp::umem::Umem;

use super::clock::Clock;
use super::counters::WorkerCounters;
use super::idle::SPIN_DEFAULT;
use super::processor::Processor;
use super::report::WorkerReport;
use super::run::Loop;

/// How a worker waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerOptions {
    /// Spin this long without a frame before sleeping.
    pub spin: Duration,
    /// Never sleep.
    pub busy_poll: bool,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self { spin: SPIN_DEFAULT, busy_poll: false }
    }
}

/// All that a worker owns or shares.
#[derive(Debug)]
pub struct WorkerSetup<P, H> {
    /// Index of its queue, the same on every interface.
    pub queue: u32,
    /// The core to pin it to: see [`cores::choose`](super::cores::choose).
    pub core: Option<usize>,
    /// Packet memory of all its sockets.
    pub umem: Umem,
    /// Its sockets, in the order of their port ids: see [`xdp::open`](crate::xdp::open::open).
    pub ports: Vec<PortSocket>,
    /// Its queue of the device that leads back up to the kernel, if there is one.
    pub pass: Option<Tap>,
    /// The engine.
    pub processor: P,
    /// Where the newest view of the network is published.
    pub hops: Arc<ArcSwap<H>>,
    /// The clock that all workers share.
    pub clock: Clock,
    /// How it waits.
    pub options: WorkerOptions,
    /// Set by anybody to stop all workers; set by a worker that fails.
    pub stop: Arc<AtomicBool>,
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    thread: JoinHandle<WorkerReport>,
    counters: Arc<WorkerCounters>,
}

impl Worker {
    /// Its counters, to be read at any time.
    pub fn counters(&self) -> Arc<WorkerCounters> {
        Arc::clone(&self.counters)
    }

    /// Waits until it has stopped.
    pub fn join(self) -> WorkerReport {
        self.thread.join().expect("a worker that panics takes the process with it")
    }

    /// Whether it has stopped.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Starts the worker's thread.
///
/// A worker that panics aborts the process: half of the queues without a worker would swallow traffic.
///
/// # Errors
/// The operating system gives no thread.
pub fn spawn<P, H>(setup: WorkerSetup<P, H>) -> io::Result<Worker>
where
    P: Processor + Send + 'static,
    H: NextHops + Send + Sync + 'static,
{
    let counters = Arc::new(WorkerCounters::new(setup.ports.len()));
    let published = Arc::clone(&counters);
    let queue = setup.queue;
    let thread = thread::Builder::new().name(format!("xvs-{queue}")).spawn(move || {
        pin(queue, setup.core);
        catch_unwind(AssertUnwindSafe(|| Loop::new(setup, published).run())).unwrap_or_else(|_| {
            tracing::error!(queue, "worker panicked; the process ends rather than work by half");
            process::abort()
        })
    })?;
    Ok(Worker { thread, counters })
}

fn pin(queue: u32, core: Option<usize>) {
    if let Some(id) = core
        && !core_affinity::set_for_current(core_affinity::CoreId { id })
    {
        tracing::warn!(queue, core = id, "worker could not be pinned to its core");
    }
}
