//! Wrong starts: an exit status that is not 0, one clear message, nothing left attached.

use std::process::Command;

use crate::client;
use crate::lab::{self, Lab, NAT};
use crate::netns::succeed;
use crate::xvs::{self, Xvs, command, config, ends, nat};

/// Runs `xvs`, which must refuse, and say each of `words`.
fn refuses(command: &mut Command, words: &[&str]) -> String {
    let (status, _, err) = ends(command);
    assert!(!status.success(), "accepted:\n{err}");
    assert!(!err.contains("panicked"), "a panic is not a message:\n{err}");
    let said = err.to_lowercase();
    for word in words {
        assert!(said.contains(word), "does not say {word:?}:\n{err}");
    }
    let messages =
        said.lines().filter(|line| line.contains("error:") && !line.ends_with("not usable")).count();
    assert!(!said.trim().is_empty() && messages <= 1, "one clear message is wanted, got:\n{err}");
    err
}

#[test]
fn an_interface_that_does_not_exist() {
    let lab = Lab::new();
    refuses(&mut command(&lab, &[], &config(&[nat()]).replace("lb1", "nope0")), &["nope0"]);
    assert!(!lab.xdp_attached());
}

#[test]
fn an_mtu_whose_frames_would_be_lost() {
    let lab = Lab::new();
    succeed(lab.command("director", "ip").args(["link", "set", "lb1", "mtu", "9217"]));
    refuses(&mut command(&lab, &[], &config(&[nat()])), &["lb1", "9217", "ip link set dev lb1 mtu 9216"]);
    assert!(!lab.xdp_attached());
}

/// By its socket, and with a socket of its own by the interface.
#[test]
fn who_comes_second_is_told_who_holds_it_and_the_first_goes_on() {
    let lab = Lab::new();
    let first = Xvs::start(&lab, &config(&[nat()]));
    let served = || client::run(&lab, async || client::name_of_server(lab::client(0), NAT).await);
    let holder = format!("is held by process {} (`", first.pid());
    let socket = xvs::socket(&lab);
    let said = refuses(&mut command(&lab, &[], &config(&[nat()])), &[&holder, "[api] socket"]);
    assert!(said.contains(&format!("socket {} {holder}", socket.display())), "{said}");
    assert_eq!(served().expect("still served"), "c");

    let other = lab.dir().join("other.sock");
    let second = lab.dir().join("second.toml");
    std::fs::write(&second, format!("{}\n[api]\nsocket = {other:?}\n", config(&[nat()]))).unwrap();
    let run = &mut lab.command("director", env!("CARGO_BIN_EXE_xvs"));
    refuses(run.args(["run", "--config"]).arg(second), &[&format!("lb0 {holder}")]);
    assert!(!other.exists(), "its socket is left over");
    assert!(lab.xdp_attached(), "the first one's program was taken off");
    assert_eq!(served().expect("still served"), "b");
    xvs::say(&lab, &["show", "info"]);
}

#[test]
fn missing_privileges() {
    let lab = Lab::new();
    let unprivileged = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    let said = refuses(&mut command(&lab, &unprivileged, &config(&[nat()])), &[]).to_lowercase();
    assert!(["privilege", "permission", "root", "cap_"].iter().any(|word| said.contains(word)), "{said}");
    assert!(!lab.xdp_attached());
}

#[test]
fn too_little_locked_memory() {
    let lab = Lab::new();
    // The limit counts only for a process that may not exceed it (CAP_IPC_LOCK), nor raise it.
    let limited = [
        "setpriv",
        "--bounding-set=-ipc_lock,-sys_resource",
        "--inh-caps=-all",
        "prlimit",
        "--memlock=65536:65536",
    ];
    let said = refuses(&mut command(&lab, &limited, &config(&[nat()])), &[]).to_lowercase();
    assert!(["memlock", "locked memory", "lock memory"].iter().any(|word| said.contains(word)), "{said}");
    assert!(!lab.xdp_attached());
}

#[test]
fn a_bad_configuration_says_what_and_where() {
    let lab = Lab::new();
    for (right, wrong) in
        [("\"rr\"", "\"rrr\""), ("\"nat\"", "\"fax\""), ("8080\"", "80800\""), ("weight", "wait")]
    {
        let said =
            refuses(&mut command(&lab, &[], &config(&[nat()]).replacen(right, wrong, 1)), &["xvs.toml"]);
        assert!(said.contains(wrong.trim_matches('"')), "does not quote {wrong}:\n{said}");
        assert!(!lab.xdp_attached());
    }
}

#[test]
fn check_judges_a_configuration_without_starting() {
    let lab = Lab::new();
    for (text, good) in [(config(&[nat()]), true), (config(&[nat()]).replace("\"rr\"", "\"rrr\""), false)] {
        let file = lab.dir().join("checked.toml");
        std::fs::write(&file, text).unwrap();
        let xvs = &mut lab.command("director", env!("CARGO_BIN_EXE_xvs"));
        let (status, out, err) = ends(xvs.args(["check", "--config"]).arg(file));
        assert_eq!(status.success(), good, "{out}{err}");
        assert!(!lab.xdp_attached());
    }
}
