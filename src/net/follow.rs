//! The task that follows the kernel's tables and publishes snapshots of them.
//!
//! A neighbour's notification carries all there is to know and is taken as it comes. For links,
//! addresses, routes and rules a notification only says *look again*: Linux does not announce every
//! route that goes (those of a link that went down, for one), so the tables are read anew.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::{AsyncSocket, SocketAddr};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, sleep_until};
use tracing::{debug, error, info, warn};

use super::error::NetError;
use super::keep::{Keeper, Keeping, Request};
use super::mirror::{MirrorCounters, Resolver, Watcher};
use super::netlink::{Ask, Requests, is_default_rule, neighbour_change};
use super::pass;
use super::routes::concerns_network;
use super::rss;
use super::snapshot::Snapshot;
use super::tables::{Network, Tables};

/// After a change, how long to wait for the rest of its burst.
const COALESCE: Duration = Duration::from_millis(5);

/// The least time between two snapshots.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(20);

/// The time between two full readings, whatever the notifications say.
const RESYNC: Duration = Duration::from_secs(30);

/// The time between two looks at what must be kept resolved.
const KEEP: Duration = Duration::from_secs(1);

/// The wait between two readings, as a multiple of what the last one took: a full routing table in
/// motion must not occupy the thread.
const REST_FACTOR: u32 = 4;

/// The most that [`REST_FACTOR`] makes of it. A change waits for two readings and one rest at worst, so it is
/// seen within a second as long as a reading takes 250 ms or less: some 300,000 routes where 100,000 take 80 ms.
const REST_MAX: Duration = Duration::from_millis(500);

/// Failed readings in a row after which the sockets are opened anew.
const FAILURES_MAX: u32 = 3;

/// How long to wait before a lost socket is opened again, or a failed reading repeated.
const RETRY: Duration = Duration::from_millis(500);

/// Receive buffer of the notifications, in bytes: about a thousand of them.
const NOTIFICATION_BUFFER: usize = 1 << 20;

/// What comes to the task from elsewhere in xvs.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// Clients that workers want resolved.
    pub asked: mpsc::Receiver<IpAddr>,
    /// The addresses to keep resolved.
    pub watching: watch::Receiver<Vec<IpAddr>>,
    /// Sent or closed: end.
    pub stopped: oneshot::Receiver<()>,
}

/// What the task owns.
pub(crate) struct Follower {
    events: BoxStream<'static, Event>,
    requests: Requests,
    tables: Tables,
    keeper: Keeper,
    /// It is known whether the kernel keeps neighbours by itself.
    keeping_is_tried: bool,
    snapshots: Arc<ArcSwap<Snapshot>>,
    watcher: Arc<Watcher>,
    resolver: Resolver,
    counters: Arc<MirrorCounters>,
    /// There have been IPv4 rules besides those of the start.
    ipv4_rules_changed: bool,
    warned_of_rules: bool,
    /// Readings that failed, in a row.
    failures: u32,
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
    /// Hears of changes from now on, reads everything once and publishes the first snapshot.
    pub(crate) async fn start(
        requests: Requests,
        ports: Vec<u32>,
        keeping: Keeping,
        (snapshots, watcher): (Arc<ArcSwap<Snapshot>>, Arc<Watcher>),
        resolver: Resolver,
        counters: Arc<MirrorCounters>,
    ) -> Result<Self, NetError> {
        let keeping_is_tried = keeping == Keeping::Probing;
        if keeping_is_tried {
            info!("neighbours of servers and gateways are kept resolved by probing");
        }
        let mut follower = Self {
            events: notifications()?,
            requests,
            tables: Tables::new(ports),
            keeper: Keeper::new(keeping),
            keeping_is_tried,
            snapshots,
            watcher,
            resolver,
            counters,
            ipv4_rules_changed: false,
            warned_of_rules: false,
            failures: 0,
        };
        follower.read_network().await?;
        follower.read_neighbours().await?;
        follower.read_rss().await;
        follower.publish();
        follower.keep().await;
        Ok(follower)
    }

