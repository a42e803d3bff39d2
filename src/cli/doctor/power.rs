//! Findings about what saves power, and what a packet waits for it: the processors' idle states and frequencies, and for
//! `busy_poll` the interrupts of the cards. Hints, not faults: who wants to save power is right.

use super::facts::{HostFacts, IdleState, InterfaceFacts};
use super::findings::{Finding, Severity};

/// Microseconds to wake from an idle state that are no matter beside the rest of a wake-up.
const EXIT_US: u32 = 20;

/// How long a card may keep its interrupts back for a worker that polls, in nanoseconds (`gro_flush_timeout`), as
/// Documentation/networking/napi.rst has it.
const DEFER_NS: u32 = 200_000;

pub(super) fn judge(host: &HostFacts) -> Vec<Finding> {
    [host.deepest_idle.as_ref().map(idle_state), host.governor.as_deref().map(governor)]
        .into_iter()
        .flatten()
        .collect()
}

fn idle_state(deepest: &IdleState) -> Finding {
    let IdleState { name, exit_us } = deepest;
    let found = format!("{name} at the deepest, {exit_us} us to wake from it");
    let finding = Finding::new(Severity::Ok, "host", "idle states", found);
    if *exit_us <= EXIT_US {
        return finding;
    }
    finding
        .why("the first packet after a pause waits that much longer, unless busy_poll = true")
        .cure(format!(
            "for cpu in /sys/devices/system/cpu/cpu[0-9]*; do echo {EXIT_US} > $cpu/power/pm_qos_resume_latency_us; done    (if wanted: it takes power)"
        ))
}

fn governor(name: &str) -> Finding {
    let finding = Finding::new(Severity::Ok, "host", "frequency", format!("governor {name}"));
    match name {
        "performance" => finding,
        _ => finding
            .why("a core that was idle may begin slowly, and the first packets after a pause with it")
            .cure("cpupower frequency-set -g performance    (if wanted: it takes power)"),
    }
}

/// For a configuration with `busy_poll`: whether the card leaves its queue to the worker that polls it. A veth has no
/// interrupts.
pub(super) fn interrupts(facts: &InterfaceFacts) -> Option<Finding> {
    if facts.driver.as_deref() == Some("veth") {
        return None;
    }
    let name = &facts.name;
    Some(match facts.napi_defer_hard_irqs? {
        0 => Finding::new(Severity::Warn, name, "interrupts", "not deferred, and busy_poll = true")
            .why("the card interrupts the worker that polls it anyway: less throughput than either alone")
            .cure(format!(
                "echo 2 > /sys/class/net/{name}/napi_defer_hard_irqs; echo {DEFER_NS} > /sys/class/net/{name}/gro_flush_timeout"
            )),
        _ => Finding::new(Severity::Ok, name, "interrupts", "deferred while a worker polls"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(host: &HostFacts) -> Vec<(&'static str, Severity, bool)> {
        judge(host).iter().map(|finding| (finding.check, finding.severity, finding.cure.is_some())).collect()
    }

    #[test]
    fn deep_idle_states_and_governors_that_save_are_hinted_at() {
        let host = |exit_us, governor: &str| HostFacts {
            deepest_idle: Some(IdleState { name: "C6".to_owned(), exit_us }),
            governor: Some(governor.to_owned()),
            ..HostFacts::default()
        };
        let told = |hint| [("idle states", Severity::Ok, hint), ("frequency", Severity::Ok, hint)];
        assert_eq!(hints(&host(133, "powersave")), told(true));
        assert_eq!(hints(&host(20, "performance")), told(false));
        assert_eq!(hints(&HostFacts::default()), [], "a virtual machine may tell neither");
        assert_eq!(judge(&host(133, "powersave"))[0].found, "C6 at the deepest, 133 us to wake from it");
    }

    #[test]
    fn a_card_that_interrupts_a_polling_worker_is_warned_of() {
        let nic = |driver: &str, defer| InterfaceFacts {
            name: "eth0".to_owned(),
            driver: Some(driver.to_owned()),
            napi_defer_hard_irqs: defer,
            ..InterfaceFacts::default()
        };
        let severity = |facts: InterfaceFacts| interrupts(&facts).map(|finding| finding.severity);
        assert_eq!(severity(nic("ice", Some(0))), Some(Severity::Warn));
        assert_eq!(severity(nic("ice", Some(2))), Some(Severity::Ok));
        assert_eq!(severity(nic("veth", Some(0))), None);
        assert_eq!(severity(nic("ice", None)), None);
    }
}
