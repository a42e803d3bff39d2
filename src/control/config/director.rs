//! `[director]`: what the machine lends to the director.

use std::ops::RangeInclusive;

use super::reader::{Field, Table};
use super::report::Problems;
use super::value::{boolean, choice, list, number, power_of_two, text};
use crate::director::forward::hops::PORTS;
use crate::director::offload;

/// Most interfaces that packets are taken from.
pub const MAX_INTERFACES: usize = 16;
const _: () = assert!(MAX_INTERFACES <= PORTS as usize, "a connection can tell them apart");
/// Highest number of a core: the kernel's `CPU_SETSIZE` less one.
pub const MAX_CORE: usize = 1023;
/// Limits of `idle_spin_us`, in microseconds.
pub const IDLE_SPIN_US: RangeInclusive<u32> = 0..=1_000_000;
/// Limits of `connections`.
pub const CONNECTIONS: RangeInclusive<u32> = 1_024..=67_108_864;
/// The values of `frame_bytes`: what AF_XDP allows in aligned mode with pages of 4 KiB.
pub const FRAME_BYTES: [u32; 2] = [2048, 4096];
/// Limits of `ring_frames`, a power of two.
pub const RING_FRAMES: RangeInclusive<u32> = 64..=32_768;
/// Limits of `offload_flows`.
pub const OFFLOAD_FLOWS: RangeInclusive<u32> = 1_024..=16_777_216;
/// Limits of `offload_after`, in packets: as many as a connection's are counted.
pub const OFFLOAD_AFTER: RangeInclusive<u32> = 0..=offload::AFTER;
/// Default of `busy_poll`.
pub const BUSY_POLL: bool = false;
/// Default of `huge_pages`.
pub const HUGE_PAGES: bool = false;
/// Default of `watch`.
pub const WATCH: bool = false;

/// Limits of `pass_limit`, in packets per second.
pub const PASS_LIMIT: RangeInclusive<u32> = 10..=1_000_000;

/// Longest name of an interface in bytes: the kernel's `IFNAMSIZ` less the closing zero.
const MAX_INTERFACE_NAME: usize = 15;

/// The machine's part: interfaces, cores, memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Director {
    /// Names of the interfaces that packets are taken from, 1..=16, all different; of a bond its members.
    pub interfaces: Vec<String>,
    /// Where the steering program runs.
    pub xdp_mode: XdpMode,
    /// Whether packets are copied between driver and UMEM.
    pub zero_copy: ZeroCopy,
    /// Whether established connections are forwarded by the steering program.
    pub offload: Offload,
    /// How many flows of connections it may have, two each, 1_024..=16_777_216.
    pub offload_flows: u32,
    /// A connection goes there once its client has sent more packets than these, 0..=8.
    pub offload_after: u32,
    /// The core of each worker in order of queue, all different; `None`: derived from the machine.
    pub cores: Option<Vec<usize>>,
    /// Whether idle workers keep spinning for ever.
    pub busy_poll: bool,
    /// How long an idle worker spins before it sleeps, 0..=1_000_000 microseconds.
    pub idle_spin_us: u32,
    /// Capacity of the connection table, 1_024..=67_108_864 connections.
    pub connections: u32,
    /// Size of a frame in the UMEM, 2048 or 4096 bytes.
    pub frame_bytes: u32,
    /// Length of each ring, a power of two, 64..=32_768 frames.
    pub ring_frames: u32,
    /// Whether the memory of UMEM and connection table comes from huge pages.
    pub huge_pages: bool,
    /// Whether the configuration is read again when its file changes.
    pub watch: bool,
    /// Whether there is a device by which packets go back up to the kernel.
    pub pass: Pass,
    /// Most packets that are nobody's here and go there, 10..=1_000_000 in a second.
    pub pass_limit: u32,
}

impl Director {
    /// The defaults, with these interfaces, for which there is none.
    pub fn new(interfaces: Vec<String>) -> Self {
        Self {
            interfaces,
            xdp_mode: XdpMode::Auto,
            zero_copy: ZeroCopy::Auto,
            offload: Offload::Auto,
            offload_flows: 131_072,
            offload_after: offload::AFTER,
            cores: None,
            busy_poll: BUSY_POLL,
            idle_spin_us: 50,
            connections: 1_048_576,
            frame_bytes: 4096,
            ring_frames: 2048,
            huge_pages: HUGE_PAGES,
            watch: WATCH,
            pass: Pass::Auto,
            pass_limit: 10_000,
        }
    }
}

/// Where the steering program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver; if it cannot, in the kernel's generic hook, and that is said aloud.
    #[default]
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the kernel's generic hook: any interface, slower.
    Generic,
}

impl XdpMode {
    /// Every mode that a configuration may name.
    pub const ALL: &[Self] = &[Self::Auto, Self::Native, Self::Generic];

    /// The name in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// Whether packets are copied between driver and UMEM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ZeroCopy {
    /// Not copied if the driver can do without, and which it is is said aloud.
    #[default]
    Auto,
    /// Never copied, or xvs does not start.
    Require,
    /// Always copied.
    Off,
}

impl ZeroCopy {
    /// Every setting that a configuration may name.
    pub const ALL: &[Self] = &[Self::Auto, Self::Require, Self::Off];

    /// The name in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Require => "require",
            Self::Off => "off",
        }
    }
}

