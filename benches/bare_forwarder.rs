//! What AF_XDP alone can forward: the worker of xvs with its UMEM, rings and loop, and no director. Or what XDP alone can,
//! without user space.
//!
//! Every frame that arrives at one interface gets new MAC addresses and leaves by the other. Runs until
//! SIGINT or SIGTERM, then prints what it counted.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use arc_swap::ArcSwap;
use clap::Parser;
use xvs::director::engine::{Batch, Verdict, Verdicts};
use xvs::director::forward::hops::NextHops;
use xvs::director::time::Time;
use xvs::worker::processor::NoHops;
use xvs::worker::{Clock, Processor, WorkerOptions, WorkerSetup, cores, spawn};
use xvs::xdp::open::open;
use xvs::xdp::options::{RING_LEN_DEFAULT, SocketOptions};

#[path = "common/redirect.rs"]
mod redirect;

/// Forwards every frame between two interfaces over AF_XDP, or in the driver.
#[derive(Debug, Parser)]
struct Arguments {
    /// The two interfaces.
    #[arg(num_args = 2, required = true)]
    interfaces: Vec<String>,
    /// Destination MAC of frames that leave by the first interface.
    #[arg(long, value_parser = parse_mac)]
    first_mac: [u8; 6],
    /// Destination MAC of frames that leave by the second interface.
    #[arg(long, value_parser = parse_mac)]
    second_mac: [u8; 6],
    /// Queues, one worker each.
    #[arg(long, default_value_t = 1)]
    queues: u32,
    /// Cores of the workers, in the order of their queues.
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
    /// Frames in each ring.
    #[arg(long, default_value_t = RING_LEN_DEFAULT)]
    ring_len: u32,
    /// Bytes of each chunk.
    #[arg(long, default_value_t = 4096)]
    chunk_len: u32,
    /// In the driver: by XDP alone, which counts nothing.
    #[arg(long, conflicts_with_all = ["queues", "cores", "ring_len", "chunk_len", "busy_poll"])]
    in_driver: bool,
    /// Never sleep.
    #[arg(long)]
    busy_poll: bool,
}

fn parse_mac(text: &str) -> Result<[u8; 6], String> {
    let bytes: Result<Vec<u8>, _> = text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
    bytes.ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| format!("{text} is no MAC address"))
}

/// Sends what arrives at one port from the other, with MAC addresses that never change.
struct Bare {
    /// Destination and source MAC by outgoing port.
    macs: [[u8; 12]; 2],
}

impl Processor for Bare {
    fn process<H: NextHops>(
        &mut self,
        batch: &mut Batch<'_>,
        _hops: &H,
        _now: Time,
        verdicts: &mut Verdicts,
    ) {
        verdicts.clear();
        for packet in batch {
            let out = packet.port ^ 1;
            packet.room[..12].copy_from_slice(&self.macs[usize::from(out)]);
            verdicts.push(Verdict::Transmit(out));
        }
    }

    fn expire(&mut self, _now: Time) -> bool {
        false
    }

    fn rest(&mut self) {}
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    let macs = [arguments.first_mac, arguments.second_mac];
    let mut port_macs = [[0; 12]; 2];
    for (port, macs_of_port) in port_macs.iter_mut().enumerate() {
        macs_of_port[..6].copy_from_slice(&macs[port]);
        macs_of_port[6..].copy_from_slice(&own_mac(&arguments.interfaces[port])?);
    }

    if arguments.in_driver {
        let [first, second] = [0, 1].map(|port: usize| {
            redirect::forward_all(
                &arguments.interfaces[port],
                &arguments.interfaces[port ^ 1],
                &port_macs[port ^ 1],
            )
        });
        let _attached = (first?, second?);
        println!("ready");
        return wait_for_signal(&AtomicBool::new(false));
    }

    let options = SocketOptions {
        ring_len: arguments.ring_len,
        chunk_len: arguments.chunk_len,
        busy_poll: arguments.busy_poll,
        ..Default::default()
    };
    let opened = (0..arguments.queues)
        .map(|queue| open(&arguments.interfaces, queue, &options))
        .collect::<Result<Vec<_>, _>>()?;
    let _attached = (0..2)
        .map(|port| {
            let sockets: Vec<_> =
                opened.iter().map(|(_, ports)| (ports[port].queue(), ports[port].as_raw_fd())).collect();
            redirect::redirect_all(&arguments.interfaces[port], &sockets)
        })
        .collect::<anyhow::Result<Vec<_>>>()?;

    let allowed = cores::allowed();
    let clock = Clock::new();
    let stop = Arc::new(AtomicBool::new(false));
    let workers = (0..).zip(opened).map(|(queue, (umem, ports))| {
        let setup = WorkerSetup {
            queue,
            core: cores::choose(queue, &arguments.cores, &allowed)?,
            umem,
            ports,
            pass: None,
            processor: Bare { macs: port_macs },
            hops: Arc::new(ArcSwap::from_pointee(NoHops)),
            clock,
            options: WorkerOptions { busy_poll: arguments.busy_poll, ..Default::default() },
            stop: Arc::clone(&stop),
        };
        spawn(setup).context("starting a worker")
    });
    let workers = workers.collect::<anyhow::Result<Vec<_>>>()?;

    println!("ready");
    wait_for_signal(&stop)?;
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        let report = worker.join();
        println!("{report}");
        for (name, port) in arguments.interfaces.iter().zip(&report.ports) {
            println!("  {name}: {port:?}");
        }
        println!("  {:?}", report.turns);
        ensure!(report.is_conserved(), "frames were lost: {:?}", report.census);
        if let Some(failure) = report.failure {
            return Err(failure.into());
        }
    }
    Ok(())
}

fn own_mac(interface: &str) -> anyhow::Result<[u8; 6]> {
    for address in nix::ifaddrs::getifaddrs()? {
        if address.interface_name == interface
            && let Some(mac) = address.address.as_ref().and_then(|a| a.as_link_addr()).and_then(|a| a.addr())
        {
            return Ok(mac);
        }
    }
    anyhow::bail!("interface {interface} does not exist or has no MAC address")
}

/// Returns at SIGINT, SIGTERM, or when a worker has failed.
fn wait_for_signal(stop: &AtomicBool) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let failed = async {
            while !stop.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = failed => {}
        }
        Ok(())
    })
}
