//! Connections that servers begin: a request of a server's own, or an answer to a packet that was forwarded by itself
//! (`ip_vs_new_conn_out`, for services with an engine only). The client sees the virtual address as if it had begun.

use std::net::SocketAddr;

use crate::director::conn::state::{State, Status};
use crate::director::conn::{Direction, Found, NewConnection, Replies};
use crate::director::drops::DropReason;
use crate::director::engine::{Packet, Work};
use crate::director::forward::Plan;
use crate::director::forward::hops::{NextHops, Origin, Route};
use crate::director::forward::recipe::Way;
use crate::director::fragments::Fate;
use crate::director::name::ServiceKey;
use crate::director::open::Begun;
use crate::director::refusal::Refusal;
use crate::director::server::Destination;
use crate::director::service::{Method, Protocol};
use crate::director::services::VirtualService;
use crate::packet::flow::FlowKey;
use crate::packet::parse::Parsed;

impl<'a, H: NextHops> Work<'a, H> {
    /// The connection that a server's packet begins, if it is a NAT server of a service that has an engine.
    pub(in crate::director) fn begin_outward(
        &mut self,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
    ) -> Option<Result<Begun<'a>, Refusal>> {
        let server = parsed.key.source();
        // As in the kernel for UDP only: a server's ports of other protocols are chosen anew for what it begins.
        let is_server = parsed.key.protocol() == Protocol::Udp as u8
            && self.services.is_nat_server(Protocol::Udp as u8, server);
        let (service, vip, destination) = is_server.then(|| self.engine_of(server)).flatten()?;
        let client = FlowKey::new(parsed.key.protocol(), parsed.key.destination(), vip);
        self.open_outward(service, packet, parsed, client, destination).transpose()
    }

    /// The service with an engine that this is a server of.
    fn engine_of(&self, server: SocketAddr) -> Option<(&'a VirtualService, SocketAddr, Destination)> {
        self.services.all().find_map(|service| {
            let ServiceKey::Address { protocol: Protocol::Udp, address: vip } = service.service.key else {
                return None;
            };
            service.service.engine?;
            let of_all_ports = SocketAddr::new(server.ip(), 0);
            let place = service.position(server).or_else(|| service.position(of_all_ports))?;
            let destination = service.destinations.get(place).filter(|d| d.method == Method::Nat)?;
            let port = if vip.port() == 0 { server.port() } else { vip.port() };
            Some((service.as_ref(), SocketAddr::new(vip.ip(), port), *destination))
        })
    }

    fn open_outward(
        &mut self,
        service: &VirtualService,
        packet: &mut Packet<'_>,
        parsed: &Parsed,
        client: FlowKey,
        destination: Destination,
    ) -> Result<Option<Begun<'a>>, Refusal> {
        let template = match service.service.persistence {
            Some(persistence) => {
                match self.follow(service, persistence, packet, parsed, &client, Some(destination)) {
                    Ok((_, template)) => Some(template),
                    // What does not tell whose it is goes its way as any server's packet.
                    Err(Refusal { reason: DropReason::Unidentified, .. }) => return Ok(None),
                    Err(refusal) => return Err(refusal),
                }
            }
            None => None,
        };
        let plan = Plan::nat(&client, parsed.key.source());
        let way = self.way(client.source().ip(), parsed);
        let recipe = plan.server.unwrap_or(plan.client);
        if service.service.one_packet {
            if let Some(template) = template {
                self.director.table.slot(template).assure();
            }
            self.director.leave(template);
            self.stats.connection(destination.id);
            self.stats.packet_out(destination.id, parsed.ip_len);
            let hop = self.hop_of(way);
            return self
                .send(packet, parsed, Direction::Out, hop, recipe, || client)
                // Later fragments of such an answer are not told from others of the server's.
                .map(|port| Begun::Sent(port, Fate::Refused(DropReason::Fragment)))
                .map(Some);
        }
        let later = Way { route: Route::Unknown, generation: way.generation.wrapping_sub(1) };
        let new = NewConnection {
            client: (client, plan.client, later),
            server: (plan.reply_key, recipe, way),
            hashes: None,
            outer_source: None,
            replies: Replies::Newest,
            status: Status { state: State::None, inactive: true, no_output: false, removed: false },
            server_id: destination.id.0,
            template,
            aside: 0,
            // Nothing has come from the client yet.
            learned: Origin { mac: [0; 6], ..packet.origin(parsed) },
            tick: self.tick,
            timeout_s: self.services.timeout_s(destination.id, client.protocol(), State::None),
        };
        let found = self.enter(&new, true)?;
        if self.director.table.slot(found.slot).key(Direction::Out) != plan.reply_key {
            // The client has a connection from the same port, to another server: this packet goes by itself.
            let hop = self.hop_to(client.source().ip(), parsed);
            let port = self.send(packet, parsed, Direction::Out, hop, recipe, || client)?;
            return Ok(Some(Begun::Sent(port, Fate::Refused(DropReason::Fragment))));
        }
        let found = Found { direction: Direction::Out, ..found };
        Ok(Some(Begun::Connection(self.director.table.slot(found.slot), found)))
    }
}
