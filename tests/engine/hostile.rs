//! Malformed and hostile frames: always a counted reason, never a panic, never a lost frame.

use proptest::prelude::*;
use xvs::director::drops::DropReason;
use xvs::director::engine::Verdict;
use xvs::director::service::{Method, Protocol};

use crate::table::*;

const C: &str = "192.0.2.7:40000";
const VIP: &str = "10.0.0.100:80";

fn services() -> [xvs::director::service::Pool; 2] {
    [
        service(Protocol::Tcp, VIP, Method::Nat, &[("10.1.0.11:80", 1), ("10.1.0.12:80", 2)]),
        service(Protocol::Udp, "10.0.0.100:53", Method::Dr, &[("10.1.0.11:53", 1)]),
    ]
}

#[test]
fn every_truncation_of_every_packet_is_counted_as_truncated() {
    let mut t = Table::new(&services());
    let mut total = 0;
    for frame in [tcp(C, VIP, "S"), tcp("10.1.0.11:80", C, "SA"), udp(C, "10.0.0.100:53", b"?")] {
        for len in 0..frame.len() {
            let verdict = t.batch(0, &[frame[..len].to_vec()], OUTSIDE).remove(0).0;
            assert_eq!(verdict, Verdict::Drop(DropReason::Truncated), "{len} bytes");
            total += 1;
        }
    }
    assert_eq!(t.director.drops(), [(DropReason::Truncated, total)]);
}

#[test]
fn a_flood_fills_the_table_and_no_more_and_established_connections_live_on() {
    let mut t = Table::sized(&services(), 1024, 2);
    t.tcp(C, VIP, "S").unwrap();
    t.tcp(C, VIP, "A").unwrap();
    let mut refused = 0;
    for n in 0..5000u32 {
        let client = format!("198.18.{}.{}:9", n / 256, n % 256);
        refused += u64::from(t.tcp(&client, VIP, "S") == Err(DropReason::TableFull));
    }
    assert_eq!((t.director.table.len(), refused), (1024, 5000 - 1023));
    assert!(t.tcp(C, VIP, "A").is_ok());
    t.pass(61);
    assert_eq!(t.director.table.len(), 1, "half-open ones go after 60 s");
    assert!(t.tcp("198.18.200.1:9", VIP, "S").is_ok(), "and there is room again");
}

/// A good packet, then some of its bytes changed.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let frames = vec![
        tcp(C, VIP, "S"),
        tcp(C, VIP, "A"),
        tcp("10.1.0.12:80", C, "SA"),
        tcp("10.1.0.12:80", C, "FA"),
        udp(C, "10.0.0.100:53", b"question"),
    ];
    let damage = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (prop::sample::select(frames), damage, any::<prop::sample::Index>(), any::<bool>(), any::<bool>())
        .prop_map(|(mut frame, damage, cut, mend, truncate)| {
            for (at, byte) in damage {
                let at = at.index(frame.len());
                frame[at] = byte;
            }
            if mend {
                // As a hostile sender would: the header checksum is right, whatever the header says.
                mend_ip(&mut frame);
            }
            if truncate {
                frame.truncate(cut.index(frame.len() + 1));
            }
            frame
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Every frame gets one verdict; what is dropped is counted, what is sent keeps its length.
    #[test]
    fn any_batch_has_a_verdict_and_a_count_for_each_frame(
        frames in proptest::collection::vec(damaged(), 1..40),
        worker in 0usize..2,
    ) {
        let mut t = Table::new(&services());
        let verdicts = t.batch(worker, &frames, OUTSIDE);
        let is_dropped = |v: &Verdict| matches!(v, Verdict::Drop(_) | Verdict::Answer(..));
        let dropped = verdicts.iter().filter(|(v, _)| is_dropped(v)).count() as u64;
        prop_assert_eq!(t.director.drops().iter().map(|(_, n)| n).sum::<u64>(), dropped);
        for ((verdict, after), before) in verdicts.iter().zip(&frames) {
            match verdict {
                Verdict::Transmit(_) => prop_assert_eq!(after.len(), before.len()),
                Verdict::Drop(_) | Verdict::Keep => {
                    prop_assert_eq!(after, before, "a dropped frame is left alone");
                }
                Verdict::Answer(..) => drop(read_answer(after)),
            }
        }
        t.pass(1000);
        prop_assert_eq!(t.director.table.len(), 0);
    }

    #[test]
    fn any_bytes_have_a_verdict(frame in proptest::collection::vec(any::<u8>(), 0..128)) {
        let mut t = Table::new(&services());
        prop_assert_eq!(t.batch(0, &[frame], OUTSIDE).len(), 1);
    }
}
