//! Connections as they are listed: which of them, and how they look.
//!
//! The table is looked at piece by piece, so that a million connections keep nobody from the control thread.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::view::ConnectionView;
use crate::director::Director;
use crate::director::conn::state::State;
use crate::director::conn::{Direction, Row, Slot, SlotId};
use crate::director::name::ServiceKey;
use crate::director::pe::Engine;
use crate::director::server::ServerId;
use crate::director::time::Time;

/// Which connections: those that are all of what is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Of clients in this network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Network>,
    /// Of this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceKey>,
    /// Of this server: an address, or address and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Endpoint>,
    /// In this state, by the name that listings show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StateName>,
}

/// Writes and reads a type as text.
macro_rules! as_text {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    };
}

/// A network, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(pub IpNet);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network
            .map(Self)
            .map_err(|_| format!("client `{text}` is no address and no network such as 198.51.100.0/24"))
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

as_text!(Network);

/// An address with or without a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Endpoint {
    /// Any port of this address.
    Address(IpAddr),
    /// This port.
    Port(SocketAddr),
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let endpoint = text.parse().map(Self::Port).or_else(|_| text.parse().map(Self::Address));
        endpoint.map_err(|_| format!("server `{text}` is no address and no ADDRESS:PORT (IPv6 in brackets)"))
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Port(endpoint) => endpoint.fmt(f),
        }
    }
}

as_text!(Endpoint);

/// A state by the name that listings show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum StateName {
    /// Of TCP.
    Tcp(State),
    /// The one of UDP.
    Udp,
    /// Of templates that connections follow.
    Assured,
}

impl StateName {
    /// Every state.
    fn all() -> impl Iterator<Item = Self> {
        State::ALL.into_iter().map(Self::Tcp).chain([Self::Udp, Self::Assured])
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Tcp(state) => state.name(),
            Self::Udp => "UDP",
            Self::Assured => "ASSURED",
        }
    }
}

impl FromStr for StateName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::all().find(|state| state.name().eq_ignore_ascii_case(text)).ok_or_else(|| {
            let known: Vec<_> = Self::all().map(Self::name).collect();
            format!("there is no state `{text}`: use one of {}", known.join(" "))
        })
    }
}

impl std::fmt::Display for StateName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

as_text!(StateName);

/// A filter with what it takes to apply it.
#[derive(Debug)]
pub struct Listing {
    filter: Filter,
    /// Servers of the service, if it is named by a mark: the packets do not tell.
    servers: HashSet<ServerId>,
}

impl Listing {
    /// The listing of the connections that pass `filter`.
    pub fn new(director: &Director, filter: Filter) -> Self {
        director.offload().settle();
        let services = director.services.load();
        let marked = filter.service.filter(|key| matches!(key, ServiceKey::Mark { .. }));
        let servers = marked.and_then(|key| services.get(&key)).into_iter().flat_map(|s| &s.destinations);
        Self { filter, servers: servers.map(|d| d.id).collect() }
    }

    /// Hands `take` those of the next `limit` slots from number `from` on. Where the next ones begin; none: these
    /// were the last.
    pub fn piece(
        &self,
        director: &Director,
        now: Time,
        from: SlotId,
        limit: usize,
        mut take: impl FnMut(ConnectionView),
    ) -> Option<SlotId> {
        director.table.list_from(from, limit, |_, slot| {
            let row = slot.row(now.tick());
            if self.passes(slot, &row) {
                let name = row.template.then(|| director.names.find(slot.aside())).flatten();
                take(view(row, name));
            }
        })
    }

    fn passes(&self, slot: &Slot, row: &Row) -> bool {
        let Filter { client, service, server, state } = &self.filter;
        client.is_none_or(|network| network.0.contains(&row.client.ip()))
            && server.is_none_or(|wanted| match wanted {
                Endpoint::Address(address) => address == row.server.ip(),
                Endpoint::Port(endpoint) => endpoint == row.server,
            })
            && state.is_none_or(|state| state.name() == row.state)
            && service.is_none_or(|key| match key {
                ServiceKey::Address { protocol, address } => {
                    let to = row.virtual_address;
                    slot.key(Direction::In).protocol() == protocol as u8
                        && to.ip() == address.ip()
                        && (address.port() == 0 || to.port() == address.port())
                }
                ServiceKey::Mark { .. } => self.servers.contains(&ServerId(slot.server_id())),
            })
    }
}

/// A row, with what a persistence engine found.
fn view(row: Row, name: Option<(Engine, String)>) -> ConnectionView {
    let Row { protocol, expires_s, state, client, virtual_address, server, local, template, offloaded } = row;
    let (engine, engine_data) = name.map(|(engine, data)| (engine.name().to_owned(), data)).unzip();
    ConnectionView {
        protocol: protocol.to_owned(),
        expires_s: expires_s.into(),
        state: state.to_owned(),
        client,
        virtual_address,
        server,
        local,
        template,
        offloaded,
        engine,
        engine_data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_read_as_it_is_written_and_what_it_cannot_mean_is_refused() {
        let text = r#"{"client":"198.51.100.0/24","service":"tcp:192.0.2.10:80","server":"10.0.0.1:80","state":"SYN_RECV"}"#;
        let filter: Filter = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&filter).unwrap(), text);
        let address =
            serde_json::from_str::<Filter>(r#"{"client":"2001:db8::1","state":"established"}"#).unwrap();
        assert_eq!(address.client.unwrap().to_string(), "2001:db8::1/128");
        assert_eq!(address.state.unwrap().to_string(), "ESTABLISHED");
        for wrong in
            [r#"{"client":"x"}"#, r#"{"server":"10.0.0.1:"}"#, r#"{"state":"OPEN"}"#, r#"{"clients":"::"}"#]
        {
            assert!(serde_json::from_str::<Filter>(wrong).is_err(), "{wrong}");
        }
    }
}