    /// Follows until told to stop, then takes back the marks on neighbour entries.
    pub(crate) async fn run(mut self, mut inbox: Inbox) {
        let mut resync = ticks(RESYNC);
        let mut keep = ticks(KEEP);
        let mut dirty = Dirty::default();
        let mut not_before = Instant::now();
        let mut due = not_before;
        loop {
            let was_clean = !dirty.any();
            tokio::select! {
                _ = &mut inbox.stopped => break,
                event = self.events.next() => match event {
                    Some((event, _)) => self.note(event, &mut dirty),
                    None => {
                        self.reopen().await;
                        (dirty.network, dirty.neighbours) = (true, true);
                    }
                },
                () = sleep_until(due), if dirty.any() => {
                    let started = Instant::now();
                    let failed = self.refresh(&mut dirty).await;
                    let took = started.elapsed();
                    let rest = if failed { RETRY } else { rest_after(took) };
                    not_before = Instant::now() + rest;
                    due = not_before;
                    continue;
                }
                Ok(()) = inbox.watching.changed() => {
                    let addresses = inbox.watching.borrow_and_update().clone();
                    self.keeper.watch(addresses);
                    dirty.tables = true;
                }
                Some(address) = inbox.asked.recv() => {
                    let requests = self.keeper.ask(address, &self.tables, Instant::now().into_std());
                    self.send(&requests).await;
                }
                _ = keep.tick() => self.keep().await,
                _ = resync.tick() => {
                    (dirty.network, dirty.neighbours) = (true, true);
                    self.read_rss().await;
                }
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
            NetlinkPayload::InnerMessage(message) => dirty.network |= concerns_network(&message),
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
        self.failures = if failed { self.failures + 1 } else { 0 };
        if self.failures == FAILURES_MAX {
            self.failures = 0;
            self.reopen().await;
            (dirty.network, dirty.neighbours) = (true, true);
        }
        failed
    }

    async fn read_network(&mut self) -> Result<(), NetError> {
        let links = self.requests.links().await?;
        let addresses = self.requests.addresses().await?;
        let routes = self.requests.routes().await?;
        let rules = self.requests.rules().await?.into_iter();
        let others: Vec<_> =
            rules.filter(|r| r.header.family == AddressFamily::Inet && !is_default_rule(r)).collect();
        self.ipv4_rules_changed |= !others.is_empty();
        if !self.warned_of_rules && !others.iter().all(pass::is_ours) {
            self.warned_of_rules = true;
            warn!("there are extra `ip rule`s: xvs does not follow policy routing, only main and default");
        }
        let ipv4_rules_changed = self.ipv4_rules_changed;
        self.tables.set_network(Network { links, addresses, routes, ipv4_rules_changed });
        Ok(())
    }

    async fn read_neighbours(&mut self) -> Result<(), NetError> {
        let neighbours = self.requests.neighbours().await?;
        self.tables.set_neighbours(neighbours);
        Ok(())
    }

    /// Where a card puts packets is set seldom (`ethtool -X`) and announced to nobody.
    async fn read_rss(&mut self) {
        let mut all = Vec::new();
        for name in self.tables.port_names() {
            let rss = match name {
                Some(name) => rss::of(&name).await.unwrap_or_else(|error| {
                    debug!("{error}");
                    None
                }),
                None => None,
            };
            all.push(rss);
        }
        self.tables.set_rss(all);
    }

    fn publish(&mut self) {
        self.keeper.name_watched(&mut self.tables);
        let snapshot = Snapshot { resolver: Some(self.resolver.clone()), ..self.tables.snapshot() };
        let snapshot = Arc::new(snapshot);
        self.watcher.show(&snapshot);
        self.snapshots.store(snapshot);
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
    async fn reopen(&mut self) {
        loop {
            error!("the netlink socket is lost, opening another one");
            match (Requests::open(), notifications()) {
                (Ok(requests), Ok(events)) => {
                    (self.requests, self.events) = (requests, events);
                    return;
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

/// How long to rest after a reading that took this long.
fn rest_after(took: Duration) -> Duration {
    (took * REST_FACTOR).min(REST_MAX).max(took).max(PUBLISH_INTERVAL)
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_within_a_second_while_a_reading_takes_a_quarter() {
        let ms = Duration::from_millis;
        assert_eq!(rest_after(ms(1)), PUBLISH_INTERVAL);
        assert_eq!(rest_after(ms(80)), ms(320));
        assert_eq!(rest_after(ms(250)) + 2 * ms(250), ms(1000));
        assert_eq!(rest_after(ms(2000)), ms(2000), "never more than half of the thread");
    }

    /// Reads the tables of the test's own namespace and changes nothing: there are no ports.
    #[tokio::test]
    async fn a_lost_request_socket_is_replaced_after_three_failed_readings() {
        let counters = Arc::<MirrorCounters>::default();
        let published = (Arc::new(ArcSwap::from_pointee(Snapshot::default())), Arc::default());
        let resolver = Resolver::for_tests();
        let requests = Requests::open().unwrap();
        let started = Follower::start(requests, Vec::new(), Keeping::Probing, published, resolver, counters);
        let mut follower = started.await.unwrap();
        follower.requests = Requests::lost();
        let mut dirty = Dirty { network: true, ..Dirty::default() };
        for reading in 1..=FAILURES_MAX {
            assert!(follower.refresh(&mut dirty).await, "reading {reading}");
        }
        assert!(dirty.network && dirty.neighbours);
        assert!(!follower.refresh(&mut dirty).await, "a new socket");
    }
}
