//! What a worker says when it has stopped.

use std::fmt;

use crate::xdp::error::XdpError;
use crate::xdp::ledger::Census;

use super::counters::{LoopTally, PortTally};

/// The last words of one worker.
#[derive(Debug)]
pub struct WorkerReport {
    /// Index of its queue.
    pub queue: u32,
    /// The core it was pinned to.
    pub core: Option<usize>,
    /// Where its frames were in the end.
    pub census: Census,
    /// Totals of its loop.
    pub turns: LoopTally,
    /// Totals of each interface, in the order of their port ids.
    pub ports: Vec<PortTally>,
    /// What made it stop, if it was not told to.
    pub failure: Option<XdpError>,
}

impl WorkerReport {
    /// Whether every frame of the UMEM is accounted for, and every frame received or made was transmitted or recycled.
    pub fn is_conserved(&self) -> bool {
        let sum = |of: fn(&PortTally) -> u64| self.ports.iter().map(of).sum::<u64>();
        self.census.is_conserved()
            && self.census.held == 0
            && sum(|port| port.rx_packets + port.tx_made) == sum(|port| port.tx_packets + port.recycled)
    }
}

impl fmt::Display for WorkerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |of: fn(&PortTally) -> u64| self.ports.iter().map(of).sum::<u64>();
        write!(
            f,
            "queue {}: received {}, transmitted {}, recycled {}, still with the kernel {}; frames {}",
            self.queue,
            sum(|port| port.rx_packets),
            sum(|port| port.tx_packets),
            sum(|port| port.recycled),
            self.census.transmit,
            if self.is_conserved() { "conserved" } else { "NOT CONSERVED" },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_received_and_never_seen_again_is_not_conserved() {
        let mut report = WorkerReport {
            queue: 0,
            core: None,
            census: Census { total: 4, pool: 2, receive: 2, transmit: 0, held: 0 },
            turns: LoopTally::default(),
            ports: vec![
                PortTally { rx_packets: 5, recycled: 1, ..Default::default() },
                PortTally { tx_packets: 4, ..Default::default() },
            ],
            failure: None,
        };
        assert!(report.is_conserved());
        assert!(report.to_string().ends_with("frames conserved"), "{report}");
        report.ports[1] = PortTally { tx_packets: 6, tx_made: 2, ..Default::default() };
        assert!(report.is_conserved());
        report.ports[1] = PortTally { tx_packets: 3, ..Default::default() };
        assert!(!report.is_conserved());
        assert!(report.to_string().contains("NOT CONSERVED"), "{report}");
    }
}
