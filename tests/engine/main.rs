//! The director on a table: frames in, verdicts and frames out. Readable as its specification.
#![allow(missing_docs)]

mod answers;
mod ftp;
mod hostile;
mod leaving;
mod listing;
mod lookup;
mod one_packet;
mod persistence;
mod reuse;
mod rewrite;
mod sip;
mod table;
mod timers;
