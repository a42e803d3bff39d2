//! Findings about XDP at one interface: native or generic, zero-copy, redirected frames, a program that is there.

use crate::net::links::{Link, XdpMode};

use super::facts::InterfaceFacts;
use super::findings::{Finding, Severity};
use super::mtu::Frames;

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
pub(super) struct Judged {
    pub(super) possible: bool,
    how: &'static str,
}

pub(super) fn judge(facts: &InterfaceFacts, link: &Link, native: &Judged, frames: &Frames) -> [Finding; 4] {
    [xdp_mode(facts, native), zero_copy(facts, native, frames), redirected(facts, native), attached(link)]
}

pub(super) fn native(facts: &InterfaceFacts) -> Judged {
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

fn zero_copy(facts: &InterfaceFacts, native: &Judged, frames: &Frames) -> Finding {
    let (possible, how) = match (facts.xdp, facts.driver.as_deref()) {
        (Some(xdp), _) if xdp.zero_copy && frames.any_long && xdp.zero_copy_segments < 2 => {
            (false, "the driver has it for frames of one buffer, and the longest MTU takes several")
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

#[cfg(test)]
mod tests {
    use super::super::interface::tests::{complaint, complaints, nic};
    use super::*;
    use crate::net::xdp_features::XdpFeatures;

    #[test]
    fn zero_copy_of_frames_in_several_buffers_takes_a_driver_that_has_it() {
        let told = |zero_copy_segments, any_long| {
            let mut facts = nic("eth0");
            facts.xdp = facts.xdp.map(|xdp| XdpFeatures { zero_copy_segments, ..xdp });
            let frames = Frames { chunk_len: 4096, several: Some(true), any_long };
            zero_copy(&facts, &native(&facts), &frames).found.starts_with("possible")
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
}
