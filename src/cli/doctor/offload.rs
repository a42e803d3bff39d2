//! Findings about offloads: whatever makes a received frame differ from what was on the wire.

use crate::net::offloads::{Offload, Offloads};

use super::facts::InterfaceFacts;
use super::findings::{Finding, OTHER_END, Severity};

/// Offloads of a veth's sending end that reach the receiving end unfinished.
const UNFINISHED: [Offload; 4] = [Offload::TxChecksum, Offload::Tso, Offload::Gso, Offload::TxVlan];

/// All that should be off at each end of a veth. GRO is not: where it is on, the other end takes redirected frames.
const VETH_OFF: &str = "tx off tso off gso off rxvlan off txvlan off";

const PARTIAL: &str = "a veth hands its sender's unfinished checksums and uncut packets over as they are: NAT would make garbage";

pub(super) fn judge(facts: &InterfaceFacts, native: bool) -> Vec<Finding> {
    let Some(offloads) = &facts.offloads else { return Vec::new() };
    let mut findings = vec![merging(facts, offloads, native), vlan(facts, offloads)];
    match facts.driver.as_deref() {
        Some("veth") => findings.extend(veth(facts, offloads)),
        Some("virtio_net") => findings.push(virtio(facts, offloads, native)),
        _ => {}
    }
    findings
}

fn merging(facts: &InterfaceFacts, offloads: &Offloads, native: bool) -> Finding {
    let check = "merging";
    let why = "merged packets are longer than any packet buffer: they are lost";
    let by_card = offloads.on_of(&[Offload::Lro, Offload::GroHardware]);
    if !by_card.is_empty() {
        return Finding::new(Severity::Fail, &facts.name, check, format!("{} on", words(&by_card)))
            .why(why)
            .cure(switch_off(&facts.name, &by_card));
    }
    if offloads.is_on(Offload::Gro) && !native {
        return Finding::new(Severity::Fail, &facts.name, check, "gro on, and XDP is only generic")
            .why("the kernel merges packets before generic XDP sees them; those are too long and lost")
            .cure(switch_off(&facts.name, &[Offload::Gro]));
    }
    if offloads.is_on(Offload::Gro) {
        return Finding::new(
            Severity::Ok,
            &facts.name,
            check,
            "lro off; gro on, which comes after native XDP",
        );
    }
    Finding::new(Severity::Ok, &facts.name, check, "lro and gro off")
}

fn vlan(facts: &InterfaceFacts, offloads: &Offloads) -> Finding {
    if !offloads.is_on(Offload::RxVlan) {
        return Finding::new(Severity::Ok, &facts.name, "VLAN tags", "left in place");
    }
    let finding = Finding::new(Severity::Warn, &facts.name, "VLAN tags", "rxvlan on: taken out before XDP")
        .why("a tagged frame then looks like an untagged one: services on a VLAN are not found, or wrongly");
    let offloads_on = offloads.on_of(&[Offload::RxVlan, Offload::TxVlan]);
    if offloads.can_change(Offload::RxVlan) {
        finding.cure(switch_off(&facts.name, &offloads_on))
    } else {
        finding.cure(format!(
            "ethtool -k {} | grep vlan    (fixed by the driver: use untagged ports)",
            facts.name
        ))
    }
}

fn veth(facts: &InterfaceFacts, offloads: &Offloads) -> [Finding; 2] {
    let name = facts.name.as_str();
    let here = offloads.on_of(&UNFINISHED);
    let this_end = if here.is_empty() {
        Finding::new(Severity::Ok, name, "this end", "tx, tso, gso and txvlan off")
    } else {
        // What this end sends is the peer's trouble; but who forgot this one forgot the other.
        Finding::new(Severity::Warn, name, "this end", format!("{} on", words(&here)))
            .why("what the host itself sends by it reaches the other end unfinished, which matters if AF_XDP is there")
            .cure(format!("ethtool -K {name} {VETH_OFF}"))
    };
    let other_end = match &facts.peer {
        Some(peer) => {
            let on = peer.offloads.on_of(&UNFINISHED);
            if on.is_empty() {
                Finding::new(
                    Severity::Ok,
                    name,
                    OTHER_END,
                    format!("{}: tx, tso, gso and txvlan off", peer.name),
                )
            } else {
                Finding::new(Severity::Fail, name, OTHER_END, format!("{}: {} on", peer.name, words(&on)))
                    .why(PARTIAL)
                    .cure(format!("ethtool -K {} {VETH_OFF}", peer.name))
            }
        }
        None => {
            Finding::new(Severity::Warn, name, OTHER_END, "in another namespace: cannot be seen from here")
                .why(PARTIAL)
                .cure(format!("ethtool -K PEER {VETH_OFF}    (there)"))
        }
    };
    [this_end, other_end]
}

