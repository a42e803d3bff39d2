//! The director on a table: frames in, verdicts and frames out. Readable as its specification.
#![allow(missing_docs)]

mod answers;
pub(crate) mod client_address;
mod defence;
mod forged;
mod fragments;
mod fragments6;
mod ftp;
mod fullnat;
pub(crate) mod golden;
mod golden_grid;
mod hostile;
mod icmp;
mod icmp6;
mod ipsec;
mod ipv6;
mod leaving;
mod listing;
mod lookup;
mod mss;
mod nat64;
mod one_packet;
mod persistence;
mod reuse;
mod rewrite;
mod sctp;
mod sip;
mod streams;
mod switches;
pub(crate) mod table;
mod timers;
mod tunnel_errors;
mod tunnels;
mod up;
mod vlans;
