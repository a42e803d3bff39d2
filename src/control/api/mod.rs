//! The API: HTTP and JSON on a Unix socket, and over TCP only if configured.
//!
//! | file | owns |
//! | --- | --- |
//! | [`settings`], [`limits`] | how it is reached; what no client can exceed |
//! | `listener`, `holder` | the socket, held by one process at a time, and who that is |
//! | `serve` | clients' connections from accept to close |
//! | `seats`, `watched` | how many there are, how long each may keep xvs waiting, who goes first |
//! | `request` | one whole request within the limits, and its answer |
//! | `router`, `document` | all paths; the OpenAPI document made from them |
//! | `services`, `servers`, `commands`, `connections`, `director`, `tuning` | the handlers |
//! | `json`, `error` | what comes in and goes out |
//! | [`plane`] | what is asked of the control plane |
//!
//! Everything runs on the control thread: handlers answer at once from the control plane, which they lock for a moment.
//! Must not know: how commands are performed, and what the workers do.

mod commands;
mod connections;
mod director;
mod document;
mod error;
mod holder;
mod json;
pub mod limits;
mod listener;
pub mod plane;
mod request;
mod router;
mod seats;
mod serve;
mod servers;
mod services;
pub mod settings;
mod tuning;
mod watched;

pub use commands::{Batch, Mode, Results};
pub use connections::NDJSON;
pub use director::Reloaded;
pub use error::{ErrorBody, ErrorView};
pub use holder::Holder;
pub use listener::{BindError, Listener};
pub use plane::{Plane, Shared};
pub use router::document;
pub use serve::serve;
pub use settings::{Settings, Token};
