//! Connections whose packets go on without coming up here: which may, what is told of them, and how they come back.
//!
//! ```text
//! worker, at a connection's first packets and the first of a tick: [`Offer`] ──> carrier: tells the driver's program, counts
//!         <── the packets that the program leaves to it: all that may change the connection
//! whoever ends a connection, or changes its state: one store, and its packets come up again
//! timers, listings: ask the carrier what was counted and when the last packet came
//! ```
//!
//! A worker owns every decision: it offers only what it has just done itself to a packet, and only connections in which
//! nothing but addresses, ports, TTL and MAC addresses change from packet to packet. What else a packet could change is
//! told by two numbers: of the services (`Services::binding`) and of the routes
//! ([`NextHops::generation`]). A flow goes by itself only while both are what they were when it was offered, so a change of
//! either brings all of them up, where they are treated like any packet, and offered anew.
//!
//! A slot's [`Carried`] word says where it stands:
//!
//! ```text
//! 0 ── offered ──> serial ── taken ──> serial, place ──> 0, by whoever withdraws it
//! ```
//!
//! A serial number is given once, so what is said late of a connection that is gone is not taken for another one's.
//!
//! Must not know the program, its maps, or threads.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst, fence};

use super::Director;
use super::conn::state::{State, Status};
use super::conn::{Direction, FEW, Found, Slot, SlotId};
use super::engine::{Work, hash_of_ports};
use super::forward::hops::{HopId, NextHops, Route};
use super::forward::recipe::{Recipe, Rewrite, Way};
use super::server::ServerId;
use super::service::Protocol;
use crate::packet::encap::{Outer, Tunnel, TunnelChecksum};
use crate::packet::flow::FlowKey;

/// One direction of a connection: what is done to packets with `key`, as plain data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// What its packets carry when they arrive.
    pub key: FlowKey,
    /// What becomes of it besides TTL and MAC addresses.
    pub leaves: Leaves,
    /// Differences of the checksums.
    pub recipe: Recipe,
    /// Where they go.
    pub hop: HopId,
}

/// What becomes of a packet besides TTL and MAC addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// Nothing (DR).
    AsItCame,
    /// It carries these addresses and ports, of its own IP version (NAT, FULLNAT); an SCTP packet the ports it came with.
    With(FlowKey),
    /// It is wrapped into this one, without a checksum of the tunnel's (TUN).
    /// Identifications are the carrier's choice.
    In(Outer),
}

/// A connection that may be carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its place in the table.
    pub slot: SlotId,
    /// The number of this offer, not 0.
    pub serial: u32,
    /// The server that its packets are counted for.
    pub server: ServerId,
    /// The number of the services by which it may be.
    pub services: u32,
    /// The number of the routes by which it may be.
    pub routes: u32,
    /// The client's packets.
    pub inward: Flow,
    /// The server's, if they come through the director.
    pub outward: Option<Flow>,
}

/// Who carries flows. All of it is asked for a connection's first packets, and for others at most once a tick.
pub trait Carrier: fmt::Debug + Send + Sync {
    /// Takes an offer, or not: true if it will be looked at. Never blocks.
    fn offer(&self, offer: Offer) -> bool;

    /// Lets the connection's packets come up from now on. Never blocks.
    fn end(&self, place: u32);

    /// The tick of the last packet carried at this place, if there was any. Never blocks.
    fn seen(&self, place: u32) -> Option<u32>;

    /// How many of the client's packets were carried at this place. Never blocks.
    fn packets(&self, place: u32) -> u64;

    /// The numbers of services and routes by which it carries what is at this place.
    fn numbers(&self, place: u32) -> (u32, u32);

    /// Lets everything come up that was offered by another number of the services.
    fn follow_services(&self, services: u32);

    /// Counts what was carried until now for servers and connections. For the control plane: it takes a lock.
    fn settle(&self);
}

/// Where a connection stands: a word of its slot.
#[derive(Debug)]
#[repr(transparent)]
pub struct Carried(AtomicU64);

impl Carried {
    const fn word(serial: u32, place: Option<u32>) -> u64 {
        (serial as u64) << 32
            | match place {
                Some(place) => place as u64 + 1,
                None => 0,
            }
    }

