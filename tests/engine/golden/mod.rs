//! Every method, IP version of clients and of servers, protocol and pair of VLANs: what arrives, in both directions, and
//! what has to leave, or why nothing does. Who plays the cases is not known here.
//!
//! | file | owns |
//! | --- | --- |
//! | `mod` | the cases: how each is configured, and which packets its ends send |
//! | [`packet`] | a frame as a description, and the bytes of it |
//! | [`oracle`] | from the frame that arrived to the one that leaves, as descriptions; what is free in it |
//! | [`seen`] | what another parser finds in a frame |

pub mod oracle;
pub mod packet;
pub mod seen;

use std::net::{IpAddr, SocketAddr};

use xvs::director::drops::DropReason;
use xvs::director::forward::hops::PortId;
use xvs::director::local::Locals;
use xvs::director::service::{Method, Pool, Protocol, Tunnel, TunnelChecksum};

use self::oracle::Departure;
use self::packet::{Extension, Frame, Packet, SEALED_AH, SEALED_ESP, Transport};
use crate::table::*;

/// Of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V4,
    V6,
}

/// What a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tcp,
    Udp,
    /// UDP with a checksum of zero: none.
    UdpUnsummed,
    /// Packets of several chunks.
    Sctp,
    /// After ISAKMP, which it follows.
    Esp,
    /// Over IPv4 as ESP; over IPv6 it is an extension header, here of TCP.
    Ah,
}

/// The rest of an IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Expedited, able to tell congestion, DF, and nothing between the headers.
    Plain,
    /// Of another class, congestion experienced, no DF, with options or a header of destination options.
    Optional,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    pub method: Method,
    pub client: Version,
    pub server: Version,
    pub kind: Kind,
    /// The VLANs outside and inside.
    pub vlans: [Option<u16>; 2],
    pub manner: Manner,
}

/// What is done with a frame.
#[derive(Clone, Debug)]
pub enum Outcome {
    Sent(Departure),
    /// Its sender may be told of it.
    Refused(DropReason),
}

/// One frame.
#[derive(Clone, Debug)]
pub struct Step {
    pub name: &'static str,
    /// The interface where it arrives.
    pub port: PortId,
    pub arrival: Frame,
    pub outcome: Outcome,
}

const NO_SUM: TunnelChecksum = TunnelChecksum::None;
const FULL: TunnelChecksum = TunnelChecksum::Full;
const GUE_PORT: u16 = 6080;

pub const METHODS: [Method; 9] = [
    Method::Nat,
    Method::FullNat,
    Method::Dr,
    Method::Tun(Tunnel::Ipip),
    Method::Tun(Tunnel::Gre { checksum: NO_SUM }),
    Method::Tun(Tunnel::Gre { checksum: FULL }),
    Method::Tun(Tunnel::Gue { port: GUE_PORT, checksum: NO_SUM }),
    Method::Tun(Tunnel::Gue { port: GUE_PORT, checksum: FULL }),
    Method::Tun(Tunnel::Gue { port: GUE_PORT, checksum: TunnelChecksum::Remote }),
];
const VERSIONS: [Version; 2] = [Version::V4, Version::V6];
const KINDS: [Kind; 6] = [Kind::Tcp, Kind::Udp, Kind::UdpUnsummed, Kind::Sctp, Kind::Esp, Kind::Ah];
const VLANS: [[Option<u16>; 2]; 4] = [[None, None], [Some(10), Some(20)], [Some(10), None], [None, Some(20)]];
const MANNERS: [Manner; 2] = [Manner::Plain, Manner::Optional];
/// Of a tag, beside its VLAN.
const PRIORITY: u16 = 0xa000;
const TTL: u8 = 64;

/// MSS 1460, selective acknowledgements, timestamps, window scaling, and one that nobody knows.
const SYN_OPTIONS: &[u8] =
    b"\x02\x04\x05\xb4\x04\x02\x08\x0a\x01\x02\x03\x04\0\0\0\0\x01\x03\x03\x07\xfd\x04ab";
/// Timestamps, and a selective acknowledgement.
const DATA_OPTIONS: &[u8] =
    b"\x01\x01\x08\x0a\x01\x02\x03\x05\x05\x06\x07\x08\x01\x01\x05\x0a\0\0\x01\0\0\0\x02\0";

const SYN: u8 = 2;
const SYN_ACK: u8 = 0x12;
const PSH_ACK: u8 = 0x18;
const ACK_CWR_ECE: u8 = 0xd0;

/// Every case, those that the director refuses included.
pub fn cases() -> impl Iterator<Item = Case> {
    kinds().flat_map(Case::variants)
}

/// The cases that differ in more than VLANs and manner: each stands for its [variants](Case::variants).
pub fn kinds() -> impl Iterator<Item = Case> {
    let families = || VERSIONS.into_iter().flat_map(|client| VERSIONS.map(|server| (client, server)));
    let (vlans, manner) = ([None; 2], Manner::Plain);
    METHODS.into_iter().flat_map(move |method| {
        families().flat_map(move |(client, server)| {
            KINDS.map(|kind| Case { method, client, server, kind, vlans, manner })
        })
    })
}

