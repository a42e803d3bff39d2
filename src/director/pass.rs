//! What is nobody's here goes back to the kernel of the director itself: its own programs may wait for it.
//!
//! The steering program takes packets up by addresses and ports; not all of them are a service's: those of a service that
//! has just been deleted, of the ports that FTP may use, fragments and ICMP errors of other traffic of the same
//! addresses. IPVS leaves them to the local stack (`NF_ACCEPT`); here they leave by [`PASS`], unchanged, as long as there
//! are not too many: each costs its worker a system call. Packets to a server that is the director itself leave the same
//! way, but are no strays: they are not limited.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::drops::DropReason;
use super::engine::{Packet, Work};
use super::forward::hops::{Hop, NextHops, PASS, PortId};
use super::open::Begun;
use super::refusal::Refusal;
use super::time::Time;
use super::{conn::Found, conn::Slot, fragments};
use crate::packet::parse::Parsed;

/// Whether there is a way up to the kernel, and what may still go there at this moment. Shared by all workers.
#[derive(Debug, Default)]
pub struct Pass {
    /// Packets a tick; 0: there is no way.
    limit: AtomicU32,
    /// The tick, and below it how many have gone in it.
    spent: AtomicU64,
}

impl Pass {
    /// There is a way from now on, for `packets_per_s` strays in a second at most, counted by ticks; 0: there is none.
    pub fn open(&self, packets_per_s: u32) {
        self.limit.store(packets_per_s.div_ceil(Time::TICKS_PER_S), Relaxed);
    }

    /// Whether there is a way.
    pub fn is_open(&self) -> bool {
        self.limit.load(Relaxed) > 0
    }

    /// One packet less, if one may still go.
    fn spend(&self, tick: u32) -> bool {
        let (limit, tick) = (u64::from(self.limit.load(Relaxed)), u64::from(tick) << 32);
        let next = |spent: u64| match spent {
            _ if spent & !u64::from(u32::MAX) != tick => Some(tick | 1),
            _ if spent - tick < limit => Some(spent + 1),
            _ => None,
        };
        limit > 0 && self.spent.try_update(Relaxed, Relaxed, next).is_ok()
    }
}

impl<'a, H: NextHops> Work<'a, H> {
    /// Leaves a packet that is nobody's here to the director's own kernel.
    ///
    /// # Errors
    /// Too many have gone already.
    #[cold]
    pub(super) fn pass(&mut self) -> Result<PortId, DropReason> {
        if !self.director.pass.spend(self.tick) {
            return Err(DropReason::PassLimit);
        }
        self.stats.pass();
        Ok(PASS)
    }

    /// As [`begin`](Self::begin) says, but what belongs to no service is left to the kernel, if there is a way.
    #[cold]
    #[inline(never)]
    pub(super) fn begin_or_pass(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        hash: u64,
        known: Option<(&'a Slot, Found)>,
    ) -> Result<Begun<'a>, Refusal> {
        match self.begin(packet, parsed, hash, known) {
            Err(Refusal { reason: DropReason::NoService, .. }) if self.director.pass.is_open() => {
                Ok(Begun::Sent(self.pass()?, fragments::Fate::Passed))
            }
            begun => begun,
        }
    }

    /// The way to an address of the director itself.
    #[cold]
    pub(super) fn way_up(&self) -> Result<Hop, DropReason> {
        if self.director.pass.is_open() { Ok(Hop::UP) } else { Err(DropReason::NoRoute) }
    }

    /// True if packets to `destination` go up to the kernel.
    pub(super) fn is_up(&self, destination: IpAddr, parsed: &Parsed) -> bool {
        self.hop_to(destination, parsed).is_ok_and(|hop| hop.port == PASS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_in_a_tick_and_as_many_in_the_next() {
        let pass = Pass::default();
        assert!(!pass.is_open() && !pass.spend(7));
        pass.open(25);
        for tick in [7, 8, 20, u32::MAX, 0] {
            let sent = (0..10).filter(|_| pass.spend(tick)).count();
            assert_eq!(sent, 7, "a quarter of 25 and no less, in tick {tick}");
        }
        pass.open(0);
        assert!(!pass.is_open() && !pass.spend(9));
    }

    #[test]
    fn workers_share_the_limit() {
        let pass = Pass::default();
        pass.open(10_000);
        let count = || (0..1100).filter(|_| pass.spend(1)).count();
        let sent: usize = std::thread::scope(|s| {
            let threads = [s.spawn(count), s.spawn(count), s.spawn(count)];
            threads.map(|t| t.join().unwrap()).iter().sum()
        });
        assert_eq!(sent, 2500);
    }
}