    #[allow(clippy::cast_possible_truncation, reason = "the lower half")]
    const fn place_in(word: u64) -> Option<u32> {
        (word as u32).checked_sub(1)
    }

    /// True if it is neither carried nor offered.
    fn is_free(&self) -> bool {
        self.0.load(Relaxed) == 0
    }

    /// Where it is carried, if it is.
    pub fn place(&self) -> Option<u32> {
        Self::place_in(self.0.load(Relaxed))
    }

    /// It is offered under this number: true unless it is offered or carried already.
    fn offer(&self, serial: u32) -> bool {
        self.0.compare_exchange(0, Self::word(serial, None), SeqCst, Relaxed).is_ok()
    }

    /// What was offered under this number is carried at this place: true unless it was withdrawn.
    pub fn take(&self, serial: u32, place: u32) -> bool {
        let (offered, taken) = (Self::word(serial, None), Self::word(serial, Some(place)));
        self.0.compare_exchange(offered, taken, SeqCst, Relaxed).is_ok()
    }

    /// What was offered under this number is not carried, at this place or at all: true unless it was withdrawn.
    pub fn give_back(&self, serial: u32, place: Option<u32>) -> bool {
        self.0.compare_exchange(Self::word(serial, place), 0, SeqCst, Relaxed).is_ok()
    }

    /// True if it is carried at this place under this number.
    pub fn is(&self, serial: u32, place: u32) -> bool {
        self.0.load(Relaxed) == Self::word(serial, Some(place))
    }
}

/// Packets of the client's after which a connection is offered: unless told otherwise, and at most.
pub const AFTER: u32 = 8;

/// The director's side.
#[derive(Debug)]
pub struct Offload {
    carrier: OnceLock<Box<dyn Carrier>>,
    serials: AtomicU32,
    after: AtomicU32,
}

impl Default for Offload {
    fn default() -> Self {
        Self { carrier: OnceLock::new(), serials: AtomicU32::new(0), after: AtomicU32::new(AFTER) }
    }
}

impl Offload {
    /// Carries by `carrier` from now on; for once, before the workers start.
    pub fn set(&self, carrier: Box<dyn Carrier>) {
        let _only_once = self.carrier.set(carrier);
    }

    /// Offers connections whose client has sent more than so many packets, 0..=[`AFTER`], from now on.
    pub fn set_after(&self, packets: u32) {
        self.after.store(packets, Relaxed);
    }

    fn carrier(&self) -> Option<&dyn Carrier> {
        self.carrier.get().map(|carrier| &**carrier)
    }

    /// Lets a connection's packets come up from now on, and notes when its last one came. Call after whatever has
    /// changed it has been written.
    pub(super) fn withdraw(&self, slot: &Slot) {
        let Some(carrier) = self.carrier() else { return };
        // What has changed is seen by who offers it now, or its offer is seen here (`Work::offer`).
        fence(SeqCst);
        if slot.carried.is_free() {
            return;
        }
        if let Some(place) = Carried::place_in(slot.carried.0.swap(0, SeqCst)) {
            carrier.end(place);
            came_back(carrier, slot, place);
        }
    }

    /// Notes what was carried at this place, of a connection that is carried there no more and was not withdrawn.
    pub fn came_back(&self, slot: &Slot, place: u32) {
        if let Some(carrier) = self.carrier() {
            came_back(carrier, slot, place);
        }
    }

    /// Packets of the client's, as long as they are few, those that were carried among them: see [`Slot::few_packets`].
    pub(super) fn few_packets(&self, slot: &Slot) -> Option<u32> {
        let few = slot.few_packets()?;
        let carried =
            self.carrier().zip(slot.carried.place()).map_or(0, |(carrier, place)| carrier.packets(place));
        u32::try_from(carried).ok().and_then(|carried| few.checked_add(carried)).filter(|&few| few <= FEW)
    }

    /// Notes when the last packet of a connection came, if that was carried.
    pub fn catch_up(&self, slot: &Slot) {
        if let Some(carrier) = self.carrier()
            && let Some(place) = slot.carried.place()
        {
            catch_up(carrier, slot, place);
        }
    }

