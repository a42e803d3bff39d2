//! Choices against the kernel's: sequences recorded from IPVS (Linux 6.12), and slow oracles.

use std::net::SocketAddr;

use super::{Change, Expiration, Kind, Options, Ramp, Request, Schedule, Scheduler};
use crate::director::conn::state::{State, Status};
use crate::director::server::{Counts, Destination, ServerId};
use crate::director::service::{Method, Server};
use crate::packet::flow::FlowKey;

/// A service that is changed and asked as an operator would: servers are numbers, 1 is 10.1.0.11 and so on.
pub(crate) struct Pool {
    scheduler: Scheduler,
    list: Vec<Destination>,
    pub(crate) counts: Counts,
    ramp: Option<Ramp>,
}

impl Pool {
    fn new(kind: Kind, options: Options) -> Self {
        Self {
            scheduler: Scheduler::new(kind, options),
            list: Vec::new(),
            counts: Counts::new(256),
            ramp: None,
        }
    }

    /// With servers added in this order.
    pub(crate) fn with(kind: Kind, options: Options, servers: &[(u32, u32)]) -> Self {
        let mut pool = Self::new(kind, options);
        servers.iter().for_each(|&(server, weight)| pool.add(server, weight));
        pool
    }

    fn change(&mut self, change: Change) {
        self.scheduler = self.scheduler.changed(change, &self.list);
    }

    pub(crate) fn add(&mut self, server: u32, weight: u32) {
        let address = SocketAddr::from(([10, 1, 0, u8::try_from(10 + server).unwrap()], 80));
        let method = Method::Nat;
        let new = Server { weight, ..Server::new(address, method) };
        self.list.insert(0, Destination::new(ServerId(server), &new));
        self.change(Change::Added);
    }

    fn index(&self, server: u32) -> usize {
        self.list.iter().position(|d| d.id.0 == server).unwrap()
    }

    fn edit(&mut self, server: u32, weight: u32) {
        let index = self.index(server);
        let edited = Server { weight, ..self.list[index].server() };
        self.list[index] = self.list[index].edited(&edited, 0);
        self.change(Change::Updated);
    }

    fn delete(&mut self, server: u32) {
        let index = self.index(server);
        self.list.remove(index);
        self.change(Change::Removed(index));
    }

    /// As `ipvsadm -E -s`.
    fn switch(&mut self, kind: Kind, options: Options) {
        self.scheduler = self.scheduler.edited(kind, options, &self.list);
    }

    pub(crate) fn pick_for(&self, client: &str) -> Option<u32> {
        self.pick_at(client, 0)
    }

    fn pick_at(&self, client: &str, tick: u32) -> Option<u32> {
        let flow = FlowKey::new(6, client.parse().unwrap(), "10.0.0.100:80".parse().unwrap());
        let request = Request { flow: &flow, tick, ramp: self.ramp };
        self.scheduler.pick(&self.list, &self.counts, &request).map(|i| self.list[i].id.0)
    }

    fn pick(&self) -> Option<u32> {
        self.pick_for("10.0.1.1:4711")
    }

    /// The servers of the next `n` connections, as digits; `-` for none.
    fn next(&self, n: usize) -> String {
        (0..n).map(|_| digit(self.pick())).collect()
    }

    /// The servers of as many clients, 10.0.1.1 and on.
    fn clients(&self, n: u8) -> String {
        (1..=n).map(|c| digit(self.pick_for(&format!("10.0.1.{c}:4711")))).collect()
    }

    /// The servers of the next `n` connections, which stay open.
    fn open(&self, n: usize) -> String {
        let one = |_| {
            let server = self.pick();
            if let Some(server) = server {
                self.counts.opened(ServerId(server), ACTIVE);
            }
            digit(server)
        };
        (0..n).map(one).collect()
    }

    /// A connection becomes inactive.
    fn close(&self, server: u32) {
        self.counts.changed(ServerId(server), ACTIVE, INACTIVE);
    }

    fn thresholds(&self, server: u32, upper: u32, lower: u32) {
        self.counts.set_thresholds(ServerId(server), upper, lower);
    }
}

fn digit(server: Option<u32>) -> String {
    server.map_or_else(|| "-".to_owned(), |s| s.to_string())
}

const PLAIN: Options = Options { fallback: false, port: false, third: false };
const FALLBACK: Options = Options { fallback: true, ..PLAIN };
const PORT: Options = Options { port: true, ..PLAIN };
const BOTH: Options = Options { fallback: true, port: true, third: false };

