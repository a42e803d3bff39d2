//! Receive side scaling: which queue a network card puts a packet into.
//!
//! A card hashes addresses and ports with the Toeplitz function under a key, and looks the queue up in a table by the
//! hash. Both are the driver's to tell (`ETHTOOL_MSG_RSS_GET`, Linux 6.3), and since 6.17 what is hashed too; from older
//! ones it is taken that of TCP addresses and ports are, as every driver begins, and nothing is taken of UDP and SCTP.

use std::net::{IpAddr, SocketAddr};

use netlink_packet_generic::{GenlFamily, GenlHeader};
use rtnetlink::packet_core::{
    DecodeError, DefaultNla, Emitable, NlasIterator, ParseableParametrized, parse_u32,
};

use super::error::NetError;
use super::genl;

/// Bytes that are hashed at most: two IPv6 addresses and two ports.
const INPUT_MAX: usize = 36;
/// A key is longer than what is hashed by as much.
const WINDOW: usize = 4;

/// What of a packet is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hashed {
    /// Addresses alone.
    Addresses,
    /// Addresses and ports.
    Ports,
    /// Something else, or nobody knows.
    Unknown,
}

/// How an interface distributes packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rss {
    /// What each value of each byte of the input adds to the hash: the function is linear.
    parts: Box<[[u32; 256]]>,
    queues: Box<[u32]>,
    /// Of IPv4 and IPv6: TCP, UDP, SCTP.
    hashed: [[Hashed; 3]; 2],
}

impl Rss {
    /// With this key and table of queues. `None` if they are too short to tell anything.
    pub fn new(key: &[u8], queues: &[u32], hashed: [[Hashed; 3]; 2]) -> Option<Self> {
        if key.len() < INPUT_MAX + WINDOW || queues.is_empty() {
            return None;
        }
        let bit = |n: usize| u64::from(key[n / 8] >> (7 - n % 8) & 1);
        // The 32 bits of the key from bit `n` on.
        let window = |n: usize| (n..n + 32).fold(0, |all, n| all << 1 | bit(n));
        let part = |byte: usize, value: usize| {
            let set = (0..8).filter(|n| value >> (7 - n) & 1 == 1);
            set.fold(0, |hash, n| hash ^ u32::try_from(window(byte * 8 + n)).unwrap_or(0))
        };
        let parts = (0..INPUT_MAX).map(|byte| std::array::from_fn(|value| part(byte, value))).collect();
        Some(Self { parts, queues: queues.into(), hashed })
    }

    /// The queue of packets of this protocol between these two, of one IP version; `None` if it cannot be told.
    #[inline]
    pub fn queue(&self, protocol: u8, source: SocketAddr, destination: SocketAddr) -> Option<u32> {
        let hash = match self.hashed_of(protocol, source.is_ipv4()) {
            Hashed::Unknown => return None,
            Hashed::Addresses => self.hash(source, destination, false),
            Hashed::Ports => self.hash(source, destination, true),
        };
        self.queues.get(hash as usize % self.queues.len()).copied()
    }

    /// What is hashed of this protocol.
    pub fn hashed_of(&self, protocol: u8, v4: bool) -> Hashed {
        let place = match protocol {
            6 => 0,
            17 => 1,
            132 => 2,
            _ => return Hashed::Unknown,
        };
        self.hashed[usize::from(!v4)][place]
    }

    fn hash(&self, source: SocketAddr, destination: SocketAddr, with_ports: bool) -> u32 {
        let mut input = [0; INPUT_MAX];
        let len = match (source.ip(), destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                input[..4].copy_from_slice(&from.octets());
                input[4..8].copy_from_slice(&to.octets());
                8
            }
            (from, to) => {
                let octets = |ip: IpAddr| match ip {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                    IpAddr::V6(ip) => ip.octets(),
                };
                input[..16].copy_from_slice(&octets(from));
                input[16..32].copy_from_slice(&octets(to));
                32
            }
        };
        input[len..len + 2].copy_from_slice(&source.port().to_be_bytes());
        input[len + 2..len + 4].copy_from_slice(&destination.port().to_be_bytes());
        let len = if with_ports { len + 4 } else { len };
        let bytes = self.parts.iter().zip(&input[..len]);
        bytes.fold(0, |hash, (part, byte)| hash ^ part[usize::from(*byte)])
    }
}

/// How the interface distributes packets; `None` if its driver, or the kernel, does not tell, or it is by another
/// function. Needs a tokio runtime.
///
/// # Errors
/// When the kernel refuses, for instance because there is no such interface.
pub async fn of(interface: &str) -> Result<Option<Rss>, NetError> {
    let question = Message { interface: interface.to_owned(), ..Message::default() };
    Ok(genl::ask("tell how an interface distributes packets", question)
        .await?
        .and_then(|answer| answer.rss()))
}

