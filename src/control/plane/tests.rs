use std::sync::Mutex;

use super::*;
use crate::control::command::{Code, ServerSpec, ServiceSpec, TimeoutsSpec};
use crate::director::conn::state::{State, Status};
use crate::director::service::ServerState;
use crate::director::switches::Switches;
use crate::director::{Director, Size};

/// A machine that only remembers what it was told.
#[derive(Debug, Default)]
struct Told {
    now: Time,
    steered: Steered,
    watched: BTreeSet<IpAddr>,
    refuses: bool,
}

#[derive(Clone, Debug, Default)]
struct FakeHost(Arc<Mutex<Told>>);

impl Host for FakeHost {
    fn now(&self) -> Time {
        self.0.lock().unwrap().now
    }
    fn steer(&mut self, wanted: &Steered) -> Result<(), String> {
        let mut told = self.0.lock().unwrap();
        if told.refuses {
            return Err("no room in the kernel".to_owned());
        }
        told.steered = wanted.clone();
        Ok(())
    }
    fn watch(&mut self, servers: BTreeSet<IpAddr>) {
        self.0.lock().unwrap().watched = servers;
    }
    fn interfaces(&self) -> Vec<InterfaceView> {
        Vec::new()
    }
    fn steering(&self) -> Vec<(String, u64)> {
        Vec::new()
    }
    fn offload(&self) -> Option<OffloadView> {
        None
    }
}

struct Bench {
    plane: ControlPlane,
    told: Arc<Mutex<Told>>,
}

impl Bench {
    fn new() -> Self {
        let size = Size { connections: 1024, workers: 1, huge_pages: false };
        let (director, _seats) = Director::new(size, (1, 2), Services::default()).unwrap();
        let host = FakeHost::default();
        Self { told: host.0.clone(), plane: ControlPlane::new(director, Box::new(host)) }
    }

    /// With one service of two servers.
    fn with_two() -> Self {
        let mut bench = Self::new();
        bench.plane.apply_all(&[add_service("rr"), add_server(1), add_server(2)]).unwrap();
        bench
    }

    fn later(&mut self, seconds: u64) {
        let now = self.told.lock().unwrap().now.0 + seconds * 1000;
        self.told.lock().unwrap().now = Time(now);
        self.plane.tick();
    }

    fn services(&self) -> Vec<String> {
        let line = |s: ServiceView| {
            let servers: Vec<_> = s.servers.iter().map(|d| format!("{} {}", d.address, d.weight)).collect();
            format!("{} {}: {}", s.service, s.scheduler, servers.join(", "))
        };
        self.plane.services().into_iter().map(line).collect()
    }

    fn id(&self, host: u8) -> ServerId {
        let services = self.plane.director().services.load();
        let service = services.get(&key()).unwrap();
        service.destinations[service.position(address(host)).unwrap()].id
    }
}

use crate::control::view::ServiceView;

const OPEN: Status = Status { state: State::Established, inactive: false, no_output: false, removed: false };

fn key() -> ServiceKey {
    "tcp:192.0.2.10:80".parse().unwrap()
}

fn address(host: u8) -> SocketAddr {
    ([10, 0, 0, host], 80).into()
}

fn add_service(scheduler: &str) -> Command {
    Command::AddService(spec(scheduler))
}

fn spec(scheduler: &str) -> ServiceSpec {
    ServiceSpec {
        service: key(),
        scheduler: scheduler.to_owned(),
        scheduler_flags: Vec::new(),
        persistence: None,
        persistence_engine: None,
        one_packet: false,
        switches: None,
        local_addresses: None,
        local_ports: None,
    }
}

fn server(host: u8) -> ServerSpec {
    serde_json::from_value(serde_json::json!({"address": address(host), "forward": "nat"})).unwrap()
}

fn add_server(host: u8) -> Command {
    Command::AddServer { service: key(), server: server(host) }
}

fn delete(host: u8) -> Command {
    Command::DeleteServer { service: key(), server: address(host) }
}