#[test]
fn rr_and_wrr_through_the_recorded_history_of_changes() {
    let mut pool = Pool::with(Kind::Rr, PLAIN, &[(1, 1), (2, 1)]);
    assert_eq!(pool.next(5), "21212");
    pool.add(3, 1);
    assert_eq!(pool.next(7), "1321321");
    pool.delete(2);
    assert_eq!(pool.next(4), "3131");
    pool.edit(3, 0);
    assert_eq!(pool.next(3), "111");
    pool.add(2, 3);
    pool.edit(3, 2);
    pool.switch(Kind::Wrr, PLAIN);
    assert_eq!(pool.next(14), "22323122323122");
    pool.edit(1, 4);
    assert_eq!(pool.next(13), "2312311212312");
    pool.edit(2, 0);
    assert_eq!(pool.next(8), "31131131");
}

#[test]
fn wrr_interleaves_as_the_kernel_does() {
    let pool = Pool::with(Kind::Wrr, PLAIN, &[(1, 4), (2, 3), (3, 2)]);
    assert_eq!(pool.next(18), "321121321321121321");
    let pool = Pool::with(Kind::Wrr, PLAIN, &[(1, 2), (2, 4)]);
    assert_eq!(pool.next(6), "212212");
    let pool = Pool::with(Kind::Wrr, PLAIN, &[(1, 6), (2, 4), (3, 2)]);
    assert_eq!(pool.next(12), "321121321121");
}

/// A walk waits while shares grow, and goes on where it was.
#[test]
fn wrr_is_the_kernels_again_when_nobody_starts_slowly_any_more() {
    let mut pool = Pool::with(Kind::Wrr, PLAIN, &[(1, 4), (2, 3), (3, 2)]);
    assert_eq!(pool.next(4), "3211");
    pool.ramp = Some(Ramp { tick: 5, ticks: 10 });
    pool.next(7);
    pool.ramp = None;
    assert_eq!(pool.next(14), "21321321121321");
}

/// Full servers and a walk that gave up: it starts over at the head and the top.
#[test]
fn wrr_around_full_servers() {
    let pool = Pool::with(Kind::Wrr, PLAIN, &[(1, 3), (2, 2), (3, 1)]);
    [(1, 2), (2, 1), (3, 1)].iter().for_each(|&(server, n)| pool.thresholds(server, n, n));
    assert_eq!(pool.open(5), "3211-");
    [3, 2, 1, 1].iter().for_each(|&server| pool.counts.closed(ServerId(server), ACTIVE));
    assert_eq!(pool.open(4), "1213");
}

#[test]
fn the_hashing_schedulers_give_the_recorded_clients_the_recorded_servers() {
    let mut pool = Pool::with(Kind::Sh, PLAIN, &[(1, 1), (2, 2), (3, 3)]);
    assert_eq!(pool.clients(24), "321213133331323233232121");
    pool.edit(2, 0);
    assert_eq!(pool.clients(24), "331313131313-3-333-33333");
    pool.switch(Kind::Sh, FALLBACK);
    assert_eq!(pool.clients(24), "331313131313333333333333");
    pool.switch(Kind::Dh, PLAIN);
    assert_eq!(pool.clients(4), "1111");
    pool.switch(Kind::Mh, PLAIN);
    pool.edit(2, 2);
    assert_eq!(pool.clients(40), "3313333221133133321222312132313223123123");
    pool.delete(3);
    assert_eq!(pool.clients(40), "1211121221111122121222112122111221122122");
    pool.add(4, 1);
    assert_eq!(pool.clients(40), "4214144221111422121222112122411221122122");
    pool.edit(1, 0);
    assert_eq!(pool.clients(16), "42-4-4422----422");
    pool.switch(Kind::Mh, FALLBACK);
    assert_eq!(pool.clients(40), "4244244224244422424222222222444222222222");
    pool.switch(Kind::Mh, BOTH);
    let by_port = |pool: &Pool, ports: &[u16]| -> String {
        ports.iter().map(|port| digit(pool.pick_for(&format!("10.0.1.1:{port}")))).collect()
    };
    assert_eq!(by_port(&pool, &[20001, 20002, 20003, 20004]), "2224");
    pool.switch(Kind::Sh, PORT);
    assert_eq!(by_port(&pool, &[20005, 20006, 20007]), "-42");
}

