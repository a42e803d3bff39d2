//! Offloaded flows: the program against the engine, on the same frames. What the program sends on must be what the engine
//! would have sent, byte for byte; what it should leave to the engine must come up as it came.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xvs::director::conn::state::State;
use xvs::director::engine::Verdict as Judged;
use xvs::director::forward::hops::{HopId, NextHops};
use xvs::director::local::Locals;
use xvs::director::offload::{Carrier, Offer};
use xvs::director::server::ServerId;
use xvs::director::service::{Method, Protocol, Tunnel, TunnelChecksum};
use xvs::director::stats::Traffic;
use xvs::director::{Director, time::Time};
use xvs::worker::offload::flow_of;
use xvs::xdp::steer::offload::{NextHop, Offload, Place};
use xvs::xdp::steer::{Outcome, Steering, Verdict};

use crate::netns::{Namespaces, inside, run};
use crate::table::{INSIDE, INSIDE_MAC, OUTSIDE, OUTSIDE_MAC, Table, service, tcp, udp};
use crate::{LOOPBACK, tagged};

const IP: usize = 14;
const L4: usize = 34;

/// Carries at once, without a thread: place `n` is that of offer `n`.
#[derive(Debug, Clone)]
struct Hand(Arc<Mutex<(Offload, Vec<Offer>)>>, Arc<Director>);

impl Hand {
    fn lock(&self) -> MutexGuard<'_, (Offload, Vec<Offer>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was carried at this place, in and out: packets and bytes.
    fn counted(&self, place: u32) -> [(u64, u64); 2] {
        [0, 1].map(|direction| self.lock().0.tallies.get(2 * place + direction).unwrap().counted())
    }
}

impl Carrier for Hand {
    fn offer(&self, offer: Offer) -> bool {
        let (maps, offers) = &mut *self.lock();
        let place = u32::try_from(offers.len()).unwrap();
        offers.push(offer);
        for (tally, flow) in (2 * place..).zip([Some(offer.inward), offer.outward]) {
            let Some(flow) = flow else { continue };
            maps.tallies.get(tally).unwrap().begin(offer.serial, offer.services, offer.routes);
            let (key, edit) = flow_of(&flow);
            maps.flows.set(&key, &edit, Place { tally, serial: offer.serial }).unwrap();
        }
        self.1.table.slot(offer.slot).carried().take(offer.serial, place)
    }

    fn end(&self, place: u32) {
        (2 * place..2 * place + 2).for_each(|tally| self.lock().0.tallies.get(tally).unwrap().end());
    }

    fn seen(&self, _: u32) -> Option<u32> {
        None
    }

    fn packets(&self, place: u32) -> u64 {
        self.counted(place)[0].0
    }

    fn numbers(&self, place: u32) -> (u32, u32) {
        self.lock().0.tallies.get(2 * place).unwrap().numbers()
    }

    fn follow_services(&self, services: u32) {
        self.lock().0.ways.set_services(services).unwrap();
    }

    fn settle(&self) {}
}

/// A director on a table with the program in front of it. Clients come by the loopback interface, and what goes back there
/// is transmitted; servers are behind another one, and what goes there is redirected.
struct Rig {
    table: Table,
    steering: Steering,
    hand: Hand,
}

const NAT: &str = "10.0.0.100:80";
const DR: &str = "10.0.0.101:80";
const NAT_UDP: &str = "10.0.0.100:53";
const DR_UDP: &str = "10.0.0.101:53";
const IPIP: &str = "10.0.0.102:80";
const GRE: &str = "10.0.0.102:53";
const GUE: &str = "10.0.0.103:80";
const NONE: TunnelChecksum = TunnelChecksum::None;
const NAT_SERVER: &str = "10.1.0.11:8080";
const NAT_UDP_SERVER: &str = "10.1.0.11:5353";