/// Numbers of the kernel's `ethtool` family (`Documentation/netlink/specs/ethtool.yaml`).
const RSS_GET: u8 = 38;
const HEADER: u16 = 1;
const HEADER_DEV_NAME: u16 = 2;
const NESTED: u16 = 1 << 15;
const HFUNC: u16 = 3;
const INDIR: u16 = 4;
const HKEY: u16 = 5;
const INPUT_XFRM: u16 = 6;
const FLOW_HASH: u16 = 8;
/// Attributes of [`FLOW_HASH`], of IPv4 and IPv6: TCP, UDP, SCTP.
const FLOWS: [[u16; 3]; 2] = [[4, 6, 8], [5, 7, 9]];
/// `ETH_RSS_HASH_TOP`.
const TOEPLITZ: u32 = 1;
/// `RXH_IP_SRC`, `RXH_IP_DST`; `RXH_L4_B_0_1`, `RXH_L4_B_2_3`.
const ADDRESSES: u64 = 0b11 << 4;
const PORTS: u64 = 0b11 << 6;

/// The message, question and answer, as far as it is of interest.
#[derive(Debug, Default)]
struct Message {
    interface: String,
    function: u32,
    transform: u32,
    queues: Vec<u32>,
    key: Vec<u8>,
    /// By the numbers of [`FLOWS`].
    flows: Option<Vec<(u16, u64)>>,
}

impl Message {
    fn question(&self) -> DefaultNla {
        let name = [self.interface.as_bytes(), &[0]].concat();
        let name = DefaultNla::new(HEADER_DEV_NAME, name);
        let mut header = vec![0; name.buffer_len()];
        name.emit(&mut header);
        DefaultNla::new(HEADER | NESTED, header)
    }

    fn rss(self) -> Option<Rss> {
        if self.function != TOEPLITZ || self.transform != 0 {
            return None;
        }
        let hashed = |flow: u16| match &self.flows {
            None if FLOWS.iter().any(|[tcp, ..]| *tcp == flow) => Hashed::Ports,
            None => Hashed::Unknown,
            Some(flows) => match flows.iter().find(|(known, _)| *known == flow).map(|(_, fields)| *fields) {
                Some(fields) if fields == ADDRESSES | PORTS => Hashed::Ports,
                Some(ADDRESSES) => Hashed::Addresses,
                _ => Hashed::Unknown,
            },
        };
        Rss::new(&self.key, &self.queues, FLOWS.map(|of_family| of_family.map(hashed)))
    }
}

