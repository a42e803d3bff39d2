//! What an operator wants of a director and may change while it runs: services, marks, timeouts, tunables.
//!
//! Plain values between the configuration file, which is read to them and written from them, and the
//! director, which is drafted from them.

use std::ops::RangeInclusive;

use crate::director::conn::state::{self, State};
use crate::director::draft::{Draft, Refused};
use crate::director::marks::MarkRule;
use crate::director::service::Pool;
use crate::director::services::Services;
use crate::director::tunables::Tunables;

/// Limits of every timeout in seconds: 31 days, as `ipvsadm` has it.
pub const TIMEOUT_S: RangeInclusive<u32> = 1..=2_678_400;

/// Everything that may change while the director forwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The virtual services in the order they are added; no two have the same key.
    pub pools: Vec<Pool>,
    /// Which packets get a firewall mark: the first rule that fits gives it.
    pub marks: Vec<MarkRule>,
    /// How long an idle connection is remembered.
    pub timeouts: Timeouts,
    /// Settings of the director as a whole.
    pub tunables: Tunables,
}

impl Wanted {
    /// What a running director has been told.
    pub fn of(services: &Services) -> Self {
        Self {
            pools: services.pools(),
            marks: services.marks.to_vec(),
            timeouts: Timeouts::from(&services.timeouts),
            tunables: services.tunables,
        }
    }

    /// Makes a draft want the same, by the smallest change: see [`Draft::replace`].
    ///
    /// # Errors
    /// What any of the single changes would be refused for; the draft is of no use then.
    pub fn apply(&self, draft: &mut Draft) -> Result<(), Refused> {
        draft.replace(&self.pools)?;
        let settings = draft.settings();
        settings.marks = self.marks.as_slice().into();
        settings.timeouts = self.timeouts.into();
        settings.tunables = self.tunables;
        Ok(())
    }
}

/// How long an idle connection is remembered, the three that `ipvsadm --set` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Established TCP, 1..=2_678_400 seconds.
    pub tcp_s: u32,
    /// TCP after the first FIN, 1..=2_678_400 seconds.
    pub tcp_fin_s: u32,
    /// UDP, 1..=2_678_400 seconds.
    pub udp_s: u32,
}

impl Default for Timeouts {
    /// The kernel's.
    fn default() -> Self {
        Self::from(&state::Timeouts::default())
    }
}

impl From<&state::Timeouts> for Timeouts {
    fn from(all: &state::Timeouts) -> Self {
        let of = |state: State| all.tcp_s[state as usize];
        Self { tcp_s: of(State::Established), tcp_fin_s: of(State::FinWait), udp_s: all.udp_s }
    }
}

impl From<Timeouts> for state::Timeouts {
    fn from(three: Timeouts) -> Self {
        Self::with(three.tcp_s, three.tcp_fin_s, three.udp_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::director::roster::Roster;

    #[test]
    fn a_director_wants_what_was_applied_to_it() {
        let key = "udp:192.0.2.10:53".parse().unwrap();
        let wanted = Wanted {
            pools: vec![Pool { service: crate::director::service::Service::new(key), servers: vec![] }],
            marks: vec![],
            timeouts: Timeouts { tcp_s: 1, tcp_fin_s: 2, udp_s: 3 },
            tunables: Tunables { sloppy_tcp: 1, ..Tunables::default() },
        };
        let mut draft = Draft::new(&Services::default(), &Roster::default());
        wanted.apply(&mut draft).unwrap();
        assert_eq!(Wanted::of(draft.services()), wanted);
        let kernel = Timeouts { tcp_s: 900, tcp_fin_s: 120, udp_s: 300 };
        assert_eq!(Wanted::of(&Services::default()), Wanted { timeouts: kernel, ..Wanted::default() });
    }
}
