//! Findings about one interface: link, driver, queues, XDP, MTU, rp_filter; and the counts of several.

use crate::net::links::{Link, XdpMode};
use crate::xdp::options::{LONG_MTU_MAX, mtu_max};

use super::facts::{HostFacts, InterfaceFacts};
use super::findings::{Finding, Severity};
use super::offload;

/// Longest MTU, in bytes, with which drivers of a page for each packet run XDP natively (veth, virtio_net): of 4,096 are
/// taken off XDP's 256 of headroom, the kernel's 320 at the end and the Ethernet header.
const NATIVE_MTU_MAX: u32 = 3506;

/// Drivers known to run XDP natively, for kernels that do not tell.
const NATIVE_DRIVERS: [&str; 21] = [
    "atlantic",
    "bnxt_en",
    "ena",
    "fsl_dpaa2_eth",
    "gve",
    "hv_netvsc",
    "i40e",
    "ice",
    "igb",
    "igc",
    "ixgbe",
    "ixgbevf",
    "mlx4_en",
    "mlx5_core",
    "mvneta",
    "nfp",
    "sfc",
    "st_gmac",
    "tun",
    "veth",
    "virtio_net",
];

/// Of these, the ones known for AF_XDP without a copy.
const ZERO_COPY_DRIVERS: [&str; 9] =
    ["fsl_dpaa2_eth", "gve", "i40e", "ice", "igc", "ixgbe", "mlx5_core", "nfp", "st_gmac"];

/// Whether something is possible, and how that is known.
struct Judged {
    possible: bool,
    how: &'static str,
}

