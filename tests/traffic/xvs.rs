//! The built binary in the director's namespace: its configuration, its command line, its report read.

use std::fmt::Write as _;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::process::Command;

use crate::lab::{Lab, SERVERS};
pub use crate::process::{PATIENCE, Xvs, ends, wait};

/// A configuration for the lab's director.
pub fn config(services: &[String]) -> String {
    format!("[director]\ninterfaces = [\"lb0\", \"lb1\"]\n\n{}", services.join("\n"))
}

/// A `[[service]]` with its servers, each an address and a weight, in this order.
pub fn service(
    (protocol, address): (&str, SocketAddrV4),
    (scheduler, forward): (&str, &str),
    servers: &[(SocketAddrV4, u16)],
) -> String {
    let mut text = format!(
        "[[service]]\nprotocol = \"{protocol}\"\naddress = \"{address}\"\nscheduler = \"{scheduler}\"\nforward = \"{forward}\"\n"
    );
    for (address, weight) in servers {
        writeln!(text, "[[service.server]]\naddress = \"{address}\"\nweight = {weight}").expect("a String");
    }
    text
}

/// Servers a, b and c of the lab at `port`, with these weights.
pub fn abc(port: u16, weights: [u16; 3]) -> Vec<(SocketAddrV4, u16)> {
    SERVERS.iter().zip(weights).map(|((_, rip), weight)| (SocketAddrV4::new(*rip, port), weight)).collect()
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
    let text = format!("{config}\n[api]\nsocket = {:?}\n", socket(lab));
    std::fs::write(&path, text).expect("configuration written");
    path
}

/// A command that asks the lab's director.
pub fn client_command(lab: &Lab, words: &[&str]) -> Command {
    let mut command = lab.command("director", env!("CARGO_BIN_EXE_xvs"));
    command.args(words).env("XVS_SOCKET", socket(lab));
    command
}

impl Xvs {
    /// Starts xvs in the director's namespace and waits until it says that it is ready.
    pub fn start(lab: &Lab, config: &str) -> Self {
        Self::spawn(&mut command(lab, &[], config))
    }
}

/// The five numbers of an `ipvsadm -Ln --stats` row of a report: Conns, InPkts, OutPkts, InBytes, OutBytes.
/// `label` is `TCP`, `UDP` or `->`.
pub fn stats(report: &str, label: &str, address: SocketAddrV4) -> [u64; 5] {
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
