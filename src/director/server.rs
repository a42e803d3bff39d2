//! Real servers as the packet path sees them: destinations of a service, how many connections each has, and
//! whether that is too many.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed, Ordering::SeqCst, fence};

use zerocopy::FromZeros;

use super::conn::state::Status;
use super::service::{Method, Server, ServerState};
use super::time::Time;
use crate::packet::flow::FlowKey;

/// Names a server of one service for as long as it is there or has connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u32);

/// Servers there may be at once in all services.
pub const MAX_SERVERS: u32 = 65_536;

/// Numbers for servers: of those there are, and of removed ones with connections.
pub const MAX_IDS: u32 = 2 * MAX_SERVERS;

/// A server as a service sees it (IPVS: destination).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Its name in connections and counters.
    pub id: ServerId,
    /// Real address and port.
    pub address: SocketAddr,
    /// Share of new connections, at most `i32::MAX`; 0 takes none: that of a server that is not up.
    pub weight: u32,
    /// The weight before it was set to 0, or `weight` itself: what mh fills its table by. Goes with the server, not
    /// with the scheduler. 0 for a server that was added with weight 0, one from the trash included.
    pub last_weight: u32,
    /// How packets reach it.
    pub method: Method,
    /// Connections from which on it takes no new ones; 0: as many as come.
    pub upper: u32,
    /// Connections below which it takes new ones again; 0: three quarters of `upper`.
    pub lower: u32,
    /// The weight that the operator wants, which it has while it is up.
    pub wanted_weight: u32,
    /// What the operator has it do.
    pub state: ServerState,
    /// Seconds after which it counts as down when it is drained; 0: never.
    pub drain_timeout_s: u32,
    /// It is down, or has been drained for so long that it counts as down.
    pub is_down: bool,
    /// The tick since which it is in its state, and has had a weight or none.
    pub since: u32,
}

impl Destination {
    /// A server that is known by `id` from now on.
    pub const fn new(id: ServerId, server: &Server) -> Self {
        let Server { address, weight: wanted_weight, method, upper, lower, state, drain_timeout_s } = *server;
        let weight = if matches!(state, ServerState::Up) { wanted_weight } else { 0 };
        let is_down = matches!(state, ServerState::Down);
        Self {
            id,
            address,
            weight,
            last_weight: weight,
            method,
            upper,
            lower,
            wanted_weight,
            state,
            drain_timeout_s,
            is_down,
            since: 0,
        }
    }

    /// The same server, edited at `tick`.
    #[must_use]
    pub fn edited(&self, server: &Server, tick: u32) -> Self {
        let mut new = Self::new(self.id, server);
        if new.weight == 0 {
            new.last_weight = self.last_weight;
        }
        let stays = (new.state, new.weight > 0) == (self.state, self.weight > 0);
        new.since = if stays { self.since } else { tick };
        // Who has been drained for long enough stays down, unless it is given more time.
        new.is_down |= self.is_down && stays && new.drain_timeout_s == self.drain_timeout_s;
        new
    }

    /// Where the packets of the flow `client` go: a server of all ports has the one that the packet has.
    pub fn address_for(&self, client: &FlowKey) -> SocketAddr {
        let mut address = self.address;
        if address.port() == 0 {
            address.set_port(client.destination().port());
        }
        address
    }

    /// The server as the operator wants it.
    pub const fn server(&self) -> Server {
        let Self { address, wanted_weight: weight, method, upper, lower, state, drain_timeout_s, .. } = *self;
        Server { address, weight, method, upper, lower, state, drain_timeout_s }
    }

    /// True if it has been drained for its time at `tick` and does not count as down yet.
    pub const fn is_drained(&self, tick: u32) -> bool {
        let ticks = self.drain_timeout_s.saturating_mul(Time::TICKS_PER_S);
        let drains = matches!(self.state, ServerState::Drain) && self.drain_timeout_s > 0 && !self.is_down;
        drains && tick.saturating_sub(self.since) >= ticks
    }
}

/// Connections of one server. A whole cache line of its own: every new connection writes it.
#[derive(Debug, FromZeros)]
#[repr(C)]
struct Cell {
    active: AtomicU32,
    /// Active and inactive together, so that a change of state leaves it alone and never looks like an end.
    total: AtomicU32,
    persistent: AtomicU32,
    upper: AtomicU32,
    lower: AtomicU32,
    /// 1 from the connection that reaches `upper` to the one that falls below `lower`.
    overloaded: AtomicU8,
    padding: [u8; 43],
}

const _: () = assert!(size_of::<Cell>() == 64);

impl Cell {
    /// Sets or clears the overload flag as `total` connections demand; between the thresholds it stays.
    fn judge(&self, total: u32) {
        if !self.clear_below(total) && total >= self.upper.load(Relaxed) {
            self.overloaded.store(1, Relaxed);
            // With the fence in `closed`: either who ends a connection sees the flag, or this sees the connection gone.
            fence(SeqCst);
            self.clear_below(self.total.load(Relaxed));
        }
    }

