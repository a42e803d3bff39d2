//! What makes two packets one flow: protocol, addresses and ports, as a packet carries them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::checksum::Delta;

const V4: u64 = 4;
const V6: u64 = 6;
const GROUP: u64 = 1 << 16;

/// Protocol, source and destination of a packet, in five words that compare and hash fast.
///
/// ```text
///            IPv4                          IPv6
/// words[0]   source << 32 | destination    source, first half
/// words[1]   source port << 48 | destination port << 32 | group << 16 | protocol << 8 | family
/// words[2]   0                             source, second half
/// words[3]   0                             destination, first half
/// words[4]   0                             destination, second half
/// ```
///
/// The family is part of the key, so an IPv4 flow never equals an IPv6 one, and an IPv4 key is decided by
/// its first two words. The group bit is set for a group of flows: no packet has such a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FlowKey {
    words: [u64; Self::WORDS],
}

impl FlowKey {
    /// Length of a key in 64-bit words.
    pub const WORDS: usize = 5;

    /// The key of an IPv4 packet; addresses as numbers in host order.
    #[inline]
    pub const fn v4(protocol: u8, source: u32, destination: u32, ports: u32) -> Self {
        let addresses = (source as u64) << 32 | destination as u64;
        Self { words: [addresses, (ports as u64) << 32 | (protocol as u64) << 8 | V4, 0, 0, 0] }
    }

    /// The key of an IPv6 packet.
    #[inline]
    pub fn v6(protocol: u8, source: Ipv6Addr, destination: Ipv6Addr, ports: u32) -> Self {
        let (s, d) = (halves(source), halves(destination));
        Self { words: [s.0, u64::from(ports) << 32 | u64::from(protocol) << 8 | V6, s.1, d.0, d.1] }
    }

    /// The key of a packet from `source` to `destination`, which must be of one family.
    ///
    /// # Panics
    /// When the families differ: callers have checked their configuration.
    pub fn new(protocol: u8, source: SocketAddr, destination: SocketAddr) -> Self {
        let ports = u32::from(source.port()) << 16 | u32::from(destination.port());
        match (source.ip(), destination.ip()) {
            (IpAddr::V4(s), IpAddr::V4(d)) => Self::v4(protocol, s.to_bits(), d.to_bits(), ports),
            (IpAddr::V6(s), IpAddr::V6(d)) => Self::v6(protocol, s, d, ports),
            _ => panic!("a flow has one address family, not {source} and {destination}"),
        }
    }

    /// The key of a server's packets to a client that may be of another family: an IPv4 address counts as the IPv6
    /// address that stands for it then (RFC 4291, 2.5.5.2). No packet has such a key.
    pub fn across(protocol: u8, server: SocketAddr, client: SocketAddr) -> Self {
        let mapped = |address: SocketAddr| match address.ip() {
            IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
            IpAddr::V6(_) => address,
        };
        if server.is_ipv4() == client.is_ipv4() {
            Self::new(protocol, server, client)
        } else {
            Self::new(protocol, mapped(server), mapped(client))
        }
    }

    /// The key of all flows between `source` and `destination`, in whatever way these stand for many: never that of
    /// a packet.
    ///
    /// # Panics
    /// When the families differ.
    pub fn group(protocol: u8, source: SocketAddr, destination: SocketAddr) -> Self {
        let mut key = Self::new(protocol, source, destination);
        key.words[1] |= GROUP;
        key
    }

    /// True for a group of flows.
    #[inline]
    pub const fn is_group(&self) -> bool {
        self.words[1] & GROUP != 0
    }

    /// The key as it is stored.
    #[inline]
    pub const fn words(&self) -> &[u64; Self::WORDS] {
        &self.words
    }

    /// The key that was stored as `words`.
    #[inline]
    pub const fn from_words(words: [u64; Self::WORDS]) -> Self {
        Self { words }
    }

    /// True for IPv4.
    #[inline]
    pub const fn is_v4(&self) -> bool {
        Self::is_of_v4(self.words[1])
    }

    /// True if a key with this second word is one of IPv4, and so has none but its first two.
    #[inline]
    pub const fn is_of_v4(second: u64) -> bool {
        second & 0xff == V4
    }

    /// The transport protocol's IANA number.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the byte is masked")]
    pub const fn protocol(&self) -> u8 {
        (self.words[1] >> 8 & 0xff) as u8
    }

    /// IPv4 source and destination as they follow each other in the header, read as one big-endian number.
    #[inline]
    pub const fn v4_addresses(&self) -> u64 {
        self.words[0]
    }

    /// IPv4 destination, as a number in host order.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "half of the word")]
    pub const fn v4_destination(&self) -> u32 {
        self.words[0] as u32
    }