impl GenlFamily for Message {
    fn family_name() -> &'static str {
        "ethtool"
    }

    fn command(&self) -> u8 {
        RSS_GET
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Emitable for Message {
    fn buffer_len(&self) -> usize {
        self.question().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.question().emit(buffer);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Message {
    fn parse_with_param(buffer: &[u8], _: GenlHeader) -> Result<Self, DecodeError> {
        let mut message = Message::default();
        for attribute in NlasIterator::new(buffer) {
            let attribute = attribute?;
            let value = attribute.value();
            match attribute.kind() & !NESTED {
                HFUNC => message.function = parse_u32(value)?,
                INPUT_XFRM => message.transform = parse_u32(value)?,
                INDIR => message.queues = value.chunks_exact(4).map(parse_u32).collect::<Result<_, _>>()?,
                HKEY => message.key = value.to_vec(),
                FLOW_HASH => {
                    let flows = NlasIterator::new(value).map(|flow| {
                        let flow = flow?;
                        Ok((flow.kind() & !NESTED, unsigned(flow.value())))
                    });
                    message.flows = Some(flows.collect::<Result<_, DecodeError>>()?);
                }
                _ => {}
            }
        }
        Ok(message)
    }
}

/// `NLA_UINT`: four or eight bytes.
fn unsigned(value: &[u8]) -> u64 {
    match value.len() {
        4 => value.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes).into()),
        _ => value.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Of Microsoft's "Verifying the RSS hash calculation".
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
        0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
        0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    fn all(hashed: Hashed) -> [[Hashed; 3]; 2] {
        [[hashed; 3]; 2]
    }

    #[test]
    fn the_hash_is_the_one_that_cards_are_verified_by() {
        let rss = Rss::new(&KEY, &[0], all(Hashed::Ports)).unwrap();
        // Destination, source, hash of the addresses, and with the ports.
        for (to, from, addresses, ports) in [
            ("161.142.100.80:1766", "66.9.149.187:2794", 0x323e_8fc2, 0x51cc_c178),
            ("65.69.140.83:4739", "199.92.111.2:14230", 0xd718_262a, 0xc626_b0ea),
            ("12.22.207.184:38024", "24.19.198.95:12898", 0xd2d0_a5de, 0x5c2b_394a),
            ("209.142.163.6:2217", "38.27.205.30:48228", 0x8298_9176, 0xafc7_327f),
            ("202.188.127.2:1303", "153.39.163.191:44251", 0x5d18_09c5, 0x10e8_28a2),
            ("[3ffe:2501:200:3::1]:1766", "[3ffe:2501:200:1fff::7]:2794", 0x2cc1_8cd5, 0x4020_7d3d),
            ("[ff02::1]:4739", "[3ffe:501:8::260:97ff:fe40:efab]:14230", 0x0f0c_461c, 0xdde5_1bbf),
            (
                "[fe80::200:f8ff:fe21:67cf]:38024",
                "[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251",
                0x4b61_e985,
                0x02d1_feef,
            ),
        ] {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            assert_eq!(rss.hash(from, to, false), addresses, "{from} -> {to}");
            assert_eq!(rss.hash(from, to, true), ports, "{from} -> {to}");
        }
    }

    /// The function as its definition has it: for every bit set, the 32 bits of the key that begin there.
    fn slow(key: &[u8], input: &[u8]) -> u32 {
        let mut hash = 0;
        for n in 0..input.len() * 8 {
            if input[n / 8] >> (7 - n % 8) & 1 == 1 {
                let window = (n..n + 32).fold(0u32, |w, n| w << 1 | u32::from(key[n / 8] >> (7 - n % 8) & 1));
                hash ^= window;
            }
        }
        hash
    }

    proptest! {
        #[test]
        fn any_key_and_flow_as_the_definition_has_it(
            key in proptest::collection::vec(any::<u8>(), 40..53),
            from in any::<(u32, u16)>(),
            to in any::<(u32, u16)>(),
        ) {
            let rss = Rss::new(&key, &[3, 1, 4, 1, 5, 9, 2, 6], all(Hashed::Ports)).unwrap();
            let input = [
                &from.0.to_be_bytes()[..], &to.0.to_be_bytes(), &from.1.to_be_bytes(), &to.1.to_be_bytes(),
            ].concat();
            let hash = slow(&key, &input);
            let end = |(ip, port): (u32, u16)| SocketAddr::new(IpAddr::V4(ip.into()), port);
            prop_assert_eq!(rss.hash(end(from), end(to), true), hash);
            prop_assert_eq!(rss.queue(6, end(from), end(to)), Some([3, 1, 4, 1, 5, 9, 2, 6][hash as usize % 8]));
        }
    }

    fn answer(attributes: &[(u16, Vec<u8>)]) -> Message {
        let mut bytes = Vec::new();
        for (kind, value) in attributes {
            let attribute = DefaultNla::new(*kind, value.clone());
            let start = bytes.len();
            bytes.resize(start + attribute.buffer_len(), 0);
            attribute.emit(&mut bytes[start..]);
        }
        Message::parse_with_param(&bytes, GenlHeader { cmd: RSS_GET, version: 1 }).unwrap()
    }

    #[test]
    fn what_a_driver_tells_is_read_and_what_it_does_not_tell_is_not_guessed() {
        let function = |number: u32| (HFUNC, number.to_ne_bytes().to_vec());
        let queues = (INDIR, [0u32, 1, 2, 3].iter().flat_map(|q| q.to_ne_bytes()).collect());
        let key = (HKEY, KEY.to_vec());
        let old = answer(&[queues.clone(), function(1), key.clone()]).rss().unwrap();
        assert_eq!((old.hashed_of(6, true), old.hashed_of(6, false)), (Hashed::Ports, Hashed::Ports));
        assert_eq!((old.hashed_of(17, true), old.hashed_of(132, true)), (Hashed::Unknown, Hashed::Unknown));
        let ends = ("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap());
        assert!(old.queue(6, ends.0, ends.1).is_some() && old.queue(17, ends.0, ends.1).is_none());

        let flow = |kind: u16, fields: &[u8]| {
            let attribute = DefaultNla::new(kind, fields.to_vec());
            let mut bytes = vec![0; attribute.buffer_len()];
            attribute.emit(&mut bytes);
            bytes
        };
        let flows = [
            flow(4, &(ADDRESSES | PORTS).to_ne_bytes()),
            flow(6, &u32::try_from(ADDRESSES).unwrap().to_ne_bytes()),
            flow(8, &PORTS.to_ne_bytes()),
        ];
        let new = answer(&[queues.clone(), function(1), key.clone(), (FLOW_HASH | NESTED, flows.concat())]);
        let new = new.rss().unwrap();
        let hashed = [6, 17, 132].map(|protocol| new.hashed_of(protocol, true));
        assert_eq!(hashed, [Hashed::Ports, Hashed::Addresses, Hashed::Unknown]);
        assert_eq!(new.hashed_of(6, false), Hashed::Unknown, "not told");

        assert!(answer(&[queues.clone(), function(2), key.clone()]).rss().is_none(), "another function");
        assert!(answer(&[queues.clone(), function(1)]).rss().is_none(), "no key");
        assert!(answer(&[function(1), key.clone()]).rss().is_none(), "no table");
        let transformed = (INPUT_XFRM, 1u32.to_ne_bytes().to_vec());
        assert!(answer(&[queues, function(1), key, transformed]).rss().is_none(), "symmetric");
    }

    #[tokio::test]
    async fn the_loopback_interface_has_none() {
        assert_eq!(of("lo").await.unwrap(), None);
    }
}
