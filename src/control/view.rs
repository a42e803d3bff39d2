//! What can be seen: the answers of the API, as plain values in JSON.
//!
//! The command line prints these; other programs read them. Names are those of LVS, units are in the names.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::command::{Forward, PersistenceSpec, TunnelSpec};
use crate::director::name::ServiceKey;
use crate::director::service::ServerState;
use crate::director::switches::Switches;

/// The director as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InfoView {
    /// Version of xvs.
    pub version: String,
    /// Seconds since it was started.
    pub uptime_s: u64,
    /// Connections there is room for.
    pub connections_max: u64,
    /// Connections there are, templates of persistence among them.
    pub connections: u64,
    /// Services there are.
    pub services: u64,
    /// Workers, one for each receive queue.
    pub workers: u64,
}

/// A service with its servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceView {
    /// Its name.
    pub service: ServiceKey,
    /// The scheduler.
    pub scheduler: String,
    /// The scheduler's flags, by the scheduler's own names.
    pub scheduler_flags: Vec<String>,
    /// Persistence, if it has any.
    pub persistence: Option<PersistenceSpec>,
    /// The persistence engine, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence_engine: Option<String>,
    /// Whether each datagram is scheduled by itself.
    pub one_packet: bool,
    /// What it does otherwise than the kernel.
    #[serde(default)]
    pub switches: Switches,
    /// Addresses of the director's that servers with `fullnat` are sent clients' packets from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub local_addresses: Vec<IpAddr>,
    /// The ports of those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_ports: Option<String>,
    /// Totals since it was added or last zeroed.
    pub statistics: TrafficView,
    /// What there was in a second lately, as the kernel's estimator sees it.
    pub rates: TrafficView,
    /// Its servers in the schedulers' order: the newest first.
    pub servers: Vec<ServerView>,
}

/// A server of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerView {
    /// Address and port.
    #[schema(value_type = String)]
    pub address: SocketAddr,
    /// How packets reach it.
    pub forward: Forward,
    /// The tunnel, with `tun`.
    pub tunnel: Option<TunnelSpec>,
    /// Share of new connections: 0 while it is drained or down.
    pub weight: u32,
    /// The weight it has while it is up.
    pub configured_weight: u32,
    /// What the operator has it do.
    pub state: ServerState,
    /// Seconds after which it counts as down when it is drained; 0: never.
    pub drain_timeout_s: u32,
    /// It is down, or has been drained for that long.
    pub down: bool,
    /// Percent of its share that it has after it began to take connections; 100: all of it.
    pub share_percent: u32,
    /// Connections from which on it takes no new ones; 0: as many as come.
    pub upper_threshold: u32,
    /// Connections below which it takes new ones again.
    pub lower_threshold: u32,
    /// Active connections.
    pub active: u32,
    /// Inactive connections.
    pub inactive: u32,
    /// Templates of persistence.
    pub persistent: u32,
    /// It is deleted once its connections are gone.
    pub draining: bool,
    /// Totals since it was added or last zeroed; none if they were not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics: Option<TrafficView>,
    /// What there was in a second lately; none if that was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rates: Option<TrafficView>,
}

/// Connections, packets and bytes: totals, or of one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrafficView {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets from servers.
    pub out_packets: u64,
    /// Bytes of IP packets from clients.
    pub in_bytes: u64,
    /// Bytes of IP packets from servers.
    pub out_bytes: u64,
}

/// One connection, or a template of persistence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionView {
    /// `TCP`, `UDP`, or `IP` for the template of a firewall mark.
    pub protocol: String,
    /// Seconds until it ends if no packet comes.
    pub expires_s: u64,
    /// The state's name.
    pub state: String,
    /// Address and port of the client.
    #[schema(value_type = String)]
    pub client: SocketAddr,
    /// Virtual address and port.
    #[schema(value_type = String)]
    pub virtual_address: SocketAddr,
    /// Address and port of the server.
    #[schema(value_type = String)]
    pub server: SocketAddr,
    /// The local address and port that the server sees (FULLNAT); none: it sees the client's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub local: Option<SocketAddr>,
    /// True for a template of persistence.
    pub template: bool,
    /// Its packets are forwarded by the steering program, without coming up.
    #[serde(default)]
    pub offloaded: bool,
    /// The persistence engine that the template is of, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// What the engine found that the template is for, such as a Call-ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_data: Option<String>,
}

