//! Findings about the host: kernel, privileges, memory, forwarding, addresses.

use std::net::IpAddr;

use super::facts::HostFacts;
use super::findings::{Finding, Severity};
use crate::xdp::error::{CAPABILITIES, PRIVILEGES_CURE};
use crate::xdp::tap::TUN_FILE;

const HOST: &str = "host";

/// Stands in for CAP_BPF and CAP_PERFMON, and for much else.
const CAP_SYS_ADMIN: u32 = 21;

/// Lifts the limit of locked memory.
const CAP_IPC_LOCK: u32 = 14;

/// Locked memory that a director with a few queues takes: 64 MiB.
const MEMLOCK_BYTES: u64 = 64 << 20;

pub(super) fn judge(host: &HostFacts) -> Vec<Finding> {
    [af_xdp(host), privileges(host), memlock(host), forwarding(host), reverse_path(host), tap(host)]
        .into_iter()
        .flatten()
        .collect()
}

fn af_xdp(host: &HostFacts) -> Option<Finding> {
    let finding = |severity, found: &str| Finding::new(severity, HOST, "AF_XDP", found);
    Some(match host.af_xdp? {
        Ok(()) => finding(Severity::Ok, "the kernel has it"),
        Err(libc::EAFNOSUPPORT) => finding(Severity::Fail, "this kernel does not have it")
            .why("xvs receives and sends by AF_XDP sockets: CONFIG_XDP_SOCKETS=y, as in Debian's kernels")
            .cure("grep XDP_SOCKETS /boot/config-$(uname -r)"),
        Err(libc::EPERM | libc::EACCES) => finding(Severity::Warn, "cannot be tried without CAP_NET_RAW")
            .why("only root, or a process with that capability, may make an AF_XDP socket")
            .cure("run `xvs doctor` as root"),
        Err(errno) => finding(Severity::Fail, &std::io::Error::from_raw_os_error(errno).to_string())
            .why("xvs receives and sends by AF_XDP sockets"),
    })
}

fn privileges(host: &HostFacts) -> Option<Finding> {
    let has = |bit: u32| host.capabilities.is_some_and(|all| all & (1 << bit) != 0);
    host.capabilities?;
    let covered = |name| matches!(name, "CAP_BPF" | "CAP_PERFMON") && has(CAP_SYS_ADMIN);
    let missing: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|(name, bit)| !has(*bit) && !covered(*name))
        .map(|(name, _)| *name)
        .collect();
    Some(if missing.is_empty() {
        Finding::new(Severity::Ok, HOST, "privileges", "enough to run xvs")
    } else {
        Finding::new(Severity::Warn, HOST, "privileges", format!("{} missing here", missing.join(", ")))
            .why("`xvs run` needs them to load its program, bind its sockets and ask for neighbours")
            .cure(PRIVILEGES_CURE)
    })
}

fn memlock(host: &HostFacts) -> Option<Finding> {
    let limit = host.memlock?;
    let unlimited_anyway = host.capabilities.is_some_and(|all| all & (1 << CAP_IPC_LOCK) != 0);
    let found = match limit {
        u64::MAX => "no limit".to_owned(),
        bytes => format!("limit {} KiB", bytes >> 10),
    };
    let finding = |severity, found| Finding::new(severity, HOST, "locked memory", found);
    Some(if unlimited_anyway {
        finding(Severity::Ok, format!("{found}; does not bind this process (CAP_IPC_LOCK)"))
    } else if limit >= MEMLOCK_BYTES {
        finding(Severity::Ok, found)
    } else {
        finding(Severity::Warn, found)
            .why("packet memory is locked, 16 MiB and more for each receive queue")
            .cure("ulimit -l unlimited    (systemd: LimitMEMLOCK=infinity)")
    })
}

fn forwarding(host: &HostFacts) -> Option<Finding> {
    let finding = |found| Finding::new(Severity::Ok, HOST, "ip_forward", found);
    let why =
        "xvs forwards its services without it; it is for what the servers themselves send out through here";
    Some(if host.ip_forward? {
        finding("on: the kernel routes what is not xvs's").why(why)
    } else {
        finding("off: the kernel routes nothing")
            .why(why)
            .cure("sysctl -w net.ipv4.ip_forward=1    (if wanted)")
    })
}

/// Loose or strict: an interface without addresses, as `xvs-pass` is, gets nothing by either.
fn reverse_path(host: &HostFacts) -> Option<Finding> {
    (host.rp_filter_all? != 0).then(|| {
        Finding::new(Severity::Warn, HOST, "rp_filter", "on for all interfaces")
            .why(
                "the kernel then drops what xvs gives back to it by `xvs-pass`, and servers here get nothing",
            )
            .cure("sysctl -w net.ipv4.conf.all.rp_filter=0    (and set it for interfaces one by one)")
    })
}

