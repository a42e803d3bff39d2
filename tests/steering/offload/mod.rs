//! Offloaded flows: the program against the engine, on the same frames. What the program sends on must be what the engine
//! would have sent, byte for byte; what it should leave to the engine must come up as it came.

mod comes_up;
mod fuzz;
mod kinds;
mod long;
mod plain;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xvs::director::conn::Direction;
use xvs::director::engine::Verdict as Judged;
use xvs::director::forward::hops::{HopId, NextHops};
use xvs::director::offload::{Carrier, Offer};
use xvs::director::server::ServerId;
use xvs::director::service::{Method, Protocol};
use xvs::director::stats::Traffic;
use xvs::director::{Director, time::Time};
use xvs::worker::offload::flow_of;
use xvs::xdp::steer::offload::{NextHop, Offload, Place, Why};
use xvs::xdp::steer::{Outcome, Steering, Verdict};

use crate::LOOPBACK;
use crate::netns::{Namespaces, inside, run};
use crate::table::{INSIDE, INSIDE_MAC, OUTSIDE, OUTSIDE_MAC, Table, tcp};
use kinds::{Flow, KINDS};

const IP: usize = 14;
/// Places for flows, two for each connection that any test opens.
const FLOWS: u32 = 1 << 16;

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

impl Rig {
    fn new() -> Self {
        Self::of(Steering::load_with(Some(FLOWS)).expect("these tests need root and BPF"))
    }

    fn of(mut steering: Steering) -> Self {
        let pools: Vec<_> = KINDS.iter().map(kinds::Kind::pool).collect();
        let table = Table::sized(&pools, 4096, 2);
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

    /// How many packets of carried connections came up, by reason.
    fn came_up(&self) -> Vec<(Why, u64)> {
        self.hand.lock().0.came_up.counts().unwrap().into()
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
            if slot.key(Direction::In).source().to_string() == client {
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
        (0..64).map(|id| self.table.director.traffic(ServerId(id))).sum()
    }

    /// Whom the server of a client's connection answers to.
    fn back(&self, client: &str) -> Option<String> {
        let mut back = None;
        self.table.director.table.list(|slot| {
            if slot.key(Direction::In).source().to_string() == client {
                back = Some(slot.key(Direction::Out).destination().to_string());
            }
        });
        back
    }

    /// Has a flow's connection opened by the engine, and used until it is carried.
    fn open(&mut self, flow: &mut Flow) {
        let kind = flow.kind;
        match kind.protocol {
            Protocol::Tcp => drop(self.engine(&tcp(&flow.client, kind.vip, "S"))),
            Protocol::Udp => drop(self.engine(&flow.inward())),
            Protocol::Sctp => drop(self.engine(&flow.chunk(1, None))),
        }
        if matches!(kind.method, Method::Nat | Method::FullNat) {
            flow.back = self.back(&flow.client);
        }
        if kind.protocol == Protocol::Sctp {
            // INIT-ACK, COOKIE-ECHO, COOKIE-ACK.
            for (chunk, is_out) in [(2, true), (10, false), (11, true)] {
                if !is_out || flow.back.is_some() {
                    self.engine(&flow.chunk(chunk, flow.back.as_deref().filter(|_| is_out)));
                }
            }
        }
        self.use_(flow);
        assert!(self.place(&flow.client).is_some(), "{flow:?} is not carried");
    }

    /// Has a connection used for some ticks.
    fn use_(&mut self, flow: &Flow) {
        for _ in 0..4 {
            for _ in 0..4 {
                self.engine(&flow.inward());
                if let Some(frame) = flow.outward() {
                    self.engine(&frame);
                }
            }
            self.tick();
        }
    }

    /// A connection of this number, carried.
    fn opened(&mut self, number: usize) -> Flow {
        let mut flow = Flow::of(number);
        self.open(&mut flow);
        flow
    }
}

/// Runs `test` where there is an interface called `inside` besides the loopback one.
fn in_a_namespace(test: impl FnOnce() + Send) {
    let namespaces = Namespaces::new();
    let name = namespaces.add("offload");
    run(&format!("ip -n {name} link add inside type veth peer name other"));
    inside(&name, test);
}

/// Mends the checksum of an IPv4 header; IPv6 has none.
fn mend_ip(frame: &mut [u8]) {
    if frame[12..14] != [8, 0] {
        return;
    }
    let len = usize::from(frame[IP] & 15) * 4;
    frame[IP + 10..IP + 12].fill(0);
    let sum = xvs::packet::checksum::of(&frame[IP..(IP + len).min(frame.len())]);
    frame[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
}

/// The frame, but for the identification of an outer packet that may be fragmented: anybody's choice.
fn alike(mut frame: Vec<u8>) -> Vec<u8> {
    let at = if frame[12..14] == [0x81, 0] { IP + 4 } else { IP };
    let is_outer = |frame: &[u8]| {
        frame[at] == 0x45 && frame[at + 12..at + 16] == [10, 1, 0, 1] && frame[at + 6] & 0x40 == 0
    };
    if frame.len() > at + 20 && is_outer(&frame) {
        assert_eq!(xvs::packet::checksum::of(&frame[at..at + 20]), 0, "the outer checksum");
        frame[at + 4..at + 6].fill(0);
        frame[at + 10..at + 12].fill(0);
    }
    frame
}
