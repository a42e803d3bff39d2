//! Maglev hashing (`ip_vs_mh.c`): a client always gets the same server, and when the list changes few clients
//! move. Directors with the same list make the same choices.
//!
//! The table is that of a kernel built with the default `CONFIG_IP_VS_MH_TAB_INDEX` of 12, and the hash that of a
//! 64-bit one. More servers than the table has room for leave it as it was: the newest get nothing.

use std::net::SocketAddr;

use siphasher::sip::SipHasher13;

use super::hash::fold;
use super::wrr::gcd;
use super::{Change, Options, Request, Schedule};
use crate::director::server::{Counts, Destination};

/// Slots of the table: the prime of index 12.
pub const SIZE: usize = 4093;

/// Weights are scaled down to this many bits: half the index.
const WEIGHT_BITS: u32 = 6;

const HASH_1: u64 = 2_654_435_761;
const HASH_2: u64 = 2_654_446_892;

/// A slot whose server is gone, in a table that could not be filled anew.
const EMPTY: u32 = u32::MAX;

/// Slots, each with the index of a server.
#[derive(Debug)]
pub struct Mh {
    /// None at all while no server has ever had a weight.
    slots: Box<[u32]>,
    options: Options,
}

/// `hsiphash` of one number: on 64-bit kernels the lower half of SipHash-1-3.
#[allow(clippy::cast_possible_truncation, reason = "the lower half")]
fn hash(key: u64, value: u32) -> u32 {
    SipHasher13::new_with_keys(key, key).hash(&value.to_ne_bytes()) as u32
}

/// A number below `below` from the hash of an address and port, moved on by `offset`.
fn place(key: u64, address: SocketAddr, offset: u32, below: usize) -> usize {
    let value = offset.wrapping_add(address.port().into()).wrapping_add(fold(address.ip()));
    hash(key, value) as usize % below
}

/// A server's order of preference among the slots, and its share of them.
struct Filler {
    server: u32,
    next: usize,
    skip: usize,
    turns: u32,
}

/// In the order of the list each server takes the next free slots of its own preference, as many as its turns,
/// over and over.
fn fill(list: &[Destination]) -> Box<[u32]> {
    let weights = || list.iter().map(|d| d.last_weight).filter(|&w| w > 0);
    let (Some(unit), Some(most)) = (weights().reduce(gcd), weights().max()) else {
        return Box::default();
    };
    let shift = (u32::BITS - (most / unit).leading_zeros()).saturating_sub(WEIGHT_BITS);
    let filler = |(server, d): (u32, &Destination)| Filler {
        server,
        next: place(HASH_1, d.address, 0, SIZE),
        skip: place(HASH_2, d.address, 0, SIZE - 1) + 1,
        turns: ((d.last_weight / unit) >> shift).max(1),
    };
    let mut fillers: Vec<_> = (0..).zip(list).filter(|(_, d)| d.last_weight > 0).map(filler).collect();
    let (mut slots, mut free) = (vec![EMPTY; SIZE], SIZE);
    loop {
        for filler in &mut fillers {
            for _ in 0..filler.turns {
                while slots[filler.next] != EMPTY {
                    filler.next = (filler.next + filler.skip) % SIZE;
                }
                slots[filler.next] = filler.server;
                free -= 1;
                if free == 0 {
                    return slots.into();
                }
            }
        }
    }
}

impl Mh {
    /// Of a service without servers.
    pub fn new(options: Options) -> Self {
        Self { slots: Box::default(), options }
    }

    /// The table after a change that it has no room for: the same servers, wherever they are now.
    fn kept(&self, change: Change) -> Box<[u32]> {
        let moved = |&index: &u32| match change {
            Change::Added if index != EMPTY => index + 1,
            Change::Removed(gone) if index != EMPTY && index as usize == gone => EMPTY,
            Change::Removed(gone) if index != EMPTY && index as usize > gone => index - 1,
            _ => index,
        };
        self.slots.iter().map(moved).collect()
    }
}

impl Schedule for Mh {
    fn pick(&self, list: &[Destination], counts: &Counts, request: &Request<'_>) -> Option<usize> {
        let mut client = request.flow.source();
        if !self.options.port {
            client.set_port(0);
        }
        let server = |slot: usize| {
            let index = *self.slots.get(slot)? as usize;
            Some((index, counts.usable(list.get(index)?)))
        };
        let first = place(HASH_1, client, 0, SIZE);
        let (index, is_usable) = server(first)?;
        if is_usable || !self.options.fallback {
            return is_usable.then_some(index);
        }
        // Not 4093 hashes for nothing.
        if !list.iter().any(|d| counts.usable(d)) {
            return None;
        }
        let offsets = (0..SIZE).map(|k| u32::try_from((k + first) % SIZE).unwrap_or(0));
        offsets
            .map_while(|offset| server(place(HASH_1, client, offset, SIZE)))
            .find_map(|(index, is_usable)| is_usable.then_some(index))
    }

