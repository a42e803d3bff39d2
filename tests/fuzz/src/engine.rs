//! A director of two workers with NAT and DR, TCP and UDP, carries out any script and keeps its promises.

use xvs::director::engine::BATCH;

use super::script::{MAX_ORDERS, Order, Script, flood, frame, services};
use super::watched::Watched;

pub fn run(input: &[u8]) {
    let mut director = Watched::new(services());
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
fn send(director: &mut Watched, worker: usize, port: u16, batch: &mut Vec<Vec<u8>>) {
    batch.chunks(BATCH).for_each(|frames| director.send(worker, port, frames));
    batch.clear();
}
