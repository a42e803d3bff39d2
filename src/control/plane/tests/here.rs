//! Servers with FULLNAT that are the director itself.

use super::*;

fn edit(host: u8, forward: &str) -> Command {
    command(serde_json::json!({"command": "edit-server", "service": "tcp:192.0.2.10:80",
        "server": {"address": address(host), "forward": forward}}))
}

#[test]
fn servers_with_fullnat_at_own_addresses_are_found_whenever_the_host_gets_the_address() {
    let mut bench = Bench::with_two();
    let locals = command(serde_json::json!({"command": "edit-service", "service": "tcp:192.0.2.10:80",
        "scheduler": "rr", "local_addresses": ["10.0.0.250"]}));
    bench.plane.apply_all(&[locals, edit(1, "fullnat"), edit(2, "fullnat")]).unwrap();
    assert!(bench.plane.here.is_empty());
    bench.told.lock().unwrap().here.insert(address(2).ip());
    bench.later(1);
    assert_eq!(bench.plane.here, HashSet::from([(key(), address(2))]));
    bench.plane.apply_all(&[edit(2, "nat")]).unwrap();
    assert!(bench.plane.here.is_empty(), "NAT reaches it");
    bench.plane.apply_all(&[edit(2, "fullnat")]).unwrap();
    assert_eq!(bench.plane.here.len(), 1, "with the command");
    bench.told.lock().unwrap().here.clear();
    bench.later(1);
    assert!(bench.plane.here.is_empty());
}

#[test]
fn it_is_said_once_until_it_is_so_again() {
    let mut bench = Bench::with_two();
    let locals = command(serde_json::json!({"command": "edit-service", "service": "tcp:192.0.2.10:80",
        "scheduler": "rr", "local_addresses": ["10.0.0.250"]}));
    bench.plane.apply_all(&[locals, edit(1, "fullnat"), edit(2, "fullnat")]).unwrap();
    for _ in 0..2 {
        bench.told.lock().unwrap().here.insert(address(2).ip());
        assert_eq!(bench.plane.unsaid_here(), [(key(), address(2))]);
        assert_eq!(bench.plane.unsaid_here(), []);
        bench.told.lock().unwrap().here.clear();
        assert_eq!(bench.plane.unsaid_here(), []);
    }
}
