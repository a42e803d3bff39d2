//! Time as the director sees it: handed in by the worker once a batch, never read from a clock here.

const _: () = assert!(Time::TICKS_PER_S as u64 * Time::TICK_MS == 1000);

/// Milliseconds since the process started, monotonic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Time {
    /// Length of one coarse tick, the unit of last-seen stamps and of the timer wheel.
    pub const TICK_MS: u64 = 250;

    /// Coarse ticks in a second.
    pub const TICKS_PER_S: u32 = 4;

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
