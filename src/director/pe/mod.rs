//! Persistence engines: what besides the client's address tells which server its next packets go to (`ip_vs_pe`).
//!
//! One trait, one closed list, one file for each, named as `ipvsadm --pe` names it. An engine finds a name in a packet's
//! text; the template of persistence is that name's then. It knows nothing of packets.
//!
//! `names` keeps the names for listings, `out` opens the connections that servers begin.

mod names;
mod out;
mod sip;

use std::str::FromStr;

pub use self::names::Names;
use self::sip::Sip;
use super::service::{Protocol, UnknownName, by_name};

/// Longest name in bytes (`IP_VS_PEDATA_MAXLEN`).
pub const MAX_NAME: usize = 255;

/// Finds a name in a text.
trait Identify {
    /// The protocol that it reads.
    const PROTOCOL: Protocol;

    /// The name in a packet's text, 1..=[`MAX_NAME`] bytes of ASCII; none: it does not tell.
    fn name_in<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]>;
}

/// A persistence engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Engine {
    /// By the Call-ID of SIP.
    Sip = 1,
}

impl Engine {
    /// Every engine.
    pub const ALL: &[Engine] = &[Engine::Sip];

    /// The name after `--pe`.
    pub const fn name(self) -> &'static str {
        match self {
            Engine::Sip => "sip",
        }
    }

    /// The name in the text of a packet of `protocol`; none: it does not tell.
    pub(super) fn name_in(self, protocol: u8, text: &[u8]) -> Option<&[u8]> {
        match self {
            Engine::Sip => named(&Sip, protocol, text),
        }
    }
}

fn named<'t, E: Identify>(engine: &E, protocol: u8, text: &'t [u8]) -> Option<&'t [u8]> {
    let text = (protocol == E::PROTOCOL as u8).then_some(text)?;
    engine.name_in(text).filter(|name| (1..=MAX_NAME).contains(&name.len()) && name.is_ascii())
}

impl FromStr for Engine {
    type Err = UnknownName;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        by_name("persistence engine", value, Self::ALL, Self::name)
    }
}