impl Rig {
    fn new() -> Self {
        let table = Table::new(&[
            service(Protocol::Tcp, NAT, Method::Nat, &[(NAT_SERVER, 1)]),
            service(Protocol::Tcp, DR, Method::Dr, &[("10.1.0.12:80", 1)]),
            service(Protocol::Udp, NAT_UDP, Method::Nat, &[(NAT_UDP_SERVER, 1)]),
            service(Protocol::Udp, DR_UDP, Method::Dr, &[("10.1.0.12:53", 1)]),
            service(Protocol::Tcp, IPIP, Method::Tun(Tunnel::Ipip), &[("10.1.0.13:80", 1)]),
            service(Protocol::Udp, GRE, Method::Tun(Tunnel::Gre { checksum: NONE }), &[("10.1.0.14:53", 1)]),
            service(
                Protocol::Tcp,
                GUE,
                Method::Tun(Tunnel::Gue { port: 6080, checksum: NONE }),
                &[("10.1.0.15:80", 1)],
            ),
        ]);
        let mut steering = Steering::load_with(Some(8192)).expect("these tests need root and BPF");
        steering.assume_port(LOOPBACK, 0, OUTSIDE_MAC).unwrap();
        let mut maps = steering.offload().unwrap();
        maps.ways.set_exit(OUTSIDE, LOOPBACK).unwrap();
        maps.ways.set_exit(INSIDE, nix::net::if_::if_nametoindex("inside").unwrap()).unwrap();
        let hand = Hand(Arc::new(Mutex::new((maps, Vec::new()))), table.director.clone());
        table.director.offload().set(Box::new(hand.clone()));
        let rig = Self { table, steering, hand };
        rig.hand.follow_services(rig.table.director.services.load().binding);
        rig.tell_network();
        rig
    }

    /// Tells the program what the engine's next hops are.
    fn tell_network(&self) {
        let hop = |id| {
            let hop = self.table.hops.hop(HopId(id))?;
            Some(NextHop {
                dst_mac: hop.dst_mac,
                src_mac: hop.src_mac,
                exit: hop.port,
                mtu: hop.mtu,
                vlan: hop.vlan,
            })
        };
        let ways = &mut self.hand.lock().0.ways;
        ways.set_hops((0..32).map(hop)).unwrap();
        ways.set_routes(self.table.hops.generation).unwrap();
    }

    /// What the program does to a frame: where it leaves, and how; nothing if it comes up, as it came.
    fn carry(&mut self, frame: &[u8]) -> Option<(u16, Vec<u8>)> {
        let before = self.carried();
        let (verdict, left) = self.steering.run_frame(frame).unwrap();
        let is_counted = self.carried() > before;
        let port = match verdict {
            // The source says by which interface.
            Verdict::Redirect if left[6..12] == INSIDE_MAC => INSIDE,
            Verdict::Redirect if left[6..12] == OUTSIDE_MAC => OUTSIDE,
            other => {
                assert_eq!(other, Verdict::Pass, "there are no sockets");
                assert!(!is_counted && left == frame, "changed, and left to the kernel");
                return None;
            }
        };
        assert!(is_counted);
        Some((port, left))
    }

    fn carried(&self) -> u64 {
        let counters = self.steering.counters().unwrap();
        counters.iter().find(|(outcome, _)| *outcome == Outcome::Offloaded).unwrap().1
    }

    /// What the engine does to a frame.
    fn engine(&mut self, frame: &[u8]) -> (Judged, Vec<u8>) {
        self.table.batch(0, &[frame.to_vec()], OUTSIDE).remove(0)
    }

    fn tick(&mut self) {
        self.table.now.0 += Time::TICK_MS;
    }

    /// The place of a client's connection, if it is carried.
    fn place(&self, client: &str) -> Option<u32> {
        let mut place = None;
        self.table.director.table.list(|slot| {
            if slot.key(xvs::director::conn::Direction::In).source().to_string() == client {
                place = slot.carried().place();
            }
        });
        place
    }

    /// The transport checksum that becomes zero.
    fn edge(&self, flow: &Flow, direction: usize) -> u16 {
        let offer = self.place(&flow.client).map(|place| self.hand.lock().1[place as usize]);
        let flows = offer.map(|offer| [Some(offer.inward), offer.outward]);
        flows.and_then(|flows| flows[direction]).map_or(1, |flow| flow.recipe.l4.0)
    }

    fn traffic(&self) -> Traffic {
        (0..8).map(|id| self.table.director.traffic(ServerId(id))).sum()
    }

    /// Has a flow's connection opened by the engine, and used until it is carried.
    fn open(&mut self, flow: &Flow) {
        if flow.is_tcp {
            self.engine(&tcp(&flow.client, flow.vip, "S"));
        }
        for _ in 0..4 {
            for _ in 0..4 {
                self.engine(&flow.inward());
                if let Some(frame) = flow.outward() {
                    self.engine(&frame);
                }
            }
            self.tick();
        }
        assert!(self.place(&flow.client).is_some(), "{flow:?} is not carried");
    }
}

/// Kinds of flows.
const KINDS: usize = 7;

