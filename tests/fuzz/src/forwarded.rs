//! The director of [`methods`](super::methods) under test, with what must be true after every step, whatever its services
//! do to packets.

use std::collections::HashMap;
use std::net::SocketAddr;

use xvs::director::conn::Direction;
use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::forward::hops::{HopId, PASS, PortId, Route};
use xvs::director::name::ServiceKey;
use xvs::director::service::{Method, Pool};
use xvs::director::switches::ClientAddress;
use xvs::director::time::Time;
use xvs::packet::parse::{Reject, parse};

use super::drive::Driven;
use super::sight::Sight;
use super::table::{INSIDE_MAC, OUTSIDE, OUTSIDE_MAC, Table, read_answer};

const CAPACITY: u32 = 64;
const WORKERS: usize = 2;
const SYN: u8 = 2;
const RST: u8 = 4;
/// Bytes of the longest PROXY header, that of IPv6.
const HEADER_MAX: i32 = 52;

pub struct Forwarded {
    table: Table,
    services: Vec<Pool>,
    drops: HashMap<DropReason, u64>,
    /// Fragments that wait, or have waited: each is dropped then, and counted, or leaves.
    kept: u64,
}

/// What a director has made of a packet.
struct Sent<'s> {
    port: PortId,
    before: &'s Sight,
    after: &'s Sight,
}

impl Forwarded {
    pub fn new(services: Vec<Pool>) -> Self {
        let table = Table::sized(&services, CAPACITY, WORKERS);
        table.director.pass.open(1000);
        let mut forwarded = Self { table, services, drops: HashMap::new(), kept: 0 };
        forwarded.table.hops.local = vec!["10.1.0.1".parse().expect("an address")];
        forwarded
    }

    /// What a frame has become that is sent.
    fn check_sent(&self, port: PortId, before: &[u8], after: &[u8]) {
        if port == PASS && before == after {
            return;
        }
        let (b, a) = (Sight::of(before).expect("what is sent was whole"), self.check_made(port, after));
        if a.is_fragment {
            // The engine's own tests put them together.
            return;
        }
        assert!(!b.is_fragment, "a fragment has become whole");
        if matches!(a.protocol, 1 | 58) {
            assert_eq!(a.error, Some(0), "wrong errors are not relayed");
            return;
        }
        self.check_whole(&Sent { port, before: &b, after: &a });
    }

    /// A frame that leaves, by itself.
    fn check_made(&self, port: PortId, frame: &[u8]) -> Sight {
        let sight = Sight::of(frame).expect("a whole packet is sent");
        if port == PASS {
            return sight;
        }
        let hops = &self.table.hops;
        assert!(sight.len <= usize::from(hops.mtu), "MTU: {} bytes", sight.len);
        assert!([OUTSIDE_MAC, INSIDE_MAC].iter().any(|mac| frame[6..12] == mac[..]), "our own source MAC");
        if port != OUTSIDE || matches!(hops.client_route, Route::Via(_)) {
            let wanted = hops.vlans[usize::from(port)];
            assert_eq!(sight.vlan.filter(|&id| id != 0), wanted, "VLAN; 0 is a priority and none");
        }
        sight
    }

