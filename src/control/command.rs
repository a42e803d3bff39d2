//! Everything that can be asked to change, in one closed list, and why it may be refused.
//!
//! A reload, a request over HTTP and a line of `ipvsadm` are all these commands: plain values, read from JSON as
//! they stand here. Names that the kernel looks up (schedulers, their flags) are text, so that they are
//! refused in the kernel's order. What a command does is in `plane::perform`.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::director::draft::Refused;
use crate::director::marks::MarkRule;
use crate::director::name::ServiceKey;
use crate::director::service::{Method, Netmask, Server, ServerState, Tunnel, TunnelChecksum};
use crate::director::switches::Switches;

/// A change that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// `ipvsadm -A`.
    AddService(ServiceSpec),
    /// `ipvsadm -E`: what is not said goes back to its default.
    EditService(ServiceSpec),
    /// `ipvsadm -D`.
    DeleteService {
        /// The service.
        service: ServiceKey,
    },
    /// `ipvsadm -C`.
    Clear {},
    /// `ipvsadm -a`.
    AddServer {
        /// The service.
        service: ServiceKey,
        /// The server.
        server: ServerSpec,
    },
    /// `ipvsadm -e`: what is not said goes back to its default.
    EditServer {
        /// The service.
        service: ServiceKey,
        /// The server.
        server: ServerSpec,
    },
    /// `ipvsadm -d`.
    DeleteServer {
        /// The service.
        service: ServiceKey,
        /// The server's address.
        #[schema(value_type = String)]
        server: SocketAddr,
    },
    /// Drained now; deleted once its connections are gone, or when the time is over.
    DrainServer {
        /// The service.
        service: ServiceKey,
        /// The server's address.
        #[schema(value_type = String)]
        server: SocketAddr,
        /// Seconds after which it is deleted even with connections; none: when they are gone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline_s: Option<u32>,
    },
    /// Has a server take connections, drain or be down; its weight stays.
    SetServerState {
        /// The service.
        service: ServiceKey,
        /// The server's address.
        #[schema(value_type = String)]
        server: SocketAddr,
        /// What it does from now on.
        state: ServerState,
        /// Seconds after which it counts as down when it is drained, 0: never; none: as it has been.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        drain_timeout_s: Option<u32>,
    },
    /// One switch of a service: what it does otherwise than the kernel.
    SetSwitch {
        /// The service.
        service: ServiceKey,
        /// The switch's name.
        name: String,
        /// Its value, as it is written in a configuration without quotes.
        value: String,
    },
    /// `ipvsadm -Z`, of one service or of all.
    Zero {
        /// The service, or all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<ServiceKey>,
    },
    /// `ipvsadm --set`: 0 keeps what is.
    SetTimeouts(TimeoutsSpec),
    /// A setting of the director, by the name of the kernel's sysctl.
    SetTunable {
        /// Its name.
        name: String,
        /// Its value.
        value: u32,
    },
    /// A rule that gives packets a firewall mark, after those there are.
    AddMark(MarkRule),
    /// Takes a rule away.
    DeleteMark(MarkRule),
}

/// A service as a command describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceSpec {
    /// Its name: `tcp:192.0.2.10:80`, `fwm:5`.
    pub service: ServiceKey,
    /// The scheduler's name.
    #[serde(default = "default_scheduler")]
    pub scheduler: String,
    /// The scheduler's flags: `flag-1`, `flag-2`, `flag-3` or the scheduler's own names for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scheduler_flags: Vec<String>,
    /// Persistence, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence: Option<PersistenceSpec>,
    /// The persistence engine (`ipvsadm --pe`): `sip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence_engine: Option<String>,
    /// Whether each datagram is scheduled by itself.
    #[serde(default)]
    pub one_packet: bool,
    /// What it does otherwise than the kernel. Without it a service that is edited keeps what it has, and a new one
    /// does as the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switches: Option<Switches>,
    /// Addresses of the director's, at most 16, that servers with `fullnat` are sent clients' packets from. Without them a
    /// service that is edited keeps those it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub local_addresses: Option<Vec<IpAddr>>,
    /// The ports of those: `1024-65535`. Without it a service that is edited keeps what it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_ports: Option<String>,
}

/// What `ipvsadm -A` takes without `-s`.
fn default_scheduler() -> String {
    crate::director::sched::Kind::default().name().to_owned()
}

/// Persistence as a command describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PersistenceSpec {
    /// Seconds, 1..=2_678_400.
    pub timeout_s: u32,
    /// `255.255.255.0` for IPv4, a number of bits for IPv6; without it every client is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netmask: Option<String>,
}

