//! The ways to servers, as a worker has found them: servers are few and their connections many, so that a new one looks up no
//! route.
//!
//! Only what holds for all flows is remembered ([`NextHops::common_hop`]), and only while the routes' generation stays; where
//! there are several ways, each flow asks for its own. By address, so that it does not matter which servers there are.

use std::cell::OnceCell;
use std::net::IpAddr;

use super::engine::{Work, flow_hash};
use super::forward::hops::{HopId, NextHops, Route};
use super::forward::recipe::Way;
use crate::packet::parse::Parsed;

/// Servers whose ways are remembered: 48 KiB. Those whose addresses share a place take it from each other.
const PLACES: usize = 1024;

const _: () = assert!(size_of::<Option<Known>>() == 48, "as said at PLACES");

#[derive(Clone, Debug)]
struct Known {
    server: IpAddr,
    generation: u32,
    /// The next hop of all flows; none if they differ.
    hop: Option<HopId>,
    /// Where the director's own packets are sent from, once a tunnel has asked.
    source: OnceCell<Option<IpAddr>>,
}

/// What one worker remembers.
#[derive(Debug)]
pub(super) struct Ways(Box<[Option<Known>]>);

impl Default for Ways {
    fn default() -> Self {
        Self(vec![None; PLACES].into())
    }
}

impl Ways {
    /// Servers mostly differ in their last bits.
    #[allow(clippy::cast_possible_truncation, reason = "below the number of places")]
    const fn place(server: IpAddr) -> usize {
        match server {
            IpAddr::V4(ip) => ip.to_bits() as usize % PLACES,
            IpAddr::V6(ip) => ip.to_bits() as usize % PLACES,
        }
    }

    fn to(&self, server: IpAddr, generation: u32) -> Option<&Known> {
        let known = self.0[Self::place(server)].as_ref()?;
        (known.server == server && known.generation == generation).then_some(known)
    }
}

const fn via(hop: HopId, generation: u32) -> Way {
    Way { route: Route::Via(hop), generation }
}

impl<H: NextHops> Work<'_, H> {
    /// The way of a packet's flow to a server by the routes of this moment.
    pub(super) fn way_to(&mut self, server: IpAddr, parsed: &Parsed) -> Way {
        let generation = self.hops.generation();
        let hop = match self.ways.to(server, generation) {
            Some(known) => known.hop,
            None => {
                let hop = self.hops.common_hop(server);
                let way = hop.map_or_else(|| self.way(server, parsed), |hop| via(hop, generation));
                // What is not known yet is asked for again.
                if matches!(way.route, Route::Via(_)) {
                    let known = Known { server, generation, hop, source: OnceCell::new() };
                    self.ways.0[Ways::place(server)] = Some(known);
                }
                return way;
            }
        };
        hop.map_or_else(|| self.way(server, parsed), |hop| via(hop, generation))
    }

    /// The address that a packet's flow to a server behind a tunnel is sent from; `None` if there is none.
    pub(super) fn source_to(&self, server: IpAddr, parsed: &Parsed) -> Option<IpAddr> {
        let ask = || self.hops.source(server, flow_hash(parsed));
        match self.ways.to(server, self.hops.generation()) {
            Some(Known { hop: Some(_), source, .. }) => *source.get_or_init(ask),
            _ => ask(),
        }
    }
}
