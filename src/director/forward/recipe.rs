//! A recipe: what to do to the packets of one connection and direction, as plain data.
//!
//! Computed once, when the connection begins, and applied to each packet by straight-line code. The new
//! addresses and ports need no room here: a packet that came with one key of its connection leaves with the
//! reverse of the other. Being plain data, a recipe can be carried out by another engine too.

use super::hops::HopId;
use crate::packet::checksum::Delta;

/// What happens to addresses and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Rewrite {
    /// Nothing: only MACs and TTL change (DR).
    None = 0,
    /// They become those of the connection's other key, reversed (NAT).
    Tuple = 1,
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
    /// As it is stored in a connection.
    pub const fn to_word(self) -> u64 {
        self.l3.0 as u64 | (self.l4.0 as u64) << 16 | (self.rewrite as u64) << 32
    }

    /// As it was stored.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "fields of the word")]
    pub const fn from_word(word: u64) -> Self {
        let rewrite = if word >> 32 & 1 == 1 { Rewrite::Tuple } else { Rewrite::None };
        Self { rewrite, l3: Delta(word as u16), l4: Delta((word >> 16) as u16) }
    }
}

/// Where the packets of one direction go: a next hop, and the generation of routes it was looked up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The next hop, or none where the routing table had no answer.
    pub hop: Option<HopId>,
    /// [`NextHops::generation`](super::hops::NextHops::generation) at the time.
    pub generation: u32,
}

impl Way {
    const NO_HOP: u32 = u32::MAX;

    /// As it is stored in a connection.
    pub fn to_word(self) -> u64 {
        u64::from(self.hop.map_or(Self::NO_HOP, |h| h.0)) | u64::from(self.generation) << 32
    }

    /// As it was stored.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "halves of the word")]
    pub const fn from_word(word: u64) -> Self {
        let hop = word as u32;
        Self {
            hop: if hop == Self::NO_HOP { None } else { Some(HopId(hop)) },
            generation: (word >> 32) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_give_back_what_was_stored() {
        for rewrite in [Rewrite::None, Rewrite::Tuple] {
            let recipe = Recipe { rewrite, l3: Delta(0xfeff), l4: Delta(0x1234) };
            assert_eq!(Recipe::from_word(recipe.to_word()), recipe);
        }
        for hop in [None, Some(HopId(0)), Some(HopId(65_535))] {
            let way = Way { hop, generation: 7 };
            assert_eq!(Way::from_word(way.to_word()), way);
        }
    }
}
