//! By how much a stream of bytes is longer for its receiver than its sender made it (`struct ip_vs_seq`).
//!
//! A helper that changes the length of a text shifts everything after it. Kept are the last change and the sum of those
//! before, in one word, so that workers that have packets of either direction agree without a lock. A next change is
//! taken only once the receiver has acknowledged the last: what is sent again then is always of after, of before or of
//! the last change, and each goes where it went.
//!
//! The kernel keeps the start of the changed segment; here it is the end of the changed text, so that an acknowledgement of
//! what was before is never taken for one of what comes after.

/// See the module. Numbers of the sender's are those of the bytes as it sent them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shift {
    /// The sender's number of the first byte after the last changed text.
    edge: u32,
    /// Bytes that the receiver has more from there on, at most [`MAX_BYTES`] either way.
    bytes: i32,
    /// What of them is of the last change; 0 before the first.
    step: i8,
    /// The receiver has everything before the edge.
    is_settled: bool,
}

/// The greatest shift: half a million transfers on one connection, each with the greatest change there is.
const MAX_BYTES: i32 = (1 << 22) - 1;

/// What a change of text means to the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The stream is this one from now on.
    Shifted(Shift),
    /// It was made before, and this is the same text once more.
    Again,
    /// It cannot be made: the receiver does not have what was changed before, or the shift would be too great.
    Refused,
    /// The text was received long ago.
    Past,
}

impl Shift {
    /// As it is stored.
    pub fn to_word(self) -> u64 {
        let bytes = u64::from(self.bytes.cast_unsigned() & 0x7f_ffff);
        u64::from(self.edge)
            | bytes << 32
            | u64::from(self.step.cast_unsigned()) << 55
            | u64::from(self.is_settled) << 63
    }

    /// As it was stored.
    #[allow(clippy::cast_possible_truncation, reason = "fields of the word")]
    pub fn from_word(word: u64) -> Self {
        // Its sign is at bit 54.
        let bytes = ((word << 9).cast_signed() >> 41) as i32;
        Self {
            edge: word as u32,
            bytes,
            step: ((word >> 55) as u8).cast_signed(),
            is_settled: word >> 63 == 1,
        }
    }

    /// Where the sender's `number` is to the receiver.
    pub fn to_receiver(self, number: u32) -> u32 {
        number.wrapping_add_signed(if is_before(number, self.edge) { self.before() } else { self.bytes })
    }

    /// Where the receiver's `number`, which it acknowledges, is to the sender.
    pub fn to_sender(self, number: u32) -> u32 {
        if !is_before(number, self.far_edge()) {
            return number.wrapping_add_signed(-self.bytes);
        }
        let number = number.wrapping_add_signed(-self.before());
        // A part of the changed text, which nobody makes a segment of: all of it is not acknowledged.
        if self.step == 0 || is_before(number, self.edge) { number } else { self.edge.wrapping_sub(1) }
    }

    /// The stream once the receiver has acknowledged all before its `number`.
    #[must_use]
    pub fn settled_by(self, number: u32) -> Self {
        let is_settled = self.step != 0 && !is_before(number, self.far_edge());
        Self { is_settled: self.is_settled || is_settled, ..self }
    }

    /// A text that ends before the sender's number `edge` becomes `step` bytes longer.
    pub fn changed(self, edge: u32, step: i8) -> Change {
        if self.step != 0 {
            if edge == self.edge {
                return if step == self.step { Change::Again } else { Change::Refused };
            }
            if is_before(edge, self.edge) {
                return Change::Past;
            }
            if !self.is_settled {
                return Change::Refused;
            }
        }
        if step == 0 {
            return Change::Again;
        }
        let bytes = self.bytes + i32::from(step);
        if bytes.abs() > MAX_BYTES {
            return Change::Refused;
        }
        Change::Shifted(Self { edge, bytes, step, is_settled: false })
    }

    /// The shift of what is before the edge.
    fn before(self) -> i32 {
        self.bytes - i32::from(self.step)
    }

    /// The edge as the receiver sees it.
    fn far_edge(self) -> u32 {
        self.edge.wrapping_add_signed(self.bytes)
    }
}

/// True if `a` comes before `b`, by less than half of all numbers (RFC 9293, 3.4).
fn is_before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() < 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_word_gives_back_what_was_stored() {
        for bytes in [0, 1, -1, MAX_BYTES, -MAX_BYTES] {
            for (step, is_settled) in [(0, false), (127, true), (-128, false), (-1, true)] {
                let shift = Shift { edge: 0xdead_beef, bytes, step, is_settled };
                assert_eq!(Shift::from_word(shift.to_word()), shift);
            }
        }
        assert_eq!(Shift::from_word(0), Shift::default());
    }

    #[test]
    fn a_shift_ends_at_its_bound() {
        let shift = Shift { edge: 10, bytes: MAX_BYTES, step: 1, is_settled: true };
        assert_eq!(shift.changed(20, 1), Change::Refused);
        assert!(matches!(shift.changed(20, -1), Change::Shifted(_)));
    }

    #[test]
    fn a_change_waits_for_the_one_before_to_be_acknowledged() {
        let Change::Shifted(shift) = Shift::default().changed(100, 3) else { panic!("the first one") };
        assert_eq!(shift.changed(100, 3), Change::Again);
        assert_eq!(shift.changed(100, 2), Change::Refused, "another text at the same place");
        assert_eq!(shift.changed(150, 2), Change::Refused);
        assert_eq!(shift.settled_by(102).changed(150, 2), Change::Refused);
        let settled = shift.settled_by(103);
        assert_eq!(settled.changed(60, 2), Change::Past);
        assert!(matches!(settled.changed(150, 2), Change::Shifted(_)));
    }

    proptest! {
        /// The oracle is both streams, written out: for each byte of the sender's, or boundary between two, the place
        /// that it has at the receiver's. `changes` are (bytes before, bytes changed, what they become).
        #[test]
        fn both_ends_agree_on_every_byte(
            start: u32,
            changes in proptest::collection::vec((0u32..30, 1u32..20, 0u32..30), 1..8),
        ) {
            let mut shift = Shift::default();
            let (mut theirs, mut ours) = (start, start);
            for (before, old, new) in changes {
                let from = (theirs, ours);
                prop_assert_eq!(shift.to_receiver(from.0), from.1);
                theirs = theirs.wrapping_add(before);
                ours = ours.wrapping_add(before);
                let (text, far_text) = (theirs, ours);
                let step = i8::try_from(i64::from(new) - i64::from(old)).unwrap();
                theirs = theirs.wrapping_add(old);
                ours = ours.wrapping_add(new);
                match shift.changed(theirs, step) {
                    Change::Shifted(new) => shift = new,
                    other => prop_assert!(step == 0 && other == Change::Again, "{:?}", other),
                }
                // A segment that begins before or at the text, or right after it.
                prop_assert_eq!(shift.to_receiver(text), far_text);
                prop_assert_eq!(shift.to_receiver(theirs), ours);
                if step != 0 {
                    prop_assert_eq!(shift.to_receiver(from.0), from.1, "what is sent again");
                }
                // All before the text is acknowledged, a part of it, and all of it. An empty text has no place before.
                if new > 0 {
                    prop_assert_eq!(shift.to_sender(far_text), text);
                }
                for part in 1..new {
                    let ack = shift.to_sender(far_text.wrapping_add(part));
                    prop_assert!(ack.wrapping_sub(text) < old || step == 0, "{} of {}", part, new);
                }
                prop_assert_eq!(shift.to_sender(ours), theirs);
                shift = shift.settled_by(ours);
            }
        }
    }
}
