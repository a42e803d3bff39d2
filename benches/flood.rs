//! Offers more UDP datagrams or TCP SYNs than a forwarder can take: XDP frames made in the kernel, sent from one
//! interface.
//!
//! The kernel repeats a small XDP program on one prepared frame (`BPF_PROG_RUN` with live frames, kernel
//! 5.18 or later), which redirects it to the interface from another source each time: the ports from 10,000 on
//! of the first address, then those of the next one. On veth that costs about a third of what a socket's
//! frame costs, so one core can saturate a forwarder on another.
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
/// What the program writes anew in each frame: the headers, and the first bytes after them.
const HEADER_WORDS: usize = 14;
/// Ethernet header.
const ETHERNET_LEN: usize = 14;
/// Ethernet and IPv4 header.
const NETWORK_LEN: usize = 34;

/// Sends UDP datagrams or TCP SYNs as fast as one core can.
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
    /// First source address.
    #[arg(long)]
    src: Ipv4Addr,
    /// Destination address.
    #[arg(long)]
    dst: Ipv4Addr,
    /// Destination port.
    #[arg(long, default_value_t = 80)]
    port: u16,
    /// Flows: source ports, and an address for every so many of them as `--ports` says.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    flows: u32,
    /// Source ports of one address.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    ports: u32,
    /// TCP SYNs instead of UDP datagrams.
    #[arg(long)]
    syn: bool,
    /// Length of a frame in bytes, without FCS.
    #[arg(long, default_value_t = 60, value_parser = frame_len)]
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

fn frame_len(text: &str) -> Result<usize, String> {
    let len = text.parse::<usize>().ok().filter(|len| (60..=1514).contains(len));
    len.ok_or_else(|| format!("{text} is not a length from 60 to 1514 bytes"))
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
        .override_global("first_address", &u32::from(arguments.src), true)
        .override_global("first_port", &u32::from(FIRST_PORT), true)
        .override_global("ports", &arguments.ports, true)
        .override_global("header", &header(&frame), true)
        .override_global("ip_sum", &ip_sum(&frame), true)
        .override_global("transport_sum", &transport_sum(&frame), true)
        .override_global("is_tcp", &u32::from(arguments.syn), true)
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
    let builder = PacketBuilder::ethernet2(arguments.src_mac, arguments.dst_mac).ipv4(
        arguments.src.octets(),
        arguments.dst.octets(),
        64,
    );
    let mut frame = Vec::with_capacity(arguments.frame_len);
    if arguments.syn {
        let builder = builder.tcp(FIRST_PORT, arguments.port, 1, 64_240).syn();
        // A SYN without data: what is left of the frame is Ethernet's padding.
        builder.write(&mut frame, &[])?;
        frame.resize(arguments.frame_len, 0);
    } else {
        let builder = builder.udp(FIRST_PORT, arguments.port);
        let payload = vec![0x5a; arguments.frame_len - builder.size(0)];
        builder.write(&mut frame, &payload)?;
    }
    Ok(frame)
}

/// What the program writes at the beginning of each frame.
fn header(frame: &[u8]) -> [u32; HEADER_WORDS] {
    std::array::from_fn(|i| u32::from_ne_bytes(frame[4 * i..4 * i + 4].try_into().expect("four bytes")))
}

/// One's complement sum of the IP header but for its checksum and source address.
fn ip_sum(frame: &[u8]) -> u32 {
    sum(&frame[ETHERNET_LEN..ETHERNET_LEN + 10]) + sum(&frame[ETHERNET_LEN + 16..NETWORK_LEN])
}

/// One's complement sum of pseudo header and segment but for the source, address and port, and the checksum.
fn transport_sum(frame: &[u8]) -> u32 {
    let total_len = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    let (protocol, segment) = (frame[23], &frame[NETWORK_LEN..ETHERNET_LEN + total_len]);
    let checksum_at = if protocol == 6 { 16 } else { 6 };
    let pseudo = sum(&frame[30..34]) + u32::from(protocol) + u32::try_from(segment.len()).expect("a segment");
    folded(pseudo + sum(&segment[2..checksum_at]) + sum(&segment[checksum_at + 2..]))
}

fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    folded(words.sum())
}

fn folded(sum: u32) -> u32 {
    (sum & 0xffff) + (sum >> 16)
}
