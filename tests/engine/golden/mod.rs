//! Every method, IP version of clients and of servers, protocol and pair of VLANs: what arrives, in both directions, and
//! what has to leave, or why nothing does. Who plays the cases is not known here.
//!
//! | file | owns |
//! | --- | --- |
//! | `mod` | the cases, and how each is configured |
//! | [`steps`] | which packets the ends of a case send |
//! | [`packet`] | a frame as a description, and the bytes of it |
//! | [`oracle`] | from the frame that arrived to the one that leaves, as descriptions; what is free in it |
//! | [`seen`] | what another parser finds in a frame |

pub mod oracle;
pub mod packet;
pub mod seen;
pub mod steps;

use std::net::{IpAddr, SocketAddr};

use xvs::director::local::Locals;
use xvs::director::service::{Method, Pool, Protocol, Tunnel, TunnelChecksum};

use crate::table::{Table, service};

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
}
