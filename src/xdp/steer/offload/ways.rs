//! Where offloaded flows go: next hops, the interfaces that they leave by, and the numbers of services and routes.
//!
//! A next hop is a number in `hops` that leads to a station. A station is written while no hop leads there, and one that
//! was left is not written again before [`REST`] has passed: no packet is that long in the program. So a packet sees the
//! old MAC addresses or the new ones.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::maps::{Array, DevMap, MapData};

use super::super::{MAX_PORTS, SteerError, take, write_error};

/// Most next hops.
pub const MAX_HOPS: u32 = 65_536;
/// Twice as many, so that every hop may change at once.
pub(in super::super) const MAX_STATIONS: u32 = 2 * MAX_HOPS;
/// How long a station that was left is not written.
const REST: Duration = Duration::from_secs(1);

/// How frames reach a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Destination MAC address.
    pub dst_mac: [u8; 6],
    /// Source MAC address.
    pub src_mac: [u8; 6],
    /// The interface, as it was given to [`Ways::set_exit`].
    pub exit: u16,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// 802.1Q VLAN id that packets have to come with, and keep.
    pub vlan: Option<u16>,
}

/// The maps of where flows go, and what was written to them.
pub struct Ways {
    hops: Array<MapData, u32>,
    stations: Array<MapData, [u8; 24]>,
    exits: DevMap<MapData>,
    current: Array<MapData, u64>,
    numbers: (u32, u32),
    /// Interface index by exit.
    interfaces: Vec<Option<u32>>,
    /// By number of the hop: what it is, and its station.
    known: Vec<Option<(NextHop, u32)>>,
    /// Stations that no hop leads to, and since when; the ones left earliest first.
    free: VecDeque<(u32, Instant)>,
    /// Stations from this number on were never used. 0 is none.
    unused: u32,
}

impl fmt::Debug for Ways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ways").field("numbers", &self.numbers).finish_non_exhaustive()
    }
}

impl Ways {
    pub(in super::super) fn of(ebpf: &mut Ebpf) -> Result<Self, SteerError> {
        Ok(Self {
            hops: take(ebpf, "hops")?,
            stations: take(ebpf, "stations")?,
            exits: take(ebpf, "exits")?,
            current: take(ebpf, "current")?,
            numbers: (0, 0),
            interfaces: vec![None; usize::from(MAX_PORTS)],
            known: Vec::new(),
            free: VecDeque::new(),
            unused: 1,
        })
    }

    /// Says which interface the exit with this number is.
    ///
    /// # Errors
    /// For a number over [`MAX_PORTS`], or an interface that does not exist.
    pub fn set_exit(&mut self, exit: u16, interface: u32) -> Result<(), SteerError> {
        let place =
            self.interfaces.get_mut(usize::from(exit)).ok_or(SteerError::PortIndex { port_index: exit })?;
        self.exits
            .set(exit.into(), interface, None, 0)
            .map_err(|source| SteerError::Exit { exit, source })?;
        *place = Some(interface);
        Ok(())
    }

    /// Makes `hops`, each at the place of its number, the next hops there are; no packet goes to the others. What stays is
    /// not written.
    ///
    /// # Errors
    /// If a map cannot be written: call again.
    pub fn set_hops(&mut self, hops: impl IntoIterator<Item = Option<NextHop>>) -> Result<(), SteerError> {
        let mut count = 0;
        for (number, wanted) in (0..MAX_HOPS).zip(hops) {
            self.set_hop(number, wanted)?;
            count = number + 1;
        }
        for number in count..u32::try_from(self.known.len()).unwrap_or(MAX_HOPS) {
            self.set_hop(number, None)?;
        }
        Ok(())
    }

    fn set_hop(&mut self, number: u32, wanted: Option<NextHop>) -> Result<(), SteerError> {
        let at = number as usize;
        if self.known.len() <= at {
            self.known.resize(at + 1, None);
        }
        let before = self.known[at];
        if before.map(|(hop, _)| hop) == wanted {
            return Ok(());
        }
        let interface = |hop: NextHop| self.interfaces.get(usize::from(hop.exit)).copied().flatten();
        // Without a station the hop is not there: its packets come up, until the next call finds one.
        let after = wanted
            .and_then(|hop| Some((hop, interface(hop)?)))
            .and_then(|(hop, interface)| Some((hop, interface, self.take_station()?)));
        if let Some((hop, interface, station)) = after {
            self.stations
                .set(station, bytes(&hop, interface), 0)
                .map_err(|source| write_error("stations", source))?;
        }
        let station = after.map_or(0, |(_, _, station)| station);
        self.hops.set(number, station, 0).map_err(|source| write_error("hops", source))?;
        if let Some((_, left)) = before {
            self.free.push_back((left, Instant::now()));
        }
        self.known[at] = after.map(|(hop, _, station)| (hop, station));
        Ok(())
    }

    /// A station that no packet reads.
    fn take_station(&mut self) -> Option<u32> {
        if self.unused < MAX_STATIONS {
            self.unused += 1;
            return Some(self.unused - 1);
        }
        self.free.pop_front_if(|(_, since)| since.elapsed() >= REST).map(|(station, _)| station)
    }

    /// Flows that began with another number of services do not hold any more.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn set_services(&mut self, services: u32) -> Result<(), SteerError> {
        self.set_numbers((services, self.numbers.1))
    }

    /// Flows that began with another number of routes do not hold any more.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn set_routes(&mut self, routes: u32) -> Result<(), SteerError> {
        self.set_numbers((self.numbers.0, routes))
    }

    fn set_numbers(&mut self, numbers: (u32, u32)) -> Result<(), SteerError> {
        if numbers == self.numbers {
            return Ok(());
        }
        let [a, b, c, d] = numbers.0.to_ne_bytes();
        let [e, f, g, h] = numbers.1.to_ne_bytes();
        self.current
            .set(0, u64::from_ne_bytes([a, b, c, d, e, f, g, h]), 0)
            .map_err(|source| write_error("current", source))?;
        self.numbers = numbers;
        Ok(())
    }
}

/// `struct station` of the program.
fn bytes(hop: &NextHop, interface: u32) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..6].copy_from_slice(&hop.dst_mac);
    bytes[6..12].copy_from_slice(&hop.src_mac);
    bytes[12..16].copy_from_slice(&u32::from(hop.exit).to_ne_bytes());
    bytes[16..20].copy_from_slice(&interface.to_ne_bytes());
    bytes[20..22].copy_from_slice(&hop.mtu.to_ne_bytes());
    bytes[22..].copy_from_slice(&hop.vlan.unwrap_or(0).to_ne_bytes());
    bytes
}