fn tap(host: &HostFacts) -> Option<Finding> {
    Some(if host.tun? {
        Finding::new(Severity::Ok, HOST, "TAP devices", format!("{TUN_FILE} is there"))
    } else {
        Finding::new(Severity::Warn, HOST, "TAP devices", format!("no {TUN_FILE}"))
            .why("by the device `xvs-pass` packets that are nobody's go back to the kernel, and to servers on this host")
            .cure("modprobe tun")
    })
}

pub(super) fn vip(vip: IpAddr, addresses: &[IpAddr], interface: &str) -> Finding {
    if addresses.contains(&vip) {
        return Finding::new(Severity::Ok, HOST, "VIP", format!("{vip} is on this host"));
    }
    let bits = if vip.is_ipv4() { 32 } else { 128 };
    Finding::new(Severity::Fail, HOST, "VIP", format!("{vip} is not on this host"))
        .why("the kernel answers ARP and ping for a VIP only if the address is on one of its interfaces")
        .cure(format!("ip addr add {vip}/{bits} dev {interface}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn severities(host: &HostFacts) -> Vec<(&'static str, Severity)> {
        judge(host).iter().map(|finding| (finding.check, finding.severity)).collect()
    }

    #[test]
    fn a_root_shell_on_debian_is_fit() {
        let host = HostFacts {
            af_xdp: Some(Ok(())),
            capabilities: Some(u64::MAX),
            memlock: Some(8 << 20),
            ip_forward: Some(false),
            ..HostFacts::default()
        };
        assert!(judge(&host).iter().all(|finding| finding.severity == Severity::Ok), "{:?}", judge(&host));
    }

    #[test]
    fn a_reverse_path_filter_on_all_interfaces_is_warned_of() {
        for (value, expected) in
            [(0, vec![]), (1, vec![("rp_filter", Severity::Warn)]), (2, vec![("rp_filter", Severity::Warn)])]
        {
            assert_eq!(
                severities(&HostFacts { rp_filter_all: Some(value), ..HostFacts::default() }),
                expected
            );
        }
    }

    #[test]
    fn a_kernel_without_tap_devices_is_warned_of() {
        let severity = |tun| {
            severities(&HostFacts { tun: Some(tun), ..HostFacts::default() })
                == [(
                    "TAP devices",
                    match tun {
                        true => Severity::Ok,
                        false => Severity::Warn,
                    },
                )]
        };
        assert!(severity(true) && severity(false));
    }

    #[test]
    fn a_kernel_without_af_xdp_fails_and_a_user_without_rights_is_warned() {
        let host = HostFacts {
            af_xdp: Some(Err(libc::EAFNOSUPPORT)),
            capabilities: Some(0),
            memlock: Some(8 << 20),
            ..HostFacts::default()
        };
        let expected =
            [("AF_XDP", Severity::Fail), ("privileges", Severity::Warn), ("locked memory", Severity::Warn)];
        assert_eq!(severities(&host), expected);
        let sys_admin = HostFacts {
            capabilities: Some(1 << 12 | 1 << 13 | 1 << CAP_SYS_ADMIN | 1 << CAP_IPC_LOCK),
            memlock: Some(0),
            ..HostFacts::default()
        };
        assert_eq!(severities(&sys_admin), [("privileges", Severity::Ok), ("locked memory", Severity::Ok)]);
    }

    #[test]
    fn each_capability_that_run_refuses_without_is_missed_in_the_words_of_run() {
        let all = CAPABILITIES.iter().fold(0, |all, (_, bit)| all | 1u64 << bit);
        let finding = |capabilities| {
            privileges(&HostFacts { capabilities: Some(capabilities), ..HostFacts::default() }).unwrap()
        };
        assert_eq!(finding(all).severity, Severity::Ok);
        for (name, bit) in CAPABILITIES {
            let missing = finding(all & !(1 << bit));
            assert_eq!(missing.found, format!("{name} missing here"));
            let cure = missing.cure.unwrap();
            assert!(crate::xdp::error::XdpError::Privileges.to_string().ends_with(&cure), "{cure}");
        }
        let perfmon_by_sys_admin = all & !(1 << 38) | 1 << CAP_SYS_ADMIN;
        assert_eq!(finding(perfmon_by_sys_admin).severity, Severity::Ok);
    }

    #[test]
    fn a_vip_that_is_missing_fails_with_the_line_that_adds_it() {
        let here = [IpAddr::from([192, 0, 2, 1])];
        assert_eq!(vip(here[0], &here, "eth1").severity, Severity::Ok);
        let missing = vip(IpAddr::from([192, 0, 2, 2]), &here, "eth1");
        assert_eq!(missing.severity, Severity::Fail);
        assert_eq!(missing.cure.as_deref(), Some("ip addr add 192.0.2.2/32 dev eth1"));
    }
}
