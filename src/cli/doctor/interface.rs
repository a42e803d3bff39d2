//! Findings about one interface: link, driver, queues, rp_filter, devices above it; and the counts of several.

use crate::net::links::Link;

use super::facts::{HostFacts, InterfaceFacts};
use super::findings::{Finding, Severity};
use super::mtu::{self, Frames};
use super::{offload, xdp};

pub(super) fn judge(facts: &InterfaceFacts, host: &HostFacts, frames: &Frames) -> Vec<Finding> {
    let name = facts.name.as_str();
    let Some(link) = &facts.link else {
        let finding = Finding::new(Severity::Fail, name, "link", "there is no such interface");
        return vec![
            finding.why("the name must be one of this network namespace").cure("ip -brief link show"),
        ];
    };
    let native = xdp::native(facts);
    let mut findings = vec![carrier(link), driver(facts, link)];
    findings.extend(facts.queues.map(|queues| {
        let found = match queues.adjustable {
            true => format!("{} of {} possible", queues.receive, queues.most),
            false => format!("{}, cannot be changed with ethtool", queues.receive),
        };
        Finding::new(Severity::Ok, name, "receive queues", found)
    }));
    findings.extend(rss(facts));
    findings.extend(xdp::judge(facts, link, &native, frames));
    findings.extend(offload::judge(facts, native.possible));
    findings.push(mtu::judge(facts, link, frames));
    findings.extend(facts.above.iter().map(|above| other_mac(link, above)));
    findings.extend(rp_filter(name, facts.rp_filter, host.rp_filter_all));
    findings
}

/// The workers pair the queues of all interfaces by their index.
pub(super) fn queues_agree(interfaces: &[InterfaceFacts]) -> Option<Finding> {
    let known: Vec<_> = interfaces.iter().filter_map(|i| Some((&i.name, i.queues?))).collect();
    let least = known.iter().map(|(_, queues)| queues.receive).min()?;
    let others: Vec<_> = known.iter().filter(|(_, queues)| queues.receive != least).collect();
    if others.is_empty() {
        return None;
    }
    let counts: Vec<String> =
        known.iter().map(|(name, queues)| format!("{name} {}", queues.receive)).collect();
    let commands: Vec<String> = others.iter().map(|(name, queues)| queues.command(name, least)).collect();
    let finding = Finding::new(Severity::Fail, "all interfaces", "receive queues", counts.join(", "));
    let why = "worker i serves queue i of every interface: the counts must agree";
    Some(finding.why(why).cure(commands.join(" && ")))
}

/// With one queue there is nothing to choose.
fn rss(facts: &InterfaceFacts) -> Option<Finding> {
    facts.queues.filter(|queues| queues.receive > 1)?;
    let finding = |found: &str| Finding::new(Severity::Ok, &facts.name, "RSS", found);
    Some(if facts.tells_rss {
        finding("key and table are known: FULLNAT has replies come to the queue of their connection")
    } else {
        finding("not known: FULLNAT works, and replies may come to another queue than their connection's")
    })
}

fn carrier(link: &Link) -> Finding {
    let finding = |severity, found: &str| Finding::new(severity, &link.name, "link", found);
    match (link.ethernet, link.up, link.carrier) {
        (false, _, _) => finding(Severity::Fail, "not Ethernet")
            .why("xvs reads and writes Ethernet frames: give the Ethernet interface below it")
            .cure("ip -brief link show"),
        (_, false, _) => finding(Severity::Fail, "down")
            .why("nothing is received, and the kernel has no routes by it")
            .cure(format!("ip link set dev {} up", link.name)),
        (_, _, false) => finding(Severity::Warn, "up, without a carrier")
            .why("the cable is out, or the other end is down: routes by it count as unreachable")
            .cure(match link.kind.as_deref() {
                Some("veth") => "ip link set dev PEER up    (at the other end)".to_owned(),
                _ => format!("ethtool {}    (what the card says)", link.name),
            }),
        _ => finding(Severity::Ok, "up"),
    }
}

fn driver(facts: &InterfaceFacts, link: &Link) -> Finding {
    let name = facts.name.as_str();
    let driver = facts.driver.as_deref();
    let finding = |severity| Finding::new(severity, name, "driver", driver.unwrap_or("not known"));
    match link.kind.as_deref() {
        Some("vlan") => finding(Severity::Fail)
            .why("xvs puts the VLAN tag in by itself: give the interface below this one, routes by this one work")
            .cure(format!("ip -details link show dev {name}")),
        Some("bond") => finding(Severity::Fail)
            .why("AF_XDP takes frames from the queues of its members: give these, routes by the bond work")
            .cure(format!("ip link show master {name}")),
        Some("team") => finding(Severity::Fail)
            .why("AF_XDP takes frames from the queues of its members, and routes by a team are not followed")
            .cure("make it a bond, and give its members"),
        Some("bridge") => finding(Severity::Warn)
            .why("only what is sent to the bridge's own address gets here; give its members, or no bridge")
            .cure(format!("ip link show master {name}")),
        _ => finding(Severity::Ok),
    }
}

/// The steering program takes only what is sent to the interface's own MAC.
fn other_mac(link: &Link, above: &Link) -> Finding {
    let kind = above.kind.as_deref().unwrap_or("device");
    let (name, mac) = (&above.name, link.mac.map(|byte| format!("{byte:02x}")).join(":"));
    let cure = match kind {
        "vlan" => format!("ip link set dev {name} address {mac}"),
        _ => format!(
            "ip addr add VIP dev {}    (the VIP there, not on {name}; keepalived: no use_vmac)",
            link.name
        ),
    };
    Finding::new(Severity::Warn, &link.name, "MAC", format!("{kind} {name} above it has a MAC of its own"))
        .why("xvs takes only frames to the interface's own MAC: a VIP on the other device is not served")
        .cure(cure)
}

