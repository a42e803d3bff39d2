//! Persistence: the connections of a client go to the server that its first one went to, as its template says
//! (`ip_vs_sched_persist`). What a template is, the table knows.
//!
//! A template leads past weights and thresholds, for as long as its server is in the service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;

use super::close::first_look;
use super::conn::{NewTemplate, Refused, Slot, SlotId, named};
use super::drops::DropReason;
use super::engine::{Packet, Work};
use super::forward::hops::NextHops;
use super::name::ServiceKey;
use super::open::REMOVAL_SPINS;
use super::pe::Engine;
use super::refusal::Refusal;
use super::server::{Destination, ServerId};
use super::service::Persistence;
use super::services::{FTP, Services, VirtualService};
use crate::packet::flow::FlowKey;
use crate::packet::parse::Parsed;

/// Bytes of a UDP header: the engines there are read what is over UDP.
const UDP_LEN: usize = 8;

impl<H: NextHops> Work<'_, H> {
    /// The server that the client's template leads to, and the template, which the new connection has joined. A
    /// client without one gets one, to the server that the scheduler chooses, or to `server`. `key` is that of the
    /// client's packets, whosever `packet` is.
    pub(super) fn follow(
        &mut self,
        service: &VirtualService,
        persistence: Persistence,
        packet: &Packet<'_>,
        parsed: &Parsed,
        key: &FlowKey,
        server: Option<Destination>,
    ) -> Result<(Destination, SlotId), Refusal> {
        let group = group(&service.service.key, persistence, key);
        let table = &self.director.table;
        // As the kernel does, whatever the comment in ip_vs_pe_sip.c says of falling back to the address.
        let text = || packet.room.get(parsed.l4 + UDP_LEN..parsed.l3 + usize::from(parsed.ip_len));
        let name = |engine: Engine| engine.name_in(key.protocol(), text()?).map(|name| (engine, name));
        let name =
            service.service.engine.map(|engine| name(engine).ok_or(DropReason::Unidentified)).transpose()?;
        let wanted = name.map_or(group, |(_, name)| named(&group, table.digest(&group, name)));
        let hash = table.hash(&wanted);
        for _ in 0..REMOVAL_SPINS {
            let Some(found) = table.find(hash, &wanted) else {
                let server = server.map_or_else(|| self.schedule(service, key), Ok)?;
                match self.new_template(persistence, server, (group, wanted), name)? {
                    Some(new) => return Ok(new),
                    // Another worker had a packet of the same client at the same moment.
                    None => continue,
                }
            };
            let template = table.slot(found.slot);
            match self.leads_to(service, template, key) {
                // A server that begins a connection takes the client over.
                Some(destination) if server.is_none_or(|s| s.id == destination.id) && template.join() => {
                    template.touch(self.tick);
                    return Ok((destination, found.slot));
                }
                // Its server is not there for it, or another worker is just ending it.
                _ => table.invalidate(found.slot),
            }
        }
        Err(DropReason::Removing.into())
    }

    /// The server of a template, if it may still lead to it.
    fn leads_to(&self, service: &VirtualService, template: &Slot, key: &FlowKey) -> Option<Destination> {
        let id = ServerId(template.server_id());
        // The services of FTP and of all ports of an address share their templates.
        let sibling = |port| {
            self.services.find(key.protocol(), SocketAddr::new(key.destination().ip(), port))?.destination(id)
        };
        let destination = service.destination(id).or_else(|| sibling(FTP)).or_else(|| sibling(0))?;
        let quiescent = destination.weight == 0 && self.services.tunables.expire_quiescent_template > 0;
        (!quiescent && !destination.is_down).then_some(*destination)
    }

    /// Enters a template; none if another worker was quicker.
    fn new_template(
        &mut self,
        persistence: Persistence,
        destination: Destination,
        (group, key): (FlowKey, FlowKey),
        name: Option<(Engine, &[u8])>,
    ) -> Result<Option<(Destination, SlotId)>, Refusal> {
        // The port of a server is the template's where all its connections have it.
        let own_port = group.destination().port() != 0;
        let port = if own_port { destination.address.port() } else { 0 };
        let server = SocketAddr::new(destination.address.ip(), port);
        let (table, names) = (&self.director.table, &self.director.names);
        let keep = |(engine, name)| names.keep(engine, name, |stamp| table.passed(stamp));
        let new = NewTemplate {
            key,
            name: name.map_or(0, keep),
            reply_key: FlowKey::across(group.protocol(), server, group.source()),
            server_id: destination.id.0,
            timeout_s: persistence.timeout_s,
            tick: self.tick,
        };
        let counts = &self.director.counts;
        counts.template_opened(destination.id);
        let deadline = first_look(self.tick, persistence.timeout_s);
        match self.shard.insert_template(table, &new, deadline) {
            Ok(id) => Ok(Some((destination, id))),
            Err(refused) => {
                counts.template_closed(destination.id);
                names.forget(new.name, || table.stamp());
                match refused {
                    Refused::Exists(_) => Ok(None),
                    Refused::TableFull => Err(DropReason::TableFull.into()),
                    Refused::BucketFull => Err(DropReason::BucketFull.into()),
                }
            }
        }
    }
}