/// A connection of a client's.
#[derive(Clone, Debug)]
struct Flow {
    client: String,
    vip: &'static str,
    server: Option<&'static str>,
    is_tcp: bool,
}

impl Flow {
    fn of(number: usize) -> Self {
        let (vip, server, is_tcp) = [
            (NAT, Some(NAT_SERVER), true),
            (DR, None, true),
            (NAT_UDP, Some(NAT_UDP_SERVER), false),
            (DR_UDP, None, false),
            (IPIP, None, true),
            (GRE, None, false),
            (GUE, None, true),
        ][number % KINDS];
        Self { client: format!("192.0.2.{}:{}", number % 200 + 1, 20_000 + number), vip, server, is_tcp }
    }

    fn is_wrapped(&self) -> bool {
        [IPIP, GRE, GUE].contains(&self.vip)
    }

    fn frame(&self, from: &str, to: &str) -> Vec<u8> {
        if self.is_tcp { tcp(from, to, "A") } else { udp(from, to, b"some payload, or none") }
    }

    fn inward(&self) -> Vec<u8> {
        self.frame(&self.client, self.vip)
    }

    fn outward(&self) -> Option<Vec<u8>> {
        Some(self.frame(self.server?, &self.client))
    }
}

/// Runs `test` where there is an interface called `inside` besides the loopback one.
fn in_a_namespace(test: impl FnOnce() + Send) {
    let namespaces = Namespaces::new();
    let name = namespaces.add("offload");
    run(&format!("ip -n {name} link add inside type veth peer name other"));
    inside(&name, test);
}