/// Connections of one page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConnectionsPage {
    /// The connections.
    pub connections: Vec<ConnectionView>,
    /// Where the next page begins; none: this was the last one.
    pub next: Option<u64>,
}

/// The three timeouts of `ipvsadm -L --timeout`, in seconds.
pub use super::command::TimeoutsSpec as TimeoutsView;

/// A tunable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TunableView {
    /// The sysctl's name.
    pub name: String,
    /// Its value. A defence that is set to 1 or 2 is 1 while it is idle and 2 while it is active.
    pub value: u32,
    /// What a defence does at the moment, if this is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Its default.
    pub default: u32,
    /// Its least value.
    pub least: u32,
    /// Its greatest value.
    pub most: u32,
    /// What it does.
    pub help: String,
}

/// How often frames were dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DropView {
    /// The reason's name.
    pub reason: String,
    /// What it means.
    pub help: String,
    /// How often.
    pub count: u64,
}

/// Totals and rates of the director, and what each worker did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CountersView {
    /// Totals of all services since the start or the last zeroing.
    pub statistics: TrafficView,
    /// What there was in a second lately.
    pub rates: TrafficView,
    /// Dropped packets whose senders were told.
    pub answered: u64,
    /// Packets of NAT servers that belonged to no connection.
    pub strays: u64,
    /// Packets that were nobody's here and went to the kernel.
    pub passed: u64,
    /// Connections and templates that `drop_entry` ended.
    pub dropped_entries: u64,
    /// What each worker forwarded since the start, in order of queue.
    pub workers: Vec<TrafficView>,
    /// What there was in a second lately at each worker.
    pub worker_rates: Vec<TrafficView>,
    /// Outcomes of the steering program, by name.
    pub steering: Vec<(String, u64)>,
    /// Connections whose packets go on without coming up; none with `offload = "off"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offload: Option<OffloadView>,
}

/// Connections whose packets the steering program forwards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OffloadView {
    /// Connections that there are places for.
    pub places: u64,
    /// Connections that have one.
    pub carried: u64,
    /// How often there was no place for a connection.
    pub refused: u64,
    /// Connections that gave way to others.
    pub gave_way: u64,
    /// Why packets of such connections came up all the same.
    pub came_up: Vec<CameUpView>,
}

/// How many packets of offloaded connections came up for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CameUpView {
    /// The reason's name.
    pub reason: String,
    /// What it means.
    pub help: String,
    /// How many.
    pub packets: u64,
}

/// One interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InterfaceView {
    /// Its name.
    pub name: String,
    /// Where the steering program runs: `native` or `generic`.
    pub xdp: String,
    /// Whether it tells how it distributes packets, so that FULLNAT has replies come to the queue of their connection.
    #[serde(default)]
    pub rss: bool,
    /// Whether packets of offloaded connections leave by it: `yes`; `no`, its driver takes no redirected frames at present;
    /// `unknown`, the kernel is too old to tell; `off`.
    #[serde(default)]
    pub offload: String,
    /// Packets of offloaded connections that left by it; up to a second old.
    #[serde(default)]
    pub offloaded_packets: u64,
    /// Their bytes of IP, as they came.
    #[serde(default)]
    pub offloaded_bytes: u64,
    /// Its receive queues, each served by the worker of its number.
    pub queues: Vec<QueueView>,
}

/// One receive queue of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueView {
    /// Its number.
    pub queue: u32,
    /// Whether frames are not copied.
    pub zero_copy: bool,
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received, without FCS.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent, without FCS.
    pub tx_bytes: u64,
    /// Received frames that were not sent on.
    pub recycled: u64,
    /// Frames dropped because the transmit ring was full.
    pub transmit_full: u64,
    /// Frames that the kernel dropped before xvs saw them; up to a second old.
    pub kernel_dropped: u64,
    /// What there was in a second lately.
    pub rates: QueueRatesView,
}

/// Frames and bytes of one queue in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueRatesView {
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received, without FCS.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent, without FCS.
    pub tx_bytes: u64,
}

/// How the running state and the configuration file disagree, line by line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DriftView {
    /// The configuration file.
    pub file: String,
    /// What a reload would do, one line each: `+ service ...`, `- server ...`, `~ server ... weight 1 -> 2`.
    pub changes: Vec<String>,
}
