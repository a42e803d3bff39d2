//! Offload: connections that the steering program carries, between the director, which offers them, and the program's
//! maps. See [`director::offload`](crate::director::offload) for who decides what.
//!
//! ```text
//! workers ── offers, a bounded channel ──> one thread: flows into the program's map, a system call or two each
//! workers, timers ── end, seen: loads and stores in the tallies, which the program shares
//! control ── settle, and the thread itself every second ──> [`Book`]: what was counted goes to servers and connections
//! control ── services, network ──> numbers and next hops of the program
//! ```
//!
//! The packet path waits for nothing here: a full channel means that the connection is offered again at a later tick.
//!
//! | file | owns |
//! | --- | --- |
//! | here | the thread, and what the director asks of it |
//! | `book` | what is carried, place by place |
//! | `paces` | which connections give way when others want their places |
//! | `ways` | the network as the program is told it |

mod book;
mod paces;
mod ways;

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};

use self::book::Book;
pub use self::book::{Figures, flow_of};
pub use self::ways::Exit;
use self::ways::Network;
use super::clock::{Clock, time_of};
use crate::director::Director;
use crate::director::conn::Direction;
use crate::director::offload::{Carrier, Offer};
use crate::net::Snapshot;
use crate::xdp::steer::SteerError;
use crate::xdp::steer::offload::{CameUp, Offload as Maps, Tallies, Why, monotonic_ns};

/// Offers that may wait; more are made again later. 700 kB.
const OFFERS: usize = 4096;
/// Offers taken before others may have the book.
const TAKEN_AT_ONCE: usize = 64;
/// The thread's precedence, the highest that is not real-time: workers may be given one too, may share its core, and never
/// wait for work under load. It has little to do, and spares them more.
const NICE: i32 = -20;
/// How often the thread settles, and looks for flows that have ended, are idle, or have to give way.
const SETTLE_EVERY: Duration = Duration::from_secs(1);

/// What carries connections.
#[derive(Debug, Clone)]
pub struct Offload(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    director: Weak<Director>,
    tallies: Tallies,
    came_up: CameUp,
    book: Mutex<Book>,
    network: Mutex<Network>,
    offers: Sender<Offer>,
    /// There is no place for another connection: an offer would only wake the thread to be refused, and where there are
    /// many more connections than places nearly every packet that comes up would make one.
    is_full: AtomicBool,
    /// Offers turned away for that, since the thread last asked.
    turned_away: AtomicUsize,
    clock: TickClock,
}

/// The thread that takes offers.
#[derive(Debug)]
pub struct Carrying {
    offload: Offload,
    /// Dropped to end the thread.
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

/// From the program's clock to the workers'.
#[derive(Clone, Copy, Debug)]
struct TickClock {
    /// [`monotonic_ns`] when the workers' clock stood at zero.
    start_ns: u64,
}

impl TickClock {
    fn new(clock: Clock) -> Self {
        let reading = u64::try_from(clock.read().as_nanos()).unwrap_or(u64::MAX);
        Self { start_ns: monotonic_ns().saturating_sub(reading) }
    }

