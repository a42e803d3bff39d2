//! UMEM, sockets and the worker's loop on real AF_XDP sockets, on veth pairs in namespaces of their own.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use xvs::director::drops::DropReason;
use xvs::director::engine::{Batch, Verdict, Verdicts};
use xvs::director::forward::hops::NextHops;
use xvs::director::outbox::Outbox;
use xvs::director::time::Time;
use xvs::worker::processor::NoHops;
use xvs::worker::{Clock, Processor, Worker, WorkerOptions, WorkerSetup, spawn};
use xvs::xdp::error::XdpError;
use xvs::xdp::frame::Frames;
use xvs::xdp::open::open;
use xvs::xdp::options::{SocketOptions, ZeroCopy};
use xvs::xdp::socket::PortSocket;
use xvs::xdp::umem::Umem;

mod alone;
mod long;
mod memory;
#[allow(dead_code, reason = "shared: no test binary uses all of it")]
#[path = "../common/netns.rs"]
mod netns;
mod pair;
#[path = "../../benches/common/redirect.rs"]
mod redirect;

use netns::run;
use pair::Pair;

const QUEUES: u32 = 2;
const SMALL: SocketOptions = SocketOptions {
    chunk_len: 2048,
    ring_len: 64,
    long_frames: false,
    hugepages: false,
    zero_copy: ZeroCopy::Prefer,
    busy_poll: false,
};
const LONG: Duration = Duration::from_secs(10);

type Opened = (Umem, Vec<PortSocket>);

/// Sends everything out of the other port, longer by one byte; drops frames that begin with 0xff; makes a copy of those
/// that begin with 0xfe.
#[derive(Default)]
struct Cross {
    cpu_at_rest: Arc<Mutex<Vec<Duration>>>,
    made: Outbox,
    without_frame: Arc<AtomicUsize>,
}

impl Processor for Cross {
    fn process<H: NextHops>(
        &mut self,
        batch: &mut Batch<'_>,
        _hops: &H,
        _now: Time,
        verdicts: &mut Verdicts,
    ) {
        verdicts.clear();
        for packet in batch {
            packet.room[packet.len] = 0xc5;
            packet.len += 1;
            if packet.room[0] == 0xfe {
                let (len, frame) = (packet.len, &packet.room);
                assert!(self.made.write(packet.port ^ 1, |to| {
                    to[..len].copy_from_slice(&frame[..len]);
                    Some(len)
                }));
            }
            verdicts.push(if packet.room[0] == 0xff {
                Verdict::Drop(DropReason::NotIp)
            } else {
                Verdict::Transmit(packet.port ^ 1)
            });
        }
    }

    fn expire(&mut self, _now: Time) -> bool {
        false
    }

    fn rest(&mut self) {
        let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
        let us = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        self.cpu_at_rest.lock().unwrap().push(Duration::from_micros(us.try_into().unwrap()));
    }

    fn outbox(&mut self) -> Option<&mut Outbox> {
        Some(&mut self.made)
    }

    fn without_frame(&mut self, count: usize) {
        self.without_frame.fetch_add(count, Ordering::Relaxed);
    }
}

fn work(
    queue: u32,
    (umem, ports): Opened,
    stop: &Arc<AtomicBool>,
    processor: impl Processor + Send + 'static,
    options: WorkerOptions,
) -> Worker {
    spawn(WorkerSetup {
        queue,
        core: None,
        umem,
        ports,
        pass: None,
        processor,
        hops: Arc::new(ArcSwap::from_pointee(NoHops)),
        clock: Clock::new(),
        options,
        stop: Arc::clone(stop),
    })
    .unwrap()
}

fn open_queues(interfaces: &[&str], options: &SocketOptions) -> Vec<Opened> {
    (0..QUEUES).map(|queue| open(interfaces, queue, options).unwrap()).collect()
}

/// Redirects what arrives at `interface` to sockets of it.
fn attach<'p>(
    pair_side: impl FnOnce(Box<dyn FnOnce() -> redirect::Redirect + Send>) -> redirect::Redirect,
    interface: &'static str,
    ports: impl IntoIterator<Item = &'p PortSocket>,
) -> redirect::Redirect {
    let sockets: Vec<_> = ports.into_iter().map(|port| (port.queue(), port.as_raw_fd())).collect();
    pair_side(Box::new(move || redirect::redirect_all(interface, &sockets).unwrap()))
}

