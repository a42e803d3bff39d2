//! What the steering program is told: which frames are ours.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::control::plane::Steered;
use crate::director::marks::MarkRule;
use crate::director::services::Endpoint as Known;
use crate::xdp::steer::{Endpoint, Range, Rules};

/// The rules for what has to come up, on a host with these addresses.
pub(super) fn rules(wanted: &Steered, host_addresses: &BTreeSet<IpAddr>) -> Rules {
    let endpoint = |&(protocol, address): &Known| Endpoint {
        protocol: protocol as u8,
        address: address.ip(),
        port: address.port(),
    };
    Rules {
        services: wanted.services.iter().map(endpoint).collect(),
        rooms: wanted.rooms.iter().map(|(service, room)| (endpoint(service), *room)).collect(),
        nat_servers: wanted.nat_servers.iter().map(endpoint).collect(),
        vips: wanted.vips.clone(),
        host_addresses: host_addresses.clone(),
        ranges: wanted.marks.iter().map(range).collect(),
    }
}

/// What a rule marks. Which mark it is, and which rule comes first, is known again when the packet is up.
fn range(rule: &MarkRule) -> Range {
    Range {
        protocol: rule.protocol as u8,
        destination: rule.destination,
        port_first: rule.port_first,
        port_last: rule.port_last,
        source: rule.source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::director::marks::MAX_MARK_RULES;
    use crate::director::service::Protocol;
    use crate::xdp::steer::MAX_RANGES;

    #[test]
    fn every_rule_of_marks_finds_a_place() {
        assert_eq!(MAX_RANGES, MAX_MARK_RULES);
    }

    #[test]
    fn what_is_marked_comes_up() {
        let rule = |mark: u32| MarkRule {
            mark: mark.try_into().unwrap(),
            protocol: Protocol::Udp,
            destination: "192.0.2.0/24".parse().unwrap(),
            port_first: 5000,
            port_last: 5999,
            source: Some("198.51.100.0/25".parse().unwrap()),
        };
        let wanted = Steered { marks: vec![rule(1), rule(2)], ..Steered::default() };
        let range = Range {
            protocol: 17,
            destination: "192.0.2.0/24".parse().unwrap(),
            port_first: 5000,
            port_last: 5999,
            source: Some("198.51.100.0/25".parse().unwrap()),
        };
        assert_eq!(rules(&wanted, &BTreeSet::new()), Rules { ranges: [range].into(), ..Rules::default() });
    }
}
