//! The clients there are at once, what each is at, and who has to go.
//!
//! ```text
//!          bytes         head whole        answered          all given to it       taken by the client
//! Idle ───────────> Head ──────────> Body ──────────> Answer ──────────────> Written ─────────────────> Idle
//! ```
//!
//! Nothing of xvs ever takes long: whatever a client is at, it is xvs that waits for the client. Each of these waits has
//! a limit, but for that of an answer: whoever reads a listing in a pager may read for as long as there is room. When
//! there is no seat or no memory left for one more, those who keep xvs waiting longest go first, and readers after all
//! others, so that whoever behaves is served, however many do not.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::limits::{
    ANSWER_STEP, BODY_TIMEOUT, HEAD_TIMEOUT, IDLE_TIMEOUT, LOOK, MAX_CONNECTIONS, MAX_HELD_BYTES, PATIENCE,
    PATIENCE_AMID, SMALL_BYTES,
};

/// What xvs waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A request.
    Idle,
    /// The rest of its head.
    Head,
    /// Its body.
    Body,
    /// That the client takes the answer, which is still being made.
    Answer,
    /// That the client takes the rest of it.
    Written,
}

impl Phase {
    /// How long xvs waits if nobody waits for the seat; none: without end.
    const fn timeout(self) -> Option<Duration> {
        match self {
            Phase::Idle => Some(IDLE_TIMEOUT),
            Phase::Head => Some(HEAD_TIMEOUT),
            // The request is refused first, which takes no time.
            Phase::Body => Some(BODY_TIMEOUT.saturating_add(LOOK)),
            Phase::Answer | Phase::Written => None,
        }
    }

    /// How long it waits if others wait for the seat.
    const fn patience(self) -> Option<Duration> {
        match self {
            Phase::Idle | Phase::Head => Some(PATIENCE),
            Phase::Body | Phase::Answer | Phase::Written => Some(PATIENCE_AMID),
        }
    }

    /// True while the client reads: it goes after all others.
    const fn reads(self) -> bool {
        matches!(self, Phase::Answer | Phase::Written)
    }
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    /// Bytes of the answer written since then.
    written: usize,
    /// Bytes of its request or answer that are held for it.
    held: usize,
    is_told_to_leave: bool,
}

/// One client's seat.
#[derive(Debug)]
pub(super) struct Seat {
    state: Mutex<State>,
    leave: Notify,
}

impl Seat {
    fn new() -> Self {
        let state =
            State { phase: Phase::Idle, since: Instant::now(), written: 0, held: 0, is_told_to_leave: false };
        Self { state: Mutex::new(state), leave: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, phase: Phase) {
        let mut state = self.state();
        (state.phase, state.since, state.written) = (phase, Instant::now(), 0);
    }

    /// Bytes have come.
    pub(super) fn heard(&self) {
        if self.state().phase == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    /// A request's head is whole.
    pub(super) fn begin_request(&self) {
        self.enter(Phase::Body);
    }

    /// The answer begins.
    pub(super) fn begin_answer(&self) {
        self.enter(Phase::Answer);
    }

    /// The client took `bytes` of an answer.
    pub(super) fn wrote(&self, bytes: usize) {
        let mut state = self.state();
        state.written = state.written.saturating_add(bytes);
        if state.written >= ANSWER_STEP {
            (state.since, state.written) = (Instant::now(), 0);
        }
    }

    /// The answer is made.
    pub(super) fn end_answer(&self) {
        self.enter(Phase::Written);
    }

    /// The client took all there was so far.
    pub(super) fn flushed(&self) {
        if self.state().phase == Phase::Written {
            self.enter(Phase::Idle);
            self.state().held = 0;
        }
    }

    /// Comes back when the client has to go.
    pub(super) async fn told_to_leave(&self) {
        self.leave.notified().await;
    }

    fn tell_to_leave(&self) {
        self.state().is_told_to_leave = true;
        self.leave.notify_one();
    }

    /// How much longer than `limit` xvs has waited; none if not longer, or if the client is leaving.
    fn overdue(&self, now: Instant, limit: impl Fn(Phase) -> Option<Duration>) -> Option<Duration> {
        let state = self.state();
        if state.is_told_to_leave {
            return None;
        }
        now.duration_since(state.since).checked_sub(limit(state.phase)?)
    }

    fn held(&self) -> usize {
        let state = self.state();
        if state.is_told_to_leave { 0 } else { state.held }
    }
}

/// The client that has been too slow for longest, if any is; one who reads only if there is no other.
fn slowest<'a>(seats: impl Iterator<Item = &'a Arc<Seat>>, now: Instant) -> Option<&'a Arc<Seat>> {
    let overdue = |seat: &'a Arc<Seat>| {
        let overdue = seat.overdue(now, Phase::patience)?;
        Some((!seat.state().phase.reads(), overdue, seat))
    };
    let slow = seats.filter_map(overdue);
    slow.max_by_key(|&(is_first, overdue, _)| (is_first, overdue)).map(|(_, _, seat)| seat)
}

