//! The client that the command line uses, against the API.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;

use xvs::control::client::Client;
use xvs::control::command::{Code, Command, Refusal, ServiceSpec};
use xvs::control::connections::Filter;
use xvs::control::view::TimeoutsView;
use xvs::director::name::ServiceKey;

use super::plane;
use super::served::Served;

fn service(name: &str) -> ServiceSpec {
    serde_json::from_value(serde_json::json!({ "service": name })).unwrap()
}

fn refusal(error: &io::Error) -> &Refusal {
    error.get_ref().and_then(|e| e.downcast_ref()).unwrap_or_else(|| panic!("no refusal: {error}"))
}

#[test]
fn what_is_asked_is_done_and_what_is_there_is_shown() {
    let served = Served::new(0);
    let mut client = Client::connect(&served.socket).unwrap();
    let key: ServiceKey = "udp:[2001:db8::1]:53".parse().unwrap();
    let server = plane::server("[2001:db8::2]:53");
    let commands = [
        Command::AddService(service("udp:[2001:db8::1]:53")),
        Command::DeleteService { service: "fwm:5".parse().unwrap() },
        Command::AddServer { service: key, server: server.clone() },
    ];
    let results = client.apply_each(&commands).unwrap();
    let code = |result: &Result<(), Refusal>| result.as_ref().err().map(|refusal| refusal.code);
    assert_eq!(results.iter().map(code).collect::<Vec<_>>(), [None, Some(Code::NoService), None]);
    let (index, why) = client.apply_all(&[Command::Clear {}, commands[1].clone()]).unwrap().unwrap_err();
    assert_eq!((index, why.code, why.message.as_str()), (1, Code::NoService, "there is no service fwm:5"));
    let mut services = client.services(true).unwrap();
    assert_eq!(services.len(), 1, "nothing is half done");
    let server_view = &mut services[0].servers[0];
    assert!(server_view.statistics.take().is_some() && server_view.rates.take().is_some());
    assert_eq!(client.services(false).unwrap(), services, "the same without traffic of servers");

    client.drain(&key, server.address, Some(3)).unwrap();
    assert!(client.service(&key).unwrap().servers[0].draining);
    assert_eq!(refusal(&client.service(&"fwm:5".parse().unwrap()).unwrap_err()).code, Code::NoService);
    assert_eq!(client.set_tunable("sloppy_tcp", 1).unwrap().value, 1);
    let error = client.set_tunable("a/b c?", 1).unwrap_err();
    assert_eq!(refusal(&error), &Refusal::new(Code::NotFound, "there is no such tunable"));
    let timeouts = TimeoutsView { tcp_s: 1, tcp_fin_s: 2, udp_s: 3 };
    assert_eq!(client.set_timeouts(&timeouts).unwrap(), timeouts);
    assert_eq!(client.timeouts().unwrap(), timeouts);
    client.zero().unwrap();
    assert_eq!(client.info().unwrap().services, 1);
    let counters = client.counters().unwrap();
    assert_eq!((counters.strays, counters.offload.unwrap().came_up[0].packets), (2, 1));
    assert_eq!(client.drops().unwrap()[0].count, 9);
    let interface = client.interfaces().unwrap().remove(0);
    assert!(interface.queues[0].zero_copy && interface.offload == "yes" && interface.offloaded_packets == 11);
    assert_eq!(client.tunables().unwrap()[0].most, 1);
    assert!(client.marks().unwrap().is_empty());
    assert!(client.reload(true).unwrap()[0].contains("dry run: true"));
    assert_eq!(client.drift().unwrap().file, "/etc/xvs.toml");
    assert_eq!(client.save().unwrap(), "[director]\n");
    served.plane.lock().unwrap().file_is = Some(Code::Invalid);
    assert_eq!(refusal(&client.reload(false).unwrap_err()).message, "the file");
}

#[test]
fn ten_thousand_commands_and_more_are_performed() {
    let served = Served::new(0);
    let mut client = Client::connect(&served.socket).unwrap();
    let long = Command::DeleteServer {
        service: "sctp:[2001:db8:1111:2222:3333:4444:5555:6666]:65535".parse().unwrap(),
        server: "[2001:db8:1111:2222:3333:4444:5555:6666]:65535".parse().unwrap(),
    };
    let results = client.apply_each(&vec![long.clone(); 25_000]).unwrap();
    assert_eq!(results.len(), 25_000);
    assert!(results.iter().all(Result::is_err));
    let error = client.apply_all(&vec![long; 10_001]).unwrap_err().to_string();
    assert!(error.contains("10001") && error.contains("10000"), "{error}");
}