    fn tick(self, ns: u64) -> u32 {
        time_of(Duration::from_nanos(ns.saturating_sub(self.start_ns))).tick()
    }
}

/// The number of a connection's tally: it has one for each direction.
fn tally(place: u32, direction: Direction) -> u32 {
    2 * place + u32::from(direction == Direction::Out)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Offload {
    /// Lets the program whose `maps` these are carry connections of `director` from interfaces as they are in `exits`, by
    /// their port ids. Call before the workers start, and [`start`](Self::start) then.
    ///
    /// # Errors
    /// If an interface cannot be redirected to at all.
    pub fn new(
        director: &Arc<Director>,
        maps: Maps,
        exits: &[Exit],
        clock: Clock,
    ) -> Result<(Self, Receiver<Offer>), SteerError> {
        let Maps { flows, tallies, ways, came_up } = maps;
        let (offers, offered) = bounded(OFFERS);
        let offload = Self(Arc::new(Shared {
            director: Arc::downgrade(director),
            book: Mutex::new(Book::new(flows, tallies.len(), exits.len())),
            tallies,
            came_up,
            network: Mutex::new(Network::new(ways, exits)?),
            offers,
            is_full: AtomicBool::new(false),
            turned_away: AtomicUsize::new(0),
            clock: TickClock::new(clock),
        }));
        offload.follow_services(director.services.load().binding);
        director.offload().set(Box::new(offload.clone()));
        Ok((offload, offered))
    }

    /// Starts to take offers.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn start(self, offered: Receiver<Offer>) -> io::Result<Carrying> {
        let offload = self.clone();
        let (stop, stopped) = bounded(0);
        let work = move || {
            // Of this thread alone.
            if let Err(error) = rustix::process::setpriority_process(None, NICE) {
                tracing::info!(
                    "offload: its thread has no precedence over the workers (CAP_SYS_NICE): {error}"
                );
            }
            self.work(&offered, &stopped);
        };
        let thread = thread::Builder::new().name("xvs-offload".into()).spawn(work)?;
        Ok(Carrying { offload, stop, thread })
    }

    /// Lets flows go by this snapshot of the network from now on. Call before it is published, so that what changes is
    /// seen by the program no later than by the workers.
    pub fn follow_network(&self, snapshot: &Arc<Snapshot>) {
        self.follow(&mut lock(&self.0.network), Some(snapshot));
    }

    /// Lets flows leave by the interfaces that they may leave by at present.
    pub fn follow_exits(&self) {
        self.follow(&mut lock(&self.0.network), None);
    }

    fn follow(&self, network: &mut Network, snapshot: Option<&Arc<Snapshot>>) {
        if let Err(error) = network.follow(snapshot) {
            tracing::error!("offloaded connections may go by an old route until it changes again: {error}");
        }
    }

    /// Lets flows leave by the interface with this port id, or not, from when
    /// [`follow_exits`](Self::follow_exits) is called or the network changes. True if that is new.
    pub fn set_exit(&self, port: u16, may_leave: bool) -> bool {
        lock(&self.0.network).set_exit(port, may_leave)
    }

    /// What there was to carry, settled at most a second ago.
    pub fn figures(&self) -> Figures {
        lock(&self.0.book).figures()
    }

    /// Why packets of carried connections came up all the same; nothing if the kernel does not tell.
    pub fn came_up(&self) -> Vec<(Why, u64)> {
        self.0.came_up.counts().map(Vec::from).unwrap_or_default()
    }

    /// Lets every packet come up from now on.
    pub fn let_go(&self) {
        if let Err(error) = lock(&self.0.network).let_go() {
            tracing::error!("offloaded connections go on until the end: {error}");
        }
    }

    /// Takes offers until told to stop.
    fn work(&self, offered: &Receiver<Offer>, stopped: &Receiver<()>) {
        let mut settle = Instant::now() + SETTLE_EVERY;
        loop {
            select! {
                recv(offered) -> offer => match offer {
                    Ok(offer) => self.take(offer, offered),
                    Err(_) => return,
                },
                recv(stopped) -> _dropped => return,
                default(settle.saturating_duration_since(Instant::now())) => {}
            }
            if Instant::now() >= settle {
                self.settle();
                self.make_room();
                settle = Instant::now() + SETTLE_EVERY;
            }
        }
    }

    fn make_room(&self) {
        let Some(director) = self.0.director.upgrade() else { return };
        let mut book = lock(&self.0.book);
        book.count_refused(self.0.turned_away.swap(0, Relaxed));
        book.make_room(&director, &self.0.tallies);
        self.0.is_full.store(book.is_full(), Relaxed);
    }

    fn take(&self, first: Offer, others: &Receiver<Offer>) {
        let Some(director) = self.0.director.upgrade() else { return };
        // Never both at once: what changes in the network waits for no book-keeping.
        let network = lock(&self.0.network).latest();
        let mut book = lock(&self.0.book);
        for offer in std::iter::once(first).chain(others.try_iter().take(TAKEN_AT_ONCE)) {
            book.take(&offer, &director, &self.0.tallies, network.as_deref(), monotonic_ns());
        }
        self.0.is_full.store(book.is_full(), Relaxed);
    }
}

impl Carrier for Offload {
    fn offer(&self, offer: Offer) -> bool {
        if self.0.is_full.load(Relaxed) {
            self.0.turned_away.fetch_add(1, Relaxed);
            return false;
        }
        self.0.offers.try_send(offer).is_ok()
    }

    fn end(&self, place: u32) {
        for direction in [Direction::In, Direction::Out] {
            if let Some(tally) = self.0.tallies.get(tally(place, direction)) {
                tally.end();
            }
        }
    }

    fn seen(&self, place: u32) -> Option<u32> {
        book::seen_ns(&self.0.tallies, place).map(|ns| self.0.clock.tick(ns))
    }

    fn packets(&self, place: u32) -> u64 {
        self.0.tallies.get(tally(place, Direction::In)).map_or(0, |tally| tally.counted().0)
    }

    fn numbers(&self, place: u32) -> (u32, u32) {
        self.0.tallies.get(tally(place, Direction::In)).map_or((0, 0), |tally| tally.numbers())
    }

    fn follow_services(&self, services: u32) {
        if let Err(error) = lock(&self.0.network).follow_services(services) {
            tracing::error!("offloaded connections may go by old services until they change again: {error}");
        }
    }

    fn settle(&self) {
        let Some(director) = self.0.director.upgrade() else { return };
        lock(&self.0.book).settle(&director, &self.0.tallies, monotonic_ns());
    }
}

impl Carrying {
    /// What carries.
    pub const fn offload(&self) -> &Offload {
        &self.offload
    }

    /// Stops to take offers. What is carried is carried until the program is gone.
    pub fn stop(self) {
        let Self { stop, thread, .. } = self;
        drop(stop);
        if thread.join().is_err() {
            tracing::error!("the thread that offloads connections has panicked");
        }
    }

    /// Whether the thread has ended, by a panic or otherwise.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}
