//! What an operator may choose about UMEM and rings, with defaults, units and bounds.

use super::error::XdpError;
use super::steer::ROOM_MAX;

/// Smallest ring, in frames: one batch.
pub const RING_LEN_MIN: u32 = 64;
/// Largest ring, in frames; a worker's memory is two rings of chunks for each interface.
pub const RING_LEN_MAX: u32 = 32_768;
/// Ring length when nothing is said: 2 ms of 64-byte frames at a million a second.
pub const RING_LEN_DEFAULT: u32 = 2048;
/// Chunk lengths that hold an Ethernet frame of 1,500 bytes and that the kernel takes.
pub const CHUNK_LENS: [u32; 2] = [2048, 4096];

/// Bytes of a chunk before the frame, which the kernel keeps for XDP.
const HEADROOM: u32 = 256;

/// Bytes of a frame that the MTU does not count: Ethernet header and one VLAN tag.
pub const HEADER_LEN: u32 = 18;

/// Bytes of a frame that tunnels need besides.
pub(super) const ROOM: u32 = ROOM_MAX as u32;

/// The largest MTU, in bytes, of an interface whose frames fit chunks of `chunk_len` bytes (`frame_bytes`). A
/// driver's native XDP may allow less.
pub const fn mtu_max(chunk_len: u32) -> u32 {
    chunk_len.saturating_sub(HEADROOM + HEADER_LEN + ROOM)
}

/// The largest MTU, in bytes, with frames of several chunks ([`SocketOptions::long_frames`]): 9,000 and what tunnels and
/// switches add to it.
pub const LONG_MTU_MAX: u32 = 9216;

/// The longest frame, in bytes, that is put together from several chunks, with the room behind it.
pub const LONG_LEN: usize = (LONG_MTU_MAX + HEADER_LEN + 2 * ROOM) as usize;

/// Whether sockets must, may or may not be zero-copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ZeroCopy {
    /// Zero-copy where the driver can, else copy; which one it became is reported.
    #[default]
    Prefer,
    /// Zero-copy or an error.
    Require,
    /// Copy mode, whatever the driver can.
    Never,
}

/// How a worker's UMEM and sockets are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// Bytes of one chunk: 2048 or 4096. The kernel takes the first 256 as headroom.
    pub chunk_len: u32,
    /// Entries of each ring: a power of two from [`RING_LEN_MIN`] to [`RING_LEN_MAX`].
    pub ring_len: u32,
    /// Take and send frames of several chunks, up to an MTU of [`LONG_MTU_MAX`]: XDP's multi-buffer, Linux 6.6. Each of them
    /// is copied into one piece and apart again; those of one chunk are not.
    pub long_frames: bool,
    /// Put the UMEM on huge pages of the default size if there are any.
    pub hugepages: bool,
    /// Whether to require zero-copy.
    pub zero_copy: ZeroCopy,
    /// Drive the driver's receive path from the worker instead of waiting for interrupts; works best
    /// together with the interface's `napi_defer_hard_irqs` and `gro_flush_timeout`.
    pub busy_poll: bool,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            chunk_len: 4096,
            ring_len: RING_LEN_DEFAULT,
            long_frames: false,
            hugepages: false,
            zero_copy: ZeroCopy::Prefer,
            busy_poll: false,
        }
    }
}

impl SocketOptions {
    /// Frames that one socket needs so that neither its receive nor its transmit side can starve the other.
    pub const fn frames_per_socket(&self) -> u32 {
        2 * self.ring_len
    }

    /// Refuses lengths out of bounds.
    ///
    /// # Errors
    /// [`XdpError::RingLen`] or [`XdpError::ChunkLen`].
    pub fn check(&self) -> Result<(), XdpError> {
        if !self.ring_len.is_power_of_two() || !(RING_LEN_MIN..=RING_LEN_MAX).contains(&self.ring_len) {
            return Err(XdpError::RingLen { ring_len: self.ring_len });
        }
        if !CHUNK_LENS.contains(&self.chunk_len) {
            return Err(XdpError::ChunkLen { chunk_len: self.chunk_len });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_within_their_own_bounds() {
        SocketOptions::default().check().unwrap();
    }

    #[test]
    fn rings_that_are_no_power_of_two_or_out_of_bounds_are_refused() {
        for ring_len in [0, 1, 32, 100, 2047, 65_536] {
            let refused = SocketOptions { ring_len, ..Default::default() }.check().unwrap_err().to_string();
            assert!(refused.contains(&ring_len.to_string()), "{refused}");
        }
        for ring_len in [64, 2048, 32_768] {
            SocketOptions { ring_len, ..Default::default() }.check().unwrap();
        }
    }

    #[test]
    fn the_longest_frame_fills_its_chunk() {
        assert_eq!(CHUNK_LENS.map(mtu_max), [1710, 3758]);
    }

    #[test]
    fn chunks_the_kernel_would_not_take_are_refused() {
        for chunk_len in [0, 1024, 3000, 8192] {
            assert!(SocketOptions { chunk_len, ..Default::default() }.check().is_err());
        }
    }
}
