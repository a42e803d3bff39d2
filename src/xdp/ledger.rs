//! Where every frame is: proof that none is lost and none is owned twice.
//!
//! Counts are kept in every build; they cost an addition a batch. Debug builds also remember the place of
//! each single frame and stop at the first that is in two.

/// A place that can own a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The free pool.
    Pool,
    /// A fill ring, the driver, or a receive ring not read yet.
    Receive,
    /// A transmit ring, the driver, or a completion ring not read yet.
    Transmit,
    /// The worker's hands: a [`Frame`](super::frame::Frame) exists.
    Held,
}

/// How many frames are in each place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Frames the UMEM was made with.
    pub total: usize,
    /// Frames in the free pool.
    pub pool: usize,
    /// Frames given to the kernel to receive into.
    pub receive: usize,
    /// Frames given to the kernel to transmit.
    pub transmit: usize,
    /// Frames in the worker's hands.
    pub held: usize,
}

impl Census {
    /// Whether every frame is in exactly one place.
    pub const fn is_conserved(&self) -> bool {
        self.pool + self.receive + self.transmit + self.held == self.total
    }
}

/// In debug builds, the place of each frame by its chunk number; in release builds, nothing.
#[derive(Debug, Default)]
pub(super) struct Places {
    #[cfg(debug_assertions)]
    places: Vec<Place>,
}

impl Places {
    /// Everything in the pool.
    pub(super) fn new(total: usize) -> Self {
        #[cfg(debug_assertions)]
        return Self { places: vec![Place::Pool; total] };
        #[cfg(not(debug_assertions))]
        {
            let _ = total;
            Self {}
        }
    }

    /// Moves one frame; debug builds panic if it was not where it is said to come from.
    #[inline]
    pub(super) fn change(&mut self, chunk: usize, from: Place, to: Place) {
        #[cfg(debug_assertions)]
        {
            let place = &mut self.places[chunk];
            assert_eq!(*place, from, "frame {chunk} goes to {to:?} from two places");
            *place = to;
        }
        #[cfg(not(debug_assertions))]
        let _ = (chunk, from, to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_census_that_lost_or_gained_a_frame_is_not_conserved() {
        let census = Census { total: 10, pool: 4, receive: 3, transmit: 2, held: 1 };
        assert!(census.is_conserved());
        assert!(!Census { held: 0, ..census }.is_conserved());
        assert!(!Census { pool: 5, ..census }.is_conserved());
    }

    #[test]
    fn a_frame_may_go_round() {
        let mut places = Places::new(1);
        places.change(0, Place::Pool, Place::Receive);
        places.change(0, Place::Receive, Place::Held);
        places.change(0, Place::Held, Place::Transmit);
        places.change(0, Place::Transmit, Place::Pool);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "from two places")]
    fn a_frame_received_twice_is_noticed() {
        let mut places = Places::new(2);
        places.change(1, Place::Pool, Place::Receive);
        places.change(1, Place::Receive, Place::Held);
        places.change(1, Place::Receive, Place::Held);
    }
}
