//! Any bytes are a packet or have a reason why not; what is read lies inside the frame and is all there is to it.

use xvs::packet::parse::{Parsed, Reject, parse};
use xvs::packet::{checksum, fragment};

pub fn run(frame: &[u8]) {
    let outcome = parse(frame);
    check(frame, &outcome);

    // Random bytes seldom have a right header checksum: as a hostile sender would, give them one.
    let mut mended = frame.to_vec();
    if mend(&mut mended) {
        check(&mended, &parse(&mended));
    }
}

/// A fragment lies inside its frame and inside a datagram that may be.
fn check_fragment(frame: &[u8]) {
    let Ok(f) = fragment::read(frame) else { return };
    let (offset, len) = (usize::from(f.offset), usize::from(f.len));
    let end = f.parsed.l3 + usize::from(f.parsed.ip_len);
    assert!(end <= frame.len() && f.parsed.l4 + len == end && len > 0, "{f:?}");
    assert!(f.parsed.l4 - f.parsed.l3 + offset + len <= 65_535 && offset.is_multiple_of(8), "{f:?}");
    assert!(!f.more || len.is_multiple_of(8), "{f:?}");
}

fn check(frame: &[u8], outcome: &Result<Parsed, Reject>) {
    check_fragment(frame);
    let Ok(parsed) = outcome else { return };
    let end = parsed.l3 + usize::from(parsed.ip_len);
    assert!(end <= frame.len(), "the packet ends inside the frame");
    let least = if parsed.is_ipsec() { 0 } else { 8 };
    assert!(parsed.l3 + 20 <= parsed.l4 && parsed.l4 + least <= end, "headers inside the packet: {parsed:?}");
    let (l3, l4) = (&frame[parsed.l3..], &frame[parsed.l4..]);
    if parsed.key.is_v4() {
        assert_eq!((l3[0] >> 4, l3[8]), (4, parsed.ttl));
        assert_eq!(parsed.key.v4_addresses().to_be_bytes(), l3[12..20]);
    } else {
        assert_eq!((l3[0] >> 4, l3[7]), (6, parsed.ttl));
        assert_eq!(parsed.key.v6_addresses(), l3[8..40]);
        assert!(parsed.l3 + 40 <= parsed.l4, "{parsed:?}");
    }
    // IPv6's protocol may be behind extension headers; where there are none, it is here.
    let protocol = if parsed.key.is_v4() { l3[9] } else { l3[6] };
    let is_here = parsed.key.is_v4() || parsed.l4 == parsed.l3 + 40;
    if parsed.is_ipsec() {
        assert!(!is_here || matches!(protocol, 50 | 51), "{parsed:?}");
        assert_eq!((parsed.key.protocol(), parsed.key.ports()), (17, 500 << 16 | 500));
    } else {
        assert!(!is_here || parsed.key.protocol() == protocol, "{parsed:?}");
        assert_eq!(parsed.key.ports().to_be_bytes(), l4[..4]);
    }

    let padded = [&frame[..end], &[0xa5; 46]].concat();
    assert_eq!(view(&parse(&padded)), view(outcome), "other padding, same packet");
    assert_eq!(view(&parse(&frame[..end])), view(outcome), "no padding, same packet");
    assert!(parse(&frame[..end - 1]).is_err(), "a byte is missing");
}

fn view(outcome: &Result<Parsed, Reject>) -> String {
    format!("{outcome:?}")
}

/// Writes a right IPv4 header checksum, if there is a header where one may be.
fn mend(frame: &mut [u8]) -> bool {
    let l3 = if matches!(frame.get(12..14), Some([0x81, 0] | [0x88, 0xa8])) { 18 } else { 14 };
    let Some(ihl) = frame.get(l3).map(|b| usize::from(b & 15) * 4) else { return false };
    let Some(header) = frame.get_mut(l3..l3 + ihl).filter(|h| h.len() >= 20) else { return false };
    header[10..12].fill(0);
    let sum = checksum::of(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    true
}
