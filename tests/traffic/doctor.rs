//! `xvs doctor` on the lab's veths, before and after their offloads are set right.

use std::process::ExitStatus;

use crate::lab::Lab;
use crate::xvs::ends;

fn doctor(lab: &Lab, devices: &[&str]) -> (ExitStatus, String) {
    let (status, out, err) =
        ends(lab.command("director", env!("CARGO_BIN_EXE_xvs")).arg("doctor").args(devices));
    (status, out + &err)
}

#[test]
fn doctor_names_the_offloads_of_the_directors_interfaces_and_their_cure() {
    let lab = Lab::with_kernel_offloads();
    let cures = ["lb0", "lb1"].map(|device| format!("ethtool -K {device} "));
    let (_, before) = doctor(&lab, &["lb0", "lb1"]);
    assert!(cures.iter().all(|cure| before.contains(cure)), "no cure for one of them:\n{before}");
    for device in ["lb0", "lb1"] {
        lab.offloads_off("director", device);
    }
    let (status, after) = doctor(&lab, &["lb0", "lb1"]);
    assert!(status.success(), "{status}:\n{after}");
    assert!(
        !cures.iter().any(|cure| after.contains(cure)),
        "nothing is left to cure at these ends:\n{after}"
    );
}

#[test]
fn doctor_fails_a_veth_whose_other_end_hands_over_unfinished_checksums() {
    let lab = Lab::new();
    lab.cable(("director", "v0"), ("director", "v1"), false);
    let (status, before) = doctor(&lab, &["v0"]);
    assert!(!status.success() && before.contains("ethtool -K v1 tx off "), "{status}:\n{before}");
    for device in ["v0", "v1"] {
        lab.offloads_off("director", device);
    }
    let (status, after) = doctor(&lab, &["v0"]);
    assert!(status.success() && !after.contains("ethtool -K v1 tx off"), "{status}:\n{after}");
}

#[test]
fn doctor_says_when_an_interface_does_not_exist() {
    let lab = Lab::new();
    let (status, said) = doctor(&lab, &["nope0"]);
    assert!(!status.success() && said.contains("nope0"), "{status}:\n{said}");
}
