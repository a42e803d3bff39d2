//! How a connection begins: a packet without one finds its service, the scheduler or a template a server, and both
//! directions their recipes. Here too is decided whether a packet's old connection still is one.
//!
//! `ip_vs_in_hook`, `tcp_conn_schedule`, `sctp_conn_schedule` and `ip_vs_schedule`: TCP opens with a SYN (that is no
//! RST), SCTP with an INIT, UDP with any packet. AH and ESP open nothing: they go with the ISAKMP that went before.

use std::hint::spin_loop;
use std::net::IpAddr;

use super::close::first_look;
use super::conn::state::{State, Status};
use super::conn::{Direction, Found, NewConnection, Refused, Replies, Slot, SlotId};
use super::drops::DropReason;
use super::engine::{Packet, Work};
use super::forward::Plan;
use super::forward::hops::{Hop, NextHops, PortId, Route};
use super::forward::recipe::{Rewrite, Way};
use super::fragments;
use super::name::ServiceKey;
use super::refusal::{Answer, Refusal};
use super::sched::{Request, Schedule};
use super::server::{Destination, ServerId};
use super::service::{Method, Protocol};
use super::services::{FTP, FTP_DATA, VirtualService};
use super::switches::{ClientAddress, Switches};
use crate::packet::answer::IcmpError;
use crate::packet::flow::FlowKey;
use crate::packet::mss;
use crate::packet::parse::{Parsed, TcpFlags};
use crate::packet::sctp::Event;

/// Attempts to enter a connection that another worker is just removing, which takes it some 100 ns.
pub(super) const REMOVAL_SPINS: u32 = 1000;

/// Attempts to enter a connection with a local port that another worker takes at the same moment.
const PORT_RACES: u32 = 8;

/// What became of a packet that did not simply go on in a connection.
#[derive(Debug)]
pub(super) enum Begun<'a> {
    /// It has a connection, new or old, to be forwarded in.
    Connection(&'a Slot, Found),
    /// It was readdressed without one, and leaves by this interface; so do other fragments of it.
    Sent(PortId, fragments::Fate),
}

/// What a packet finds its old connection to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its connection.
    Stays,
    /// Over: the packet has none.
    Ends,
    /// Waiting for its server to come back.
    Waits,
    /// Over, and both ends are told.
    Resets,
}

impl<'a, H: NextHops> Work<'a, H> {
    /// Deals with a packet, whose key has this hash, that has no connection, or `known`, of which it is not clear whether it goes on, and with every
    /// SYN, whose segment size may be too large for its service.
    #[cold]
    #[inline(never)]
    pub(super) fn begin(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        hash: u64,
        known: Option<(&'a Slot, Found)>,
    ) -> Result<Begun<'a>, Refusal> {
        let begun = self.find_or_open(packet, parsed, hash, known);
        if let Ok(Begun::Connection(slot, _)) = begun {
            self.lower_mss(packet, parsed, slot);
        }
        begun
    }

    /// Lowers the segment size that a SYN names to what its service allows.
    pub(super) fn lower_mss(&self, packet: &mut Packet<'_>, parsed: &Parsed, slot: &Slot) {
        if parsed.flags.has(TcpFlags::SYN) && parsed.key.protocol() == Protocol::Tcp as u8 {
            let most = self.services.terms.of(ServerId(slot.server_id())).mss_max;
            if most > 0 {
                mss::lower(packet.frame(), parsed, most);
            }
        }
    }

    fn find_or_open(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        hash: u64,
        known: Option<(&'a Slot, Found)>,
    ) -> Result<Begun<'a>, Refusal> {
        if known.is_none()
            && let Some(begun) = self.claim(packet, parsed, hash)
        {
            return begun;
        }
        let service = self.services.of_packet(&parsed.key).filter(|_| !parsed.is_ipsec());
        let mut stale = None;
        if let Some((slot, found)) = known {
            match self.fate(slot, found, service, parsed) {
                Fate::Stays => {
                    if found.direction == Direction::In {
                        self.introduce_again(slot, parsed);
                    }
                    return Ok(Begun::Connection(slot, found));
                }
                Fate::Waits => return Err(DropReason::ServerGone.into()),
                Fate::Ends => stale = Some(found.slot),
                Fate::Resets => return Err(self.reset(slot, found.slot)),
            }
        }
        let chosen = service.map(|service| self.choose(service, packet, parsed));
        // After the choice: the kernel too still counts the old connection while it chooses.
        if let Some(id) = stale {
            self.remove(id);
        }
        match (chosen, service) {
            (Some(chosen), Some(service)) => {
                let (destination, template) = chosen?;
                self.open(service, packet, (parsed, hash), &destination, template)
            }
            _ => match self.begin_outward(packet, parsed) {
                Some(begun) => begun,
                None => self
                    .route_on(packet, parsed)
                    .map(|port| Begun::Sent(port, fragments::Fate::routed(port, parsed.key))),
            },
        }
    }