/// The last weight that was not 0 belongs to the server, whichever scheduler it had then.
#[test]
fn mh_keeps_the_slots_of_a_server_that_was_quiesced_before_it_came() {
    let mut pool = Pool::with(Kind::Rr, PLAIN, &[(1, 1), (2, 3)]);
    pool.edit(2, 0);
    pool.switch(Kind::Mh, PLAIN);
    assert_eq!(pool.clients(12), "1-1------11-");
    pool.delete(2);
    pool.add(2, 0);
    assert_eq!(pool.clients(12), "111111111111");
}

#[test]
fn lblc_and_lblcr_through_the_recorded_connections() {
    let mut pool = Pool::with(Kind::Lblc, PLAIN, &[(1, 1), (2, 4), (3, 4)]);
    assert_eq!(pool.open(7), "3333322");
    pool.switch(Kind::Lblcr, PLAIN);
    assert_eq!(pool.open(3), "111");
}

/// A full server keeps what lblc gave it; lblcr passes over it; both over one that is gone.
#[test]
fn lblc_and_lblcr_around_full_servers() {
    let mut pool = Pool::with(Kind::Lblcr, PLAIN, &[(1, 2), (2, 2), (3, 8)]);
    pool.thresholds(1, 2, 1);
    pool.thresholds(2, 3, 1);
    assert_eq!(pool.open(2), "33");
    pool.delete(3);
    assert_eq!(pool.open(6), "22211-");
    // It comes back as it was.
    pool.add(3, 8);
    assert_eq!(pool.open(2), "33");
    let pool = Pool::with(Kind::Lblc, PLAIN, &[(1, 9), (2, 9)]);
    pool.thresholds(1, 2, 0);
    pool.thresholds(2, 2, 0);
    assert_eq!(pool.open(4), "2222");
}

/// The set is of servers 1 and 2, the newest member first; the first of equals leaves, a tick after the time is up.
#[test]
fn a_set_that_stays_as_it_is_loses_a_server_of_lblcr() {
    let pool = Pool::with(Kind::Lblcr, PLAIN, &[(1, 1), (2, 1)]);
    let expiration = Expiration { lblcr_s: 100, ..Expiration::default() };
    pool.scheduler.tend(0, &expiration);
    assert_eq!(pool.open(3), "221");
    [2, 2, 1].iter().for_each(|&server| pool.counts.closed(ServerId(server), ACTIVE));
    let at = |tick| digit(pool.pick_at("10.0.1.1:4711", tick));
    assert_eq!([400, 400, 401, 401].map(at).concat(), "1112");
}

/// A name that another server gets later brings no destinations with it. `tend` and `forget` keep the books too.
#[test]
fn a_forgotten_server_is_in_no_cache() {
    for kind in [Kind::Lblc, Kind::Lblcr] {
        let mut pool = Pool::with(kind, PLAIN, &[(1, 1), (2, 1)]);
        assert_eq!(pool.next(1), "2");
        pool.delete(2);
        pool.scheduler.forget(ServerId(2));
        pool.counts.opened(ServerId(1), INACTIVE);
        pool.add(3, 1);
        pool.counts.opened(ServerId(3), ACTIVE);
        pool.add(2, 1);
        pool.counts.opened(ServerId(2), ACTIVE);
        assert_eq!(pool.next(1), "1", "{kind:?}");
    }
}

#[test]
fn fo_and_ovf_through_the_recorded_connections() {
    let mut pool = Pool::with(Kind::Fo, PLAIN, &[(1, 10), (2, 20), (3, 20)]);
    assert_eq!(pool.next(4), "3333");
    pool.edit(3, 0);
    assert_eq!(pool.next(2), "22");
    pool.edit(2, 0);
    assert_eq!(pool.next(2), "11");
    let pool = Pool::with(Kind::Ovf, PLAIN, &[(1, 2), (2, 1)]);
    assert_eq!(pool.open(6), "11122-");
    pool.close(1);
    assert_eq!(pool.open(1), "1");
}

#[test]
fn without_a_usable_server_there_is_no_choice() {
    for &kind in Kind::ALL {
        let mut pool = Pool::new(kind, PLAIN);
        assert_eq!(pool.pick(), None, "{kind:?} without servers");
        pool.add(1, 0);
        pool.add(2, 0);
        assert_eq!(pool.pick(), None, "{kind:?} with weights of 0");
        pool.switch(kind, BOTH);
        assert_eq!(pool.pick(), None, "{kind:?} with fallback");
        pool.edit(1, 1);
        pool.thresholds(1, 1, 0);
        pool.counts.opened(ServerId(1), ACTIVE);
        assert_eq!(pool.pick(), None, "{kind:?} with a full server");
    }
}

