//! Time as the director sees it: handed in by the worker once a batch, never read from a clock here.

/// Milliseconds since the process started, monotonic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Time {
    /// Length of one coarse tick, the unit of last-seen stamps and of the timer wheel.
    pub const TICK_MS: u64 = 250;

    /// The point `seconds` after the start.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds * 1000)
    }

    /// The coarse tick this point lies in.
    #[allow(clippy::cast_possible_truncation, reason = "2^32 ticks of 250 ms are 34 years")]
    pub const fn tick(self) -> u32 {
        (self.0 / Self::TICK_MS) as u32
    }
}
