//! A recipe: what to do to the packets of one connection and direction, as plain data.
//!
//! Computed once, when the connection begins, and applied to each packet by straight-line code. The new
//! addresses and ports need no room here: a packet that came with one key of its connection leaves with the
//! reverse of the other. Being plain data, a recipe can be carried out by another engine too.

use super::hops::{HopId, Route};
use crate::packet::checksum::Delta;

/// What happens to addresses and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Rewrite {
    /// Nothing: only MACs and TTL change (DR).
    None = 0,
    /// They become those of the connection's other key, reversed (NAT).
    Tuple = 1,
    /// Nothing: they are wrapped into another packet (TUN).
    Wrap = 2,
    /// They become those of the connection's other key, reversed, which are of the other IP version (FULLNAT).
    Translate = 3,
}

impl Rewrite {
    /// True if packets leave with other headers than they came with, longer or shorter.
    #[inline]
    pub const fn changes_headers(self) -> bool {
        self as u8 >= Self::Wrap as u8
    }
}

/// The recipe of one direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// What happens to addresses and ports.
    pub rewrite: Rewrite,
    /// The difference the edits make to the IP header checksum, the TTL's included.
    pub l3: Delta,
    /// The difference the edits make to the transport checksum.
    pub l4: Delta,
}

impl Recipe {
    /// The bits that [`to_word`](Self::to_word) uses; those above are others'.
    pub const BITS: u32 = 34;

    /// As it is stored in a connection.
    pub const fn to_word(self) -> u64 {
        self.l3.0 as u64 | (self.l4.0 as u64) << 16 | (self.rewrite as u64) << 32
    }

    /// As it was stored.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "fields of the word")]
    pub const fn from_word(word: u64) -> Self {
        let rewrite = match word >> 32 & 3 {
            1 => Rewrite::Tuple,
            2 => Rewrite::Wrap,
            3 => Rewrite::Translate,
            _ => Rewrite::None,
        };
        Self { rewrite, l3: Delta(word as u16), l4: Delta((word >> 16) as u16) }
    }
}

/// Where the packets of one direction go, and the generation of routes that said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The routing table's answer.
    pub route: Route,
    /// [`NextHops::generation`](super::hops::NextHops::generation) at the time.
    pub generation: u32,
}

impl Way {
    const UNKNOWN: u32 = u32::MAX;
    const UNREACHABLE: u32 = u32::MAX - 1;
    const LOCAL: u32 = u32::MAX - 2;

    /// As it is stored in a connection.
    pub fn to_word(self) -> u64 {
        let route = match self.route {
            Route::Via(hop) => hop.0,
            Route::Unknown => Self::UNKNOWN,
            Route::Unreachable => Self::UNREACHABLE,
            Route::Local => Self::LOCAL,
        };
        u64::from(route) | u64::from(self.generation) << 32
    }

    /// As it was stored.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "halves of the word")]
    pub const fn from_word(word: u64) -> Self {
        let route = match word as u32 {
            Self::UNKNOWN => Route::Unknown,
            Self::UNREACHABLE => Route::Unreachable,
            Self::LOCAL => Route::Local,
            hop => Route::Via(HopId(hop)),
        };
        Self { route, generation: (word >> 32) as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_give_back_what_was_stored() {
        for rewrite in [Rewrite::None, Rewrite::Tuple, Rewrite::Wrap, Rewrite::Translate] {
            let recipe = Recipe { rewrite, l3: Delta(0xfeff), l4: Delta(0x1234) };
            assert_eq!(Recipe::from_word(recipe.to_word()), recipe);
        }
        for route in [
            Route::Unknown,
            Route::Unreachable,
            Route::Local,
            Route::Via(HopId(0)),
            Route::Via(HopId(65_535)),
        ] {
            let way = Way { route, generation: 7 };
            assert_eq!(Way::from_word(way.to_word()), way);
        }
    }
}
