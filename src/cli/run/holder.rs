//! Whose XDP program an interface has: for the error of who came second.

use std::fs;

use crate::control::api::Holder;
use crate::xdp::steer::SteerError;

/// The error; of an interface that has a program already, who that is, if it can be seen.
pub(super) fn named(error: SteerError) -> anyhow::Error {
    match &error {
        SteerError::Occupied { interface } => match holder(interface) {
            Some(pid) => anyhow::anyhow!(
                "{interface} is held by {}, whose XDP program it has: stop it, or give this xvs other interfaces",
                Holder::of(Some(pid))
            ),
            None => error.into(),
        },
        _ => error.into(),
    }
}

/// The process of this network namespace that has a link of an XDP program to this interface. A program that was
/// attached without one (`ip link set xdp`) is held by nobody.
fn holder(interface: &str) -> Option<i32> {
    let index = nix::net::if_::if_nametoindex(interface).ok()?;
    let here = fs::read_link("/proc/self/ns/net").ok()?;
    let pids =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|there| there == here))
        .find(|pid| {
            let files = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
            files.filter_map(|file| fs::read_to_string(file.path()).ok()).any(|info| is_link_to(&info, index))
        })
}

/// Whether a file's /proc/PID/fdinfo is that of an XDP link (bpf_xdp_link_show_fdinfo in net/core/dev.c).
fn is_link_to(fdinfo: &str, index: u32) -> bool {
    let value = |name: &str| {
        fdinfo
            .lines()
            .find_map(|line| line.split_once(':').filter(|(n, _)| *n == name).map(|(_, value)| value.trim()))
    };
    value("link_type") == Some("xdp") && value("ifindex") == Some(index.to_string().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_tells_its_interface() {
        let link = "pos:\t0\nflags:\t02\nlink_type:\txdp\nlink_id:\t5728\nprog_id:\t10605\nifindex:\t12\n";
        assert!(is_link_to(link, 12));
        assert!(!is_link_to(link, 1) && !is_link_to(link, 2));
        assert!(!is_link_to(&link.replace("xdp", "xdr"), 12));
        assert!(!is_link_to("pos:\t0\n", 12));
    }
}
