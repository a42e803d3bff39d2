//! Offers more UDP frames than a forwarder can take: XDP frames made in the kernel, sent from one interface.
//!
//! The kernel repeats a small XDP program on one prepared frame (`BPF_PROG_RUN` with live frames, kernel
//! 5.18 or later), which redirects it to the interface with another source port each time. On veth that costs
//! about a third of what a socket's frame costs, so one core can saturate a forwarder on another.
//!
//! The peer of the interface needs an XDP program of its own, or it drops what it is sent.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::Context;
use aya::programs::{TestRun, TestRunAttrs, TestRunOptions, Xdp};
use aya::{EbpfLoader, include_bytes_aligned};
use clap::Parser;
use etherparse::PacketBuilder;

static PROGRAM: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/flood.o"));

/// Frames that one call of the kernel sends: many, since it waits some 20 ms after each call for its memory.
const FRAMES_PER_CALL: u32 = 1 << 22;
/// Frames the kernel makes at once within a call.
const FRAMES_PER_BATCH: u32 = 64;
/// First source port.
const FIRST_PORT: u16 = 10_000;
/// Ethernet, IPv4 and UDP headers.
const HEADERS_LEN: usize = 42;

/// Sends UDP frames as fast as one core can.
#[derive(Debug, Parser)]
struct Arguments {
    /// Interface to send from.
    interface: String,
    /// Source MAC.
    #[arg(long, value_parser = parse_mac)]
    src_mac: [u8; 6],
    /// Destination MAC.
    #[arg(long, value_parser = parse_mac)]
    dst_mac: [u8; 6],
    /// Source address.
    #[arg(long)]
    src: Ipv4Addr,
    /// Destination address.
    #[arg(long)]
    dst: Ipv4Addr,
    /// Destination port.
    #[arg(long, default_value_t = 80)]
    port: u16,
    /// Source ports, and so flows.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    flows: u32,
    /// Length of a frame in bytes, without FCS.
    #[arg(long, default_value_t = 60)]
    frame_len: usize,
    /// Seconds to send for; a little longer, since a call of the kernel is not cut short.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Frames to send, instead of sending for so many seconds.
    #[arg(long, conflicts_with = "seconds")]
    frames: Option<u32>,
    /// Core to send from.
    #[arg(long)]
    core: Option<usize>,
}

fn parse_mac(text: &str) -> Result<[u8; 6], String> {
    let bytes: Result<Vec<u8>, _> = text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
    bytes.ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| format!("{text} is no MAC address"))
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(id) = arguments.core {
        anyhow::ensure!(
            core_affinity::set_for_current(core_affinity::CoreId { id }),
            "core {id} is not allowed to this process"
        );
    }
    let frame = frame(&arguments)?;
    let out_ifindex = nix::net::if_::if_nametoindex(arguments.interface.as_str())
        .with_context(|| format!("interface {}", arguments.interface))?;
    let mut program = EbpfLoader::new()
        .override_global("out_ifindex", &out_ifindex, true)
        .override_global("flows", &arguments.flows, true)
        .override_global("first_port", &u32::from(FIRST_PORT), true)
        .override_global("partial_sum", &partial_sum(&frame), true)
        .load(PROGRAM)?;
    let xdp: &mut Xdp = program.program_mut("flood").expect("the object has this program").try_into()?;
    xdp.load()?;

    let start = Instant::now();
    let mut sent = 0u64;
    let mut send = |frames: u32| {
        sent += u64::from(frames);
        xdp.test_run(TestRunOptions {
            data_in: Some(&frame),
            repeat: frames,
            attrs: TestRunAttrs::new().xdp_live_frames(FRAMES_PER_BATCH),
            ..TestRunOptions::new()
        })
    };
    if let Some(frames) = arguments.frames {
        send(frames)?;
    } else {
        while start.elapsed() < Duration::from_secs(arguments.seconds) {
            send(FRAMES_PER_CALL)?;
        }
    }
    println!("offered {sent} seconds {:.3}", start.elapsed().as_secs_f64());
    Ok(())
}

/// The frame of the first flow.
fn frame(arguments: &Arguments) -> anyhow::Result<Vec<u8>> {
    let payload = vec![0x5a; arguments.frame_len.saturating_sub(HEADERS_LEN)];
    let builder = PacketBuilder::ethernet2(arguments.src_mac, arguments.dst_mac)
        .ipv4(arguments.src.octets(), arguments.dst.octets(), 64)
        .udp(FIRST_PORT, arguments.port);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut frame, &payload)?;
    Ok(frame)
}

/// The sum under the UDP checksum without the source port: what the program adds the port to.
fn partial_sum(frame: &[u8]) -> u32 {
    let checksum = u16::from_be_bytes([frame[40], frame[41]]);
    let sum = u32::from(!checksum) + u32::from(!FIRST_PORT);
    (sum & 0xffff) + (sum >> 16)
}
