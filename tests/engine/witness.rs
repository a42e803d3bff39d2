//! The steering program beside the engine: each frame of the engine's tests is shown to it first, with every connection
//! offloaded that may be. What it sends on is what the engine sends, byte for byte; and a plain packet of an offloaded
//! connection does not come up.
//!
//! Only in the test binary `carried`, since it needs root.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use etherparse::{EtherType, NetSlice, SlicedPacket, TransportSlice};
use xvs::director::Director;
use xvs::director::engine::Verdict as Judged;
use xvs::director::forward::hops::{HopId, NextHops};
use xvs::director::offload::{Carrier, Flow, Offer};
use xvs::packet::flow::FlowKey;
use xvs::worker::offload::flow_of;
use xvs::xdp::steer::offload::{NextHop, Offload, Place};
use xvs::xdp::steer::{Steering, Verdict};

use super::{Hops, INSIDE, INSIDE_ADDRESS, INSIDE_MAC, OUTSIDE, OUTSIDE_MAC, PortId};

/// Where trial frames come from, and where none goes.
const LOOPBACK: u32 = 1;
/// Flows that there is room for, two of each connection.
const FLOWS: u32 = 4096;
/// Frames of a test that are looked at: floods and such are alike from there on.
const MOST_FRAMES: usize = 1000;
/// What a tunnel may add.
const OVERHEAD: usize = 48;
const IP: usize = 14;
/// Frames that the kernel runs it on.
const RUN: Range<usize> = IP..4000;

/// Loaded with the first offer, since many a test makes none, and used again by other tests.
struct Program {
    steering: Steering,
    maps: Offload,
}

static IDLE: Mutex<Vec<Program>> = Mutex::new(Vec::new());

fn idle() -> MutexGuard<'static, Vec<Program>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Program {
    fn take(services: u32) -> Self {
        let idle = idle().pop();
        let mut program = idle.unwrap_or_else(Self::load);
        program.maps.ways.set_services(services).unwrap();
        program
    }

    fn load() -> Self {
        let mut steering = Steering::load_with(Some(FLOWS)).expect("these tests need root and BPF");
        steering.assume_port(LOOPBACK, 0, OUTSIDE_MAC).unwrap();
        let mut maps = steering.offload().unwrap();
        for port in [OUTSIDE, INSIDE] {
            maps.ways.set_exit(port, LOOPBACK).unwrap();
        }
        Self { steering, maps }
    }
}

/// What is offloaded: place `n` is that of offer `n`.
#[derive(Default)]
struct Carried {
    program: Option<Program>,
    offers: Vec<Offer>,
    services: u32,
}

impl Drop for Carried {
    fn drop(&mut self) {
        let Some(mut program) = self.program.take() else { return };
        for (place, offer) in (0..).zip(&self.offers) {
            for (tally, flow) in (2 * place..).zip([Some(offer.inward), offer.outward]) {
                let Some(flow) = flow else { continue };
                program.maps.tallies.get(tally).unwrap().end();
                program.maps.flows.remove(&flow_of(&flow).0, Place { tally, serial: offer.serial }).unwrap();
            }
        }
        idle().push(program);
    }
}

/// The director owns it.
#[derive(Clone)]
struct Hand(Arc<Mutex<Carried>>, Weak<Director>);

impl fmt::Debug for Hand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hand")
    }
}

impl Hand {
    fn lock(&self) -> MutexGuard<'_, Carried> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Carrier for Hand {
    fn offer(&self, offer: Offer) -> bool {
        let Carried { program, offers, services } = &mut *self.lock();
        let place = u32::try_from(offers.len()).unwrap();
        if 2 * place >= FLOWS {
            return false;
        }
        let maps = &mut program.get_or_insert_with(|| Program::take(*services)).maps;
        offers.push(offer);
        for (tally, flow) in (2 * place..).zip([Some(offer.inward), offer.outward]) {
            let Some(flow) = flow else { continue };
            maps.tallies.get(tally).unwrap().begin(offer.serial, offer.services, offer.routes);
            let (key, edit) = flow_of(&flow);
            maps.flows.set(&key, &edit, Place { tally, serial: offer.serial }).unwrap();
        }
        self.1.upgrade().unwrap().table.slot(offer.slot).carried().take(offer.serial, place)
    }

