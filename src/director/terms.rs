//! On which terms the connections of each server live: what their service has switched on, and whether the server is
//! down. A packet's connection knows its server by number and not its service, which may be gone.
//!
//! An array by the server's number, in pieces that snapshots share: most directors switch nothing on, and then there
//! are none.

use std::sync::Arc;

use super::conn::state::State;
use super::server::{MAX_IDS, ServerId};
use super::service::Protocol;
use super::switches::{ClientAddress, Switches, TcpWhenDown};

/// Numbers in a piece.
const PIECE: usize = 256;
const PIECES: usize = MAX_IDS as usize / PIECE;
const _: () = assert!(PIECES * PIECE == MAX_IDS as usize);

/// Of one server's connections. By default the kernel's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Terms {
    timeout_tcp_s: u32,
    timeout_tcp_fin_s: u32,
    timeout_udp_s: u32,
    /// In bytes; 0: any.
    pub(super) mss_max: u16,
    pub(super) udp_rehome: bool,
    pub(super) reset_on_removal: bool,
    pub(super) tcp_when_down: TcpWhenDown,
    /// It is in its service, and down.
    pub(super) is_down: bool,
    /// How it is told clients' addresses.
    pub(super) told: Told,
}

/// How a server is told the address of a new connection's client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Told {
    #[default]
    Not,
    /// By a header of the PROXY protocol.
    Proxy,
    /// By a TCP option of this kind.
    Toa(u8),
}

impl Told {
    const fn new(switches: &Switches) -> Self {
        match switches.client_address {
            ClientAddress::None => Self::Not,
            ClientAddress::Proxy => Self::Proxy,
            ClientAddress::Toa => Self::Toa(switches.toa_kind),
        }
    }
}

impl Terms {
    pub(super) const fn new(switches: &Switches, is_down: bool) -> Self {
        let Switches {
            timeout_tcp_s,
            timeout_tcp_fin_s,
            timeout_udp_s,
            udp_rehome,
            reset_on_removal,
            tcp_when_down,
            mss_max,
            ..
        } = *switches;
        Self {
            timeout_tcp_s,
            timeout_tcp_fin_s,
            timeout_udp_s,
            #[allow(clippy::cast_possible_truncation, reason = "within its limits")]
            mss_max: mss_max as u16,
            udp_rehome,
            reset_on_removal,
            tcp_when_down,
            is_down,
            told: Told::new(switches),
        }
    }

    /// The timeout of their own that connections have in this state, in seconds.
    pub(super) fn timeout_s(&self, protocol: u8, state: State) -> Option<u32> {
        let own = match (Protocol::from_number(protocol)?, state) {
            (Protocol::Tcp, State::Established) => self.timeout_tcp_s,
            (Protocol::Tcp, State::FinWait) => self.timeout_tcp_fin_s,
            (Protocol::Udp, _) => self.timeout_udp_s,
            _ => 0,
        };
        (own > 0).then_some(own)
    }
}

type Piece = [Terms; PIECE];

/// The terms of all servers, removed ones included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AllTerms(Arc<[Option<Arc<Piece>>]>);

impl Default for AllTerms {
    fn default() -> Self {
        Self(vec![None; PIECES].into())
    }
}

impl AllTerms {
    /// Place of a number: its piece, and where in it.
    const fn place(id: ServerId) -> (usize, usize) {
        (id.0 as usize / PIECE % PIECES, id.0 as usize % PIECE)
    }

    pub(super) fn of(&self, id: ServerId) -> Terms {
        let (piece, at) = Self::place(id);
        self.0[piece].as_ref().map_or_else(Terms::default, |piece| piece[at])
    }

    /// True if every server's are the kernel's.
    pub(super) fn are_plain(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    pub(super) fn set(&mut self, id: ServerId, terms: Terms) {
        if self.of(id) == terms {
            return;
        }
        let (piece, at) = Self::place(id);
        let slot = &mut Arc::make_mut(&mut self.0)[piece];
        let piece = Arc::make_mut(slot.get_or_insert_with(|| Arc::new([Terms::default(); PIECE])));
        piece[at] = terms;
        if piece.iter().all(|terms| *terms == Terms::default()) {
            *slot = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn any_history_equals_a_map_and_snapshots_stay(
            steps in proptest::collection::vec((prop_oneof![0..4u32, 254..258u32, Just(MAX_IDS - 1)], 0..3u32), 1..60),
        ) {
            let (mut all, mut map) = (AllTerms::default(), HashMap::<u32, Terms>::new());
            for (id, seconds) in steps {
                let (before, was) = (all.clone(), map.clone());
                let terms = Terms { timeout_udp_s: seconds, ..Terms::default() };
                all.set(ServerId(id), terms);
                map.insert(id, terms);
                for (all, map) in [(&all, &map), (&before, &was)] {
                    for (id, terms) in map {
                        prop_assert_eq!(all.of(ServerId(*id)), *terms);
                    }
                    prop_assert_eq!(all.are_plain(), map.values().all(|terms| *terms == Terms::default()));
                }
            }
        }
    }

    #[test]
    fn a_timeout_of_its_own_is_of_one_state_or_protocol() {
        let switches =
            Switches { timeout_tcp_s: 1, timeout_tcp_fin_s: 2, timeout_udp_s: 3, ..Switches::default() };
        let terms = Terms::new(&switches, false);
        let of = |protocol: Protocol, state| terms.timeout_s(protocol as u8, state);
        assert_eq!(of(Protocol::Tcp, State::Established), Some(1));
        assert_eq!(of(Protocol::Tcp, State::FinWait), Some(2));
        assert_eq!(of(Protocol::Tcp, State::TimeWait), None);
        assert_eq!(of(Protocol::Udp, State::None), Some(3));
        assert_eq!(Terms::default().timeout_s(6, State::Established), None);
    }
}
