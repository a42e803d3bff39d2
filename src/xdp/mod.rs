//! AF_XDP: UMEM and owned frames, sockets and rings, the steering program and its maps; the TAP device back up.
//!
//! The only home of `unsafe` for I/O. Must not know what a service or a connection is: the steering
//! program is told keys, the rings carry frames.

pub mod error;
pub mod frame;
pub mod ledger;
pub mod open;
pub mod options;
pub mod socket;
pub mod sockopt;
pub mod steer;
pub mod tap;
pub mod umem;
