//! The report of interfaces, queues and steering: what the director itself does not know.

use std::fmt::Write;

use super::offload::Carries;
use crate::worker::counters::PortTally;
use crate::xdp::steer::Outcome;

/// One interface as it was set up.
#[derive(Clone, Debug)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) xdp: String,
    pub(super) offload: Carries,
    /// By queue.
    pub(super) zero_copy: Vec<bool>,
}

/// A line for each queue of each interface.
pub(super) fn queues(interfaces: &[Interface], tallies: &[Vec<PortTally>]) -> String {
    let mut out = String::from("Interfaces and queues\n");
    let head =
        "interface       queue xdp     copy   received transmitted   recycled  ring-full kernel-dropped\n";
    out.push_str(head);
    for (port, interface) in interfaces.iter().enumerate() {
        for (queue, ports) in tallies.iter().enumerate() {
            let Some(t) = ports.get(port) else { continue };
            // An empty fill ring is counted among `rx_dropped` too.
            let kernel = t.kernel_rx_dropped + t.kernel_rx_ring_full;
            let _infallible = writeln!(
                out,
                "{:<15} {queue:>5} {:<7} {:<4} {:>10} {:>11} {:>10} {:>10} {kernel:>14}",
                interface.name,
                interface.xdp,
                if interface.zero_copy.get(queue).is_some_and(|zero| *zero) { "zero" } else { "copy" },
                t.rx_packets,
                t.tx_packets,
                t.recycled,
                t.transmit_full,
            );
        }
    }
    out
}

/// A line for each outcome of the steering program that occurred.
pub(super) fn steering(outcomes: &[(Outcome, u64)]) -> String {
    let mut out = String::from("Frames seen by the steering program, by outcome\n");
    for (outcome, count) in outcomes.iter().filter(|(_, count)| *count > 0) {
        let _infallible = writeln!(out, "{count:>12} {outcome}");
    }
    out
}
