//! A slot as `ipvsadm -Lnc` lists it.

use std::net::SocketAddr;

use crate::director::service::Protocol;
use crate::director::time::Time;

use super::slot::{Direction, Slot};
use super::state::State;

/// The ports that the kernel shows of a template that leads nobody any more.
const INVALID_PORT: u16 = 0xffff;

/// A connection, or a template of persistence, in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// `TCP`, `UDP`, or `IP` for the template of a firewall mark.
    pub protocol: &'static str,
    /// Seconds until it ends if nothing comes.
    pub expires_s: u32,
    /// The state's name.
    pub state: &'static str,
    /// Address and port of the client; of its network and port 0 for a template.
    pub client: SocketAddr,
    /// Virtual address and port; for the template of a firewall mark, the mark as an address.
    pub virtual_address: SocketAddr,
    /// Address and port of the server.
    pub server: SocketAddr,
    /// The local address and port that the server sees (FULLNAT); none: it sees the client's.
    pub local: Option<SocketAddr>,
    /// True for a template.
    pub template: bool,
    /// True while its packets go on without coming up: see [`offload`](crate::director::offload).
    pub offloaded: bool,
}

impl Slot {
    /// Seconds until it ends if nothing comes, rounded down as `ipvsadm -Lnc` shows them.
    pub fn expires_s(&self, tick: u32) -> u32 {
        let idle = tick.saturating_sub(self.last_seen(tick));
        self.timeout_s().saturating_mul(Time::TICKS_PER_S).saturating_sub(idle) / Time::TICKS_PER_S
    }

    /// As it is listed at `tick`.
    pub fn row(&self, tick: u32) -> Row {
        let (key, status) = (self.key(Direction::In), self.status());
        let template = key.is_group();
        let protocol = match Protocol::from_number(key.protocol()) {
            Some(Protocol::Tcp) => "TCP",
            Some(Protocol::Udp) => "UDP",
            Some(Protocol::Sctp) => "SCTP",
            None => "IP",
        };
        let state = match status.state {
            State::None if template => "NONE",
            _ if template => "ASSURED",
            _ if key.protocol() == Protocol::Udp as u8 => "UDP",
            state => state.name(),
        };
        let (client, mut virtual_address) =
            if template { self.group() } else { (key.source(), key.destination()) };
        let mut server = self.key(Direction::Out).source();
        server.set_ip(server.ip().to_canonical());
        if template && self.is_invalid() {
            virtual_address.set_port(INVALID_PORT);
            server.set_port(INVALID_PORT);
        }
        let expires_s = self.expires_s(tick);
        let (local, offloaded) = (self.local(), self.carried().place().is_some());
        Row { protocol, expires_s, state, client, virtual_address, server, local, template, offloaded }
    }
}