    fn changed(&self, change: Change, list: &[Destination]) -> Self {
        let slots = match change {
            Change::Flags(_) => self.slots.clone(),
            _ if list.len() > SIZE => self.kept(change),
            _ => fill(list),
        };
        let options = if let Change::Flags(options) = change { options } else { self.options };
        Self { slots, options }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::director::server::ServerId;
    use crate::director::service::{Method, Server};

    fn list(weights: &[u32]) -> Vec<Destination> {
        let server = |(n, &weight): (u32, &u32)| {
            let address = (std::net::Ipv4Addr::from_bits(0x0a00_0001 + n), 80).into();
            Destination::new(ServerId(n), &Server { weight, ..Server::new(address, Method::Nat) })
        };
        let mut list: Vec<_> = (0..).zip(weights).map(server).collect();
        list.reverse();
        list
    }

    /// Each slot as the letter of its server: A was added first.
    fn letters(list: &[Destination]) -> String {
        let letter = |&i: &u32| char::from(b'A' + u8::try_from(list[i as usize].id.0).unwrap());
        fill(list).iter().map(letter).collect()
    }

    /// The table of lib/siphash_kunit.c for 64 bits: key 00 01 .. 0f, messages of that many bytes.
    #[test]
    fn the_hash_is_the_kernels() {
        let bytes: [u8; 16] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let hasher = SipHasher13::new_with_key(&bytes);
        for (length, expected) in [(0, 0x050f_c4dc), (1, 0x7d57_ca93), (4, 0x88d3_8328)] {
            assert_eq!(hasher.hash(&bytes[..length]) & 0xffff_ffff, expected, "{length} bytes");
        }
    }

    #[test]
    fn preferences_and_table_of_three_servers() {
        let list = list(&[1, 1, 1]);
        let preference = |n: usize| {
            let address = list[2 - n].address;
            (place(HASH_1, address, 0, SIZE), place(HASH_2, address, 0, SIZE - 1) + 1)
        };
        assert_eq!([0, 1, 2].map(preference), [(3167, 700), (1231, 3544), (1631, 3453)]);
        let table = letters(&list);
        assert_eq!(&table[..20], "ABBCCABCCAABBAACBBAA");
        assert_eq!(['A', 'B', 'C'].map(|l| table.matches(l).count()), [1364, 1364, 1365]);
        // Of the whole table, to find a difference in any slot: FNV-1a.
        let print = table
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        assert_eq!(print, 0x916a_074e_3163_5846);
    }

    #[test]
    fn weights_are_shares() {
        let table = letters(&list(&[3, 2, 1]));
        assert_eq!(['A', 'B', 'C'].map(|l| table.matches(l).count()), [2046, 1364, 683]);
        assert_eq!(table, letters(&list(&[3000, 2000, 1000])));
        // The largest weights there are take six bits of turns.
        let table = letters(&list(&[i32::MAX as u32, 1, 0]));
        assert_eq!(['A', 'B', 'C'].map(|l| table.matches(l).count()), [4029, 64, 0]);
    }

    #[test]
    fn known_clients() {
        let list = list(&[1, 1, 1]);
        let slots = fill(&list);
        let of = |client: &str| {
            let slot = place(HASH_1, client.parse().unwrap(), 0, SIZE);
            (slot, list[slots[slot] as usize].id.0)
        };
        assert_eq!(of("192.0.2.1:0"), (2891, 2));
        assert_eq!(of("192.0.2.2:0"), (746, 1));
        assert_eq!(of("198.51.100.7:0"), (924, 0));
        let ported = ["192.0.2.1:40000", "192.0.2.2:40000", "198.51.100.7:40000"];
        assert_eq!(ported.map(|c| of(c).1), [2, 2, 1]);
    }

    /// `ip_vs_mh_reassign` refuses, and the slots keep their servers.
    #[test]
    fn a_table_that_is_too_small_stays_as_it_was() {
        let mut all = list(&vec![1; SIZE + 1]);
        let newest = all.remove(0);
        let full = Mh::new(Options::default()).changed(Change::Updated, &all);
        assert_eq!(full.slots.iter().collect::<std::collections::HashSet<_>>().len(), SIZE);
        let ids = |mh: &Mh, list: &[Destination]| -> Vec<Option<u32>> {
            mh.slots.iter().map(|&i| list.get(i as usize).map(|d| d.id.0)).collect()
        };
        let before = ids(&full, &all);
        all.insert(0, newest);
        let over = full.changed(Change::Added, &all);
        assert_eq!(ids(&over, &all), before);
        all.insert(0, Destination { id: ServerId(5000), ..newest });
        let over = over.changed(Change::Added, &all);
        let gone = all.remove(7).id.0;
        let over = over.changed(Change::Removed(7), &all);
        let expected: Vec<_> = before.iter().map(|&id| id.filter(|&id| id != gone)).collect();
        assert_eq!(ids(&over, &all), expected);
        all.remove(0);
        assert_eq!(over.changed(Change::Removed(0), &all).slots, fill(&all));
    }
}
