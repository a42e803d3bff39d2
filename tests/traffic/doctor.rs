//! `xvs doctor` on the lab's veths, before and after their offloads are set right.

use crate::lab::Lab;
use crate::xvs::ends;

fn doctor(lab: &Lab) -> String {
    let (_, out, err) =
        ends(lab.command("director", env!("CARGO_BIN_EXE_xvs")).args(["doctor", "lb0", "lb1"]));
    out + &err
}

#[test]
fn doctor_names_the_offloads_and_their_cure_and_is_content_afterwards() {
    let lab = Lab::with_kernel_offloads();
    let before = doctor(&lab);
    for device in ["lb0", "lb1"] {
        assert!(before.contains(&format!("ethtool -K {device}")), "no cure for {device}:\n{before}");
    }
    for device in ["lb0", "lb1"] {
        lab.offloads_off("director", device);
    }
    let after = doctor(&lab);
    assert!(after.contains("lb0") && after.contains("lb1"), "both are spoken of:\n{after}");
    assert!(!after.contains("ethtool -K"), "the offloads are right, nothing to cure:\n{after}");
}

#[test]
fn doctor_says_when_an_interface_does_not_exist() {
    let lab = Lab::new();
    let (status, out, err) =
        ends(lab.command("director", env!("CARGO_BIN_EXE_xvs")).args(["doctor", "nope0"]));
    assert!(!status.success() && (out + &err).contains("nope0"));
}
