//! Forwarding: from a connection and a direction to a rewrite recipe, and the recipe applied to bytes.
//!
//! A method is a file that turns a client's flow and a server into a [`Plan`]; what is done to packets after
//! that does not know methods.

mod dr;
mod fullnat;
pub mod hops;
mod nat;
pub mod recipe;
mod tun;

use std::net::SocketAddr;

use self::hops::{Hop, PASS};
use self::recipe::{Recipe, Rewrite};
use super::drops::DropReason;
use super::server::Destination;
use super::service::Method;
use crate::packet::edit;
use crate::packet::flow::FlowKey;
use crate::packet::parse::Parsed;

/// What a new connection will do to its packets.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// For the client's packets.
    pub client: Recipe,
    /// The key that the server's packets carry.
    pub reply_key: FlowKey,
    /// For the server's packets; none if they do not come through the director.
    pub server: Option<Recipe>,
    /// The server's packets are this connection's alone, and known by a local address and port of the director's.
    pub is_unique: bool,
}

impl Plan {
    /// The plan for the flow `client`, given by NAT to a server at this address, of the same family.
    pub fn nat(client: &FlowKey, server: SocketAddr) -> Self {
        nat::plan(client, FlowKey::new(client.protocol(), server, client.source()))
    }

    /// The plan for the flow `client`, given by FULLNAT to a server at this address from a local one of its family.
    pub fn full_nat(client: &FlowKey, server: SocketAddr, local: SocketAddr) -> Self {
        fullnat::plan(client, server, local)
    }

    /// The plan for the flow `client`, given to `destination`; none if its method does not lead to another IP version, and
    /// for FULLNAT, which needs a [local port](crate::director::local) besides.
    pub fn new(client: &FlowKey, destination: &Destination) -> Option<Self> {
        let server = destination.address_for(client);
        let reply_key = FlowKey::across(client.protocol(), server, client.source());
        let is_same_family = server.is_ipv4() == client.is_v4();
        match destination.method {
            Method::Tun(_) => Some(tun::plan(reply_key)),
            Method::Nat if is_same_family => Some(nat::plan(client, reply_key)),
            Method::Dr if is_same_family => Some(dr::plan(reply_key)),
            Method::Nat | Method::Dr | Method::FullNat => None,
        }
    }
}

/// Whether a packet may go on to `hop` with no more than [`apply`] done to it.
///
/// # Errors
/// Its TTL ends here, it is too long, or it needs another VLAN tag.
#[inline]
pub fn check(parsed: &Parsed, hop: &Hop) -> Result<(), DropReason> {
    if parsed.ttl <= 1 {
        Err(DropReason::TtlExpired)
    } else if parsed.ip_len > hop.mtu {
        Err(DropReason::TooBig)
    } else if parsed.vlan != hop.vlan {
        Err(DropReason::Vlan)
    } else {
        Ok(())
    }
}

/// As [`check`], for who gives a packet the tag of its way out, or gives it to the director's own kernel.
///
/// # Errors
/// Its TTL ends here, or it is too long.
pub fn may_go(parsed: &Parsed, hop: &Hop) -> Result<(), DropReason> {
    match check(parsed, hop) {
        Err(DropReason::Vlan) => Ok(()),
        Err(_) if hop.port == PASS => Ok(()),
        outcome => outcome,
    }
}

/// Applies a recipe to a packet and addresses the frame to its next hop. `opposite` is the connection's key in
/// the other direction.
#[inline(always)]
pub fn apply(
    frame: &mut [u8],
    parsed: &Parsed,
    recipe: Recipe,
    opposite: impl FnOnce() -> FlowKey,
    hop: &Hop,
) {
    if !parsed.key.is_v4() {
        return apply_v6(frame, parsed, recipe, opposite, hop);
    }
    if recipe.rewrite == Rewrite::Tuple {
        edit::set_tuple_v4(frame, parsed, &opposite().reversed(), recipe.l4);
    }
    edit::decrement_ttl(frame, parsed, recipe.l3);
    edit::set_macs(frame, hop.dst_mac, hop.src_mac);
}

/// As [`apply`] for IPv6; by itself, so that what IPv4 runs through stays short.
#[inline(never)]
fn apply_v6(
    frame: &mut [u8],
    parsed: &Parsed,
    recipe: Recipe,
    opposite: impl FnOnce() -> FlowKey,
    hop: &Hop,
) {
    if recipe.rewrite == Rewrite::Tuple {
        edit::set_tuple_v6(frame, parsed, &opposite().reversed(), recipe.l4);
    }
    edit::decrement_hop_limit(frame, parsed);
    edit::set_macs(frame, hop.dst_mac, hop.src_mac);
}
