//! Frames of several chunks: XDP's multi-buffer, which veth has in copy mode.

use xvs::xdp::options::{LONG_LEN, LONG_MTU_MAX};
use xvs::xdp::socket::NotSent;
use xvs::xdp::sockopt::kernel_has_long_frames;

use super::*;

const LONG_RING: SocketOptions = SocketOptions { ring_len: 512, long_frames: true, ..SMALL };

/// A pair whose links take so long IP packets.
fn pair(mtu: u32) -> Pair {
    assert!(kernel_has_long_frames().unwrap(), "these tests need Linux 6.6");
    let pair = Pair::new();
    for (end, peer) in [("out0", "in0"), ("out1", "in1")] {
        pair.outer(|| run(&format!("ip link set {end} mtu {mtu}")));
        pair.inner(|| run(&format!("ip link set {peer} mtu {mtu}")));
    }
    pair
}

/// Lengths around every bound of one, two and more chunks of either length, and some between.
fn lengths(longest: u32) -> Vec<u32> {
    let mut lengths = vec![60, 1514, 3000, 5000, 8192, 9014, longest];
    for chunk in [1792, 3840] {
        for chunks in 1..=longest / chunk {
            lengths.extend((0..=130).step_by(13).map(|off| chunk * chunks + 65 - off));
            lengths.extend([chunk * chunks - 1, chunk * chunks, chunk * chunks + 1]);
        }
    }
    lengths.retain(|len| *len <= longest);
    lengths
}

/// Both queues, every length mixed with every other, each longer by one byte at the other side; no chunk lost or in two places.
#[test]
fn frames_of_any_length_cross_intact_and_every_chunk_is_accounted_for() {
    let longest = LONG_MTU_MAX + 18 - 1;
    for chunk_len in [2048, 4096] {
        let options = SocketOptions { chunk_len, ..LONG_RING };
        let pair = pair(LONG_MTU_MAX);
        let mut outside = pair.outer(|| open_queues(&["out0", "out1"], &options));
        let _outer = attach(|act| pair.outer(act), "out1", outside.iter().map(|(_, ports)| &ports[1]));
        let inside = pair.inner(|| open_queues(&["in0", "in1"], &options));
        let _inner = attach(|act| pair.inner(act), "in0", inside.iter().map(|(_, ports)| &ports[0]));
        let stop = Arc::new(AtomicBool::new(false));
        let workers: Vec<_> = (0..)
            .zip(inside)
            .map(|(queue, opened)| work(queue, opened, &stop, Cross::default(), WorkerOptions::default()))
            .collect();

        let mut number = 0;
        for burst in lengths(longest).chunks(40) {
            for (umem, ports) in &mut outside {
                let sent: Vec<_> = burst
                    .iter()
                    .map(|&len| {
                        number += 1;
                        packet_of(number, len)
                    })
                    .collect();
                for bytes in &sent {
                    assert_eq!(ports[0].transmit_bytes(umem, bytes), Ok(()));
                }
                flush(umem, &mut ports[0]);
                let expected: Vec<_> = sent.iter().map(|bytes| [&bytes[..], &[0xc5]].concat()).collect();
                let arrived = collect(umem, &mut ports[1], sent.len());
                let lens = |frames: &[Vec<u8>]| frames.iter().map(Vec::len).collect::<Vec<_>>();
                assert_eq!(
                    lens(&arrived),
                    lens(&expected),
                    "chunks of {chunk_len}, queue {}",
                    ports[0].queue()
                );
                assert!(arrived == expected, "bytes changed on the way");
            }
        }
        for (umem, ports) in &outside {
            let census = umem.census(ports);
            assert!(census.is_conserved() && census.held == 0 && census.transmit == 0, "{census:?}");
        }

        stop.store(true, Ordering::Relaxed);
        for worker in workers {
            let report = worker.join();
            assert!(report.failure.is_none() && report.is_conserved(), "{report}: {report:?}");
            assert_eq!(report.census.transmit, 0, "all completions have come");
            let (first, second) = (&report.ports[0], &report.ports[1]);
            assert_eq!((first.rx_packets, second.tx_packets), (u64::from(number) / 2, u64::from(number) / 2));
            assert_eq!(first.rx_bytes + first.rx_packets, second.tx_bytes, "one byte more each");
            let lost = first.kernel_fill_ring_empty + first.kernel_rx_ring_full + first.kernel_rx_dropped;
            assert_eq!(lost + first.kernel_invalid_descs + second.kernel_invalid_descs, 0);
        }
    }
}