    /// What becomes of the old connection of a client's packet, as `ip_vs_in_hook` decides. A server's packet goes on
    /// in it as long as the server is there.
    fn fate(&self, slot: &Slot, found: Found, service: Option<&VirtualService>, parsed: &Parsed) -> Fate {
        let (id, tunables) = (ServerId(slot.server_id()), &self.services.tunables);
        let gives_up = tunables.expire_nodest_conn > 0;
        if parsed.flags.has(TcpFlags::SYN) && found.direction == Direction::In {
            // The list is long, and asked only if it matters.
            let server = || service.and_then(|s| s.destination(id));
            let quiesced = gives_up && server().is_some_and(|d| d.weight == 0);
            let mode = tunables.conn_reuse_mode;
            if quiesced || (mode > 0 && starts_anew(slot, mode)) {
                return Fate::Ends;
            }
        }
        if self.services.is_available(id) {
            Fate::Stays
        } else {
            self.fate_when_gone(id, found.direction, parsed)
        }
    }

    /// The server for the connection that a packet opens, and the template that leads there; or why it opens none.
    pub(super) fn choose(
        &mut self,
        service: &VirtualService,
        packet: &Packet<'_>,
        parsed: &Parsed,
    ) -> Result<(Destination, Option<SlotId>), Refusal> {
        let key = &parsed.key;
        let opens = match Protocol::from_number(key.protocol()) {
            Some(Protocol::Tcp) => {
                let Switches { sloppy_tcp, client_address, .. } = service.service.switches;
                let sloppy = sloppy_tcp.unwrap_or(self.services.tunables.sloppy_tcp > 0);
                // In the middle of a stream it cannot be known what the server was told.
                opens(parsed.flags, sloppy && client_address != ClientAddress::Proxy)
            }
            Some(Protocol::Sctp) if Event::of(parsed.flags) == Event::Nothing => {
                return Err(DropReason::NoConnection.into());
            }
            Some(Protocol::Sctp) => opens(parsed.flags, self.services.tunables.sloppy_sctp > 0),
            Some(Protocol::Udp) | None => true,
        };
        let is_own_port = key.destination().port() == service.service.key.port();
        let by_mark = matches!(service.service.key, ServiceKey::Mark { .. });
        // The other ports that FTP may use are the service's only as far as it uses them.
        let refused = if is_own_port || by_mark { DropReason::NoConnection } else { DropReason::NoService };
        if !opens {
            return Err(refused.as_by_the_host(parsed));
        }
        if self.level.drops_packets() && self.director.defence.drops(self.level) {
            return Err(DropReason::DropPacket.into());
        }
        // Active FTP's data connection is the server's answer to a client: never scheduled.
        if key.source().port() == FTP_DATA {
            return Err(refused.as_by_the_host(parsed));
        }
        match service.service.persistence {
            Some(persistence) => {
                let (mut destination, template) =
                    self.follow(service, persistence, packet, parsed, key, None)?;
                if !is_own_port {
                    // The one that the packet has.
                    destination.address.set_port(0);
                }
                Ok((destination, Some(template)))
            }
            // Only persistence keeps FTP's data connections with the one they belong to.
            None if !is_own_port && !by_mark => Err(refused.as_by_the_host(parsed)),
            None => Ok((self.schedule(service, key)?, None)),
        }
    }

    /// The scheduler's choice, or what the client is told without one (`ip_vs_leave`).
    pub(super) fn schedule(&self, service: &VirtualService, key: &FlowKey) -> Result<Destination, Refusal> {
        let list = &service.destinations;
        let request = Request { flow: key, tick: self.tick, ramp: service.ramp(self.tick) };
        let picked = service.scheduler.pick(list, &self.director.counts, &request);
        picked.and_then(|index| list.get(index)).copied().ok_or_else(|| {
            // A service of FTP gets packets that are not meant for it.
            let not_ftp = service.service.key.port() == FTP && key.destination().port() != FTP;
            let answer = if not_ftp { Answer::Reset } else { Answer::Error(IcmpError::PortUnreachable) };
            DropReason::NoServer.answered(answer)
        })
    }

