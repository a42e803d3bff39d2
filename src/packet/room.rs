//! Room in front of a frame, made by the steering program for a tunnel's headers: found, and closed again.
//!
//! ```text
//! | MAC addresses again | ROOM_MARK | room in bytes | ... | the frame as it came |
//! 0                     12          14              16    room
//! ```

use std::ops::RangeInclusive;

/// EtherType at the front of such a frame, one of IEEE 802's for local experiments. Frames that come with it from a
/// wire are not IP and never come up.
pub const ROOM_MARK: u16 = 0x88b5;

/// Bytes of room that are believed: from what the mark takes to the most that a tunnel needs.
const BYTES: RangeInclusive<u16> = 16..=64;

/// Bytes of room in front of this frame, if it has any.
pub(super) fn of(frame: &[u8]) -> Option<u16> {
    let [a, b, high, low] = *frame.get(12..)?.first_chunk()?;
    let room = u16::from_be_bytes([high, low]);
    (u16::from_be_bytes([a, b]) == ROOM_MARK && BYTES.contains(&room)).then_some(room)
}

/// Takes the room in front of a frame of `len` bytes away, if it is still there, and leaves the MAC addresses at the
/// front. Returns the frame's new length.
#[inline]
pub fn close(frame: &mut [u8], len: usize) -> usize {
    match of(frame) {
        Some(room) => close_up(frame, len, room.into()),
        None => len,
    }
}

#[cold]
#[inline(never)]
fn close_up(frame: &mut [u8], len: usize, room: usize) -> usize {
    if len < room + 12 || frame.len() < len {
        return len;
    }
    frame.copy_within(room + 12..len, 12);
    len - room
}
