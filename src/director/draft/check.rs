//! What of services and servers contradicts itself, as `ip_vs_ctl.c` sees it, and what a service wants of its servers that they
//! cannot have.

use std::net::SocketAddr;

use super::Refused;
use crate::director::name::ServiceKey;
use crate::director::service::{
    MAX_DRAIN_S, MAX_PERSISTENCE_S, MAX_WEIGHT, Method, Protocol, Server, Service, Tunnel,
};

pub(super) fn check_service(service: &Service) -> Result<(), Refused> {
    let key = service.key;
    if let ServiceKey::Address { protocol, .. } = key {
        if service.one_packet && protocol != Protocol::Udp {
            return Err(Refused::OnePacket(key));
        }
        if key.port() == 0 && service.persistence.is_none() {
            return Err(Refused::ZeroPort(key));
        }
    }
    if let Some((what, value, limits)) = service.switches.beyond() {
        let (least, most) = limits.into_inner();
        return Err(Refused::OutOfRange { what, value, least, most });
    }
    if !service.may_tell() {
        return Err(Refused::ClientAddress { service: key, how: service.switches.client_address.name() });
    }
    match service.persistence.map(|p| p.timeout_s) {
        Some(value) if !(1..=MAX_PERSISTENCE_S).contains(&value) => {
            Err(Refused::OutOfRange { what: "persistence", value, least: 1, most: MAX_PERSISTENCE_S })
        }
        _ => Ok(()),
    }
}

/// Whether the server can be told clients' addresses as its service wants it.
pub(super) fn check_told(service: &Service, server: &Server) -> Result<(), Refused> {
    let how = service.switches.client_address;
    let (key, address) = (service.key, server.address);
    if !how.suits_method(server.method) {
        return Err(Refused::ClientAddressMethod { service: key, server: address, how: how.name() });
    }
    Ok(())
}

/// What FULLNAT needs of a service.
pub(super) fn check_local(service: &Service, server: &Server) -> Result<(), Refused> {
    if server.method != Method::FullNat {
        return Ok(());
    }
    if !service.locals.has_family(server.address.is_ipv4()) {
        return Err(Refused::NoLocalAddress { service: service.key, server: server.address });
    }
    if service.has_here(server.address.ip()) {
        return Err(Refused::FullNatHere { service: service.key, server: server.address });
    }
    if service.one_packet { Err(Refused::OnePacketFullNat(service.key)) } else { Ok(()) }
}

pub(super) fn check_server(key: &ServiceKey, server: &Server) -> Result<(), Refused> {
    let address = server.address;
    if server.weight > MAX_WEIGHT {
        return Err(Refused::OutOfRange { what: "weight", value: server.weight, least: 0, most: MAX_WEIGHT });
    }
    if server.drain_timeout_s > MAX_DRAIN_S {
        let value = server.drain_timeout_s;
        return Err(Refused::OutOfRange { what: "drain timeout", value, least: 0, most: MAX_DRAIN_S });
    }
    if server.lower > server.upper {
        return Err(Refused::Thresholds { server: address, upper: server.upper, lower: server.lower });
    }
    if let Method::Tun(Tunnel::Gue { port: 0, .. }) = server.method {
        return Err(Refused::OutOfRange { what: "tunnel port", value: 0, least: 1, most: 65_535 });
    }
    if !is_unicast(address) {
        return Err(Refused::NotUnicast(address));
    }
    let leads_across = matches!(server.method, Method::Tun(_) | Method::FullNat);
    if address.is_ipv4() != key.is_v4() && !leads_across {
        return Err(Refused::Family { service: *key, server: address });
    }
    let has_port = matches!(key, ServiceKey::Address { .. });
    if has_port && !server.method.translates_port() && address.port() != key.port() {
        return Err(Refused::Port { service: *key, server: address });
    }
    Ok(())
}

/// True for the address of one machine as `__ip_vs_update_dest` takes it: none of a link alone, and none of IPv4 written
/// as one of IPv6.
fn is_unicast(address: SocketAddr) -> bool {
    match address {
        SocketAddr::V4(v4) => {
            let ip = v4.ip();
            !(ip.is_multicast() || ip.is_broadcast() || ip.octets()[0] == 0)
        }
        SocketAddr::V6(v6) => {
            let ip = v6.ip();
            let is_special = ip.is_multicast() || ip.is_unspecified() || ip.is_unicast_link_local();
            !is_special && ip.to_ipv4_mapped().is_none() && v6.scope_id() == 0 && v6.flowinfo() == 0
        }
    }
}
