//! The mirror of the kernel's tables, as the rest of xvs handles it: start, watch, ask, stop.
//!
//! The work is done by a task of the control thread's runtime (`follow`). The sockets belong to the
//! network namespace of the thread that calls [`Mirror::start`].

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::error;

use super::error::NetError;
use super::follow::{Follower, Inbox};
use super::keep::Keeping;
use super::links::Link;
use super::netlink::Requests;
use super::snapshot::Snapshot;

/// Most interfaces a mirror can be started with.
pub const MAX_PORTS: usize = 64;

/// Questions of workers that may wait; more are dropped, and asked again by the next packet.
const MAX_ASKS: usize = 1024;

/// What a mirror needs to know.
#[derive(Clone, Debug)]
pub struct MirrorOptions {
    /// Names of the interfaces; a [`Hop`](super::Hop)'s port is the position in this list.
    pub interfaces: Vec<String>,
    /// Whether to let the kernel keep neighbours resolved, where it can. Otherwise they are probed.
    pub managed_neighbours: bool,
}

/// Counters of a mirror.
#[derive(Debug, Default)]
pub struct MirrorCounters {
    /// Snapshots published.
    pub published: AtomicU64,
    /// Notifications were lost and everything was read again.
    pub overruns: AtomicU64,
    /// Questions of workers dropped because too many were waiting.
    pub asks_dropped: AtomicU64,
    /// Next hops without a name because the table of names is full.
    pub hops_refused: AtomicU64,
    /// Requests that the kernel refused, or did not answer.
    pub requests_failed: AtomicU64,
}

/// Looks at a snapshot.
type Look = Box<dyn Fn(&Arc<Snapshot>) + Send + Sync>;

/// Who is shown each snapshot before it is published, if anybody is.
#[derive(Default)]
pub(crate) struct Watcher(OnceLock<Look>);

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watcher").field(&self.0.get().is_some()).finish()
    }
}

impl Watcher {
    pub(crate) fn show(&self, snapshot: &Arc<Snapshot>) {
        if let Some(look) = self.0.get() {
            look(snapshot);
        }
    }
}

/// A running mirror. Dropping it ends the task; [`stop`](Self::stop) waits for its end.
#[derive(Debug)]
pub struct Mirror {
    snapshots: Arc<ArcSwap<Snapshot>>,
    resolver: Resolver,
    watcher: Arc<Watcher>,
    watched: watch::Sender<Vec<IpAddr>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Asks the kernel, through the mirror, to resolve a neighbour. For any thread; never blocks.
#[derive(Clone, Debug)]
pub struct Resolver {
    asks: mpsc::Sender<IpAddr>,
    counters: Arc<MirrorCounters>,
}

impl Resolver {
    /// One whose questions nobody hears.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self { asks: mpsc::channel(1).0, counters: Arc::default() }
    }

    /// Has `address` (a client's, say), or its gateway, resolved, so that a later snapshot knows it.
    /// Returns whether the question was taken; if too many wait it is dropped and counted.
    pub fn try_ask(&self, address: IpAddr) -> bool {
        let taken = self.asks.try_send(address).is_ok();
        if !taken {
            self.counters.asks_dropped.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }
}

impl Mirror {
    /// Starts to follow the kernel's tables; when it returns there is a first, full snapshot. Call it
    /// within a tokio runtime with time and I/O enabled (current-thread will do).
    ///
    /// # Errors
    /// When an interface is missing, down, given twice or not Ethernet, or netlink does not work.
    pub async fn start(options: &MirrorOptions) -> Result<Self, NetError> {
        let requests = Requests::open()?;
        let ports = find_ports(&options.interfaces, &requests.links().await?)?;
        let keeping = if options.managed_neighbours { Keeping::Managed } else { Keeping::Probing };
        let (asks, asked) = mpsc::channel(MAX_ASKS);
        let (watched, watching) = watch::channel(Vec::new());
        let (stop, stopped) = oneshot::channel();
        let counters = Arc::<MirrorCounters>::default();
        let snapshots = Arc::new(ArcSwap::from_pointee(Snapshot::default()));
        let resolver = Resolver { asks, counters: Arc::clone(&counters) };
        let watcher = Arc::<Watcher>::default();
        let published = (Arc::clone(&snapshots), Arc::clone(&watcher));
        let follower =
            Follower::start(requests, ports, keeping, published, resolver.clone(), counters).await?;
        let task = tokio::spawn(follower.run(Inbox { asked, watching, stopped }));
        Ok(Self { snapshots, resolver, watcher, watched, stop, task })
    }

    /// Where the newest snapshot is found; load it once a batch.
    pub fn snapshots(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.snapshots)
    }

    /// Shows `look` the present snapshot, and each later one just before it is published: on the mirror's thread, which
    /// waits for it. For one, and once.
    pub fn show_to(&self, look: impl Fn(&Arc<Snapshot>) + Send + Sync + 'static) {
        look(&self.snapshots.load_full());
        let _only_one = self.watcher.0.set(Box::new(look));
    }

    /// A handle for the workers.
    pub fn resolver(&self) -> Resolver {
        self.resolver.clone()
    }

    /// The mirror's counters.
    pub fn counters(&self) -> Arc<MirrorCounters> {
        Arc::clone(&self.resolver.counters)
    }

    /// Replaces the set of addresses (the servers') whose next hops are kept resolved. Routes to them
    /// answer with a hop id from then on, even before they are resolved.
    pub fn watch(&self, addresses: Vec<IpAddr>) {
        self.watched.send_replace(addresses);
    }

    /// Whether the task has ended, by a panic or otherwise: the snapshot is not followed any more. Before
    /// [`stop`](Self::stop) that is always a fault.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Ends the task, after taking back the marks it put on neighbour entries.
    pub async fn stop(self) {
        let Self { stop, task, .. } = self;
        drop(stop);
        if let Err(error) = task.await {
            error!("the mirror of the kernel's tables ended badly: {error}");
        }
    }
}

/// The numbers of the interfaces, in their order, once all of them are fit for use.
fn find_ports(names: &[String], links: &[Link]) -> Result<Vec<u32>, NetError> {
    if names.len() > MAX_PORTS {
        return Err(NetError::TooMany { given: names.len(), limit: MAX_PORTS });
    }
    let mut ports = Vec::with_capacity(names.len());
    for name in names {
        let link = links.iter().find(|link| link.name == *name);
        let link = link.ok_or_else(|| NetError::NoSuchInterface(name.clone()))?;
        if !link.ethernet {
            return Err(NetError::NotEthernet(name.clone()));
        }
        if !link.up {
            return Err(NetError::InterfaceDown(name.clone()));
        }
        if ports.contains(&link.ifindex) {
            return Err(NetError::Duplicate(name.clone()));
        }
        ports.push(link.ifindex);
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_noticed() {
        let (die, died) = oneshot::channel::<()>();
        let mirror = Mirror {
            snapshots: Arc::default(),
            resolver: Resolver::for_tests(),
            watcher: Arc::default(),
            watched: watch::channel(Vec::new()).0,
            stop: oneshot::channel().0,
            task: tokio::spawn(async { died.await.expect("told to die") }),
        };
        tokio::task::yield_now().await;
        assert!(!mirror.is_finished());
        drop(die);
        tokio::time::timeout(std::time::Duration::from_secs(1), async {
            while !mirror.is_finished() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    }
}
