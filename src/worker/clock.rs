//! The only place where a worker learns the time.

use std::time::{Duration, Instant};

use crate::director::time::Time;

/// A monotonic clock that starts at zero; all workers of a process share one start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[allow(clippy::new_without_default, reason = "a clock has a moment, not a default")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// Time since the start.
    pub fn read(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A reading as the director takes it.
pub(super) fn time_of(reading: Duration) -> Time {
    Time(reading.as_secs() * 1000 + u64::from(reading.subsec_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_become_whole_milliseconds() {
        assert_eq!(time_of(Duration::from_micros(2_001_999)), Time(2001));
    }

    #[test]
    fn time_does_not_run_backwards() {
        let clock = Clock::new();
        let first = clock.read();
        assert!(clock.read() >= first);
    }
}
