//! Locality-based least connections (`ip_vs_lblc.c`): a destination address keeps its server until that is busy
//! or gone; a new one gets the least loaded. For transparent caches, where destinations are many.

use std::sync::{Arc, Mutex};

use super::locality::{Cache, Places, busy, lock};
use super::{Change, Expiration, Request, Schedule, wlc};
use crate::director::server::{Counts, Destination, ServerId};

/// The server of each destination address. Servers go by name: changes of the list leave the cache alone.
#[derive(Debug, Default)]
pub struct Lblc {
    cache: Arc<Mutex<Cache<ServerId>>>,
    places: Places,
}

impl Schedule for Lblc {
    fn pick(&self, list: &[Destination], counts: &Counts, request: &Request<'_>) -> Option<usize> {
        let (address, tick) = (request.flow.destination().ip(), request.tick);
        let cached = lock(&self.cache).touch(address, tick).copied();
        // A full server keeps its destinations: only its weight is looked at.
        let keeps = |&index: &usize| list.get(index).is_some_and(|d| d.weight > 0 && !busy(d, list, counts));
        if let Some(index) = cached.and_then(|id| self.places.find(id)).filter(keeps) {
            return Some(index);
        }
        let index = wlc::least_loaded(list, counts)?;
        let id = list.get(index)?.id;
        let mut cache = lock(&self.cache);
        match cache.touch(address, tick) {
            Some(server) => *server = id,
            // Without room the choice stands and is not remembered.
            None => _ = cache.insert(address, id, tick),
        }
        Some(index)
    }

    fn changed(&self, _: Change, list: &[Destination]) -> Self {
        Self { cache: self.cache.clone(), places: Places::new(list) }
    }

    fn tend(&self, tick: u32, expiration: &Expiration) {
        let due = lock(&self.cache).due(tick, expiration.lblc_s);
        if let Some(mut sweep) = due {
            while lock(&self.cache).sweep(&mut sweep, |_| ()) {}
        }
    }

    fn forget(&self, id: ServerId) {
        let mut left = lock(&self.cache).len();
        while lock(&self.cache).retain(&mut left, |&mut server| server != id) {}
    }
}