fn mend_ip(frame: &mut [u8]) {
    let len = usize::from(frame[IP] & 15) * 4;
    frame[IP + 10..IP + 12].fill(0);
    let sum = xvs::packet::checksum::of(&frame[IP..(IP + len).min(frame.len())]);
    frame[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
}

/// The frame, but for the identification of an outer packet that may be fragmented: anybody's choice.
fn alike(mut frame: Vec<u8>) -> Vec<u8> {
    let at = if frame[12..14] == [0x81, 0] { IP + 4 } else { IP };
    let is_outer = |frame: &[u8]| frame[at + 12..at + 16] == [10, 1, 0, 1] && frame[at + 6] & 0x40 == 0;
    if frame.len() > at + 20 && is_outer(&frame) {
        assert_eq!(xvs::packet::checksum::of(&frame[at..at + 20]), 0, "the outer checksum");
        frame[at + 4..at + 6].fill(0);
        frame[at + 10..at + 12].fill(0);
    }
    frame
}

#[test]
fn established_packets_leave_as_the_engine_would_send_them_and_are_counted() {
    in_a_namespace(|| {
        let mut rig = Rig::new();
        for number in 0..KINDS {
            let flow = Flow::of(number);
            rig.open(&flow);
            let place = rig.place(&flow.client).unwrap();
            for (direction, frame) in [Some(flow.inward()), flow.outward()].into_iter().enumerate() {
                let Some(frame) = frame else { continue };
                let before = rig.hand.counted(place)[direction];
                let (port, left) = rig.carry(&frame).unwrap_or_else(|| panic!("{flow:?} comes up"));
                let (judged, by_engine) = rig.engine(&frame);
                assert_eq!((judged, alike(by_engine)), (Judged::Transmit(port), alike(left)), "{flow:?}");
                let len = u64::try_from(frame.len() - IP).unwrap();
                let after = rig.hand.counted(place)[direction];
                assert_eq!((after.0 - before.0, after.1 - before.1), (1, len));
            }
        }
    });
}

#[test]
fn fullnat_goes_on_by_its_local_address_and_back() {
    const VIP: &str = "10.0.0.104:80";
    in_a_namespace(|| {
        let mut rig = Rig::new();
        rig.table.change(|draft| {
            let mut pool = service(Protocol::Tcp, VIP, Method::FullNat, &[(NAT_SERVER, 1)]);
            pool.service.locals =
                Locals::new(&["10.1.0.2".parse().unwrap()], "5000".parse().unwrap()).unwrap();
            draft.add_service(pool.service)?;
            draft.add_server(pool.service.key, pool.servers[0]).map(drop)
        });
        let client = "192.0.2.7:20007";
        let frames = [tcp(client, VIP, "A"), tcp(NAT_SERVER, "10.1.0.2:5000", "A")];
        rig.engine(&tcp(client, VIP, "S"));
        for _ in 0..4 {
            for _ in 0..4 {
                frames.iter().for_each(|frame| drop(rig.engine(frame)));
            }
            rig.tick();
        }
        let place = rig.place(client).expect("carried");
        for (direction, frame) in frames.iter().enumerate() {
            let before = rig.hand.counted(place)[direction].0;
            let (port, left) = rig.carry(frame).expect("it does not come up");
            assert_eq!(port, [INSIDE, OUTSIDE][direction]);
            assert_eq!(rig.engine(frame), (Judged::Transmit(port), left));
            assert_eq!(rig.hand.counted(place)[direction].0 - before, 1);
        }
    });
}

#[test]
fn what_may_change_a_connection_or_needs_an_answer_comes_up() {
    in_a_namespace(|| {
        let mut rig = Rig::new();
        for number in 0..KINDS {
            let flow = Flow::of(number);
            rig.open(&flow);
            let plain = flow.inward();
            let edited = |edit: &dyn Fn(&mut Vec<u8>)| {
                let mut frame = plain.clone();
                edit(&mut frame);
                frame
            };
            let mended = |edit: &dyn Fn(&mut Vec<u8>)| {
                edited(&|frame| {
                    edit(frame);
                    mend_ip(frame);
                })
            };
            let mut up = vec![
                ("TTL of 1", mended(&|f| f[IP + 8] = 1)),
                ("TTL of 0", mended(&|f| f[IP + 8] = 0)),
                ("first fragment", mended(&|f| f[IP + 6] = 0x20)),
                ("later fragment", mended(&|f| f[IP + 7] = 1)),
                ("other protocol", mended(&|f| f[IP + 9] = 132)),
                ("IP checksum", edited(&|f| f[IP + 10] ^= 1)),
                ("truncated", plain[..plain.len() - 1].to_vec()),
                ("other MAC", edited(&|f| f[5] ^= 1)),
                ("VLAN", tagged(&plain, 0x8100)),
                ("version", mended(&|f| f[IP] = 0x65)),
                (
                    "IP options",
                    mended(&|f| {
                        f[IP] = 0x46;
                        f.splice(L4..L4, [1, 1, 1, 0]);
                        let len = u16::try_from(f.len() - IP).unwrap();
                        f[IP + 2..IP + 4].copy_from_slice(&len.to_be_bytes());
                    }),
                ),
                (
                    "too long",
                    mended(&|f| {
                        f.resize(IP + 1501, 0);
                        f[IP + 2..IP + 4].copy_from_slice(&1501_u16.to_be_bytes());
                        if !flow.is_tcp {
                            f[L4 + 4..L4 + 6].copy_from_slice(&1481_u16.to_be_bytes());
                        }
                    }),
                ),
            ];
            if flow.is_tcp {
                for (name, flags) in
                    [("SYN", 0x12), ("FIN", 0x11), ("RST", 0x14), ("no ACK", 0x08), ("all of them", 0xff)]
                {
                    up.push((name, edited(&|f| f[L4 + 13] = flags)));
                }
                up.push(("data offset too small", edited(&|f| f[L4 + 12] = 0x40)));
                up.push(("data offset too large", edited(&|f| f[L4 + 12] = 0xf0)));
            } else {
                up.push(("UDP length too small", edited(&|f| f[L4 + 5] = 7)));
                up.push(("UDP length too large", edited(&|f| f[L4 + 4] = 1)));
            }
            for (name, frame) in up {
                assert_eq!(rig.carry(&frame), None, "{name} of {flow:?}");
            }
            assert!(rig.carry(&plain).is_some(), "the plain one goes on");
            assert!(rig.carry(&[&plain[..], &[0; 9]].concat()).is_some(), "so it does with padding");
            assert!(rig.carry(&mended(&|f| f[IP + 6] = 0x40)).is_some(), "and with DF");
        }
    });
}

#[test]
fn a_vlan_is_kept_where_the_hop_has_it_and_comes_up_where_not() {
    in_a_namespace(|| {
        let mut rig = Rig::new();
        // As `tagged` tags.
        let tag = tagged(&Flow::of(0).inward(), 0x8100);
        rig.table.hops.vlans = [Some(u16::from_be_bytes([tag[14], tag[15]]) & 0xfff); 2];
        rig.tell_network();
        let flow = Flow::of(0);
        for frames in 0..16 {
            let frame = if frames == 0 { tcp(&flow.client, NAT, "S") } else { flow.inward() };
            rig.engine(&tagged(&frame, 0x8100));
            rig.engine(&tagged(&flow.outward().unwrap(), 0x8100));
            if frames % 4 == 3 {
                rig.tick();
            }
        }
        for frame in [flow.inward(), flow.outward().unwrap()] {
            assert_eq!(rig.carry(&frame), None);
            let frame = tagged(&frame, 0x8100);
            let (port, left) = rig.carry(&frame).expect("carried");
            assert_eq!(rig.engine(&frame), (Judged::Transmit(port), left));
        }
    });
}

#[test]
fn whatever_changes_brings_the_flow_up_at_once() {
    in_a_namespace(|| {
        let mut rig = Rig::new();
        let flow = Flow::of(0);
        let [inward, outward] = [flow.inward(), flow.outward().unwrap()];
        let goes = |rig: &mut Rig| [rig.carry(&inward).is_some(), rig.carry(&outward).is_some()];
        rig.open(&flow);
        assert_eq!(goes(&mut rig), [true; 2]);

        // A weight concerns new connections only; a server that goes concerns its own.
        rig.table.weigh("tcp:10.0.0.100:80", NAT_SERVER, 7);
        assert_eq!(goes(&mut rig), [true; 2], "another weight");
        rig.table.take_out("tcp:10.0.0.101:80", "10.1.0.12:80");
        assert_eq!(goes(&mut rig), [false; 2], "a server was removed");
        for _ in 0..3 {
            rig.tick();
            rig.engine(&inward);
            rig.engine(&outward);
        }
        assert_eq!(goes(&mut rig), [true; 2], "offered anew");

        // A MAC address is another one, unknown, known again.
        rig.table.hops.macs.insert(11, [2, 0, 0, 0, 0xb, 11]);
        rig.tell_network();
        let (_, left) = rig.carry(&inward).expect("carried");
        assert_eq!(left[..6], [2, 0, 0, 0, 0xb, 11]);
        rig.table.hops.macs.remove(&11);
        rig.tell_network();
        assert_eq!(goes(&mut rig), [false, true], "nobody knows the server's MAC address");
        rig.table.hops.macs.insert(11, [2, 0, 0, 0, 0xc, 11]);
        rig.tell_network();
        assert_eq!(goes(&mut rig), [true; 2]);

        rig.table.hops.generation += 1;
        rig.tell_network();
        assert_eq!(goes(&mut rig), [false; 2], "the routes have changed");
        for _ in 0..3 {
            rig.tick();
            rig.engine(&inward);
            rig.engine(&outward);
        }
        assert_eq!(goes(&mut rig), [true; 2], "offered anew");

        rig.engine(&tcp(&flow.client, NAT, "FA"));
        assert_eq!(goes(&mut rig), [false; 2], "the client closes");
        assert_eq!(rig.table.states()[0].1, State::CloseWait);
    });
}

#[test]
fn the_newest_connection_has_the_replies() {
    in_a_namespace(|| {
        let mut rig = Rig::new();
        rig.table.change(|draft| {
            let pool = service(Protocol::Tcp, "10.0.0.100:81", Method::Nat, &[(NAT_SERVER, 1)]);
            draft.add_service(pool.service)?;
            draft.add_server(pool.service.key, pool.servers[0]).map(drop)
        });
        let older = Flow::of(0);
        rig.open(&older);
        assert!(rig.carry(&older.outward().unwrap()).is_some());
        // From the same port to another service with the same server: the server's packets look alike.
        rig.engine(&tcp(&older.client, "10.0.0.100:81", "S"));
        let reply = older.outward().unwrap();
        assert_eq!(rig.carry(&reply), None);
        let (_, left) = rig.engine(&reply);
        assert_eq!(left[L4..L4 + 2], 81_u16.to_be_bytes());
    });
}

/// Frames like those of established connections, and some that are almost like them.
#[test]
fn whatever_the_program_sends_on_is_what_the_engine_would_send() {
    in_a_namespace(|| {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut rig = Rig::new();
        let mut flows: Vec<Flow> = (0..2 * KINDS).map(Flow::of).collect();
        flows.iter().for_each(|flow| rig.open(flow));
        let (mut carried, mut opened) = (0, flows.len());
        const FRAMES: u32 = 20_000;
        for round in 0..FRAMES {
            let at = random.usize(..flows.len());
            let flow = flows[at].clone();
            let (mut frame, direction) = match flow.outward().filter(|_| random.bool()) {
                Some(frame) => (frame, 1),
                None => (flow.inward(), 0),
            };
            let edge = rig.edge(&flow, direction);
            let is_plain = disturb(&mut frame, &flow, edge, &mut random);
            let what = || format!("seed {seed}, round {round}, {flow:?}: {frame:02x?}");
            let place = rig.place(&flow.client);
            let tally = place.map(|place| rig.hand.counted(place));
            let out = rig.carry(&frame);
            assert!(out.is_some() || !is_plain, "comes up: {}", what());
            let before = (rig.traffic(), rig.table.states());
            let judged = rig.engine(&frame);
            if let Some((port, left)) = out {
                carried += 1;
                let judged = (judged.0, alike(judged.1));
                assert_eq!(judged, (Judged::Transmit(port), alike(left)), "{}", what());
                let after = rig.traffic();
                assert_eq!(rig.table.states(), before.1, "a state has changed: {}", what());
                let by_engine = match direction {
                    0 => (after.in_packets - before.0.in_packets, after.in_bytes - before.0.in_bytes),
                    _ => (after.out_packets - before.0.out_packets, after.out_bytes - before.0.out_bytes),
                };
                let (tally, now) = (tally.unwrap()[direction], rig.hand.counted(place.unwrap())[direction]);
                assert_eq!((now.0 - tally.0, now.1 - tally.1), by_engine, "counters: {}", what());
            } else if rig.place(&flow.client).is_none() {
                // It has ended: another one takes its turn.
                let next = Flow::of(KINDS * (opened / KINDS) + at % KINDS + KINDS);
                opened += KINDS;
                rig.open(&next);
                flows[at] = next;
            }
        }
        assert!(carried > FRAMES / 2, "only {carried} of {FRAMES} frames were carried (seed {seed})");
    });
}

/// Changes a frame in none or some of the ways that frames differ. True if it is still a plain one.
fn disturb(frame: &mut Vec<u8>, flow: &Flow, edge: u16, random: &mut fastrand::Rng) -> bool {
    let mut is_plain = true;
    // A payload of any length, and any checksum: right or wrong, it is mended and not judged.
    let header = if flow.is_tcp { 20 } else { 8 };
    let len = random.usize(..=if flow.is_wrapped() { 1400 } else { 1480 - header });
    frame.truncate(L4 + header);
    frame.extend((0..len).map(|_| random.u8(..)));
    frame[IP + 2..IP + 4].copy_from_slice(&u16::try_from(20 + header + len).unwrap().to_be_bytes());
    frame[IP + 8] = random.u8(2..);
    frame[IP + 1] = random.u8(..);
    frame[IP + 4] = random.u8(..);
    let sum = L4 + if flow.is_tcp { 16 } else { 6 };
    let any = random.u16(..);
    let value = [0, 0xffff, edge, any, any, any][random.usize(..6)];
    frame[sum..sum + 2].copy_from_slice(&value.to_be_bytes());
    if flow.is_tcp {
        frame[L4 + 4..L4 + 12].fill_with(|| random.u8(..));
        frame[L4 + 13] = 0x10 | random.u8(..) & 0xe8;
    } else {
        frame[L4 + 4..L4 + 6].copy_from_slice(&u16::try_from(8 + len).unwrap().to_be_bytes());
    }
    if random.bool() {
        frame.extend(std::iter::repeat_n(0, random.usize(..20)));
    }
    let mut mends = true;
    if random.u8(..4) == 0 {
        is_plain = false;
        match random.u8(..9) {
            0 => frame[IP + 8] = random.u8(..3),
            1 => frame[IP + 6] = random.u8(..),
            2 => frame[IP] = random.u8(..),
            3 if flow.is_tcp => frame[L4 + 12] = random.u8(..),
            3 => frame[L4 + 4 + random.usize(..2)] = random.u8(..),
            4 if flow.is_tcp => frame[L4 + 13] = random.u8(..),
            4 => frame[IP + 3] = random.u8(..),
            5 => mends = random.bool(),
            6 => frame.truncate(random.usize(14..=frame.len())),
            7 => frame[..12].fill_with(|| random.u8(..)),
            _ => {
                let at = random.usize(12..42.min(frame.len()));
                frame[at] ^= 1 << random.u8(..8);
                mends = random.bool();
            }
        }
    }
    if mends && frame.len() >= L4 {
        mend_ip(frame);
    } else if frame.len() >= L4 && random.bool() {
        frame[IP + 10] ^= random.u8(1..);
    }
    if random.u8(..16) == 0 {
        // Priority alone is no VLAN.
        let is_zero = random.bool();
        frame.splice(12..12, [0x81, 0, 0xe0, if is_zero { 0 } else { 9 }]);
        is_plain &= is_zero && !flow.is_wrapped();
    }
    is_plain
}
