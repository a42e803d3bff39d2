//! The task that follows the kernel's tables and publishes snapshots of them.
//!
//! A neighbour's notification carries all there is to know and is taken as it comes. For links,
//! addresses, routes and rules a notification only says *look again*: Linux does not announce every
//! route that goes (those of a link that went down, for one), so the tables are read anew.
//! The sockets belong to the network namespace of the thread that calls [`Mirror::start`].

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::{AsyncSocket, SocketAddr};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, sleep_until};
use tracing::{debug, error, info, warn};

use super::error::NetError;
use super::keep::{Keeper, Keeping, Request};
use super::links::Link;
use super::netlink::{Ask, Requests, neighbour_change};
use super::snapshot::Snapshot;
use super::tables::{Network, Tables};

/// Most interfaces a mirror can be started with.
pub const MAX_PORTS: usize = 64;

/// Questions of workers that may wait; more are dropped, and asked again by the next packet.
const MAX_ASKS: usize = 1024;

/// After a change, how long to wait for the rest of its burst.
const COALESCE: Duration = Duration::from_millis(5);

/// The least time between two snapshots.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(20);

/// The time between two full readings, whatever the notifications say.
const RESYNC: Duration = Duration::from_secs(30);

/// The time between two looks at what must be kept resolved.
const KEEP: Duration = Duration::from_secs(1);

/// After reading the routes took this long, wait as many times longer before reading them again: a
/// full routing table in motion must not occupy the thread.
const REST_FACTOR: u32 = 3;

/// How long to wait before a lost socket is opened again, or a failed reading repeated.
const RETRY: Duration = Duration::from_millis(500);

/// Receive buffer of the notifications, in bytes: about a thousand of them.
const NOTIFICATION_BUFFER: usize = 1 << 20;

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

/// A running mirror. Dropping it ends the task; [`stop`](Self::stop) waits for its end.
#[derive(Debug)]
pub struct Mirror {
    snapshots: Arc<ArcSwap<Snapshot>>,
    resolver: Resolver,
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
        let events = notifications()?;
        let ports = find_ports(&options.interfaces, &requests.links().await?)?;
        let keeping = if options.managed_neighbours { Keeping::Managed } else { Keeping::Probing };
        let (asks, asked) = mpsc::channel(MAX_ASKS);
        let (watched, watching) = watch::channel(Vec::new());
        let (stop, stopped) = oneshot::channel();
        let counters = Arc::<MirrorCounters>::default();
        let snapshots = Arc::new(ArcSwap::from_pointee(Snapshot::default()));
        let mut follower = Follower {
            requests,
            tables: Tables::new(ports),
            keeper: Keeper::new(keeping),
            keeping_is_tried: !options.managed_neighbours,
            snapshots: Arc::clone(&snapshots),
            counters: Arc::clone(&counters),
            other_rules: false,
        };
        if !options.managed_neighbours {
            info!("neighbours of servers and gateways are kept resolved by probing");
        }
        follower.read_network().await?;
        follower.read_neighbours().await?;
        follower.publish();
        let task = tokio::spawn(follower.run(events, asked, watching, stopped));
        Ok(Self { snapshots, resolver: Resolver { asks, counters }, watched, stop, task })
    }

    /// Where the newest snapshot is found; load it once a batch.
    pub fn snapshots(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.snapshots)
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

    /// Ends the task, after taking back the marks it put on neighbour entries.
    pub async fn stop(self) {
        let Self { stop, task, .. } = self;
        drop(stop);
        if let Err(error) = task.await {
            error!("the mirror of the kernel's tables ended badly: {error}");
        }
    }
}

/// What the task owns.
struct Follower {
    requests: Requests,
    tables: Tables,
    keeper: Keeper,
    /// It is known whether the kernel keeps neighbours by itself.
    keeping_is_tried: bool,
    snapshots: Arc<ArcSwap<Snapshot>>,
    counters: Arc<MirrorCounters>,
    other_rules: bool,
}

/// What has changed since the last snapshot.
#[derive(Debug, Default)]
struct Dirty {
    /// Links, addresses, routes or rules must be read again.
    network: bool,
    /// All neighbours must be read again.
    neighbours: bool,
    /// The tables are newer than the snapshot.
    tables: bool,
}

impl Dirty {
    fn any(&self) -> bool {
        self.network || self.neighbours || self.tables
    }
}

type Event = (NetlinkMessage<RouteNetlinkMessage>, SocketAddr);

impl Follower {
    async fn run(
        mut self,
        mut events: BoxStream<'static, Event>,
        mut asked: mpsc::Receiver<IpAddr>,
        mut watching: watch::Receiver<Vec<IpAddr>>,
        mut stopped: oneshot::Receiver<()>,
    ) {
        let mut resync = ticks(RESYNC);
        let mut keep = ticks(KEEP);
        let mut dirty = Dirty::default();
        let mut not_before = Instant::now();
        let mut due = not_before;
        loop {
            let was_clean = !dirty.any();
            tokio::select! {
                _ = &mut stopped => break,
                event = events.next() => match event {
                    Some((event, _)) => self.note(event, &mut dirty),
                    None => {
                        events = self.reopen().await;
                        (dirty.network, dirty.neighbours) = (true, true);
                    }
                },
                () = sleep_until(due), if dirty.any() => {
                    let started = Instant::now();
                    let failed = self.refresh(&mut dirty).await;
                    let took = started.elapsed();
                    let rest = if failed { RETRY } else { (took * REST_FACTOR).max(PUBLISH_INTERVAL) };
                    not_before = Instant::now() + rest;
                    due = not_before;
                    continue;
                }
                Ok(()) = watching.changed() => {
                    let addresses = watching.borrow_and_update().clone();
                    self.keeper.watch(addresses);
                    dirty.tables = true;
                }
                Some(address) = asked.recv() => {
                    let requests = self.keeper.ask(address, &self.tables, Instant::now().into_std());
                    self.send(&requests).await;
                }
                _ = keep.tick() => self.keep().await,
                _ = resync.tick() => (dirty.network, dirty.neighbours) = (true, true),
            }
            if was_clean && dirty.any() {
                due = not_before.max(Instant::now() + COALESCE);
            }
        }
        let marks = self.keeper.release();
        self.send(&marks).await;
    }

