//! Frames of several buffers are never carried: not every driver sends them on, and padding may be in the later ones.

use xvs::director::engine::Verdict as Judged;
use xvs::director::service::Protocol;
use xvs::xdp::steer::Steering;

use super::kinds::KINDS;
use super::{FLOWS, Rig, alike, in_a_namespace};
use crate::table::udp;

#[test]
fn what_is_in_one_buffer_is_carried_and_what_is_in_several_comes_up_as_it_came() {
    in_a_namespace(|| {
        let mut rig = Rig::of(Steering::load_for_long_frames(Some(FLOWS)).expect("Linux 5.18 and root"));
        rig.table.hops.mtu = 9000;
        rig.tell_network();
        for number in 0..KINDS.len() {
            let flow = rig.opened(number);
            let vip = flow.kind.vip;
            for (frame, from, to) in [
                Some((flow.inward(), flow.client.as_str(), vip)),
                flow.back.as_deref().map(|back| (flow.outward().unwrap(), flow.kind.server, back)),
            ]
            .into_iter()
            .flatten()
            {
                let (port, left) = rig.carry(&frame).unwrap_or_else(|| panic!("{flow:?} comes up"));
                let (judged, by_engine) = rig.engine(&frame);
                assert_eq!((judged, alike(by_engine)), (Judged::Transmit(port), alike(left)), "{flow:?}");
                // The packet ends in the first buffer, the frame does not.
                assert_eq!(rig.carry(&[&frame[..], &[0; 6000]].concat()), None, "{flow:?}");
                if flow.kind.protocol == Protocol::Udp {
                    assert_eq!(rig.carry(&udp(from, to, &[7; 8000])), None, "{flow:?}");
                    assert!(rig.carry(&udp(from, to, &[7; 3000])).is_some(), "{flow:?}");
                }
            }
        }
    });
}
