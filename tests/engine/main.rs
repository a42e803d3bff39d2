//! The director on a table: frames in, verdicts and frames out. Readable as its specification.
#![allow(missing_docs)]

mod answers;
mod fragments;
mod hostile;
mod leaving;
mod listing;
mod lookup;
mod one_packet;
mod persistence;
mod reuse;
mod rewrite;
mod table;
mod timers;
mod tunnels;
