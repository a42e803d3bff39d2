//! The virtual server itself, without I/O: frames, time and next hops come in as arguments.
//!
//! | file | owns |
//! | --- | --- |
//! | [`service`], [`switches`], [`name`], [`marks`], [`tunables`] | what the operator wants: plain values |
//! | [`services`], `terms` | what the workers know of it: the published snapshot |
//! | [`draft`], [`roster`] | how it is changed; the numbers of servers, removed ones included |
//! | [`time`] | what time it is, in milliseconds and ticks: handed in, never asked for |
//! | [`server`], [`stats`], [`drops`] | connections of each server, traffic, reasons |
//! | [`sched`] | which server takes a new connection |
//! | [`defence`], `drop_entry` | what is done against floods |
//! | [`conn`] | the connection table, states, timers |
//! | [`forward`] | rewrite recipes, next hops |
//! | [`local`] | local addresses of FULLNAT, and whose their ports are |
//! | [`pe`] | persistence engines: what besides its address tells a client's server |
//! | [`app`] | helpers of applications that announce connections in their text: FTP |
//! | [`offload`] | which connections go on without coming up here |
//! | [`client_address`] | how servers are told who a connection is from: PROXY headers, a TCP option |
//! | `aside` | numbered places for what few connections have, since slots are small |
//! | `fragments`, [`outbox`] | datagrams in fragments; frames made besides those lent |
//! | [`engine`] | one batch of frames to verdicts; `open` is how a connection begins, `ways` where servers are, `persistence` where a client's next ones go, `close` how they end, `gone` what becomes of them without their server, `refusal` what the sender of a dropped packet is told, `related` where ICMP errors go, `unwrapped` those about packets in tunnels, `tunnel` how they are wrapped and `wrapped` how nearly all are, `translated` how they get another IP version, `path_mtu` what is known of the ways there, `fragmented` the way of fragments, `split` of what is too long, `identifications` what its pieces have in common, `stray` what becomes of packets that belong to nothing, [`pass`] which of them the director's own kernel gets |
//!
//! Must not know: sockets, rings, netlink, files, clocks, configuration formats.

pub mod app;
mod aside;
pub mod client_address;
mod close;
pub mod conn;
pub mod defence;
pub mod draft;
mod drop_entry;
pub mod drops;
pub mod engine;
pub mod forward;
mod fragmented;
mod fragments;
mod gone;
mod identifications;
pub mod local;
pub mod marks;
pub mod name;
pub mod offload;
mod open;
pub mod outbox;
pub mod pass;
mod path_mtu;
pub mod pe;
mod persistence;
mod refusal;
mod related;
pub mod roster;
pub mod sched;
pub mod server;
pub mod service;
pub mod services;
mod split;
pub mod stats;
mod stray;
pub mod switches;
mod terms;
pub mod time;
mod translated;
pub mod tunables;
mod tunnel;
mod unwrapped;
mod ways;
mod wrapped;

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, Sender, bounded};

use self::app::Apps;
use self::conn::{SlotId, Table};
use self::defence::{Defence, Level, Room};
use self::draft::Draft;
use self::fragments::Fragments;
use self::local::Cursors;
use self::offload::Offload;
use self::pass::Pass;
use self::path_mtu::PathMtus;
use self::pe::Names;
use self::roster::Roster;
use self::server::{Counts, MAX_IDS, ServerId};
use self::services::Services;
use self::stats::{Stats, Traffic};

/// Timers that one worker may be told of before it looks, which is within 100 ms: 650,000 in a second. 1 MiB.
const MAILBOX: usize = 65_536;

/// How a director is made.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Connections there is room for.
    pub connections: u32,
    /// Workers, each with an engine of its own.
    pub workers: usize,
    /// Whether the whole table is put on huge pages.
    pub huge_pages: bool,
}