/// The key of a client's template: from its network to the virtual address and port. The port is 0 where one
/// template is for connections to several: FTP's and those of a service of all ports. A firewall mark stands for
/// protocol and address too.
fn group(service: &ServiceKey, persistence: Persistence, key: &FlowKey) -> FlowKey {
    let client = SocketAddr::new(persistence.netmask.apply(key.source().ip()), 0);
    let destination = key.destination();
    match service {
        // A packet to port 0 has the service's port, so to the kernel it is not one of a mark.
        ServiceKey::Mark { mark, v6 } if destination.port() != 0 => {
            FlowKey::group(0, client, SocketAddr::new(as_address(*mark, *v6), 0))
        }
        _ => {
            let own_port = destination.port() == service.port() && service.port() != FTP;
            let port = if own_port { destination.port() } else { 0 };
            FlowKey::group(key.protocol(), client, SocketAddr::new(destination.ip(), port))
        }
    }
}

/// A firewall mark as the address that stands for it in the key of a template.
fn as_address(mark: NonZeroU32, v6: bool) -> IpAddr {
    let mark = mark.get();
    if v6 { Ipv6Addr::from_bits(u128::from(mark) << 96).into() } else { Ipv4Addr::from_bits(mark).into() }
}

/// The service whose templates are of this protocol and go here, or one that it shares them with.
pub(super) fn service_of(services: &Services, protocol: u8, to: SocketAddr) -> Option<&VirtualService> {
    if protocol != 0 {
        return services.find(protocol, to);
    }
    let (bits, v6) = match to.ip() {
        IpAddr::V4(ip) => (ip.to_bits(), false),
        IpAddr::V6(ip) => (u32::try_from(ip.to_bits() >> 96).unwrap_or_default(), true),
    };
    services.get(&ServiceKey::Mark { mark: NonZeroU32::new(bits)?, v6 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::director::service::Netmask;

    #[test]
    fn one_template_for_what_goes_together() {
        let group = |service: &str, mask: [u8; 4], from: &str, to: &str| {
            let persistence = Persistence { timeout_s: 1, netmask: Netmask::V4(mask.into()) };
            let key = FlowKey::new(6, from.parse().unwrap(), to.parse().unwrap());
            let group = group(&service.parse().unwrap(), persistence, &key);
            assert!(group.is_group());
            format!("{} {} {}", group.protocol(), group.source(), group.destination())
        };
        let (all, net) = ([255; 4], [255, 255, 255, 240]);
        let c = "10.0.1.17:4000";
        assert_eq!(group("tcp:10.0.0.1:80", all, c, "10.0.0.1:80"), "6 10.0.1.17:0 10.0.0.1:80");
        assert_eq!(group("tcp:10.0.0.1:80", net, c, "10.0.0.1:80"), "6 10.0.1.16:0 10.0.0.1:80");
        assert_eq!(group("tcp:10.0.0.1:0", all, c, "10.0.0.1:443"), "6 10.0.1.17:0 10.0.0.1:0");
        assert_eq!(group("tcp:10.0.0.1:21", all, c, "10.0.0.1:21"), "6 10.0.1.17:0 10.0.0.1:0");
        assert_eq!(group("tcp:10.0.0.1:21", all, c, "10.0.0.1:5000"), "6 10.0.1.17:0 10.0.0.1:0");
        assert_eq!(group("fwm:258", all, c, "10.0.0.1:443"), "0 10.0.1.17:0 0.0.1.2:0");
        assert_eq!(group("fwm:258", all, c, "10.0.0.1:0"), "6 10.0.1.17:0 10.0.0.1:0");
    }
}
