//! Whether there are services and servers of any port: the program looks for none where there are none.

use std::fmt;

use aya::maps::{Array, MapData};

use super::{Rules, SteerError, write_error};

/// Whether there are any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct There {
    services: bool,
    servers: bool,
}

impl There {
    pub(super) fn of(rules: &Rules) -> Self {
        let mut servers = rules.nat_servers.iter().chain(&rules.full_nat_servers);
        Self {
            services: rules.services.iter().any(|service| service.port == 0),
            servers: servers.any(|server| server.port == 0),
        }
    }

    /// `struct any_port` of the program.
    fn value(self) -> [u32; 2] {
        [self.services.into(), self.servers.into()]
    }
}

/// The map of the program.
pub(super) struct AnyPort {
    map: Array<MapData, [u32; 2]>,
    there: There,
}

impl fmt::Debug for AnyPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AnyPort").field(&self.there).finish()
    }
}

impl AnyPort {
    /// Of a map in which nothing is yet.
    pub(super) fn new(map: Array<MapData, [u32; 2]>) -> Self {
        Self { map, there: There::default() }
    }

    /// Has the program look for these, too. Before they are added.
    pub(super) fn add(&mut self, There { services, servers }: There) -> Result<(), SteerError> {
        self.set(There { services: services || self.there.services, servers: servers || self.there.servers })
    }

    /// Has the program look for these alone. After all others are removed.
    pub(super) fn set(&mut self, there: There) -> Result<(), SteerError> {
        if there != self.there {
            self.map.set(0, there.value(), 0).map_err(|source| write_error("any_port", source))?;
            self.there = there;
        }
        Ok(())
    }
}