    fn end(&self, place: u32) {
        let carried = self.lock();
        let tallies = &carried.program.as_ref().unwrap().maps.tallies;
        (2 * place..2 * place + 2).for_each(|tally| tallies.get(tally).unwrap().end());
    }

    /// Whatever is carried here goes through the engine, too.
    fn seen(&self, _: u32) -> Option<u32> {
        None
    }

    fn packets(&self, _: u32) -> u64 {
        0
    }

    fn numbers(&self, place: u32) -> (u32, u32) {
        self.lock().program.as_ref().unwrap().maps.tallies.get(2 * place).unwrap().numbers()
    }

    fn follow_services(&self, services: u32) {
        let carried = &mut *self.lock();
        carried.services = services;
        if let Some(program) = &mut carried.program {
            program.maps.ways.set_services(services).unwrap();
        }
    }

    fn settle(&self) {}
}

/// Sees every frame before the engine does, and what became of it.
pub struct Witness {
    hand: Hand,
    seen: usize,
    /// Frames that the program has sent on, as the engine did.
    pub carried: usize,
    /// Of each frame of the batch: where the program sent it, and how.
    left: Vec<Option<(PortId, Vec<u8>)>>,
}

impl Witness {
    /// One for the connections of `director`, in the binary that has witnesses.
    pub fn of(director: &Arc<Director>) -> Option<Self> {
        (env!("CARGO_CRATE_NAME") == "carried").then(|| {
            let hand = Hand(Arc::default(), Arc::downgrade(director));
            director.offload().set_after(0);
            director.offload().set(Box::new(hand.clone()));
            Self { hand, seen: 0, carried: 0, left: Vec::new() }
        })
    }

    /// Shows the program a batch, on the network that the engine knows.
    pub fn before(&mut self, hops: &Hops, frames: &[Vec<u8>]) {
        let Carried { program, offers, services } = &mut *self.hand.lock();
        self.left.clear();
        let Some(Program { steering, maps }) = program else { return };
        if self.seen > MOST_FRAMES {
            return;
        }
        self.seen += frames.len();
        let hop = |id| {
            let hop = hops.hop(HopId(id))?;
            let (exit, mtu, vlan) = (hop.port, hop.mtu, hop.vlan);
            Some(NextHop { dst_mac: hop.dst_mac, src_mac: hop.src_mac, exit, mtu, vlan })
        };
        maps.ways.set_hops((0..32).map(hop)).unwrap();
        maps.ways.set_routes(hops.generation).unwrap();

        let director = self.hand.1.upgrade().unwrap();
        let holds = |(place, offer): (u32, &Offer)| {
            director.table.slot(offer.slot).carried().is(offer.serial, place)
                && (offer.services, offer.routes) == (*services, hops.generation)
        };
        for frame in frames {
            let out = run(steering, frame);
            if out.is_none()
                && let Some(key) = key_of_a_plain_packet(frame, hops)
            {
                // What is told of a key last is what the program knows.
                let flows = |offer: &Offer| [Some(offer.inward), offer.outward].into_iter().flatten();
                let is_its = |flow: &Flow| flow.key == key && hops.hop(flow.hop).is_some();
                let last =
                    (0..).zip(offers.iter()).filter(|(_, offer)| flows(offer).any(|f| f.key == key)).last();
                let should = last.is_some_and(|last| holds(last) && flows(last.1).any(|flow| is_its(&flow)));
                assert!(!should, "comes up, though it is offloaded: {frame:02x?}");
            }
            self.left.push(out);
        }
    }

