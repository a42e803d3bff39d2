//! The control plane on a machine that only remembers what it is told.
//!
//! | file | owns |
//! | --- | --- |
//! | this one | the bench, and commands: alone and together, refused and done |
//! | `leaving` | servers that are drained, down, deleted, and back |
//! | `comes_up` | what the steering program is told to bring up |
//! | `settings` | timeouts, switches, tunables |
//! | `here` | servers that are the director itself |

mod comes_up;
mod here;
mod leaving;
mod settings;

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
    here: BTreeSet<IpAddr>,
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
    fn is_here(&self, address: IpAddr) -> bool {
        self.0.lock().unwrap().here.contains(&address)
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

fn set(name: &str, value: u32) -> Command {
    Command::SetTunable { name: name.to_owned(), value }
}

fn command(json: serde_json::Value) -> Command {
    serde_json::from_value(json).unwrap()
}

fn commands(json: serde_json::Value) -> Vec<Command> {
    serde_json::from_value(json).unwrap()
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