/// Whether there is a device by which packets go back up to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pass {
    /// If the kernel has TAP devices; if not, that is said aloud.
    #[default]
    Auto,
    /// Yes, or xvs does not start.
    On,
    /// No.
    Off,
}

impl Pass {
    /// Every setting that a configuration may name.
    pub const ALL: &[Self] = &[Self::Auto, Self::On, Self::Off];

    /// The name in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

/// Whether established connections are forwarded by the steering program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offload {
    /// To the interfaces whose drivers take redirected frames, and which these are is said aloud.
    #[default]
    Auto,
    /// To all interfaces, or xvs does not start.
    On,
    /// Never: every packet comes up to the workers.
    Off,
}

impl Offload {
    /// Every setting that a configuration may name.
    pub const ALL: &[Self] = &[Self::Auto, Self::On, Self::Off];

    /// The name in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

/// Reads `[director]`.
pub(super) fn director(mut table: Table<'_, '_>) -> Option<Director> {
    let default = Director::new(Vec::new());
    let interfaces = table.required("interfaces", list(1..=MAX_INTERFACES, "interfaces", interface));
    let xdp_mode = table.optional("xdp_mode", choice(XdpMode::ALL, XdpMode::name, &[]));
    let zero_copy = table.optional("zero_copy", choice(ZeroCopy::ALL, ZeroCopy::name, &[]));
    let offload = table.optional("offload", choice(Offload::ALL, Offload::name, &[]));
    let offload_flows = table.or("offload_flows", default.offload_flows, number(OFFLOAD_FLOWS, " flows"));
    let offload_after = table.or("offload_after", default.offload_after, number(OFFLOAD_AFTER, " packets"));
    let core = number(0..=MAX_CORE, ", as `lscpu -e` numbers them");
    let cores = table.optional("cores", list(1..=MAX_CORE + 1, "cores", core));
    let busy_poll = table.or("busy_poll", default.busy_poll, boolean);
    let idle_spin_us = table.optional("idle_spin_us", number(IDLE_SPIN_US, " microseconds"));
    let connections = table.or("connections", default.connections, number(CONNECTIONS, " connections"));
    let frame_bytes = table.or("frame_bytes", default.frame_bytes, frame_bytes);
    let ring_frames = table.or("ring_frames", default.ring_frames, power_of_two(RING_FRAMES, " frames"));
    let huge_pages = table.or("huge_pages", default.huge_pages, boolean);
    let watch = table.or("watch", default.watch, boolean);
    let pass = table.or("pass", default.pass, choice(Pass::ALL, Pass::name, &[]));
    let pass_limit = table.or("pass_limit", default.pass_limit, number(PASS_LIMIT, " packets per second"));

    if let (Some(Some(mode)), Some(Some(copy))) = (&xdp_mode, &zero_copy)
        && (*mode.get_ref(), *copy.get_ref()) == (XdpMode::Generic, ZeroCopy::Require)
    {
        table
            .problems
            .error(copy.span(), "zero_copy = \"require\" cannot be had with xdp_mode = \"generic\"")
            .cure("only drivers do without copying: set xdp_mode = \"native\", or zero_copy = \"off\"");
    }
    if let (Some(true), Some(Some(spin))) = (busy_poll, &idle_spin_us) {
        table
            .problems
            .warning(spin.span(), "idle_spin_us has no effect with busy_poll = true")
            .cure("leave one of the two out");
    }
    table.finish();
    Some(Director {
        interfaces: interfaces?.into_inner(),
        xdp_mode: xdp_mode?.map_or(default.xdp_mode, |s| s.into_inner()),
        zero_copy: zero_copy?.map_or(default.zero_copy, |s| s.into_inner()),
        offload: offload?.map_or(default.offload, |s| s.into_inner()),
        offload_flows: offload_flows?,
        offload_after: offload_after?,
        cores: cores?.map(|s| s.into_inner()),
        busy_poll: busy_poll?,
        idle_spin_us: idle_spin_us?.map_or(default.idle_spin_us, |s| s.into_inner()),
        connections: connections?,
        frame_bytes: frame_bytes?,
        ring_frames: ring_frames?,
        huge_pages: huge_pages?,
        watch: watch?,
        pass: pass?,
        pass_limit: pass_limit?,
    })
}

/// A name that the kernel would accept for an interface (`dev_valid_name`).
fn interface(field: &Field<'_>, problems: &mut Problems) -> Option<String> {
    let given = text(field, problems)?;
    let forbidden = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    let valid = (1..=MAX_INTERFACE_NAME).contains(&given.len())
        && !matches!(given, "." | "..")
        && !given.contains(forbidden);
    if !valid {
        problems
            .error(field.span.clone(), format!("\"{given}\" cannot be the name of an interface"))
            .cure("give 1 to 15 characters without blank, `/` and `:`, as `ip link` lists them");
    }
    valid.then(|| given.to_owned())
}

fn frame_bytes(field: &Field<'_>, problems: &mut Problems) -> Option<u32> {
    let given = number(0..=u32::MAX, " bytes")(field, problems)?;
    if !FRAME_BYTES.contains(&given) {
        let [small, large] = FRAME_BYTES;
        problems
            .error(field.span.clone(), format!("frame_bytes = {given} is not a size that AF_XDP offers"))
            .cure(format!("give {small} or {large} bytes"));
        return None;
    }
    Some(given)
}
