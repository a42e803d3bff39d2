//! The options of one command line, taken one by one.
//!
//! Their order matters where it does for ipvsadm: a server's port is the service's only if the service was named
//! before, a mask is one of IPv6 only after an address of IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;

use super::address::{self, Given};
use super::names::Names;
use super::numbers::{leading_number, number};
use super::options::Tag;
use super::popt::Found;
use super::rules::{Opt, Seen};
use super::stop::Stop;
use crate::control::command::{ChecksumSpec, Forward, TimeoutsSpec};
use crate::director::service::{MAX_PERSISTENCE_S, MAX_WEIGHT, Netmask, Protocol};

/// Persistence when `-p` comes without seconds.
const PERSISTENCE_S: u32 = 360;

/// Longest name of a scheduler, in bytes: the rest does not count.
const LONGEST_SCHEDULER: usize = 15;

/// Longest name of a persistence engine, in bytes.
const LONGEST_ENGINE: usize = 16;

/// Most bytes of a synchronisation message, in a UDP datagram of IPv4.
const MAX_SYNC_LEN: i64 = 65_535 - 20 - 8;

/// The options read so far, by what they are about.
#[derive(Debug)]
pub(super) struct Asked {
    pub seen: Seen,
    // The service.
    pub protocol: Option<Protocol>,
    pub ip: Option<IpAddr>,
    pub port: u16,
    pub mark: Option<NonZeroU32>,
    pub v6: bool,
    pub scheduler: String,
    pub flags: String,
    pub persistence_s: Option<u32>,
    pub netmask: Netmask,
    pub engine: String,
    pub one_packet: bool,
    // The server.
    pub server: Option<SocketAddr>,
    pub forward: Forward,
    pub weight: u32,
    pub upper: u32,
    pub lower: u32,
    pub tunnel: &'static str,
    pub tunnel_port: u16,
    pub checksum: ChecksumSpec,
    pub timeouts: Option<TimeoutsSpec>,
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            seen: Seen::default(),
            protocol: None,
            ip: None,
            port: 0,
            mark: None,
            v6: false,
            scheduler: String::new(),
            flags: String::new(),
            persistence_s: None,
            netmask: Netmask::whole(true),
            engine: String::new(),
            one_packet: false,
            server: None,
            forward: Forward::Dr,
            weight: 1,
            upper: 0,
            lower: 0,
            tunnel: "ipip",
            tunnel_port: 0,
            checksum: ChecksumSpec::None,
            timeouts: None,
        }
    }
}

impl Asked {
    /// Takes one option; `word` is the last one read.
    pub fn option(&mut self, found: &Found<'_>, word: &str, names: &mut Names) -> Result<(), Stop> {
        let value = found.value;
        let opt = opt(found.tag);
        if let Some(opt) = opt {
            self.seen.give(opt)?;
        }
        match found.tag {
            Tag::Tcp => self.service(Protocol::Tcp, value, names)?,
            Tag::Udp => self.service(Protocol::Udp, value, names)?,
            Tag::Sctp => self.service(Protocol::Sctp, value, names)?,
            Tag::Mark => {
                let mark = number(value, 1, u32::MAX.into()).and_then(to_u32).and_then(NonZeroU32::new);
                let wrong = || Stop::wrong(format!("invalid fwmark value `{value}' specified"));
                self.mark = Some(mark.ok_or_else(wrong)?);
                self.protocol = Some(Protocol::Tcp);
            }
            Tag::Ipv6 => {
                if self.mark.is_none() {
                    return Err(Stop::wrong("-6 used before -f\n"));
                }
                self.v6 = true;
                self.netmask = Netmask::whole(false);
            }
            Tag::Scheduler => {
                value[..value.floor_char_boundary(LONGEST_SCHEDULER)].clone_into(&mut self.scheduler)
            }
            Tag::SchedulerFlags => value.clone_into(&mut self.flags),
            Tag::Persistent if !found.has_value => self.persistence_s = Some(PERSISTENCE_S),
            Tag::Persistent => self.persistence_s = Some(timeout(value, 1)?),
            Tag::Netmask => self.netmask = self.netmask(value, names)?,
            Tag::Engine => value[..value.floor_char_boundary(LONGEST_ENGINE)].clone_into(&mut self.engine),
            Tag::OnePacket => self.one_packet = true,
            Tag::RealServer => {
                let given = address::parse(value, self.protocol, names);
                let Given { ip, port } =
                    given.ok_or_else(|| Stop::wrong("illegal real server address[:port] specified"))?;
                self.server = Some((ip, port.unwrap_or(self.port)).into());
            }
            Tag::Nat => self.forward = Forward::Nat,
            Tag::Tunnel => self.forward = Forward::Tun,
            Tag::Direct => self.forward = Forward::Dr,
            Tag::Weight => self.weight = limited("weight", value, 0, MAX_WEIGHT.into())?,
            Tag::Upper => self.upper = limited("u_threshold", value, 0, i32::MAX.into())?,
            Tag::Lower => self.lower = limited("l_threshold", value, 0, i32::MAX.into())?,
            Tag::TunnelType => {
                let known = ["ipip", "gue", "gre"].into_iter().find(|name| *name == value);
                self.tunnel = known.ok_or_else(|| Stop::wrong("illegal tunnel type specified"))?;
            }
            Tag::TunnelPort => {
                let port = limited("tunnel port", value, 1, u16::MAX.into())?;
                self.tunnel_port = u16::try_from(port).unwrap_or(u16::MAX);
            }
            Tag::TunnelNoChecksum => {}
            Tag::TunnelChecksum => self.checksum = ChecksumSpec::Full,
            Tag::TunnelRemoteChecksum => self.checksum = ChecksumSpec::Remote,
            Tag::SyncId => drop(limited("syncid", value, 0, 255)?),
            Tag::SyncMaxLen => drop(limited("sync-maxlen", value, 1, MAX_SYNC_LEN)?),
            Tag::MulticastGroup => multicast_group(value)?,
            Tag::MulticastPort => drop(limited("mcast-port", value, 1, u16::MAX.into())?),
            Tag::MulticastTtl => drop(limited("mcast-ttl", value, 1, 255)?),
            // Seen is all that is to be known of the others; a second command is none of them.
            _ if opt.is_some() || found.tag == Tag::Sort => {}
            _ => return Err(Stop::wrong(format!("invalid option `{word}'"))),
        }
        Ok(())
    }