    /// Opens the connection to the server that was chosen. With one-packet scheduling the packet is all of it.
    fn open(
        &mut self,
        service: &VirtualService,
        packet: &mut Packet<'_>,
        (parsed, hash): (&Parsed, u64),
        destination: &Destination,
        template: Option<SlotId>,
    ) -> Result<Begun<'a>, Refusal> {
        let (plan, mut over) =
            self.plan(service, parsed, destination).inspect_err(|_| self.director.leave(template))?;
        if service.service.one_packet && parsed.key.protocol() == Protocol::Udp as u8 {
            self.director.leave(template);
            return self.send_alone(packet, parsed, &plan, destination.id);
        }
        let mut new = self.connection(packet, (parsed, hash), plan, destination.id, template);
        if destination.method == Method::FullNat && new.client.2.route == Route::Local {
            // The answers would go from the host to the host, and never come by.
            self.director.give_up(&new);
            return Err(DropReason::NoRoute.into());
        }
        new.aside = self.helper(&parsed.key, destination).inspect_err(|_| self.director.leave(template))?;
        for _ in 0..PORT_RACES {
            if let Some(over) = over {
                new.replies = over.replies();
            }
            match self.enter(&new, true) {
                // Another worker was quicker.
                Err(DropReason::LocalPorts) => {
                    let Ok((plan, next)) = self.plan(service, parsed, destination) else { break };
                    let again = self.connection(packet, (parsed, hash), plan, destination.id, template);
                    (new, over) = (NewConnection { aside: new.aside, ..again }, next);
                }
                entered => {
                    let found = entered?;
                    let connection = (self.director.table.slot(found.slot), found);
                    if let Some(over) = over {
                        self.remove(over.slot);
                    }
                    return match over.and_then(|over| over.ahead) {
                        Some(number) => self.open_behind_reset(packet, parsed, connection, number),
                        None => Ok(Begun::Connection(connection.0, found)),
                    };
                }
            }
        }
        self.director.give_up(&new);
        Err(DropReason::LocalPorts.into())
    }

    /// Forwards a packet that is a connection of its own: counted, and forgotten.
    fn send_alone(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        plan: &Plan,
        id: ServerId,
    ) -> Result<Begun<'a>, Refusal> {
        self.stats.connection(id);
        self.stats.packet_in(id, parsed.ip_len);
        let (recipe, reply_key) = (plan.client, plan.reply_key);
        let server = reply_key.source().ip().to_canonical();
        let hop = self.hop_to_server(server, parsed);
        let port = if recipe.rewrite == Rewrite::Wrap {
            let source = self.source_to(server, parsed);
            self.wrap(packet, parsed, hop, id, source.map(|source| (source, server)))?
        } else {
            let parsed = self.introduced(packet, parsed, id, hop)?;
            self.send(packet, &parsed, Direction::In, hop, recipe, || reply_key)?
        };
        Ok(Begun::Sent(port, fragments::Fate::Alone { client: parsed.key, recipe, reply_key, id }))
    }

    /// The next hop of a packet without a connection.
    pub(super) fn hop_to(&self, destination: IpAddr, parsed: &Parsed) -> Result<Hop, DropReason> {
        self.hop_of(self.way(destination, parsed))
    }

    /// The next hop of a packet without a connection to a server.
    pub(super) fn hop_to_server(&mut self, server: IpAddr, parsed: &Parsed) -> Result<Hop, DropReason> {
        let way = self.way_to(server, parsed);
        self.hop_of(way)
    }

    /// Where a way leads at this moment.
    pub(super) fn hop_of(&self, way: Way) -> Result<Hop, DropReason> {
        match way.route {
            Route::Via(hop) => self.hops.hop(hop).ok_or(DropReason::Unresolved),
            Route::Unknown => Err(DropReason::Unresolved),
            Route::Unreachable => Err(DropReason::NoRoute),
            Route::Local => self.way_up(),
        }
    }

    /// A connection that begins with this packet, whose key has this hash.
    pub(super) fn connection(
        &mut self,
        packet: &Packet<'_>,
        (parsed, hash): (&Parsed, u64),
        plan: Plan,
        id: ServerId,
        template: Option<SlotId>,
    ) -> NewConnection {
        let replies = match plan {
            Plan { server: None, .. } => Replies::None,
            Plan { is_unique: true, .. } => Replies::Unique,
            _ => Replies::Newest,
        };
        let (table, mut hashes) = (&self.director.table, [hash, 0]);
        if replies != Replies::None {
            hashes[1] = table.hash(&plan.reply_key);
            // Where its replies will be entered, which takes the longest of all that a new connection does.
            table.prefetch_bucket(hashes[1]);
        }
        let server = plan.reply_key.source().ip().to_canonical();
        let to_server = self.way_to(server, parsed);
        let is_wrapped = plan.client.rewrite == Rewrite::Wrap;
        let outer_source = if is_wrapped { self.source_to(server, parsed) } else { None };
        // Of another generation: looked up by the first reply. Many floods never get one.
        let later = Way { route: Route::Unknown, generation: to_server.generation.wrapping_sub(1) };
        // Inactive until its first packet has been counted, like the kernel's; a SYN's is counted below.
        let mut status = Status {
            state: State::None,
            inactive: true,
            no_output: replies == Replies::None,
            removed: false,
        };
        // Armed for the state that the packet will bring about in a moment.
        let protocol = parsed.key.protocol();
        let after = status.after(self.tables, protocol, Direction::In, parsed.flags);
        if protocol == Protocol::Tcp as u8 && parsed.flags.only_opens() {
            // It changes nothing a second time, and of a new connection nothing follows from it but the count: a step saved.
            status = after;
        }
        NewConnection {
            client: (parsed.key, plan.client, to_server),
            server: (plan.reply_key, plan.server.unwrap_or(plan.client), later),
            hashes: Some(hashes),
            outer_source,
            replies,
            status,
            server_id: id.0,
            template,
            aside: 0,
            learned: packet.origin(parsed),
            tick: self.tick,
            timeout_s: self.services.timeout_s(id, protocol, after.state),
        }
    }

    /// Enters a connection into the table, counted before anybody can find it, and among the scheduled ones if it
    /// `is_scheduled`. If it is not entered, it does not follow its template any more, unless [`DropReason::LocalPorts`] says
    /// that it might be with another port.
    pub(super) fn enter(&mut self, new: &NewConnection, is_scheduled: bool) -> Result<Found, DropReason> {
        let id = ServerId(new.server_id);
        let deadline = first_look(self.tick, new.timeout_s);
        let (director, counts) = (self.director, &self.director.counts);
        let table = &director.table;
        let leave = |outcome| {
            director.give_up(new);
            outcome
        };
        for _ in 0..REMOVAL_SPINS {
            counts.opened(id, new.status);
            let (refused, status) = match self.shard.insert(table, new, deadline) {
                Ok(slot) => {
                    if let Some(older) = self.shard.displaced() {
                        director.offload.withdraw(table.slot(older));
                    }
                    if is_scheduled {
                        self.stats.connection(id);
                    }
                    return Ok(Found { slot, direction: Direction::In });
                }
                Err(refusal) => refusal,
            };
            let Some(status) = status else {
                // Whoever removed it has counted it, and out of its template.
                return Err(DropReason::Removing);
            };
            counts.closed(id, status);
            match refused {
                Refused::TableFull => return leave(Err(DropReason::TableFull)),
                Refused::BucketFull => return leave(Err(DropReason::BucketFull)),
                // Its local port is taken.
                Refused::Exists(Found { direction: Direction::Out, .. }) => {
                    return Err(DropReason::LocalPorts);
                }
                // Another worker had a packet of the same flow at the same moment: or is just removing it.
                Refused::Exists(found) if !table.slot(found.slot).status().removed => {
                    return leave(Ok(found));
                }
                Refused::Exists(_) => spin_loop(),
            }
        }
        leave(Err(DropReason::Removing))
    }
}

/// True if a packet of TCP or SCTP opens a connection: a SYN, or whatever is no RST if that is enough; an INIT and an
/// ABORT likewise.
fn opens(flags: TcpFlags, sloppy: bool) -> bool {
    (flags.has(TcpFlags::SYN) || sloppy) && !flags.has(TcpFlags::RST)
}

/// True for a connection that is over, so that a SYN or INIT with its ports begins another one (`is_new_conn_expected`). One
/// that follows a template goes to the same server anyway.
fn starts_anew(slot: &Slot, conn_reuse_mode: u32) -> bool {
    let status = slot.status();
    slot.template().is_none()
        && match status.state {
            State::TimeWait | State::Close | State::SctpClosed => true,
            State::FinWait => conn_reuse_mode & 2 != 0 && status.no_output,
            _ => false,
        }
}
