//! Routes in netlink's words and in this room's. Pure.

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHopFlags, RouteType, RouteVia,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::fib::{RouteEntry, RouteKind, Table, Way};

/// Whether a notification means that links, addresses, routes or rules must be read again. Routes of tables that
/// are not followed change nothing here.
pub(crate) fn concerns_network(message: &RouteNetlinkMessage) -> bool {
    match message {
        RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
            followed_table(route).is_some()
        }
        _ => true,
    }
}

fn followed_table(message: &RouteMessage) -> Option<Table> {
    let long = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(number) => Some(*number),
        _ => None,
    });
    match long.unwrap_or_else(|| u32::from(message.header.table)) {
        255 => Some(Table::Local),
        254 => Some(Table::Main),
        253 => Some(Table::Default),
        _ => None,
    }
}

/// A route of a followed table; `None` for any other and for what no rule of ours can use.
pub(crate) fn route_entry(message: &RouteMessage) -> Option<RouteEntry> {
    let header = &message.header;
    if header.tos != 0 || header.source_prefix_length != 0 || header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let unspecified: IpAddr = match header.address_family {
        AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let table = followed_table(message)?;
    let mut destination = unspecified;
    let mut metric = 0;
    let (mut several, mut source) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = plain_address(address)?,
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::MultiPath(hops) => several = Some(hops),
            RouteAttribute::PrefSource(address) => source = plain_address(address),
            _ => {}
        }
    }
    let ways = || match several {
        Some(hops) => hops
            .iter()
            .map(|hop| Way {
                weight: u32::from(hop.hops) + 1,
                unusable: hop.flags.intersects(RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown),
                ..way(hop.interface_index, &hop.attributes)
            })
            .collect(),
        None => vec![way(0, &message.attributes)],
    };
    let kind = match header.kind {
        RouteType::Local | RouteType::Anycast => RouteKind::Local,
        RouteType::Unicast => RouteKind::Unicast(ways()),
        RouteType::Throw => RouteKind::Throw,
        _ => RouteKind::Refused,
    };
    let prefix = IpNet::new(destination, header.destination_prefix_length).ok()?.trunc();
    Some(RouteEntry { table, prefix, metric, source, kind })
}

fn way(ifindex: u32, attributes: &[RouteAttribute]) -> Way {
    let mut way = Way { ifindex, gateway: None, weight: 1, unusable: false };
    for attribute in attributes {
        match attribute {
            RouteAttribute::Oif(ifindex) => way.ifindex = *ifindex,
            RouteAttribute::Gateway(address) => way.gateway = plain_address(address),
            RouteAttribute::Via(RouteVia::Inet(address)) => way.gateway = Some((*address).into()),
            RouteAttribute::Via(RouteVia::Inet6(address)) => way.gateway = Some((*address).into()),
            RouteAttribute::EncapType(_) => way.unusable = true,
            _ => {}
        }
    }
    way
}

fn plain_address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtnetlink::packet_route::link::LinkMessage;

    #[test]
    fn routes_of_tables_that_are_not_followed_concern_nobody() {
        let route = |short, long: Option<u32>| {
            let mut route = RouteMessage::default();
            route.header.table = short;
            route.attributes.extend(long.map(RouteAttribute::Table));
            RouteNetlinkMessage::NewRoute(route)
        };
        assert!(concerns_network(&route(254, None)) && concerns_network(&route(0, Some(253))));
        assert!(!concerns_network(&route(100, None)) && !concerns_network(&route(252, Some(1000))));
        assert!(concerns_network(&RouteNetlinkMessage::DelLink(LinkMessage::default())));
    }
}
