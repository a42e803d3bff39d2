//! Bytes to meaning and back: parsing, flow keys, checksums, header edits, ICMP errors.
//!
//! Knows nothing of services, connections or sockets. Nothing here panics on any bytes: a frame that
//! cannot be understood is a [`parse::Reject`].

pub mod answer;
pub mod checksum;
pub mod edit;
pub mod encap;
pub mod flow;
pub mod fragment;
pub mod icmp;
pub mod insert;
pub mod ipv6;
pub mod mss;
pub mod parse;
pub mod pieces;
mod plain;
pub mod proxy;
pub mod reset;
pub mod room;
#[cfg(test)]
mod samples;
pub mod sctp;
pub mod segment;
pub mod toa;
pub mod translate;
pub mod tunnelled;
pub mod wrap;
