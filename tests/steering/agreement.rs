//! What goes up is what the director can read, and what it can read goes up: the program and the parser, on samples with
//! bytes changed, cut and doubled. The changes are the same in every run; `XVS_FUZZ_SEED=NUMBER` gives others.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use xvs::packet::checksum;
use xvs::packet::fragment;
use xvs::packet::icmp;
use xvs::packet::parse::{Reject, parse};
use xvs::xdp::steer::{Outcome, Range, Rules};

use crate::frames::{ICMP, ICMPV6, MAC_TO, NETWORK, SCTP, TCP, UDP, VLAN, tagged};
use crate::model::judged;
use crate::samples::{CLIENT_PORT, HTTP, ISAKMP, nets, samples};
use crate::{endpoint, outcome, rules, steering};

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

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// The rules, and some for what fuzzing the parser begins with and has found.
fn rules_of_all() -> Rules {
    let mut all = rules();
    let both = |v4: &str, v6: &str| -> [IpAddr; 2] { [v4.parse().unwrap(), v6.parse().unwrap()] };
    for vip in both("10.0.0.100", "2001:db8::100") {
        all.services.extend([
            endpoint(TCP, vip, HTTP),
            endpoint(SCTP, vip, HTTP),
            endpoint(UDP, vip, ISAKMP),
        ]);
        all.vips.insert(vip);
    }
    for server in both("192.0.2.7", "2001:db8:7::7") {
        all.nat_servers.extend([endpoint(TCP, server, CLIENT_PORT), endpoint(UDP, server, 0)]);
    }
    let range = |destination: &str, source: Option<&str>| Range {
        protocol: UDP,
        destination: destination.parse().unwrap(),
        port_first: 40,
        port_last: 60_000,
        source: source.map(|source| source.parse().unwrap()),
    };
    all.ranges.extend([range("10.0.0.0/25", None), range("2001:db8::/64", Some("2001:db8:7::/48"))]);
    all
}

/// Frames to begin with: the samples, and the inputs of the parser's fuzz target; those that it has found as well if it is
/// asked to go on for long.
fn frames(goes_on: bool) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = nets().iter().flat_map(samples).map(|(_, frame, _)| frame).collect();
    for directory in ["seeds", "corpus"].into_iter().take(if goes_on { 2 } else { 1 }) {
        let directory =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(directory).join("parse");
        let Ok(files) = fs::read_dir(&directory) else {
            assert!(directory.ends_with("corpus/parse"), "{} is missing", directory.display());
            continue;
        };
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        all.extend(files.iter().map(|file| fs::read(file).unwrap()));
    }
    // The kernel runs the program on nothing shorter than an Ethernet header.
    all.retain(|frame| frame.len() > NETWORK);
    all.iter_mut().for_each(|frame| frame[..6].copy_from_slice(&MAC_TO));
    all
}

/// `XVS_FUZZ_SECONDS=NUMBER` goes on for so long.
#[test]
fn the_program_and_the_director_agree_on_damaged_frames() {
    let seed = number("XVS_FUZZ_SEED").unwrap_or(1);
    let seconds = number("XVS_FUZZ_SECONDS").map(Duration::from_secs);
    let (mut random, rules, all) = (Random(seed), rules_of_all(), frames(seconds.is_some()));
    let mut steering = steering(&rules);
    let (began, mut ran, mut agreed) = (Instant::now(), 0, BTreeMap::new());
    let mut agree = |frame: &[u8]| {
        let outcome = outcome(&mut steering, "a damaged frame", frame);
        check(frame, outcome);
        let expected = judged(&rules, frame);
        assert!(expected.is_none_or(|it| it == outcome), "{outcome}, not {expected:?}: {frame:02x?}");
        *agreed.entry(expected).or_insert(0) += 1;
    };
    all.iter().for_each(|frame| agree(frame));
    while seconds.map_or(ran < FRAMES, |seconds| began.elapsed() < seconds) {
        let mut frame = all[random.below(all.len())].clone();
        for _ in 0..=random.below(3) {
            if frame.len() > NETWORK + 1 {
                random.change(&mut frame);
            }
        }
        if random.below(4) > 0 {
            mend(&mut frame);
        }
        match random.below(32) {
            0 => frame[random.below(6)] ^= 1,
            1..8 => frame = tagged(&frame, VLAN),
            _ => {}
        }
        agree(&frame);
        ran += 1;
    }
    println!("{ran} frames from seed {seed}: {agreed:?}");
    // All that there is to agree on occurs: whether it does with other seeds is up to chance.
    if seconds.is_some() || seed != 1 {
        return;
    }
    for outcome in Outcome::ALL {
        let is_readable = !matches!(
            outcome,
            Outcome::NoSocket
                | Outcome::PassNotIp
                | Outcome::PassTags
                | Outcome::PassMalformed
                | Outcome::Offloaded
        );
        assert_eq!(agreed.contains_key(&Some(outcome)), is_readable, "{outcome}");
    }
}

/// Makes the length and the checksum in an IP header right, and that of an ICMP message right behind it, as far as they are
/// there: the program looks at no checksum, and the director reads no further where one is wrong.
fn mend(frame: &mut [u8]) {
    let Some(&[.., first]) = frame.first_chunk::<{ NETWORK + 1 }>() else { return };
    let (is_v4, len) = (first >> 4 == 4, frame.len() - NETWORK);
    let header_len = if is_v4 { usize::from(first & 15) * 4 } else { 40 };
    let Some((header, behind)) = frame[NETWORK..].split_at_mut_checked(header_len.max(20)) else { return };
    let total = u16::try_from(if is_v4 { len } else { len.saturating_sub(40) }).unwrap().to_be_bytes();
    let (protocol, pseudo) = if is_v4 {
        header[2..4].copy_from_slice(&total);
        header[10..12].fill(0);
        let sum = checksum::of(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        (header[9], vec![])
    } else {
        header[4..6].copy_from_slice(&total);
        (header[6], [&header[8..40], &[0, 0], &total, &[0, 0, 0, ICMPV6]].concat())
    };
    if behind.len() > 4 && protocol == if is_v4 { ICMP } else { ICMPV6 } {
        behind[2..4].fill(0);
        let sum = checksum::of(&[&pseudo, &behind[..]].concat());
        behind[2..4].copy_from_slice(&sum.to_be_bytes());
    }
}