/// The `number`th test packet: another length and content for each.
fn packet(number: u32) -> Vec<u8> {
    packet_of(number, 60 + (number * 37) % 1400)
}

/// The same of `len` bytes.
fn packet_of(number: u32, len: u32) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        (0..len).map(|at| (number.wrapping_mul(31).wrapping_add(at * 7) % 251) as u8).collect();
    bytes[0] = 0x02;
    bytes[12..14].copy_from_slice(&[0x88, 0xb5]); // The local experimental EtherType.
    bytes[14..18].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn send(umem: &mut Umem, port: &mut PortSocket, bytes: &[u8]) {
    let mut frame = umem.take().expect("the pool is larger than what is in flight");
    umem.room(&mut frame)[..bytes.len()].copy_from_slice(bytes);
    frame.set_len(bytes.len());
    port.transmit(umem, frame).expect("the ring is larger than what is in flight");
}

fn flush(umem: &mut Umem, port: &mut PortSocket) {
    let start = Instant::now();
    while port.has_unsent() || port.transmitting() > 0 {
        port.flush().unwrap();
        port.reap(umem);
        assert!(start.elapsed() < LONG, "the kernel transmits what it is given");
    }
}

/// Receives until `count` packets have come or nothing has for a while.
fn collect(umem: &mut Umem, port: &mut PortSocket, count: usize) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let mut frames = Frames::new();
    let mut last = Instant::now();
    while packets.len() < count && last.elapsed() < Duration::from_secs(2) {
        if port.receive(umem, &mut frames) > 0 {
            last = Instant::now();
        }
        for mut frame in frames.drain(..) {
            packets.push(umem.packet(&mut frame).to_vec());
            umem.recycle(frame);
        }
        port.refill(umem).unwrap();
    }
    packets
}

#[test]
fn frames_cross_from_one_interface_to_the_other_intact() {
    const ROUNDS: u32 = 40;
    const BURST: u32 = 50;
    for chunk_len in [2048, 4096] {
        let options = SocketOptions { chunk_len, ..SMALL };
        let pair = Pair::new();
        let mut outside = pair.outer(|| open_queues(&["out0", "out1"], &options));
        let _outer = attach(|act| pair.outer(act), "out1", outside.iter().map(|(_, ports)| &ports[1]));
        let inside = pair.inner(|| open_queues(&["in0", "in1"], &options));
        let _inner = attach(|act| pair.inner(act), "in0", inside.iter().map(|(_, ports)| &ports[0]));
        let stop = Arc::new(AtomicBool::new(false));
        let workers: Vec<_> = (0..)
            .zip(inside)
            .map(|(queue, opened)| work(queue, opened, &stop, Cross::default(), WorkerOptions::default()))
            .collect();

        for round in 0..ROUNDS {
            for (umem, ports) in &mut outside {
                let queue = ports[0].queue();
                let numbers = (0..BURST).map(|i| (round * BURST + i) * QUEUES + queue);
                let sent: Vec<_> = numbers.map(packet).collect();
                for bytes in &sent {
                    send(umem, &mut ports[0], bytes);
                }
                flush(umem, &mut ports[0]);
                let expected = sent.into_iter().map(|mut bytes| {
                    bytes.push(0xc5);
                    bytes
                });
                let arrived = collect(umem, &mut ports[1], BURST as usize);
                assert!(expected.eq(arrived), "round {round}, queue {queue}: same packets, same order");
            }
        }
        for (umem, ports) in &outside {
            let census = umem.census(ports);
            assert!(census.is_conserved() && census.held == 0 && census.transmit == 0, "{census:?}");
        }

        stop.store(true, Ordering::Relaxed);
        for worker in workers {
            let counters = worker.counters();
            let report = worker.join();
            assert!(report.failure.is_none() && report.is_conserved(), "{report}: {report:?}");
            assert_eq!(report.census.transmit, 0, "all completions have come");
            let (first, second) = (&report.ports[0], &report.ports[1]);
            assert_eq!(
                (first.rx_packets, second.tx_packets),
                (u64::from(ROUNDS * BURST), u64::from(ROUNDS * BURST))
            );
            assert_eq!(first.rx_bytes + first.rx_packets, second.tx_bytes, "one byte more each");
            assert_eq!(
                first.kernel_fill_ring_empty + first.kernel_rx_ring_full + first.kernel_invalid_descs,
                0
            );
            assert_eq!(counters.ports[1].read(), *second, "what is published in the end is what is reported");
            assert!(report.turns.sleeps > 0, "it slept between the rounds");
        }
    }
}

