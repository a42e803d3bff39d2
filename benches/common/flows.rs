//! A director in memory with many established flows, and frames of them on demand.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use etherparse::PacketBuilder;
use xvs::director::conn::Direction;
use xvs::director::conn::state::Timeouts;
use xvs::director::engine::{BATCH, Batch, Engine, Packet, Verdict, Verdicts};
use xvs::director::forward::hops::{Hop, HopId, NextHops, Origin, PortId, Route};
use xvs::director::local::{LOCAL_PORTS, Locals};
use xvs::director::name::ServiceKey;
use xvs::director::sched::Kind;
use xvs::director::service::{Method, Pool, Protocol, Server, Service};
use xvs::director::services::Services;
use xvs::director::time::Time;
use xvs::director::{Director, Seat, Size};
use xvs::packet::checksum;
use xvs::packet::room::ROOM_MARK;

const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
/// What FULLNAT sends from.
const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 250);
const FRAME_LEN: usize = 64;
/// Length of a datagram in such a frame.
const UDP_LEN: u8 = 30;
/// A frame with the room that a tunnel needs.
const ROOM_LEN: usize = 128;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// One hop inside, one outside, both resolved.
pub struct Hops;

impl NextHops for Hops {
    fn generation(&self) -> u32 {
        1
    }

    fn route(&self, destination: IpAddr, _: u32) -> Route {
        let inside = matches!(destination, IpAddr::V4(ip) if ip.octets()[1] == 1);
        Route::Via(HopId(u32::from(inside)))
    }

    fn common_hop(&self, destination: IpAddr) -> Option<HopId> {
        let Route::Via(hop) = self.route(destination, 0) else { return None };
        Some(hop)
    }

    fn hop(&self, id: HopId) -> Option<Hop> {
        let port = PortId::try_from(id.0).ok()?;
        Some(Hop { port, dst_mac: MAC, src_mac: MAC, vlan: None, mtu: 1500 })
    }

    fn source(&self, _: IpAddr, _: u32) -> Option<IpAddr> {
        Some(IpAddr::from([10, 1, 0, 1]))
    }

    fn back_to(&self, _: Origin) -> Option<Hop> {
        None
    }
}

/// Which packets are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client: an acknowledgement.
    In,
    /// From the server: an acknowledgement.
    Out,
    /// From the client: a SYN.
    Syn,
    /// From the client: a datagram, to the UDP service of the same address.
    #[allow(dead_code, reason = "for one of the benches")]
    Datagram,
}

/// The director, one of its workers, and a batch's worth of frames.
pub struct Flows {
    pub director: Arc<Director>,
    pub engine: Engine,
    frames: Vec<[u8; ROOM_LEN]>,
    /// Bytes of room in front of each frame.
    room: usize,
    verdicts: Verdicts,
    template: [u8; FRAME_LEN],
    /// The local port of each flow, with FULLNAT.
    locals: Vec<u16>,
    pub now: Time,
}

/// The client of flow `n`: 24 bits of address, 6 of port.
fn client(n: u32) -> (Ipv4Addr, u16) {
    (Ipv4Addr::from_bits(0x5000_0000 | n & 0xff_ffff), 1024 + u16::try_from(n >> 24).unwrap_or(0))
}

/// 64 servers, all of one port.
fn server(n: u32) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 0, u8::try_from(1 + n % 64).unwrap_or(1))
}

/// The addresses of all servers.
#[allow(dead_code, reason = "for one of the benches")]
pub fn servers() -> impl Iterator<Item = Ipv4Addr> {
    (0..64).map(server)
}

/// A director for a TCP and a UDP service with one server for each of 64 addresses, and its workers' seats.
fn director(method: Method, connections: u32, workers: usize) -> (Arc<Director>, Vec<Seat>) {
    let service = |protocol| {
        let servers = (0..64).map(|n| Server::new(SocketAddr::new(server(n).into(), 80), method));
        let key = ServiceKey::new(protocol, SocketAddr::new(VIP.into(), 80));
        let service = Service {
            scheduler: Kind::Rr,
            locals: Locals::new(&[LOCAL.into()], LOCAL_PORTS).unwrap(),
            ..Service::new(key)
        };
        // The newest is first in the list: so flow n goes to server n.
        Pool { service, servers: servers.rev().collect() }
    };
    let both = [service(Protocol::Tcp), service(Protocol::Udp)];
    let services = Services::new(&both, Timeouts::default()).unwrap();
    Director::new(Size { connections, workers, huge_pages: false }, (1, 2), services).unwrap()
}

impl Flows {
    /// A director for a TCP and a UDP service with one server for each of 64 addresses.
    pub fn new(method: Method, capacity: u32) -> Self {
        let (director, mut seats) = director(method, capacity, 1);
        Self::of(method, director, seats.remove(0))
    }

    /// Two workers of one director, with `flows` established connections that the first has opened.
    #[allow(dead_code, reason = "for one of the benches")]
    pub fn of_two_workers(method: Method, flows: u32) -> [Self; 2] {
        let (director, mut seats) = director(method, 2 * flows, 2);
        let second = Self::of(method, director.clone(), seats.remove(1));
        let mut first = Self::of(method, director, seats.remove(0));
        first.establish(flows);
        [first, second]
    }