    /// Clears the overload flag if `total` connections are below the lower threshold. True if they are.
    fn clear_below(&self, total: u32) -> bool {
        let (upper, lower) = (self.upper.load(Relaxed), self.lower.load(Relaxed));
        let lower = if lower > 0 { lower } else { upper - upper / 4 };
        let is_below = upper == 0 || total < lower;
        if is_below {
            self.overloaded.store(0, Relaxed);
        }
        is_below
    }
}

/// Connections of every server as `ipvsadm -Ln` shows them, and the thresholds they are held to.
///
/// Counting and judging are two steps, and workers may take them at the same time: who sets the flag looks at the total
/// again, and who ends a connection only ever clears it.
#[derive(Debug)]
pub struct Counts(Box<[Cell]>);

impl Counts {
    /// All zero, for ids below `servers`.
    ///
    /// # Panics
    /// When there is no memory for them: 64 bytes each.
    pub fn new(servers: u32) -> Self {
        let cells = FromZeros::new_vec_zeroed(servers as usize).expect("64 bytes for each server");
        Self(Vec::into_boxed_slice(cells))
    }

    fn cell(&self, id: ServerId) -> Option<&Cell> {
        self.0.get(id.0 as usize)
    }

    /// True while a server has any connection or template.
    pub fn any(&self, id: ServerId) -> bool {
        self.cell(id).is_some_and(|c| c.total.load(Relaxed) != 0 || c.persistent.load(Relaxed) != 0)
    }

    /// Active connections of a server.
    #[inline]
    pub fn active(&self, id: ServerId) -> u32 {
        self.cell(id).map_or(0, |c| c.active.load(Relaxed))
    }

    /// Inactive connections of a server.
    #[inline]
    pub fn inactive(&self, id: ServerId) -> u32 {
        // The two are read one after the other: as in the kernel the difference may be off, never below 0.
        self.cell(id).map_or(0, |c| c.total.load(Relaxed).saturating_sub(c.active.load(Relaxed)))
    }

    /// Persistence templates bound to a server.
    pub fn persistent(&self, id: ServerId) -> u32 {
        self.cell(id).map_or(0, |c| c.persistent.load(Relaxed))
    }

    /// What `lc` and `wlc` compare (`ip_vs_dest_conn_overhead`): a connection counts one, an active one 256 more.
    #[inline]
    pub fn overhead(&self, id: ServerId) -> u32 {
        let count = |c: &Cell| (c.active.load(Relaxed) << 8).wrapping_add(c.total.load(Relaxed));
        self.cell(id).map_or(0, count)
    }

    /// True from the connection that reached the server's upper threshold until fewer than the lower are left.
    #[inline]
    pub fn overloaded(&self, id: ServerId) -> bool {
        self.cell(id).is_some_and(|c| c.overloaded.load(Relaxed) != 0)
    }

    /// True if schedulers may give a server a new connection.
    #[inline]
    pub fn usable(&self, server: &Destination) -> bool {
        server.weight > 0 && !self.overloaded(server.id)
    }

    /// Sets a server's thresholds in connections, active and inactive together (`ipvsadm -x`, `-y`), and judges it
    /// by them at once. An upper of 0 is no threshold, a lower of 0 three quarters of the upper. An id that is used
    /// again starts with 0 and 0.
    pub fn set_thresholds(&self, id: ServerId, upper: u32, lower: u32) {
        if let Some(cell) = self.cell(id) {
            cell.upper.store(upper, Relaxed);
            cell.lower.store(lower, Relaxed);
            cell.judge(cell.total.load(Relaxed));
        }
    }

    /// Counts a new connection.
    pub fn opened(&self, id: ServerId, status: Status) {
        if let Some(cell) = self.cell(id) {
            if !status.inactive {
                cell.active.fetch_add(1, Relaxed);
            }
            let total = cell.total.fetch_add(1, Relaxed).wrapping_add(1);
            // Most servers have no threshold.
            if cell.upper.load(Relaxed) > 0 {
                cell.judge(total);
            }
        }
    }

    /// Counts a connection that is gone, whose last status was `status`.
    pub fn closed(&self, id: ServerId, status: Status) {
        if let Some(cell) = self.cell(id) {
            if !status.inactive {
                cell.active.fetch_sub(1, Relaxed);
            }
            let total = cell.total.fetch_sub(1, Relaxed).wrapping_sub(1);
            if cell.upper.load(Relaxed) > 0 {
                fence(SeqCst);
                // An end never sets the flag: the total it was counted in may be past.
                if cell.overloaded.load(Relaxed) != 0 {
                    cell.clear_below(total);
                }
            }
        }
    }

    /// Counts a connection's change of state.
    #[inline]
    pub fn changed(&self, id: ServerId, old: Status, new: Status) {
        if old.inactive != new.inactive
            && let Some(cell) = self.cell(id)
        {
            if new.inactive {
                cell.active.fetch_sub(1, Relaxed);
            } else {
                cell.active.fetch_add(1, Relaxed);
            }
        }
    }

    /// Counts a new persistence template. No threshold counts it.
    pub fn template_opened(&self, id: ServerId) {
        if let Some(cell) = self.cell(id) {
            cell.persistent.fetch_add(1, Relaxed);
        }
    }

