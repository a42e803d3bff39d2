//! Frames of several chunks: XDP's multi-buffer, which veth has in copy mode.

use xvs::xdp::options::LONG_MTU_MAX;
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

/// The `number`th test packet of `len` bytes.
fn packet_of(number: u32, len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|at| ((number as usize * 31 + at * 7) % 251) as u8).collect();
    bytes[0] = 0x02;
    bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
    bytes[14..18].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// Lengths around every bound of one, two and more chunks of either length, and some between.
fn lengths(longest: usize) -> Vec<usize> {
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
    let longest = LONG_MTU_MAX as usize + 18 - 1;
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
