//! Any bytes are a packet or have a reason why not; what is read lies inside the frame and is all there is to it.

use std::net::SocketAddr;

use xvs::packet::flow::FlowKey;
use xvs::packet::parse::{Parsed, Reject, parse};
use xvs::packet::{checksum, fragment, icmp};

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
    assert!(end <= frame.len() && f.parsed.l4 <= end && len > 0, "{f:?}");
    // Of IPv6 the first one may hold other headers in front of the transport's.
    let begins = end - len;
    let is_first_of_v6 = offset == 0 && !f.parsed.key.is_v4();
    assert!(f.parsed.l4 == begins || (is_first_of_v6 && f.parsed.l4 > begins), "{f:?}");
    let (headers, fixed) = if f.parsed.key.is_v4() { (0, 0) } else { (8, 40) };
    assert!(begins - f.parsed.l3 - headers - fixed + offset + len <= 65_535, "{f:?}");
    assert!(offset.is_multiple_of(8), "{f:?}");
    assert!(!f.more || len.is_multiple_of(8), "{f:?}");
}

/// What an error is about lies inside of it, and writing that changes nothing else.
fn check_error(frame: &[u8]) {
    let Ok(error) = icmp::read(frame) else { return };
    let (parsed, len) = (&error.parsed, frame.len());
    let quoted = parsed.key.reversed();
    let mut same = frame.to_vec();
    let delta = icmp::translate(&mut same, &error, None, &quoted);
    assert_eq!(same.len(), len);
    // It goes to who sent the packet already.
    assert!(delta.0 == 0 || delta.0 == 0xffff, "{delta:?}");
    let sums = |frame: &[u8]| -> u32 {
        let words = frame[parsed.l4..parsed.l3 + usize::from(parsed.ip_len)].chunks(2);
        words.map(|w| u32::from(w[0]) << 8 | w.get(1).map_or(0, |&b| b.into())).sum::<u32>() % 0xffff
    };
    assert_eq!(sums(&same), sums(frame), "a right checksum stays right");
    let other =
        FlowKey::new(quoted.protocol(), SocketAddr::new(quoted.source().ip(), 7), quoted.destination());
    icmp::translate(&mut same, &error, None, &other);
    let after = icmp::read(&same).expect("an error still");
    assert_eq!(after.parsed.key, other.reversed());
}

fn check(frame: &[u8], outcome: &Result<Parsed, Reject>) {
    check_fragment(frame);
    check_error(frame);
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

/// Writes a right IPv4 header checksum, if there is a header where one may be, and that of an ICMP message behind it, or
/// right behind an IPv6 header.
fn mend(frame: &mut [u8]) -> bool {
    let l3 = if matches!(frame.get(12..14), Some([0x81, 0] | [0x88, 0xa8])) { 18 } else { 14 };
    let Some(&first) = frame.get(l3) else { return false };
    let l4 = l3 + if first >> 4 == 6 { 40 } else { usize::from(first & 15) * 4 };
    let Some(header) = frame.get_mut(l3..l4).filter(|h| h.len() >= 20) else { return false };
    let (protocol, len) = if first >> 4 == 6 {
        (header[6], usize::from(u16::from_be_bytes([header[4], header[5]])))
    } else {
        header[10..12].fill(0);
        let sum = checksum::of(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        (header[9], usize::from(u16::from_be_bytes([header[2], header[3]])).saturating_sub(l4 - l3))
    };
    let address = |at: usize| <[u8; 16]>::try_from(&frame[l3 + at..l3 + at + 16]).map(Into::into);
    let both = if first >> 4 == 6 { [8, 24].map(|at| address(at).ok()) } else { [None; 2] };
    let Some(message) = frame.get_mut(l4..l4 + len).filter(|m| m.len() > 4) else { return true };
    if !matches!(protocol, 1 | 58) {
        return true;
    }
    message[2..4].fill(0);
    let sum = match both {
        [Some(source), Some(destination)] => checksum::of_transport(source, destination, 58, message),
        _ => checksum::of(message),
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    true
}