/// What all workers and the control plane share.
#[derive(Debug)]
pub struct Director {
    /// All connections.
    pub table: Table,
    /// What helpers of applications remember.
    pub apps: Apps,
    /// What persistence engines found.
    pub names: Names,
    /// Connections by server.
    pub counts: Counts,
    /// Counters of each worker, and, as the last ones, of who carries connections.
    pub stats: Box<[Stats]>,
    /// The published services.
    pub services: Arc<ArcSwap<Services>>,
    /// What is done against floods.
    pub defence: Defence,
    /// The way up to the kernel: none at first.
    pub pass: Pass,
    /// Datagrams that come in fragments.
    fragments: Fragments,
    /// Which local ports are next.
    cursors: Cursors,
    /// Of the ways to servers behind tunnels.
    path_mtus: PathMtus,
    /// Who carries connections, if anybody does.
    offload: Offload,
    /// To the owner of a timer that has to come up earlier.
    mail: Box<[Sender<SlotId>]>,
}

/// A worker's seat at the director: takes its mail.
#[derive(Debug)]
pub struct Seat {
    director: Arc<Director>,
    worker: u32,
    mail: Receiver<SlotId>,
}

impl Director {
    /// A director of this size, its table keyed with a random `secret`.
    ///
    /// # Errors
    /// The kernel's, when it cannot reserve the table's address space.
    pub fn new(size: Size, secret: (u64, u64), services: Services) -> io::Result<(Arc<Self>, Vec<Seat>)> {
        let Size { connections, workers, huge_pages } = size;
        let (mail, boxes): (Vec<_>, Vec<_>) = (0..workers).map(|_| bounded(MAILBOX)).unzip();
        let director = Arc::new(Self {
            table: Table::new(connections, workers, secret, huge_pages)?,
            apps: Apps::new(),
            names: Names::new(),
            counts: Counts::new(MAX_IDS),
            stats: (0..=workers).map(|_| Stats::new(MAX_IDS)).collect(),
            services: Arc::new(ArcSwap::from_pointee(services)),
            defence: Defence::default(),
            pass: Pass::default(),
            fragments: Fragments::default(),
            cursors: Cursors::default(),
            path_mtus: PathMtus::default(),
            offload: Offload::default(),
            mail: mail.into(),
        });
        let seat = |(worker, mail)| Seat { director: director.clone(), worker, mail };
        let seats = (0..).zip(boxes).map(seat).collect();
        Ok((director, seats))
    }

    /// Publishes a draft: workers see it from their next batch on. The roster after it comes back, and the services
    /// of before, which workers may still hold: keep them until nobody else does, so that none of the workers is
    /// the one that has to free them.
    pub fn publish(&self, draft: Draft) -> (Roster, Arc<Services>) {
        let Draft { mut services, mut roster, thresholds, .. } = draft;
        for (id, upper, lower) in thresholds {
            self.counts.set_thresholds(id, upper, lower);
        }
        let now = self.services.load_full();
        services.binding = now.binding.wrapping_add(u32::from(!services.binds_as(&now)));
        let binding = services.binding;
        let before = self.services.swap(Arc::new(services));
        self.offload.follow_services(binding);
        roster.published(self.table.stamp());
        self.defend();
        (roster, before)
    }

    /// Decides what is done against floods from now on, by the tunables and the room that is left. Call every second.
    pub fn defend(&self) {
        let services = self.services.load();
        let level = Level::of(&services.tunables, Room::of(&self.table));
        // As the kernel does: what follows the room begins anew each second.
        let anew = level.drops_packets() && services.tunables.drop_packet < 3;
        self.defence.set(level, anew);
    }

    /// Forgets removed servers: see [`Roster::forget`].
    pub fn forget_removed(&self, roster: &mut Roster, tick: u32, wanted: u32) -> Vec<ServerId> {
        roster.forget(tick, wanted, &self.counts, |stamp| self.table.passed(stamp))
    }

    /// How many workers there are.
    pub const fn workers(&self) -> usize {
        self.mail.len()
    }

    /// Counters of who carries connections.
    pub fn carried_stats(&self) -> &Stats {
        &self.stats[self.mail.len()]
    }

    /// Traffic of one server, over all workers.
    pub fn traffic(&self, id: ServerId) -> Traffic {
        self.stats.iter().map(|s| s.traffic(id)).sum()
    }

    /// Frames dropped for each reason that occurred, over all workers.
    pub fn drops(&self) -> Vec<(drops::DropReason, u64)> {
        let count = |&reason| (reason, self.stats.iter().map(|s| s.dropped(reason)).sum());
        drops::DropReason::ALL.iter().map(count).filter(|&(_, n)| n > 0).collect()
    }
}
