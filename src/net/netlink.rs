//! Requests to the kernel over rtnetlink and its answers in this room's words. No state, no decisions.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::StreamExt;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
    NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Error, Handle};
use tokio::time::timeout;

use super::addresses::Address;
use super::error::NetError;
use super::fib::RouteEntry;
use super::hop_table::HopKey;
use super::links::Link;
use super::routes::route_entry;

/// How long the kernel may take for one request, in milliseconds; a full routing table takes seconds.
const ANSWER_LIMIT_MS: u64 = 10_000;

/// How often a list is asked for again that changed while the kernel gave it out, and so may lack entries.
const DISTURBED_MAX: u32 = 3;

/// Marks neighbour entries that xvs has the kernel keep (`NDA_PROTOCOL`, numbers as of routes' `RTPROT_`): 'X'.
/// By it the next run knows what one that was killed has left.
pub(super) const PROTOCOL_XVS: u8 = 0x58;

/// A neighbour entry of the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Neighbour {
    /// Its MAC address, in a state that allows to send to it.
    pub mac: Option<[u8; 6]>,
    /// Set by hand, never probed (PERMANENT, NOARP).
    pub is_static: bool,
    /// Kept resolved by the kernel (`NTF_EXT_MANAGED`).
    pub managed: bool,
    /// Last asked to be kept by xvs, in this run or an earlier one.
    pub ours: bool,
}

/// A change of one neighbour entry; `None`: it is gone.
pub(crate) type NeighbourChange = (HopKey, Option<Neighbour>);

/// What to ask of the kernel for a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Resolve it now, as if there were a packet for it; also takes back `Manage`.
    Use,
    /// Resolve it and keep it resolved.
    Manage,
}

/// What the kernel answered.
struct Answer<T> {
    entries: Vec<T>,
    /// Nothing changed meanwhile (`NLM_F_DUMP_INTR` is not set).
    is_whole: bool,
    /// The end of the list came, too.
    has_end: bool,
}

/// A netlink socket for requests in the network namespace of the thread that opened it.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    pub(super) handle: Handle,
}

