//! Addresses that services are to have and this host has not: said once, not refused, since keepalived or a routing
//! daemon may bring them later.
//!
//! The kernel's addresses are known a moment late, and scripts add a VIP and its service in one breath: an address is
//! given [`GRACE`] to appear before anything is said. Must not know where the addresses of the host come from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long an address may take to be seen: as long as the mirror of the kernel's tables may be late.
const GRACE: Duration = Duration::from_secs(1);

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Clients find a service by it, and ARP finds it only where it is.
    Vip,
    /// Servers answer to it.
    Local,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// Every address that is wanted, and since when nothing was said of it; none if there is nothing to be said any
    /// more: it was seen, or told.
    wanted: BTreeMap<IpAddr, (Use, Option<Instant>)>,
}

impl Missing {
    /// These addresses are wanted from now on, and no others.
    pub(super) fn want(&mut self, wanted: impl IntoIterator<Item = (IpAddr, Use)>, now: Instant) {
        let before = std::mem::take(&mut self.wanted);
        let kept = |(address, usage): (IpAddr, Use)| {
            let since = before.get(&address).filter(|(was, _)| *was == usage).map(|(_, since)| *since);
            (address, (usage, since.unwrap_or(Some(now))))
        };
        self.wanted = wanted.into_iter().map(kept).collect();
    }

    /// Warns of what has been wanted for a while and is not among the addresses of this host.
    pub(super) fn warn(&mut self, here: &BTreeSet<IpAddr>, now: Instant) {
        for (address, usage) in self.late(here, now) {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            match usage {
                Use::Vip => tracing::warn!(
                    "VIP {address} is not on this host: `ip addr add {address}/{bits} dev INTERFACE` if clients are to find it"
                ),
                Use::Local => tracing::warn!(
                    "local address {address} is not on this host: `ip addr add {address}/{bits} dev INTERFACE` if servers are to find it"
                ),
            }
        }
    }

    /// What there is to be said now, each once.
    fn late(&mut self, here: &BTreeSet<IpAddr>, now: Instant) -> Vec<(IpAddr, Use)> {
        let mut late = Vec::new();
        for (address, (usage, since)) in &mut self.wanted {
            let Some(begin) = *since else { continue };
            let is_here = here.contains(address);
            if is_here || now.duration_since(begin) >= GRACE {
                *since = None;
                late.extend((!is_here).then_some((*address, *usage)));
            }
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const SHORT: Duration = Duration::from_millis(999);

    fn nothing() -> BTreeSet<IpAddr> {
        BTreeSet::new()
    }

    #[test]
    fn an_address_has_time_to_appear() {
        let (mut missing, start) = (Missing::default(), Instant::now());
        missing.want([(VIP, Use::Vip)], start);
        assert!(missing.late(&nothing(), start + SHORT).is_empty());
        assert!(missing.late(&BTreeSet::from([VIP]), start + SHORT).is_empty());
        // That it goes again is its owner's business: keepalived moves it.
        assert!(missing.late(&nothing(), start + 2 * GRACE).is_empty());
    }

    #[test]
    fn what_does_not_appear_is_said_once() {
        let (mut missing, start) = (Missing::default(), Instant::now());
        missing.want([(VIP, Use::Vip)], start);
        // Another service does not begin its time anew.
        missing.want([(VIP, Use::Vip)], start + SHORT);
        assert_eq!(missing.late(&nothing(), start + GRACE), [(VIP, Use::Vip)]);
        assert!(missing.late(&nothing(), start + 2 * GRACE).is_empty());
    }

    #[test]
    fn an_address_that_is_wanted_no_more_is_not_missed() {
        let (mut missing, start) = (Missing::default(), Instant::now());
        missing.want([(VIP, Use::Vip)], start);
        missing.want([], start + SHORT);
        assert!(missing.late(&nothing(), start + GRACE).is_empty());
        // And wanted again, for something else, it is.
        missing.want([(VIP, Use::Local)], start + GRACE);
        assert_eq!(missing.late(&nothing(), start + 2 * GRACE), [(VIP, Use::Local)]);
    }
}