impl Version {
    /// The address of this version.
    fn of(self, v4: &str, v6: &str) -> IpAddr {
        let text = if self == Version::V4 { v4 } else { v6 };
        text.parse().unwrap()
    }
}

impl Case {
    /// The same connection with every pair of VLANs, in every manner.
    pub fn variants(self) -> impl Iterator<Item = Self> {
        VLANS.into_iter().flat_map(move |vlans| MANNERS.map(|manner| Self { vlans, manner, ..self }))
    }

    /// True if only a tunnel or FULLNAT leads from the one version to the other.
    pub fn is_across(&self) -> bool {
        self.client != self.server
    }

    /// True if the director will not have such a server.
    pub fn is_refused(&self) -> bool {
        self.is_across() && matches!(self.method, Method::Nat | Method::Dr)
    }

    /// True if its packets have no ports but those of the ISAKMP packets before.
    pub fn is_sealed(&self) -> bool {
        self.kind == Kind::Esp || self.is_ah_of(Version::V4)
    }

    fn is_ah_of(&self, version: Version) -> bool {
        self.kind == Kind::Ah && self.client == version
    }

    /// True if servers' packets come back by the director.
    pub fn has_replies(&self) -> bool {
        matches!(self.method, Method::Nat | Method::FullNat)
    }

    fn protocol(&self) -> Protocol {
        match self.kind {
            Kind::Tcp => Protocol::Tcp,
            Kind::Sctp => Protocol::Sctp,
            Kind::Ah if !self.is_sealed() => Protocol::Tcp,
            Kind::Udp | Kind::UdpUnsummed | Kind::Esp | Kind::Ah => Protocol::Udp,
        }
    }

    /// The port if there is one of its own.
    fn port(&self, port: u16) -> u16 {
        if self.is_sealed() { 500 } else { port }
    }

    pub fn client(&self) -> SocketAddr {
        (self.client.of("192.0.2.7", "2001:db8:7::7"), self.port(40_000)).into()
    }

    pub fn vip(&self) -> SocketAddr {
        (self.client.of("10.0.0.100", "2001:db8::100"), self.port(80)).into()
    }

    pub fn server(&self) -> SocketAddr {
        let port = if self.method.translates_port() { 8080 } else { 80 };
        (self.server.of("10.1.0.11", "fd00:1::11"), self.port(port)).into()
    }

    /// Of FULLNAT: the one there is.
    pub fn local(&self) -> SocketAddr {
        (self.server.of("10.1.0.2", "fd00:1::2"), self.port(5000)).into()
    }

    /// The service with its server.
    pub fn pool(&self) -> Pool {
        let (vip, server) = (self.vip().to_string(), self.server().to_string());
        let mut pool = service(self.protocol(), &vip, self.method, &[(&server, 1)]);
        if self.method == Method::FullNat {
            let ports = self.local().port().to_string().parse().unwrap();
            pool.service.locals = Locals::new(&[self.local().ip()], ports).unwrap();
        }
        pool
    }

    /// A director with it. Its next hops are the table's; only the VLANs are the case's.
    pub fn table(&self) -> Table {
        let mut table = Table::sized(&[self.pool()], 64, 1);
        table.hops.vlans = self.vlans;
        table
    }

    /// What opens the connection, and shows more of a connection's life than the [packets](Self::packets) behind.
    pub fn opening(&self) -> Vec<Step> {
        let text = b"of a certain size".to_vec();
        let tcp = |flags, options| Transport::Tcp { flags, options };
        match self.kind {
            _ if self.is_sealed() => {
                let isakmp = Transport::Udp { summed: true };
                vec![
                    self.step("ISAKMP", true, isakmp.clone(), text.clone()),
                    self.step("its answer", false, isakmp, text),
                ]
            }
            Kind::Tcp | Kind::Ah => vec![
                self.step("SYN", true, tcp(SYN, SYN_OPTIONS), vec![]),
                self.step("SYN-ACK", false, tcp(SYN_ACK, SYN_OPTIONS), vec![]),
            ],
            Kind::Sctp => {
                let one = |chunk| Transport::Sctp { chunks: chunk };
                vec![
                    self.step("INIT", true, one(&[(1, b"tag, window")]), text.clone()),
                    self.step("INIT ACK", false, one(&[(2, b"and cookie")]), text.clone()),
                    self.step("COOKIE ECHO, DATA", true, one(&[(10, b"cookie"), (0, b"head")]), text.clone()),
                    self.step(
                        "COOKIE ACK, SACK, DATA",
                        false,
                        one(&[(11, b""), (3, b"gap"), (0, b"head")]),
                        text,
                    ),
                ]
            }
            Kind::Udp | Kind::UdpUnsummed | Kind::Esp => vec![],
        }
    }

