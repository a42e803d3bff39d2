//! Which core a worker runs on.

/// A configured core that this process may not use.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "core {core} for queue {queue} is not among the cores this process may use ({allowed:?}); choose from these, or \
     widen them (taskset, CPUAffinity= or AllowedCPUs= in the systemd unit)"
)]
pub struct CoreError {
    core: usize,
    queue: u32,
    allowed: Vec<usize>,
}

/// The cores this thread may run on, ascending. Ask before pinning: a pinned thread sees only its own.
pub fn allowed() -> Vec<usize> {
    let mut cores: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    cores.sort_unstable();
    cores
}

/// The core for the worker of `queue`: the configured list, or else all `allowed` ones, in turn.
///
/// `None` when nothing is configured and the allowed cores are not known: the worker is not pinned then.
///
/// # Errors
/// The configured core is not allowed.
pub fn choose(queue: u32, configured: &[usize], allowed: &[usize]) -> Result<Option<usize>, CoreError> {
    let turn = |cores: &[usize]| (!cores.is_empty()).then(|| cores[queue as usize % cores.len()]);
    let Some(core) = turn(configured) else { return Ok(turn(allowed)) };
    if allowed.contains(&core) {
        Ok(Some(core))
    } else {
        Err(CoreError { core, queue, allowed: allowed.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_take_the_allowed_cores_in_turn() {
        let chosen: Vec<_> = (0..5).map(|queue| choose(queue, &[], &[2, 3, 7]).unwrap().unwrap()).collect();
        assert_eq!(chosen, [2, 3, 7, 2, 3]);
    }

    #[test]
    fn configured_cores_come_first_and_must_be_allowed() {
        assert_eq!(choose(1, &[3, 2], &[2, 3]), Ok(Some(2)));
        let refused = choose(0, &[9], &[2, 3]).unwrap_err().to_string();
        assert!(refused.contains("core 9 for queue 0") && refused.contains("[2, 3]"), "{refused}");
    }

    #[test]
    fn nothing_known_means_not_pinned() {
        assert_eq!(choose(4, &[], &[]), Ok(None));
    }

    #[test]
    fn this_process_may_run_somewhere() {
        assert!(!allowed().is_empty());
    }
}