    fn check_whole(&self, sent: &Sent<'_>) {
        let Sent { before: b, after: a, .. } = sent;
        let Some(pool) = self.services.iter().find(|pool| is_by(pool, b, a)) else {
            panic!("{} -> {} became {} -> {} ({:?})", b.from, b.to, a.from, a.to, a.wrapped_to);
        };
        let is_syn = |sight: &Sight| sight.tcp.as_ref().is_some_and(|(_, _, flags, _)| flags & SYN != 0);
        let is_reset = |sight: &Sight| sight.tcp.as_ref().is_some_and(|(_, _, flags, _)| flags & RST != 0);
        if pool.servers[0].method == Method::FullNat && is_syn(b) && is_reset(a) && !is_reset(b) {
            // It goes ahead of the SYN, to end what the server knows of the port.
            assert_eq!(a.error, Some(0));
            return;
        }
        assert_eq!(a.ttl, if sent.port == PASS { b.ttl } else { b.ttl - 1 }, "TTL");
        assert_eq!((a.class, a.protocol), (b.class, b.protocol));
        match (b.error, a.error) {
            (None, Some(0)) if b.from.is_ipv4() && a.from.is_ipv6() => {}
            (before, after) => {
                assert_eq!(before, after, "a right checksum stays right, a wrong one as wrong")
            }
        }
        let how = pool.service.switches.client_address;
        let (toa, proxy) = (how == ClientAddress::Toa, how == ClientAddress::Proxy);
        let inward = matches!(pool.service.key, ServiceKey::Address { address, .. } if address == b.to);
        if proxy && inward {
            let header = header(b);
            let untold = if is_syn(b) { &[][..] } else { &b.payload };
            let told = [&header[..], untold].concat();
            let is_alone = a.payload == header && b.tcp.is_some();
            assert!(
                a.payload == b.payload || a.payload == untold || a.payload == told || is_alone,
                "payload"
            );
        } else {
            assert_eq!(a.payload, b.payload, "payload");
        }
        let (Some((bs, ba, bf, bo)), Some((is, ia, f, o))) = (&b.tcp, &a.tcp) else { return };
        if proxy {
            // An acknowledgement of a part of the header is one of nothing that the client has sent.
            let by = |new: u32, old: u32| {
                (-HEADER_MAX..=HEADER_MAX).contains(&new.wrapping_sub(old).cast_signed())
            };
            assert!(by(*is, *bs) && by(*ia, *ba), "numbers: {bs} {ba} became {is} {ia}");
            return;
        }
        assert_eq!((is, ia, f), (bs, ba, bf), "TCP's fixed header");
        match pool.service.switches.mss_max {
            0 if toa => assert!(o.len() >= bo.len(), "options are lost"),
            0 => assert_eq!(o, bo, "options"),
            _ => assert_eq!(o.len(), bo.len(), "options"),
        }
    }

    /// What must be true at any time.
    fn check(&mut self) {
        let director = &self.table.director;
        let drops: HashMap<_, _> = director.drops().into_iter().collect();
        let is_counted = self.drops.iter().all(|(reason, n)| drops.get(reason) >= Some(n));
        assert!(is_counted, "every drop is counted, by its reason: {drops:?}, not {:?}", self.drops);
        let [counted, told] = [&drops, &self.drops].map(|drops| drops.values().sum::<u64>());
        assert!(counted - told <= self.kept, "{counted} drops, of {told} frames and {} kept", self.kept);
        let mut counts: HashMap<u32, (u32, u32)> = HashMap::new();
        let mut live = 0;
        director.table.list(|slot| {
            live += 1;
            let key = slot.key(Direction::In);
            let found = director.table.find(director.table.hash(&key), &key);
            assert!(found.is_some_and(|f| std::ptr::eq(director.table.slot(f.slot), slot)), "{key:?}");
            if !slot.row(self.table.now.tick()).template {
                let (active, inactive) = counts.entry(slot.server_id()).or_default();
                *(if slot.status().inactive { inactive } else { active }) += 1;
            }
        });
        assert_eq!(director.table.len(), live);
        for id in 0..64 {
            let counted = counts.get(&id).copied().unwrap_or_default();
            assert_eq!(self.table.counts(id), counted, "active and inactive connections of server {id}");
        }
    }
}

impl Driven for Forwarded {
    /// One batch, and all that must be true of its frames.
    fn send(&mut self, worker: usize, port: PortId, frames: &[Vec<u8>]) {
        let verdicts = self.table.batch(worker, frames, port);
        assert_eq!(verdicts.len(), frames.len(), "a verdict for each frame, and each frame back");
        for (before, (verdict, after)) in frames.iter().zip(&verdicts) {
            let parsed = parse(before);
            let is_fragment = matches!(parsed, Err(Reject::Fragment));
            match verdict {
                Verdict::Keep => {
                    assert!(is_fragment && before == after, "only fragments are kept, and left alone");
                    self.kept += 1;
                }
                Verdict::Drop(reason) => {
                    // But for the segment size, with its checksum, that a SYN of a service with `mss_max` would have left with.
                    let changed = before.iter().zip(after).filter(|(before, after)| before != after).count();
                    let is_same = before.len() == after.len() && changed <= 4;
                    assert!(is_same, "a dropped frame is unchanged: {reason:?}, {before:02x?}, {after:02x?}");
                    *self.drops.entry(*reason).or_default() += 1;
                }
                Verdict::Answer(back, reason) => {
                    assert_eq!(*back, port, "answered where it came from");
                    read_answer(after);
                    *self.drops.entry(*reason).or_default() += 1;
                }
                Verdict::Transmit(port) => {
                    assert!(*port < 2 || *port == PASS);
                    self.check_sent(*port, before, after);
                }
            }
        }
        for (port, frame) in std::mem::take(&mut self.table.made) {
            assert!(port < 2 || port == PASS);
            self.check_made(port, &frame);
        }
        self.check();
    }

