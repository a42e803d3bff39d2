//! A director on a table: real frames in, verdicts and frames out, time set by hand. Frames are made and read in
//! `frames`, ICMP errors in `errors`.

#[path = "errors.rs"]
mod errors;
#[path = "frames.rs"]
mod frames;
#[path = "witness.rs"]
mod witness;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use xvs::director::draft::{Draft, Refused};
use xvs::director::drops::DropReason;
use xvs::director::engine::{Batch, Engine, Packet, Verdict, Verdicts};
use xvs::director::forward::hops::{Hop, HopId, NextHops, Origin, PortId, Route};
use xvs::director::name::ServiceKey;
use xvs::director::roster::Roster;
use xvs::director::sched::Kind;
use xvs::director::service::{
    Method, Netmask, Persistence, Pool, Protocol, Server, ServerState, Service, Tunnel, TunnelChecksum,
};
use xvs::director::services::Services;
use xvs::director::time::Time;
use xvs::director::{Director, Size, conn::state::State};
use xvs::net::rss::Rss;
use xvs::packet::flow::FlowKey;

pub use self::errors::*;
pub use self::frames::*;
use self::witness::Witness;

/// The interface towards clients, and the one towards servers.
pub const OUTSIDE: PortId = 0;
pub const INSIDE: PortId = 1;

/// The director's own address towards servers.
pub const INSIDE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

pub const INSIDE_ADDRESS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 1);

pub const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
pub const OUTSIDE_MAC: [u8; 6] = [2, 0xd, 0, 0, 0, 0];
pub const INSIDE_MAC: [u8; 6] = [2, 0xd, 0, 0, 0, 1];

const SUM: TunnelChecksum = TunnelChecksum::Full;
const NO_SUM: TunnelChecksum = TunnelChecksum::None;
/// Every kind of tunnel.
pub const TUNNELS: [Tunnel; 5] = [
    Tunnel::Ipip,
    Tunnel::Gue { port: 6080, checksum: NO_SUM },
    Tunnel::Gue { port: 6080, checksum: SUM },
    Tunnel::Gre { checksum: NO_SUM },
    Tunnel::Gre { checksum: SUM },
];

/// Routes of the lab: 10.1.0.0/24 and fd00:1::/112 inside, hop ids by the last number as it is written; everybody else
/// outside behind one router.
pub struct Hops {
    pub generation: u32,
    /// MAC of a hop; a missing one is unresolved.
    pub macs: HashMap<u32, [u8; 6]>,
    pub client_route: Route,
    /// Hop ids of destinations that are reached another way: of several each flow has its own.
    pub detours: HashMap<IpAddr, Vec<u32>>,
    pub mtu: u16,
    /// How the inside interface distributes packets, if it tells.
    pub rss: Option<Rss>,
    /// The tag on each side's wire.
    pub vlans: [Option<u16>; 2],
    /// What the director's own packets are sent from, one of each family.
    pub sources: Vec<IpAddr>,
    /// The director's own.
    pub local: Vec<IpAddr>,
}

impl Hops {
    fn new() -> Self {
        let server = |n| (u32::from(n), [2, 0, 0, 0, 0xa, n]);
        let macs = (11..=20).map(server).chain([(0, ROUTER_MAC)]).collect();
        Self {
            generation: 1,
            macs,
            client_route: Route::Via(HopId(0)),
            detours: HashMap::new(),
            mtu: 1500,
            vlans: [None; 2],
            rss: None,
            sources: vec![INSIDE_ADDRESS.into(), INSIDE_ADDRESS_V6.into()],
            local: Vec::new(),
        }
    }
}

impl NextHops for Hops {
    fn generation(&self) -> u32 {
        self.generation
    }