    fn service(&mut self, protocol: Protocol, value: &str, names: &mut Names) -> Result<(), Stop> {
        let given = address::parse(value, Some(protocol), names);
        let Given { ip, port } =
            given.ok_or_else(|| Stop::wrong("illegal virtual server address[:port] specified"))?;
        self.protocol = Some(protocol);
        self.ip = Some(ip);
        self.port = port.unwrap_or(0);
        self.v6 = ip.is_ipv6();
        if self.v6 {
            self.netmask = Netmask::whole(false);
        }
        Ok(())
    }

    fn netmask(&self, value: &str, names: &mut Names) -> Result<Netmask, Stop> {
        if self.v6 {
            let bits = leading_number(value).map_or(0, |(bits, _)| bits);
            let bits = u8::try_from(bits).ok().filter(|bits| (1..=128).contains(bits));
            return bits.map(Netmask::V6).ok_or_else(|| Stop::wrong("illegal ipv6 netmask specified"));
        }
        let mask = address::ipv4(value).or_else(|| names.address(value));
        mask.map(Netmask::V4).ok_or_else(|| Stop::wrong("illegal virtual server persistent mask specified"))
    }
}

/// What may be given only once; a service has several options for it, a method too.
const fn opt(tag: Tag) -> Option<Opt> {
    Some(match tag {
        Tag::Tcp | Tag::Udp | Tag::Sctp | Tag::Mark => Opt::ServiceAddress,
        Tag::Scheduler => Opt::Scheduler,
        Tag::Persistent => Opt::Persistent,
        Tag::Netmask => Opt::Netmask,
        Tag::OnePacket => Opt::OnePacket,
        Tag::Engine => Opt::Engine,
        Tag::SchedulerFlags => Opt::SchedulerFlags,
        Tag::RealServer => Opt::RealServer,
        Tag::Nat | Tag::Tunnel | Tag::Direct => Opt::Method,
        Tag::Weight => Opt::Weight,
        Tag::Upper => Opt::Upper,
        Tag::Lower => Opt::Lower,
        Tag::TunnelType => Opt::TunnelType,
        Tag::TunnelPort => Opt::TunnelPort,
        Tag::TunnelNoChecksum => Opt::TunnelNoChecksum,
        Tag::TunnelChecksum => Opt::TunnelChecksum,
        Tag::TunnelRemoteChecksum => Opt::TunnelRemoteChecksum,
        Tag::Numeric => Opt::Numeric,
        Tag::Connections => Opt::Connection,
        Tag::Timeout => Opt::Timeout,
        Tag::Daemon => Opt::Daemon,
        Tag::Stats => Opt::Stats,
        Tag::Rate => Opt::Rate,
        Tag::Thresholds => Opt::Thresholds,
        Tag::PersistentConnections => Opt::PersistentConnections,
        Tag::TunnelInfo => Opt::TunnelInfo,
        Tag::NoSort => Opt::NoSort,
        Tag::Exact => Opt::Exact,
        Tag::MulticastInterface => Opt::MulticastInterface,
        Tag::SyncId => Opt::SyncId,
        Tag::SyncMaxLen => Opt::SyncMaxLen,
        Tag::MulticastGroup => Opt::MulticastGroup,
        Tag::MulticastPort => Opt::MulticastPort,
        Tag::MulticastTtl => Opt::MulticastTtl,
        _ => return None,
    })
}

/// Seconds of a timeout, up to 31 days.
pub(super) fn timeout(value: &str, least: i64) -> Result<u32, Stop> {
    let wrong = || Stop::wrong(format!("invalid timeout value `{value}' specified"));
    number(value, least, MAX_PERSISTENCE_S.into()).and_then(to_u32).ok_or_else(wrong)
}

fn limited(what: &str, value: &str, least: i64, most: i64) -> Result<u32, Stop> {
    let number = number(value, least, most).and_then(to_u32);
    number.ok_or_else(|| Stop::wrong(format!("illegal {what} specified")))
}

fn to_u32(number: i64) -> Option<u32> {
    u32::try_from(number).ok()
}

fn multicast_group(value: &str) -> Result<(), Stop> {
    let (family, is_one) = if value.contains(':') {
        ("IPv6", value.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_multicast()))
    } else {
        ("IPv4", value.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_multicast()))
    };
    if is_one { Ok(()) } else { Err(Stop::wrong(format!("invalid {family} mcast-group `{value}'"))) }
}
