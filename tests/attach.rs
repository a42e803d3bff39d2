//! The steering program on interfaces: modes, refusals, queues, and that it never outlives its process.
//!
//! Needs root, iproute2 and util-linux. Each test works in a network namespace of its own and fails when it
//! cannot make one.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use xvs::xdp::steer::{
    Arrival, Endpoint, MAX_PORTS, Outcome, Require, Rules, SteerError, Steering, Verdict, XdpMode,
    bare_socket,
};

#[allow(dead_code, reason = "shared: no test binary uses all of it")]
#[path = "common/netns.rs"]
mod netns;

use netns::{Namespaces, run};

/// Set in a process that a test starts as its child.
const CHILD: &str = "XVS_ATTACH_TEST_CHILD";

const MAC_A: [u8; 6] = [2, 0, 0, 0, 0, 0x0a];
const MAC_B: [u8; 6] = [2, 0, 0, 0, 0, 0x0b];
const MAC_NEW: [u8; 6] = [2, 0, 0, 0xaa, 0, 0x0a];

/// A network namespace that this thread, and what it starts, lives in.
fn enter() -> Namespaces {
    let namespaces = Namespaces::new();
    netns::enter(&namespaces.add("attach"));
    namespaces
}

/// A namespace with a veth pair `va`, `vb` of this many queues.
fn enter_with_veth(queues: u32) -> Namespaces {
    let namespaces = enter();
    let queues = format!("numrxqueues {queues} numtxqueues {queues}");
    run(&format!("ip link add name va {queues} type veth peer name vb {queues}"));
    namespaces
}

fn has_program(interface: &str) -> bool {
    run(&format!("ip -d link show dev {interface}")).contains("xdp")
}

/// Waits until no program is attached. Not at once: a child that another test is just starting has copies of
/// this process's descriptors, the links among them, until its exec.
fn await_no_program(interfaces: &[&str]) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while interfaces.iter().any(|interface| has_program(interface)) {
        assert!(Instant::now() < deadline, "a program is still attached: {}", run("ip link"));
        sleep(Duration::from_millis(10));
    }
}

fn set_mac(interface: &str, mac: [u8; 6]) {
    let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
    run(&format!("ip link set dev {interface} address {mac}"));
}

/// UDP port 53 of 10.9.0.100 is a service.
fn dns() -> Rules {
    let service = Endpoint { protocol: 17, address: "10.9.0.100".parse().unwrap(), port: 53 };
    Rules { services: [service].into(), ..Rules::default() }
}

/// A frame to the service of [`dns`], sent to this MAC address.
fn query(mac: [u8; 6]) -> Vec<u8> {
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2([2; 6], mac)
        .ipv4([10, 9, 0, 1], [10, 9, 0, 100], 64)
        .udp(40_000, 53)
        .write(&mut frame, b"query")
        .unwrap();
    frame
}

fn load() -> Steering {
    Steering::load()
        .unwrap_or_else(|error| panic!("these tests need root and BPF: {:#}", anyhow::Error::from(error)))
}

