//! A director of two workers with NAT and DR, TCP and UDP, carries out any script and keeps its promises.

use super::drive::drive;
use super::script::{flood, frame, services};
use super::watched::Watched;

pub fn run(input: &[u8]) {
    drive(Watched::new(services()), input, frame, flood);
}