    fn route(&self, destination: IpAddr, flow_hash: u32) -> Route {
        if let Some(ids) = self.detours.get(&destination) {
            return ids
                .get(flow_hash as usize % ids.len().max(1))
                .map_or(Route::Unknown, |id| Route::Via(HopId(*id)));
        }
        match destination {
            ip if self.local.contains(&ip) => Route::Local,
            IpAddr::V4(ip) if ip.octets()[..3] == [10, 1, 0] => Route::Via(HopId(u32::from(ip.octets()[3]))),
            IpAddr::V6(ip) if ip.segments()[..7] == INSIDE_ADDRESS_V6.segments()[..7] => {
                Route::Via(HopId(format!("{:x}", ip.segments()[7]).parse().unwrap()))
            }
            _ => self.client_route,
        }
    }

    fn common_hop(&self, destination: IpAddr) -> Option<HopId> {
        match self.route(destination, 0) {
            Route::Via(hop) if self.detours.get(&destination).is_none_or(|ids| ids.len() == 1) => Some(hop),
            _ => None,
        }
    }

    fn hop(&self, id: HopId) -> Option<Hop> {
        let dst_mac = *self.macs.get(&id.0)?;
        let (port, src_mac) = if id.0 == 0 { (OUTSIDE, OUTSIDE_MAC) } else { (INSIDE, INSIDE_MAC) };
        Some(Hop { port, dst_mac, src_mac, vlan: self.vlans[usize::from(port)], mtu: self.mtu })
    }

    fn source(&self, destination: IpAddr, _: u32) -> Option<IpAddr> {
        self.sources.iter().copied().find(|source| source.is_ipv4() == destination.is_ipv4())
    }

    fn queue(&self, port: PortId, key: &FlowKey) -> Option<u32> {
        let rss = self.rss.as_ref().filter(|_| port == INSIDE)?;
        rss.queue(key.protocol(), key.source(), key.destination())
    }

    fn back_to(&self, origin: Origin) -> Option<Hop> {
        let Origin { mac, port, vlan } = origin;
        Some(Hop { port, dst_mac: mac, src_mac: OUTSIDE_MAC, vlan, mtu: self.mtu })
    }
}

pub fn service(protocol: Protocol, address: &str, method: Method, servers: &[(&str, u32)]) -> Pool {
    let server =
        |&(address, weight): &(&str, u32)| Server { weight, ..Server::new(address.parse().unwrap(), method) };
    let key = ServiceKey::new(protocol, address.parse().unwrap());
    Pool {
        service: Service { scheduler: Kind::Rr, ..Service::new(key) },
        servers: servers.iter().map(server).collect(),
    }
}

/// The same service, and the connections of a client stay together for `timeout_s` seconds.
pub fn persistent(mut pool: Pool, timeout_s: u32) -> Pool {
    pool.service.persistence =
        Some(Persistence { timeout_s, netmask: Netmask::whole(pool.service.key.is_v4()) });
    pool
}

/// The side that an address belongs to.
fn side(from: &str) -> PortId {
    if from.starts_with("10.1.0.") || from.starts_with("[fd00:1::") { INSIDE } else { OUTSIDE }
}

/// The director with its workers.
pub struct Table {
    pub director: Arc<Director>,
    pub roster: Roster,
    pub engines: Vec<Engine>,
    pub hops: Hops,
    pub now: Time,
    /// Frames out of the outboxes, by interface.
    pub made: Vec<(PortId, Vec<u8>)>,
    witness: Option<Witness>,
}

impl Table {
    pub fn new(services: &[Pool]) -> Self {
        Self::sized(services, 1024, 2)
    }

    pub fn sized(services: &[Pool], capacity: u32, workers: usize) -> Self {
        let size = Size { connections: capacity, workers, huge_pages: false };
        let (director, seats) = Director::new(size, (1, 2), Services::default()).unwrap();
        let engines = seats.into_iter().map(Engine::new).collect();
        let roster = Roster::default();
        let (hops, now) = (Hops::new(), Time::from_secs(1000));
        let witness = Witness::of(&director);
        let mut table = Self { director, roster, engines, hops, now, made: Vec::new(), witness };
        table.change(|draft| draft.replace(services));
        table
    }

