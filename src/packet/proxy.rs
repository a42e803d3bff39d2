//! The header of the PROXY protocol, version 2, that tells who a connection is from and where it was sent to
//! (haproxy.org, proxy-protocol.txt, 2.2).
//!
//! ```text
//! | signature | version 2, PROXY | family, transport | length of the rest | source, destination | ports of both |
//! 0           12                 13                  14                   16
//! ```

use std::net::IpAddr;

use arrayvec::ArrayVec;

use super::flow::FlowKey;

/// No text of any protocol begins with these bytes.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2; the connection is somebody else's, whose addresses follow.
const VERSION_PROXY: u8 = 0x21;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Longest header in bytes, that of IPv6; IPv4's has 28. Either is a multiple of four.
pub const HEADER_MAX: usize = 52;

/// A header.
pub type Header = ArrayVec<u8, HEADER_MAX>;

/// The header for the flow of a client's packets with this key; none if they are neither TCP nor UDP.
pub fn header(client: &FlowKey) -> Option<Header> {
    let transport = match client.protocol() {
        TCP => 1,
        UDP => 2,
        _ => return None,
    };
    let (from, to) = (client.source(), client.destination());
    let (mut addresses, family) = (ArrayVec::<u8, 32>::new(), if client.is_v4() { 0x10 } else { 0x20 });
    for address in [from.ip(), to.ip()] {
        match address {
            IpAddr::V4(ip) => addresses.try_extend_from_slice(&ip.octets()).ok()?,
            IpAddr::V6(ip) => addresses.try_extend_from_slice(&ip.octets()).ok()?,
        }
    }
    let len = u8::try_from(addresses.len() + 4).ok()?;
    let ports = client.ports().to_be_bytes();
    let mut header = Header::new();
    for part in [&SIGNATURE[..], &[VERSION_PROXY, family | transport, 0, len], &addresses, &ports] {
        header.try_extend_from_slice(part).ok()?;
    }
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(protocol: u8, from: &str, to: &str) -> Option<Vec<u8>> {
        let key = FlowKey::new(protocol, from.parse().unwrap(), to.parse().unwrap());
        header(&key).map(|header| header.to_vec())
    }

    /// Written by hand from the document.
    #[test]
    fn headers_are_those_of_the_document() {
        let signature = "0d0a0d0a000d0a515549540a";
        let hex = |header: Option<Vec<u8>>| {
            header.unwrap().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        // 192.0.2.7, 10.0.0.100, 40000, 443.
        let v4 = "c00002070a0000649c4001bb";
        assert_eq!(hex(of(6, "192.0.2.7:40000", "10.0.0.100:443")), format!("{signature}2111000c{v4}"));
        assert_eq!(hex(of(17, "192.0.2.7:40000", "10.0.0.100:443")), format!("{signature}2112000c{v4}"));
        let v6 = "20010db8000000000000000000000007".to_owned() + "20010db800000000000000000000ffff00350050";
        let (from, to) = ("[2001:db8::7]:53", "[2001:db8::ffff]:80");
        assert_eq!(hex(of(6, from, to)), format!("{signature}21210024{v6}"));
        assert_eq!(hex(of(17, from, to)), format!("{signature}21220024{v6}"));
        assert_eq!(of(132, "192.0.2.7:40000", "10.0.0.100:443"), None, "there is none of SCTP");
        assert_eq!(of(6, from, to).unwrap().len(), HEADER_MAX);
    }
}
