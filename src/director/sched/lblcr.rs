//! Locality-based least connections with replication (`ip_vs_lblcr.c`): a destination address has a set of
//! servers, of which the least loaded is chosen. When that is busy, the least loaded of all joins the set; a set
//! that has not changed for a day loses its most loaded server.
//!
//! A server that was taken out of the service is the first to leave a set; the kernel goes by the load it had.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use smallvec::SmallVec;

use super::locality::{Cache, HARD_STOP, Places, busy, lock, ticks};
use super::{Change, Expiration, Request, Schedule, least, wlc};
use crate::director::server::{Counts, Destination, ServerId};

/// Members of all sets together, above which sets do not grow: some 800 KiB of them.
const MAX_MEMBERS: usize = 4 * HARD_STOP;

/// A server in a set.
#[derive(Clone, Copy, Debug)]
struct Member {
    id: ServerId,
    /// Where it was in the list when it was last looked up.
    index: usize,
}

/// The servers of one destination address.
#[derive(Debug)]
struct Set {
    /// The newest first. Sets are small as long as servers are not busy; from the fifth member on they allocate.
    members: SmallVec<[Member; 4]>,
    /// Tick of the last change.
    changed: u32,
}

impl Set {
    /// The member to choose, by the rule of wlc.
    fn least_loaded(&mut self, list: &[Destination], counts: &Counts, places: &Places) -> Option<usize> {
        let members = self.members.iter_mut().filter_map(|member| {
            // Looked up anew only after a change of the list.
            if list.get(member.index).is_none_or(|d| d.id != member.id) {
                member.index = places.find(member.id)?;
            }
            Some((member.index, list.get(member.index)?))
        });
        least(members, counts, |d| (counts.overhead(d.id), d.weight))
    }

    /// The place in the set of the member that is to leave.
    fn most_loaded(&self, list: &[Destination], counts: &Counts, places: &Places) -> Option<usize> {
        let mut most: Option<(usize, u64, u64)> = None;
        for (place, member) in self.members.iter().enumerate() {
            let Some(server) = places.find(member.id).and_then(|index| list.get(index)) else {
                return Some(place);
            };
            let (over, under) = (u64::from(counts.overhead(server.id)), u64::from(server.weight));
            if under > 0
                && most.is_none_or(|(_, most_over, most_under)| over * most_under > most_over * under)
            {
                most = Some((place, over, under));
            }
        }
        most.map(|(place, ..)| place)
    }
}

#[derive(Debug)]
struct State {
    cache: Cache<Set>,
    /// Members of all sets.
    members: usize,
    /// How long a set has to stay as it is before it loses a server, in ticks.
    expiration: u32,
}

impl Default for State {
    fn default() -> Self {
        Self { cache: Cache::default(), members: 0, expiration: ticks(Expiration::default().lblcr_s) }
    }
}

impl State {
    /// The choice from the set of an address, if it has one; and the set's loss, if it is due.
    fn choose(
        &mut self,
        address: IpAddr,
        (list, counts, places): (&[Destination], &Counts, &Places),
        tick: u32,
    ) -> Option<usize> {
        let set = self.cache.touch(address, tick)?;
        let least = set.least_loaded(list, counts, places);
        if set.members.len() > 1
            && tick.saturating_sub(set.changed) > self.expiration
            && let Some(place) = set.most_loaded(list, counts, places)
        {
            set.members.remove(place);
            set.changed = tick;
            self.members -= 1;
        }
        least
    }

    /// Lets a server join the set of an address. Without room the set stays as it is.
    fn join(&mut self, address: IpAddr, member: Member, tick: u32) {
        let room = self.members < MAX_MEMBERS;
        let joined = match self.cache.touch(address, tick) {
            Some(set) => {
                let new = room && set.members.iter().all(|m| m.id != member.id);
                if new {
                    set.members.insert(0, member);
                    set.changed = tick;
                }
                new
            }
            None => {
                let set = Set { members: SmallVec::from_iter([member]), changed: tick };
                room && self.cache.insert(address, set, tick)
            }
        };
        self.members += usize::from(joined);
    }
}

/// The servers of each destination address. Servers go by name: changes of the list leave the sets alone.
#[derive(Debug, Default)]
pub struct Lblcr {
    state: Arc<Mutex<State>>,
    places: Places,
}

impl Schedule for Lblcr {
    fn pick(&self, list: &[Destination], counts: &Counts, request: &Request<'_>) -> Option<usize> {
        let (address, tick) = (request.flow.destination().ip(), request.tick);
        let chosen = lock(&self.state).choose(address, (list, counts, &self.places), tick);
        let keeps = |&index: &usize| list.get(index).is_some_and(|d| !busy(d, list, counts));
        if let Some(index) = chosen.filter(keeps) {
            return Some(index);
        }
        let index = wlc::least_loaded(list, counts)?;
        lock(&self.state).join(address, Member { id: list.get(index)?.id, index }, tick);
        Some(index)
    }

    fn changed(&self, _: Change, list: &[Destination]) -> Self {
        Self { state: self.state.clone(), places: Places::new(list) }
    }

    fn tend(&self, tick: u32, expiration: &Expiration) {
        let due = {
            let mut state = lock(&self.state);
            state.expiration = ticks(expiration.lblcr_s);
            state.cache.due(tick, expiration.lblcr_s)
        };
        let Some(mut sweep) = due else { return };
        let run = |sweep: &mut _| {
            let State { cache, members, .. } = &mut *lock(&self.state);
            cache.sweep(sweep, |set| *members -= set.members.len())
        };
        while run(&mut sweep) {}
    }

    fn forget(&self, id: ServerId) {
        let mut left = lock(&self.state).cache.len();
        let run = |left: &mut usize| {
            let State { cache, members, .. } = &mut *lock(&self.state);
            cache.retain(left, |set| {
                let before = set.members.len();
                set.members.retain(|member| member.id != id);
                *members -= before - set.members.len();
                !set.members.is_empty()
            })
        };
        while run(&mut left) {}
    }
}
