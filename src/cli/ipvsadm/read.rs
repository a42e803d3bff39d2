//! One command line to what it asks for.
//!
//! The first option is the command; the order of the others matters where it does for ipvsadm: a server's port is
//! the service's only if the service was named before, a mask is one of IPv6 only after an address of IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;

use super::address::{self, Given};
use super::flags::Flags;
use super::messages;
use super::names::Names;
use super::numbers::{leading_number, number};
use super::options::Tag;
use super::popt::{Found, Reader};
use super::request::{Columns, Format, Listing, Request};
use super::rules::{Action, Opt, Seen};
use super::stop::Stop;
use crate::control::command::{
    ChecksumSpec, Command, Forward, PersistenceSpec, ServerSpec, ServiceSpec, TimeoutsSpec, TunnelSpec,
    netmask_text,
};
use crate::director::name::ServiceKey;
use crate::director::sched::Kind;
use crate::director::service::{MAX_PERSISTENCE_S, MAX_WEIGHT, Netmask, Protocol};

/// Persistence when `-p` comes without seconds.
const PERSISTENCE_S: u32 = 360;

/// Longest name of a scheduler, in bytes: the rest does not count.
const LONGEST_SCHEDULER: usize = 15;

/// Longest name of a persistence engine, in bytes.
const LONGEST_ENGINE: usize = 16;

/// Most bytes of a synchronisation message, in a UDP datagram of IPv4.
const MAX_SYNC_LEN: i64 = 65_535 - 20 - 8;

/// The answer to what needs no director: help and version.
pub(super) fn without_director(program: &str, words: &[String]) -> Option<Stop> {
    match Reader::new(words).option().ok()??.tag {
        Tag::Help => Some(Stop::answer(messages::help(program))),
        Tag::Version => Some(Stop::answer(messages::VERSION.to_owned())),
        _ => None,
    }
}

/// Reads the words after the program's name.
///
/// # Errors
/// The process has to end: help was asked for, or the words make no sense.
pub(super) fn read(program: &str, words: &[String], names: &mut Names) -> Result<Request, Stop> {
    if let Some(stop) = without_director(program, words) {
        return Err(stop);
    }
    let mut reader = Reader::new(words);
    let first = reader.option().ok().flatten();
    let (first, action) = first
        .and_then(|first| Action::of(first.tag).map(|action| (first, action)))
        .ok_or_else(|| Stop::try_help(program))?;
    match (action, first.value) {
        (Action::StartDaemon | Action::StopDaemon, "master" | "backup") => {}
        (Action::StartDaemon, _) => return Err(Stop::wrong("illegal start-daemon parameter specified")),
        (Action::StopDaemon, _) => return Err(Stop::wrong("illegal start_daemon specified")),
        _ => {}
    }
    let mut asked = Asked::default();
    loop {
        match reader.option() {
            Ok(Some(found)) => asked.option(&found, reader.last_word(), names)?,
            Ok(None) => break,
            Err(why) => return Ok(Request::Unreadable(format!("{}: {why}", reader.last_word()))),
        }
    }
    if action == Action::SetTimeouts {
        asked.timeouts = Some(timeouts(&mut reader)?);
    }
    if let Some(argument) = reader.argument() {
        return Err(Stop::wrong(format!("unexpected argument {argument}")));
    }
    asked.request(action)
}