    /// Counts a persistence template that is gone.
    pub fn template_closed(&self, id: ServerId) {
        if let Some(cell) = self.cell(id) {
            cell.persistent.fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::director::conn::state::State;

    const ID: ServerId = ServerId(1);
    const ACTIVE: Status =
        Status { state: State::Established, inactive: false, no_output: false, removed: false };
    const INACTIVE: Status = Status { state: State::TimeWait, inactive: true, ..ACTIVE };

    fn opened(n: u32) -> Counts {
        let counts = Counts::new(2);
        (0..n).for_each(|_| counts.opened(ID, ACTIVE));
        counts
    }

    /// Recorded from IPVS (Linux 6.12): thresholds edited under connections that stay.
    #[test]
    fn an_edit_judges_at_once_and_leaves_the_flag_between_the_thresholds() {
        let counts = opened(2);
        let edit = |upper, lower| {
            counts.set_thresholds(ID, upper, lower);
            counts.overloaded(ID)
        };
        assert!(!edit(5, 0));
        assert!(edit(2, 0), "lowered to the connections there are");
        counts.opened(ID, ACTIVE);
        assert!(edit(6, 1), "raised, with a low lower one");
        assert!(edit(5, 1));
        assert!(!edit(4, 4), "three connections are below four");
        assert!(!edit(6, 1), "between the thresholds again, now from below");
        assert!(edit(3, 1));
        assert!(!edit(0, 0));
        assert!(!counts.overloaded(ServerId(0)), "the neighbour has thresholds of its own");
    }

    #[test]
    fn without_a_lower_threshold_three_quarters_of_the_upper_have_to_be_undercut() {
        for (upper, clear_at) in [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (8, 5), (100, 74)] {
            let counts = opened(upper - 1);
            counts.set_thresholds(ID, upper, 0);
            assert!(!counts.overloaded(ID));
            counts.opened(ID, INACTIVE);
            for left in (0..=upper).rev() {
                assert_eq!(counts.overloaded(ID), left > clear_at, "{left} of {upper}");
                if left > 0 {
                    counts.closed(ID, if left == upper { INACTIVE } else { ACTIVE });
                }
            }
        }
    }

    /// Whatever order the workers judge in, the last connection to end leaves no flag behind.
    #[test]
    fn a_flag_does_not_outlive_the_connections_that_set_it() {
        let counts = Counts::new(2);
        counts.set_thresholds(ID, 2, 0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        counts.opened(ID, ACTIVE);
                        counts.changed(ID, ACTIVE, INACTIVE);
                        counts.closed(ID, INACTIVE);
                    }
                });
            }
        });
        assert_eq!((counts.active(ID), counts.inactive(ID), counts.overloaded(ID)), (0, 0, false));
    }

    #[test]
    fn templates_are_counted_apart() {
        let counts = opened(1);
        counts.set_thresholds(ID, 2, 0);
        counts.template_opened(ID);
        counts.template_opened(ID);
        counts.template_closed(ID);
        assert_eq!((counts.persistent(ID), counts.active(ID), counts.inactive(ID)), (1, 1, 0));
        assert!(!counts.overloaded(ID));
    }

    proptest! {
        /// The oracle keeps a list of connections and the flag by the rule's words.
        #[test]
        fn counts_and_flag_follow_the_connections(steps in proptest::collection::vec((0u8..6, 0u32..8, 0u32..8), 0..80)) {
            let (counts, mut open) = (Counts::new(2), Vec::new());
            let (mut upper, mut lower, mut flag) = (0, 0, false);
            for (step, a, b) in steps {
                let status = if b % 2 == 0 { ACTIVE } else { INACTIVE };
                let judged = match step {
                    0 | 1 => {
                        open.push(status);
                        counts.opened(ID, status);
                        true
                    }
                    2 | 3 if !open.is_empty() => {
                        let gone = open.remove(a as usize % open.len());
                        counts.closed(ID, gone);
                        true
                    }
                    4 if !open.is_empty() => {
                        let at = a as usize % open.len();
                        counts.changed(ID, open[at], status);
                        open[at] = status;
                        false
                    }
                    5 => {
                        (upper, lower) = (a.max(b), b.min(a));
                        counts.set_thresholds(ID, upper, lower);
                        true
                    }
                    _ => false,
                };
                let total = u32::try_from(open.len()).unwrap();
                let bottom = if lower == 0 { f64::from(upper) * 0.75 } else { f64::from(lower) };
                if judged && upper > 0 && total >= upper {
                    flag = true;
                } else if judged && (upper == 0 || f64::from(total) < bottom) {
                    flag = false;
                }
                let active = u32::try_from(open.iter().filter(|s| !s.inactive).count()).unwrap();
                prop_assert_eq!((counts.active(ID), counts.inactive(ID)), (active, total - active));
                prop_assert_eq!(counts.overhead(ID), active * 257 + (total - active));
                prop_assert_eq!(counts.overloaded(ID), flag, "{} of {}..{}", total, lower, upper);
            }
        }
    }
}
