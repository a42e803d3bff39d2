//! What the program has to make of a frame that the director can read: the rules asked in user space, one after the other.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use xvs::packet::flow::FlowKey;
use xvs::packet::fragment;
use xvs::packet::icmp;
use xvs::packet::parse::{Reject, parse};
use xvs::xdp::steer::{Outcome, Rules};

use crate::endpoint;
use crate::frames::MAC_TO;

/// What the frame is; nothing if the director cannot read it, and then the program may not know that yet.
pub fn judged(rules: &Rules, frame: &[u8]) -> Option<Outcome> {
    let outcome = match parse(frame) {
        Ok(parsed) => whole(rules, &parsed.key),
        Err(Reject::Fragment) => of_fragment(rules, &fragment::read(frame).ok()?.parsed.key),
        Err(Reject::Icmp) => match whole(rules, &icmp::read(frame).ok()?.parsed.key) {
            ours if ours.is_redirected() => Outcome::IcmpError,
            _ => Outcome::PassNotOurs,
        },
        Err(_) => return None,
    };
    Some(if outcome.is_redirected() && frame[..6] != MAC_TO { Outcome::PassOtherMac } else { outcome })
}

fn whole(rules: &Rules, key: &FlowKey) -> Outcome {
    let (from, to, protocol) = (key.source(), key.destination(), key.protocol());
    let is_any = |all: &std::collections::BTreeSet<_>, end: SocketAddr| {
        [end.port(), 0].iter().any(|&port| all.contains(&endpoint(protocol, end.ip(), port)))
    };
    if rules.services.contains(&endpoint(protocol, to.ip(), to.port())) {
        return Outcome::Service;
    }
    if rules.services.contains(&endpoint(protocol, to.ip(), 0)) {
        return Outcome::ServiceAnyPort;
    }
    let ports = rules.local_addresses.iter().find(|(address, _)| **address == to.ip());
    let is_local = ports.is_some_and(|(_, (first, last))| (*first..=*last).contains(&to.port()));
    if is_local && is_any(&rules.full_nat_servers, from) {
        return Outcome::FullNatReturn;
    }
    let is_nat = is_any(&rules.nat_servers, from);
    if is_nat && !rules.host_addresses.contains(&to.ip()) {
        return Outcome::NatReturn;
    }
    let is_in = |network: IpNet, address: IpAddr| network.contains(&address);
    let in_range = rules.ranges.iter().any(|range| {
        range.protocol == protocol
            && (range.port_first..=range.port_last).contains(&to.port())
            && is_in(range.destination, to.ip())
            && range.source.is_none_or(|source| is_in(source, from.ip()))
    });
    match (in_range, is_nat) {
        (true, _) => Outcome::ServiceRange,
        (false, true) => Outcome::PassHost,
        (false, false) => Outcome::PassNotOurs,
    }
}

/// By addresses alone: later ones have no ports.
fn of_fragment(rules: &Rules, key: &FlowKey) -> Outcome {
    let (from, to) = (key.source().ip(), key.destination().ip());
    let is_one_of = |all: &std::collections::BTreeSet<xvs::xdp::steer::Endpoint>| {
        all.iter().any(|server| server.address == from)
    };
    let is_local = rules.local_addresses.iter().any(|(address, _)| *address == to);
    if rules.vips.contains(&to) || (is_local && is_one_of(&rules.full_nat_servers)) {
        return Outcome::Fragment;
    }
    match (is_one_of(&rules.nat_servers), rules.host_addresses.contains(&to)) {
        (true, false) => Outcome::Fragment,
        (true, true) => Outcome::PassHost,
        (false, _) => Outcome::PassNotOurs,
    }
}