    /// Lets everything come up that was offered by another number of the services.
    pub(super) fn follow_services(&self, services: u32) {
        if let Some(carrier) = self.carrier() {
            carrier.follow_services(services);
        }
    }

    /// Counts what was carried until now for servers and connections: before either is shown.
    pub fn settle(&self) {
        if let Some(carrier) = self.carrier() {
            carrier.settle();
        }
    }
}

fn came_back(carrier: &dyn Carrier, slot: &Slot, place: u32) {
    catch_up(carrier, slot, place);
    slot.add_packets(u32::try_from(carrier.packets(place)).unwrap_or(u32::MAX));
}

fn catch_up(carrier: &dyn Carrier, slot: &Slot, place: u32) {
    if let Some(tick) = carrier.seen(place) {
        slot.catch_up(tick);
    }
}

/// True for the one state in which no packet changes anything but those that come up anyway.
fn is_steady(protocol: u8, status: Status) -> bool {
    !status.removed
        && match Protocol::from_number(protocol) {
            Some(Protocol::Tcp) => status.state == State::Established,
            Some(Protocol::Udp) => true,
            Some(Protocol::Sctp) => status.state == State::SctpEstablished,
            None => false,
        }
}

impl<H: NextHops> Work<'_, H> {
    /// Offers a connection if there is who carries it, and if nothing in it but addresses, TTL and MAC addresses changes
    /// from packet to packet. For the client's first packets, and the first packet of a tick.
    #[cold]
    #[inline(never)]
    pub(super) fn offer(&self, slot: &Slot, id: SlotId) {
        let offload = &self.director.offload;
        let Some(carrier) = offload.carrier() else { return };
        if slot.few_packets().is_some_and(|packets| packets <= offload.after.load(Relaxed)) {
            return;
        }
        let (services, routes) = (self.services.binding, self.hops.generation());
        if let Some(place) = slot.carried.place() {
            if carrier.numbers(place) == (services, routes) {
                return;
            }
            offload.withdraw(slot);
        }
        let Some(mut offer) = self.offer_of(slot, id) else { return };
        // One number in four thousand million is none.
        offer.serial = offload.serials.fetch_add(1, Relaxed).wrapping_add(1).max(1);
        if !slot.carried.offer(offer.serial) {
            return;
        }
        // Who changes it now sees that it is offered, or what was changed is seen here (`Offload::withdraw`).
        fence(SeqCst);
        let again = self.offer_of(slot, id).map(|again| Offer { serial: offer.serial, ..again });
        if again != Some(offer) || !carrier.offer(offer) {
            offload.withdraw(slot);
        }
    }

    fn offer_of(&self, slot: &Slot, id: SlotId) -> Option<Offer> {
        let key = slot.key(Direction::In);
        let (recipe, aside) = slot.recipe_and_aside(Direction::In);
        let server = ServerId(slot.server_id());
        let may =
            aside == 0 && is_steady(key.protocol(), slot.status()) && self.services.is_available(server);
        if !may {
            return None;
        }
        // A template is told of the first reply, which the workers have to see for that.
        if recipe.rewrite == Rewrite::Tuple && self.awaits_reply(slot) {
            return None;
        }
        let with = |direction: Direction| Leaves::With(slot.key(direction.opposite()).reversed());
        // A CRC is no sum: what other ports make of it depends on the packet.
        if key.protocol() == Protocol::Sctp as u8
            && recipe.rewrite == Rewrite::Tuple
            && slot.key(Direction::Out).reversed().ports() != key.ports()
        {
            return None;
        }
        let leaves = match recipe.rewrite {
            Rewrite::None => Leaves::AsItCame,
            Rewrite::Tuple => with(Direction::In),
            Rewrite::Wrap => Leaves::In(self.outer(slot, server, &key)?),
            Rewrite::Translate => return None,
        };
        let inward = self.flow(slot, id, Direction::In, leaves)?;
        // Both or none: where a server's packets go may be learned from the client's.
        let outward = match recipe.rewrite {
            Rewrite::Tuple => Some(self.flow(slot, id, Direction::Out, with(Direction::Out))?),
            Rewrite::None | Rewrite::Wrap | Rewrite::Translate => None,
        };
        let (services, routes) = (self.services.binding, self.hops.generation());
        Some(Offer { slot: id, serial: 0, server, services, routes, inward, outward })
    }

    /// Whether a server's packet would change the template of a connection: see `Slot::assure`.
    fn awaits_reply(&self, slot: &Slot) -> bool {
        slot.template().is_some_and(|id| {
            let template = self.director.table.slot(id);
            template.is_template() && template.status().state == State::None
        })
    }

    /// What a client's packets are wrapped into, if the carrier can do that: see `Work::wrap`.
    fn outer(&self, slot: &Slot, server: ServerId, key: &FlowKey) -> Option<Outer> {
        let tunnel = self.services.tunnel(server);
        let is_plain = match tunnel {
            Tunnel::Ipip => true,
            Tunnel::Gue { checksum, .. } | Tunnel::Gre { checksum } => checksum == TunnelChecksum::None,
        };
        let (source, destination) = (slot.outer_source()?, slot.server_ip());
        if self.director.path_mtus.of(destination, self.tick).is_some() {
            // The carrier knows the next hop's only.
            return None;
        }
        (is_plain && source.is_ipv4() == destination.is_ipv4()).then_some(Outer {
            tunnel,
            source,
            destination,
            copies_df: self.services.tunables.pmtu_disc != 0,
            identification: 0,
            flow_hash: key.ports() ^ key.source_bits(),
        })
    }

    fn flow(&self, slot: &Slot, id: SlotId, direction: Direction, leaves: Leaves) -> Option<Flow> {
        let (key, recipe, mut way) = (slot.key(direction), slot.recipe(direction), slot.way(direction));
        if way.generation != self.hops.generation() || way.route == Route::Unknown {
            // No packet of this direction came yet, or the client's neighbour is known by now: what is only learned from
            // its packets cannot be told to the carrier.
            let destination = match direction {
                Direction::In => slot.server_ip(),
                Direction::Out => slot.key(Direction::In).source().ip(),
            };
            let route = self.hops.route(destination, hash_of_ports(key.ports()));
            way = Way { route, generation: self.hops.generation() };
            slot.set_way(direction, way);
        }
        let Route::Via(hop) = way.route else { return None };
        let table = &self.director.table;
        // The server's packets are those of the newest connection with their key.
        let is_its_own = table.find(table.hash(&key), &key) == Some(Found { slot: id, direction });
        if self.hops.hop(hop).is_none() || !is_its_own {
            return None;
        }
        Some(Flow { key, leaves, recipe, hop })
    }
}

