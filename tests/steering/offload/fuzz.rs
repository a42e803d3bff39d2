//! Frames like those of established connections, and some that are almost like them: the program against the engine.

use xvs::director::engine::Verdict as Judged;
use xvs::director::service::Protocol;

use super::kinds::{Flow, KINDS};
use super::{IP, Rig, alike, in_a_namespace, mend_ip};

const FRAMES: u32 = 20_000;

#[test]
fn whatever_the_program_sends_on_is_what_the_engine_would_send() {
    in_a_namespace(|| {
        let seed = std::env::var("XVS_FUZZ_SEED").map_or(1, |seed| seed.parse().expect("a number"));
        let mut random = fastrand::Rng::with_seed(seed);
        let mut rig = Rig::new();
        let mut flows: Vec<Flow> = (0..KINDS.len()).map(|number| rig.opened(number)).collect();
        let (mut carried, mut opened) = (vec![0_u32; KINDS.len()], flows.len());
        for round in 0..FRAMES {
            let at = random.usize(..flows.len());
            let flow = flows[at].clone();
            let (mut frame, direction) = match flow.outward().filter(|_| random.bool()) {
                Some(frame) => (frame, 1),
                None => (flow.inward(), 0),
            };
            let edge = rig.edge(&flow, direction);
            let is_plain = disturb(&mut frame, &flow, edge, &mut random);
            let what = || format!("seed {seed}, round {round}, {flow:?}: {frame:02x?}");
            let place = rig.place(&flow.client);
            let tally = place.map(|place| rig.hand.counted(place));
            let out = rig.carry(&frame);
            assert!(out.is_some() || !is_plain, "comes up: {}", what());
            let before = (rig.traffic(), rig.table.states());
            let judged = rig.engine(&frame);
            if let Some((port, left)) = out {
                carried[at] += 1;
                let judged = (judged.0, alike(judged.1));
                assert_eq!(judged, (Judged::Transmit(port), alike(left)), "{}", what());
                let after = rig.traffic();
                assert_eq!(rig.table.states(), before.1, "a state has changed: {}", what());
                let by_engine = match direction {
                    0 => (after.in_packets - before.0.in_packets, after.in_bytes - before.0.in_bytes),
                    _ => (after.out_packets - before.0.out_packets, after.out_bytes - before.0.out_bytes),
                };
                let (tally, now) = (tally.unwrap()[direction], rig.hand.counted(place.unwrap())[direction]);
                assert_eq!((now.0 - tally.0, now.1 - tally.1), by_engine, "counters: {}", what());
            } else if rig.place(&flow.client).is_none() {
                // It has ended: another one takes its turn.
                flows[at] = rig.opened(opened / KINDS.len() * KINDS.len() + at);
                opened += KINDS.len();
            }
        }
        let least = FRAMES / u32::try_from(KINDS.len()).unwrap() / 2;
        for (kind, carried) in KINDS.iter().zip(carried) {
            assert!(carried > least, "only {carried} frames of {kind:?} were carried (seed {seed})");
        }
    });
}