pub(super) fn judge(facts: &InterfaceFacts, host: &HostFacts, chunk_len: u32) -> Vec<Finding> {
    let name = facts.name.as_str();
    let Some(link) = &facts.link else {
        let finding = Finding::new(Severity::Fail, name, "link", "there is no such interface");
        return vec![
            finding.why("the name must be one of this network namespace").cure("ip -brief link show"),
        ];
    };
    let native = native(facts);
    let mut findings = vec![carrier(link), driver(facts, link)];
    findings.extend(facts.queues.map(|queues| {
        let found = match queues.adjustable {
            true => format!("{} of {} possible", queues.receive, queues.most),
            false => format!("{}, cannot be changed with ethtool", queues.receive),
        };
        Finding::new(Severity::Ok, name, "receive queues", found)
    }));
    findings.extend(rss(facts));
    findings.push(xdp_mode(facts, &native));
    findings.push(zero_copy(facts, &native, link.mtu > mtu_max(chunk_len)));
    findings.push(redirected(facts, &native));
    findings.push(attached(link));
    findings.extend(offload::judge(facts, native.possible));
    findings.push(mtu(facts, link, chunk_len, host));
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

fn native(facts: &InterfaceFacts) -> Judged {
    match (facts.xdp, facts.driver.as_deref()) {
        (Some(xdp), _) => Judged { possible: xdp.native, how: "says the kernel" },
        (None, Some(driver)) => {
            Judged { possible: NATIVE_DRIVERS.contains(&driver), how: "judged by the driver's name" }
        }
        (None, None) => Judged { possible: false, how: "the driver is not known" },
    }
}

fn xdp_mode(facts: &InterfaceFacts, native: &Judged) -> Finding {
    let (name, how) = (facts.name.as_str(), native.how);
    if native.possible {
        return Finding::new(Severity::Ok, name, "XDP mode", format!("native is possible ({how})"));
    }
    let finding = Finding::new(Severity::Warn, name, "XDP mode", format!("only generic ({how})"));
    match (facts.driver.as_deref(), facts.queues) {
        (Some("veth"), Some(queues)) => {
            let peer = facts.peer.as_ref().map_or("PEER", |peer| &peer.name);
            let there = if facts.peer.is_some() { "" } else { "    (in the other namespace)" };
            finding
                .why("native on a veth needs as many receive queues as the other end has transmit queues")
                .cure(format!("ethtool -L {peer} tx {}{there}", queues.receive))
        }
        _ => finding.why(
            "the kernel builds its own packet first and XDP comes after: works, but several times slower",
        ),
    }
}

fn zero_copy(facts: &InterfaceFacts, native: &Judged, has_long_frames: bool) -> Finding {
    let (possible, how) = match (facts.xdp, facts.driver.as_deref()) {
        (Some(xdp), _) if xdp.zero_copy && has_long_frames && xdp.zero_copy_segments < 2 => {
            (false, "the driver has it for frames of one buffer, and this MTU takes several")
        }
        (Some(xdp), _) => (xdp.zero_copy, "says the kernel"),
        (None, driver) => {
            (driver.is_some_and(|d| ZERO_COPY_DRIVERS.contains(&d)), "judged by the driver's name")
        }
    };
    let found = if possible && native.possible { "possible" } else { "not possible, frames are copied once" };
    Finding::new(Severity::Ok, &facts.name, "zero-copy", format!("{found} ({how})"))
}

/// Whether connections can be offloaded to it. Without it xvs runs as well, so nothing is wrong.
fn redirected(facts: &InterfaceFacts, native: &Judged) -> Finding {
    let finding =
        |found: &str| Finding::new(Severity::Ok, &facts.name, "redirected frames", found.to_owned());
    match facts.xdp {
        Some(xdp) if xdp.takes_redirected => finding("taken: connections can be offloaded"),
        // In the kernel's stack, the generic program sends like any other part of that.
        _ if !native.possible => finding("taken only while all interfaces are generic"),
        None => finding("this kernel does not tell (Linux 6.3 does): no offload unless it is \"on\""),
        Some(_) => {
            let finding = finding("not taken: connections to it are not offloaded");
            if facts.driver.as_deref() != Some("veth") {
                return finding;
            }
            let (peer, there) = match &facts.peer {
                Some(peer) => (peer.name.as_str(), "if wanted"),
                None => ("PEER", "there, if wanted"),
            };
            finding
                .why("a veth takes them once its other end has GRO or an XDP program")
                .cure(format!("ethtool -K {peer} gro on    ({there})"))
        }
    }
}

fn attached(link: &Link) -> Finding {
    let Some(xdp) = link.xdp else {
        return Finding::new(Severity::Ok, &link.name, "XDP program", "none attached");
    };
    let (mode, word) = match xdp.mode {
        XdpMode::Native => ("native", "xdpdrv"),
        XdpMode::Generic => ("generic", "xdpgeneric"),
        XdpMode::Offloaded => ("offloaded", "xdpoffload"),
        XdpMode::Multiple => ("several", "xdp"),
    };
    let id = xdp.program_id.map_or_else(String::new, |id| format!(", program id {id}"));
    Finding::new(Severity::Fail, &link.name, "XDP program", format!("another one is attached ({mode}{id})"))
        .why("an interface takes one program; if it is a running xvs's, stop that first")
        .cure(format!("ip link set dev {} {word} off", link.name))
}

fn mtu(facts: &InterfaceFacts, link: &Link, chunk_len: u32, host: &HostFacts) -> Finding {
    let most = mtu_max(chunk_len);
    let finding = |severity, found| Finding::new(severity, &link.name, "MTU", found);
    let cure = |mtu| format!("ip link set dev {} mtu {mtu}", link.name);
    let no_native = || facts.xdp.is_some_and(|xdp| xdp.native && !xdp.several_buffers);
    match host.long_frames {
        _ if link.mtu <= NATIVE_MTU_MAX.min(most) => finding(Severity::Ok, link.mtu.to_string()),
        _ if link.mtu <= most => finding(Severity::Warn, format!("{}, above {NATIVE_MTU_MAX}", link.mtu))
            .why("drivers may refuse native XDP")
            .cure(cure(NATIVE_MTU_MAX)),
        Some(false) => finding(Severity::Fail, format!("{}, {most} is the most", link.mtu))
            .why("a frame must fit one packet buffer before Linux 6.6: `xvs run` refuses to start")
            .cure(cure(most)),
        _ if link.mtu > LONG_MTU_MAX => {
            finding(Severity::Fail, format!("{}, {LONG_MTU_MAX} is the most", link.mtu))
                .why("longer frames are not put together: `xvs run` refuses to start")
                .cure(cure(LONG_MTU_MAX))
        }
        None => finding(Severity::Warn, format!("{}, above {most}", link.mtu))
            .why("that takes an AF_XDP of Linux 6.6, which could not be tried (CAP_NET_RAW?)")
            .cure("run `xvs doctor` as root"),
        Some(true) if no_native() => finding(Severity::Warn, format!("{}, above {most}", link.mtu))
            .why("longer frames are of several buffers, which the driver has for generic XDP only")
            .cure(cure(most)),
        // Its headers are in other buffers than the first, where the steering program does not find them.
        Some(true) if facts.driver.as_deref() == Some("mlx5_core") => {
            finding(Severity::Warn, format!("{}, above {most}", link.mtu))
                .why("a striding receive queue may leave a frame's first buffer empty: its packets are the kernel's then")
                .cure(format!("ethtool --set-priv-flags {} rx_striding_rq off", link.name))
        }
        Some(true) => finding(
            Severity::Ok,
            format!("{}: frames above {most} are put together from several buffers", link.mtu),
        ),
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
mod tests {
    use super::*;
    use crate::net::links::AttachedXdp;
    use crate::net::queues::Queues;
    use crate::net::xdp_features::XdpFeatures;

    fn nic(name: &str) -> InterfaceFacts {
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

    fn link(facts: &mut InterfaceFacts) -> &mut Link {
        facts.link.as_mut().unwrap()
    }

    /// What is not as it should be.
    fn complaints(facts: &InterfaceFacts) -> Vec<(&'static str, Severity, String)> {
        let host = HostFacts { rp_filter_all: Some(0), long_frames: Some(true), ..HostFacts::default() };
        let bad = judge(facts, &host, 4096).into_iter().filter(|finding| finding.severity != Severity::Ok);
        bad.map(|finding| (finding.check, finding.severity, finding.cure.unwrap_or_default())).collect()
    }

    fn complaint(
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
    fn the_longest_mtu_is_that_of_run_and_a_shorter_one_is_what_drivers_take() {
        let of = |mtu| {
            let mut facts = nic("eth0");
            link(&mut facts).mtu = mtu;
            complaints(&facts)
        };
        assert_eq!(of(3506), []);
        let warning = complaint("MTU", Severity::Warn, "ip link set dev eth0 mtu 3506");
        assert_eq!((of(3507), of(3758)), (warning.clone(), warning));
        assert_eq!((of(3759), of(9216)), (vec![], vec![]));
        assert_eq!(of(9217), complaint("MTU", Severity::Fail, "ip link set dev eth0 mtu 9216"));
    }

    #[test]
    fn longer_frames_take_a_kernel_and_for_native_mode_a_driver_that_have_them() {
        let link = |mtu| Link { name: "eth0".to_owned(), mtu, ..Link::default() };
        let by = |driver: &str, mtu_of, xdp, long_frames| {
            let facts = InterfaceFacts { xdp, driver: Some(driver.to_owned()), ..nic("eth0") };
            let host = HostFacts { long_frames, ..HostFacts::default() };
            let finding = mtu(&facts, &link(mtu_of), 4096, &host);
            (finding.severity, finding.cure.unwrap_or_default())
        };
        let told = |mtu_of, xdp, long_frames| by("ice", mtu_of, xdp, long_frames);
        let to = |mtu| format!("ip link set dev eth0 mtu {mtu}");
        let driver =
            |several_buffers| Some(XdpFeatures { native: true, several_buffers, ..XdpFeatures::default() });
        assert_eq!(told(9000, driver(true), Some(true)), (Severity::Ok, String::new()));
        assert_eq!(told(9000, None, Some(true)), (Severity::Ok, String::new()));
        assert_eq!(told(9000, driver(false), Some(true)), (Severity::Warn, to(3758)));
        assert_eq!(told(9000, driver(true), Some(false)), (Severity::Fail, to(3758)));
        assert_eq!(told(9217, driver(true), Some(false)), (Severity::Fail, to(3758)));
        assert_eq!(told(9000, driver(true), None).0, Severity::Warn);
        assert_eq!(told(9217, driver(true), None), (Severity::Fail, to(9216)));
        assert_eq!(told(1500, driver(false), Some(false)), (Severity::Ok, String::new()));
        let striding = "ethtool --set-priv-flags eth0 rx_striding_rq off".to_owned();
        assert_eq!(by("mlx5_core", 9000, driver(true), Some(true)), (Severity::Warn, striding));
        assert_eq!(by("mlx5_core", 1500, driver(true), Some(true)), (Severity::Ok, String::new()));
    }

    #[test]
    fn zero_copy_of_frames_in_several_buffers_takes_a_driver_that_has_it() {
        let told = |zero_copy_segments, has_long_frames| {
            let mut facts = nic("eth0");
            facts.xdp = facts.xdp.map(|xdp| XdpFeatures { zero_copy_segments, ..xdp });
            zero_copy(&facts, &native(&facts), has_long_frames).found.starts_with("possible")
        };
        assert_eq!([told(1, false), told(1, true), told(2, true)], [true, false, true]);
    }

    #[test]
    fn what_takes_redirected_frames_is_told_and_a_veth_how_it_does() {
        let told = |facts: &InterfaceFacts| {
            let finding = redirected(facts, &native(facts));
            (finding.severity, finding.found.split(':').next().unwrap().to_owned(), finding.cure)
        };
        let ok = |found: &str, cure: Option<&str>| (Severity::Ok, found.to_owned(), cure.map(str::to_owned));
        let mut facts = nic("eth0");
        assert_eq!(told(&facts), ok("taken", None));
        facts.xdp = Some(XdpFeatures { native: true, ..XdpFeatures::default() });
        assert_eq!(told(&facts), ok("not taken", None));
        facts.driver = Some("veth".to_owned());
        assert_eq!(told(&facts), ok("not taken", Some("ethtool -K PEER gro on    (there, if wanted)")));
        facts.xdp = None;
        assert_eq!(told(&facts), ok("this kernel does not tell (Linux 6.3 does)", None));
        facts.xdp = Some(XdpFeatures::default());
        assert_eq!(told(&facts), ok("taken only while all interfaces are generic", None));
    }

    #[test]
    fn smaller_chunks_allow_a_smaller_mtu() {
        let (jumbo, host) = (
            Link { mtu: 1711, ..Link::default() },
            HostFacts { long_frames: Some(false), ..HostFacts::default() },
        );
        assert_eq!(mtu(&nic("eth0"), &jumbo, 4096, &host).severity, Severity::Ok);
        let finding = mtu(&nic("eth0"), &jumbo, 2048, &host);
        assert_eq!((finding.severity, finding.found.as_str()), (Severity::Fail, "1711, 1710 is the most"));
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
    fn the_kernel_s_word_counts_more_than_the_driver_s_name() {
        let mut facts = nic("eth0");
        facts.xdp = Some(XdpFeatures::default());
        assert_eq!(complaints(&facts), complaint("XDP mode", Severity::Warn, ""));
        facts.xdp = None;
        assert_eq!(complaints(&facts), []);
        facts.driver = Some("e1000e".to_owned());
        assert_eq!(complaints(&facts), complaint("XDP mode", Severity::Warn, ""));
    }

    #[test]
    fn a_veth_with_too_few_queues_for_its_peer_is_told_the_line_for_the_peer() {
        let mut facts = nic("v0");
        (facts.driver, facts.xdp) = (Some("veth".to_owned()), Some(XdpFeatures::default()));
        let cure = "ethtool -L PEER tx 4    (in the other namespace)";
        assert_eq!(complaints(&facts), complaint("XDP mode", Severity::Warn, cure));
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
