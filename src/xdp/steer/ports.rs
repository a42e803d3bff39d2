//! The interfaces as the program knows them: each at a place that its index says, or the next one that is free.

use std::fmt;

use aya::maps::{Array, MapData};

use super::rules::MAX_QUEUES;
use super::{SteerError, write_error};

/// More than there are interfaces, so that they rarely want the same ones.
const PLACES: u32 = 128;

/// `struct port` of the program: interface, place of queue 0, MAC address, two unused.
type PortValue = [u8; 16];

/// What the program is told of the interface with index `interface`, which is at `port_index` and has this MAC address.
fn value(interface: u32, port_index: u16, mac: [u8; 6]) -> PortValue {
    let mut value = [0; 16];
    value[..4].copy_from_slice(&interface.to_ne_bytes());
    value[4..8].copy_from_slice(&(u32::from(port_index) * MAX_QUEUES).to_ne_bytes());
    value[8..14].copy_from_slice(&mac);
    value
}

/// Which interface is at which place; 0 is none.
struct Places([u32; PLACES as usize]);

impl Places {
    /// Where this interface is, or where there is nothing (`interface` 0), looked for from the place of `index` on.
    fn find(&self, index: u32, interface: u32) -> Option<u32> {
        (0..PLACES)
            .map(|step| index.wrapping_add(step) % PLACES)
            .find(|&place| self.0[place as usize] == interface)
    }
}

/// The map of the program.
pub(super) struct Ports {
    map: Array<MapData, PortValue>,
    places: Places,
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ports").finish_non_exhaustive()
    }
}

impl Ports {
    /// Of a map in which nothing is yet.
    pub(super) const fn new(map: Array<MapData, PortValue>) -> Self {
        Self { map, places: Places([0; PLACES as usize]) }
    }

    /// Has frames from `interface` go to the sockets of `port_index` if they are sent to this MAC address.
    pub(super) fn set(&mut self, interface: u32, port_index: u16, mac: [u8; 6]) -> Result<(), SteerError> {
        let Self { map, places } = self;
        let place = places.find(interface, interface).or_else(|| places.find(interface, 0));
        let limit = PLACES as usize;
        let place = place.ok_or(SteerError::TooMany { what: "interfaces", count: limit + 1, limit })?;
        map.set(place, value(interface, port_index, mac), 0)
            .map_err(|source| write_error("ports", source))?;
        places.0[place as usize] = interface;
        Ok(())
    }

    /// Forgets the interface, to which the program must not be attached any more.
    pub(super) fn remove(&mut self, interface: u32) -> Result<(), SteerError> {
        let Some(place) = self.places.find(interface, interface) else { return Ok(()) };
        self.map.set(place, [0; 16], 0).map_err(|source| write_error("ports", source))?;
        self.places.0[place as usize] = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_has_as_many_places() {
        let source = include_str!("../ports.bpf.h");
        assert!(source.contains(&format!("#define PORT_PLACES {PLACES}\n")));
    }

    #[test]
    fn interfaces_that_want_one_place_are_found_also_when_others_between_have_gone() {
        let mut places = Places([0; PLACES as usize]);
        let interfaces: Vec<u32> = (0..64).map(|n| 100 + n * PLACES).collect();
        for interface in &interfaces {
            let free = places.find(*interface, 0).unwrap();
            places.0[free as usize] = *interface;
        }
        for gone in interfaces.iter().step_by(2) {
            let place = places.find(*gone, *gone).unwrap();
            places.0[place as usize] = 0;
        }
        for (number, interface) in (0..).zip(&interfaces) {
            let expected = (number % 2 == 1).then_some((100 + number) % PLACES);
            assert_eq!(places.find(*interface, *interface), expected);
        }
        assert_eq!(places.find(99, 0), Some(99), "a place is taken again");
        assert_eq!(places.find(101, 0), Some(102));
        assert_eq!(places.find(u32::MAX, 0), Some(0), "behind the last is the first");
    }
}
