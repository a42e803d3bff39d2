//! Which core a worker runs on, and that nobody else of this process does.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

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

/// Keeps this thread, and those it starts from now on, off the cores that workers have, if it may use others: a worker
/// that another thread of ours took the core from would keep its packets waiting for milliseconds.
///
/// # Errors
/// The kernel's, which has no reason to refuse: the thread may run where it could before then.
pub fn leave(taken: &[Option<usize>], allowed: &[usize]) -> nix::Result<()> {
    let others = others(taken, allowed);
    if others.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    others.into_iter().try_for_each(|core| set.set(core))?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

fn others(taken: &[Option<usize>], allowed: &[usize]) -> Vec<usize> {
    allowed.iter().copied().filter(|core| !taken.contains(&Some(*core))).collect()
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
    fn the_others_are_those_that_no_worker_has() {
        assert_eq!(others(&[Some(2), Some(7)], &[1, 2, 3, 7]), [1, 3]);
        assert_eq!(others(&[None], &[1, 2]), [1, 2]);
        assert!(others(&[Some(1), Some(2)], &[1, 2]).is_empty());
    }

    #[test]
    fn a_thread_leaves_the_cores_of_workers() {
        let allowed = allowed();
        let taken = [allowed.first().copied()];
        let left = std::thread::spawn(move || leave(&taken, &super::allowed()).map(|()| super::allowed()));
        let expected = if allowed.len() > 1 { &allowed[1..] } else { &allowed[..] };
        assert_eq!(left.join().unwrap().unwrap(), expected);
    }

    #[test]
    fn this_process_may_run_somewhere() {
        assert!(!allowed().is_empty());
    }
}