#[test]
fn one_usable_server_is_always_found() {
    for &kind in Kind::ALL.iter().filter(|&&kind| !matches!(kind, Kind::None | Kind::Dh)) {
        let mut pool = Pool::with(kind, FALLBACK, &[(1, 5), (2, 3), (3, 7)]);
        assert!(pool.pick().is_some());
        pool.edit(1, 0);
        pool.thresholds(3, 1, 0);
        pool.counts.opened(ServerId(3), INACTIVE);
        // What lblc remembers it keeps, full or not: of nobody it knows better.
        let keeps = kind == Kind::Lblc;
        assert_eq!(pool.next(5), if keeps { "33333" } else { "22222" }, "{kind:?}");
        pool.delete(3);
        assert_eq!(pool.next(5), "22222", "{kind:?}");
        pool.delete(2);
        assert_eq!(pool.pick(), None);
    }
}

/// The largest weights there are cost no more than small ones, in time or in sums.
#[test]
fn weights_may_be_as_large_as_the_kernel_has_them() {
    const MOST: u32 = i32::MAX as u32;
    for &kind in Kind::ALL.iter().filter(|&&kind| kind != Kind::None) {
        let mut pool = Pool::with(kind, FALLBACK, &[(1, MOST), (2, MOST - 1), (3, 1)]);
        for _ in 0..100 {
            assert_ne!(pool.open(1), "-", "{kind:?}");
        }
        pool.edit(1, 0);
        pool.edit(2, 0);
        assert_eq!(pool.next(3), if kind == Kind::Dh { "---" } else { "333" }, "{kind:?}");
    }
}

const ACTIVE: Status =
    Status { state: State::Established, inactive: false, no_output: false, removed: false };
const INACTIVE: Status = Status { state: State::TimeWait, inactive: true, ..ACTIVE };

/// The recorded history of lc, wlc, sed and nq: connections stay open, one is closed, two are reset.
#[test]
fn the_least_connection_family_through_the_recorded_history_of_connections() {
    let mut pool = Pool::with(Kind::Lc, PLAIN, &[(1, 1), (2, 2), (3, 4)]);
    assert_eq!(pool.open(4), "3213");
    pool.close(2);
    assert_eq!(pool.open(2), "21");
    pool.switch(Kind::Wlc, PLAIN);
    assert_eq!(pool.open(4), "3233");
    pool.close(3);
    pool.close(1);
    assert_eq!(pool.open(1), "3");
    pool.switch(Kind::Sed, PLAIN);
    assert_eq!(pool.open(4), "3233");
    pool.switch(Kind::Nq, PLAIN);
    pool.add(4, 1);
    assert_eq!(pool.open(3), "442");
}

/// UDP has no active connections.
#[test]
fn the_least_connection_family_with_udp() {
    let mut pool = Pool::with(Kind::Sed, PLAIN, &[(1, 1), (2, 3)]);
    let datagrams = |pool: &Pool, n| -> String {
        let one = |_| {
            let server = pool.pick().unwrap();
            pool.counts.opened(ServerId(server), INACTIVE);
            server.to_string()
        };
        (0..n).map(one).collect()
    };
    assert_eq!(datagrams(&pool, 5), "22222");
    pool.switch(Kind::Nq, PLAIN);
    assert_eq!(datagrams(&pool, 4), "2222");
    pool.switch(Kind::Wlc, PLAIN);
    assert_eq!(datagrams(&pool, 6), "111212");
}

/// Another `-E` with the same scheduler goes on where it was; with another it starts afresh.
#[test]
fn an_edited_service_keeps_the_state_of_its_scheduler() {
    for kind in [Kind::Rr, Kind::Wrr] {
        let mut pool = Pool::with(kind, PLAIN, &[(1, 1), (2, 1), (3, 1)]);
        assert_eq!(pool.next(4), "3213");
        pool.switch(kind, BOTH);
        assert_eq!(pool.next(1), "2", "{kind:?}");
        pool.switch(Kind::Lc, BOTH);
        pool.switch(kind, BOTH);
        assert_eq!(pool.next(1), "3", "{kind:?}");
    }
    assert_eq!(Kind::Sh.flag_names(), ["sh-fallback", "sh-port", "flag-3"]);
    assert_eq!(Kind::Mh.flag_names(), ["mh-fallback", "mh-port", "flag-3"]);
    assert_eq!(Kind::Rr.flag_names(), ["flag-1", "flag-2", "flag-3"]);
}

mod oracles;
mod ramps;
mod rules;
