//! Why a frame was dropped: a closed list, one counter each (see [`stats`](super::stats)).

use crate::packet::fragment::Malformed;
use crate::packet::icmp::Unrelated;
use crate::packet::parse::Reject;
use crate::packet::translate::Untranslatable;

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal,)*) => {
        /// Why a frame was not forwarded.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason { $($(#[doc = $doc])* $variant,)* }

        impl DropReason {
            /// Every reason, in the order of their counters.
            pub const ALL: &[DropReason] = &[$(DropReason::$variant,)*];

            /// The name in reports and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(DropReason::$variant => $name,)* }
            }

            /// What it means.
            pub const fn help(self) -> &'static str {
                match self { $(DropReason::$variant => concat!($($doc),*).trim_ascii(),)* }
            }
        }
    };
}

drop_reasons! {
    /// Shorter than its headers say, or than an Ethernet header.
    Truncated = "truncated",
    /// A header field that contradicts itself: version, IHL, total length, data offset, UDP length.
    BadHeader = "bad_header",
    /// The IPv4 header checksum is wrong.
    BadChecksum = "bad_checksum",
    /// Neither IPv4 nor IPv6, nor a VLAN tag in front of one.
    NotIp = "not_ip",
    /// IPv6 extension headers: more than six, longer than 1024 bytes, or a source route that goes on from here.
    Extension = "extension",
    /// A transport protocol that is not forwarded.
    Protocol = "protocol",
    /// A fragment that fits no datagram (empty, its length no multiple of 8 bytes, an end that cannot be), or of ICMP.
    Fragment = "fragment",
    /// A first fragment without a whole transport header.
    FragmentTiny = "fragment_tiny",
    /// A fragment of a datagram whose fragments overlap.
    FragmentOverlap = "fragment_overlap",
    /// A fragment that has been seen already.
    FragmentDuplicate = "fragment_duplicate",
    /// A later fragment, and the first did not come within a second.
    FragmentAlone = "fragment_alone",
    /// A fragment that had to make room for newer ones: too many wait for their first one, or leave gaps.
    FragmentsFull = "fragments_full",
    /// An ICMP message that is no error, or one of a type that is not relayed.
    Icmp = "icmp",
    /// An ICMP error whose checksum is wrong.
    IcmpChecksum = "icmp_checksum",
    /// An ICMP error that quotes too little of a packet, or one that was not sent by who the error goes to.
    IcmpQuote = "icmp_quote",
    /// An ICMP error about the length of a packet in a tunnel whose sender lets it be fragmented: heard, and remembered.
    IcmpHeard = "icmp_heard",
    /// An ICMP error about a packet of no connection.
    IcmpUnrelated = "icmp_unrelated",
    /// The TTL ended here.
    TtlExpired = "ttl_expired",
    /// Larger than the MTU towards its next hop.
    TooBig = "too_big",
    /// The way out needs a VLAN tag, and the frame has no room for one.
    Vlan = "vlan",
    /// Neither a connection nor a service matches.
    NoService = "no_service",
    /// A service, but no connection, and the packet may not open one.
    NoConnection = "no_connection",
    /// The scheduler found no server that may take the connection.
    NoServer = "no_server",
    /// Every local port is taken by connections to the server (FULLNAT): give the service more local addresses.
    LocalPorts = "local_ports",
    /// No tunnel to the server: no address of the director to send from, or an MTU below 68 (IPv6: 1280) bytes.
    NoTunnel = "no_tunnel",
    /// It cannot become a packet of its server's or client's IP version: a fragment of UDP without a checksum or behind
    /// extension headers, AH or ESP, an ICMP error that the other version does not have, or no room in its frame.
    Untranslatable = "untranslatable",
    /// It would have opened a connection, and drop_packet drops some of those.
    DropPacket = "drop_packet",
    /// The connection's server has been removed.
    ServerGone = "server_gone",
    /// Every slot of the connection table is taken.
    TableFull = "table_full",
    /// Both index buckets of the connection are full.
    BucketFull = "bucket_full",
    /// The service has a persistence engine, and the packet does not have what that looks for.
    Unidentified = "unidentified",
    /// No room for what the helper of an application has to remember.
    HelperFull = "helper_full",
    /// The text of an application cannot be rewritten now: the rewriting before is not acknowledged yet, or there is no
    /// room in the frame or the MTU.
    HelperUnable = "helper_unable",
    /// The server cannot be told the client's address: there is no room for that, it is a fragment, or the client speaks
    /// before its server has answered, or where its address is told.
    ClientAddress = "client_address",
    /// Another worker was just removing the connection.
    Removing = "removing",
    /// No route to the next station.
    NoRoute = "no_route",
    /// A route, but no MAC address for its next hop.
    Unresolved = "unresolved",
    /// The transmit ring of the outgoing interface is full.
    TransmitFull = "transmit_full",
    /// Nobody's here, and as many as may have been passed to the kernel already (`pass_limit`).
    PassLimit = "pass_limit",
    /// The kernel refused a packet that was passed to it.
    PassFailed = "pass_failed",
    /// The packet had to be split, or waited as a fragment, and its batch made too many frames, or no frame was free.
    OutboxFull = "outbox_full",
}

impl From<Untranslatable> for DropReason {
    fn from(_: Untranslatable) -> Self {
        DropReason::Untranslatable
    }
}

impl From<Unrelated> for DropReason {
    fn from(unrelated: Unrelated) -> Self {
        match unrelated {
            Unrelated::Packet(reject) => reject.into(),
            Unrelated::Type => DropReason::Icmp,
            Unrelated::Checksum => DropReason::IcmpChecksum,
            Unrelated::Quote => DropReason::IcmpQuote,
        }
    }
}

impl From<Reject> for DropReason {
    fn from(reject: Reject) -> Self {
        match reject {
            Reject::Truncated => DropReason::Truncated,
            Reject::BadHeader => DropReason::BadHeader,
            Reject::BadChecksum => DropReason::BadChecksum,
            Reject::NotIp => DropReason::NotIp,
            Reject::Extension => DropReason::Extension,
            Reject::Protocol => DropReason::Protocol,
            Reject::Fragment => DropReason::Fragment,
            Reject::Icmp => DropReason::Icmp,
        }
    }
}

impl From<Malformed> for DropReason {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::Packet(reject) => reject.into(),
            Malformed::Tiny => DropReason::FragmentTiny,
            Malformed::Bounds => DropReason::Fragment,
        }
    }
}
