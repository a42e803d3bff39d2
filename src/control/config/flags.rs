//! `scheduler_flags`: the three flags of a service (`ipvsadm -b`), by the names that its scheduler gives them.

use super::reader::{Field, Table};
use super::report::Problems;
use super::value::{list, text};
use super::words;
use crate::director::sched::{Kind, Options};

/// Names that fit every scheduler.
const NUMBERED: [&str; 3] = ["flag-1", "flag-2", "flag-3"];

/// What a service with this scheduler calls its three flags: by number those that the scheduler does not look at.
pub(super) fn names(scheduler: Kind) -> [&'static str; 3] {
    scheduler.flag_names()
}

/// The names of the flags that are set.
pub(in crate::control) fn set(scheduler: Kind, options: Options) -> Vec<&'static str> {
    let Options { fallback, port, third } = options;
    let all = names(scheduler).into_iter().zip([fallback, port, third]);
    all.filter(|(_, is_set)| *is_set).map(|(name, _)| name).collect()
}

/// Reads `scheduler_flags` of a service with this scheduler; `None`: the scheduler's name is wrong.
pub(super) fn flags(table: &mut Table<'_, '_>, scheduler: Option<Kind>) -> Option<Options> {
    let item = |field: &Field<'_>, problems: &mut Problems| flag(field, scheduler, problems);
    let Some(given) = table.optional("scheduler_flags", list(0..=3, "flags", item))? else {
        return Some(Options::default());
    };
    let options = Options {
        fallback: given.get_ref().contains(&0),
        port: given.get_ref().contains(&1),
        third: given.get_ref().contains(&2),
    };
    let unread = |name: &&str| NUMBERED.contains(name);
    if let Some(scheduler) = scheduler
        && let Some(name) = set(scheduler, options).into_iter().find(unread)
    {
        let message = format!("scheduler \"{}\" does not look at flag \"{name}\"", scheduler.name());
        table.problems.warning(given.span(), message).cure("leave it out");
    }
    Some(options)
}

/// One flag as its number, from 0.
fn flag(field: &Field<'_>, scheduler: Option<Kind>, problems: &mut Problems) -> Option<usize> {
    let given = text(field, problems)?;
    let number = |of: [&str; 3]| of.into_iter().position(|name| name == given);
    let owner = Kind::ALL.iter().find(|kind| number(names(**kind)).is_some());
    let own = scheduler.map_or_else(|| owner.and_then(|kind| number(names(*kind))), |s| number(names(s)));
    if let Some(found) = own.or_else(|| number(NUMBERED)) {
        return Some(found);
    }
    // Without a scheduler, every name of any scheduler has been found by now.
    let own = scheduler.map_or(NUMBERED, names);
    match (scheduler, owner) {
        (Some(scheduler), Some(owner)) => problems
            .error(field.span.clone(), format!("scheduler \"{}\" has no flag \"{given}\"", scheduler.name()))
            .cure(format!("set scheduler = \"{}\", or leave the flag out", owner.name())),
        _ => {
            let known = format!("use one of: {}", own.join(", "));
            let cure = match words::meant(given, own) {
                Some(near) => format!("did you mean \"{near}\"? {known}"),
                None => known,
            };
            problems.error(field.span.clone(), format!("{} = \"{given}\" is unknown", field.key)).cure(cure)
        }
    };
    None
}
