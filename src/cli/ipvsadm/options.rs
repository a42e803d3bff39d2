//! The options there are: their names, and whether a value follows.

use Takes::{MayValue, Nothing, Value};

/// What an option means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[rustfmt::skip]
pub(super) enum Tag {
    AddService, EditService, DeleteService, Clear, List, Zero, AddServer, EditServer, DeleteServer, Set, Help,
    Version, Restore, Save, StartDaemon, StopDaemon,
    Tcp, Udp, Sctp, Mark, Ipv6, Scheduler, Persistent, Netmask, OnePacket, Engine, SchedulerFlags,
    RealServer, Nat, Tunnel, Direct, Weight, Upper, Lower,
    TunnelType, TunnelPort, TunnelNoChecksum, TunnelChecksum, TunnelRemoteChecksum,
    Numeric, Connections, Timeout, Daemon, Stats, Rate, Thresholds, PersistentConnections, TunnelInfo, NoSort, Sort,
    Exact,
    MulticastInterface, SyncId, SyncMaxLen, MulticastGroup, MulticastPort, MulticastTtl,
}

/// Whether a value follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    Nothing,
    Value,
    /// The next word is the value unless it begins with a dash.
    MayValue,
}

/// An option.
#[derive(Debug)]
pub(super) struct Spec {
    pub long: &'static str,
    pub short: Option<char>,
    pub takes: Takes,
    pub tag: Tag,
}

const fn both(long: &'static str, short: char, takes: Takes, tag: Tag) -> Spec {
    Spec { long, short: Some(short), takes, tag }
}

const fn long(long: &'static str, takes: Takes, tag: Tag) -> Spec {
    Spec { long, short: None, takes, tag }
}

/// All options.
pub(super) const OPTIONS: &[Spec] = &[
    both("add-service", 'A', Nothing, Tag::AddService),
    both("edit-service", 'E', Nothing, Tag::EditService),
    both("delete-service", 'D', Nothing, Tag::DeleteService),
    both("clear", 'C', Nothing, Tag::Clear),
    both("list", 'L', Nothing, Tag::List),
    both("list", 'l', Nothing, Tag::List),
    both("zero", 'Z', Nothing, Tag::Zero),
    both("add-server", 'a', Nothing, Tag::AddServer),
    both("edit-server", 'e', Nothing, Tag::EditServer),
    both("delete-server", 'd', Nothing, Tag::DeleteServer),
    long("set", Nothing, Tag::Set),
    both("help", 'h', Nothing, Tag::Help),
    both("version", 'v', Nothing, Tag::Version),
    both("restore", 'R', Nothing, Tag::Restore),
    both("save", 'S', Nothing, Tag::Save),
    long("start-daemon", Value, Tag::StartDaemon),
    long("stop-daemon", Value, Tag::StopDaemon),
    both("tcp-service", 't', Value, Tag::Tcp),
    both("udp-service", 'u', Value, Tag::Udp),
    long("sctp-service", Value, Tag::Sctp),
    both("fwmark-service", 'f', Value, Tag::Mark),
    both("ipv6", '6', Nothing, Tag::Ipv6),
    both("scheduler", 's', Value, Tag::Scheduler),
    both("persistent", 'p', MayValue, Tag::Persistent),
    both("netmask", 'M', Value, Tag::Netmask),
    both("ops", 'o', Nothing, Tag::OnePacket),
    long("pe", Value, Tag::Engine),
    both("sched-flags", 'b', Value, Tag::SchedulerFlags),
    both("real-server", 'r', Value, Tag::RealServer),
    both("masquerading", 'm', Nothing, Tag::Nat),
    both("ipip", 'i', Nothing, Tag::Tunnel),
    both("gatewaying", 'g', Nothing, Tag::Direct),
    both("weight", 'w', Value, Tag::Weight),
    both("u-threshold", 'x', Value, Tag::Upper),
    both("l-threshold", 'y', Value, Tag::Lower),
    long("tun-type", Value, Tag::TunnelType),
    long("tun-port", Value, Tag::TunnelPort),
    long("tun-nocsum", Nothing, Tag::TunnelNoChecksum),
    long("tun-csum", Nothing, Tag::TunnelChecksum),
    long("tun-remcsum", Nothing, Tag::TunnelRemoteChecksum),
    both("numeric", 'n', Nothing, Tag::Numeric),
    both("connection", 'c', Nothing, Tag::Connections),
    long("timeout", Nothing, Tag::Timeout),
    long("daemon", Nothing, Tag::Daemon),
    long("stats", Nothing, Tag::Stats),
    long("rate", Nothing, Tag::Rate),
    long("thresholds", Nothing, Tag::Thresholds),
    long("persistent-conn", Nothing, Tag::PersistentConnections),
    long("tun-info", Nothing, Tag::TunnelInfo),
    long("nosort", Nothing, Tag::NoSort),
    long("sort", Nothing, Tag::Sort),
    both("exact", 'X', Nothing, Tag::Exact),
    long("mcast-interface", Value, Tag::MulticastInterface),
    long("syncid", Value, Tag::SyncId),
    long("sync-maxlen", Value, Tag::SyncMaxLen),
    long("mcast-group", Value, Tag::MulticastGroup),
    long("mcast-port", Value, Tag::MulticastPort),
    long("mcast-ttl", Value, Tag::MulticastTtl),
];