    fn of(method: Method, director: Arc<Director>, seat: Seat) -> Self {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2(MAC, MAC)
            .ipv4([0; 4], VIP.octets(), 64)
            .tcp(0, 80, 1, 1000)
            .write(&mut bytes, &[0; FRAME_LEN - 54])
            .unwrap();
        Self {
            director,
            engine: Engine::new(seat),
            frames: vec![[0; ROOM_LEN]; BATCH],
            room: if let Method::Tun(tunnel) = method { tunnel.overhead(true) } else { 0 },
            verdicts: Verdicts::new(),
            template: bytes.try_into().unwrap(),
            locals: Vec::new(),
            now: Time::from_secs(10),
        }
    }

    /// With `flows` established connections.
    pub fn established(method: Method, flows: u32) -> Self {
        let mut all = Self::new(method, flows.max(1024));
        all.establish(flows);
        all
    }

    fn establish(&mut self, flows: u32) {
        for way in [Way::Syn, Way::In] {
            for first in (0..flows).step_by(BATCH) {
                let batch: Vec<u32> = (first..flows.min(first + 64)).collect();
                self.fill(&batch, way);
                self.process(batch.len());
            }
        }
        assert_eq!(self.director.table.len(), u64::from(flows));
        self.locals.resize(flows as usize, 0);
        let locals = &mut self.locals;
        self.director.table.list(|slot| {
            let client = slot.key(Direction::In).source();
            let IpAddr::V4(ip) = client.ip() else { panic!("{client}") };
            let n = ip.to_bits() & 0xff_ffff | u32::from(client.port() - 1024) << 24;
            locals[n as usize] = slot.local().map_or(0, |local| local.port());
        });
    }

    /// The frame of flow `n`, with a right IP header checksum and any transport checksum.
    pub fn frame(&self, n: u32, way: Way) -> [u8; FRAME_LEN] {
        let mut frame = self.template;
        let (cip, cport) = client(n);
        let (source, destination, ports) = match way {
            Way::In | Way::Syn | Way::Datagram => (cip, VIP, [cport, 80]),
            Way::Out => match self.locals.get(n as usize) {
                Some(local @ 1..) => (server(n), LOCAL, [80, *local]),
                _ => (server(n), cip, [80, cport]),
            },
        };
        frame[26..30].copy_from_slice(&source.octets());
        frame[30..34].copy_from_slice(&destination.octets());
        frame[34..36].copy_from_slice(&ports[0].to_be_bytes());
        frame[36..38].copy_from_slice(&ports[1].to_be_bytes());
        if way == Way::Datagram {
            frame[23] = 17;
            frame[38..42].copy_from_slice(&[0, UDP_LEN, 0x12, 0x34]);
        } else {
            frame[47] = if way == Way::Syn { 0x02 } else { 0x10 };
        }
        frame[24..26].fill(0);
        let sum = checksum::of(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    /// Puts frames of these flows, at most a batch, where [`process`](Self::process) takes them.
    pub fn fill(&mut self, flows: &[u32], way: Way) {
        for (slot, &n) in flows.iter().enumerate() {
            let frame = self.frame(n, way);
            let slot = &mut self.frames[slot];
            if self.room > 0 {
                // As the steering program leaves it.
                slot[..12].copy_from_slice(&frame[..12]);
                slot[12..14].copy_from_slice(&ROOM_MARK.to_be_bytes());
                slot[14..16].copy_from_slice(&u16::try_from(self.room).unwrap().to_be_bytes());
            }
            slot[self.room..self.room + FRAME_LEN].copy_from_slice(&frame);
        }
    }

    /// Changes the frames that are there, and makes their header checksums right.
    #[allow(dead_code, reason = "for tests")]
    pub fn edit(&mut self, edit: impl Fn(usize, &mut [u8])) {
        for (n, frame) in self.frames.iter_mut().enumerate() {
            edit(n, &mut frame[..]);
            frame[24..26].fill(0);
            let sum = checksum::of(&frame[14..34]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
    }

    /// Processes the first `count` frames and returns how many are to be sent.
    pub fn process(&mut self, count: usize) -> usize {
        self.process_by(&Hops, count)
    }

    /// The same by these next hops.
    pub fn process_by(&mut self, hops: &impl NextHops, count: usize) -> usize {
        let mut batch: Batch<'_> = self.frames[..count]
            .iter_mut()
            .map(|f| Packet { room: f, len: self.room + FRAME_LEN, port: 0 })
            .collect();
        self.engine.process(&mut batch, hops, self.now, &mut self.verdicts);
        self.verdicts.iter().filter(|v| matches!(v, Verdict::Transmit(_))).count()
    }
}

/// A reproducible sequence without locality.
pub fn shuffled(count: u32) -> Vec<u32> {
    let mut all: Vec<u32> = (0..count).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for i in (1..all.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        all.swap(i, usize::try_from(state >> 33).unwrap_or(0) % (i + 1));
    }
    all
}