/// A server as a command describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerSpec {
    /// Address and port.
    #[schema(value_type = String)]
    pub address: SocketAddr,
    /// How packets reach it: `nat`, `dr`, `tun` or `fullnat`.
    #[serde(default)]
    pub forward: Forward,
    /// The tunnel's kind, with `tun`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<TunnelSpec>,
    /// Share of new connections, 0..=2_147_483_647.
    #[serde(default = "default_weight")]
    pub weight: u32,
    /// Connections from which on it takes no new ones; 0: as many as come.
    #[serde(default)]
    pub upper_threshold: u32,
    /// Connections below which it takes new ones again; 0: three quarters of the upper one.
    #[serde(default)]
    pub lower_threshold: u32,
    /// What it does, whatever its weight. Without it a new server is up; one that is edited stays what it is, but a
    /// weight ends a drain, as it does with LVS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<ServerState>,
    /// Seconds after which it counts as down when it is drained; 0: never. Without it a server that is edited keeps
    /// what it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_timeout_s: Option<u32>,
}

fn default_weight() -> u32 {
    1
}

/// How packets reach a server, by its name in configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Forward {
    /// Masquerading.
    Nat,
    /// Direct routing: what `ipvsadm -a` takes.
    #[default]
    Dr,
    /// Tunnelling.
    Tun,
    /// Masquerading from a local address.
    FullNat,
}

/// A tunnel as a command describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum TunnelSpec {
    /// IP in IP.
    Ipip,
    /// Generic UDP encapsulation.
    Gue {
        /// UDP port of the server, 1..=65_535.
        port: u16,
        /// What is summed.
        #[serde(default)]
        checksum: ChecksumSpec,
    },
    /// Generic routing encapsulation.
    Gre {
        /// What is summed.
        #[serde(default)]
        checksum: ChecksumSpec,
    },
}

/// The checksum of a tunnel's own header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChecksumSpec {
    /// None.
    #[default]
    None,
    /// The whole packet.
    Full,
    /// Remote checksum offload.
    Remote,
}

/// The three timeouts of `ipvsadm --set`, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeoutsSpec {
    /// Established TCP.
    pub tcp_s: u32,
    /// TCP after the first FIN.
    pub tcp_fin_s: u32,
    /// UDP.
    pub udp_s: u32,
}

/// Which kind of refusal it is, for programs: stable names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The service is there already (EEXIST).
    ServiceExists,
    /// There is no such service (ESRCH).
    NoService,
    /// The server is there already (EEXIST).
    ServerExists,
    /// There is no such server (ENOENT).
    NoServer,
    /// There is no such scheduler or persistence engine (ENOENT).
    NoScheduler,
    /// A value is outside of its limits (ERANGE).
    OutOfRange,
    /// Values contradict each other (EINVAL).
    Invalid,
    /// The address family is not forwarded (EAFNOSUPPORT).
    Family,
    /// There is no room for more (ENOMEM).
    Full,
    /// There is no such tunable, mark or other thing (ENOENT).
    NotFound,
    /// The host refused (EIO).
    Host,
}

/// Why a command was refused. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub code: Code,
    /// For people: the thing, the value, the limit and the cure.
    pub message: String,
}

impl Refusal {
    /// A refusal of this kind.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let code = match &refused {
            Refused::ServiceExists(_) => Code::ServiceExists,
            Refused::NoService(_) => Code::NoService,
            Refused::ServerExists { .. } => Code::ServerExists,
            Refused::NoServer { .. } => Code::NoServer,
            Refused::OutOfRange { .. } | Refused::Thresholds { .. } => Code::OutOfRange,
            Refused::Family { .. } => Code::Family,
            Refused::TooManyServices(_) | Refused::TooManyServers(_) => Code::Full,
            Refused::Maglev { .. }
            | Refused::NotUnicast(_)
            | Refused::Port { .. }
            | Refused::ZeroPort(_)
            | Refused::OnePacket(_)
            | Refused::NoLocalAddress { .. }
            | Refused::FullNatHere { .. }
            | Refused::OnePacketFullNat(_)
            | Refused::ClientAddress { .. }
            | Refused::ClientAddressMethod { .. } => Code::Invalid,
        };
        Self::new(code, refused.to_string())
    }
}

impl ServerSpec {
    /// The server it describes.
    ///
    /// # Errors
    /// A tunnel with a method that has none.
    pub fn server(&self) -> Result<Server, Refusal> {
        let method = match (self.forward, self.tunnel) {
            (Forward::Nat, None) => Method::Nat,
            (Forward::Dr, None) => Method::Dr,
            (Forward::FullNat, None) => Method::FullNat,
            (Forward::Tun, tunnel) => Method::Tun(tunnel.map_or_else(Tunnel::default, Tunnel::from)),
            (_, Some(_)) => {
                let message = format!("server {} has a tunnel but no forward = \"tun\"", self.address);
                return Err(Refusal::new(Code::Invalid, message));
            }
        };
        let (weight, upper, lower) = (self.weight, self.upper_threshold, self.lower_threshold);
        let (state, drain_timeout_s) = (self.state.unwrap_or_default(), self.drain_timeout_s.unwrap_or(0));
        Ok(Server { address: self.address, weight, method, upper, lower, state, drain_timeout_s })
    }

