//! Findings about the MTU of one interface: what fits a chunk, what native XDP takes, and what several buffers take.

use crate::net::links::Link;
use crate::xdp::options::{LONG_MTU_MAX, mtu_max};

use super::facts::{Facts, InterfaceFacts};
use super::findings::{Finding, Severity};

/// Longest MTU, in bytes, with which drivers of a page for each packet run XDP natively (veth, virtio_net): of 4,096 are
/// taken off XDP's 256 of headroom, the kernel's 320 at the end and the Ethernet header.
const NATIVE_MTU_MAX: u32 = 3506;

/// How frames are to be taken, at all interfaces alike.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frames {
    /// The configuration's `frame_bytes`.
    pub(super) chunk_len: u32,
    /// Whether the kernel's AF_XDP takes frames of several chunks; none if that could not be tried.
    pub(super) several: Option<bool>,
    /// An interface has frames that take several: sockets and programs are made for them then, everywhere.
    pub(super) any_long: bool,
}

impl Frames {
    /// As a director with these interfaces takes them.
    pub(super) fn of(facts: &Facts, chunk_len: u32) -> Self {
        let mut mtus = facts.interfaces.iter().filter_map(|one| Some(one.link.as_ref()?.mtu));
        let any_long = mtus.any(|mtu| mtu > mtu_max(chunk_len));
        Self { chunk_len, several: facts.host.long_frames, any_long }
    }
}

pub(super) fn judge(facts: &InterfaceFacts, link: &Link, frames: &Frames) -> Finding {
    let most = mtu_max(frames.chunk_len);
    let finding = |severity, found| Finding::new(severity, &link.name, "MTU", found);
    let cure = |mtu| format!("ip link set dev {} mtu {mtu}", link.name);
    let no_native = || facts.xdp.is_some_and(|xdp| xdp.native && !xdp.several_buffers);
    // A program for frames of several buffers has no bound of a page.
    let program_takes_several = frames.any_long && frames.several == Some(true) && !no_native();
    let native_most = if program_takes_several { most } else { NATIVE_MTU_MAX.min(most) };
    match frames.several {
        _ if link.mtu <= native_most => finding(Severity::Ok, link.mtu.to_string()),
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

#[cfg(test)]
mod tests {
    use super::super::facts::HostFacts;
    use super::super::interface::tests::{complaint, complaints, link, nic};
    use super::*;
    use crate::net::xdp_features::XdpFeatures;

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
            let frames = Frames { chunk_len: 4096, several: long_frames, any_long: mtu_of > 3758 };
            let finding = judge(&facts, &link(mtu_of), &frames);
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
    fn smaller_chunks_allow_a_smaller_mtu() {
        let jumbo = Link { mtu: 1711, ..Link::default() };
        let by = |chunk_len, any_long| {
            judge(&nic("eth0"), &jumbo, &Frames { chunk_len, several: Some(false), any_long })
        };
        assert_eq!(by(4096, false).severity, Severity::Ok);
        let finding = by(2048, true);
        assert_eq!((finding.severity, finding.found.as_str()), (Severity::Fail, "1711, 1710 is the most"));
    }

    #[test]
    fn beside_an_interface_with_longer_frames_the_program_has_no_bound_of_a_page() {
        let by = |several_buffers, several| {
            let mut interfaces = [nic("eth0"), nic("eth1")];
            link(&mut interfaces[0]).mtu = 3758;
            interfaces[0].xdp = interfaces[0].xdp.map(|xdp| XdpFeatures { several_buffers, ..xdp });
            link(&mut interfaces[1]).mtu = 9000;
            let host = HostFacts { long_frames: Some(several), ..HostFacts::default() };
            let facts = Facts { host, interfaces: interfaces.to_vec() };
            let [short, _] = &interfaces;
            judge(short, short.link.as_ref().unwrap(), &Frames::of(&facts, 4096)).severity
        };
        assert_eq!(by(true, true), Severity::Ok);
        // The driver has it for generic XDP only; the kernel's AF_XDP has not.
        assert_eq!((by(false, true), by(true, false)), (Severity::Warn, Severity::Warn));
    }
}