    /// Frames that the steering program has sent on as the engine did.
    #[allow(dead_code, reason = "for the binary that has witnesses")]
    pub fn carried(&self) -> usize {
        self.witness.as_ref().map_or(0, |witness| witness.carried)
    }

    /// Changes the services as the control plane would.
    pub fn change(&mut self, how: impl FnOnce(&mut Draft) -> Result<(), Refused>) {
        let mut draft = Draft::new(&self.director.services.load(), &self.roster).at(self.now.tick());
        how(&mut draft).unwrap();
        self.roster = self.director.publish(draft).0;
    }

    /// Sets a tunable.
    pub fn tune(&mut self, name: &str, value: u32) {
        self.change(|draft| {
            draft.settings().tunables.set(name, value).unwrap();
            Ok(())
        });
    }

    /// Sets the weight of a server.
    pub fn weigh(&mut self, service: &str, server: &str, weight: u32) {
        let key = service.parse().unwrap();
        self.change(|draft| {
            let service = draft.services().get(&key).unwrap();
            let there = service.destinations[service.position(server.parse().unwrap()).unwrap()];
            draft.edit_server(key, Server { weight, ..there.server() })
        });
    }

    /// Has a server take connections, drain for so many seconds, or be down.
    pub fn stand(&mut self, service: &str, server: &str, state: ServerState, drain_timeout_s: u32) {
        let key = service.parse().unwrap();
        self.change(|draft| {
            let service = draft.services().get(&key).unwrap();
            let there = service.destinations[service.position(server.parse().unwrap()).unwrap()];
            draft.edit_server(key, Server { state, drain_timeout_s, ..there.server() })
        });
    }

    /// Sets a switch of a service.
    pub fn switch(&mut self, service: &str, name: &str, value: &str) {
        let key = service.parse().unwrap();
        self.change(|draft| {
            let mut wanted = draft.services().get(&key).unwrap().service;
            wanted.switches.set(name, value).unwrap();
            draft.edit_service(wanted)
        });
    }

    /// Takes a server out of its service.
    pub fn take_out(&mut self, service: &str, server: &str) {
        self.change(|d| d.remove_server(service.parse().unwrap(), server.parse().unwrap()));
    }

    /// One batch for one worker: verdicts with the frames as they were left.
    pub fn batch(&mut self, worker: usize, frames: &[Vec<u8>], port: PortId) -> Vec<(Verdict, Vec<u8>)> {
        if let Some(witness) = &mut self.witness {
            witness.before(&self.hops, frames);
        }
        let mut rooms: Vec<Vec<u8>> = frames.iter().map(|f| [&f[..], &[0xee; 128]].concat()).collect();
        let lens: Vec<usize> = frames.iter().map(Vec::len).collect();
        let mut batch: Batch<'_> =
            rooms.iter_mut().zip(&lens).map(|(room, &len)| Packet { room, len, port }).collect();
        let mut verdicts = Verdicts::new();
        self.engines[worker].process(&mut batch, &self.hops, self.now, &mut verdicts);
        let outbox = self.engines[worker].outbox();
        self.made.extend(outbox.frames().map(|(port, frame)| (port, frame.to_vec())));
        outbox.clear();
        let lens: Vec<usize> = batch.iter().map(|p| p.len).collect();
        drop(batch);
        assert_eq!(verdicts.len(), frames.len(), "a verdict for each frame");
        for (room, &len) in rooms.iter_mut().zip(&lens) {
            assert!(room[len..].ends_with(&[0xee; 32]), "nothing is written behind the frame");
            room.truncate(len);
        }
        let done: Vec<_> = verdicts.into_iter().zip(rooms).collect();
        if let Some(witness) = &mut self.witness {
            witness.after(&done);
        }
        done
    }

    /// A client's packet that goes on to a server, as it left.
    pub fn forwarded(&mut self, frame: &[u8]) -> Vec<u8> {
        let (verdict, after) = self.batch(0, &[frame.to_vec()], OUTSIDE).remove(0);
        assert_eq!(verdict, Verdict::Transmit(INSIDE));
        after
    }