    /// Packets that may go on for ever, in both directions, whatever went before.
    pub fn packets(&self) -> Vec<Step> {
        let (there, back) = match self.kind {
            Kind::Esp => (SEALED_ESP, SEALED_ESP),
            Kind::Ah if self.is_sealed() => (SEALED_AH, SEALED_AH),
            Kind::Tcp | Kind::Ah => (
                Transport::Tcp { flags: PSH_ACK, options: DATA_OPTIONS },
                Transport::Tcp { flags: ACK_CWR_ECE, options: DATA_OPTIONS },
            ),
            Kind::Udp => (Transport::Udp { summed: true }, Transport::Udp { summed: true }),
            Kind::UdpUnsummed => (Transport::Udp { summed: false }, Transport::Udp { summed: false }),
            Kind::Sctp => (
                Transport::Sctp { chunks: &[(3, b"gap"), (0, b"one"), (0, b"other")] },
                Transport::Sctp { chunks: &[(0, b"odd"), (5, b"heartbeat"), (0, b"")] },
            ),
        };
        // Read as an AH it is one of 24 bytes, with nothing behind it that has a name.
        let text = |what: &[u8]| [what, b" of an odd size"].concat();
        vec![
            self.step("from the client", true, there, text(b"\x3b\x04\0\0a question")),
            self.step("from the server", false, back, text(b"\x3b\x04\0\0the answer!")),
        ]
    }

    /// The [packets](Self::packets) at a length that is not to be fragmented any more; those that are would be.
    pub fn long(&self) -> Vec<Step> {
        let all = self
            .packets()
            .into_iter()
            .filter(|step| step.arrival.packet.df || !step.arrival.packet.source.is_ipv4());
        all.map(|step| self.changed(step, |packet| packet.payload.resize(1300, 0x5a))).collect()
    }

    /// The [packets](Self::packets) with a payload that has changed since they were summed.
    pub fn damaged(&self) -> Vec<Step> {
        let all = self.packets().into_iter().filter(|step| step.arrival.packet.has_checksum());
        all.map(|step| self.changed(step, |packet| packet.damaged = true)).collect()
    }

    /// The [packets](Self::packets) with a payload for which a checksum comes out as zero: the one they arrive with, and
    /// the one they leave with.
    pub fn edges(&self) -> Vec<Step> {
        let is_internet_sum = |step: &Step| {
            matches!(step.arrival.packet.transport, Transport::Tcp { .. } | Transport::Udp { summed: true })
        };
        let all: Vec<_> = self.packets().into_iter().filter(is_internet_sum).collect();
        let mut edges = Vec::new();
        for step in all {
            let blank = self.changed(step, |packet| packet.payload = b"sums up to nothing..\0\0".into());
            let mut of = vec![blank.arrival.packet.checksum()];
            if let Outcome::Sent(departure) = &blank.outcome {
                of.push(departure.frame.packet.checksum());
            }
            for checksum in of {
                edges.push(self.changed(blank.clone(), |packet| {
                    packet.payload[20..].copy_from_slice(&checksum.to_be_bytes());
                }));
            }
        }
        edges
    }

    fn changed(&self, mut step: Step, how: impl FnOnce(&mut Packet)) -> Step {
        how(&mut step.arrival.packet);
        step.outcome = oracle::outcome(self, step.port, &step.arrival);
        step
    }

    fn step(&self, name: &'static str, is_inward: bool, transport: Transport, payload: Vec<u8>) -> Step {
        let (port, version) = if is_inward { (OUTSIDE, self.client) } else { (INSIDE, self.server) };
        // A server behind DR or TUN answers the client as the virtual address.
        let version = if self.has_replies() { version } else { self.client };
        let (source, destination) = match (is_inward, self.method) {
            (true, _) => (self.client(), self.vip()),
            (false, Method::Nat) => (self.server(), self.client()),
            (false, Method::FullNat) => (self.server(), self.local()),
            (false, Method::Dr | Method::Tun(_)) => (self.vip(), self.client()),
        };
        let (class, df, options) = match self.manner {
            Manner::Plain => (0xb9, true, Extension::None),
            Manner::Optional => (0x2b, false, Extension::Options),
        };
        let is_ah = self.kind == Kind::Ah && !self.is_sealed() && version == Version::V6;
        let is_v4 = version == Version::V4;
        let packet = Packet {
            source,
            destination,
            class,
            ttl: TTL,
            flow_label: if is_v4 { 0 } else { 0xabcde },
            id: if is_v4 { 0x1234 } else { 0 },
            df: is_v4 && df,
            extension: if is_ah { Extension::Authentication } else { options },
            transport,
            payload,
            damaged: false,
        };
        let tag = self.vlans[usize::from(port)].map(|vlan| PRIORITY | vlan);
        let arrival = Frame { to: OUTSIDE_MAC, from: CLIENT_MAC, tag, outer: None, packet };
        let outcome = oracle::outcome(self, port, &arrival);
        Step { name, port, arrival, outcome }
    }
}
