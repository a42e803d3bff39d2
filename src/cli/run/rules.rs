//! What the steering program is told: which frames are ours.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::control::plane::{FtpData, Steered};
use crate::director::marks::MarkRule;
use crate::director::service::Protocol;
use crate::director::services::{Endpoint as Known, FTP_DATA, UNPRIVILEGED};
use crate::xdp::steer::{Endpoint, Range, Rules};

/// The rules for what has to come up, on a host with these addresses.
pub(super) fn rules(wanted: &Steered, host_addresses: &BTreeSet<IpAddr>) -> Rules {
    let endpoint = |&(protocol, address): &Known| Endpoint {
        protocol: protocol as u8,
        address: address.ip(),
        port: address.port(),
    };
    Rules {
        services: wanted
            .services
            .iter()
            .map(endpoint)
            .chain(wanted.ftp.iter().filter_map(ftp_data_port))
            .collect(),
        rooms: wanted.rooms.iter().map(|(service, room)| (endpoint(service), *room)).collect(),
        nat_servers: wanted.nat_servers.iter().map(endpoint).collect(),
        full_nat_servers: wanted.full_nat_servers.iter().map(endpoint).collect(),
        local_addresses: wanted.local_addresses.iter().map(|(ip, p)| (*ip, (p.first, p.last))).collect(),
        vips: wanted.vips.clone(),
        tunnels: wanted
            .tunnels
            .iter()
            .map(|(protocol, end)| Endpoint { protocol: *protocol, address: end.ip(), port: end.port() })
            .collect(),
        host_addresses: host_addresses.clone(),
        ranges: wanted.marks.iter().map(range).chain(wanted.ftp.iter().flat_map(ftp_data)).collect(),
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

/// True for one address, for everybody.
fn is_plain(data: &FtpData) -> bool {
    data.source.is_none() && data.destination.prefix_len() == data.destination.max_prefix_len()
}

/// The port of active FTP's data connections, to one address: no range, of which there are few.
fn ftp_data_port(data: &FtpData) -> Option<Endpoint> {
    let address = data.destination.addr();
    is_plain(data).then_some(Endpoint { protocol: Protocol::Tcp as u8, address, port: FTP_DATA })
}

/// The ports of FTP's data connections that are ranges.
fn ftp_data(data: &FtpData) -> impl Iterator<Item = Range> {
    let FtpData { destination, source } = *data;
    let active = (!is_plain(data)).then_some((FTP_DATA, FTP_DATA));
    active.into_iter().chain([(UNPRIVILEGED, u16::MAX)]).map(move |(port_first, port_last)| Range {
        protocol: Protocol::Tcp as u8,
        destination,
        port_first,
        port_last,
        source,
    })
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

    use super::*;
    use crate::director::marks::MAX_MARK_RULES;
    use crate::xdp::steer::MAX_RANGES;

    /// And what FTP needs besides has to share them.
    #[test]
    fn every_rule_of_marks_finds_a_place() {
        assert_eq!(MAX_RANGES, MAX_MARK_RULES);
    }

    #[test]
    fn data_connections_of_ftp_come_up_and_no_other_port_does() {
        let nets: [IpNet; 2] = ["192.0.2.10/32", "198.51.100.0/24"].map(|net| net.parse().unwrap());
        let source = [None, Some("10.0.0.0/8".parse().unwrap())];
        let data = nets.iter().zip(source).map(|(&destination, source)| FtpData { destination, source });
        let wanted = Steered { ftp: data.collect(), ..Steered::default() };
        let rules = rules(&wanted, &BTreeSet::new());
        let services: Vec<_> = rules.services.iter().map(|s| (s.protocol, s.address, s.port)).collect();
        assert_eq!(services, [(6, nets[0].addr(), 20)]);
        let ranges =
            rules.ranges.iter().map(|r| (r.protocol, r.destination, r.port_first, r.port_last, r.source));
        let all = u16::MAX;
        assert_eq!(
            ranges.collect::<Vec<_>>(),
            [
                (6, nets[0], 1024, all, None),
                (6, nets[1], 20, 20, source[1]),
                (6, nets[1], 1024, all, source[1])
            ]
        );
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