    /// Lets `ticks` pass at once and the workers look at their timers.
    fn wait(&mut self, ticks: u64, _: bool) {
        self.table.now.0 += ticks * Time::TICK_MS;
        self.table.expire();
        self.check();
    }

    fn rest(&mut self, worker: usize) {
        self.table.engines[worker].rest();
    }

    /// The world around changes, or the services.
    fn change(&mut self, how: u8) {
        let hops = &mut self.table.hops;
        let routes = [Route::Via(HopId(0)), Route::Unknown, Route::Unreachable];
        match how {
            0..=2 => hops.client_route = routes[usize::from(how)],
            3 => drop(hops.macs.remove(&11)),
            4 => drop(hops.macs.insert(11, [2, 9, 9, 9, 9, 9])),
            5 => hops.mtu = if hops.mtu == 1500 { 600 } else { 1500 },
            6 => {
                hops.vlans = match hops.vlans {
                    [None, None] => [Some(7), Some(8)],
                    [Some(_), Some(_)] => [Some(7), None],
                    [Some(_), None] => [None, Some(8)],
                    [None, Some(_)] => [None; 2],
                }
            }
            7 => drop(hops.sources.pop()),
            8 => hops.local = if hops.local.is_empty() { vec![[10, 1, 0, 1].into()] } else { vec![] },
            9 => self.table.director.pass.open(if hops.mtu == 1500 { 0 } else { 1000 }),
            // Servers go, and come back.
            _ => {
                let services = self.services.clone();
                let gone = usize::from(how - 10);
                let left: Vec<Pool> = services
                    .into_iter()
                    .enumerate()
                    .map(|(n, mut pool)| {
                        let is_gone = n % 6 == gone && pool.servers.len() > 1;
                        pool.servers.truncate(if is_gone { 1 } else { pool.servers.len() });
                        pool
                    })
                    .collect();
                self.table.change(|draft| draft.replace(&left));
            }
        }
        self.table.hops.generation = self.table.hops.generation.wrapping_add(1);
    }

    /// Lets 2000 s pass, after which nothing is left.
    fn end(mut self) {
        for _ in 0..40 {
            self.wait(50 * 1000 / Time::TICK_MS, false);
        }
        assert!(
            self.table.director.table.is_empty(),
            "{} connections never end",
            self.table.director.table.len()
        );
    }
}

/// Whether the service may have made the one packet of the other.
fn is_by(pool: &Pool, b: &Sight, a: &Sight) -> bool {
    let ServiceKey::Address { protocol, address: vip } = pool.service.key else { return false };
    let is_local = |end: SocketAddr| pool.service.locals.addresses().any(|ip| ip == end.ip());
    let is_kept = (b.from, b.to) == (a.from, a.to);
    protocol as u8 == b.protocol
        && pool.servers.iter().any(|server| match server.method {
            Method::Tun(_) => is_kept && b.to == vip && a.wrapped_to == Some(server.address.ip()),
            Method::Dr => is_kept && b.to == vip,
            Method::Nat => {
                let inwards = b.to == vip && a.to == server.address && a.from == b.from;
                let outwards = b.from == server.address && a.from == vip && a.to == b.to;
                inwards || outwards || (b.from == server.address && is_kept)
            }
            Method::FullNat => {
                let inwards = b.to == vip && a.to == server.address && is_local(a.from);
                let outwards = b.from == server.address && is_local(b.to) && a.from == vip;
                inwards || outwards
            }
        })
}

/// The PROXY header of a client's packet, by the document.
fn header(of: &Sight) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    let transport = if of.tcp.is_some() { 1 } else { 2 };
    let octets = match (of.from.ip(), of.to.ip()) {
        (std::net::IpAddr::V4(from), std::net::IpAddr::V4(to)) => {
            header.extend([0x10 | transport, 0, 12]);
            [from.octets(), to.octets()].concat()
        }
        (std::net::IpAddr::V6(from), std::net::IpAddr::V6(to)) => {
            header.extend([0x20 | transport, 0, 36]);
            [from.octets(), to.octets()].concat()
        }
        _ => unreachable!("one packet, one version"),
    };
    header.extend(octets);
    header.extend([of.from.port().to_be_bytes(), of.to.port().to_be_bytes()].concat());
    header
}
