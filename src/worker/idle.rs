//! When to stop spinning and sleep: spinning answers faster, sleeping costs nothing.
//!
//! After its last frame a worker looks for the next one for a while, and offers its core to others before each look: one
//! that shares its core with who waits for its packets (a server here, the kernel's own threads) would keep them waiting
//! until it sleeps. On a core of its own an offer is a system call that comes back at once.
//! Then it sleeps in `poll` until the kernel has a frame for it.

use std::time::Duration;

/// How long a worker spins without a frame before it sleeps, when nothing is said.
pub const SPIN_DEFAULT: Duration = Duration::from_micros(50);
/// Longest sleep: timers, statistics and a stop are looked at this often.
pub const SLEEP_MAX_MS: u16 = 100;
/// Sleep while the kernel has not taken all frames to transmit.
pub const RETRY_MS: u16 = 1;

/// What a worker does after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another turn at once.
    Turn,
    /// Another turn, after whoever else waits for the core.
    Yield,
    /// Nothing, until a frame arrives or something is due.
    Sleep,
}

/// The policy of one worker.
#[derive(Debug)]
pub struct Idle {
    spin: Option<Duration>,
    idle_since: Option<Duration>,
}

impl Idle {
    /// Sleeps after `spin` without work; `None` never sleeps.
    pub const fn new(spin: Option<Duration>) -> Self {
        Self { spin, idle_since: None }
    }

    /// What comes after a turn that began at `now` and that did or did not do any `work`.
    pub fn after(&mut self, work: bool, now: Duration) -> Next {
        if work {
            self.idle_since = None;
            return Next::Turn;
        }
        let since = *self.idle_since.get_or_insert(now);
        match self.spin {
            Some(spin) if now.saturating_sub(since) >= spin => Next::Sleep,
            _ => Next::Yield,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    #[test]
    fn it_spins_for_its_time_and_then_sleeps_until_there_is_work() {
        let mut idle = Idle::new(Some(us(50)));
        assert_eq!(idle.after(false, us(1000)), Next::Yield);
        assert_eq!(idle.after(false, us(1049)), Next::Yield);
        assert_eq!(idle.after(false, us(1050)), Next::Sleep);
        let next = idle.after(false, us(101_050));
        assert_eq!(next, Next::Sleep, "a sleep without a frame does not start the spinning again");
        assert_eq!(idle.after(true, us(101_060)), Next::Turn);
        assert_eq!(idle.after(false, us(101_070)), Next::Yield, "work does");
        assert_eq!(idle.after(false, us(101_120)), Next::Sleep);
    }

    #[test]
    fn work_keeps_it_awake_and_its_core_its_own() {
        let mut idle = Idle::new(Some(us(0)));
        for now in 0..100 {
            assert_eq!(idle.after(true, us(now)), Next::Turn);
        }
        assert_eq!(idle.after(false, us(100)), Next::Sleep, "no spinning at all sleeps at once");
    }

    #[test]
    fn busy_polling_never_sleeps() {
        let mut idle = Idle::new(None);
        for second in 0..100 {
            assert_eq!(idle.after(false, Duration::from_secs(second)), Next::Yield);
        }
    }
}
