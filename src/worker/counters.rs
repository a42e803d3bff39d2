//! What a worker counts, and how other threads read it: one writer, relaxed stores of running totals.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

macro_rules! counters {
    (
        $(#[$tally_doc:meta])* $tally:ident, $(#[$shared_doc:meta])* $shared:ident,
        { $($(#[$doc:meta])* $field:ident,)* }
    ) => {
        $(#[$tally_doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $tally { $($(#[$doc])* pub $field: u64,)* }

        $(#[$shared_doc])*
        #[derive(Debug, Default)]
        pub struct $shared { $($field: AtomicU64,)* }

        impl $shared {
            /// Overwrites what readers see; only the owning worker calls it.
            pub(super) fn publish(&self, tally: &$tally) {
                $(self.$field.store(tally.$field, Ordering::Relaxed);)*
            }

            /// The totals as last published.
            pub fn read(&self) -> $tally {
                $tally { $($field: self.$field.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Totals of one interface at one worker since the start.
    PortTally,
    /// [`PortTally`], published.
    PortCounters,
    {
        /// Frames received.
        rx_packets,
        /// Bytes received, without FCS.
        rx_bytes,
        /// Frames accepted for transmission.
        tx_packets,
        /// Bytes accepted for transmission, without FCS.
        tx_bytes,
        /// Frames of those transmitted that no interface has received: made by the engine, or read from the kernel.
        tx_made,
        /// Batches received.
        batches,
        /// Received frames that were not transmitted.
        recycled,
        /// Frames for this interface dropped because its transmit ring was full
        /// ([`TransmitFull`](crate::director::drops::DropReason::TransmitFull)).
        transmit_full,
        /// Calls that asked the kernel to transmit.
        tx_kicks,
        /// The kernel's count: frames for this socket dropped for reasons of its own.
        kernel_rx_dropped,
        /// The kernel's count: frames dropped because the receive ring was full.
        kernel_rx_ring_full,
        /// The kernel's count: frames dropped because the fill ring was empty.
        kernel_fill_ring_empty,
        /// The kernel's count: descriptors it refused, in either direction; not zero means a bug.
        kernel_invalid_descs,
    }
}

counters! {
    /// Totals of one worker since the start.
    LoopTally,
    /// [`LoopTally`], published.
    LoopCounters,
    {
        /// Turns of the loop.
        turns,
        /// Times the worker went to sleep.
        sleeps,
        /// Sleeps that ended because a frame arrived.
        wakeups,
    }
}

/// The published counters of one worker.
#[derive(Debug)]
pub struct WorkerCounters {
    /// The loop itself.
    pub turns: CachePadded<LoopCounters>,
    /// One entry for each interface, in the order of their port ids.
    pub ports: Box<[CachePadded<PortCounters>]>,
}

impl WorkerCounters {
    /// Counters for `ports` interfaces, all zero.
    pub fn new(ports: usize) -> Self {
        Self { turns: CachePadded::default(), ports: (0..ports).map(|_| CachePadded::default()).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_see_what_was_published_last() {
        let counters = WorkerCounters::new(2);
        let tally = PortTally { rx_packets: 3, tx_bytes: 180, ..Default::default() };
        counters.ports[1].publish(&tally);
        assert_eq!(counters.ports[1].read(), tally);
        assert_eq!(counters.ports[0].read(), PortTally::default());
    }
}
