//! Timeouts, switches and tunables.

use super::*;

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