#[test]
fn commands_each_by_itself_and_all_or_none() {
    let mut bench = Bench::new();
    let commands = [add_server(1), add_service("rr"), add_server(1), add_server(1), delete(9), add_server(2)];
    let codes: Vec<_> =
        bench.plane.apply_each(&commands).into_iter().map(|r| r.err().map(|e| e.code)).collect();
    let expected = [Some(Code::NoService), None, None, Some(Code::ServerExists), Some(Code::NoServer), None];
    assert_eq!(codes, expected);
    let there = ["tcp:192.0.2.10:80 rr: 10.0.0.2:80 1, 10.0.0.1:80 1"];
    assert_eq!(bench.services(), there);

    let (place, refusal) = bench.plane.apply_all(&[delete(1), add_server(3), delete(9)]).unwrap_err();
    assert_eq!((place, refusal.code), (2, Code::NoServer));
    assert!(
        refusal.message.contains("10.0.0.9:80") && refusal.message.contains("tcp:192.0.2.10:80"),
        "{refusal}"
    );
    assert_eq!(bench.services(), there, "nothing of it was done");
}

#[test]
fn the_kernel_looks_for_the_service_before_the_scheduler() {
    let mut bench = Bench::with_two();
    let code = |bench: &mut Bench, command| bench.plane.apply_all(&[command]).map_err(|(_, e)| e.code);
    assert_eq!(code(&mut bench, add_service("nosuch")), Err(Code::ServiceExists));
    assert_eq!(code(&mut bench, Command::EditService(spec("nosuch"))), Err(Code::NoScheduler));
    bench.plane.apply_all(&[Command::Clear {}]).unwrap();
    assert_eq!(code(&mut bench, add_service("nosuch")), Err(Code::NoScheduler));
    assert_eq!(code(&mut bench, Command::EditService(spec("rr"))), Err(Code::NoService));
}

#[test]
fn a_refusal_of_the_host_changes_nothing() {
    let mut bench = Bench::with_two();
    bench.told.lock().unwrap().refuses = true;
    let clear = Command::Clear {};
    assert_eq!(bench.plane.apply_all(std::slice::from_ref(&clear)).unwrap_err().1.code, Code::Host);
    assert_eq!(bench.plane.apply_each(&[clear])[0].as_ref().unwrap_err().code, Code::Host);
    assert_eq!(bench.services().len(), 1);
    assert_eq!(bench.told.lock().unwrap().steered.services.len(), 1);
}

#[test]
fn the_host_is_told_what_comes_up_and_whom_to_watch() {
    let mut bench = Bench::with_two();
    {
        let told = bench.told.lock().unwrap();
        assert_eq!(told.steered.services.len(), 1);
        assert_eq!(told.steered.nat_servers.len(), 2);
        assert_eq!(told.watched.len(), 2);
    }
    // One with a connection, one without: what the first needs keeps coming up until it is gone.
    let id = bench.id(1);
    bench.plane.director().counts.opened(id, OPEN);
    bench.plane.apply_all(&[Command::Clear {}]).unwrap();
    {
        let told = bench.told.lock().unwrap();
        assert_eq!(told.steered.services.len(), 1, "for the connection left behind");
        assert_eq!(told.steered.nat_servers.len(), 1);
        assert!(told.watched.is_empty());
    }
    bench.plane.director().counts.closed(id, OPEN);
    bench.later(1);
    assert_eq!(bench.told.lock().unwrap().steered, Steered::default());
}

#[test]
fn a_server_that_comes_back_is_the_same_one_and_after_two_minutes_another() {
    let mut bench = Bench::with_two();
    let id = bench.id(1);
    bench.plane.apply_all(&[delete(1)]).unwrap();
    bench.later(60);
    bench.plane.apply_all(&[add_server(1)]).unwrap();
    assert_eq!(bench.id(1), id);
    bench.plane.apply_all(&[delete(1)]).unwrap();
    bench.later(1);
    bench.later(121);
    bench.plane.apply_all(&[add_server(3)]).unwrap();
    assert_eq!(bench.id(3), id, "its number is free");
}

#[test]
fn a_drained_server_goes_with_its_last_connection_or_at_its_deadline() {
    let mut bench = Bench::with_two();
    let [a, b] = [1, 2].map(|host| bench.id(host));
    for id in [a, b] {
        bench.plane.director().counts.opened(id, OPEN);
    }
    let drain = |host, deadline_s| Command::DrainServer { service: key(), server: address(host), deadline_s };
    bench.plane.apply_all(&[drain(1, None), drain(2, Some(30))]).unwrap();
    assert_eq!(bench.services(), ["tcp:192.0.2.10:80 rr: 10.0.0.2:80 0, 10.0.0.1:80 0"]);
    assert!(bench.plane.services()[0].servers.iter().all(|s| s.draining));
    bench.later(29);
    assert_eq!(bench.plane.services()[0].servers.len(), 2);
    bench.later(2);
    assert_eq!(bench.services(), ["tcp:192.0.2.10:80 rr: 10.0.0.1:80 0"]);
    bench.plane.director().counts.closed(a, OPEN);
    bench.later(1);
    assert_eq!(bench.services(), ["tcp:192.0.2.10:80 rr: "]);
}