/// This test binary again, running only the test `name`, which then sees [`CHILD`]; `wrapper` is put before.
fn start_child(wrapper: &[&str], name: &str) -> Child {
    let this = std::env::current_exe().unwrap();
    let words = [wrapper, &[this.to_str().unwrap(), "--exact", name, "--nocapture"]].concat();
    Command::new(words[0])
        .args(&words[1..])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What the child says in the line that begins with `child: `.
fn word_of(child: &mut Child) -> String {
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    lines
        .map(|line| line.unwrap())
        .find_map(|line| line.split_once("child: ").map(|(_, word)| word.to_owned()))
        .expect("the child ended without a word")
}

#[test]
fn a_driver_with_native_xdp_gets_it_and_dropping_detaches() {
    let _namespace = enter_with_veth(1);
    let mut steering = load();
    assert_eq!(steering.attach("va", 0, Require::Any).unwrap(), XdpMode::Native);
    assert_eq!(steering.attach("vb", 1, Require::Native).unwrap(), XdpMode::Native);
    assert!(has_program("va") && has_program("vb"));
    steering.detach(1).unwrap();
    await_no_program(&["vb"]);
    assert!(has_program("va"));
    drop(steering);
    await_no_program(&["va"]);
}

#[test]
fn a_driver_without_native_xdp_gets_generic_and_the_caller_is_told_why() {
    let _namespace = enter();
    let mut steering = load();
    // The loopback driver has no native XDP.
    let XdpMode::Generic { native_refused } = steering.attach("lo", 0, Require::Any).unwrap() else {
        panic!("the loopback interface took native XDP");
    };
    assert!(native_refused.contains("not supported"), "{native_refused}");
    assert!(run("ip link show dev lo").contains("xdpgeneric"));
}

#[test]
fn require_native_refuses_the_fallback() {
    let _namespace = enter();
    let mut steering = load();
    let error = steering.attach("lo", 0, Require::Native).unwrap_err();
    assert!(matches!(error, SteerError::NativeRefused { .. }), "{error}");
    let message = error.to_string();
    assert!(message.starts_with("lo refuses native XDP: ") && message.contains("generic"), "{message}");
    assert!(!has_program("lo"));
}

#[test]
fn a_refusal_with_a_known_cause_names_the_cure() {
    let _namespace = enter_with_veth(1);
    for interface in ["va", "vb"] {
        run(&format!("ip link set dev {interface} mtu 9000"));
    }
    let message = load().attach("va", 0, Require::Native).unwrap_err().to_string();
    assert!(message.contains("`ip link set dev va mtu 1500`"), "{message}");
    run("ip link set dev vb mtu 1500");
    assert_eq!(load().attach("va", 0, Require::Native).unwrap(), XdpMode::Native);
}

#[test]
fn a_second_program_is_refused_in_any_mode_and_the_message_says_how_to_see_it() {
    let _namespace = enter_with_veth(1);
    let (mut first, mut second) = (load(), load());
    for interface in ["va", "lo"] {
        first.attach(interface, 0, Require::Any).unwrap();
        let error = second.attach(interface, 0, Require::Any).unwrap_err();
        assert!(matches!(error, SteerError::Occupied { .. }), "{interface}: {error}");
        let message = error.to_string();
        for cure in
            [format!("ip -d link show dev {interface}"), format!("ip link set dev {interface} xdp off")]
        {
            assert!(message.contains(&cure), "{message}");
        }
        assert!(has_program(interface), "the first program stays");
        first.detach(0).unwrap();
        await_no_program(&[interface]);
        second.attach(interface, 0, Require::Any).unwrap();
        second.detach(0).unwrap();
    }
}

#[test]
fn an_interface_that_does_not_exist_is_named() {
    let _namespace = enter();
    let error = load().attach("nowhere0", 0, Require::Any).unwrap_err();
    assert!(matches!(error, SteerError::NoInterface { .. }));
    assert!(error.to_string().contains("no interface nowhere0"), "{error}");
    let error = load().attach("lo", MAX_PORTS, Require::Any).unwrap_err();
    assert!(matches!(error, SteerError::PortIndex { .. }));
}

#[test]
fn an_interface_that_came_back_can_be_attached_again() {
    let _namespace = enter_with_veth(1);
    let mut steering = load();
    // More often than there are ports: nothing may be left of the earlier ones.
    for _ in 0..=MAX_PORTS {
        steering.attach("va", 0, Require::Native).unwrap();
        run("ip link del va");
        run("ip link add name va type veth peer name vb");
    }
}

#[test]
fn a_frame_goes_to_the_socket_of_its_own_interface_and_queue_only() {
    // One queue more than can be steered: it must not reach the sockets of the next interface.
    let _namespace = enter_with_veth(65);
    let mut steering = load();
    steering.apply(&dns()).unwrap();
    for (port_index, interface, mac) in [(0, "va", MAC_A), (1, "vb", MAC_B)] {
        set_mac(interface, mac);
        steering.attach(interface, port_index, Require::Native).unwrap();
    }
    let (socket_a2, socket_b0) = (bare_socket().unwrap(), bare_socket().unwrap());
    steering.set_socket(0, 2, &socket_a2).unwrap();
    steering.set_socket(1, 0, &socket_b0).unwrap();

    let mut redirected = Vec::new();
    for (name, mac) in [("va", MAC_A), ("vb", MAC_B)] {
        let (frame, interface) = (query(mac), if_nametoindex(name).unwrap());
        for queue in 0..65 {
            let arrival = Some(Arrival { interface, queue });
            if steering.try_frame(&frame, arrival).unwrap() == Verdict::Redirect {
                redirected.push((name, queue));
            }
        }
    }
    assert_eq!(redirected, [("va", 2), ("vb", 0)]);
    let counters = steering.counters().unwrap();
    assert!(counters.contains(&(Outcome::Service, 2)) && counters.contains(&(Outcome::NoSocket, 128)));
}

#[test]
fn the_mac_that_frames_must_be_sent_to_is_the_interfaces_and_follows_it() {
    let _namespace = enter_with_veth(1);
    for (interface, mac) in [("va", MAC_A), ("vb", MAC_B)] {
        set_mac(interface, mac);
    }
    let mut steering = load();
    steering.apply(&dns()).unwrap();
    steering.attach("va", 3, Require::Native).unwrap();
    steering.attach("vb", 4, Require::Native).unwrap();
    let sockets = [bare_socket().unwrap(), bare_socket().unwrap()];
    steering.set_socket(3, 0, &sockets[0]).unwrap();
    steering.set_socket(4, 0, &sockets[1]).unwrap();
    // Those of these addresses that are taken at `va`, and at `vb`.
    let taken = |steering: &mut Steering| {
        ["va", "vb"].map(|interface| {
            let arrival = Some(Arrival { interface: if_nametoindex(interface).unwrap(), queue: 0 });
            let mut macs = vec![MAC_A, MAC_B, MAC_NEW];
            macs.retain(|mac| steering.try_frame(&query(*mac), arrival).unwrap() == Verdict::Redirect);
            macs
        })
    };

    assert_eq!(taken(&mut steering), [[MAC_A], [MAC_B]]);
    assert!(steering.counters().unwrap().contains(&(Outcome::PassOtherMac, 4)));
    set_mac("va", MAC_NEW);
    steering.set_mac(3, MAC_NEW).unwrap();
    assert_eq!(taken(&mut steering), [[MAC_NEW], [MAC_B]]);
    steering.set_mac(3, MAC_A).unwrap();
    assert_eq!(taken(&mut steering), [[MAC_A], [MAC_B]], "and back");
    steering.set_mac(5, MAC_NEW).unwrap();
    assert_eq!(taken(&mut steering), [[MAC_A], [MAC_B]], "nothing is attached as 5");
    steering.detach(3).unwrap();
    await_no_program(&["va"]);
    steering.attach("va", 3, Require::Native).unwrap();
    assert_eq!(taken(&mut steering), [[MAC_NEW], [MAC_B]], "attaching reads it");
}

#[test]
fn an_interface_without_ethernet_is_refused() {
    let _namespace = enter();
    run("ip tuntap add dev tun0 mode tun");
    let error = load().attach("tun0", 0, Require::Any).unwrap_err();
    assert!(matches!(error, SteerError::NoMac { .. }), "{error}");
    assert!(!has_program("tun0"));
}

#[test]
fn a_killed_process_leaves_no_program_behind() {
    if std::env::var_os(CHILD).is_some() {
        let mut steering = load();
        steering.attach("va", 0, Require::Native).unwrap();
        let XdpMode::Generic { .. } = steering.attach("lo", 1, Require::Any).unwrap() else { panic!() };
        println!("child: attached");
        // Until killed; or until the parent is gone, which closes this.
        let _ = std::io::stdin().read(&mut [0]);
        return;
    }
    let _namespace = enter_with_veth(1);
    let mut child = start_child(&[], "a_killed_process_leaves_no_program_behind");
    assert_eq!(word_of(&mut child), "attached");
    assert!(has_program("va") && has_program("lo"));
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    await_no_program(&["va", "lo"]);
}

#[test]
fn without_privileges_the_message_names_them_and_with_those_it_works() {
    if std::env::var_os(CHILD).is_some() {
        let attempt = Steering::load().and_then(|mut steering| steering.attach("va", 0, Require::Native));
        match attempt {
            Ok(mode) => println!("child: {mode:?}"),
            Err(error) => println!("child: {error}"),
        }
        return;
    }
    let _namespace = enter_with_veth(1);
    let word_with = |capabilities: &str| {
        let wrapper = ["setpriv", "--bounding-set", capabilities, "--inh-caps", capabilities];
        let mut child =
            start_child(&wrapper, "without_privileges_the_message_names_them_and_with_those_it_works");
        let word = word_of(&mut child);
        child.wait().unwrap();
        word
    };
    // Without CAP_PERFMON the verifier refuses arithmetic on packet pointers.
    for too_few in ["-all", "-all,+net_admin,+net_raw,+bpf"] {
        let word = word_with(too_few);
        assert!(word.starts_with("not permitted to load"), "{too_few}: {word}");
        for capability in ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF", "CAP_PERFMON"] {
            assert!(word.contains(capability), "{too_few}: {word}");
        }
    }
    let word = word_with("-all,+bpf,+perfmon");
    assert!(word.starts_with("not permitted to "), "{word}");
    assert_eq!(word_with("-all,+net_admin,+net_raw,+bpf,+perfmon"), "Native");
}
