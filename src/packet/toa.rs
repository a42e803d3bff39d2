//! The TCP option that tells the client's address, as the servers' kernel module `toa` reads it, and DPVS and LVS with
//! FULLNAT write it:
//!
//! ```text
//! | kind, usually 254 | length | client's port | client's address |      length: 8 with IPv4, 20 with IPv6
//! ```

use std::net::IpAddr;

use arrayvec::ArrayVec;

use super::flow::FlowKey;
use super::insert::insert_option;
use super::parse::Parsed;
use super::segment;

/// Longest option in bytes, that of IPv6; IPv4's has 8. Either is a multiple of four.
pub const OPTION_MAX: usize = 20;

/// An option.
pub type Toa = ArrayVec<u8, OPTION_MAX>;

/// The option of this kind that tells who a client's packets with this key are from.
pub fn option(kind: u8, client: &FlowKey) -> Toa {
    let from = client.source();
    let mut option = Toa::new();
    let [high, low] = from.port().to_be_bytes();
    let address = match from.ip() {
        IpAddr::V4(ip) => ArrayVec::<u8, 16>::from_iter(ip.octets()),
        IpAddr::V6(ip) => ArrayVec::from_iter(ip.octets()),
    };
    let len = if address.len() == 4 { 8 } else { 20 };
    option.extend([kind, len, high, low]);
    option.extend(address);
    option
}

/// Puts the option in front of a segment's others. What the segment is now, and the frame's length; none if its header,
/// or `room`, is full, and nothing has changed then.
pub fn add(room: &mut [u8], parsed: &Parsed, option: &[u8]) -> Option<(Parsed, usize)> {
    insert_option(room, parsed, option)
}

/// Blanks options of this kind that the client itself has sent: nobody but the director is to be believed.
pub fn blank(frame: &mut [u8], parsed: &Parsed, kind: u8) {
    segment::blank_options(frame, parsed, |option| option == kind);
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;
    use crate::packet::parse::parse;

    #[test]
    fn options_are_those_that_the_module_reads() {
        let of = |from: &str, to: &str| {
            option(254, &FlowKey::new(6, from.parse().unwrap(), to.parse().unwrap())).to_vec()
        };
        assert_eq!(of("192.0.2.7:40000", "10.0.0.100:80"), [254, 8, 0x9c, 0x40, 192, 0, 2, 7]);
        let mut v6 = vec![254, 20, 0, 53, 0x20, 1, 0xd, 0xb8];
        v6.extend([0; 11]);
        v6.push(7);
        assert_eq!(of("[2001:db8::7]:53", "[2001:db8::ffff]:80"), v6);
    }

    #[test]
    fn what_the_client_says_of_itself_is_blanked() {
        let forged = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 254, 8, 0, 80, 8, 8, 8, 8, 254, 4, 1, 1];
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv4([10, 1, 0, 11], [10, 0, 1, 1], 64)
            .tcp(21, 5001, 1000, 8192)
            .ack(2000)
            .options_raw(&forged)
            .unwrap()
            .write(&mut frame, b"text")
            .unwrap();
        let parsed = parse(&frame).unwrap();
        blank(&mut frame, &parsed, 254);
        let mut clean = forged;
        clean[12..].fill(1);
        assert_eq!(frame[54..78], clean);
        assert!(segment::is_sound(&frame, &parsed), "its checksum follows");
        blank(&mut frame, &parsed, 253);
        assert_eq!(frame[54..78], clean);
    }
}