    /// Compares what the engine did to the same batch.
    pub fn after(&mut self, batch: &[(Judged, Vec<u8>)]) {
        for (left, (judged, frame)) in self.left.iter().zip(batch) {
            let Some((port, left)) = left else { continue };
            assert_eq!(*judged, Judged::Transmit(*port), "offloaded it was sent on: {left:02x?}");
            assert_eq!(alike(frame), alike(left), "the engine's (left) and the program's");
            self.carried += 1;
        }
    }
}

/// What the program does to a frame: where it leaves, and how; nothing if it comes up, as it came.
fn run(steering: &mut Steering, frame: &[u8]) -> Option<(PortId, Vec<u8>)> {
    if !RUN.contains(&frame.len()) {
        return None;
    }
    let (verdict, left) = steering.run_frame(frame).unwrap();
    match verdict {
        Verdict::Redirect if left[6..12] == INSIDE_MAC => Some((INSIDE, left)),
        Verdict::Redirect if left[6..12] == OUTSIDE_MAC => Some((OUTSIDE, left)),
        other => {
            assert_eq!((other, &left[..]), (Verdict::Pass, frame), "there are no sockets");
            None
        }
    }
}

/// The key of a packet that may change nothing: TCP or UDP without any of what the program leaves to the engine.
fn key_of_a_plain_packet(frame: &[u8], hops: &Hops) -> Option<FlowKey> {
    let sliced = SlicedPacket::from_ethernet(frame).ok()?;
    let is_for_us = frame[..6] == OUTSIDE_MAC && sliced.link_exts.is_empty() && hops.vlans == [None; 2];
    let fits =
        RUN.contains(&frame.len()) && frame.len() + OVERHEAD <= usize::from(hops.mtu) && hops.mtu >= 1280;
    let (protocol, addresses): (_, (IpAddr, IpAddr)) =
        match sliced.net.as_ref().filter(|_| is_for_us && fits)? {
            NetSlice::Ipv4(ip) if frame[12..14] == EtherType::IPV4.0.to_be_bytes() => {
                let header = ip.header();
                let is_whole = header.ihl() == 5 && !header.is_fragmenting_payload() && header.ttl() > 1;
                let is_right = header.to_header().calc_header_checksum() == header.header_checksum();
                (is_whole && is_right).then(|| {
                    (header.protocol(), (header.source_addr().into(), header.destination_addr().into()))
                })?
            }
            NetSlice::Ipv6(ip) if ip.extensions().is_empty() && ip.header().hop_limit() > 1 => {
                let header = ip.header();
                (header.next_header(), (header.source_addr().into(), header.destination_addr().into()))
            }
            _ => return None,
        };
    let ports = match sliced.transport? {
        TransportSlice::Tcp(tcp) if tcp.ack() && !(tcp.syn() || tcp.fin() || tcp.rst()) => {
            (tcp.source_port(), tcp.destination_port())
        }
        TransportSlice::Udp(udp) if udp.length() >= 8 => (udp.source_port(), udp.destination_port()),
        _ => return None,
    };
    let [source, destination] = [(addresses.0, ports.0), (addresses.1, ports.1)].map(SocketAddr::from);
    Some(FlowKey::new(protocol.0, source, destination))
}

/// The frame, but for the identification of an outer packet that may be fragmented: anybody's choice.
fn alike(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let at = if frame[12..14] == [0x81, 0] { IP + 4 } else { IP };
    let is_outer = frame.len() > at + 20
        && frame[at] == 0x45
        && frame[at + 12..at + 16] == INSIDE_ADDRESS.octets()
        && frame[at + 6] & 0x40 == 0;
    if is_outer {
        assert_eq!(xvs::packet::checksum::of(&frame[at..at + 20]), 0, "the outer checksum");
        frame[at + 4..at + 6].fill(0);
        frame[at + 10..at + 12].fill(0);
    }
    frame
}