/// A taken seat, free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) seat: Arc<Seat>,
    seats: Arc<Seats>,
}

impl Place {
    /// Holds `bytes` for the client, instead of what was held for it before. If there is no memory for that, those
    /// have to go that have kept xvs waiting longest with what is held for them. False if that does not help.
    pub(super) fn hold(&self, bytes: usize) -> bool {
        self.hold_anyway(0);
        let seats = self.seats.taken();
        let now = Instant::now();
        let total = || seats.iter().map(|seat| seat.held()).sum::<usize>();
        while bytes > SMALL_BYTES && total().saturating_add(bytes) > MAX_HELD_BYTES {
            match slowest(seats.iter().filter(|seat| seat.held() > 0), now) {
                Some(seat) => seat.tell_to_leave(),
                None => return false,
            }
        }
        self.hold_anyway(bytes);
        true
    }

    /// Holds `bytes` however much is held already.
    pub(super) fn hold_anyway(&self, bytes: usize) {
        self.seat.state().held = bytes;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.seats.taken().retain(|seat| !Arc::ptr_eq(seat, &self.seat));
        self.seats.left.notify_one();
    }
}

/// All seats.
#[derive(Debug, Default)]
pub(super) struct Seats {
    taken: Mutex<Vec<Arc<Seat>>>,
    left: Notify,
}

impl Seats {
    fn taken(&self) -> MutexGuard<'_, Vec<Arc<Seat>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seat, once there is one. If all are taken, the client that has kept xvs waiting longest has to go.
    pub(super) async fn take(self: &Arc<Self>) -> Place {
        loop {
            {
                let mut taken = self.taken();
                if taken.len() < MAX_CONNECTIONS {
                    let seat = Arc::new(Seat::new());
                    taken.push(seat.clone());
                    return Place { seat, seats: self.clone() };
                }
                if let Some(seat) = slowest(taken.iter(), Instant::now()) {
                    seat.tell_to_leave();
                }
            }
            tokio::select! {
                () = self.left.notified() => {}
                () = sleep(PATIENCE / 4) => {}
            }
        }
    }

    /// Tells all to leave who keep xvs waiting for longer than they may.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        self.taken()
            .iter()
            .filter(|s| s.overdue(now, Phase::timeout).is_some())
            .for_each(|s| s.tell_to_leave());
    }

    /// Tells all to leave, or those without a request.
    pub(super) fn close(&self, only_idle: bool) {
        let goes = |seat: &&Arc<Seat>| !only_idle || seat.state().phase == Phase::Idle;
        self.taken().iter().filter(goes).for_each(|seat| seat.tell_to_leave());
    }

    /// Comes back when no seat is taken.
    pub(super) async fn empty(&self) {
        while !self.taken().is_empty() {
            self.left.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn seat(phase: Phase) -> Arc<Seat> {
        let seat = Seat::new();
        seat.enter(phase);
        Arc::new(seat)
    }

    #[test]
    fn only_who_reads_an_answer_may_do_so_for_ever() {
        let now = Instant::now() + DAY;
        for phase in [Phase::Idle, Phase::Head, Phase::Body] {
            assert!(seat(phase).overdue(now, Phase::timeout).is_some(), "{phase:?}");
        }
        for phase in [Phase::Answer, Phase::Written] {
            assert_eq!(seat(phase).overdue(now, Phase::timeout), None, "{phase:?}");
        }
    }

    #[test]
    fn readers_make_room_after_all_others() {
        let (reader, second, idle) = (seat(Phase::Answer), seat(Phase::Written), seat(Phase::Idle));
        let seats = [&second, &idle, &reader];
        // The readers have sat there for longer.
        for (seat, since) in [(&reader, 0), (&second, 1), (&idle, 2)] {
            seat.state().since += Duration::from_secs(since);
        }
        for expected in [&idle, &reader, &second] {
            let slow = slowest(seats.into_iter(), Instant::now() + DAY).unwrap();
            assert!(Arc::ptr_eq(slow, expected), "{slow:?}");
            slow.tell_to_leave();
        }
        assert!(slowest(seats.into_iter(), Instant::now() + DAY).is_none());
        assert!(slowest([&seat(Phase::Answer)].into_iter(), Instant::now()).is_none(), "it has just begun");
    }
}