fn listed(client: &mut Client, filter: &str) -> BTreeSet<SocketAddr> {
    let filter: Filter = serde_json::from_str(filter).unwrap();
    let mut clients = BTreeSet::new();
    let mut note = |connection: xvs::control::view::ConnectionView| {
        assert!(clients.insert(connection.client), "{connection:?} is there twice");
        Ok(())
    };
    client.connections(&filter, &mut note).unwrap();
    clients
}

#[test]
fn connections_come_once_each_and_only_those_that_were_asked_for() {
    let served = Served::new(30_000);
    let mut client = Client::connect(&served.socket).unwrap();
    let every = |pass: &dyn Fn(u32) -> bool| -> BTreeSet<SocketAddr> {
        let address = |n| SocketAddr::from((std::net::Ipv4Addr::from(0x0a00_0000 + n), 4711));
        (0..30_000).filter(|&n| pass(n)).map(address).collect()
    };
    assert_eq!(listed(&mut client, "{}"), every(&|_| true));
    assert_eq!(listed(&mut client, r#"{"client":"10.0.1.0/24"}"#), every(&|n| n >> 8 == 1));
    assert_eq!(listed(&mut client, r#"{"client":"10.0.0.77"}"#), every(&|n| n == 77));
    assert_eq!(listed(&mut client, r#"{"service":"udp:192.0.2.10:53"}"#), every(&|n| n % 3 == 0));
    assert_eq!(listed(&mut client, r#"{"service":"tcp:192.0.2.10:0"}"#), every(&|n| n % 3 != 0));
    assert_eq!(listed(&mut client, r#"{"service":"tcp:192.0.2.10:53"}"#), every(&|_| false));
    assert_eq!(listed(&mut client, r#"{"server":"198.18.0.4:8080"}"#), every(&|n| n % 5 == 4));
    assert_eq!(listed(&mut client, r#"{"server":"198.18.0.4:8081"}"#), every(&|_| false));
    assert_eq!(
        listed(&mut client, r#"{"state":"ESTABLISHED","server":"198.18.0.1"}"#),
        every(&|n| n % 3 != 0 && n % 5 == 1)
    );
    assert_eq!(listed(&mut client, r#"{"state":"udp"}"#), every(&|n| n % 3 == 0));
    assert_eq!(listed(&mut client, r#"{"state":"SYN_RECV"}"#), every(&|_| false));

    let first = &mut Vec::new();
    let stop = client.connections(&Filter::default(), &mut |connection| {
        first.push(connection);
        Err(io::Error::other("enough"))
    });
    assert_eq!((stop.unwrap_err().to_string(), first.len()), ("enough".to_owned(), 1));
    assert_eq!(first[0].expires_s, 290, "300 s, of which 10 are over");
    assert_eq!(client.info().unwrap().connections, 30_000, "the client is of use after that");
}

#[test]
fn pages_follow_each_other_until_the_last() {
    let served = Served::new(5000);
    let (mut from, mut clients, mut pages) = (0, BTreeSet::new(), 0);
    loop {
        let path = format!("/v1/connections?limit=999&state=established&from={from}");
        let page = super::http::ask(&served.socket, "GET", &path, "").json();
        let connections = page["connections"].as_array().unwrap();
        assert!(connections.len() <= 999);
        clients.extend(connections.iter().map(|c| c["client"].to_string()));
        pages += 1;
        match page["next"].as_u64() {
            Some(next) => from = next,
            None => break,
        }
    }
    assert_eq!((clients.len(), pages), (3333, 4));
}

#[test]
fn who_cannot_reach_xvs_is_told_the_cure() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("xvs.sock");
    let error = Client::connect(&socket).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    let text = error.to_string();
    assert!(
        text.contains(socket.to_str().unwrap()) && text.contains("XVS_SOCKET") && text.contains("xvs run"),
        "{text}"
    );
}

#[test]
fn a_client_outlives_a_connection_that_was_closed_and_names_an_xvs_that_went_away() {
    let mut served = Served::new(0);
    let mut client = Client::connect(&served.socket).unwrap();
    client.info().unwrap();
    assert!(served.socket.exists());
    served.stop();
    assert!(!served.socket.exists());
    let error = client.info().unwrap_err().to_string();
    assert!(error.contains("xvs.sock"), "{error}");
}