#[test]
fn a_worker_told_to_stop_first_forwards_what_has_arrived() {
    let options = SocketOptions { ring_len: 1024, ..SMALL };
    let pair = Pair::new();
    let (mut umem, mut ports) = pair.outer(|| open(&["out0", "out1"], 0, &options)).unwrap();
    let inside = pair.inner(|| open(&["in0", "in1"], 0, &options)).unwrap();
    let _outer = attach(|act| pair.outer(act), "out1", [&ports[1]]);
    let _inner = attach(|act| pair.inner(act), "in0", [&inside.1[0]]);
    for number in 0..1000 {
        let mut bytes = packet(number);
        if number % 10 == 0 {
            bytes[0] = 0xff;
        }
        send(&mut umem, &mut ports[0], &bytes);
    }
    flush(&mut umem, &mut ports[0]);

    let stop = Arc::new(AtomicBool::new(true));
    let report = work(0, inside, &stop, Cross::default(), WorkerOptions::default()).join();
    assert!(report.failure.is_none() && report.is_conserved(), "{report}: {report:?}");
    assert_eq!(report.ports[0].rx_packets, 1000);
    assert_eq!(report.ports[0].recycled, 100);
    assert_eq!(report.ports[1].tx_packets, 900);
    assert_eq!(collect(&mut umem, &mut ports[1], 900).len(), 900);
}

#[test]
fn frames_that_the_processor_makes_follow_their_batch_and_none_is_lost() {
    let options = SocketOptions { ring_len: 512, ..SMALL };
    let pair = Pair::new();
    let (mut umem, mut ports) = pair.outer(|| open(&["out0", "out1"], 0, &options)).unwrap();
    let inside = pair.inner(|| open(&["in0", "in1"], 0, &options)).unwrap();
    let _outer = attach(|act| pair.outer(act), "out1", [&ports[1]]);
    let _inner = attach(|act| pair.inner(act), "in0", [&inside.1[0]]);
    let stop = Arc::new(AtomicBool::new(false));
    let worker = work(0, inside, &stop, Cross::default(), WorkerOptions::default());
    for round in 0..20 {
        let sent: Vec<Vec<u8>> = (0..50)
            .map(|n| {
                let mut bytes = packet(round * 50 + n);
                bytes[0] = 0xfe;
                bytes
            })
            .collect();
        for bytes in &sent {
            send(&mut umem, &mut ports[0], bytes);
        }
        flush(&mut umem, &mut ports[0]);
        let mut arrived = collect(&mut umem, &mut ports[1], 100);
        assert_eq!(arrived.len(), 100, "each and its copy");
        arrived.sort();
        let mut expected: Vec<Vec<u8>> = sent.iter().map(|bytes| [&bytes[..], &[0xc5]].concat()).collect();
        expected.sort();
        assert!(arrived.chunks(2).zip(&expected).all(|(two, one)| two[0] == *one && two[1] == *one));
    }
    stop.store(true, Ordering::Relaxed);
    let report = worker.join();
    assert!(report.failure.is_none() && report.is_conserved(), "{report}: {report:?}");
    assert_eq!((report.ports[0].rx_packets, report.ports[1].tx_packets), (1000, 2000));
}

