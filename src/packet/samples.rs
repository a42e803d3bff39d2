//! Frames for the tests of this folder.

use etherparse::{IpFragOffset, Ipv4Header, PacketBuilder, TcpOptionElement};

/// A server's segment with this text and these options.
pub(super) fn segment(text: &[u8], options: &[TcpOptionElement]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([1; 6], [2; 6])
        .ipv4([10, 1, 0, 11], [10, 0, 1, 1], 64)
        .tcp(21, 5001, 1000, 8192)
        .ack(2000)
        .options(options)
        .unwrap()
        .write(&mut frame, text)
        .unwrap();
    frame
}

/// A fragment of IPv4: `offset` in units of eight bytes.
pub(super) fn fragment(protocol: u8, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let mut ip = Ipv4Header::new(0, 64, protocol.into(), [10, 0, 1, 1], [10, 0, 0, 100]).unwrap();
    ip.set_payload_len(payload.len()).unwrap();
    ip.identification = 0x1234;
    ip.dont_fragment = false;
    ip.more_fragments = more;
    ip.fragment_offset = IpFragOffset::try_new(offset).unwrap();
    ip.header_checksum = ip.calc_header_checksum();
    [&[1; 6][..], &[2; 6], &[8, 0], &ip.to_bytes(), payload].concat()
}
