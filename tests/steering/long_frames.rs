//! The program for frames of several buffers, of which it sees the first: as the other one for what is in one.

use xvs::packet::checksum;
use xvs::xdp::steer::{Outcome, Rules, Steering, Verdict};

use crate::frames::{TCP, UDP, VLAN, ip, tagged};
use crate::samples::{CLIENT_PORT, DNS, HTTP, nets, samples};
use crate::{endpoint, outcome, rules, steering, with_rules};

fn long_steering(rules: &Rules) -> Steering {
    with_rules(Steering::load_for_long_frames(None).expect("Linux 5.18 and root"), rules)
}

/// A packet to a service's port with a payload of so many bytes; its ports are all that the program looks at.
fn long(net: &crate::samples::Net, protocol: u8, port: u16, len: usize) -> Vec<u8> {
    let payload: Vec<u8> = [&CLIENT_PORT.to_be_bytes()[..], &port.to_be_bytes(), &vec![7; len - 4]].concat();
    ip(net.client, net.vip, protocol, &payload)
}

#[test]
fn each_sample_is_judged_as_by_the_program_for_short_frames() {
    let (mut short, mut long) = (steering(&rules()), long_steering(&rules()));
    for net in nets() {
        for (name, frame, _) in samples(&net) {
            for frame in [frame.clone(), tagged(&frame, VLAN)] {
                assert_eq!(outcome(&mut long, name, &frame), outcome(&mut short, name, &frame), "{name}");
                let after = long.run_frame(&frame).unwrap();
                assert_eq!(after, short.run_frame(&frame).unwrap(), "{name}");
            }
        }
    }
}

#[test]
fn long_frames_are_ours_by_their_first_buffer_and_whole_and_get_their_room() {
    const ROOM: u16 = 20;
    let mut wanted = rules();
    for net in nets() {
        wanted.rooms.insert(endpoint(UDP, net.vip, DNS), ROOM);
    }
    let mut steering = long_steering(&wanted);
    for net in nets() {
        for len in [3000, 3400, 3600, 4096, 8000, 9180] {
            let name = format!("{len} bytes to {}", net.vip);
            let frame = long(&net, TCP, HTTP, len);
            assert_eq!(outcome(&mut steering, &name, &frame), Outcome::Service, "{name}");
            assert_eq!(steering.run_frame(&frame).unwrap(), (Verdict::Redirect, frame.clone()), "{name}");
            let frame = tagged(&frame, VLAN);
            assert_eq!(outcome(&mut steering, &name, &frame), Outcome::Service, "{name}, tagged");

            let frame = long(&net, UDP, DNS, len);
            let (verdict, after) = steering.run_frame(&frame).unwrap();
            let (front, rest) = after.split_at(usize::from(ROOM));
            assert!(verdict == Verdict::Redirect && rest == frame, "{name}, with room");
            assert_eq!(front[12..16], [0x88, 0xb5, 0, 20], "{name}");

            let frame = long(&net, TCP, HTTP + 1, len);
            assert_eq!(outcome(&mut steering, &name, &frame), Outcome::PassNotOurs, "{name}, another port");
        }
    }
}

/// A packet that says that it is longer than its frame is the kernel's to judge, however many buffers there are.
#[test]
fn a_cut_packet_is_passed_in_one_buffer_and_in_several() {
    let mut steering = long_steering(&rules());
    for net in nets() {
        for (len, frame_len) in [(1000, 900), (4000, 3000), (9000, 3000), (9000, 8000)] {
            let mut frame = long(&net, TCP, HTTP, len);
            frame.truncate(frame_len);
            let name = format!("{frame_len} bytes of {len} to {}", net.vip);
            assert_eq!(outcome(&mut steering, &name, &frame), Outcome::PassMalformed, "{name}");
            let all = frame.len() - 14;
            if net.vip.is_ipv4() {
                frame[16..18].copy_from_slice(&u16::try_from(all).unwrap().to_be_bytes());
                frame[24..26].fill(0);
                let sum = checksum::of(&frame[14..34]);
                frame[24..26].copy_from_slice(&sum.to_be_bytes());
            } else {
                frame[18..20].copy_from_slice(&u16::try_from(all - 40).unwrap().to_be_bytes());
            }
            assert_eq!(outcome(&mut steering, &name, &frame), Outcome::Service, "{name}, told right");
            let one_more = if net.vip.is_ipv4() { 17 } else { 19 };
            frame[one_more] = frame[one_more].wrapping_add(1);
            assert_eq!(
                outcome(&mut steering, &name, &frame),
                Outcome::PassMalformed,
                "{name}, one byte less"
            );
        }
    }
}

#[test]
fn the_program_leaves_the_verifier_room_too() {
    let steering = Steering::load_for_long_frames(Some(1 << 16));
    let verified = steering.expect("Linux 5.18 and root").verified_instructions().unwrap().unwrap();
    assert!(verified < 200_000, "{verified} instructions");
}
