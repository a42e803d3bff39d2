//! VLANs and bonds: devices above interfaces, which kernels for small machines lack. `scripts/guest-tests.sh` runs these
//! under a kernel that has them.
//!
//! ```text
//!  clients  cl0 ──── lb0  director  lb1 ──── to-lb  switch ── a, b, c
//!           cl1 ──── lb2
//! ```

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Command;
use std::time::Duration;

use crate::client::{self, patiently};
use crate::file::File;
use crate::lab::{self, DR, Lab, NAT, NAT_VIP, UDP_PORT};
use crate::netns::succeed;
use crate::tunnels::{far_ends, tunnelled};
use crate::xvs::{Xvs, abc, command, config, dr, ends, nat, service, stats, until};

const NEAR: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
const LEN: usize = 256 << 10;
/// Emulated machines are slow.
const LIMIT: Duration = Duration::from_secs(60);

fn load(module: &str) {
    succeed(Command::new("modprobe").arg(module));
}

/// Moves the addresses that a device has in the lab, and the routes by it, to one above it.
fn move_addresses(lab: &Lab, who: &str, from: &str, to: &str) {
    let list = |what: &str| {
        let words = format!("-4 {what} show dev {from}");
        let out = succeed(lab.command(who, "ip").arg("-o").args(words.split(' '))).stdout;
        String::from_utf8(out).expect("UTF-8")
    };
    let word_after =
        |line: &str, word: &str| line.split_whitespace().skip_while(|w| *w != word).nth(1).map(str::to_owned);
    let addresses: Vec<String> =
        list("address").lines().filter_map(|line| word_after(line, "inet")).collect();
    let routes: Vec<String> =
        list("route").lines().filter(|line| !line.contains("proto kernel")).map(str::to_owned).collect();
    lab.ip(who, &[format!("address flush dev {from}"), format!("link set {to} up")]);
    lab.ip(who, &addresses.iter().map(|a| format!("address add {a} dev {to}")).collect::<Vec<_>>());
    let again = |route: &String| format!("route add {} dev {to}", route.trim().replace(" scope link", ""));
    lab.ip(who, &routes.iter().map(again).collect::<Vec<_>>());
}

/// What is above sends packets as a wire carries them, as what is below does.
fn offloads_off(lab: &Lab, who: &str, device: &str) {
    let off = format!("-K {device} tx off tso off gso off gro off");
    succeed(lab.command(who, "ethtool").args(off.split(' ')));
}

/// Adds the VLAN `id` above a device; its name.
fn vlan(lab: &Lab, who: &str, device: &str, id: u16) -> String {
    let name = format!("{device}.{id}");
    lab.ip(who, &[format!("link add link {device} name {name} type vlan id {id}")]);
    lab.ip(who, &[format!("link set {name} up")]);
    offloads_off(lab, who, &name);
    name
}

/// Puts a tag on the clients' side of the director.
fn tag_outside(lab: &Lab, (director, client): (&str, &str), id: u16) {
    for (who, from, device) in [("director", "lb0", director), ("clients", "cl0", client)] {
        let to = vlan(lab, who, device, id);
        move_addresses(lab, who, from, &to);
    }
}

/// Puts a tag on the servers' side of the director, where their switch takes it off.
fn tag_inside(lab: &Lab, id: u16) {
    let to = vlan(lab, "director", "lb1", id);
    move_addresses(lab, "director", "lb1", &to);
    lab.ip("clients", &["link set to-lb nomaster"]);
    let port = vlan(lab, "clients", "to-lb", id);
    lab.ip("clients", &[format!("link set {port} master switch")]);
}

/// Files and datagrams by every method.
fn all_methods(lab: &Lab, interfaces: &str) {
    let file = File::new(lab, LEN, LIMIT);
    let ends = far_ends(lab);
    let dns = SocketAddrV4::new(NAT_VIP, UDP_PORT);
    let udp = service(("udp", dns), ("rr", "nat"), &abc(UDP_PORT, [1; 3]));
    for services in [vec![nat(), dr(), udp], vec![tunnelled("tcp", 80, &["tunnel = \"ipip\""])]] {
        let vips: &[SocketAddrV4] = if services.len() > 1 { &[NAT, DR] } else { &[DR] };
        let text = config(&services).replace("\"lb0\", \"lb1\"", interfaces);
        let xvs = Xvs::start(lab, &text);
        client::run(lab, async || {
            for &vip in vips {
                let mut names = String::new();
                for index in 0..3 {
                    names += &file.both_ways(lab::client(index), vip).await.0;
                }
                assert_eq!(names, "cba", "{vip}");
            }
            if vips.len() > 1 {
                let from = SocketAddrV4::new(lab::client(3), 20_000);
                let resolver = client::Resolver::new(from, dns).await.expect("socket");
                patiently(resolver.ask(7)).await.expect("an answer");
            }
        });
        let report = xvs.stop();
        let [conns, in_packets, ..] = stats(&report, "TCP", vips[0]);
        assert!(conns == 3 && in_packets > 100, "{report}");
    }
    assert!(ends.iter().all(|end| end.seen.bad.load(std::sync::atomic::Ordering::Relaxed) == 0));
}

#[test]
#[ignore = "needs a kernel with VLANs: scripts/guest-tests.sh"]
fn a_tag_outside_and_none_inside() {
    load("8021q");
    let lab = Lab::new();
    tag_outside(&lab, ("lb0", "cl0"), 10);
    all_methods(&lab, "\"lb0\", \"lb1\"");
}

