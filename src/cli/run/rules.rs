//! What the steering program is told: which frames are ours.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::control::plane::Steered;
use crate::director::services::Endpoint as Known;
use crate::xdp::steer::{Endpoint, Rules};

/// The rules for what has to come up, on a host with these addresses.
pub(super) fn rules(wanted: &Steered, host_addresses: &BTreeSet<IpAddr>) -> Rules {
    let endpoint = |&(protocol, address): &Known| Endpoint {
        protocol: protocol as u8,
        address: address.ip(),
        port: address.port(),
    };
    Rules {
        services: wanted.services.iter().map(endpoint).collect(),
        nat_servers: wanted.nat_servers.iter().map(endpoint).collect(),
        vips: wanted.vips.clone(),
        host_addresses: host_addresses.clone(),
    }
}
