//! When to stop spinning and sleep: spinning answers faster, sleeping costs nothing.

use std::time::Duration;

/// How long a worker spins without a frame before it sleeps, when nothing is said.
pub const SPIN_DEFAULT: Duration = Duration::from_micros(50);
/// Longest sleep: timers, statistics and a stop are looked at this often.
pub const SLEEP_MAX_MS: u16 = 100;
/// Sleep while the kernel has not taken all frames to transmit.
pub const RETRY_MS: u16 = 1;

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

    /// Says whether to sleep after a turn that ended at `now` and that did or did not do any `work`.
    pub fn may_sleep(&mut self, work: bool, now: Duration) -> bool {
        let Some(spin) = self.spin else { return false };
        if work {
            self.idle_since = None;
            return false;
        }
        let since = *self.idle_since.get_or_insert(now);
        now.saturating_sub(since) >= spin
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
        assert!(!idle.may_sleep(false, us(1000)));
        assert!(!idle.may_sleep(false, us(1049)));
        assert!(idle.may_sleep(false, us(1050)));
        assert!(
            idle.may_sleep(false, us(101_050)),
            "a sleep without a frame does not start the spinning again"
        );
        assert!(!idle.may_sleep(true, us(101_060)));
        assert!(!idle.may_sleep(false, us(101_070)), "work does");
        assert!(idle.may_sleep(false, us(101_120)));
    }

    #[test]
    fn work_keeps_it_awake() {
        let mut idle = Idle::new(Some(us(0)));
        for now in 0..100 {
            assert!(!idle.may_sleep(true, us(now)));
        }
        assert!(idle.may_sleep(false, us(100)), "no spinning at all sleeps at once");
    }

    #[test]
    fn busy_polling_never_sleeps() {
        let mut idle = Idle::new(None);
        for second in 0..100 {
            assert!(!idle.may_sleep(false, Duration::from_secs(second)));
        }
    }
}