    /// What it makes of a server that is there.
    ///
    /// # Errors
    /// A tunnel with a method that has none.
    pub fn edited(&self, old: &Server) -> Result<Server, Refusal> {
        let kept = match old.state {
            ServerState::Drain if self.weight > 0 => ServerState::Up,
            state => state,
        };
        let drain_timeout_s = self.drain_timeout_s.unwrap_or(old.drain_timeout_s);
        Ok(Server { state: self.state.unwrap_or(kept), drain_timeout_s, ..self.server()? })
    }
}

impl From<&Server> for ServerSpec {
    fn from(server: &Server) -> Self {
        let (forward, tunnel) = match server.method {
            Method::Nat => (Forward::Nat, None),
            Method::Dr => (Forward::Dr, None),
            Method::FullNat => (Forward::FullNat, None),
            Method::Tun(tunnel) => (Forward::Tun, Some(tunnel.into())),
        };
        Self {
            address: server.address,
            forward,
            tunnel,
            weight: server.weight,
            upper_threshold: server.upper,
            lower_threshold: server.lower,
            state: Some(server.state),
            drain_timeout_s: Some(server.drain_timeout_s),
        }
    }
}

impl From<TunnelSpec> for Tunnel {
    fn from(spec: TunnelSpec) -> Self {
        match spec {
            TunnelSpec::Ipip => Tunnel::Ipip,
            TunnelSpec::Gue { port, checksum } => Tunnel::Gue { port, checksum: checksum.into() },
            TunnelSpec::Gre { checksum } => Tunnel::Gre { checksum: checksum.into() },
        }
    }
}

impl From<Tunnel> for TunnelSpec {
    fn from(tunnel: Tunnel) -> Self {
        match tunnel {
            Tunnel::Ipip => TunnelSpec::Ipip,
            Tunnel::Gue { port, checksum } => TunnelSpec::Gue { port, checksum: checksum.into() },
            Tunnel::Gre { checksum } => TunnelSpec::Gre { checksum: checksum.into() },
        }
    }
}

impl From<ChecksumSpec> for TunnelChecksum {
    fn from(spec: ChecksumSpec) -> Self {
        match spec {
            ChecksumSpec::None => TunnelChecksum::None,
            ChecksumSpec::Full => TunnelChecksum::Full,
            ChecksumSpec::Remote => TunnelChecksum::Remote,
        }
    }
}

impl From<TunnelChecksum> for ChecksumSpec {
    fn from(checksum: TunnelChecksum) -> Self {
        match checksum {
            TunnelChecksum::None => ChecksumSpec::None,
            TunnelChecksum::Full => ChecksumSpec::Full,
            TunnelChecksum::Remote => ChecksumSpec::Remote,
        }
    }
}

/// The netmask as text; none if it tells all clients apart.
pub fn netmask_text(netmask: Netmask) -> Option<String> {
    match netmask {
        Netmask::V4(mask) => (!mask.is_broadcast()).then(|| mask.to_string()),
        Netmask::V6(bits) => (bits != 128).then(|| bits.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_readable_json_and_says_no_more_than_it_has_to() {
        let text = r#"{"command":"add-service","service":"tcp:192.0.2.10:80"}"#;
        let spec = ServiceSpec {
            service: "tcp:192.0.2.10:80".parse().unwrap(),
            scheduler: "wlc".into(),
            scheduler_flags: vec![],
            persistence: None,
            persistence_engine: None,
            one_packet: false,
            switches: None,
            local_addresses: None,
            local_ports: None,
        };
        assert_eq!(serde_json::from_str::<Command>(text).unwrap(), Command::AddService(spec));
        let text = r#"{"command":"add-server","service":"fwm:5","server":{"address":"10.0.0.1:0","forward":"tun","tunnel":{"type":"gue","port":6080}}}"#;
        let Command::AddServer { server, .. } = serde_json::from_str(text).unwrap() else { panic!() };
        let tunnel = Tunnel::Gue { port: 6080, checksum: TunnelChecksum::None };
        let expected = Server::new("10.0.0.1:0".parse().unwrap(), Method::Tun(tunnel));
        assert_eq!(server.server().unwrap(), expected);
        let whole = ServerSpec { state: Some(ServerState::Up), drain_timeout_s: Some(0), ..server };
        assert_eq!(ServerSpec::from(&expected), whole);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for text in [
            r#"{"command":"add-services"}"#,
            r#"{"command":"clear","service":"fwm:5"}"#,
            r#"{"command":"delete-service","service":"nonsense"}"#,
            r#"{"command":"set-tunable","name":"x","value":-1}"#,
        ] {
            assert!(serde_json::from_str::<Command>(text).is_err(), "{text}");
        }
    }
}
