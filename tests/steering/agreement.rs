//! What goes up is what the director can read, and what it can read goes up: the program and the parser, on samples with
//! bytes changed, cut and doubled. The changes are the same in every run; `XVS_FUZZ_SEED=NUMBER` gives others.

use xvs::packet::fragment;
use xvs::packet::icmp;
use xvs::packet::parse::{Reject, parse};
use xvs::xdp::steer::Outcome;

use crate::frames::NETWORK;
use crate::samples::{nets, samples};
use crate::{outcome, rules, steering};

const FRAMES: u32 = 30_000;

/// Why a frame that goes up is dropped there: what the program does not look at.
fn is_left_to_the_director(reject: Reject) -> bool {
    matches!(reject, Reject::Truncated | Reject::BadHeader | Reject::BadChecksum)
}

fn check(frame: &[u8], outcome: Outcome) {
    let parsed = parse(frame);
    let shown = || format!("{outcome:?}, {parsed:?}: {frame:02x?}");
    match outcome {
        Outcome::Service | Outcome::ServiceAnyPort | Outcome::ServiceRange | Outcome::NatReturn => {
            assert!(
                parsed.as_ref().err().is_none_or(|&reject| is_left_to_the_director(reject)),
                "{}",
                shown()
            );
        }
        Outcome::Fragment => {
            let reject = parsed.as_ref().err().copied();
            assert!(
                reject == Some(Reject::Fragment) || reject.is_some_and(is_left_to_the_director),
                "{}",
                shown()
            );
        }
        Outcome::IcmpError => {
            let reject = parsed.as_ref().err().copied();
            assert!(
                reject == Some(Reject::Icmp) || reject.is_some_and(is_left_to_the_director),
                "{}",
                shown()
            );
        }
        Outcome::PassMalformed => {
            assert!(parsed.is_err(), "{}", shown());
            assert!(fragment::read(frame).is_err() && icmp::read(frame).is_err(), "{}", shown());
        }
        _ => {}
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ z >> 31) % end as u64).unwrap()
    }

    fn change(&mut self, frame: &mut Vec<u8>) {
        let at = NETWORK + self.below(frame.len() - NETWORK);
        let end = at + self.below(9.min(frame.len() - at));
        match self.below(5) {
            0 => frame[at] = u8::try_from(self.below(256)).unwrap(),
            1 => frame[at] ^= 1 << self.below(8),
            // One of the numbers that mean something.
            2 => frame[at] = [0, 1, 6, 17, 43, 44, 50, 51, 58, 60, 132][self.below(11)],
            3 => drop(frame.drain(at..end)),
            _ => {
                let part = frame[at..end].to_vec();
                frame.splice(at..at, part);
            }
        }
    }
}

#[test]
fn the_program_and_the_director_agree_on_damaged_frames() {
    let seed = std::env::var("XVS_FUZZ_SEED").map_or(1, |s| s.parse().expect("XVS_FUZZ_SEED is a number"));
    let mut random = Random(seed);
    let mut steering = steering(&rules());
    let all: Vec<Vec<u8>> = nets().iter().flat_map(samples).map(|(_, frame, _)| frame).collect();
    let all: Vec<_> = all.into_iter().filter(|frame| frame.len() > NETWORK + 20).collect();
    for _ in 0..FRAMES {
        let mut frame = all[random.below(all.len())].clone();
        for _ in 0..=random.below(3) {
            if frame.len() > NETWORK + 1 {
                random.change(&mut frame);
            }
        }
        let outcome = outcome(&mut steering, "a damaged frame", &frame);
        check(&frame, outcome);
    }
}
