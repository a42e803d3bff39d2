//! Room in front of frames to services behind tunnels: there, marked, and nothing else changed.

use std::collections::BTreeMap;

use xvs::xdp::steer::{Outcome, ROOM_MAX, Rules, SteerError, Verdict};

use crate::frames::{MAC_TO, TCP, UDP, VLAN, tagged, to_mac};
use crate::samples::{DNS, HTTP, nets, samples};
use crate::{endpoint, rules, steering};

#[test]
fn frames_to_a_service_that_wants_room_get_it_and_all_others_are_as_they_came() {
    for room in [16, 20, 28, 52, ROOM_MAX] {
        let mut wanted = rules();
        for net in nets() {
            wanted.rooms.extend([(endpoint(TCP, net.vip, HTTP), room), (endpoint(TCP, net.whole, 0), room)]);
        }
        let mut plain = steering(&rules());
        let mut roomy = steering(&wanted);
        let mut grown = 0;
        for net in nets() {
            for (name, frame, _) in samples(&net) {
                for frame in [frame.clone(), tagged(&frame, VLAN)] {
                    let (verdict, same) = plain.run_frame(&frame).unwrap();
                    assert_eq!(same, frame, "{name}");
                    let (again, after) = roomy.run_frame(&frame).unwrap();
                    assert_eq!(again, verdict, "{name}");
                    if after == frame {
                        continue;
                    }
                    grown += 1;
                    assert_eq!(verdict, Verdict::Redirect, "{name}");
                    let (front, rest) = after.split_at(usize::from(room));
                    assert_eq!(rest, frame, "{name}");
                    let mark = [&frame[..12], &0x88b5u16.to_be_bytes(), &room.to_be_bytes()].concat();
                    assert_eq!(front[..16], mark, "{name}");
                }
            }
        }
        assert!(grown >= 12, "{grown} frames got room");
    }
}

#[test]
fn only_the_service_itself_gets_room_and_only_what_is_ours() {
    let mut wanted = rules();
    let net = &nets()[0];
    wanted.rooms = BTreeMap::from([(endpoint(UDP, net.vip, DNS), 20)]);
    let mut steering = steering(&wanted);
    for (name, frame, expected) in samples(net) {
        // The one UDP service.
        let is_dns = expected == Outcome::Service && frame.get(23) == Some(&UDP);
        let (verdict, after) = steering.run_frame(&frame).unwrap();
        let expected = if is_dns && verdict == Verdict::Redirect { frame.len() + 20 } else { frame.len() };
        assert_eq!(after.len(), expected, "{name}");
        let mut other = MAC_TO;
        other[5] ^= 1;
        let frame = to_mac(&frame, other);
        assert_eq!(steering.run_frame(&frame).unwrap().1, frame, "{name} to another MAC");
    }
}

#[test]
fn room_follows_the_service() {
    let mut steering = steering(&rules());
    let net = &nets()[0];
    let samples = samples(net);
    let (_, frame, _) = samples
        .iter()
        .find(|(_, f, _)| f.get(23) == Some(&UDP) && f.get(36..38) == Some(&DNS.to_be_bytes()))
        .unwrap();
    for room in [20, 28, 0, 28] {
        let mut wanted = rules();
        if room > 0 {
            wanted.rooms.insert(endpoint(UDP, net.vip, DNS), room);
        }
        steering.apply(&wanted).unwrap();
        assert_eq!(steering.run_frame(frame).unwrap().1.len(), frame.len() + usize::from(room));
    }
}

#[test]
fn room_outside_of_its_limits_is_refused() {
    let mut steering = steering(&rules());
    for room in [0, 15, ROOM_MAX + 1] {
        let service = endpoint(UDP, nets()[0].vip, DNS);
        let wanted = Rules { rooms: [(service, room)].into(), ..rules() };
        let error = steering.apply(&wanted).unwrap_err();
        assert!(matches!(error, SteerError::Room { .. }), "{error}");
        assert!(error.to_string().contains(&format!("{room} bytes")), "{error}");
    }
}
