//! The mirror's snapshot as the director asks it.

use std::net::IpAddr;

use crate::director::forward::hops::{Hop, HopId, NextHops, Origin, PortId, Route};
use crate::net::{self, Snapshot};
use crate::packet::flow::FlowKey;

impl NextHops for Snapshot {
    #[inline]
    fn generation(&self) -> u32 {
        Snapshot::generation(self)
    }

    fn route(&self, destination: IpAddr, flow_hash: u32) -> Route {
        match Snapshot::route(self, destination, flow_hash) {
            net::Route::Via(id) => Route::Via(HopId(id.0)),
            net::Route::Unknown => {
                let _counted_if_refused = self.ask(destination);
                Route::Unknown
            }
            net::Route::Local => Route::Local,
            net::Route::Unreachable => Route::Unreachable,
        }
    }

    fn common_hop(&self, destination: IpAddr) -> Option<HopId> {
        Snapshot::common_hop(self, destination).map(|id| HopId(id.0))
    }

    #[inline]
    fn hop(&self, id: HopId) -> Option<Hop> {
        let hop = Snapshot::hop(self, net::HopId(id.0))?;
        Some(Hop { port: hop.port, dst_mac: hop.dst_mac, src_mac: hop.src_mac, vlan: hop.vlan, mtu: hop.mtu })
    }

    fn source(&self, destination: IpAddr, flow_hash: u32) -> Option<IpAddr> {
        Snapshot::source(self, destination, flow_hash)
    }

    fn queue(&self, port: PortId, key: &FlowKey) -> Option<u32> {
        self.rss(port)?.queue(key.protocol(), key.source(), key.destination())
    }

    fn back_to(&self, origin: Origin) -> Option<Hop> {
        let Origin { mac, port, vlan } = origin;
        let exit = self.port(port)?;
        Some(Hop { port, dst_mac: mac, src_mac: exit.mac, vlan, mtu: exit.mtu })
    }
}
