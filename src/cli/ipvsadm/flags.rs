//! The three flags of a scheduler (`-b`), each with two names: a general one, and one of the scheduler's own.

use super::stop::Stop;

/// Own names: the scheduler, then what its flags are called.
const OWN: &[(&str, [&str; 2])] = &[("sh", ["sh-fallback", "sh-port"]), ("mh", ["mh-fallback", "mh-port"])];

const GENERAL: [&str; 3] = ["flag-1", "flag-2", "flag-3"];

/// Longest text that is looked at, in bytes.
const LONGEST: usize = 127;

/// Which flags are set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags([bool; 3]);

impl Flags {
    /// Reads names with commas between them.
    ///
    /// # Errors
    /// A name that is none, or another scheduler's.
    pub fn parse(scheduler: &str, text: &str) -> Result<Self, Stop> {
        let mut flags = Self::default();
        let end = text.floor_char_boundary(LONGEST);
        let mut names = text[..end].split(',').filter(|name| !name.is_empty()).peekable();
        if names.peek().is_none() {
            return Err(unknown(text));
        }
        for name in names {
            let (place, of) = find(name).ok_or_else(|| unknown(name))?;
            if of.is_some_and(|of| of != scheduler) {
                return Err(Stop::wrong(format!("incompatible scheduler flag `{name}'")));
            }
            flags.0[place] = true;
        }
        Ok(flags)
    }

    /// The flags of these names; unknown ones are left out.
    pub fn of(names: &[String]) -> Self {
        let mut flags = Self::default();
        names.iter().filter_map(|name| find(name)).for_each(|(place, _)| flags.0[place] = true);
        flags
    }

    /// Their names: this scheduler's own where there are such.
    pub fn names(self, scheduler: &str) -> Vec<String> {
        let own = own(scheduler);
        let name = |place: usize| own.and_then(|own| own.get(place)).copied().unwrap_or(GENERAL[place]);
        self.places().map(|place| name(place).to_owned()).collect()
    }

    /// As in a listing: a scheduler with own names shows no others, so that a flag may show as nothing.
    pub fn text(self, scheduler: &str) -> Option<String> {
        let names: Vec<&str> = match own(scheduler) {
            Some(own) => self.places().filter_map(|place| own.get(place).copied()).collect(),
            None => self.places().map(|place| GENERAL[place]).collect(),
        };
        (self != Self::default()).then(|| names.join(","))
    }

    fn places(self) -> impl Iterator<Item = usize> {
        (0..3).filter(move |&place| self.0[place])
    }
}

fn own(scheduler: &str) -> Option<&'static [&'static str; 2]> {
    OWN.iter().find(|(name, _)| *name == scheduler).map(|(_, own)| own)
}

/// Which flag this is, and the only scheduler that may be told so by this name.
fn find(name: &str) -> Option<(usize, Option<&'static str>)> {
    let own = OWN.iter().find_map(|(scheduler, names)| {
        names.iter().position(|own| *own == name).map(|place| (place, Some(*scheduler)))
    });
    own.or_else(|| GENERAL.iter().position(|general| *general == name).map(|place| (place, None)))
}

fn unknown(name: &str) -> Stop {
    Stop::wrong(format!("invalid scheduler flag `{name}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flag_has_two_names() {
        for (scheduler, text, names, shown) in [
            ("sh", "sh-port,,sh-fallback,", vec!["sh-fallback", "sh-port"], "sh-fallback,sh-port"),
            ("mh", "flag-2,flag-3", vec!["mh-port", "flag-3"], "mh-port"),
            ("sh", "flag-3", vec!["flag-3"], ""),
            ("rr", "flag-1,flag-1", vec!["flag-1"], "flag-1"),
        ] {
            let flags = Flags::parse(scheduler, text).unwrap();
            assert_eq!(flags.names(scheduler), names);
            assert_eq!(flags.text(scheduler).as_deref(), Some(shown));
            assert_eq!(Flags::of(&flags.names(scheduler)), flags);
        }
        assert_eq!(Flags::default().text("rr"), None);
    }

    #[test]
    fn what_is_no_flag_is_refused() {
        for (scheduler, text, message) in [
            ("rr", "sh-port", "incompatible scheduler flag `sh-port'\n"),
            ("sh", "sh-port,x", "invalid scheduler flag `x'\n"),
            ("sh", ",", "invalid scheduler flag `,'\n"),
        ] {
            assert_eq!(Flags::parse(scheduler, text).unwrap_err().message, message);
        }
    }
}
