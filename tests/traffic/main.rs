//! Real traffic: real TCP and UDP clients and servers, the built `xvs` binary between them, all in
//! network namespaces. Needs root.
//!
//! Each test builds its own [`lab::Lab`], so tests run side by side; one that loads the machine or
//! measures time holds [`lab::alone`] while it runs.

mod answers;
mod choices;
mod client;
mod client_address;
mod control;
mod decapsulator;
mod devices;
mod doctor;
mod drain;
mod failover;
mod file;
mod fragments;
mod fullnat;
mod hostile;
mod how_tos;
mod itself;
mod lab;
mod lifecycle;
mod links;
mod load;
mod local;
mod local6;
mod long_frames;
mod marks;
mod mtu6;
mod mtu_tunnels;
mod nat64;
#[allow(dead_code, reason = "shared: no test binary uses all of it")]
#[path = "../common/netns.rs"]
mod netns;
mod next_hops;
mod offload;
mod offload_full;
mod offload_six;
mod passes;
mod path_mtu;
#[path = "../common/process.rs"]
mod process;
#[path = "../common/server.rs"]
mod real_server;
mod refusals;
mod reload;
mod server;
mod shown;
mod six;
mod switches;
mod told_across;
mod transfer;
mod tunnels;
mod udp;
mod unit_file;
#[path = "../common/wire.rs"]
mod wire;
mod xvs;
