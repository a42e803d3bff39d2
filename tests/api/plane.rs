//! A control plane without a director behind its lists: it knows just enough to answer, and to refuse.

use std::net::SocketAddr;
use std::sync::Arc;

use xvs::control::api::Plane;
use xvs::control::command::{Code, Command, Forward, Refusal, ServerSpec, ServiceSpec, TimeoutsSpec};
use xvs::control::view::{
    CameUpView, CountersView, DriftView, DropView, InfoView, InterfaceView, OffloadView, QueueView,
    ServerView, ServiceView, TimeoutsView, TrafficView, TunableView,
};
use xvs::director::conn::state::{State, Status};
use xvs::director::conn::{NewConnection, Replies, Shard};
use xvs::director::forward::hops::{Origin, Route};
use xvs::director::forward::recipe::{Recipe, Rewrite, Way};
use xvs::director::marks::MarkRule;
use xvs::director::name::ServiceKey;
use xvs::director::service::{MAX_DRAIN_S, ServerState};
use xvs::director::services::Services;
use xvs::director::time::Time;
use xvs::director::{Director, Size};
use xvs::packet::checksum::Delta;
use xvs::packet::flow::FlowKey;

/// Services and marks there is room for.
const ROOM: usize = 3;

#[derive(Clone, Default)]
struct Lists {
    services: Vec<(ServiceSpec, Vec<(ServerSpec, bool)>)>,
    marks: Vec<MarkRule>,
    timeouts: Option<TimeoutsSpec>,
    tunable: u32,
}

pub struct FakePlane {
    lists: Lists,
    director: Arc<Director>,
    /// What `reload` and `drift` are refused with.
    pub file_is: Option<Code>,
}

fn refuse<T>(code: Code, message: &str) -> Result<T, Refusal> {
    Err(Refusal::new(code, message))
}

impl FakePlane {
    /// With this many connections from clients 10.0.0.0, 10.0.0.1 and so on, to 192.0.2.10:80 or, each third, to port 53.
    pub fn new(connections: u32) -> Self {
        let size = Size { connections: connections.max(16), workers: 1, huge_pages: false };
        let (director, _) = Director::new(size, (1, 2), Services::default()).unwrap();
        let mut shard = Shard::new(&director.table, 0);
        let way = Way { route: Route::Unknown, generation: 0 };
        let recipe = Recipe { rewrite: Rewrite::Tuple, l3: Delta(0), l4: Delta(0) };
        let (vip, base) = (0xc000_020a, 0x0a00_0000);
        for n in 0..connections {
            let (protocol, port) = if n % 3 == 0 { (17, 53) } else { (6, 80) };
            let state = if n % 3 == 0 { State::None } else { State::Established };
            let rip = 0xc612_0000 + n % 5;
            let new = NewConnection {
                client: (FlowKey::v4(protocol, base + n, vip, 4711 << 16 | port), recipe, way),
                server: (FlowKey::v4(protocol, rip, base + n, 8080 << 16 | 4711), recipe, way),
                hashes: None,
                outer_source: None,
                replies: Replies::Newest,
                status: Status { state, inactive: false, no_output: false, removed: false },
                server_id: 0,
                learned: Origin::default(),
                tick: 0,
                template: None,
                aside: 0,
                timeout_s: 300,
            };
            shard.insert(&director.table, &new, 1_000_000).unwrap();
        }
        Self { lists: Lists::default(), director, file_is: None }
    }