    /// Takes one notification.
    fn note(&mut self, event: NetlinkMessage<RouteNetlinkMessage>, dirty: &mut Dirty) {
        match event.payload {
            NetlinkPayload::Overrun(_) => {
                self.counters.overruns.fetch_add(1, Ordering::Relaxed);
                (dirty.network, dirty.neighbours) = (true, true);
            }
            NetlinkPayload::InnerMessage(
                message @ (RouteNetlinkMessage::NewNeighbour(_) | RouteNetlinkMessage::DelNeighbour(_)),
            ) => {
                if let Some(change) = neighbour_change(message) {
                    dirty.tables |= self.tables.set_neighbour(change);
                }
            }
            NetlinkPayload::InnerMessage(_) => dirty.network = true,
            _ => {}
        }
    }

    /// Reads what is dirty, publishes, and sees to what must be kept. Returns whether a reading failed;
    /// the old state stays then, and stays dirty.
    async fn refresh(&mut self, dirty: &mut Dirty) -> bool {
        let mut failed = false;
        if std::mem::take(&mut dirty.network)
            && let Err(error) = self.read_network().await
        {
            warn!("cannot read the kernel's routes, will try again: {error}");
            (dirty.network, failed) = (true, true);
        }
        if std::mem::take(&mut dirty.neighbours)
            && let Err(error) = self.read_neighbours().await
        {
            warn!("cannot read the kernel's neighbours, will try again: {error}");
            (dirty.neighbours, failed) = (true, true);
        }
        dirty.tables = false;
        self.publish();
        self.keep().await;
        failed
    }

    async fn read_network(&mut self) -> Result<(), NetError> {
        let links = self.requests.links().await?;
        let addresses = self.requests.addresses().await?;
        let routes = self.requests.routes().await?;
        if self.requests.has_other_rules().await? && !self.other_rules {
            self.other_rules = true;
            warn!("there are extra `ip rule`s: xvs does not follow policy routing, only main and default");
        }
        let ipv4_rules_changed = self.other_rules;
        self.tables.set_network(Network { links, addresses, routes, ipv4_rules_changed });
        Ok(())
    }

    async fn read_neighbours(&mut self) -> Result<(), NetError> {
        let neighbours = self.requests.neighbours().await?;
        self.tables.set_neighbours(neighbours);
        Ok(())
    }

    fn publish(&mut self) {
        self.keeper.name_watched(&mut self.tables);
        self.snapshots.store(Arc::new(self.tables.snapshot()));
        self.counters.published.fetch_add(1, Ordering::Relaxed);
        self.counters.hops_refused.store(self.tables.hops_refused(), Ordering::Relaxed);
    }

    async fn keep(&mut self) {
        let requests = self.keeper.plan(&self.tables, Instant::now().into_std());
        self.send(&requests).await;
    }

    async fn send(&mut self, requests: &[Request]) {
        for request in requests {
            let answer = self.requests.ask(request.key, request.ask).await;
            if request.ask == Ask::Manage && !self.keeping_is_tried {
                self.learn_keeping(request, answer).await;
            } else if let Err(error) = answer {
                self.counters.requests_failed.fetch_add(1, Ordering::Relaxed);
                debug!("neighbour {} on interface {}: {error}", request.key.1, request.key.0);
            }
        }
    }

    /// After the first request to keep a neighbour: a kernel that does not know the mark refuses it,
    /// or ignores it, which shows in the entry.
    async fn learn_keeping(&mut self, request: &Request, answer: Result<(), NetError>) {
        let managed = match answer {
            Ok(()) => self.requests.neighbour(request.key).await.ok().flatten().map(|entry| entry.managed),
            Err(NetError::Refused { errno: libc::EINVAL | libc::EOPNOTSUPP, .. }) => Some(false),
            Err(_) => None,
        };
        match managed {
            Some(true) => {
                info!("neighbours of servers and gateways are kept resolved by the kernel (NTF_EXT_MANAGED)");
            }
            Some(false) => {
                info!("this kernel has no NTF_EXT_MANAGED: neighbours of servers and gateways are probed");
                self.keeper.keeping = Keeping::Probing;
            }
            None => return,
        }
        self.keeping_is_tried = true;
    }

    /// New sockets after the old ones were lost.
    async fn reopen(&mut self) -> BoxStream<'static, Event> {
        loop {
            error!("the netlink socket is lost, opening another one");
            match (Requests::open(), notifications()) {
                (Ok(requests), Ok(events)) => {
                    self.requests = requests;
                    return events;
                }
                (Err(error), _) | (_, Err(error)) => error!("{error}"),
            }
            sleep(RETRY).await;
        }
    }
}

/// Opens a socket that hears of every change; see [`Requests`] for what else there is to ask.
fn notifications() -> Result<BoxStream<'static, Event>, NetError> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Neigh,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
        MulticastGroup::Ipv4Rule,
    ];
    let (mut connection, _, events) = rtnetlink::new_multicast_connection(&groups)?;
    connection.socket_mut().socket_mut().set_rx_buf_sz(NOTIFICATION_BUFFER)?;
    tokio::spawn(connection);
    Ok(events.boxed())
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

fn ticks(period: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
