//! What who sent the packet in the tunnel is told: an error about that packet, in its own IP version.

use etherparse::IpNumber;

use super::{FRAGMENTATION_NEEDED, ICMP_LEN, IPV4_LEN, IPV6_LEN, TOO_BIG, TunnelError};
use crate::packet::flow::FlowKey;
use crate::packet::ipv6::ICMPV6;
use crate::packet::{answer, checksum};

/// Longest IP packet of an ICMP error (RFC 1812, 4.3.2.3; RFC 4443, 2.4).
const ERROR_MAX_V4: usize = 576;
const ERROR_MAX_V6: usize = 1280;
/// Types and codes.
const UNREACHABLE_V4: u8 = 3;
const SOURCE_QUENCH: u8 = 4;
const TIME_EXCEEDED_V4: u8 = 11;
const UNREACHABLE_V6: u8 = 1;
const TIME_EXCEEDED_V6: u8 = 3;
/// Code of time exceeded, in both versions: fragments of the outer packet are missing, whose sender is the director.
const REASSEMBLY: u8 = 1;
const PARAMETER_PROBLEM: u8 = 4;
const ADDRESS_UNREACHABLE: (u8, u8) = (UNREACHABLE_V6, 3);
const HOST_UNREACHABLE: (u8, u8) = (UNREACHABLE_V4, 1);

impl TunnelError {
    /// True if the inner packet's IP version has such an error.
    pub fn is_told(&self) -> bool {
        self.head().is_some()
    }

    /// Type and code of the error about the inner packet; none if its IP version has no such error. Where the versions
    /// differ, and for what only the outer packet's headers can be to blame for, it is the tunnel's end that is not reached
    /// (RFC 2473, 8.2 and 8.3), but nobody who listens there, who forbids it and a TTL that ends, which is the client's
    /// own, are told as they are.
    fn head(&self) -> Option<(u8, u8)> {
        let is_v4 = self.inner.key.is_v4();
        if self.too_big().is_some() {
            return Some(if is_v4 { FRAGMENTATION_NEEDED } else { (TOO_BIG, 0) });
        }
        Some(match (self.source.is_ipv4(), is_v4, self.kind, self.code) {
            (false, false, PARAMETER_PROBLEM, _) => ADDRESS_UNREACHABLE,
            (false, false, TIME_EXCEEDED_V6, REASSEMBLY) | (true, false, TIME_EXCEEDED_V4, REASSEMBLY) => {
                ADDRESS_UNREACHABLE
            }
            (false, true, TIME_EXCEEDED_V6, REASSEMBLY) => HOST_UNREACHABLE,
            (true, true, kind, code) | (false, false, kind, code) => (kind, code),
            (true, false, UNREACHABLE_V4, 3) => (UNREACHABLE_V6, 4),
            (true, false, UNREACHABLE_V4, 9 | 10 | 13) => (UNREACHABLE_V6, 1),
            (true, false, TIME_EXCEEDED_V4, code) => (TIME_EXCEEDED_V6, code),
            (true, false, SOURCE_QUENCH, _) => return None,
            (true, false, ..) => ADDRESS_UNREACHABLE,
            (false, true, UNREACHABLE_V6, 1) => (UNREACHABLE_V4, 13),
            (false, true, UNREACHABLE_V6, 4) => (UNREACHABLE_V4, 3),
            (false, true, TIME_EXCEEDED_V6, code) => (TIME_EXCEEDED_V4, code),
            (false, true, ..) => HOST_UNREACHABLE,
        })
    }

    /// Makes the frame at the start of `room` an error about the inner packet, to who sent that, in the name of who that
    /// was sent to; one that says that it is too long says `mtu`, in bytes. The IP packet begins at `l3`, behind what the
    /// caller writes. Returns the frame's length; `None`, with nothing written, if it would not fit, or if the inner
    /// packet's IP version has no such error.
    pub fn write(&self, room: &mut [u8], l3: usize, mtu: u16) -> Option<usize> {
        let (kind, code) = self.head()?;
        let rest = if self.too_big().is_some() { u32::from(mtu) } else { 0 };
        let sent = self.inner.key;
        let (protocol, ip_len, longest) = if sent.is_v4() {
            (IpNumber::ICMP.0, IPV4_LEN, ERROR_MAX_V4)
        } else {
            (ICMPV6, IPV6_LEN, ERROR_MAX_V6)
        };
        let back = FlowKey::new(protocol, sent.destination(), sent.source());
        let icmp = l3 + ip_len;
        let quoted = self.quoted.min(longest - ip_len - ICMP_LEN);
        let end = icmp + ICMP_LEN + quoted;
        if room.len() < end {
            return None;
        }
        room.copy_within(self.inner.l3..self.inner.l3 + quoted, icmp + ICMP_LEN);
        room[icmp..icmp + 4].copy_from_slice(&[kind, code, 0, 0]);
        room[icmp + 4..icmp + ICMP_LEN].copy_from_slice(&rest.to_be_bytes());
        let message = &room[icmp..end];
        let sum = if sent.is_v4() {
            checksum::of(message)
        } else {
            checksum::of_transport(back.source().ip(), back.destination().ip(), ICMPV6, message)
        };
        room[icmp + 2..icmp + 4].copy_from_slice(&sum.to_be_bytes());
        answer::head(room.get_mut(l3..)?, &back, end - icmp)?;
        Some(end)
    }
}