    fn perform(lists: &mut Lists, command: &Command) -> Result<(), Refusal> {
        let at = |lists: &Lists, key: &ServiceKey| lists.services.iter().position(|(s, _)| s.service == *key);
        let found = |lists: &Lists, key: &ServiceKey| match at(lists, key) {
            Some(n) => Ok(n),
            None => refuse(Code::NoService, &format!("there is no service {key}")),
        };
        let server = |lists: &Lists, n: usize, address: SocketAddr| {
            let place = lists.services[n].1.iter().position(|(s, _)| s.address == address);
            place.ok_or_else(|| Refusal::new(Code::NoServer, format!("there is no server {address}")))
        };
        let known = |spec: &ServiceSpec| match spec.scheduler.as_str() {
            "wlc" | "rr" => Ok(()),
            other => refuse(Code::NoScheduler, &format!("there is no scheduler `{other}`")),
        };
        let weighs = |spec: &ServerSpec| match spec.weight {
            0..=65_535 => Ok(()),
            _ => refuse(Code::OutOfRange, "the weight is too large"),
        };
        match command {
            Command::AddService(spec) => {
                known(spec)?;
                if at(lists, &spec.service).is_some() {
                    return refuse(Code::ServiceExists, "it is there already");
                }
                if lists.services.len() == ROOM {
                    return refuse(Code::Full, "there is no room");
                }
                lists.services.push((spec.clone(), Vec::new()));
            }
            Command::EditService(spec) => {
                known(spec)?;
                let n = found(lists, &spec.service)?;
                lists.services[n].0 = spec.clone();
            }
            Command::DeleteService { service } => {
                let n = found(lists, service)?;
                lists.services.remove(n);
            }
            Command::Clear {} => lists.services.clear(),
            Command::AddServer { service, server: spec } => {
                let n = found(lists, service)?;
                weighs(spec)?;
                if server(lists, n, spec.address).is_ok() {
                    return refuse(Code::ServerExists, "it is there already");
                }
                if lists.services[n].1.len() == ROOM {
                    return refuse(Code::Full, "there is no room");
                }
                lists.services[n].1.insert(0, (spec.clone(), false));
            }
            Command::EditServer { service, server: spec } => {
                let n = found(lists, service)?;
                weighs(spec)?;
                let place = server(lists, n, spec.address)?;
                lists.services[n].1[place].0 = spec.clone();
            }
            Command::DeleteServer { service, server: address } => {
                let n = found(lists, service)?;
                let place = server(lists, n, *address)?;
                lists.services[n].1.remove(place);
            }
            Command::DrainServer { service, server: address, .. } => {
                let n = found(lists, service)?;
                let place = server(lists, n, *address)?;
                lists.services[n].1[place].1 = true;
            }
            Command::SetServerState { service, server: address, state, drain_timeout_s } => {
                let n = found(lists, service)?;
                let place = server(lists, n, *address)?;
                if drain_timeout_s.is_some_and(|seconds| seconds > MAX_DRAIN_S) {
                    return refuse(Code::OutOfRange, "the time is too long");
                }
                let there = &mut lists.services[n].1[place].0;
                there.state = Some(*state);
                there.drain_timeout_s = drain_timeout_s.or(there.drain_timeout_s);
            }
            Command::SetSwitch { service, name, value } => {
                let n = found(lists, service)?;
                let mut switches = lists.services[n].0.switches.unwrap_or_default();
                if let Err(error) = switches.set(name, value) {
                    return refuse(Code::Invalid, &error.to_string());
                }
                lists.services[n].0.switches = Some(switches);
            }
            Command::Zero { .. } => {}
            Command::SetTimeouts(timeouts) => {
                if timeouts.tcp_s > 1_000_000 {
                    return refuse(Code::OutOfRange, "the timeout is too long");
                }
                lists.timeouts = Some(*timeouts);
            }
            Command::SetTunable { name, value } => match (name.as_str(), value) {
                ("sloppy_tcp", 0..=1) => lists.tunable = *value,
                ("sloppy_tcp", _) => return refuse(Code::OutOfRange, "0 or 1"),
                _ => return refuse(Code::NotFound, "there is no such tunable"),
            },
            Command::AddMark(rule) => {
                if rule.port_first > rule.port_last {
                    return refuse(Code::Invalid, "the first port is behind the last");
                }
                if lists.marks.len() == ROOM {
                    return refuse(Code::Full, "there is no room");
                }
                lists.marks.push(*rule);
            }
            Command::DeleteMark(rule) => match lists.marks.iter().position(|r| r == rule) {
                Some(n) => drop(lists.marks.remove(n)),
                None => return refuse(Code::NotFound, "there is no such rule"),
            },
        }
        Ok(())
    }
}

fn server_view((spec, draining): &(ServerSpec, bool)) -> ServerView {
    ServerView {
        address: spec.address,
        forward: spec.forward,
        tunnel: spec.tunnel,
        weight: if *draining { 0 } else { spec.weight },
        configured_weight: spec.weight,
        state: spec.state.unwrap_or_default(),
        drain_timeout_s: spec.drain_timeout_s.unwrap_or(0),
        down: spec.state == Some(ServerState::Down),
        share_percent: 100,
        upper_threshold: spec.upper_threshold,
        lower_threshold: spec.lower_threshold,
        active: 1,
        inactive: 2,
        persistent: 3,
        draining: *draining,
        statistics: Some(TrafficView { connections: 1, in_packets: u64::MAX, ..TrafficView::default() }),
        rates: Some(TrafficView::default()),
    }
}

