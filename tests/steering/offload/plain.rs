//! Plain packets of offloaded connections: as the engine would send them, and counted.

use std::thread::sleep;
use std::time::Duration;

use xvs::director::engine::Verdict as Judged;
use xvs::xdp::steer::offload::monotonic_ns;

use super::kinds::{Flow, KINDS};
use super::{IP, Rig, alike, in_a_namespace, mend_ip};
use crate::table::tcp;
use crate::tagged;

/// Some ticks: those of a busy machine may come late.
const TICKS_NS: u64 = 100_000_000;

#[test]
fn established_packets_leave_as_the_engine_would_send_them_and_are_counted() {
    in_a_namespace(|| {
        let mut rig = Rig::new();
        for number in 0..KINDS.len() {
            let flow = rig.opened(number);
            let place = rig.place(&flow.client).unwrap();
            for (direction, frame) in [Some(flow.inward()), flow.outward()].into_iter().enumerate() {
                let Some(frame) = frame else { continue };
                let before = rig.hand.counted(place)[direction];
                let (port, left) = rig.carry(&frame).unwrap_or_else(|| panic!("{flow:?} comes up"));
                let (judged, by_engine) = rig.engine(&frame);
                assert_eq!((judged, alike(by_engine)), (Judged::Transmit(port), alike(left)), "{flow:?}");
                let len = u64::try_from(frame.len() - IP).unwrap();
                let after = rig.hand.counted(place)[direction];
                assert_eq!((after.0 - before.0, after.1 - before.1), (1, len));
            }
        }
    });
}

#[test]
fn a_tally_says_when_its_last_packet_came() {
    in_a_namespace(|| {
        let mut rig = Rig::new();
        let flow = rig.opened(0);
        let place = rig.place(&flow.client).unwrap();
        let seen = |rig: &Rig| rig.hand.lock().0.tallies.get(2 * place).unwrap().seen_ns();
        assert_eq!(seen(&rig), None);
        for _ in 0..20 {
            let before = monotonic_ns();
            rig.carry(&flow.inward()).expect("carried");
            let seen = seen(&rig).expect("seen");
            assert!((before - TICKS_NS..=monotonic_ns()).contains(&seen), "{seen}, not after {before}");
            sleep(Duration::from_millis(20));
        }
    });
}

/// Those of one CPU: other ones' begin anywhere.
#[test]
fn outer_packets_that_may_be_fragmented_have_counted_identifications() {
    in_a_namespace(|| {
        let core = core_affinity::get_core_ids().unwrap()[0];
        assert!(core_affinity::set_for_current(core));
        let mut rig = Rig::new();
        let number = KINDS.iter().position(|kind| kind.is_wrapped() && kind.is_v4()).unwrap();
        let flow = rig.opened(number);
        let mut frame = flow.inward();
        let mut identification = |has_df: bool| {
            frame[IP + 6] = if has_df { 0x40 } else { 0 };
            mend_ip(&mut frame);
            let (_, left) = rig.carry(&frame).expect("carried");
            u16::from_be_bytes([left[IP + 4], left[IP + 5]])
        };
        let first = identification(false);
        assert_eq!(identification(true), 0, "one that is never fragmented needs none");
        for number in 1..100 {
            assert_eq!(identification(false), first.wrapping_add(number));
        }
    });
}

#[test]
fn a_vlan_is_kept_where_the_hop_has_it_and_comes_up_where_not() {
    in_a_namespace(|| {
        let mut rig = Rig::new();
        // As `tagged` tags.
        let tag = tagged(&Flow::of(0).inward(), 0x8100);
        rig.table.hops.vlans = [Some(u16::from_be_bytes([tag[14], tag[15]]) & 0xfff); 2];
        rig.tell_network();
        let mut flow = Flow::of(0);
        flow.back = Some(flow.client.clone());
        for frames in 0..16 {
            let frame = if frames == 0 { tcp(&flow.client, flow.kind.vip, "S") } else { flow.inward() };
            rig.engine(&tagged(&frame, 0x8100));
            rig.engine(&tagged(&flow.outward().unwrap(), 0x8100));
            if frames % 4 == 3 {
                rig.tick();
            }
        }
        for frame in [flow.inward(), flow.outward().unwrap()] {
            assert_eq!(rig.carry(&frame), None);
            let frame = tagged(&frame, 0x8100);
            let (port, left) = rig.carry(&frame).expect("carried");
            assert_eq!(rig.engine(&frame), (Judged::Transmit(port), left));
        }
    });
}
