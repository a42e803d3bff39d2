//! The unit file for systemd: the capabilities that it grants are enough to balance, to offload, and to let a group in.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt;

use crate::client::{self, connect};
use crate::lab::{self, Lab, NAT};
use crate::offload::{ask_until_offloaded, frames};
use crate::xvs::{Xvs, command, config_path, nat, offloading, socket};

/// The value of a key of `config/xvs.service`.
fn value(key: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/xvs.service");
    let file = fs::read_to_string(path).expect("read");
    let value = file.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {key} in {path}")).to_owned()
}

#[test]
fn its_capabilities_are_enough() {
    let _alone = lab::alone();
    let lab = Lab::new();
    lab.take_redirected();
    let set = value("CapabilityBoundingSet").replace("CAP_", "+").replace(' ', ",").to_lowercase();
    let set = format!("-all,{set}");
    let unit = ["setpriv", "--bounding-set", &set, "--inh-caps", &set, "--no-new-privs"];
    let mut command = command(&lab, &unit, &offloading("on", &[nat()]));
    // The first group but root's, to which the socket is given: `[api]` is the file's end.
    let mut file = fs::OpenOptions::new().append(true).open(config_path(&lab)).expect("the configuration");
    writeln!(file, "group = \"daemon\"").expect("written");
    let xvs = Xvs::spawn(&mut command);
    assert_eq!(fs::metadata(socket(&lab)).expect("the socket").gid(), 1);
    client::run(&lab, async || {
        let mut wire = connect(lab::client(1), NAT).await.expect("connected");
        ask_until_offloaded(&lab, &mut wire).await;
    });
    assert!(frames(&xvs.stop(), "offloaded") > 0);
}