fn virtio(facts: &InterfaceFacts, offloads: &Offloads, native: bool) -> Finding {
    let finding = |severity, found| Finding::new(severity, &facts.name, "checksums", found);
    if !offloads.is_on(Offload::RxChecksum) {
        return finding(Severity::Ok, "finished by the hypervisor (rx off)");
    }
    if native {
        return finding(Severity::Ok, "native XDP makes the hypervisor finish them");
    }
    finding(Severity::Fail, "left unfinished by the hypervisor (rx on)")
        .why("packets from the same physical machine come with a part of the checksum only: NAT would make garbage")
        .cure(format!("ethtool -K {} rx off    (or guest_csum=off at the hypervisor)", facts.name))
}

fn words(offloads: &[Offload]) -> String {
    offloads.iter().map(|offload| offload.word()).collect::<Vec<_>>().join(", ")
}

fn switch_off(name: &str, offloads: &[Offload]) -> String {
    let each: Vec<String> = offloads.iter().map(|offload| format!("{} off", offload.word())).collect();
    format!("ethtool -K {name} {}", each.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::facts::Peer;

    fn interface(driver: &str, active: &[&str]) -> InterfaceFacts {
        InterfaceFacts {
            name: "eth0".to_owned(),
            driver: Some(driver.to_owned()),
            offloads: Some(Offloads::with_active(active)),
            ..InterfaceFacts::default()
        }
    }

    fn found(facts: &InterfaceFacts, native: bool) -> Vec<(&'static str, Severity, Option<String>)> {
        judge(facts, native).into_iter().map(|f| (f.check, f.severity, f.cure)).collect()
    }

    #[test]
    fn packets_merged_by_the_card_fail_and_by_the_kernel_only_before_generic_xdp() {
        let cure = |text: &str| Some(text.to_owned());
        let lro = interface("ice", &["rx-lro", "rx-gro-hw", "rx-gro"]);
        let expected = ("merging", Severity::Fail, cure("ethtool -K eth0 lro off rx-gro-hw off"));
        assert_eq!(found(&lro, true)[0], expected);
        let gro = interface("ice", &["rx-gro"]);
        assert_eq!(found(&gro, true)[0], ("merging", Severity::Ok, None));
        assert_eq!(found(&gro, false)[0], ("merging", Severity::Fail, cure("ethtool -K eth0 gro off")));
    }

    #[test]
    fn tags_that_are_taken_out_are_warned_of() {
        let facts = interface("ice", &["rx-vlan-hw-parse"]);
        let expected = ("VLAN tags", Severity::Warn, Some("ethtool -K eth0 rxvlan off".to_owned()));
        assert_eq!(found(&facts, true)[1], expected);
    }

    #[test]
    fn of_a_veth_the_other_end_matters() {
        let severities = |facts: &InterfaceFacts| {
            judge(facts, true)[2..].iter().map(|finding| finding.severity).collect::<Vec<_>>()
        };
        let mut facts = interface("veth", &["tx-checksum-ip-generic"]);
        assert_eq!(severities(&facts), [Severity::Warn, Severity::Warn], "the peer cannot be seen");
        facts = interface("veth", &[]);
        let peer =
            |active: &[&str]| Peer { name: "peer".to_owned(), offloads: Offloads::with_active(active) };
        for unfinished in ["tx-checksum-ip-generic", "tx-checksum-sctp"] {
            facts.peer = Some(peer(&[unfinished]));
            assert_eq!(severities(&facts), [Severity::Ok, Severity::Fail]);
        }
        facts.peer = Some(peer(&[]));
        assert_eq!(severities(&facts), [Severity::Ok, Severity::Ok]);
    }

    #[test]
    fn virtio_without_native_xdp_must_have_its_checksums_finished() {
        let severity = |active: &[&str], native| found(&interface("virtio_net", active), native)[2].1;
        assert_eq!(severity(&["rx-checksum"], false), Severity::Fail);
        assert_eq!(severity(&["rx-checksum"], true), Severity::Ok);
        assert_eq!(severity(&[], false), Severity::Ok);
    }
}