/// With no frame free, or the ring full, what was made is dropped and counted; every frame stays where it belongs.
#[test]
fn frames_that_the_processor_makes_are_dropped_and_counted_without_room() {
    let sender = SocketOptions { ring_len: 512, ..SMALL };
    let pair = Pair::new();
    let (mut umem, mut ports) = pair.outer(|| open(&["out0", "out1"], 0, &sender)).unwrap();
    let inside = pair.inner(|| open(&["in0", "in1"], 0, &SMALL)).unwrap();
    let _inner = attach(|act| pair.inner(act), "in0", [&inside.1[0]]);
    pair.inner(|| run("ip link set in1 down"));
    let stop = Arc::new(AtomicBool::new(false));
    let processor = Cross::default();
    let without_frame = Arc::clone(&processor.without_frame);
    let worker = work(0, inside, &stop, processor, WorkerOptions::default());
    let counters = worker.counters();
    for burst in 0..10u32 {
        for number in 0..40 {
            let mut bytes = packet(number);
            bytes[0] = 0xfe;
            send(&mut umem, &mut ports[0], &bytes);
        }
        flush(&mut umem, &mut ports[0]);
        let start = Instant::now();
        while counters.ports[0].read().rx_packets < u64::from(burst + 1) * 40 {
            assert!(start.elapsed() < LONG, "{:?}", counters.ports[0].read());
            thread::sleep(Duration::from_millis(1));
        }
    }
    stop.store(true, Ordering::Relaxed);
    let report = worker.join();
    assert!(report.is_conserved(), "{report}: {report:?}");
    let out = &report.ports[1];
    let lost = out.transmit_full + without_frame.load(Ordering::Relaxed) as u64;
    assert_eq!((out.tx_packets, out.tx_packets + lost), (64, 800), "{out:?}");
}

#[test]
fn a_full_transmit_ring_drops_and_counts_and_sends_the_rest_when_it_can() {
    let sender = SocketOptions { ring_len: 512, ..SMALL };
    let pair = Pair::new();
    let (mut umem, mut ports) = pair.outer(|| open(&["out0", "out1"], 0, &sender)).unwrap();
    let inside = pair.inner(|| open(&["in0", "in1"], 0, &SMALL)).unwrap();
    let _outer = attach(|act| pair.outer(act), "out1", [&ports[1]]);
    let _inner = attach(|act| pair.inner(act), "in0", [&inside.1[0]]);
    pair.inner(|| run("ip link set in1 down"));
    let stop = Arc::new(AtomicBool::new(false));
    let worker = work(0, inside, &stop, Cross::default(), WorkerOptions::default());
    let counters = worker.counters();
    let received = |count| {
        let start = Instant::now();
        while counters.ports[0].read().rx_packets < count {
            assert!(start.elapsed() < LONG, "{:?}", counters.ports[0].read());
            thread::sleep(Duration::from_millis(1));
        }
    };

    for burst in 0..10 {
        for number in 0..40 {
            send(&mut umem, &mut ports[0], &packet(number));
        }
        flush(&mut umem, &mut ports[0]);
        received((burst + 1) * 40);
    }
    let blocked = counters.ports[1].read();
    assert_eq!(blocked.tx_packets, 64, "one ring is accepted");
    assert_eq!(blocked.transmit_full, 400 - 64, "the rest is counted");

    pair.inner(|| run("ip link set in1 up"));
    assert_eq!(collect(&mut umem, &mut ports[1], 64).len(), 64, "what was accepted arrives");
    send(&mut umem, &mut ports[0], &packet(7));
    flush(&mut umem, &mut ports[0]);
    assert_eq!(collect(&mut umem, &mut ports[1], 1).len(), 1, "and the way is free again");

    stop.store(true, Ordering::Relaxed);
    let report = worker.join();
    assert!(report.failure.is_none() && report.is_conserved(), "{report}: {report:?}");
}

#[test]
fn an_interface_that_vanishes_ends_the_worker_with_its_name() {
    let pair = Pair::new();
    let inside = pair.inner(|| open(&["in0", "in1"], 0, &SMALL)).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let worker = work(0, inside, &stop, Cross::default(), WorkerOptions::default());
    pair.inner(|| run("ip link del in1"));
    let start = Instant::now();
    while !worker.is_finished() {
        assert!(start.elapsed() < LONG, "the worker notices");
        thread::sleep(Duration::from_millis(10));
    }
    let report = worker.join();
    let failure = report.failure.as_ref().expect("the worker does not go on with half of its interfaces");
    assert!(failure.to_string().contains("interface in1 (queue 0)"), "{failure}");
    assert!(stop.load(Ordering::Relaxed), "the other workers are told");
}