#[test]
fn a_server_with_a_weight_again_is_not_drained_any_more() {
    let mut bench = Bench::with_two();
    let drain = Command::DrainServer { service: key(), server: address(1), deadline_s: Some(5) };
    let edit = Command::EditServer { service: key(), server: server(1) };
    bench.plane.apply_all(&[drain]).unwrap();
    bench.plane.apply_all(&[edit]).unwrap();
    bench.later(10);
    assert_eq!(bench.plane.services()[0].servers.len(), 2);
    assert!(!bench.plane.services()[0].servers[1].draining);
}

#[test]
fn timeouts_keep_what_is_given_as_zero() {
    let mut bench = Bench::new();
    let set = |tcp_s, tcp_fin_s, udp_s| Command::SetTimeouts(TimeoutsSpec { tcp_s, tcp_fin_s, udp_s });
    bench.plane.apply_all(&[set(1, 0, 30)]).unwrap();
    assert_eq!(bench.plane.timeouts(), TimeoutsSpec { tcp_s: 1, tcp_fin_s: 120, udp_s: 30 });
    for (command, name) in [(set(2_678_401, 0, 0), "tcp_s"), (set(1, 2_678_401, 0), "tcp_fin_s")] {
        let e = bench.plane.apply_all(&[command]).unwrap_err().1;
        assert!(e.code == Code::OutOfRange && e.message.contains(&format!("{name} = 2678401")), "{e}");
    }
    assert_eq!(bench.plane.timeouts().tcp_s, 1);
}

#[test]
fn snapshots_are_freed_when_no_worker_holds_them() {
    let mut bench = Bench::with_two();
    let held = bench.plane.director().services.load_full();
    bench.plane.apply_all(&[add_server(3)]).unwrap();
    bench.plane.apply_all(&[add_server(4)]).unwrap();
    assert_eq!(bench.plane.before.len(), 1, "one is held");
    drop(held);
    bench.later(1);
    assert!(bench.plane.before.is_empty());
}