impl Requests {
    /// Opens the socket; its reader runs as a task of the current tokio runtime until the last clone
    /// is dropped.
    pub(crate) fn open() -> Result<Self, NetError> {
        let (mut connection, handle, _) = rtnetlink::new_connection()?;
        // The end of a list tells a whole one from one that was cut off.
        connection.set_forward_done(true);
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// One whose connection has ended.
    #[cfg(test)]
    pub(crate) fn lost() -> Self {
        let (_, handle, _) = rtnetlink::new_connection().expect("a netlink socket");
        Self { handle }
    }

    pub(crate) async fn links(&self) -> Result<Vec<Link>, NetError> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        self.dump("list links", request, |answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(Link::from_message(&link)),
            _ => None,
        })
        .await
    }

    pub(crate) async fn addresses(&self) -> Result<Vec<Address>, NetError> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        self.dump("list addresses", request, |answer| match answer {
            RouteNetlinkMessage::NewAddress(address) => own_address(&address),
            _ => None,
        })
        .await
    }

    /// The routes of the local, main and default tables, both families, in the kernel's order.
    pub(crate) async fn routes(&self) -> Result<Vec<RouteEntry>, NetError> {
        let request = RouteNetlinkMessage::GetRoute(RouteMessage::default());
        self.dump("list routes", request, |answer| match answer {
            RouteNetlinkMessage::NewRoute(route) => route_entry(&route),
            _ => None,
        })
        .await
    }

    pub(crate) async fn neighbours(&self) -> Result<Vec<NeighbourChange>, NetError> {
        let request = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        self.dump("list neighbours", request, neighbour_change).await
    }

    /// All rules of IPv4 and IPv6.
    pub(crate) async fn rules(&self) -> Result<Vec<RuleMessage>, NetError> {
        // Of whatever families there are: to ask for one that is switched off is an error.
        let request = RouteNetlinkMessage::GetRule(RuleMessage::default());
        let is_ip =
            |rule: &RuleMessage| [AddressFamily::Inet, AddressFamily::Inet6].contains(&rule.header.family);
        self.dump("list rules", request, |answer| match answer {
            RouteNetlinkMessage::NewRule(rule) => Some(rule).filter(is_ip),
            _ => None,
        })
        .await
    }

    /// Adds a rule or takes it away. One that is there already, or gone, is as it should be.
    pub(crate) async fn change_rule(&self, rule: RuleMessage, add: bool) -> Result<(), NetError> {
        let (request, flags, done) = if add {
            (RouteNetlinkMessage::NewRule(rule), NLM_F_CREATE | NLM_F_EXCL, libc::EEXIST)
        } else {
            (RouteNetlinkMessage::DelRule(rule), 0, libc::ENOENT)
        };
        self.change("change a rule", request, flags, done).await
    }

    /// Adds a route.
    pub(crate) async fn add_route(&self, route: RouteMessage) -> Result<(), NetError> {
        let request = RouteNetlinkMessage::NewRoute(route);
        self.change("add a route", request, NLM_F_CREATE | NLM_F_REPLACE, libc::EEXIST).await
    }

    async fn change(
        &self,
        what: &'static str,
        message: RouteNetlinkMessage,
        flags: u16,
        done: i32,
    ) -> Result<(), NetError> {
        let none = |_| None::<()>;
        match self.request(what, message, NLM_F_REQUEST | NLM_F_ACK | flags, none).await {
            Err(NetError::Refused { errno, .. }) if errno == done => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Asks the kernel to resolve `key`. Not for static entries: the kernel would forget their address.
    pub(crate) async fn ask(&self, (ifindex, address): HopKey, ask: Ask) -> Result<(), NetError> {
        let mut request =
            self.handle.neighbours().add(ifindex, address).replace().state(NeighbourState::None);
        match ask {
            Ask::Use => request = request.flags(NeighbourFlags::Use),
            Ask::Manage => {
                let managed = NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed);
                let protocol = NeighbourAttribute::Protocol(RouteProtocol::from(PROTOCOL_XVS));
                request.message_mut().attributes.extend([managed, protocol]);
            }
        }
        let what = "resolve a neighbour";
        limited(what, async { request.execute().await.map_err(|e| refused(what, &e)) }).await
    }

    /// The neighbour entry of `key`; `None` when there is none.
    pub(crate) async fn neighbour(&self, key: HopKey) -> Result<Option<Neighbour>, NetError> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(key.1);
        message.header.ifindex = key.0;
        message.attributes.push(NeighbourAttribute::Destination(key.1.into()));
        let request = RouteNetlinkMessage::GetNeighbour(message);
        match self.request("show a neighbour", request, NLM_F_REQUEST, neighbour_change).await {
            Ok(found) => Ok(found.first().and_then(|(_, neighbour)| *neighbour)),
            Err(NetError::Refused { errno: libc::ENOENT, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn dump<T>(
        &self,
        what: &'static str,
        message: RouteNetlinkMessage,
        read: impl Fn(RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Vec<T>, NetError> {
        let mut disturbed = 0;
        loop {
            let answer = self.exchange(what, message.clone(), NLM_F_REQUEST | NLM_F_DUMP, &read).await?;
            if !answer.has_end {
                let reason = "the answer was cut off".to_owned();
                return Err(NetError::Refused { what, reason, errno: 0 });
            }
            if answer.is_whole || disturbed == DISTURBED_MAX {
                return Ok(answer.entries);
            }
            disturbed += 1;
        }
    }

    async fn request<T>(
        &self,
        what: &'static str,
        message: RouteNetlinkMessage,
        flags: u16,
        read: impl Fn(RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Vec<T>, NetError> {
        Ok(self.exchange(what, message, flags, &read).await?.entries)
    }

    async fn exchange<T>(
        &self,
        what: &'static str,
        message: RouteNetlinkMessage,
        flags: u16,
        read: &impl Fn(RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Answer<T>, NetError> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = flags;
        let mut answers = self.handle.clone().request(request).map_err(|e| refused(what, &e))?;
        limited(what, async {
            let mut all = Answer { entries: Vec::new(), is_whole: true, has_end: false };
            while let Some(answer) = answers.next().await {
                all.is_whole &= answer.header.flags & NLM_F_DUMP_INTR == 0;
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => all.entries.extend(read(message)),
                    NetlinkPayload::Error(e) => return Err(refused(what, &Error::NetlinkError(e))),
                    NetlinkPayload::Done(_) => all.has_end = true,
                    _ => {}
                }
            }
            Ok(all)
        })
        .await
    }
}

/// The change that a notification or an answer tells; `None` if it is not about an IP neighbour.
pub(crate) fn neighbour_change(message: RouteNetlinkMessage) -> Option<NeighbourChange> {
    let (message, gone) = match message {
        RouteNetlinkMessage::NewNeighbour(message) => (message, false),
        RouteNetlinkMessage::DelNeighbour(message) => (message, true),
        _ => return None,
    };
    if message.header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let mut address = None;
    let mut neighbour = Neighbour {
        is_static: matches!(message.header.state, NeighbourState::Permanent | NeighbourState::Noarp),
        ..Neighbour::default()
    };
    let usable = neighbour.is_static
        || matches!(
            message.header.state,
            NeighbourState::Reachable | NeighbourState::Stale | NeighbourState::Delay | NeighbourState::Probe
        );
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(mac) if usable => {
                neighbour.mac = mac.as_slice().try_into().ok()
            }
            NeighbourAttribute::ExtFlags(flags) => {
                neighbour.managed = flags.contains(NeighbourExtFlags::Managed);
            }
            NeighbourAttribute::Protocol(protocol) => neighbour.ours = u8::from(*protocol) == PROTOCOL_XVS,
            _ => {}
        }
    }
    Some(((message.header.ifindex, address?), (!gone).then_some(neighbour)))
}

fn own_address(message: &AddressMessage) -> Option<Address> {
    let AddressMessage { header, attributes, .. } = message;
    // IPv4 point-to-point: `Local` is ours and `Address` the peer's. IPv6 has only `Address`.
    let local = attributes.iter().find_map(|a| match a {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = attributes.iter().find_map(|a| match a {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    let unwanted =
        AddressHeaderFlags::Secondary | AddressHeaderFlags::Deprecated | AddressHeaderFlags::Tentative;
    Some(Address {
        ifindex: header.index,
        ip: local.or(address)?,
        prefix_len: header.prefix_len,
        is_secondary: header.flags.intersects(unwanted),
        is_local: !matches!(header.scope, AddressScope::Universe | AddressScope::Site),
    })
}

/// Whether it is one of the three that every namespace starts with.
pub(super) fn is_default_rule(rule: &RuleMessage) -> bool {
    let plain = rule.header.dst_len == 0 && rule.header.src_len == 0 && rule.header.tos == 0;
    let to_table = rule.header.action == RuleAction::ToTable;
    let mut table = u32::from(rule.header.table);
    let mut priority = 0;
    for attribute in &rule.attributes {
        match attribute {
            RuleAttribute::Table(t) => table = *t,
            RuleAttribute::Priority(p) => priority = *p,
            RuleAttribute::SuppressPrefixLen(u32::MAX) | RuleAttribute::Protocol(_) => {}
            _ => return false,
        }
    }
    plain && to_table && matches!((priority, table), (0, 255) | (32_766, 254) | (32_767, 253))
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

pub(super) fn refused(what: &'static str, error: &Error) -> NetError {
    let errno = match error {
        Error::NetlinkError(message) => message.raw_code().abs(),
        _ => 0,
    };
    NetError::Refused { what, reason: error.to_string(), errno }
}

pub(super) async fn limited<T>(
    what: &'static str,
    request: impl Future<Output = Result<T, NetError>>,
) -> Result<T, NetError> {
    timeout(Duration::from_millis(ANSWER_LIMIT_MS), request)
        .await
        .unwrap_or(Err(NetError::Timeout { what, limit_ms: ANSWER_LIMIT_MS }))
}