/// All of a frame or nothing: a part of one would be sent as another frame, or hold up those behind it.
#[test]
fn what_does_not_fit_the_ring_or_the_pool_whole_is_not_sent_at_all() {
    let options = SocketOptions { ring_len: 64, ..LONG_RING };
    let pair = pair(9000);
    let (mut umem, mut ports) = pair.outer(|| open(&["out0"], 0, &options)).unwrap();
    let (mut there, mut far) = pair.inner(|| open(&["in0"], 0, &LONG_RING)).unwrap();
    let _inner = attach(|act| pair.inner(act), "in0", [&far[0]]);
    let port = &mut ports[0];
    let conserved = |umem: &Umem, ports: &[PortSocket]| {
        let census = umem.census(ports);
        assert!(census.is_conserved(), "{census:?}");
        census
    };

    // Ten frames of six chunks each, and then four chunks are left.
    let sent: Vec<_> = (0..10).map(|n| packet_of(n, 9000)).collect();
    for bytes in &sent {
        assert_eq!(port.transmit_bytes(&mut umem, bytes), Ok(()));
    }
    assert_eq!(port.transmitting(), 60);
    let pool = umem.census(std::slice::from_ref(port)).pool;
    assert_eq!(port.transmit_bytes(&mut umem, &packet_of(10, 9000)), Err(NotSent::RingFull));
    let mut frame = umem.take_longest().unwrap();
    umem.room(&mut frame)[..9000].copy_from_slice(&packet_of(10, 9000));
    frame.set_len(9000);
    let back = port.transmit(&mut umem, frame).unwrap_err();
    assert_eq!((umem.census(std::slice::from_ref(port)).pool, port.transmitting()), (pool, 60));
    umem.recycle(back);
    assert_eq!(port.transmit_bytes(&mut umem, &packet_of(11, 7000)), Ok(()), "four chunks");
    assert_eq!(port.transmit_bytes(&mut umem, &packet_of(12, 60)), Err(NotSent::RingFull));
    conserved(&umem, &ports);

    let port = &mut ports[0];
    flush(&mut umem, port);
    let arrived = collect(&mut there, &mut far[0], 11);
    assert!(arrived.iter().eq(sent.iter().chain([&packet_of(11, 7000)])), "whole ones, and in order");

    let mut taken: Vec<_> = std::iter::from_fn(|| umem.take()).collect();
    (0..5).for_each(|_| umem.recycle(taken.pop().unwrap()));
    assert_eq!(port.transmit_bytes(&mut umem, &packet_of(13, 9000)), Err(NotSent::NoChunks));
    assert_eq!(port.transmit_bytes(&mut umem, &packet_of(14, 8900)), Ok(()), "five chunks");
    // Chunks that were parts are whole frames again.
    taken.drain(..).for_each(|frame| umem.recycle(frame));
    for n in 15..40 {
        send(&mut umem, port, &packet_of(n, 1000));
    }
    flush(&mut umem, port);
    let lens: Vec<_> = collect(&mut there, &mut far[0], 26).iter().map(Vec::len).collect();
    assert_eq!(lens, [&[8900][..], &[1000; 25]].concat());
    assert_eq!(conserved(&umem, &ports).transmit, 0);
}

/// Received, made and sent in chunks of one memory: what the ring cannot hold is dropped whole, and counted.
#[test]
fn long_frames_that_a_worker_makes_or_cannot_send_are_all_accounted_for() {
    let pair = pair(9000);
    let outer = SocketOptions { ring_len: 1024, ..LONG_RING };
    let (mut umem, mut ports) = pair.outer(|| open(&["out0", "out1"], 0, &outer)).unwrap();
    let inner = SocketOptions { ring_len: 128, ..LONG_RING };
    let inside = pair.inner(|| open(&["in0", "in1"], 0, &inner)).unwrap();
    let _outer = attach(|act| pair.outer(act), "out1", [&ports[1]]);
    let _inner = attach(|act| pair.inner(act), "in0", [&inside.1[0]]);
    let stop = Arc::new(AtomicBool::new(false));
    let worker = work(0, inside, &stop, Cross::default(), WorkerOptions::default());
    let counters = worker.counters();
    let mut sent = 0;
    let mut bursts = |umem: &mut Umem, port: &mut PortSocket, first_byte| {
        for burst in 0..10 {
            for n in 0..10 {
                let mut bytes = packet_of(burst * 10 + n, 8000 + n);
                bytes[0] = first_byte;
                assert_eq!(port.transmit_bytes(umem, &bytes), Ok(()));
            }
            flush(umem, port);
            sent += 10;
            let start = Instant::now();
            while counters.ports[0].read().rx_packets < sent {
                assert!(start.elapsed() < LONG, "{:?}", counters.ports[0].read());
                thread::sleep(Duration::from_millis(1));
            }
        }
    };
    // Each and a copy of it.
    bursts(&mut umem, &mut ports[0], 0xfe);
    assert_eq!(collect(&mut umem, &mut ports[1], 200).len(), 200);
    // Dropped by the processor.
    bursts(&mut umem, &mut ports[0], 0xff);
    // Five chunks each, and 128 places.
    pair.inner(|| run("ip link set in1 down"));
    bursts(&mut umem, &mut ports[0], 0x02);
    stop.store(true, Ordering::Relaxed);
    let report = worker.join();
    assert!(report.failure.is_none() && report.is_conserved(), "{report}: {report:?}");
    let (first, second) = (&report.ports[0], &report.ports[1]);
    assert_eq!((first.rx_packets, first.recycled), (300, 100 + 75));
    assert_eq!((second.tx_packets, second.tx_made, second.transmit_full), (200 + 25, 100, 75));
    assert_eq!(report.census.transmit, 125);
}

