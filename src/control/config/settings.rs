//! `[timeouts]` and `[tunables]`: how long the director remembers, and its settings by the names of the sysctls.

use super::reader::{Field, Table};
use super::report::Problems;
use super::value::number;
use crate::control::wanted::{TIMEOUT_S, Timeouts};
use crate::director::tunables::{Tunable, Tunables, unsupported};

/// Reads `[timeouts]`.
pub(super) fn timeouts(mut table: Table<'_, '_>) -> Option<Timeouts> {
    let default = Timeouts::default();
    let tcp_s = table.or("tcp", default.tcp_s, number(TIMEOUT_S, " seconds"));
    let tcp_fin_s = table.or("tcp_fin", default.tcp_fin_s, number(TIMEOUT_S, " seconds"));
    let udp_s = table.or("udp", default.udp_s, number(TIMEOUT_S, " seconds"));
    table.finish();
    Some(Timeouts { tcp_s: tcp_s?, tcp_fin_s: tcp_fin_s?, udp_s: udp_s? })
}

/// Reads `[tunables]`: whatever the director has.
pub(super) fn tunables(mut table: Table<'_, '_>) -> Option<Tunables> {
    let mut tunables = Tunables::default();
    let mut is_whole = true;
    for tunable in tunables.all() {
        let value = table.or(tunable.name, tunable.default, setting(&tunable));
        is_whole &= value.is_some_and(|value| tunables.set(tunable.name, value).is_ok());
    }
    table.finish();
    is_whole.then_some(tunables)
}

/// The value of a tunable. Of one that can only be 0 it is said why.
fn setting(tunable: &Tunable) -> impl Fn(&Field<'_>, &mut Problems) -> Option<u32> {
    let (name, least, most) = (tunable.name, tunable.least, tunable.most);
    move |field, problems| {
        let Some((_, why)) = unsupported(name) else {
            return number(least..=most, "")(field, problems);
        };
        let value = number(0..=u32::MAX, "")(field, problems)?;
        if value > most {
            problems.error(field.span.clone(), format!("{name} = {value} cannot be")).cure(why);
            return None;
        }
        Some(value)
    }
}