/// Changes a frame in none or some of the ways that frames differ. True if it is still a plain one.
fn disturb(frame: &mut Vec<u8>, flow: &Flow, edge: u16, random: &mut fastrand::Rng) -> bool {
    let (kind, l4) = (flow.kind, flow.kind.l4());
    make_plain(frame, flow, edge, random);
    let mut is_plain = true;
    let mut mends = true;
    if random.u8(..4) == 0 {
        is_plain = false;
        match random.u8(..9) {
            // The TTL; the hop limit, or what is behind the header.
            0 => frame[IP + if kind.is_v4() { 8 } else { 7 }] = random.u8(..3),
            // Fragments; extension headers.
            1 if kind.is_v4() => frame[IP + 6] = random.u8(..),
            1 => extend(frame, l4, random),
            2 => frame[IP] = random.u8(..),
            3 => match kind.protocol {
                Protocol::Tcp => frame[l4 + 12] = random.u8(..),
                Protocol::Udp => frame[l4 + 4 + random.usize(..2)] = random.u8(..),
                Protocol::Sctp => frame[l4 + 12] = random.u8(..),
            },
            4 if kind.is_tcp() => frame[l4 + 13] = random.u8(..),
            4 => frame[IP + if kind.is_v4() { 3 } else { 5 }] = random.u8(..),
            5 if kind.is_v4() => mends = random.bool(),
            5 => frame[IP + 6] = [0, 6, 17, 43, 44, 50, 51, 58, 59, 60, 132][random.usize(..11)],
            6 => frame.truncate(random.usize(14..=frame.len())),
            7 => frame[..12].fill_with(|| random.u8(..)),
            _ => {
                let at = random.usize(12..(l4 + 8).min(frame.len()));
                frame[at] ^= 1 << random.u8(..8);
                mends = random.bool();
            }
        }
    }
    if frame.len() >= IP + 20 {
        if mends {
            mend_ip(frame);
        } else if random.bool() && kind.is_v4() {
            frame[IP + 10] ^= random.u8(1..);
        }
    }
    if random.u8(..16) == 0 {
        // Priority alone is no VLAN.
        let is_zero = random.bool();
        frame.splice(12..12, [0x81, 0, 0xe0, if is_zero { 0 } else { 9 }]);
        is_plain &= is_zero && !kind.is_wrapped();
    }
    is_plain
}

/// A payload of any length, and any checksum: right or wrong, it is mended and not judged. And all else that may be
/// different from one plain packet to the next.
fn make_plain(frame: &mut Vec<u8>, flow: &Flow, edge: u16, random: &mut fastrand::Rng) {
    let (kind, l4) = (flow.kind, flow.kind.l4());
    let header = match kind.protocol {
        Protocol::Tcp => 20,
        Protocol::Udp => 8,
        Protocol::Sctp => 16,
    };
    let overhead = if kind.is_wrapped() { 40 + 8 + 4 } else { 0 };
    let len = header + random.usize(..=1500 - overhead - (l4 - IP) - header);
    frame.truncate(l4 + header);
    frame.resize_with(l4 + len, || random.u8(..));
    if kind.is_v4() {
        set(frame, IP + 2, l4 - IP + len);
        frame[IP + 8] = random.u8(2..);
        frame[IP + 1] = random.u8(..);
        frame[IP + 4] = random.u8(..);
        frame[IP + 6] = if random.bool() { 0x40 } else { 0 };
    } else {
        set(frame, IP + 4, len);
        frame[IP + 7] = random.u8(2..);
        frame[IP] = 0x60 | random.u8(..16);
        frame[IP + 1..IP + 4].fill_with(|| random.u8(..));
    }
    let any = random.u16(..);
    let sum = [0, 0xffff, edge, any, any, any][random.usize(..6)];
    match kind.protocol {
        Protocol::Tcp => {
            set(frame, l4 + 16, sum.into());
            frame[l4 + 4..l4 + 12].fill_with(|| random.u8(..));
            frame[l4 + 13] = 0x10 | random.u8(..) & 0xe8;
        }
        Protocol::Udp => {
            set(frame, l4 + 6, sum.into());
            set(frame, l4 + 4, len);
        }
        Protocol::Sctp => {
            frame[l4 + 4..l4 + 16].fill_with(|| random.u8(..));
            frame[l4 + 12] = [0, 3, 4, 5][random.usize(..4)];
        }
    }
    if random.bool() {
        frame.extend(std::iter::repeat_n(0, random.usize(..20)));
    }
}

/// Puts an extension header in front of the transport header of an IPv6 packet.
fn extend(frame: &mut Vec<u8>, l4: usize, random: &mut fastrand::Rng) {
    let number = [0, 43, 44, 60, 51][random.usize(..5)];
    let protocol = std::mem::replace(&mut frame[IP + 6], number);
    let mut header: Vec<u8> = (0..8).map(|_| random.u8(..)).collect();
    header[0] = protocol;
    if random.bool() {
        header[1..4].fill(0);
    }
    frame.splice(l4..l4, header);
    let len = frame.len() - l4;
    set(frame, IP + 4, len);
}

fn set(frame: &mut [u8], at: usize, value: usize) {
    frame[at..at + 2].copy_from_slice(&u16::try_from(value).unwrap().to_be_bytes());
}