fn rp_filter(name: &str, own: Option<u8>, all: Option<u8>) -> Option<Finding> {
    // The larger of the two counts.
    let (effective, by_all) = (own?.max(all?), all? > own?);
    let from = if by_all { " (by conf.all)" } else { "" };
    let finding =
        |severity, word| Finding::new(severity, name, "rp_filter", format!("{effective}, {word}{from}"));
    Some(match effective {
        0 => finding(Severity::Ok, "off"),
        2 => finding(Severity::Ok, "loose"),
        // xvs takes its packets before the filter; the filter still judges ARP requests, ping, health checks.
        _ => finding(Severity::Warn, "strict")
            .why("services are not touched, but the kernel ignores ARP for the VIP, and ping, from senders it routes by another interface")
            .cure(format!("sysctl -w net.ipv4.conf.{name}.rp_filter=2")),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::facts::Facts;
    use super::*;
    use crate::net::links::{AttachedXdp, XdpMode};
    use crate::net::queues::Queues;
    use crate::net::xdp_features::XdpFeatures;

    pub fn nic(name: &str) -> InterfaceFacts {
        InterfaceFacts {
            name: name.to_owned(),
            link: Some(Link {
                name: name.to_owned(),
                ethernet: true,
                up: true,
                carrier: true,
                mtu: 1500,
                ..Link::default()
            }),
            driver: Some("ice".to_owned()),
            queues: Some(Queues { receive: 4, most: 16, combined: true, adjustable: true }),
            xdp: Some(XdpFeatures {
                native: true,
                takes_redirected: true,
                several_buffers: true,
                zero_copy: true,
                zero_copy_segments: 1,
            }),
            rp_filter: Some(0),
            ..InterfaceFacts::default()
        }
    }

    pub fn link(facts: &mut InterfaceFacts) -> &mut Link {
        facts.link.as_mut().unwrap()
    }

    /// What is not as it should be.
    pub fn complaints(facts: &InterfaceFacts) -> Vec<(&'static str, Severity, String)> {
        let host = HostFacts { rp_filter_all: Some(0), long_frames: Some(true), ..HostFacts::default() };
        let all = Facts { host, interfaces: vec![facts.clone()] };
        let bad = judge(facts, &all.host, &Frames::of(&all, 4096))
            .into_iter()
            .filter(|finding| finding.severity != Severity::Ok);
        bad.map(|finding| (finding.check, finding.severity, finding.cure.unwrap_or_default())).collect()
    }

    pub fn complaint(
        check: &'static str,
        severity: Severity,
        cure: &str,
    ) -> Vec<(&'static str, Severity, String)> {
        vec![(check, severity, cure.to_owned())]
    }

    #[test]
    fn a_fit_interface_has_no_complaints() {
        assert_eq!(complaints(&nic("eth0")), []);
    }

    #[test]
    fn each_fault_is_named_with_its_cure() {
        let missing = InterfaceFacts { name: "eth9".to_owned(), ..InterfaceFacts::default() };
        assert_eq!(complaints(&missing), complaint("link", Severity::Fail, "ip -brief link show"));

        let mut facts = nic("eth0");
        link(&mut facts).up = false;
        assert_eq!(complaints(&facts), complaint("link", Severity::Fail, "ip link set dev eth0 up"));

        let mut facts = nic("eth0");
        link(&mut facts).xdp = Some(AttachedXdp { mode: XdpMode::Generic, program_id: Some(7) });
        let cure = "ip link set dev eth0 xdpgeneric off";
        assert_eq!(complaints(&facts), complaint("XDP program", Severity::Fail, cure));

        let mut facts = nic("eth0");
        link(&mut facts).kind = Some("vlan".to_owned());
        assert_eq!(complaints(&facts)[0].0, "driver");

        let mut facts = nic("eth0");
        facts.rp_filter = Some(1);
        let cure = "sysctl -w net.ipv4.conf.eth0.rp_filter=2";
        assert_eq!(complaints(&facts), complaint("rp_filter", Severity::Warn, cure));
    }

    #[test]
    fn devices_above_with_a_mac_of_their_own_are_warned_of() {
        let mut facts = nic("eth0");
        let above =
            |name: &str, kind: &str| Link { name: name.into(), kind: Some(kind.into()), ..Link::default() };
        facts.above = vec![above("eth0.5", "vlan")];
        let cure = "ip link set dev eth0.5 address 00:00:00:00:00:00";
        assert_eq!(complaints(&facts), complaint("MAC", Severity::Warn, cure));
        facts.above = vec![above("vrrp.51", "macvlan")];
        assert!(complaints(&facts)[0].2.starts_with("ip addr add VIP dev eth0 "));
    }

    #[test]
    fn the_larger_rp_filter_counts() {
        let word = |own, all| rp_filter("eth0", Some(own), Some(all)).unwrap().found;
        assert_eq!(word(0, 0), "0, off");
        assert_eq!(word(0, 1), "1, strict (by conf.all)");
        assert_eq!(word(2, 1), "2, loose");
    }

    #[test]
    fn queue_counts_that_disagree_fail_with_the_lines_that_shrink_the_larger_ones() {
        let (mut first, second) = (nic("eth0"), nic("eth1"));
        assert_eq!(queues_agree(&[first.clone(), second.clone()]), None);
        first.queues = Some(Queues { receive: 2, most: 2, combined: false, adjustable: true });
        let finding = queues_agree(&[first, second]).unwrap();
        assert_eq!(finding.found, "eth0 2, eth1 4");
        assert_eq!(finding.cure.as_deref(), Some("ethtool -L eth1 combined 2"));
    }
}
