//! The unit file for systemd: the capabilities that it grants are enough to balance, and to offload.

use std::fs;

use crate::client::{self, connect};
use crate::lab::{self, Lab, NAT};
use crate::offload::{ask_until_offloaded, frames};
use crate::xvs::{Xvs, command, nat, offloading};

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
    let xvs = Xvs::spawn(&mut command(&lab, &unit, &offloading("on", &[nat()])));
    client::run(&lab, async || {
        let mut wire = connect(lab::client(1), NAT).await.expect("connected");
        ask_until_offloaded(&lab, &mut wire).await;
    });
    assert!(frames(&xvs.stop(), "offloaded") > 0);
}