#[test]
fn a_chunk_that_was_a_part_is_a_whole_frame_when_it_is_used_again() {
    let pair = pair(9000);
    let (mut umem, mut ports) = pair.outer(|| open(&["out0"], 0, &LONG_RING)).unwrap();
    let (mut there, mut far) = pair.inner(|| open(&["in0"], 0, &LONG_RING)).unwrap();
    let _outer = attach(|act| pair.outer(act), "out0", [&ports[0]]);
    let _inner = attach(|act| pair.inner(act), "in0", [&far[0]]);
    assert_eq!(ports[0].transmit_bytes(&mut umem, &packet_of(1, 9000)), Ok(()));
    flush(&mut umem, &mut ports[0]);
    let (mut frames, start) = (Frames::new(), Instant::now());
    while far[0].receive(&mut there, &mut frames) == 0 {
        assert!(start.elapsed() < LONG);
    }
    frames.drain(..).for_each(|frame| there.recycle(frame));
    // Those that were freed last are taken first.
    for n in 0..6 {
        send(&mut there, &mut far[0], &packet_of(n, 100));
    }
    flush(&mut there, &mut far[0]);
    let lens: Vec<_> = collect(&mut umem, &mut ports[0], 6).iter().map(Vec::len).collect();
    assert_eq!(lens, [100; 6]);
}

#[test]
fn a_socket_without_long_frames_takes_and_sends_none() {
    let pair = pair(9000);
    let (mut umem, mut ports) = pair.outer(|| open(&["out0"], 0, &LONG_RING)).unwrap();
    let (mut there, mut far) = pair.inner(|| open(&["in0"], 0, &SMALL)).unwrap();
    let _inner = attach(|act| pair.inner(act), "in0", [&far[0]]);
    for len in [5000, 60, 1793, 1792] {
        assert_eq!(ports[0].transmit_bytes(&mut umem, &packet_of(1, len)), Ok(()));
    }
    flush(&mut umem, &mut ports[0]);
    let lens: Vec<_> = collect(&mut there, &mut far[0], 2).iter().map(Vec::len).collect();
    assert_eq!((lens, far[0].statistics().unwrap().rx_dropped()), (vec![60, 1792], 2));
    assert_eq!(far[0].transmit_bytes(&mut there, &packet_of(1, 1793)), Err(NotSent::NoChunks));
    assert!(there.census(&far).is_conserved());
}

/// Longer ones than the interface should let through are cut, and those behind them are whole.
#[test]
fn what_is_longer_than_any_frame_is_cut_and_no_chunk_of_it_is_lost() {
    let pair = pair(12_000);
    let (mut umem, mut ports) = pair.outer(|| open(&["out0"], 0, &LONG_RING)).unwrap();
    let (mut there, mut far) = pair.inner(|| open(&["in0"], 0, &LONG_RING)).unwrap();
    let _inner = attach(|act| pair.inner(act), "in0", [&far[0]]);
    let sent = packet_of(1, 11_000);
    assert_eq!(ports[0].transmit_bytes(&mut umem, &sent), Ok(()));
    assert_eq!(ports[0].transmit_bytes(&mut umem, &packet_of(2, 9000)), Ok(()));
    flush(&mut umem, &mut ports[0]);
    let arrived = collect(&mut there, &mut far[0], 2);
    assert!(arrived[0] == sent[..LONG_LEN] && arrived[1] == packet_of(2, 9000));
    let census = there.census(&far);
    assert!(census.is_conserved() && census.held == 0, "{census:?}");
}
