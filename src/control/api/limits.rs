//! Every bound of the API, with its reason. No client can make xvs hold more or wait longer than this says.

use std::time::Duration;

/// Connections of clients at once: an operator, a few scripts and a dashboard need ten. More wait in the kernel's
/// backlog, and the clients that keep xvs waiting longest lose their places to them.
pub const MAX_CONNECTIONS: usize = 256;

/// Clients that may wait in the kernel's backlog: the thousands of `ipvsadm` that a script starts at once.
pub const BACKLOG: i32 = 4096;

/// How long a client may keep xvs waiting before its place can be given to another. Programs on the same host write
/// their request within microseconds of connecting.
pub const PATIENCE: Duration = Duration::from_millis(50);

/// The same for a client that is amid sending a request or taking an answer.
pub const PATIENCE_AMID: Duration = Duration::from_millis(500);

/// Bytes of a request's body. Ten thousand commands with every field take 3.5 MiB.
pub const MAX_BODY_BYTES: usize = 4 << 20;

/// Commands in one request: the largest restore that is promised.
pub const MAX_COMMANDS: usize = 10_000;

/// Bytes of requests and answers that are held for all clients together, on their way in or out: sixteen of the
/// largest requests.
pub const MAX_HELD_BYTES: usize = 64 << 20;

/// Bytes of a request or an answer that there is always room for: all clients together need 16 MiB for these.
pub const SMALL_BYTES: usize = 64 << 10;

/// Bytes of a request's head: the longest name of a service and a token take 1 KiB.
pub const MAX_HEAD_BYTES: usize = 16 << 10;

/// Headers of a request: browsers send about twenty.
pub const MAX_HEADERS: usize = 64;

/// From the first byte of a request to the end of its head.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// From the end of a request's head to the end of its body.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two requests of a connection: who asks every few seconds keeps it.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of an answer that count as progress when others wait for the seat. As long as nobody does, somebody who
/// pages through a listing may stop for as long as they like.
pub const ANSWER_STEP: usize = 64 << 10;

/// Slots of the connection table that are looked at before others get their turn: about a millisecond.
pub const SLOTS_AT_ONCE: usize = 1024;

/// Bytes that a stream has on their way at a time: its piece, and what is being written.
pub const STREAM_BYTES: usize = 1 << 20;

/// Connections of one page: 2 MiB of JSON.
pub const MAX_PAGE: usize = 10_000;

/// Connections of one page if the client does not say.
pub const DEFAULT_PAGE: usize = 1000;

/// How often it is looked whether clients keep within the timeouts.
pub const LOOK: Duration = Duration::from_millis(250);

/// How long answers may take to be finished when xvs ends.
pub const LINGER: Duration = Duration::from_secs(1);
