//! The built binary in the director's namespace: its configuration, its command line, its report read.

use std::fmt::Write as _;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::lab::{DR, Lab, NAT, SERVERS, offloads};
use crate::netns::succeed;
pub use crate::process::{PATIENCE, Xvs, ends, wait};

/// A configuration for the lab's director.
pub fn config(services: &[String]) -> String {
    if offloads() {
        director("offload = \"on\"\noffload_after = 0", services)
    } else {
        offloading("auto", services)
    }
}

/// As [`config`], with this value of `offload`.
pub fn offloading(offload: &str, services: &[String]) -> String {
    director(&format!("offload = \"{offload}\""), services)
}

fn director(keys: &str, services: &[String]) -> String {
    let services = services.join("\n");
    format!("[director]\ninterfaces = [\"lb0\", \"lb1\"]\n{keys}\n\n{services}")
}

/// A `[[service]]` with its servers, each an address and a weight, in this order.
pub fn service<A: Into<SocketAddr> + Copy>(
    (protocol, address): (&str, A),
    (scheduler, forward): (&str, &str),
    servers: &[(A, u16)],
) -> String {
    let address = address.into();
    let mut text = format!(
        "[[service]]\nprotocol = \"{protocol}\"\naddress = \"{address}\"\nscheduler = \"{scheduler}\"\nforward = \"{forward}\"\n"
    );
    for &(address, weight) in servers {
        let address = address.into();
        writeln!(text, "[[service.server]]\naddress = \"{address}\"\nweight = {weight}").expect("a String");
    }
    text
}

/// Servers a, b and c of the lab at `port`, with these weights.
pub fn abc(port: u16, weights: [u16; 3]) -> Vec<(SocketAddrV4, u16)> {
    SERVERS.iter().zip(weights).map(|((_, rip), weight)| (SocketAddrV4::new(*rip, port), weight)).collect()
}

/// [`NAT`] over all three servers.
pub fn nat() -> String {
    service(("tcp", NAT), ("rr", "nat"), &abc(8080, [1; 3]))
}

/// [`DR`] over all three servers.
pub fn dr() -> String {
    service(("tcp", DR), ("rr", "dr"), &abc(80, [1; 3]))
}

/// The command that runs xvs in the director's namespace with `config`; `wrapper` goes before it.
pub fn command(lab: &Lab, wrapper: &[&str], config: &str) -> Command {
    let path = write_config(lab, config);
    let words = [wrapper, &[env!("CARGO_BIN_EXE_xvs"), "run", "--config"]].concat();
    let mut command = lab.command("director", words[0]);
    command.args(&words[1..]).arg(path);
    command
}

/// Where the lab's configuration is.
pub fn config_path(lab: &Lab) -> PathBuf {
    lab.dir().join("xvs.toml")
}

/// Where the lab's director listens: each lab has its own.
pub fn socket(lab: &Lab) -> PathBuf {
    lab.dir().join("xvs.sock")
}

/// Writes the configuration, with the lab's own socket; its path comes back.
pub fn write_config(lab: &Lab, config: &str) -> PathBuf {
    let path = config_path(lab);
    std::fs::write(&path, whole(lab, config)).expect("configuration written");
    path
}

/// Puts another file in the configuration's place, as editors and configuration management do: nobody reads half of it.
pub fn replace_config(lab: &Lab, config: &str) {
    let beside = lab.dir().join("xvs.toml.new");
    std::fs::write(&beside, whole(lab, config)).expect("configuration written");
    std::fs::rename(&beside, config_path(lab)).expect("configuration replaced");
}

fn whole(lab: &Lab, config: &str) -> String {
    format!("{config}\n[api]\nsocket = {:?}\n", socket(lab))
}

/// A command that asks the lab's director.
pub fn client_command(lab: &Lab, words: &[&str]) -> Command {
    let mut command = lab.command("director", env!("CARGO_BIN_EXE_xvs"));
    command.args(words).env("XVS_SOCKET", socket(lab));
    command
}

/// What a command of xvs that must succeed says to the lab's director.
pub fn say(lab: &Lab, words: &[&str]) -> String {
    String::from_utf8(succeed(&mut client_command(lab, words)).stdout).expect("UTF-8")
}

/// A script for bash in the director's namespace, where `ipvsadm` and its two scripts are xvs.
pub fn shell(lab: &Lab, script: &str) -> Command {
    let links = lab.dir().join("bin");
    if !links.exists() {
        std::fs::create_dir(&links).expect("a directory");
        for name in ["ipvsadm", "ipvsadm-save", "ipvsadm-restore"] {
            symlink(env!("CARGO_BIN_EXE_xvs"), links.join(name)).expect("a link");
        }
    }
    let mut command = lab.command("director", "bash");
    let path = format!("{}:{}", links.display(), std::env::var("PATH").expect("PATH"));
    command.args(["-euo", "pipefail", "-c", script]).env("PATH", path);
    command.env("XVS_SOCKET", socket(lab)).current_dir(lab.dir());
    command
}

/// What `ipvsadm WORDS` says, which must succeed.
pub fn ipvsadm(lab: &Lab, words: &str) -> String {
    let words: Vec<&str> = ["ipvsadm"].into_iter().chain(words.split_whitespace()).collect();
    say(lab, &words)
}

/// Waits until it is so.
pub fn until(what: &str, is_so: impl FnMut() -> bool) {
    until_within(PATIENCE, what, is_so);
}

/// As [`until`], with a patience of its own.
pub fn until_within(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Xvs {
    /// Starts xvs in the director's namespace and waits until it says that it is ready.
    pub fn start(lab: &Lab, config: &str) -> Self {
        Self::spawn(&mut command(lab, &[], config))
    }
}

/// Starts xvs in the director's namespace with a file that is there already.
pub fn start_with(lab: &Lab, file: &std::path::Path) -> Xvs {
    Xvs::spawn(lab.command("director", env!("CARGO_BIN_EXE_xvs")).args(["run", "--config"]).arg(file))
}

/// The five numbers of an `ipvsadm -Ln --stats` row of a report: Conns, InPkts, OutPkts, InBytes, OutBytes.
/// `label` is `TCP`, `UDP` or `->`.
pub fn stats(report: &str, label: &str, address: impl ToString) -> [u64; 5] {
    let address = address.to_string();
    report
        .lines()
        .find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let numbers: Vec<u64> = words.iter().skip(2).map_while(|word| word.parse().ok()).collect();
            let is_row = words.len() == 7 && words[0] == label && words[1] == address;
            if is_row { numbers.try_into().ok() } else { None }
        })
        .unwrap_or_else(|| panic!("no --stats row for {label} {address} in the report:\n{report}"))
}
