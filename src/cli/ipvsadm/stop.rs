//! How the whole command ends before its time: what is said, and the exit status.

/// The process ends now, in the middle of a restored file too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    pub status: u8,
    /// On standard output, for what was asked for.
    pub answer: String,
    /// On standard error, for what went wrong.
    pub message: String,
}

/// The command line cannot be understood.
pub(super) const WRONG: u8 = 2;
/// The director refused: -1 in eight bits.
pub(super) const REFUSED: u8 = 255;
/// What was to be listed cannot be had.
pub(super) const NOT_LISTED: u8 = 1;

impl Stop {
    /// An end with this complaint.
    pub fn new(status: u8, message: impl std::fmt::Display) -> Self {
        Self { status, answer: String::new(), message: format!("{message}\n") }
    }

    /// The command line is wrong.
    pub fn wrong(message: impl std::fmt::Display) -> Self {
        Self::new(WRONG, message)
    }

    /// The command line begins with nothing known.
    pub fn try_help(program: &str) -> Self {
        Self::new(REFUSED, format!("Try `{program} -h' or '{program} --help' for more information."))
    }

    /// An end as asked for.
    pub fn answer(answer: String) -> Self {
        Self { status: 0, answer, message: String::new() }
    }
}
