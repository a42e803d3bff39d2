//! What the steering program is told to bring up, and until when.

use super::*;

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

/// Local addresses come up for the servers that have them; one that is taken away goes on for what is left of it.
#[test]
fn local_addresses_come_up_as_long_as_anything_is_sent_from_them() {
    let mut bench = Bench::with_two();
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
