//! Carries out a script: the same for every director that is watched.

use xvs::director::engine::BATCH;

use super::script::{MAX_ORDERS, Order, Script};

/// A director that scripts drive, which panics where it breaks a promise.
pub trait Driven {
    /// One batch.
    fn send(&mut self, worker: usize, port: u16, frames: &[Vec<u8>]);

    /// Lets `ticks` pass at once and the workers look at their timers. One may be `asleep`.
    fn wait(&mut self, ticks: u64, asleep: bool);

    /// The worker goes to sleep.
    fn rest(&mut self, worker: usize);

    /// The world around changes, in one of sixteen ways.
    fn change(&mut self, how: u8);

    /// What must be true when all is over.
    fn end(self);
}

/// Has a director carry out a script: what its frames are, and the frames of its floods, each by a service and a number.
pub fn drive(
    mut director: impl Driven,
    input: &[u8],
    frame: fn(&mut Script<'_>) -> Vec<u8>,
    flood: fn(usize, u32) -> Vec<u8>,
) {
    let mut batch = Vec::new();
    let mut flooded = 0;
    for order in Script(input, frame).take(MAX_ORDERS) {
        match order {
            Order::Frame(frame) => batch.push(frame),
            Order::Flood { service, count } => {
                for _ in 0..count {
                    batch.push(flood(service, flooded));
                    flooded += 1;
                }
            }
            Order::Send { worker, port, rest } => {
                send(&mut director, worker, port, &mut batch);
                if rest {
                    director.rest(worker);
                }
            }
            Order::Wait { steps, leap: true, asleep } => director.wait(steps * steps, asleep),
            Order::Wait { steps, leap: false, asleep } => {
                (0..steps).for_each(|_| director.wait(steps, asleep));
            }
            Order::Change(how) => director.change(how),
        }
    }
    send(&mut director, 0, 0, &mut batch);
    director.end();
}

/// Sends everything, in as many batches as it takes.
fn send(director: &mut impl Driven, worker: usize, port: u16, batch: &mut Vec<Vec<u8>>) {
    batch.chunks(BATCH).for_each(|frames| director.send(worker, port, frames));
    batch.clear();
}
