//! The XDP program of tests and benches: everything that arrives goes to the sockets.

use std::os::fd::RawFd;

use aya::maps::XskMap;
use aya::programs::{Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};

static PROGRAM: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/redirect_all.o"));

/// Attached for as long as it lives.
pub struct Redirect(#[allow(dead_code, reason = "its drop detaches")] Ebpf);

/// Redirects all frames of one interface to `sockets`: a queue of it and the socket bound to that.
pub fn redirect_all(interface: &str, sockets: &[(u32, RawFd)]) -> anyhow::Result<Redirect> {
    let mut program = Ebpf::load(PROGRAM)?;
    let mut map = XskMap::try_from(program.map_mut("sockets").expect("the program has this map"))?;
    for &(queue, socket) in sockets {
        map.set(queue, socket, 0)?;
    }
    attach(program, "redirect_all", interface)
}

/// Sends all frames of one interface on by another, with MAC addresses that never change: destination, then source.
#[allow(dead_code, reason = "only some of those that include this file need it")]
pub fn forward_all(interface: &str, out: &str, macs: &[u8; 12]) -> anyhow::Result<Redirect> {
    let out_ifindex = nix::net::if_::if_nametoindex(out)?;
    let program = EbpfLoader::new()
        .override_global("out_ifindex", &out_ifindex, true)
        .override_global("out_macs", macs, true)
        .load(PROGRAM)?;
    attach(program, "forward_all", interface)
}

/// Drops, and so counts, all frames of one interface.
#[allow(dead_code, reason = "only some of those that include this file need it")]
pub fn drop_all(interface: &str) -> anyhow::Result<Redirect> {
    attach(Ebpf::load(PROGRAM)?, "drop_all", interface)
}

fn attach(mut program: Ebpf, name: &str, interface: &str) -> anyhow::Result<Redirect> {
    let xdp: &mut Xdp = program.program_mut(name).expect("the object has this program").try_into()?;
    xdp.load()?;
    xdp.attach(interface, XdpMode::Driver)?;
    Ok(Redirect(program))
}