    pub fn one(&mut self, worker: usize, frame: Vec<u8>, port: PortId) -> Result<Sent, DropReason> {
        let (verdict, frame) = self.batch(worker, &[frame], port).remove(0);
        match verdict {
            Verdict::Transmit(port) => Ok(read(&frame, port)),
            Verdict::Drop(reason) | Verdict::Answer(_, reason) => Err(reason),
            Verdict::Keep => panic!("a fragment"),
        }
    }

    /// A TCP packet, to whichever side it belongs by its source.
    pub fn tcp(&mut self, from: &str, to: &str, flags: &str) -> Result<Sent, DropReason> {
        let port = side(from);
        self.one(0, tcp(from, to, flags), port)
    }

    /// An SCTP packet of these chunks, to whichever side it belongs by its source.
    pub fn sctp(&mut self, from: &str, to: &str, chunks: &[u8]) -> Result<Sent, DropReason> {
        let port = side(from);
        let chunks: Vec<_> = chunks.iter().map(|kind| (*kind, &b"some value"[..])).collect();
        self.one(0, sctp(from, to, &chunks), port)
    }

    /// Lets time pass, a tick at a time, as a worker would.
    pub fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds * 1000 / Time::TICK_MS {
            self.now.0 += Time::TICK_MS;
            self.expire();
        }
    }

    /// Every worker's loop, turning until nothing is due.
    pub fn expire(&mut self) {
        for engine in &mut self.engines {
            while engine.expire(self.now) {}
        }
    }

    /// Sends a TCP connection through: opened, answered, closed by the client. Where it went comes back.
    pub fn visit(&mut self, from: &str, to: &str) -> String {
        let sent = self.tcp(from, to, "S").unwrap();
        for flags in ["A", "FA"] {
            let again = self.tcp(from, to, flags).unwrap();
            assert_eq!((&again.to, again.dst_mac), (&sent.to, sent.dst_mac), "the same server");
        }
        format!("10.1.0.{}:{}", sent.dst_mac[5], sent.to.rsplit(':').next().unwrap())
    }

    /// All connections as listed, without those that are no templates if `templates`.
    pub fn rows(&self, templates: bool) -> Vec<String> {
        let mut all = Vec::new();
        self.director.table.list(|slot| {
            let row = slot.row(self.now.tick());
            if row.template || !templates {
                let time = format!("{:02}:{:02}", row.expires_s / 60, row.expires_s % 60);
                let (client, vip, server) = (row.client, row.virtual_address, row.server);
                all.push(format!("{} {time} {} {client} {vip} {server}", row.protocol, row.state));
            }
        });
        all.sort();
        all
    }

    /// The number of a server of a service.
    pub fn id(&self, service: &str, server: &str) -> u32 {
        let services = self.director.services.load();
        let service = services.get(&service.parse().unwrap()).unwrap();
        service.destinations[service.position(server.parse().unwrap()).unwrap()].id.0
    }

    /// The states of all connections, by client.
    pub fn states(&self) -> Vec<(String, State)> {
        let mut all = Vec::new();
        self.director.table.list(|slot| {
            let key = slot.key(xvs::director::conn::Direction::In);
            all.push((key.source().to_string(), slot.status().state));
        });
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// Active and inactive connections of the server with this id.
    pub fn counts(&self, id: u32) -> (u32, u32) {
        let id = xvs::director::server::ServerId(id);
        (self.director.counts.active(id), self.director.counts.inactive(id))
    }
}

/// A turn of a worker that is at work beside others: frames come in from outside, and what is due expires.
pub fn turn(engine: &mut Engine, frames: &mut [Vec<u8>], hops: &Hops, now: Time) -> Verdicts {
    let mut batch: Batch<'_> =
        frames.iter_mut().map(|room| Packet { len: room.len(), room, port: OUTSIDE }).collect();
    let mut verdicts = Verdicts::new();
    engine.process(&mut batch, hops, now, &mut verdicts);
    drop(batch);
    while engine.expire(now) {}
    verdicts
}
