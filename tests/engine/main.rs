//! The director on a table: frames in, verdicts and frames out. Readable as its specification.
#![allow(missing_docs)]

mod answers;
mod hostile;
mod rewrite;
mod table;
mod timers;