/// The options read so far, by what they are about.
#[derive(Debug)]
struct Asked {
    seen: Seen,
    // The service.
    protocol: Option<Protocol>,
    ip: Option<IpAddr>,
    port: u16,
    mark: Option<NonZeroU32>,
    v6: bool,
    scheduler: String,
    flags: String,
    persistence_s: Option<u32>,
    netmask: Netmask,
    engine: String,
    one_packet: bool,
    // The server.
    server: Option<SocketAddr>,
    forward: Forward,
    weight: u32,
    upper: u32,
    lower: u32,
    tunnel: &'static str,
    tunnel_port: u16,
    checksum: ChecksumSpec,
    timeouts: Option<TimeoutsSpec>,
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
    fn option(&mut self, found: &Found<'_>, word: &str, names: &mut Names) -> Result<(), Stop> {
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

    fn request(self, action: Action) -> Result<Request, Stop> {
        let scheduler = match self.scheduler.as_str() {
            "" => Kind::default().name(),
            name => name,
        };
        let flags = match self.flags.as_str() {
            "" => Flags::default(),
            text => Flags::parse(scheduler, text)?,
        };
        self.seen.check(action)?;
        let request = match (action, self.key()) {
            (Action::AddService, Some(key)) => self.service_request(key, scheduler, flags, false)?,
            (Action::EditService, Some(key)) => self.service_request(key, scheduler, flags, true)?,
            (Action::DeleteService, Some(service)) => Request::Change(Command::DeleteService { service }),
            (Action::AddServer, Some(service)) => {
                let server = self.server_spec()?;
                Request::Change(Command::AddServer { service, server })
            }
            (Action::EditServer, Some(service)) => {
                let server = self.server_spec()?;
                Request::Change(Command::EditServer { service, server })
            }
            (Action::DeleteServer, Some(service)) => {
                let server = self.server.ok_or_else(|| missing("real-server"))?;
                Request::Change(Command::DeleteServer { service, server })
            }
            (Action::Zero, service) => {
                // No address and no port: that is how ipvsadm asks for all.
                let all =
                    |key: &ServiceKey| key.vip().is_some_and(|ip| ip.is_unspecified()) && key.port() == 0;
                Request::Change(Command::Zero { service: service.filter(|key| !all(key)) })
            }
            (Action::List, service) => self.list_request(service)?,
            (Action::Clear, _) => Request::Change(Command::Clear {}),
            (Action::SetTimeouts, _) => {
                let timeouts = self.timeouts.ok_or_else(|| missing("timeout"))?;
                Request::Change(Command::SetTimeouts(timeouts))
            }
            (Action::Save, _) => Request::Save(self.format()),
            (Action::Restore, _) => Request::Restore,
            (Action::StartDaemon, _) => Request::StartDaemon,
            (Action::StopDaemon, _) => Request::StopDaemon,
            _ => return Err(missing("service-address")),
        };
        Ok(request)
    }

    fn key(&self) -> Option<ServiceKey> {
        match (self.mark, self.ip, self.protocol) {
            (Some(mark), ..) => Some(ServiceKey::Mark { mark, v6: self.v6 }),
            (None, Some(ip), Some(protocol)) => Some(ServiceKey::new(protocol, (ip, self.port).into())),
            _ => None,
        }
    }

    fn service_request(
        &self,
        service: ServiceKey,
        scheduler: &str,
        flags: Flags,
        edited: bool,
    ) -> Result<Request, Stop> {
        if let ServiceKey::Address { protocol, address } = service {
            if address.port() == 0 && self.persistence_s.is_none() {
                return Err(Stop::wrong("Zero port specified for non-persistent service"));
            }
            if self.one_packet && protocol != Protocol::Udp {
                return Err(Stop::wrong("One-Packet Scheduling is only for UDP virtual services"));
            }
        }
        let engine = Some(self.engine.clone()).filter(|engine| !engine.is_empty());
        if engine.is_some() && self.persistence_s.is_none() {
            return Ok(Request::Engine { edited, service });
        }
        let netmask = netmask_text(self.netmask);
        let persistence = self.persistence_s.map(|timeout_s| PersistenceSpec { timeout_s, netmask, engine });
        let spec = ServiceSpec {
            service,
            scheduler: scheduler.to_owned(),
            scheduler_flags: flags.names(scheduler),
            persistence,
            one_packet: self.one_packet,
        };
        let command = if edited { Command::EditService(spec) } else { Command::AddService(spec) };
        Ok(Request::Change(command))
    }

    fn server_spec(&self) -> Result<ServerSpec, Stop> {
        let mut address = self.server.ok_or_else(|| missing("real-server"))?;
        if self.mark.is_none() && self.forward != Forward::Nat {
            address.set_port(self.port);
        }
        if address.is_ipv6() != self.v6 && self.forward != Forward::Tun {
            return Err(Stop::wrong("Different address family is allowed only for tunneling servers"));
        }
        let tunnel_options = [
            Opt::TunnelType,
            Opt::TunnelPort,
            Opt::TunnelNoChecksum,
            Opt::TunnelChecksum,
            Opt::TunnelRemoteChecksum,
        ];
        if self.seen.any(&tunnel_options) && self.forward != Forward::Tun {
            return Err(Stop::wrong("Tunnel options conflict with forward method"));
        }
        self.seen.check_tunnel(self.tunnel)?;
        let checksum = self.checksum;
        let tunnel = match self.tunnel {
            "gue" => TunnelSpec::Gue { port: self.tunnel_port, checksum },
            "gre" => TunnelSpec::Gre { checksum },
            _ => TunnelSpec::Ipip,
        };
        Ok(ServerSpec {
            address,
            forward: self.forward,
            tunnel: (self.forward == Forward::Tun).then_some(tunnel),
            weight: self.weight,
            upper_threshold: self.upper,
            lower_threshold: self.lower,
        })
    }

    fn list_request(&self, service: Option<ServiceKey>) -> Result<Request, Stop> {
        let seen = self.seen;
        let no_services = seen.any(&[Opt::Timeout, Opt::Daemon]);
        let conflict = (no_services || seen.has(Opt::Connection))
            && seen.any(&[Opt::Stats, Opt::Rate, Opt::Thresholds])
            || no_services && seen.has(Opt::PersistentConnections);
        if conflict {
            return Err(Stop::wrong("options conflicts in the list command"));
        }
        let listing = match service {
            Some(key) => Listing::Service(key),
            None if seen.has(Opt::Connection) => Listing::Connections,
            None if seen.has(Opt::Timeout) => Listing::Timeouts,
            None if seen.has(Opt::Daemon) => Listing::Daemons,
            None => Listing::All,
        };
        Ok(Request::List(listing, self.format()))
    }

    fn format(&self) -> Format {
        // In the order of precedence.
        let columns = [
            (Opt::Stats, Columns::Stats),
            (Opt::Rate, Columns::Rate),
            (Opt::Thresholds, Columns::Thresholds),
            (Opt::PersistentConnections, Columns::Persistent),
            (Opt::TunnelInfo, Columns::Tunnels),
        ];
        let columns = columns.into_iter().find(|&(opt, _)| self.seen.has(opt));
        Format {
            numeric: self.seen.has(Opt::Numeric),
            exact: self.seen.has(Opt::Exact),
            unsorted: self.seen.has(Opt::NoSort),
            columns: columns.map_or(Columns::Plain, |(_, columns)| columns),
        }
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

/// The rules of the commands have seen to it that this is there.
fn missing(name: &str) -> Stop {
    Stop::wrong(format!("You need to supply the '{name}' option"))
}

fn timeouts(reader: &mut Reader<'_>) -> Result<TimeoutsSpec, Stop> {
    let mut three = [""; 3];
    for value in &mut three {
        *value = reader.argument().ok_or_else(|| Stop::wrong("--set option requires 3 timeout values"))?;
    }
    let [tcp_s, tcp_fin_s, udp_s] = three.map(|value| timeout(value, 0));
    Ok(TimeoutsSpec { tcp_s: tcp_s?, tcp_fin_s: tcp_fin_s?, udp_s: udp_s? })
}

fn timeout(value: &str, least: i64) -> Result<u32, Stop> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read_line(line: &str) -> Result<Request, Stop> {
        let words: Vec<String> = line.split(' ').map(String::from).collect();
        read("ipvsadm", &words, &mut Names::fixed(&[], ""))
    }

    fn command(line: &str) -> Command {
        match read_line(line) {
            Ok(Request::Change(command)) => command,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn what_is_not_said_goes_back_to_its_default() {
        let Command::EditServer { server, .. } = command("-e -t 10.0.0.1:80 -r 10.1.0.1:8080 -w 5") else {
            panic!()
        };
        assert_eq!(
            server,
            ServerSpec {
                address: "10.1.0.1:80".parse().unwrap(),
                forward: Forward::Dr,
                tunnel: None,
                weight: 5,
                upper_threshold: 0,
                lower_threshold: 0,
            }
        );
        let Command::EditService(service) = command("-E -t 10.0.0.1:80") else { panic!() };
        assert_eq!((service.scheduler.as_str(), service.persistence), ("wlc", None));
    }

    #[test]
    fn the_order_of_options_matters_where_it_does_for_ipvsadm() {
        let address = |line| match command(line) {
            Command::AddServer { server, .. } => server.address.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(address("-a -t 10.0.0.1:80 -r 10.1.0.1 -m"), "10.1.0.1:80");
        assert_eq!(address("-a -r 10.1.0.1 -t 10.0.0.1:80 -m"), "10.1.0.1:0");
        assert_eq!(address("-a -r 10.1.0.1 -t 10.0.0.1:80"), "10.1.0.1:80");
        let netmask = |line| match command(line) {
            Command::AddService(spec) => spec.persistence.unwrap().netmask,
            other => panic!("{other:?}"),
        };
        assert_eq!(netmask("-A -t [2001:db8::1]:80 -p -M 64").as_deref(), Some("64"));
        assert_eq!(netmask("-A -p -M 64 -t [2001:db8::1]:80"), None);
        assert_eq!(netmask("-A -p -M 255.255.0.0 -t 10.0.0.1:80").as_deref(), Some("255.255.0.0"));
    }

    #[test]
    fn zeroing_the_unspecified_address_zeroes_all() {
        assert_eq!(command("-Z"), Command::Zero { service: None });
        assert_eq!(command("-Z -t 0.0.0.0:0"), Command::Zero { service: None });
        let service = Some("tcp:0.0.0.0:80".parse().unwrap());
        assert_eq!(command("-Z -t 0.0.0.0:80"), Command::Zero { service });
    }

    #[test]
    fn the_first_columns_asked_for_in_order_of_precedence_are_listed() {
        let columns = |line: &str| match read_line(line) {
            Ok(Request::List(Listing::All, format)) => format.columns,
            other => panic!("{other:?}"),
        };
        assert_eq!(columns("-L --tun-info --persistent-conn --thresholds --rate --stats"), Columns::Stats);
        assert_eq!(columns("-L --tun-info --persistent-conn"), Columns::Persistent);
        assert_eq!(columns("-Ln"), Columns::Plain);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_no_end() {
        assert_eq!(read_line("-A -q"), Ok(Request::Unreadable("-q: unknown option".into())));
        assert_eq!(read_line("-q").unwrap_err().status, 255);
        assert_eq!(read_line("-L -C").unwrap_err().message, "invalid option `-C'\n");
    }
}