#[test]
fn what_is_unknown_is_refused_by_name() {
    let mut bench = Bench::new();
    let mut refuse = |text: &str| {
        let command = serde_json::from_str(text).unwrap();
        bench.plane.apply_all(&[command]).unwrap_err().1
    };
    let e = refuse(r#"{"command":"set-tunable","name":"expire_nodest","value":1}"#);
    assert!(e.code == Code::NotFound && e.message.contains("expire_nodest_conn"), "{e}");
    let e = refuse(
        r#"{"command":"add-service","service":"tcp:192.0.2.10:80","scheduler":"sh","scheduler_flags":["mh-port"]}"#,
    );
    assert!(
        e.code == Code::Invalid && e.message.contains("`mh-port`: use one of sh-fallback, sh-port, flag-3"),
        "{e}"
    );
    let e = refuse(
        r#"{"command":"add-service","service":"tcp:192.0.2.10:80","persistence":{"timeout_s":300,"netmask":"24"}}"#,
    );
    assert!(e.code == Code::Invalid && e.message.contains("255.255.255.0"), "{e}");
    let e = refuse(r#"{"command":"delete-mark","mark":5,"protocol":"tcp","destination":"192.0.2.0/24"}"#);
    assert_eq!(e.code, Code::NotFound);
    for netmask in ["0", "129", "255.255.255.0"] {
        let service = "\"service\":\"tcp:[2001:db8::1]:80\"";
        let persistence = format!("\"persistence\":{{\"timeout_s\":300,\"netmask\":\"{netmask}\"}}");
        let e = refuse(&format!("{{\"command\":\"add-service\",{service},{persistence}}}"));
        assert!(e.code == Code::Invalid && e.message.contains("1 to 128"), "{e}");
    }
    let e = refuse(
        r#"{"command":"add-mark","mark":5,"protocol":"tcp","destination":"2001:db8::/64","source":"10.0.0.0/8"}"#,
    );
    assert!(e.code == Code::Invalid && e.message.contains("different families"), "{e}");
}

#[test]
fn rules_of_marks_come_up_while_a_service_has_the_mark() {
    let mut bench = Bench::new();
    let rule = r#"{"command":"add-mark","mark":5,"protocol":"tcp","destination":"192.0.2.10/32","port_first":80,"port_last":90}"#;
    bench.plane.apply_all(&[serde_json::from_str(rule).unwrap()]).unwrap();
    assert!(bench.told.lock().unwrap().steered.marks.is_empty());
    let add = r#"{"command":"add-service","service":"fwm:5"}"#;
    bench.plane.apply_all(&[serde_json::from_str(add).unwrap()]).unwrap();
    let steered = bench.told.lock().unwrap().steered.clone();
    assert_eq!((steered.marks.len(), steered.vips.len()), (1, 1));
    let delete = rule.replace("add-mark", "delete-mark");
    bench.plane.apply_all(&[serde_json::from_str(&delete).unwrap()]).unwrap();
    assert_eq!(bench.told.lock().unwrap().steered, Steered::default());
}

#[test]
fn a_weight_later_in_the_same_batch_ends_the_drain() {
    let mut bench = Bench::with_two();
    let drain = Command::DrainServer { service: key(), server: address(1), deadline_s: Some(5) };
    let edit = Command::EditServer { service: key(), server: server(1) };
    bench.plane.apply_all(&[drain, edit]).unwrap();
    bench.later(10);
    assert_eq!(bench.plane.services()[0].servers.len(), 2);
}

#[test]
fn a_drain_that_the_host_stops_is_tried_again() {
    let mut bench = Bench::with_two();
    let drain = Command::DrainServer { service: key(), server: address(1), deadline_s: None };
    bench.plane.director().counts.opened(bench.id(1), OPEN);
    bench.plane.apply_all(&[drain]).unwrap();
    bench.plane.director().counts.closed(bench.id(1), OPEN);
    bench.told.lock().unwrap().refuses = true;
    bench.later(1);
    assert!(bench.plane.services()[0].servers.iter().any(|s| s.draining));
    bench.told.lock().unwrap().refuses = false;
    bench.later(1);
    assert_eq!(bench.services(), ["tcp:192.0.2.10:80 rr: 10.0.0.2:80 1"]);
}

#[test]
fn a_service_that_is_added_anew_counts_from_zero_within_a_batch_too() {
    let mut bench = Bench::with_two();
    bench.plane.director().stats[0].connection(bench.id(1));
    bench.later(2);
    assert_eq!(bench.plane.services()[0].statistics.connections, 1);
    bench.plane.apply_all(&[Command::Clear {}, add_service("rr"), add_server(1)]).unwrap();
    bench.later(2);
    let service = &bench.plane.services()[0];
    assert_eq!(service.statistics.connections, 0);
    assert_eq!(service.servers[0].statistics.map(|s| s.connections), Some(0), "as does its server");
}

#[test]
fn replies_of_a_removed_server_come_up_as_they_did_before() {
    for service in ["tcp:192.0.2.10:80", "fwm:5"] {
        let mut bench = Bench::new();
        let add = serde_json::json!({"command": "add-service", "service": service});
        let server = serde_json::json!({"command": "add-server", "service": service,
            "server": {"address": "10.0.0.1:80", "forward": "nat"}});
        let commands = [add, server].map(|c| serde_json::from_value::<Command>(c).unwrap());
        bench.plane.apply_all(&commands).unwrap();
        let before = bench.told.lock().unwrap().steered.nat_servers.clone();
        bench.plane.director().counts.opened(ServerId(0), OPEN);
        bench.plane.apply_all(&[Command::Clear {}]).unwrap();
        assert_eq!(bench.told.lock().unwrap().steered.nat_servers, before, "{service}");
    }
}

/// What `ipvsadm -Ln` shows of a server's weight, its state, and whether it is down.
fn standing(bench: &Bench, host: u8) -> (u32, ServerState, bool) {
    let servers = &bench.plane.services()[0].servers;
    let server = servers.iter().find(|s| s.address == address(host)).unwrap();
    (server.weight, server.state, server.down)
}

fn stand(host: u8, state: ServerState, drain_timeout_s: Option<u32>) -> Command {
    Command::SetServerState { service: key(), server: address(host), state, drain_timeout_s }
}

#[test]
fn a_state_hides_the_weight_and_only_a_drain_is_ended_by_one() {
    use ServerState::{Down, Drain, Up};
    let mut bench = Bench::with_two();
    let edit = |weight| Command::EditServer { service: key(), server: ServerSpec { weight, ..server(1) } };
    bench.plane.apply_all(&[edit(7), stand(1, Drain, None)]).unwrap();
    assert_eq!(standing(&bench, 1), (0, Drain, false));
    bench.plane.apply_all(&[edit(0)]).unwrap();
    assert_eq!(standing(&bench, 1), (0, Drain, false), "weight 0 is no weight");
    bench.plane.apply_all(&[edit(7)]).unwrap();
    assert_eq!(standing(&bench, 1), (7, Up, false));
    bench.plane.apply_all(&[stand(1, Down, None), edit(8)]).unwrap();
    assert_eq!(standing(&bench, 1), (0, Down, true), "what has failed is not cured by a weight");
    bench.plane.apply_all(&[stand(1, Up, None)]).unwrap();
    assert_eq!(standing(&bench, 1), (8, Up, false));
    let refused = bench.plane.apply_all(&[stand(9, Up, None)]).unwrap_err().1.code;
    assert_eq!(refused, Code::NoServer);
    let refused = bench.plane.apply_all(&[stand(1, Drain, Some(2_678_401))]).unwrap_err().1.code;
    assert_eq!((refused, standing(&bench, 1)), (Code::OutOfRange, (8, Up, false)));
}

#[test]
fn a_drained_server_that_is_kept_is_down_after_its_time() {
    use ServerState::{Drain, Up};
    let mut bench = Bench::with_two();
    bench.later(100);
    bench.plane.apply_all(&[stand(1, Drain, Some(30))]).unwrap();
    bench.later(29);
    assert_eq!(standing(&bench, 1), (0, Drain, false));
    // What `ipvsadm -e -w 0` and the like say of something else does not begin it again.
    let edit = Command::EditServer {
        service: key(),
        server: ServerSpec { weight: 0, upper_threshold: 9, lower_threshold: 1, ..server(1) },
    };
    bench.plane.apply_all(&[edit]).unwrap();
    bench.later(1);
    assert_eq!(standing(&bench, 1), (0, Drain, true));
    bench.plane.apply_all(&[stand(1, Drain, Some(60))]).unwrap();
    assert_eq!(standing(&bench, 1), (0, Drain, false), "more time");
    bench.later(30);
    assert_eq!(standing(&bench, 1), (0, Drain, true), "counted from the beginning");
    bench.plane.apply_all(&[stand(1, Up, None)]).unwrap();
    assert!(!standing(&bench, 1).2);
    // Deleting it is another wish, which any state ends.
    let drain = Command::DrainServer { service: key(), server: address(2), deadline_s: Some(5) };
    bench.plane.apply_all(&[drain, stand(2, Drain, None)]).unwrap();
    bench.later(10);
    assert_eq!(bench.plane.services()[0].servers.len(), 2);
}

#[test]
fn switches_are_set_one_by_one_and_ipvsadm_leaves_them_alone() {
    let mut bench = Bench::with_two();
    let set = |name: &str, value: &str| Command::SetSwitch {
        service: key(),
        name: name.into(),
        value: value.into(),
    };
    bench.plane.apply_all(&[set("slow_start_s", "40"), set("udp_rehome", "1")]).unwrap();
    let wanted = Switches { slow_start_s: 40, udp_rehome: true, ..Switches::default() };
    assert_eq!(bench.plane.services()[0].switches, wanted);
    bench.plane.apply_all(&[Command::EditService(spec("wlc"))]).unwrap();
    assert_eq!(bench.plane.services()[0].switches, wanted, "`ipvsadm -E` knows nothing of them");
    let percent =
        |bench: &Bench| bench.plane.services()[0].servers.iter().map(|s| s.share_percent).collect::<Vec<_>>();
    assert_eq!(percent(&bench), [0, 0]);
    bench.later(10);
    bench.plane.apply_all(&[add_server(3)]).unwrap();
    bench.later(10);
    assert_eq!(percent(&bench), [25, 50, 50]);
    bench.plane.apply_all(&[Command::EditService(spec("rr"))]).unwrap();
    assert_eq!(percent(&bench), [100; 3], "rr has no slow start");
    let own = ServiceSpec { switches: Some(Switches::default()), ..spec("rr") };
    bench.plane.apply_all(&[Command::EditService(own)]).unwrap();
    assert_eq!(bench.plane.services()[0].switches, Switches::default());
    let mut refused = |command| bench.plane.apply_all(&[command]).unwrap_err().1.code;
    assert_eq!(refused(set("slow_start", "1")), Code::NotFound);
    assert_eq!(refused(set("slow_start_s", "-1")), Code::OutOfRange);
    let beyond = Some(Switches { timeout_udp_s: u32::MAX, ..Switches::default() });
    assert_eq!(
        refused(Command::EditService(ServiceSpec { switches: beyond, ..spec("rr") })),
        Code::OutOfRange
    );
}

fn set(name: &str, value: u32) -> Command {
    Command::SetTunable { name: name.to_owned(), value }
}

/// Value and state of a tunable.
fn shown(bench: &Bench, name: &str) -> (u32, Option<String>) {
    let tunable = bench.plane.tunables().into_iter().find(|t| t.name == name).unwrap();
    (tunable.value, tunable.state)
}

#[test]
fn the_defences_follow_the_room_every_second_and_what_was_set_stays_set() {
    use crate::director::conn::{NewTemplate, Shard};
    use crate::packet::flow::FlowKey;

    let mut bench = Bench::with_two();
    let says = |value, state: &str| (value, Some(state.to_owned()));
    assert_eq!(shown(&bench, "drop_entry"), says(0, "off"));
    assert_eq!(shown(&bench, "sloppy_tcp"), (0, None));
    // As the kernel does, at once and not only a second later.
    bench.plane.apply_all(&[set("drop_entry", 2), set("drop_packet", 1), set("secure_tcp", 3)]).unwrap();
    assert_eq!(shown(&bench, "drop_entry"), says(1, "idle"));
    assert_eq!(shown(&bench, "drop_packet"), says(1, "idle"));
    assert_eq!(shown(&bench, "secure_tcp"), says(3, "active"));

    // A table of 1,024 is short of room with less than a quarter of its 64 pages free.
    let director = bench.plane.director().clone();
    let mut shard = Shard::new(&director.table, 0);
    for n in 0..840u16 {
        let [high, low] = n.to_be_bytes();
        let client = (IpAddr::from([10, 0, high, low]), 0);
        let key = FlowKey::group(6, client.into(), "192.0.2.10:80".parse().unwrap());
        let new = NewTemplate { key, name: 0, reply_key: key, server_id: 0, timeout_s: 300, tick: 0 };
        shard.insert_template(&director.table, &new, 10).unwrap();
    }
    assert_eq!(shown(&bench, "drop_entry"), says(1, "idle"));
    bench.later(1);
    assert_eq!(shown(&bench, "drop_entry"), says(2, "active"));
    // 11 of 16 pages are free.
    assert_eq!(shown(&bench, "drop_packet"), says(2, "active: drops 1 of 3"));
    // What a configuration would be saved with.
    let wanted = bench.plane.director().services.load().tunables;
    assert_eq!((wanted.drop_entry, wanted.drop_packet), (2, 1));
    bench.plane.apply_all(&[set("drop_entry", 0)]).unwrap();
    assert_eq!(shown(&bench, "drop_entry"), says(0, "off"));
}

#[test]
fn cache_bypass_is_refused_with_the_reason_and_a_way_out() {
    let mut bench = Bench::with_two();
    let (place, refusal) =
        bench.plane.apply_all(&[set("sloppy_tcp", 1), set("cache_bypass", 1)]).unwrap_err();
    assert_eq!((place, refusal.code), (1, Code::Invalid));
    for part in ["cache_bypass = 1", "without a server", "leave it 0", "scheduler fo or ovf"] {
        assert!(refusal.message.contains(part), "{refusal}");
    }
    assert_eq!(shown(&bench, "sloppy_tcp").0, 0, "nothing of it was done");
    bench.plane.apply_all(&[set("cache_bypass", 0)]).unwrap();
}

/// One whose connections of NAT are still there; it leaves its service, too.
#[test]
fn replies_of_a_server_that_is_not_behind_nat_any_more_come_up_while_it_has_connections() {
    let mut bench = Bench::with_two();
    let ends = |bench: &Bench| bench.told.lock().unwrap().steered.nat_servers.len();
    let direct = serde_json::json!({"command": "edit-server", "service": "tcp:192.0.2.10:80",
        "server": {"address": "10.0.0.1:80", "forward": "dr"}});
    bench.plane.director().counts.opened(bench.id(1), OPEN);
    let id = bench.id(1);
    bench.plane.apply_all(&[serde_json::from_value(direct).unwrap()]).unwrap();
    assert_eq!(ends(&bench), 2);
    bench.later(1);
    bench.plane.apply_all(&[delete(1)]).unwrap();
    assert_eq!(ends(&bench), 2);
    bench.plane.director().counts.closed(id, OPEN);
    bench.later(1);
    assert_eq!(ends(&bench), 1);
}

/// Where FTP's data connections come up.
fn ftp_data(bench: &Bench) -> Vec<String> {
    let steered = &bench.told.lock().unwrap().steered;
    let one = |data: &FtpData| match data.source {
        Some(source) => format!("{} from {source}", data.destination),
        None => data.destination.to_string(),
    };
    steered.ftp.iter().map(one).collect()
}

fn commands(json: serde_json::Value) -> Vec<Command> {
    serde_json::from_value(json).unwrap()
}

#[test]
fn data_connections_of_ftp_come_up_for_nat_and_persistence_and_as_long_as_connections_are_left() {
    let mut bench = Bench::new();
    let ftp: ServiceKey = "tcp:192.0.2.10:21".parse().unwrap();
    let server = |forward: &str| serde_json::json!({"address": "10.0.0.1:21", "forward": forward});
    let made = serde_json::json!([{"command": "add-service", "service": ftp, "scheduler": "rr"},
        {"command": "add-server", "service": ftp, "server": server("dr")}]);
    bench.plane.apply_all(&commands(made)).unwrap();
    assert!(ftp_data(&bench).is_empty(), "by DR only persistence keeps them together");
    let edit = |forward: &str| {
        commands(serde_json::json!([{"command": "edit-server", "service": ftp, "server": server(forward)}]))
    };
    bench.plane.apply_all(&edit("nat")).unwrap();
    assert_eq!(ftp_data(&bench), ["192.0.2.10/32"]);
    let id = bench.plane.director().services.load().get(&ftp).unwrap().destinations[0].id;
    bench.plane.director().counts.opened(id, OPEN);
    bench.plane.apply_all(&[set("ftp_helper", 0)]).unwrap();
    assert_eq!(ftp_data(&bench), ["192.0.2.10/32"], "what has a helper keeps it");
    let gone = Command::DeleteServer { service: ftp, server: "10.0.0.1:21".parse().unwrap() };
    bench.plane.apply_all(&[gone]).unwrap();
    assert_eq!(ftp_data(&bench), ["192.0.2.10/32"]);
    bench.plane.director().counts.closed(id, OPEN);
    bench.later(1);
    assert!(ftp_data(&bench).is_empty());
}

#[test]
fn marks_bring_ftps_data_connections_up_only_where_a_nat_server_is_and_not_twice() {
    let mut bench = Bench::new();
    let mark = |mark: u32, first: u16, last: u16| {
        serde_json::json!({"command": "add-mark", "mark": mark, "protocol": "tcp",
            "destination": format!("192.0.2.{mark}/32"), "port_first": first, "port_last": last,
            "source": "198.51.100.0/24"})
    };
    let service = |mark: u32, forward: &str| {
        [
            serde_json::json!({"command": "add-service", "service": format!("fwm:{mark}"), "scheduler": "rr"}),
            serde_json::json!({"command": "add-server", "service": format!("fwm:{mark}"),
                "server": {"address": "10.0.0.1:0", "forward": forward}}),
        ]
    };
    let mut all = vec![mark(1, 21, 21), mark(2, 21, 21), mark(3, 0, 65_535), mark(4, 80, 80)];
    all.extend((1..=4).zip(["nat", "dr", "nat", "nat"]).flat_map(|(n, forward)| service(n, forward)));
    bench.plane.apply_all(&commands(all.into())).unwrap();
    assert_eq!(ftp_data(&bench), ["192.0.2.1/32 from 198.51.100.0/24"]);
}

/// It is not to count as down before its connections end, nor to come back when it has failed.
#[test]
fn a_server_that_waits_for_its_end_keeps_what_it_has() {
    let mut bench = Bench::with_two();
    bench.plane.apply_all(&[stand(1, ServerState::Up, Some(30)), stand(2, ServerState::Down, None)]).unwrap();
    for host in [1, 2] {
        bench.plane.director().counts.opened(bench.id(host), OPEN);
    }
    let drain = |host| Command::DrainServer { service: key(), server: address(host), deadline_s: None };
    bench.plane.apply_all(&[drain(1), drain(2)]).unwrap();
    bench.later(60);
    assert_eq!(standing(&bench, 1), (0, ServerState::Drain, false));
    assert_eq!(standing(&bench, 2), (0, ServerState::Down, true));
    for host in [1, 2] {
        bench.plane.director().counts.closed(bench.id(host), OPEN);
    }
    bench.later(1);
    assert!(bench.plane.services()[0].servers.is_empty());
}

/// Local addresses come up for the servers that have them; one that is taken away goes on for what is left of it.
#[test]
fn local_addresses_come_up_as_long_as_anything_is_sent_from_them() {
    let mut bench = Bench::with_two();
    let command = |value: serde_json::Value| -> Command { serde_json::from_value(value).unwrap() };
    let edit = |addresses: &[&str], ports: &str| {
        command(
            serde_json::json!({"command": "edit-service", "service": "tcp:192.0.2.10:80", "scheduler": "rr",
            "local_addresses": addresses, "local_ports": ports}),
        )
    };
    let server = command(serde_json::json!({"command": "edit-server", "service": "tcp:192.0.2.10:80",
        "server": {"address": "10.0.0.1:80", "forward": "fullnat"}}));
    let refusal = bench.plane.apply_all(std::slice::from_ref(&server)).unwrap_err().1;
    assert!(refusal.code == Code::Invalid && refusal.message.contains("local_addresses"), "{refusal}");
    bench.plane.apply_all(&[edit(&["10.0.0.250", "10.0.0.251"], "5000-5999"), server]).unwrap();
    let steered = |bench: &Bench| {
        let told = bench.told.lock().unwrap();
        let locals = told.steered.local_addresses.iter().map(|(ip, ports)| format!("{ip} {ports}"));
        (told.steered.full_nat_servers.len(), told.steered.nat_servers.len(), locals.collect::<Vec<_>>())
    };
    let both = ["10.0.0.250 5000-5999", "10.0.0.251 5000-5999"].map(String::from).to_vec();
    assert_eq!(steered(&bench), (1, 1, both));
    // What an edit does not say of them stays.
    bench.plane.apply_all(&[Command::EditService(spec("wlc"))]).unwrap();
    assert_eq!(steered(&bench).2.len(), 2);
    let view = bench.plane.service(&key()).unwrap();
    assert_eq!((view.local_addresses.len(), view.local_ports.as_deref()), (2, Some("5000-5999")));

    let id = bench.id(1);
    bench.plane.director().counts.opened(id, OPEN);
    bench.plane.apply_all(&[edit(&["10.0.0.251"], "6000-6999")]).unwrap();
    let left = ["10.0.0.250 5000-5999", "10.0.0.251 5000-6999"].map(String::from).to_vec();
    assert_eq!(steered(&bench).2, left, "for the connection left behind");
    bench.plane.director().counts.closed(id, OPEN);
    bench.later(1);
    assert_eq!(steered(&bench), (1, 1, vec!["10.0.0.251 6000-6999".to_owned()]));
    bench.plane.apply_all(&[Command::Clear {}]).unwrap();
    assert_eq!(steered(&bench), (0, 0, vec![]));
}

/// Of the servers' IP version, whatever the service's is.
#[test]
fn replies_to_an_ipv6_service_come_up_at_local_addresses_of_ipv4() {
    let mut bench = Bench::with_two();
    let before = bench.told.lock().unwrap().steered.clone();
    let command = |value: serde_json::Value| -> Command { serde_json::from_value(value).unwrap() };
    let service = command(serde_json::json!({"command": "add-service", "service": "tcp:[2001:db8::100]:80",
        "scheduler": "rr", "local_addresses": ["10.0.0.250"]}));
    let server = command(serde_json::json!({"command": "add-server", "service": "tcp:[2001:db8::100]:80",
        "server": {"address": "10.0.0.7:8080", "forward": "fullnat"}}));
    bench.plane.apply_all(&[service, server]).unwrap();
    let after = &bench.told.lock().unwrap().steered;
    assert!(after.services.len() == before.services.len() + 1 && after.nat_servers == before.nat_servers);
    let ends: Vec<_> = after.full_nat_servers.iter().map(|(_, address)| address.to_string()).collect();
    assert_eq!(ends, ["10.0.0.7:8080"]);
    let locals: Vec<_> = after.local_addresses.keys().map(ToString::to_string).collect();
    assert_eq!(locals, ["10.0.0.250"]);
}
