//! What the program has to make of a frame that the director can read: the rules asked in user space, one after the other.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use xvs::packet::flow::FlowKey;
use xvs::packet::fragment;
use xvs::packet::icmp;
use xvs::packet::parse::{Reject, parse};
use xvs::xdp::steer::{Outcome, Rules};

use crate::endpoint;
use crate::frames::{AH, DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, MAC_TO, NETWORK, ROUTING};

/// What the frame is; nothing if the director cannot read it, and then the program may not know that yet.
pub fn judged(rules: &Rules, frame: &[u8]) -> Option<Outcome> {
    let outcome = match parse(frame) {
        Ok(parsed) => whole(rules, &parsed.key),
        // Headers that only stand in front of a Fragment header (RFC 8200, 4.1): the kernel's, like all fragments after it.
        Err(Reject::Fragment) if matches!(fragmented(frame), Some(HOP_BY_HOP | ROUTING)) => {
            Outcome::PassNotOurs
        }
        Err(Reject::Fragment) => of_fragment(rules, &fragment::read(frame).ok()?.parsed.key),
        Err(Reject::Icmp) => match whole(rules, &icmp::read(frame).ok()?.parsed.key) {
            ours if ours.is_redirected() => Outcome::IcmpError,
            _ => Outcome::PassNotOurs,
        },
        Err(_) => return None,
    };
    Some(if outcome.is_redirected() && frame[..6] != MAC_TO { Outcome::PassOtherMac } else { outcome })
}

/// What a fragment of IPv6 says that its datagram goes on with.
fn fragmented(frame: &[u8]) -> Option<u8> {
    let ip = if frame[12..14] == [0x81, 0] { NETWORK + 4 } else { NETWORK };
    if frame[ip] >> 4 != 6 {
        return None;
    }
    let (mut number, mut at) = (frame[ip + 6], ip + 40);
    loop {
        let &[next, len, high, low] = frame.get(at..at + 4)?.first_chunk()?;
        at += match number {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => 8 + 8 * usize::from(len),
            AH => 8 + 4 * usize::from(len),
            FRAGMENT if (high, low & 0xf9) == (0, 0) => 8,
            FRAGMENT => return Some(next),
            _ => return None,
        };
        number = next;
    }
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
