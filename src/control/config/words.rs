//! What somebody meant who wrote another word: slips of the keyboard, and habits from `ipvsadm`, its listings
//! and keepalived.

/// What those write who come from elsewhere, in small letters with `_`, and what it is called here. Keys and
/// names alike.
const HABITS: &[(&str, &str)] = &[
    // Tables
    ("virtual_server", "service"),
    ("virtualserver", "service"),
    ("real_server", "server"),
    ("realserver", "server"),
    ("dest", "server"),
    // [[service]]
    ("fwmark", "mark"),
    ("firewall_mark", "mark"),
    ("fwm", "mark"),
    ("vip", "address"),
    ("port", "address"),
    ("sched", "scheduler"),
    ("lb_algo", "scheduler"),
    ("lvs_sched", "scheduler"),
    ("algorithm", "scheduler"),
    ("sched_flags", "scheduler_flags"),
    ("flags", "scheduler_flags"),
    ("lb_kind", "forward"),
    ("lvs_method", "forward"),
    ("method", "forward"),
    ("persistent", "persistence"),
    ("persistence_timeout", "persistence"),
    ("netmask", "persistence_netmask"),
    ("persistence_granularity", "persistence_netmask"),
    ("ops", "one_packet"),
    ("pe", "persistence_engine"),
    // [[service.server]]
    ("rip", "address"),
    ("u_threshold", "upper_threshold"),
    ("uthreshold", "upper_threshold"),
    ("l_threshold", "lower_threshold"),
    ("lthreshold", "lower_threshold"),
    ("tun_type", "tunnel"),
    ("tun_port", "tunnel_port"),
    ("tun_csum", "tunnel_checksum"),
    // [[mark]]
    ("port", "ports"),
    ("dport", "ports"),
    ("set_mark", "mark"),
    ("dst", "destination"),
    ("src", "source"),
    // Methods
    ("masq", "nat"),
    ("masquerade", "nat"),
    ("masquerading", "nat"),
    ("route", "dr"),
    ("droute", "dr"),
    ("gateway", "dr"),
    ("gatewaying", "dr"),
    ("direct", "dr"),
    ("ipip", "tun"),
    ("tunnel", "tun"),
    // Schedulers
    ("round_robin", "rr"),
    ("roundrobin", "rr"),
    ("leastconn", "lc"),
    ("maglev", "mh"),
    // Checksums
    ("nocsum", "none"),
    ("csum", "full"),
    ("remcsum", "remote"),
];

/// What belongs elsewhere: the table it was found in, its key, and where it goes.
const MISPLACED: &[(&str, &str, &str)] = &[
    (TOP, "server", "write `[[service.server]]` below the `[[service]]` it belongs to"),
    ("[[service]]", "weight", "a weight is a server's: write it below its `[[service.server]]`"),
    ("[[service]]", "ports", "firewall marks name several ports: see `[[mark]]` in `config/example.toml`"),
    (TOP, "interfaces", "write it below `[director]`"),
    (TOP, "socket", "write it below `[api]`"),
];

/// How messages call the top of the file.
pub(super) const TOP: &str = "the top of the file";

/// The one of `names` that somebody who wrote `given` may have meant.
pub(super) fn meant<'n>(given: &str, names: impl IntoIterator<Item = &'n str> + Clone) -> Option<&'n str> {
    let plain = given.to_lowercase().replace('-', "_");
    let known = |right: &str| names.clone().into_iter().find(|name| *name == right);
    let habit = HABITS.iter().filter(|(wrong, _)| *wrong == plain).find_map(|(_, right)| known(right));
    habit.or_else(|| nearest(&given.to_lowercase(), names))
}

/// Where a key goes that was found in `table`, if that is known.
pub(super) fn belongs(table: &str, key: &str) -> Option<&'static str> {
    let here = MISPLACED.iter().filter(|(place, ..)| *place == table);
    let keys: Vec<&str> = here.clone().map(|(_, key, _)| *key).collect();
    let meant = meant(key, keys)?;
    here.clone().find(|(_, key, _)| *key == meant).map(|(.., cure)| *cure)
}

/// About one slip in three letters.
fn nearest<'n>(given: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    names
        .into_iter()
        .map(|name| (strsim::osa_distance(given, name), name))
        .filter(|&(distance, name)| distance <= (name.len() / 3).max(1))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_different_word_is_not() {
        let names = ["weight", "address", "forward", "udp"];
        assert_eq!(meant("wieght", names), Some("weight"));
        assert_eq!(meant("Address", names), Some("address"));
        assert_eq!(meant("udpp", names), Some("udp"));
        assert_eq!(meant("persistence", names), None);
        assert_eq!(meant("tcp", names), None);
    }

    #[test]
    fn a_habit_leads_to_what_is_known_in_this_place() {
        assert_eq!(meant("masq", ["nat", "dr", "tun"]), Some("nat"));
        assert_eq!(meant("Masquerading", ["nat", "dr", "tun"]), Some("nat"));
        assert_eq!(meant("tun-port", ["tunnel", "tunnel_port"]), Some("tunnel_port"));
        assert_eq!(meant("port", ["protocol", "address"]), Some("address"));
        assert_eq!(meant("port", ["protocol", "ports"]), Some("ports"));
        assert_eq!(meant("masq", ["ipip", "gue", "gre"]), None);
    }
}