#[test]
#[ignore = "needs a kernel with VLANs: scripts/guest-tests.sh"]
fn a_tag_inside_and_none_outside() {
    load("8021q");
    let lab = Lab::new();
    tag_inside(&lab, 20);
    all_methods(&lab, "\"lb0\", \"lb1\"");
}

#[test]
#[ignore = "needs a kernel with VLANs: scripts/guest-tests.sh"]
fn two_tags_on_two_interfaces() {
    load("8021q");
    let lab = Lab::new();
    tag_outside(&lab, ("lb0", "cl0"), 10);
    tag_inside(&lab, 20);
    all_methods(&lab, "\"lb0\", \"lb1\"");
}

#[test]
#[ignore = "needs a kernel with VLANs: scripts/guest-tests.sh"]
fn two_tags_on_one_interface() {
    load("8021q");
    let lab = Lab::new();
    tag_outside(&lab, ("lb1", "to-lb"), 10);
    tag_inside(&lab, 20);
    all_methods(&lab, "\"lb1\"");
}

/// A bond at both ends of two cables between clients and director.
fn bonded(lab: &Lab, mode: &str) {
    lab.cable(("clients", "cl1"), ("director", "lb2"), true);
    for (who, members) in [("director", ["lb0", "lb2"]), ("clients", ["cl0", "cl1"])] {
        lab.ip(who, &[format!("link add bond0 type bond {mode} miimon 50")]);
        // A member has to be down to become one, and loses its addresses' routes then.
        move_addresses(lab, who, members[0], "bond0");
        for member in members {
            lab.ip(who, &[format!("link set {member} down"), format!("link set {member} master bond0")]);
            lab.ip(who, &[format!("link set {member} up")]);
        }
        offloads_off(lab, who, "bond0");
        if mode.contains("active-backup") {
            lab.ip(who, &[format!("link set bond0 type bond primary {}", members[0])]);
        }
    }
}

const BOTH: &str = "\"lb0\", \"lb2\", \"lb1\"";

#[test]
#[ignore = "needs a kernel with bonds: scripts/guest-tests.sh"]
fn a_bond_that_spreads_flows_over_its_members() {
    load("bonding");
    let lab = Lab::new();
    bonded(&lab, "mode balance-xor xmit_hash_policy layer3+4");
    all_methods(&lab, BOTH);
    let before = ["cl0", "cl1"].map(|device| lab.received("clients", device));
    let xvs = Xvs::start(&lab, &config(&[nat()]).replace("\"lb0\", \"lb1\"", BOTH));
    client::run(&lab, async || {
        for index in 0..12 {
            client::name_of_server(lab::client(index), NAT).await.expect("served");
        }
    });
    let after = ["cl0", "cl1"].map(|device| lab.received("clients", device));
    assert!(after[0] > before[0] + 4 && after[1] > before[1] + 4, "replies by both: {before:?} {after:?}");
    drop(xvs.stop());
}

#[test]
#[ignore = "needs a kernel with bonds: scripts/guest-tests.sh"]
fn a_connection_outlives_the_active_member() {
    load("bonding");
    let lab = Lab::new();
    bonded(&lab, "mode active-backup");
    let file = File::new(&lab, LEN, LIMIT);
    let xvs = Xvs::start(&lab, &config(&[nat()]).replace("\"lb0\", \"lb1\"", BOTH));
    client::run(&lab, async || {
        let (name, mut wire) = file.both_ways(NEAR, NAT).await;
        let before = lab.received("clients", "cl1");
        lab.ip("clients", &["link set cl0 down"]);
        until("both ends have changed over", || {
            ["director", "clients"].iter().all(|who| {
                let file = "/sys/class/net/bond0/bonding/active_slave";
                let out = succeed(lab.command(who, "cat").arg(file)).stdout;
                String::from_utf8_lossy(&out).trim() == if *who == "clients" { "cl1" } else { "lb2" }
            })
        });
        file.down(&mut wire).await;
        assert_eq!(file.up(&mut wire).await, name, "the same connection");
        assert!(lab.received("clients", "cl1") > before + 100, "by the other member");
    });
    assert_eq!(stats(&xvs.stop(), "TCP", NAT)[0], 1);
}

#[test]
#[ignore = "needs a kernel with bonds and VLANs: scripts/guest-tests.sh"]
fn a_vlan_on_a_bond() {
    load("bonding");
    load("8021q");
    let lab = Lab::new();
    bonded(&lab, "mode balance-xor xmit_hash_policy layer3+4");
    for who in ["director", "clients"] {
        let to = vlan(&lab, who, "bond0", 10);
        move_addresses(&lab, who, "bond0", &to);
    }
    all_methods(&lab, BOTH);
}

#[test]
#[ignore = "needs a kernel with bonds and VLANs: scripts/guest-tests.sh"]
fn devices_above_are_refused_with_what_to_give_instead() {
    load("bonding");
    load("8021q");
    let lab = Lab::new();
    bonded(&lab, "mode active-backup");
    vlan(&lab, "director", "lb1", 20);
    for (interfaces, words) in [
        ("\"bond0\", \"lb1\"", ["bond0 is a bond", "interfaces = [\"lb0\", \"lb2\"]"]),
        ("\"lb0\", \"lb2\", \"lb1.20\"", ["lb1.20 is a VLAN", "give lb1 instead"]),
    ] {
        let text = config(&[nat()]).replace("\"lb0\", \"lb1\"", interfaces);
        let (status, _, said) = ends(&mut command(&lab, &[], &text));
        assert!(!status.success() && !lab.xdp_attached());
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
    let xvs = Xvs::start(&lab, &config(&[nat()]));
    assert!(xvs.log().contains("lb2 is a member of bond0"), "{}", xvs.log());
    drop(xvs.stop());
}
