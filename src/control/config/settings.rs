//! `[timeouts]` and `[tunables]`: how long the director remembers, and its settings by the names of the sysctls.

use super::reader::Table;
use super::value::number;
use crate::control::wanted::{TIMEOUT_S, Timeouts};
use crate::director::tunables::Tunables;

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
        let value = table.or(tunable.name, tunable.default, number(tunable.least..=tunable.most, ""));
        is_whole &= value.is_some_and(|value| tunables.set(tunable.name, value).is_ok());
    }
    table.finish();
    is_whole.then_some(tunables)
}
