//! xvs, the XDP Virtual Server: what Linux IPVS does, in user space, over AF_XDP.
//!
//! # The way of a packet
//!
//! ```text
//!  NIC queue ──> steering program (xdp) ──ours──> receive ring ─┐
//!                      │ not ours                               │ worker: one thread per queue index,
//!                      v                                        │         one UMEM, no locks
//!               the kernel's stack                              v
//!                                            engine (director): one batch at a time
//!                                             1 parse and hash all      (packet)
//!                                             2 find all connections    (director::conn)
//!                                             3 in order of arrival: schedule what is new
//!                                               (director::sched), step its state, apply its
//!                                               rewrite recipe          (director::forward)
//!  NIC queue <── transmit ring of any interface <───────────────┘
//! ```
//!
//! Two ways beside it: with `offload`, the steering program sends packets of established connections on by itself, and they
//! never come up; and what came up and is nobody's here goes to the kernel's stack after all, by the device `xvs-pass`.
//!
//! # The rooms, bottom up
//!
//! | room | owns | may use |
//! | --- | --- | --- |
//! | [`packet`] | bytes to meaning and back | nothing of ours |
//! | [`director`] | the virtual server itself, without I/O: frames and time are arguments | `packet` |
//! | [`xdp`] | UMEM, rings, the steering program and what it carries itself, the TAP device `xvs-pass`; the home of `unsafe` | nothing of ours |
//! | [`net`] | the host's links, routes, neighbours, queues, offloads and RSS; the rules by which local servers answer | nothing of ours |
//! | [`worker`] | the loop of one queue: receive, engine, transmit, recycle, expire | all of the above |
//! | [`control`] | desired state: configuration, what is published to the workers, reports | `packet`, `director`, `net` |
//! | [`cli`] | the commands; `run` puts all of the above together | everything |
//!
//! Nothing imports upwards; `tests/layering.rs` holds that. The planes meet in published snapshots
//! (down), counters (up) and mailboxes (rare questions): `control` never reaches into a worker.
//!
//! # Threads
//!
//! One worker per queue index, pinned to a core. Worker *i* owns queue *i* of every interface. One more
//! thread, the main one, listens to netlink and signals and publishes; it never touches a packet. With `offload`, a thread
//! `xvs-offload` tells the steering program of connections and settles what it counted.
//!
//! # Unsafe
//!
//! Denied, except in [`xdp`] (rings, UMEM, socket options) and in `director::conn::memory` (the
//! table's memory and prefetch). Every block says which invariant makes it sound.

pub mod cli;
pub mod control;
pub mod director;
pub mod net;
pub mod packet;
pub mod worker;
pub mod xdp;