    /// IPv6 source and destination as they follow each other in the header.
    #[inline]
    pub fn v6_addresses(&self) -> [u8; 32] {
        let [a, _, b, c, d] = self.words;
        let mut bytes = [0; 32];
        for (field, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip([a, b, c, d]) {
            *field = word.to_be_bytes();
        }
        bytes
    }

    /// Both addresses as a checksum adds them up: those of IPv4 with zeroes behind.
    fn addresses(&self) -> [u8; 32] {
        if !self.is_v4() {
            return self.v6_addresses();
        }
        let mut all = [0; 32];
        all[..8].copy_from_slice(&self.v4_addresses().to_be_bytes());
        all
    }

    /// The difference to a checksum over addresses and ports, or over addresses alone, when those of this key become
    /// those of `other`: the first is both of them.
    pub fn difference(&self, other: &FlowKey) -> (Delta, Delta) {
        let addresses = match (self.is_v4(), other.is_v4()) {
            (true, true) => Delta::between_numbers(self.v4_addresses(), other.v4_addresses()),
            _ => Delta::between(&self.addresses(), &other.addresses()),
        };
        let ports = Delta::between_numbers(self.ports().into(), other.ports().into());
        (addresses.and(ports), addresses)
    }

    /// Source and destination port as they follow each other in the header, read as one big-endian number.
    #[inline]
    pub const fn ports(&self) -> u32 {
        (self.words[1] >> 32) as u32
    }

    /// Some bits that differ from client to client.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "any bits will do")]
    pub const fn source_bits(&self) -> u32 {
        let [first, _, second, ..] = self.words;
        let bits = if self.is_v4() { first >> 32 } else { first ^ second };
        (bits ^ bits >> 32) as u32
    }

    /// Where the packet comes from.
    #[allow(clippy::cast_possible_truncation, reason = "halves of wider words")]
    pub fn source(&self) -> SocketAddr {
        let ip = if self.is_v4() {
            IpAddr::V4(Ipv4Addr::from_bits((self.words[0] >> 32) as u32))
        } else {
            IpAddr::V6(whole(self.words[0], self.words[2]))
        };
        SocketAddr::new(ip, (self.ports() >> 16) as u16)
    }

    /// Where the packet goes.
    #[allow(clippy::cast_possible_truncation, reason = "halves of wider words")]
    pub fn destination(&self) -> SocketAddr {
        let ip = if self.is_v4() {
            IpAddr::V4(Ipv4Addr::from_bits(self.words[0] as u32))
        } else {
            IpAddr::V6(whole(self.words[3], self.words[4]))
        };
        SocketAddr::new(ip, self.ports() as u16)
    }

    /// Where packets with this key, the replies to those of `client`, go to, if that is not the client itself.
    pub fn local(&self, client: &Self) -> Option<SocketAddr> {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let local = canonical(self.destination());
        (local != canonical(client.source())).then_some(local)
    }

    /// The key of a packet the other way.
    #[inline]
    pub fn reversed(&self) -> Self {
        let [a, meta, b, c, d] = self.words;
        let meta = u64::from(self.ports().rotate_left(16)) << 32 | meta & 0xffff_ffff;
        let words = if self.is_v4() { [a.rotate_left(32), meta, 0, 0, 0] } else { [c, meta, d, a, b] };
        Self { words }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "halves of the word")]
fn halves(address: Ipv6Addr) -> (u64, u64) {
    let bits = address.to_bits();
    ((bits >> 64) as u64, bits as u64)
}

fn whole(first: u64, second: u64) -> Ipv6Addr {
    Ipv6Addr::from_bits(u128::from(first) << 64 | u128::from(second))
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "protocol {} {} -> {}", self.protocol(), self.source(), self.destination())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_gives_back_what_it_was_made_of_and_its_reverse() {
        for (s, d) in
            [("10.0.1.2:4711", "10.0.0.100:80"), ("[2001:db8::1]:4711", "[2001:db8:1:2:3:4:5:6]:80")]
        {
            let (s, d): (SocketAddr, SocketAddr) = (s.parse().unwrap(), d.parse().unwrap());
            let key = FlowKey::new(6, s, d);
            assert_eq!((key.source(), key.destination(), key.protocol()), (s, d, 6));
            assert_eq!(key.reversed(), FlowKey::new(6, d, s));
            assert_eq!(FlowKey::from_words(*key.words()), key);
            assert_ne!(key, FlowKey::new(17, s, d));
            let group = FlowKey::group(6, s, d);
            assert_ne!(key, group);
            assert!(group.is_group() && !key.is_group());
            assert_eq!((group.source(), group.destination(), group.protocol()), (s, d, 6));
        }
    }
}