#[test]
fn an_idle_worker_uses_less_than_two_percent_of_a_core() {
    let pair = Pair::new();
    let inside = pair.inner(|| open(&["in0", "in1"], 0, &SMALL)).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let cpu = Arc::new(Mutex::new(Vec::new()));
    let worker = work(
        0,
        inside,
        &stop,
        Cross { cpu_at_rest: Arc::clone(&cpu), ..Cross::default() },
        WorkerOptions::default(),
    );
    thread::sleep(Duration::from_secs(2));
    stop.store(true, Ordering::Relaxed);
    let report = worker.join();
    let used = cpu.lock().unwrap().last().copied().expect("it rested");
    assert!(used < Duration::from_millis(40), "{used:?} of 2 s");
    assert!((10..=25).contains(&report.turns.sleeps), "about ten a second: {:?}", report.turns);
}

#[test]
fn a_busy_polling_worker_never_sleeps() {
    let options = SocketOptions { busy_poll: true, ..SMALL };
    let pair = Pair::new();
    let (mut umem, mut ports) = pair.outer(|| open(&["out0", "out1"], 0, &SMALL)).unwrap();
    let inside = pair.inner(|| open(&["in0", "in1"], 0, &options)).unwrap();
    let _outer = attach(|act| pair.outer(act), "out1", [&ports[1]]);
    let _inner = attach(|act| pair.inner(act), "in0", [&inside.1[0]]);
    let stop = Arc::new(AtomicBool::new(false));
    let worker =
        work(0, inside, &stop, Cross::default(), WorkerOptions { busy_poll: true, ..Default::default() });
    for number in 0..40 {
        send(&mut umem, &mut ports[0], &packet(number));
    }
    flush(&mut umem, &mut ports[0]);
    assert_eq!(collect(&mut umem, &mut ports[1], 40).len(), 40);
    stop.store(true, Ordering::Relaxed);
    let report = worker.join();
    assert!(report.is_conserved(), "{report}");
    assert_eq!(report.turns.sleeps, 0);
}

#[test]
fn sockets_that_cannot_be_had_say_why_and_what_to_do() {
    let pair = Pair::new();
    let refusal = |interfaces: &[&str], queue, options: &SocketOptions| {
        pair.inner(|| open(interfaces, queue, options)).map(|_| ()).unwrap_err()
    };

    let required = SocketOptions { zero_copy: ZeroCopy::Require, ..SMALL };
    let error = refusal(&["in0"], 0, &required);
    assert!(matches!(error, XdpError::NoZeroCopy { .. }), "{error}");
    assert!(error.to_string().contains("in0") && error.to_string().contains("zero_copy"), "{error}");

    let error = refusal(&["in0", "in9"], 0, &SMALL);
    assert!(matches!(&error, XdpError::NoInterface { interface } if interface == "in9"), "{error}");

    let error = refusal(&["in0", "in1"], 2, &SMALL);
    assert!(matches!(error, XdpError::NoQueue { queue: 2, .. }), "{error}");

    let (umem, ports) = pair.inner(|| open(&["in0", "in1"], 1, &SMALL)).unwrap();
    assert!(ports.iter().all(|port| !port.zero_copy()), "veth copies");
    let error = refusal(&["in1"], 1, &SMALL);
    assert!(matches!(&error, XdpError::QueueTaken { interface, queue: 1 } if interface == "in1"), "{error}");
    assert!(error.to_string().contains("ss --xdp -p"), "{error}");

    drop((umem, ports));
    let start = Instant::now();
    while let Err(error) = pair.inner(|| open(&["in0", "in1"], 1, &SMALL)) {
        assert!(start.elapsed() < LONG, "closed sockets free their queues: {error}");
        thread::sleep(Duration::from_millis(10));
    }
}