impl Director {
    /// What is known of carried connections, and who carries them.
    pub const fn offload(&self) -> &Offload {
        &self.offload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_taken_once_and_what_comes_late_changes_nothing() {
        let carried = Carried(AtomicU64::new(0));
        assert!(carried.offer(7) && !carried.offer(8), "offered already");
        assert_eq!(carried.place(), None);
        assert!(!carried.take(6, 3) && carried.take(7, 0) && !carried.take(7, 1));
        assert_eq!((carried.place(), carried.is(7, 0), carried.is(7, 1)), (Some(0), true, false));
        assert!(!carried.give_back(7, None) && carried.give_back(7, Some(0)) && carried.is_free());
        assert!(carried.offer(8) && !carried.take(7, 5), "the connection of number 7 is gone");
        assert!(carried.give_back(8, None) && carried.is_free());
    }

    #[test]
    fn established_is_steady_and_nothing_that_ends() {
        let status = |state| Status { state, inactive: false, no_output: false, removed: false };
        let steady: Vec<_> = State::ALL.into_iter().filter(|&state| is_steady(6, status(state))).collect();
        assert_eq!(steady, [State::Established]);
        assert!(is_steady(17, status(State::None)));
        let others = [State::None, State::SctpInit, State::SctpCookieEchoed, State::SctpShutdownReceived];
        assert!(is_steady(132, status(State::SctpEstablished)));
        assert!(!others.into_iter().any(|state| is_steady(132, status(state))));
        assert!(!is_steady(17, Status { removed: true, ..status(State::None) }));
    }
}
