//! Plain packets of offloaded connections: as the engine would send them, and counted.

use xvs::director::engine::Verdict as Judged;

use super::kinds::{Flow, KINDS};
use super::{IP, Rig, alike, in_a_namespace};
use crate::table::tcp;
use crate::tagged;

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