fn view((spec, servers): &(ServiceSpec, Vec<(ServerSpec, bool)>)) -> ServiceView {
    ServiceView {
        service: spec.service,
        scheduler: spec.scheduler.clone(),
        scheduler_flags: spec.scheduler_flags.clone(),
        persistence: spec.persistence.clone(),
        persistence_engine: spec.persistence_engine.clone(),
        one_packet: spec.one_packet,
        switches: spec.switches.unwrap_or_default(),
        local_addresses: spec.local_addresses.clone().unwrap_or_default(),
        local_ports: spec.local_ports.clone(),
        statistics: TrafficView::default(),
        rates: TrafficView::default(),
        servers: servers.iter().map(server_view).collect(),
    }
}

impl Plane for FakePlane {
    fn apply_each(&mut self, commands: &[Command]) -> Vec<Result<(), Refusal>> {
        commands.iter().map(|command| Self::perform(&mut self.lists, command)).collect()
    }

    fn apply_all(&mut self, commands: &[Command]) -> Result<(), (usize, Refusal)> {
        let mut lists = self.lists.clone();
        for (n, command) in commands.iter().enumerate() {
            Self::perform(&mut lists, command).map_err(|refusal| (n, refusal))?;
        }
        self.lists = lists;
        Ok(())
    }

    fn services(&self) -> Vec<ServiceView> {
        self.lists.services.iter().map(view).collect()
    }

    fn service(&self, key: &ServiceKey) -> Option<ServiceView> {
        self.lists.services.iter().find(|(spec, _)| spec.service == *key).map(view)
    }

    fn info(&self) -> InfoView {
        InfoView {
            version: "0.1.0".into(),
            uptime_s: 5,
            connections_max: self.director.table.capacity() as u64,
            connections: self.director.table.len(),
            services: self.lists.services.len() as u64,
            workers: 1,
        }
    }

    fn counters(&self) -> CountersView {
        CountersView {
            statistics: TrafficView::default(),
            rates: TrafficView::default(),
            answered: 1,
            strays: 2,
            passed: 3,
            dropped_entries: 6,
            workers: vec![TrafficView::default()],
            worker_rates: vec![TrafficView::default()],
            steering: vec![("ours".into(), 7), ("passed".into(), 8)],
            offload: Some(OffloadView {
                places: 10,
                carried: 4,
                refused: 3,
                gave_way: 2,
                came_up: vec![CameUpView { reason: "ttl".into(), help: "It ends.".into(), packets: 1 }],
            }),
        }
    }

    fn drops(&self) -> Vec<DropView> {
        vec![DropView { reason: "no-server".into(), help: "No server takes it.".into(), count: 9 }]
    }

    fn interfaces(&self) -> Vec<InterfaceView> {
        let queues = vec![QueueView { zero_copy: true, ..QueueView::default() }];
        let (name, xdp, offload) = ("eth0".into(), "native".into(), "yes".into());
        vec![InterfaceView { name, xdp, offload, offloaded_packets: 11, queues, ..InterfaceView::default() }]
    }

    fn tunables(&self) -> Vec<TunableView> {
        let (name, help) = ("sloppy_tcp".to_owned(), "Any segment.".to_owned());
        vec![TunableView {
            name,
            value: self.lists.tunable,
            state: None,
            default: 0,
            least: 0,
            most: 1,
            help,
        }]
    }

    fn timeouts(&self) -> TimeoutsView {
        self.lists.timeouts.unwrap_or(TimeoutsView { tcp_s: 900, tcp_fin_s: 120, udp_s: 300 })
    }

    fn marks(&self) -> Vec<MarkRule> {
        self.lists.marks.clone()
    }

    fn reload(&mut self, dry_run: bool) -> Result<Vec<String>, Refusal> {
        match self.file_is {
            None => Ok(vec![format!("+ service tcp:192.0.2.10:80 (dry run: {dry_run})")]),
            Some(code) => refuse(code, "the file"),
        }
    }

    fn drift(&self) -> Result<DriftView, Refusal> {
        match self.file_is {
            None => Ok(DriftView { file: "/etc/xvs.toml".into(), changes: vec!["- service fwm:5".into()] }),
            Some(code) => refuse(code, "the file"),
        }
    }

    fn save(&self) -> String {
        "[director]\n".into()
    }

    fn director(&self) -> &Arc<Director> {
        &self.director
    }

    fn now(&self) -> Time {
        Time::from_secs(10)
    }
}

/// A server as most tests want it.
pub fn server(address: &str) -> ServerSpec {
    ServerSpec {
        address: address.parse().unwrap(),
        forward: Forward::Nat,
        tunnel: None,
        weight: 1,
        upper_threshold: 0,
        lower_threshold: 0,
        state: None,
        drain_timeout_s: None,
    }
}
